"""A stand-in for a CUDA graph, on any machine: the operators of a step, done again without Python.

`record` stands for `labutils.capture._record`. Like a graph, it knows operators and where in memory
their operands lie, and nothing of what Python does beside them.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class ReplayError(AssertionError):
    """A replay leaves other numbers behind than the step: Python takes part in the step."""


class Tape(TorchDispatchMode):
    """Within, operators are recorded; `before` holds the memory that was there, and its content."""

    def __init__(self):
        super().__init__()
        self.calls, self.before, self.made = [], {}, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        for x in leaves((args, kwargs)):
            memory = memory_of(x)
            place = memory.data_ptr()
            if place not in self.before and place not in self.made:
                self.before[place] = memory, memory.clone()
        result = function(*args, **(kwargs or {}))
        self.made |= {memory_of(x).data_ptr() for x in leaves(result)}
        self.calls.append((function, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self):
        for function, args, kwargs, result in self.calls:
            outputs = function._schema.returns
            if not any(r.alias_info and not r.alias_info.is_write for r in outputs):  # no view
                new = function(*args, **kwargs)
                for old, value in zip(leaves(result), leaves(new), strict=True):
                    old.copy_(value)


def leaves(tree):
    return [x for x in tree_leaves(tree) if isinstance(x, torch.Tensor)]


def memory_of(x):
    return getattr(x, "inside", x).untyped_storage()  # see pretend_card


def record(step, stream, generators):
    """The replay of a step. Recording changes no value. Two replays are held against two steps.

    Raises ReplayError where they differ, in the weights, say, or in what the generators draw next.
    So at least two steps must be left.
    """
    tape = Tape()

    def state():
        drawn = [torch.get_rng_state(), *(g.get_state() for g in generators)]
        return [memory.clone() for memory, _ in tape.before.values()], drawn

    def restore(contents, drawn):
        for (memory, _), content in zip(tape.before.values(), contents, strict=True):
            memory.copy_(content)
        torch.set_rng_state(drawn[0])
        for generator, its in zip(generators, drawn[1:], strict=True):
            generator.set_state(its)

    def first():
        now, found = state(), []
        for run in (step, tape.replay):
            restore(*now)
            run()
            run()
            contents, drawn = state()
            found.append([torch.empty(0, dtype=torch.uint8).set_(c) for c in contents] + drawn)
        if not all(map(torch.equal, *found)):
            raise ReplayError("replays leave other numbers behind than steps do")
        restore(*now)
        tape.replay()

    _, drawn = state()
    with tape:
        step()
    restore([content for _, content in tape.before.values()], drawn)
    runs = iter([first])
    return lambda: next(runs, tape.replay)()
