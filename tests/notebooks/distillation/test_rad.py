"""The lab on RAD: a linear program, slow references, hand cases, and what every arm may see.

Tests that take the lab's module as their argument are also handed modules with a mistake in them,
by test_rad_mutations.py.
"""

import functools
import itertools
import math
import types

import no_wait
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from scipy.optimize import linprog
from stand_in import streams

from labutils import augment, data, models, training
from labutils.evaluation import accuracy_of, linear_probe
from labutils.shipped import simclr_encoder
from press import technique

TAGS = ("technique", "experiment")


def given():
    """What the cells take from the notebook, with settings in which a mix-up would show."""
    settings = types.SimpleNamespace(**technique.settings("rad", "smoke"))
    settings.rounds, settings.num_steps = 2, 5
    lab = types.SimpleNamespace(device=torch.device("cpu"), streams=streams, seeds=(0, 1))
    return {"lab": lab, "S": settings}


@pytest.fixture
def lab():
    return technique.load("rad", tags=TAGS, given=given())


def random_gains(rng, n):
    return rng.uniform(0.01, 1, n)


# --- the game ------------------------------------------------------------------------------------


def linear_program(g, m):
    """V of eq. (1): the sum of the m largest w is min over t of m t + sum of max(w - t, 0)."""
    n = len(g)
    objective = np.concatenate([-g, [m], np.ones(n)])  # of q, t, u
    above = np.hstack([np.diag(g), -np.ones((n, 1)), -np.eye(n)])
    total = np.concatenate([np.ones(n), np.zeros(n + 1)])[None]
    bounds = [(0, None)] * n + [(None, None)] + [(0, None)] * n
    return -linprog(objective, above, np.zeros(n), total, [1.0], bounds=bounds).fun


def test_the_value_is_that_of_a_linear_program(lab):
    rng = np.random.default_rng(0)
    for trial in range(60):
        n = int(rng.integers(2, 40))
        g, m = random_gains(rng, n), rng.uniform(0, n - 0.01)
        m = math.floor(m) if trial % 2 else m
        q, value = lab.rad(g, m)
        assert value == pytest.approx(linear_program(g, m), abs=1e-9)
        assert lab.worst_case(q, g, m) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    ("m", "value", "k"),
    [(0, 1.0, 1), (1, 0.5950413223, 3), (2, 0.3730569948, 4), (3, 0.1930294906, 5)],
)
def test_five_images_by_hand(lab, m, value, k):
    q, found = lab.rad(np.array([1, 0.9, 0.8, 0.5, 0.2]), m)
    assert found == pytest.approx(value, abs=1e-9)
    assert np.count_nonzero(q) == k
    inverse = 1 / np.array([1, 0.9, 0.8, 0.5, 0.2])[:k]
    np.testing.assert_allclose(q, np.append(inverse / inverse.sum(), np.zeros(5 - k)))


def test_the_worst_case_is_the_least_over_all_sets_of_errors(lab):
    rng = np.random.default_rng(1)
    for _ in range(40):
        n = int(rng.integers(2, 9))
        m = int(rng.integers(0, n))
        g, q = random_gains(rng, n), rng.dirichlet(np.ones(n))
        left = [
            sum(q[i] * g[i] for i in range(n) if i not in lost)
            for lost in itertools.combinations(range(n), m)
        ]
        assert lab.worst_case(q, g, m) == pytest.approx(min(left))


def test_an_error_counts_in_part(lab):
    q, g = np.array([0.5, 0.3, 0.2]), np.array([1.0, 1.0, 0.5])
    assert lab.worst_case(q, g, 1.25) == pytest.approx(0.75 * 0.3 + 0.1)


def test_no_other_way_to_query_does_better_in_the_worst_case(lab):
    rng = np.random.default_rng(2)
    for _ in range(20):
        g, m = random_gains(rng, 12), rng.uniform(0, 11)
        _, value = lab.rad(g, m)
        for q in rng.dirichlet(np.full(12, 0.5), 50):
            assert lab.worst_case(q, g, m) <= value + 1e-12


def test_the_order_of_the_pool_does_not_matter(lab):
    rng = np.random.default_rng(3)
    g, turn = random_gains(rng, 30), rng.permutation(30)
    np.testing.assert_allclose(lab.rad(g[turn], 4.5)[0], lab.rad(g, 4.5)[0][turn])


