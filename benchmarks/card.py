"""What the measurements on a card share: their command line, their files, their device and date."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch

from labutils.training import train
from press.engine import package_digest

ROOT = Path(__file__).resolve().parents[1]
RATE = 0.01  # of learning


def clock(device: torch.device) -> float:
    """Seconds, when everything that a GPU was asked to do is finished."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds(step: Callable, device: torch.device, steps: int) -> float:
    """Mean seconds of a step."""
    started = clock(device)
    for _ in range(steps):
        step()
    return (clock(device) - started) / steps


def trained(network, optimizer, loss_of: Callable, inputs: tuple, draws: torch.Generator) -> float:
    """Seconds of a step of `training.train`, from the second half of the steps.

    loss_of gets the rows of a step out of inputs, tensors (steps, ...).
    """
    device, steps = inputs[0].device, len(inputs[0])
    history = train(
        network, loss_of, steps, optimizer, lambda k: RATE, inputs=inputs,
        evaluate=lambda: clock(device), evaluate_steps=(steps // 2, steps), generators=[draws],
        precision="auto" if device.type == "cuda" else "float32",
    )  # fmt: skip
    taken = history.evaluations[steps] - history.evaluations[steps // 2]
    return taken / (steps - steps // 2)


def pictures(device: torch.device, number: int) -> tuple[torch.Tensor, torch.Generator]:
    """Random colour images, uint8 (number, 3, 32, 32), and the generator of indices."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (number, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return images.to(device), generator


def origin(result: dict) -> str:
    """Where and when a result was measured, a paragraph of Markdown."""
    if not result["device"]:
        return "No card has measured this yet: `make gpu` does."
    note = f" {result['note']}" if result["note"] else ""
    return f"Measured on {result['device']}, torch {result['torch']}, {result['date']}.{note}"


def main(name: str, measure: Callable, render: Callable) -> None:
    """Run the command line of a measurement; write its JSON and the table of its page.

    measure(device, smoke) returns what is special of the result, a dict. render(result) returns
    Markdown.
    """
    parser = argparse.ArgumentParser(description=f"Measure {name} on a GPU.")
    parser.add_argument("--output", type=Path, default=ROOT, help="where the book's files go")
    parser.add_argument("--smoke", action="store_true", help="in seconds, on a CPU as well")
    parser.add_argument("--page", action="store_true", help="only write the table anew")
    arguments = parser.parse_args()
    file = arguments.output / "benchmarks" / f"{name}.json"
    page = arguments.output / "book" / "generated" / f"{name}.md"
    cuda = torch.cuda.is_available()
    if arguments.page:
        result = json.loads(file.read_text("utf-8"))
    elif not cuda and not arguments.smoke:
        sys.exit("This benchmark is about GPUs, and torch sees none here.")
    else:
        result = {
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "device": torch.cuda.get_device_name() if cuda else "a CPU",
            "torch": torch.__version__,
            "code": package_digest(ROOT),
            "note": "Sizes are tiny: this was a trial." if arguments.smoke else "",
            **measure(torch.device("cuda" if cuda else "cpu"), arguments.smoke),
        }
        print(render(result))
    for path, text in ((file, json.dumps(result, indent=1) + "\n"), (page, render(result))):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
