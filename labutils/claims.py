"""The claims of a notebook: what it measured, and what that says about each claim of its paper.

A claim compares two arms over the same seeds. Its verdict comes from a paired test over the seeds,
never from a single run, and the primary claims of a notebook are corrected for their number. A
record stores values; intervals and verdicts are derived from them whenever it is read.
"""

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import numpy as np

from labutils import formats
from labutils.statistics import DIRECTIONS, Interval, Verdict, corrected, judge, paired_interval

SCHEMA = 2
SOURCES = ("paper", "ours")
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class LedgerError(ValueError):
    """A claim or number that cannot be recorded; the message says what to change."""


class RecordError(ValueError):
    """A stored record that cannot be used; the message says which file and field, and why."""


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
    def differences(self) -> list[float]:
        """First minus second arm, seed by seed."""
        first, second = (self.values[arm] for arm in self.arms)
        return [a - b for a, b in zip(first, second, strict=True)]

    @property
    def difference(self) -> Interval | None:
        """Interval of the mean difference, at 90 % for an equivalence; None for one seed."""
        first, second = (self.values[arm] for arm in self.arms)
        if len(first) == 1:
            return None
        return paired_interval(first, second, 0.9 if self.direction == "equivalent" else 0.95)


@dataclass(frozen=True)
class Record:
    """What one run of a notebook measured. Written, read and checked here and nowhere else.

    numbers: name -> {"value", "unit"}; a merged one has "values" of the seeds as well. code: what
    the fingerprint was made of. seconds and memory are of the whole run; None where not measured.
    """

    notebook: str
    profile: str
    seeds: list[int]
    settings: dict
    environment: dict
    claims: list[Claim]
    numbers: dict
    finished: str
    duration_s: float
    peak_memory_mb: float | None = None
    peak_gpu_memory_mb: float | None = None
    title: str = ""
    fingerprint: str | None = None
    code: dict = field(default_factory=dict)
    not_merged: list[str] = field(default_factory=list)
    schema: int = SCHEMA

    def verdicts(self) -> dict[str, Verdict]:
        """{claim: its verdict}, those of primary claims corrected for their number."""
        if self.profile == "smoke" or len(self.seeds) < 2:
            return {claim.id: Verdict("not judged") for claim in self.claims}
        alone = {c.id: judge(c.differences, c.direction, c.margin) for c in self.claims}
        return alone | corrected({c.id: alone[c.id] for c in self.claims if c.primary})

    def table(self):
        """The claims as a pandas DataFrame: whose, paper's value, ours with interval, verdict.

        p is corrected for the number of primary claims, which a dot marks.
        """
        import pandas as pd

        pd.set_option("display.max_rows", None)  # every claim is shown
        verdicts, rows = self.verdicts(), []
        for claim in self.claims:
            difference, paper, verdict = claim.difference, claim.paper, verdicts[claim.id]
            ours = formats.interval(difference) if difference else "one seed"
            rows.append(
                {
                    "claim": claim.statement,
                    "whose": claim.source + (" ●" if claim.primary else ""),
                    "paper": f"{paper['value']:+g} {paper.get('unit', '')}" if paper else "-",
                    "ours: difference [interval]": f"{ours} {claim.unit}",
                    "p": "-" if verdict.adjusted is None else formats.p_value(verdict.adjusted),
                    "verdict": verdict.verdict,
                }
            )
        return pd.DataFrame(rows)

    def to_json(self) -> str:
        """The text of the file. Raises ValueError if a value is NaN or infinite."""
        return json.dumps(asdict(self), indent=1, allow_nan=False, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, name: str) -> "Record":
        """Read what `to_json` wrote. Raises RecordError, in which `name` stands for the file."""
        try:
            content = json.loads(text)
        except ValueError as error:
            raise RecordError(f"{name} is not a record: {error}") from None
        _check(content, name)
        claims = [Claim(**claim) for claim in content.pop("claims")]
        return cls(claims=claims, **content)

    @classmethod
    def read(cls, path: Path) -> "Record":
        """The record in a file. Raises FileNotFoundError, and RecordError if it is malformed."""
        return cls.from_json(Path(path).read_text(encoding="utf-8"), str(path))


# What each field holds; None may stand in those of OPTIONAL.
NUMBER = (int, float)
RECORD_FIELDS = {
    "notebook": str, "profile": str, "seeds": list, "settings": dict, "environment": dict,
    "claims": list, "numbers": dict, "finished": str, "duration_s": NUMBER,
    "peak_memory_mb": NUMBER, "peak_gpu_memory_mb": NUMBER, "title": str, "fingerprint": str,
    "code": dict, "not_merged": list, "schema": int,
}  # fmt: skip
CLAIM_FIELDS = {
    "id": str, "statement": str, "source": str, "primary": bool, "where": str, "arms": list,
    "direction": str, "margin": NUMBER, "unit": str, "values": dict, "paper": dict,
}  # fmt: skip
OPTIONAL = {"peak_memory_mb", "peak_gpu_memory_mb", "fingerprint", "paper"}


