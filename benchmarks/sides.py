"""What the benchmarks on a processor share: sides measured in turns, ratios, machine, files.

A side is a function without arguments that measures once and returns a number. Sides take turns, so
that whatever else the machine does slows all of them, and ratios are taken within a turn. What runs
on one core is measured in seconds of the processor, not of the clock on the wall, so that waiting
for a core that others use does not count. A peer that is not installed is left out, and the table
says so.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
REPETITIONS = 5
AT_LEAST = 0.1  # seconds of one measurement
clock = time.process_time
BUSY = 1.5  # a load of the machine above this is other work


def one_core() -> None:
    """One thread, on one core where the system lets us choose."""
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def rate(run: Callable, items: int, at_least: float = AT_LEAST) -> Callable[[], float]:
    """A side: items per second, when each call of `run` makes `items` of them."""

    def measure() -> float:
        started, times, took = clock(), 0, 0.0
        while took < at_least or not took:
            run()
            times += 1
            took = clock() - started
        return times * items / took

    return measure


def seconds(run: Callable, now: Callable[[], float] = clock) -> Callable[[], float]:
    """A side: seconds of one call, by another clock where it starts processes."""

    def measure() -> float:
        started = now()
        run()
        return now() - started

    return measure


def in_turns(sides: dict[str, Callable], repetitions: int) -> dict[str, list]:
    """{side: what it returned in each turn}, after a turn that warms up."""
    for side in sides.values():
        side()
    turns = [{name: side() for name, side in sides.items()} for _ in range(repetitions)]
    return {name: [rounded(turn[name]) for turn in turns] for name in sides}


def rounded(value: float) -> float:
    """Four digits: what is measured here is not known better."""
    return float(f"{value:.4g}")


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


# --- what the tables say --------------------------------------------------------------------------


def spread(values: list[float], digits: int = 0) -> str:
    """Median and range, as ``61,000 (58,000 to 62,000)``."""
    found = (f"{x:,.{digits}f}" for x in (statistics.median(values), min(values), max(values)))
    return "{} ({} to {})".format(*found)


def ratios(upper: list[float], lower: list[float]) -> list[float]:
    """One ratio per turn."""
    return [a / b for a, b in zip(upper, lower, strict=True)]


def ratio(upper: list[float] | None, lower: list[float] | None) -> str:
    """Their ratio with its range; bold where we are behind, in all turns."""
    if not upper or not lower:
        return "–"
    found = ratios(upper, lower)
    text = spread(found, 1 if statistics.median(found) >= 2 else 2)
    return f"**{text}**" if max(found) < 1 else text


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a table in Markdown; all columns but the first are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def machine(*packages: str) -> dict:
    """Date, machine and versions of packages, None for one that is not installed."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x]
        cpu = names[0].split(":", 1)[1].strip() if names else cpu
    versions = {}
    for package in ("torch", *packages):
        try:
            versions[package] = metadata.version(package).split("+")[0]
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cpu": f"{cpu}, {platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": versions,
    }


def origin(result: dict) -> str:
    """Where, when and how a result was measured, in a sentence."""
    versions = [f"{name} {v}" for name, v in result["versions"].items() if v]
    missing = [name for name, version in result["versions"].items() if not version]
    beside = " beside other work" if (result["load_before"] or 0) > BUSY else ""
    return (
        f"Median and range of {result['repetitions']} turns{beside}; {result['cpu']}, Python "
        f"{result['python']}, {', '.join(versions)}"
        + (f"; not installed: {', '.join(missing)}" if missing else "")
        + f"; {result['date']}."
    )


# --- the command ----------------------------------------------------------------------------------


def store(name: str, result: dict, render: Callable, draw: Callable | None = None) -> None:
    """Write the JSON of a benchmark and the table of its page; draw(result, file) its figure."""
    text = json.dumps(result, indent=1, allow_nan=False) + "\n"
    (ROOT / "benchmarks" / f"{name}.json").write_text(text, encoding="utf-8")
    page = ROOT / "book" / "generated" / f"{name}.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(render(result), encoding="utf-8")
    if draw:
        draw(result, page.with_suffix(".svg"))


def main(
    name: str, measure: Callable, render: Callable, *packages: str,
    repetitions: int = REPETITIONS, draw: Callable | None = None,
) -> None:  # fmt: skip
    """The command of a benchmark. measure(repetitions) returns what is special of the result."""
    parser = argparse.ArgumentParser(description=f"Measure {name} side by side with peers.")
    parser.add_argument("--repetitions", type=int, default=repetitions)
    parser.add_argument("--page", action="store_true", help="only write the table anew")
    parser.add_argument("--dry-run", action="store_true", help="print, write nothing")
    options = parser.parse_args()
    if options.page:
        result = json.loads((ROOT / "benchmarks" / f"{name}.json").read_text(encoding="utf-8"))
    else:
        started = time.perf_counter()
        result = {**machine(*packages), "repetitions": options.repetitions}
        result |= measure(options.repetitions)
        result["took_s"] = round(time.perf_counter() - started)
    print(render(result))
    if not options.dry_run:
        store(name, result, render, draw)
