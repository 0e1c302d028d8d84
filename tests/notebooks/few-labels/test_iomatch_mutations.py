"""Plausible mistakes in the cells of the lab on IOMatch, each of which a test must catch.

Those that survive, and why nothing catches them, stand after the list.
"""

import sys
from pathlib import Path

import mutants
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # whatever the import mode of pytest
import test_iomatch as lab

IMPORTS = "import numpy as np"  # of a cell that is not loaded
MUTATIONS = {
    # --- technique ---
    "the sides of a pair exchanged in the targets": (
        "weak[1].detach().softmax(1)[:, 1]",
        "weak[1].detach().softmax(1)[:, 0]",
        lab.test_terms_equal_the_equations_image_by_image,
    ),
    "the sides of a pair exchanged in the detectors' loss": (
        "log_out, log_in = pairs",
        "log_in, log_out = pairs",
        lab.test_detector_loss_equals_a_loop,
    ),
    "all negatives in the place of the hardest": (
        "hardest = log_out.masked_fill(own, 0.0).amin(1)",
        "hardest = log_out.masked_fill(own, 0.0).sum(1)",
        lab.test_detector_loss_equals_a_loop,
    ),
    "the easiest negative": (
        "log_out.masked_fill(own, 0.0).amin(1)",
        "log_out.masked_fill(own, -99.0).amax(1)",
        lab.test_detector_loss_equals_a_loop,
    ),
    "the outliers' share without the weights of the classes": (
        "(p * (1 - o)).sum(1, keepdim=True)",
        "(1 - o).mean(1, keepdim=True)",
        lab.test_fused_targets_sum_to_one,
    ),
    "gradient into the closed target": (
        "p, o = weak[0].detach().softmax(1)",
        "p, o = weak[0].softmax(1)",
        lab.test_no_gradient_flows_into_the_targets,
    ),
    "gradient into the detectors' targets": (
        "weak[1].detach().softmax(1)",
        "weak[1].softmax(1)",
        lab.test_no_gradient_flows_into_the_targets,
    ),
    "the filter left out of L_ui": (
        "chosen = (p.amax(1) > tau_p) & (q[:, -1] < 0.5)",
        "chosen = p.amax(1) > tau_p",
        lab.test_terms_equal_the_equations_image_by_image,
    ),
    "targets of the strong views": (
        "p, o = weak[0].detach()",
        "p, o = strong[0].detach()",
        lab.test_terms_equal_the_equations_image_by_image,
    ),
    "the open loss without its threshold": (
        "op = (q.amax(1) > tau_q) * ",
        "op = ",
        lab.test_terms_equal_the_equations_image_by_image,
    ),
    "the open head learns the weak view": (
        "F.cross_entropy(strong[2], q",
        "F.cross_entropy(weak[2], q",
        lab.test_terms_equal_the_equations_image_by_image,
    ),
    "detectors on the features": (
        "self.chi(z).unflatten",
        "self.chi(h[:, : z.shape[1]]).unflatten",
        lab.test_heads_stand_where_the_paper_puts_them,
    ),
    # --- data ---
    "a pool with outliers where there should be none": (
        "pool = pool[labels[pool] < 6]",
        "pool = pool",
        lab.test_a_pool_without_outliers_has_none,
    ),
    "validation images of the pool": (
        "order[S.pool :][:5000]",
        "order[:5000]",
        lab.test_validation_images_are_neither_test_images_nor_of_the_pool,
    ),
    "settings are chosen on test images": (
        'judged=dataset.test if judged == "test" else',
        "judged=dataset.test if judged else",
        lab.test_choosing_does_not_see_test_images,
    ),
    "the same labels for all draws": (
        "streams = lab.streams(seed)",
        "streams = lab.streams(0)",
        lab.test_a_draw_is_the_same_each_time_and_another_draw_another,
    ),
    "outliers among the labelled images": (
        "few = few[: 6 * per_class]",
        "few = few[:]",
        lab.test_labels_are_balanced_nested_and_of_the_pool,
    ),
    "weak and strong views of the pool exchanged": (
        "batches, weak, strong = views(",
        "batches, strong, weak = views(",
        lab.test_labels_are_balanced_nested_and_of_the_pool,
    ),
    # --- arms ---
    "soft targets for FixMatch": (
        'arm in ("FixMatch", "oracle filter")',
        'arm == "oracle filter"',
        lab.test_fixmatch_is_the_one_of_the_chapter,
    ),
    "the oracle knows nothing": (
        '"oracle filter": sure & inlier',
        '"oracle filter": sure',
        lab.test_the_oracle_filter_is_fixmatch_on_true_inliers,
    ),
    "the filter knows the truth": (
        "return loss + ui.mean()",
        "return loss + (ui * inlier).mean()",
        lab.test_nobody_but_two_arms_learns_who_is_an_inlier,
    ),
    "the filter trains no detectors": (
        'if not hard and arm != "soft FixMatch":',
        'if arm.startswith("IOMatch"):',
        lab.test_the_filter_is_iomatch_without_its_open_loss,
    ),
    "the lot takes all that are sure": (
        "place < (sure & (q[:, -1] < 0.5)).sum()",
        "place < sure.sum()",
        lab.test_the_random_filter_takes_as_many_sure_images_as_the_filter_by_lot,
    ),
    "the lot takes unsure images": (
        "(coin - sure.float()).argsort().argsort()",
        "coin.argsort().argsort()",
        lab.test_the_random_filter_takes_as_many_sure_images_as_the_filter_by_lot,
    ),
    "the lot is the filter": (
        '"random filter": place < (sure & (q[:, -1] < 0.5)).sum()',
        '"random filter": sure & (q[:, -1] < 0.5)',
        lab.test_the_random_filter_takes_as_many_sure_images_as_the_filter_by_lot,
    ),
    "the extra class learns from inliers in every arm": (
        'op * inlier if arm == "IOMatch on inliers" else op',
        "op * inlier",
        lab.test_the_filter_is_iomatch_without_its_open_loss,
    ),
    "arms start from different weights": (
        "models.initialise(network, streams.initialisation)",
        "models.initialise(network, lab.streams(len(arm)).initialisation)",
        lab.test_arms_of_a_draw_start_from_the_same_weights,
    ),
    "weak labelled views for the supervised arm": (
        'draw.x[arm == "supervised"]',
        "draw.x[0]",
        lab.test_the_supervised_arm_sees_labelled_images_alone,
    ),
    "the last weights in the place of their mean": (
        "    nn.utils.vector_to_parameters(mean, weights)\n",
        "",
        lab.test_the_network_has_the_moving_average_of_its_weights,
    ),
    # --- what is measured and chosen ---
    "outliers count in the closed accuracy": (
        "evaluation.accuracy(scores[y < 6], y[y < 6])",
        "evaluation.accuracy(scores, y)",
        lab.test_what_compare_counts,
    ),
    "the outliers' logit among the seen classes": (
        "correct(psi[:, :6])",
        "correct(psi)",
        lab.test_what_compare_counts,
    ),
    "accuracy that is not balanced": (
        "return 100 * sum((found[y == k] == k).double().mean().item() for k in range(7)) / 7",
        "return 100 * (found == y).double().mean().item()",
        lab.test_balanced_accuracy_equals_scikit_learn,
    ),
    "a cut for sure images": (
        "torch.where(p.amax(1) > t, p.argmax(1), 6)",
        "torch.where(p.amax(1) < t, p.argmax(1), 6)",
        lab.test_what_compare_counts,
    ),
    "choices of all settings together": (
        "tried[(tried.setting == str(setting)) & (tried.arm == LIKE.get(arm, arm))]",
        "tried[tried.arm == LIKE.get(arm, arm)]",
        lab.test_the_best_mean_over_draws_is_chosen_within_a_setting,
    ),
    "the best single run is chosen": (
        'rows.groupby("choice").closed.mean()',
        'rows.groupby("choice").closed.max()',
        lab.test_the_best_mean_over_draws_is_chosen_within_a_setting,
    ),
    "a cut of other settings": (
        "if tried_choice == choice]",
        "]",
        lab.test_the_best_mean_over_draws_is_chosen_within_a_setting,
    ),
}

# Plausible mistakes that no test catches: (right, wrong, why).
SURVIVORS = {
    "a threshold that must be reached": (
        "(p.amax(1) > tau_p) & (q[:, -1] < 0.5)",
        "(p.amax(1) >= tau_p) & (q[:, -1] < 0.5)",
        "the paper prints >, its code has >=; a confidence that is the threshold does not occur",
    ),
}


@pytest.fixture(scope="module")
def source():
    return mutants.source_of("iomatch", lab.TAGS, IMPORTS)


@pytest.mark.parametrize("mistake", MUTATIONS)
def test_mistake_is_caught(source, mistake):
    right, wrong, test = MUTATIONS[mistake]
    mutant = mutants.module_with(source, right, wrong, mistake, lab.given())
    with pytest.raises(AssertionError):
        test(mutant)


@pytest.mark.parametrize("test", dict.fromkeys(test for _, _, test in MUTATIONS.values()))
def test_without_a_mistake_nothing_is_caught(source, test):
    test(mutants.module_with(source, "def fuse(", "def fuse(", "no mistake", lab.given()))


@pytest.mark.parametrize("mistake", SURVIVORS)
def test_survivors_are_still_there(source, mistake):
    assert source.count(SURVIVORS[mistake][0]) == 1
