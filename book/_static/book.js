// What scrolls sideways inside a page can be reached and scrolled with the keyboard.
(() => {
  const regions = ".bd-article :is(pre, table, .katex-display, .cell_output, .pst-scrollable-table-container)";
  function reach() {
    for (const region of document.querySelectorAll(regions))
      if (region.scrollWidth > region.clientWidth + 1) region.tabIndex = 0;
  }
  addEventListener("load", reach);
  addEventListener("resize", reach);
})();

// From disk, a browser may not open other pages to quote them below the results of a search.
if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined")
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

// Formulas: Sphinx writes their TeX between \( and \), displayed ones between \[ and \], and a number
// of its own. Pages without formulas do not load KaTeX.
(() => {
  const script = document.querySelector("script[src*='katex.min.js']");
  if (!script) return;
  const style = document.createElement("link");
  style.rel = "stylesheet";
  style.href = script.src.replace("katex.min.js", "katex.min.css");
  style.addEventListener("load", () => {
    for (const element of document.querySelectorAll(".math.nohighlight")) {
      const number = element.querySelector(".eqno");
      number?.remove();
      const tex = element.textContent.trim().replace(/^\\[[(]|\\[\])]$/g, "");
      katex.render(tex.replaceAll("{align}", "{align*}"), element, {
        displayMode: element.tagName === "DIV",
        throwOnError: false, // a formula that fails shows in red, and a test finds it
      });
      if (number) element.append(number);
    }
  });
  document.head.append(style);
})();
