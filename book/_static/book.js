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

// What folds a theme of the navigation has a sign only; those who cannot see it need its name.
for (const fold of document.querySelectorAll(".bd-sidebar-primary details > summary"))
  fold.ariaLabel = `Pages of ${fold.parentElement.previousElementSibling.textContent}`;

// From disk, a browser may not open other pages to quote them below the results of a search.
if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined")
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

// A figure opens as large as the window; on a phone it is drawn larger and scrolls.
const large = Object.assign(document.createElement("dialog"), { className: "enlarged", ariaLabel: "Figure" });
large.innerHTML = '<form method="dialog"><button>Close</button></form>';
large.addEventListener("click", () => large.close());
for (const image of document.querySelectorAll("article figure img")) {
  const button = Object.assign(document.createElement("button"), {
    type: "button", className: "enlarge", title: "Open large" });
  (image.closest("a") ?? image).replaceWith(button);
  button.append(image);
  button.addEventListener("click", () => {
    const copy = image.cloneNode();
    for (const name of ["width", "height", "style", "loading"]) copy.removeAttribute(name);
    large.querySelector("img")?.remove();
    large.append(copy);
    large.isConnected || document.querySelector("article").append(large);
    large.showModal();
  });
}

// A margin note stands before the paragraph that it comments on. Without a margin it follows it.
function settle() {
  for (const note of document.querySelectorAll("aside.margin:not(.settled)")) {
    if (note.nextElementSibling?.matches("p")) note.nextElementSibling.after(note);
    note.classList.add("settled");
  }
}
if (!matchMedia("(min-width: 1200px)").matches) settle();
addEventListener("beforeprint", settle);

// Filters stand in the address, so a filtered table can be linked.
function remember(form, names) {
  const query = String(new URLSearchParams(names.map(name => [name, form[name].value]).filter(pair => pair[1])));
  const address = location.pathname + (query && `?${query}`) + location.hash;
  try { history.replaceState(null, "", address); } catch { /* some browsers refuse from disk */ }
}
function recall(form, names) {
  const query = new URLSearchParams(location.search);
  for (const name of names) if (query.has(name)) form[name].value = query.get(name);
}
