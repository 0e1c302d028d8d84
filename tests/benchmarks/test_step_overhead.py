"""Time outside of forward pass, backward pass and optimiser: of real steps; on a GPU, its bar."""

import no_wait
import pytest
import torch

from benchmarks import step_overhead as benchmark

CPU = torch.device("cpu")
SMALL = [
    (benchmark.clip, [4, 8]), (benchmark.simclr, "resnet-16-32-64"),
    (benchmark.fixmatch, "resnet-16-32-64"),
]  # fmt: skip
CASES = [
    (benchmark.clip, 128, [64, 128, 256]),
    (benchmark.simclr, 512, "resnet18"),
    (benchmark.fixmatch, 64, "resnet18"),
]


@pytest.mark.parametrize(("make", "model"), SMALL)
def test_both_steps_train_and_only_one_makes_views(make, model, monkeypatch):
    monkeypatch.setattr(benchmark, "NUM_IMAGES", 300)
    case = make(CPU, 4, model, 2)
    made = []
    for module, name in ((benchmark.views, "random_view"), (benchmark.views, "_views"),
                         (benchmark.strong, "strong_augment")):  # fmt: skip
        original = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *a, original=original: made.append(1) or original(*a)
        )
    rows = [x[0] for x in case.inputs]
    case.bare(*rows).backward()
    assert not made
    case.whole(*rows).backward()
    assert made
    row = benchmark.measure(make, CPU, 4, model, 2, repetitions=3)
    assert len(row["whole"]) == 3
    assert row["share"] < 1


@pytest.mark.parametrize(("make", "model"), SMALL)
def test_no_whole_step_waits(make, model, monkeypatch):
    monkeypatch.setattr(benchmark, "NUM_IMAGES", 300)
    case = make(CPU, 4, model, 2)
    no_wait.check(lambda: case.whole(*(x[0] for x in case.inputs)).backward())


@pytest.mark.gpu
@pytest.mark.parametrize(("make", "batch", "model"), CASES)
def test_little_time_is_spent_outside(make, batch, model):
    row = benchmark.measure(make, torch.device("cuda"), batch, model)
    assert row["share"] <= benchmark.LIMIT
