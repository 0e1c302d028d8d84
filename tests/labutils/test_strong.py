"""The batched operations of RandAugment against PIL's, one image at a time."""

import math

import no_wait
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from labutils import data
from labutils.augment import strong, weak

AFFINE, NEAREST = Image.Transform.AFFINE, Image.Resampling.NEAREST
PIL = {
    "AutoContrast": lambda image, v: ImageOps.autocontrast(image),
    "Brightness": lambda image, v: ImageEnhance.Brightness(image).enhance(v),
    "Color": lambda image, v: ImageEnhance.Color(image).enhance(v),
    "Contrast": lambda image, v: ImageEnhance.Contrast(image).enhance(v),
    "Equalize": lambda image, v: ImageOps.equalize(image),
    "Identity": lambda image, v: image,
    "Posterize": lambda image, v: ImageOps.posterize(image, int(v)),
    "Rotate": lambda image, v: image.rotate(v, NEAREST),
    "Sharpness": lambda image, v: ImageEnhance.Sharpness(image).enhance(v),
    "ShearX": lambda image, v: image.transform(image.size, AFFINE, (1, v, 0, 0, 1, 0), NEAREST),
    "ShearY": lambda image, v: image.transform(image.size, AFFINE, (1, 0, 0, v, 1, 0), NEAREST),
    "Solarize": lambda image, v: ImageOps.solarize(image, v),
    "TranslateX": lambda image, v: image.transform(
        image.size, AFFINE, (1, 0, v * image.size[0], 0, 1, 0), NEAREST
    ),
    "TranslateY": lambda image, v: image.transform(
        image.size, AFFINE, (1, 0, 0, 0, 1, v * image.size[1]), NEAREST
    ),
}
# PIL moves geometric operations in steps of 1/65536 of a pixel: pixels on an edge may fall over it.
GEOMETRIC = {"Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"}


def pictures(channels: int, n: int = 60) -> torch.Tensor:
    """Real images; in colour, three different ones as the three channels."""
    generator = torch.Generator().manual_seed(0)
    images = data.load("fashion-mnist-mini", num_validation=0, generator=generator).train.images
    return images[: n * channels].reshape(n, channels, 28, 28)


def to_pil(image: torch.Tensor) -> Image.Image:
    array = image.permute(1, 2, 0).numpy()
    return Image.fromarray(array[..., 0] if len(image) == 1 else array)


def to_tensor(image: Image.Image) -> torch.Tensor:
    array = np.asarray(image)
    return torch.from_numpy(array.copy()).reshape(*array.shape[:2], -1).permute(2, 0, 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", strong.OPERATIONS)
def test_each_operation_equals_its_counterpart(name, channels):
    images = pictures(channels) // 2 + 40  # not the whole range, for AutoContrast
    low, high = strong.RANGES[name]
    magnitude = torch.linspace(low, high - 1e-3, len(images))
    operation = torch.full((len(images),), strong.OPERATIONS.index(name))
    ours = strong.apply(images, operation, magnitude)
    pairs = zip(images, magnitude.tolist(), strict=True)
    theirs = torch.stack([to_tensor(PIL[name](to_pil(x), v)) for x, v in pairs])
    assert ours.shape == theirs.shape
    different = (ours != theirs).float().mean().item()
    assert different <= (2e-3 if name in GEOMETRIC else 0), f"{different:.2%} of pixels differ"
    if name not in ("Identity", *(["Color"] * (channels == 1))):
        assert (ours != images).float().mean() > 0.01  # it does something


@pytest.mark.parametrize("channels", [1, 3])
def test_uniform_and_two_valued_images(channels):
    """The degenerate cases of the histograms."""
    flat = torch.full((1, channels, 28, 28), 77, dtype=torch.uint8)
    two = flat.clone()
    two[..., :14] = 200
    for image in (flat, two):
        for name in ("AutoContrast", "Equalize", "Contrast", "Sharpness"):
            number = torch.tensor([strong.OPERATIONS.index(name)])
            ours = strong.apply(image, number, torch.tensor([0.5]))[0]
            assert torch.equal(ours, to_tensor(PIL[name](to_pil(image[0]), 0.5))), name


def test_every_image_has_its_own_operation():
    images = pictures(3, 14)
    magnitude = torch.tensor([(low + high) / 2 - 0.1 for low, high in strong.RANGES.values()])
    together = strong.apply(images, torch.arange(14), magnitude)
    for k in range(14):
        alone = strong.apply(images[k : k + 1], torch.tensor([k]), magnitude[k : k + 1])
        assert torch.equal(together[k], alone[0])
    assert torch.equal(images, pictures(3, 14))  # the input is left as it was


@pytest.mark.parametrize("channels", [1, 3])
def test_cutout_equals_a_drawn_rectangle(channels):
    images = pictures(channels, 50)
    x, y, side = torch.rand(3, 50, generator=torch.Generator().manual_seed(1))
    x, y, side = 28 * x, 28 * y, 14 * side
    ours = strong.cutout(images, x, y, side)
    colour = strong.CUTOUT_COLOUR if channels == 3 else 123
    for k in range(50):
        picture, v = to_pil(images[k]), side[k].item()
        left, top = int(max(0, x[k].item() - v / 2)), int(max(0, y[k].item() - v / 2))
        corner = (left, top, min(28, left + v), min(28, top + v))
        ImageDraw.Draw(picture).rectangle(corner, colour)
        assert torch.equal(ours[k], to_tensor(picture))
    assert torch.equal(strong.cutout(images, x, y, torch.zeros(50)), images)


def test_draws_are_uniform_and_from_the_generator_alone(monkeypatch):
    seen = []
    monkeypatch.setattr(strong, "apply", lambda x, o, m: (seen.append((o, m)), x)[1])
    images = torch.zeros(4200, 1, 28, 28, dtype=torch.uint8)
    one = strong.strong_augment(images, torch.Generator().manual_seed(0))
    two = strong.strong_augment(images, torch.Generator().manual_seed(0))
    assert torch.equal(one, two)
    assert [o.shape for o, _ in seen] == [(3, 4200)] * 2
    operation, magnitude = (x.flatten() for x in seen[0])
    counts = operation.bincount(minlength=14)
    assert (counts - 900).abs().max() < 5 * math.sqrt(900)
    for number, (low, high) in enumerate(strong.RANGES.values()):
        drawn = magnitude[operation == number]
        assert low <= drawn.min() <= low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) <= drawn.max() <= high
    painted = (one > 0).float().mean((1, 2, 3))  # E[side^2] = (14^2) / 3 before clipping
    assert 0.04 < painted.mean() < 0.12


