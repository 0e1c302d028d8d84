"""The lab on MetaCLIP: the definition of a match, closed forms, hand cases, what each arm may see.

Tests that take the lab's module as their argument are also handed modules with a mistake in them,
by test_metaclip_mutations.py.
"""

import ast
import itertools
import types

import numpy as np
import pytest
import torch
from scipy import stats

from labutils import image_text
from labutils.data import emoji
from press import notebooks, technique

TAGS = ("technique", "experiment")


def given():
    """What the cells take from the notebook."""
    settings = types.SimpleNamespace(**technique.settings("metaclip", "smoke"))
    settings.steps, settings.batch = 20, 50
    lab = types.SimpleNamespace(device=torch.device("cpu"), seeds=(0, 1))
    return {"lab": lab, "S": settings, "results": {}, "chosen": {}}


@pytest.fixture
def lab():
    return technique.load("metaclip", tags=TAGS, given=given())


# --- matching ------------------------------------------------------------------------------------


def by_definition(captions, entries):
    """An entry with blanks around it is a part of the caption with blanks put in by hand."""
    rows = []
    for pair, caption in enumerate(captions):
        text = "".join(f" {c} " if c in ",.;:?!`" else c for c in caption)
        text = f" {text} ".translate(str.maketrans("\t\n\r", "   "))
        rows += [[pair, e] for e, entry in enumerate(entries) if f" {entry} " in text]
    return rows


def random_texts(rng, number, longest, pieces):
    sizes = rng.integers(1, longest + 1, number)
    return ["".join(rng.choice(pieces, size)).strip(" ") or "ab" for size in sizes]


def test_the_lookup_finds_what_the_definition_finds(lab):
    rng = np.random.default_rng(0)
    pieces = ["ab", "b", "ab ", " b", "Ab ", " ", "  ", ",", ": ", "!", "`", "\t", "\n", "\r", "-"]
    captions = random_texts(rng, 2000, 9, pieces)
    entries = sorted({*random_texts(rng, 200, 4, [p for p in pieces if p not in "\t\n\r"])})
    found = lab.match(captions, entries)
    assert found.tolist() == by_definition(captions, entries)
    assert len(found) > 2000
    assert found.dtype == np.int64


def test_words_are_matched_whole_and_literally(lab):
    entries = ["cat", "hot dog", "dog", "hot", "flag: China", "flag", "Cat"]
    captions = ["concatenate", "hot dog", "cats", "flag: China", "dog hot", "cat,dog"]
    found = [[e for pair, e in lab.match(captions, entries) if pair == k] for k in range(6)]
    assert found == [[], [1, 2, 3], [], [5], [2, 3], [0, 2]]


def test_an_entry_that_comes_twice_in_a_caption_counts_once(lab):
    assert lab.match(["dog dog dog"], ["dog"]).tolist() == [[0, 0]]


def test_captions_without_a_match_have_no_row(lab):
    assert lab.match(["img 7", ""], ["dog"]).shape == (0, 2)


# --- chances -------------------------------------------------------------------------------------


def random_matches(seed=0, num_pairs=60, num_entries=20):
    """Rows (pair, entry) with a long tail, each once."""
    rng = np.random.default_rng(seed)
    entry = np.minimum(rng.geometric(0.25, 3 * num_pairs) - 1, num_entries - 1)
    rows = np.stack([rng.integers(num_pairs, size=3 * num_pairs), entry], 1)
    return np.unique(rows, axis=0)


def slow_keep(rows, t, num_pairs):
    """Eq. (1) and (2), pair by pair."""
    n = {e: sum(rows[:, 1] == e) for e in rows[:, 1]}
    keep = np.zeros(num_pairs)
    for pair in range(num_pairs):
        lost = 1.0
        for e in rows[rows[:, 0] == pair, 1]:
            lost *= 1 - (t / n[e] if n[e] > t else 1.0)
        keep[pair] = 1 - lost
    return keep


