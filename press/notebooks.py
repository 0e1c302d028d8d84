"""Notebooks as files: where they lie, how they are read and written, their setup cells.

``root`` is always the book's folder (the one that holds ``_config.yml`` and ``labutils/``); left
out, it is found from the working folder upwards, then from the package.
"""

import json
import os
import tempfile
from pathlib import Path

from labutils import find_root
from press import PressError

VOLATILE_METADATA = ("papermill", "execution", "ExecuteTime", "widgets")


class NotebookError(PressError):
    """A chapter cannot be found, read or loaded; the message says which one and what to do."""


def book_root(root=None):
    """Like ``find_root``, but ``root`` itself if given, and ``NotebookError`` instead of None."""
    root = Path(root) if root else find_root()
    if root is None:
        raise NotebookError(
            f"the book's folder was not found from {Path.cwd()}: expected a folder that holds "
            "_config.yml and labutils/. Run this inside a clone of the book."
        )
    return root


def chapters(root=None):
    """Return the names of all chapters, ``["clip", ...]``, in the order of the book."""
    return sorted(path.stem for path in (book_root(root) / "notebooks").glob("*/*.ipynb"))


def path(chapter, root=None):
    """Return the chapter's file. Raises ``NotebookError`` with the valid names if there is none."""
    root = book_root(root)
    found = sorted((root / "notebooks").glob(f"*/{chapter}.ipynb"))
    if len(found) != 1:
        valid = ", ".join(chapters(root)) or "none yet"
        raise NotebookError(f"unknown chapter {chapter!r}; the chapters are: {valid}")
    return found[0]


def theme(chapter, root=None):
    """Return the name of the folder that a chapter lies in."""
    return path(chapter, root).parent.name


def read(file):
    """Return a notebook (nbformat 4) as a dict with every source and output text as one string."""
    return parse(Path(file).read_bytes(), file)


def parse(text, file):
    """Like ``read``, of the text or bytes of a file, which errors name."""
    try:
        notebook = json.loads(text)
        cells = notebook["cells"]
    except (ValueError, KeyError, TypeError) as error:
        raise NotebookError(
            f"{file} is not a Jupyter notebook ({error}); restore it, for example with "
            f"`git checkout -- {Path(file).name}` in its folder"
        ) from None
    for cell in cells:
        cell["source"] = _text(cell["source"])
        for output in cell.get("outputs", ()):
            if "text" in output:
                output["text"] = _text(output["text"])
            data = output.get("data", {})
            for mime in data:
                if not mime.endswith("json"):
                    data[mime] = _text(data[mime])
    return notebook


def write(notebook, file):
    """Write a notebook in Jupyter's own layout. The file appears whole or not at all."""
    write_text(to_text(notebook), file)


def to_text(notebook):
    """Return a notebook as the text of its file, in Jupyter's own layout."""
    import nbformat

    text = nbformat.writes(nbformat.from_dict(notebook), version=4)
    return text.rstrip("\n") + "\n"


def write_text(text, file):
    """Write UTF-8 text through a temporary neighbour; the file appears whole or not at all."""
    write_texts({file: text})


def write_texts(texts):
    """Write files, ``{path: text}``: all are prepared first, then replaced in this order."""
    prepared = {}
    try:
        for file, text in texts.items():
            file = Path(file)
            file.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
            temporary = Path(name)
            prepared[temporary] = file
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.chmod(file.stat().st_mode & 0o777 if file.exists() else 0o644)
        for temporary, file in prepared.items():
            temporary.replace(file)
    finally:
        for temporary in prepared:
            temporary.unlink(missing_ok=True)


def _text(value):
    return value if isinstance(value, str) else "".join(value)


def tags(cell):
    """Return the set of a cell's tags."""
    return set(cell.get("metadata", {}).get("tags", ()))


def code_cells(notebook):
    """Return ``[(number, cell), ...]`` of the code cells; numbers count all cells from 1."""
    return [
        (number, cell)
        for number, cell in enumerate(notebook["cells"], 1)
        if cell["cell_type"] == "code"
    ]


# --- setup cell ----------------------------------------------------------------------------------

_SETUP = """\
# Installs the book's package where it is absent (Colab, Kaggle); does nothing elsewhere.
import importlib.util
import subprocess
import sys
import tempfile
from importlib import metadata

if importlib.util.find_spec("labutils") is None:
    host = [f"{name}=={metadata.version(name)}" for name in ("torch", "torchvision", "numpy")]
    with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as constraints:
        constraints.write("\\n".join(host))  # keeps the host's own torch
    book = "labutils @ git+{url}@{ref}"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", constraints.name]
    subprocess.run([*pip, book], check=True)"""


def repository(root=None):
    """Return the book's public address and the tag or branch that its pages are rendered from.

    Both stand in ``_config.yml``, as ``repository.url`` and ``repository.branch``.
    """
    import yaml

    file = book_root(root) / "_config.yml"
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))["repository"]
        return found["url"].rstrip("/"), found["branch"].strip()
    except (OSError, KeyError, TypeError, AttributeError):
        raise NotebookError(
            f"{file} does not give the book's public address; expected\n"
            "repository:\n  url: https://github.com/OWNER/REPOSITORY\n  branch: TAG or BRANCH"
        ) from None


def setup_cell(root=None):
    """Return the source that the ``setup`` cell of every chapter must have."""
    url, ref = repository(root)
    return _SETUP.replace("{url}", url).replace("{ref}", ref)


def rewrite_setup_cells(root=None):
    """Give every chapter the current setup cell; return the names of the chapters that changed."""
    root = book_root(root)
    source, changed = setup_cell(root), []
    for chapter in chapters(root):
        notebook = read(path(chapter, root))
        found = [cell for _, cell in code_cells(notebook) if "setup" in tags(cell)]
        if any(cell["source"] != source for cell in found):
            for cell in found:
                cell["source"] = source
            write(notebook, path(chapter, root))
            changed.append(chapter)
    return changed
