"""What stands on every page: where it comes from. And the page for addresses that do not exist."""

import re
import subprocess
from functools import cache
from html import escape
from pathlib import Path

from press.site import records
from press.site.templates import environment

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
    if pagename.startswith("notebooks/"):
        run = records.shown(root, pagename)
        if run is None:
            lines.append("The results of this page have no record yet.")
        else:
            record, environment = run.record, run.record.environment
            lines.append(
                f"Results of this page: profile small, computed on "
                f"{records.day(record.finished)} in {records.duration(record.duration_s)} on "
                f"{environment['device']} with Python {environment['python']} and torch "
                f"{environment['torch']}; code {record.fingerprint}, "
                + ("changed since." if run.stale else "unchanged since.")
            )
    context["body"] += f'<p class="provenance">{escape(" ".join(lines))}</p>'


def not_found_page(app):
    body = environment(Path(app.srcdir)).get_template("404.html").render()
    yield "404", {"title": "This page is not here", "body": body}, "page.html"


def set_base(app, exception):
    page = Path(app.outdir) / "404.html"
    if not exception and page.exists():
        text = page.read_text("utf-8")
        if BASE not in text:
            page.write_text(text.replace("<head>", f"<head>{BASE}", 1), "utf-8")


def setup(app):
    app.connect("html-page-context", add_provenance)
    app.connect("html-collect-pages", not_found_page)
    app.connect("build-finished", set_base)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
