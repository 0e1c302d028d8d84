"""A record is stale when something that its numbers depend on changed, and only then."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from press import notebooks, staleness

ROOT = Path(__file__).parents[2]
CHAPTERS = {"clip", "fixmatch-saa", "lls", "rs2", "simclrv2"}
NAMED_SETS = CHAPTERS - {"clip"}  # they read Fashion-MNIST
TINY, VIEWS = {"fixmatch-saa", "lls", "rs2"}, {"clip", "simclrv2"}


# --- the book: which change is seen by which chapter ----------------------------------------------


class Copy:
    """A copy of the package and of the chapters' code, without outputs and with empty assets."""

    def __init__(self, root):
        self.root = root
        for file in ROOT.joinpath("labutils").rglob("*.py"):
            target = root / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
        (root / "labutils" / "assets").mkdir()
        for file in ROOT.joinpath("labutils", "assets").iterdir():
            (root / "labutils" / "assets" / file.name).write_text(file.name)
        for slug in CHAPTERS:
            notebook = notebooks.read(notebooks.path(slug, ROOT))
            for cell in notebook["cells"]:
                cell.update({"outputs": []} if "outputs" in cell else {})
            self.notebook(slug).parent.mkdir(parents=True, exist_ok=True)
            self.notebook(slug).write_text(json.dumps(notebook))
        self.before = self.fingerprints()

    def notebook(self, slug):
        return self.root / "notebooks" / notebooks.path(slug, ROOT).parent.name / f"{slug}.ipynb"

    def fingerprints(self):
        return {slug: staleness.fingerprint(slug, self.root) for slug in CHAPTERS}

    def stale_after(self, file, change):
        """The chapters that are stale after the text of a file has changed; the file is restored.

        A file is named within labutils, or by a chapter's slug, whose code cells change then.
        """
        path = self.notebook(file) if file in CHAPTERS else self.root / "labutils" / file
        text = path.read_text()
        if file in CHAPTERS:
            notebook, changed = json.loads(text), 0
            for cell in notebook["cells"]:
                if cell["cell_type"] == "code" and "setup" not in notebooks.tags(cell):
                    new = change(cell["source"])
                    changed += new != cell["source"]
                    cell["source"] = new
            new = json.dumps(notebook)
            assert changed, f"nothing to change in {file}: rewrite this case"
        else:
            new = change(text)
            assert new != text, f"nothing to change in {file}: rewrite this case"
            ast.parse(new) if path.suffix == ".py" else None
        path.write_text(new)
        try:
            after = self.fingerprints()
        finally:
            path.write_text(text)
        return {slug for slug in CHAPTERS if after[slug] != self.before[slug]}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return Copy(tmp_path_factory.mktemp("book"))


HARMLESS = {  # (file, old, new); an empty old: added at the end
    "wording of an error": ("training.py", "the loss is {", "the loss became {"),
    "condition of a guard": ("models.py", "if name not in MODELS:",
                             "if name not in MODELS or not name:"),
    "new guard": ("models.py", "    checks.fit(\"in_channels",
                  "    assert num_classes\n    if num_classes > 999:\n        raise ValueError(9)\n"
                  "    checks.fit(\"in_channels"),
    "what a check asks for": ("augment/weak.py", "padding >= 0, gen", "padding >= 1, gen"),
    "check that goes": ("evaluation.py", "    checks.fit(\"scores (N, C), labels int (N,)\", "
                        "scores, labels)\n", ""),
    "what checks do": ("checks.py", "sizes.setdefault(k, n)", "n"),
    "wording of an error of a value": ("models.py", "unknown model", "no such model"),
    "type hint": ("data/images.py", "name: str", "name: 'str'"),
    "type of a result": ("training.py", ") -> History:", ") -> 'History':"),
    "type of a field": ("start.py", "split: torch.Generator", "split: object"),
    "one more data set": ("data/images.py", "SOURCES = {", 'SOURCES = {\n    "stl10": None,'),
    "one more model": ("models.py", '    "cnn-tiny":', '    "mlp": TinyCNN,\n    "cnn-tiny":'),
    "column title of the claims": ("claims.py", '"whose":', '"who":'),
    "steps before a graph is recorded": ("capture.py", "WARM_UP = 3", "WARM_UP = 4"),
    "encoding of a kept result": ("kept.py", '["array", ', '["numpy", '),
    "level of the verdicts": ("statistics.py", "LEVEL = 0.05", "LEVEL = 0.01"),
    "colour of figures": ("plots.py", "#0072B2", "#0072B3"),
    "digits of a number in text": ("formats.py", ".1f", ".2f"),
    "seconds between lines of progress": ("progress.py", "mininterval=60", "mininterval=30"),
    "version of a release": ("__init__.py", '__version__ = "', '__version__ = "9'),
    "docstring": ("augment/weak.py", "Random crop after", "A random crop after"),
    "comment": ("augment/weak.py", "# Copying whole rows", "# Copying rows"),
    "new function": ("augment/views.py", "", "\n\ndef more(x):\n    return grey(x)\n"),
    "new class": ("models.py", "", "\n\nclass More(Classifier):\n    def more(self): ...\n"),
    "licence of an asset": ("assets/emoji-core.LICENSE.txt", "", "more"),
}  # fmt: skip

