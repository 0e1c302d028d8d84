"""The lab on data filtering networks: hand cases, slow references, independent libraries."""

import math
import types

import numpy as np
import pytest
import torch

from labutils.image_text import RIGHT, SmallClip, noisy_pool, pictures, tokenise
from labutils.start import Lab
from press import technique

NOISE = 0.35, 0.15


class FakeLab:
    """What the experiment uses of a `labutils.start.Lab`."""

    device, seeds, streams = torch.device("cpu"), (0, 1), Lab.streams

    def map(self, function, jobs, _description):
        return [function(*job) for job in jobs]


def given():
    """What the cells take from the notebook, with settings in which a mix-up would show."""
    settings = types.SimpleNamespace(**technique.settings("dfn", "smoke"))
    settings.pool, settings.clean, settings.main = 60, (20, 40), 40
    settings.num_steps, settings.rate, settings.judged = 2, 0.01, 0.4
    settings.tuning_seeds = (1000, 1001)
    return {"lab": FakeLab(), "S": settings, "results": {}, "base": 35.0}


@pytest.fixture
def lab():
    return technique.load("dfn", tags=("technique", "experiment"), given=given())


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def some_pairs(n=30, seed=0):
    data, ink = pictures()
    pairs = noisy_pool(seed, (data.style == 1).nonzero()[:200, 0], n, *NOISE)
    return ink[pairs.picture], pairs.tokens


def trained_on(lab):
    """The arguments of every training from now on; nothing is trained."""
    calls = []

    def fake(images, tokens, *rest):
        calls.append((images, tokens, *rest))
        return SmallClip(generator(len(calls))).eval()

    lab.train_small_clip = fake
    return calls


# --- the technique -------------------------------------------------------------------------------


def test_scores_are_the_diagonal_of_all_cosines_and_move_with_their_pairs(lab):
    towers, (images, tokens) = SmallClip(generator()).eval(), some_pairs()
    with torch.no_grad():
        cosines = towers.encode_image(images) @ towers.encode_text(tokens).T
    found = lab.scores(towers, images, tokens)
    assert torch.allclose(found, cosines.diagonal(), atol=1e-6)
    order = torch.randperm(30, generator=generator())
    moved = lab.scores(towers, images[order], tokens[order])
    assert torch.allclose(moved, found[order], atol=1e-6)


def test_a_share_is_exact_and_equals_a_full_sort(lab):
    for seed in range(20):
        s = torch.randint(0, 8, (37,), generator=generator(seed)).float()  # many ties
        for share in (0.0, 0.1, 0.3, 0.5, 1.0):
            expected = sorted(range(37), key=lambda k: (-s[k], k))[: int(share * 37)]
            assert lab.keep_share(s, share).tolist() == expected


def test_what_is_kept_depends_on_the_order_alone(lab):
    s = torch.randn(50, generator=generator())
    for change in (torch.exp, torch.sigmoid, lambda x: 3 * x - 7):
        assert torch.equal(lab.keep_share(change(s), 0.3), lab.keep_share(s, 0.3))


def test_a_threshold_keeps_what_reaches_it_and_keeping_twice_changes_nothing(lab):
    s = torch.tensor([0.2, 0.5, -0.1, 0.28, 0.27])
    kept = lab.keep_threshold(s, 0.28)
    assert kept.tolist() == [1, 3]
    assert lab.keep_threshold(s[kept], 0.28).tolist() == [0, 1]


def test_datacomps_rule_keeps_one_pair_more_and_all_ties(lab):
    """`baselines/apply_filter.py`: the value at place int(N f) of the sorted scores, then >=."""
    s = torch.randn(100, generator=generator())
    theirs = -np.sort(-s.numpy())[int(100 * 0.3)]
    kept = lab.keep_threshold(s, float(theirs))
    assert len(kept) == 31
    assert set(lab.keep_share(s, 0.3).tolist()) < set(kept.tolist())
    assert len(lab.keep_threshold(torch.ones(100), 1.0)) == 100


