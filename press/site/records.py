"""The recorded runs as the site shows them: what is stale, what was before, and the downloads."""

import csv
import io
import json
import re
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path

from labutils.claims import Record, RecordError
from labutils.statistics import VERDICTS
from press import PressError, catalogue
from press.records import read_history, read_record, replications, why_stale

PROFILES = ("small", "full")  # smoke runs prove nothing about claims
SETTING = re.compile(r"\(.*?\)|\d[\d.,]*")  # what tells apart the settings of one statement
MIXED = "mixed"

load = cache(catalogue.load)


@dataclass(frozen=True)
class Run:
    """A record with what is derived from it when it is shown."""

    paper: catalogue.Paper
    record: Record
    stale: bool
    replications: list[Record]  # of the same code on other devices

    @cached_property
    def verdicts(self):
        return self.record.verdicts()

    def counts(self, source):
        """{verdict: number} of the claims of a source, without verdicts that do not occur."""
        return count(self.verdicts[c.id].verdict for c in self.record.claims if c.source == source)

    def statements(self):
        """{verdict: number} of the paper's statements: one in several settings counts once."""
        found = defaultdict(set)
        for claim in self.record.claims:
            if claim.source == "paper":
                family = SETTING.sub("", claim.statement)
                found[family].add(self.verdicts[claim.id].verdict)
        return count(verdicts.pop() if len(verdicts) == 1 else MIXED for verdicts in found.values())

    def elsewhere(self, claim):
        """[(device, verdict), ...] of a claim, one for each replication."""
        found = [(r.environment["device"], r.verdicts().get(claim.id)) for r in self.replications]
        return [(device, verdict.verdict) for device, verdict in found if verdict]

    def anchor(self, claim):
        """The permanent anchor of a claim on the page of its theme."""
        end = "" if self.record.profile == "small" else f"-{self.record.profile}"
        return f"claim-{self.paper.slug}-{claim.id}{end}"


@cache
def all_runs(root):
    """Every recorded run, in the order of the book."""
    found = []
    for paper in load(root).notebooks:
        every = (_usable(read_record, paper.slug, name, root) for name in PROFILES)
        for record in filter(None, every):
            others = _usable(replications, paper.slug, record.profile, root) or []
            same = [other for other in others if other.fingerprint == record.fingerprint]
            stale = why_stale(paper.slug, record.profile, root) is not None
            found.append(Run(paper, record, stale, same))
    return found


def _usable(read, *place):
    """What a function reads at a place; None if it is malformed, which `press.book` reports."""
    try:
        return read(*place)
    except (RecordError, PressError):
        return None


def runs(root, paper):
    """{profile: Run} of what is recorded of a notebook."""
    return {run.record.profile: run for run in all_runs(root) if run.paper == paper}


def shown(root, docname):
    """The run whose outputs the page of a notebook shows, of profile small; None without one."""
    found = (run for run in all_runs(root) if run.paper.docname == docname)
    return next((run for run in found if run.record.profile == "small"), None)


def superseded(root, paper):
    """The runs of a notebook whose records were replaced since, the newest first."""
    every = (_usable(read_history, paper.slug, profile, root) or [] for profile in PROFILES)
    found = [old for runs in every for old in runs]
    return sorted(found, key=lambda old: old.finished, reverse=True)


def count(verdicts):
    """{verdict: number} in the order of VERDICTS, then mixed; without those that do not occur."""
    counts = Counter(verdicts)
    return {verdict: counts[verdict] for verdict in (*VERDICTS, MIXED) if counts[verdict]}


# --- downloads -----------------------------------------------------------------------------------


def as_csv(root):
    """Every claim of every recorded run, one in a line, with unrounded numbers."""
    rows = [row(run, claim) for run in all_runs(root) for claim in run.record.claims]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, rows[0] if rows else ["notebook"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def row(run, claim):
    """{column: value} of a claim; None is an empty field."""
    record, verdict, paper = run.record, run.verdicts[claim.id], claim.paper or {}
    difference, environment = claim.difference, record.environment
    first, second = ((arm, sum(claim.values[arm]) / len(claim.values[arm])) for arm in claim.arms)
    return {
        "notebook": record.notebook, "theme": run.paper.theme.slug, "profile": record.profile,
        "claim": claim.id, "statement": claim.statement, "source": claim.source,
        "primary": claim.primary, "where": claim.where,
        **{f"paper_{name}": paper.get(name) for name in ("value", "unit", "source")},
        "first_arm": first[0], "second_arm": second[0], "direction": claim.direction,
        "margin": claim.margin, "unit": claim.unit, "first_mean": first[1],
        "second_mean": second[1], "difference": difference and difference.mean,
        **{k: difference and getattr(difference, k) for k in ("low", "high", "confidence", "n")},
        "verdict": verdict.verdict, "p": verdict.p, "adjusted_p": verdict.adjusted,
        "stale": run.stale, "finished": record.finished,
        **{name: environment.get(name) for name in ("device", "python", "torch", "labutils")},
        "code": record.fingerprint,
    }  # fmt: skip


def as_json(root):
    """All records as they are, with theme, staleness and verdicts, and the superseded runs."""
    everything = {
        "records": [
            asdict(run.record)
            | {"theme": run.paper.theme.slug, "stale": run.stale}
            | {"verdicts": {name: asdict(v) for name, v in run.verdicts.items()}}
            for run in all_runs(root)
        ],
        "replications": [asdict(r) for run in all_runs(root) for r in run.replications],
        "superseded": [
            {"notebook": paper.slug, **asdict(old)}
            for paper in load(root).notebooks
            for old in superseded(root, paper)
        ],
    }
    return json.dumps(everything, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


DOWNLOADS = {"results.csv": as_csv, "results.json": as_json}


def write_downloads(app):
    for name, content in DOWNLOADS.items():
        (Path(app.outdir) / name).write_text(content(Path(app.srcdir)), "utf-8")
