"""Records as files: where they lie, whether they are fresh, what was before, many seeds as one."""

import contextlib
import json
import re
from collections import Counter
from dataclasses import asdict, dataclass, fields, replace

from labutils import PROFILES
from labutils.claims import RecordError, digest
from labutils.statistics import VERDICTS
from press import PressError, digests, notebooks, reader, staleness

NAMED = 4  # changed definitions that are named; more are counted


def record_path(notebook, profile, root):
    """Return where the record of a notebook lies: ``results``, or ``_build`` for ``smoke``."""
    folder = root / "_build" / "results" if profile == "smoke" else root / "results"
    return folder / notebooks.path(notebook, root).parent.name / f"{notebook}.{profile}.json"


def history_path(notebook, profile, root):
    """Return where the replaced records of a notebook are kept, one per line."""
    return record_path(notebook, profile, root).with_suffix(".history.jsonl")


def executed_path(notebook, profile, root):
    """Return where the executed notebook is stored: in place for ``small``, else in ``_build``."""
    if profile == "small":
        return notebooks.path(notebook, root)
    return root / "_build" / "executed" / profile / f"{notebook}.ipynb"


def failed_path(run, profile, root):
    """Return where the partial notebook of a failed run is kept."""
    return root / "_build" / "executed" / profile / f"{run}.failed.ipynb"


def merged_path(notebook, profile, root):
    """Return where the record of a sweep is written."""
    return root / "_build" / "sweep" / profile / f"{notebook}.json"


def read(file, **expected):
    """Return the ``Record`` in a file, None if there is none.

    Raises ``RecordError`` if it is malformed, or not of the expected ``notebook`` and so on.
    """
    try:
        record = reader.read(file)
    except FileNotFoundError:
        return None
    for name, value in expected.items():
        if (found := getattr(record, name)) != value:
            raise RecordError(
                f"{file} is not the record that belongs there: expected {name} {value!r}, found "
                f"{found!r}; restore it, or delete it and run again"
            )
    return record


def read_record(notebook, profile, root):
    """Return the ``Record`` of a notebook, None if there is none. Raises ``RecordError``."""
    own = record_path(notebook, profile, root)
    return read(own, notebook=notebook, profile=profile)


def replications(notebook, profile, root):
    """Return the records of other devices, beside the own: ``a.small.nvidia-h200.json``."""
    own = record_path(notebook, profile, root)
    found = sorted(own.parent.glob(f"{own.stem}.*.json"))
    return [read(file, notebook=notebook, profile=profile) for file in found]


def malformed(root):
    """Return one sentence for each file of ``results`` that cannot be used."""
    found = []
    for name in notebooks.chapters(root):
        for profile in PROFILES[1:]:
            for read in (read_record, replications, read_history):
                try:
                    read(name, profile, root)
                except (RecordError, PressError) as error:
                    found.append(str(error))
    return found


def why_stale(notebook, profile, root):
    """Return in words why a notebook has to run, or None if its record and outputs are fresh."""
    try:
        record = read_record(notebook, profile, root)
        if record is None:
            return "not run yet"
        same = record.fingerprint == staleness.fingerprint(notebook, root)
        return touched(record, root) if same else _changes(record, root)
    except (RecordError, notebooks.NotebookError) as error:
        return str(error)


def _changes(record, root):
    """Return in words what changed of the code that a record is about."""
    then, now = record.code, staleness.fingerprint_parts(record.notebook, root)
    changed = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
    if not then or not changed:
        return "its code changed since"
    names = ["its code cells" if name == "notebook" else name for name in changed[:NAMED]]
    more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
    return f"changed since: {', '.join(names)}{more}"


def touched(record, root):
    """Return in words what of that which was stored with a record was changed since, or None."""
    place = record.notebook, record.profile, root
    if record.profile == "small":
        shown = notebooks.read(executed_path(*place))
        if record.outputs != digests.of_outputs(shown):
            return "its stored outputs are not those of its run"
    if record.history != digests.of_history(_text(history_path(*place))):
        return "its history is not the one that it was stored with"
    return None


def sealed(record, stored, history):
    """Return a record with the digests of what is stored with it: a notebook, a history's text."""
    digested = {"outputs": digests.of_outputs(stored), "history": digests.of_history(history)}
    return replace(record, **digested)


def _text(file):
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


@dataclass(frozen=True)
class Superseded:
    """A record that another one replaced; its claims as dicts with difference and verdict."""

    profile: str
    seeds: list[int]
    environment: dict
    finished: str
    duration_s: float
    fingerprint: str | None
    claims: list[dict]


