"""The benchmark: both sides see the same images in distribution; the page shows the stored run."""

import json

import pytest
import torch

from benchmarks import colab_simulation, sweep_scaling
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
        ("peer", iter(benchmark.loader(dataset)).__next__),
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


def test_page_shows_the_stored_run():
    result = json.loads(benchmark.RESULT.read_text())
    page = (benchmark.GENERATED / "training_throughput.md").read_text()
    assert page == benchmark.render(result)
    for row in result["models"].values():
        assert f"**{row['ratio']['median']:,.1f} (" in page


def test_stored_run_meets_the_bar():
    result = json.loads(benchmark.RESULT.read_text())
    assert result["models"]["cnn-tiny"]["ratio"]["median"] >= 10
    assert result["input"]["ratio"]["median"] >= 20


def test_sweep_page_shows_the_stored_run_and_the_bar_is_met():
    result = json.loads(sweep_scaling.RESULT.read_text())
    assert sweep_scaling.PAGE.read_text() == sweep_scaling.render(result)
    assert result["ratio"] < result["limit"] == 0.6


def test_colab_page_shows_the_stored_runs():
    result = json.loads(colab_simulation.RESULT.read_text())
    assert colab_simulation.TABLE.read_text() == colab_simulation.table(result)