def test_the_filter_is_trained_by_clips_loss(lab):
    """Three steps against a loop with the loss written out pair by pair."""
    images, tokens = some_pairs(20)
    found = lab.train_filter(images, tokens, 3, 0.01, generator())
    draws = generator()
    expected = SmallClip(draws)
    optimizer = torch.optim.AdamW(expected.parameters(), 0.01)
    for _ in range(3):
        rows = torch.randperm(20, generator=draws)
        u, v = expected.encode_image(images[rows]), expected.encode_text(tokens[rows])
        logits, loss = expected.log_scale.exp() * u @ v.T, 0
        for k in range(20):
            loss -= logits[k, k] - (logits[k].logsumexp(0) + logits[:, k].logsumexp(0)) / 2
        optimizer.zero_grad()
        (loss / 20).backward()
        optimizer.step()
    assert not found.training
    for a, b in zip(found.parameters(), expected.parameters(), strict=True):
        assert torch.allclose(a, b, atol=2e-3)
    assert (found.log_scale - math.log(1 / 0.07)).abs() > 1e-3


def test_the_formula_of_precision_counts_right_pairs():
    rng = np.random.default_rng(0)
    right = rng.random(100_000) < 0.35
    kept = rng.random(100_000) < np.where(right, 0.6, 0.1)
    a, b, c = kept[right].mean(), right.mean(), kept[~right].mean()
    assert right[kept].mean() == pytest.approx(a * b / (a * b + c * (1 - b)))


# --- pool and clean sets -------------------------------------------------------------------------


def test_no_clean_picture_is_in_the_pool_and_all_are_by_the_first_artist(lab):
    data, _ = pictures()
    for seed in range(3):
        sets = lab.draw(seed, NOISE).sets
        pool = set(sets["whole pool"].picture.tolist())
        assert len(pool) == 60
        assert len(sets["whole pool"].kind) == 180
        assert set(data.style[sorted(pool)].tolist()) <= {0, 1, 2}
        for name in lab.CLEAN:
            assert pool.isdisjoint(sets[name].picture.tolist())
            assert (data.style[sets[name].picture] == 0).all()
    lab.S.pool = 10_000  # as many as there are
    sets = lab.draw(0, NOISE).sets
    every = set((data.style < 3).nonzero()[:, 0].tolist())
    apart = set(sets["clean set"].picture.tolist())
    assert set(sets["whole pool"].picture.tolist()) == every - apart


def test_clean_sets_have_the_stated_sizes_captions_and_errors(lab):
    sets = lab.draw(0, NOISE).sets
    assert set(lab.CLEAN) == {"20 clean", "clean set", "30 % wrong", "narrow"}
    for name, size in (("20 clean", 20), ("clean set", 40), ("30 % wrong", 40)):
        assert (sets[name].picture.bincount().unique() == torch.tensor([0, 4])).all()
        assert len(sets[name].picture.unique()) == size
    assert set(sets["20 clean"].picture.tolist()) < set(sets["clean set"].picture.tolist())
    for name in ("20 clean", "clean set", "narrow"):
        assert (sets[name].kind == RIGHT).all()
    spoiled = sets["30 % wrong"]
    wrong = (spoiled.kind != RIGHT).sum().item()
    assert abs(wrong - 48) < 4 * math.sqrt(160 * 0.3 * 0.7)
    same = [a == b for a, b in zip(spoiled.caption, sets["clean set"].caption, strict=True)]
    assert torch.tensor(same)[spoiled.kind == RIGHT].all()
    assert torch.equal(spoiled.picture, sets["clean set"].picture)


def test_the_narrow_set_holds_its_groups_alone(lab):
    data, _ = pictures()
    groups = {data.concepts[c].group for c in lab.draw(0, NOISE).sets["narrow"].concept}
    assert groups <= {"animals-nature", "food-drink"}
    concept = torch.arange(len(data.concepts))
    expected = [c.group in ("flags", "symbols") for c in data.concepts]
    assert lab.in_groups(concept, ("flags", "symbols")).tolist() == expected


def test_a_draw_depends_on_its_seed_alone(lab):
    one, two, other = lab.draw(0, NOISE), lab.draw(0, NOISE), lab.draw(1, NOISE)
    for name in one.sets:
        assert one.sets[name].caption == two.sets[name].caption
    assert one.sets["whole pool"].caption != other.sets["whole pool"].caption
    cleaner = lab.draw(0, (0.9, 0.05)).sets
    assert torch.equal(cleaner["whole pool"].picture, one.sets["whole pool"].picture)


# --- arms ----------------------------------------------------------------------------------------


