"""The networks that the chapter on SimCLRv2 starts from: long pretrainings, shipped with the book.

``python -m studies.pretrain_simclr`` runs the chapter's own function `pretrain`, with its settings
of the profile `small`, for every seed, and for the seed that chooses rates. Finished networks stay
in ``--folder``, so that a stopped run goes on; parts may run side by side with different
``--seeds``. When all are there, they are packed into ``labutils/assets/simclr-fashion-mnist.npz``
(float16), the chapter's own `try_values` tries rates and penalties with those of the seed that
chooses, and the record beside the file holds what each scored.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import cloudpickle
import numpy as np
import torch

from labutils.start import start
from press import technique

ASSETS = Path(__file__).parent.parent / "labutils" / "assets"
NAME = "simclr-fashion-mnist"
SEEDS = tuple(range(12))  # of the results
TUNING_SEED = 1000  # its networks choose rates and penalties, and do nothing else
TRIED = ("labels", "num_validation", "batch", "steps_pretrained", "steps_scratch", "steps_student",
         "rates_pretrained", "rates_random", "probe_strengths", "tuning_draws", "operations",
         "padding", "decay", "temperature")  # fmt: skip
RECORDED = ("dataset", "num_validation", "stages", "blocks", "stem_stride", "output", "temperature",
            "pretraining_steps", "pretraining_batch", "pretraining_rate", "pretraining_decay",
            "crop", "strength")  # fmt: skip


def experiment(root: Path | None = None):
    """The chapter's experiment at `small` as a module; ``lab`` and ``S`` stand in it."""
    settings = technique.settings("simclrv2", "small", root)
    rows = {name: (value, value, "", "") for name, value in settings.items()}
    lab = start("simclrv2", rows, profile="small", seeds=None)
    given = {"lab": lab, "S": lab.settings}
    code = technique.load("simclrv2", root, ("technique", "experiment"), given)
    sys.modules[code.__name__] = code  # its functions go to other processes as they are
    cloudpickle.register_pickle_by_value(code)
    return code


def names(code, seed: int) -> list[str]:
    """The pretrainings of a seed."""
    return code.pretrainings_of(None if seed == TUNING_SEED else seed)


def file_of(folder: Path, seed: int, name: str) -> Path:
    return folder / f"{seed}-{name.replace(' ', '-')}.pt"


def run(code, seed: int, folder: Path) -> None:
    """Pretrain the networks of one seed that ``folder`` does not hold yet."""
    for name in names(code, seed):
        file, started = file_of(folder, seed, name), time.process_time()
        if file.exists():
            continue
        state = code.pretrain(seed, name, code.S.pretraining_steps)
        seconds = round(time.process_time() - started, 1)
        torch.save({"state": state, "cpu_seconds": seconds}, file.with_suffix(".part"))
        file.with_suffix(".part").rename(file)
        print(f"seed {seed}, {name}: {seconds} s", flush=True)


def try_values(code, folder: Path) -> dict:
    """What rates and penalties score with the networks of the seed that chooses, in float16."""
    tried = json.dumps({name: getattr(code.S, name) for name in TRIED})
    file, states = folder / f"scores-{hashlib.md5(tried.encode()).hexdigest()}.json", {}
    if not file.exists():  # with other settings, others score
        for name in names(code, TUNING_SEED):
            state = torch.load(file_of(folder, TUNING_SEED, name), weights_only=True)["state"]
            states[name] = {key: value.half().to(value.dtype) for key, value in state.items()}
        file.write_text(json.dumps(code.try_values(states)))
    return json.loads(file.read_text())


def pack(code, folder: Path) -> dict:
    """Write the shipped file and its record; keys of the arrays: ``SEED/NAME/PARAMETER``."""
    arrays, seconds = {}, {}
    for seed in (*SEEDS, TUNING_SEED):
        for name in names(code, seed):
            found = torch.load(file_of(folder, seed, name), weights_only=True)
            seconds.setdefault(name, []).append(found["cpu_seconds"])
            for key, value in found["state"].items():
                if not key.endswith("num_batches_tracked") and "classifier" not in key:
                    arrays[f"{seed}/{name}/{key}"] = value.numpy().astype(np.float16)
    path = ASSETS / f"{NAME}.npz"
    np.savez_compressed(path, **arrays)
    record = {
        "finished": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "command": "python -m studies.pretrain_simclr",
        "settings": {name: getattr(code.S, name) for name in RECORDED},
        "tried": {name: getattr(code.S, name) for name in TRIED},
        "scores": try_values(code, folder),
        "seeds": {"results": list(SEEDS), "choosing rates": TUNING_SEED},
        "cpu_seconds": seconds,
        "storage": "float16",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "bytes": path.stat().st_size,
        "torch": torch.__version__.split("+")[0],
    }
    path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("_build/simclr"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[*SEEDS, TUNING_SEED])
    parser.add_argument("--root", type=Path, help="the book's folder")
    arguments = parser.parse_args()
    os.environ.setdefault("LABUTILS_HEADLESS", "1")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    code = experiment(arguments.root)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small networks gain nothing from a second; run two parts instead
    for seed in arguments.seeds:
        run(code, seed, arguments.folder)
    torch.set_num_threads(threads)  # as many rates are tried at once
    if TUNING_SEED in arguments.seeds:
        try_values(code, arguments.folder)
    wanted = [(seed, n) for seed in (*SEEDS, TUNING_SEED) for n in names(code, seed)]
    missing = [pair for pair in wanted if not file_of(arguments.folder, *pair).exists()]
    if missing:
        print(f"{len(missing)} of {len(wanted)} networks are still to come; nothing is packed")
    else:
        print(f"packed {pack(code, arguments.folder)['bytes']:,} bytes")


if __name__ == "__main__":
    main()