@pytest.mark.parametrize("t", [1, 2.5, 7, 30])
def test_chances_of_pairs_are_the_slow_product(lab, t):
    rows = random_matches()
    found = lab.keep_probability(rows, lab.chances(rows, t, 20), 60)
    np.testing.assert_allclose(found, slow_keep(rows, t, 60), atol=1e-12)


def test_chances_are_those_of_many_draws(lab):
    rows, draws = random_matches(), 100_000
    p = lab.chances(rows, 4, 20)
    rng, kept = np.random.default_rng(0), np.zeros(60)
    for _ in range(10):  # of 10,000 draws at once, independent of `balance`
        wins = rng.random((draws // 10, len(rows))) < p[rows[:, 1]]
        for pair in range(60):
            kept[pair] += wins[:, rows[:, 0] == pair].any(1).sum()
    keep = lab.keep_probability(rows, p, 60)
    sigma = np.sqrt(keep * (1 - keep) / draws)
    assert (np.abs(kept / draws - keep) <= 4 * sigma + 1e-12).all()


def test_a_tail_entry_keeps_its_pairs_for_sure_and_no_match_loses_them(lab):
    rows = random_matches()
    n = np.bincount(rows[:, 1], minlength=20)
    keep = lab.keep_probability(rows, lab.chances(rows, 6, 20), 70)
    tail = np.unique(rows[n[rows[:, 1]] <= 6, 0])
    assert len(tail) > 5
    assert (keep[tail] == 1).all()
    assert (keep[60:] == 0).all()
    others = np.setdiff1d(np.unique(rows[:, 0]), tail)
    assert ((keep[others] > 0) & (keep[others] < 1)).all()


def test_a_larger_threshold_keeps_more_from_nothing_to_all_that_match(lab):
    rows = random_matches()
    keeps = [lab.keep_probability(rows, lab.chances(rows, t, 20), 60) for t in (1, 2, 4, 9, 1e9)]
    assert (np.diff(keeps, axis=0) >= 0).all()
    matched = np.isin(np.arange(60), rows[:, 0])
    np.testing.assert_array_equal(keeps[-1], matched)
    assert lab.keep_probability(rows, lab.chances(rows, 1e-9, 20), 60).max() < 1e-7


def test_the_expected_size_is_at_most_the_sum_of_the_capped_counts(lab):
    for seed, t in itertools.product(range(5), (1, 3, 8)):
        rows = random_matches(seed)
        n = np.bincount(rows[:, 1], minlength=20)
        expected = lab.keep_probability(rows, lab.chances(rows, t, 20), 60).sum()
        assert expected <= np.minimum(n, t).sum() + 1e-9
        single = rows[np.unique(rows[:, 0], return_index=True)[1]]  # one entry for each pair
        n = np.bincount(single[:, 1], minlength=20)
        expected = lab.keep_probability(single, lab.chances(single, t, 20), 60).sum()
        assert expected == pytest.approx(np.minimum(n, t).sum())


def test_the_order_of_pairs_and_of_entries_does_not_matter(lab):
    rows, rng = random_matches(), np.random.default_rng(1)
    pairs, entries = rng.permutation(60), rng.permutation(20)
    moved = np.stack([pairs[rows[:, 0]], entries[rows[:, 1]]], 1)[rng.permutation(len(rows))]
    keep = lab.keep_probability(rows, lab.chances(rows, 3, 20), 60)
    other = lab.keep_probability(moved, lab.chances(moved, 3, 20), 60)
    np.testing.assert_allclose(other[pairs], keep)


FOUR = np.array([[0, 0], [1, 0], [1, 1], [2, 0], [2, 1], [2, 2], [3, 2], [3, 1]])


def test_draws_have_the_distribution_of_the_formula_and_of_the_loop_that_stops_early(lab):
    """Four pairs, sixteen subsets, 20,000 draws each way."""
    p, draws = lab.chances(FOUR, 1, 3), 20_000
    rng = np.random.default_rng(0)
    found = np.zeros(16)
    for _ in range(draws):
        found[sum(1 << k for k in lab.balance(FOUR, p, rng))] += 1
    loop = np.zeros(16)
    for _ in range(draws):
        subset = 0
        for pair in range(4):
            if any(rng.random() < p[e] for e in FOUR[FOUR[:, 0] == pair, 1]):
                subset += 1 << pair
        loop[subset] += 1
    keep = slow_keep(FOUR, 1, 4)
    bits = np.arange(16)[:, None] >> np.arange(4) & 1
    exact = np.where(bits, keep, 1 - keep).prod(1)
    assert stats.chisquare(found, draws * exact).pvalue > 1e-3
    assert stats.chi2_contingency([found, loop]).pvalue > 1e-3


def test_a_pair_with_many_winning_entries_is_there_once(lab):
    kept = lab.balance(random_matches(), np.ones(20), np.random.default_rng(0))
    np.testing.assert_array_equal(kept, np.unique(random_matches()[:, 0]))


# --- the pool and what arms see ------------------------------------------------------------------


def small_world(lab, seed=0, **place):
    return lab.draw(seed, lab.LONG_TAIL | place)


def test_a_draw_matches_its_own_captions_against_all_names_and_keywords(lab):
    world = small_world(lab)
    assert len(world.pool.caption) == lab.S.pool
    concepts = lab.DATA.concepts
    entries = sorted({w for c in concepts for w in (c.name, *c.keywords)})
    assert world.num_entries == len(entries)
    some = world.pool.caption[:40]
    ours = world.matches[world.matches[:, 0] < 40].tolist()
    assert ours == by_definition(some, entries)
    kinds = world.pool.kind.numpy()
    assert set(kinds) == {image_text.RIGHT, image_text.WORTHLESS}
    np.testing.assert_array_equal(world.right, kinds == image_text.RIGHT)
    assert abs(1 - world.right.mean() - lab.S.worthless) < 4 * np.sqrt(0.24 / lab.S.pool)


def test_artists_of_training_validation_and_test_are_different(lab):
    parts = {part: set(lab.drawn_by(part).tolist()) for part in lab.ARTISTS}
    assert sum(map(len, parts.values())) == len(set.union(*parts.values())) == len(lab.DATA)
    names = lab.DATA.style_names
    for part, artists in lab.ARTISTS.items():
        drawn = {names[k] for k in lab.DATA.style[list(parts[part])].tolist()}
        assert drawn == set(artists)
    assert {*lab.ARTISTS["test"]} == {"twemoji"}
    assert {*small_world(lab).pool.picture.tolist()} <= parts["train"]


def test_a_forgotten_subject_loses_the_entries_that_only_it_has(lab):
    whole, without = small_world(lab), small_world(lab, without="animals-nature")
    assert whole.pool.caption == without.pool.caption
    concepts = [c for c in lab.DATA.concepts if c.group != "animals-nature"]
    assert without.num_entries == len({w for c in concepts for w in (c.name, *c.keywords)})
    assert without.num_entries < whole.num_entries


def test_random_subsets_are_as_large_as_the_balanced_one_and_of_their_source(lab):
    world = small_world(lab)
    subsets = {a: lab.subset(a, world, 3, np.random.default_rng(0)) for a in PLAIN}
    for rows in subsets.values():
        assert len(set(rows)) == len(rows)
    size = len(subsets["balanced"])
    assert len(subsets["matched, random"]) == size
    assert len(subsets["right, random"]) == len(subsets["right, balanced"])
    matched = set(world.matches[:, 0])
    assert set(subsets["raw"]) == set(range(lab.S.pool))
    assert set(subsets["matched"]) == matched
    assert size < len(matched) < lab.S.pool
    assert set(subsets["balanced"]) <= matched
    assert set(subsets["matched, random"]) <= matched
    assert world.right[subsets["right, random"]].all()
    assert world.right[subsets["right, balanced"]].all()
    assert not world.right[subsets["matched, random"]].all()


PLAIN = ("raw", "matched", "matched, random", "balanced", "right, random", "right, balanced")


def test_balanced_subsets_are_kept_with_the_chances_of_their_own_captions(lab):
    """`right, balanced` counts entries among the right captions alone."""
    world, draws = small_world(lab), 400
    for arm in ("balanced", "right, balanced"):
        rows = world.matches
        if arm != "balanced":
            rows = rows[world.right[rows[:, 0]]]
        keep = lab.keep_probability(rows, lab.chances(rows, 3, world.num_entries), lab.S.pool)
        kept = np.zeros(lab.S.pool)
        for seed in range(draws):
            kept[lab.subset(arm, world, 3, np.random.default_rng(seed))] += 1
        assert abs(kept.sum() / draws - keep.sum()) < 4 * np.sqrt((keep * (1 - keep)).sum() / draws)
        assert np.corrcoef(kept / draws, keep)[0, 1] > 0.99


def test_every_pair_of_an_arm_comes_once_in_each_pass(lab):
    world, needed = small_world(lab), lab.S.steps * lab.S.batch
    for arm in PLAIN:
        rows = lab.batches(arm, world, 3, 5)
        assert rows.shape == (lab.S.steps, lab.S.batch)
        assert rows.dtype == torch.int64
        kept = lab.subset(arm, world, 3, np.random.default_rng([5, 1]))
        counts = rows.flatten().bincount(minlength=lab.S.pool)[kept]
        assert counts.sum() == needed
        assert counts.max() - counts.min() <= 1, arm


def test_online_balancing_draws_anew_with_the_same_chances(lab):
    world = small_world(lab)
    first = set(lab.subset("balanced", world, 3, np.random.default_rng([5, 1])))
    lab.S.steps = 400
    rows = lab.batches("online", world, 3, 5).flatten()
    assert set(rows[: len(first)].tolist()) == first
    assert set(rows.tolist()) > first
    keep = lab.keep_probability(
        world.matches, lab.chances(world.matches, 3, world.num_entries), lab.S.pool
    )
    draw = torch.Generator().manual_seed(0)  # an independent sampler of the same mixture
    other = torch.multinomial(torch.from_numpy(keep), len(rows), True, generator=draw)
    ours, theirs = (x.bincount(minlength=lab.S.pool).double() for x in (rows, other))
    frequent = torch.from_numpy(np.flatnonzero((keep > 0) & (keep < 1)))
    assert ours[frequent].sum() / len(rows) == pytest.approx(
        float(theirs[frequent].sum() / len(rows)), rel=0.1
    )
    assert np.corrcoef(ours[frequent], keep[frequent])[0, 1] > 0.9


def test_the_oracle_shows_all_concepts_equally_often(lab):
    world = small_world(lab)
    lab.S.steps = 400
    rows = lab.batches("even concepts", world, 3, 5).flatten()
    assert set(rows.tolist()) <= set(world.matches[:, 0])
    concepts = world.pool.concept[np.unique(world.matches[:, 0])].unique()
    counts = world.pool.concept[rows].bincount()[concepts].double()
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


# --- the score -----------------------------------------------------------------------------------


class Knowing:
    """A model that knows what every picture shows, but for those of some concepts."""

    def __init__(self, lab, blind=()):
        self.lab, self.blind = lab, torch.tensor([*blind, -1])

    def encode_image(self, index):
        concept = self.lab.DATA.concept[index]
        found = torch.nn.functional.one_hot(concept, 2000).float()
        return found * ~torch.isin(concept, self.blind)[:, None]

    def encode_text(self, concept):
        return torch.nn.functional.one_hot(concept, 2000).float()


@pytest.fixture
def watched(lab):
    return watch(lab)


def watch(lab):
    """Pictures are their own number, names the number of their concept."""
    number = {c.name: k for k, c in enumerate(lab.DATA.concepts)}
    lab.INK = torch.arange(len(lab.DATA))
    lab.tokenise = lambda names: torch.tensor([number[name] for name in names])
    return lab


def scored(lab, part="test", blind=()):
    """Forty concepts, the k-th with k + 1 pairs in a made-up pool, and how the model scores.

    A picture that the model does not know has no similarity with any name: a tie with all of them.
    """
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    concepts = lab.DATA.concept[lab.drawn_by(part)][:40][order]
    pool = concepts.repeat_interleave(torch.arange(1, 41))
    return concepts, lab.judge(Knowing(lab, concepts[list(blind)].tolist()), pool, part)


def test_a_model_that_knows_everything_has_all_recalls(watched):
    for part in ("validation", "test"):
        _, found = scored(watched, part)
        assert all(value == pytest.approx(100) for value in found.values() if value == value)


def test_head_and_tail_are_the_most_frequent_fifth_and_the_rarer_half(watched):
    _, found = scored(watched, blind=range(39, 31, -1))  # the eight most frequent
    assert found["head"] == 0
    assert found["tail"] == pytest.approx(100)
    assert found["R@1"] == found["R@5"] == pytest.approx(80)
    _, found = scored(watched, blind=range(20))
    assert found["head"] == pytest.approx(100)
    assert found["tail"] == 0
    assert found["R@5"] == pytest.approx(50)
    _, found = scored(watched, blind=[19, 32])  # the last of the tail, the last of the head
    assert (found["head"], found["tail"]) == (pytest.approx(87.5), pytest.approx(95))


def test_like_the_pool_weighs_pictures_by_the_pairs_of_their_concept(watched):
    _, found = scored(watched, blind=range(30, 40))
    assert found["like the pool"] == pytest.approx(100 * sum(range(1, 31)) / sum(range(1, 41)))


def test_animals_are_the_pictures_of_that_group(watched):
    concepts = watched.DATA.concept[watched.drawn_by("test")].unique()
    animal = [watched.DATA.concepts[c].group == "animals-nature" for c in concepts.tolist()]
    model = Knowing(watched, concepts[torch.tensor(animal)].tolist())
    found = watched.judge(model, concepts, "test")
    assert found["animals"] == 0
    assert found["R@5"] == pytest.approx(100 - 100 * np.mean(animal))


def test_only_pictures_of_concepts_of_the_pool_are_scored_by_the_artist_of_the_part(watched):
    seen = []

    class Noting(Knowing):
        def encode_image(self, index):
            seen.append(index)
            return super().encode_image(index)

    pool = torch.arange(300)
    for part in ("validation", "test"):
        watched.judge(Noting(watched), pool, part)
        expected = watched.drawn_by(part)
        expected = expected[watched.DATA.concept[expected] < 300]
        assert seen.pop().tolist() == expected.tolist()


def test_recalls_are_those_of_the_package(lab):
    model = image_text.SmallClip(torch.Generator().manual_seed(0)).eval()
    pool = small_world(lab).pool.concept
    found = lab.judge(model, pool, "test")
    known = pool.unique()
    pictures = lab.drawn_by("test")
    pictures = pictures[torch.isin(lab.DATA.concept[pictures], known)]
    names = image_text.tokenise([lab.DATA.concepts[c].name for c in known.tolist()])
    with torch.no_grad():
        scores = model.encode_image(lab.INK[pictures]) @ model.encode_text(names).T
    target = torch.searchsorted(known, lab.DATA.concept[pictures])
    for k in (1, 5):
        expected = image_text.recall_at_k(scores, target, k)
        assert found[f"R@{k}"] == pytest.approx(expected, abs=1e-4)


# --- runs ----------------------------------------------------------------------------------------


def noted_study(lab, settings, split="validation", place=None):
    """What `study` gave, and how it called the training and the scoring."""
    calls, judged = [], []

    def training(images, tokens, steps, seed, rate, rows):
        calls.append((images, tokens, steps, seed, rate, rows))
        return "model"

    def judge(model, concept, part):
        judged.append((concept, part))
        return {"R@5": float(len(judged))}

    lab.train_small_clip, lab.judge = training, judge
    return lab.study(3, place or lab.LONG_TAIL, settings, split), calls, judged


SETTINGS = {"raw": [(0.1, 3)], "balanced": [(0.2, 3), (0.3, 20)], "right, random": [(0.2, 3)]}


def test_all_arms_of_a_draw_train_on_one_pool_from_one_start_for_equally_many_steps(lab):
    found, calls, _ = noted_study(lab, SETTINGS)
    assert list(found) == [(arm, *setting) for arm in SETTINGS for setting in SETTINGS[arm]]
    pool = lab.draw(3, lab.LONG_TAIL).pool
    for (arm, rate, t), (images, tokens, steps, seed, used, rows) in zip(found, calls, strict=True):
        assert (steps, seed, used) == (lab.S.steps, 3, rate)
        assert torch.equal(images, lab.INK[pool.picture])
        assert torch.equal(tokens, pool.tokens)
        expected = lab.batches(arm, lab.draw(3, lab.LONG_TAIL), t, 3)
        assert torch.equal(rows, expected)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_network_is_scored_on_the_part_that_was_asked_for(lab, split):
    check_split(lab, split)


def check_split(lab, split="validation"):
    _, _, judged = noted_study(lab, SETTINGS, split)
    assert {part for _, part in judged} == {split}


def test_what_was_shown_is_counted_by_hand(lab):
    found, calls, _ = noted_study(lab, SETTINGS)
    pool = lab.draw(3, lab.LONG_TAIL).pool
    for row, (*_, rows) in zip(found.values(), calls, strict=True):
        rows = rows.flatten().tolist()
        assert row["pairs"] == len(set(rows))
        worthless = [pool.caption[k].split()[0] in {s.split()[0] for s in image_text.STAMPS}
                     and pool.kind[k] == image_text.WORTHLESS for k in rows]  # fmt: skip
        assert row["worthless"] == pytest.approx(100 * np.mean(worthless))
        names = [lab.DATA.concepts[pool.concept[k]].name == pool.caption[k] for k in rows]
        assert row["names"] == pytest.approx(100 * np.mean(names))
        assert 5 < row["names"] < 95
        shares = np.unique(pool.concept[rows].numpy(), return_counts=True)[1] / len(rows)
        assert row["concepts"] == pytest.approx(1 / (shares**2).sum(), rel=1e-4)


def test_settings_are_chosen_by_the_recall_of_the_study(lab):
    lab.study = lambda *job: {("raw", 0.1, 3): {"R@5": 7.0, "R@1": 1.0}, "job": {"R@5": job}}
    found = lab.recall(1, "place", "settings", "validation")
    assert found == {("raw", 0.1, 3): 7.0, "job": (1, "place", "settings", "validation")}


def test_the_study_runs_with_its_own_training(lab):
    lab.S.steps = 3
    found = lab.study(0, lab.LONG_TAIL, {"balanced": [(0.01, 3)]}, "test")
    again = lab.study(0, lab.LONG_TAIL, {"balanced": [(0.01, 3)]}, "test")
    assert found == again
    (row,) = found.values()
    assert 0 <= row["R@1"] <= row["R@5"] <= 100


def test_random_subsets_take_the_rate_of_their_source(lab):
    rates = {arm: k for k, arm in enumerate(lab.TUNED)}
    found = lab.settings_of(lab.ARMS, rates, 7)
    assert set(found) == set(lab.ARMS)
    for arm, [(rate, t)] in found.items():
        source = "matched" if arm == "even concepts" else arm.partition(",")[0]
        same = {"online": "balanced", "right, balanced": "balanced"}.get(arm, source)
        assert rate == rates.get(arm, rates.get(same)), arm
        assert t == 7


# --- calls and claims ----------------------------------------------------------------------------


def whole_source():
    cells = notebooks.code_cells(notebooks.read(notebooks.path("metaclip")))
    return "\n".join(cell["source"] for _, cell in cells)


def calls(source, name):
    """The arguments of each call of a function, as text."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    nodes.sort(key=lambda node: node.lineno)
    return [[*map(ast.unparse, n.args)] for n in nodes if ast.unparse(n.func) == name]


def check_calls(source):
    (tuned,), measured = calls(source, "tune"), calls(source, "measure")
    assert tuned[-1] == "S.tuning_seeds"
    assert [(*call[-2:],) for call in measured] == [
        ("S.tuning_seeds", "'validation'"),  # the threshold
        ("lab.seeds", "'test'"),
        ("lab.seeds", "'test'"),
    ]


def test_settings_are_chosen_on_the_extra_draws_and_results_are_of_the_others():
    check_calls(whole_source())


@pytest.mark.parametrize("profile", ["smoke", "small"])
def test_extra_draws_are_no_draws_of_the_results(profile):
    settings = technique.settings("metaclip", profile)
    assert min(settings["tuning_seeds"]) >= 1000 > settings["num_seeds"]
    assert settings["first_threshold"] in settings["thresholds"]


def test_claims_compare_the_arms_that_their_sentences_name(lab):
    found = {name: (arm, rival, direction, m) for name, _, arm, rival, direction, m in lab.CLAIMS}
    assert found == {
        "matching-beats-raw": ("matched", "raw", "greater", 0),
        "balancing-beats-matching": ("balanced", "matched", "greater", 2),
        "balancing-beats-random": ("balanced", "matched, random", "greater", 2),
        "flattening-alone": ("right, balanced", "right, random", "greater", 1),
        "online": ("online", "balanced", "equivalent", 1.5),
        "head": ("balanced", "matched", "less", 0),
        "tail-gains-more": ("tail gain", "head gain", "greater", 0),
        "even": ("balanced", "matched, random", "greater", 0),
    }


def test_values_of_claims_are_those_of_the_arms_at_their_settings(lab):
    lab.chosen.update({arm: [(k, 9)] for k, arm in enumerate(lab.ARMS)})
    for shift, place in enumerate(("long tail", "even")):
        lab.results[place] = {
            (arm, k, 9): [
                {"R@5": 100 * k + s + shift, "head": k * k + s, "tail": 3 * k + 7 * s}
                for s in (0, 10)
            ]
            for k, arm in enumerate(lab.ARMS)
        }
    matched, balanced = lab.ARMS.index("matched"), lab.ARMS.index("balanced")
    assert lab.per_seed("long tail", "matched") == [100 * matched, 100 * matched + 10]
    found = lab.values_of("balancing-beats-matching", "balanced", "matched")
    assert found == {"balanced": lab.per_seed("long tail", "balanced"),
                     "matched": lab.per_seed("long tail", "matched")}  # fmt: skip
    found = lab.values_of("head", "balanced", "matched")
    assert found["balanced"] == [balanced**2, balanced**2 + 10]
    found = lab.values_of("even", "balanced", "matched, random")
    assert found["balanced"] == [100 * balanced + 1, 100 * balanced + 11]
    found = lab.values_of("tail-gains-more", "", "")
    assert list(found) == ["tail gain", "head gain"]
    assert found["tail gain"].tolist() == [3 * (balanced - matched)] * 2
    assert found["head gain"].tolist() == [balanced**2 - matched**2] * 2


def test_the_shipped_names_and_keywords_are_the_entries_of_the_lab():
    concepts = emoji.concepts_and_styles()[0]
    assert all(c.keywords for c in concepts), "a concept without keywords has no caption of them"
