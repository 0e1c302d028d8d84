"""The claims of a notebook: what it measured, and what that says about each claim of its paper.

A claim compares two arms over the same seeds, all of the record's or the first few. Its verdict
comes from a paired test over them, never from a single run, and the primary claims of a notebook
are corrected for their number. A record stores values; the rest is derived whenever it is read. It
ends with a digest of all that it says, so that damage and later edits are found.
"""

import hashlib
import json
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from labutils import formats
from labutils.statistics import DIRECTIONS, Interval, Verdict, corrected, judge, mean_interval

SCHEMA = 4
RUN = ("finished", "duration_s", "peak_memory_mb", "peak_gpu_memory_mb")  # other each time
SOURCES = ("paper", "ours")
WORDS = "lower-case words, digits and hyphens"
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
TAG = re.compile(r"<[a-zA-Z/!?][^>]*>")  # of HTML, which the site would show as such


class RecordError(ValueError):
    """A claim, number or stored record that cannot be used; the message says where, and why."""


@dataclass(frozen=True)
class Claim:
    """One sentence, who says it, and what each of two arms measured, seed by seed.

    source: "paper" or "ours". primary: chosen before the run and corrected for. arms: the claim is
    about first minus second. values: arm -> one value per seed, in `unit`. paper: {"value",
    "unit", "source"} as printed there, or None.
    """

    id: str
    statement: str
    source: str
    primary: bool
    where: str
    arms: list[str]
    direction: str
    margin: float
    unit: str
    values: dict[str, list[float]]
    paper: dict | None

    @property
    def n(self) -> int:
        """The number of seeds that the claim is over."""
        return max([len(s) for s in self.values.values() if isinstance(s, list)], default=0)

    @property
    def differences(self) -> list[float]:
        """First minus second arm, seed by seed."""
        first, second = (self.values[arm] for arm in self.arms)
        return [a - b for a, b in zip(first, second, strict=True)]

    @property
    def difference(self) -> Interval | None:
        """Interval of the mean difference, at 90 % for an equivalence; None for one seed."""
        confidence = 0.9 if self.direction == "equivalent" else 0.95
        return mean_interval(self.differences, confidence) if self.n > 1 else None

    def check(self, num_seeds: int, place: str) -> None:
        """Raise RecordError for a field that makes no sense; `place` stands before its name."""

        def fits(good, field: str, expected: str) -> None:
            expect(good, f"{place}{field}", expected, getattr(self, field))

        fits(NAME.fullmatch(self.id), "id", WORDS)
        fits(not TAG.search(str(self.statement)), "statement", "a sentence without HTML")
        fits(self.source in SOURCES, "source", f"one of {SOURCES}")
        where = self.source == "ours" or self.where.strip()
        fits(where, "where", "where the paper makes the claim (section, figure)")
        fits(self.direction in DIRECTIONS, "direction", f"one of {DIRECTIONS}")
        margin = self.direction != "equivalent" or self.margin > 0
        fits(margin, "margin", "a margin above 0 for an equivalence")
        arms = len(self.arms) == 2 and sorted(map(str, self.arms)) == sorted(self.values)
        fits(arms, "arms", "two names, those of values")
        paper = self.paper is None or (
            finite(self.paper.get("value")) and str(self.paper.get("source", "")).strip()
        )
        fits(paper, "paper", "a finite value and its source (table, figure)")
        for arm, sample in self.values.items():
            good = isinstance(sample, list) and [*map(finite, sample)] == [True] * num_seeds
            expected = f"a finite number for each of {num_seeds} seeds"
            expect(good, f"{place}values.{arm}", expected, sample)


