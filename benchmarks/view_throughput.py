"""Two views per image: our batched views against lightly's ``SimCLRTransform`` in a DataLoader.

Both sides make the same views in distribution from the same images with the same number of
channels, on one CPU core (one thread, no worker processes, pinned where the system can). Two cases:
the recipe of the chapter on SimCLRv2 (28 x 28 grey: crop, mirror, brightness and contrast), and the
paper's full recipe on 32 x 32 colour images (also saturation, hue, grey and blur).

Run ``python -m benchmarks.view_throughput`` (or ``make bench``) on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import torch
from lightly.transforms import SimCLRTransform
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.training_throughput import environment, interleave, interval
from labutils import data
from labutils.augment import views

HERE = Path(__file__).parent
RESULT = HERE / "view_throughput.json"
GENERATED = HERE.parent / "book" / "generated"
BATCH_SIZE = 256
REPETITIONS = 9
CASES = {
    "grey, 28 x 28, crop, mirror, brightness, contrast": (
        views.Recipe(scale=(0.2, 1.0), strength=0.5, grey_probability=0.0, blur_probability=0.0),
        {"min_scale": 0.2, "cj_strength": 0.5, "random_gray_scale": 0.0, "gaussian_blur": 0.0},
    ),
    "colour, 32 x 32, all operations": (views.Recipe(), {}),
}


class PerImage(Dataset):
    """One PIL image, transformed twice by lightly, per index."""

    def __init__(self, images: Tensor, options: dict):
        self.images = images
        self.transform = SimCLRTransform(input_size=images.shape[-1], normalize=None, **options)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> list[Tensor]:
        image = self.images[index]
        picture = image[0] if len(image) == 1 else image.permute(1, 2, 0)
        return self.transform(Image.fromarray(picture.numpy()))


def pictures(case: str) -> Tensor:
    """uint8 images of a case: Fashion-MNIST, or three of its images as the channels of one."""
    images = data.load("fashion-mnist-mini", num_validation=0, generator=torch.Generator()).train
    if case.startswith("grey"):
        return images.images
    colour = torch.cat([images.images, images.images.roll(1, 0), images.images.roll(2, 0)], 1)
    return torch.nn.functional.pad(colour, (2, 2, 2, 2))


def batched(images: Tensor, recipe: views.Recipe, generator: torch.Generator) -> Callable:
    """Ours: call it for the next batch of two views, each (BATCH_SIZE, C, H, W) in 0..1."""

    def next_batch() -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(images), (BATCH_SIZE,), generator=generator)
        return views.two_views(images.index_select(0, chosen), recipe, generator)

    return next_batch


def loader(images: Tensor, options: dict) -> DataLoader:
    """The peer: no worker processes, because there is one core for everything."""
    return DataLoader(PerImage(images, options), BATCH_SIZE, shuffle=True, drop_last=True)


def speed(next_batch: Callable, num_batches: int) -> float:
    """Images per second, each with two views."""
    start = time.perf_counter()
    for _ in range(num_batches):
        next_batch()
    return num_batches * BATCH_SIZE / (time.perf_counter() - start)


def measure(repetitions: int) -> dict:
    torch.set_num_threads(1)
    result = {
        "schema": 1,
        "finished": None,
        "environment": environment() | {"lightly": metadata.version("lightly")},
        "settings": {"batch_size": BATCH_SIZE, "repetitions": repetitions},
        "cases": {},
    }
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    for case, (recipe, options) in CASES.items():
        images = pictures(case)
        ours = batched(images, recipe, torch.Generator().manual_seed(0))
        peer = loader(images, options)
        result["cases"][case] = interleave(
            lambda ours=ours: speed(ours, 20),
            lambda peer=peer: speed(iter(peer).__next__, 2),
            repetitions,
        )
        print(case, json.dumps(result["cases"][case]), flush=True)
    result["finished"] = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return result


def render(result: dict) -> str:
    """The table of the book's page, from the JSON."""
    env, settings = result["environment"], result["settings"]
    lines = [
        "| two views of | ours, images/s | lightly in a `DataLoader`, images/s | ratio |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {case} | {interval(row['ours'])} | {interval(row['peer'])} "
        f"| **{interval(row['ratio'], 1)}** |"
        for case, row in result["cases"].items()
    ]
    load = f"; load average before the run {env['load_before'][0]}" if env["load_before"] else ""
    lines += [
        "",
        f"Median and range of {settings['repetitions']} interleaved repetitions, batch size "
        f"{settings['batch_size']}, one core of {env['cpu']} ({env['platform']}), Python "
        f"{env['python']}, torch {env['torch']}, torchvision {env['torchvision']}, lightly "
        f"{env['lightly']}, measured {result['finished'][:10]}{load}. An image counts once, with "
        "both of its views.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure two-view throughput side by side.")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--page", action="store_true", help="only redraw the page from the JSON")
    parser.add_argument("--dry-run", action="store_true", help="print, write nothing")
    arguments = parser.parse_args()
    result = json.loads(RESULT.read_text()) if arguments.page else measure(arguments.repetitions)
    if arguments.dry_run:
        return
    RESULT.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    GENERATED.mkdir(parents=True, exist_ok=True)
    (GENERATED / "view_throughput.md").write_text(render(result))


if __name__ == "__main__":
    main()
