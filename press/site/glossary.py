"""Links the first use of each term of the glossary on a notebook's page to its definition."""

import re

from docutils import nodes
from sphinx import addnodes

GLOSSARY = "book/glossary"
# Where a word is not prose, or a link would be in the way
NOT_LINKED = (
    nodes.title, nodes.reference, nodes.literal, nodes.literal_block, nodes.math, nodes.math_block,
    nodes.raw, nodes.caption, nodes.strong, nodes.term, nodes.table, addnodes.pending_xref,
    nodes.citation, nodes.bullet_list, nodes.sidebar,
)  # fmt: skip


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
    """Link the first use of each term on a notebook's page to the glossary."""
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
        found = re.search(rf"\b({names})(?:s|es)?\b", rest, re.IGNORECASE) if names else None
        if not found:
            break
        term = next(name for name in waiting if name.lower() == found[1].lower())
        anchor, meaning = waiting.pop(term)
        pieces.append(nodes.Text(rest[: found.start()]))
        link = nodes.reference("", found[0], internal=True, reftitle=meaning, classes=["term"])
        link["refuri"] = f"{page}#{anchor}"
        pieces.append(link)
        rest = rest[found.end() :]
    if pieces:
        text.parent.replace(text, [*pieces, nodes.Text(rest)])
