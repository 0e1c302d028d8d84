"""Directive field-map: the papers around the chapters, by theme, from book/field-map.yml.

The list stands in the page itself, so that it can be read and printed without scripts. A picture of
themes and chapters opens it; field-map.js adds a search field and filters where scripts run.
"""

import re
from collections import Counter
from html import escape
from textwrap import wrap

import yaml
from docutils import nodes

from press.site.directives import BookDirective, inline, spaced

PAGE = "book/field-map"
KINDS = {"chapter": "chapter", "lab": "lab to come", "reading": "reading"}
SCRIPTS = ("ufuzzy-1.0.19/uFuzzy.iife.min.js", "field-map.js")

# Measures of the picture, in units of its view box
WIDTH, ROW, LINE, PER_PAPER = 326, 42, 13, 1.7
LEFT, RIGHT, BAR, SPACE = 152, 238, 4, 6
LETTERS = 19  # what fits into the width of a label, in the widest of the usual fonts


class FieldMap(BookDirective):
    """All papers of book/field-map.yml: counts, picture, controls, one section per theme."""

    def content_nodes(self):
        path = self.root / "book/field-map.yml"
        self.themes = yaml.safe_load(path.read_text("utf-8"))["themes"]
        self.near = {chapter["name"]: chapter for chapter in self.chapters}
        self.entries = self.env.get_domain("cite").bibdata.data.entries
        papers = [paper for theme in self.themes for paper in theme["papers"]]
        for paper in papers:
            self.check(paper)
        # The papers are cited without text, so that the page's bibliography lists them.
        cited, _ = self.parse_inline(
            f"{{cite:empty}}`{','.join(paper['key'] for paper in papers)}`", lineno=self.lineno
        )
        return [
            nodes.paragraph("", self.counts(papers), *cited),
            nodes.raw("", self.picture(papers), format="html"),
            nodes.raw("", self.controls(papers), format="html"),
            *map(self.section, self.themes),
        ]

    def check(self, paper):
        for field, known in (
            ("kind", KINDS),
            ("near", self.near),
            ("key", self.entries),
        ):
            if paper.get(field) not in known:
                expected = (
                    "a key of a .bib file in bibtex_bibfiles"
                    if field == "key"
                    else "one of " + ", ".join(known)
                )
                raise self.error(
                    f"book/field-map.yml, {paper['title']!r}: {field} is {paper.get(field)!r}, "
                    f"expected {expected}"
                )

    def counts(self, papers):
        kinds = Counter(paper["kind"] for paper in papers)
        return (
            f"{len(papers)} papers in {len(self.themes)} themes: {kinds['chapter']} chapters, "
            f"{kinds['lab']} labs to come, {kinds['reading']} readings."
        )

    def section(self, theme):
        title = nodes.title("", theme["theme"])
        section = nodes.section("", title, ids=[f"theme-{nodes.make_id(theme['theme'])}"])
        section["classes"].append("theme")
        papers = nodes.bullet_list(classes=["papers"])
        for paper in theme["papers"]:
            papers += self.item(paper)
        section += papers
        return section

    def item(self, paper):
        entry = nodes.reference(
            "", paper["title"], refuri=f"#{cite_id(paper['key'])}", internal=True
        )
        chapter = self.near[paper["near"]]
        docname = self.docname(chapter)
        number = f"chapter {self.chapters.index(chapter) + 1}"
        if paper["kind"] == "chapter":
            relation, name = f"{number}: ", chapter["title"]
        else:
            relation, name = "near ", f"{number}, {chapter['short']}"
        name = nodes.Text(name)
        facts = [
            inline(KINDS[paper["kind"]], "badge-quiet", f"badge-{paper['kind']}"),
            nodes.inline("", relation, self.page_link(docname, name) if docname else name),
            nodes.Text("·"),
            inline(cited_as(self.entries[paper["key"]]), "cited"),
        ]
        idea = paper["idea"]
        return nodes.list_item(
            "",
            nodes.paragraph(
                "", "", *spaced([entry, inline(paper["short"], "paper-short")]), classes=["title"]
            ),
            nodes.paragraph("", f"{idea[0].upper()}{idea[1:]}.", classes=["idea"]),
            nodes.paragraph("", "", *spaced(facts), classes=["facts"]),
            classes=["paper", f"kind-{paper['kind']}", f"near-{paper['near']}"],
        )

    def controls(self, papers):
        """Search field and filters; hidden until field-map.js has taken them over."""
        kinds = Counter(paper["kind"] for paper in papers)
        near = Counter(paper["near"] for paper in papers)
        kind_options = "".join(
            f'<option value="{kind}">{label} ({kinds[kind]})</option>'
            for kind, label in KINDS.items()
        )
        near_options = "".join(
            f'<option value="{name}">{number} {escape(chapter["short"])} ({near[name]})</option>'
            for number, (name, chapter) in enumerate(self.near.items(), start=1)
        )
        return (
            '<form id="map-controls" class="map-controls" role="search" '
            'aria-label="Filter the papers" hidden>'
            '<div><label for="map-words">Search</label><input type="search" id="map-words" '
            'name="words" autocomplete="off" spellcheck="false"></div>'
            '<div><label for="map-kind">Kind</label><select id="map-kind" name="kind">'
            f'<option value="">all</option>{kind_options}</select></div>'
            '<div><label for="map-near">Chapter</label><select id="map-near" name="near">'
            f'<option value="">all</option>{near_options}</select></div>'
            '<button type="reset">Show all</button>'
            f'<p role="status">{len(papers)} of {len(papers)} papers</p></form>'
        )

    def picture(self, papers):
        """Themes on the left, chapters on the right, bands as wide as the papers between them."""
        flows = Counter((t, p["near"]) for t, theme in enumerate(self.themes)
                        for p in theme["papers"])  # fmt: skip
        height = ROW * len(self.themes)
        totals = Counter(paper["near"] for paper in papers)
        gap = (height - PER_PAPER * len(papers)) / len(self.near)
        ends, y = {}, gap / 2
        shapes, labels = [], []
        for name, chapter in self.near.items():
            tall = PER_PAPER * totals[name]
            ends[name] = y
            shapes.append(bar(RIGHT, y, tall, f"near-{name}"))
            words = [*wrap(chapter["short"], 10), f"{totals[name]} papers"]
            labels.append(text(RIGHT + BAR + SPACE, y + tall / 2, words, "start"))
            y += tall + gap
        for t, theme in enumerate(self.themes):
            middle = ROW * (t + 0.5)
            tall = PER_PAPER * len(theme["papers"])
            words = wrap(f"{theme['theme']}\N{NO-BREAK SPACE}({len(theme['papers'])})", LETTERS)
            labels.append(text(LEFT - BAR - SPACE, middle, words, "end"))
            shapes.append(bar(LEFT - BAR, middle - tall / 2, tall, "theme-bar"))
            y = middle - tall / 2
            for name in self.near:
                if thick := PER_PAPER * flows[t, name]:
                    shapes.insert(0, band(y + thick / 2, ends[name] + thick / 2, thick, name))
                    y += thick
                    ends[name] += thick
        return (
            f'<figure class="map-figure"><svg viewBox="0 0 {WIDTH} {height}" role="img" '
            f'aria-label="{escape(self.in_words(flows, totals))}">'
            f"{''.join(shapes)}{''.join(labels)}</svg>"
            "<figcaption>Themes and the chapters that their papers extend or contrast with. A band "
            "is as wide as the number of papers that it stands for.</figcaption></figure>"
        )

    def in_words(self, flows, totals):
        """What the picture shows, for those who cannot see it."""
        chapters = []
        for name, chapter in self.near.items():
            near = [(count, t) for (t, n), count in flows.items() if n == name]
            count, t = max(near, default=(0, 0), key=lambda pair: pair[0])
            chapters.append(
                f"{chapter['short']} has {totals[name]} papers, "
                f"most of them ({count}) from {self.themes[t]['theme']}"
            )
        return (
            f"{len(self.themes)} themes joined to {len(self.near)} chapters by bands. "
            + "; ".join(chapters)
            + "."
        )


