"""The names and the call of version 0.1, for copies of its notebooks that readers have kept.

Importing it makes the former modules importable. It will be gone in version 0.3.
"""

import functools
import importlib
import itertools
import sys

import labutils
from labutils import evaluation, plots, training
from labutils.data import few_labels
from labutils.start import start as start_notebook

_FORMER = {
    "views": "augment.views",
    "randaugment": "augment.strong",
    "emoji": "data.emoji",
    "ledger": "statistics",
    "semisupervised": "training",
}
for _old, _new in _FORMER.items():
    _module = importlib.import_module(f"labutils.{_new}")
    sys.modules[f"labutils.{_old}"] = _module
    setattr(labutils, _old, _module)
training.accuracy, training.predict = evaluation.accuracy_of, evaluation.predict
training.few_labels = few_labels
training.MovingAverage.update = training.MovingAverage.update_parameters


class _Colours(dict):
    """A colour for each name, in the order in which they are asked for."""

    _next = itertools.cycle(["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"])

    def __missing__(self, name):
        return self.setdefault(name, next(self._next))


plots.COLOURS = _Colours()


def start(chapter, *, settings, profile="small", seeds=None):
    """`labutils.start.start` with settings by profile, {"smoke": {name: value}, ...}."""
    rows = {
        name: (*(settings[p][name] for p in labutils.PROFILES), "", "")
        for name in settings["small"]
    }
    lab = start_notebook(chapter, rows, profile=profile, seeds=seeds)
    lab.ledger.claim = functools.partial(lab.ledger.claim, source="ours")
    return lab
