"""The recorded runs as the site reads them: chapters.yml, results/, what is stale, what was before.

A result is stale when the code that wrote it has changed since (`labutils.notebooks.fingerprint`).
"""

import csv
import io
import json
from datetime import datetime
from functools import cache

import yaml

from press import staleness

PROFILES = ("small", "full")  # smoke runs prove nothing about claims
VERDICTS = ("reproduced", "not reproduced", "inconclusive", "not judged")
PAGE = "book/scoreboard"


def chapters(root):
    return yaml.safe_load((root / "book/chapters.yml").read_text("utf-8"))


def of_chapter(root, name):
    """The records of one chapter by profile, each with `stale` added."""
    found = {}
    for profile in PROFILES:
        for path in root.glob(f"results/*/{name}.{profile}.json"):
            record = json.loads(path.read_text("utf-8"))
            record["stale"] = record["fingerprint"] != fingerprint(root, name)
            found[profile] = record
    return found


def superseded(root, name):
    """The runs of a chapter whose records were replaced since, the newest first."""
    found = []
    for profile in PROFILES:
        for path in root.glob(f"results/*/{name}.{profile}.history.jsonl"):
            lines = path.read_text("utf-8").splitlines()
            found += [json.loads(line) for line in lines if line.strip()]
    return sorted(found, key=lambda run: run["finished"], reverse=True)


def all_runs(root):
    """[(chapter, profile, record), ...] of every recorded run, in the order of the book."""
    return [
        (chapter, profile, record)
        for chapter in chapters(root)
        for profile, record in of_chapter(root, chapter["name"]).items()
    ]


@cache
def fingerprint(root, chapter):
    """Fingerprint of the chapter's code as it stands; None if it cannot be found."""
    return staleness.fingerprint(chapter, root)


def count(claims):
    """{verdict: number of claims}, without verdicts that do not occur."""
    counts = {verdict: 0 for verdict in VERDICTS}
    for claim in claims:
        counts[claim["verdict"]] += 1
    return {verdict: number for verdict, number in counts.items() if number}


def claim_id(chapter, profile, claim):
    """The permanent anchor of a claim on the scoreboard."""
    return f"claim-{chapter}-{claim['id']}" + ("" if profile == "small" else f"-{profile}")


def day(timestamp):
    return datetime.fromisoformat(timestamp).date().isoformat()


def duration(seconds):
    """Seconds as people say them; an em dash is not a time, so None reads as unknown."""
    if seconds is None:
        return "time unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


# --- downloads -----------------------------------------------------------------------------------

COLUMNS = (
    "chapter", "profile", "claim", "statement", "where", "paper_value", "paper_unit",
    "paper_source", "first_arm", "second_arm", "direction", "margin", "unit", "first_mean",
    "second_mean", "difference", "low", "high", "confidence", "n", "verdict", "stale", "finished",
    "device", "python", "torch", "labutils", "code",
)  # fmt: skip


def as_csv(root):
    """Every claim of every recorded run, one in a line, with unrounded numbers."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for chapter, profile, record in all_runs(root):
        environment = record["environment"]
        for claim in record["claims"]:
            paper, difference = claim["paper"] or {}, claim["difference"] or {}
            first, second = claim["arms"]
            mean = {arm: sum(values) / len(values) for arm, values in claim["values"].items()}
            writer.writerow(
                {
                    "chapter": chapter["name"],
                    "profile": profile,
                    "claim": claim["id"],
                    "statement": claim["statement"],
                    "where": claim["where"],
                    "paper_value": paper.get("value"),
                    "paper_unit": paper.get("unit"),
                    "paper_source": paper.get("source"),
                    "first_arm": first,
                    "second_arm": second,
                    "direction": claim["direction"],
                    "margin": claim["margin"],
                    "unit": claim["unit"],
                    "first_mean": mean[first],
                    "second_mean": mean[second],
                    "difference": difference.get("mean"),
                    "low": difference.get("low"),
                    "high": difference.get("high"),
                    "confidence": difference.get("confidence"),
                    "n": difference.get("n"),
                    "verdict": claim["verdict"],
                    "stale": record["stale"],
                    "finished": record["finished"],
                    "device": environment["device"],
                    "python": environment["python"],
                    "torch": environment["torch"],
                    "labutils": environment["labutils"],
                    "code": record["fingerprint"],
                }
            )
    return stream.getvalue()


def as_json(root):
    """All records as they are, and the superseded runs."""
    everything = {
        "records": [record for _, _, record in all_runs(root)],
        "superseded": [run for c in chapters(root) for run in superseded(root, c["name"])],
    }
    return json.dumps(everything, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
