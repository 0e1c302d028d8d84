"""What all directives of the book share, and those of the landing page and the chapters' titles.

chapter-badges, chapter-cards and verdict-strip read book/chapters.yml, results/PROFILE/CHAPTER.json
and the notebooks when the site is built.
"""

import base64
import json
import posixpath
import re
from html import escape
from pathlib import Path
from urllib.parse import urlparse

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from press.site import records
from press.site.records import PROFILES, duration

MARKS = {
    "reproduced": "✓",
    "not reproduced": "✗",
    "inconclusive": "≈",
    "not judged": "·",
}
PICTURES = {"image/svg+xml": "svg", "image/png": "png"}

LITERAL = re.compile(r"(``.+?``|:[a-z:]+:`[^`]+`|(?:\{[a-z:]+\})?`[^`]+`)")


class BookDirective(SphinxDirective):
    """What the directives share: the tables that they read, the nodes that they are made of."""

    def run(self):
        self.env.note_reread()  # records may change although the page does not
        self.root = Path(self.env.srcdir)
        self.chapters = records.chapters(self.root)
        return self.content_nodes()

    def chapter(self, name):
        for chapter in self.chapters:
            if chapter["name"] == name:
                return chapter
        known = ", ".join(chapter["name"] for chapter in self.chapters)
        raise self.error(f"no chapter {name!r} in book/chapters.yml; it lists {known}")

    def docname(self, chapter):
        """The page of a chapter, or None while it has none."""
        pages = (d for d in self.env.found_docs if d.startswith("notebooks/"))
        return next((page for page in pages if page.endswith(f"/{chapter['name']}")), None)

    def records(self, chapter):
        return records.of_chapter(self.root, chapter["name"])

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
        return [
            verdict_badge(verdict, f"{number} {verdict}")
            for verdict, number in records.count(record["claims"]).items()
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
        if minutes := reading_minutes(self.root, chapter["name"]):
            badges.append(inline(f"about {minutes} min to read", "badge-quiet"))
        if "book/cheat-sheets" in self.env.found_docs:
            number = self.chapters.index(chapter) + 1
            anchor = "#" + nodes.make_id(f"{number} {chapter['short']}").lstrip("0123456789-")
            sheet = self.page_link("book/cheat-sheets", nodes.Text("Cheat sheet"), fragment=anchor)
            sheet["classes"].append("external")
            badges.insert(2, sheet)
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
    """One card per chapter: its key figure, its verdicts, its run times, and Colab."""

    def content_nodes(self):
        cards = nodes.bullet_list(classes=["chapter-cards"])
        for number, chapter in enumerate(self.chapters, start=1):
            docname = self.docname(chapter)
            title = nodes.Text(chapter["title"])
            heading = nodes.paragraph(classes=["card-title"])
            heading += self.page_link(docname, title) if docname else title
            card = nodes.list_item(
                "",
                nodes.raw("", self.figure(chapter, docname), format="html"),
                nodes.paragraph("", f"{number} {chapter['short']}", classes=["card-label"]),
                heading,
                nodes.paragraph("", chapter["idea"], classes=["card-idea"]),
                nodes.paragraph("", "", external(chapter["link"], chapter["cite"])),
                *self.state_of(chapter, docname),
                classes=["chapter-card"] + ([] if docname else ["in-preparation"]),
            )
            cards += card
        return [cards]

    def figure(self, chapter, docname):
        found = key_figure(self.root, chapter) if docname else None
        if found is None:
            return '<div class="card-figure"></div>'
        folder = posixpath.dirname(self.env.docname)
        source = posixpath.relpath(f"_images/{found['file']}", folder or ".")
        page = self.env.app.builder.get_relative_uri(self.env.docname, docname)
        return (
            f'<a class="card-figure" href="{page}#{found["anchor"]}" tabindex="-1" '
            f'aria-hidden="true"><img src="{source}" alt="{escape(found["alt"])}"/></a>'
        )

    def state_of(self, chapter, docname):
        if docname is None:
            state = inline("in preparation", "badge-quiet")
            return [nodes.paragraph("", "", state, classes=["card-state"])]
        found = self.records(chapter)
        shown = found.get("full") or found.get("small")
        if shown is None:
            verdicts = [inline("not yet run", "badge-quiet")]
        elif shown["stale"]:
            verdicts = [stale_badge()]
        else:
            link = self.page_link("book/scoreboard", fragment=f"#{section_id(chapter)}")
            link += spaced(self.verdict_counts(shown))
            verdicts = [link]
        times = "; ".join(f"{profile}: {time_of(found.get(profile))}" for profile in PROFILES)
        return [
            nodes.paragraph("", "", *verdicts, classes=["card-state"]),
            nodes.paragraph("", times, classes=["card-times"]),
            nodes.paragraph(
                "", "", external(self.colab(chapter), "Run in Colab"), classes=["card-colab"]
            ),
        ]


class VerdictStrip(BookDirective):
    """All claims of all fresh runs, counted by verdict."""

    def content_nodes(self):
        runs = records.all_runs(self.root)
        fresh = [run for run in runs if not run[2]["stale"]]
        counts = records.count(claim for run in fresh for claim in run[2]["claims"])
        total = sum(counts.values())
        stale = sum(len(record["claims"]) for _, _, record in runs if record["stale"])
        if not total and not stale:
            return [nodes.paragraph("", "No claim has been put to the test yet.")]
        papers = len({chapter["name"] for chapter, _, _ in fresh})
        segments = "".join(
            f'<span class="verdict-{verdict.replace(" ", "-")}" style="flex-grow:{number}"></span>'
            for verdict, number in counts.items()
        )
        bar = f'<div class="verdict-bar" aria-hidden="true">{segments}</div>'
        line = nodes.paragraph(classes=["verdict-line"])
        scoreboard = self.page_link("book/scoreboard")
        scoreboard += nodes.strong("", f"{total or stale} claims")
        line += scoreboard
        if total:
            line += nodes.Text(f" of {papers} paper{'s' if papers > 1 else ''} put to the test: ")
            badges = [verdict_badge(verdict, f"{n} {verdict}") for verdict, n in counts.items()]
            line += spaced(badges)
            if stale:
                line += nodes.Text(f" {stale} more are stale: their code has changed since.")
        else:
            line += nodes.Text(" put to the test; the code of all has changed since their runs.")
        strip = nodes.container(classes=["verdict-strip"])
        strip += [nodes.raw("", bar, format="html"), line]
        return [strip]


def time_of(record):
    if record is None:
        return "not yet run"
    kind = "CPU" if record["environment"]["device"].startswith("cpu") else "GPU"
    return f"{duration(record['duration_s'])} on a {kind}"


def reading_minutes(root, chapter):
    """Minutes to read a chapter: 200 words of prose, or 25 lines of code, in a minute."""
    path = root / "notebooks" / f"{chapter}.ipynb"
    words = lines = 0
    for cell in json.loads(path.read_text("utf-8"))["cells"] if path.exists() else ():
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            words += len(re.findall(r"\w+", source))
        elif not {"setup", "hide-input", "hide-cell"} & set(cell["metadata"].get("tags", ())):
            lines += len([line for line in source.splitlines() if line.strip()])
    return 5 * round((words / 200 + lines / 25) / 5)


def key_figure(root, chapter):
    """{file, data, alt, anchor} of the figure that chapters.yml names; None before it is drawn."""
    path = root / "notebooks" / f"{chapter['name']}.ipynb"
    for cell in json.loads(path.read_text("utf-8"))["cells"] if path.exists() else ():
        look = cell["metadata"].get("mystnb", {})
        if look.get("figure", {}).get("name") != chapter["figure"]:
            continue
        for output in cell["outputs"]:
            for mime, suffix in PICTURES.items():
                if data := output.get("data", {}).get(mime):
                    data = "".join(data)
                    return {
                        "file": f"key-{chapter['name']}.{suffix}",
                        "data": base64.b64decode(data) if suffix == "png" else data.encode(),
                        "alt": look["image"]["alt"],
                        "anchor": chapter["figure"],
                    }
    return None


def write_key_figures(app, exception):
    if exception or app.builder.format != "html":
        return
    for chapter in records.chapters(Path(app.srcdir)):
        if found := key_figure(Path(app.srcdir), chapter):
            folder = Path(app.outdir) / "_images"
            folder.mkdir(exist_ok=True)
            (folder / found["file"]).write_bytes(found["data"])


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


def text_of(words):
    """The words with a space before % that does not break."""
    return words.replace(" %", "\N{NO-BREAK SPACE}%")


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
    app.add_directive("verdict-strip", VerdictStrip)
    app.connect("build-finished", write_key_figures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