def test_a_perfect_filter_keeps_right_pairs_alone_and_then_the_arm_is_the_oracle(lab):
    a = lab.draw(0, NOISE)
    pool = a.sets["whole pool"]
    right = (pool.kind == RIGHT).float()
    lab.filter_scores = lambda *_: right
    share = (right.sum().item() + 0.5) / len(right)
    for x, y in zip(
        lab.pairs_of(a, "DFN", share), lab.pairs_of(a, "right pairs", 1.0), strict=True
    ):
        assert torch.equal(x, y)
    kept = lab.pairs_of(a, "DFN", 0.2)
    assert len(kept[0]) == 36
    assert torch.equal(kept[1], pool.tokens[pool.kind == RIGHT][:36])
    assert lab.filtered(a, "DFN", 0.2, "test")[""] == 100


def test_an_arm_is_trained_on_what_its_name_says(lab):
    a = lab.draw(0, NOISE)
    trained_on(lab)
    clean, pool = a.sets["clean set"], a.sets["whole pool"]
    best = pool.tokens[lab.keep_share(lab.filter_scores(a, "DFN"), 0.3)]
    chance = pool.tokens[lab.keep_share(lab.filter_scores(a, "random"), 0.3)]
    for arm, parts in {
        "whole pool": [pool.tokens], "clean set": [clean.tokens], "DFN": [best],
        "random": [chance], "right pairs": [pool.tokens[pool.kind == RIGHT]],
        "clean set + DFN": [clean.tokens, best],
        "clean set + whole pool": [clean.tokens, pool.tokens],
    }.items():  # fmt: skip
        images, tokens = lab.pairs_of(a, arm, 0.3)
        assert torch.equal(tokens, torch.cat(parts)), arm
        assert len(images) == len(tokens)
    assert not torch.equal(best, chance)


def test_each_filter_is_trained_on_its_own_set_and_scores_the_pool(lab):
    a = lab.draw(0, NOISE)
    pool = lab.tensors(a.sets["whole pool"])
    for name, source in (("DFN", "clean set"), ("pool CLIP", "whole pool"), ("narrow", "narrow")):
        calls = trained_on(lab)
        a.models.clear()
        found = lab.filter_scores(a, name)
        assert [torch.equal(tokens, a.sets[source].tokens) for _, tokens, *_ in calls] == [True]
        assert torch.equal(found, lab.scores(a.models[source, 1.0], *pool))


def test_all_models_have_the_same_steps_rate_and_seed_and_none_is_trained_twice(lab):
    calls = trained_on(lab)
    settings = lab.plan({"DFN": [(0.3,)], "pool CLIP": [(0.5,)]}, 0.1)["noisy"]
    lab.score(7, NOISE, settings, "test")
    assert {call[2:] for call in calls} == {(2, 7, 0.01)}
    models = ["whole pool", "clean set", "20 clean", "30 % wrong", "narrow", "random", "DFN",
              "pool CLIP", "right pairs", "clean set + whole pool", "clean set + DFN",
              "clean set + pool CLIP"]  # fmt: skip
    assert len(calls) == len(models)


def test_a_random_filter_has_the_precision_of_chance(lab):
    lab.S.pool = 2000
    a = lab.draw(0, NOISE)
    found = lab.filtered(a, "random", 0.3, "test")
    base = (a.sets["whole pool"].kind == RIGHT).double().mean().item()
    assert abs(found[""] / 100 - base) < 4 * math.sqrt(base * (1 - base) / 1800)
    assert abs(found[", AUC"] - 50) < 4


def test_words_alone_tell_worthless_captions_but_not_wrong_ones(lab):
    lab.S.pool = 1000
    a = lab.draw(0, NOISE)
    kind, s = a.sets["whole pool"].kind, lab.filter_scores(a, "text alone")
    right, wrong, worthless = (s[kind == k] for k in range(3))
    assert (right[:, None] > worthless).double().mean() > 0.75
    assert abs((right[:, None] > wrong).double().mean() - 0.5) < 0.05


