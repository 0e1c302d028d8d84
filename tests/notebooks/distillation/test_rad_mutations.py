"""Plausible mistakes in the cells of the lab on RAD, each of which a test must catch."""

import sys
from pathlib import Path

import mutants
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # whatever the import mode of pytest
import test_rad as tests

TECHNIQUE = {
    "more weight for the more useful": (
        "q[order[: best + 1]] = inverse[: best + 1] / H[best]",
        "q[order[: best + 1]] = g[order[: best + 1]] / g[order[: best + 1]].sum()",
        tests.test_an_image_that_becomes_more_useful_is_asked_about_less,
    ),
    "the easiest images": (
        'np.argsort(-g, kind="stable")',
        'np.argsort(g, kind="stable")',
        tests.test_the_hardest_images_are_used_and_among_them_the_harder_the_less,
    ),
    "one image too few": (
        "q[order[: best + 1]] = inverse[: best + 1] / H[best]",
        "q[order[:best]] = inverse[:best] / H[best]",
        tests.test_more_errors_leave_less_and_need_more_images,
    ),
    "no errors expected": (
        "best = np.argmax((k - m) / H)",
        "best = np.argmax(k / H)",
        tests.test_the_value_is_that_of_a_linear_program,
    ),
    "a value that forgets the errors": (
        "return q, (best + 1 - m) / H[best]",
        "return q, (best + 1) / H[best]",
        tests.test_the_value_is_that_of_a_linear_program,
    ),
    "whole errors only": (
        "lost = np.clip(m - np.arange(len(g)), 0, 1)",
        "lost = (np.arange(len(g)) < m) * 1.0",
        tests.test_an_error_counts_in_part,
    ),
    "an adversary who takes what is worth least": (
        "np.sort(q * g)[::-1]",
        "np.sort(q * g)",
        tests.test_the_worst_case_is_the_least_over_all_sets_of_errors,
    ),
    "an adversary who looks at gains alone": (
        "np.sort(q * g)[::-1]",
        "(q * g)[np.argsort(-g)]",
        tests.test_the_worst_case_is_the_least_over_all_sets_of_errors,
    ),
    "the largest probability for the margin": (
        "return 1 - (first - second)",
        "return 1 - first",
        tests.test_the_gain_is_one_minus_the_margin,
    ),
    "no floor for gains": (
        "np.maximum(g[order], 1e-12)",
        "g[order]",
        tests.test_gains_of_nought_are_finite,
    ),
    "queries without regard to the weights": (
        "times = np.divide(waiting, weights, ",
        "times = np.divide(waiting, weights > 0, ",
        tests.test_queries_are_different_and_the_first_has_the_weights_as_odds,
    ),
    "the same image again and again": (
        "return np.lexsort((-g, times))[:b]",
        "return rng.choice(len(g), b, p=weights / weights.sum())",
        tests.test_queries_are_different_and_the_first_has_the_weights_as_odds,
    ),
    "the smallest gains when no weight is left": (
        "np.lexsort((-g, times))",
        "np.lexsort((g, times))",
        tests.test_when_no_weight_is_left_the_largest_gains_follow,
    ),
}


def on_validation(module):
    tests.check_sharing(module, "validation")


def on_test(module):
    tests.check_sharing(module, "test")


