"""Captured steps give the numbers of plain ones, and say it where they cannot be captured."""

import copy
import os

import joblib
import pretend_card
import pytest
import tape
import torch
import torch.nn.functional as F

from labutils import augment, capture, training

STEPS = 30


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(capture, "log", lines.append)
    capture._say.cache_clear()
    return lines


@pytest.fixture
def graphs(monkeypatch, said):
    """Steps on the CPU are captured, by the stand-in."""
    monkeypatch.setattr(capture, "DEVICES", ("cpu",))
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(capture, "_watched", lambda step, stream: step() or [])
    monkeypatch.setattr(capture, "_record", tape.record)
    return said


class Interruption(Exception):
    pass


class Task:
    """Images, augmentation, batch norm, dropout, momentum, a moving average and a memory."""

    def __init__(self, device="cpu", optimizer=torch.optim.SGD, rate=0.125, **options):
        draw = torch.Generator().manual_seed(0)
        self.rate, self.runs, self.told, self.steps = rate, 0, [], STEPS
        self.images = torch.randint(256, (64, 1, 8, 8), generator=draw).to(torch.uint8).to(device)
        self.labels = torch.randint(3, (64,), generator=draw).to(device)
        self.batches = torch.randint(64, (STEPS, 16), generator=draw).to(device)
        self.memory = torch.zeros(64, device=device)
        self.factor = torch.ones((), device=device)
        self.generator = torch.Generator(device).manual_seed(1)
        torch.manual_seed(2)
        self.model = torch.nn.Sequential(
            torch.nn.Conv2d(1, 6, 3, stride=2), torch.nn.BatchNorm2d(6), torch.nn.ReLU(),
            torch.nn.Flatten(), torch.nn.Dropout(0.3), torch.nn.Linear(54, 3),
        ).to(device)  # fmt: skip
        options = options or {"momentum": 0.9}
        self.optimizer = optimizer(self.model.parameters(), rate, fused=True, **options)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizer.register_step_post_hook(lambda *_: self.update_average())
        torch.manual_seed(3)

    def loss(self, indices):
        self.runs += 1
        moved = augment.pad_crop_flip(self.images[indices], 1, self.generator)
        logits = self.model(augment.normalise(moved, (0.5,), (0.25,))).float()
        losses = F.cross_entropy(logits, self.labels[indices], reduction="none")
        self.memory.index_copy_(0, indices, losses.detach())
        return self.factor * losses.mean()

    def update_average(self):
        for mean, weight in zip(self.average.parameters(), self.model.parameters(), strict=True):
            mean.lerp_(weight.detach(), 0.1)

    def before(self, k):
        self.told.append(k)
        self.factor.fill_(1 if k < 20 else 0.5)

    def evaluate(self):
        with torch.no_grad():
            return self.average[5].weight.sum().item()

    def train(self, **options):
        options = {"inputs": (self.batches,), "before": self.before} | options
        return training.train(
            self.model, self.loss, self.steps, self.optimizer, lambda k: self.rate * (1 - k / 32),
            generators=[self.generator], state={"average": self.average}, evaluate=self.evaluate,
            evaluate_steps=(2, 10, 11, STEPS), **options,
        )  # fmt: skip


def numbers(task, history):
    return {
        "losses": history.losses,
        "evaluations": torch.tensor(list(history.evaluations.values())),
        "memory": task.memory.cpu(),
        "next": torch.rand(3, generator=task.generator, device=task.generator.device).cpu(),
        **{f"average {name}": x.cpu() for name, x in task.average.state_dict().items()},
        **{name: x.cpu() for name, x in task.model.state_dict().items()},
    }


def assert_equal(ours, theirs, **tolerance):
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(
            value, theirs[name], **({"atol": 0, "rtol": 0} | tolerance), msg=f"{name} differs"
        )


KINDS = [(torch.optim.SGD, {}), (torch.optim.AdamW, {"weight_decay": 0.01})]


@pytest.mark.parametrize(("optimizer", "options"), KINDS)
def test_captured_steps_give_the_same_numbers_without_python(graphs, optimizer, options):
    """Rates are multiples of 1/256, which float32 holds: bit for bit."""
    task = Task(optimizer=optimizer, **options)
    ours = numbers(task, task.train())
    assert task.runs == capture.WARM_UP + 1 + 2  # two, to hold replays against
    assert task.told == list(range(STEPS))
    assert not graphs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capture, "DEVICES", ())
        plain = Task(optimizer=optimizer, **options)
        assert_equal(ours, numbers(plain, plain.train()))
        assert plain.runs == STEPS


@pytest.mark.parametrize("stop", [2, 10])
def test_a_resumed_run_ends_with_the_same_numbers(graphs, tmp_path, stop):
    task = Task()
    whole = numbers(task, task.train())
    saved = {"checkpoint": tmp_path / "run.pt", "checkpoint_seconds": 0}
    broken = Task()

    def before(k):
        if k == stop:
            raise Interruption
        broken.before(k)

    with pytest.raises(Interruption):
        broken.train(before=before, **saved)
    again = Task()
    again.memory.copy_(broken.memory)
    assert_equal(numbers(again, again.train(**saved)), whole)
    assert again.told[0] == stop


@pytest.mark.parametrize("how", ["counts", "rebinds"])
def test_a_step_in_which_python_takes_part_is_found(graphs, how):
    """A graph would go on with the values of the step that was recorded."""
    task = Task()
    loss, kept = task.loss, torch.zeros(64)

    def stateful(indices):
        nonlocal kept
        found = loss(indices) + kept.mean()
        kept = task.memory * (task.runs if how == "counts" else 0.5)
        return found

    task.loss = stateful
    with pytest.raises(tape.ReplayError, match="other numbers"):
        task.train()