REAL = {  # the same, and who must see it
    "cosine uses pi/2": ("training.py", "math.pi * phase", "math.pi / 2 * phase",
                         CHAPTERS - {"fixmatch-saa"}),
    "wider cnn-tiny": ("models.py", "(in_channels, 32, 7", "(in_channels, 48, 7", TINY),
    "order of the jitter": ("augment/views.py", "draws[6:10].argsort(0)",
                            "draws[6:10].argsort(0, descending=True)", VIEWS),
    "default of the probe": ("evaluation.py", "strength: float = 1.0", "strength: float = 2.0",
                             {"simclrv2"}),
    "seed of the streams": ("start.py", "SeedSequence(seed)", "SeedSequence(seed + 1)", CHAPTERS),
    "default argument": ("augment/weak.py", "flip: bool = True", "flip: bool = False",
                         TINY | {"simclrv2"}),
    "method of a base class": ("models.py", "self.classifier(self.features(x))",
                               "self.classifier(2 * self.features(x))", NAMED_SETS),
    "method of a class": ("data/images.py", "self.labels.to(device)", "self.labels", NAMED_SETS),
    "decorator": ("models.py", "@torch.no_grad()\ndef initialise", "def initialise", CHAPTERS),
    "base class": ("models.py", "class TinyCNN(Classifier)", "class TinyCNN(nn.Module)", TINY),
    "constant of a function": ("augment/views.py", "(0.2989,", "(0.3,", VIEWS),
    "function inside a function": ("training.py", "(step + 1) / warmup", "step / warmup",
                                   CHAPTERS - {"fixmatch-saa"}),
    "comprehension": ("data/splits.py", "for c in labels.unique()]",
                      "for c in labels.unique().flip(0)]", NAMED_SETS),
    "re-export of another function": ("augment/__init__.py", " pad_crop_flip",
                                      " crop_flip as pad_crop_flip", TINY | {"simclrv2"}),
    "import of another module": ("augment/views.py", "import functional as F", "import init as F",
                                 VIEWS),
    "entry of a table": ("models.py", '"cnn-tiny": TinyCNN', '"cnn-tiny": ResNet', TINY),
    "operation of a table that is iterated": (
        "augment/strong.py", "RANGES = {", 'RANGES = {\n    "Invert": (0.0, 1.0),',
        {"fixmatch-saa", "simclrv2"}),
    "mean of a data set": ("data/images.py", "(0.2860,)", "(0.2861,)", NAMED_SETS),
    "code of a module that is imported": ("data/splits.py", "", "\ntorch.manual_seed(0)\n",
                                          CHAPTERS),
    "patch of another module": ("augment/views.py", "", "\nF.pad = None\n", VIEWS),
    "patch of another package": ("augment/strong.py", "", "\nimport numpy\nnumpy.e = 3\n",
                                 {"fixmatch-saa", "simclrv2"}),
    "entry that is added later": ("models.py", "", '\nMODELS["cnn-tiny"] = ResNet\n', CHAPTERS),
    "name that is bound again": ("models.py", "", "\nTinyCNN = ResNet\n", TINY),
    "confidence of a recorded interval": ("statistics.py", "confidence: float = 0.95",
                                          "confidence: float = 0.99", NAMED_SETS),
    "bytes of the mini set": ("assets/fashion-mnist-mini.npz", "", "more", NAMED_SETS),
    "bytes of emoji": ("assets/emoji-core.npz.xz", "", "more", {"clip"}),
    "bytes of a checkpoint": ("assets/simclr-fashion-mnist.npz", "", "more",
                              {"simclrv2", "lls"}),
    "code of a notebook": ("rs2", "batches_of(", "batches_off(", {"rs2"}),
    "string of a notebook": ("lls", '"ten"', '"nine"', {"lls"}),
}  # fmt: skip


