"""Plausible mistakes in the cells of the lab on T-JEPA, each of which a test must catch."""

import functools
import sys
from pathlib import Path

import mutants
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # whatever the import mode of pytest
import test_t_jepa as tests

TECHNIQUE = {
    "targets out of the context": (
        "C, rest = order[:, :num_context], order[:, num_context:]",
        "C, rest = order[:, :num_context], order[:, :-num_context]",
        functools.partial(
            tests.test_context_and_targets_are_disjoint_columns_without_repetition, D=18
        ),
    ),
    "all target sets the same": (
        "keys = torch.rand(num_rows, num_targets, rest.shape[1], generator=generator)",
        "keys = torch.rand(num_rows, 1, rest.shape[1], generator=generator)"
        ".repeat(1, num_targets, 1)",
        tests.test_every_column_is_drawn_equally_often_and_the_sets_of_a_row_differ,
    ),
    "one context for all rows": (
        "order = torch.rand(num_rows, D, generator=generator).argsort(1)",
        "order = torch.rand(1, D, generator=generator).argsort(1).repeat(num_rows, 1)",
        tests.test_every_column_is_drawn_equally_often_and_the_sets_of_a_row_differ,
    ),
    "the official off by one": (
        "return F.pad(C + 1, (1, 0)), T + 1",
        "return F.pad(C, (1, 0)), T",
        tests.test_behind_a_token_column_j_is_at_place_j_plus_one,
    ),
    "the token behind the columns": (
        "torch.cat([self.r.expand(len(x), -1, -1), tokens], 1) + self.p",
        "torch.cat([tokens, self.r.expand(len(x), -1, -1)], 1) + self.p",
        tests.test_the_encoder_sees_the_columns_at_the_places_and_no_others,
    ),
    "hidden columns are attended": (
        "return self.layers(tokens if places is None else pick(tokens, places))",
        "return self.layers(tokens) if places is None else pick(self.layers(tokens), places)",
        tests.test_the_encoder_sees_the_columns_at_the_places_and_no_others,
    ),
    "the encoder knows no places": (
        "tokens], 1) + self.p",
        "tokens], 1)",
        tests.test_the_token_of_a_column_is_its_value_times_a_vector_plus_two,
    ),
    "the predictor does not know the places of the context": (
        "(self.enter(z) + self.p[C])",
        "self.enter(z)",
        tests.test_the_predictor_knows_places_and_each_set_alone,
    ),
    "all wanted places look the same": (
        "self.mask + self.p[T]], 2)",
        "(self.mask + 0 * self.p[T])], 2)",
        tests.test_the_predictor_knows_places_and_each_set_alone,
    ),
    "vectors of the context instead of the predictions": (
        "[:, -T.shape[2] :]",
        "[:, : T.shape[2]]",
        tests.test_the_predictor_knows_places_and_each_set_alone,
    ),
    "targets from the context encoder": (
        "wanted = pick(slow(x), T)",
        "wanted = pick(encoder(x), T)",
        tests.loss_is_the_double_sum,
    ),
    "the slow encoder sees the wanted columns alone": (
        "wanted = pick(slow(x), T)",
        "wanted = torch.stack([slow(x, places) for places in T.unbind(1)], 1)",
        tests.loss_is_the_double_sum,
    ),
    "a gradient into the slow encoder": (
        "    with torch.no_grad():\n        wanted = pick(slow(x), T)",
        "    wanted = pick(slow(x), T)",
        tests.slow_encoder_gets_no_gradient,
    ),
    "the encoder follows the slow one": (
        "old.lerp_(new, 1 - momentum)",
        "new.lerp_(old, 1 - momentum)",
        tests.test_the_slow_encoder_follows_by_its_momentum,
    ),
    "momentum the wrong way round": (
        "old.lerp_(new, 1 - momentum)",
        "old.lerp_(new, momentum)",
        tests.test_the_slow_encoder_follows_by_its_momentum,
    ),
    "the mean counts as a direction": (
        "(features - features.mean(0)).double()",
        "features.double()",
        tests.test_effective_rank_counts_directions,
    ),
    "singular values that are not squared": (
        ".double()).square()",
        ".double())",
        tests.test_effective_rank_counts_directions,
    ),
}


@functools.cache
def on_a_world(test, *more):
    """The test on a draw of the module itself."""
    return lambda module: test(module, module.draw(3, "breast cancer"), *more)


@functools.cache
def with_changes(test, **changes):
    """The test on a module with other settings, as the mistake makes them."""

    def run(module):
        test(mutants.module_with(*module.made_of, tests.given(**changes)))

    return run


def with_wide_grids(test):
    return with_changes(test, **{k: tuple(v) for k, v in tests.WIDE.items()})


