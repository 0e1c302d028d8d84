"""How labs choose settings and compare arms.

Tests that take the module as their argument are also handed modules with a mistake in them, by
test_protocol_mutations.py.
"""

import types

import numpy as np
import pytest
import torch

from labutils import protocol as package
from labutils.start import start

EXTRA = [1000, 1001, 1002]


@pytest.fixture
def protocol():
    return package


def serial(asked=None):
    """What `measure` uses of a `labutils.start.Lab`; it notes the jobs that it was given."""

    def run(function, jobs, _description):
        if asked is not None:
            asked.extend(jobs)
        return [function(*job) for job in jobs]

    return types.SimpleNamespace(map=run, seeds=(0, 1))


def told(seed, place, settings, split):
    """A score that says what it is the score of."""
    return {
        (arm, *s): f"{place} {arm} {s} {seed} {split}" for arm in settings for s in settings[arm]
    }


def test_every_score_stands_where_its_place_arm_setting_and_seed_say(protocol):
    settings = {"x": {"A": [(1, 2)], "B": [()]}, "y": {"A": [(3, 4), (5, 6)]}}
    found = protocol.measure(serial(), told, {"x": "here", "y": "there"}, settings, (0, 1), "test")
    assert found == {
        "x": {
            ("A", 1, 2): ["here A (1, 2) 0 test", "here A (1, 2) 1 test"],
            ("B",): ["here B () 0 test", "here B () 1 test"],
        },
        "y": {
            ("A", 3, 4): ["there A (3, 4) 0 test", "there A (3, 4) 1 test"],
            ("A", 5, 6): ["there A (5, 6) 0 test", "there A (5, 6) 1 test"],
        },
    }


def test_a_place_and_a_seed_are_one_job_which_scores_all_arms(protocol):
    """So that the arms of a seed share its draw."""
    asked, settings = [], {"x": {"A": [(1,)], "B": [()]}, "y": {"A": [(3,)]}}
    places = {"x": "here", "y": "there"}
    protocol.measure(serial(asked), told, places, settings, iter((7, 3)), "test")
    assert asked == [
        (7, "here", settings["x"], "test"),
        (3, "here", settings["x"], "test"),
        (7, "there", settings["y"], "test"),
        (3, "there", settings["y"], "test"),
    ]


def noisy(seed, place, settings, split):
    """Every arm is the noise of the draw plus its own gain."""
    draw = torch.randn((), generator=torch.Generator().manual_seed(seed)).item()
    return {(arm, *s): 10 * draw + sum(s) for arm in settings for s in settings[arm]}


def test_arms_are_paired_by_their_seed(protocol):
    settings = {"x": {"A": [(1.0,)], "B": [(3.0,)]}}
    found = protocol.measure(serial(), noisy, {"x": None}, settings, range(5), "test")["x"]
    gains = np.subtract(found["B", 3.0], found["A", 1.0])
    assert gains == pytest.approx(2)
    assert np.std(found["A", 1.0]) > 1


def test_the_setting_with_the_best_mean_on_validation_data_of_the_extra_draws_wins(protocol):
    asked = []

    def score(seed, place, settings, split):
        best = {"here": 2, "there": 3}[place]
        sign = -1 if split == "validation" else 1
        return {
            (arm, s): sign * abs(s - best) + seed % 2 for arm in settings for (s,) in settings[arm]
        }

    grids = {"A": [(1,), (2,), (3,)], "B": [(3,), (4,)]}
    found = protocol.tune(serial(asked), score, {"x": "here", "y": "there"}, grids, EXTRA)
    assert found == {"x": {"A": [(2,)], "B": [(3,)]}, "y": {"A": [(3,)], "B": [(3,)]}}
    expected = [(seed, place, "validation") for place in ("here", "there") for seed in EXTRA]
    assert [(seed, place, split) for seed, place, _, split in asked] == expected


def test_the_mean_over_draws_decides_and_not_a_single_one(protocol):
    values = {1: [9, 0, 0], 2: [4, 4, 4], 3: [5, 5, 1]}

    def score(seed, place, settings, split):
        return {("A", s): values[s][seed - 1000] for (s,) in settings["A"]}

    grid = {"A": [(1,), (2,), (3,)]}
    assert protocol.tune(serial(), score, {"x": 0}, grid, EXTRA) == {"x": {"A": [(2,)]}}


def test_of_equally_good_settings_the_first_wins(protocol):
    def score(seed, place, settings, split):
        return {(arm, *s): 1.0 for arm in settings for s in settings[arm]}

    grids = {"A": [(3, 1), (1, 2)], "B": [()]}
    found = protocol.tune(serial(), score, {"x": 0}, grids, EXTRA)
    assert found == {"x": {"A": [(3, 1)], "B": [()]}}


def test_what_was_tuned_can_be_measured(protocol):
    places = {"x": "here", "y": "there"}
    best = protocol.tune(serial(), noisy, places, {"A": [(1.0,), (2.0,)], "B": [()]}, EXTRA)
    found = protocol.measure(serial(), noisy, places, best, (0, 1), "test")
    assert {place: list(scores) for place, scores in found.items()} == {
        "x": [("A", 2.0), ("B",)], "y": [("A", 2.0), ("B",)],
    }  # fmt: skip


def test_side_by_side_and_one_after_the_other_give_the_same(protocol, monkeypatch):
    lab = start("any", {"num_seeds": (1, 1, "", "")}, profile="smoke")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)  # `Lab.map` has two workers then
    settings = {p: {"A": [(1.0,), (2.0,)], "B": [(0.5,)]} for p in ("x", "y")}
    places = dict.fromkeys(settings)
    expected = protocol.measure(serial(), noisy, places, settings, range(4), "test")
    assert protocol.measure(lab, noisy, places, settings, range(4), "test") == expected
