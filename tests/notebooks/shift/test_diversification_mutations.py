"""Plausible mistakes in the cells of the lab on diversification, each of which a test must catch.

Not caught, since nothing depends on it: a smaller floor than 1e-12 under the logarithms of the
table of two heads; another order of images with exactly equal disagreement.
"""

import sys
from pathlib import Path

import mutants
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # whatever the import mode of pytest
import test_diversification as tests

IMPORTS = """
from types import SimpleNamespace
import numpy as np
import torch
from labutils import augment, data, models, training
from labutils.protocol import tune
from sklearn.linear_model import LogisticRegression
"""


def of_three_classes(mutant):
    tests.test_mutual_information_of_hard_answers_is_that_of_scikit_learn(mutant, 3)


def of_three_heads(mutant):
    tests.test_the_loss_of_divdis_is_that_of_loops_over_heads_and_pairs(mutant, 3)


def of_opposed_cues(mutant):
    tests.test_the_cues_agree_as_often_as_was_asked(mutant, 0)


def of_validation(mutant):
    tests.test_no_half_serves_in_two_parts(mutant, "validation")


def asked_where_heads_differ(mutant):
    tests.test_a_refitted_layer_learns_from_the_labels_that_were_asked_for(
        mutant, "where heads differ"
    )


TECHNIQUE = {
    "a sum over images": (
        '"hnc,gnd->hgcd", p, p) / p.shape[1]',
        '"hnc,gnd->hgcd", p, p)',
        of_three_classes,
    ),
    "a head beside itself": (
        'torch.einsum("hc,gd->hgcd", alone, alone)',
        'torch.einsum("hc,hd->hcd", alone, alone)[:, None]',
        of_three_classes,
    ),
    "the divergence the wrong way round": (
        "return (joint * ratio)",
        "return (-apart * ratio)",
        of_three_classes,
    ),
    "heads beside themselves count as pairs": (
        "mutual_information(p).triu(1).sum()",
        "mutual_information(p).triu(0).sum()",
        of_three_heads,
    ),
    "a sum over pairs": (
        " / (num_heads * (num_heads - 1) / 2)",
        "",
        of_three_heads,
    ),
    "the prior of the unlabelled images": (
        "logits.detach().softmax(2).mean((0, 1))",
        "unlabelled.detach().softmax(2).mean((0, 1))",
        of_three_heads,
    ),
    "a gradient into the prior": (
        "logits.detach().softmax(2)",
        "logits.softmax(2)",
        tests.test_no_gradient_flows_into_the_prior,
    ),
    "the balance the wrong way round": (
        "(mean * (mean.log() - prior.log()))",
        "(prior * (prior.log() - mean.log()))",
        of_three_heads,
    ),
    "labels in the order of images and not of heads": (
        "y.repeat(num_heads))\n    p, prior",
        "y.repeat_interleave(num_heads))\n    p, prior",
        of_three_heads,
    ),
    "DivDis with the disagreement of D-BAT": (
        "fit + lam1 * pairs",
        "fit - lam1 * pairs",
        tests.test_on_the_plane_divdis_finds_the_two_rules_when_cues_are_independent,
    ),
    "D-BAT asks for agreement": (
        "differ = p * (1 - frozen) + (1 - p) * frozen",
        "differ = p * frozen + (1 - p) * (1 - frozen)",
        tests.test_agreement_costs_sixteen_and_disagreement_nothing,
    ),
    "no floor under the logarithm": (
        "(differ + 1e-7).log()",
        "(differ + 1e-30).log()",
        tests.test_agreement_costs_sixteen_and_disagreement_nothing,
    ),
    "labels asked where heads agree": (
        "differ.argsort(descending=True, stable=True)",
        "differ.argsort(stable=True)",
        tests.test_labels_are_asked_where_heads_differ_and_the_better_head_is_chosen,
    ),
    "the worse head is chosen": (
        "int(right.argmax())",
        "int(right.argmin())",
        tests.test_labels_are_asked_where_heads_differ_and_the_better_head_is_chosen,
    ),
}
EXPERIMENT = {
    "settings tuned on test data": (
        '(dataset.test, lists(dataset.test)) if split == "test" else (train, third)',
        "(dataset.test, lists(dataset.test))",
        tests.test_settings_are_chosen_without_test_images,
    ),
    "validation on unlabelled images": (
        'split == "test" else (train, third)',
        'split == "test" else (train, second)',
        of_validation,
    ),
    "unlabelled images are the labelled ones": (
        '"unlabelled": (train, second, world["r"])',
        '"unlabelled": (train, first, world["r"])',
        of_validation,
    ),
    "settings tuned on the seeds of the results": (
        " BOTH, S.tuning_seeds)",
        " BOTH, lab.seeds)",
        tests.test_every_setting_is_chosen_on_validation_data_of_the_extra_seeds,
    ),
    "the cue follows chance everywhere": (
        "generator=g) < r, y, 1 - y)",
        "generator=g) < 0.5, y, 1 - y)",
        of_opposed_cues,
    ),
    "the label belongs to the top half": (
        "zip(halves, (cue, y))",
        "zip(halves, (y, cue))",
        of_opposed_cues,
    ),
    "negatives of one class alone": (
        "turned = ((torch.rand(S.size, generator=g) < 0.5) & negative)",
        "turned = ((y == 1) & negative)",
        tests.test_negatives_turn_half_of_the_bottoms_and_no_top,
    ),
    "every arm is trained on independent halves": (
        "setting, vars(a)[part], a.unlabelled.x",
        "setting, a.even, a.unlabelled.x",
        tests.test_the_loss_of_a_step_is_that_of_its_images,
    ),
    "D-BAT's second model starts from the first one's weights": (
        "range(1 + len(earlier))",
        "range(1)",
        tests.test_without_weight_dbats_second_model_is_ordinary_training_from_other_weights,
    ),
    "D-BAT disagrees with the first model on other images": (
        "frozen[:, j], *weights)",
        "frozen[:, : len(j)], *weights)",
        tests.test_the_loss_of_a_step_is_that_of_its_images,
    ),
    "diversity on labelled images": (
        "unlabelled = model(u[j])",
        "unlabelled = model(part.x[j])",
        tests.test_the_loss_of_a_step_is_that_of_its_images,
    ),
    "the method has twice the steps": (
        "training.train(model, loss, S.num_steps,",
        "training.train(model, loss, S.num_steps * (1 + bool(weights)),",
        tests.test_every_network_has_the_same_steps,
    ),
    "the refitted layer sees all labels": (
        'if asked == "where heads differ" else slice(m)',
        'if asked == "where heads differ" and m > 1e9 else slice(None)',
        asked_where_heads_differ,
    ),
    "the refitted layer asks where other hypotheses differ": (
        'pool = own if arm == "DivDis" else pool',
        "pool = own",
        tests.test_the_refit_asks_where_the_two_heads_of_divdis_differ,
    ),
    "the first hypothesis is scored": (
        "found[(arm, *setting)] = max(right)",
        "found[(arm, *setting)] = right[0]",
        tests.test_the_better_of_two_hypotheses_counts,
    ),
    "the skyline is ordinary training": (
        '"even" if arm == "skyline" else "labelled"',
        '"labelled"',
        tests.test_a_score_is_that_of_the_better_hypothesis_on_dominoes_that_judge,
    ),
    "D-BAT's fixed weight is that of a half": (
        '"D-BAT fixed": best[0]["D-BAT"]}',
        '"D-BAT fixed": best[0.5]["D-BAT"]}',
        tests.test_own_and_fixed_weights_are_run,
    ),
    "a comparison of fixed weights with a weight for these images": (
        '(0.5, "DivDis fixed"), (0.5, "D-BAT fixed"), UP',
        '(0.5, "DivDis fixed"), (0.5, "D-BAT"), UP',
        tests.test_claims_compare_what_their_sentences_say,
    ),
}
TAGS = ("technique", "experiment")


@pytest.mark.parametrize("mistake", TECHNIQUE | EXPERIMENT)
def test_the_tests_catch(mistake):
    right, wrong, test = (TECHNIQUE | EXPERIMENT)[mistake]
    source = mutants.source_of("diversification", TAGS, IMPORTS)
    mutant = mutants.module_with(source, right, wrong, mistake, tests.given())
    with pytest.raises((AssertionError, ValueError, KeyError, TypeError, IndexError, RuntimeError)):
        test(mutant)
