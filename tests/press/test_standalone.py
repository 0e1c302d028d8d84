"""Techniques as files: what is in them, what is left out, and how they look."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from press import catalogue, notebooks, standalone
from press.__main__ import main
from press.notebooks import NotebookError

ROOT = Path(__file__).parents[2]
PAPERS = {paper.slug: paper for paper in catalogue.load(ROOT).notebooks}
MOST_LINES_OF_AN_EXAMPLE, MOST_LINES_OF_USE = 12, 7

CELLS = [
    "import math, os\nimport abc\nfrom labutils import helper\nx = 1 / 0",
    ("technique", '''\
import json

# Why ten.
FACTOR = 10


def scaled(x, strong):  # fmt: skip
    """Scale; equation {eq}`eq-a-two`. A second sentence.

    More.
    """
    return FACTOR * math.sqrt(x) + strong(x)'''),
    "from labutils.helper import strong",
    ("technique", '''\
def doubled(x):
    return helper.double(x)


def _hidden(x):
    return json.dumps(x)


def much(x):
    """Calls doubled."""
    return doubled(x)'''),
    ("technique check", "class Late:\n    def go(self):\n        import labutils.helper"),
]  # fmt: skip


def of(book, slug="a"):
    standalone.of.cache_clear()
    return standalone.of(slug, book.root)


def test_a_file_has_the_code_of_the_cells_and_the_imports_that_it_uses(book):
    book.write("a", *CELLS)
    assert (
        of(book).body
        == '''\
import json
import math


# Why ten.
FACTOR = 10


def scaled(x, strong):
    """Scale; equation (eq-a-two). A second sentence.

    More.
    """
    return FACTOR * math.sqrt(x) + strong(x)


def _hidden(x):
    return json.dumps(x)'''
    )


def test_what_uses_labutils_is_left_out_with_all_that_uses_it(book):
    book.write("a", *CELLS)
    assert of(book).left_out == ["Late", "doubled", "much"]
    assert of(book).defined == {
        "FACTOR": ("data", ""),
        "scaled": ("function", "Scale; equation (eq-a-two)."),
    }
    assert of(book).needs == []


def test_a_short_function_of_labutils_that_needs_nothing_else_there_comes_along(book):
    (book.root / "labutils" / "more.py").write_text("""\
import math
from labutils.helper import double

LIST = []


def root_of(x: int):
    return math.sqrt(x)


def kept(x):
    return LIST


def four(x):
    return double(x)
""")
    book.write(
        "a", "from labutils.more import root_of, kept, four",
        ("technique", "def f(x):\n    return root_of(x)\n\n\ndef g(x):\n    return kept(x)"),
        ("technique", "def h(x):\n    return four(x)"),
    )  # fmt: skip
    assert of(book).left_out == ["g", "h"]
    assert (
        of(book).body
        == """\
import math


# A helper of the book.
def root_of(x: int):
    return math.sqrt(x)


def f(x):
    return root_of(x)"""
    )
    assert list(of(book).defined) == ["f"]


def test_a_technique_of_which_nothing_stands_alone_is_refused(book):
    cell = ("technique", "from labutils import helper\n\n\ndef f(x):\n    return helper.double(x)")
    book.write("a", cell)
    with pytest.raises(NotebookError, match="a: every technique cell needs labutils"):
        of(book)


def test_imports_stand_in_groups_and_once(book):
    book.write(
        "a", "from os import path",
        ("technique", "import torch\nfrom torch import nn\nimport re"),
        ("technique", "import torch.nn.functional as F\nfrom torch import Tensor as T\n"
         "f = [F, T, nn, torch, re, path]"),
    )  # fmt: skip
    assert of(book).body.splitlines()[:6] == [
        "import re", "from os import path", "", "import torch", "import torch.nn.functional as F",
        "from torch import Tensor as T, nn",
    ]  # fmt: skip
    assert of(book).needs == ["torch"]


def test_the_example_is_what_the_file_does_when_it_is_run(book):
    book.write("a-b", ("technique", "import math\n\n\ndef half(x):\n    return math.sqrt(x) / 2"))
    examples = book.root / standalone.EXAMPLES
    examples.mkdir(parents=True)
    (examples / "a-b.py").write_text(
        "import math\nfrom a_b import half\n\nx = 4\n\nprint(half(x), math.pi)\n"
    )
    found = of(book, "a-b")
    assert found.use == "from a_b import half\n\nprint(half(x), math.pi)"
    assert standalone._main(found) == (
        '\n\nif __name__ == "__main__":\n    x = 4\n\n    print(half(x), math.pi)\n'
    )


def test_equations_have_the_numbers_of_the_page():
    cells = ["```{math}\n:label: eq-a-one\nx\n```\n", "$$\ny\n$$ (eq-a-two)\nsee {eq}`eq-a-two`"]
    notebook = {"cells": [{"cell_type": "markdown", "source": cell} for cell in cells]}
    numbers = standalone.equation_numbers(notebook)
    assert numbers == {"eq-a-one": 1, "eq-a-two": 2}
    assert standalone.shown("x  # {eq}`eq-a-two`", numbers) == "x  # (2)"


@pytest.mark.parametrize("slug", PAPERS)
def test_every_notebook_has_a_file_that_names_where_it_comes_from(slug):
    paper, found = PAPERS[slug], standalone.of(slug, ROOT)
    text = standalone.text(paper, ROOT)
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring.startswith(paper.heading)
    for part in (paper.cited, paper.link, f"{paper.docname}.html", f"#claims-of-{slug}"):
        assert part in docstring
    assert standalone.LICENCE in text
    assert not re.search(
        r"\{\w+\}`|# fmt:|# noqa|^(import|from) (labutils|press)", text, re.MULTILINE
    )
    assert standalone.tests(slug, ROOT)
    told = [*found.defined, *found.left_out, *re.findall(r"\b_\w+", text)]
    for _, cell in notebooks.code_cells(notebooks.read(notebooks.path(slug, ROOT))):
        if "technique" in notebooks.tags(cell):
            assert set(standalone.defined(cell["source"])) <= set(told)


@pytest.mark.parametrize("slug", PAPERS)
def test_an_example_is_short(slug):
    example = standalone.of(slug, ROOT).example
    assert example or PAPERS[slug].kind == "lab"
    assert len([line for line in example.splitlines() if line]) <= MOST_LINES_OF_AN_EXAMPLE
    assert len(standalone.of(slug, ROOT).use.splitlines()) <= MOST_LINES_OF_USE


def test_files_keep_the_style_of_the_book(tmp_path):
    files = standalone.write(tmp_path, ROOT)
    assert len(files) == len(PAPERS)
    ruff = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--line-length",
        "100",
        "--select",
        "E,F,I",
    ]
    done = subprocess.run([*ruff, *map(str, files)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_command_writes_the_files_that_it_is_asked_for(monkeypatch, tmp_path):
    written = []
    monkeypatch.setattr(
        standalone, "write", lambda folder, names: written.append((folder, names)) or []
    )
    assert CliRunner().invoke(main, ["technique", "rs2", "lls"]).exit_code == 0
    assert written == [(ROOT / "_build" / "technique", ("rs2", "lls"))]
