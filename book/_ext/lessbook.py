"""Directives that show what the recorded runs say: chapter-badges, chapter-cards, scoreboard.

All of them read book/chapters.yml and results/PROFILE/CHAPTER.json when the site is built. A result
is stale when the code that wrote it has changed since (`labutils.notebooks.fingerprint`).
"""

import json
import re
import sys
from datetime import datetime
from functools import cache
from pathlib import Path
from urllib.parse import urlparse

import yaml
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

PROFILES = ("small", "full")  # smoke runs prove nothing about claims
MARKS = {
    "reproduced": "✓",
    "not reproduced": "✗",
    "inconclusive": "≈",
    "not judged": "·",
}
SIGNS = {"greater": "more than {m}", "less": "less than −{m}", "equivalent": "within ±{m}"}


LITERAL = re.compile(r"(``.+?``|:[a-z:]+:`[^`]+`|(?:\{[a-z:]+\})?`[^`]+`)")


class BookDirective(SphinxDirective):
    """What the three directives share: the tables they read and the nodes they are made of."""

    def run(self):
        self.env.note_reread()  # records may change although the page does not
        self.root = Path(self.env.srcdir)
        self.chapters = yaml.safe_load((self.root / "book/chapters.yml").read_text("utf-8"))
        return self.content_nodes()

    def chapter(self, name):
        for chapter in self.chapters:
            if chapter["name"] == name:
                return chapter
        known = ", ".join(chapter["name"] for chapter in self.chapters)
        raise self.error(f"no chapter {name!r} in book/chapters.yml; it lists {known}")

    def docname(self, chapter):
        """The page of a chapter, or None while it has none."""
        name = f"notebooks/{chapter['name']}"
        return name if name in self.env.found_docs else None

    def records(self, chapter):
        """The records of one chapter by profile, each with `stale` added."""
        found = {}
        for profile in PROFILES:
            path = self.root / "results" / profile / f"{chapter['name']}.json"
            if path.exists():
                record = json.loads(path.read_text("utf-8"))
                record["stale"] = record["fingerprint"] != fingerprint(self.root, chapter["name"])
                found[profile] = record
        return found

    def claims_link(self, chapter, text):
        """A link to the claims section of a chapter's page (see `mark_claims`)."""
        uri = self.env.app.builder.get_relative_uri(self.env.docname, self.docname(chapter))
        return nodes.reference("", text, refuri=f"{uri}#claims", internal=True)

    def colab(self, chapter):
        theme = self.config.html_theme_options
        repository = urlparse(theme["repository_url"]).path.strip("/")
        folder = theme.get("path_to_docs", "").strip("/")
        path = "/".join(filter(None, [folder, "notebooks", f"{chapter['name']}.ipynb"]))
        host = theme["launch_buttons"]["colab_url"].rstrip("/")
        return f"{host}/github/{repository}/blob/{theme['repository_branch']}/{path}"

    def page_link(self, docname, *children, fragment=""):
        uri = self.env.app.builder.get_relative_uri(self.env.docname, docname)
        if docname == self.env.docname:
            uri = ""
        return nodes.reference("", "", *children, refuri=uri + fragment, internal=True)

    def verdict_counts(self, record):
        counts = {verdict: 0 for verdict in MARKS}
        for claim in record["claims"]:
            counts[claim["verdict"]] += 1
        return [
            verdict_badge(verdict, f"{count} {verdict}")
            for verdict, count in counts.items()
            if count
        ]


class ChapterBadges(BookDirective):
    """The line under a chapter's title: paper, Colab, run time by profile, verdicts."""

    required_arguments = 1

    def content_nodes(self):
        chapter = self.chapter(self.arguments[0])
        badges = [
            external(chapter["link"], f"Paper: {chapter['cite']}"),
            external(self.colab(chapter), "Run in Colab"),
        ]
        records = self.records(chapter)
        for profile in PROFILES:
            record = records.get(profile)
            if record is None:
                badges.append(inline(f"{profile}: not yet run", "badge-quiet"))
                continue
            text = (
                f"{profile}: {duration(record['duration_s'])} on {record['environment']['device']}"
            )
            badges.append(inline(text, "badge-quiet"))
            if record["stale"]:
                badges.append(stale_badge())
            elif record["claims"]:
                anchor = f"#{section_id(chapter)}"
                badges.append(
                    self.page_link("book/scoreboard", *self.verdict_counts(record), fragment=anchor)
                )
        return [block("chapter-badges", spaced(badges))]


