"""How much faster is a sweep with two workers than with one?

The same four seeds of one chapter at profile smoke, from nothing, with one worker and with two,
in turn; every worker is a process of one thread. What is timed is the whole command, with the
start of Python and of every kernel.

Run ``python -m benchmarks.sweep_scaling`` with nothing else running: about five minutes. It writes
``sweep_scaling.json`` beside this file and the sentence of the book page.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import click

from press import notebooks

HERE = Path(__file__).parent
RESULT = HERE / "sweep_scaling.json"
PAGE = HERE.parent / "book" / "generated" / "sweep_scaling.md"
LIMIT = 0.6  # of one worker's time


def measure(chapter: str, workers: int, seeds: str, root: Path) -> float:
    """Seconds of one sweep from nothing."""
    command = [sys.executable, "-m", "press", "sweep", chapter, "--profile", "smoke", "--force"]
    started = time.perf_counter()
    subprocess.run(
        [*command, "--seeds", seeds, "--jobs", str(workers)], cwd=root, check=True,
        stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return time.perf_counter() - started


def measure_all(chapter: str, repetitions: int) -> dict:
    """Times of sweeps with one and two workers, alternating."""
    seconds, load = {"1": [], "2": []}, []
    for _ in range(repetitions):
        for workers in (1, 2):
            load.append(round(os.getloadavg()[0], 1))
            took = measure(chapter, workers, "0-3", notebooks.book_root())
            seconds[str(workers)].append(round(took, 1))
            print(f"{workers} workers: {took:.1f} s, load before {load[-1]}", flush=True)
    return summarise(chapter, seconds, load)


def summarise(chapter: str, seconds: dict, load: list[float]) -> dict:
    """What is stored of the times; load: the machine's load before each run, 0 when idle."""
    ratios = [two / one for one, two in zip(seconds["1"], seconds["2"], strict=True)]
    return {
        "what": "seconds of a sweep over 4 seeds by the number of workers",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "joblib": metadata.version("joblib"),
        "chapter": chapter,
        "limit": LIMIT,
        "seconds": seconds,
        "load_before": load,
        "ratio": round(statistics.median(ratios), 3),
    }


def render(result: dict) -> str:
    """The sentence of the book page."""
    one, two = (statistics.median(result["seconds"][workers]) for workers in ("1", "2"))
    pairs = len(result["seconds"]["1"])
    runs = f"median of {pairs} pairs of runs" if pairs > 1 else "one pair of runs"
    if max(result["load_before"], default=0) > 1.5:
        runs += " beside other work"
    return (
        f"Four seeds of `{result['chapter']}` at profile `smoke` take {one:.0f} s with one worker "
        f"and {two:.0f} s with two, **{result['ratio']:.2f}** of the time ({runs}; "
        f"{result['machine']}, torch {result['torch']}, joblib {result['joblib']}; "
        f"{result['date']}).\n"
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--chapter", default="rs2", show_default=True)
@click.option("--repetitions", default=3, show_default=True)
@click.option("--page", is_flag=True, help="Write the sentence of the stored result anew.")
def main(chapter, repetitions, page):
    """Measure sweeps with one and two workers."""
    if not page:
        result = measure_all(chapter, repetitions)
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(render(json.loads(RESULT.read_text("utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
