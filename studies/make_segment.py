"""Make segment.npz, the table *Statlog (Image Segmentation)*, out of the copy in a package.

Run ``python -m studies.make_segment FILE [FOLDER]``, where FILE is the ``segment.csv.zip`` in the
folder ``river/datasets`` of the package river 0.22.0 (``pip download river==0.22.0 --no-deps``).
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

ASSETS = Path(__file__).parent.parent / "labutils" / "assets"


def make(file: Path, folder: Path) -> Path:
    """Write segment.npz: columns float32 (2310, 18), their names, classes uint8, their names."""
    rows = pd.read_csv(file)
    names, classes = np.unique(rows.pop("category"), return_inverse=True)
    path = Path(folder) / "segment.npz"
    np.savez_compressed(
        path, columns=rows.to_numpy(np.float32), column_names=np.array(rows.columns, str),
        classes=classes.astype(np.uint8), class_names=names.astype(str),
    )  # fmt: skip
    return path


if __name__ == "__main__":
    print(make(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else ASSETS))