def _check(content, name: str) -> None:
    """Raise RecordError unless the content of a file has the fields of a Record."""
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise RecordError(f"{name}, schema: expected {SCHEMA}, found {found!r}; run it again")
    _check_fields(content, RECORD_FIELDS, name, "")
    for number, claim in enumerate(content["claims"]):
        where = f"claims[{number}]"
        _check_fields(claim, CLAIM_FIELDS, name, f"{where}.")
        _expect(claim["source"] in SOURCES, name, f"{where}.source", SOURCES, claim["source"])
        good = claim["direction"] in DIRECTIONS
        _expect(good, name, f"{where}.direction", DIRECTIONS, claim["direction"])
        good = len(claim["arms"]) == 2 and set(claim["arms"]) == set(claim["values"])
        _expect(good, name, f"{where}.arms", "two names, those of values", claim["arms"])
        for arm, sample in claim["values"].items():
            good = isinstance(sample, list) and len(sample) == len(content["seeds"])
            good = good and all(isinstance(v, NUMBER) and math.isfinite(v) for v in sample)
            _expect(good, name, f"{where}.values.{arm}", "a finite number per seed", sample)
    for key, number in content["numbers"].items():
        value = number.get("value") if isinstance(number, dict) else None
        good = isinstance(value, NUMBER) and math.isfinite(value)
        _expect(good, name, f"numbers.{key}", "a value and its unit", number)


def _check_fields(content, kinds: Mapping, name: str, prefix: str) -> None:
    _expect(isinstance(content, dict), name, prefix.rstrip("."), "an object", content)
    odd = sorted(set(content) ^ set(kinds))
    _expect(not odd, name, f"{prefix}{odd and odd[0]}", f"the fields {', '.join(kinds)}", odd)
    for key, kind in kinds.items():
        good = isinstance(content[key], kind) or (content[key] is None and key in OPTIONAL)
        _expect(good, name, f"{prefix}{key}", kind, content[key])


def _expect(good, name: str, place: str, expected, found) -> None:
    if not good:
        raise RecordError(
            f"{name}, {place}: expected {expected}, found {str(found)[:80]!r}; restore the file, "
            "or delete it and run the notebook again"
        )


class Ledger:
    """Collects a notebook's numbers and claims; `save` writes them as one record."""

    def __init__(
        self,
        notebook: str,
        profile: str,
        seeds: Sequence[int],
        settings: Mapping,
        environment: Mapping,
    ):
        self._started = perf_counter()
        self._head: dict = {
            "notebook": notebook,
            "profile": profile,
            "seeds": list(seeds),
            "settings": dict(settings),
            "environment": dict(environment),
        }
        self.claims: dict[str, Claim] = {}
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
        source: str,
        values: Mapping[str, Sequence[float]],
        direction: str,
        primary: bool = False,
        margin: float = 0.0,
        unit: str = "points",
        where: str = "",
        paper: Mapping | None = None,
    ) -> None:
        """Record one claim; its verdict is in `table`, where all primary claims are known.

        name: kebab-case identifier, unique in the notebook. source: whose sentence it is, "paper"
        (then `where` says where it stands there) or "ours". primary: chosen before the run, one of
        those that the notebook is about. values: two arms, each with one value per seed in the same
        order (shape (num_seeds,), in `unit`); the difference is first minus second. direction,
        margin: see `labutils.statistics.judge`. paper: {"value": ..., "unit": ..., "source": ...},
        or None where it gives none.

        Raises LedgerError when anything is missing; a paper value without its source is refused.
        """
        _check_name(name)
        problem = self._problem(name, source, values, direction, margin, where, paper)
        if problem:
            raise LedgerError(f"claim {name!r}{problem}")
        (first, second) = values
        self.claims[name] = Claim(
            name, statement, source, primary, where, [first, second], direction, float(margin),
            unit, {arm: [float(v) for v in sample] for arm, sample in values.items()},
            dict(paper) if paper else None,
        )  # fmt: skip

    def _problem(self, name, source, values, direction, margin, where, paper) -> str | None:
        """What is wrong with a claim, to be read after its name."""
        seeds = len(self._head["seeds"])
        if name in self.claims:
            return " is already in the ledger; names are unique"
        if source not in SOURCES:
            return f": source {source!r} is not one of {SOURCES}"
        if direction not in DIRECTIONS:
            return f": direction {direction!r} is not one of {DIRECTIONS}"
        if source == "paper" and not where.strip():
            return ": say where the paper makes it (section, figure)"
        if len(values) != 2:
            return f" compares two arms, got {list(values)}"
        if direction == "equivalent" and margin <= 0:
            return ": an equivalence needs a margin above 0"
        if paper is not None and not str(paper.get("source", "")).strip():
            return ": the paper's value needs its source (table, figure)"
        if paper is not None and not math.isfinite(paper.get("value", math.nan)):
            return f": the paper's value must be a finite number: {paper}"
        for arm, sample in values.items():
            if len(sample) != seeds:
                return f", arm {arm!r}: {len(sample)} values for {seeds} seeds"
            if not np.isfinite(sample).all():
                return f", arm {arm!r}: {sample} holds NaN or infinity"
        return None

    def table(self):
        """The claims recorded so far as a pandas DataFrame: see `Record.table`."""
        return self.record().table()

    def record(self) -> Record:
        """What `save` writes. The engine adds title, code and memory, and replaces the seconds."""
        return Record(
            **self._head,
            claims=list(self.claims.values()),
            numbers=dict(self.numbers),
            finished=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            duration_s=round(perf_counter() - self._started, 1),
            peak_gpu_memory_mb=self.peak_gpu_memory_mb,
        )

    def save(self, folder: Path) -> Path:
        """Write NOTEBOOK.PROFILE.json under `folder` (or $LABUTILS_RESULTS) atomically.

        Returns the path. Raises LedgerError if the record would hold NaN or infinity.
        """
        folder = Path(os.environ.get("LABUTILS_RESULTS") or folder)
        path = folder / f"{self._head['notebook']}.{self._head['profile']}.json"
        try:
            text = self.record().to_json()
        except (TypeError, ValueError) as error:
            raise LedgerError(
                f"the record of {self._head['notebook']} is not JSON: {error}"
            ) from error
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".tmp")
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(path)
        return path


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
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
