"""What makes pages comfortable: terms linked to the glossary, where a page comes from, a 404 page.

Also the directive chapter-line, the line under a chapter's heading on the cheat sheets.
"""

import re
import subprocess
from functools import cache
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx import addnodes

from press.site import records
from press.site.directives import BookDirective, external, inline, spaced

GLOSSARY = "book/glossary"
# Where a word is not prose, or a link would be in the way
NOT_LINKED = (
    nodes.title, nodes.reference, nodes.literal, nodes.literal_block, nodes.math, nodes.math_block,
    nodes.raw, nodes.caption, nodes.strong, nodes.term, nodes.table, addnodes.pending_xref,
    nodes.citation, nodes.bullet_list, nodes.sidebar,
)  # fmt: skip


class ChapterLine(BookDirective):
    """Paper and chapter that a cheat sheet belongs to."""

    required_arguments = 1

    def content_nodes(self):
        chapter = self.chapter(self.arguments[0])
        docname = self.docname(chapter)
        parts = [external(chapter["link"], chapter["cite"])]
        if docname:
            parts.append(self.page_link(docname, nodes.Text("to the chapter")))
        else:
            parts.append(inline("chapter in preparation", "badge-quiet"))
        return [nodes.paragraph("", "", *spaced(parts), classes=["chapter-line"])]


# --- glossary ------------------------------------------------------------------------------------


def definitions(app):
    """{term: (anchor, first sentence of its definition)} of the glossary page."""
    if GLOSSARY not in app.env.found_docs:
        return {}
    found = {}
    for item in app.env.get_doctree(GLOSSARY).findall(nodes.definition_list_item):
        first = next(item.findall(nodes.definition)).astext().split("\n\n")[0]
        for term in item.findall(nodes.term):
            words = re.match(r".+?[.!?](?=\s|$)", " ".join(first.split()))
            found[term.astext()] = (term["ids"][0], words[0] if words else first)
    return found


def link_terms(app, doctree, docname):
    """Link the first use of each term on a chapter's page to the glossary."""
    if not docname.startswith("notebooks/"):
        return
    if not hasattr(app, "book_terms"):
        app.book_terms = definitions(app)
    waiting = dict(app.book_terms)
    page = app.builder.get_relative_uri(docname, GLOSSARY)
    for text in list(doctree.findall(nodes.Text)):
        if not waiting:
            return
        if in_prose(text):
            link_first(text, waiting, page)


def in_prose(text):
    place, paragraph = text.parent, False
    while place is not None:
        if isinstance(place, NOT_LINKED) or "cell_output" in place.get("classes", ()):
            return False
        paragraph = paragraph or isinstance(place, nodes.paragraph)
        place = place.parent
    return paragraph


def link_first(text, waiting, page):
    """Replace the earliest waiting terms of a text by links and stop waiting for them."""
    pieces, rest = [], text.astext()
    while rest:
        # Of two terms at one place the longer wins: domain posterior, not domain.
        names = "|".join(map(re.escape, sorted(waiting, key=len, reverse=True)))
        found = re.search(rf"\b({names})(?:s|es)?\b", rest, re.I) if names else None
        if not found:
            break
        term = next(name for name in waiting if name.lower() == found[1].lower())
        anchor, meaning = waiting.pop(term)
        pieces.append(nodes.Text(rest[: found.start()]))
        link = nodes.reference(
            "", found[0], refuri=f"{page}#{anchor}", internal=True, reftitle=meaning
        )
        link["classes"].append("term")
        pieces.append(link)
        rest = rest[found.end() :]
    if pieces:
        text.parent.replace(text, [*pieces, nodes.Text(rest)])


# --- provenance ----------------------------------------------------------------------------------


@cache
def version(root):
    """Version of the book and, where the sources are a git repository, the revision."""
    text = (root / "labutils/__init__.py").read_text("utf-8")
    words = f"Version {re.search(r'__version__ = .([^ ]+?).$', text, re.M)[1]}"
    git = ["git", "-C", str(root)]
    try:
        top = subprocess.run([*git, "rev-parse", "--show-toplevel"], capture_output=True, text=True)
        if top.returncode == 0 and Path(top.stdout.strip()).resolve() == root.resolve():
            shown = subprocess.run(
                [*git, "log", "-1", "--format=revision %h of %cs"], capture_output=True, text=True
            )
            words += f", {shown.stdout.strip()}"
    except OSError:  # no git
        pass
    return words


def add_provenance(app, pagename, templatename, context, doctree):
    """Say at the end of a page which book it is from, and where its results were computed."""
    if doctree is None:
        return
    root = Path(app.srcdir)
    lines = [f"{version(root)}."]
    folder, _, name = pagename.rpartition("/")
    if folder == "notebooks":
        record = records.of_chapter(root, name).get("small")
        if record is None:
            lines.append("The results of this page have no record yet.")
        else:
            environment = record["environment"]
            lines.append(
                f"Results of this page: profile small, computed on "
                f"{records.day(record['finished'])} in {records.duration(record['duration_s'])} on "
                f"{environment['device']} with Python {environment['python']} and torch "
                f"{environment['torch']}; code {record['fingerprint']}, "
                + ("changed since." if record["stale"] else "unchanged since.")
            )
    context["body"] += f'<p class="provenance">{escape(" ".join(lines))}</p>'


# --- the page for addresses that do not exist ----------------------------------------------------

# A server shows it at any address, so that its own links need to know where the book begins: on
# GitHub Pages one folder below the host, elsewhere at its root.
BASE = (
    "<script>if (location.protocol !== 'file:') document.write('<base href=\"' + "
    "(location.hostname.endsWith('.github.io') ? '/' + location.pathname.split('/')[1] : '') "
    "+ '/\">')</script>"
)
NOT_FOUND = """<section><h1>This page is not here</h1>
<p>The address may be misspelt, or the page may have got another name. These lead further:</p>
<ul>
<li>the <a href="book/index.html">first page</a> with all chapters,</li>
<li>the <a href="book/scoreboard.html">scoreboard</a> with every claim,</li>
<li>the <a href="book/field-map.html">map of the field</a>,</li>
<li>the <a id="missing" href="search.html">search</a>.</li>
</ul></section>
<script>
(() => {
  const words = decodeURIComponent(location.pathname).split("/").pop().replace(/\\.html$/, "")
    .split(/[^\\p{L}\\p{N}]+/u).filter(word => /\\p{L}{2}/u.test(word)).join(" ");
  if (!words || words === "404") return;
  const link = document.getElementById("missing");
  link.textContent = `search for \u201c${words}\u201d`;
  link.search = new URLSearchParams({ q: words });
})();
</script>"""


def not_found_page(app):
    yield "404", {"title": "This page is not here", "body": NOT_FOUND}, "page.html"


def set_base(app, exception):
    page = Path(app.outdir) / "404.html"
    if not exception and page.exists():
        text = page.read_text("utf-8")
        if BASE not in text:
            page.write_text(text.replace("<head>", f"<head>{BASE}", 1), "utf-8")


def setup(app):
    app.add_directive("chapter-line", ChapterLine)
    app.connect("doctree-resolved", link_terms)
    app.connect("html-page-context", add_provenance)
    app.connect("html-collect-pages", not_found_page)
    app.connect("build-finished", set_base)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
