"""Plausible mistakes in the cells of the lab on SimCore, each of which a test must catch."""

import functools
import sys
from pathlib import Path

import mutants
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # whatever the import mode of pytest
import test_simcore as tests


@functools.cache
def on_a_world(test):
    """The test on a draw of the module itself, and where it asks, on what that module chooses."""

    def run(module):
        world = module.draw(3)
        names = test.__code__.co_varnames[: test.__code__.co_argcount]
        arguments = {"lab": module, "world": world}
        if "look" in names:
            arguments["look"] = tests.what_is_chosen(module)
        test(*(arguments[name] for name in names))

    return run


@functools.cache
def with_wide_grids(test):
    """The test on a module with more rates and draws, as the mistake makes them."""
    return lambda module: test(mutants.module_with(*module.made_of, tests.given(**tests.WIDE)))


TECHNIQUE = {
    "images are taken again": (
        "left[:, best] = -torch.inf",
        "pass",
        tests.test_no_image_is_taken_in_two_rounds_but_two_centres_may_share_one,
    ),
    "a centre's image is gone for that centre alone": (
        "left[:, best] = -torch.inf",
        "left[range(len(best)), best] = -torch.inf",
        tests.test_rounds_equal_a_slow_loop,
    ),
    "an image counts for each centre that takes it": (
        "chosen += dict.fromkeys(best.tolist())",
        "chosen += best.tolist()",
        tests.test_rounds_equal_a_slow_loop,
    ),
    "the images of a round in the order of the pool": (
        "chosen += dict.fromkeys(best.tolist())",
        "chosen += best.unique().tolist()",
        tests.test_another_order_of_the_pool_permutes_the_choice_and_a_scale_changes_nothing,
    ),
    "the farthest images": (
        "best = left.argmax(1)",
        "best = left.argmin(1)",
        tests.test_one_centre_takes_the_nearest_images,
    ),
    "the rule looks back one round too far": (
        "ratio * values[patience - 1]",
        "ratio * values[patience - 2]",
        tests.test_a_hand_case_of_the_rule,
    ),
    "the rule compares with the first round": (
        "ratio * values[patience - 1]",
        "ratio * values[0]",
        tests.test_a_hand_case_of_the_rule,
    ),
    "the rule stops one round late": (
        "and values[-1] < ratio",
        "and values[-2] < ratio",
        tests.test_a_hand_case_of_the_rule,
    ),
    "the caller's table is changed": (
        "left, chosen, takes, values = similarity.clone(),",
        "left, chosen, takes, values = similarity,",
        tests.test_the_table_is_left_as_it_was,
    ),
    "centres of any length": (
        "return F.normalize(torch.from_numpy(means))",
        "return torch.from_numpy(means)",
        tests.test_centres_are_those_of_sklearn_on_unit_features_and_have_length_one,
    ),
    "clusters of features of any length": (
        "    z = F.normalize(features)\n    if len(z) <= number",
        "    z = features\n    if len(z) <= number",
        tests.test_centres_are_those_of_sklearn_on_unit_features_and_have_length_one,
    ),
    "the same centres for every seed": (
        "random_state=seed",
        "random_state=0",
        tests.test_another_seed_draws_other_centres,
    ),
    "the mean of similarities instead of the largest": (
        "similarity[:, chosen].max(1).values.sum()",
        "similarity[:, chosen].mean(1).sum()",
        tests.test_facility_equals_a_slow_sum,
    ),
    "a view may find itself": (
        "(z @ z.T / tau).fill_diagonal_(-torch.inf)",
        "(z @ z.T / tau)",
        tests.test_simclr_equals_a_slow_loop,
    ),
}
EXPERIMENT = {
    "the target is among the relatives": (
        "target, relatives, known = order[ours][: sum(sizes)].split(sizes)",
        "_, relatives, known = order[ours][: sum(sizes)].split(sizes)\n    target = relatives",
        on_a_world(tests.no_image_twice),
    ),
    "the target has all classes": (
        "target, relatives, known = order[ours][: sum(sizes)].split(sizes)",
        "target, relatives, known = order[: sum(sizes)].split(sizes)",
        on_a_world(tests.draw_has_the_kinds),
    ),
    "the kinds are not mixed with the images": (
        "kinds = torch.arange(3).repeat_interleave(torch.tensor(S.pool))[mixed]",
        "kinds = torch.arange(3).repeat_interleave(torch.tensor(S.pool))",
        on_a_world(tests.draw_has_the_kinds),
    ),
    "emoji on white": (
        "emoji.on_background(drawn, (0, 0, 0))",
        "emoji.on_background(drawn, (255, 255, 255))",
        tests.test_emoji_are_on_black_in_grey_as_pillow_makes_them,
    ),
    "larger sets take more steps": (
        "total = images.to(lab.device), len(images), S.num_steps * S.batch_size",
        "total = images.to(lab.device), len(images), len(images) * S.num_steps * S.batch_size",
        on_a_world(tests.arms_are_treated_alike),
    ),
    "larger sets start elsewhere": (
        "streams, net = lab.streams(world.seed), fresh(world.seed)",
        "streams, net = lab.streams(world.seed), fresh(world.seed + (n > S.target))",
        on_a_world(tests.arms_are_treated_alike),
    ),
    "larger sets have a larger rate": (
        "cosine_schedule(rate, S.num_steps,",
        "cosine_schedule(rate * (1 + (n > S.target)), S.num_steps,",
        on_a_world(tests.arms_are_treated_alike),
    ),
    "both views are one": (
        "torch.stack(views.two_views(images[r.flatten()], RECIPE, streams.augmentation))",
        "torch.stack(2 * [views.two_views(images[r.flatten()], RECIPE, streams.augmentation)[0]])",
        on_a_world(tests.test_the_loss_of_a_step_is_simclr_of_two_views),
    ),
    "views of other steps": (
        "pair.transpose(0, 1).flatten(1, 2)",
        "pair.flatten(0, 1).unflatten(0, (-1, 2)).flatten(1, 2)",
        on_a_world(tests.test_the_loss_of_a_step_is_simclr_of_two_views),
    ),
    "the network that chooses saw the pool": (
        "pretrain(world, world.target, S.retrieval_rate)",
        "pretrain(world, world.pool, S.retrieval_rate)",
        on_a_world(tests.ways_are_what_they_say),
    ),
    "the network that chooses is not trained": (
        "unit_features(pretrain(world, world.target, S.retrieval_rate), world)",
        "unit_features(fresh(seed), world)",
        on_a_world(tests.ways_are_what_they_say),
    ),
    "SimCore may take more": (
        'found["SimCore"], takes = rounds(table, S.budget)',
        'found["SimCore"], takes = rounds(table, 2 * S.budget)',
        on_a_world(tests.choices_are_equally_large),
    ),
    "SimCore sees the kinds": (
        "table, U = centres @ u.T, len(u)",
        "table, U = centres @ u.T - (world.kinds == 2), len(u)",
        on_a_world(tests.kinds_are_unseen),
    ),
    "the nearest in the mean are the nearest to any": (
        'found["nearest in the mean"] = table.mean(0)',
        'found["nearest in the mean"] = table.amax(0)',
        on_a_world(tests.ways_are_what_they_say),
    ),
    "the perfect choice is any garment": (
        "found[KINDS[kind]] = (world.kinds == kind)",
        "found[KINDS[kind]] = (world.kinds <= kind)",
        on_a_world(tests.choices_are_equally_large),
    ),
    "the pool without relatives has them": (
        '"without": world.kinds > 0',
        '"without": world.kinds >= 0',
        on_a_world(tests.test_the_rules_are_counted_on_the_pool_that_is_left),
    ),
    "settings chosen on the test images": (
        "for x, y in (world.known, vars(world)[split]))",
        "for x, y in (world.known, world.test))",
        on_a_world(tests.validation_looks_at_validation),
    ),
    "the strength of the probe chosen on test images": (
        "max(probes, key=lambda probe: accuracy(probe(V), v))",
        "max(probes, key=lambda probe: accuracy(probe(T), t))",
        on_a_world(tests.strength_is_chosen),
    ),
    "neighbours by distance of raw features": (
        "KNeighborsClassifier(20).fit(F.normalize(X).numpy(), y.numpy())",
        "KNeighborsClassifier(20).fit(X.numpy(), y.numpy())",
        on_a_world(tests.neighbours_vote),
    ),
    "the coreset without the target": (
        "torch.cat([world.target, world.pool[choices[seed][arm]]])",
        "world.pool[choices[seed][arm]]",
        on_a_world(tests.arms_see_their_choice),
    ),
    "the rate of SimCore's choosing": (
        "for a in ARMS for row in found[a, r]",
        "for a in ARMS[:1] for row in found[a, r]",
        with_wide_grids(tests.rate_is_chosen),
    ),
    "the rate chosen on the draws of the results": (
        'S.tuning_seeds, "validation"',
        'lab.seeds, "validation"',
        with_wide_grids(tests.rate_is_chosen),
    ),
    "the rate chosen on test images": (
        'S.tuning_seeds, "validation"',
        'S.tuning_seeds, "test"',
        with_wide_grids(tests.rate_is_chosen),
    ),
    "our control called the paper's": (
        '"relatives", "random", RIGHT, "greater", 0, "ours"',
        '"relatives", "random", RIGHT, "greater", 0, "paper"',
        tests.test_claims_are_those_that_were_fixed,
    ),
}
IMPORTS = """
from types import SimpleNamespace
import numpy as np
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from labutils import augment, data, models
from labutils.augment import views
from labutils.data import emoji
from labutils.evaluation import accuracy, frozen_features, linear_probe
from labutils.protocol import measure
from labutils.shipped import simclr_encoder
from labutils.training import cosine_schedule, train
"""


@pytest.fixture(scope="module")
def source():
    return mutants.source_of("simcore", tests.TAGS, IMPORTS)


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
    test(made(source, "def rounds(", "def rounds(", "no mistake"))
