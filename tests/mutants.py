"""Notebooks' cells with a plausible mistake in them, as modules that tests can be tried on."""

import sys
import types

import pytest

from press import notebooks

# How a test may fail on a mutant: its assertions, or that the mutant does not run.
CAUGHT = (
    pytest.fail.Exception, AssertionError, AttributeError, IndexError, KeyError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip


def source_of(slug, tags, imports=""):
    """The cells with these tags, and the imports that they need, as one text."""
    cells = notebooks.code_cells(notebooks.read(notebooks.path(slug)))
    return "\n\n".join([imports, *(c["source"] for _, c in cells if notebooks.tags(c) & {*tags})])


def module_with(source, right, wrong, mistake, given):
    """The text as a module, with what stands `given` in it and `wrong` in the place of `right`."""
    assert source.count(right) == 1, "the cell was rewritten: rewrite this mistake too"
    mutant = types.ModuleType("mutant")
    vars(mutant).update(given)
    sys.modules["mutant"] = mutant  # dataclasses look their module up
    exec(compile(source.replace(right, wrong), f"a notebook with {mistake}", "exec"), vars(mutant))
    mutant.made_of = source, right, wrong, mistake  # for tests that make it again, otherwise given
    return mutant
