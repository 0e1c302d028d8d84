"""FixMatch with a larger network and longer training than the chapter's small profile has time for.

The chapter's own code, forty labels of Fashion-MNIST and the same ten label draws, but a residual
network, half as many steps again and more unlabelled images in a step; without distribution
alignment and with it. Their rival, the labelled images with strong augmentation, gets the same
network and steps, and each of the three chooses between two settings on validation images of two
further draws.

Run ``python -m studies.fixmatch_longer`` (about an hour on two cores). Finished runs are kept
in ``fixmatch_longer.json`` beside this file; a run that was stopped goes on. It writes the table of
the chapter's page.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import platform
import types
from datetime import UTC, datetime
from pathlib import Path

import joblib
import numpy as np
import torch
from tqdm.auto import tqdm

from labutils.start import start
from labutils.statistics import mean_interval
from press import staleness, technique

HERE = Path(__file__).parent
RESULT = HERE / "fixmatch_longer.json"
TABLE = HERE.parent / "book" / "generated" / "fixmatch_longer.md"

CHAPTER = "fixmatch-saa"
SETTINGS = {
    "model": "resnet-16-32-64", "num_steps": 3_000, "batch_size": 32, "unlabelled_ratio": 4,
    "num_points": 6,
}  # fmt: skip
RIVAL, METHODS = "supervised strong", ("FixMatch", "aligned FixMatch")
HOPED_FOR = 4.0  # gain in points
CHOICES = {  # (learning rate, weight decay, threshold)
    RIVAL: ((0.1, 5e-4, None), (0.1, 2e-3, None)),
    **dict.fromkeys(METHODS, ((0.1, 5e-4, 0.95), (0.1, 5e-4, 0.8))),
}
TUNING_DRAWS, DRAWS = (1009, 1010), tuple(range(10))


def experiment(profile: str, **changes) -> types.ModuleType:
    """Technique and experiment cells of the chapter.

    profile: whose settings `S` has; changes: settings that differ.
    """
    settings = technique.settings(CHAPTER, profile) | changes
    rows = {name: (value, value, value, "", "") for name, value in settings.items()}
    lab = start(CHAPTER, rows, profile=profile)
    given = {"lab": lab, "S": lab.settings}
    return technique.load(CHAPTER, tags=("technique", "experiment"), given=given)


@functools.cache
def prepared(profile: str, changes: str) -> types.ModuleType:
    os.environ["LABUTILS_PROFILE"] = profile
    module = experiment(profile, **json.loads(changes))
    torch.set_num_threads(1)
    return module


def run(profile: str, changes: str, arm: str, draw: int, choice: tuple, evaluated: str) -> dict:
    """One training of one arm on one draw: accuracy in percent and seconds."""
    module = prepared(profile, changes)
    task = module.load_task(draw, module.S.labels_per_class)
    row = module.run_arm(task, arm, choice, evaluated)
    return {"accuracy": row["accuracy"], "seconds": row["seconds"]}


def run_all(jobs: list[tuple], known: dict, profile: str, settings: dict, keep) -> dict:
    """{job's name: result}; known ones are not run again, new ones are handed to `keep`."""
    left = [job for job in jobs if json.dumps(job) not in known]
    parallel = joblib.Parallel(n_jobs=os.cpu_count(), return_as="generator", batch_size=1)
    changes = json.dumps(settings)
    outcomes = parallel(joblib.delayed(run)(profile, changes, *job) for job in left)
    for job, outcome in zip(left, tqdm(outcomes, total=len(left)), strict=True):
        known[json.dumps(job)] = outcome
        keep()
    return {job: known[json.dumps(job)] for job in jobs}


def study(profile="small", settings=SETTINGS, tuning=TUNING_DRAWS, draws=DRAWS, stored=None,
          keep=lambda result: None) -> dict:  # fmt: skip
    """Choose on validation images, then compare on test images, draw by draw."""
    code = staleness.fingerprint(CHAPTER)
    asked = {"settings": settings, "choices": {k: list(map(list, v)) for k, v in CHOICES.items()}}
    known = stored["runs"] if stored and stored["code"] == code and stored["asked"] == asked else {}
    result = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"), "code": code, "asked": asked,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores", "torch": torch.__version__,
        "runs": known,
    }  # fmt: skip
    jobs = [
        (arm, draw, choice, "validation")
        for arm in reversed(CHOICES) for choice in CHOICES[arm] for draw in tuning
    ]  # fmt: skip
    tried = run_all(jobs, known, profile, settings, lambda: keep(result))
    result["tuning"] = {
        arm: [np.mean([tried[arm, draw, choice, "validation"]["accuracy"] for draw in tuning])
              for choice in CHOICES[arm]]
        for arm in CHOICES
    }  # fmt: skip
    chosen = {arm: CHOICES[arm][int(np.argmax(found))] for arm, found in result["tuning"].items()}
    jobs = [(arm, draw, chosen[arm], "test") for draw in draws for arm in reversed(CHOICES)]
    found = run_all(jobs, known, profile, settings, lambda: keep(result))
    result["chosen"] = chosen
    for column in ("accuracy", "seconds"):
        result[column] = {
            arm: [found[arm, draw, chosen[arm], "test"][column] for draw in draws]
            for arm in CHOICES
        }
    return result


