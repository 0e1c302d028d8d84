"""The RS2 chapter's experiment: fair to every arm, blind to the test images, paid in full.

Tests that take the experiment's module as their argument are also handed modules with a mistake in
them, by test_rs2_mutations.py.
"""

import math
import types

import no_wait
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from stand_in import streams

from labutils import augment, data, models, training
from press import technique

LAB = types.SimpleNamespace(
    device=torch.device("cpu"), streams=streams, checkpoint=lambda run: None, seeds=(0, 1)
)
TAGS = ("technique", "experiment")


def experiment_at(profile):
    """The technique and the experiment's functions at the settings of a profile; and these."""
    s = types.SimpleNamespace(**technique.settings("rs2", profile))
    return technique.load("rs2", tags=TAGS, given={"lab": LAB, "S": s}), s


def small_settings():
    """Those of `smoke` with numbers that differ from each other where a mix-up could hide."""
    s = types.SimpleNamespace(**technique.settings("rs2", "smoke"))
    s.scoring_nets, s.scoring_epochs, s.num_rounds = 2, 3, 8
    s.learning_rates, s.first_rates = [0.01, 0.03, 0.1, 0.3], [0.03, 0.1]
    s.ratios, s.tuning_seeds = [0.05, 0.1, 0.5], [3, 2, 1, 4]
    return s


@pytest.fixture
def experiment():
    return technique.load("rs2", tags=TAGS, given={"lab": LAB, "S": small_settings()})


def tiny_dataset(test_seed=1, sizes=(200, 60, 240), width=28):
    """200 training, 60 validation and 240 test images of noise in ten classes."""
    splits = []
    for n, seed in zip(sizes, (0, 2, test_seed), strict=True):
        generator = torch.Generator().manual_seed(seed)
        shape = (n, 1, width, width)
        images = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        labels = (torch.arange(n) % 10)[torch.randperm(n, generator=generator)]
        splits.append(data.Images(images, labels))
    return data.Dataset("tiny", *splits, tuple("abcdefghij"), (0.3,), (0.35,))


def tiny_scores(n=200):
    generator = torch.Generator().manual_seed(5)
    scores = {k: torch.rand(n, generator=generator) for k in ("EL2N", "margin", "forgetting")}
    features = torch.randn(n, 4, generator=generator)
    return scores | {"features": features, "seconds": [100.0, 1000.0]}


def network_of(seed=0):
    return models.build("cnn-tiny", 1, 10, torch.Generator().manual_seed(seed))


def accuracy(network, split, dataset):
    network.eval()
    with torch.no_grad():
        logits = network(augment.normalise(split.images, dataset.mean, dataset.std))
    return 100 * (logits.argmax(1) == split.labels).double().mean().item()


def watch(experiment):
    """Replace `train_on` by one that trains nothing and notes what it was asked for."""
    calls = []

    def train_on(batches, dataset, streams, rate, *, run=None, evaluated=None, looks=()):
        states = [g.get_state() for g in (streams.initialisation, streams.augmentation)]
        calls.append({"batches": batches, "states": states, "rate": rate, "evaluated": evaluated})
        seconds = {k: 0.5 * k for k in range(len(batches) + 1)}
        history = training.History(torch.zeros(0), {1: 99.0}, seconds)
        return network_of(), history

    vars(experiment)["train_on"] = train_on
    return calls


# --- every arm's rounds --------------------------------------------------------------------------

TRAINING_IMAGES = {
    "fashion-mnist-mini": 2000,
    "fashion-mnist": 60_000,
    "cifar10": 50_000,
}
ARMS = ("RS2", "RS2 with replacement", "RS2 stratified", "static random", "all data")


@pytest.mark.parametrize(
    ("profile", "dataset"),
    [("smoke", None), ("small", None), ("full", None), ("full", "cifar10")],
)
@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_fills_the_steps_of_the_run(profile, dataset, arm):
    """Equal budgets: every arm makes exactly S * T batches, all of `batch_size` examples."""
    experiment, s = experiment_at(profile)
    n = TRAINING_IMAGES[dataset or s.dataset] - s.num_validation
    labels = torch.arange(n) % 10
    for ratio in s.ratios:
        generator = torch.Generator().manual_seed(0)
        rounds = experiment.rounds_of(arm, ratio, s.num_rounds, labels, None, generator)[0]
        batches = experiment.batches_of(rounds, s.batch_size)
        steps = experiment.shortened_run(n, ratio, s.num_rounds, s.batch_size)
        batches = batches[:steps] if arm == "all data" else batches  # whole epochs
        assert len(batches) == steps, f"r = {ratio}"
        assert {len(batch) for batch in batches} == {s.batch_size}, f"r = {ratio}"