# --- measures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "artist"), [("validation", "emojione"), ("test", "twemoji")])
def test_recall_is_that_of_a_loop_over_the_pictures_of_the_right_artist(lab, split, artist):
    data, ink = pictures()
    a, towers = lab.draw(0, NOISE), SmallClip(generator()).eval()
    concepts = sorted(set(a.sets["whole pool"].concept.tolist()))
    texts = tokenise([data.concepts[c].name for c in concepts])
    ranks = []
    with torch.no_grad():
        v = towers.encode_text(texts)
        for k in (data.style == data.style_names.index(artist)).nonzero()[:, 0].tolist():
            if data.concept[k] in concepts:
                cosine = (towers.encode_image(ink[[k]]) @ v.T)[0]
                own = cosine[concepts.index(data.concept[k])]
                ranks.append((cosine >= own).sum().item())
    expected = [100 * np.mean(np.array(ranks) <= k) for k in (1, 5)]
    assert lab.recalls(a, towers, split) == pytest.approx(expected)


def test_what_a_filter_keeps_is_counted_by_kind_and_group(lab):
    data, _ = pictures()
    a = lab.draw(0, NOISE)
    pool, s = a.sets["whole pool"], torch.rand(180, generator=generator())
    lab.filter_scores = lambda *_: s
    kept = sorted(range(180), key=lambda k: -s[k])[:72]
    near = [data.concepts[c].group in lab.NARROW for c in pool.concept]
    right = (pool.kind == RIGHT).tolist()

    def percent(which, among):
        return 100 * sum(k in which for k in among) / len(among)

    pairs = [bool(s[k] > s[j]) for k in range(180) for j in range(180) if right[k] and not right[j]]
    assert lab.filtered(a, "any", 0.4, "test") == pytest.approx({
        "": 100 * sum(right[k] for k in kept) / 72,
        ", near": percent(kept, [k for k in range(180) if right[k] and near[k]]),
        ", far": percent(kept, [k for k in range(180) if right[k] and not near[k]]),
        ", AUC": 100 * np.mean(pairs),
        ", concepts": len({int(pool.concept[k]) for k in kept}),
    })  # fmt: skip


def test_a_threshold_is_judged_by_what_it_keeps(lab):
    a = lab.draw(0, NOISE)
    kind, s = a.sets["whole pool"].kind, torch.linspace(-1, 1, 180)
    lab.filter_scores = lambda *_: s
    found = lab.by_threshold(a, "any", 0.5, "test")
    kept = [k for k in range(180) if s[k] >= 0.5]
    assert found[""] == pytest.approx(100 * len(kept) / 180)
    right = sum(int(kind[k] == RIGHT) for k in kept)
    assert found[", precision"] == pytest.approx(100 * right / len(kept))
    assert lab.by_threshold(a, "any", 2, "test") == {"": 0, ", precision": 0}


def test_laions_threshold_tells_own_names_from_shuffled_ones(lab):
    data, ink = pictures()
    count, seen = int((data.style == data.style_names.index("emojione")).sum()), []
    right = 0.2 + 0.7 * torch.linspace(0, 1, count) ** 0.3
    wrong = torch.linspace(-0.15, 0.55, count)

    def fake(_towers, images, tokens):
        seen.append((images, tokens))
        return right if len(seen) == 1 else wrong

    trained_on(lab)
    lab.scores = fake
    found = lab.laions_threshold(lab.draw(0, NOISE))
    (images, own), (_, other) = seen
    assert torch.equal(images, ink[data.style == data.style_names.index("emojione")])
    assert torch.equal(other, own.roll(1, 0))
    gap = [
        (right >= t).double().mean() - (wrong >= t).double().mean()
        for t in torch.linspace(-0.2, 1, 500)
    ]
    here = (right >= found).double().mean() - (wrong >= found).double().mean()
    assert here >= max(gap) - 1e-6


def test_a_score_has_the_recall_of_a_model_at_its_share(lab):
    trained_on(lab)
    lab.recalls = lambda a, towers, split: [float(len(a.models)), 10.0 * len(a.models)]
    found = lab.score(0, NOISE, {"clean set": [(1.0,)], "DFN": [(0.3,), (0.5,)]}, "validation")
    assert found == {
        ("clean set", 1.0): 10, ("clean set, R@1", 1.0): 1, ("DFN", 0.3): 20,
        ("DFN, R@1", 0.3): 2, ("DFN", 0.5): 30, ("DFN, R@1", 0.5): 3,
    }  # fmt: skip


# --- settings, plan and claims -------------------------------------------------------------------


