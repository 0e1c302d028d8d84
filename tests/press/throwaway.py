"""Throw-away books for the tests of the pipeline."""

import json

SAVE = """\
import json, os, pathlib
name = "{name}." + os.environ["LABUTILS_PROFILE"] + ".json"
file = pathlib.Path(os.environ["LABUTILS_RESULTS"], name)
file.parent.mkdir(parents=True, exist_ok=True)
claim = {{"id": "one", "verdict": "reproduced"}}
file.write_text(json.dumps({{"chapter": "{name}", "profile": os.environ["LABUTILS_PROFILE"],
    "finished": "2026-01-02T03:04:05Z", "claims": [claim], "peak_memory_mb": None}}))"""


class Book:
    """A book of tiny chapters with a labutils of its own (one module, ``helper``)."""

    def __init__(self, root):
        self.root = root
        (root / "notebooks" / "theme").mkdir(parents=True)
        (root / "labutils").mkdir()
        (root / "labutils" / "__init__.py").write_text('"""A labutils."""\n')
        (root / "labutils" / "helper.py").write_text("def double(x):\n    return 2 * x\n")
        address = "repository:\n  url: https://example.org/book\n  branch: main\n"
        (root / "_config.yml").write_text(address)

    def notebook(self, name):
        return self.root / "notebooks" / "theme" / f"{name}.ipynb"

    def write(self, name, *cells):
        """Write a chapter and return its path; a cell is a source, or its tags and its source."""
        made = []
        for number, cell in enumerate(cells):
            tags, source = cell if isinstance(cell, tuple) else ("", cell)
            made.append(
                {
                    "cell_type": "code",
                    "id": f"c{number}",
                    "metadata": {"tags": tags.split()} if tags else {},
                    "execution_count": None,
                    "outputs": [],
                    "source": source,
                }
            )
        title = {
            "cell_type": "markdown",
            "id": "title",
            "metadata": {},
            "source": f"# About {name}",
        }
        notebook = {"cells": [title, *made], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        self.notebook(name).write_text(json.dumps(notebook))
        return self.notebook(name)

    def chapter(self, name, *cells):
        """Write a chapter that ends by saving a record."""
        return self.write(name, *cells, SAVE.format(name=name))
