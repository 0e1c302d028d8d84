"""Technique cells as modules, and tables of settings, without running a notebook."""

import inspect
import shutil
import sys
import traceback
from types import SimpleNamespace

import pytest

from press import notebooks, technique
from press.notebooks import NotebookError

TECHNIQUE = '''\
def scaled(x):
    """Scale."""
    return half(x) * factor + math.sqrt(4)


class Holder:
    size = 3
    twice = 2 * size'''


@pytest.fixture
def loaded(book):
    book.write(
        "01-a",
        "import math, os\nfrom labutils.helper import double as half, missing_later\nx = 1 / 0",
        ("technique", "factor = 10"),
        "raise RuntimeError('cells without the tag never run')",
        ("technique", TECHNIQUE),
    )
    helper = book.root / "labutils" / "helper.py"
    helper.write_text("double = lambda x: x / 2\n")
    return book


def load(book, name="01-a"):
    return technique.load(name, book.root)


def test_load_takes_technique_cells_and_their_imports_only(loaded, monkeypatch):
    source = loaded.notebook("01-a").read_text()
    loaded.notebook("01-a").write_text(source.replace("labutils.helper", "throwaway_helper"))
    shutil.copy(loaded.root / "labutils" / "helper.py", loaded.root / "throwaway_helper.py")
    monkeypatch.syspath_prepend(loaded.root)
    module = load(loaded)
    assert module.scaled(4) == 22
    assert module.Holder.twice == 6
    # `missing_later` and `os` are used by no technique cell; the first does not even exist
    assert not hasattr(module, "os")
    assert not hasattr(module, "x")


def test_variables_of_comprehensions_are_not_missing(book):
    """Python 3.12 lists them with the names of the cell."""
    book.write("01-a", ("technique", "squares = {k: [i * k for i in range(k)] for k in range(3)}"))
    assert load(book).squares[2] == [0, 2]


def test_load_shows_cell_source(book):
    technique = TECHNIQUE.replace("half(x)", "x / k")
    book.write("01-a", "import math", ("technique", "factor = k = 0"), ("technique", technique))
    module = load(book)
    assert inspect.getsource(module.scaled) == technique.partition("\n\n\n")[0] + "\n"
    assert inspect.getsource(module.Holder).startswith("class Holder:\n    size = 3")
    try:
        module.scaled(1)
    except ZeroDivisionError:
        text = traceback.format_exc()
    assert "return x / k * factor" in text
    assert "01-a.ipynb, cell 4" in text  # cell 1 is the title


def test_load_is_cached_by_content(book):
    book.write("01-a", ("technique", "value = [1]"))
    first = load(book)
    assert load(book) is first
    book.write("01-a", "print('another cell that is no technique')", ("technique", "value = [1]"))
    book.write("01-a", ("technique", "value = [2]"))
    assert load(book).value == [2]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([("technique", "def f():\n    return SETTINGS")], "01-a, cell 2 uses `SETTINGS`"),
        ([("technique", "x = undefined + 1")], "01-a, cell 2 uses `undefined`"),
        ([("check", "f = 1"), ("technique", "g = [f for _ in range(3)]")], "cell 3 uses `f`"),
        ([("technique", "1 / 0")], "01-a, cell 2: ZeroDivisionError"),
        ([("technique", "def f(:")], "01-a, cell 2 is not valid Python"),
        (["x = 1"], "01-a has no code cell with the tag `technique`"),
    ],
)
def test_load_refuses_with_chapter_and_cell(book, cells, message):
    book.write("01-a", *cells)
    before = sys.modules.get("notebook_01_a")
    with pytest.raises(NotebookError, match=message):
        load(book)
    assert sys.modules.get("notebook_01_a") is before


def test_tags_choose_cells_and_given_names_stand_in_for_what_is_run(book):
    book.write(
        "a",
        ("technique", "def half(x):\n    return x / 2"),
        ("experiment", "def run(x=S.size):\n    return half(x) + lab.rate"),
        "raise RuntimeError('cells without the tags never run')",
    )
    given = {"S": SimpleNamespace(size=4), "lab": SimpleNamespace(rate=10)}
    both = technique.load("a", book.root, tags=("technique", "experiment"), given=given)
    assert both.run() == 12
    with pytest.raises(NotebookError, match="a, cell 3 uses `S`"):
        technique.load("a", book.root, tags=("technique", "experiment"))
    with pytest.raises(NotebookError, match="no code cell with the tag `claims` or `check`"):
        technique.load("a", book.root, tags=("claims", "check"))


ROWS = """\
small = [1, 2]
SETTINGS = {"k": (small[:1], small, [3], "5", "why"), "num_seeds": (1, 2, 3, "", "")}
SETTINGS |= {"rate": (0.1, 0.2, 0.3, "", "")}
1 / 0
now = SETTINGS["absent"]
"""


def test_settings_are_the_column_of_a_profile_and_nothing_else_runs(book):
    book.write("a", "raise RuntimeError('not me')", ROWS)
    assert technique.settings("a", "smoke", book.root) == {"k": [1], "num_seeds": 1, "rate": 0.1}
    assert technique.settings("a", "full", book.root) == {"k": [3], "num_seeds": 3, "rate": 0.3}


def test_settings_of_a_lab_have_no_full_profile(book):
    book.write("a", 'SETTINGS = {"k": (1, 2, "5", "why")}')
    assert technique.settings("a", "small", book.root) == {"k": 2}
    with pytest.raises(NotebookError, match=r"a, cell 2: .* profile full .it has smoke, small"):
        technique.settings("a", "full", book.root)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("settings = {}", "a has no table SETTINGS"),
        ("SETTINGS = dict(k=size)", "a, cell 2: .*NameError: name 'size'"),
        ('SETTINGS = {"k": (1, 2)}', "expected rows .smoke, small, full, paper, why"),
        ('SETTINGS = {"k": (1, 2, "", ""), "l": (1, 2, 3, "", "")}', "expected rows"),
    ],
)
def test_settings_that_cannot_be_had_are_named(book, cell, message):
    book.write("a", cell)
    with pytest.raises(NotebookError, match=message):
        technique.settings("a", "smoke", book.root)


@pytest.mark.parametrize("slug", notebooks.chapters())
def test_every_profile_of_a_notebook_has_its_number_of_seeds(slug):
    assert technique.settings(slug, "smoke")["num_seeds"] >= 1
    assert technique.settings(slug, "small")["num_seeds"] >= 3
