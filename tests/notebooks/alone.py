"""A plugin of pytest: tests get the files that readers take home in place of the cells.

    PYTHONPATH=.:tests/notebooks python -m pytest -p alone tests/notebooks/choosing-data

A file's code finds no labutils and no press. Tests that need the experiment are skipped.
"""

import builtins
import sys
import tempfile
import types
from pathlib import Path

import pytest

from press import standalone, technique

REFUSED = ("labutils", "press")


def refuse(name, *rest):
    if name.partition(".")[0] in REFUSED:
        raise ModuleNotFoundError(f"No module named {name!r}: a technique file stands alone")
    return builtins.__import__(name, *rest)


def from_file(slug, root=None, tags=("technique",), given=None):
    """Like press.technique.load, but of the file; `given` is for cells that the file has not."""
    (file,) = standalone.write(Path(tempfile.mkdtemp()), root, [slug])
    module = types.ModuleType(file.stem)
    module.__file__ = str(file)
    vars(module)["__builtins__"] = vars(builtins) | {"__import__": refuse}
    sys.modules[file.stem] = module  # dataclasses look their module up
    exec(compile(file.read_text("utf-8"), file, "exec"), vars(module))

    def __getattr__(name):
        if name.startswith("__"):
            raise AttributeError(name)
        pytest.skip(f"{name} is not in the file")

    module.__getattr__ = __getattr__
    return module


def pytest_configure():
    technique.load = from_file