def rounds_of(experiment, arm, ratio=0.1, seed=3, **options):
    generator = torch.Generator().manual_seed(seed)
    labels = tiny_dataset().train.labels
    return experiment.rounds_of(arm, ratio, 8, labels, tiny_scores(), generator, **options)


def test_a_subset_that_was_chosen_stays(experiment):
    for arm in ("static random", *experiment.PRUNING):
        rounds, _, _ = rounds_of(experiment, arm)
        assert len(rounds) == 8, arm
        assert len(rounds[0].unique()) == len(rounds[0]) == 20, arm
        assert all(torch.equal(indices, rounds[0]) for indices in rounds), arm


def test_fresh_arms_draw_as_their_names_say(experiment):
    labels = tiny_dataset().train.labels
    seen = {arm: torch.cat(rounds_of(experiment, arm, 0.1)[0]) for arm in experiment.FRESH}
    assert len(seen["RS2"].unique()) == 160  # eight rounds of 20, nobody twice
    assert len(seen["RS2 with replacement"].unique()) < 160
    for indices in rounds_of(experiment, "RS2 stratified")[0]:
        assert torch.bincount(labels[indices]).tolist() == [2] * 10
    for ratio in (0.25, 0.2):  # rT = 2 epochs; 1.6, of which the second is cut short
        epochs = rounds_of(experiment, "all data", ratio)[0]
        assert [len(epoch.unique()) for epoch in epochs] == [200, 200]


def test_pruning_keeps_equal_shares_of_the_classes_where_it_says_so(experiment):
    labels = tiny_dataset().train.labels
    for arm in ("EL2N", "margin", "forgetting", "herding", "static random"):
        kept = rounds_of(experiment, arm)[0][0]
        assert torch.bincount(labels[kept]).tolist() == [2] * 10, arm
    kept = rounds_of(experiment, "EL2N, unbalanced")[0][0]
    hardest = tiny_scores()["EL2N"].argsort(descending=True)[:20]
    assert set(kept.tolist()) == set(hardest.tolist())


def test_every_pruning_arm_goes_by_its_own_score(experiment):
    labels, scores = tiny_dataset().train.labels, tiny_scores()
    classes = [(labels == c).nonzero().flatten() for c in range(10)]
    for arm in ("EL2N", "margin", "forgetting"):
        best = torch.cat([i[scores[arm][i].topk(2).indices] for i in classes])
        assert set(rounds_of(experiment, arm)[0][0].tolist()) == set(best.tolist()), arm
    best = torch.cat([i[experiment.herding(scores["features"][i], 2)] for i in classes])
    assert set(rounds_of(experiment, "herding")[0][0].tolist()) == set(best.tolist())
    generator = torch.Generator().manual_seed(3)
    best = experiment.k_center_greedy(scores["features"], 20, generator)
    assert torch.equal(rounds_of(experiment, "k-center")[0][0], best)


def test_ccs_drops_the_share_that_was_chosen(experiment):
    scores = tiny_scores()["EL2N"]
    for share in (0.0, 0.2, 0.5):
        kept = rounds_of(experiment, "CCS", share=share)[0][0]
        limit = scores.sort().values[round((1 - share) * 200) - 1]
        assert scores[kept].max() <= limit
        assert scores[kept].max() > limit - 0.1


def test_the_whole_scoring_is_on_the_bill(experiment):
    for arm in ("EL2N", "EL2N, unbalanced", "margin", "CCS"):  # averages of two networks
        _, seconds, examples = rounds_of(experiment, arm)
        assert (1100 <= seconds < 1110, examples) == (True, 2 * 3 * 200), arm
    for arm in ("forgetting", "k-center", "herding"):  # the first one is enough
        _, seconds, examples = rounds_of(experiment, arm)
        assert (100 <= seconds < 110, examples) == (True, 3 * 200), arm
    for arm in ("static random", "all data", *experiment.FRESH):
        assert rounds_of(experiment, arm)[1:] == (0.0, 0), arm


# --- the comparison ------------------------------------------------------------------------------

