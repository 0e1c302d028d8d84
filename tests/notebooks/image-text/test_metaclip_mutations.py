"""Plausible mistakes in the cells of the lab on MetaCLIP, each of which a test must catch."""

import sys
from pathlib import Path

import mutants
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # whatever the import mode of pytest
import test_metaclip as tests

IMPORTS = """
from types import SimpleNamespace
import numpy as np
import torch
from labutils.image_text import RIGHT, noisy_pool, pictures, tokenise, train_small_clip
"""
TECHNIQUE = {
    "parts of words match": (
        'words = spaced(caption)[1:-1].split(" ")',
        "words = list(caption)",
        tests.test_words_are_matched_whole_and_literally,
    ),
    "punctuation sticks to its word": (
        r"""re.sub(r"([,.;:?!`])", r" \1 ", f" {caption} ")""",
        'f" {caption} "',
        tests.test_words_are_matched_whole_and_literally,
    ),
    "matching without case": (
        'f" {caption} ")',
        'f" {caption.lower()} ")',
        tests.test_the_lookup_finds_what_the_definition_finds,
    ),
    "many blanks are one": (
        '[1:-1].split(" ")',
        ".split()",
        tests.test_the_lookup_finds_what_the_definition_finds,
    ),
    "the longest entries are not looked up": (
        "for n in range(1, longest + 1)",
        "for n in range(1, longest)",
        tests.test_the_lookup_finds_what_the_definition_finds,
    ),
    "a count for each time that an entry comes": (
        "known[caption] = sorted(place[run] for run in runs if run in place)",
        "known[caption] = sorted(place[w] for w in [*words, *runs] if w in place)",
        tests.test_an_entry_that_comes_twice_in_a_caption_counts_once,
    ),
    "the chance of the tail above one": (
        "return t / np.maximum(n, t)",
        "return t / np.maximum(n, 1)",
        tests.test_a_larger_threshold_keeps_more_from_nothing_to_all_that_match,
    ),
    "the chance of the root of the count": (
        "return t / np.maximum(n, t)",
        "return np.sqrt(t / np.maximum(n, t))",
        tests.test_the_expected_size_is_at_most_the_sum_of_the_capped_counts,
    ),
    "all entries have to win": (
        "np.multiply.at(lost, rows[:, 0], 1 - p[rows[:, 1]])\n    return 1 - lost",
        "np.multiply.at(lost, rows[:, 0], p[rows[:, 1]])\n    return lost",
        tests.test_chances_are_those_of_many_draws,
    ),
    "only the last entry of a pair counts": (
        "np.multiply.at(lost, rows[:, 0], 1 - p[rows[:, 1]])",
        "lost[rows[:, 0]] *= 1 - p[rows[:, 1]]",
        tests.test_chances_are_those_of_many_draws,
    ),
    "a pair for each entry that wins": (
        "return np.unique(rows[wins, 0])",
        "return rows[wins, 0]",
        tests.test_a_pair_with_many_winning_entries_is_there_once,
    ),
    "one draw for all entries of a pair": (
        "wins = rng.random(len(rows)) < p[rows[:, 1]]",
        "wins = rng.random(rows[:, 0].max() + 1)[rows[:, 0]] < p[rows[:, 1]]",
        tests.test_draws_have_the_distribution_of_the_formula_and_of_the_loop_that_stops_early,
    ),
}
on_watched = {
    name: lambda lab, test=test: test(tests.watch(lab))
    for name, test in vars(tests).items()
    if name.startswith("test_") and "watched" in test.__code__.co_varnames
}
EXPERIMENT = {
    "training sees the test artist": (
        '"train": ("noto", "noto-v1", "fluent-emoji-flat")',
        '"train": ("noto", "noto-v1", "twemoji")',
        tests.test_artists_of_training_validation_and_test_are_different,
    ),
    "settings chosen on the test artist": (
        "judge(model, pool.concept, split)",
        'judge(model, pool.concept, "test")',
        tests.check_split,
    ),
    "the forgotten subject is remembered": (
        'if concept.group != place["without"]',
        "if concept",
        tests.test_a_forgotten_subject_loses_the_entries_that_only_it_has,
    ),
    "names only in the list": (
        "for text in (concept.name, *concept.keywords)",
        "for text in (concept.name,)",
        tests.test_a_draw_matches_its_own_captions_against_all_names_and_keywords,
    ),
    "a control as large as its source": (
        "rng.choice(pairs, len(kept), replace=False)",
        "rng.choice(pairs, len(pairs), replace=False)",
        tests.test_random_subsets_are_as_large_as_the_balanced_one_and_of_their_source,
    ),
    "a control with repetitions": (
        "rng.choice(pairs, len(kept), replace=False)",
        "rng.choice(pairs, len(kept))",
        tests.test_random_subsets_are_as_large_as_the_balanced_one_and_of_their_source,
    ),
    "right captions that are not": (
        'world.matches[world.right[world.matches[:, 0]]] if source == "right"',
        'world.matches if source == "right"',
        tests.test_random_subsets_are_as_large_as_the_balanced_one_and_of_their_source,
    ),
    "a control of the matched pairs with unmatched ones": (
        "everything.get(source, np.unique(rows[:, 0]))",
        'everything.get(source, everything["raw"])',
        tests.test_random_subsets_are_as_large_as_the_balanced_one_and_of_their_source,
    ),
    "online draws once": (
        'kept = subset("balanced", world, t, rng) if arm == "online" else kept',
        "kept = kept",
        tests.test_online_balancing_draws_anew_with_the_same_chances,
    ),
    "pairs drawn with repetitions": (
        "passes = [rng.permutation(kept)]",
        "passes = [rng.choice(kept, len(kept))]",
        tests.test_every_pair_of_an_arm_comes_once_in_each_pass,
    ),
    "an oracle that knows nothing": (
        "weight = 1 / np.bincount(shown)[shown]",
        "weight = np.ones(len(shown))",
        tests.test_the_oracle_shows_all_concepts_equally_often,
    ),
    "more steps for the method": (
        "train_small_clip(*data, S.steps, seed,",
        'train_small_clip(*data, S.steps * (1 + (arm == "balanced")), seed,',
        tests.test_all_arms_of_a_draw_train_on_one_pool_from_one_start_for_equally_many_steps,
    ),
    "another start for each arm": (
        "train_small_clip(*data, S.steps, seed,",
        "train_small_clip(*data, S.steps, seed + len(found),",
        tests.test_all_arms_of_a_draw_train_on_one_pool_from_one_start_for_equally_many_steps,
    ),
    "one threshold for ever": (
        "rows = batches(arm, world, t, seed)",
        "rows = batches(arm, world, S.first_threshold, seed)",
        tests.test_all_arms_of_a_draw_train_on_one_pool_from_one_start_for_equally_many_steps,
    ),
    "right captions counted as worthless": (
        "(~world.right[rows])",
        "(world.right[rows])",
        tests.test_what_was_shown_is_counted_by_hand,
    ),
    "the tail is the head": (
        "argsort(descending=True, stable=True)",
        "argsort(stable=True)",
        on_watched["test_head_and_tail_are_the_most_frequent_fifth_and_the_rarer_half"],
    ),
    "the order in the place of the rank": (
        "stable=True).argsort()[target]",
        "stable=True)[target]",
        on_watched["test_head_and_tail_are_the_most_frequent_fifth_and_the_rarer_half"],
    ),
    "a tie is a hit": (
        "(scores >= scores.gather(1, target[:, None])).sum(1)",
        "(scores > scores.gather(1, target[:, None])).sum(1) + 1",
        on_watched["test_head_and_tail_are_the_most_frequent_fifth_and_the_rarer_half"],
    ),
    "unweighted like the pool": (
        "(hit * count[target]).sum() / count[target].sum()",
        "hit.mean()",
        on_watched["test_like_the_pool_weighs_pictures_by_the_pairs_of_their_concept"],
    ),
    "concepts that the pool has not": (
        "pictures = pictures[torch.isin(DATA.concept[pictures], known)]",
        "known, count = torch.arange(len(DATA.concepts)), torch.ones(len(DATA.concepts))",
        on_watched[
            "test_only_pictures_of_concepts_of_the_pool_are_scored_by_the_artist_of_the_part"
        ],
    ),
    "settings chosen by R@1": (
        'key: row["R@5"] for key, row in study',
        'key: row["R@1"] for key, row in study',
        tests.test_settings_are_chosen_by_the_recall_of_the_study,
    ),
    "controls at the rate of the method": (
        'LIKE = {"matched, random": "matched"',
        'LIKE = {"matched, random": "balanced"',
        tests.test_random_subsets_take_the_rate_of_their_source,
    ),
    "the gain of the head for that of the tail": (
        'parts = {"tail gain": "tail", "head gain": "head"}',
        'parts = {"tail gain": "head", "head gain": "tail"}',
        tests.test_values_of_claims_are_those_of_the_arms_at_their_settings,
    ),
    "a claim on the whole control": (
        '"balanced", "matched, random", "greater", 2)',
        '"balanced", "matched", "greater", 2)',
        tests.test_claims_compare_the_arms_that_their_sentences_name,
    ),
}
CALLS = {  # in cells that only run
    "rates tuned on the draws of the results": (
        "here, grids, S.tuning_seeds)",
        "here, grids, lab.seeds)",
    ),
    "the threshold chosen on the test artist": (
        'S.tuning_seeds, "validation")',
        'S.tuning_seeds, "test")',
    ),
    "results on the validation artist": (
        'chosen}, lab.seeds, "test")',
        'chosen}, lab.seeds, "validation")',
    ),
    "results of the draws that chose": (
        'chosen}, lab.seeds, "test")',
        'chosen}, S.tuning_seeds, "test")',
    ),
}
CAUGHT = (AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError)


@pytest.mark.parametrize("mistake", TECHNIQUE | EXPERIMENT)
def test_the_tests_catch(mistake):
    right, wrong, test = (TECHNIQUE | EXPERIMENT)[mistake]
    source = mutants.source_of("metaclip", tests.TAGS, IMPORTS)
    mutant = mutants.module_with(source, right, wrong, mistake, tests.given())
    with pytest.raises(CAUGHT):
        test(mutant)


@pytest.mark.parametrize(
    "test", dict.fromkeys(test for _, _, test in (TECHNIQUE | EXPERIMENT).values())
)
def test_without_a_mistake_nothing_is_caught(test):
    source = mutants.source_of("metaclip", tests.TAGS, IMPORTS)
    test(mutants.module_with(source, "def match(", "def match(", "no mistake", tests.given()))


@pytest.mark.parametrize("mistake", CALLS)
def test_the_tests_catch_a_call_with(mistake):
    (right, wrong), source = CALLS[mistake], tests.whole_source()
    assert source.count(right) == 1, "the cell was rewritten: rewrite this mistake too"
    with pytest.raises(AssertionError):
        tests.check_calls(source.replace(right, wrong))
