"""Strong augmentation of whole batches against torchvision's, one image at a time.

Both sides apply three operations of the same pool of 14 and then cutout, to the same batches, on
one core with one thread. Theirs is `torchvision.transforms.RandAugment` on PIL images with a
rectangle painted by PIL, and the conversion from and to tensors, which a training loop needs; no
worker processes. Sides are measured in turns.

Run ``python -m benchmarks.strong_augmentation`` (or ``make bench``) on a quiet machine. It writes
``strong_augmentation.json`` beside this file and the table of the book page.
"""

from __future__ import annotations

import json
import platform
import random
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torchvision import transforms
from torchvision.transforms import functional

from labutils import data
from labutils.augment import strong

HERE = Path(__file__).parent
RESULT = HERE / "strong_augmentation.json"
TABLE = HERE.parent / "book" / "generated" / "strong_augmentation.md"

BATCH_SIZE, REPETITIONS, TARGET = 448, 9, 15.0
IMAGES = {"grey, 28 x 28": 1, "colour, 28 x 28": 3}


def batch(channels: int) -> torch.Tensor:
    """Real images, uint8 (448, channels, 28, 28); in colour, three images as the channels."""
    generator = torch.Generator().manual_seed(0)
    dataset = data.load("fashion-mnist-mini", num_validation=0, generator=generator)
    images = torch.cat([dataset.train.images, dataset.test.images])
    return images[: BATCH_SIZE * channels].reshape(BATCH_SIZE, channels, 28, 28).contiguous()


def cutout(image: Image.Image) -> Image.Image:
    """A square with a side of up to half the width anywhere, in PIL."""
    width, height = image.size
    side = random.uniform(0, 0.5) * width
    left, top = (int(max(0, random.uniform(0, size) - side / 2)) for size in (width, height))
    corners = (left, top, min(width, left + side), min(height, top + side))
    colour = strong.CUTOUT_COLOUR if image.mode == "RGB" else 123
    ImageDraw.Draw(image).rectangle(corners, colour)
    return image


def per_image(arrays: np.ndarray) -> torch.Tensor:
    """As data sets and loaders of torchvision do: PIL image, RandAugment, cutout, tensor."""
    augment, tensors = transforms.RandAugment(num_ops=3), []
    for array in arrays:
        tensors.append(functional.pil_to_tensor(cutout(augment(Image.fromarray(array)).copy())))
    return torch.stack(tensors)


def measure(channels: int) -> dict:
    """Images per second of both sides, one value per repetition."""
    images = batch(channels)
    arrays = images.permute(0, 2, 3, 1).contiguous().numpy()
    arrays = arrays[..., 0] if channels == 1 else arrays
    generator = torch.Generator().manual_seed(0)
    sides = {
        "ours": (lambda: strong.strong_augment(images, generator), 20),
        "torchvision": (lambda: per_image(arrays), 2),
    }
    speeds = {side: [] for side in sides}
    for repetition in range(REPETITIONS + 1):
        for side, (run, times) in sides.items():
            started = time.perf_counter()
            for _ in range(times):
                assert run().shape == images.shape
            seconds = (time.perf_counter() - started) / times
            if repetition:  # the first warms up
                speeds[side].append(BATCH_SIZE / seconds)
    return speeds


def ratios(speeds: dict) -> list[float]:
    """Ours over theirs, one value per repetition."""
    return [a / b for a, b in zip(speeds["ours"], speeds["torchvision"], strict=True)]


def table(result: dict) -> str:
    """The table of the book page, in Markdown."""
    lines = ["| images | torchvision, images/s | ours, images/s | ratio (range) |"]
    lines.append("|---|---:|---:|---:|")
    for name, speeds in result["speeds"].items():
        theirs, ours = (statistics.median(speeds[side]) for side in ("torchvision", "ours"))
        found = ratios(speeds)
        ratio = f"{statistics.median(found):.1f} ({min(found):.1f} to {max(found):.1f})"
        lines.append(f"| {name} | {theirs:,.0f} | {ours:,.0f} | {ratio} |")
    lines += ["", f"Median of {REPETITIONS} repetitions in turns; {result['environment']}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, and store the result and its table."""
    torch.set_num_threads(1)
    random.seed(0)
    torch.manual_seed(0)
    versions = f"torch {torch.__version__.split('+')[0]}, Python {platform.python_version()}"
    result = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "batch_size": BATCH_SIZE,
        "environment": f"{platform.machine()}, one thread, {versions}",
        "speeds": {name: measure(channels) for name, channels in IMAGES.items()},
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    TABLE.write_text(table(result), encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    main()
