"""The experiment of the chapter on FixMatch and SAA: what its arms share, and where they part.

Tests that take the experiment's module as their argument are also handed modules with a mistake in
them, by test_fixmatch_saa_mutations.py.
"""

import copy
import dataclasses
import types

import no_wait
import numpy as np
import pytest
import torch
from stand_in import streams
from torch.nn import functional as F

from labutils import augment, data
from labutils.augment import strong
from press import technique

CHOICE = (0.1, 5e-4, 0.3)  # learning rate, weight decay, threshold
TAGS = ("technique", "experiment")


LAB = types.SimpleNamespace(device=torch.device("cpu"), streams=streams, seeds=(0, 1))


def small_settings():
    """Those of `smoke`, shorter, with numbers that differ where a mix-up could hide."""
    s = types.SimpleNamespace(**technique.settings("fixmatch-saa", "smoke"))
    s.labels_per_class, s.more_labels, s.batch_size, s.unlabelled_ratio = 2, [3], 8, 2
    s.block, s.num_steps, s.saa_start, s.saa_interval, s.num_points = 2, 12, 6, 2, 2
    s.rates, s.decays, s.thresholds, s.shares = [0.03, 0.1], [5e-4, 2e-3], [0.2, 0.3], [0.5, 0.9]
    s.graph_dimensions, s.neighbours, s.spreading_steps = 5, 3, 60
    s.num_probed, s.num_evaluated, s.tuning_draws, s.longer = 50, 40, [2, 1], 1.5
    s.fewer_draws = 1
    return s


@pytest.fixture
def experiment():
    return technique.load("fixmatch-saa", tags=TAGS, given={"lab": LAB, "S": small_settings()})


def tiny_dataset(test_seed=1, sizes=(160, 60, 120)):
    """Noise with a class-wise mean, so that there is something to learn, in ten classes."""
    splits = []
    for n, seed in zip(sizes, (0, 2, test_seed), strict=True):
        generator = torch.Generator().manual_seed(seed)
        labels = (torch.arange(n) % 10)[torch.randperm(n, generator=generator)]
        means = torch.randint(100, 156, (10, 1, 28, 28), generator=torch.Generator().manual_seed(9))
        noise = torch.randint(-100, 100, (n, 1, 28, 28), generator=generator)
        splits.append(data.Images((means[labels] + noise).to(torch.uint8), labels))
    return data.Dataset("tiny", *splits, tuple("abcdefghij"), (0.3,), (0.35,))


def task_of(experiment, seed=3, labels=None, dataset=None):
    dataset = dataset or tiny_dataset()
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(dataset.train), generator=draw)
    places = [order[dataset.train.labels[order] == c][:5] for c in range(10)]
    task = experiment.Task(seed, dataset, torch.stack(places))
    return experiment.with_labels(task, labels or experiment.S.labels_per_class)


def other_labels(task):
    """The same task, with wrong labels for all images of the pool that have none."""
    labels = task.dataset.train.labels
    wrong = (labels + 1) % 10
    wrong[task.labelled] = labels[task.labelled]
    train = data.Images(task.dataset.train.images, wrong)
    return dataclasses.replace(task, dataset=dataclasses.replace(task.dataset, train=train))


def learner_of(experiment, task, arm="FixMatch", choice=CHOICE, **options):
    if arm in experiment.STRONG_LABELLED:
        choice = (*choice[:2], None)
    return experiment.Learner(task, choice, experiment.S.num_steps, arm, **options)


def trained(experiment, task, arm, steps=None, **options):
    learner = learner_of(experiment, task, arm, **options)
    experiment.run_steps(learner, arm, 0, steps or experiment.S.num_steps)
    return learner


