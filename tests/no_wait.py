"""Does a step wait for the host, and how many operators does it launch? Told on any machine.

A GPU works on while the host goes ahead, until the host asks for a value or hands one over. A step
that does so is slow, and it cannot be captured. A test takes what a chapter hands to
`labutils.training.train` and runs it here:

    import no_wait

    def test_a_step_never_waits(monkeypatch):
        handed = {}
        monkeypatch.setattr(chapter, "train", lambda *args, **options: handed.update(...))
        chapter.fit(...)  # on small data
        rows = [x[0] for x in handed["inputs"]]

        def step():
            handed["optimizer"].zero_grad()
            handed["step_loss"](*rows).backward()
            handed["optimizer"].step()

        no_wait.check(step)
        assert no_wait.operators(step).total() <= 400

Networks, data, generators and optimisers are real ones; nothing has to be converted. A step with
networks in half precision opens `torch.autocast("cpu", torch.bfloat16)` itself.
"""

import sys
from collections import Counter
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
from torch._subclasses import fake_tensor
from torch.utils._python_dispatch import TorchDispatchMode

from labutils.augment import weak

WAITS = (fake_tensor.DataDependentOutputException, fake_tensor.DynamicOutputShapeException)
PUTS = torch.ops.aten.index_put_, torch.ops.aten.index_put, torch.ops.aten._index_put_impl_
METHODS = ("cpu", "cuda", "numpy", "tolist")  # they wait, but fake tensors would not tell
# Operators that start nothing on a GPU, besides those whose results are views.
METADATA = (
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "_unsafe_view",
)


class WaitError(AssertionError):
    """A step asks the device for a value, or hands it one; the message says where."""


def check(step):
    """Run step() once as it is, for what is made only once, and once on fake tensors.

    Raises WaitError at `item`, `bool`, `float`, `nonzero`, a selection by a mask, an index that is
    a tensor without dimensions, `tolist`, `cpu`, a tensor made of Python's numbers, and a number
    assigned to places (`x[indices] = 1`). What the step changes, such as weights and gradients, is
    of no use afterwards.
    """
    with _as_on_a_gpu():
        step()
        with ExitStack() as stack:
            stack.enter_context(fake_tensor.FakeTensorMode(allow_non_fake_inputs=True))
            stack.enter_context(_Watch())
            for name in METHODS:
                stack.enter_context(mock.patch.object(torch.Tensor, name, _refused(name)))
            step()


def operators(step):
    """Operators that step() launches, a Counter by name; views and metadata are left out.

    step() runs twice on real tensors, and the second time counts.
    """
    with _as_on_a_gpu():
        step()
        with _Count() as mode:
            step()
    return mode.found


@contextmanager
def _as_on_a_gpu():
    with mock.patch.object(weak, "SELECTING", ()):
        yield


def _refused(name):
    def method(*_, **__):
        raise WaitError(f"the step waits for the host: {name}() at {_place()}")

    return method


class _Watch(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket is torch.ops.aten.lift_fresh:
            raise WaitError(f"the step copies Python's numbers to the device at {_place()}")
        if function.overloadpacket in PUTS and args[2].ndim == 0:
            raise WaitError(f"the step copies a number, index_fill_ does not, at {_place()}")
        try:
            return function(*args, **(kwargs or {}))
        except WAITS as error:
            raise WaitError(f"the step waits for the host: {function} at {_place()}") from error


class _Count(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        views = [r.alias_info and not r.alias_info.is_write for r in function._schema.returns]
        if name not in METADATA and not any(views):
            self.found[name] += 1
        return function(*args, **(kwargs or {}))


def _place():
    """File, line and function of the step's own code."""
    frame = sys._getframe()
    while frame and any(part in frame.f_code.co_filename for part in ("/torch/", __file__)):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}, in {frame.f_code.co_name}"