SETTINGS = {"RS2": (0.1, 0.0), "static random": (0.2, 0.0), "CCS": (0.3, 0.5), "all data": (0.4, 0)}


def compared(experiment, seed=0, dataset=None, ratio=0.1, settings=SETTINGS):
    calls = watch(experiment)
    dataset = dataset or tiny_dataset()
    rows = experiment.compare(seed, dataset, ratio, 8, settings, tiny_scores())
    return rows, calls


def test_arms_of_a_seed_start_alike_and_those_of_another_do_not(experiment):
    _, calls = compared(experiment)
    first = calls[0]["states"]
    for call in calls:
        assert all(torch.equal(a, b) for a, b in zip(call["states"], first, strict=True))
    _, others = compared(experiment, seed=1)
    assert not any(torch.equal(a, b) for a, b in zip(others[0]["states"], first, strict=True))


def test_every_arm_trains_at_its_own_settings(experiment):
    rows, calls = compared(experiment)
    assert [call["rate"] for call in calls] == [0.1, 0.2, 0.3, 0.4]
    assert [(row["arm"], (row["rate"], row["share"])) for row in rows] == [*SETTINGS.items()]
    assert [row["selection_seconds"] > 1000 for row in rows] == [False, False, True, False]
    assert [row["selection_examples"] for row in rows] == [0, 0, 2 * 3 * 200, 0]
    kept = torch.cat(calls[2]["batches"]).unique()
    assert tiny_scores()["EL2N"][kept].max() < 0.6  # CCS's share arrives


def test_an_arm_does_not_depend_on_which_others_run(experiment):
    _, together = compared(experiment)
    _, alone = compared(experiment, settings={"CCS": SETTINGS["CCS"]})
    both = zip(together[2]["batches"], alone[0]["batches"], strict=True)
    assert all(torch.equal(a, b) for a, b in both)


def test_the_network_after_the_last_step_counts(experiment):
    """Not the best look on the way, and each split for itself."""
    dataset = tiny_dataset()
    rows, calls = compared(experiment, dataset=dataset)
    for row in rows:
        assert row["test"] == pytest.approx(accuracy(network_of(), dataset.test, dataset))
        expected = accuracy(network_of(), dataset.validation, dataset)
        assert row["validation"] == pytest.approx(expected)
        assert row["test"] != row["validation"]
    for call in calls:  # looks on the way are at the test images
        assert torch.equal(call["evaluated"][1], dataset.test.labels)


def test_subsets_do_not_depend_on_test_images(experiment):
    first = compared(experiment)[1]
    second = compared(experiment, dataset=tiny_dataset(test_seed=9))[1]
    for a, b in zip(first, second, strict=True):
        pairs = zip(a["batches"], b["batches"], strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)


def test_rounds_are_cut_into_new_batches_every_time(experiment):
    rows, calls = compared(experiment)
    for row, call in zip(rows, calls, strict=True):
        assert row["steps"] == len(call["batches"]) == 16
        assert row["seconds"] == 8.0  # of the last step
    static = [set(batch.tolist()) for batch in calls[1]["batches"]]
    assert static[0] | static[1] == static[2] | static[3]  # the same subset
    assert static[0] not in (static[2], static[3])


def test_only_the_splits_that_are_asked_for_are_scored(experiment):
    """Runs that choose settings never see a test image."""
    calls, dataset = watch(experiment), tiny_dataset()
    scored = {"scored": ["validation"]}
    rows = experiment.compare(0, dataset, 0.1, 8, SETTINGS, tiny_scores(), **scored)
    assert calls[0]["evaluated"] is None
    assert "test" not in rows[0]
    expected = accuracy(network_of(), dataset.validation, dataset)
    assert rows[0]["validation"] == pytest.approx(expected)


# --- training ------------------------------------------------------------------------------------


def captured(experiment, num_steps=4, rate=0.2, on_batch=None):
    """What `train_on` hands to `labutils.training.train`, and the batches and data of it."""
    seen = {}

    def train(network, step_loss, steps, optimizer, learning_rate, **options):
        seen.update(network=network, step_loss=step_loss, optimizer=optimizer, options=options)
        seen["rates"] = [learning_rate(k) for k in range(steps + 1)]
        return training.History(torch.zeros(steps), {}, {steps: 1.0})

    vars(experiment)["train"] = train
    dataset = tiny_dataset()
    batches = list(torch.randperm(200, generator=torch.Generator().manual_seed(8)).split(10))
    seen["batches"], seen["dataset"] = batches[:num_steps], dataset
    test = experiment.prepared(dataset.test, dataset)
    seen["visits"] = []
    experiment.train_on(
        seen["batches"], dataset, streams(4), rate, evaluated=test, looks={2},
        on_batch=on_batch or (lambda *visit: seen["visits"].append(visit)),
    )  # fmt: skip
    return seen


