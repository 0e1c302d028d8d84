"""The start of every notebook: settings of the profile, device, seeded generators, ledger."""

import hashlib
import os
import platform
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace

import joblib
import numpy as np
import torch

from labutils import PROFILES, __version__, capture, find_root, kept
from labutils.claims import Ledger, digest
from labutils.progress import log, progress_bar


@dataclass(frozen=True)
class Streams:
    """Independent random streams of one seed: changing how one is used leaves the others alone.

    The first three are on the CPU, so that a GPU run draws the same splits and indices; that of
    augmentation is on the chapter's device, so that no step waits for its draws.
    """

    split: torch.Generator
    initialisation: torch.Generator
    sampling: torch.Generator
    augmentation: torch.Generator


@dataclass(frozen=True)
class Lab:
    """What `start` returns; see there."""

    name: str
    profile: str
    settings: SimpleNamespace
    seeds: tuple[int, ...]
    device: torch.device
    ledger: Ledger
    folder: Path  # of records
    _rows: dict
    _key: str

    def streams(self, seed: int) -> Streams:
        """Fresh generators for one seed; every call with the same seed returns the same streams."""
        children = np.random.SeedSequence(seed).spawn(len(Streams.__dataclass_fields__))
        # 63 bits, since manual_seed takes a signed 64-bit integer
        states = [int(child.generate_state(1, np.uint64)[0] >> np.uint64(1)) for child in children]
        generators = [torch.Generator().manual_seed(state) for state in states]
        generators[-1] = torch.Generator(self.device).manual_seed(states[-1])
        return Streams(*generators)

    def settings_table(self):
        """All profiles beside the paper, a pandas DataFrame with a row per setting."""
        import pandas as pd

        pd.set_option("display.max_colwidth", None)
        width = len(next(iter(self._rows.values())))
        columns = [*PROFILES[: width - 2], "paper", "why"]
        return pd.DataFrame.from_dict(self._rows, orient="index", columns=columns).astype(str)

    def checkpoint(self, run: str) -> Path | None:
        """Where `training.train` keeps the checkpoint of `run`, or None when none are kept.

        Checkpoints are kept when the environment variable LABUTILS_CHECKPOINTS names a folder (on a
        mounted drive, say). Profile, settings and code are part of the path, so that a run never
        continues from what other settings or other code had written.
        """
        if not (folder := os.environ.get("LABUTILS_CHECKPOINTS")):
            return None
        return Path(folder).expanduser() / f"{self.name}-{self.profile}-{self._key}" / f"{run}.pt"

    def map(self, function: Callable, arguments: Iterable[tuple], description: str) -> list:
        """`[function(*job) for job in arguments]` with a progress bar; results in this order.

        On a CPU the chapter's threads become as many processes of one thread each: small networks
        gain nothing from threads inside a layer. On CUDA the first job runs here, and shows how
        many processes can share the card for the others. Elsewhere all jobs run here, in turn.

        Where checkpoints are kept (see `checkpoint`), the result of every finished job is too, and
        a job with the same code and arguments is not run again; see `labutils.kept`.
        """
        arguments = list(arguments)
        files = self._files(function, arguments, description)
        done = [file is not None and file.exists() for file in files]  # others may write, too
        results = [kept.load(f) if f and d else None for f, d in zip(files, done, strict=True)]
        left = [k for k, finished in enumerate(done) if not finished]
        with progress_bar(len(results), description, initial=len(results) - len(left)) as bar:

            def run(jobs: list[int], workers: int) -> None:
                parallel = joblib.Parallel(max(1, workers), return_as="generator", batch_size=1)
                outcomes = parallel(
                    joblib.delayed(_run)(function, arguments[k], files[k], self.device.type)
                    for k in jobs
                )
                with warnings.catch_warnings():  # a worker whose memory grew is replaced: no harm
                    warnings.filterwarnings("ignore", message="A worker stopped")
                    for k, result in zip(jobs, outcomes, strict=True):
                        results[k] = result
                        bar.update()

            if self.device.type == "cuda" and len(left) > 1:
                began = perf_counter()
                run(left[:1], 1)
                left = left[1:]
                workers = capture.workers(self.device, len(left), perf_counter() - began)
                log(f"{description}: {workers} at a time on the card")
            else:
                workers = torch.get_num_threads() if self.device.type == "cpu" else 1
            run(left, min(workers, len(left)))
        return results

    def identity_parts(self) -> list:
        """What a job that uses the chapter depends on: what was asked of it, not its ledger."""
        return [self.name, self.profile, self._key, self.seeds, self.device]

    def _files(self, function, arguments, description) -> list[Path | None]:
        """Where each job's result is kept; None where it is not."""
        if self.checkpoint("") is None:
            return [None] * len(arguments)
        known: dict = {}
        try:
            names = [kept.identity(function, job, known) for job in arguments]
        except kept.NotKept as error:
            log(f"{description}: results are not kept, for the jobs depend on a {error}")
            return [None] * len(arguments)
        files = [self.checkpoint(f"jobs/{name}") for name in names]
        if done := sum(file is not None and file.exists() for file in files):
            log(f"{description}: {done} of {len(files)} jobs were finished before")
        return files

    def save(self) -> Path:
        """Write the chapter's record and return its path.

        In a clone of the book it goes to `_build/results`: the committed record in `results/` is
        replaced by `python -m press execute` alone, after a whole run.
        """
        if self.device.type == "cuda":
            reserved = torch.cuda.max_memory_reserved(self.device)
            self.ledger.peak_gpu_memory_mb = round(reserved / 2**20)
        return self.ledger.save(self.folder)


