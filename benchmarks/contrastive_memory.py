"""Peak memory of the contrastive loss on one large batch: the chapter's plain and chunked loss.

Each is computed forward and backward on the same random features, every time in a process of its
own, whose greatest resident memory the system reports. That counts everything: Python, torch, the
features and their gradients. Both functions are the technique cells of the chapter on CLIP.

Run ``python -m benchmarks.contrastive_memory`` (or ``make bench``). It writes
``contrastive_memory.json`` beside this file and the table of the book page.
"""

from __future__ import annotations

import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch.nn import functional as F

from press import technique

HERE = Path(__file__).parent
RESULT = HERE / "contrastive_memory.json"
TABLE = HERE.parent / "book" / "generated" / "contrastive_memory.md"

CHAPTER, BATCH_SIZE, WIDTH, SCALE = "clip", 16_384, 512, 1 / 0.07
SIDES = {"plain": "clip_loss", "chunked": "chunked_clip_loss"}
REPETITIONS, TARGET = 3, 0.25


def measure(side: str, batch_size: int) -> dict:
    """Loss, gradient norm, seconds, and peak memory in bytes of this process."""
    loss_function = getattr(technique.load(CHAPTER), SIDES[side])
    generator = torch.Generator().manual_seed(0)
    image, text = (
        F.normalize(torch.randn(batch_size, WIDTH, generator=generator), dim=1).requires_grad_()
        for _ in range(2)
    )
    scale = torch.tensor(SCALE, requires_grad=True)
    started = time.perf_counter()
    loss = loss_function(image, text, scale)
    loss.backward()
    seconds = time.perf_counter() - started
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "loss": loss.item(),
        "gradient_norm": torch.cat([image.grad, text.grad]).norm().item(),
        "scale_gradient": scale.grad.item(),
        "seconds": seconds,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
    }


def measure_apart(side: str, batch_size: int = BATCH_SIZE) -> dict:
    """The same in a new process."""
    command = [sys.executable, "-m", "benchmarks.contrastive_memory", side, str(batch_size)]
    done = subprocess.run(command, cwd=HERE.parent, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def ratio(result: dict) -> float:
    """Median peak of the chunked loss over that of the plain loss."""
    chunked, plain = (
        statistics.median(run["peak_bytes"] for run in result["runs"][side])
        for side in ("chunked", "plain")
    )
    return chunked / plain


def table(result: dict) -> str:
    """The table of the book page, in Markdown."""
    lines = ["| loss | peak memory, GB (range) | seconds | value |", "|---|---:|---:|---:|"]
    for side, runs in result["runs"].items():
        peaks = [run["peak_bytes"] / 1e9 for run in runs]
        peak = f"{statistics.median(peaks):.2f} ({min(peaks):.2f} to {max(peaks):.2f})"
        seconds = statistics.median(run["seconds"] for run in runs)
        lines.append(f"| {side} | {peak} | {seconds:.1f} | {runs[0]['loss']:.6f} |")
    lines += [
        "",
        f"Batch of {result['batch_size']:,} pairs, width {result['width']}, float32, forward and "
        f"backward; the chunked loss needs {ratio(result):.3f} of the plain one's memory. Median "
        f"of {len(runs)} processes; {result['environment']}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, and store the result and its table; or one side, as named."""
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
        return
    runs = {side: [] for side in SIDES}
    for _ in range(REPETITIONS):
        for side in SIDES:
            runs[side].append(measure_apart(side))
    versions = f"torch {torch.__version__.split('+')[0]}, Python {platform.python_version()}"
    result = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "batch_size": BATCH_SIZE,
        "width": WIDTH,
        "environment": f"{platform.machine()}, one thread, {versions}",
        "runs": runs,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    TABLE.write_text(table(result), encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    main()
