"""Loading of data: ours beside torchvision's data sets, files in the page cache of the system.

Ours unpacks the published gzip files, checks their content and splits it, each time. torchvision's
``FashionMNIST`` finds the files unpacked, as its download left them, and checks nothing; the second
row gives it the work of unpacking, too. The packaged subset is read by ours from its ``npz`` and by
torchvision from the same images as IDX files. `limit` reads the bytes of our files.

Run ``python -m benchmarks.loading`` (or ``make bench``) on a quiet machine. It writes
``loading.json`` beside this file and the table of the book page.
"""

from __future__ import annotations

import gzip
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torchvision import datasets

from benchmarks import sides
from labutils import data
from labutils.data import images

RESULT = Path(__file__).parent / "loading.json"
FULL, MINI = "fashion-mnist", images.MINI
IDX = {"train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
       "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")}  # fmt: skip


def ours(name: str) -> Callable:
    def run():
        images._read.cache_clear()  # what a process has read, it keeps
        return data.load(name, num_validation=0, generator=torch.Generator().manual_seed(0))

    return run


def torchvision(root: Path) -> Callable:
    return lambda: [datasets.FashionMNIST(root, train=train) for train in (True, False)]


def raw_folder(root: Path) -> Path:
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def unpack(source: Path, root: Path) -> Path:
    """The gzip files of a folder, unpacked where torchvision looks for them."""
    for file in source.glob("*.gz"):
        with gzip.open(file) as packed, (raw_folder(root) / file.stem).open("wb") as plain:
            shutil.copyfileobj(packed, plain)
    return root


def write_idx(root: Path) -> Path:
    """The packaged subset as IDX files."""
    dataset = ours(MINI)()
    for split, names in IDX.items():
        part = getattr(dataset, split)
        for name, array in zip(names, (part.images[:, 0], part.labels), strict=True):
            array = array.numpy().astype(np.uint8)
            head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (raw_folder(root) / name).write_bytes(head + array.tobytes())
    return root


def loads(folder: Path, names=(FULL, MINI)) -> dict[str, dict[str, Callable]]:
    """{what: {side: a call that loads training and test images}}."""
    found = {}
    if FULL in names:
        source, plain = data.fetch(FULL), unpack(data.fetch(FULL), folder / "plain")
        again, limit = folder / "again", lambda: [f.read_bytes() for f in source.glob("*.gz")]
        found["Fashion-MNIST, 70,000 images; the peer unpacked"] = {
            "ours": ours(FULL), "peer": torchvision(plain), "limit": limit,
        }  # fmt: skip
        found["Fashion-MNIST; the peer unpacks"] = {
            "ours": ours(FULL), "limit": limit,
            "peer": lambda: torchvision(unpack(source, again))(),
        }  # fmt: skip
    if MINI in names:
        file = data.fetch(MINI) / f"{MINI}.npz"
        found["the packaged subset, 3,000 images"] = {
            "ours": ours(MINI), "peer": torchvision(write_idx(folder / "mini")),
            "limit": file.read_bytes,
        }  # fmt: skip
    return found


def measure(repetitions: int, names=(FULL, MINI)) -> dict:
    """{"rows": {what: {side: seconds in each turn}}}."""
    sides.one_core()
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, runs in loads(Path(folder), names).items():
            timed = {side: sides.seconds(run) for side, run in runs.items()}
            rows[name] = sides.in_turns(timed, repetitions)
            print(name, flush=True)
    return {"rows": rows}


def render(result: dict) -> str:
    """The table of the book's page."""
    head = ["data", "ours, seconds", "torchvision's / ours", "ours / reading our files"]
    body = [
        [name, sides.spread(row["ours"], 3), sides.ratio(row["peer"], row["ours"]),
         sides.ratio(row["ours"], row["limit"])]
        for name, row in result["rows"].items()
    ]  # fmt: skip
    return "\n".join([*sides.table(head, body), "", sides.origin(result), ""])


if __name__ == "__main__":
    sides.main("loading", measure, render, "torchvision")
