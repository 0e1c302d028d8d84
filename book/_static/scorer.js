// What the search ranks: notebooks and prose before lists of words, papers and functions; a page
// before its sections, and where a word occurs in a heading before where it occurs at all.
const LISTS = /^book\/(api|bibliography|field-map|cheat-sheets|add-a-notebook)$/;
var Scorer = {
  score: ([page, title, anchor, description, score]) =>
    score + (page.startsWith("notebooks/") ? 8 : 0) - (LISTS.test(page) ? 6 : 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
