"""What stands on every page: where it comes from. And the page for addresses that do not exist."""

import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path

from labutils import __version__
from press.site import records
from press.site.templates import environment


@cache
def version(root):
    """Version of the book and, where the sources are a git repository, the revision."""
    words = f"Version {__version__}"
    if (root / ".git").exists():
        git = ["git", "-C", str(root), "log", "-1", "--format=, revision %h of %cs"]
        with suppress(OSError):  # no git
            words += subprocess.run(git, capture_output=True, text=True).stdout.strip()
    return words


def add_provenance(app, pagename, templatename, context, doctree):
    """Say at the end of a page which book it is from, and where its results were computed."""
    if doctree is not None:
        root = Path(app.srcdir)
        context["body"] += environment(root).get_template("provenance.html").render(
            version=version(root), run=records.shown(root, pagename),
            notebook=pagename.startswith("notebooks/"),
        )  # fmt: skip


def not_found_page(app):
    body, head = (
        environment(Path(app.srcdir)).get_template(name).render()
        for name in ("404.html", "404-head.html")
    )
    yield "404", {"title": "This page is not here", "body": body, "metatags": head}, "page.html"


def setup(app):
    app.connect("html-page-context", add_provenance)
    app.connect("html-collect-pages", not_found_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