def test_larger_gains_throughout_leave_the_queries_alone(lab):
    g = random_gains(np.random.default_rng(4), 30)
    (q, value), (other, more) = lab.rad(g, 7), lab.rad(0.25 * g, 7)
    np.testing.assert_allclose(q, other)
    assert more == pytest.approx(0.25 * value)


def test_more_errors_leave_less_and_need_more_images(lab):
    g = random_gains(np.random.default_rng(5), 50)
    found = [lab.rad(g, m) for m in np.linspace(0, 49, 99)]
    assert (np.diff([value for _, value in found]) <= 1e-12).all()
    assert (np.diff([np.count_nonzero(q) for q, _ in found]) >= 0).all()
    for q, _ in found:
        assert q.sum() == pytest.approx(1)
        assert (q >= 0).all()


def test_the_hardest_images_are_used_and_among_them_the_harder_the_less(lab):
    g = np.sort(random_gains(np.random.default_rng(6), 40))[::-1]
    q, _ = lab.rad(g, 8)
    k = np.count_nonzero(q)
    assert 8 < k < 40
    assert (q[:k] > 0).all()
    assert (np.diff(q[:k]) >= 0).all()


def test_an_image_that_becomes_more_useful_is_asked_about_less(lab):
    g = random_gains(np.random.default_rng(7), 30)
    q, _ = lab.rad(g, 6)
    for i in np.flatnonzero(q):
        raised = g.copy()
        raised[i] *= 1.1
        assert lab.rad(raised, 6)[0][i] < q[i]


def test_equal_gains_leave_nothing_to_choose(lab):
    q, value = lab.rad(np.full(10, 0.4), 3)
    np.testing.assert_allclose(q, 0.1)
    assert value == pytest.approx(0.4 * (1 - 3 / 10))


def test_gains_of_nought_are_finite(lab):
    g = np.array([0.5, 0.0, 0.0, 0.3])
    q, value = lab.rad(g, 1)
    np.testing.assert_allclose(q, [0.375, 0, 0, 0.625])
    assert value == pytest.approx(1 / (2 + 1 / 0.3))
    q, value = lab.rad(g, 2.5)  # images that are worth nothing must be used
    assert q.sum() == pytest.approx(1)
    assert value == pytest.approx(0, abs=1e-9)


def test_the_gain_is_one_minus_the_margin(lab):
    p = np.random.default_rng(8).dirichlet(np.full(6, 0.5), 50)
    expected = [1 - (max(row) - sorted(row)[-2]) for row in p]
    np.testing.assert_allclose(lab.gain(p), expected)
    np.testing.assert_allclose(lab.gain(np.array([[1.0, 0, 0], [0.2, 0.4, 0.4]])), [0, 1])


# --- queries -------------------------------------------------------------------------------------


def test_queries_are_different_and_the_first_has_the_weights_as_odds(lab):
    rng = np.random.default_rng(0)
    weights = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    rounds = [lab.query(weights, np.zeros(5), 3, rng) for _ in range(4000)]
    assert all(len(set(picks.tolist())) == 3 for picks in rounds)
    first = np.bincount([picks[0] for picks in rounds], minlength=5)
    assert first[0] == 0
    assert stats.chisquare(first[1:], 4000 * weights[1:] / 10).pvalue > 1e-3


def test_queries_are_drawn_as_numpy_draws_without_replacement(lab):
    rng, weights = np.random.default_rng(1), np.array([0.1, 0.2, 0.3, 0.4])
    ours = [lab.query(weights, np.zeros(4), 2, rng) for _ in range(4000)]
    theirs = [rng.choice(4, 2, replace=False, p=weights) for _ in range(4000)]
    counts = [np.bincount(np.ravel(pairs), minlength=4) for pairs in (ours, theirs)]
    assert stats.chi2_contingency(counts).pvalue > 1e-3