def cite_id(key):
    """Anchor of a bibliography entry, as bibtex_cite_id in _config.yml makes it."""
    return nodes.make_id(f"cite-{key}")


def cited_as(entry):
    """Authors and year of a bibliography entry, in short: Chen & Mueller 2024, Xu et al. 2024."""
    names = [" ".join([*p.prelast_names, *p.last_names]) for p in entry.persons["author"]]
    names = [re.sub(r"[{}]", "", name) for name in names]
    if len(names) > 2 or names[-1] == "others":
        who = f"{names[0]} et al."
    else:
        who = " & ".join(names)
    return f"{who} {entry.fields['year']}"


def bar(x, y, height, name):
    return f'<rect class="{name}" x="{x}" y="{y:.1f}" width="{BAR}" height="{height:.1f}"/>'


def band(left, right, thick, name):
    bend = (LEFT + RIGHT) / 2
    return (
        f'<path class="band near-{name}" stroke-width="{thick:.1f}" '
        f'd="M{LEFT} {left:.1f}C{bend} {left:.1f} {bend} {right:.1f} {RIGHT} {right:.1f}"/>'
    )


def text(x, middle, words, anchor):
    """Lines of text, centred on a height."""
    lines = "".join(
        f'<tspan x="{x}" y="{middle + 4 + LINE * (i - (len(words) - 1) / 2):.1f}">{escape(line)}'
        "</tspan>"
        for i, line in enumerate(words)
    )
    return f'<text text-anchor="{anchor}">{lines}</text>'


def add_scripts(app, pagename, templatename, context, doctree):
    if pagename == PAGE:
        for script in SCRIPTS:
            app.add_js_file(script, loading_method="defer")


def setup(app):
    app.add_directive("field-map", FieldMap)
    app.connect("html-page-context", add_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
