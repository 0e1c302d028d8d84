"""The benchmark of strong augmentation: both sides do the same work; the page is the record."""

import json
import statistics

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


def test_page_shows_the_stored_run():
    result = json.loads(benchmark.RESULT.read_text())
    assert benchmark.TABLE.read_text() == benchmark.table(result)


def test_stored_run_meets_the_bar():
    result = json.loads(benchmark.RESULT.read_text())
    ratios = benchmark.ratios(result["speeds"]["grey, 28 x 28"])
    assert result["batch_size"] == 448
    assert statistics.median(ratios) >= benchmark.TARGET == 15
