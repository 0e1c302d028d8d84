"""A new lab: a small experiment that runs and keeps the contract, to be replaced part by part."""

from pathlib import Path

from press import catalogue, notebooks, standalone

TEMPLATE = Path(__file__).with_name("lab_template.md")
TEST = Path(__file__).with_name("lab_test_template.txt")
EXAMPLE = Path(__file__).with_name("lab_example_template.txt")


def new_lab(slug, root=None):
    """Write a lab's notebook, test and example from the templates; return their paths.

    The catalogue must have the lab's row. Raises NotebookError if it has none, if the row is no
    lab, or if the notebook is there already.
    """
    import jupytext

    root = notebooks.book_root(root)
    row = catalogue.load(root).paper(slug)
    if row.kind != "lab":
        raise notebooks.NotebookError(f"{slug} is a {row.kind} in {catalogue.FILE}, not a lab")
    file = root / f"{row.docname}.ipynb"
    test = root / "tests" / "notebooks" / file.parent.name / f"test_{slug.replace('-', '_')}.py"
    example = root / standalone.EXAMPLES / f"{slug}.py"
    for path in (file, test, example):
        if path.exists():
            raise notebooks.NotebookError(f"{path.relative_to(root)} exists; nothing was written")
    notebook = jupytext.reads(_filled(TEMPLATE, row, root), fmt="md:myst")
    for number, cell in enumerate(notebook.cells, 1):
        cell["id"] = f"{slug}-{number}"
    notebook.metadata.pop("jupytext", None)
    notebook.metadata |= notebooks.COLAB
    written = {test: _filled(TEST, row, root), example: _filled(EXAMPLE, row, root)}
    notebooks.write({**written, file: notebook})
    return file, *written


def _filled(template, row, root):
    text = template.read_text(encoding="utf-8")
    words = {"SLUG": row.slug, "SHORT": row.short, "KEY": row.key, "NEAR": row.near}
    words |= {
        "IDEA": row.idea[0].upper() + row.idea[1:],
        "MODULE": row.slug.replace("-", "_"),
        "SETUP": notebooks.setup_cell(root, row.slug),
    }
    for name, value in words.items():
        text = text.replace(name, value)
    return text
