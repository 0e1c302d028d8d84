"""The RS2 chapter's experiment: every arm gets as many steps as it is promised, on one schedule."""

import math
import types

import pytest
import torch

from labutils import data, training
from press import technique


def streams(seed):
    names = ("split", "initialisation", "sampling", "augmentation")
    return types.SimpleNamespace(**{k: torch.Generator().manual_seed(seed) for k in names})


LAB = types.SimpleNamespace(
    device=torch.device("cpu"), streams=streams, checkpoint=lambda run: None
)


def experiment_at(profile):
    """The technique and the experiment's functions at the settings of a profile; and these."""
    s = types.SimpleNamespace(**technique.settings("rs2", profile))
    given = {"lab": LAB, "S": s}
    return technique.load("rs2", tags=("technique", "experiment"), given=given), s


TRAINING_IMAGES = {
    "fashion-mnist-mini": 2000,
    "fashion-mnist": 60_000,
    "cifar10": 50_000,
}


ARMS = ("RS2", "RS2 with replacement", "RS2 stratified", "static random", "all data")


@pytest.mark.parametrize("profile", ["smoke", "small", "full"])
@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_fills_the_steps_of_the_run(profile, arm):
    """Equal budgets: every arm makes exactly S * T batches, all of `batch_size` examples."""
    experiment, s = experiment_at(profile)
    n = TRAINING_IMAGES[s.dataset] - s.num_validation
    labels = torch.arange(n) % 10
    for ratio in s.ratios:
        generator = torch.Generator().manual_seed(0)
        rounds = experiment.rounds_of(arm, ratio, s.num_rounds, labels, None, generator)[0]
        batches = experiment.batches_of(rounds, s.batch_size)
        steps = experiment.shortened_run(n, ratio, s.num_rounds, s.batch_size)
        assert len(batches) == steps, f"r = {ratio}"
        assert {len(batch) for batch in batches} == {s.batch_size}, f"r = {ratio}"


def test_the_cosine_ends_with_the_run(monkeypatch):
    """`train_on` follows one cosine over exactly the steps of the shortened run."""
    experiment, s = experiment_at("smoke")
    generator = torch.Generator().manual_seed(0)
    dataset = data.load(s.dataset, num_validation=s.num_validation, generator=generator)
    seen = {}

    def watched(model, step_loss, num_steps, optimizer, learning_rate, **options):
        seen.update(steps=num_steps, rates=[learning_rate(k) for k in range(num_steps + 1)])
        return training.train(model, step_loss, num_steps, optimizer, learning_rate, **options)

    monkeypatch.setattr(experiment, "train", watched)
    n, ratio, num_rounds, rate = len(dataset.train), s.ratios[0], 3, 0.1
    (row,) = experiment.compare(0, dataset, ratio, num_rounds, ["RS2"], {"RS2": rate}, None)
    steps = num_rounds * math.ceil(round(ratio * n) / s.batch_size)
    assert seen["steps"] == row["steps"] == steps
    expected = [
        s.final_rate + (rate - s.final_rate) * (1 + math.cos(math.pi * k / steps)) / 2
        for k in range(steps + 1)
    ]
    assert seen["rates"] == pytest.approx(expected, abs=1e-12)