def test_bad_input_is_named():
    generator = torch.Generator()
    with pytest.raises(TypeError, match=r"uint8 images 0..255, got torch.float32"):
        strong.strong_augment(torch.rand(2, 1, 28, 28), generator)
    with pytest.raises(ValueError, match=r"\(N, 1 or 3, H, W\), got \(2, 28, 28\)"):
        strong.strong_augment(torch.zeros(2, 28, 28, dtype=torch.uint8), generator)


def test_the_layout_in_memory_does_not_matter(monkeypatch):
    images = pictures(3)
    for devices in (weak.SELECTING, ()):
        monkeypatch.setattr(weak, "SELECTING", devices)
        expected = strong.strong_augment(images, torch.Generator().manual_seed(0))
        channels_last = images.to(memory_format=torch.channels_last)
        ours = strong.strong_augment(channels_last, torch.Generator().manual_seed(0))
        assert torch.equal(ours, expected)


def test_empty_batches_pass():
    empty = torch.zeros(0, 3, 28, 28, dtype=torch.uint8)
    assert strong.strong_augment(empty, torch.Generator()).shape == empty.shape


# --- on a GPU -------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_it_never_waits_and_launches_few_operators(channels):
    images, generator = pictures(channels, 30), torch.Generator().manual_seed(0)

    def step():
        return strong.strong_augment(images, generator, 3)

    no_wait.check(step)
    assert no_wait.operators(step).total() <= 300


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_the_same_whether_work_is_saved_or_not(channels, monkeypatch):
    images = pictures(channels).repeat(10, 1, 1, 1)
    saved = strong.strong_augment(images, torch.Generator().manual_seed(0))
    monkeypatch.setattr(weak, "SELECTING", ())
    assert torch.equal(strong.strong_augment(images, torch.Generator().manual_seed(0)), saved)


@pytest.mark.gpu
@pytest.mark.parametrize("channels", [1, 3])
def test_a_gpu_makes_the_images_of_the_cpu(channels):
    images = pictures(channels)
    ours = strong.strong_augment(images.cuda(), torch.Generator().manual_seed(0)).cpu()
    theirs = strong.strong_augment(images, torch.Generator().manual_seed(0))
    assert (ours != theirs).float().mean() < 1e-3  # pixels whose source is on an edge
    on_device = torch.Generator("cuda").manual_seed(0)
    assert strong.strong_augment(images.cuda(), on_device).is_cuda
