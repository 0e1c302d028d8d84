"""Rebuild fashion-mnist-mini.npz: the first images of each class of Fashion-MNIST, in file order.

Run ``python -m studies.make_fashion_mnist_mini [FOLDER]``; the result is the same, bit for
bit, wherever numpy and zlib are the same, and the arrays are the same everywhere.
"""

import sys
from pathlib import Path

import numpy as np

from labutils.data.images import read

ASSETS = Path(__file__).parent.parent / "labutils" / "assets"

PER_CLASS = {"train": 200, "test": 100}


def make(folder: Path) -> Path:
    """Write fashion-mnist-mini.npz into ``folder`` from the full data set."""
    train, test, _ = read("fashion-mnist")
    splits = {"train": train, "test": test}
    arrays = {}
    for split, per_class in PER_CLASS.items():
        labels = splits[split].labels.numpy()
        chosen = np.sort(
            np.concatenate([np.flatnonzero(labels == c)[:per_class] for c in range(10)])
        )
        arrays[f"{split}_images"] = splits[split].images[chosen, 0].numpy()
        arrays[f"{split}_labels"] = labels[chosen].astype(np.uint8)
    path = Path(folder) / "fashion-mnist-mini.npz"
    np.savez_compressed(path, **arrays)
    return path


if __name__ == "__main__":
    print(make(Path(sys.argv[1]) if len(sys.argv) > 1 else ASSETS))