def history_with(record, file):
    """Return the text of a history file with one more record, without its values and code."""
    kept, verdicts = asdict(record), record.verdicts()
    for name in ("settings", "code", "numbers"):  # long; the history of the repository has them
        del kept[name]
    for claim, content in zip(record.claims, kept["claims"], strict=True):
        del content["values"]
        content["difference"] = asdict(claim.difference) if claim.difference else None
        content |= asdict(verdicts[claim.id])
    line = json.dumps(kept, allow_nan=False, ensure_ascii=False)
    before = _text(file)
    return before if line in before.splitlines() else f"{before}{line}\n"


def history_after(record, root):
    """Return the text of a history file beside a new record, with what that one replaces."""
    file, old = history_path(record.notebook, record.profile, root), None
    with contextlib.suppress(RecordError):
        old = read_record(record.notebook, record.profile, root)
    if old and old.fingerprint != record.fingerprint and record.profile != "smoke":
        return history_with(old, file)
    return _text(file)


def read_history(notebook, profile, root):
    """Return the ``Superseded``, oldest first; ``PressError`` names a line that is damaged."""
    file, found = history_path(notebook, profile, root), []
    for line in _text(file).splitlines():
        try:
            whole = json.loads(line)
            content = {f.name: whole[f.name] for f in fields(Superseded)}
            reader.check_fields(Superseded, content, "")
            digest([content, Counter(claim["verdict"] for claim in content["claims"])])
            found.append(Superseded(**content))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise PressError(
                f"{file}, line {len(found) + 1}: not a superseded record ({error!r}); restore it"
            ) from None
    return found


def verdict_counts(record):
    """Return the verdicts of a record in words, ``3 reproduced, 1 inconclusive``."""
    found = [verdict.verdict for verdict in record.verdicts().values()]
    counts = [f"{found.count(verdict)} {verdict}" for verdict in VERDICTS if verdict in found]
    return ", ".join(counts) or "no claims"


def merge(records):
    """Return one ``Record`` made of records of other seeds of the same code and settings.

    Values of a claim are joined; an arm that each run chose for itself carries all its names. A
    number becomes the mean of the seeds' values. What some seeds lack is left out and listed under
    ``not_merged``. Raises ``PressError`` for records that do not belong together.
    """
    records = sorted(records, key=lambda record: record.seeds)
    first, seeds = records[0], [seed for record in records for seed in record.seeds]
    for key in ("notebook", "profile", "settings", "fingerprint"):
        if any(getattr(record, key) != getattr(first, key) for record in records):
            raise PressError(f"records of seeds {seeds} differ in {key}: they cannot be merged")
    if len(set(seeds)) < len(seeds):
        raise PressError(f"records to merge share a seed: {seeds}")
    made = [_comparable(record.environment) for record in records]
    for key in dict.fromkeys(key for environment in made for key in environment):
        found = list(dict.fromkeys(str(environment.get(key)) for environment in made))
        if len(found) > 1:
            raise PressError(
                f"records of seeds {seeds} were made with {key} {' and '.join(found)}: they cannot "
                "be merged; run those of one again with --force"
            )
    claims, without = _in_all([{claim.id: claim for claim in r.claims} for r in records])
    numbers, lacking = _in_all([record.numbers for record in records])
    most = {
        key: max(filter(None, (getattr(record, key) for record in records)), default=None)
        for key in ("finished", "peak_memory_mb", "peak_gpu_memory_mb")
    }
    return replace(
        first,
        seeds=seeds,
        environment={
            key: ", ".join(dict.fromkeys(record.environment[key] for record in records))
            for key in first.environment
        },
        claims=[_merged_claim(found) for found in claims.values()],
        numbers={name: _merged_number(found) for name, found in numbers.items()},
        duration_s=round(sum(record.duration_s for record in records), 1),
        not_merged=[f"claim {name}" for name in without] + [f"number {name}" for name in lacking],
        **most,
    )


def _comparable(environment):
    """An environment without the number of threads, which changes with the jobs side by side."""
    return {key: re.sub(r", \d+ threads?\b", "", text) for key, text in environment.items()}


def _in_all(parts):
    """Return ``{name: what each part has}`` of the names in all parts, and the other names."""
    names = dict.fromkeys(name for part in parts for name in part)
    lacking = [name for name in names if any(name not in part for part in parts)]
    return {n: [part[n] for part in parts] for n in names if n not in lacking}, lacking


def _merged_claim(claims):
    statement, values = claims[0].statement, {}
    for k, own in enumerate(claims[0].arms):
        name = " or ".join(dict.fromkeys(claim.arms[k] for claim in claims))
        values[name] = [value for claim in claims for value in claim.values[claim.arms[k]]]
        if name != own:
            statement = statement.replace(own, name)
    return replace(claims[0], statement=statement, arms=list(values), values=values)


def _merged_number(numbers):
    values = [number["value"] for number in numbers]
    return numbers[0] | {"value": sum(values) / len(values), "values": values}
