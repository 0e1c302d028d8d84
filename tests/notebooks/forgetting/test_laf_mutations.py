"""Plausible mistakes in the cells of the lab on LAF, each of which a test must catch.

Not caught, since nothing depends on it: `<` for `<=` where the loss of a forgotten image is cut;
another order of the two autoencoders' first weights.
"""

import sys
from pathlib import Path

import mutants
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # whatever the import mode of pytest
import test_laf as tests

IMPORTS = """
import copy
from time import process_time
from types import SimpleNamespace
import numpy as np
from sklearn.metrics import roc_auc_score
from labutils import augment, data, models
from labutils.evaluation import predict
from labutils.training import train
"""


def of_second_choice(mutant):
    tests.test_a_rival_takes_the_steps_of_a_slow_reference(mutant, "second choice")


def of_ascent(mutant):
    tests.test_a_rival_takes_the_steps_of_a_slow_reference(mutant, "ascent, own labels")


def of_a_removed_class(mutant):
    tests.test_a_share_of_each_class_of_the_group_is_forgotten(mutant, tests.WHOLE)


def of_validation(mutant):
    tests.test_unseen_images_are_those_of_the_split(mutant, "validation")


TECHNIQUE = {
    "a divergence of standard deviations": (
        "mean**2 + log_var.exp() - 1 - log_var",
        "mean**2 + (log_var / 2).exp() - 1 - log_var",
        tests.test_the_autoencoders_loss_is_the_squared_error_and_a_share_of_the_divergence,
    ),
    "an error per pixel": (
        "((out - e) ** 2).sum(1) + 0.025 * kl",
        "((out - e) ** 2).mean(1) + 0.025 * kl",
        tests.test_the_autoencoders_loss_is_the_squared_error_and_a_share_of_the_divergence,
    ),
    "noise of the wrong size": (
        "mean + (log_var / 2).exp() * noise",
        "mean + log_var.exp() * noise",
        tests.test_the_hidden_variable_has_its_mean_and_its_variance,
    ),
    "decoders the wrong way round": (
        "nn.Identity() if linear else nn.Sigmoid()",
        "nn.Sigmoid() if linear else nn.Identity()",
        tests.test_a_sigmoid_bounds_the_reconstruction_and_a_linear_decoder_does_not,
    ),
    "an autoencoder that goes on learning": (
        "return h.requires_grad_(False)",
        "return h",
        tests.test_fitting_brings_features_back_and_freezes_the_weights,
    ),
    "forgotten features are kept": (
        ".exp().sum() - (q_forgotten",
        ".exp().sum() + (q_forgotten",
        tests.test_the_extractor_loss_is_that_of_a_loop,
    ),
    "no saturation": (
        "(q / (q + 1)).exp().sum()",
        "q.exp().sum()",
        tests.test_the_slope_of_the_extractor_loss_is_the_closed_form,
    ),
    "a logarithm of a mean": (
        "(c_forgotten / kappa).logsumexp(0)",
        "(c_forgotten / kappa).exp().mean().log()",
        tests.test_before_any_turn_the_alignment_loss_counts_images,
    ),
    "a temperature that multiplies": (
        "(c_forgotten / kappa)",
        "(c_forgotten * kappa)",
        tests.test_the_alignment_loss_is_that_of_the_official_code,
    ),
    "an old network that learns too": (
        "old = copy.deepcopy(net).requires_grad_(False)",
        "old = net",
        tests.test_forgetting_takes_the_steps_of_the_official_code,
    ),
    "one autoencoder for both": (
        "distance(h_forgotten, e[n:])",
        "distance(h, e[n:])",
        tests.test_forgetting_takes_the_steps_of_the_official_code,
    ),
    "kept and forgotten images swapped": (
        "alignment_loss(c[:n], c[n:], kappa)",
        "alignment_loss(c[n:], c[:n], kappa)",
        tests.test_forgetting_takes_the_steps_of_the_official_code,
    ),
    "steps with the other rate": (
        "step(align, alignment_loss",
        "step(unlearn, alignment_loss",
        tests.test_forgetting_takes_the_steps_of_the_official_code,
    ),
    "a part that is always on": (
        "if rates[0]:",
        "if True:",
        tests.test_alignment_alone_asks_no_autoencoder,
    ),
}
EXPERIMENT = {
    "forgotten images of any class": (
        "torch.where(y == label, order, -1)",
        "order",
        of_a_removed_class,
    ),
    "wrong labels for kept images too": (
        "torch.where(gone, other, y)",
        "other",
        tests.test_only_forgotten_images_have_wrong_labels_and_all_of_them,
    ),
    "wrong labels that may be right": (
        "torch.randint(1, 10, y.shape",
        "torch.randint(0, 10, y.shape",
        tests.test_only_forgotten_images_have_wrong_labels_and_all_of_them,
    ),
    "test images in the place of validation images": (
        "getattr(dataset, split)",
        "dataset.test",
        of_validation,
    ),
    "a thinned class is judged apart": (
        'if task["share"] == 1 else',
        'if task["share"] else',
        tests.test_a_removed_class_is_judged_apart_and_a_thinned_one_with_the_rest,
    ),
    "retraining on all images": (
        '"retrained": world.kept}',
        '"retrained": every}',
        tests.test_a_job_measures_each_setting_beside_three_reference_networks,
    ),
    "a second retrained network that is the first": (
        "timed(fit, world, rows, streams)",
        "timed(fit, world, rows, lab.streams(seed))",
        tests.test_the_second_retrained_network_is_another_one,
    ),
    "forgotten features in no autoencoder": (
        "world.gone]), world.gone):",
        "world.gone]), world.kept):",
        tests.test_one_autoencoder_sees_all_images_and_the_other_those_to_forget,
    ),
    "own labels that are the given ones": (
        'y = own if whose == "own" else world.y',
        "y = world.y",
        tests.test_only_arms_with_true_labels_depend_on_labels,
    ),
    "the first choice once more": (
        "logits.scatter(1, own[:, None], -torch.inf).argmax(1)",
        "own",
        of_second_choice,
    ),
    "ascent without an end": (
        "losses.clamp(max=np.log(10)).mean()",
        "losses.mean()",
        of_ascent,
    ),
    "descent": (
        "loss = loss - losses.clamp",
        "loss = loss + losses.clamp",
        of_ascent,
    ),
    "more batches for LAF": (
        "pairs = ((world.x[kept], world.x[gone]) for kept, gone in pairs)",
        "pairs = ((world.x[kept], world.x[gone]) for kept, gone in pairs + pairs)",
        tests.test_all_arms_see_the_same_pairs_and_start_alike,
    ),
    "unlearning that spoils the original": (
        "net, streams = copy.deepcopy(original), lab.streams",
        "net, streams = original, lab.streams",
        tests.test_only_arms_with_true_labels_depend_on_labels,
    ),
    "only alignment gets the rate of the other loss": (
        "zip(LAF[arm], PUBLISHED)",
        "zip(LAF[arm], PUBLISHED[::-1])",
        tests.test_arms_of_laf_get_the_published_rates_times_their_factor,
    ),
    "accuracy of the removed class in that of the others": (
        "percent(right_unseen[world.staying])",
        "percent(right_unseen)",
        tests.test_the_five_numbers_are_those_of_scikit_learn,
    ),
    "an attack the wrong way round": (
        "< len(world.gone), sure)",
        ">= len(world.gone), sure)",
        tests.test_the_five_numbers_are_those_of_scikit_learn,
    ),
    "a gap with signs": (
        "abs(numbers[name] - aim[name])",
        "(numbers[name] - aim[name])",
        tests.test_the_gap_is_the_mean_distance_to_the_retrained_network,
    ),
    "a gap to the original": (
        'look_at(made["retrained",][0], world)',
        "look_at(original, world)",
        tests.test_the_second_retrained_network_is_another_one,
    ),
    "LAF's autoencoders are free": (
        "net, before + seconds",
        "net, seconds",
        tests.test_seconds_of_laf_count_its_autoencoders,
    ),
    "the largest gap wins": (
        '{key: -row["gap"]',
        '{key: row["gap"]',
        tests.test_the_score_of_a_setting_is_minus_its_gap,
    ),
    "settings chosen on the class that is removed": (
        "for name, (task, _, groups) in TASKS.items()",
        "for name, (task, groups, *_) in TASKS.items()",
        tests.test_settings_are_chosen_where_other_classes_are_forgotten,
    ),
    "a single rate for the rivals": (
        "S.factors if arm in LAF else S.rates)",
        "S.factors if arm in LAF else S.rates[:1])",
        tests.test_every_arm_chooses_among_equally_many_settings,
    ),
}
CALLS = {  # in cells that only run
    "settings tuned on the draws of the results": (
        'TUNED_ON["class"]}, GRIDS, S.tuning_seeds)',
        'TUNED_ON["class"]}, GRIDS, lab.seeds)',
    ),
    "settings tuned on the task of the results": (
        "others = {name: TUNED_ON[name]",
        "others = {name: PLACES[name]",
    ),
    "results on validation images": (
        'PLACES, chosen, lab.seeds, "test")',
        'PLACES, chosen, lab.seeds, "validation")',
    ),
    "results of the draws that chose": (
        'PLACES, chosen, lab.seeds, "test")',
        'PLACES, chosen, S.tuning_seeds, "test")',
    ),
}
TAGS = ("technique", "experiment")


@pytest.mark.parametrize("mistake", TECHNIQUE | EXPERIMENT)
def test_the_tests_catch(mistake):
    right, wrong, test = (TECHNIQUE | EXPERIMENT)[mistake]
    source = mutants.source_of("laf", TAGS, IMPORTS)
    mutant = mutants.module_with(source, right, wrong, mistake, tests.given())
    with pytest.raises((AssertionError, ValueError, KeyError, TypeError, IndexError)):
        test(mutant)


@pytest.mark.parametrize("mistake", CALLS)
def test_the_tests_catch_a_call_with(mistake):
    (right, wrong), source = CALLS[mistake], tests.whole_source()
    assert source.count(right) == 1, "the cell was rewritten: rewrite this mistake too"
    with pytest.raises(AssertionError):
        tests.check_calls(source.replace(right, wrong))
