"""How the labs compare: one rule chooses settings, and arms are paired by their seed.

A lab gives a function `score`, called as ``score(seed, place, settings, split)``. A *place* is what
is compared in (a world, a data set, a number of labels; any arguments of the lab's own), *settings*
says which settings each arm is to be run with, ``{arm: [(value, ...), ...]}``, and *split* is
"validation" or "test". It returns ``{(arm, value, ...): score}`` for all of them on one draw, whose
images, labels and initial weights depend on the seed alone, so that the arms of a seed are pairs.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from labutils import checks


def measure(
    lab, score: Callable, places: Mapping, settings: Mapping, seeds: Iterable[int], split: str
) -> dict:
    """Scores of all settings at all places, one job per place and seed.

    lab: what `start` returned; places: {place: the argument of `score`}; settings: {place:
    {arm: [setting]}}. Returns {place: {(arm, *setting): [score of each seed]}}.
    """
    seeds = list(seeds)
    checks.fit("seeds distinct >= 0", seeds)
    if split not in ("validation", "test"):
        raise ValueError(f'split {split!r} is not one of ("validation", "test")')
    jobs = [(seed, places[place], settings[place], split) for place in places for seed in seeds]
    found = iter(lab.map(score, jobs, split))
    rows = {place: [next(found) for _ in seeds] for place in places}
    return {
        place: {key: [row[key] for row in rows[place]] for key in rows[place][0]}
        for place in places
    }


def tune(lab, score: Callable, places: Mapping, grids: Mapping, seeds: Iterable[int]) -> dict:
    """The setting of each arm, at each place, with the best mean on validation data of `seeds`.

    No result may use these seeds. Of equally good settings the first wins. Returns {place: {arm:
    [setting]}}, which `measure` takes.
    """
    found = measure(lab, score, places, dict.fromkeys(places, grids), seeds, "validation")
    best: dict = {place: {} for place in places}
    for place, scores in found.items():
        for arm, *setting in sorted(scores, key=lambda key: -np.mean(scores[key])):
            best[place].setdefault(arm, [tuple(setting)])
    return best
