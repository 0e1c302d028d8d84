"""The experiment of the lab on SSLD: what every arm may see, and what chooses the rates.

Tests that take the experiment's module as their argument are also handed modules with a mistake in
them, by test_ssld_mutations.py.
"""

import functools
import math
import types

import no_wait
import pytest
import torch
import torch.nn.functional as F
from stand_in import streams

from labutils import augment, data, models, training
from labutils.evaluation import linear_probe
from press import technique

SETTINGS = technique.settings("ssld", "smoke") | {"known": (1, 4, 6), "num_steps": 5}
S = types.SimpleNamespace(**SETTINGS)
TAGS = ("technique", "experiment")


LAB = types.SimpleNamespace(
    device=torch.device("cpu"), streams=streams, seeds=(0, 1),
    map=lambda function, jobs, description: [function(*job) for job in jobs],
)  # fmt: skip


@pytest.fixture
def experiment():
    return technique.load("ssld", tags=TAGS, given={"lab": LAB, "S": S})


# --- a draw --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn():
    """A draw of the small copy of Fashion-MNIST, and what it fitted teachers to."""
    return watched_draw(technique.load("ssld", tags=TAGS, given={"lab": LAB, "S": S}))


def watched_draw(experiment):
    fitted, last_layer = [], experiment.last_layer

    def watch(features, labels):
        fitted.append(labels)
        return last_layer(features, labels)

    vars(experiment)["last_layer"] = watch
    return experiment, experiment.draw(3), fitted


@functools.cache
def official():
    """{bytes of an image: its label}, of the training and of the test images."""
    parts = data.images.read(S.dataset)[:2]
    return [{x.numpy().tobytes(): int(y) for x, y in zip(p.images, p.labels)} for p in parts]  # noqa: B905


def keys(images):
    return [image.numpy().tobytes() for image in images]


def parts_of(world):
    """Rows of the labelled images, of the pool and of the strangers."""
    first = len(world.labels)
    return slice(0, first), slice(first, first + S.pool), slice(first + S.pool, None)


def test_the_first_images_are_equally_many_of_each_class_with_their_labels(drawn):
    _, world, _ = drawn
    assert len(world.labels) == 10 * (S.per_class + S.teacher_per_class)
    for k in (1, 4, 6, 24):
        assert torch.bincount(world.labels[: 10 * k]).tolist() == [k] * 10
    train = official()[0]
    assert [train[key] for key in keys(world.images[parts_of(world)[0]])] == world.labels.tolist()


def test_no_image_is_in_two_parts(drawn):
    _, world, _ = drawn
    named, pool, strangers = (set(keys(world.images[rows])) for rows in parts_of(world))
    assert len(pool) == S.pool
    assert pool <= set(official()[0])
    assert not pool & named
    assert not strangers & set(official()[0])
    assert len(world.images) == len(world.labels) + S.pool + S.strangers
    judged = set(keys(world.validation.images)) | set(keys(world.test.images))
    assert not judged & (named | pool)
    assert set(keys(world.test.images)) == set(official()[1])
    assert not set(keys(world.validation.images)) & set(official()[1])


def test_arms_see_what_their_names_say(drawn):
    experiment, world, _ = drawn
    first, n = len(world.labels), 10 * S.per_class
    own, pool = set(range(n)), set(range(first, first + S.pool))
    subsets = {name: set(rows.tolist()) for name, rows in world.subsets.items()}
    assert subsets["labelled"] == own
    assert subsets["all"] == own | pool
    for k in S.known:
        assert subsets[f"{k} known"] == set(range(10 * k))
    mixed = set(range(first + S.strangers, len(world.images)))
    assert len(mixed) == S.pool
    for way in experiment.WAYS:
        assert subsets[way] - own <= mixed
        assert own <= subsets[way]
        assert len(subsets[way] - own) <= S.strangers
    said = world.says["teacher"][sorted(mixed)]
    best = [first + S.strangers + i for i in said.amax(1).topk(S.strangers).indices.tolist()]
    assert subsets["top overall"] - own == set(best)
    best = experiment.top_per_class(said, S.strangers) + first + S.strangers
    assert subsets["top per class"] - own == set(best.tolist())
    strange = [row >= first + S.pool for row in subsets["random"] - own]
    assert 0.15 < sum(strange) / len(strange) < 0.55  # as many as in the pool, one in three


