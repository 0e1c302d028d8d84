"""No step of the SimCLRv2 chapter waits for the host."""

import sys
from pathlib import Path

import no_wait
import pytest
import torch

from labutils import training
from press import technique

sys.path.insert(0, str(Path(__file__).parent))  # whatever the import mode of pytest
import test_simclrv2_experiment as tests


@pytest.fixture
def experiment():
    given = {"lab": tests.LAB, "S": tests.small_settings()}
    module = technique.load("simclrv2", tags=tests.TAGS, given=given)
    tests.on(module)
    return module


def step_of(experiment, run):
    """One whole step of what `run` hands to `train`."""
    handed = {}

    def train(model, step_loss, num_steps, optimizer, learning_rate, **options):
        handed.update(options, step_loss=step_loss, optimizer=optimizer)
        return training.History(torch.zeros(num_steps))

    vars(experiment)["train"] = train
    run()
    rows = [row[0] for row in handed["inputs"]]

    def step():
        handed["optimizer"].zero_grad()
        handed["step_loss"](*rows).backward()
        handed["optimizer"].step()

    return step


def network(experiment):
    return experiment.FineTuned(*experiment.fresh_pair(0, "width 3", (1, 10)), 1, 10)


@pytest.mark.parametrize("name", ["width 2", "crop only", "colour only"])
def test_a_step_of_pretraining_never_waits(experiment, name):
    no_wait.check(step_of(experiment, lambda: experiment.pretrain(0, name, 20)))


@pytest.mark.parametrize("kind", ["labels", "soft labels", "both"])
def test_a_step_of_fine_tuning_and_of_distillation_never_waits(experiment, kind):
    task = experiment.task_of(0, 0, 2)
    soft = experiment.soft_labels(network(experiment), task.pool["all"])
    parts = {"labels": (task.hard, ()), "soft labels": ((), soft), "both": (task.hard, soft)}[kind]
    student = network(experiment)
    no_wait.check(step_of(experiment, lambda: experiment.fit(student, 4, 0.1, *parts)))
