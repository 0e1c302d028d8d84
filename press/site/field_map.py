"""Directive field-map: the papers around the chapters, by theme, from the catalogue.

The list stands in the page itself, so it can be read and printed without scripts; field-map.js adds
a search field and filters where scripts run.
"""

from collections import Counter

from docutils import nodes

from press.site.templates import TemplateDirective

LABELS = {
    "chapter": ("chapter", "chapters"),
    "lab": ("lab", "labs"),
    "to-come": ("lab to come", "labs to come"),
    "reading": ("reading", "readings"),
}


class FieldMap(TemplateDirective):
    """All papers of the catalogue: counts, controls, one section per theme."""

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
        top = self.render("field-map.html", total=len(papers), themes=themes, **values)
        return [nodes.paragraph("", "", *cited), *top, *map(self.section, themes)]

    def section(self, theme):
        section = nodes.section("", nodes.title("", theme.title), ids=[f"theme-{theme.slug}"])
        section["classes"].append("theme")
        papers = [(paper, kind(paper), self.catalogue.paper(paper.near)) for paper in theme.papers]
        section += self.render("field-map-theme.html", theme=theme, papers=papers, labels=LABELS,
                               make_id=nodes.make_id)  # fmt: skip
        return section


def kind(paper):
    """A key of LABELS."""
    return "to-come" if paper.kind != "reading" and not paper.heading else paper.kind
