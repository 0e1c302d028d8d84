"""Directives whose content is a Jinja2 template of book/_templates, and what templates can use."""

import posixpath
import re
from functools import cache
from operator import itemgetter
from pathlib import Path

import jinja2
from docutils import nodes
from markupsafe import Markup, escape
from sphinx.util.docutils import SphinxDirective

from labutils import formats
from press.catalogue import CatalogueError
from press.site import records
from press.words import duration

CODE = re.compile(r"`+([^`]+)`+")


def sentence(text):
    """An idea of the catalogue with a capital letter and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def words(text):
    """Escaped text with a space before % that does not break, and with signs that are minus."""
    return Markup(re.sub(r"(?<!\w)-(?=\d)", "−", escape(text)).replace(" %", "\N{NO-BREAK SPACE}%"))


FILTERS = {
    "code": lambda text: Markup(CODE.sub(r"<code>\1</code>", str(escape(text)))),
    "day": itemgetter(slice(len("2026-01-31"))),
    "duration": duration,
    "interval": formats.interval,
    "p_value": formats.p_value,
    "sentence": sentence,
    "words": words,
}


@cache
def environment(root):
    """The templates of a book; what they print is escaped."""
    loader = jinja2.FileSystemLoader(root / "book/_templates")
    made = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    made.filters |= FILTERS
    return made


def filled(root, template, **values):
    """The text of a template with these values."""
    return environment(root).get_template(template).render(**values)


class TemplateDirective(SphinxDirective):
    """Reads what the site is made from anew at every build and fills in a template."""

    @property
    def root(self):
        return Path(self.env.srcdir)

    @property
    def catalogue(self):
        return records.load(self.root)

    def named(self, find):
        """What `find`, a method of the catalogue, gives for the directive's argument."""
        try:
            return find(self.arguments[0])
        except CatalogueError as error:
            raise self.error(str(error)) from None

    def run(self):
        self.env.note_reread()  # records may change although the page does not
        return self.content_nodes()

    def link(self, docname, fragment=""):
        """Address of a page, seen from this one; None for a page that is not in the book."""
        if docname == self.env.docname:
            return fragment
        if docname not in self.env.found_docs:
            return None
        return self.env.app.builder.get_relative_uri(self.env.docname, docname) + fragment

    def render(self, template, **values):
        """The template as the nodes of a directive."""
        top = posixpath.relpath(".", posixpath.dirname(self.env.docname) or ".")
        text = filled(self.root, template, link=self.link, top=top, **values)
        return [nodes.raw("", text, format="html")]
