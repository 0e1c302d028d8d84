"""Augmentation of batches: ours beside torchvision, kornia and lightly, on one core.

Every operation of `labutils.augment`, and the whole pipelines of the chapters. Every side changes
each image with random numbers of its own, but for kornia's RandAugment, which draws once for a
batch. torchvision's sides take one PIL image after another, with the conversion from and to
tensors, as a data set does; lightly's views come from its `SimCLRTransform` in a `DataLoader`
without workers; kornia's take whole batches, as ours do. `limit` is a plain copy: a side that made
nothing but its result in memory.

Run ``python -m benchmarks.augmentation`` (or ``make bench``) on a quiet machine. It writes
``augmentation.json`` beside this file and the table of the book page.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import functional

from benchmarks import sides
from labutils import augment, data
from labutils.augment import strong, views

RESULT = Path(__file__).parent / "augmentation.json"
BATCH, PADDING, MEAN, STD = 448, 4, 0.5, 0.25
PEERS = ("torchvision", "kornia", "lightly")

# The views of a chapter: images of a size, our recipe, lightly's options.
GREY, COLOUR = "grey, 28 x 28", "colour, 32 x 32"
NO_COLOUR = {"jitter_probability": 0.0, "grey_probability": 0.0, "blur_probability": 0.0}
VIEWS = {
    "two views, SimCLRv2 at small": (
        GREY,
        views.Recipe(scale=(0.2, 1.0), strength=0.5, grey_probability=0.0, blur_probability=0.0),
        {"min_scale": 0.2, "cj_strength": 0.5, "random_gray_scale": 0.0, "gaussian_blur": 0.0},
    ),
    "two views, SimCLR without blur": (
        COLOUR, views.Recipe(strength=0.5, blur_probability=0.0),
        {"cj_strength": 0.5, "gaussian_blur": 0.0},
    ),
    "two views, SimCLR": (COLOUR, views.Recipe(), {}),
    "two views, CLIP": (
        COLOUR,
        views.Recipe(
            scale=(0.8, 1.0), flip_probability=0.0, strength=0.25, grey_probability=0.05,
            blur_probability=0.0,
        ),
        {"min_scale": 0.8, "hf_prob": 0.0, "cj_strength": 0.25, "random_gray_scale": 0.05,
         "gaussian_blur": 0.0},
    ),
}  # fmt: skip


def pictures(kind: str, count: int = BATCH) -> Tensor:
    """uint8 (count, C, H, W): Fashion-MNIST, in colour three of its images as channels of one."""
    dataset = data.load("fashion-mnist-mini", num_validation=0, generator=torch.Generator())
    images = torch.cat([dataset.train.images, dataset.test.images])
    if kind == GREY:
        return images[:count]
    return F.pad(images[: 3 * count].reshape(-1, 3, 28, 28), (2, 2, 2, 2))


def as_pil(images: Tensor) -> list[np.ndarray]:
    """Arrays as `Image.fromarray` takes them."""
    return [x.squeeze(2).numpy() for x in images.permute(0, 2, 3, 1).contiguous()]


def one_by_one(arrays: list[np.ndarray], transform: Callable) -> Callable:
    """torchvision's way: each array to a PIL image, through the transform, to a tensor."""
    return lambda: torch.stack(
        [functional.pil_to_tensor(transform(Image.fromarray(array))) for array in arrays]
    )


# --- single operations ----------------------------------------------------------------------------


def pil_magnitudes() -> dict[str, Callable]:
    """{operation: a change of a PIL image with a magnitude} of torchvision."""
    f, nearest = functional, functional.InterpolationMode.NEAREST
    return {
        "AutoContrast": lambda x, _: f.autocontrast(x),
        "Brightness": f.adjust_brightness,
        "Color": f.adjust_saturation,
        "Contrast": f.adjust_contrast,
        "Equalize": lambda x, _: f.equalize(x),
        "Identity": lambda x, _: x,
        "Posterize": lambda x, bits: f.posterize(x, int(bits)),
        "Rotate": lambda x, angle: f.rotate(x, angle, nearest),
        "Sharpness": f.adjust_sharpness,
        "ShearX": lambda x, s: f.affine(x, 0.0, [0, 0], 1.0, [57.3 * s, 0.0], nearest),
        "ShearY": lambda x, s: f.affine(x, 0.0, [0, 0], 1.0, [0.0, 57.3 * s], nearest),
        "Solarize": f.solarize,
        "TranslateX": lambda x, s: f.affine(x, 0.0, [int(32 * s), 0], 1.0, [0.0, 0.0], nearest),
        "TranslateY": lambda x, s: f.affine(x, 0.0, [0, int(32 * s)], 1.0, [0.0, 0.0], nearest),
    }


