"""One training loop for all notebooks, and its learning-rate schedule.

The notebook writes the loss of a step; the loop does what every run needs: schedule, progress bar,
checkpoints, a clock that leaves evaluation out, and a stop when the loss is no longer finite.
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic, perf_counter

import torch
from torch import Tensor, nn

from labutils import capture, checks, kept
from labutils.progress import log, progress_bar


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
    checks.fit("learning_rate >= 0.0, final >= 0.0", learning_rate, final)
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
    step_loss: Callable[..., Tensor],
    num_steps: int,
    optimizer: torch.optim.Optimizer,
    learning_rate: Callable[[int], float],
    *,
    inputs: Sequence = (),
    before: Callable[[int], None] | None = None,
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

    Step k takes row k of each of `inputs`, tensors (num_steps, ...) on the model's device:
    `step_loss(*rows)` returns its scalar loss. Without `inputs` it is step_loss(k). Autocast is on
    when precision is "auto" (CUDA only: bfloat16, or float16 with loss scaling on older cards).
    learning_rate(k) is set and before(k) called before step k. evaluate() runs, outside the clock
    and in evaluation mode, after as many steps as `evaluate_steps` says.

    On CUDA, steps with `inputs` are captured: three run as they are, the fourth is recorded, and
    the others replay what the device did, without Python. So such a step never waits for the host
    (no `item`, `if` on a tensor, selection by a mask, copy from the CPU), has the same shapes each
    time, and changes tensors in place; its generators are on the device and in `generators`. What
    `before` changes for it keeps its place in memory. Rates are tensors, of float32; SGD, Adam and
    AdamW become `fused`. What cannot be captured runs as it is, and the log says why.

    With `checkpoint`, the run is saved there every `checkpoint_seconds` and at its end, and goes on
    from there when the file exists. To end with the same numbers as a run without interruption,
    every source of randomness of step_loss must be in `generators`, and every other object that it
    changes (with state_dict and load_state_dict) in `state`.

    Raises NonFiniteLossError, CheckpointError, and ValueError for an unknown precision.
    """
    run = _Run(model, optimizer, num_steps, generators, state or {}, precision)
    if checkpoint is not None and checkpoint.exists():
        run.resume(checkpoint)
    step = capture.steps(run, step_loss, inputs or [range(num_steps)], learning_rate)
    bar = progress_bar(
        num_steps, description, initial=run.done, leave=False, disable=not description
    )
    model.train()
    run.clock, run.saved = perf_counter(), monotonic()
    while run.done < num_steps:
        if before is not None:
            before(run.done)
        step()
        run.done += 1
        look = evaluate if run.done in evaluate_steps else None
        run.after_step(learning_rate, look, checkpoint, checkpoint_seconds)
        bar.update()
    bar.close()
    return run.finish()


