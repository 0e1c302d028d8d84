"""Plausible mistakes in the protocol of the labs, each of which a test must catch."""

import inspect
import sys
from pathlib import Path

import mutants
import pytest

from labutils import protocol

sys.path.insert(0, str(Path(__file__).parent))  # whatever the import mode of pytest
import test_protocol as tests

best_mean = tests.test_the_setting_with_the_best_mean_on_validation_data_of_the_extra_draws_wins
MISTAKES = {
    "tuned on test data": ('seeds, "validation")', 'seeds, "test")', best_mean),
    "tuned on the draws of the results": (
        'dict.fromkeys(places, grids), seeds, "validation")',
        'dict.fromkeys(places, grids), lab.seeds, "validation")',
        best_mean,
    ),
    "the best single draw decides": (
        "-np.mean(scores[key])",
        "-np.max(scores[key])",
        tests.test_the_mean_over_draws_decides_and_not_a_single_one,
    ),
    "the worst setting is taken": ("-np.mean(scores[key])", "np.mean(scores[key])", best_mean),
    "of equal settings the last wins": (
        "best[place].setdefault(arm, [tuple(setting)])",
        "if np.mean(scores[arm, *setting]) >= max(np.mean(scores[k]) for k in scores "
        "if k[0] == arm): best[place][arm] = [tuple(setting)]",
        tests.test_of_equally_good_settings_the_first_wins,
    ),
    "scores of another place": (
        "for place in places for seed in seeds]",
        "for seed in seeds for place in places]",
        tests.test_every_score_stands_where_its_place_arm_setting_and_seed_say,
    ),
    "settings of one place for all": (
        "settings[place], split)",
        "settings[next(iter(places))], split)",
        tests.test_every_score_stands_where_its_place_arm_setting_and_seed_say,
    ),
    "the first seed for all": (
        "[row[key] for row in rows[place]]",
        "[rows[place][0][key] for row in rows[place]]",
        tests.test_arms_are_paired_by_their_seed,
    ),
    "results on validation data": (
        "settings[place], split)",
        'settings[place], "validation")',
        tests.test_every_score_stands_where_its_place_arm_setting_and_seed_say,
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_caught(mistake):
    right, wrong, test = MISTAKES[mistake]
    mutant = mutants.module_with(inspect.getsource(protocol), right, wrong, mistake, {})
    with pytest.raises((AssertionError, KeyError)):
        test(mutant)