def start(
    notebook: str,
    settings: Mapping[str, tuple],
    *,
    profile: str = "small",
    seeds: Sequence[int] | None = None,
) -> Lab:
    """Begin a notebook: choose the profile's settings, device and seeds; print one provenance line.

    notebook: its file's name without folder and ending, e.g. "rs2". settings: one row per knob,
    {name: (smoke, small, full, paper, why)}, or without `full` in all rows; the last two are text
    for `Lab.settings_table`. One knob is `num_seeds`. profile: overridden by the environment
    variable LABUTILS_PROFILE. seeds: default 0 .. num_seeds - 1.

    Raises ValueError for an unknown profile, rows of other or unequal lengths, or seeds that are
    not distinct integers >= 0.
    """
    if isinstance(seeds, int | str):
        raise TypeError(f"seeds must be a list of distinct integers >= 0, got {seeds!r}")
    profile = os.environ.get("LABUTILS_PROFILE") or profile
    chosen = _column(settings, profile)
    seeds = tuple(range(chosen["num_seeds"])) if seeds is None else tuple(seeds)
    if not seeds or len(set(seeds)) < len(seeds) or any(type(s) is not int or s < 0 for s in seeds):
        raise ValueError(f"seeds must be distinct integers >= 0, got {list(seeds)}")

    device = torch.device(
        "cuda" if torch.cuda.is_available()
        else "mps" if torch.backends.mps.is_available()
        else "cpu"
    )  # fmt: skip
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # "4,2" has nested levels
    torch.set_num_threads(int(asked or joblib.cpu_count()))  # the cores that this process may use
    torch.backends.cudnn.benchmark = False  # the search for the fastest kernel is not repeatable
    torch.backends.cudnn.deterministic = True

    root = find_root()
    environment = _environment(device)
    code = os.environ.get("LABUTILS_CODE") or package_digest()  # the engine knows the notebook's
    key = digest([code, chosen])[:12]
    ledger = Ledger(notebook, profile, list(seeds), chosen, environment)
    print(
        f"{notebook} | profile {profile} | seeds {', '.join(map(str, seeds))} | "
        f"{environment['device']} | torch {environment['torch']}, labutils {__version__}, Python {environment['python']}"  # noqa: E501
    )
    folder = root / "_build" / "results" if root else Path("results")
    return Lab(
        notebook, profile, SimpleNamespace(**chosen), seeds, device, ledger, folder,
        dict(settings), key,
    )  # fmt: skip


def _column(settings: Mapping[str, tuple], profile: str) -> dict:
    """The settings of one profile out of rows as `start` takes them."""
    lengths = {len(row) if isinstance(row, tuple) else 0 for row in settings.values()}
    if lengths not in ({len(PROFILES) + 2}, {len(PROFILES) + 1}):
        odd = [name for name, row in settings.items() if not isinstance(row, tuple)]
        raise ValueError(
            "settings must have one row per knob, name: (smoke, small, full, paper, why), all with "
            f"`full` or all without; got rows of lengths {sorted(lengths)}{odd or ''}"
        )
    profiles = PROFILES[: lengths.pop() - 2]
    if profile not in profiles:
        raise ValueError(f"unknown profile {profile!r}; choose one of: {', '.join(profiles)}")
    return {name: row[profiles.index(profile)] for name, row in settings.items()}


def package_digest() -> str:
    """16 hex digits that change with any file of this package."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _run(function: Callable, job: tuple, file: Path | None, device: str):
    """One job of `Lab.map`, in a worker or in the chapter's own process."""
    threads = torch.get_num_threads()
    torch.backends.cudnn.deterministic = True  # `start` did so in the chapter's process only
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        result = function(*job)
    finally:
        torch.set_num_threads(threads)
    if file is not None:
        try:
            kept.save(result, file)
        except kept.NotKept as error:
            log(f"{getattr(function, '__name__', 'a job')}: a result holds a {error}: not kept")
    return result


def _environment(device: torch.device) -> dict[str, str]:
    # platform.processor() is empty on most Linux systems
    file = Path("/proc/cpuinfo")
    found = re.search("model name.*: (.*)", file.read_text()) if file.exists() else None
    processor = found[1] if found else platform.processor() or platform.machine()
    name = f"{device.type} ({processor}, {torch.get_num_threads()} threads)"
    return {
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in ("torch", "torchvision", "numpy")},
        "labutils": __version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else name,
        "platform": f"{platform.system()}-{platform.machine()}",
    }
