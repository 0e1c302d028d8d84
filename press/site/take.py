"""Take it home: files of the techniques, what leads to them, and an anchor on every name.

Python's domain learns the names, so that the search finds them.
"""

from pathlib import Path

from docutils import nodes
from markupsafe import Markup

from press import notebooks, standalone


def box(directive, paper, claims, run):
    """The box under a notebook's title: the file, its use, its tests, and claims."""
    found = standalone.of(paper.slug, directive.root) if paper.heading else None
    if not found:
        return []
    url, tag = notebooks.repository(directive.root)
    files = standalone.tests(paper.slug, directive.root)
    highlighter = directive.env.app.builder.highlighter
    return directive.render(
        "take.html", found=found, lines=standalone.text(paper, directive.root).count("\n"),
        use=Markup(highlighter.highlight_block(found.use, "python")) if found.example else "",
        tests={f.name: f"{url}/blob/{tag}/{f.relative_to(directive.root)}" for f in files},
        claims=claims, run=run, index=directive.link("book/techniques"),
    )  # fmt: skip


def name_cells(app, doctree):
    """Give each name that a technique cell defines an anchor; show no marks for tools."""
    docname, root = app.env.docname, Path(app.srcdir)
    if not docname.startswith("notebooks/"):
        return
    slug = docname.rpartition("/")[2]
    numbers = standalone.equation_numbers(notebooks.read(notebooks.path(slug, root)))
    found = standalone.of(slug, root)
    waiting = dict(found.defined) if found else {}
    python = app.env.get_domain("py")
    for cell in doctree.findall(
        lambda node: "cell" in getattr(node, "attributes", {}).get("classes", ())
    ):
        for code in list(cell.findall(nodes.literal_block))[:1]:
            text = standalone.shown(code.astext(), numbers)
            if text != code.astext():
                code.rawsource, code[:] = text, [nodes.Text(text)]
            if "tag_technique" in cell["classes"]:
                for name in [name for name in standalone.defined(text) if name in waiting]:
                    kind, anchor = waiting.pop(name)[0], f"{found.module}.{name}"
                    cell["ids"].append(anchor)
                    python.note_object(anchor, kind, anchor, location=cell)


def write_files(app):
    standalone.write(Path(app.outdir) / standalone.FOLDER, Path(app.srcdir))
