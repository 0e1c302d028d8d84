"""The RS2 chapter's experiment: every arm gets as many steps as it is promised, on one schedule."""

import ast
import math
import types

import pytest
import torch

from labutils import augment, data, models, notebooks, training


@pytest.fixture(scope="module")
def experiment():
    """Technique cells plus the experiment's functions and constants, nothing of it executed."""
    module = types.ModuleType("experiment")
    vars(module).update(vars(notebooks.load("04-rs2")))
    for _, cell in notebooks.code_cells(notebooks.read(notebooks.path("04-rs2"))):
        for node in ast.parse(cell["source"]).body:
            names = {"SETTINGS", "FRESH", "PRUNING", "ARMS"}
            constant = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in names
            plain = isinstance(node, ast.Import | ast.ImportFrom) and "plots" not in ast.unparse(
                node
            )
            if constant or plain or (isinstance(node, ast.FunctionDef) and node.name != "per_seed"):
                exec(compile(ast.Module([node], []), "04-rs2", "exec"), vars(module))
    return module


TRAINING_IMAGES = {
    "fashion-mnist-mini": 2000,
    "fashion-mnist": 60_000,
    "cifar10": 50_000,
}


def known(reason, *values):
    return pytest.param(*values, marks=pytest.mark.xfail(reason=reason))


THREE = "130 examples of 10 classes make 3 batches, 128 make 2: a third of the run is cut off"
FEW = "epochs are counted in examples: 704 batches for 800 steps at r = 1 %"


@pytest.mark.parametrize(
    ("profile", "arm"),
    [
        ("smoke", "RS2"),
        ("smoke", "RS2 with replacement"),
        known(THREE, "smoke", "RS2 stratified"),
        known(THREE, "smoke", "static random"),
        ("smoke", "all data"),
        ("small", "RS2"),
        ("small", "RS2 with replacement"),
        known(THREE, "small", "RS2 stratified"),
        known(THREE, "small", "static random"),
        ("small", "all data"),
        ("full", "RS2"),
        ("full", "RS2 with replacement"),
        ("full", "RS2 stratified"),
        ("full", "static random"),
        known(FEW, "full", "all data"),
    ],
)
def test_every_arm_fills_the_steps_of_the_run(experiment, monkeypatch, profile, arm):
    """Arms of T rounds make exactly S * T batches; ordinary epochs may end with some to spare."""
    s = types.SimpleNamespace(**experiment.SETTINGS[profile])
    monkeypatch.setattr(experiment, "S", s, raising=False)
    n = TRAINING_IMAGES[s.dataset] - s.num_validation
    labels = torch.arange(n) % 10
    for ratio in s.ratios:
        generator = torch.Generator().manual_seed(0)
        rounds = experiment.rounds_of(arm, ratio, s.num_rounds, labels, None, generator)[0]
        batches = len(experiment.batches_of(rounds, s.batch_size))
        steps = experiment.shortened_run(n, ratio, s.num_rounds, s.batch_size)
        assert batches >= steps if arm == "all data" else batches == steps, f"r = {ratio}"


def test_the_cosine_ends_with_the_run(experiment, monkeypatch):
    """`train_on` follows one cosine over exactly the steps of the shortened run."""
    s = types.SimpleNamespace(**experiment.SETTINGS["smoke"])
    generator = torch.Generator().manual_seed(0)
    dataset = data.load(s.dataset, num_validation=s.num_validation, generator=generator)
    seen = {}

    def watched(model, step_loss, num_steps, optimizer, learning_rate, **options):
        seen.update(steps=num_steps, rates=[learning_rate(k) for k in range(num_steps + 1)])
        return training.train(model, step_loss, num_steps, optimizer, learning_rate, **options)

    def streams(seed):
        names = ("split", "initialisation", "sampling", "augmentation")
        return types.SimpleNamespace(**{k: torch.Generator().manual_seed(seed) for k in names})

    lab = types.SimpleNamespace(
        device=torch.device("cpu"), streams=streams, checkpoint=lambda run: None
    )
    replaced = {"S": s, "lab": lab, "train": watched}
    for name, value in (replaced | {"models": models, "augment": augment}).items():
        monkeypatch.setattr(experiment, name, value, raising=False)
    n, ratio, num_rounds, rate = len(dataset.train), s.ratios[0], 3, 0.1
    (row,) = experiment.compare(0, dataset, ratio, num_rounds, ["RS2"], {"RS2": rate}, None)
    steps = num_rounds * math.ceil(round(ratio * n) / s.batch_size)
    assert seen["steps"] == row["steps"] == steps
    expected = [
        s.final_rate + (rate - s.final_rate) * (1 + math.cos(math.pi * k / steps)) / 2
        for k in range(steps + 1)
    ]
    assert seen["rates"] == pytest.approx(expected, abs=1e-12)