class _Run:
    """A run of `train`: its steps, its clock, its checkpoint."""

    def __init__(self, model, optimizer, num_steps, generators, state, precision):
        checks.fit("model, num_steps >= 0", model, num_steps)
        self.model, self.optimizer, self.generators = model, optimizer, generators
        self.num_steps, self.precision = num_steps, precision
        self.device = next(model.parameters()).device
        dtype = _autocast_dtype(self.device, precision)  # without cache, as a graph needs it
        mixed = partial(torch.autocast, self.device.type, dtype, cache_enabled=False)
        self.autocast = mixed if dtype else nullcontext
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=dtype is torch.float16)
        self.parts = {"model": model, "optimizer": optimizer, "scaler": self.scaler, **state}
        self.history = History(torch.zeros(num_steps, device=self.device))
        self.done = self.checked = 0
        self.check_every = 1 if self.device.type == "cpu" else 50  # reading a loss makes a GPU wait
        self.seconds, self.clock, self.saved = 0.0, perf_counter(), monotonic()

    def step(self, step_loss, inputs, learning_rate) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.done)
        rows = [x[self.done] for x in inputs]
        self.history.losses[self.done] = self.update(step_loss, rows)

    def update(self, step_loss, rows) -> Tensor:
        """Forward, backward and optimiser; returns the loss."""
        with self.autocast():
            loss = step_loss(*rows)
        checks.fit("loss float ()", loss)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()

    def after_step(self, learning_rate, evaluate, checkpoint, checkpoint_seconds) -> None:
        """What is due: a check of the losses, an evaluation, a checkpoint."""
        last = self.done == self.num_steps
        saving = checkpoint if last or monotonic() - self.saved >= checkpoint_seconds else None
        if evaluate or saving or last or self.done - self.checked >= self.check_every:
            self.check(learning_rate)
        if evaluate or saving:
            with self.pause():
                if evaluate:
                    self.model.eval()
                    self.history.seconds[self.done] = self.seconds
                    self.history.evaluations[self.done] = float(evaluate())
                    self.model.train()
                if saving:
                    self.save(saving)
                    self.saved = monotonic()

    def check(self, learning_rate) -> None:
        """Stop if a loss since the last check is not finite."""
        losses, start, self.checked = self.history.losses, self.checked, self.done
        finite = losses[start : self.done].isfinite()
        if finite.all():
            return
        step = start + int((~finite).nonzero()[0])
        earlier = f"{losses[step - 1].item():.4g}" if step else "none"
        group = self.optimizer.param_groups[0]
        settings = {k: v for k, v in group.items() if isinstance(v, (int, float)) and k != "lr"}
        raise NonFiniteLossError(
            f"the loss is {losses[step].item()} at step {step} of {self.num_steps} (loss before: "
            f"{earlier}; learning rate {learning_rate(step):.4g}; {type(self.optimizer).__name__} "
            f"with {settings}; precision {self.precision}). Lower the learning rate, lengthen the "
            "warm-up, or look for a division by zero or log of zero in the loss."
        )

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Stop the clock for a while."""
        torch.get_device_module(self.device).synchronize()  # of a CPU: nothing
        self.seconds += perf_counter() - self.clock
        yield
        self.clock = perf_counter()

    def finish(self) -> History:
        with self.pause():
            self.history.seconds.setdefault(self.num_steps, self.seconds)
            self.history.losses = self.history.losses.cpu()
        return self.history

    def save(self, path: Path) -> None:
        content = {
            "step": self.done,
            "num_steps": self.num_steps,
            "seconds": self.seconds,
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "generators": [g.get_state() for g in self.generators],
            "global_generator": torch.get_rng_state(),  # dropout draws from it
            "cuda_generators": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "losses": self.history.losses[: self.done].cpu(),
            "evaluations": self.history.evaluations,
            "evaluation_seconds": self.history.seconds,
        }
        kept.write(content, path)

    def resume(self, path: Path) -> None:
        advice = f"Delete {path} to train from the start."
        try:
            saved = kept.read(path)
            saved_run = saved["num_steps"], sorted(saved["parts"]), len(saved["generators"])
        except Exception as error:
            raise CheckpointError(
                f"{path} is not a readable checkpoint ({kept.reason(error)}). {advice}"
            ) from error
        this_run = self.num_steps, sorted(self.parts), len(self.generators)
        if saved_run != this_run:
            text = "{} steps with {} and {} generators"
            raise CheckpointError(
                f"{path} belongs to a run of {text.format(*saved_run)}; "
                f"this run has {text.format(*this_run)}. {advice}"
            )
        try:
            for name, part in self.parts.items():
                part.load_state_dict(saved["parts"][name])
            for generator, state in zip(self.generators, saved["generators"], strict=True):
                generator.set_state(state)
            torch.set_rng_state(saved["global_generator"])
            if saved["cuda_generators"]:
                torch.cuda.set_rng_state_all(saved["cuda_generators"])
            self.done = self.checked = saved["step"]
            self.seconds = saved["seconds"]
            self.history.losses[: self.done] = saved["losses"]
            self.history.evaluations.update(saved["evaluations"])
            self.history.seconds.update(saved["evaluation_seconds"])
        except Exception as error:
            raise CheckpointError(f"{path} does not fit this run ({error}). {advice}") from error
        log(f"resumed {path.stem} at step {self.done} of {self.num_steps}")


def _autocast_dtype(device: torch.device, precision: str) -> torch.dtype | None:
    if precision not in ("float32", "auto"):
        raise ValueError(f"unknown precision {precision!r}; choose one of: float32, auto")
    if precision == "float32" or device.type != "cuda":
        return None
    # bfloat16 needs no loss scaling; cards before Ampere only emulate it
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float16