class ChapterCards(BookDirective):
    """One card per chapter, with verdicts and run time where there is a record."""

    def content_nodes(self):
        cards = nodes.bullet_list(classes=["chapter-cards"])
        for number, chapter in enumerate(self.chapters, start=1):
            docname = self.docname(chapter)
            title = nodes.Text(chapter["title"])
            heading = nodes.paragraph(classes=["card-title"])
            heading += self.page_link(docname, title) if docname else title
            paper = nodes.paragraph("", "", external(chapter["link"], chapter["cite"]))
            card = nodes.list_item(
                "",
                nodes.paragraph("", f"{number}  {chapter['short']}", classes=["card-label"]),
                heading,
                nodes.paragraph("", chapter["idea"]),
                paper,
                nodes.paragraph("", "", *spaced(self.state_of(chapter)), classes=["card-state"]),
                classes=["chapter-card"] + ([] if docname else ["in-preparation"]),
            )
            cards += card
        return [cards]

    def state_of(self, chapter):
        if self.docname(chapter) is None:
            return [inline("in preparation", "badge-quiet")]
        record = self.records(chapter).get("small")
        if record is None:
            return [inline("not yet run", "badge-quiet")]
        time = inline(f"{duration(record['duration_s'])} on a CPU", "badge-quiet")
        if not record["environment"]["device"].startswith("cpu"):
            time = inline(f"{duration(record['duration_s'])} on a GPU", "badge-quiet")
        return [*([stale_badge()] if record["stale"] else self.verdict_counts(record)), time]


class Scoreboard(BookDirective):
    """Every claim of every chapter and profile: paper, ours, interval, verdict, age, device."""

    def content_nodes(self):
        sections = []
        for number, chapter in enumerate(self.chapters, start=1):
            if self.docname(chapter) is None:
                continue
            title = f"{number} {chapter['short']}: {chapter['title'].lower()}"
            section = nodes.section("", nodes.title("", title), ids=[section_id(chapter)])
            records = self.records(chapter)
            if not records:
                section += nodes.paragraph(
                    "", "Not yet run: there is no record of this chapter in results/."
                )
            for profile, record in records.items():
                section += self.provenance(profile, record)
                claims = nodes.bullet_list(classes=["claims"])
                for claim in record["claims"]:
                    claims += self.claim_item(chapter, claim, record["stale"])
                if record["claims"]:
                    section += claims
            sections.append(section)
        if not sections:
            return [nodes.paragraph("", "No chapter is finished yet.")]
        return sections

    def provenance(self, profile, record):
        environment, finished = record["environment"], day(record["finished"])
        memory = record.get("peak_memory_mb")
        parts = [
            f"finished {finished}",
            f"{duration(record['duration_s'])}" + (f", {memory:,.0f} MB at most" if memory else ""),
            environment["device"],
            f"{len(record['seeds'])} seed{'s' if len(record['seeds']) > 1 else ''}",
            f"Python {environment['python']}, torch {environment['torch']}",
            f"code {record['fingerprint']}",
        ]
        line = nodes.paragraph("", "", nodes.strong("", f"Profile {profile}"), classes=["run"])
        line += nodes.Text(" · " + " · ".join(parts) + " ")
        if record["stale"]:
            line += stale_badge()
        return line

    def claim_item(self, chapter, claim, stale):
        statement, _ = self.parse_inline(text_of(claim["statement"]), lineno=self.lineno)
        first, second = claim["arms"]
        means = {arm: sum(values) / len(values) for arm, values in claim["values"].items()}
        unit = f" {claim['unit']}" if claim["unit"] else ""
        ours = f"{first} {means[first]:.2f}, {second} {means[second]:.2f}{unit}"
        difference = claim["difference"]
        if difference:
            ours += (
                f"; difference {signed(difference['mean'])} "
                f"[{signed(difference['low'])}, {signed(difference['high'])}]{unit} "
                f"({100 * difference['confidence']:g} % interval, n = {difference['n']})"
            )
        asked = SIGNS[claim["direction"]].format(m=f"{claim['margin']:g}")
        item = nodes.list_item("", classes=["claim"] + (["stale"] if stale else []))
        item["ids"].append(f"claim-{chapter['name']}-{claim['id']}")
        head = nodes.paragraph(
            "", "", verdict_badge(claim["verdict"], claim["verdict"]), classes=["claim-head"]
        )
        head += [nodes.Text(" "), *statement]
        item += head
        item += nodes.paragraph(
            "",
            "",
            nodes.strong("", "Ours "),
            nodes.Text(text_of(f"{ours}. Asked for: {asked}{unit}.")),
        )
        if difference:
            item += nodes.raw("", interval_picture(claim), format="html")
        paper = nodes.paragraph("", "", nodes.strong("", "Paper "))
        if claim["paper"]:
            value = claim["paper"]
            number = f"{value['value']:g}".replace("-", "−")
            paper += nodes.Text(f"{number} {value.get('unit', '')} ({value['source']}). ")
        else:
            paper += nodes.Text("gives no single number. ")
        paper += [
            nodes.Text(f"Claimed in: {claim['where']}. "),
            self.claims_link(chapter, "In the chapter"),
        ]
        item += paper
        return item


