// Search and filters of the map of the field. The papers stand in the page; without this script
// all of them show. Needs uFuzzy (ufuzzy-1.0.19/), which finds words in any order and forgives
// one typing error per word.
(() => {
  const form = document.getElementById("map-controls");
  const themes = [...document.querySelectorAll("section.theme")];
  const papers = themes.flatMap(theme =>
    [...theme.querySelectorAll("li.paper")].map(item => {
      const parts = [theme.querySelector("h2"), ...item.querySelectorAll(".title, .idea, .cited")];
      return { item, text: parts.map(part => part.textContent).join(" ").replace(/\s+/g, " ") };
    })
  );
  const texts = uFuzzy.latinize(papers.map(paper => paper.text));
  const fuzzy = new uFuzzy({ intraMode: 1 });

  const names = ["words", "kind", "near"];
  function show() {
    const words = uFuzzy.latinize([form.words.value])[0].trim();
    const found = words ? new Set(fuzzy.search(texts, words, 5)[0]) : null;
    const classes = [
      form.kind.value && `kind-${form.kind.value}`,
      form.near.value && `near-${form.near.value}`,
    ].filter(Boolean);
    let count = 0;
    papers.forEach(({ item }, i) => {
      const wanted = classes.every(name => item.classList.contains(name));
      item.hidden = !wanted || (found !== null && !found.has(i));
      count += !item.hidden;
    });
    for (const theme of themes)
      theme.hidden = !theme.querySelector("li.paper:not([hidden])");
    form.querySelector("[role=status]").textContent = `${count} of ${papers.length} papers`;
    remember(form, names);
  }

  form.addEventListener("input", show);
  form.addEventListener("reset", () => setTimeout(show));
  form.addEventListener("submit", event => event.preventDefault());
  form.hidden = false;
  recall(form, names);
  show(); // a browser may keep what was typed before the page was loaded again
})();
