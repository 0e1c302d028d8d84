"""The SimCLRv2 chapter's experiment: one set of views for all arms, blind to the test images.

Tests that take the experiment's module as their argument are also handed modules with a mistake in
them, by test_simclrv2_mutations.py.
"""

import math
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from stand_in import streams
from torch import nn

from labutils import augment, data, evaluation, training
from labutils.augment import strong
from press import technique
from studies import pretrain_simclr as script

TAGS = ("technique", "experiment")


LAB = types.SimpleNamespace(device=torch.device("cpu"), streams=streams, seeds=(0, 1))


def small_settings():
    """Those of `smoke` with numbers that differ from each other where a mix-up could hide."""
    s = types.SimpleNamespace(**technique.settings("simclrv2", "smoke"))
    s.num_tested, s.widths, s.student_width, s.study_width, s.batch = 50, [2, 3, 4], 3, 2, 8
    s.labels, s.study_labels, s.tuning_draws = [1, 2, 4], 2, 2
    s.complete = s.studied = 1
    s.sets_at = [1, 9, 9]
    s.steps_pretrained, s.steps_scratch, s.steps_student = [2, 3, 4], [5, 6, 7], [8, 9, 10]
    s.pretraining_batch, s.probe_strengths = 6, [0.01, 0.1]
    s.rates_pretrained, s.rates_random = [0.1, 0.2], [0.3, 0.4]
    return s


@pytest.fixture
def experiment():
    return technique.load("simclrv2", tags=TAGS, given={"lab": LAB, "S": small_settings()})


def tiny_dataset(test_seed=1, validation_seed=2, train_seed=0):
    """200 training, 60 validation and 80 test images of noise in ten classes."""
    splits = []
    for n, seed in ((200, train_seed), (60, validation_seed), (80, test_seed)):
        generator = torch.Generator().manual_seed(seed)
        images = torch.randint(256, (n, 1, 28, 28), generator=generator, dtype=torch.uint8)
        labels = (torch.arange(n) % 10)[torch.randperm(n, generator=generator)]
        splits.append(data.Images(images, labels))
    return data.Dataset("tiny", *splits, tuple("abcdefghij"), (0.3,), (0.35,))