def test_a_loss_that_is_not_finite_is_named_as_before(graphs):
    task = Task()

    def before(k):
        task.factor.fill_(float("nan") if k == 12 else 1.0)

    with pytest.raises(training.NonFiniteLossError, match="at step 12 of 30"):
        task.train(before=before)


def test_where_a_step_cannot_be_captured_it_runs_as_it_is_and_says_so_once(graphs, monkeypatch):
    task = Task()
    expected = numbers(task, task.train())

    def failing(step, stream, generators):
        torch.rand(5, generator=generators[0])
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    cases = {
        "given rows of tensors": {"inputs": ()},
        "waits for the host at notebook:3": {"_watched": lambda s, _: s() or ["notebook:3"]},
        "not permitted when stream is capturing": {"_record": failing},
    }
    for reason, change in cases.items():
        options = {"inputs": change.pop("inputs")} if "inputs" in change else {}
        with monkeypatch.context() as patch:
            for name, value in change.items():
                patch.setattr(capture, name, value)
            for _ in range(2):
                task = Task()
                if options:
                    loss = task.loss
                    task.loss = lambda k, task=task, loss=loss: loss(task.batches[k])
                assert_equal(numbers(task, task.train(**options)), expected)
                assert task.runs == STEPS
        assert reason in graphs.pop()
        assert not graphs


def test_a_generator_on_another_device_is_an_obstacle(monkeypatch):
    monkeypatch.setattr(capture, "DEVICES", ("cpu",))
    rows = [torch.zeros(3, 2)]
    assert capture._obstacle(rows, [torch.Generator()]) == ""
    monkeypatch.setattr(capture, "DEVICES", ("meta",))
    on_device = [torch.zeros(3, 2, device="meta")]
    assert "generator is on the CPU" in capture._obstacle(on_device, [torch.Generator()])


def test_short_runs_and_runs_on_a_cpu_are_plain_and_silent(graphs, monkeypatch):
    task = Task()
    task.steps = capture.WORTHWHILE - 1
    task.train()
    assert task.runs == task.steps
    monkeypatch.setattr(capture, "DEVICES", ("cuda",))
    task = Task()
    task.train()
    assert task.runs == STEPS
    assert not graphs


@pytest.mark.parametrize(("optimizer", "options"), KINDS)
@pytest.mark.parametrize("native", [True, False], ids=["bfloat16", "float16 with scaling"])
def test_steps_in_half_precision_are_captured_too(said, monkeypatch, optimizer, options, native):
    monkeypatch.setitem(pretend_card.ANSWERS, "is_bf16_supported", native)
    with pretend_card.here():
        task = Task("cuda", optimizer, **options)
        history = task.train(precision="auto")
        assert task.runs == capture.WARM_UP + 1 + 2
    assert not said
    assert history.losses.isfinite().all()


# --- jobs that share a card -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free", "need", "cores", "jobs", "seconds", "expected"),
    [
        (70.0, 1.0, 16, 40, 10.0, 16),  # a core each
        (70.0, 20.0, 16, 40, 10.0, 3),  # what fits: 0.9 * 70 / 20.6
        (70.0, 1.0, 16, 3, 20.0, 3),  # no more than there are jobs
        (2.0, 8.0, 16, 40, 10.0, 1),  # nothing fits: one after the other
        (70.0, 1.0, 16, 5, 1.0, 1),  # done before others were ready
        (70.0, 1.0, 16, 0, 1.0, 1),
    ],
)
def test_as_many_jobs_share_a_card_as_fit(monkeypatch, free, need, cores, jobs, seconds, expected):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (int(free * 2**30), 80 * 2**30))
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _: int(need * 2**30))
    monkeypatch.setattr(capture.joblib, "cpu_count", lambda: cores)
    monkeypatch.setenv("OMP_NUM_THREADS", str(cores))
    assert capture.workers(torch.device("cuda"), jobs, seconds) == expected
    assert int(os.environ["OMP_NUM_THREADS"]) == cores // expected  # processes share the cores


def test_processes_get_the_threads_that_were_said_for_them(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    said = joblib.Parallel(2)(joblib.delayed(os.environ.get)("OMP_NUM_THREADS") for _ in range(2))
    assert said == ["3", "3"]


# --- on a card ------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize(("optimizer", "options"), KINDS)
@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_a_card_gives_the_same_losses_captured_and_plain(
    said, monkeypatch, optimizer, options, precision
):
    task = Task("cuda", optimizer, **options)
    ours = numbers(task, task.train(precision=precision))
    assert task.runs == capture.WARM_UP + 1, said
    monkeypatch.setattr(capture, "DEVICES", ())
    plain = Task("cuda", optimizer, **options)
    theirs = numbers(plain, plain.train(precision=precision))
    assert_equal(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.gpu
def test_a_card_goes_on_where_it_stopped(said, tmp_path):
    task = Task("cuda")
    whole = numbers(task, task.train())
    broken, saved = Task("cuda"), {"checkpoint": tmp_path / "run.pt", "checkpoint_seconds": 0}

    def before(k):
        if k == 9:
            raise Interruption
        broken.before(k)

    with pytest.raises(Interruption):
        broken.train(before=before, **saved)
    again = Task("cuda")
    again.memory.copy_(broken.memory)
    assert_equal(numbers(again, again.train(**saved)), whole, atol=1e-4, rtol=1e-4)


@pytest.mark.gpu
def test_a_card_finds_a_wait_and_trains_on(said):
    task = Task("cuda")
    loss = task.loss
    task.loss = lambda indices: loss(indices) * (1 if indices.sum().item() >= 0 else 2)
    history = task.train()
    assert task.runs == STEPS
    assert "waits for the host at" in said[0]
    assert history.losses.isfinite().all()
