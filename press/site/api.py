"""The API page: docstrings as Markdown and people write them, and only what has one."""

import re

LITERAL = re.compile(r"(``.+?``|:[a-z:]+:`[^`]+`|(?:\{[a-z:]+\})?`[^`]+`)")


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
