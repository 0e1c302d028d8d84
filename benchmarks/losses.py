"""Contrastive losses by time and memory, beside lightly, open_clip and pytorch-metric-learning.

Each is computed forward and backward on the same random features, every time in a process of its
own with one thread, whose greatest resident memory the system reports. That counts everything:
Python, torch, the peer, the features and their gradients. Ours are the technique cells of the
chapters on CLIP (plain and chunked) and SimCLRv2. `limit` does nothing but the three matrix
products that any of them needs, in strips. What would not fit into the memory that is free is left
out.

Run ``python -m benchmarks.losses`` (or ``make bench``). It writes ``losses.json`` beside this file
and the table of the book page.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import sides
from press import technique

RESULT = Path(__file__).parent / "losses.json"
WIDTH, SCALE, TEMPERATURE, TARGET = 256, 1 / 0.07, 0.5, 0.25
FEWER = {8_000: 2, 20_000: 1}  # above so many rows of features, at most so many turns
STRIP = 512  # rows of the products of `limit`, as in the chunked loss
# loss: batches, sides beside `limit`. A batch of NT-Xent has two rows for each image.
CASES = {
    "CLIP": ((1_024, 16_384, 32_768), ("chunked", "plain", "open_clip")),
    "NT-Xent": ((256, 4_096), ("ours", "lightly", "pytorch-metric-learning")),
}
PACKAGE = {"open_clip": "open_clip", "lightly": "lightly",
           "pytorch-metric-learning": "pytorch_metric_learning"}  # fmt: skip


def open_clip_loss() -> Callable:
    from open_clip.loss import ClipLoss

    return ClipLoss()


def lightly_loss() -> Callable:
    from lightly.loss import NTXentLoss

    return NTXentLoss(TEMPERATURE)


def metric_learning_loss() -> Callable:
    from pytorch_metric_learning import losses

    return losses.SelfSupervisedLoss(losses.NTXentLoss(TEMPERATURE))


def of_scale(loss: Callable) -> Callable:
    scale = torch.tensor(SCALE, requires_grad=True)
    return lambda u, v: loss(u, v, scale)


def products(u: Tensor, v: Tensor) -> Tensor:
    """The products of logits and of both gradients, with no loss between them."""
    u, v = u.detach(), v.detach()
    other = torch.zeros_like(v)
    for strip in u.split(STRIP):
        logits = strip @ v.T
        mine = logits @ v
        other.addmm_(logits.T, strip)
    return (mine.sum() + other.sum()).requires_grad_()


def both(u: Tensor, v: Tensor) -> Tensor:
    z = torch.cat([u, v])
    return products(z, z)


SIDES = {
    ("CLIP", "plain"): lambda: of_scale(technique.load("clip").clip_loss),
    ("CLIP", "chunked"): lambda: of_scale(technique.load("clip").chunked_clip_loss),
    ("CLIP", "open_clip"): lambda: of_scale(open_clip_loss()),
    ("CLIP", "limit"): lambda: products,
    ("NT-Xent", "ours"): lambda: lambda u, v: technique_nt_xent()(u, v, TEMPERATURE),
    ("NT-Xent", "lightly"): lightly_loss,
    ("NT-Xent", "pytorch-metric-learning"): metric_learning_loss,
    ("NT-Xent", "limit"): lambda: both,
}


def technique_nt_xent() -> Callable:
    return technique.load("simclrv2").nt_xent_loss


def measure_here(name: str, side: str, batch: int) -> dict:
    """Loss, gradient norm, seconds, and peak memory in bytes of this process."""
    loss_of = SIDES[name, side]()
    generator = torch.Generator().manual_seed(0)

    def features(count: int) -> list[Tensor]:
        made = (torch.randn(count, WIDTH, generator=generator) for _ in range(2))
        return [F.normalize(x, dim=1).requires_grad_() for x in made]

    loss_of(*features(8)).backward()  # warm
    u, v = features(batch)
    started, times, took = sides.clock(), 0, 0.0
    while took < sides.AT_LEAST:
        u.grad = v.grad = None
        loss = loss_of(u, v)
        loss.backward()
        times += 1
        took = sides.clock() - started
    unit = 1 if sys.platform == "darwin" else 1024
    gradients = [x.grad for x in (u, v) if x.grad is not None]  # `limit` has none
    return {
        "loss": loss.item(),
        "gradient_norm": torch.cat(gradients).norm().item() if gradients else 0.0,
        "seconds": sides.rounded(took / times),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
    }


def measure_apart(name: str, side: str, batch: int) -> dict:
    """The same in a new process."""
    command = [sys.executable, "-m", "benchmarks.losses", "--point", name, side, str(batch)]
    done = subprocess.run(command, cwd=sides.ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{side}, batch {batch:,}, failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def needed(name: str, side: str, batch: int) -> float:
    """Bytes that a side is expected to need, from the tables that it keeps."""
    rows = 2 * batch if name == "NT-Xent" else batch
    if side in ("chunked", "limit"):
        return 4 * rows * (STRIP * 6 + WIDTH * 8)
    if side == "pytorch-metric-learning":  # a table of positive pairs and negative pairs
        return 4 * 3 * float(rows) ** 3
    return 4 * 5 * float(rows) ** 2


def measure(repetitions: int, cases: dict = CASES) -> dict:
    """{"runs": {loss: {batch: {side: [one run a turn], or None where it would not fit}}}}."""
    runs: dict = {}
    for name, (batches, compared) in cases.items():
        runs[name] = {}
        for batch in batches:
            rows = runs[name][str(batch)] = {}
            for side in (*compared, "limit"):
                if side in PACKAGE and not sides.installed(PACKAGE[side]):
                    continue
                fits = needed(name, side, batch) < 0.8 * psutil.virtual_memory().available
                rows[side] = [] if fits else None
            # one process after another, in turns; new ones need no warming up
            size = batch * (2 if name == "NT-Xent" else 1)
            fewer = [turns for most, turns in FEWER.items() if size > most]
            for _ in range(min([repetitions, *fewer])):
                for side, found in rows.items():
                    if found is not None:
                        found.append(measure_apart(name, side, batch))
            print(f"{name}, batch {batch:,}", flush=True)
    return {"width": WIDTH, "runs": runs}


def values(rows: dict, side: str, what: str) -> list[float] | None:
    return [run[what] for run in rows[side]] if rows.get(side) else None


def render(result: dict) -> str:
    """The tables of the book's page."""
    lines = []
    head = ["", "seconds", "ours / its seconds", "peak memory, GB", "its seconds / the products'"]
    for name, batches in result["runs"].items():
        ours = CASES[name][1][0]
        body = []
        for batch, rows in batches.items():
            for side, found in rows.items():
                if side == "limit":
                    continue
                label = f"{int(batch):,}: {side}"
                if not found:
                    body.append([label, "does not fit", "", "", ""])
                    continue
                took = values(rows, side, "seconds")
                digits = 3 if statistics.median(took) < 1 else 1
                peak = statistics.median(values(rows, side, "peak_bytes")) / 1e9
                behind = side != ours and sides.ratio(took, values(rows, ours, "seconds"))
                body.append([label, sides.spread(took, digits), behind or "", f"{peak:.2f}",
                             sides.ratio(took, values(rows, "limit", "seconds"))])  # fmt: skip
        lines += [*sides.table([f"{name}, batch", *head[1:]], body), ""]
    lines.append(
        f"Features of width {result['width']}, float32, forward and backward, one thread; two "
        "turns for more than 8,000 rows of features, one for more than 20,000. "
        + sides.origin(result)
    )
    return "\n".join(lines).replace("ours / its seconds", "its seconds / ours") + "\n"


if __name__ == "__main__":
    torch.set_num_threads(1)
    if "--point" in sys.argv[1:2]:
        print(json.dumps(measure_here(*sys.argv[2:4], int(sys.argv[4]))))
    else:
        peers = ("lightly", "open-clip-torch", "pytorch-metric-learning")
        sides.main("losses", measure, render, *peers, repetitions=3)
