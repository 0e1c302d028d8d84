"""One training loop for all chapters, its learning-rate schedule, and evaluation of classifiers.

The chapter writes the loss of a step; the loop does what every run needs: schedule, progress bar,
checkpoints, a clock that leaves evaluation out, and a stop when the loss is no longer finite.
"""

import contextlib
import math
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, perf_counter

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from labutils.progress import log, progress_bar

PRECISIONS = ("float32", "auto")


class NonFiniteLossError(FloatingPointError):
    """The loss became NaN or infinite; the message names the step and the settings."""


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be continued from; the message says why and what to do."""


@dataclass
class History:
    """What a run leaves behind.

    losses: float32 (num_steps,), on the CPU. evaluations: step -> what `evaluate` returned after
    that many steps. seconds: step -> training seconds until then, without evaluation.
    """

    losses: Tensor
    evaluations: dict[int, float] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)


def cosine_schedule(
    learning_rate: float, num_steps: int, *, final: float = 0.0, warmup_steps: int = 0
) -> Callable[[int], float]:
    """Learning rate of step k: linear warm-up, then half a cosine from `learning_rate` to `final`.

    eta(k) = final + (learning_rate - final) (1 + cos(pi k / K)) / 2 with k counted from the end of
    the warm-up and K = num_steps - warmup_steps (Loshchilov & Hutter 2017, equation 5, one cycle).
    """
    if not 0 <= warmup_steps < num_steps:
        raise ValueError(f"need 0 <= warmup_steps < num_steps, got {warmup_steps} and {num_steps}")

    def schedule(step: int) -> float:
        if step < warmup_steps:
            return learning_rate * (step + 1) / warmup_steps
        phase = (step - warmup_steps) / (num_steps - warmup_steps)
        return final + (learning_rate - final) * (1 + math.cos(math.pi * phase)) / 2

    return schedule


def train(
    model: nn.Module,
    step_loss: Callable[[int], Tensor],
    num_steps: int,
    optimizer: torch.optim.Optimizer,
    learning_rate: Callable[[int], float],
    *,
    evaluate: Callable[[], float] | None = None,
    evaluate_steps: Collection[int] = (),
    generators: Sequence[torch.Generator] = (),
    state: dict | None = None,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 30.0,
    precision: str = "float32",
    description: str = "",
) -> History:
    """Minimise `step_loss` for `num_steps` steps and return the History.

    step_loss(k) returns the scalar loss of step k; autocast is already on when precision is "auto"
    (CUDA only: bfloat16, or float16 with loss scaling on older cards). learning_rate(k) is set
    before step k. evaluate() runs, outside the clock and in evaluation mode, after as many steps as
    `evaluate_steps` says.

    With `checkpoint`, the run is saved there every `checkpoint_seconds` and at its end, and goes on
    from there when the file exists. To end with the same numbers as a run without interruption,
    every source of randomness of step_loss must be in `generators`, and every other object that it
    changes (with state_dict and load_state_dict) in `state`.

    Raises NonFiniteLossError, CheckpointError, and ValueError for an unknown precision.
    """
    device = next(model.parameters()).device
    dtype = _autocast_dtype(device, precision)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)
    parts = {"model": model, "optimizer": optimizer, "scaler": scaler, **(state or {})}
    losses = torch.zeros(num_steps, device=device)
    history = History(losses)
    first, seconds = 0, 0.0
    if checkpoint is not None and Path(checkpoint).exists():
        first, seconds = _resume(checkpoint, parts, generators, history, num_steps)

    check_every = 1 if device.type == "cpu" else 50  # reading a loss makes a GPU wait
    checked, saved, clock = first, monotonic(), perf_counter()
    bar = progress_bar(num_steps, description, initial=first, leave=False) if description else None
    model.train()
    for step in range(first, num_steps):
        rate = learning_rate(step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(device.type, dtype) if dtype else contextlib.nullcontext():
            loss = step_loss(step)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses[step] = loss.detach()

        done = step + 1
        evaluating = evaluate is not None and done in evaluate_steps
        saving = checkpoint is not None and (
            done == num_steps or monotonic() - saved >= checkpoint_seconds
        )
        if evaluating or saving or done - checked >= check_every or done == num_steps:
            _check_finite(losses, checked, done, num_steps, optimizer, learning_rate, precision)
            checked = done
        if evaluating or saving:
            seconds += _stop_clock(device, clock)
            if evaluating:
                model.eval()
                history.seconds[done] = seconds
                history.evaluations[done] = float(evaluate())
                model.train()
            if saving:
                _save(checkpoint, parts, generators, history, done, num_steps, seconds)
                saved = monotonic()
            clock = perf_counter()
        if bar is not None:
            bar.update()
    seconds += _stop_clock(device, clock) if first < num_steps else 0.0
    history.seconds.setdefault(num_steps, seconds)
    history.losses = losses.cpu()
    if bar is not None:
        bar.close()
    return history


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of a network's weights; ``.module`` is the averaged network.

    After `.update_parameters(network)` number t = 1, 2, ... with weights w_t the average is
    m_t = d_t m_(t-1) + (1 - d_t) w_t with d_t = min(1 - 1/t, decay): the plain mean of all weights
    so far, until that mean would be longer than the decay says. (The rule of the official code of
    sample adaptive augmentation; with d_t = decay from the start, the initial weights would stay in
    the average.) Buffers, such as the statistics of batch normalisation, are copied: averaged
    variances would belong to none of the networks. Raises ValueError for a decay outside 0 <= d < 1.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"moving_average expects a decay in 0 <= decay < 1, got {decay}")

    @torch.no_grad()
    def average(kept, current, num_averaged):
        t = int(num_averaged) + 1
        torch._foreach_lerp_(kept, current, 1 - min(1 - 1 / t, decay))

    model = AveragedModel(network, multi_avg_fn=average)
    model.n_averaged = model.n_averaged.cpu()  # reading it must not make a GPU wait
    return model.requires_grad_(False).eval()


def _autocast_dtype(device: torch.device, precision: str) -> torch.dtype | None:
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; choose one of: {', '.join(PRECISIONS)}")
    if precision == "float32" or device.type != "cuda":
        return None
    # bfloat16 needs no loss scaling; cards before Ampere only emulate it
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float16


def _stop_clock(device: torch.device, started: float) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return perf_counter() - started


def _check_finite(losses, start, stop, num_steps, optimizer, learning_rate, precision) -> None:
    finite = losses[start:stop].isfinite()
    if finite.all():
        return
    step = start + int((~finite).nonzero()[0])
    earlier = f"{losses[step - 1].item():.4g}" if step else "none"
    group = optimizer.param_groups[0]
    settings = {k: v for k, v in group.items() if isinstance(v, (int, float)) and k != "lr"}
    raise NonFiniteLossError(
        f"the loss is {losses[step].item()} at step {step} of {num_steps} (loss before: {earlier}; "
        f"learning rate {learning_rate(step):.4g}; {type(optimizer).__name__} with {settings}; "
        f"precision {precision}). Lower the learning rate, lengthen the warm-up, or look for a "
        f"division by zero or log of zero in the loss."
    )


def _save(path, parts, generators, history, step, num_steps, seconds) -> None:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "step": step,
        "num_steps": num_steps,
        "seconds": seconds,
        "parts": {name: part.state_dict() for name, part in parts.items()},
        "generators": [g.get_state() for g in generators],
        "global_generator": torch.get_rng_state(),  # dropout draws from it
        "cuda_generators": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "losses": history.losses[:step].cpu(),
        "evaluations": history.evaluations,
        "evaluation_seconds": history.seconds,
    }
    scratch = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    torch.save(content, scratch)
    os.replace(scratch, path)  # a kill leaves the earlier checkpoint whole


def _resume(path, parts, generators, history, num_steps) -> tuple[int, float]:
    advice = f"Delete {path} to train from the start."
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        saved_run = content["num_steps"], sorted(content["parts"]), len(content["generators"])
    except Exception as error:
        raise CheckpointError(f"{path} is not a readable checkpoint ({error}). {advice}") from error
    this_run = num_steps, sorted(parts), len(generators)
    if saved_run != this_run:
        text = "{} steps with {} and {} generators"
        raise CheckpointError(
            f"{path} belongs to a run of {text.format(*saved_run)}; "
            f"this run has {text.format(*this_run)}. {advice}"
        )
    try:
        for name, part in parts.items():
            part.load_state_dict(content["parts"][name])
    except (KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} does not fit this run ({error}). {advice}") from error
    for generator, saved in zip(generators, content["generators"], strict=True):
        generator.set_state(saved)
    torch.set_rng_state(content["global_generator"])
    if content["cuda_generators"]:
        torch.cuda.set_rng_state_all(content["cuda_generators"])
    history.losses[: content["step"]] = content["losses"]
    history.evaluations.update(content["evaluations"])
    history.seconds.update(content["evaluation_seconds"])
    log(f"resumed {Path(path).stem} at step {content['step']} of {num_steps}")
    return content["step"], content["seconds"]
