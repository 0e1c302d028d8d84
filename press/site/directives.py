"""Directives of the landing page, of the themes, of the map, and under the notebooks' titles.

All read the catalogue, the records and the notebooks when the site is built.
"""

import hashlib
import json
from base64 import b64decode
from collections import Counter
from pathlib import Path
from urllib.parse import urlparse

from docutils import nodes
from sphinx.errors import ConfigError

from press import catalogue, notebooks, standalone
from press.contract import minutes_to_read
from press.site import records, take
from press.site.records import PROFILES
from press.site.templates import TemplateDirective

CHEAT_SHEETS = "book/cheat-sheets"
FIGURES = ("nt-xent", "rs2", "lls", "fixmatch", "emoji")  # to play with
DATA = {"fixmatch": "book/generated/fixmatch_confidences.json"}  # whose moments a figure shows
OPEN_THEMES = 12  # up to so many notebooks, the navigation shows all of them unasked


class NotebookDirective(TemplateDirective):
    """A directive that tells of notebooks."""

    def facts(self, paper):
        """What cards and badges say of a notebook: its runs, where its claims and Colab are."""
        return {
            "paper": paper,
            "page": self.link(paper.docname),
            "claims": self.link(paper.theme.docname, f"#claims-of-{paper.slug}"),
            "colab": self.colab(paper),
            "runs": records.runs(self.root, paper),
            "profiles": PROFILES if paper.kind == "chapter" else PROFILES[:1],
            "minutes": 5 * round(minutes_to_read(notebook(self.root, paper)) / 5),
            "learned": self.learned(paper),
        }

    def learned(self, paper):
        """What a chapter taught: the catalogue's sentence with the numbers of the record."""
        run = records.shown(self.root, paper.docname)
        if not (paper.learned and run):
            return None
        values = {name: number["value"] for name, number in run.record.numbers.items()}
        try:
            return paper.learned.format_map(values)
        except KeyError as missing:
            place = f"{catalogue.FILE}, row {paper.slug!r}"
            raise self.error(f"{place}: learned names {missing}, no number of its record") from None

    def colab(self, paper):
        url, tag = notebooks.repository(self.root)
        host = self.config.html_theme_options["launch_buttons"]["colab_url"]
        return f"{host}/github{urlparse(url).path}/blob/{tag}/{paper.docname}.ipynb"


class ChapterBadges(NotebookDirective):
    """The line under a notebook's title: paper, Colab, times, what became of the claims."""

    required_arguments = 1

    def content_nodes(self):
        paper = self.named(self.catalogue.paper)
        has_sheet = paper.kind == "chapter"
        sheet = self.link(CHEAT_SHEETS, f"#{nodes.make_id(paper.short)}") if has_sheet else None
        facts = self.facts(paper)
        return [
            *self.render("badges.html", sheet=sheet, **facts),
            *take.box(self, paper, facts["claims"], facts["runs"].get("small")),
        ]


class Techniques(TemplateDirective):
    """What the technique cells of all notebooks define, by theme, and the files of it."""

    def content_nodes(self):
        found = []
        for theme in self.catalogue.themes:
            own = [(paper, standalone.of(paper.slug, self.root)) for paper in theme.notebooks]
            if own := [pair for pair in own if pair[1]]:
                section = nodes.section("", nodes.title("", theme.title), ids=[theme.slug])
                section += self.render("techniques.html", techniques=own)
                found.append(section)
        return found


class ChapterCards(NotebookDirective):
    """A card for each chapter, and the labs of each theme. Argument: the chapter to begin with."""

    optional_arguments = 1

    def content_nodes(self):
        first = self.facts(self.named(self.catalogue.paper)) if self.arguments else None
        cards = [
            self.facts(paper) | {"figure": key_figure(self.root, paper)}
            for paper in self.catalogue.papers
            if paper.kind == "chapter"
        ]
        of_labs = {"themes": self.catalogue.themes, "learned": self.learned}
        return self.render("cards.html", cards=cards, first=first, **of_labs)


class VerdictStrip(TemplateDirective):
    """The papers' statements in all fresh runs, counted by verdict; our own apart."""

    def content_nodes(self):
        runs = records.all_runs(self.root)
        fresh = [run for run in runs if not run.stale]
        counts = sum((Counter(run.statements()) for run in fresh), Counter())
        claims = Counter(claim.source for run in fresh for claim in run.record.claims)
        return self.render(
            "strip.html",
            counts=records.count(counts.elements()),
            claims=claims["paper"],
            ours=claims["ours"],
            papers=len({run.paper.slug for run in fresh}),
            stale=sum(len(run.record.claims) for run in runs if run.stale),
        )