def edit(old, new):
    return lambda text: text.replace(old, new) if old else text + new


# A notebook that calls `judge` itself, for a table of its own, depends on it.
JUDGES = {"level of the verdicts": {"fixmatch-saa"}}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_no_number_depends_on_leaves_all_chapters_fresh(copy, case):
    file, old, new = HARMLESS[case]
    assert copy.stale_after(file, edit(old, new)) == JUDGES.get(case, set())


@pytest.mark.parametrize("case", REAL)
def test_real_changes_are_seen_by_exactly_the_chapters_that_they_concern(copy, case):
    file, old, new, seen = REAL[case]
    assert copy.stale_after(file, edit(old, new)) == seen


def backwards(text):
    """A module with its functions and classes in reverse order."""
    body = ast.parse(text).body
    moved = [n for n in body if isinstance(n, ast.FunctionDef)]
    rest = [n for n in body if not isinstance(n, ast.FunctionDef)]
    return ast.unparse(ast.Module(rest + moved[::-1], []))


@pytest.mark.parametrize("file", ["evaluation.py", "augment/views.py", "data/splits.py"])
def test_the_order_of_definitions_does_not_count(copy, file):
    assert copy.stale_after(file, backwards) == set()


@pytest.mark.parametrize("file", ["training.py", "start.py", "data/emoji.py", *sorted(CHAPTERS)])
def test_layout_and_comments_do_not_count(copy, file):
    assert copy.stale_after(file, lambda text: ast.unparse(ast.parse(text))) == set()


# --- the language: throw-away packages ------------------------------------------------------------

PACKAGE = {
    "helper": """
import functools, json
from . import deep
from .deep import number as amount
from .progress import log
def f(x):
    from labutils.inner import value
    return x + amount + value()
def g(x):
    return deep.number * x
def quiet(name):
    log(name)
    raise ShapeError(f"wrong {name}")
class ShapeError(ValueError):
    pass
class Base:
    def run(self): return self.step()
class Child(Base):
    size = 3
    double: int = 2 * size
    def step(self): return g(self.size)
TABLE = {"one": 1, "two": f, "three-more": g}
def pick(name):
    return TABLE[name]
def known(name):
    return name in KEYS
KEYS = (*TABLE, "other")
def pick_short(name):
    return TABLE[name.removesuffix("-x")]
def every():
    return [value for value in TABLE.values()]
def lazy(x):
    import labutils.inner as i
    return i.value()
COUNT = 0
def bump():
    global COUNT
    COUNT += 1
""",
    "deep": "number = 1\nother = 2\nunused = 3\n",
    "inner": "def value():\n    return 1\n",
    "progress": "def log(text):\n    pass\n",
    "effects": "from labutils import deep\nREGISTRY = []\n",
    "registry": """
KNOWN = {}
def register(name):
    def keep(function):
        KNOWN[name] = function
        return function
    return keep
@register("a")
def a(): return 1
def unrelated(): return 1
""",
    "dynamic": "from . import helper\ndef find(name):\n    return globals()[name]\n",
    "plugins": """
KNOWN = {}
class Plugin:
    def __init_subclass__(cls): KNOWN[cls.__name__] = cls
class First(Plugin): rate = 1
""",
    "front/__init__": "from labutils.deep import number as first, other as second\n",
}
GUARDED = PACKAGE | {
    "checks": "def fit(*values):\n    pass\n",
    "guarded": """
import contextlib
from labutils import checks, deep
KNOWN = (1, 2)
def f(x, rows, y=None):
    # here
    return deep.number * x
def caught(x):
    try:
        # there
        return x
    except ValueError:
        return 0
def within(x):
    with contextlib.suppress(ValueError):
        # in with
        return x
    return 0
""",
}