JUDGED = tests.test_a_rate_is_judged_by_the_mean_over_arms_on_the_split_that_tune_asks_for
EXPERIMENT = {
    "the rate chosen on test images": (
        "    found = study(seed, place, dict.fromkeys(COMPARED, rates), split)",
        '    found = study(seed, place, dict.fromkeys(COMPARED, rates), "test")',
        JUDGED,
    ),
    "a rate that suits RAD alone": (
        "np.mean([ends[arm, r] for arm in COMPARED])",
        'ends["RAD", r]',
        JUDGED,
    ),
    "results on validation images": (
        "part = getattr(world, split)",
        "part = world.validation",
        on_test,
    ),
    "settings judged on test images": (
        "part = getattr(world, split)",
        "part = world.test",
        on_validation,
    ),
    "twice the queries for RAD": (
        "picks = query(weights, g, S.queries, ",
        'picks = query(weights, g, S.queries * (1 + (arm == "RAD")), ',
        tests.test_every_round_asks_about_new_images_and_teaches_all_answers,
    ),
    "images asked about twice": (
        "        left = np.delete(left, picks)\n",
        "",
        tests.test_every_round_asks_about_new_images_and_teaches_all_answers,
    ),
    "places among what is left taken for places in the pool": (
        "np.append(asked, left[picks])",
        "np.append(asked, picks)",
        tests.test_every_round_asks_about_new_images_and_teaches_all_answers,
    ),
    "the last answers only": (
        "student = fit(world, asked, says[asked], rate, seed)",
        "student = fit(world, asked[-S.queries :], says[asked[-S.queries :]], rate, seed)",
        tests.test_every_round_asks_about_new_images_and_teaches_all_answers,
    ),
    "truth in the place of answers": (
        "student = fit(world, asked, says[asked], rate, seed)",
        "truth = F.one_hot(world.pool.labels[asked], 10)\n"
        "        student = fit(world, asked, truth.float(), rate, seed)",
        tests.test_every_round_asks_about_new_images_and_teaches_all_answers,
    ),
    "errors of the whole pool": (
        "weights = ARMS[arm](g, error * len(left))",
        "weights = ARMS[arm](g, error * len(right))",
        tests.test_errors_are_counted_on_the_images_that_are_left,
    ),
    "right answers counted at the wrong places": (
        "100 * right[left[picks]].mean()",
        "100 * right[picks].mean()",
        tests.test_what_came_of_a_round_is_counted_on_its_queries_and_on_what_is_scored,
    ),
    "every arm knows where the teacher is right": (
        'return gain(p) * right if arm == "oracle" else gain(p)',
        "return gain(p) * right",
        tests.test_only_the_oracle_knows_where_the_teacher_is_right,
    ),
    "an oracle that knows nothing": (
        'return gain(p) * right if arm == "oracle" else gain(p)',
        "return gain(p)",
        tests.test_the_oracles_answers_are_right_as_long_as_there_are_right_ones,
    ),
    "entropy is margin": (
        'if arm == "entropy":',
        'if arm == "none":',
        tests.test_only_the_oracle_knows_where_the_teacher_is_right,
    ),
    "margin spreads like RAD": (
        '"margin": lambda g, m: rad(g, 0)[0]',
        '"margin": lambda g, m: rad(g, m)[0]',
        tests.test_arms_have_the_weights_of_their_names,
    ),
    "the uniform control with RAD's weights": (
        "1.0 * (rad(g, m)[0] > 0)",
        "rad(g, m)[0]",
        tests.test_arms_have_the_weights_of_their_names,
    ),
    "half for twice": (
        "rad(g, 2 * m)[0]",
        "rad(g, m / 2)[0]",
        tests.test_arms_have_the_weights_of_their_names,
    ),
    "labelled images in the pool": (
        "others[~torch.isin(others, named)][: S.pool]",
        "others[: S.pool]",
        tests.test_no_image_is_in_two_parts_and_labels_are_the_official_ones,
    ),
    "the teacher knows the student's labels": (
        '"teacher": teachers.T.flatten()',
        '"teacher": named.view(10, -1).T.flatten()',
        tests.test_no_image_is_in_two_parts_and_labels_are_the_official_ones,
    ),
    "a weak teacher of few classes": (
        '"teacher": teachers.T.flatten()',
        '"teacher": teachers.flatten()',
        tests.test_labelled_images_are_equally_many_of_each_class_and_so_are_the_teachers_first,
    ),
    "the weakest regression": (
        "probes[np.argmax(right)]",
        "probes[np.argmin(right)]",
        tests.test_teachers_learn_from_their_labels_and_are_chosen_and_measured_on_validation_images,
    ),
    "the good teacher in the place of the weak one": (
        "n = 10 * per_class",
        "n = 10 * S.teacher_per_class",
        tests.test_teachers_learn_from_their_labels_and_are_chosen_and_measured_on_validation_images,
    ),
    "errors on the easiest images": (
        "np.argsort(-g)",
        "np.argsort(g)",
        tests.test_the_made_up_teacher_is_wrong_on_the_hardest_fifth,
    ),
    "some errors are none": (
        ".integers(1, 10, ",
        ".integers(0, 10, ",
        tests.test_the_made_up_teacher_is_wrong_on_the_hardest_fifth,
    ),
    "another start for every arm": (
        "play(arm, start, world",
        "play(arm, fit(world, [], torch.zeros(0, 10), rate, len(found)), world",
        on_validation,
    ),
    "all draws start alike": (
        "    streams = lab.streams(seed)\n",
        "    streams = lab.streams(0)\n",
        tests.test_every_student_of_a_draw_starts_alike_and_those_of_another_do_not,
    ),
    "no augmentation": (
        "views = augment.pad_crop_flip(images[indices], 2, streams.augmentation)",
        "views = images[indices]",
        tests.test_a_step_is_the_cross_entropy_with_labels_and_soft_answers,
    ),
    "no weight decay": (
        "weight_decay=5e-4",
        "weight_decay=0.0",
        tests.test_optimiser_and_schedule_are_those_of_the_page,
    ),
    "the claim on margin asked of random": (
        '"RAD\'s student beats margin\'s", "good", "RAD", "margin", 0',
        '"RAD\'s student beats margin\'s", "good", "RAD", "random", 0',
        tests.test_claims_compare_the_arms_and_teachers_of_their_sentences,
    ),
}
IMPORTS = """
from types import SimpleNamespace
import numpy as np
import torch
import torch.nn.functional as F
from labutils import augment, data, models
from labutils.evaluation import accuracy, accuracy_of, frozen_features, linear_probe
from labutils.protocol import measure, tune
from labutils.shipped import simclr_encoder
from labutils.training import cosine_schedule, train
"""
CAUGHT = (AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError)


def module_with(right, wrong, mistake):
    source = mutants.source_of("rad", tests.TAGS, IMPORTS)
    return mutants.module_with(source, right, wrong, mistake, tests.given())


@pytest.mark.parametrize("mistake", TECHNIQUE | EXPERIMENT)
def test_mistake_is_caught(mistake):
    right, wrong, test = (TECHNIQUE | EXPERIMENT)[mistake]
    module = module_with(right, wrong, mistake)
    with pytest.raises(CAUGHT):
        test(module)


@pytest.mark.parametrize(
    "test", dict.fromkeys(test for _, _, test in (TECHNIQUE | EXPERIMENT).values())
)
def test_without_a_mistake_nothing_is_caught(test):
    test(module_with("def rad(", "def rad(", "no mistake"))