EXPERIMENT = {
    "settings chosen on the test rows": (
        "made(arm, rate)[S.num_steps], world.parts[split]",
        'made(arm, rate)[S.num_steps], world.parts["test"]',
        tests.validation_never_looks_at_test_rows,
    ),
    "pretraining on all rows": (
        "world.x[: world.num_known]",
        "world.x[-world.num_known :]",
        tests.validation_never_looks_at_test_rows,
    ),
    "batches of all rows": (
        "rows = torch.randint(n, (S.num_steps,",
        "rows = torch.randint(len(X), (S.num_steps,",
        tests.draw_keeps_its_parts_apart,
    ),
    "quantiles of all rows": (
        "quantiles.fit(X[order[:n]])",
        "quantiles.fit(X[order])",
        tests.columns_are_quantiles_of_training_rows,
    ),
    "labels of any rows": (
        "data.few_labels(y[:n], k, streams.split)",
        "data.few_labels(y, k, streams.split)",
        tests.draw_keeps_its_parts_apart,
    ),
    "the same masks for every seed": (
        "draw_masks(rows.numel(), D, *sizes, streams.sampling)",
        "draw_masks(rows.numel(), D, *sizes, lab.streams(0).augmentation)",
        tests.draw_keeps_its_parts_apart,
    ),
    "T-JEPA has other initial weights": (
        "torch.manual_seed(world.weights)",
        'torch.manual_seed(world.weights + (arm == "T-JEPA"))',
        on_a_world(tests.arms_are_treated_alike),
    ),
    "T-JEPA takes more steps": (
        "train(both, step_loss, S.num_steps, optimizer",
        'train(both, step_loss, S.num_steps * (1 + (arm == "T-JEPA")), optimizer',
        on_a_world(tests.arms_are_treated_alike),
    ),
    "the predictor is not trained": (
        "torch.optim.Adam(both.parameters(), rate",
        "torch.optim.Adam(encoder.parameters(), rate",
        on_a_world(tests.arms_are_treated_alike),
    ),
    "the momentum does not rise": (
        "torch.linspace(S.momentum, 1, S.num_steps)",
        "torch.linspace(S.momentum, S.momentum, S.num_steps)",
        on_a_world(tests.arms_are_treated_alike),
    ),
    "shuffled columns are not used": (
        'x = world.shuffled if arm == "shuffled" else',
        'x = world.shuffled if arm == "shuffle" else',
        on_a_world(tests.loss_of_a_step_is_that_of_its_arm, "shuffled"),
    ),
    "the token is masked in all arms": (
        'if arm != "no token":',
        'if arm not in ("no token", "T-JEPA"):',
        on_a_world(tests.loss_of_a_step_is_that_of_its_arm, "T-JEPA"),
    ),
    "values of the wrong columns": (
        "        hidden = pick(x[rows].unsqueeze(2), T)\n",
        "        hidden = pick(x[rows].unsqueeze(2), (T + 1) % x.shape[1])\n",
        on_a_world(tests.loss_of_a_step_is_that_of_its_arm, "values"),
    ),
    "features of the fast encoder": (
        "frozen_features(slow, world.x)",
        "frozen_features(encoder, world.x)",
        on_a_world(tests.features_are_the_slow_encoders),
    ),
    "the mean of the tokens": (
        "found[step] = frozen_features(slow, world.x).flatten(1).cpu()",
        "found[step] = frozen_features(slow, world.x).mean(1).cpu()",
        on_a_world(tests.features_are_the_slow_encoders),
    ),
    "another network as the untrained one": (
        "networks(arm, world)[0], world.x)",
        'networks("no token", world)[0], world.x)',
        on_a_world(tests.untrained_is_step_zero),
    ),
    "one draw of labels counts": (
        "for rows in draws]",
        "for rows in draws[:1]]",
        with_changes(tests.score_is_the_mean, label_draws=3),
    ),
    "one penalty for all numbers of labels": (
        "for pair in zip(S.per_class, knobs)]",
        "for pair in zip(S.per_class, knobs[:1] * 2)]",
        with_changes(tests.score_is_the_mean, label_draws=3),
    ),
    "the worst setting is chosen": (
        "best = tune(lab, score, places, GRIDS, S.tuning_seeds)",
        "best = tune(lab, lambda *a: {k: -v for k, v in score(*a).items()}, places, GRIDS,"
        " S.tuning_seeds)",
        with_wide_grids(tests.settings_are_the_best_on_validation_rows),
    ),
    "settings chosen on the draws of the results": (
        "GRIDS, S.tuning_seeds)",
        "GRIDS, lab.seeds)",
        with_wide_grids(tests.settings_are_the_best_on_validation_rows),
    ),
    "one rate for the rival": (
        'GRIDS["trees"] =',
        'GRIDS["values"] = GRIDS["T-JEPA"][:1]\nGRIDS["trees"] =',
        with_wide_grids(tests.every_arm_tries_as_much),
    ),
    "a single penalty for the untrained encoder": (
        'GRIDS["trees"] =',
        'GRIDS["untrained"] = GRIDS["untrained"][:1]\nGRIDS["trees"] =',
        with_wide_grids(tests.every_arm_tries_as_much),
    ),
    "the claim on rank asked of accuracy": (
        '"T-JEPA", "no token", "rank"',
        '"T-JEPA", "no token", "few"',
        tests.test_claims_are_those_that_were_fixed,
    ),
    "our control called the paper's": (
        '"T-JEPA", "untrained", "few", "ours", False',
        '"T-JEPA", "untrained", "few", "paper", False',
        tests.test_claims_are_those_that_were_fixed,
    ),
}
IMPORTS = """
import copy
import functools
from types import SimpleNamespace
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.preprocessing import QuantileTransformer
from labutils import data
from labutils.data.download import ASSETS
from labutils.evaluation import accuracy, frozen_features, linear_probe
from labutils.protocol import measure, tune
from labutils.training import cosine_schedule, train
"""


@pytest.fixture(scope="module")
def source():
    return mutants.source_of("t-jepa", tests.TAGS, IMPORTS)


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
    test(made(source, "def pick(", "def pick(", "no mistake"))
