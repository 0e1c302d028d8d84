"""The benchmark of two views: both sides make equally distributed views; the page is the record."""

import pytest
import torch

from benchmarks import view_throughput as benchmark


@pytest.mark.parametrize("case", benchmark.CASES)
def test_both_sides_make_equally_distributed_views(case):
    recipe, options = benchmark.CASES[case]
    images = benchmark.pictures(case)[:64]
    torch.manual_seed(0)
    dataset = benchmark.PerImage(images, options)
    theirs = torch.stack([torch.cat(dataset[k]) for _ in range(30) for k in range(64)])
    ours = benchmark.batched(images, recipe, torch.Generator().manual_seed(0))
    ours = torch.cat([torch.cat(ours(), 1) for _ in range(30)])
    assert ours.shape[1:] == theirs.shape[1:]
    assert (ours.mean((0, 2, 3)) - theirs.mean((0, 2, 3))).abs().max() < 0.02
    assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.06)
    changes = [(x.roll(1, 3) - x).abs().mean().item() for x in (ours, theirs)]  # sharpness
    assert changes[0] == pytest.approx(changes[1], rel=0.12)
