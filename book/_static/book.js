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
