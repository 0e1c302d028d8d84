"""Plausible mistakes in the cells of the lab on LOOK, each of which a test must catch."""

import functools
import sys
from pathlib import Path

import mutants
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # whatever the import mode of pytest
import test_look as tests

TECHNIQUE = {
    "the image itself among its neighbours": (
        ".masked_fill(own, -torch.inf)",
        "",
        tests.test_look_equals_a_slow_loop_with_sorted,
    ),
    "an own key counts as positive": (
        "(labels[:, None] == bank[1]) & ~own",
        "labels[:, None] == bank[1]",
        tests.test_an_images_own_keys_are_never_among_its_neighbours,
    ),
    "no temperature": (
        "z @ bank[0].T / tau",
        "z @ bank[0].T",
        tests.test_p_is_the_vote_of_sklearns_weighted_neighbours,
    ),
    "the mean of the positives instead of their sum": (
        "return s.logsumexp(1) - s.masked_fill(~positive, -torch.inf).logsumexp(1)",
        "return s.logsumexp(1) - s.masked_fill(~positive, -torch.inf).logsumexp(1)"
        " + positive.sum(1).log()",
        tests.test_with_equal_features_p_is_the_share_of_positives,
    ),
    "the negatives alone in the denominator": (
        "return s.logsumexp(1) -",
        "return s.masked_fill(positive, -torch.inf).logsumexp(1) -",
        tests.test_one_label_costs_nothing_and_labels_that_all_differ_cost_infinitely_much,
    ),
    "the furthest images instead of the nearest": (
        "s.topk(k, dim=1)",
        "s.topk(k, dim=1, largest=False)",
        tests.test_look_equals_a_slow_loop_with_sorted,
    ),
    "all positives, also the far ones": (
        "return nca(near, positive.gather(1, places))",
        "return near.logsumexp(1) - s.masked_fill(~positive, -torch.inf).logsumexp(1)",
        tests.test_images_beyond_the_k_nearest_do_not_exist,
    ),
    "labels in the wrong order": (
        "positive.gather(1, places)",
        "positive[:, :k]",
        tests.test_look_equals_a_slow_loop_with_sorted,
    ),
    "a bank that is too small goes unnoticed": (
        "s.topk(k, dim=1)",
        "s.topk(min(k, s.shape[1]), dim=1)",
        tests.test_more_neighbours_than_the_bank_has_are_refused,
    ),
    "a mean over all images in SupCon": (
        ".sum(1) / positive.sum(1)",
        ".mean(1)",
        tests.test_supcon_equals_a_slow_loop,
    ),
    "the youngest keys leave": (
        "torch.cat([old[len(fresh) :], fresh])",
        "torch.cat([old[: -len(fresh)], fresh])",
        tests.test_the_queue_holds_the_last_keys_in_their_order,
    ),
    "keys of any length": (
        "push(queue, (F.normalize(slow(x)),",
        "push(queue, (slow(x),",
        tests.test_the_slow_network_follows_and_its_keys_enter_with_length_one,
    ),
    "the network follows the slow one": (
        "torch._foreach_lerp_([*slow.parameters()], [*net.parameters()], 1 - momentum)",
        "torch._foreach_lerp_([*net.parameters()], [*slow.parameters()], 1 - momentum)",
        tests.test_the_slow_network_follows_and_its_keys_enter_with_length_one,
    ),
    "momentum the wrong way round": (
        "1 - momentum)",
        "momentum)",
        tests.test_the_slow_network_follows_and_its_keys_enter_with_length_one,
    ),
    "dead images pull the mean down": (
        "/ living.sum().clamp(min=1)",
        "/ len(losses)",
        tests.test_dead_images_give_no_gradient_and_the_others_their_mean,
    ),
}


@functools.cache
def on_a_world(test):
    """The test on a draw of the module itself."""
    return lambda module: test(module, module.draw(3))


@functools.cache
def with_wide_grids(test):
    """The test on a module with the grids of `small`, as the mistake makes them."""

    def run(module):
        wide = mutants.module_with(*module.made_of, tests.given(**tests.WIDE))
        test(wide)

    return run


