"""Technique cells as modules, fingerprints, setup cells and the chapter contract."""

import ast
import inspect
import shutil
import subprocess
import sys
import traceback

import pytest

from press import notebooks, staleness, technique
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


def test_settings_are_those_of_the_table_and_nothing_else_runs(book):
    table = 'small = [1, 2]\nSETTINGS = {"smoke": {"k": small[:1]}, "full": {"k": small}}\n'
    book.write("01-a", "raise RuntimeError('not me')", table + "1 / 0\nnow = SETTINGS['absent']")
    assert technique.settings("01-a", "smoke", book.root) == {"k": [1]}
    assert technique.settings("01-a", "full", book.root) == {"k": [1, 2]}
    with pytest.raises(NotebookError, match="01-a, cell 3: .* profile small .KeyError: 'small'"):
        technique.settings("01-a", "small", book.root)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("settings = {}", "01-a has no table SETTINGS"),
        ("SETTINGS = dict(smoke=size)", "cell 2: SETTINGS .*NameError: name 'size'"),
    ],
)
def test_settings_that_cannot_be_had_are_named(book, cell, message):
    book.write("01-a", cell)
    with pytest.raises(NotebookError, match=message):
        technique.settings("01-a", "smoke", book.root)


@pytest.mark.parametrize("chapter", notebooks.chapters())
def test_every_profile_of_a_chapter_has_the_same_settings(chapter):
    smoke, small, full = (technique.settings(chapter, p) for p in ("smoke", "small", "full"))
    assert smoke.keys() == small.keys() == full.keys()
    assert smoke["num_seeds"] >= 1


def test_load_unknown_chapter_lists_the_valid_ones(book):
    book.write("01-a", "x = 1")
    book.write("02-b", "x = 1")
    with pytest.raises(NotebookError, match="unknown chapter '03-c'.*01-a, 02-b"):
        load(book, "03-c")


def test_damaged_notebook_is_named(book):
    book.notebook("01-a").write_text('{"cells": [')
    with pytest.raises(NotebookError, match="01-a.ipynb is not a Jupyter notebook"):
        load(book)


# --- fingerprint ---------------------------------------------------------------------------------

CODE = '''\
def f(x):
    """Say."""
    y = f"{x!r:>{10}} {'a'} {{}}"  # comment
    return [y,
            "text # no comment"]
'''


def fingerprint(book):
    return staleness.fingerprint("01-a", book.root)


@pytest.fixture
def printed(book):
    package = book.root / "labutils"
    (package / "helper.py").write_text("from . import deep\nfrom .plots import line\n" + CODE)
    (package / "deep.py").write_text("import labutils.deeper\n")
    (package / "deeper.py").write_text("z = 1\n")
    (package / "unused.py").write_text("z = 1\n")
    (package / "plots.py").write_text("from labutils import unused\n")
    book.write("01-a", ("setup", "install()"), "def g():\n    from labutils import helper", CODE)
    return book


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("labutils/helper.py", "# comment", "# other"),
        ("labutils/helper.py", '"""Say."""', '"""Say\n\n    more."""'),
        ("labutils/helper.py", "return [y,\n            ", "\n    return [y, "),
        ("labutils/helper.py", "    y =", "\n    # why\n    y ="),
        ("labutils/unused.py", "1", "2"),
        ("labutils/plots.py", "unused", "unused, deep"),
        ("labutils/__init__.py", "A labutils", "The labutils"),
        ("notebooks/01-a.ipynb", "install()", "install(2)"),
        ("notebooks/01-a.ipynb", "# About", "# All about"),
        ("notebooks/01-a.ipynb", '"outputs": []', '"outputs": [{"output_type": "x"}]'),
    ],
)
def test_fingerprint_ignores_what_cannot_change_results(printed, file, old, new):
    before = fingerprint(printed)
    edit(printed.root / file, old, new)
    assert fingerprint(printed) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("labutils/helper.py", "# no comment", "# still text"),
        ("labutils/helper.py", "{10}", "{11}"),
        ("labutils/helper.py", "{'a'}", "{'b'}"),
        ("labutils/helper.py", "    return", "    if x:\n        y = 1\n    return"),
        ("labutils/deep.py", "deeper", "deeper as d"),
        ("labutils/deeper.py", "1", "2"),
        ("notebooks/01-a.ipynb", "def g", "def h"),
    ],
)
def test_fingerprint_sees_code(printed, file, old, new):
    before = fingerprint(printed)
    edit(printed.root / file, old, new)
    assert fingerprint(printed) != before


def test_fingerprint_sees_indentation(book):
    book.write("01-a", "if a:\n    b\n    c")
    before = fingerprint(book)
    book.write("01-a", "if a:\n    b\nc")
    assert fingerprint(book) != before


def test_fingerprint_is_the_same_on_every_python(printed):
    # Computed on Python 3.11, 3.12 and 3.13; f-strings are tokenised differently since 3.12.
    assert fingerprint(printed) == "e4932c765a00e92f"


def test_fingerprint_without_source_is_none(book):
    assert staleness.fingerprint("09-none", book.root) is None


# --- setup cell ----------------------------------------------------------------------------------


def test_setup_cells_follow_the_address(book):
    book.write("01-a", ("setup", notebooks.setup_cell(book.root)), "x = 1")
    assert notebooks.rewrite_setup_cells(book.root) == []
    edit(book.root / "_config.yml", "example.org/book", "example.org/other")
    assert notebooks.rewrite_setup_cells(book.root) == ["01-a"]
    source = notebooks.read(book.notebook("01-a"))["cells"][1]["source"]
    assert "labutils @ git+https://example.org/other@main" in source
    assert source == notebooks.setup_cell(book.root)


def test_setup_cells_install_from_the_tag_that_the_pages_are_rendered_from(book):
    edit(book.root / "_config.yml", "branch: main", "branch: v1.2")
    assert "git+https://example.org/book@v1.2" in notebooks.setup_cell(book.root)


def test_setup_cell_installs_only_where_the_package_is_absent(book, monkeypatch):
    calls = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: calls.append(command))
    source = notebooks.setup_cell(book.root)
    exec(source, {})
    assert calls == []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.2+cu3")
    exec(source, {})
    (command,) = calls
    assert command[-1] == "labutils @ git+https://example.org/book@main"
    constraints = open(command[command.index("--constraint") + 1]).read().splitlines()
    assert constraints == ["torch==1.2+cu3", "torchvision==1.2+cu3", "numpy==1.2+cu3"]


def test_missing_address_is_named(book):
    (book.root / "_config.yml").write_text("title: x\n")
    with pytest.raises(NotebookError, match="_config.yml does not give the book's public address"):
        notebooks.setup_cell(book.root)


def test_light_imports():
    """The module works where torch, numpy and Jupyter are not installed."""
    code = (
        "import sys, labutils, press.notebooks, press.engine\n"
        "heavy = {'torch', 'numpy', 'papermill', 'nbformat', 'psutil', 'IPython', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ast.literal_eval(done.stdout) == []