def one_step(experiment, learner, arm, k=0):
    """Loss of step k with the views of its block."""
    task, s = learner.task, experiment.S
    experiment.bring_views(learner, arm, k // s.block)
    y = task.dataset.train.labels[task.labelled_batches[k]]
    return experiment.step_loss(learner, arm, torch.tensor([k % s.block]), y, task.batches[k])


def assert_same(first, second):
    for a, b in zip(
        first.network.state_dict().values(), second.network.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)
    averages = (x.average.module.state_dict().values() for x in (first, second))
    for a, b in zip(*averages, strict=True):
        assert torch.equal(a, b)
    for name in ("naive", "harder", "pseudo_labels"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    for weight in {*first.histories} & {*second.histories}:
        values = (x.histories[weight].values for x in (first, second))
        assert torch.equal(*values)
    assert first.trace == second.trace


def different(first, second):
    pairs = zip(first.network.parameters(), second.network.parameters(), strict=True)
    return any(not torch.equal(a, b) for a, b in pairs)


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["smoke", "small", "full"])
def test_blocks_selections_and_batches_fit_the_run(profile):
    s = technique.settings("fixmatch-saa", profile)
    assert s["saa_start"] % s["saa_interval"] == 0
    assert s["saa_interval"] <= s["saa_start"] < s["num_steps"]
    longest = round(s["num_steps"] * s["longer"])
    for steps in (s["num_steps"], s["saa_start"], s["saa_interval"], longest):
        assert steps % s["block"] == 0
    assert s["num_steps"] % s["saa_interval"] == 0  # the last selection sees the last step
    assert s["weights"][0] == 0.001  # the official code's
    assert s["batch_size"] <= 10 * s["labels_per_class"]  # so that a batch holds nobody twice


# --- the data of a draw ---------------------------------------------------------------------------


def test_labels_are_balanced_nested_and_belong_to_the_pool(experiment):
    few, more = task_of(experiment, labels=2), task_of(experiment, labels=3)
    labels = few.dataset.train.labels
    assert torch.bincount(labels[few.labelled]).tolist() == [2] * 10
    assert torch.bincount(labels[more.labelled]).tolist() == [3] * 10
    assert torch.isin(few.labelled, more.labelled).all()
    assert torch.equal(few.batches, more.batches)  # the pool comes in the same order
    assert set(few.labelled_batches.unique().tolist()) == set(few.labelled.tolist())
    assert set(more.labelled_batches.unique().tolist()) == set(more.labelled.tolist())
    assert few.batches.shape == (12, 16)
    assert few.labelled_batches.shape == (18, 8)  # for the longer baseline


def test_batches_hold_distinct_images_and_passes_begin_anew(experiment):
    batches = experiment.endless(100, 7, 60, torch.Generator().manual_seed(0))
    assert batches.shape == (60, 7)
    assert all(len(batch.unique()) == 7 for batch in batches)
    for k in range(0, 56, 14):  # a pass: 14 batches of 7
        assert len(batches[k : k + 14].unique()) == 98
    assert not torch.equal(batches[:14], batches[14:28])
    larger = experiment.endless(5, 8, 9, torch.Generator().manual_seed(0))
    assert larger.shape == (9, 8)
    assert all(batch.bincount(minlength=5).min() >= 1 for batch in larger)


def test_a_larger_pool_keeps_labels_and_evaluated_images(experiment):
    original = tiny_dataset()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment.data, "load", lambda name, **_: original)
        usual, larger = (experiment.load_task(3, 2, extra) for extra in (0, 15))
    assert len(usual.dataset.train) == 160
    assert len(larger.dataset.train) == 175
    assert torch.equal(usual.labelled, larger.labelled)
    for split in ("validation", "test"):
        a, b = (getattr(task.dataset, split) for task in (usual, larger))
        assert torch.equal(a.images, b.images)
    assert len(usual.dataset.validation) == experiment.S.num_evaluated
    joined = larger.dataset.train.images[160:]
    assert torch.equal(joined, original.validation.images[40:55])  # evaluated by nobody
    assert larger.batches.max() >= 160


# --- what an arm may know -------------------------------------------------------------------------

SEMI = ["FixMatch + SAA", "FixMatch + others", "FlexMatch", "aligned FixMatch", "pseudo-label"]


def test_nobody_learns_from_the_labels_of_the_pool(experiment):
    task = task_of(experiment)
    for arm in (*SEMI, "supervised strong"):
        a, b = (trained(experiment, t, arm) for t in (task, other_labels(task)))
        assert not different(a, b), arm
        assert torch.equal(a.harder, b.harder), arm
    spread = [experiment.spread_on(t, [0.5])[0][0.5][0] for t in (task, other_labels(task))]
    assert spread[0] == spread[1]


def replace_tasks(experiment, test_seed=1):
    tasks = lambda seed, labels, extra=0: task_of(experiment, seed, labels, tiny_dataset(test_seed))  # noqa: E731
    vars(experiment)["load_task"] = tasks


def test_tuning_does_not_see_test_images(experiment):
    found = []
    for test_seed in (1, 5):
        replace_tasks(experiment, test_seed)
        found.append([experiment.tune(1000, labels) for labels in (2, 3)])
    assert found[0] == found[1]
    arms = {arm for arm, _ in found[0][0]}
    assert arms == {*experiment.SUPERVISED, *experiment.THRESHOLDED, experiment.SPREADING}
    assert {a for a, _ in found[0][1]} == {*experiment.MORE_ARMS, experiment.SPREADING}


def test_tuning_reads_the_validation_accuracy_of_each_choice(experiment):
    replace_tasks(experiment)
    found = experiment.tune(1000, 2)
    task, choice = task_of(experiment, 1000), (0.03, 2e-3, 0.2)
    row = experiment.run_arm(task, "FixMatch", choice, "validation")
    assert found["FixMatch", choice] == row["accuracy"]
    spread, _ = experiment.spread_on(task, [0.9], "validation")
    assert found[experiment.SPREADING, 0.9] == spread[0.9][0]


