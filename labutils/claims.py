"""The claims ledger: what a chapter measured, and what that says about each claim of its paper.

A claim compares two arms over the same seeds. Its verdict comes from a paired Student t interval
of the difference, never from a single run. `Ledger.save` writes one JSON record per chapter and
profile.
"""

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import numpy as np

from labutils import formats
from labutils.statistics import Interval, LedgerError, paired_interval

SCHEMA = 1
DIRECTIONS = ("greater", "less", "equivalent")
VERDICTS = ("reproduced", "not reproduced", "inconclusive", "not judged")
MIN_SEEDS = 3  # with fewer, an interval says next to nothing


def judge(difference: Interval, direction: str, margin: float) -> str:
    """Verdict of a claim about `difference` = arm 0 - arm 1.

    greater: difference > margin. less: difference < -margin. equivalent: |difference| < margin, for
    which `difference` should be a 90 % interval (two one-sided tests at 5 %: Schuirmann 1987).
    """
    if difference.n < MIN_SEEDS:
        return "inconclusive"
    low, high = difference.low, difference.high
    if direction == "less":
        low, high, direction = -high, -low, "greater"
    if direction == "greater":
        holds, fails = low > margin, high < margin
    else:
        holds, fails = low > -margin and high < margin, high < -margin or low > margin
    return "reproduced" if holds else "not reproduced" if fails else "inconclusive"


class Ledger:
    """Collects a chapter's numbers and claims; `save` writes them as one record."""

    def __init__(self, chapter, profile, seeds, settings, environment):
        self._started = perf_counter()
        self._head = {
            "schema": SCHEMA,
            "chapter": chapter,
            "profile": profile,
            "seeds": list(seeds),
            "environment": dict(environment),
            "settings": dict(settings),
        }
        self.claims: dict[str, dict] = {}
        self.numbers: dict[str, dict] = {}
        self.peak_gpu_memory_mb: int | None = None

    def number(self, name: str, value: float, unit: str = "") -> float:
        """Record a measured number under `name` and make it quotable in prose as {glue:text}`name`.

        Returns the value. Raises LedgerError if the name is not kebab-case or the value not finite.
        """
        _check_name(name)
        value = value.item() if hasattr(value, "item") else value
        if not math.isfinite(value):
            raise LedgerError(f"number {name!r} is {value}; only finite numbers are recorded")
        self.numbers[name] = {"value": value, "unit": unit}
        _glue(name, value)
        return value

    def claim(
        self,
        name: str,
        statement: str,
        *,
        where: str,
        values: Mapping[str, Sequence[float]],
        direction: str,
        margin: float = 0.0,
        unit: str = "points",
        paper: Mapping | None = None,
    ) -> str:
        """Judge one claim and record it. Returns the verdict (one of VERDICTS).

        name: kebab-case identifier, unique in the chapter. where: the place in the paper that makes
        the claim. values: two arms, each with one value per seed in the same order (shape
        (num_seeds,), in `unit`); the difference is first minus second. direction, margin: see
        `judge`. paper: {"value": ..., "unit": ..., "source": ...}, or None where it gives none.

        Raises LedgerError when anything is missing; a paper value without its source is refused.
        """
        _check_name(name)
        if name in self.claims:
            raise LedgerError(f"claim {name!r} is already in the ledger; names are unique")
        if direction not in DIRECTIONS:
            raise LedgerError(f"claim {name!r}: direction {direction!r} is not one of {DIRECTIONS}")
        if not where.strip():
            raise LedgerError(f"claim {name!r}: say where the paper makes it (section, figure)")
        if len(values) != 2:
            raise LedgerError(f"claim {name!r} compares two arms, got {list(values)}")
        if direction == "equivalent" and margin <= 0:
            raise LedgerError(f"claim {name!r}: an equivalence needs a margin above 0")
        if paper is not None and not str(paper.get("source", "")).strip():
            raise LedgerError(f"claim {name!r}: the paper's value needs its source (table, figure)")
        if paper is not None and not math.isfinite(paper.get("value", math.nan)):
            raise LedgerError(f"claim {name!r}: the paper's value must be a finite number: {paper}")
        for arm, sample in values.items():
            if len(sample) != len(self._head["seeds"]):
                raise LedgerError(
                    f"claim {name!r}, arm {arm!r}: {len(sample)} values "
                    f"for {len(self._head['seeds'])} seeds"
                )
            if not np.isfinite(sample).all():
                raise LedgerError(f"claim {name!r}, arm {arm!r}: {sample} holds NaN or infinity")
        (first, second) = values
        smoke = self._head["profile"] == "smoke"
        difference, verdict = None, "not judged"
        if len(self._head["seeds"]) > 1:
            confidence = 0.9 if direction == "equivalent" else 0.95
            difference = paired_interval(values[first], values[second], confidence)
            if not smoke:
                verdict = judge(difference, direction, margin)
        self.claims[name] = {
            "id": name,
            "statement": statement,
            "where": where,
            "paper": dict(paper) if paper else None,
            "arms": [first, second],
            "direction": direction,
            "margin": margin,
            "unit": unit,
            "values": {arm: [float(v) for v in sample] for arm, sample in values.items()},
            "difference": asdict(difference) if difference else None,
            "verdict": verdict,
        }
        return verdict

    def table(self):
        """The claims as a pandas DataFrame: claim, paper, ours (difference, interval), verdict."""
        import pandas as pd

        rows = []
        for claim in self.claims.values():
            difference, paper = claim["difference"], claim["paper"]
            ours = formats.interval(difference) if difference else "one seed"
            rows.append(
                {
                    "claim": claim["statement"],
                    "paper": f"{paper['value']:+g} {paper.get('unit', '')}" if paper else "-",
                    "ours: difference [interval]": f"{ours} {claim['unit']}",
                    "verdict": claim["verdict"],
                }
            )
        return pd.DataFrame(rows)

    def record(self) -> dict:
        """What `save` writes."""
        return {
            **self._head,
            "finished": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "duration_s": round(perf_counter() - self._started, 1),
            "peak_memory_mb": None,  # the pipeline measures it from outside
            "peak_gpu_memory_mb": self.peak_gpu_memory_mb,
            "claims": list(self.claims.values()),
            "numbers": self.numbers,
        }

    def save(self, folder: Path) -> Path:
        """Write CHAPTER.PROFILE.json under `folder` (or $LABUTILS_RESULTS) atomically.

        Returns the path. Raises LedgerError if the record would hold NaN or infinity.
        """
        folder = Path(os.environ.get("LABUTILS_RESULTS") or folder)
        path = folder / f"{self._head['chapter']}.{self._head['profile']}.json"
        try:
            text = json.dumps(self.record(), indent=1, allow_nan=False)
        except ValueError as error:
            raise LedgerError(
                f"the record of {self._head['chapter']} is not JSON: {error}"
            ) from error
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".tmp")
        scratch.write_text(text + "\n", encoding="utf-8")
        os.replace(scratch, path)
        return path


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise LedgerError(f"{name!r} is not a name of lower-case words, digits and hyphens")


def _glue(name: str, value) -> None:
    """Store `value` in the notebook's output under `name`, as myst-nb's `glue` role reads it.

    Done here because importing myst_nb would pull a documentation builder into every Colab run.
    """
    try:
        from IPython.core.interactiveshell import InteractiveShell
        from IPython.display import display
    except ImportError:
        return
    if not InteractiveShell.initialized():
        return
    prefix = "application/papermill.record/"
    display(
        {prefix + "text/plain": repr(value)},
        raw=True,
        metadata={"scrapbook": {"name": name, "mime_prefix": prefix}},
    )