@dataclass
class Record:
    """What one run of a notebook measured. Written here, read and checked by the book's makers.

    numbers: name -> {"value", "unit"}; a merged one has "values" of the seeds as well. code: what
    the fingerprint was made of. seconds and memory are of the whole run; None where not measured.
    outputs, history: digests of what was stored with it, the notebook's outputs and the record's
    predecessors; None where there are none.
    """

    notebook: str
    profile: str
    seeds: list[int]
    settings: dict
    environment: dict
    claims: list[Claim] = field(default_factory=list)
    numbers: dict = field(default_factory=dict)
    finished: str = ""
    duration_s: float = 0.0
    peak_memory_mb: float | None = None
    peak_gpu_memory_mb: float | None = None
    title: str = ""
    fingerprint: str | None = None
    code: dict = field(default_factory=dict)
    not_merged: list[str] = field(default_factory=list)
    outputs: str | None = None
    history: str | None = None
    schema: int = SCHEMA

    def verdicts(self) -> dict[str, Verdict]:
        """{claim: its verdict}, those of primary claims corrected for their number."""
        if self.profile == "smoke" or len(self.seeds) < 2:
            return {claim.id: Verdict("not judged") for claim in self.claims}
        alone = {c.id: judge(c.differences, c.direction, c.margin) for c in self.claims}
        return alone | corrected({c.id: alone[c.id] for c in self.claims if c.primary})

    def table(self):
        """The claims as a pandas DataFrame: whose, paper's value, ours with interval, verdict.

        p: corrected for the number of primary claims, which have a dot. n: seeds, where it varies.
        """
        import pandas as pd

        pd.set_option("display.max_rows", None)  # every claim is shown
        verdicts, rows = self.verdicts(), {}
        several = len({claim.n for claim in self.claims}) > 1  # numbers of seeds
        for claim in self.claims:
            difference, paper, verdict = claim.difference, claim.paper, verdicts[claim.id]
            ours = formats.interval(difference) if difference else "one seed"
            rows[claim.id] = {
                "claim": claim.statement,
                "whose": claim.source + (" ●" if claim.primary else ""),
                "paper": f"{paper['value']:+g} {paper.get('unit', '')}" if paper else "-",
                "ours: difference [interval]": f"{ours} {claim.unit}",
                **({"n": claim.n} if several else {}),
                "p": "-" if verdict.adjusted is None else formats.p_value(verdict.adjusted),
                "verdict": verdict.verdict,
            }
        return pd.DataFrame(list(rows.values()))

    def to_json(self) -> str:
        """The text of the file. Raises ValueError if a value is NaN or infinite."""
        content = asdict(self)
        content["run"] = {name: content.pop(name) for name in RUN}
        content["digest"] = digest(content)
        return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def place(content: bytes, path: Path) -> None:
    """Write a file that appears whole or not at all; makes its folder, leaves nothing else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        scratch.write_bytes(content)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)  # of a full disk


def digest(content) -> str:
    """32 hex digits of what JSON can hold. Raises ValueError for NaN and infinite values."""
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def finite(value) -> bool:
    """Whether it is a number that is neither NaN nor infinite."""
    return isinstance(value, int | float) and math.isfinite(value)


def expect(good, place: str, expected, found) -> None:
    """Raise RecordError unless `good`: what was expected at `place`, and what was found."""
    if not good:
        raise RecordError(f"{place}: expected {expected}, found {found!r:.80}")


class Ledger(Record):
    """The record of a run that goes on: collects its numbers and claims; `save` writes it."""

    def __init__(self, *head):
        super().__init__(*head)
        self._started = perf_counter()

    def number(self, name: str, value: float, unit: str = "") -> float:
        """Record a measured number, quotable in prose as {glue:text}`name`, and return it.

        Raises RecordError if the name is not kebab-case or has another value, or if the value is
        not finite.
        """
        expect(isinstance(name, str) and NAME.fullmatch(name), "name", WORDS, name)
        value = value.item() if hasattr(value, "item") else value
        expect(finite(value), f"number {name!r}", "a finite number", value)
        same = self.numbers.get(name, {"value": value})["value"] == value
        expect(same, f"number {name!r}", "the value that it had, or another name", value)
        self.numbers[name] = {"value": value, "unit": unit}
        _glue(name, value)
        return value

    def claim(
        self,
        name: str,
        statement: str,
        *,
        source: str,
        values: Mapping[str, Sequence[float]],
        direction: str,
        primary: bool = False,
        margin: float = 0.0,
        unit: str = "points",
        where: str = "",
        paper: Mapping | None = None,
        num_seeds: int | None = None,
    ) -> None:
        """Record one claim; its verdict is in `table`, where all primary claims are known.

        name: kebab-case identifier, unique in the notebook. source: whose sentence it is, "paper"
        (then `where` says where it stands there) or "ours". primary: chosen before the run, one of
        those that the notebook is about. values: two arms, each with one value per seed, in `unit`;
        the difference is first minus second. num_seeds: how many, where a claim is over the first
        few seeds only; a run with fewer has all. direction, margin: see `statistics.judge`. paper:
        {"value": ..., "unit": ..., "source": ...}, or None; without a source it is refused. Raises
        RecordError when anything is missing.
        """
        expect(isinstance(name, str) and NAME.fullmatch(name), "name", WORDS, name)
        expect(isinstance(values, Mapping), f"claim {name!r}, values", "{arm: values}", values)
        expect(finite(margin), f"claim {name!r}, margin", "a finite number", margin)
        names = [claim.id for claim in self.claims]
        expect(name not in names, f"claim {name!r}", "a name that no other claim has", name)
        claim = Claim(
            name, statement, source, primary, where, list(values), direction, float(margin), unit,
            {arm: [float(v) for v in sample] for arm, sample in values.items()},
            None if paper is None else dict(paper),
        )  # fmt: skip
        claim.check(min(num_seeds or len(self.seeds), len(self.seeds)), f"claim {name!r}, ")
        self.claims.append(claim)

    def save(self, folder: Path) -> Path:
        """Write NOTEBOOK.PROFILE.json under `folder` (or $LABUTILS_RESULTS) atomically; its path.

        The engine adds title, code, memory and seconds. Raises RecordError for NaN and infinity.
        """
        folder = Path(os.environ.get("LABUTILS_RESULTS") or folder)
        path = folder / f"{self.notebook}.{self.profile}.json"
        self.finished = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.duration_s = round(perf_counter() - self._started, 1)
        try:
            text = self.to_json()
        except (TypeError, ValueError) as error:
            raise RecordError(f"the record of {self.notebook} is not JSON: {error}") from error
        place(text.encode(), path)
        return path


def _glue(name: str, value) -> None:
    """Store `value` in the notebook's output under `name`, as myst-nb's `glue` role reads it.

    Done here because importing myst_nb would pull a documentation builder into every Colab run.
    """
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:  # not in a notebook
        return
    prefix = "application/papermill.record/"
    about = {"scrapbook": {"name": name, "mime_prefix": prefix}}
    ipython.display.display({prefix + "text/plain": repr(value)}, raw=True, metadata=about)
