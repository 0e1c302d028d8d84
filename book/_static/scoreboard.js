// Sorts tables of runs and claims, and filters claims. Without this script the tables show
// everything, in the order of the book.
(() => {
  const number = text => parseFloat((text.match(/[−-]?\d[\d.,]*(?:e[−+-]\d+)?/) || ["NaN"])[0]
    .replaceAll("−", "-").replaceAll(",", ""));
  // What a column is sorted by: the first number in it, or its words.
  const numeric = new Set(["Paper", "Ours", "p"]);
  const VERDICTS = ["reproduced", "not reproduced", "inconclusive", "not judged"];

  for (const table of document.querySelectorAll("table.records")) {
    const body = table.tBodies[0];
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const name = head.textContent.trim();
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      head.replaceChildren(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const keys = new Map([...body.rows].map(row => {
          const text = row.cells[column].textContent.trim();
          const rank = VERDICTS.findIndex(verdict => text.slice(2).startsWith(verdict));
          return [row, numeric.has(name) ? number(text) : name === "Verdict" ? rank : text];
        }));
        const missing = key => key === "" || Number.isNaN(key);
        const rows = [...body.rows].sort((first, second) => {
          const [a, b] = [keys.get(first), keys.get(second)];
          if (missing(a) || missing(b)) return missing(a) - missing(b);
          const order = typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
          return down ? -order : order;
        });
        body.append(...rows);
      });
    });
  }

  // Claims stood on the scoreboard itself once: lead on to the page of the notebook's theme.
  const place = location.hash.match(/^#claim-(.+)/)?.[1] ?? "";
  const board = document.querySelector("table.runs-table");
  if (place && board) {
    const [row] = [...board.querySelectorAll("tr[id]")]
      .filter(row => place.startsWith(`${row.id.replace("chapter-", "")}-`))
      .sort((a, b) => b.id.length - a.id.length);
    const page = row?.querySelector("a[href*='#claims-of-']");
    if (page) location.replace(page.href.replace(/#.*/, location.hash));
  }

  const form = document.getElementById("claims-controls");
  if (!form) return;
  const rows = [...document.querySelector("table.claims-table").tBodies[0].rows];
  const wanted = (control, text) => !control?.value || text.trim() === control.value;
  const names = ["words", "notebook", "source", "verdict"].filter(name => form[name]);
  function show() {
    const words = form.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden =
        !words.every(word => text.includes(word)) ||
        !wanted(form.verdict, row.querySelector(".verdict").textContent.trim().slice(2)) ||
        !wanted(form.source, row.querySelector(".source").textContent) ||
        !wanted(form.notebook, row.querySelector(".of-notebook").textContent);
      count += !row.hidden;
    }
    form.querySelector("[role=status]").textContent = `${count} of ${rows.length} claims`;
    remember(form, names);
  }
  form.addEventListener("input", show);
  form.addEventListener("reset", () => setTimeout(show));
  form.addEventListener("submit", event => event.preventDefault());
  form.hidden = false;
  recall(form, names);
  show();
  // A claim that a link asks for must not be hidden.
  function reveal() {
    const claim = document.getElementById(decodeURIComponent(location.hash.slice(1)))?.closest("tr");
    if (!claim?.hidden) return;
    for (const name of names) form[name].value = "";
    show();
    claim.scrollIntoView();
  }
  reveal();
  addEventListener("hashchange", reveal);
})();