def on(experiment, dataset=None):
    """Give the experiment these data, the same for every seed, and watch what it trains."""
    dataset, calls = dataset or tiny_dataset(), []

    def train(model, step_loss, num_steps, optimizer, learning_rate, *, inputs, **options):
        """Like `labutils.training.train`, and keeps what it was asked for."""
        call = types.SimpleNamespace(
            model=model, steps=num_steps, inputs=inputs, losses=[], rates=[],
            options=dict(optimizer.param_groups[0]),
        )  # fmt: skip
        calls.append(call)
        model.train()
        for k in range(num_steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(k)
            call.rates.append(learning_rate(k))
            loss = step_loss(*(rows[k] for rows in inputs))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            call.losses.append(float(loss))
        return training.History(torch.tensor(call.losses))

    vars(experiment).update(train=train, load_data=lambda seed: dataset)
    return calls


def states_of(experiment, names=None):
    """Random weights of every pretraining, with batch statistics that differ from fresh ones."""
    states = {}
    for k, name in enumerate(names or experiment.PRETRAININGS):
        pair = experiment.fresh_pair(50 + k, name, (1, 10))
        x = torch.rand(32, 1, 28, 28, generator=torch.Generator().manual_seed(k))
        with torch.no_grad():
            pair[1](pair[0].features(x))
        states[name] = {key: v.clone() for key, v in nn.ModuleList(pair).state_dict().items()}
    return states


def networks_of(experiment):
    states = states_of(experiment)
    return {n: experiment.pretrained_pair(s, n, (1, 10)) for n, s in states.items()}


class Watched(nn.Module):
    """A linear classifier with a batch norm."""

    def __init__(self, seed=0):
        super().__init__()
        self.norm, self.layer = nn.BatchNorm1d(784), nn.Linear(784, 10)
        generator = torch.Generator().manual_seed(seed)
        nn.init.normal_(self.layer.weight, 0, 0.1, generator=generator)
        nn.init.zeros_(self.layer.bias)

    def forward(self, x):
        return self.layer(self.norm(x.flatten(1)))


def same_state(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


# --- data ----------------------------------------------------------------------------------------


def test_data_of_a_seed_are_split_and_cut_as_said(experiment):
    found = experiment.load_data(0)
    s = small_settings()
    assert len(found.validation) == s.num_validation
    assert len(found.test) == s.num_tested
    whole = data.load(s.dataset, num_validation=s.num_validation, generator=streams(0).split)
    assert torch.equal(found.test.images, whole.test.images[: s.num_tested])
    assert torch.equal(found.test.labels, whole.test.labels[: s.num_tested])
    assert torch.equal(found.train.images, whole.train.images)


def test_a_label_draw_is_fixed_balanced_and_taken_from_training_images(experiment):
    on(experiment)
    dataset, sets = tiny_dataset(), {}
    for per_class in (1, 2, 4):
        task, again = (experiment.task_of(1, 0, per_class) for _ in range(2))
        assert torch.equal(task.labelled.images, again.labelled.images)
        assert torch.bincount(task.labelled.labels).tolist() == [per_class] * 10
        train = zip(dataset.train.images, dataset.train.labels.tolist(), strict=True)
        known = {bytes(image.numpy()): label for image, label in train}
        rows = zip(task.labelled.images, task.labelled.labels, strict=True)
        for image, label in rows:
            assert known.get(bytes(image.numpy())) == label
        sets[per_class] = {bytes(image.numpy()) for image in task.labelled.images}
    assert sets[1] < sets[2] < sets[4]
    other = experiment.task_of(1, 1, 4), experiment.task_of(0, 0, 4)
    assert all({bytes(i.numpy()) for i in t.labelled.images} != sets[4] for t in other)


def test_the_draw_that_chooses_has_no_results(experiment):
    assert experiment.TUNING_SEED not in {*LAB.seeds, *range(200)}
    task = experiment.task_of(experiment.TUNING_SEED, 0, 2)
    assert task.number != experiment.task_of(0, 0, 2).number


# --- pretraining ---------------------------------------------------------------------------------


@pytest.fixture
def chapter():
    """The experiment with the settings of `small`, to which the shipped networks belong."""
    return technique.load("simclrv2", tags=TAGS, given={"lab": LAB, "S": settings_of_small()})


def settings_of_small():
    return types.SimpleNamespace(**technique.settings("simclrv2", "small"))


def at_places(chapter):
    """{seed: place} of all sets of networks."""
    places = {seed: seed for seed in range(chapter.S.shipped)}
    return places | {chapter.TUNING_SEED: None}


def test_every_seed_has_its_own_shipped_networks(chapter):
    found = {s: chapter.shipped_states(k, s, (1, 10)) for s, k in at_places(chapter).items()}
    stems = [states["width 16"]["0.conv1.weight"] for states in found.values()]
    assert all(not torch.equal(a, b) for k, a in enumerate(stems) for b in stems[:k])
    for place, seed in ((1, 103), (8, 110)):  # other seeds take turns, whole sets in whole places
        again = chapter.shipped_states(place, seed, (1, 10))
        assert [*again] == [*found[place]]
        stem = again["width 16"]["0.conv1.weight"]
        assert any(torch.equal(stem, other) for other in stems[:-1])


def test_later_seeds_have_what_the_primary_claims_need(chapter):
    s = chapter.S
    assert chapter.pretrainings_of(s.complete - 1) == [*chapter.PRETRAININGS]
    later = ["width 2", "width 4", "width 16", "head of 2"]
    assert chapter.pretrainings_of(s.complete) == chapter.pretrainings_of(11) == later
    assert chapter.pretrainings_of(None) == [f"width {w}" for w in s.widths]


def test_shipped_networks_are_those_of_their_file(chapter):
    with np.load(script.ASSETS / f"{script.NAME}.npz") as arrays:
        for name, state in chapter.shipped_states(4, 4, (1, 10)).items():
            pair = nn.ModuleList(chapter.pretrained_pair(state, name, (1, 10)))
            for key, value in pair.state_dict().items():
                if not key.endswith("num_batches_tracked") and "classifier" not in key:
                    assert np.array_equal(value.numpy(), arrays[f"4/{name}/{key}"]), (name, key)


def test_pretraining_follows_its_row_and_sees_no_label(experiment):
    calls = on(experiment)
    states = {n: experiment.pretrain(0, n, 20) for n in experiment.PRETRAININGS}
    assert all(call.steps == 20 and call.inputs[0].shape == (20, 6) for call in calls)
    assert all(torch.equal(call.inputs[0], calls[0].inputs[0]) for call in calls)
    first = {n: states[n]["0.conv1.weight"] for n in states}
    assert [len(first[f"width {w}"]) for w in (2, 3, 4)] == [2, 3, 4]
    layers = {n: sum("layers" in key and "0.weight" in key for key in states[n]) for n in states}
    assert (layers["head of 2"], layers["head of 4"], layers["width 2"]) == (2, 4, 3)
    assert not torch.equal(first["crop only"], first["width 2"])
    assert not torch.equal(first["colour only"], first["width 2"])
    shuffled = tiny_dataset()
    labels = shuffled.train.labels.flip(0)
    on(experiment, types.SimpleNamespace(**{
        **vars(shuffled), "train": data.Images(shuffled.train.images, labels)
    }))  # fmt: skip
    assert same_state(experiment.pretrain(0, "width 2", 20), states["width 2"])


def test_pretraining_has_the_losses_of_the_contrastive_step(experiment):
    calls = on(experiment)
    for name in ("width 2", "crop only", "colour only"):
        experiment.pretrain(3, name, 20)
        encoder, head = experiment.fresh_pair(3, name, (1, 10))
        recipe = experiment.RECIPES["crop and colour" if name == "width 2" else name]
        images = tiny_dataset().train.images[calls[-1].inputs[0][0]]
        loss = experiment.contrastive_step(
            encoder, head, images, recipe, small_settings().temperature, streams(3).augmentation
        )
        assert calls[-1].losses[0] == pytest.approx(float(loss), rel=1e-5)


def test_pretraining_warms_up_then_follows_a_cosine_to_its_end(experiment):
    calls, s = on(experiment), small_settings()
    experiment.pretrain(0, "width 2", 40)
    rates = calls[-1].rates
    assert rates[0] == pytest.approx(s.pretraining_rate / 2)
    assert rates[1] == max(rates) == pytest.approx(s.pretraining_rate)
    assert rates[-1] < 0.01 * s.pretraining_rate
    options = calls[-1].options
    assert (options["momentum"], options["nesterov"]) == (0.9, True)
    assert options["weight_decay"] == s.pretraining_decay


def test_pretrainings_of_other_seeds_are_other_networks(experiment):
    calls = on(experiment)
    weights = [experiment.fresh_pair(s, "width 2", (1, 10))[0].conv1.weight for s in (0, 1)]
    assert not torch.equal(*weights)
    for seed in (0, 1):
        experiment.pretrain(seed, "width 2", 20)
    assert not torch.equal(calls[0].inputs[0], calls[1].inputs[0])


def test_a_finished_pretraining_comes_back_whole(experiment):
    states = states_of(experiment)
    for name, state in states.items():
        pair = experiment.pretrained_pair(state, name, (1, 10))
        assert same_state(dict(nn.ModuleList(pair).state_dict()), state)


def test_recipes_differ_in_what_their_names_say(experiment):
    both, crop, colour = (
        experiment.RECIPES[r] for r in ("crop and colour", "crop only", "colour only")
    )
    assert both.scale == crop.scale == tuple(small_settings().crop)
    assert colour.scale == colour.aspect == (1.0, 1.0)
    assert both.jitter_probability == colour.jitter_probability > 0 == crop.jitter_probability
    assert {r.flip_probability for r in (both, crop, colour)} == {0.5}
    assert {r.blur_probability for r in (both, crop, colour)} == {0.0}


# --- views, and fitting on them ------------------------------------------------------------------


def test_every_view_is_shifted_and_strongly_augmented(experiment):
    images, s = tiny_dataset().train.images[:40], small_settings()
    view = experiment.strong_view(images, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    moved = augment.pad_crop_flip(images, s.padding, generator)
    assert torch.equal(view, strong.strong_augment(moved, generator, s.operations))
    assert not torch.equal(view, moved)


def test_views_show_the_images_and_labels_that_they_should(experiment):
    on(experiment)
    s, task = small_settings(), experiment.task_of(1, 1, 4)
    (few, labels), many = task.hard, task.pool["all"]
    assert len(few) == max(s.steps_scratch[2], s.steps_student[2])
    assert len(many) == s.steps_student[2]
    assert task.pool["labelled"] is few
    for seen, images, number in (
        (few, task.labelled.images, task.number),
        (many, task.dataset.train.images, task.number + experiment.POOL),
    ):
        draw = streams(number)
        order = torch.randint(len(images), seen.shape[:2], generator=draw.sampling)
        views = experiment.strong_view(images[order.flatten()], draw.augmentation)
        assert torch.equal(seen.flatten(0, 1), views)
        assert seen.dtype == torch.uint8
    order = torch.randint(40, few.shape[:2], generator=streams(task.number).sampling)
    assert torch.equal(labels, task.labelled.labels[order])


def test_every_draw_has_views_of_its_own(experiment):
    on(experiment)
    seen = [experiment.task_of(*draw, 2).pool["all"] for draw in ((0, 0), (0, 1), (1, 0))]
    assert not any(torch.equal(seen[a], seen[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    again = experiment.task_of(0, 0, 2).pool["all"]
    assert torch.equal(again, seen[0])


def test_a_teacher_is_asked_about_the_students_views_in_evaluation_mode(experiment):
    seen = torch.randint(256, (3, 8, 1, 28, 28), dtype=torch.uint8)
    teacher = Watched().train()
    before = {key: v.clone() for key, v in teacher.state_dict().items()}
    views, logits = experiment.soft_labels(teacher, seen)
    assert views is seen
    assert same_state(before, dict(teacher.state_dict()))  # batch statistics, too
    assert teacher.training
    with torch.no_grad():
        expected = teacher.eval()(seen.flatten(0, 1).float() / 255).view(3, 8, 10)
    torch.testing.assert_close(logits, expected)
    assert not logits.requires_grad


def test_a_step_is_equation_3(experiment):
    calls = on(experiment)
    generator = torch.Generator().manual_seed(0)
    views = torch.randint(256, (2, 5, 8, 1, 28, 28), generator=generator, dtype=torch.uint8)
    labels = torch.randint(10, (5, 8), generator=generator)
    logits = 3 * torch.randn(5, 8, 10, generator=generator)
    hard, soft = (views[0], labels), (views[1], logits)
    for options in (
        {"hard": hard}, {"soft": soft}, {"soft": soft, "tau": 0.1},
        {"hard": hard, "soft": soft, "alpha": 0.9, "tau": 0.5},
    ):  # fmt: skip
        network, fresh, tau = Watched(1), Watched(1), options.get("tau", 1.0)
        experiment.fit(network, 3, 0.1, **options)
        named = F.cross_entropy(fresh(views[0, 0].float() / 255), labels[0])
        said = (fresh(views[1, 0].float() / 255) / tau).log_softmax(1)
        imitated = -((logits[0] / tau).softmax(1) * said).sum(1).mean()
        weight = 0.9 if len(options) == 4 else float("soft" in options)
        expected = weight * imitated + (1 - weight) * named
        assert calls[-1].losses[0] == pytest.approx(float(expected), rel=1e-4)
        assert calls[-1].steps == 3
        assert all(len(rows) == 3 for rows in calls[-1].inputs)


def test_rates_fall_to_zero_and_the_optimiser_is_the_same_for_all(experiment):
    calls = on(experiment)
    views = torch.zeros(40, 8, 1, 28, 28, dtype=torch.uint8)
    experiment.fit(Watched(), 40, 0.1, (views, torch.zeros(40, 8).long()), decay=0.25)
    expected = [0.05 * (1 + math.cos(math.pi * k / 40)) for k in range(40)]
    assert calls[-1].rates == pytest.approx(expected)
    options = calls[-1].options
    assert (options["momentum"], options["nesterov"], options["weight_decay"]) == (0.9, True, 0.25)


# --- arms ----------------------------------------------------------------------------------------


def rows_of(experiment, per_class=2):
    """{arm: what `fit` was asked for} for all arms at one count, nothing being trained."""
    on(experiment)
    found = {}

    def fit(network, num_steps, rate, hard=(), soft=(), **options):
        found[arm] = types.SimpleNamespace(
            network=network, steps=num_steps, rate=rate, hard=hard, soft=soft, **options
        )

    vars(experiment)["fit"] = fit
    task, networks, trained = experiment.task_of(0, 0, per_class), networks_of(experiment), {}
    for k, arm in enumerate(experiment.arms_at(per_class)):
        network, _ = experiment.train_arm(arm, 0.001 * (k + 1), task, networks, trained)
        trained[arm] = network
        if arm in found:
            assert found[arm].rate == 0.001 * (k + 1)
        if network is not None:  # so that teachers differ in what they say
            generator = torch.Generator().manual_seed(k)
            nn.init.normal_(network.classifier.weight, generator=generator)
    return found, task, trained, networks


def test_every_arm_has_the_steps_of_its_kind_at_every_count(experiment):
    s = small_settings()
    for place, per_class in enumerate(s.labels):
        found = rows_of(experiment, per_class)[0]
        for arm, row in found.items():
            kind = "scratch" if arm == "scratch" else "student"
            kind = "pretrained" if "start" in experiment.ARMS[arm] else kind
            assert row.steps == getattr(s, f"steps_{kind}")[place], (arm, per_class)
            if row.soft:
                assert len(row.soft[0]) == row.steps, arm
        assert found["label only"].steps == found["distilled"].steps


def test_all_arms_of_a_draw_share_views_and_labels_alone_never_touch_the_pool(experiment):
    found, task, _, _ = rows_of(experiment)
    for arm, row in found.items():
        if "taught on" not in experiment.ARMS[arm]:
            assert row.hard is task.hard, arm
            assert row.soft == (), arm
        elif arm != "distilled + labels":
            assert row.hard == (), arm
    assert found["distilled + labels"].hard is task.hard
    pool, labelled = (task.pool[kind][: found["distilled"].steps] for kind in ("all", "labelled"))
    for arm in ("distilled", "distilled + labels", "self-distilled"):
        assert torch.equal(found[arm].soft[0], pool), arm
    assert torch.equal(found["taught by scratch"].soft[0], pool)
    assert torch.equal(found["soft labels, labelled set"].soft[0], labelled)


def test_every_student_has_its_own_teacher_weight_and_temperature(experiment):
    found, _, trained, _ = rows_of(experiment)
    students = {arm: row for arm, row in found.items() if row.soft}
    for arm, row in students.items():
        teacher = trained["scratch" if arm == "taught by scratch" else "fine-tuned"]
        said = experiment.soft_labels(teacher, row.soft[0])[1]
        torch.testing.assert_close(row.soft[1], said)
    assert [a for a, row in students.items() if row.alpha != 1] == ["distilled + labels"]
    assert students["distilled + labels"].alpha == small_settings().alpha
    cold = {arm: row.tau for arm, row in students.items() if row.tau != 1}
    assert cold == {"self-distilled": 0.1}


def width_of(network):
    return network.encoder.conv1.out_channels


def test_arms_have_the_size_and_the_weights_that_their_rows_say(experiment):
    found, task, _, networks = rows_of(experiment)
    for arm in ("scratch", "fine-tuned", "self-distilled"):
        assert width_of(found[arm].network) == 4, arm
    for arm in ("label only", "distilled", "taught by scratch", "fine-tuned, width 3"):
        assert width_of(found[arm].network) == 3, arm
    for arm in ("layer 0 with batch norm", "fine-tuned, width 2"):
        assert width_of(found[arm].network) == 2, arm
    random = {a: n.network for a, n in found.items() if "start" not in experiment.ARMS[a]}
    for arm, network in random.items():  # networks of one size start alike in a draw
        start = streams(task.number).initialisation
        drawn = experiment.new_pair(width_of(network), (1, 10), start)[0]
        assert torch.equal(network.encoder.conv1.weight, drawn.conv1.weight), arm
        assert found[arm].decay == small_settings().decay, arm
    for (depth, layer), arm in experiment.HEADS.items():
        network = found[arm].network
        name = "width 2" if depth == 3 else f"head of {depth}"
        assert torch.equal(network.encoder.conv1.weight, networks[name][0].conv1.weight), arm
        assert len(network.kept) == layer, arm
        assert found[arm].decay == 0, arm
    kinds = {a: type(row.network.norm).__name__ for a, row in found.items()}
    assert [a for a, kind in kinds.items() if kind != "Identity"] == ["layer 0 with batch norm"]


def test_nothing_that_is_pretrained_changes_while_arms_are_trained(experiment):
    on(experiment)
    states = states_of(experiment)
    before = {n: {k: v.clone() for k, v in s.items()} for n, s in states.items()}
    task, networks, trained = experiment.task_of(0, 0, 2), networks_of(experiment), {}
    modes = {n: [m.training for m in nn.ModuleList(p).modules()] for n, p in networks.items()}
    for arm in experiment.arms_at(2):
        trained[arm], logits = experiment.train_arm(arm, 0.1, task, networks, trained)
        logits(task.dataset.test.images)
    for name, pair in networks.items():
        assert same_state(dict(nn.ModuleList(pair).state_dict()), before[name]), name
        assert [m.training for m in nn.ModuleList(pair).modules()] == modes[name], name


def test_a_probe_is_a_regression_on_frozen_features_of_the_right_depth(experiment):
    on(experiment)
    task, networks = experiment.task_of(0, 0, 4), networks_of(experiment)
    cases = [
        ("probe", "width 4", 0),
        ("probe of z", "width 4", 3),
        ("probe, width 2", "width 2", 0),
    ]
    cases += [("probe, crop only", "crop only", 0)]
    for arm, name, depth in cases:
        _, logits = experiment.train_arm(arm, 0.05, task, networks, {})
        encoder, head = (part.eval() for part in networks[name])
        with torch.no_grad():
            known, new = (
                head(encoder.features(images.float() / 255), depth)
                for images in (task.labelled.images, task.dataset.test.images)
            )
        probe = evaluation.linear_probe(known, task.labelled.labels, strength=0.05)
        torch.testing.assert_close(logits(task.dataset.test.images), probe(new), atol=1e-3, rtol=0)
        for part in networks[name]:
            part.train()


def test_a_trained_network_is_judged_in_evaluation_mode(experiment):
    on(experiment)
    task, networks = experiment.task_of(0, 0, 2), networks_of(experiment)
    network, logits = experiment.train_arm("fine-tuned", 0.1, task, networks, {})
    images = task.dataset.test.images
    with torch.no_grad():
        expected = network.eval()(images.float() / 255)
    network.train()
    torch.testing.assert_close(logits(images), expected)
    assert network.training


# --- choosing and measuring ----------------------------------------------------------------------


def outcome(experiment, function, **seeds):
    on(experiment, tiny_dataset(**seeds))
    states = states_of(experiment)
    chosen = dict.fromkeys(experiment.ARMS, 0.05)
    if function == "tune":
        tried = ("fine-tuned", "probe", "label only", "distilled")
        return experiment.tune(tried, 2, 0, states, chosen)
    return experiment.run_draw(0, 0, 4, states, chosen)


def test_rates_are_chosen_on_validation_images_alone(experiment):
    found = outcome(experiment, "tune")
    assert outcome(experiment, "tune", test_seed=9) == found
    assert outcome(experiment, "tune", validation_seed=9) != found
    assert [*found["fine-tuned"]] == [0.1, 0.2]
    assert [*found["label only"]] == [*found["distilled"]] == [0.3, 0.4]
    assert [*found["probe"]] == [0.01, 0.1]


def test_tuning_trains_on_the_draw_that_chooses(experiment):
    on(experiment)
    asked, task_of = [], experiment.task_of
    vars(experiment)["task_of"] = lambda *job: asked.append(job) or task_of(*job)
    states, chosen = states_of(experiment), dict.fromkeys(experiment.ARMS, 0.05)
    experiment.tune(["label only"], 4, 1, states, chosen)
    experiment.run_draw(1, 1, 4, states, chosen)
    assert asked == [(experiment.TUNING_SEED, 1, 4), (1, 0, 4)]


def test_results_are_measured_on_test_images_alone(experiment):
    found = outcome(experiment, "draw")
    assert [*found] == experiment.arms_at(4)
    assert outcome(experiment, "draw", validation_seed=9) == found
    assert outcome(experiment, "draw", test_seed=9) != found


def test_every_arm_runs_with_the_value_that_was_chosen_for_it(experiment):
    on(experiment)
    asked, train_arm = {}, experiment.train_arm

    def watched(arm, value, *rest):
        asked[arm] = value
        return train_arm(arm, value, *rest)

    vars(experiment)["train_arm"] = watched
    chosen = {arm: 0.01 * (k + 1) for k, arm in enumerate(experiment.ARMS)}
    experiment.run_draw(0, 0, 2, states_of(experiment), chosen)
    assert asked == chosen


def test_grids_fit_the_kind_of_the_arm_and_the_temperature(experiment):
    s = small_settings()
    assert experiment.grid_of("probe of z") == s.probe_strengths
    assert experiment.grid_of(experiment.HEADS[2, 0]) == s.rates_pretrained
    assert experiment.grid_of("scratch") == experiment.grid_of("distilled") == s.rates_random
    cold = [0.01 * rate for rate in s.rates_random]
    assert experiment.grid_of("self-distilled") == pytest.approx(cold)


def test_arms_share_a_rate_only_where_something_else_is_compared(experiment):
    shared = experiment.SHARED
    own = {arm for arm in experiment.ARMS if shared.get(arm, arm) == arm}
    assert {"scratch", "fine-tuned", "probe", "label only", "distilled"} <= own
    assert {"soft labels, labelled set", "self-distilled", "probe, width 2"} <= own
    assert shared[experiment.HEADS[2, 0]] == experiment.HEADS[3, 0]
    assert shared[experiment.HEADS[4, 3]] == experiment.HEADS[3, 2]
    assert shared[experiment.VIEWS["crop only"]] == "probe, width 2"
    assert all(
        experiment.ARMS[a]["width"] == experiment.ARMS[b]["width"] for a, b in shared.items()
    )


def test_the_best_value_wins_and_of_equals_the_smallest(experiment):
    assert experiment.best_of({0.3: [70.0], 0.1: [71.0], 1.0: [69.0]}) == 0.1
    assert experiment.best_of({0.3: [71.0], 0.1: [71.0], 1.0: [69.0]}) == 0.1
    assert experiment.best_of({0.3: [90.0, 1.0], 0.1: [60.0, 60.0]}) == 0.1


def test_all_draws_try_all_values_of_all_arms_that_have_their_own(experiment):
    asked = []

    def tune(arms, per_class, draw, states, chosen):
        asked.append((draw, per_class, [*chosen]))
        return {arm: {0.1: draw, 0.2: 10 * per_class} for arm in arms}

    vars(experiment).update(tune=tune)
    vars(experiment)["lab"] = types.SimpleNamespace(
        map=lambda function, jobs, _: [function(*job) for job in jobs]
    )
    tried = experiment.try_values({})
    own = {a for a in experiment.ARMS if experiment.SHARED.get(a, a) == a}
    assert {*tried[2]} == own
    assert {*tried[1]} == {*tried[4]} == own & {*experiment.MAIN}
    assert tried[4]["distilled"] == {0.1: [0, 1], 0.2: [40, 40]}
    assert {job[:2] for job in asked} == {(d, k) for d in (0, 1) for k in (1, 2, 4)}
    untaught = {a for a in experiment.MAIN if "taught on" not in experiment.ARMS[a]}
    assert {frozenset(chosen) for _, k, chosen in asked if k == 1} == {
        frozenset(),
        frozenset(untaught),
    }
    assert experiment.best(tried)[4] == dict.fromkeys(own & {*experiment.MAIN}, 0.2)


def test_arms_are_compared_over_the_seeds_in_which_both_ran(experiment):
    runs = {
        (s, k): {"a": 10 * s + k} | ({"b": s} if s == 1 else {}) for s in (1, 0) for k in (1, 4)
    }
    runs[5, 4] = {"a": 1e6, "b": 1e6}  # no seed of the run
    assert experiment.seed_means(runs, ["a"], 4) == {"a": [4, 14]}
    assert experiment.seed_means(runs, ["a", "b"], 4) == {"a": [14], "b": [1]}


def test_studies_run_at_one_count_and_teachers_before_their_students(experiment):
    assert experiment.arms_at(2) == [*experiment.ARMS]
    assert experiment.arms_at(1) == experiment.arms_at(4) == [*experiment.MAIN]
    for per_class, place in ((1, 0), (2, 0), (2, 1), (4, 1)):
        arms = experiment.arms_at(per_class, place)
        students = [k for k, arm in enumerate(arms) if "taught on" in experiment.ARMS[arm]]
        assert max(arms.index("fine-tuned"), arms.index("scratch")) < min(students)


def test_later_seeds_run_what_the_primary_claims_need(experiment, chapter):
    whole = [arm for arm in experiment.MAIN if experiment.MAIN[arm]["width"] in (2, 3, 4)]
    assert experiment.arms_at(1, 1) == []
    assert experiment.arms_at(4, 1) == whole
    assert experiment.arms_at(2, 1) == whole + experiment.PRIMARY
    made = chapter.pretrainings_of(11)
    assert "fine-tuned, width 8" not in chapter.arms_at(100, 11)
    for arm in chapter.arms_at(10, 11):
        row = chapter.ARMS[arm]
        if "start" in row or "probe" in row:
            assert row.get("from", f"width {row['width']}") in made, arm