# What stands in `guarded` at the place of a comment, and whether it counts.
GUARDS = {
    "if x > 2: raise ValueError('large')": False,
    "if x.shape[1] != 3 or len(x) < y: raise TypeError(f'not {x}')": False,
    "if x not in KNOWN: raise ValueError(x)": False,
    "if x in (1, 2): raise ValueError": False,
    "if not x.isfinite().all(): raise ValueError(x)": False,
    "if not isinstance(x, int | str): raise TypeError(x)": False,
    "assert x > 2": False,
    "assert x.is_floating_point(), x": False,
    "checks.fit('x (N, 3), y >= 0', x, y)": False,
    "checks.fit('rows', rows, y=x.shape[0])": False,
    "if x > 2: return 5": True,
    "if x > 2:\n        x += 1\n        raise ValueError": True,
    "if x > 2: raise ValueError\n    else: x = 2": True,
    "if x > 2: raise StopIteration": True,
    "if x > 2: raise KeyError(x)": True,
    "if x > 2: raise": True,
    "if (x := 2) > y: raise ValueError": True,
    "if next(rows): raise ValueError": True,
    "if rows.pop(): raise ValueError": True,
    "if x.add_(1).any(): raise ValueError": True,
    "if any(row for row in rows): raise ValueError": True,
    "if sum(rows) > 2: raise ValueError": True,
    "if x in rows: raise ValueError": True,
    "if rows[x]: raise ValueError": True,
    "if torch.rand(()).item() > 2: raise ValueError": True,
    "while x > 2: raise ValueError": True,
    "assert rows.pop()": True,
    "assert (x := 2)": True,
    "assert list(rows)": True,
    "checks.fit('rows', list(rows))": True,
    "checks.fit('rows', rows.pop())": True,
    "x = checks.fit('x', x)": True,
    "others.fit('x', x)": True,
    "x.fit('x', x)": True,
}


def digest(book, cells, package):
    for name, text in package.items():
        file = book.root / "labutils" / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    book.write("a", *cells)
    return staleness.fingerprint("a", book.root)


def changes(book, cell, module, old, new):
    """Whether the fingerprint of a notebook of one cell changes with a module (or that cell)."""
    assert old in PACKAGE.get(module, cell), "rewrite this case"
    before = digest(book, [cell], PACKAGE)
    if module is None:
        return digest(book, [cell.replace(old, new)], PACKAGE) != before
    return digest(book, [cell], PACKAGE | {module: PACKAGE[module].replace(old, new)}) != before


