"""Digests of what must not change unseen: kept files, packaged data, outputs, histories."""

import hashlib

from labutils.claims import digest
from press import PressError, notebooks

HEXADECIMAL = 64  # digits of a sha256


def damaged(folder):
    """Return the kept files in a folder whose last 64 bytes are not the sha256 of the others.

    Checked here too, and before a run, because `labutils.kept` needs torch.
    """
    found = ((file, file.read_bytes()) for file in sorted(folder.rglob("*.pt")))
    return [f for f, c in found if _sha256(c[:-HEXADECIMAL]).encode() != c[-HEXADECIMAL:]]


def check_assets(package):
    """Raise ``PressError`` unless the data of a labutils are those of its ``assets.sha256``."""
    listed, folder = package / "assets.sha256", package / "assets"
    if not listed.is_file():
        return
    lines = listed.read_text(encoding="utf-8", errors="replace").splitlines()
    expected = {line[HEXADECIMAL + 2 :]: line[:HEXADECIMAL] for line in lines}
    found = {file.name: _sha256(file.read_bytes()) for file in folder.iterdir()}
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            raise PressError(
                f"{folder / name} is not the file that {listed.name} lists; restore it, or after "
                f"a change that is meant: cd '{folder}' && sha256sum * > ../{listed.name}"
            )


def of_outputs(notebook):
    """Return the digest of all outputs of a notebook, glued values too; prose may change."""
    cells = notebooks.code_cells(notebook)
    return digest([[c.get("execution_count"), c.get("outputs", [])] for _, c in cells])


def of_history(text):
    """Return the digest of the lines of a history file, None if there are none."""
    return digest(text.splitlines()) if text else None


def _sha256(content):
    return hashlib.sha256(content).hexdigest()