def test_when_no_weight_is_left_the_largest_gains_follow(lab):
    g, rng = np.array([0.1, 0.5, 0.9, 0.3, 0.7]), np.random.default_rng(0)
    assert lab.query(lab.rad(g, 0)[0], g, 4, rng).tolist() == [2, 4, 1, 3]
    some = lab.query(np.array([1.0, 0, 0, 1.0, 0]), g, 4, rng).tolist()
    assert set(some[:2]) == {0, 3}
    assert some[2:] == [2, 4]


# --- arms ----------------------------------------------------------------------------------------


def test_arms_have_the_weights_of_their_names(lab):
    g, m = random_gains(np.random.default_rng(0), 40), 6.0
    q, _ = lab.rad(g, m)
    top = np.eye(40)[g.argmax()]
    expected = {
        "random": np.ones(40), "margin": top, "entropy": top, "oracle": top, "RAD": q,
        "gain-proportional": g, "uniform": (q > 0) * 1.0, "RAD, m / 2": lab.rad(g, 3)[0],
        "RAD, 2 m": lab.rad(g, 12)[0],
    }  # fmt: skip
    assert expected.keys() == lab.ARMS.keys()
    for arm, weights in expected.items():
        np.testing.assert_allclose(lab.ARMS[arm](g, m), weights, err_msg=arm)


def test_only_the_oracle_knows_where_the_teacher_is_right(lab):
    rng = np.random.default_rng(1)
    p, right = rng.dirichlet(np.ones(5), 20), rng.random(20) < 0.5
    for arm in lab.ARMS:
        found = lab.gains_of(arm, p, right)
        if arm == "oracle":
            np.testing.assert_allclose(found, np.where(right, lab.gain(p), 0))
        elif arm == "entropy":
            np.testing.assert_allclose(found, stats.entropy(p.T) / np.log(5))
        else:
            np.testing.assert_allclose(found, lab.gain(p))
            np.testing.assert_array_equal(found, lab.gains_of(arm, p, None))


# --- a draw --------------------------------------------------------------------------------------


@functools.cache
def official(dataset):
    """{bytes of an image: its label}, of the training and of the test images."""
    parts = data.images.read(dataset)[:2]
    return [
        {x.numpy().tobytes(): int(y) for x, y in zip(p.images, p.labels, strict=True)}
        for p in parts
    ]


def keys(images):
    return [image.numpy().tobytes() for image in images]


def test_no_image_is_in_two_parts_and_labels_are_the_official_ones(lab):
    S, world = lab.S, lab.load(3)
    train, test = official(S.dataset)
    sizes = {"labelled": 10 * S.per_class, "teacher": 10 * S.teacher_per_class, "pool": S.pool}
    sizes |= {"validation": S.num_validation}
    seen = set()
    for name, size in sizes.items():
        part = getattr(world, name)
        found = keys(part.images)
        assert len(set(found)) == len(found) == size, name
        assert not seen & set(found), name
        assert [train[key] for key in found] == part.labels.tolist(), name
        seen |= set(found)
    assert len(world.test) == S.num_tested
    assert [test[key] for key in keys(world.test.images)] == world.test.labels.tolist()


def test_labelled_images_are_equally_many_of_each_class_and_so_are_the_teachers_first(lab):
    S, world = lab.S, lab.load(3)
    assert torch.bincount(world.labelled.labels).tolist() == [S.per_class] * 10
    for k in (1, 4, S.teacher_per_class):
        assert torch.bincount(world.teacher.labels[: 10 * k]).tolist() == [k] * 10


def test_another_seed_is_another_draw(lab):
    a, b = lab.load(0), lab.load(1)
    for part in ("labelled", "pool"):
        assert keys(getattr(a, part).images) != keys(getattr(b, part).images)


def test_teachers_learn_from_their_labels_and_are_chosen_and_measured_on_validation_images(lab):
    lab.S.strengths = (1e-6, 0.1)
    world, said = lab.load(3), lab.teach(3)
    encoder = simclr_encoder(3)
    x = {k: encoder.features(getattr(world, k).images / 255) for k in ("teacher", "pool")}
    held = encoder.features(world.validation.images / 255)
    assert said.keys() == {"good", "weak"}
    for name, per_class in (("good", lab.S.teacher_per_class), ("weak", lab.S.weak_per_class)):
        n, wrong = 10 * per_class, {}
        for strength in lab.S.strengths:
            probe = linear_probe(x["teacher"][:n], world.teacher.labels[:n], strength=strength)
            wrong[strength] = (probe(held).argmax(1) != world.validation.labels).double().mean()
        best = min(wrong, key=wrong.get)
        probe = linear_probe(x["teacher"][:n], world.teacher.labels[:n], strength=best)
        says, error = said[name]
        assert error == pytest.approx(wrong[best].item())
        assert torch.allclose(says, probe(x["pool"]).softmax(1), atol=1e-4)


