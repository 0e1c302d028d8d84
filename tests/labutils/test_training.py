"""The training loop: resumed runs, clear stops, an honest clock."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from labutils import training
from labutils.evaluation import accuracy_of
from labutils.training import CheckpointError, NonFiniteLossError, train

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


# --- a run killed and continued ------------------------------------------------------------------


@pytest.mark.slow
def test_killed_and_resumed_ends_with_the_same_numbers(tmp_path):
    """SIGKILL at 4 given steps and 20 random moments; losses, weights, evaluations bit for bit."""
    script = Path(__file__).with_name("killed_training.py")
    environment = {**os.environ, "PYTHONPATH": str(script.parents[2])}
    command = [sys.executable, script, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    began = json.loads(done.stdout)
    whole = torch.load(tmp_path / "whole.result")
    assert list(whole["evaluations"]) == list(range(5, 41, 5))
    for name, firsts in began.items():
        assert_identical(torch.load(tmp_path / f"{name}.result"), whole)
        if name.startswith("step"):
            assert firsts == [0, int(name.split()[1])]  # not one step was lost
        else:
            assert firsts == sorted(firsts)
            assert firsts[-1] >= 1
    assert sum(len(f) - 1 for name, f in began.items() if name.startswith("moments")) == 20


class Interruption(Exception):
    pass


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_resumed_after_every_step(tmp_path, optimizer):
    options = {"weight_decay": 0.01} | ({"momentum": 0.9} if optimizer is torch.optim.SGD else {})
    watch = {"evaluate_steps": (3, 7, STEPS)}
    task = Task(optimizer=optimizer, **options)
    whole = result(task, task.train(evaluate=task.accuracy, **watch))
    for k in range(STEPS):
        saved = {"checkpoint": tmp_path / f"{k}.pt", "checkpoint_seconds": 0}
        broken = Task(optimizer=optimizer, **options)

        def loss(step, broken=broken, k=k):
            if step == k:
                raise Interruption
            return broken.loss(step)

        with pytest.raises(Interruption):
            broken.train(loss=loss, evaluate=broken.accuracy, **watch, **saved)
        task = Task(optimizer=optimizer, **options)
        torch.rand(k)  # another state of the global generator
        if k == 0:
            torch.manual_seed(3)
        assert_identical(result(task, task.train(evaluate=task.accuracy, **watch, **saved)), whole)


def test_a_finished_run_is_not_trained_again(tmp_path):
    saved = {"checkpoint": tmp_path / "run.pt"}
    task = Task()
    whole = task.train(evaluate=task.accuracy, evaluate_steps=[STEPS], **saved)
    again, unused = Task(), {"loss": lambda step: pytest.fail("trained")}
    history = again.train(evaluate=again.accuracy, evaluate_steps=[STEPS], **unused, **saved)
    assert_identical(history.losses, whole.losses)
    assert history.evaluations == whole.evaluations
    assert_identical(dict(again.model.state_dict()), dict(task.model.state_dict()))
    assert history.seconds[STEPS] == pytest.approx(whole.seconds[STEPS], abs=0.05)


def test_checkpoints_are_written_no_more_often_than_asked(tmp_path, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(training, "monotonic", lambda: next(clock))
    steps, save = [], training._Run.save
    monkeypatch.setattr(
        training._Run, "save", lambda run, path: (steps.append(run.done), save(run, path))
    )
    Task().train(20, checkpoint=tmp_path / "run.pt", checkpoint_seconds=5)
    assert steps[-1] == 20
    assert len(steps) <= 5


def checkpoint_of(task, file, **options):
    task.train(checkpoint=file, **options)
    return file.read_bytes()


@pytest.mark.parametrize("damage", ["empty", "truncated", "text", "flipped", "another file"])
def test_damaged_checkpoint(tmp_path, damage):
    file = tmp_path / "run.pt"
    content = checkpoint_of(Task(), file)
    if damage == "another file":
        torch.save({"weights": torch.ones(3)}, file)
    else:
        broken = {
            "empty": b"",
            "truncated": content[: len(content) // 2],
            "text": b"not a checkpoint\n",
            "flipped": content[:100] + bytes(200) + content[300:],
        }
        file.write_bytes(broken[damage])
    before = file.read_bytes()
    task = Task()
    weights = {k: v.clone() for k, v in task.model.state_dict().items()}
    with pytest.raises(CheckpointError, match="not a readable checkpoint") as caught:
        task.train(checkpoint=file)
    assert f"Delete {file} to train from the start" in str(caught.value)
    assert file.read_bytes() == before
    assert_identical(dict(task.model.state_dict()), weights)


@pytest.mark.parametrize(
    ("other", "options", "message"),
    [
        (Task, {"num_steps": STEPS + 1}, "run of 12 steps with .* this run has 13 steps"),
        (Task, {"state": {"extra": torch.nn.Linear(1, 1)}}, "this run has 12 steps with .*extra"),
        (Task, {"generators": []}, "1 generators; this run has .* 0 generators"),
        (lambda: Task(width=9), {}, "does not fit this run .*size mismatch"),
    ],
)
def test_checkpoint_of_another_run(tmp_path, other, options, message):
    file = tmp_path / "run.pt"
    before = checkpoint_of(Task(), file)
    with pytest.raises(CheckpointError, match=f"(?s){message}.*Delete"):
        other().train(checkpoint=file, **options)
    assert file.read_bytes() == before


def test_a_failing_save_leaves_the_earlier_checkpoint(tmp_path, monkeypatch):
    file = tmp_path / "run.pt"
    before = checkpoint_of(Task(), file)
    (tmp_path / "run.pt.123.tmp").write_bytes(b"left by a process that was killed")

    def full(path, content):
        with path.open("wb") as stream:
            stream.write(content[: len(content) // 2])
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    task = Task()
    with pytest.raises(OSError, match="No space"):
        training._Run(task.model, task.optimizer, STEPS, [], {}, "float32").save(file)
    assert file.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2  # half a file would keep the disk full
    monkeypatch.undo()
    Task().train(checkpoint=file)


# --- clear stops ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_loss_names_step_and_settings(tmp_path, value):
    task = Task(momentum=0.9, weight_decay=5e-4)
    file = tmp_path / "run.pt"
    schedule = training.cosine_schedule(0.1, STEPS)

    def loss(step):
        return task.loss(step) * (value if step == 5 else 1)

    with pytest.raises(NonFiniteLossError) as caught:
        task.train(loss=loss, checkpoint=file, checkpoint_seconds=0, evaluate=task.accuracy)
    text = str(caught.value)
    assert f"at step 5 of {STEPS}" in text
    assert f"learning rate {schedule(5):.4g}" in text
    assert "SGD" in text
    assert "'momentum': 0.9" in text
    assert "'weight_decay': 0.0005" in text
    assert "precision float32" in text
    assert "Lower the learning rate" in text
    saved = torch.load(file)  # the last checkpoint is the one from before
    assert saved["step"] == 5
    assert all(v.isfinite().all() for v in saved["parts"]["model"].values())


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


def test_the_clock_leaves_evaluation_and_saving_out(tmp_path, monkeypatch):
    """A step takes a second, an evaluation 100 and a checkpoint 1000, on a clock of our own."""
    now = [50.0]
    monkeypatch.setattr(training, "perf_counter", lambda: now[0])
    save = training._Run.save

    def slow_save(*arguments):
        now[0] += 1000
        save(*arguments)

    monkeypatch.setattr(training._Run, "save", slow_save)

    def run(stop=None):
        task = Task()

        def loss(step):
            if step == stop:
                raise Interruption
            now[0] += 1
            return task.loss(step)

        def evaluate():
            now[0] += 100
            return 0.0

        return task.train(
            loss=loss, evaluate=evaluate, evaluate_steps=(1, 4, 9),
            checkpoint=tmp_path / "run.pt", checkpoint_seconds=0,
        )  # fmt: skip

    expected = {1: 1, 4: 4, 9: 9, STEPS: STEPS}
    with pytest.raises(Interruption):
        run(stop=6)
    now[0] += 5000  # the pause counts as little
    assert run().seconds == expected


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


def test_progress_bar_with_a_head_and_short_runs_without(monkeypatch, capfd):
    monkeypatch.setenv("LABUTILS_HEADLESS", "1")
    Task().train(description="a run")
    assert capfd.readouterr() == ("", "")
    monkeypatch.delenv("LABUTILS_HEADLESS")
    Task().train(description="a run")
    assert "a run" in capfd.readouterr().err
