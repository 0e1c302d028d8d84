"""Two views per image on a card: ours against torchvision v2, kornia and lightly.

All make SimCLR's views (crop, mirror image, jitter of colours, grey; no blur) of batches that are
on the card already. Ours and kornia's draw for every image. torchvision's v2 transforms, and
lightly's, which are made of them, draw once for a whole batch: all its images get the same crop.
Given one image after another they draw for each.

Run ``python -m benchmarks.card_views`` on a machine with a GPU. It writes ``card_views.json``
beside this file and the table of the book page. What is not installed is left out.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor
from torchvision.transforms import v2

from benchmarks import card
from labutils.augment import views

RESULT = Path(__file__).parent / "card_views.json"
BATCH, REPETITIONS = 512, 30
RECIPE = views.Recipe(strength=0.5, blur_probability=0.0)
SCALE, JITTER, SIZE = (0.08, 1.0), (0.4, 0.4, 0.4, 0.1), 32


def torchvision_transform() -> Callable:
    return v2.Compose(
        [
            v2.RandomResizedCrop(SIZE, scale=SCALE, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(*JITTER)], 0.8),
            v2.RandomGrayscale(0.2),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )


def ours(device: torch.device) -> Callable:
    generator = torch.Generator(device).manual_seed(0)
    return lambda images: views.two_views(images, RECIPE, generator)


def torchvision_per_batch(device: torch.device) -> Callable:
    transform = torchvision_transform()
    return lambda images: (transform(images), transform(images))


def torchvision_per_image(device: torch.device) -> Callable:
    transform = torchvision_transform()
    return lambda images: tuple(
        torch.stack([transform(image) for image in images]) for _ in range(2)
    )


def lightly_per_batch(device: torch.device) -> Callable:
    from lightly.transforms.multi_view_transform_v2 import MultiViewTransformV2

    return MultiViewTransformV2([torchvision_transform(), torchvision_transform()])


def kornia_per_image(device: torch.device) -> Callable:
    if not importlib.util.find_spec("kornia_rs"):  # large, and only reads files of pictures
        sys.modules["kornia_rs"] = SimpleNamespace(io=None)
    from kornia import augmentation as kornia

    transform = kornia.AugmentationSequential(
        kornia.RandomResizedCrop((SIZE, SIZE), scale=SCALE),
        kornia.RandomHorizontalFlip(),
        kornia.ColorJitter(*JITTER, p=0.8),
        kornia.RandomGrayscale(p=0.2),
    )

    def two(images: Tensor) -> tuple[Tensor, Tensor]:
        scaled = images.float() / 255
        return transform(scaled), transform(scaled)

    return two


# What makes views: its package, how it draws, and how it is made.
SIDES = {
    "ours": ("labutils", "each image", ours),
    "kornia": ("kornia", "each image", kornia_per_image),
    "torchvision v2, image by image": ("torchvision", "each image", torchvision_per_image),
    "torchvision v2": ("torchvision", "the whole batch", torchvision_per_batch),
    "lightly, MultiViewTransformV2": ("lightly", "the whole batch", lightly_per_batch),
}


def measure(device: torch.device, smoke: bool) -> dict:
    """{"batch": ..., "images": {side: images per second, None where it is not installed}}."""
    batch, repetitions = (4, 1) if smoke else (BATCH, REPETITIONS)
    images, _ = card.pictures(device, batch)
    found = {}
    for side, (package, _, make) in SIDES.items():
        found[side] = None
        if importlib.util.find_spec(package):
            views_of = make(device)
            card.seconds(lambda views_of=views_of: views_of(images), device, 2)  # warm
            took = card.seconds(lambda views_of=views_of: views_of(images), device, repetitions)
            found[side] = batch / took
    return {"batch": batch, "images": found}


def render(result: dict) -> str:
    """The table of the book's page."""
    lines = ["| two views by | draws for | images per second |", "|---|---|---:|"]
    for side, (_, draws, _) in SIDES.items():
        rate = result["images"].get(side)
        lines.append(f"| {side} | {draws} | {f'{rate:,.0f}' if rate else 'not measured'} |")
    size = f"Colour images of 32 × 32 pixels in batches of {result['batch']}, crop, mirror image, "
    size += "jitter and grey. "
    return "\n".join([*lines, "", f"{size}{card.origin(result)}", ""])


if __name__ == "__main__":
    card.main("card_views", measure, render)