@cache
def fingerprint(root, chapter):
    """Fingerprint of the chapter's code as it stands; None if it cannot be found."""
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    from labutils import notebooks

    return notebooks.fingerprint(chapter, root)


def section_id(chapter):
    return f"chapter-{chapter['name']}"


def inline(text, *classes):
    return nodes.inline("", text, classes=list(classes))


def external(uri, text):
    return nodes.reference("", text, refuri=uri)


def block(name, children):
    paragraph = nodes.paragraph("", "", *children)
    return nodes.container("", paragraph, classes=[name])


def spaced(children):
    """The children with a space between them, so that they stay words apart without styles."""
    return [node for child in children for node in (child, nodes.Text(" "))][:-1]


def verdict_badge(verdict, text):
    return inline(f"{MARKS[verdict]} {text}", "verdict", "verdict-" + verdict.replace(" ", "-"))


def stale_badge():
    return inline("stale: the code has changed since this run", "verdict", "verdict-stale")


def duration(seconds):
    """Seconds as people say them; an em dash is not a time, so None reads as unknown."""
    if seconds is None:
        return "time unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def day(timestamp):
    return datetime.fromisoformat(timestamp).date().isoformat()


def signed(value):
    return f"{value:+.2f}".replace("-", "−")


def text_of(words):
    """The words with a space before % that does not break."""
    return words.replace(" %", "\N{NO-BREAK SPACE}%")


def interval_picture(claim):
    """The interval of the difference against zero and the margin, as a small inline SVG."""
    low, mean, high = (claim["difference"][key] for key in ("low", "mean", "high"))
    margin = claim["margin"]
    lines = {"greater": [margin], "less": [-margin], "equivalent": [-margin, margin]}
    lines = lines[claim["direction"]]
    ends = [low, high, 0.0, *lines]
    span = (max(ends) - min(ends)) or 1.0
    left = min(ends) - 0.08 * span

    def x(value):
        return f"{(value - left) / (1.16 * span) * 240:.1f}"

    marks = "".join(f'<line class="margin" x1="{x(v)}" x2="{x(v)}" y1="2" y2="22"/>' for v in lines)
    label = f"difference {signed(mean)}, interval from {signed(low)} to {signed(high)}"
    return (
        f'<svg class="interval" viewBox="0 0 240 24" role="img" aria-label="{label}">'
        f'<line class="zero" x1="{x(0)}" x2="{x(0)}" y1="2" y2="22"/>{marks}'
        f'<line class="range" x1="{x(low)}" x2="{x(high)}" y1="12" y2="12"/>'
        f'<circle cx="{x(mean)}" cy="12" r="4"/></svg>'
    )


def mark_claims(app, doctree):
    """Give the section that holds a chapter's `claims` cell the anchor `claims`.

    Chapters may name and place that section as they like; the scoreboard still finds it.
    """
    for cell in doctree.findall(nodes.container):
        if "tag_claims" in cell["classes"]:
            section = cell.parent
            while section is not None and not isinstance(section, nodes.section):
                section = section.parent
            section = section if section is not None else cell
            if "claims" not in section["ids"]:
                section["ids"].append("claims")
            return


def plain_docstring(app, what, name, obj, options, lines):
    """Read `code` in a docstring as code and | as itself, as Markdown and people do."""
    for i, line in enumerate(lines):
        parts = LITERAL.split(line)  # prose, literal, prose, ...
        parts[::2] = [part.replace("|", "\\|") for part in parts[::2]]
        parts[1::2] = [literal(part) for part in parts[1::2]]
        # reStructuredText wants a boundary after a literal: `Tensor`s
        lines[i] = parts[0] + "".join(
            literal + ("\\ " if prose[:1].isalnum() else "") + prose
            for literal, prose in zip(parts[1::2], parts[2::2], strict=True)
        )


def literal(markup):
    if markup.startswith(("``", ":")):  # a literal or a role already
        return markup
    return f"`{markup}`" if markup.startswith("`") else f"``{markup}``"


def own_documented_members(app):
    """Leave out of the API page what a module imports, and what has no docstring."""
    for item in app.env.autoapi_all_objects.values():
        item.children = [c for c in item.children if c.docstring and not c.imported]


def setup(app):
    app.setup_extension("autoapi.extension")
    app.connect("builder-inited", own_documented_members, priority=900)
    app.connect("autodoc-process-docstring", plain_docstring)
    app.add_directive("chapter-badges", ChapterBadges)
    app.add_directive("chapter-cards", ChapterCards)
    app.add_directive("scoreboard", Scoreboard)
    app.connect("doctree-read", mark_claims)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