def test_every_arm_chooses_from_the_whole_grid(experiment):
    for arm in (*experiment.THRESHOLDED, *experiment.SUPERVISED):
        choices = experiment.choices_of(arm)
        thresholds = 1 if arm in experiment.SUPERVISED else 2
        assert len(set(choices)) == len(choices) == 2 * 2 * thresholds
        assert {choice[0] for choice in choices} == {0.03, 0.1}
        assert {choice[1] for choice in choices} == {5e-4, 2e-3}


def test_the_best_mean_over_draws_is_chosen(experiment):
    tried = [
        {("A", 1): 90.0, ("A", 2): 60.0, ("A", 3): 74.0},
        {("A", 1): 40.0, ("A", 2): 61.0, ("A", 3): 70.0},
    ]
    means, best = experiment.best_choices(tried)
    assert means == {"A": {1: 65.0, 2: 60.5, 3: 72.0}}
    assert best == {"A": 3}


def test_draws_that_choose_settings_have_no_results(experiment):
    jobs = experiment.TUNING_JOBS
    assert min(seed for seed, _ in jobs) >= 1000 > max(LAB.seeds)
    assert [labels for _, labels in jobs] == [2, 2, 3]
    assert len(set(jobs)) == 3


def compared(experiment, seed, chosen, more_weights=()):
    """What `compare` returns without training, and the (labels, arm, choice) that it asked for."""
    replace_tasks(experiment)
    calls = []

    def row(task, arm, choice, *_):
        calls.append((len(task.labelled) // 10, arm, choice))
        return {"arm": arm, "accuracy": 0.0, "weight": 0.001}

    def rows(task, base, branches, choice, *_):
        calls.append((len(task.labelled) // 10, base, choice))
        return [{"arm": arm, "accuracy": 0.0, "weight": weight} for arm, weight in branches]

    def spread(task, shares, evaluated, graph):
        calls.append((len(task.labelled) // 10, experiment.SPREADING, *shares))
        return {shares[0]: (50.0, 60.0)}, graph

    vars(experiment).update(run_arm=row, with_branches=rows, spread_on=spread)
    return experiment.compare(seed, chosen, more_weights), calls


def choices_for(experiment):
    arms = [*experiment.ALONE, *experiment.FAMILIES]
    return {n: {arm: (n, arm) for arm in arms} | {experiment.SPREADING: n / 10} for n in (2, 3)}


def arms_of(rows, labels):
    return [row["arm"] for row in rows if row["labels"] == labels and row["weight"] == 0.001]


def test_every_arm_runs_with_what_was_chosen_at_its_number_of_labels(experiment):
    found, calls = compared(experiment, 0, choices_for(experiment), [0.9])
    for labels, arm, choice in calls:
        assert choice == (labels / 10 if arm == experiment.SPREADING else (labels, arm))
    families = [arm for arms in experiment.FAMILIES.values() for arm in arms]
    assert arms_of(found, 2) == [*experiment.ALONE, *families, experiment.SPREADING]
    more = [arm for arms in experiment.MORE_FAMILIES.values() for arm in arms]
    assert arms_of(found, 3) == [*experiment.MORE_ALONE, *more, experiment.SPREADING]
    assert [r["weight"] for r in found].count(0.9) == 1
    assert {r["seed"] for r in found} == {0}


def test_later_draws_leave_out_more_labels_and_no_arm(experiment):
    assert experiment.FEW == (0,)
    found, _ = compared(experiment, 1, choices_for(experiment))
    families = [arm for arms in experiment.FAMILIES.values() for arm in arms]
    assert arms_of(found, 2) == [*experiment.ALONE, *families, experiment.SPREADING]
    assert {row["labels"] for row in found} == {2}


# --- views ----------------------------------------------------------------------------------------


def test_all_arms_of_a_draw_see_the_same_views_and_another_draw_others(experiment):
    task, same, other = (task_of(experiment, seed) for seed in (3, 3, 4))
    for kind in experiment.KINDS:
        views = experiment.draw_views(task, kind, 1)
        assert torch.equal(views, experiment.draw_views(same, kind, 1)), kind
        assert torch.equal(views, experiment.views_of(task, kind, 1)[0]), kind
        assert views.shape == (2, 8 if kind.startswith("labelled") else 16, 1, 28, 28)
        assert not torch.equal(views, experiment.draw_views(task, kind, 2)), kind
        assert not torch.equal(views, experiment.draw_views(other, kind, 1)), kind
    weak = [experiment.draw_views(task, kind, 1) for kind in ("weak", "weak again")]
    assert not torch.equal(*weak)


def test_every_block_kind_and_draw_has_its_own_random_numbers(experiment):
    used, kinds = [], [kind for kind in experiment.KINDS if kind != "regrouped"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            experiment.augment, "pad_crop_flip",
            lambda images, _, generator: used.append(generator.initial_seed()) or images,
        )  # fmt: skip
        for seed in (3, 4):
            for kind in kinds:
                for block in range(3):
                    experiment.draw_views(task_of(experiment, seed), kind, block)
    assert len(set(used)) == len(used) == 2 * len(kinds) * 3


def test_kept_views_belong_to_their_number_of_labels(experiment):
    few = task_of(experiment, labels=2)
    more = experiment.with_labels(few, 3)
    for task in (few, more, few):
        for kind in experiment.KINDS:
            views = experiment.views_of(task, kind, 0)[0]
            assert torch.equal(views, experiment.draw_views(task, kind, 0)), kind


def test_views_are_what_their_names_say(experiment):
    task, calls = task_of(experiment), []

    def inverted(images, generator, _):
        calls.append(generator.initial_seed())
        return 255 - images

    images = task.dataset.train.images
    labelled, pool = images[task.labelled_batches[2:4]], images[task.batches[2:4]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment.augment, "pad_crop_flip", lambda images, *_: images)
        patch.setattr(experiment.strong, "strong_augment", inverted)
        for kind, expected in {
            "labelled weak": labelled, "labelled strong": 255 - labelled, "weak": pool,
            "weak again": pool, "strong": 255 - pool,
        }.items():  # fmt: skip
            assert torch.equal(experiment.draw_views(task, kind, 1), expected), kind
        calls.clear()
        experiment.draw_views(task, "strong", 1)
        experiment.draw_views(task, "regrouped", 1)
    assert calls[0] == calls[1] != calls[2]  # the first view again, and a second one


def test_a_regrouped_view_is_the_strong_one_with_half_of_another(experiment):
    task = task_of(experiment)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment.augment, "pad_crop_flip", lambda images, *_: images)
        plain, mixed = (experiment.draw_views(task, kind, 1) for kind in ("strong", "regrouped"))
    assert torch.equal(plain[..., 14:, 14:], mixed[..., 14:, 14:])
    changed = (plain != mixed).flatten(2).any(2)
    assert changed.float().mean() > 0.8  # a few draws leave the pasted half as it was


def test_a_regrouped_view_is_moved_like_the_strong_one(experiment):
    vars(experiment)["regroup"] = lambda first, second, generator: first
    task = task_of(experiment)
    assert torch.equal(*(experiment.draw_views(task, kind, 1) for kind in ("strong", "regrouped")))


def test_views_that_another_arm_drew_are_on_the_bill(experiment):
    task = task_of(experiment)
    first, second = (learner_of(experiment, task) for _ in range(2))
    experiment.bring_views(first, "FixMatch", 0)
    assert first.free_seconds == 0.0  # its own clock saw them
    experiment.bring_views(second, "FixMatch", 0)
    paid = sum(seconds for _, seconds in task.drawn.values())
    assert second.free_seconds == pytest.approx(paid) != 0.0


# --- a step ---------------------------------------------------------------------------------------


def test_a_step_is_one_forward_pass_with_the_students_pseudo_labels(experiment):
    """Against the loss written out; the moving average predicts something else."""
    for arm in ("FixMatch", "aligned FixMatch", "FixMatch + SAA", "pseudo-label"):
        # some of an untrained network's guesses pass this threshold, some do not
        task, threshold = task_of(experiment), 0.16
        learner = learner_of(experiment, task, arm, (0.1, 5e-4, threshold))
        learner.harder.copy_(torch.arange(160) % 2 == 0)
        if learner.alignment:  # as if shirts had been all that the network saw lately
            shirts = torch.full((128, 10), 0.05).index_fill_(1, torch.tensor(6), 0.55)
            learner.alignment.recent = shirts
        with torch.no_grad():
            for p in learner.average.module.parameters():
                p.normal_()
        learner.network.train()
        network = copy.deepcopy(learner.network)
        loss = one_step(experiment, learner, arm, k=3)
        assert learner.network.bn.num_batches_tracked == 1

        dataset = task.dataset
        kinds = ["labelled weak", "weak", "weak again" if arm == "pseudo-label" else "strong"]
        x, u, v = (experiment.draw_views(task, kind, 1)[1] for kind in kinds)
        if arm == "FixMatch + SAA":
            v = v.clone()
            hard = learner.harder[task.batches[3]]
            v[hard] = experiment.draw_views(task, "regrouped", 1)[1][hard]
        inputs = augment.normalise(torch.cat([x, u, v]), dataset.mean, dataset.std)
        logits = network(inputs)
        z, z_weak, z_strong = logits[:8], *logits[8:].chunk(2)
        total, count = 0.0, 0
        q = z_weak.detach().softmax(1)
        if learner.alignment:
            assert torch.equal(learner.alignment.class_shares, torch.full((10,), 0.1))
            q = q * torch.tensor([2.0] * 6 + [0.1 / 0.55] + [2.0] * 3)
            q = q / q.sum(1, keepdim=True)
        for w, s in zip(q, z_strong, strict=True):
            if w.max() >= threshold:
                total, count = total - s.log_softmax(0)[w.argmax()], count + 1
        assert 0 < count < 16 or arm == "aligned FixMatch"
        y = dataset.train.labels[task.labelled_batches[3]]
        expected = F.cross_entropy(z, y) + total / 16
        torch.testing.assert_close(loss, expected)
        loss.backward()
        expected.backward()
        for a, b in zip(learner.network.parameters(), network.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad)


def test_a_supervised_step_sees_labelled_images_alone(experiment):
    for arm, kind in (("supervised weak", "weak"), ("supervised strong", "strong")):
        task = task_of(experiment)
        learner = learner_of(experiment, task, arm)
        network = copy.deepcopy(learner.network)
        loss = one_step(experiment, learner, arm, k=3)
        views = experiment.draw_views(task, f"labelled {kind}", 1)[1]
        inputs = augment.normalise(views, task.dataset.mean, task.dataset.std)
        y = task.dataset.train.labels[task.labelled_batches[3]]
        torch.testing.assert_close(loss, F.cross_entropy(network(inputs), y))


def test_flexmatch_takes_its_thresholds_before_it_remembers_the_step(experiment):
    learner, calls = learner_of(experiment, task_of(experiment), "FlexMatch"), []
    learner.flexible = types.SimpleNamespace(
        thresholds=lambda: calls.append("thresholds") or torch.linspace(0.0, 0.3, 10),
        update=lambda indices, confidence, labels: calls.append(
            (indices.tolist(), labels.tolist(), bool((confidence > 0).all()))
        ),
    )
    one_step(experiment, learner, "FlexMatch")
    indices = learner.task.batches[0]
    labels = learner.pseudo_labels[indices]
    assert calls == ["thresholds", (indices.tolist(), labels.tolist(), True)]


def test_the_recorded_loss_is_not_masked(experiment):
    learner = learner_of(experiment, task_of(experiment), choice=(0.1, 5e-4, 0.99))
    one_step(experiment, learner, "FixMatch")
    visited = learner.histories[0.001].seen
    assert visited.sum() == 16
    assert (learner.histories[0.001].values[visited] > 0).all()
    assert learner.sums[0] == 0  # though nobody passes


def test_a_confidence_at_the_threshold_passes_in_a_step_too(experiment):
    learner = learner_of(experiment, task_of(experiment), choice=(0.1, 5e-4, 0.1))
    with torch.no_grad():  # every class has probability 0.1
        learner.network.classifier.weight.zero_()
        learner.network.classifier.bias.zero_()
    one_step(experiment, learner, "FixMatch")
    assert learner.sums[0] == 1


def test_no_step_waits_for_the_device(experiment):
    for arm in ("supervised strong", "pseudo-label", "FlexMatch + SAA", "aligned FixMatch + SAA"):
        learner, s = learner_of(experiment, task_of(experiment), arm), experiment.S
        experiment.bring_views(learner, arm, 0)
        rows = [x[0] for x in experiment.inputs_of(learner, arm, 0, s.num_steps)]

        def step(learner=learner, arm=arm, rows=rows):
            learner.optimizer.zero_grad()
            experiment.step_loss(learner, arm, *rows).backward()
            learner.optimizer.step()
            learner.average.update_parameters(learner.network)

        no_wait.check(step)


def test_every_kind_of_arm_takes_steps_at_the_settings_of_full():
    s = types.SimpleNamespace(**technique.settings("fixmatch-saa", "full"))
    s.block, s.num_steps, s.saa_start, s.saa_interval, s.num_points = 2, 4, 2, 2, 1
    s.num_probed, s.precision = 20, "float32"
    full = technique.load("fixmatch-saa", tags=TAGS, given={"lab": LAB, "S": s})
    task = task_of(full, labels=4)
    for arm in ("supervised strong", "pseudo-label", "FlexMatch"):
        assert full.run_arm(task, arm, full.choices_of(arm)[0])["accuracy"] >= 0
    branches = [("FixMatch", 0.001), ("FixMatch + SAA", 0.001), ("FixMatch + random, log", 0.001)]
    rows = full.with_branches(task, "FixMatch", branches, (0.03, 5e-4, 0.1))
    assert [row["curve"][-1][0] for row in rows] == [4] * 3


# --- a run ----------------------------------------------------------------------------------------


def test_the_one_loop_and_the_experiment_train_the_same_network(experiment):
    task, s = task_of(experiment), experiment.S
    learner = learner_of(experiment, task)
    network, images, labels = copy.deepcopy(learner.network), *vars(task.dataset.train).values()
    views = {"weak": [], "labelled weak": [], "strong": []}
    for kind, found in views.items():
        for block in range(s.num_steps // s.block):
            found += experiment.draw_views(task, kind, block).unbind()
    taken = {kind: iter(found) for kind, found in views.items()}

    def weak(images):  # the loop asks for those of the labelled images first
        kind = "labelled weak" if len(images) == s.batch_size else "weak"
        return augment.normalise(next(taken[kind]), task.dataset.mean, task.dataset.std)

    def hard(images):
        return augment.normalise(next(taken["strong"]), task.dataset.mean, task.dataset.std)

    batches = (
        (images[labelled], labels[labelled], images[indices])
        for labelled, indices in zip(task.labelled_batches, task.batches, strict=False)
    )
    rate, decay, threshold = CHOICE
    average = experiment.fixmatch(
        network, batches, weak, hard, rate, s.num_steps, threshold, decay, s.ema_decay
    )
    experiment.run_steps(learner, "FixMatch", 0, s.num_steps)
    for ours, theirs in ((network, learner.network), (average, learner.average.module)):
        pairs = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
        for a, b in pairs:
            torch.testing.assert_close(a, b)


def test_the_average_is_evaluated_on_the_images_that_were_asked_for(experiment):
    task, judged = task_of(experiment), []
    real = experiment.accuracy_of

    def judge(network, inputs, labels):
        judged.append((network, len(labels)))
        return real(network, inputs, labels)

    vars(experiment)["accuracy_of"] = judge
    for evaluated, size, looks in (("test", 120, 2), ("validation", 60, 1)):
        judged.clear()
        learner = learner_of(experiment, task)
        experiment.run_steps(learner, "FixMatch", 0, 12, evaluated)
        assert [n for n, _ in judged] == [learner.average.module] * looks
        assert [found for _, found in judged] == [size] * looks
        row = experiment.summary(learner, "FixMatch", evaluated)
        assert judged[-1] == (learner.network, size)
        assert row["accuracy"] == learner.curve[-1][2]  # the last, not the best
        judged.clear()
        experiment.run_arm(task, "supervised strong", (0.1, 5e-4, None), evaluated)
        assert {size for _, size in judged} == {size}


def test_the_last_accuracy_counts(experiment):
    learner = learner_of(experiment, task_of(experiment))
    learner.curve = [(6, 1.0, 70.0), (12, 2.0, 60.0)]
    row = experiment.summary(learner, "FixMatch")
    assert row["accuracy"] == 60.0
    assert row["seconds"] == 2.0


def test_rate_decay_and_momentum_reach_the_optimiser(experiment):
    learner = learner_of(experiment, task_of(experiment), choice=(0.07, 3e-3, 0.4))
    (group,) = learner.optimizer.param_groups
    assert (group["lr"], group["weight_decay"], group["momentum"]) == (0.07, 3e-3, 0.9)
    assert group["nesterov"]
    assert learner.threshold == 0.4
    assert len(group["params"]) == len(list(learner.network.parameters()))
    experiment.run_steps(learner, "FixMatch", 0, 12)
    assert group["lr"] == pytest.approx(experiment.rate_schedule(0.07, 12)(11))


def test_the_longer_baseline_is_longer(experiment):
    task, choice = task_of(experiment), (0.1, 5e-4, None)
    rows = {arm: experiment.run_arm(task, arm, choice) for arm in experiment.STRONG_LABELLED}
    assert {arm: row["curve"][-1][0] for arm, row in rows.items()} == {
        "supervised weak": 12, "supervised strong": 12, "supervised strong, longer": 18,
    }  # fmt: skip


def test_all_arms_of_a_seed_share_weights_and_another_seed_has_others(experiment):
    first = learner_of(experiment, task_of(experiment), "aligned FixMatch")
    second = learner_of(experiment, task_of(experiment), "FlexMatch", (0.3, 1e-3, 0.9))
    assert not different(first, second)
    assert different(first, learner_of(experiment, task_of(experiment, 4)))


def test_the_rate_follows_the_papers_cosine(experiment):
    rate = experiment.rate_schedule(0.03, 1000)
    assert rate(0) == 0.03
    assert rate(1000) == pytest.approx(0.03 * 0.19509, rel=1e-4)
    assert rate(500) == pytest.approx(0.03 * 0.77301, rel=1e-4)


def test_accuracy_in_equal_seconds(experiment):
    curve = [(10, 1.0, 50.0), (20, 3.0, 60.0)]
    assert experiment.after_seconds(curve, 2.0) == pytest.approx(55)
    assert experiment.after_seconds(curve, 9.0) == 60  # it had ended before


# --- who gets the harder view ---------------------------------------------------------------------


def test_saa_that_selects_nobody_is_the_method_bit_for_bit(experiment):
    task = task_of(experiment)
    select = lambda h, seen: (torch.zeros_like(seen), 0.5)  # noqa: E731
    vars(experiment)["select_naive_samples"] = select
    for base in ("FixMatch", "FlexMatch", "aligned FixMatch"):
        assert_same(trained(experiment, task, base), trained(experiment, task, f"{base} + SAA"))


def test_saa_begins_with_the_selection_that_counts(experiment):
    task = task_of(experiment)
    plain, adaptive = (trained(experiment, task, a, 6) for a in ("FixMatch", "FixMatch + SAA"))
    assert not different(plain, adaptive)
    assert adaptive.naive.any()
    assert torch.equal(adaptive.harder, adaptive.naive)
    assert torch.equal(adaptive.first_naive, adaptive.naive)
    assert not plain.harder.any()
    early = trained(experiment, task, "FixMatch + SAA", 4)
    assert early.naive.any()
    assert not early.harder.any()
    plain, adaptive = (trained(experiment, task, a) for a in ("FixMatch", "FixMatch + SAA"))
    assert different(plain, adaptive)
    assert torch.equal(adaptive.harder, adaptive.naive)  # the newest selection
    assert torch.equal(plain.first_naive, adaptive.first_naive)


def test_a_branch_is_the_run_without_branching(experiment):
    task, s = task_of(experiment), experiment.S
    for base, variants in (("FixMatch", experiment.VARIANTS), ("FlexMatch", ["SAA"]),
                           ("aligned FixMatch", ["SAA"])):  # fmt: skip
        branches = [(base, 0.001)] + [(f"{base} + {v}", 0.001) for v in variants]
        rows = experiment.with_branches(task, base, branches, CHOICE)
        assert [(row["arm"], row["weight"]) for row in rows] == branches
        for row in rows:
            whole = trained(experiment, task, row["arm"])
            assert torch.equal(row["history"], whole.histories[0.001].values), row["arm"]
            assert torch.equal(row["pseudo labels"], whole.pseudo_labels), row["arm"]
            assert row["accuracy"] == whole.curve[-1][2], row["arm"]
            # up to here the trunk has selected by the loss, whatever its branches do later
            later = [t for t in whole.trace if t["step"] > s.saa_start]
            assert row["trace"][-len(later) :] == later, row["arm"]
            assert [t["step"] for t in row["trace"]] == [2, 4, 6, 8, 10, 12]
            assert [step for step, _, _ in row["curve"]] == [6, 12]


def test_branches_with_another_weight_of_the_past(experiment):
    task = task_of(experiment)
    branches = [("FixMatch", 0.001), ("FixMatch + SAA", 0.001), ("FixMatch + SAA", 0.9)]
    rows = experiment.with_branches(task, "FixMatch", branches, CHOICE)
    whole = trained(experiment, task, "FixMatch + SAA", weights=[0.9])
    assert torch.equal(rows[2]["history"], whole.histories[0.9].values)
    assert torch.equal(rows[2]["naive"], whole.naive)
    assert not torch.equal(rows[1]["history"], rows[2]["history"])


def test_who_gets_the_harder_view(experiment):
    draw = torch.Generator().manual_seed(0)
    seen = torch.arange(1000) < 900
    for share in (0.0, 0.3, 1.0):
        naive = seen & (torch.rand(1000, generator=draw) < share)
        harder = lambda arm: experiment.harder_images(arm, naive, seen, draw)  # noqa: B023, E731
        for arm in ("FixMatch + random", "FixMatch + random, log"):
            drawn = [harder(arm) for _ in range(2)]
            assert [d.sum() for d in drawn] == [naive.sum()] * 2
            if share == 0.3:
                assert not torch.equal(*drawn)
                assert not torch.equal(drawn[0], naive)
        for arm in ("FixMatch + SAA", "FixMatch + SAA, log", "FlexMatch + SAA"):
            assert torch.equal(harder(arm), naive)
        assert harder("FixMatch + all").all()
        assert torch.equal(harder("FixMatch + others"), seen & ~naive)
        assert not harder("FixMatch").any()


def test_the_random_control_is_drawn_anew_and_is_as_large_as_the_selection(experiment):
    task, marked = task_of(experiment), torch.arange(160) < 50
    vars(experiment)["select_naive_samples"] = lambda h, seen: (marked.clone(), 0.5)
    learner = trained(experiment, task, "FixMatch + random", 6)
    first = learner.harder.clone()
    assert first.sum() == 50
    assert not torch.equal(first, marked)
    experiment.run_steps(learner, "FixMatch + random", 6, 8)
    assert learner.harder.sum() == 50
    assert not torch.equal(first, learner.harder)
    again = trained(experiment, task, "FixMatch + random", 6)
    assert torch.equal(again.harder, first)
    rows = experiment.with_branches(task, "FixMatch", [("FixMatch + random", 0.001)], CHOICE)
    whole = trained(experiment, task, "FixMatch + random")
    assert torch.equal(rows[0]["history"], whole.histories[0.001].values)


def test_the_logarithm_selects_fewer_and_has_a_control_of_its_own(experiment):
    task = task_of(experiment)
    learner = learner_of(experiment, task)
    history = learner.histories[0.001]
    history.values.copy_(torch.linspace(-4, 0.7, 160).pow(3).div(12).exp())
    history.seen.fill_(True)
    plain, at = experiment.naive_images(learner, "FixMatch + SAA")
    log, at_log = experiment.naive_images(learner, "FixMatch + SAA, log")
    assert torch.equal(plain, history.values < at)
    assert torch.equal(log, history.values < at_log)
    assert 0 < log.sum() < plain.sum()
    control, _ = experiment.naive_images(learner, "FixMatch + random, log")
    assert torch.equal(control, log)
    expected = experiment.otsu_threshold(history.values.log10())
    assert at_log == pytest.approx(10**expected)


def test_what_is_observed_of_a_run(experiment):
    learner = trained(experiment, task_of(experiment), "FixMatch", 4)
    row, history = learner.trace[-1], learner.histories[0.001]
    assert row["step"] == 4
    assert learner.sums.tolist() == [0.0] * 4
    assert 0 <= row["right kept"] <= 1
    assert 0 < row["confidence"] < 1
    right = learner.pseudo_labels == learner.task.dataset.train.labels
    assert row["right inside"] == pytest.approx(right[learner.naive].float().mean().item())
    outside = history.seen & ~learner.naive
    assert row["right outside"] == pytest.approx(right[outside].float().mean().item())
    assert row["naive"] == pytest.approx(learner.naive.float().mean().item())
    assert row["loss naive"] == pytest.approx(history.values[learner.naive].mean().item())


def test_losses_are_compared_on_the_same_ordinary_views(experiment):
    task, seen = task_of(experiment), []
    real = experiment.frozen_features

    def look(network, inputs):
        seen.append(inputs)
        return real(network, inputs)

    vars(experiment)["frozen_features"] = look
    learners = [trained(experiment, task, arm) for arm in ("FixMatch", "FixMatch + SAA")]
    found = [experiment.ordinary_loss(learner) for learner in learners]
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[1], seen[3])
    assert found[0] != found[1]
    network, naive = learners[1].network.eval(), learners[1].first_naive[:50]
    labels = network(seen[2]).argmax(1)
    losses = F.cross_entropy(network(seen[3]), labels, reduction="none")
    assert found[1] == pytest.approx(losses[naive].mean().item(), rel=1e-5)
    generator = experiment.generator_of(3, experiment.PROBE)
    hard = strong.strong_augment(task.dataset.train.images[:50], generator, 2)
    weak = augment.pad_crop_flip(task.dataset.train.images[:50], 2, generator)
    weak = augment.normalise(weak, task.dataset.mean, task.dataset.std)
    assert torch.equal(weak, seen[0])
    assert not torch.equal(weak, seen[1])
    assert hard.shape == weak.shape


# --- the rival without a network ------------------------------------------------------------------


def test_label_spreading_solves_its_linear_system(experiment):
    task = task_of(experiment)
    graph, nearest = experiment.graph_of(task.dataset, task.dataset.test.images)
    assert nearest.shape == (120, 3)
    dense = graph.toarray()
    assert np.allclose(dense, dense.T)
    assert (dense.diagonal() == 0).all()
    assert np.linalg.eigvalsh(dense).max() == pytest.approx(1.0)  # D^-1/2 W D^-1/2
    labelled, labels = task.labelled.numpy(), task.dataset.train.labels.numpy()
    given = np.eye(10)[labels[labelled]]
    start = np.zeros((160, 10))
    start[labelled] = given
    exact = np.linalg.solve(np.eye(160) - 0.5 * dense, start)
    ours = experiment.spread_labels(graph, labelled, labels[labelled], 10, 0.5)
    assert np.allclose(ours, 0.5 * exact)  # a factor changes no argmax


def test_label_spreading_is_judged_on_unseen_images_and_on_the_pool(experiment):
    task = task_of(experiment)
    graph, nearest = experiment.graph_of(task.dataset, task.dataset.test.images)
    found, used = experiment.spread_on(task, [0.5])
    assert np.array_equal(used[1], nearest)
    labelled, labels = task.labelled.numpy(), task.dataset.train.labels.numpy()
    scores = experiment.spread_labels(graph, labelled, labels[labelled], 10, 0.5)
    right = [scores[row].sum(0).argmax() == y
             for row, y in zip(nearest, task.dataset.test.labels.numpy(), strict=True)]  # fmt: skip
    assert found[0.5] == pytest.approx(
        (100 * np.mean(right), 100 * np.mean(scores.argmax(1) == labels))
    )
    again, _ = experiment.spread_on(experiment.with_labels(task, 3), [0.5], "test", used)
    alone, _ = experiment.spread_on(task_of(experiment, labels=3), [0.5])
    assert again == alone


def test_an_image_of_the_pool_finds_itself_first(experiment):
    dataset = tiny_dataset()
    _, nearest = experiment.graph_of(dataset, dataset.train.images.flip(0))
    assert (nearest[:, 0] == np.arange(160)[::-1]).all()