HELPER = "from labutils import helper\n"
SEEN = {
    "relative import of a module": (HELPER + "helper.g(1)", "deep", "number = 1", "number = 5"),
    "relative import of a name": (HELPER + "helper.f(1)", "deep", "number = 1", "number = 5"),
    "import inside a function": (HELPER + "helper.f(1)", "inner", "return 1", "return 2"),
    "module imported inside a function": (HELPER + "helper.lazy(1)", "inner", "1", "2"),
    "import in a function of the notebook": (
        "def h():\n    import labutils.helper as k\n    return k.g(1)", "deep", "r = 1", "r = 2"),
    "import of a dotted name": ("import labutils.deep\nlabutils.deep.number", "deep", "1", "5"),
    "two names swapped": (
        "from labutils import front\nfront.first - front.second", "front/__init__",
        "number as first, other as second", "number as second, other as first"),
    "alias of another name": (HELPER + "helper.f(1)", "helper", "number as amount",
                              "other as amount"),
    "inherited method": (HELPER + "helper.Child()", "helper", "self.step()", "2 * self.step()"),
    "function of a method": (HELPER + "helper.Child()", "deep", "number = 1", "number = 5"),
    "field of a class": (HELPER + "helper.Child()", "helper", "size = 3", "size = 4"),
    "annotation makes a field": (HELPER + "helper.Child()", "helper", "double: int =", "double ="),
    "named entry": (HELPER + "helper.pick('one')", "helper", '"one": 1', '"one": 2'),
    "function of a named entry": (HELPER + "helper.pick('two')", "inner", "1", "2"),
    "key from parts": (HELPER + "helper.pick(f'three-{x}')", "helper", 'more": g', 'more": f'),
    "key from a sum": (HELPER + "helper.pick('three-' + x)", "helper", 'more": g', 'more": f'),
    "edited key": (HELPER + "helper.pick_short('one-x')", "helper", '"one": 1', '"one": 2'),
    "table without a named key": (HELPER + "helper.pick(x)", "helper", '"one": 1', '"one": 2'),
    "key of a list of keys": (HELPER + "helper.known('one')", "helper", '"one": 1', '"one": 2'),
    "table that is iterated": (HELPER + "helper.every()", "helper", '"one": 1', '"one": 2'),
    "new key of an iterated table": (HELPER + "helper.every()", "helper", "TABLE = {",
                                     'TABLE = {"new": 0, '),
    "table handed around": (HELPER + "list(helper.TABLE)", "helper", '"one": 1', '"new": 2'),
    "getattr of a module": (HELPER + "getattr(helper, name)", "helper", "size = 3", "size = 4"),
    "module handed around": (HELPER + "run(helper)", "deep", "number = 1", "number = 5"),
    "vars of a module": (HELPER + "vars(helper)", "helper", "size = 3", "size = 4"),
    "star import": ("from labutils.helper import *\nf(1)", "helper", "size = 3", "size = 4"),
    "globals in the package": ("from labutils import dynamic\ndynamic.find('g')", "helper",
                               "size = 3", "size = 4"),
    "globals in the notebook": (HELPER + "globals()[name].g(1)", "helper", "size = 3", "size = 4"),
    "eval": (HELPER + "eval('helper.g')", "helper", "size = 3", "size = 4"),
    "import by a text": ("import importlib\nimportlib.import_module('labutils.deep')", "deep",
                         "number = 1", "number = 5"),
    "import by a function of another name": (
        "from importlib import import_module as load\nload(f'lab{x}')", "deep", "1", "5"),
    "import by a text that only begins like another package": (
        "import importlib\nimportlib.import_module(f'lab{x}')", "deep", "number = 1", "number = 5"),
    "modules of the interpreter": ("from sys import modules\nmodules[x].g(1)", "deep", "1", "5"),
    "function that is handed to another": (HELPER + "map(eval, texts)", "deep", "1", "5"),
    "name that is not there": (HELPER + "helper.later", "helper", "size = 3", "size = 4"),
    "cell that is no Python": ("%run x\n", "helper", "size = 3", "size = 4"),
    "state of a module": (HELPER + "helper.bump()", "helper", "COUNT = 0", "COUNT = 1"),
    "registered function": ("from labutils import registry", "registry", "a(): return 1",
                            "a(): return 2"),
    "registered class": ("from labutils.plugins import KNOWN", "plugins", "rate = 1", "rate = 2"),
    "effect of an import alone": ("import labutils.effects", "effects", "[]", "[deep.reset()]"),
    "patch in a module that is imported": ("import labutils.effects", "effects", "[]",
                                           "[]\ndeep.number = 7"),
    "function that a patch uses": ("import labutils.effects", "effects", "[]",
                                   "[]\ndeep.number = deep.unused"),
    "settings": ('SETTINGS = {"n": (1, 2, 3, "4", "why")}', None, "2, 3", "2, 4"),
    "text before the reason": ('SETTINGS = {"n": ("a", "b", "4", "why")}', None, '"b"', '"c"'),
    "condition of an error": ("if x > 2: raise ValueError('large')", None, "> 2", "> 3"),
    "kind of an error": ("raise ValueError('large')", None, "ValueError", "KeyError"),
    "value of an error": ("raise ValueError(code)", None, "code", "2"),
    "condition that is checked": ("assert next(rows), 'empty'", None, "rows", "others"),
    "what is printed": ("print('loss', step())", None, "step()", "other()"),
    "what is printed in a text": ("print(f'loss {step()}')", None, "step()", "other()"),
    "text of a function called log": ("def log(x): seen.append(x)\nlog('a')", None, "'a'", "'b'"),
    "text that is no message": ("x = 'a'", None, "'a'", "'b'"),
    "format of a text": ("x = f'{y:>{10}}'", None, "10", "11"),
    "indentation": ("if a:\n    b()\n    c()", None, "    c()", "c()"),
}  # fmt: skip