def kornia_operations() -> dict[str, Callable]:
    """{operation: kornia's, of float images 0..1}; {} where it is not installed."""
    if not sides.installed("kornia"):
        return {}
    from kornia import augmentation as k

    return {
        "AutoContrast": k.RandomAutoContrast(p=1.0),
        "Brightness": k.RandomBrightness((0.05, 0.95), p=1.0),
        "Color": k.RandomSaturation((0.05, 0.95), p=1.0),
        "Contrast": k.RandomContrast((0.05, 0.95), p=1.0),
        "Equalize": k.RandomEqualize(p=1.0),
        "Posterize": k.RandomPosterize((4, 8), p=1.0),
        "Rotate": k.RandomRotation(30.0, resample="nearest", p=1.0),
        "Sharpness": k.RandomSharpness((0.05, 0.95), p=1.0),
        "ShearX": k.RandomShear((-17.0, 17.0), resample="nearest", p=1.0),
        "ShearY": k.RandomShear((0.0, 0.0, -17.0, 17.0), resample="nearest", p=1.0),
        "Solarize": k.RandomSolarize(thresholds=(0.0, 1.0), additions=0.0, p=1.0),
        "TranslateX": k.RandomTranslate((0.0, 0.3), (0.0, 0.0), resample="nearest", p=1.0),
        "TranslateY": k.RandomTranslate((0.0, 0.0), (0.0, 0.3), resample="nearest", p=1.0),
        "cutout": k.RandomErasing((0.02, 0.25), (1.0, 1.0), p=1.0),
        "crop and mirror, weak": k.AugmentationSequential(
            k.RandomCrop((32, 32), padding=PADDING), k.RandomHorizontalFlip()
        ),
        "normalise": k.Normalize(MEAN, STD),
        "random resized crop": k.RandomResizedCrop((32, 32), scale=(0.08, 1.0)),
        "colour jitter": k.ColorJitter(0.8, 0.8, 0.8, 0.2, p=1.0),
        "grey": k.RandomGrayscale(p=1.0),
        "blur": k.RandomGaussianBlur((3, 3), (0.1, 2.0), p=1.0),
    }


def cutout(image: Image.Image) -> Image.Image:
    """A square with a side of up to half the width anywhere, in PIL."""
    image, (width, height) = image.copy(), image.size
    side = random.uniform(0, 0.5) * width
    left, top = (int(max(0, random.uniform(0, size) - side / 2)) for size in (width, height))
    corners = (left, top, min(width, left + side), min(height, top + side))
    colour = strong.CUTOUT_COLOUR if image.mode == "RGB" else 123
    ImageDraw.Draw(image).rectangle(corners, colour)
    return image


def torchvision_operations() -> dict[str, Callable]:
    """{operation: of a PIL image}."""
    found: dict[str, Callable] = {
        name: lambda x, change=change, span=strong.RANGES[name]: change(x, random.uniform(*span))
        for name, change in pil_magnitudes().items()
    }
    return found | {
        "cutout": cutout,
        "crop and mirror, weak": transforms.Compose(
            [transforms.RandomCrop(32, padding=PADDING), transforms.RandomHorizontalFlip()]
        ),
        "random resized crop": transforms.RandomResizedCrop(32),
        "colour jitter": transforms.ColorJitter(0.8, 0.8, 0.8, 0.2),
        "grey": transforms.Grayscale(3),
        "blur": transforms.GaussianBlur(3, (0.1, 2.0)),
    }


