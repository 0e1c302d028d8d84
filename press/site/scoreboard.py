"""The scoreboard: a page of all runs, a table of claims for each theme, and the links to it.

The tables can be read without scripts; scoreboard.js lets readers sort and filter them.
"""

from html import escape
from pathlib import Path

from docutils import nodes

from labutils.formats import signed
from labutils.statistics import VERDICTS
from press.site import records
from press.site.records import PROFILES
from press.site.templates import TemplateDirective

ASKED = {"greater": "more than {}", "less": "less than {}", "equivalent": "within ±{}"}


class Scoreboard(TemplateDirective):
    """A line for each run of the book; with the name of a theme, all claims of its notebooks."""

    optional_arguments = 1

    def content_nodes(self):
        if not self.arguments:
            rows = [
                (paper, profile, records.runs(self.root, paper).get(profile))
                for paper in self.catalogue.notebooks
                for profile in (PROFILES if paper.kind == "chapter" else PROFILES[:1])
            ]
            return self.render("runs.html", rows=rows)
        theme = self.named(self.catalogue.theme)
        runs = [run for run in records.all_runs(self.root) if run.paper.theme == theme]
        return self.render(
            "claims.html", theme=theme, runs=runs, verdicts=VERDICTS[:3], asked=asked,
            measured=measured, marks=marks,
        )  # fmt: skip


class Superseded(TemplateDirective):
    """The runs whose records were replaced, with the verdicts that they gave."""

    def content_nodes(self):
        rows = [
            (paper, old, records.count(claim["verdict"] for claim in old.claims))
            for paper in self.catalogue.notebooks
            for old in records.superseded(self.root, paper)
        ]
        return self.render("superseded.html", rows=rows)


def asked(claim):
    """What the claim demands of the difference."""
    bound = (-claim.margin if claim.direction == "less" else claim.margin) + 0.0  # no minus zero
    return ASKED[claim.direction].format(f"{bound:g}").replace("-", "−")


def measured(claim):
    """The mean of each arm in words."""
    means = {arm: sum(values) / len(values) for arm, values in claim.values.items()}
    scale = max(map(abs, means.values()))
    return ", ".join(f"{a} {signed(means[a], scale).removeprefix('+')}" for a in claim.arms)


def marks(claim):
    """[(mark, its beginning, its end), ...] of the picture of an interval, in % of the width."""
    found = claim.difference
    signs = {"greater": (1,), "less": (-1,), "equivalent": (-1, 1)}[claim.direction]
    bounds = [("bound", sign * claim.margin, sign * claim.margin) for sign in signs]
    interval = [("range", found.low, found.high), ("mean", found.mean, found.mean)]
    places = [("zero", 0.0, 0.0), *bounds, *interval]
    ends = [end for _, *both in places for end in both]
    left, span = min(ends), (max(ends) - min(ends)) or 1.0
    return [
        (name, *(f"{8 + 84 * (end - left) / span:.1f}" for end in both)) for name, *both in places
    ]


def link_claims(app, doctree, docname):
    """Link a notebook's table of claims to that of its theme, and give it an anchor."""
    cells = [c for c in doctree.findall(nodes.container) if "tag_claims" in c["classes"]]
    if cells:
        cells[0]["ids"].append("table-of-claims")
    run = records.shown(Path(app.srcdir), docname)
    if run is None or run.paper.theme.docname not in app.env.found_docs:
        return
    page = app.builder.get_relative_uri(docname, run.paper.theme.docname)
    anchors = {escape(c.statement, quote=False): run.anchor(c) for c in run.record.claims}
    for raw in [raw for cell in cells for raw in cell.findall(nodes.raw)]:
        text = raw.astext()
        for words, anchor in anchors.items():
            link = f'<a href="{page}#{anchor}">{words}</a>'
            text = text.replace(f"<td>{words}</td>", f"<td>{link}</td>")
        raw.replace_self(nodes.raw(text, text, **raw.attributes))
