"""Batched augmentation against torchvision's per-image operations, and its distribution."""

import no_wait
import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import functional as tv

from labutils import augment

SHAPES = [(6, 1, 28, 28), (5, 3, 32, 32), (4, 2, 7, 11)]
DTYPES = [torch.uint8, torch.float32, torch.float64]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(shape, dtype=torch.uint8) -> torch.Tensor:
    return torch.randint(1, 256, shape, generator=seeded(9), dtype=torch.uint8).to(dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("padding", [0, 1, 4])
def test_equals_torchvision_for_every_offset(shape, dtype, padding):
    images = batch(shape, dtype)
    n, _, h, w = shape
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            flipped = (torch.arange(n) + top + left) % 2
            out = augment.crop_flip(
                images, padding, torch.full((n,), top), torch.full((n,), left), flipped
            )
            assert out.shape == images.shape
            assert out.dtype == dtype
            expected = tv.crop(tv.pad(images, [padding] * 4), top, left, h, w)
            mirrored = tv.hflip(expected)
            for i in range(n):
                assert torch.equal(out[i], (mirrored if flipped[i] else expected)[i])


def test_each_image_has_its_own_offset():
    images = batch((64, 1, 28, 28))
    top = torch.randint(9, (64,), generator=seeded(1))
    left = torch.randint(9, (64,), generator=seeded(2))
    flipped = torch.randint(2, (64,), generator=seeded(3))
    out = augment.crop_flip(images, 4, top, left, flipped)
    for i in range(64):
        one = tv.crop(tv.pad(images[i], [4] * 4), int(top[i]), int(left[i]), 28, 28)
        assert torch.equal(out[i], tv.hflip(one) if flipped[i] else one)


def test_channels_last_and_views_are_handled():
    images = batch((8, 3, 32, 32), torch.float32)
    expected = augment.pad_crop_flip(images, 2, seeded())
    channels_last = images.to(memory_format=torch.channels_last)
    view = torch.cat([images, images], dim=3)[..., :32]
    for same in (channels_last, view):
        assert torch.equal(augment.pad_crop_flip(same, 2, seeded()), expected)


def test_every_place_and_mirror_is_equally_likely():
    padding, n = 2, 20_000
    # Pixel (y, x) has value 10 y + x + 1: what is seen in the middle tells offset and mirror.
    image = (torch.arange(7)[:, None] * 10 + torch.arange(7) + 1).to(torch.uint8)
    out = augment.pad_crop_flip(image.expand(n, 1, 7, 7), padding, seeded())
    middle = out[:, 0, 3, 3].long() - 1
    mirrored = out[:, 0, 3, 4] < out[:, 0, 3, 3]
    cell = (middle // 10 - 1) * 5 + (middle % 10 - 1) + 25 * mirrored.long()
    counts = np.bincount(cell.numpy(), minlength=50)
    assert len(counts) == 50
    assert stats.chisquare(counts).pvalue > 1e-3


def test_images_of_a_batch_are_independent():
    n = 20_000
    out = augment.pad_crop_flip(batch((1, 1, 9, 9)).expand(n, 1, 9, 9), 1, seeded())
    kinds = out.flatten(1).unique(dim=0, return_inverse=True)[1]
    pairs = np.histogram2d(kinds[0::2].numpy(), kinds[1::2].numpy(), bins=(18, 18))[0]
    assert stats.chi2_contingency(pairs).pvalue > 1e-3


def test_no_flip_without_flip():
    image = torch.arange(1, 10, dtype=torch.uint8).expand(200, 1, 1, 9)
    out = augment.pad_crop_flip(image, 1, seeded(), flip=False)[:, 0, 0].int()
    inside = (out[:, 1:] > 0) & (out[:, :-1] > 0)
    assert ((out.diff(dim=1) == 1) | ~inside).all()


def test_generator_decides():
    images = batch((32, 1, 28, 28))
    global_state = torch.random.get_rng_state()
    generator = seeded(5)
    first, second = (augment.pad_crop_flip(images, 2, generator) for _ in range(2))
    assert torch.equal(first, augment.pad_crop_flip(images, 2, seeded(5)))
    assert not torch.equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), global_state)


def test_input_is_left_alone():
    images = batch((8, 3, 32, 32))
    copy = images.clone()
    augment.pad_crop_flip(images, 0, seeded(), flip=False).zero_()
    augment.normalise(images, (0.5,) * 3, (0.5,) * 3).zero_()
    assert torch.equal(images, copy)


def test_empty_batch():
    assert augment.pad_crop_flip(batch((3, 1, 28, 28))[:0], 2, seeded()).shape == (0, 1, 28, 28)


@pytest.mark.parametrize("shape", SHAPES)
def test_normalise_equals_torchvision(shape):
    images = batch(shape)
    mean, std = (0.49, 0.48, 0.45)[: shape[1]], (0.25, 0.24, 0.26)[: shape[1]]
    expected = tv.normalize(tv.convert_image_dtype(images, torch.float32), mean, std)
    out = augment.normalise(images, mean, std)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, expected)


def test_bad_input_is_refused():
    with pytest.raises(TypeError, match=r"uint8.*float32"):
        augment.normalise(torch.zeros(2, 1, 28, 28), (0.5,), (0.5,))
    with pytest.raises(ValueError, match=r"\(2, 3, 28, 28\), 1 means"):
        augment.normalise(batch((2, 3, 28, 28)), (0.5,), (0.5,))
    with pytest.raises(ValueError, match=r"\(1, 28, 28\)"):
        augment.pad_crop_flip(batch((1, 28, 28)), 2, seeded())
    with pytest.raises(ValueError, match="padding >= 0"):
        augment.pad_crop_flip(batch((1, 1, 28, 28)), -1, seeded())


def test_it_never_waits():
    images, generator = batch((8, 3, 32, 32)), seeded()

    def step():
        moved = augment.pad_crop_flip(images, 4, generator)
        return augment.normalise(moved, (0.5, 0.4, 0.3), (0.2, 0.3, 0.2))

    no_wait.check(step)
    assert no_wait.operators(step).total() <= 25


@pytest.mark.gpu
def test_gpu_gives_what_the_cpu_gives():
    images = batch((64, 3, 32, 32))
    expected = augment.pad_crop_flip(images, 4, seeded())
    assert torch.equal(augment.pad_crop_flip(images.cuda(), 4, seeded()).cpu(), expected)
    on_device = torch.Generator("cuda").manual_seed(0)
    assert augment.pad_crop_flip(images.cuda(), 4, on_device).is_cuda
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.2)
    torch.testing.assert_close(
        augment.normalise(images.cuda(), mean, std).cpu(), augment.normalise(images, mean, std)
    )