UNSEEN = {
    "what nothing uses": (HELPER + "helper.g(1)", "deep", "unused = 3", "unused = 4"),
    "entry that is not named": (HELPER + "helper.pick('one')", "inner", "1", "2"),
    "new key": (HELPER + "helper.pick('one')", "helper", "TABLE = {", 'TABLE = {"new": 0, '),
    "new key of a list of keys": (HELPER + "helper.known('one')", "helper", "TABLE = {",
                                  'TABLE = {"new": 0, '),
    "new key where keys are edited": (HELPER + "helper.pick_short('one-x')", "helper", "TABLE = {",
                                      'TABLE = {"new": 0, '),
    "text of an own error": (HELPER + "helper.quiet(1)", "helper", "wrong {", "bad {"),
    "reached code of presentation": (HELPER + "helper.quiet(1)", "progress", "pass", "print(text)"),
    "function beside a registered one": ("from labutils import registry", "registry",
                                         "unrelated(): return 1", "unrelated(): return 2"),
    "unused import": (HELPER + "helper.g(1)", "helper", "functools, json", "functools"),
    "import by a text of another package": (
        "import importlib\nimportlib.import_module(f'scipy.{x}')", "deep", "= 1", "= 5"),
    "method and text called eval": (
        HELPER + "model.eval()\nmodel.modules()\nplot(label='eval (mean)')", "helper",
        "size = 3", "size = 4"),
    "form of an import": (HELPER + "helper.g(1)", None, "from labutils import helper",
                          "import labutils.helper as helper"),
    "imports on one line": ("import a\nimport b", None, "a\nimport b", "a, b"),
    "message of a check": ("assert x, 'empty'", None, "'empty'", "f'{x} is empty'"),
    "cause of an error": ("raise ValueError() from error", None, " from error", " from None"),
    "comment": ("x = 1  # one", None, "# one", "# two"),
    "annotation of a variable": ("x: int = 1", None, "x: int", "x: float"),
    "future annotations": ("x = 1", None, "x = 1", "from __future__ import annotations\nx = 1"),
    "quotes": ("x = 'a' 'b'", None, "'a' 'b'", '"ab"'),
}  # fmt: skip


@pytest.mark.parametrize("case", SEEN)
def test_changes_are_seen(book, case):
    assert changes(book, *SEEN[case])


@pytest.mark.parametrize("case", UNSEEN)
def test_harmless_changes_are_not_seen(book, case):
    assert not changes(book, *UNSEEN[case])


CALLS = "from labutils import guarded\nguarded.f(1, [])\nguarded.caught(1)\nguarded.within(1)"


def guarded(book, guard, place="# here", cell=CALLS):
    """Whether a guard counts that stands in the package."""
    text = GUARDED["guarded"]
    assert place in text, "rewrite this case"
    before = digest(book, [cell], GUARDED)
    return digest(book, [cell], GUARDED | {"guarded": text.replace(place, guard)}) != before


@pytest.mark.parametrize("guard", GUARDS)
def test_what_only_refuses_does_not_count_in_the_package(book, guard):
    assert guarded(book, guard) == GUARDS[guard]


@pytest.mark.parametrize("guard", GUARDS)
def test_every_guard_of_a_notebook_counts(book, guard):
    cell = "from labutils import checks\ndef f(x, rows, y):\n    {}\n    return x"
    before = digest(book, [cell.format("")], GUARDED)
    assert digest(book, [cell.format(guard)], GUARDED) != before


REFUSES = "if x > 2: raise ValueError('large')"


