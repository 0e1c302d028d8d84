"""Plausible mistakes in the cells of the lab on DFN, each of which a test must catch."""

import sys
from pathlib import Path

import mutants
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # whatever the import mode of pytest
import test_dfn as tests

IMPORTS = """
from types import SimpleNamespace
import numpy as np
import torch
from labutils.evaluation import predict
from labutils.image_text import (
    RIGHT, SmallClip, clip_loss, noisy_pool, pictures, recall_at_k, tokenise, train_small_clip,
)
from labutils.protocol import tune
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve
"""


def validation_recall(mutant):
    split = "validation", "emojione"
    tests.test_recall_is_that_of_a_loop_over_the_pictures_of_the_right_artist(mutant, *split)


ARM = tests.test_an_arm_is_trained_on_what_its_name_says
PLAN = tests.test_the_plan_gives_chance_the_size_of_dfn_and_every_filter_the_same_share
APART = tests.test_no_clean_picture_is_in_the_pool_and_all_are_by_the_first_artist
TECHNIQUE = {
    "a score over all captions": (
        "predict(model.encode_text, tokens)).sum(1)",
        "predict(model.encode_text, tokens).mean(0)).sum(1)",
        tests.test_scores_are_the_diagonal_of_all_cosines_and_move_with_their_pairs,
    ),
    "the worst pairs are kept": (
        "s.argsort(descending=True, stable=True)",
        "s.argsort(stable=True)",
        tests.test_a_share_is_exact_and_equals_a_full_sort,
    ),
    "DataComp's pair too many": (
        "[: int(share * len(s))]",
        "[: int(share * len(s)) + 1]",
        tests.test_a_share_is_exact_and_equals_a_full_sort,
    ),
    "ties in any order": (
        "s.argsort(descending=True, stable=True)",
        "s.flip(0).argsort(descending=True, stable=True).sub(len(s) - 1).neg()",
        tests.test_a_share_is_exact_and_equals_a_full_sort,
    ),
    "a threshold that must be passed": (
        "(s >= threshold)",
        "(s > threshold)",
        tests.test_a_threshold_keeps_what_reaches_it_and_keeping_twice_changes_nothing,
    ),
    "captions of other pairs": (
        "model.encode_text(tokens[chosen])",
        "model.encode_text(tokens[: len(chosen)])",
        tests.test_the_filter_is_trained_by_clips_loss,
    ),
    "a loss without its scale": (
        "clip_loss(u, v, model.log_scale.exp())",
        "clip_loss(u, v, model.log_scale)",
        tests.test_the_filter_is_trained_by_clips_loss,
    ),
}
EXPERIMENT = {
    "settings tuned on test data": (
        'data.style_names.index("twemoji" if split == "test" else "emojione")',
        'data.style_names.index("twemoji")',
        validation_recall,
    ),
    "settings tuned on the seeds of the results": (
        "grids, seeds)",
        "grids, lab.seeds)",
        tests.test_shares_are_chosen_on_validation_data_of_the_extra_seeds,
    ),
    "the method alone chooses its share": (
        "for share in S.shares] for name in FILTERS}",
        'for share in S.shares[: 1 + (name == "DFN")]] for name in FILTERS}',
        tests.test_both_filters_choose_from_the_same_shares,
    ),
    "the method has twice the steps": (
        "S.num_steps, a.seed, S.rate)",
        'S.num_steps * (1 + ("DFN" in arm)), a.seed, S.rate)',
        tests.test_all_models_have_the_same_steps_rate_and_seed_and_none_is_trained_twice,
    ),
    "the method has another seed": (
        "S.num_steps, a.seed, S.rate)",
        "S.num_steps, a.seed + share, S.rate)",
        tests.test_all_models_have_the_same_steps_rate_and_seed_and_none_is_trained_twice,
    ),
    "clean pictures stay in the pool": (
        "three[~torch.isin(three, apart)]",
        "three",
        APART,
    ),
    "clean pictures by all artists": (
        "apart = first[torch.randperm(len(first), generator=g)[: max(S.clean)]]",
        "apart = three[torch.randperm(len(three), generator=g)[: max(S.clean)]]",
        APART,
    ),
    "a spoiled set that is right": (
        "4 * len(mine[:size]), 1 - wrong)",
        "4 * len(mine[:size]), 1 - 0 * wrong)",
        tests.test_clean_sets_have_the_stated_sizes_captions_and_errors,
    ),
    "a spoiled set of other captions": (
        "noisy_pool([seed, 1], mine[:size]",
        "noisy_pool([seed, size + int(100 * wrong)], mine[:size]",
        tests.test_clean_sets_have_the_stated_sizes_captions_and_errors,
    ),
    "the narrow set is broad": (
        "if groups else apart",
        "if not groups else apart",
        tests.test_the_narrow_set_holds_its_groups_alone,
    ),
    "the filter of the pool learned from clean pairs": (
        '"pool CLIP": "whole pool"}',
        '"pool CLIP": "clean set"}',
        tests.test_each_filter_is_trained_on_its_own_set_and_scores_the_pool,
    ),
    "chance draws what DFN keeps": (
        'if name == "random":',
        'if name == "chance":',
        ARM,
    ),
    "the clean set slips into what DFN keeps": (
        "images, tokens = images[kept], tokens[kept]",
        'images, tokens = tensors(a.sets["clean set"])',
        ARM,
    ),
    "the oracle keeps a share of all": (
        'keep_threshold(s, 1) if part == "right pairs"',
        'keep_threshold(s, 0) if part == "right pairs"',
        ARM,
    ),
    "words are learned from captions known to be right": (
        "clean = np.arange(len(texts)) < len(texts) - len(pool.kind)",
        "clean = np.append(np.ones(len(texts) - len(pool.kind)), pool.kind == 0) > 0",
        tests.test_words_alone_tell_worthless_captions_but_not_wrong_ones,
    ),
    "a gallery of the clean set's names": (
        'concepts = a.sets["whole pool"].concept.unique()\n    artist',
        'concepts = a.sets["clean set"].concept.unique()\n    artist',
        validation_recall,
    ),
    "recall among the first four": (
        "for k in (1, 5)]",
        "for k in (1, 4)]",
        validation_recall,
    ),
    "precision counts right pairs of the pool": (
        'found = {"": right[kept],',
        'found = {"": right,',
        tests.test_what_a_filter_keeps_is_counted_by_kind_and_group,
    ),
    "near and far exchanged": (
        '", near": kept[right & near], ", far": kept[right & ~near]',
        '", near": kept[right & ~near], ", far": kept[right & near]',
        tests.test_what_a_filter_keeps_is_counted_by_kind_and_group,
    ),
    "a threshold chosen on right pairs alone": (
        "(true - false).argmax()",
        "true.argmax()",
        tests.test_laions_threshold_tells_own_names_from_shuffled_ones,
    ),
    "a share without its base": (
        'return {"": share, ", precision": 100 * right.double().sum().item()',
        'return {"": share, ", precision": share * right.double().sum().item()',
        tests.test_a_threshold_is_judged_by_what_it_keeps,
    ),
    "chance at the size of another filter": (
        'arms |= {"random": share,',
        'arms |= {"random": best["pool CLIP"],',
        PLAN,
    ),
    "filters at their own shares": (
        "[(S.judged,)] for name in names",
        '[(S.judged / 2 if name == "clean set" else S.judged,)] for name in names',
        PLAN,
    ),
    "a loss of precision that counts chance": (
        'per_seed(f"filter: {name}") - base for',
        'per_seed(f"filter: {name}") for',
        tests.test_losses_are_shares_of_what_was_there,
    ),
    "a rival without the clean pairs": (
        '"DFN", "clean set + pool CLIP", 0, "table 4"',
        '"DFN", "pool CLIP", 0, "table 4"',
        tests.test_claims_compare_what_their_sentences_say,
    ),
}
TAGS = ("technique", "experiment")


@pytest.mark.parametrize("mistake", TECHNIQUE | EXPERIMENT)
def test_the_tests_catch(mistake):
    right, wrong, test = (TECHNIQUE | EXPERIMENT)[mistake]
    source = mutants.source_of("dfn", TAGS, IMPORTS)
    mutant = mutants.module_with(source, right, wrong, mistake, tests.given())
    with pytest.raises((AssertionError, ValueError, KeyError, TypeError, IndexError, RuntimeError)):
        test(mutant)