EXPERIMENT = {
    "settings chosen on the test images": (
        "asked = world.dataset.train, getattr(world.dataset, split)",
        "asked = world.dataset.train, world.dataset.test",
        on_a_world(tests.test_validation_tells_the_four_groups_and_never_looks_at_test_images),
    ),
    "settings chosen by the ten classes": (
        'found = {"four groups": right_by_neighbours(X, GROUPS[y], T, GROUPS[t])}',
        'found = {"ten classes": right_by_neighbours(X, y, T, t)}',
        on_a_world(tests.test_validation_tells_the_four_groups_and_never_looks_at_test_images),
    ),
    "settings chosen on the draws of the results": (
        "GROUPS}, rates, S.tuning_seeds)",
        "GROUPS}, rates, lab.seeds)",
        with_wide_grids(tests.test_settings_are_the_best_on_validation_images_of_the_extra_draws),
    ),
    "rates tried for the method alone": (
        "for rate in S.rates]",
        'for rate in (S.rates if arm == "LOOK" else S.rates[:1])]',
        with_wide_grids(tests.test_every_arm_tries_as_many_rates_and_as_many_temperatures),
    ),
    "the rivals keep a fixed temperature": (
        "TAUS = [(tau,) for tau in S.taus]",
        "TAUS = [(S.taus[0],)]",
        with_wide_grids(tests.test_every_arm_tries_as_many_rates_and_as_many_temperatures),
    ),
    "the first rate, whatever was chosen": (
        "(best[arm][0][0], *knob)",
        "(S.rates[1], *knob)",
        with_wide_grids(tests.test_settings_are_the_best_on_validation_images_of_the_extra_draws),
    ),
    "pretraining on the ten classes": (
        "groups[world.dataset.train.labels].to(lab.device)",
        "world.dataset.train.labels.to(lab.device)",
        on_a_world(tests.test_the_ten_classes_are_never_seen_upstream),
    ),
    "SimCLR sees labels": (
        "return nca(*compare(z, owners, each, (z, owners, each), tau))",
        "return nca(*compare(z, labels, each, (z, labels, each), tau))",
        on_a_world(tests.test_the_ten_classes_are_never_seen_upstream),
    ),
    "SupCon without the other view": (
        "return supcon(*compare(z, labels, each, (z, labels, each), tau))",
        "return supcon(*compare(z, labels, owners, (z, labels, owners), tau))",
        tests.test_supcon_counts_the_other_view_and_look_does_not,
    ),
    "LOOK sees its own other view": (
        "s, positive = compare(z, labels, owners, bank, tau)",
        "s, positive = compare(z, labels, each, (*bank[:2], each), tau)",
        tests.test_supcon_counts_the_other_view_and_look_does_not,
    ),
    "NCA cut at k, too": (
        'return nca(s, positive) if arm == "NCA" else look(s, positive, k)',
        "return look(s, positive, k or 4)",
        tests.test_look_and_nca_ask_the_queue_and_lengths_do_not_matter,
    ),
    "features of any length": (
        "    z = F.normalize(out)\n",
        "    z = out\n",
        tests.test_look_and_nca_ask_the_queue_and_lengths_do_not_matter,
    ),
    "a head for cross-entropy, too": (
        'first = [] if arm in ("cross-entropy", "ceiling") else',
        'first = [] if arm == "ceiling" else',
        on_a_world(tests.arms_are_treated_alike),
    ),
    "no head for the control": (
        'first = [] if arm in ("cross-entropy", "ceiling") else',
        "first = [] if arm in CLASSIFIERS else",
        on_a_world(tests.arms_are_treated_alike),
    ),
    "LOOK takes more steps": (
        "train(net, step_loss, S.num_steps, optimizer",
        'train(net, step_loss, S.num_steps * (1 + (arm == "LOOK")), optimizer',
        on_a_world(tests.arms_are_treated_alike),
    ),
    "LOOK has other initial weights": (
        "generator = lab.streams(world.seed).initialisation",
        'generator = lab.streams(world.seed + (arm == "LOOK")).initialisation',
        on_a_world(tests.arms_are_treated_alike),
    ),
    "keys of the first views": (
        "refresh(slow, net, queue, x[half:], labels[rows], rows, 0.99)",
        "refresh(slow, net, queue, x[:half], labels[rows], rows, 0.99)",
        on_a_world(tests.step_fills_the_queue),
    ),
    "keys without owners": (
        "x[half:], labels[rows], rows, 0.99)",
        "x[half:], labels[rows], 0 * rows, 0.99)",
        on_a_world(tests.step_fills_the_queue),
    ),
    "both views in one": (
        "torch.cat(views.two_views(images[r], RECIPE, streams.augmentation))",
        "views.random_view(images[r], RECIPE, streams.augmentation).repeat(2, 1, 1, 1)",
        tests.test_a_draw_has_different_images_each_step_and_two_views_of_each,
    ),
    "the same images for every seed": (
        "streams, total = lab.streams(seed),",
        "streams, total = lab.streams(0),",
        tests.test_a_draw_has_different_images_each_step_and_two_views_of_each,
    ),
    "variance around one mean": (
        "left = sum((z[groups == g] - z[groups == g].mean(0))",
        "left = sum((z[groups == g] - z.mean(0))",
        tests.test_variance_inside_is_what_analysis_of_variance_says,
    ),
    "neighbours by distance of raw features": (
        "fit(F.normalize(known).numpy(), labels.numpy())",
        "fit(known.numpy(), labels.numpy())",
        tests.test_twenty_neighbours_vote_by_cosine,
    ),
    "the claim on variance asked of accuracy": (
        '"LOOK", CE, "inside", "paper"',
        '"LOOK", CE, TEN, "paper"',
        tests.test_claims_are_those_that_were_fixed,
    ),
    "our control called the paper's": (
        '"LOOK", HEAD, TEN, "ours"',
        '"LOOK", HEAD, TEN, "paper"',
        tests.test_claims_are_those_that_were_fixed,
    ),
}
IMPORTS = """
import copy
from types import SimpleNamespace
import numpy as np
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from labutils import augment, data, models
from labutils.augment import views
from labutils.evaluation import accuracy, frozen_features, linear_probe
from labutils.protocol import measure, tune
from labutils.training import cosine_schedule, train
"""


@pytest.fixture(scope="module")
def source():
    return mutants.source_of("look", tests.TAGS, IMPORTS)


def made(source, right, wrong, mistake):
    return mutants.module_with(source, right, wrong, mistake, tests.given())


@pytest.mark.parametrize("mistake", [*TECHNIQUE, *EXPERIMENT])
def test_mistake_is_caught(source, mistake):
    right, wrong, test = (TECHNIQUE | EXPERIMENT)[mistake]
    module = made(source, right, wrong, mistake)
    with pytest.raises(mutants.CAUGHT):
        test(module)


@pytest.mark.parametrize(
    "test", dict.fromkeys(test for _, _, test in (TECHNIQUE | EXPERIMENT).values())
)
def test_without_a_mistake_nothing_is_caught(source, test):
    test(made(source, "def nca(", "def nca(", "no mistake"))