def test_the_teacher_learns_from_labels_that_no_student_has(drawn):
    _, world, fitted = drawn
    expected = [world.labels[: 10 * k] for k in S.known] + [world.labels[10 * S.per_class :]]
    for found, labels in zip(fitted, expected, strict=True):
        assert torch.equal(found, labels)


def test_teachers_are_frozen_and_were_asked_about_the_images_themselves(drawn):
    _, world, _ = drawn
    assert not any(weight.requires_grad for weight in world.teacher.parameters())
    assert not world.teacher.training
    some = slice(0, None, 7)
    said = world.teacher(world.images[some] / 255).log_softmax(1)
    assert torch.allclose(said, world.says["teacher"][some], atol=1e-3)
    assert set(world.says) == {"teacher", *(f"teacher of {k}" for k in S.known)}
    right = world.teacher(world.test.images / 255).argmax(1) == world.test.labels
    assert world.taught["teacher"] == pytest.approx(100 * right.double().mean().item(), abs=0.3)
    assert world.taught["teacher of 1"] < world.taught["teacher of 6"] < world.taught["teacher"]


def test_the_last_layer_says_what_a_logistic_regression_says(experiment):
    features = 3 * torch.randn(80, 64, generator=torch.Generator().manual_seed(0)).abs()
    labels = torch.arange(80) % 10
    expected = linear_probe(features, labels)(features)
    found = experiment.last_layer(features, labels)(features).log_softmax(1)
    assert torch.allclose(found, expected, atol=1e-3)


# --- a small world by hand -----------------------------------------------------------------------


def tiny_world(labels=True):
    """240 labelled images, a pool of 60 and 40 strangers of noise; a small network as teacher."""
    generator = torch.Generator().manual_seed(4)
    shape = (340, 1, 28, 28)
    images = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    says = {
        name: (2 * torch.randn(340, 10, generator=generator)).log_softmax(1)
        for name in ("teacher", *(f"teacher of {k}" for k in S.known))
    }
    rows = torch.arange(340)
    subsets = {"labelled": rows[:40], "all": torch.cat([rows[:40], rows[240:300]])}
    subsets |= {f"{k} known": rows[: 10 * k] for k in S.known}
    subsets |= dict.fromkeys(("random", "top per class", "top overall"), rows[280:])
    teacher = models.build("cnn-tiny", 1, 10, torch.Generator().manual_seed(8)).eval()
    parts = [
        data.Images(
            torch.randint(256, (n, 1, 28, 28), generator=generator, dtype=torch.uint8),
            torch.arange(n) % 10,
        )
        for n in (50, 70)
    ]
    return types.SimpleNamespace(
        images=images, labels=torch.arange(240) % 10 if labels else None, says=says,
        subsets=subsets, teacher=teacher.requires_grad_(False), moments=((0.3,), (0.35,)),
        validation=parts[0], test=parts[1],
    )  # fmt: skip


def test_targets_are_what_the_arms_say(experiment):
    world = tiny_world()
    soft, hard = world.says["teacher"].exp(), F.one_hot(world.labels, 10).float()
    expected = {
        "labels": hard,
        "mixed": 0.1 * hard + 0.9 * soft[:240],
        "teacher": soft,
        "teacher's class": F.one_hot(soft.argmax(1), 10).float(),
        "teacher of 4": world.says["teacher of 4"].exp(),
    }
    for target, probabilities in expected.items():
        found = experiment.targets(target, world).exp()
        assert torch.allclose(found, probabilities, atol=1e-6), target


