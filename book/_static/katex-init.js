// Typesets the formulas of a page with KaTeX, which is loaded only where there are some. Sphinx
// writes their TeX between \( and \), that of displayed ones between \[ and \], after a number.
(() => {
  const formulas = document.querySelectorAll(".math.nohighlight");
  if (!formulas.length) return;
  const folder = new URL("katex-0.19.1/", document.currentScript.src);
  const load = (tag, attributes) => new Promise(resolve => document.head.append(
    Object.assign(document.createElement(tag), attributes, { onload: resolve })));
  Promise.all([
    load("link", { rel: "stylesheet", href: new URL("katex.min.css", folder) }),
    load("script", { src: new URL("katex.min.js", folder) }),
  ]).then(() => {
    for (const element of formulas) {
      const number = element.querySelector(".eqno");
      number?.remove();
      const tex = element.textContent.trim().replace(/^\\[[(]|\\[\])]$/g, "");
      katex.render(tex.replaceAll("{align}", "{align*}"), element, {
        displayMode: element.tagName === "DIV",
        throwOnError: false, // a formula that fails shows in red, and a test finds it
      });
      if (number) element.append(number);
      // A formula that is a little too wide gets smaller; what is wider still scrolls.
      const shown = element.querySelector(":scope > .katex-display");
      const share = shown ? shown.clientWidth / shown.scrollWidth : 1;
      if (share < 1) shown.style.fontSize = `${Math.max(share - 0.01, 0.74)}em`;
    }
  });
})();
