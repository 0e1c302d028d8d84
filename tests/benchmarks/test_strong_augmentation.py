"""The benchmark of strong augmentation: both sides do the same work; the page is the record."""

import pytest
import torch

from benchmarks import strong_augmentation as benchmark
from labutils.augment import strong


@pytest.mark.parametrize("channels", benchmark.IMAGES.values())
def test_both_sides_change_whole_batches_of_real_images(channels):
    images = benchmark.batch(channels)
    assert images.shape == (benchmark.BATCH_SIZE, channels, 28, 28)
    arrays = images.permute(0, 2, 3, 1).contiguous().numpy()
    arrays = arrays[..., 0] if channels == 1 else arrays
    theirs = benchmark.per_image(arrays)
    ours = strong.strong_augment(images, torch.Generator().manual_seed(0))
    for changed in (ours, theirs):
        assert changed.shape == images.shape
        assert changed.dtype == torch.uint8
        assert (changed != images).flatten(1).any(1).float().mean() > 0.8
