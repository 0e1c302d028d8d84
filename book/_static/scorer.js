// What the search ranks first. Sphinx counts only whether a word occurs, so a page that a word is about
// must be told from those that mention it. Lists of words, papers and functions come last.
const TOPICS = {
  clip: "clip contrastive captions caption image-text zero-shot prompt templates retrieval robustness emoji",
  simclrv2: "simclr simclrv2 contrastive loss nt-xent pretraining self-supervised views projection head distillation distil student teacher probe lars",
  "fixmatch-saa": "fixmatch saa flexmatch semi-supervised pseudo-label pseudo-labels threshold consistency randaugment otsu alignment few labels",
  lls: "lls label shift domain domains ddfa nmf anchor simplex spa corners",
  rs2: "rs2 random subsets subset pruning coreset k-center herding el2n grand forgetting ccs sampler schedule time-to-accuracy",
};
const LISTS = /^book\/(api|techniques|bibliography|field-map|cheat-sheets|add-a-notebook)$/;
const asked = (new URLSearchParams(location.search).get("q") ?? "").toLowerCase().split(/\s+/).filter(Boolean);

var Scorer = {
  score: ([page, title, anchor, description, score]) => {
    const topics = (TOPICS[page.split("/").pop()] ?? "").split(" ");
    const about = asked.length && asked.every(word => topics.includes(word));
    return score + (page.startsWith("notebooks/") ? 8 : 0) + (about ? 30 : 0) - (LISTS.test(page) ? 6 : 0);
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