def test_the_cosine_ends_with_the_last_batch(experiment):
    s = experiment.S
    for num_steps in (4, 7):
        expected = [
            s.final_rate + (0.2 - s.final_rate) * (1 + math.cos(math.pi * k / num_steps)) / 2
            for k in range(num_steps + 1)
        ]
        assert captured(experiment, num_steps)["rates"] == pytest.approx(expected, abs=1e-12)


def test_a_step_is_the_loss_of_augmented_training_images(experiment):
    seen = captured(experiment)
    dataset, generator = seen["dataset"], streams(4).augmentation
    network = models.build("cnn-tiny", 1, 10, streams(4).initialisation).train()
    for k, batch in enumerate(seen["batches"]):
        images = augment.pad_crop_flip(dataset.train.images[batch], 2, generator)
        logits = network(augment.normalise(images, dataset.mean, dataset.std))
        expected = F.cross_entropy(logits, dataset.train.labels[batch])
        assert seen["step_loss"](seen["options"]["inputs"][0][k]).item() == pytest.approx(
            expected.item(), rel=1e-6
        )
        indices, correct = seen["visits"][k]
        assert torch.equal(indices, batch)
        assert torch.equal(correct, logits.argmax(1) == dataset.train.labels[batch])


def test_the_optimiser_is_the_papers(experiment):
    group = captured(experiment)["optimizer"].param_groups[0]
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, True, 5e-4)


def test_looks_on_the_way_are_at_what_was_asked_for(experiment):
    seen = captured(experiment)
    assert seen["options"]["evaluate_steps"] == {2}
    dataset = seen["dataset"]
    expected = accuracy(seen["network"], dataset.test, dataset)
    assert seen["options"]["evaluate"]() == pytest.approx(expected)


# --- scoring -------------------------------------------------------------------------------------


