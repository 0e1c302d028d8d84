// Typesets the formulas of a page: every element of class "tex" holds TeX.
for (const element of document.querySelectorAll(".tex"))
  katex.render(element.textContent, element, {
    displayMode: element.tagName === "DIV",
    throwOnError: false, // a formula that fails shows in red, and a test finds it
  });
