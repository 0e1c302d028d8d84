"""Many seeds of one chapter, each a job of its own, on this machine or on a Dask cluster.

A job executes the notebook for one seed. Finished jobs are stored at once; a sweep that was
interrupted goes on with the rest. At the end the jobs' records become one, and every claim is
judged anew over all seeds.
"""

import contextlib
import json
import os
import re
import shutil
import tempfile
import threading
import time
import traceback
from pathlib import Path

from labutils import formats
from press import notebooks, staleness
from press.engine import (
    DEFAULT_MEMORY_MB,
    Outcome,
    PipelineError,
    _checked,
    _terminable,
    cores,
    duration,
    end,
    explain,
    kernel_environment,
    plain,
    read_record,
    start_papermill,
    summary,
    table,
    tree_bytes,
)

ATTEMPTS = 2


def parse_seeds(text):
    """Return the seeds of ``"0-9"`` or ``"0,3,5-7"`` as a list; ``ValueError`` says what is odd."""
    seeds = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
        if not match or (match[2] and int(match[2]) < int(match[1])):
            raise ValueError(f"{text!r} is not a list of seeds such as 0-9 or 0,3,5-7")
        seeds += range(int(match[1]), int(match[2] or match[1]) + 1)
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{text!r} names a seed twice")
    return seeds


def folder_of(chapter, profile, root):
    """Return where the finished jobs of a chapter lie; other code has another folder."""
    code = staleness.fingerprint(chapter, root)
    return root / "_build" / "sweep" / profile / f"{chapter}-{code}"


def record_path(chapter, profile, root):
    """Return where the merged record is written."""
    return root / "_build" / "sweep" / profile / f"{chapter}.json"


def sweep(chapter, seeds, profile="small", *, workers=None, dask=None, force=False, root=None):
    """Run a chapter for each of ``seeds`` and merge the records; return one ``Outcome`` per seed.

    ``workers``: processes on this machine, each with one thread (default: what cores and memory
    allow; one for ``full``). ``dask``: address of a running Dask scheduler, whose workers then do
    the jobs. A failed job is tried once more. ``force``: run finished seeds again. Raises
    ``PipelineError`` for an unknown chapter or profile, and for a cluster that does not answer.
    """
    root = notebooks.book_root(root).resolve()
    _checked([chapter], profile, root)
    folder = folder_of(chapter, profile, root)
    files = {seed: folder / f"seed-{seed}.json" for seed in seeds}
    for seed, file in files.items() if force else ():
        file.unlink(missing_ok=True)
        shutil.rmtree(_checkpoints(chapter, profile, seed, root), ignore_errors=True)
    outcomes = {
        seed: Outcome(f"seed {seed}", "fresh", "finished before")
        for seed, file in files.items()
        if file.exists()
    }
    waiting = [seed for seed in seeds if seed not in outcomes]
    workers = min(workers or _default_workers(chapter, profile, root), max(1, len(waiting)))
    at = f"the cluster at {dask}" if dask else f"{workers} process{'es' * (workers > 1)}"
    print(f"{chapter}, profile {profile}: {len(waiting)} of {len(seeds)} seeds to run on {at}")
    try:
        with _terminable(), _engine(dask) as run_all:
            for attempt in range(ATTEMPTS):
                if attempt and waiting:
                    print(f"trying again: {', '.join(f'seed {seed}' for seed in waiting)}")
                parent = None if dask else os.getpid()
                jobs = [_job(chapter, profile, seed, root, parent) for seed in waiting]
                with _Report(len(seeds), len(seeds) - len(waiting)) as report:
                    for result in run_all(jobs, workers):
                        outcome = _outcome(result)
                        outcomes[result["seed"]] = outcome
                        if outcome.status == "executed":
                            text = json.dumps(result["record"], indent=1)
                            notebooks.write_text(text + "\n", files[result["seed"]])
                        report.ended(outcome)
                for seed in waiting:
                    lost = Outcome(f"seed {seed}", "failed", "its worker was lost")
                    outcomes.setdefault(seed, lost)
                waiting = [seed for seed in waiting if outcomes[seed].status == "failed"]
                if not waiting:
                    break
                if attempt + 1 < ATTEMPTS:
                    for seed in waiting:
                        print(f"seed {seed} failed: {outcomes.pop(seed).note}")
    finally:
        for seed in seeds:
            outcomes.setdefault(seed, Outcome(f"seed {seed}", "stopped", "interrupted"))
        ordered = [outcomes[seed] for seed in seeds]
        for outcome in ordered:
            if outcome.status == "failed":
                print(f"\n{outcome.chapter} failed: {outcome.note}\n{outcome.details}")
        print("\n" + summary(ordered, "job"))
    finished = [json.loads(file.read_text("utf-8")) for file in files.values() if file.exists()]
    if finished:
        merged = merge(finished)
        merged["fingerprint"] = staleness.fingerprint(chapter, root)
        merged["code"] = staleness.fingerprint_parts(chapter, root)
        path = record_path(chapter, profile, root)
        notebooks.write_text(json.dumps(merged, indent=1, ensure_ascii=False) + "\n", path)
        print("\n" + claims_table(merged))
        merged_of = f"{len(finished)} seed{'s' * (len(finished) > 1)}"
        print(f"\nThe record of {merged_of} is {path.relative_to(root)}", flush=True)
    return ordered