def handed(experiment, arm, world=None, rate=0.2):
    """What `fit` hands to `labutils.training.train`."""
    seen = {}

    def train(student, step_loss, num_steps, optimizer, learning_rate, **options):
        seen.update(options, step_loss=step_loss, num_steps=num_steps, optimizer=optimizer)
        seen["rates"] = [learning_rate(k) for k in range(num_steps + 1)]
        return training.History(torch.zeros(num_steps))

    vars(experiment)["train"] = train
    student = models.build("cnn-tiny", 1, 10, streams(4).initialisation).train()
    experiment.fit(student, world or tiny_world(), arm, rate, 6, streams(4))
    return seen | {"student": student}


UNLABELLED = (
    "soft, all", "half Jeffreys", "true JS", "pseudo-labels", "same view", "random", "soft, 4",
)  # fmt: skip
LOSSES = {"half Jeffreys": "half_jeffreys", "true JS": "jensen_shannon"}


@pytest.mark.parametrize("arm", [*UNLABELLED, "hard labels", "hard + soft", "soft, labelled"])
def test_a_step_is_the_loss_of_an_arm_on_augmented_images(experiment, arm):
    step_is_the_loss(experiment, arm)


def step_is_the_loss(experiment, arm):
    world, seen, generator = tiny_world(), handed(experiment, arm), streams(4).augmentation
    student = models.build("cnn-tiny", 1, 10, streams(4).initialisation).train()
    subset, target, _, _ = experiment.ARMS[arm]
    loss = getattr(experiment, LOSSES.get(arm, "cross_entropy"))
    (picks,) = seen["inputs"]
    assert picks.shape == (6, S.batch_size)
    assert set(picks.flatten().tolist()) <= set(world.subsets[subset].tolist())
    assert len(picks.unique()) > 0.7 * len(world.subsets[subset])
    for rows in picks:
        views = augment.pad_crop_flip(world.images[rows], 2, generator)
        log_p = (
            world.teacher(views / 255).log_softmax(1)
            if arm == "same view"
            else experiment.targets(target, world)[rows]
        )
        expected = loss(log_p, student(augment.normalise(views, (0.3,), (0.35,)))).item()
        assert seen["step_loss"](rows).item() == pytest.approx(expected, rel=1e-5)


def test_without_labels_means_that_there_are_none(experiment):
    for arm in UNLABELLED:
        seen = handed(experiment, arm, tiny_world(labels=False))
        assert seen["step_loss"](seen["inputs"][0][0]).isfinite()


def test_optimiser_and_schedule_are_those_of_the_page(experiment):
    seen = handed(experiment, "soft, all")
    group = seen["optimizer"].param_groups[0]
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, False, 5e-4)
    expected = [0.1 * (1 + math.cos(math.pi * k / 6)) for k in range(7)]
    assert seen["rates"] == pytest.approx(expected)


@pytest.mark.parametrize("arm", ["hard labels", "half Jeffreys", "true JS", "same view"])
def test_a_step_never_waits_for_the_host(experiment, arm):
    seen = handed(experiment, arm)

    def step():
        seen["optimizer"].zero_grad()
        seen["step_loss"](seen["inputs"][0][0]).backward()
        seen["optimizer"].step()

    no_wait.check(step)


# --- runs ----------------------------------------------------------------------------------------


def watch_fits(experiment):
    """Replace `fit` by one that trains nothing and notes what it was asked for."""
    calls = []

    def fit(student, world, arm, rate, num_steps, streams):
        states = [g.get_state() for g in (streams.sampling, streams.augmentation)]
        weights = student.patches.weight.clone()
        calls.append({"arm": arm, "rate": rate, "steps": num_steps, "start": [weights, *states]})

    vars(experiment)["fit"] = fit
    return calls