def our_operations(images: Tensor, generator: torch.Generator) -> dict[str, Callable]:
    """{operation: a call that changes the images}."""
    n, floats = len(images), images.float() / 255

    def strongly(number: int) -> Callable:
        low, high = strong.RANGES[strong.OPERATIONS[number]]
        chosen = torch.full((n,), number)
        return lambda: strong.apply(
            images, chosen, low + (high - low) * torch.rand(n, generator=generator)
        )

    def view(**recipe) -> Callable:
        given = views.Recipe(**{"flip_probability": 0.0, **NO_COLOUR, **recipe})
        return lambda: views.random_view(images, given, generator)

    def square() -> Tensor:
        x, y, side = torch.rand(3, n, generator=generator) * 32
        return strong.cutout(images, x, y, side / 2)

    whole = {"scale": (1.0, 1.0), "aspect": (1.0, 1.0)}
    return {name: strongly(k) for k, name in enumerate(strong.OPERATIONS)} | {
        "cutout": square,
        "crop and mirror, weak": lambda: augment.pad_crop_flip(images, PADDING, generator),
        "normalise": lambda: augment.normalise(images, [MEAN] * 3, [STD] * 3),
        "random resized crop": view(),
        "colour jitter": view(**whole, jitter_probability=1.0),
        "grey": lambda: views.grey(floats).expand_as(floats).contiguous(),
        "blur": lambda: views.gaussian_blur(
            floats, 0.1 + 1.9 * torch.rand(n, generator=generator), 1
        ),
    }


def operations(count: int = BATCH) -> dict[str, dict[str, Callable]]:
    """{operation: {side: a call for all images}}, colour images."""
    images, generator = pictures(COLOUR, count), torch.Generator().manual_seed(0)
    arrays, floats = as_pil(images), images.float() / 255
    kornia, torchvision = kornia_operations(), torchvision_operations()
    normalised = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    found = {}
    for name, run in our_operations(images, generator).items():
        found[name] = {"ours": run}
        if name == "normalise":
            found[name]["torchvision"] = lambda: torch.stack([normalised(x) for x in arrays])
        else:
            found[name]["torchvision"] = one_by_one(arrays, torchvision[name])
        if name in kornia:
            found[name]["kornia"] = lambda change=kornia[name]: change(floats)
    return found


# --- pipelines ------------------------------------------------------------------------------------


class PerImage(Dataset):
    """One PIL image, transformed twice by lightly, per index."""

    def __init__(self, images: Tensor, options: dict):
        from lightly.transforms import SimCLRTransform

        self.arrays = as_pil(images)
        self.transform = SimCLRTransform(input_size=images.shape[-1], normalize=None, **options)

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, index: int) -> list[Tensor]:
        return self.transform(Image.fromarray(self.arrays[index]))


def jitter_of(recipe: views.Recipe) -> tuple[float, ...]:
    """Ranges of brightness, contrast, saturation, hue."""
    return tuple(share * recipe.strength for share in (0.8, 0.8, 0.8, 0.2))


def torchvision_views(recipe: views.Recipe, size: int) -> transforms.Compose:
    share = recipe.blur_probability
    blur = transforms.RandomApply([transforms.GaussianBlur(3, recipe.blur_sigma)], share)
    return transforms.Compose([
        transforms.RandomResizedCrop(size, recipe.scale),
        transforms.RandomHorizontalFlip(recipe.flip_probability),
        transforms.RandomApply([transforms.ColorJitter(*jitter_of(recipe))], 0.8),
        transforms.RandomGrayscale(recipe.grey_probability),
        *([blur] * bool(share)),
    ])  # fmt: skip


def kornia_views(recipe: views.Recipe, size: int, channels: int) -> Callable:
    from kornia import augmentation as k

    jitter = jitter_of(recipe)
    ranges = [(1 - share, 1 + share) for share in jitter[:2]]
    change = k.AugmentationSequential(
        k.RandomResizedCrop((size, size), scale=recipe.scale),
        k.RandomHorizontalFlip(p=recipe.flip_probability),
        *([k.ColorJitter(*jitter, p=0.8), k.RandomGrayscale(p=recipe.grey_probability)]
          if channels == 3 else
          [k.RandomBrightness(ranges[0], p=0.8), k.RandomContrast(ranges[1], p=0.8)]),
        *([k.RandomGaussianBlur((3, 3), recipe.blur_sigma, p=recipe.blur_probability)]
          * bool(recipe.blur_probability)),
    )  # fmt: skip
    return lambda images: change(images.float() / 255)