def test_the_made_up_teacher_is_wrong_on_the_hardest_fifth(lab):
    rng = np.random.default_rng(0)
    truth, g = torch.from_numpy(rng.integers(0, 10, 400)), random_gains(rng, 400)
    says, error = lab.answers(lab.HARDEST, 5, truth, g)
    assert error == lab.S.noise == 0.2
    assert says.shape == (400, 10)
    assert torch.equal(says.sum(1), torch.ones(400))
    wrong = (says.argmax(1) != truth).numpy()
    np.testing.assert_array_equal(wrong, g >= np.sort(g)[-80])
    assert len(set((says.argmax(1) - truth)[wrong].remainder(10).tolist())) == 9
    assert not torch.equal(lab.answers(lab.HARDEST, 6, truth, g)[0], says)


def test_real_teachers_say_what_they_said_in_this_draw(lab):
    assert lab.answers({3: ("a", 0.1), 4: ("b", 0.2)}, 4, None, np.ones(3)) == ("b", 0.2)


# --- students ------------------------------------------------------------------------------------


def tiny_world(n=60):
    """40 labelled images and a pool of n, all noise."""
    generator = torch.Generator().manual_seed(4)

    def part(n):
        x = torch.randint(256, (n, 1, 28, 28), generator=generator, dtype=torch.uint8)
        return data.Images(x, torch.randint(10, (n,), generator=generator))

    parts = {"labelled": part(40), "pool": part(n), "validation": part(30), "test": part(50)}
    return types.SimpleNamespace(**parts, moments=((0.3,), (0.35,)))


def handed(lab, seed=4):
    """What `fit` hands to `labutils.training.train`, and the world that it was about."""
    seen, world = {}, tiny_world()

    def train(student, step_loss, num_steps, optimizer, learning_rate, **options):
        seen.update(options, step_loss=step_loss, num_steps=num_steps, optimizer=optimizer)
        seen["rates"] = [learning_rate(k) for k in range(num_steps + 1)]
        return training.History(torch.zeros(num_steps))

    vars(lab)["train"] = train
    soft = torch.rand(3, 10, generator=torch.Generator().manual_seed(1)).softmax(1)
    student = lab.fit(world, np.array([7, 2, 50]), soft, 0.2, seed)
    return seen | {"student": student, "world": world, "soft": soft}


def test_a_step_is_the_cross_entropy_with_labels_and_soft_answers(lab):
    seen, generator = handed(lab), streams(4).augmentation
    world, student = seen["world"], models.build("cnn-tiny", 1, 10, streams(4).initialisation)
    images = torch.cat([world.labelled.images, world.pool.images[[7, 2, 50]]])
    targets = torch.cat([F.one_hot(world.labelled.labels, 10).float(), seen["soft"]])
    (picks,) = seen["inputs"]
    assert picks.shape == (lab.S.num_steps, lab.S.batch_size)
    assert picks.max() == len(images) - 1
    for rows in picks:
        views = augment.pad_crop_flip(images[rows], 2, generator)
        log_q = student(augment.normalise(views, (0.3,), (0.35,))).log_softmax(1)
        expected = -(targets[rows] * log_q).sum(1).mean().item()
        assert seen["step_loss"](rows).item() == pytest.approx(expected, rel=1e-5)


def test_optimiser_and_schedule_are_those_of_the_page(lab):
    seen, steps = handed(lab), lab.S.num_steps
    group = seen["optimizer"].param_groups[0]
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, False, 5e-4)
    expected = [0.1 * (1 + math.cos(math.pi * k / steps)) for k in range(steps + 1)]
    assert seen["rates"] == pytest.approx(expected)


