"""What stands on every page, what machines read of it, and the page for wrong addresses."""

from pathlib import Path
from urllib.parse import urljoin

import yaml
from docutils import nodes

from labutils import __version__
from press.notebooks import public_address, repository, version
from press.site import records
from press.site.templates import TemplateDirective, filled


class FromRepository(TemplateDirective):
    """cite: who wrote the book, and how to cite it (CITATION.cff). clone: how to get it."""

    required_arguments = 1

    def content_nodes(self):
        address, branch = repository(self.root)
        return self.render(
            f"{self.arguments[0]}.html", version=version(self.root), year=self.config.copyright,
            citation=yaml.safe_load((self.root / "CITATION.cff").read_text("utf-8")),
            address=address, branch=branch,
        )  # fmt: skip


def add_page_facts(app, pagename, templatename, context, doctree):
    """Describe a page to machines; say at its end where it and its results come from."""
    if doctree is None:
        return
    root, notebook = Path(app.srcdir), pagename.startswith("notebooks/")
    if pagename == app.config.root_doc:
        context["docstitle"] = None  # the book's title, once
    context["metatags"] = context.get("metatags", "") + filled(
        root, "meta.html", title=context["title"], description=description(doctree),
        book=app.config.html_title, notebook=notebook, first=pagename == app.config.root_doc,
        url=context.get("pageurl"), base=app.config.html_baseurl, version=__version__,
        author=app.config.author,
    )  # fmt: skip
    facts = {"version": version(root), "run": records.shown(root, pagename), "notebook": notebook}
    numbers = context["body"].replace('"pasted-text">-', '"pasted-text">\N{MINUS SIGN}')
    context["body"] = numbers + filled(root, "provenance.html", **facts)


def description(doctree):
    """The first 200 letters, in whole words, of the first paragraph that has at least 60."""
    texts = (" ".join(p.astext().split()) for p in doctree.findall(nodes.paragraph))
    text = next((text for text in texts if len(text) >= 60), "").removeprefix("Idea. ")
    return text if len(text) <= 200 else text[:200].rpartition(" ")[0] + " …"


def number_by_page(app, env):
    """Count figures, equations, algorithms and exercises from 1 on each page."""
    for numbers in env.toc_fignumbers.values():
        for places in numbers.values():
            ordered = sorted(places, key=places.get)
            places.update({name: (n,) for n, name in enumerate(ordered, 1)})
    return []  # no page to be written anew


def set_address(app, config):
    """Where the site is published, unless _config.yml says it: on the repository's own pages."""
    url = config.html_theme_options["repository_url"]
    config.html_baseurl = config.html_baseurl or public_address(url)


def write_sitemap(app):
    pages = sorted(map(app.builder.get_target_uri, app.env.found_docs))
    addresses = [urljoin(app.config.html_baseurl, page) for page in pages]
    text = filled(Path(app.srcdir), "sitemap.xml", addresses=addresses)
    (Path(app.outdir) / "sitemap.xml").write_text(text, "utf-8")
