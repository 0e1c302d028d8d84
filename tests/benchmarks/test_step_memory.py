"""GPU memory of the largest steps: counted as autograd keeps it; below what a free GPU has."""

import json

import pytest
import torch
from torch import nn

from benchmarks import step_memory as benchmark


def test_kept_bytes_are_those_of_a_case_by_hand():
    x, layer = torch.rand(10, 100), nn.Linear(100, 50, bias=False)
    own = {layer.weight.untyped_storage().data_ptr()}
    x_kept = 2 * 10 * 100  # in bfloat16, for the gradient of the weight
    assert benchmark.kept_bytes(lambda: layer(x).sum(), own) == x_kept
    # exp keeps its result, and so does the square: the same tensor, counted once
    assert benchmark.kept_bytes(lambda: (layer(x).exp() ** 2).sum(), own) == x_kept + 2 * 10 * 50


def test_a_line_through_two_batches_gives_any_other():
    network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())

    def loss(count):
        return network(torch.rand(count, 64)).sum()

    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    found = benchmark.step_memory([network], loss, 500, 12)
    assert found["kept"] == benchmark.kept_bytes(lambda: loss(500), own)
    assert found["state"] == 12 * 2 * (64 * 64 + 64)


def test_every_step_fits_a_free_gpu_and_the_stored_run_is_of_these_settings():
    stored = json.loads(benchmark.RESULT.read_text(encoding="utf-8"))["steps"]
    found = benchmark.measure()["steps"]
    assert found.keys() == stored.keys()
    for name, step in found.items():
        assert step["kept"] * benchmark.ROOM + step["state"] < benchmark.LIMIT, name
        assert step["batch"] == stored[name]["batch"], f"{name}: python -m benchmarks.step_memory"
        assert step["kept"] == pytest.approx(stored[name]["kept"], rel=0.2), name