def test_scores_are_means_over_networks_in_evaluation_mode(experiment):
    networks, visits, rates, starts = [], [], [], []
    train_on = experiment.train_on

    def watched(batches, dataset, streams, rate, *, on_batch=None):
        starts.append(streams.initialisation.get_state())
        network, history = train_on(batches, dataset, streams, rate, on_batch=on_batch)
        networks.append(network)
        visits.append(on_batch is not None)
        rates.append((rate, sum(map(len, batches))))
        return network, history

    vars(experiment)["train_on"] = watched
    dataset = tiny_dataset()
    scores = experiment.score_examples(0, dataset, 0.07)
    assert rates == [(0.07, 3 * 200)] * 2
    assert visits == [True, False]
    assert not torch.equal(starts[0], starts[1])
    assert not any(torch.equal(state, streams(0).initialisation.get_state()) for state in starts)
    inputs = augment.normalise(dataset.train.images, dataset.mean, dataset.std)
    el2n, grand, margins = torch.zeros(3, 200)
    for network in networks:
        network.eval()
        with torch.no_grad():
            p, length = network(inputs).softmax(1), network.features(inputs).square().sum(1)
        errors = (p - F.one_hot(dataset.train.labels, 10)).norm(dim=1) / 2
        el2n += errors
        grand += errors * (1 + length).sqrt()
        top = p.sort(1).values
        margins += (top[:, -1] - top[:, -2]) / 2
    torch.testing.assert_close(scores["EL2N"], el2n, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores["GraNd"], grand, rtol=1e-4, atol=1e-5)
    margins = -margins  # the smaller the margin, the higher the score
    torch.testing.assert_close(scores["margin"], margins, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        features = networks[0].features(inputs)
    torch.testing.assert_close(scores["features"], features, rtol=1e-4, atol=1e-5)
    counts = scores["forgetting"]
    assert counts[counts.isfinite()].max() <= 1  # three visits lose an example once at most
    assert len(scores["seconds"]) == 2


# --- choosing settings and rivals ----------------------------------------------------------------


def trials():
    """A rate that wins on average, one that wins in a single seed, and one on test images."""
    rows = [
        ("RS2", 0.03, 0.0, (70, 71, 72), 99), ("RS2", 0.1, 0.0, (73, 73, 73), 60),
        ("RS2", 0.3, 0.0, (90, 60, 60), 70), ("CCS", 0.1, 0.0, (50, 52, 54), 80),
        ("CCS", 0.1, 0.3, (55, 55, 55), 10), ("CCS", 0.3, 0.3, (40, 41, 42), 99),
    ]  # fmt: skip
    return pd.DataFrame(
        {"ratio": ratio, "arm": arm, "rate": rate, "share": share, "seed": seed, "test": test}
        | {"validation": value if ratio == 0.1 else 100 - value}
        for ratio in (0.1, 0.5)
        for arm, rate, share, values, test in rows
        for seed, value in enumerate(values)
    )


def test_settings_are_the_best_on_average_over_validation(experiment):
    assert experiment.best_settings(trials()) == {
        (0.1, "RS2"): (0.1, 0.0), (0.1, "CCS"): (0.1, 0.3),
        (0.5, "RS2"): (0.3, 0.0), (0.5, "CCS"): (0.3, 0.3),
    }  # fmt: skip


def test_all_arms_run_up_to_ten_percent_and_four_beyond(experiment):
    assert experiment.arms_at(0.05) == experiment.arms_at(0.1) == experiment.ARMS
    assert experiment.arms_at(0.5) == ["RS2", "static random", "margin", "CCS"]
    assert experiment.arms_at(1.0) == ["all data"]


def test_seeds_that_choose_settings_have_no_results(experiment):
    for ratio, count in ((0.05, 3), (0.1, 2), (0.5, 1), (1.0, 4)):
        seeds = experiment.tuning_seeds(ratio)
        assert len(set(seeds)) == len(seeds) == count
        assert not set(seeds) & set(LAB.seeds)


def test_arms_that_differ_in_their_draws_share_a_rate(experiment):
    chosen = {(r, a): (r + k, k) for r in (0.1, 0.5) for k, a in enumerate(experiment.ARMS)}
    settings = experiment.settings_of(experiment.ARMS, 0.1, chosen)
    assert {settings[arm] for arm in (*experiment.FRESH, "all data")} == {chosen[0.1, "RS2"]}
    assert {settings[arm] for arm in experiment.HARDEST} == {chosen[0.1, "margin"]}
    for arm in ("static random", "herding", "CCS"):
        assert settings[arm] == chosen[0.1, arm]
    assert experiment.settings_of(["CCS"], 0.2, chosen) == {"CCS": (0.01, 0.0)}


def searched(experiment, ratio, peaks, share=0.3):
    """All trials of a search where every arm is best at its peak; CCS's at 0.1 come first."""
    ladder = experiment.S.learning_rates

    def row(arm, rate, share):
        distance = abs(ladder.index(rate) - ladder.index(peaks.get(arm, 0.1)))
        kept = {"ratio": ratio, "arm": arm, "rate": rate, "share": share}
        return kept | {"validation": 90 - distance, "test": distance}

    first = [row("CCS", 0.1, 0.3 - share) | {"validation": 0.0}, row("CCS", 0.1, share)]
    trials = pd.DataFrame(first if ratio < 1 else [], columns=list(first[0]))
    for _ in range(len(ladder)):
        tried = [(a, *s) for one in experiment.candidates(trials, ratio) for a, s in one.items()]
        trials = pd.concat([trials, pd.DataFrame([row(*one) for one in tried])])
    return trials


PEAKS = {"RS2": 0.3, "static random": 0.03, "margin": 0.01, "herding": 0.1, "CCS": 0.3}


@pytest.mark.parametrize(("ratio", "share"), [(0.1, 0.3), (0.5, 0.0), (1.0, 0.3)])
def test_every_tuned_arm_is_searched_until_its_best_rate_has_both_neighbours(
    experiment, ratio, share
):
    trials = searched(experiment, ratio, PEAKS, share)
    arms = {experiment.TUNED_AS.get(arm, arm) for arm in experiment.arms_at(ratio)}
    assert set(trials.arm) == arms
    expected = {0.3: [0.03, 0.1, 0.3], 0.1: [0.03, 0.1, 0.3], 0.03: [0.01, 0.03, 0.1]}
    for arm in arms:
        rates = trials[trials.arm == arm].drop_duplicates(["rate", "share"]).rate.tolist()
        assert len(rates) == len(trials[trials.arm == arm]), "no rate is tried twice"
        assert sorted({*rates}) == expected.get(PEAKS[arm], [0.01, 0.03, 0.1]), arm
    others = trials[(trials.arm == "CCS") & (trials.rate != 0.1)]
    assert set(others.share) == ({share} if ratio < 1 else set())
    assert (trials[trials.arm != "CCS"].share == 0).all()
    chosen = experiment.best_settings(trials)
    assert {arm: chosen[ratio, arm][0] for arm in arms} == {arm: PEAKS[arm] for arm in arms}


def test_the_rival_is_the_best_pruning_method_on_validation(experiment):
    rows = [
        ("herding", 0.1, (70, 72), (60, 60)), ("CCS", 0.1, (75, 66), (90, 90)),
        ("EL2N", 0.5, (99, 99), (50, 50)), ("CCS", 0.5, (10, 10), (80, 80)),
        ("RS2", 0.1, (95, 95), (95, 95)), ("static random", 0.1, (96, 96), (96, 96)),
    ]  # fmt: skip
    results = pd.DataFrame(
        {"arm": arm, "ratio": ratio, "seed": k, "validation": v, "test": t}
        for arm, ratio, validation, test in rows
        for k, (v, t) in enumerate(zip(validation, test, strict=True))
    )
    assert experiment.best_pruning(results, 0.1) == "herding"
    assert experiment.best_pruning(results, 0.5) == "EL2N"


# --- time to accuracy ----------------------------------------------------------------------------


def test_time_to_accuracy_is_the_first_time_by_straight_lines(experiment):
    curve = {100: 50.0, 200: 70.0, 300: 60.0, 400: 80.0}
    for accuracy_asked, steps in ((60, 150), (70, 200), (75, 375), (80, 400), (30, 50)):
        reached = experiment.steps_to_reach(curve, accuracy_asked, 10.0)
        assert reached == pytest.approx(steps)
    assert experiment.steps_to_reach(curve, 80.1, 10.0) is None
    shuffled = {k: curve[k] for k in (400, 100, 300, 200)}
    assert experiment.steps_to_reach(shuffled, 60, 10.0) == pytest.approx(150)


def test_speedups_pair_each_run_with_the_long_run_of_its_seed(experiment):
    long_runs = {}
    for seed, (half, end) in enumerate(((60.0, 80.0), (70.0, 80.0), (50.0, 55.0))):
        history = training.History(torch.zeros(0), {500: half, 1000: end}, {500: 4.0, 1000: 10.0})
        long_runs[seed] = {"seed": seed, "history": history}
    columns = ["seed", "test", "steps", "seconds"]
    rows = pd.DataFrame([(2, 70.0, 100, 2.0), (1, 70.0, 100, 2.0), (0, 70.0, 100, 2.0)])
    found = experiment.speedups(rows.set_axis(columns, axis=1), long_runs, 10.0)
    factors, seconds, reached = found
    assert factors == pytest.approx([10.0, 5.0, 7.5])  # never: all of its steps, at least
    assert np.array(seconds) == pytest.approx([5.0, 2.0, 3.5])
    assert reached == [False, True, True]


# --- on a GPU, and at the settings of `full` -----------------------------------------------------


def test_a_step_never_waits_for_the_host(experiment):
    seen = captured(experiment, on_batch=experiment.ForgettingEvents(200).visit)

    def step():
        seen["optimizer"].zero_grad()
        seen["step_loss"](seen["options"]["inputs"][0][0]).backward()
        seen["optimizer"].step()

    no_wait.check(step)


@pytest.mark.slow
def test_every_arm_takes_two_steps_at_the_settings_of_full():
    experiment, s = experiment_at("full")
    s.batch_size, s.num_rounds, s.scoring_epochs = 10, 2, 1
    dataset = tiny_dataset(sizes=(20, 10, 20), width=8)
    scores = experiment.score_examples(0, dataset, s.scoring_rate)
    settings = experiment.settings_of(experiment.ARMS, 0.5, {})
    rows = experiment.compare(0, dataset, 0.5, 2, settings, scores, looks={1})
    assert [row["arm"] for row in rows] == experiment.ARMS
    for row in rows:
        assert row["history"].losses.isfinite().all()
        assert row["steps"] == len(row["history"].losses) == 2
        assert set(row["history"].evaluations) == {1}
