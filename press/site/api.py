"""The API page: docstrings as Markdown and people write them, and only what has one."""

import re

ROLE = re.compile(r"(\{[a-z:]+\}`[^`]+`)")


def plain_docstring(app, what, name, obj, options, lines):
    """Read a role of MyST as code and | as itself; `default_role` reads `code`."""
    lines[:] = [ROLE.sub(r"``\1``", line).replace("|", r"\|") for line in lines]


def own_documented_members(app):
    """Leave out of the API page what a module imports, and what has no docstring."""
    for item in app.env.autoapi_all_objects.values():
        item.children = [c for c in item.children if c.docstring and not c.imported]
