"""The benchmark: both sides see the same images in distribution, and training learns."""

import pytest
import torch

from benchmarks import training_throughput as benchmark
from labutils import data


def small() -> data.Dataset:
    generator = torch.Generator().manual_seed(0)
    return data.load("fashion-mnist-mini", num_validation=200, generator=generator)


def test_both_sides_give_equally_distributed_batches():
    dataset = small()
    torch.manual_seed(0)
    batched = benchmark.BatchedInput(dataset, torch.Generator().manual_seed(0))
    moments = {}
    for side, next_batch in (
        ("ours", batched),
        ("peer", benchmark.endless(benchmark.loader(dataset))),
    ):
        batches = [next_batch() for _ in range(10)]
        images = torch.cat([images for images, _ in batches])
        assert images.dtype == torch.float32
        assert images.shape == (10 * benchmark.BATCH_SIZE, 1, 28, 28)
        assert images.min().item() == pytest.approx(-dataset.mean[0] / dataset.std[0])
        moments[side] = images.mean(0), torch.cat([labels for _, labels in batches])
    # The same images, moved and mirrored at random: mean images differ only by noise.
    difference = (moments["ours"][0] - moments["peer"][0]).abs()
    assert difference.max() < 0.25
    assert difference.mean() < 0.05
    counts = [labels.bincount(minlength=10) for _, labels in moments.values()]
    assert (counts[0] - counts[1]).abs().max() < 30


def test_an_epoch_sees_every_image_once():
    dataset = small()
    batched = benchmark.BatchedInput(dataset, torch.Generator().manual_seed(0))
    batched()
    seen = batched.order
    assert len(seen) == len(dataset.train) - benchmark.BATCH_SIZE
    assert len(seen.unique()) == len(seen)


def test_training_learns_and_is_timed():
    dataset = small()
    generator = torch.Generator().manual_seed(0)
    model = benchmark.models.build("cnn-tiny", 1, 10, generator)
    speed = benchmark.run_training(model, benchmark.BatchedInput(dataset, generator), 60)
    assert speed > 0
    model.eval()
    images = benchmark.augment.normalise(dataset.validation.images, dataset.mean, dataset.std)
    accuracy = (model(images).argmax(1) == dataset.validation.labels).float().mean()
    assert accuracy > 0.6


def test_every_kind_of_step_trains_from_both_inputs(monkeypatch):
    monkeypatch.setattr(benchmark.sides, "one_core", lambda: None)
    monkeypatch.setattr(benchmark, "STEPS", dict.fromkeys(benchmark.STEPS, (1, 1)))
    result = benchmark.measure(1, epochs=0, name="fashion-mnist-mini")
    names = ["input alone", *(f"train {name}" for name in benchmark.STEPS)]
    assert list(result["rows"]) == names
    for row in result["rows"].values():
        assert min(rates[0] for rates in row.values()) > 0
    text = benchmark.render({**benchmark.sides.machine(), "repetitions": 1, **result})
    assert "| train FixMatch |" in text


def test_views_of_simclr_and_fixmatch_have_the_same_shapes_from_both_inputs():
    generator = torch.Generator().manual_seed(0)
    _, ours, peer, _ = benchmark.fixmatch(small(), generator)
    (weak, hard), (weak_peer, hard_peer) = ours(), peer()
    assert weak.shape == weak_peer.shape == hard_peer.shape
    assert len(hard) == len(weak) * 7 // 8
    assert (weak.mean() - weak_peer.mean()).abs() < 0.1
    _, ours, peer, _ = benchmark.simclr(small(), generator)
    if peer:
        assert [x.shape for x in ours()] == [x.shape for x in list(peer())[:2]]
