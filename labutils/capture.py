"""Training steps as one CUDA graph, and jobs that share a card: faster, with the same numbers.

The host cannot launch the operators of a small network fast enough; a replay is one launch.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial

import joblib
import torch
from torch import Tensor

from labutils.progress import log

DEVICES = ("cuda",)
WARM_UP = 3  # steps before the recording: they make what is made once, and the last is watched
WORTHWHILE = 20  # steps that must be left
CONTEXT = 600 * 2**20  # bytes that a process needs on a card before its first tensor
START = 15.0  # seconds until a process on a card is ready


def steps(run, step_loss: Callable, inputs: Sequence, rates: Callable) -> Callable[[], None]:
    """What does the next step of a run of `labutils.training.train` whenever it is called.

    Elsewhere than on CUDA that is run.step. For a replay, the device itself finds the number of the
    step, its rows of `inputs` and its rate.
    """
    if short := [len(x) for x in inputs if len(x) < run.num_steps]:
        raise ValueError(f"train expects inputs of {run.num_steps} rows, one a step, got {short}")
    plain = partial(run.step, step_loss, inputs, rates)
    if run.device.type not in DEVICES or run.num_steps - run.done < WORTHWHILE:
        return plain
    if reason := _obstacle(inputs, run.generators):
        _say(reason)
        return plain
    k = torch.tensor([run.done], device=run.device)
    values = torch.tensor([rates(j) for j in range(run.num_steps)], device=run.device)
    rate = values[run.done].clone()
    for group in run.optimizer.param_groups:  # as if it had been made so: others wait for a rate
        group.update(lr=rate, **{key: True for key in ("fused", "capturable") if key in group})
        run.optimizer._step_supports_amp_scaling = "fused" in group

    def step() -> None:
        rate.copy_(values.index_select(0, k)[0])
        loss = run.update(step_loss, [x.index_select(0, k)[0] for x in inputs])
        run.history.losses.index_copy_(0, k, loss.float().view(1))
        k.add_(1)

    return partial(next, _captured(step, plain, run))


def _captured(step: Callable, plain: Callable, run) -> Iterator[None]:
    """Do a step each time; from the recording on, `step` is not called, or `plain` is."""
    stream, waits = torch.cuda.Stream(run.device), []
    for _ in range(WARM_UP):
        waits = _watched(step, stream)
        yield
    do, states = plain, [g.get_state() for g in run.generators]
    if waits:
        _say(f"a step waits for the host at {waits[-1]}")
    else:
        try:
            do = _record(step, stream, run.generators)
        except RuntimeError as error:
            for generator, state in zip(run.generators, states, strict=True):
                generator.set_state(state)
            _say(str(error).partition("\n")[0])
    while True:
        do()
        yield


def _obstacle(inputs: Sequence, generators: Sequence[torch.Generator]) -> str:
    if not all(isinstance(x, Tensor) and x.device.type in DEVICES for x in inputs):
        return "step_loss is not given rows of tensors on the card, see `inputs` of train"
    if any(generator.device.type not in DEVICES for generator in generators):
        return "a generator is on the CPU"
    return ""


def _watched(step: Callable, stream: torch.cuda.Stream) -> list[str]:
    """Do the step on a side stream; where in the code it waited for the host."""
    mode = torch.cuda.get_sync_debug_mode()
    stream.wait_stream(torch.cuda.current_stream())
    with warnings.catch_warnings(record=True) as caught, torch.cuda.stream(stream):
        warnings.simplefilter("always")
        try:
            torch.cuda.set_sync_debug_mode("warn")  # which itself warns that it is a prototype
            step()
        finally:
            torch.cuda.set_sync_debug_mode(mode)
    torch.cuda.current_stream().wait_stream(stream)
    return [f"{w.filename}:{w.lineno}" for w in caught if "called a sync" in str(w.message)]


def _record(step: Callable, stream, generators: Sequence[torch.Generator]) -> Callable:
    """A function that replays the step; the step is not done here."""
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph, stream=stream):
        step()
    return graph.replay


@cache
def _say(reason: str) -> None:
    log(f"steps are not captured: {reason}")  # once, not for every run


def workers(device: torch.device, jobs: int, seconds: float) -> int:
    """How many processes share a card: as many as its memory holds, at most one per core.

    All need what this one did for a first job of so many seconds; one where others came too late.
    """
    need = torch.cuda.max_memory_reserved(device) + CONTEXT
    fitting = int(0.9 * torch.cuda.mem_get_info(device)[0]) // need
    number = max(1, min(jobs, fitting, joblib.cpu_count())) if jobs * seconds > 2 * START else 1
    os.environ["OMP_NUM_THREADS"] = str(max(1, joblib.cpu_count() // number))  # of each process
    return number
