"""Plausible mistakes in the cells of the lab on Loki, each of which a test must catch.

Not caught, since nothing depends on it: another size of what counts as a tie.
"""

import sys
from pathlib import Path

import mutants
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # whatever the import mode of pytest
import test_loki as tests

IMPORTS = """
import numpy as np
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from labutils import clip_emoji, data
from labutils.data import emoji
from labutils.protocol import measure, tune
"""


def of_validation(mutant):
    tests.test_no_garment_that_judges_is_in_training_and_only_results_see_test_garments(
        mutant, "validation"
    )


MISTAKES = {
    "distances without squares": (
        ".astype(float) ** power",
        ".astype(float)",
        tests.test_the_rule_is_that_of_two_loops,
    ),
    "the farthest label": (
        "ties = cost <= cost.min(1, keepdims=True) + 1e-9 * loss.max()",
        "ties = cost >= cost.max(1, keepdims=True) - 1e-9 * loss.max()",
        tests.test_the_rule_is_that_of_two_loops,
    ),
    "rows of the metric in sorted order, not in that of the classifier": (
        "np.ix_(observed, order)",
        "np.ix_(np.sort(observed), order)",
        tests.test_scale_order_and_a_constant_change_nothing,
    ),
    "columns of the answer are taken for labels": (
        "return order[ties.argmax(1)]",
        "return ties.argmax(1)",
        tests.test_a_sure_row_gives_the_label_that_it_is_sure_of,
    ),
    "only observed labels": (
        "order = np.concatenate([np.sort(observed), others])",
        "order = np.sort(observed)",
        tests.test_between_the_ends_of_a_path_the_answer_is_the_rounded_mean,
    ),
    "unobserved labels win ties": (
        "np.concatenate([np.sort(observed), others])",
        "np.concatenate([others, np.sort(observed)])",
        tests.test_of_labels_that_cost_the_same_an_observed_one_wins_then_the_smaller_number,
    ),
    "arg max gives columns": (
        "np.asarray(observed)[p.argmax(1)]",
        "p.argmax(1)",
        tests.test_with_equal_distances_the_likeliest_label_wins,
    ),
    "a line instead of a cycle": (
        "np.minimum(steps, n - steps)",
        "steps",
        tests.test_steps_on_the_dial_are_shortest_paths_on_a_cycle,
    ),
    "subgroups of one name are one subgroup": (
        ".cumprod(2)",
        "",
        tests.test_equal_names_of_subgroups_in_other_groups_are_other_subgroups,
    ),
    "cosines instead of distances": (
        "np.sqrt(np.maximum(2 - 2 * v @ v.T, 0))",
        "np.maximum(1 - v @ v.T, 0)",
        tests.test_the_self_derived_metric_is_two_minus_two_cosines,
    ),
    "the likeliest label decides the branch": (
        "mass = p @ np.eye(len(names))[number]",
        "mass = np.eye(len(names))[number[p.argmax(1)]]",
        tests.test_the_likeliest_branch_comes_first_then_its_likeliest_label,
    ),
    "pictures are turned the other way": (
        "angle = 2 * torch.pi * turns",
        "angle = -2 * torch.pi * turns",
        tests.test_pictures_are_turned_counter_clockwise_by_steps_of_15_degrees,
    ),
    "penalties are tuned on test garments": (
        'judged = tested if split == "test" else own[S.num_trained :]',
        "judged = tested",
        of_validation,
    ),
    "validation garments are in training": (
        'split == "test" else own[S.num_trained :]',
        'split == "test" else own',
        of_validation,
    ),
    "training shows all angles": (
        "y = observed[torch.rand(S.num_trained, count, generator=g)",
        "y = torch.arange(NUM_ANGLES)[torch.rand(S.num_trained, NUM_ANGLES, generator=g)",
        tests.test_each_training_garment_shows_two_observed_angles_and_others_all,
    ),
    "Loki has sharper probabilities than the others": (
        "chosen = rules[arm](shares[value])",
        "chosen = rules[arm](shares[value] ** (1 + (arm == 'Loki')))",
        tests.test_scores_of_turns_are_those_of_the_rules,
    ),
    "the shuffled metric is shuffled on one side": (
        "DIAL[mixed][:, mixed]",
        "DIAL[mixed]",
        tests.test_the_shuffled_metric_has_the_same_distances,
    ),
    "the distance itself is reported": (
        "-np.mean(DIAL[chosen, y] ** 2.0)",
        "-np.mean(DIAL[chosen, y] * 1.0)",
        tests.test_scores_of_turns_are_those_of_the_rules,
    ),
    "names of which CLIP saw no picture": (
        "seen = model.seen.nonzero()[:, 0]",
        "seen = torch.arange(len(concepts))",
        tests.test_names_are_drawn_from_those_that_clip_was_trained_on,
    ),
    "the factor is not used": (
        "torch.from_numpy(factor * scale * cosines)",
        "torch.from_numpy(scale * cosines)",
        tests.test_scores_of_names_are_those_of_the_rules_at_the_factor,
    ),
    "every arm is judged in its own metric": (
        'squares.items()}\n        found[arm, factor] = -far["self" if "self" in arm else "tree"]',
        'squares.items()}\n        found[arm, factor] = -far["self"]',
        tests.test_scores_of_names_are_those_of_the_rules_at_the_factor,
    ),
    "the factor is tuned on the tested style": (
        '{"emojione": "emojione"}',
        '{"emojione": "twemoji"}',
        tests.test_every_setting_is_chosen_on_validation_data_of_other_seeds,
    ),
    "penalties are tuned on the seeds of the results": (
        "TURN_GRID, S.tuning_seeds)",
        "TURN_GRID, lab.seeds)",
        tests.test_every_setting_is_chosen_on_validation_data_of_other_seeds,
    ),
    "the method chooses from more values": (
        "for c in S.strengths] for arm in CLASSIFIER}",
        "for c in S.strengths[: 9 if arm == 'Loki' else 1]] for arm in CLASSIFIER}",
        tests.test_all_arms_that_use_probabilities_choose_from_the_same_list,
    ),
    "sneakers with their own penalty under the name of that of boots": (
        'best["boots", k]["Loki"]',
        'best[garment, k]["arg max"]',
        tests.test_results_have_each_arm_at_its_own_setting_and_sneakers_at_that_of_boots_too,
    ),
    "a claim without its margin": (
        'return 0.98 * arm_values',
        'return 1.0 * arm_values',
        tests.test_claims_compare_what_their_sentences_say,
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_tests_catch(mistake):
    right, wrong, test = MISTAKES[mistake]
    source = mutants.source_of("loki", ("technique", "experiment"), IMPORTS)
    mutant = mutants.module_with(source, right, wrong, mistake, tests.given())
    with pytest.raises((AssertionError, ValueError, KeyError, TypeError, IndexError)):
        test(mutant)
