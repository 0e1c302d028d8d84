"""The training loop: clear stops, an honest clock."""

import math

import pytest
import torch
import torch.nn.functional as F

from labutils import training
from labutils.evaluation import accuracy_of
from labutils.training import NonFiniteLossError, train

STEPS = 12


class Task:
    """A small classification task with dropout, noise from a generator and momentum."""

    def __init__(self, width=8, optimizer=torch.optim.SGD, **options):
        self.generator = torch.Generator().manual_seed(1)
        self.inputs = torch.randn(40, 5, generator=self.generator)
        self.labels = torch.randint(3, (40,), generator=self.generator)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            self.model = torch.nn.Sequential(
                torch.nn.Linear(5, width), torch.nn.BatchNorm1d(width), torch.nn.ReLU(),
                torch.nn.Dropout(0.3), torch.nn.Linear(width, 3),
            )  # fmt: skip
        options = options or {"momentum": 0.9}
        self.optimizer = optimizer(self.model.parameters(), 0.1, **options)
        torch.manual_seed(3)

    def loss(self, step):
        chosen = torch.randint(40, (10,), generator=self.generator)
        noise = torch.randn(10, 5, generator=self.generator)
        return F.cross_entropy(self.model(self.inputs[chosen] + 0.1 * noise), self.labels[chosen])

    def accuracy(self):
        return accuracy_of(self.model, self.inputs, self.labels)

    def train(self, num_steps=STEPS, loss=None, **options):
        options = {"generators": [self.generator]} | options
        schedule = training.cosine_schedule(0.1, num_steps)
        return train(self.model, loss or self.loss, num_steps, self.optimizer, schedule, **options)


def result(task, history):
    return {
        "losses": history.losses,
        "evaluations": history.evaluations,
        "weights": task.model.state_dict(),
        "momentum": [task.optimizer.state[p] for p in task.model.parameters()],
        "next": torch.rand(3),
        "next_noise": torch.rand(3, generator=task.generator),
    }


def assert_identical(ours, theirs):
    """Bit for bit, through nested dicts and lists."""
    if isinstance(ours, torch.Tensor):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)
    elif isinstance(ours, dict):
        assert list(ours) == list(theirs)
        for key in ours:
            assert_identical(ours[key], theirs[key])
    elif isinstance(ours, list):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert_identical(a, b)
    else:
        assert ours == theirs


# --- clear stops ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_loss_names_step_and_settings(value):
    task = Task(momentum=0.9, weight_decay=5e-4)
    schedule = training.cosine_schedule(0.1, STEPS)

    def loss(step):
        return task.loss(step) * (value if step == 5 else 1)

    with pytest.raises(NonFiniteLossError) as caught:
        task.train(loss=loss)
    text = str(caught.value)
    assert f"at step 5 of {STEPS}" in text
    assert f"learning rate {schedule(5):.4g}" in text
    assert "SGD" in text
    assert "'momentum': 0.9" in text
    assert "'weight_decay': 0.0005" in text
    assert "precision float32" in text
    assert "Lower the learning rate" in text


def test_non_finite_loss_at_the_first_step():
    task = Task()
    with pytest.raises(NonFiniteLossError, match=r"at step 0 .*loss before: none"):
        task.train(loss=lambda step: task.loss(step) * math.nan)


def test_unknown_precision():
    with pytest.raises(ValueError, match="unknown precision 'half'; choose one of: float32, auto"):
        Task().train(precision="half")


def test_automatic_precision_is_plain_float32_on_a_cpu():
    one, other = Task(), Task()
    one = result(one, one.train(precision="float32"))
    torch.manual_seed(3)
    assert_identical(result(other, other.train(precision="auto")), one)


# --- schedule, clock, modes ----------------------------------------------------------------------


def test_the_rate_of_every_step_is_set_before_it():
    task = Task()
    task.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))]})
    seen = []

    def loss(step):
        seen.append([group["lr"] for group in task.optimizer.param_groups])
        return task.loss(step)

    task.train(loss=loss)
    schedule = training.cosine_schedule(0.1, STEPS)
    assert seen == [[schedule(k)] * 2 for k in range(STEPS)]


def test_losses_are_those_of_the_steps():
    task, seen = Task(), []

    def loss(step):
        value = task.loss(step)
        seen.append((step, value.item()))
        return value

    losses = task.train(loss=loss).losses
    assert losses.dtype == torch.float32
    assert losses.tolist() == [value for _, value in seen]
    assert [step for step, _ in seen] == list(range(STEPS))


def test_the_clock_leaves_evaluation_out(monkeypatch):
    """A step takes a second, an evaluation 100, on a clock of our own."""
    now, task = [50.0], Task()
    monkeypatch.setattr(training, "perf_counter", lambda: now[0])

    def loss(step):
        now[0] += 1
        return task.loss(step)

    def evaluate():
        now[0] += 100
        return 0.0

    history = task.train(loss=loss, evaluate=evaluate, evaluate_steps=(1, 4, 9))
    assert history.seconds == {1: 1, 4: 4, 9: 9, STEPS: STEPS}


def test_evaluation_mode_only_while_evaluating():
    task = Task()
    task.model.eval()
    modes = {"train": [], "evaluate": []}

    def loss(step):
        modes["train"].append([m.training for m in task.model.modules()])
        return task.loss(step)

    def evaluate():
        modes["evaluate"].append([m.training for m in task.model.modules()])
        return torch.tensor(1.5)

    history = task.train(loss=loss, evaluate=evaluate, evaluate_steps=[2, 5, STEPS])
    assert all(all(flags) for flags in modes["train"])
    assert len(modes["evaluate"]) == 3
    assert not any(any(flags) for flags in modes["evaluate"])
    assert all(m.training for m in task.model.modules())
    assert history.evaluations == {2: 1.5, 5: 1.5, STEPS: 1.5}


def test_same_seed_same_numbers():
    one, same, other = Task(), Task(), Task()
    torch.manual_seed(3)
    one = result(one, one.train())
    torch.manual_seed(3)
    same = result(same, same.train())
    torch.manual_seed(4)
    other = result(other, other.train())
    assert_identical(one, same)
    assert not torch.equal(one["losses"], other["losses"])


def test_training_learns():
    task = Task()
    before = task.accuracy()
    task.train(200)
    assert task.accuracy() > before + 10