def test_all_arms_of_a_draw_start_alike_and_those_of_another_do_not(experiment):
    calls, world = watch_fits(experiment), tiny_world()
    for arm in experiment.ARMS:
        experiment.run(arm, 0.1, 0, world, "test")
    firsts = [call for call in calls if call["steps"] != S.fine_steps]
    for call in firsts:
        pairs = zip(call["start"], firsts[0]["start"], strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    experiment.run("soft, all", 0.1, 1, world, "test")
    pairs = zip(calls[-1]["start"], firsts[0]["start"], strict=True)
    assert not any(torch.equal(a, b) for a, b in pairs)


def test_equal_steps_but_for_the_longer_arms(experiment):
    calls = watch_fits(experiment)
    for arm in experiment.ARMS:
        experiment.run(arm, 0.1, 0, tiny_world(), "test")
    steps = {c["arm"]: c["steps"] for c in calls if c["steps"] != S.fine_steps}
    longer = {"hard labels, longer", "soft, all, longer"}
    assert set(steps) == set(experiment.ARMS)
    for arm, number in steps.items():
        assert number == (15 if arm in longer else 5), arm


def test_fine_tuning_follows_stage_one_with_labels_at_a_hundredth_of_the_rate(experiment):
    calls = watch_fits(experiment)
    experiment.run("fine-tuned", 0.2, 0, tiny_world(), "test")
    rows = [(call["arm"], call["rate"], call["steps"]) for call in calls]
    assert rows == [("fine-tuned", 0.2, 5), ("hard labels", pytest.approx(0.002), S.fine_steps)]
    assert experiment.ARMS["fine-tuned"] == experiment.ARMS["soft, all"]


def test_a_run_scores_the_part_that_was_asked_for(experiment):
    watch_fits(experiment)
    for part, other in (("validation", "test"), ("test", "validation")):
        world = tiny_world()
        scored = getattr(world, part)
        setattr(world, other, None)  # may not even be looked at
        student = models.build("cnn-tiny", 1, 10, streams(0).initialisation).eval()
        logits = student(augment.normalise(scored.images, (0.3,), (0.35,)))
        expected = 100 * (logits.argmax(1) == scored.labels).double().mean().item()
        assert experiment.run("soft, all", 0.1, 0, world, part) == pytest.approx(expected)


# --- rates ---------------------------------------------------------------------------------------

RATES = (0.03, 0.1, 0.3)
PEAKS = {"soft, all": 0.1, "true JS": 1.2, "hard labels": 0.03, "half Jeffreys": 0.3}


@pytest.fixture
def wide():
    given = {"lab": LAB, "S": types.SimpleNamespace(**SETTINGS | {"rates": RATES})}
    return technique.load("ssld", tags=TAGS, given=given)


def tuned(experiment):
    """Rates chosen where validation is best at PEAKS, and test somewhere else; and the runs."""
    runs, drawn = [], []

    def run(arm, rate, seed, world, part):
        runs.append((arm, rate, seed, part))
        distance = abs(math.log(rate / PEAKS[arm]))
        return 80 - distance if part == "validation" else 90 + distance

    vars(experiment).update(run=run, draw=lambda seed: drawn.append(seed) or tiny_world())
    return experiment.tune(list(PEAKS), 1001), runs, drawn


def test_rates_are_the_best_on_validation_images(wide):
    chosen, runs, _ = tuned(wide)
    assert chosen == pytest.approx(PEAKS)
    assert {part for *_, part in runs} == {"validation"}


def test_every_arm_tries_three_rates_and_true_js_four_times_as_large_ones(wide):
    _, runs, drawn = tuned(wide)
    for arm in PEAKS:
        factor = 4 if arm == "true JS" else 1
        tried = [rate for name, rate, *_ in runs if name == arm]
        assert tried == pytest.approx([factor * rate for rate in RATES]), arm
    assert {seed for _, _, seed, _ in runs} == set(drawn) == {1001}


def test_rates_are_shared_by_arms_that_differ_in_one_thing(experiment):
    for arm, other in experiment.RATE_OF.items():
        mine, theirs = experiment.ARMS[arm], experiment.ARMS[other]
        differing = sum(a != b for a, b in zip(mine, theirs, strict=True))
        assert differing == (0 if arm == "fine-tuned" else 1), arm
        assert other not in experiment.RATE_OF, "it has a rate of its own"
    own = set(experiment.ARMS) - set(experiment.RATE_OF)
    assert {"hard labels", "soft, labelled", "true JS", "half Jeffreys", "pseudo-labels"} <= own
    assert {"hard labels, longer", "soft, all, longer", "hard, 1", "hard, 6"} <= own
