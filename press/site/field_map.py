"""Directive field-map: the papers around the chapters, by theme, from the catalogue.

The list stands in the page itself, so that it can be read and printed without scripts. A picture of
themes and chapters opens it; field-map.js adds a search field and filters where scripts run.
"""

from collections import Counter
from textwrap import wrap

from docutils import nodes

from press.site.directives import BookDirective

PAGE = "book/field-map"
LABELS = {
    "chapter": ("chapter", "chapters"),
    "lab": ("lab", "labs"),
    "to-come": ("lab to come", "labs to come"),
    "reading": ("reading", "readings"),
}
SCRIPTS = ("ufuzzy-1.0.19/uFuzzy.iife.min.js", "field-map.js")

# Measures of the picture, in units of its view box; the template has those of its width.
ROW, PER_PAPER = 42, 1.7
LETTERS = 19  # what fits into the width of a label, in the widest of the usual fonts


class FieldMap(BookDirective):
    """All papers of the catalogue: counts, picture, controls, one section per theme."""

    def content_nodes(self):
        papers, themes = self.catalogue.papers, self.catalogue.themes
        chapters = [paper for paper in papers if paper.kind == "chapter"]
        kinds = Counter(map(kind, papers))
        near = Counter(paper.near for paper in papers)
        # The papers are cited without text, so that the page's bibliography lists them.
        cited, _ = self.parse_inline(
            f"{{cite:empty}}`{','.join(paper.key for paper in papers)}`", lineno=self.lineno
        )
        values = {"labels": LABELS, "kinds": kinds, "near": near, "chapters": chapters}
        top = self.render("field-map.html", total=len(papers), themes=themes, **values,
                          **picture(themes, chapters))  # fmt: skip
        return [nodes.paragraph("", "", *cited), *top, *map(self.section, themes)]

    def section(self, theme):
        section = nodes.section("", nodes.title("", theme.title), ids=[f"theme-{theme.slug}"])
        section["classes"].append("theme")
        papers = [(paper, kind(paper), self.catalogue.paper(paper.near)) for paper in theme.papers]
        section += self.render("field-map-theme.html", theme=theme, papers=papers, labels=LABELS,
                               cite_id=cite_id)  # fmt: skip
        return section


def kind(paper):
    """A key of LABELS."""
    return "to-come" if paper.kind != "reading" and not paper.heading else paper.kind


def cite_id(key):
    """Anchor of a bibliography entry, as bibtex_cite_id in _config.yml makes it."""
    return nodes.make_id(f"cite-{key}")


def picture(themes, chapters):
    """Themes on the left, chapters on the right, bands as wide as the papers between them."""
    flows = {t: Counter(paper.near for paper in theme.papers) for t, theme in enumerate(themes)}
    totals = sum(flows.values(), Counter())
    height = ROW * len(themes)
    gap = (height - PER_PAPER * totals.total()) / len(chapters)
    ends, bands, free, y = [], [], {}, gap / 2
    for flow, chapter in enumerate(chapters, 1):
        tall = PER_PAPER * totals[chapter.slug]
        words = [*wrap(chapter.short, 10), f"{totals[chapter.slug]} papers"]
        ends.append({"flow": flow, "middle": y + tall / 2, "height": tall, "words": words})
        free[chapter.slug] = y
        y += tall + gap
    for t, theme in enumerate(themes):
        middle, tall = ROW * (t + 0.5), PER_PAPER * len(theme.papers)
        words = wrap(f"{theme.title}\N{NO-BREAK SPACE}({len(theme.papers)})", LETTERS)
        ends.append({"flow": 0, "middle": middle, "height": tall, "words": words})
        y = middle - tall / 2
        for flow, chapter in enumerate(chapters, 1):
            if thick := PER_PAPER * flows[t][chapter.slug]:
                left, right = y + thick / 2, free[chapter.slug] + thick / 2
                bands.append({"flow": flow, "thick": thick, "left": left, "right": right})
                y += thick
                free[chapter.slug] += thick
    words = in_words(themes, chapters, flows, totals)
    return {"height": height, "ends": ends, "bands": bands, "words": words}


def in_words(themes, chapters, flows, totals):
    """What the picture shows, for those who cannot see it."""
    found = []
    for chapter in chapters:
        most = max(flows, key=lambda t: flows[t][chapter.slug])
        found.append(
            f"{chapter.short} has {totals[chapter.slug]} papers, most of them "
            f"({flows[most][chapter.slug]}) from {themes[most].title}"
        )
    return f"{len(themes)} themes joined to {len(chapters)} chapters by bands. {'; '.join(found)}."


def add_scripts(app, pagename, templatename, context, doctree):
    if pagename == PAGE:
        for script in SCRIPTS:
            app.add_js_file(script, loading_method="defer")


def setup(app):
    app.add_directive("field-map", FieldMap)
    app.connect("html-page-context", add_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