def table(result: dict) -> str:
    """The table of the chapter's page, in Markdown."""

    def cell(values, form=".1f"):
        found = mean_interval(values)
        return f"{found.mean:{form}} [{found.low:{form}}, {found.high:{form}}]"

    asked, accuracy = result["asked"]["settings"], result["accuracy"]
    lines = [
        f"| arm | weight decay | threshold | test accuracy (%) | minus {RIVAL} | seconds |",
        "|---|---|---|---|---|---|",
    ]
    gains = {}
    for arm in CHOICES:
        _, decay, threshold = result["chosen"][arm]
        shown, seconds, gain = f"{threshold or ''}", np.mean(result["seconds"][arm]), ""
        if arm in METHODS:
            gains[arm] = np.subtract(accuracy[arm], accuracy[RIVAL])
            gain = f"**{cell(gains[arm], '+.1f')}**"
        lines.append(
            f"| {arm} | {decay:g} | {shown} | {cell(accuracy[arm])} | {gain} | {seconds:.0f} |"
        )
    lines += [
        "",
        f"{len(gains[METHODS[0]])} label draws, mean and 95 % interval. Network "
        f"`{asked['model']}`, {asked['num_steps']:,} steps of {asked['batch_size']} labelled and "
        f"{asked['batch_size'] * asked['unlabelled_ratio']} unlabelled images, learning rate "
        f"{result['chosen'][RIVAL][0]:g}; decay and threshold chosen on validation images of "
        f"{len(TUNING_DRAWS)} further draws. Run on {result['date']} ({result['machine']}, torch "
        f"{result['torch']}).",
        "",
    ]
    for arm, values in gains.items():
        found = mean_interval(values)
        place = ("above" if found.high < HOPED_FOR else
                 "below" if found.low > HOPED_FOR else "inside")  # fmt: skip
        lines.append(
            f"- {arm}: from {values.min():+.1f} to {values.max():+.1f} points by draw, above zero "
            f"in {(values > 0).sum()}; {HOPED_FOR:g} points lie {place} the interval."
        )
    triples = [np.mean(three) for three in itertools.combinations(gains[METHODS[0]], 3)]
    lines += [
        "",
        f"Three draws are what many a table has. {METHODS[0]}'s mean gain over three of these "
        f"draws is anything from {min(triples):+.1f} to {max(triples):+.1f} points, depending on "
        "the three.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    from studies import fixmatch_longer  # by name, so that worker processes find it

    stored = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else None

    def keep(result):
        scratch = RESULT.with_suffix(".tmp")
        scratch.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        scratch.replace(RESULT)

    result = fixmatch_longer.study(stored=stored, keep=keep)
    keep(result)
    TABLE.write_text(table(result), encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    main()
