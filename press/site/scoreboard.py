"""The scoreboard: a page of all runs, a table of claims for each theme, and the links to it.

The tables can be read without scripts; scoreboard.js lets readers sort and filter them.
"""

import json
import re
from html import escape
from pathlib import Path

from docutils import nodes

from labutils.claims import Record
from labutils.formats import signed
from labutils.statistics import VERDICTS
from press.site import records
from press.site.records import PROFILES
from press.site.templates import TemplateDirective

ASKED = {"greater": "more than {m}", "less": "less than −{m}", "equivalent": "within ±{m}"}
WIDTH = 240  # of the picture of an interval


class Scoreboard(TemplateDirective):
    """Without argument a line for each run of the book, with a theme all claims of its notebooks."""

    optional_arguments = 1

    def content_nodes(self):
        themes = records.themes(self.root)
        if not self.arguments:
            rows = [
                (theme, paper, profile, records.runs(self.root, theme, paper).get(profile))
                for theme in themes
                for paper in theme.notebooks
                for profile in (PROFILES if paper.kind == "chapter" else PROFILES[:1])
            ]
            return self.render("runs.html", rows=rows)
        theme = next((theme for theme in themes if theme.slug == self.arguments[0]), None)
        if theme is None:
            known = ", ".join(theme.slug for theme in themes)
            raise self.error(
                f"no theme with notebooks is called {self.arguments[0]!r}; there are {known}"
            )
        runs = [
            run
            for paper in theme.notebooks
            for run in records.runs(self.root, theme, paper).values()
        ]
        return self.render(
            "claims.html", theme=theme, runs=runs, verdicts=VERDICTS[:3], asked=asked,
            measured=measured, picture=picture,
        )  # fmt: skip


class Superseded(TemplateDirective):
    """The runs whose records were replaced, and what is different now."""

    def content_nodes(self):
        rows = []
        for theme in records.themes(self.root):
            for paper in theme.notebooks:
                now = records.runs(self.root, theme, paper)
                for old in records.superseded(self.root, theme, paper):
                    before = claims_of(old)
                    counts = records.count(verdict for verdict, _ in before.values())
                    changes = differences(before, now.get(old["profile"]))
                    rows.append((paper, old, counts, *changes))
        return self.render("superseded.html", rows=rows)


def asked(claim):
    """What the claim demands of the difference."""
    return ASKED[claim.direction].format(m=f"{claim.margin:g}").replace("−0", "0")


def measured(claim):
    """The mean of each arm in words."""
    means = {arm: sum(values) / len(values) for arm, values in claim.values.items()}
    scale = max(map(abs, means.values()))
    return ", ".join(f"{a} {signed(means[a], scale).removeprefix('+')}" for a in claim.arms)


def picture(claim):
    """Where the marks of the interval's picture stand, and the picture in words."""
    found = claim.difference
    low, mean, high = found.low, found.mean, found.high
    bounds = {"greater": (1,), "less": (-1,), "equivalent": (-1, 1)}[claim.direction]
    bounds = [sign * claim.margin for sign in bounds]
    ends = [low, high, 0.0, *bounds]
    span = (max(ends) - min(ends)) or 1.0
    left = min(ends) - 0.08 * span

    def x(value):
        return f"{(value - left) / (1.16 * span) * WIDTH:.1f}"

    scale = max(map(abs, (low, mean, high)))
    shown = [signed(value, scale) for value in (mean, low, high)]
    return {
        "zero": x(0), "bounds": [x(bound) for bound in bounds], "low": x(low), "mean": x(mean),
        "high": x(high), "words": "difference {}, interval from {} to {}".format(*shown),
    }  # fmt: skip


def claims_of(line):
    """{claim: (verdict, mean difference in points or None)} of a line of superseded results."""
    if line["schema"] == 1:  # verdicts were stored then
        return {
            claim["id"]: (claim["verdict"], in_points(claim["unit"], claim["difference"]["mean"]))
            for claim in line["claims"]
        }
    return claims_now(Record.from_json(json.dumps(line), "a superseded record"))


def claims_now(record):
    """The same of a record."""
    verdicts = record.verdicts()
    return {
        claim.id: (
            verdicts[claim.id].verdict,
            in_points(claim.unit, claim.difference.mean) if claim.difference else None,
        )
        for claim in record.claims
    }


def in_points(unit, mean):
    return mean if unit == "points" else None


def differences(before, run):
    """(what became of each claim, the largest change of a difference in points or None)."""
    now = claims_now(run.record) if run else {}
    changes = [
        f"{name}: {verdict} before, {now[name][0]} now"
        if name in now
        else f"{name}: {verdict}; no longer claimed"
        for name, (verdict, _) in before.items()
        if name not in now or now[name][0] != verdict
    ]
    changes += [f"{name}: new" for name in now if name not in before]
    moved = [
        abs(mean - now[name][1])
        for name, (_, mean) in before.items()
        if mean is not None and name in now and now[name][1] is not None
    ]
    return changes, max(moved, default=None)


# --- links from notebooks ------------------------------------------------------------------------


def mark_claims(app, doctree):
    """Give the section that holds a notebook's `claims` cell the anchor `claims`.

    Notebooks may name and place that section as they like; the scoreboard still finds it.
    """
    for found in doctree.findall(nodes.container):
        if "tag_claims" in found["classes"]:
            place = found.parent
            while place is not None and not isinstance(place, nodes.section):
                place = place.parent
            place = place if place is not None else found
            if "claims" not in place["ids"]:
                place["ids"].append("claims")
            return


def link_claims(app, doctree, docname):
    """Link the statements in a notebook's table of claims to the table of its theme."""
    run = records.shown(Path(app.srcdir), docname)
    if run is None or run.theme.docname not in app.env.found_docs:
        return
    page = app.builder.get_relative_uri(docname, run.theme.docname)
    anchors = {escape(c.statement, quote=False): run.anchor(c) for c in run.record.claims}

    def linked(match):
        words = match[1]
        if words not in anchors:
            return match[0]
        return f'<td><a href="{page}#{anchors[words]}">{words}</a></td>'

    for found in doctree.findall(nodes.container):
        if "tag_claims" in found["classes"]:
            for raw in list(found.findall(nodes.raw)):
                text = re.sub(r"<td>([^<]*)</td>", linked, raw.astext())
                raw.replace_self(nodes.raw(text, text, **raw.attributes))


def add_script(app, pagename, templatename, context, doctree):
    if 'class="table records' in context.get("body", ""):
        app.add_js_file("scoreboard.js", loading_method="defer")


def setup(app):
    app.add_directive("scoreboard", Scoreboard)
    app.add_directive("superseded", Superseded)
    app.connect("doctree-read", mark_claims)
    app.connect("doctree-resolved", link_claims)
    app.connect("html-page-context", add_script)
    app.connect("build-finished", records.write_downloads)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