@pytest.mark.parametrize("place", ["# there", "# in with"])
def test_a_guard_counts_where_it_may_be_caught(book, place):
    assert guarded(book, REFUSES, place)
    assert guarded(book, "checks.fit('x > 2', x)", place)


@pytest.mark.parametrize(
    "more",
    [
        "try:\n    go()\nexcept ValueError:\n    pass",
        "import contextlib\nwith contextlib.suppress(ValueError):\n    go()",
        "from contextlib import suppress as quietly\nwith quietly(ValueError):\n    go()",
        "class Quiet:\n    def __exit__(self, *_): return True",
    ],
)
def test_guards_count_for_a_notebook_that_catches_errors(book, more):
    assert guarded(book, REFUSES, cell=f"{CALLS}\n{more}")
    assert not guarded(book, REFUSES, cell=f"{CALLS}\ntry:\n    go()\nfinally:\n    stop()")


def test_the_condition_of_a_guard_that_does_not_count_is_not_followed(book):
    before = digest(book, [CALLS], GUARDED)
    guards = GUARDED["guarded"].replace("# here", "if x not in KNOWN: raise ValueError(x)")
    assert digest(book, [CALLS], GUARDED | {"guarded": guards}) == before
    longer = guards.replace("KNOWN = (1, 2)", "KNOWN = (1, 2, 3)")
    assert digest(book, [CALLS], GUARDED | {"guarded": longer}) == before


NO_REFUSAL = {"NotKept", "OSError", "EOFError", "error"}  # none of them is raised by a guard


def test_the_package_catches_no_guard_and_goes_on():
    """Else a guard could change a number, and would have to count."""
    found = []
    for file in sorted(ROOT.glob("labutils/**/*.py")):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        tree = ast.parse(file.read_text("utf-8"))
        for node in ast.walk(tree) if module not in staleness.NOT_COUNTED else ():
            kinds = []
            if isinstance(node, ast.ExceptHandler) and not isinstance(node.body[-1], ast.Raise):
                kinds = getattr(node.type, "elts", [node.type])
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
                kinds = node.args
            names = {ast.unparse(kind).rpartition(".")[2] if kind else "all" for kind in kinds}
            found += [f"{file.name}:{node.lineno} catches {names}"] if names - NO_REFUSAL else []
    assert not found


def test_setup_cell_prose_and_outputs_do_not_count(book):
    before = digest(book, [("setup", "install()"), "x = 1"], {})
    assert digest(book, [("setup", "install(2)"), "x = 1"], {}) == before
    text = book.notebook("a").read_text()
    output = '{"output_type": "stream", "name": "stdout", "text": "x"}'
    text = text.replace('"outputs": []', f'"outputs": [{output}]')
    book.notebook("a").write_text(text.replace("# About a", "# All about a"))
    assert staleness.fingerprint("a", book.root) == before


def test_parts_name_what_counts(book):
    book.write("a", "from labutils import helper\nhelper.f(1)")
    digest(book, ["from labutils import helper\nhelper.f(1)"], PACKAGE)
    assert set(staleness.fingerprint_parts("a", book.root)) == {
        "notebook", "labutils.helper.f", "labutils.helper.amount", "labutils.deep.number",
        "labutils.inner.value",
    }  # fmt: skip


def test_fingerprint_is_the_same_on_every_python(book):
    # Computed on Python 3.11, 3.12 and 3.13, whose f-strings differ in their syntax trees.
    cell = "x = f'{y!r:>{10}} {{}} {a:{b}.{c}}' 'd' f'{z=}'\n" + PACKAGE["helper"][1:].replace(
        "from .", "from labutils."
    )
    assert digest(book, [cell], PACKAGE) == "bc16a0a6c6387c31"


def test_all_chapters_take_less_than_a_second():
    """Processor time of a fresh process, so that other work on the machine does not count."""
    code = (
        "import sys, time; from press import staleness\nstart = time.process_time()\n"
        "for slug in sys.argv[1:]: assert staleness.fingerprint(slug)\n"
        "print(time.process_time() - start)"
    )
    command = [sys.executable, "-c", code, *sorted(CHAPTERS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert float(done.stdout) < 2  # on a busy machine; about 0.8 on a quiet one