class Theme(NotebookDirective):
    """A theme's question, its introduction (the content), its notebooks, and how labs compare."""

    required_arguments = 1
    has_content = True

    def content_nodes(self):
        theme = self.named(self.catalogue.theme)
        states = [self.facts(paper) for paper in theme.notebooks]
        compared = any(paper.kind == "lab" for paper in theme.notebooks)
        protocol = (self.root / "book/_templates/protocol.txt").read_text("utf-8")
        to_come = [paper for paper in theme.papers if paper.state == "to-come"]
        return [
            *self.render("question.html", theme=theme),
            *self.parse_content_to_nodes(),
            *self.render("theme.html", theme=theme, states=states, to_come=to_come),
            *self.parse_text_to_nodes(protocol if compared else ""),
        ]


class FieldMap(TemplateDirective):
    """All papers of the catalogue: counts, controls, one section per theme.

    The list stands in the page itself, so it can be read and printed without scripts; field-map.js
    adds a search field and filters where scripts run.
    """

    def content_nodes(self):
        papers, themes = self.catalogue.papers, self.catalogue.themes
        chapters = [paper for paper in papers if paper.kind == "chapter"]
        states = Counter(paper.state for paper in papers)
        near = Counter(paper.near for paper in papers)
        # The papers are cited without text, so that the page's bibliography lists them.
        cited, _ = self.parse_inline(
            f"{{cite:empty}}`{','.join(paper.key for paper in papers)}`", lineno=self.lineno
        )
        values = {"states": states, "near": near, "chapters": chapters}
        top = self.render("field-map.html", total=len(papers), themes=themes, **values)
        return [nodes.paragraph("", "", *cited), *top, *map(self.section, themes)]

    def section(self, theme):
        section = nodes.section("", nodes.title("", theme.title), ids=[f"theme-{theme.slug}"])
        section["classes"].append("theme")
        papers = [(paper, self.catalogue.paper(paper.near)) for paper in theme.papers]
        section += self.render(
            "field-map-theme.html", theme=theme, papers=papers, make_id=nodes.make_id
        )
        return section


class Play(TemplateDirective):
    """The figure that the argument names, to play with; its caption is the content.

    book/_static/play.js draws it in the page and computes its numbers there.
    """

    required_arguments = 1
    has_content = True

    def content_nodes(self):
        name = self.arguments[0]
        if name not in FIGURES:
            raise self.error(f"no figure {name!r} to play with; there are {', '.join(FIGURES)}")
        data = None
        if name in DATA:
            data = json.loads((self.root / DATA[name]).read_text("utf-8"))["moments"]
        return self.render("play.html", name=name, data=data, caption=" ".join(self.content))


def notebook(root, paper):
    """The cells of a paper's notebook; none before it is written."""
    path = root / f"{paper.docname}.ipynb"
    return notebooks.read(path)["cells"] if path.exists() else []


def key_figure(root, paper):
    """{file, alt, anchor} of the figure that the catalogue names; None before it is drawn.

    The file is that of the notebook's page: MyST-NB names it by the digest of what it holds.
    """
    for cell in notebook(root, paper) if paper.figure else ():
        look = cell["metadata"].get("mystnb", {})
        if look.get("figure", {}).get("name") != paper.figure:
            continue
        found = {"alt": look["image"]["alt"], "anchor": paper.figure}
        for data in (output.get("data", {}) for output in cell["outputs"]):
            if svg := data.get("image/svg+xml"):
                content = "\n".join(svg.splitlines()).encode()
                return found | {"file": f"{hashlib.sha256(content).hexdigest()}.svg"}
            if png := data.get("image/png"):
                return found | {"file": f"{hashlib.sha256(b64decode(png)).hexdigest()}.png"}
    return None


def open_catalogue(app, config):
    """Stop with one sentence if the catalogue is wrong; fold the themes of a long one."""
    try:
        found = records.load(Path(app.srcdir)).notebooks
    except catalogue.CatalogueError as error:
        raise ConfigError(str(error)) from None
    config.html_theme_options["show_navbar_depth"] = 2 if len(found) <= OPEN_THEMES else 1
