"""Plausible mistakes in the cells of the lab on DRO-SSL, each of which a test must catch.

Not caught, since nothing depends on it: `<=` for `<` in the two masks of the gradient, which differ
at single points; the sign of the first component where the labels' projections cancel exactly.
"""

import sys
from pathlib import Path

import mutants
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # whatever the import mode of pytest
import test_dro_ssl as tests

IMPORTS = """
from types import SimpleNamespace
import numpy as np
from scipy.special import ndtr
from sklearn.linear_model import LogisticRegression
"""


def with_patches(test):
    """A test that patches the module."""

    def run(mutant):
        with pytest.MonkeyPatch.context() as patch:
            test(mutant, patch)

    return run


def labels_alone(mutant):
    tests.test_labels_alone_follow_their_formula(mutant, 20)


def pca(mutant):
    tests.test_pca_follows_the_theory_of_spiked_covariances(mutant, 1000, 20)


TECHNIQUE = {
    "a loss that goes on growing on the wrong side": (
        "np.clip(1 - gamma * margins, 0, 1)",
        "np.maximum(0, 1 - gamma * margins)",
        tests.test_the_robust_loss_is_the_supremum_over_all_moves,
    ),
    "a price for the square of the move": (
        "np.clip(1 - gamma * margins, 0, 1)",
        "np.clip(1 - gamma * margins * abs(margins), 0, 1)",
        tests.test_the_robust_loss_is_the_supremum_over_all_moves,
    ),
    "labelled points far from the boundary still pull": (
        "inside = gamma * y * (theta @ X.T) < 1",
        "inside = gamma * y * (theta @ X.T) < np.inf",
        tests.test_the_gradient_is_that_of_a_slow_objective,
    ),
    "unlabelled points far from the boundary still push": (
        "(gamma * np.abs(projections) < 1) * np.sign(projections)",
        "np.sign(projections)",
        tests.test_the_gradient_is_that_of_a_slow_objective,
    ),
    "unlabelled points pull the boundary": (
        "lam * (under @ U / len(U))",
        "-lam * (under @ U / len(U))",
        tests.test_rss_finds_a_direction_that_no_search_nearby_improves,
    ),
    "a sum over the unlabelled points": (
        "lam * (under @ U / len(U))",
        "lam * (under @ U / len(X))",
        tests.test_unlabelled_points_that_come_twice_change_nothing,
    ),
    "no weight": (
        "lam * (under @ U / len(U))",
        "(under @ U / len(U))",
        tests.test_without_weight_the_labels_decide_alone,
    ),
    "up the slope": (
        "theta - first_step * (1 - step / num_steps)",
        "theta + first_step * (1 - step / num_steps)",
        tests.test_rss_finds_a_direction_that_no_search_nearby_improves,
    ),
    "steps that never shorten": (
        "first_step * (1 - step / num_steps)",
        "first_step",
        tests.test_rss_finds_a_direction_that_no_search_nearby_improves,
    ),
    "a start without the labels": (
        "np.tile(unit(y @ X), (len(gamma), 1))",
        "np.tile(unit(X.sum(0)), (len(gamma), 1))",
        tests.test_flipped_labels_flip_the_direction,
    ),
    "the price of the first setting for all": (
        "slope = gradient(theta, X, y, U, gamma, lam)",
        "slope = gradient(theta, X, y, U, gamma[:1], lam)",
        tests.test_settings_side_by_side_are_settings_one_by_one,
    ),
}
EXPERIMENT = {
    "photographs are validated on test images": (
        'test if split == "test" else',
        "test if test else",
        tests.test_settings_of_photographs_never_see_test_images,
    ),
    "results on validation images": (
        'test if split == "test" else',
        'test if split != "test" else',
        tests.test_results_of_photographs_are_on_test_images,
    ),
    "labelled images in the pool": (
        "np.append(one[per_class:], two[per_class:])",
        "np.append(one, two)",
        with_patches(tests.test_labelled_pool_and_validation_images_are_disjoint),
    ),
    "validation on images of the pool": (
        "(images[rest[:held]], labels[rest[:held]])",
        "(images[many[:held]], labels[many[:held]])",
        with_patches(tests.test_labelled_pool_and_validation_images_are_disjoint),
    ),
    "labelled images are changed, too": (
        "X=features(images[few])",
        "X=features(POOLS[pool](images[few].astype(np.float32)))",
        with_patches(tests.test_only_the_pool_is_changed),
    ),
    "the pool is never changed": (
        "U = POOLS[pool](images[many].astype(np.float32))",
        "U = images[many].astype(np.float32)",
        with_patches(tests.test_only_the_pool_is_changed),
    ),
    "the same images for every seed": (
        "np.random.default_rng(seed)\n    one",
        "np.random.default_rng(0)\n    one",
        tests.test_another_seed_is_another_draw,
    ),
    "a shift in noise units": (
        "norm * (first + alpha * shift)",
        "norm * first + alpha * shift",
        tests.test_a_world_has_the_moments_that_were_asked_for,
    ),
    "a nuisance that leans on the classes": (
        "unit(other - (other @ first) * first)",
        "unit(other)",
        tests.test_a_world_has_the_moments_that_were_asked_for,
    ),
    "labelled points are shifted, too": (
        "X = around(y, norm * first, few)",
        "X = around(y, norm * (first + alpha * shift), few)",
        tests.test_worlds_of_a_seed_share_their_points_and_other_seeds_do_not,
    ),
    "an accuracy that forgets the nuisance": (
        "np.sqrt(1 + (a.spread**2 - 1) * (theta @ a.nuisance) ** 2)",
        "1.0",
        tests.test_accuracy_is_that_of_many_fresh_points,
    ),
    "an accuracy of unnormalised directions": (
        "theta = unit(np.asarray(theta, float))\n",
        "theta = np.asarray(theta, float)\n",
        labels_alone,
    ),
    "the last component": (
        "[1][:, -1]",
        "[1][:, 0]",
        pca,
    ),
    "the component's sign left to chance": (
        "top if a.y @ (a.X @ top) >= 0 else -top",
        "top",
        tests.test_the_pca_arm_is_that_of_sklearn_with_the_sign_of_the_labels,
    ),
    "self-training on the truth": (
        "own = np.where(a.U @ theta >= 0, 1, -1)",
        "own = a.signs",
        tests.test_self_training_trains_on_its_own_labels_over_and_over,
    ),
    "the bound without the labelled points": (
        'theta * len(a.X) + a.signs @ a.U if arm == "all labels known"',
        'a.signs @ a.U if arm == "all labels known"',
        tests.test_only_the_bound_looks_at_the_truth,
    ),
    "the claim on few points asked of many": (
        "alone, FEW, ",
        "alone, MANY, ",
        tests.test_claims_compare_rss_where_their_sentences_say,
    ),
    "a margin of nought for the paper's claim": (
        '"greater", 2, 4)',
        '"greater", 0, 4)',
        tests.test_margins_of_the_papers_claims_are_half_of_its_gains,
    ),
}
CALLS = {  # in cells that only run
    "settings tuned on the draws of the results": (
        'exact, same, {"RSS": RSS_GRID}, S.tuning_seeds)',
        'exact, same, {"RSS": RSS_GRID}, lab.seeds)',
    ),
    "photographs tuned on the draws of the results": (
        "GRIDS, S.tuning_seeds)",
        "GRIDS, lab.seeds)",
    ),
    "results on validation images": (
        'garments, chosen, lab.seeds, "test")',
        'garments, chosen, lab.seeds, "validation")',
    ),
    "results of the draws that chose": (
        'shifts, chosen, lab.seeds, "test")',
        'shifts, chosen, S.tuning_seeds, "test")',
    ),
}
TAGS = ("technique", "experiment")


@pytest.mark.parametrize("mistake", TECHNIQUE | EXPERIMENT)
def test_the_tests_catch(mistake):
    right, wrong, test = (TECHNIQUE | EXPERIMENT)[mistake]
    source = mutants.source_of("dro-ssl", TAGS, IMPORTS)
    mutant = mutants.module_with(source, right, wrong, mistake, tests.given())
    with pytest.raises((AssertionError, ValueError, KeyError, TypeError, AttributeError)):
        test(mutant)


@pytest.mark.parametrize("mistake", CALLS)
def test_the_tests_catch_a_call_with(mistake):
    (right, wrong), source = CALLS[mistake], tests.whole_source()
    assert source.count(right) == 1, "the cell was rewritten: rewrite this mistake too"
    with pytest.raises(AssertionError):
        tests.check_calls(source.replace(right, wrong))