def test_shares_are_chosen_on_validation_data_of_the_extra_seeds(lab):
    calls = []

    def fake(seed, noise, settings, split):
        calls.append((seed, noise, split))
        right = {"DFN": 0.5, "pool CLIP": 0.3}
        return {(arm, *v): float(v[0] == right[arm]) for arm in settings for v in settings[arm]}

    lab.score = fake
    best = lab.choose(lab.S.tuning_seeds)
    assert (best["DFN"], best["pool CLIP"]) == ([(0.5,)], [(0.3,)])
    assert calls == [(seed, lab.S.noise, "validation") for seed in (1000, 1001)]


def test_both_filters_choose_from_the_same_shares(lab):
    tried = []
    lab.score = lambda seed, noise, settings, split: tried.append(settings) or {("DFN", 0.3): 0.0}
    lab.choose((1000,))
    assert tried[0]["DFN"] == tried[0]["pool CLIP"] == [(0.3,), (0.5,)]


@pytest.mark.parametrize("profile", ["smoke", "small"])
def test_extra_seeds_are_no_seeds_of_the_results(profile):
    settings = technique.settings("dfn", profile)
    assert min(settings["tuning_seeds"]) >= 1000 > settings["num_seeds"]
    assert settings["main"] in settings["clean"]


def test_the_plan_gives_chance_the_size_of_dfn_and_every_filter_the_same_share(lab):
    plan = lab.plan({"DFN": [(0.3,)], "pool CLIP": [(0.5,)], "DFN, R@1": [(0.15,)]}, 0.25)
    arms, one, three, five = plan["noisy"], [(1.0,)], [(0.3,)], [(0.5,)]
    assert {arm: arms[arm] for arm in arms if ":" not in arm} == {
        "whole pool": one, "right pairs": one, "clean set": one, "clean set + whole pool": one,
        "random": three, "DFN": three, "pool CLIP": five, "clean set + DFN": three,
        "clean set + pool CLIP": five, "20 clean": one, "30 % wrong": one,
    }  # fmt: skip
    filters = {arm.removeprefix("filter: ") for arm in arms if arm.startswith("filter")}
    assert filters == {*lab.CLEAN, "whole pool", "text alone", "untrained", "random"}
    assert all(arms[f"filter: {name}"] == [(0.4,)] for name in filters)
    assert arms["threshold: DFN"] == arms["threshold: pool CLIP"] == [(0.25,)]
    assert plan["few errors"] == {"whole pool": one, "random": three, "DFN": three}


def test_per_seed_finds_the_one_setting_of_an_arm(lab):
    lab.results["noisy"] = {("DFN", 0.3): [1, 2], ("DFN, R@1", 0.3): [3, 4]}
    lab.results["few errors"] = {("DFN", 0.3): [5, 6]}
    assert lab.per_seed("DFN").tolist() == [1, 2]
    assert lab.per_seed("DFN, R@1").tolist() == [3, 4]
    assert lab.per_seed("DFN", "few errors").tolist() == [5, 6]


def test_losses_are_shares_of_what_was_there(lab):
    lab.results["noisy"] = {
        ("filter: 30 % wrong", 0.4): [45, 55], ("filter: clean set", 0.4): [55, 75],
        ("30 % wrong", 1.0): [6, 4], ("clean set", 1.0): [8, 16],
    }  # fmt: skip
    found = lab.losses()
    assert found["lost precision", 0] == pytest.approx([100 / 3, 200 / 3])
    assert found["lost recall", 0] == pytest.approx([100 / 6, 100])


def test_claims_compare_what_their_sentences_say(lab):
    found = {name: (first, second, margin) for name, _, first, second, margin, *_ in lab.CLAIMS}
    assert found == {
        "beats-whole-pool": ("DFN", "whole pool", 3),
        "beats-random": ("DFN", "random", 3),
        "beats-pool-clip": ("DFN", "pool CLIP", 0),
        "clean-in-filter": ("DFN", "clean set + pool CLIP", 0),
        "beats-clean-alone": ("clean set + DFN", "clean set", 0),
        "not-accuracy": ("filter: whole pool", "filter: 20 clean", 0),
        "own-recall": ("20 clean", "whole pool", 0),
        "spoiled": ("lost precision", "lost recall", 0),
        "precision": ("filter: clean set", "base", 20),
    }
