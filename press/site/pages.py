"""What stands on every page: where it comes from. And the page for addresses that do not exist."""

import subprocess
from contextlib import suppress
from functools import cache
from html import escape
from pathlib import Path

from labutils import __version__
from press.site import records
from press.site.templates import environment
from press.words import duration

# A server shows 404.html at any address, so that its own links need to know where the book begins:
# on GitHub Pages one folder below the host, elsewhere at its root.
BASE = (
    "<script>if (location.protocol !== 'file:') document.write('<base href=\"' + "
    "(location.hostname.endsWith('.github.io') ? '/' + location.pathname.split('/')[1] : '') "
    "+ '/\">')</script>"
)


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
    if doctree is None:
        return
    root = Path(app.srcdir)
    lines = [f"{version(root)}."]
    if pagename.startswith("notebooks/"):
        run = records.shown(root, pagename)
        if run is None:
            lines.append("The results of this page have no record yet.")
        else:
            record, environment = run.record, run.record.environment
            lines.append(
                f"Results of this page: profile small, computed on "
                f"{records.day(record.finished)} in {duration(record.duration_s)} on "
                f"{environment['device']} with Python {environment['python']} and torch "
                f"{environment['torch']}; code {record.fingerprint}, "
                + ("changed since." if run.stale else "unchanged since.")
            )
    context["body"] += f'<p class="provenance">{escape(" ".join(lines))}</p>'


def not_found_page(app):
    body = environment(Path(app.srcdir)).get_template("404.html").render()
    content = {"title": "This page is not here", "body": body, "metatags": BASE}
    yield "404", content, "page.html"


def setup(app):
    app.connect("html-page-context", add_provenance)
    app.connect("html-collect-pages", not_found_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