def two_views(name: str, count: int = BATCH) -> dict[str, Callable]:
    """{side: a call for two views of every image}."""
    kind, recipe, options = VIEWS[name]
    images, generator = pictures(kind, count), torch.Generator().manual_seed(0)
    size, arrays = images.shape[-1], as_pil(images)
    once = one_by_one(arrays, torchvision_views(recipe, size))
    found: dict[str, Callable] = {
        "ours": lambda: views.two_views(images, recipe, generator),
        "torchvision": lambda: (once(), once()),
    }
    if sides.installed("kornia"):
        view = kornia_views(recipe, size, images.shape[1])
        found["kornia"] = lambda: (view(images), view(images))
    if sides.installed("lightly"):
        loader = DataLoader(PerImage(images, options), count, shuffle=True)
        found["lightly"] = lambda: next(iter(loader))
    return found


def strongly(kind: str, count: int = BATCH) -> dict[str, Callable]:
    """{side: a call that applies three operations and cutout to every image}."""
    images, generator = pictures(kind, count), torch.Generator().manual_seed(0)
    randaugment = transforms.RandAugment(num_ops=3)
    found: dict[str, Callable] = {
        "ours": lambda: strong.strong_augment(images, generator),
        "torchvision": one_by_one(as_pil(images), lambda image: cutout(randaugment(image))),
    }
    if sides.installed("kornia") and images.shape[1] == 3:
        from kornia import augmentation as k

        policy, erase = k.auto.RandAugment(3, 10), k.RandomErasing((0.02, 0.25), (1.0, 1.0), p=1.0)
        found["kornia"] = lambda: erase(policy(images.float() / 255))
    return found


def pipelines(count: int = BATCH) -> dict[str, dict[str, Callable]]:
    """{pipeline: {side: a call for all images}}."""
    made = {f"{name}; {VIEWS[name][0]}": two_views(name, count) for name in VIEWS}
    return made | {f"RandAugment and cutout; {k}": strongly(k, count) for k in (GREY, COLOUR)}


# --- measure and show -----------------------------------------------------------------------------


def measure(repetitions: int, count: int = BATCH, at_least: float = sides.AT_LEAST) -> dict:
    """{"operations" and "pipelines": {what: {side: images per second in each turn}}}."""
    sides.one_core()
    random.seed(0)
    torch.manual_seed(0)
    result: dict = {"batch": count}
    for part, made in (("pipelines", pipelines(count)), ("operations", operations(count))):
        result[part] = {}
        for name, runs in made.items():
            changed = runs["ours"]()
            copies = changed if isinstance(changed, tuple) else (changed,)
            runs["limit"] = lambda copies=copies: [copy.clone() for copy in copies]
            measured = {side: sides.rate(run, count, at_least) for side, run in runs.items()}
            result[part][name] = sides.in_turns(measured, repetitions)
            print(name, flush=True)
    return result


def render(result: dict) -> str:
    """The tables of the book's page."""
    lines = []
    for part, what in (("pipelines", "pipeline"), ("operations", "operation, colour 32 x 32")):
        rows = [
            [name, sides.spread(row["ours"])]
            + [sides.ratio(row["ours"], row.get(peer)) for peer in PEERS]
            + [sides.ratio(row["limit"], row["ours"])]
            for name, row in result[part].items()
        ]
        head = [what, "ours, images/s", *(f"ours / {peer}" for peer in PEERS), "a copy / ours"]
        if part == "operations":  # lightly has none of its own
            head, rows = head[:4] + head[5:], [row[:4] + row[5:] for row in rows]
        lines += [*sides.table(head, rows), ""]
    lines.append(
        f"Batches of {result['batch']}, one core, one thread. An image counts once, with both of "
        f"its views. {sides.origin(result)}"
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sides.main("augmentation", measure, render, *PEERS)