def _default_workers(chapter, profile, root):
    import psutil

    if profile == "full":
        return 1
    need = (read_record(chapter, profile, root) or {}).get("peak_memory_mb") or DEFAULT_MEMORY_MB
    return max(1, min(cores(), int(psutil.virtual_memory().available / 2**20 * 0.9 / need)))


@contextlib.contextmanager
def _engine(dask):
    """Give a function that yields the results of jobs as they end, through joblib."""
    import joblib

    def run_all(jobs, workers):
        parallel = joblib.Parallel(
            n_jobs=-1 if dask else workers, return_as="generator_unordered",
            batch_size=1, pre_dispatch="all",
        )  # fmt: skip
        try:
            yield from parallel(joblib.delayed(run_job)(job) for job in jobs)
        except Exception as error:  # a pool with a dead worker loses its other jobs too
            print(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")

    if not dask:
        with joblib.parallel_config("loky", inner_max_num_threads=1):
            yield run_all
        return
    try:
        from distributed import Client
    except ImportError:
        raise PipelineError("--dask needs a package: pip install distributed") from None
    try:
        client = Client(dask, timeout="20s")
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise PipelineError(
            f"no Dask scheduler answers at {dask} ({reason}); expected an address such as "
            "tcp://10.0.0.1:8786, which `dask scheduler` prints"
        ) from None
    with client, joblib.parallel_config("dask"):
        yield run_all


# --- one job --------------------------------------------------------------------------------------


def _checkpoints(chapter, profile, seed, root):
    return root / "_build" / "checkpoints" / f"sweep-{profile}-{chapter}-{seed}"


def _job(chapter, profile, seed, root, parent=None):
    """Return all that a worker needs, as plain values; it need not see this machine's files.

    ``parent``: the process with which the job ends, None for a worker on its own.
    """
    notebook = notebooks.read(notebooks.path(chapter, root))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    return {
        "chapter": chapter,
        "profile": profile,
        "seed": seed,
        "notebook": json.dumps(notebook),
        "code": staleness.package_digest(),
        "fingerprint": staleness.fingerprint(chapter, root),
        "checkpoints": str(_checkpoints(chapter, profile, seed, root)),
        "root": str(root),
        "parent": parent,
    }


def run_job(job):
    """Execute a chapter for one seed, on whatever machine this is; return what came out."""
    started = time.monotonic()
    result = {
        "seed": job["seed"],
        "record": None,
        "note": "",
        "details": "",
        "peak_memory_mb": None,
    }
    try:
        with tempfile.TemporaryDirectory(prefix="labutils-sweep-") as scratch:
            _execute(job, Path(scratch), result)
    except Exception as error:
        result["note"] = f"{type(error).__name__}: {error}"
        result["details"] = traceback.format_exc()
    result["seconds"] = time.monotonic() - started
    if result["record"]:
        result["record"]["duration_s"] = round(result["seconds"], 1)
        result["record"]["peak_memory_mb"] = result["peak_memory_mb"]
    return result


def _execute(job, scratch, result):
    import psutil

    package = Path(__file__).resolve().parents[1]
    if staleness.package_digest() != job["code"]:
        result["note"] = f"the worker's labutils ({package}) differs from the sweep's"
        result["details"] = "Install the same version of the book's package on all machines."
        return
    source, output, log = scratch / "input.ipynb", scratch / "output.ipynb", scratch / "log"
    source.write_text(job["notebook"], encoding="utf-8")
    # a worker thread is one slot of the cluster: one thread, unless the worker says otherwise
    threads = os.environ.get("OMP_NUM_THREADS") or 1
    environment = kernel_environment(scratch, job["profile"], threads, package, job["fingerprint"])
    # a job that dies goes on from here, where this machine has the book's folder
    if Path(job["root"]).is_dir() and job["profile"] != "smoke":
        environment["LABUTILS_CHECKPOINTS"] = job["checkpoints"]
    process = start_papermill(
        source, output, folder=scratch, log=log, environment=environment,
        options=["--language", "python", "--parameters_yaml", f"seeds: [{job['seed']}]"],
    )  # fmt: skip
    tree, peak = psutil.Process(process.pid), 0
    try:
        while process.poll() is None:
            peak = max(peak, tree_bytes(tree))
            time.sleep(0.2)
            if job["parent"] not in (None, os.getpid(), os.getppid()):
                break  # the sweep was killed
    finally:
        if process.poll() is None:
            end(process)
    result["peak_memory_mb"] = round(peak / 2**20)
    record = scratch / "results" / f"{job['chapter']}.{job['profile']}.json"
    if process.returncode:
        result["note"], result["details"] = explain(output, log, process.returncode)
    elif not record.is_file():
        result["note"] = "no record: the chapter did not save its ledger"
    else:
        # a worker without the book cannot know the fingerprint of the notebook that was sent
        record = json.loads(record.read_text(encoding="utf-8"))
        result["record"] = record | {"fingerprint": job["fingerprint"]}
        shutil.rmtree(job["checkpoints"], ignore_errors=True)


def _outcome(result):
    status = "executed" if result["record"] else "failed"
    return Outcome(
        f"seed {result['seed']}", status, plain(result["note"]), result["seconds"],
        result["peak_memory_mb"], plain(result["details"]),
    )  # fmt: skip


# --- merging --------------------------------------------------------------------------------------


def merge(records):
    """Return one record made of records of single seeds, ``{"seeds": [k], ...}`` each.

    Every claim is judged anew by the ledger over all seeds. Where the seeds' runs compared
    different arms (a rival that each run chooses for itself), the arm carries all their names. A
    number becomes the mean of the seeds' values, which stand beside it. What some seeds lack is
    left out and listed under ``not_merged``. Raises ``PipelineError`` for records that do not
    belong together.
    """
    from labutils.claims import Ledger

    records = sorted(records, key=lambda record: record["seeds"])
    first = records[0]
    for record in records:
        for key in ("chapter", "profile", "settings", "fingerprint"):
            if record[key] != first[key]:
                raise PipelineError(
                    f"records of seeds {first['seeds']} and {record['seeds']} differ in {key}; "
                    "only runs of the same code and settings can be merged"
                )
    seeds = [seed for record in records for seed in record["seeds"]]
    if len(set(seeds)) < len(seeds):
        raise PipelineError(f"records to merge share a seed: {seeds}")
    environment = {
        key: ", ".join(dict.fromkeys(record["environment"][key] for record in records))
        for key in first["environment"]
    }
    ledger = Ledger(first["chapter"], first["profile"], seeds, first["settings"], environment)
    by_id = [{claim["id"]: claim for claim in record["claims"]} for record in records]
    left_out = []
    for name in dict.fromkeys(name for claims in by_id for name in claims):
        if all(name in claims for claims in by_id):
            _merge_claim(ledger, [claims[name] for claims in by_id])
        else:
            left_out.append(f"claim {name}")
    for name in dict.fromkeys(name for record in records for name in record["numbers"]):
        found = [record["numbers"][name] for record in records if name in record["numbers"]]
        if len(found) < len(records):
            left_out.append(f"number {name}")
            continue
        values = [number["value"] for number in found]
        mean = sum(values) / len(values)
        ledger.numbers[name] = {"value": mean, "unit": found[0]["unit"], "values": values}
    merged = ledger.record()
    merged["title"] = first.get("title", "")
    merged["duration_s"] = round(sum(record["duration_s"] for record in records), 1)
    for key in ("peak_memory_mb", "peak_gpu_memory_mb"):
        merged[key] = max((r[key] for r in records if r.get(key)), default=None)
    merged["not_merged"] = left_out
    return merged


def _merge_claim(ledger, claims):
    first = claims[0]
    arms = [list(dict.fromkeys(claim["arms"][k] for claim in claims)) for k in (0, 1)]
    names = [" or ".join(names) for names in arms]
    if names[0] == names[1]:
        names = [f"first: {names[0]}", f"second: {names[1]}"]
    statement = first["statement"]
    for own, name in zip(first["arms"], names, strict=True):
        if own != name:
            statement = statement.replace(own, name)
    ledger.claim(
        first["id"], statement, where=first["where"], direction=first["direction"],
        margin=first["margin"], unit=first["unit"], paper=first["paper"],
        values={
            name: [value for claim in claims for value in claim["values"][claim["arms"][k]]]
            for k, name in enumerate(names)
        },
    )  # fmt: skip


def claims_table(record):
    """Return the claims of a record as a plain-text table."""
    rows = []
    for claim in record["claims"]:
        ours = formats.interval(claim["difference"]) if claim["difference"] else "one seed"
        rows.append((claim["id"], f"{ours} {claim['unit']}", claim["verdict"]))
    return table(("claim", f"difference over {len(record['seeds'])} seeds", "verdict"), rows)


class _Report:
    """A line per finished job and, while nothing ends, per minute; with the time left."""

    def __init__(self, total, done):
        self.total, self.done, self.before = total, done, done
        self.started, self.over = time.monotonic(), threading.Event()

    def __enter__(self):
        threading.Thread(target=self._minutes, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.over.set()

    def _minutes(self):
        while not self.over.wait(60):
            print(f"{self._state()}", flush=True)

    def _state(self):
        spent, ran = time.monotonic() - self.started, self.done - self.before
        left = f", {duration(spent / ran * (self.total - self.done))} left" if ran else ""
        return f"{self.done} of {self.total} seeds after {duration(spent)}{left}"

    def ended(self, outcome):
        self.done += outcome.status == "executed"
        took = duration(outcome.seconds)
        print(f"{outcome.chapter}: {outcome.status} in {took}; {self._state()}", flush=True)
