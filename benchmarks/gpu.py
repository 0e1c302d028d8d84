"""One command for a rented card: what only a card can show, in parts that fit into a lease.

In this order: the tests marked `gpu`, shares of a step, steps per second, views per second, then
every chapter at `small` and at `full`, then every lab at `small`. What is done is not done again,
and a notebook that was cut short goes on from the jobs and checkpoints that it kept. All is in one
folder, ``_build/gpu``: take it along to the next machine. Its folder ``tree`` holds records,
executed notebooks and measurements where the book has them: ``cp -r _build/gpu/tree/. .``

``make gpu`` runs it, ``MINUTES=12`` says how long it may take. Beside it, ``taskset -c 0,1 python
-m benchmarks.gpu --device cpu --profile small`` runs the notebooks on two cores of the same
machine, in a folder of its own; the next ``make gpu`` says how many times as fast the card was.
Packages and data that the machine lacks come from the bundle of `make gpu-bundle`, if it is there.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import gpu_bundle  # the rest may come from there

HERE = Path(__file__).resolve().parents[1]
FOLDER, CPU = "_build/gpu", "cpu"  # on a CPU in a folder of that name within
MEASUREMENTS = {
    "step_overhead": "shares of a step", "step_rate": "steps per second",
    "card_views": "views per second",
}  # fmt: skip
DONE, BEFORE, CUT, FAILED, TO_DO = "done", "done before", "cut short", "failed", "to do"


@dataclass
class Part:
    """One thing to do. done: whether it was done with this code. run(seconds): how it ended."""

    name: str
    done: Callable[[], bool]
    run: Callable[[float], str]


# --- tests and measurements -----------------------------------------------------------------------


def tests(root: Path, folder: Path, code: str) -> Part:
    """The tests that need a card."""
    stamp = folder / "tests"
    files = [str(file) for file in sorted((root / "tests").rglob("test_*.py"))
             if "pytest.mark.gpu" in file.read_text("utf-8")]  # fmt: skip

    def run(seconds: float) -> str:
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
        ended = within(seconds, [*command, *files], root) if files else DONE
        if ended == DONE:
            stamp.write_text(code, encoding="utf-8")
        return ended

    return Part("tests", lambda: stamp.is_file() and stamp.read_text("utf-8") == code, run)


def measurement(name: str, tree: Path, code: str, smoke: bool) -> Part:
    """A script of this folder, which writes its result and its table into the tree."""
    file = tree / "benchmarks" / f"{name}.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", "--output", str(tree)]
    command += ["--smoke"] * smoke
    return Part(
        MEASUREMENTS[name],
        lambda: file.is_file() and json.loads(file.read_text("utf-8"))["code"] == code,
        lambda seconds: within(seconds, command, HERE),
    )


def within(seconds: float, command: list[str], where: Path) -> str:
    """Run a command for at most so long; return how it ended."""
    try:
        done = subprocess.run(command, cwd=where, timeout=seconds)
    except subprocess.TimeoutExpired:
        return CUT
    return FAILED if done.returncode else DONE


# --- notebooks ------------------------------------------------------------------------------------


def notebook(name: str, profile: str, root: Path, folder: Path) -> Part:
    """A notebook at a profile, run by the engine; its record and its pages go into the tree."""
    from joblib import cpu_count

    from press import engine, outputs

    class Job(engine.Job):
        @property
        def checkpoints(self):
            return folder / "checkpoints" / f"{profile}-{name}"

    job = Job(**vars(engine.jobs_of(name, profile, None, root)[0]))
    tree = folder / "tree"

    def done() -> bool:
        found = tree.rglob(f"{name}.{profile}*.json")
        return any(
            json.loads(f.read_text("utf-8"))["fingerprint"] == job.fingerprint for f in found
        )

    def run(seconds: float) -> str:
        engine.STOP.clear()
        timer = threading.Timer(seconds, engine.STOP.set)
        timer.daemon = True  # Ctrl-C does not wait for it
        timer.start()
        outcome = engine.run_job(job, cpu_count())
        timer.cancel()
        if outcome.status == "executed":
            stored = outputs.stored_form(
                *(engine.notebooks.parse(s, name) for s in (job.source, outcome.executed))
            )
            engine.notebooks.write(files_of(outcome.record, stored, root, tree))
            shutil.rmtree(job.checkpoints, ignore_errors=True)
            return DONE
        if engine.STOP.is_set():
            return CUT
        print(f"{job.label} failed: {outcome.note}\n{outcome.details}", flush=True)
        return FAILED

    return Part(f"{name}, {profile}", done, run)


def files_of(record, stored: dict, root: Path, tree: Path) -> dict:
    """{path: content} of a run, in the tree where the book has it, the record last.

    The book's own record of `small` is of a CPU. That of a card lies beside it, with the device in
    its name; so does one of `full` where the book has one of the same code and another device.
    """
    from press import records

    name, profile, device = record.notebook, record.profile, record.environment["device"]
    own = records.record_path(name, profile, root)
    book, files = records.read_record(name, profile, root), {}
    same = book and book.fingerprint == record.fingerprint
    place, text = own, records.history_after(record, root)
    if profile == "small" or (same and book.environment["device"] != device):
        words = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
        place, text = own.with_suffix(f".{words}.json"), ""
    elif text:
        files[records.history_path(name, profile, root)] = text
    record = records.sealed(record, stored, text)
    executed = root / "_build" / "executed" / profile / f"{name}.ipynb"
    files |= {executed: stored, place: record.to_json()}
    return {tree / path.relative_to(root): content for path, content in files.items()}


# --- all of it ------------------------------------------------------------------------------------


def parts(root: Path, folder: Path, profiles: list[str]) -> Iterator[Part]:
    """Everything, in the order in which it is worth most; on a CPU what has a meaning there."""
    from press import notebooks
    from press.engine import package_digest

    smoke = profiles == ["smoke"]
    if folder.name != CPU or smoke:
        yield tests(root, folder, package_digest(root))
        for name in MEASUREMENTS:
            yield measurement(name, folder / "tree", package_digest(HERE), smoke)
    names = notebooks.chapters(root)
    chapters = [name for name in names if has_full(name, root)]
    labs = [name for name in names if name not in chapters]
    for some, wanted in ((chapters, profiles), (labs, [p for p in profiles if p != "full"])):
        for profile in wanted:
            for name in some:
                yield notebook(name, profile, root, folder)


def has_full(name: str, root: Path) -> bool:
    """Whether a notebook has settings of the profile full: a lab has not."""
    from press import PressError, technique

    try:
        return bool(technique.settings(name, "full", root))
    except PressError:
        return False


def card(device: str) -> str:
    """Return what this machine is. Ends in one sentence where it has no card."""
    try:
        import torch
    except ModuleNotFoundError:
        sys.exit(missing_package("torch"))
    if device == CPU:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        found = "a CPU, as asked"
    elif torch.cuda.is_available():
        free, total = (number / 2**30 for number in torch.cuda.mem_get_info())
        found = f"{torch.cuda.get_device_name()}, {free:.1f} of {total:.1f} GiB free"
    else:
        sys.exit(
            "torch sees no GPU here, and `make gpu` measures one: run it on a machine with an "
            "NVIDIA card and a torch built for CUDA."
        )
    python = ".".join(map(str, sys.version_info[:3]))
    return f"{found}; {os.cpu_count()} cores, torch {torch.__version__}, Python {python}"


def missing_package(name: str | None) -> str:
    return (
        f"{name} is not installed for {sys.executable}: `make gpu` takes .venv, which `make "
        "test-fast` makes, or a bundle, which `make gpu-bundle` packs."
    )


def run(root: Path, folder: Path, profiles: list[str], minutes: float) -> int:
    """Do what is missing until the time is over; say what became of all; return the exit status."""
    from press.words import duration, table

    end, rows = time.monotonic() + 60 * minutes, []
    (folder / "tree").mkdir(parents=True, exist_ok=True)
    for part in parts(root, folder, profiles):
        started, state = time.monotonic(), TO_DO
        if part.done():
            state = BEFORE
        elif started < end:
            print(f"--- {part.name}", flush=True)
            state = part.run(end - started)
        rows.append((part.name, state, duration(time.monotonic() - started)))
    print(f"\n{table(('part', 'state', 'time'), rows)}\n")
    if sides := both_sides(folder):
        seconds = [(name, *map(duration, pair), f"{pair[0] / pair[1]:.1f}") for name, pair in sides]
        print(table(("small", "CPU", "card", "times as fast"), seconds) + "\n")
    missing = [name for name, state, _ in rows if state not in (DONE, BEFORE)]
    if missing:
        print(f"Missing: {'; '.join(missing)}. Give the command again; {folder} has the rest.")
    else:
        print(f"Nothing is missing. Into the book with it: cp -r '{folder / 'tree'}/.' '{root}'")
    return int(any(state == FAILED for _, state, _ in rows))


def both_sides(folder: Path) -> list[tuple[str, tuple[float, float]]]:
    """(notebook, (seconds on the CPU, seconds on the card)) of `small` with the same code."""
    from press import reader

    places = folder / CPU / "tree", folder / "tree"
    found = [{r.notebook: r for r in map(reader.read, p.rglob("*.small.*.json"))} for p in places]
    return [
        (name, (cpu.duration_s, card.duration_s))
        for name, cpu in sorted(found[0].items())
        if (card := found[1].get(name)) and card.fingerprint == cpu.fingerprint
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure and record everything that needs a GPU.")
    parser.add_argument("--minutes", type=float, default=12, help="stop after so long")
    parser.add_argument("--device", choices=("cuda", CPU), default="cuda")
    parser.add_argument("--profile", choices=("smoke", "small", "full"), action="append",
                        help="default: small, then full")  # fmt: skip
    arguments = parser.parse_args()
    started, bundle, found = time.monotonic(), HERE / gpu_bundle.FILE, card(arguments.device)
    if bundle.is_file() and "GPU_BUNDLE" not in os.environ:
        new = gpu_bundle.unpack(bundle, HERE / FOLDER / "bundle") | {"GPU_BUNDLE": str(bundle)}
        command = [sys.executable, "-m", "benchmarks.gpu", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | new)  # with other folders to import from
    print(found, flush=True)
    try:
        from press import PressError, engine, notebooks  # noqa: F401

        root = notebooks.book_root().resolve()
        left = arguments.minutes - (time.monotonic() - started) / 60
        folder = root / FOLDER / (CPU if arguments.device == CPU else "")
        sys.exit(run(root, folder, arguments.profile or ["small", "full"], left))
    except ModuleNotFoundError as error:
        sys.exit(missing_package(error.name))
    except PressError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