def test_every_student_of_a_draw_starts_alike_and_those_of_another_do_not(lab):
    first, again, other = (handed(lab, seed)["student"].patches.weight for seed in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_step_never_waits_for_the_host(lab):
    seen = handed(lab)

    def step():
        seen["optimizer"].zero_grad()
        seen["step_loss"](seen["inputs"][0][0]).backward()
        seen["optimizer"].step()

    no_wait.check(step)


# --- rounds --------------------------------------------------------------------------------------


def played(lab, arm, error=0.2, seed=3):
    """What `play` returned, and the rows and answers that each student was taught."""
    world, taught, fit = tiny_world(120), [], lab.fit
    lab.S.queries, lab.S.rounds = 12, 3

    def watch(world, rows, soft, rate, seed):
        taught.append((np.array(rows), soft, rate, seed))
        return fit(world, rows, soft, rate, seed)

    vars(lab)["fit"] = watch
    start = fit(world, [], torch.zeros(0, 10), 0.2, seed)
    said = torch.rand(120, 10, generator=torch.Generator().manual_seed(2)).softmax(1)
    scored = augment.normalise(world.test.images, *world.moments), world.test.labels
    found = lab.play(arm, start, world, said, error, 0.2, seed, scored)
    return types.SimpleNamespace(
        world=world, taught=taught, fit=fit, start=start, said=said, scored=scored, found=found
    )


def test_every_round_asks_about_new_images_and_teaches_all_answers(lab):
    run = played(lab, "RAD")
    assert [len(rows) for rows, *_ in run.taught] == [12, 24, 36]
    for (before, *_), (rows, *_) in itertools.pairwise(run.taught):
        np.testing.assert_array_equal(rows[: len(before)], before)
    last = run.taught[-1][0]
    assert len(set(last.tolist())) == 36
    for rows, soft, rate, seed in run.taught:
        assert torch.equal(soft, run.said[rows])
        assert (rate, seed) == (0.2, 3)


def test_the_first_round_follows_the_rule_of_the_arm(lab):
    run = played(lab, "RAD")
    world, start = run.world, run.start.eval()
    p = start(augment.normalise(world.pool.images, *world.moments)).double().softmax(1)
    right = (run.said.argmax(1) == world.pool.labels).numpy()
    vars(lab)["fit"] = lambda *_: start  # nothing is trained
    lab.S.rounds = 1
    for arm in lab.ARMS:
        g = lab.gains_of(arm, p.detach().numpy(), right)
        rng = np.random.default_rng([3, 0])
        expected = lab.query(lab.ARMS[arm](g, 0.2 * 120), g, 12, rng)
        found = lab.play(arm, start, world, run.said, 0.2, 0.2, 3, run.scored)
        assert found["right"] == [100 * right[expected].mean()], arm
        if arm == "RAD":
            assert set(run.taught[0][0].tolist()) == set(expected.tolist())


def test_what_came_of_a_round_is_counted_on_its_queries_and_on_what_is_scored(lab):
    run = played(lab, "random")
    right = (run.said.argmax(1) == run.world.pool.labels).numpy()
    rows = run.taught[-1][0]
    expected = [100 * right[rows[12 * k : 12 * k + 12]].mean() for k in range(3)]
    assert run.found["right"] == pytest.approx(expected)
    student = run.fit(run.world, rows, run.said[rows], 0.2, 3)
    assert run.found["accuracy"][0] == accuracy_of(run.start, *run.scored)
    assert run.found["accuracy"][-1] == accuracy_of(student, *run.scored)
    assert len(run.found["accuracy"]) == 4
    assert run.found["support"] == [100.0] * 3
    counts = np.bincount(run.world.pool.labels[rows], minlength=10) / 36
    assert run.found["imbalance"] == pytest.approx(100 * np.maximum(counts - 0.1, 0).sum())


def test_errors_are_counted_on_the_images_that_are_left(lab):
    asked = []
    vars(lab)["ARMS"] = {"RAD": lambda g, m: asked.append((len(g), m)) or np.ones(len(g))}
    played(lab, "RAD", error=0.25)
    assert asked == [(120, 30.0), (108, 27.0), (96, 24.0)]


def test_the_oracles_answers_are_right_as_long_as_there_are_right_ones(lab):
    run = played(lab, "oracle")
    some = (run.said.argmax(1) == run.world.pool.labels).sum().item()  # right by chance
    assert run.found["right"][0] == pytest.approx(100 * min(12, some) / 12)


# --- a study -------------------------------------------------------------------------------------


def watch_plays(lab):
    """Replace `load` and `play`: nothing is drawn or played, and what was asked is noted."""
    calls, world = [], tiny_world()

    def play(arm, student, world, says, error, rate, seed, scored):
        calls.append((arm, student, says, error, rate, seed, scored))
        return {"accuracy": [0, {"random": 1, "margin": 2, "RAD": 6, "oracle": 99}[arm] * rate]}

    vars(lab).update(load=lambda seed: world, play=play)
    return calls, world


def said_by(n=60):
    return torch.rand(n, 10, generator=torch.Generator().manual_seed(2)).softmax(1)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_all_arms_of_a_draw_share_start_teacher_rate_and_images_of_the_split(lab, split):
    check_sharing(lab, split)


def check_sharing(lab, split="validation"):
    calls, world = watch_plays(lab)
    said = {3: (said_by(), 0.1), 4: (said_by(), 0.3)}
    arms = {arm: [(0.1,), (0.2,)] for arm in ("random", "RAD")}
    found = lab.study(4, said, arms, split)
    assert set(found) == {(arm, rate) for arm in arms for rate in (0.1, 0.2)}
    assert len(calls) == 4
    for arm, student, says, error, rate, seed, (images, labels) in calls:
        assert (error, seed) == (0.3, 4)
        assert torch.equal(says, said[4][0])
        assert torch.equal(labels, getattr(world, split).labels)
        expected = augment.normalise(getattr(world, split).images, *world.moments)
        assert torch.equal(images, expected)
        start = lab.fit(world, [], torch.zeros(0, 10), rate, 4)
        assert torch.equal(student.classifier.weight, start.classifier.weight), arm


def test_a_teacher_that_errs_on_the_hardest_errs_where_the_start_is_least_sure(lab):
    calls, world = watch_plays(lab)
    lab.study(4, lab.HARDEST, {"random": [(0.1,)]}, "test")
    ((_, student, says, error, *_),) = calls
    wrong = (says.argmax(1) != world.pool.labels).numpy()
    g = lab.gain(lab.probabilities(student, world.pool.images, world.moments))
    assert (wrong.sum(), error) == (12, 0.2)
    assert g[wrong].min() >= g[~wrong].max()


def test_a_rate_is_judged_by_the_mean_over_arms_on_the_split_that_tune_asks_for(lab):
    splits, study = [], lab.study
    watch_plays(lab)

    def watch(seed, place, settings, split):
        splits.append(split)
        return study(seed, place, settings, split)

    vars(lab)["study"] = watch
    place = {4: (said_by(), 0.3)}
    found = lab.mean_accuracy(4, place, {"all": [(0.1,), (0.2,)]}, "validation")
    assert found == {("all", 0.1): pytest.approx(0.3), ("all", 0.2): pytest.approx(0.6)}
    assert splits == ["validation"]


@pytest.mark.parametrize("profile", ["smoke", "small"])
def test_extra_draws_are_no_draws_of_the_results(profile):
    settings = technique.settings("rad", profile)
    assert min(settings["tuning_seeds"]) >= 1000 > settings["num_seeds"]
    assert settings["few_seeds"] <= settings["num_seeds"]


# --- claims --------------------------------------------------------------------------------------


def test_claims_compare_the_arms_and_teachers_of_their_sentences(lab):
    rows = {name: (place, arm, rival, margin) for name, _, place, arm, rival, margin in lab.CLAIMS}
    assert rows == {
        "right": ("good", "RAD", "margin", 0),
        "beats-margin": ("good", "RAD", "margin", 0),
        "beats-random": ("good", "RAD", "random", 0),
        "oracle": ("good", "oracle", "random", 0),
        "weights": ("good", "uniform", "RAD", 1),
        "hardest": (lab.HARDEST, "RAD", "margin", 0),
        "half": ("good", "RAD, m / 2", "RAD", 1),
        "twice": ("good", "RAD, 2 m", "RAD", 1),
        "weak": ("weak", "random", "RAD", 1),
    }
