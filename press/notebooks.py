"""Notebooks as files: where they lie, how they are read and written, their setup cells.

``root`` is always the book's folder (the one that holds ``_config.yml`` and ``labutils/``); left
out, it is found from the working folder upwards, then from the package.
"""

import contextlib
import functools
import json
import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlparse

import nbformat
from nbformat.v4.rwbase import rejoin_lines

from labutils import __version__, find_root
from labutils.claims import RecordError
from press import PressError, reader

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
    """Return the names of all notebooks, ``["clip", ...]``, in alphabetical order."""
    return sorted(path.stem for path in (book_root(root) / "notebooks").glob("*/*.ipynb"))


def path(chapter, root=None):
    """Return a notebook's file. Raises ``NotebookError`` with the valid names if there is none."""
    found = list((book_root(root) / "notebooks").glob(f"*/{chapter}.ipynb"))
    if len(found) != 1:
        valid = ", ".join(chapters(root)) or "none yet"
        raise NotebookError(f"unknown notebook {chapter!r}; the notebooks are: {valid}")
    return found[0]


def read(file):
    """Return a notebook (nbformat 4) as a dict with every source and output text as one string."""
    return parse(Path(file).read_bytes(), file)


def parse(text, file):
    """Like ``read``, of the text or bytes of a file, which errors name."""
    try:
        notebook = json.loads(text)
        nbformat.validator.get_validator(4, 5).validate(notebook)
    except (ValueError, RecursionError, nbformat.ValidationError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise NotebookError(
            f"{file} is not a Jupyter notebook ({reason}); restore it, for example with "
            f"`git checkout -- {Path(file).name}` in its folder"
        ) from None
    return rejoin_lines(nbformat.from_dict(notebook))


def write(contents, journal=None):
    """Write files, ``{path: text or notebook}``; each appears whole or not at all.

    All are prepared as neighbours of their files, then put in place in this order. With a journal,
    a file that says so meanwhile, `recover` finishes what was killed between two of them. Notebooks
    get Jupyter's own layout.
    """
    files = [Path(file).resolve() for file in contents]  # a link stays one
    prepared = {file.with_name(f".{file.name}.{os.getpid()}"): file for file in files}
    try:
        for (temporary, file), content in zip(prepared.items(), contents.values(), strict=True):
            file.parent.mkdir(parents=True, exist_ok=True)
            text = content if isinstance(content, str) else nbformat.writes(content).rstrip() + "\n"
            temporary.write_text(text, encoding="utf-8", newline="\n")
            if file.exists():
                shutil.copymode(file, temporary)
        if journal:
            write({journal: json.dumps({str(t): str(f) for t, f in prepared.items()})})
        for temporary, file in prepared.items():
            temporary.replace(file)
        if journal:
            journal.unlink()
    finally:
        for temporary in () if journal and journal.exists() else prepared:
            temporary.unlink(missing_ok=True)


def recover(journal, files):
    """Finish a `write` of these files that was killed, or remove what it had prepared."""
    if journal.is_file():
        for temporary, file in json.loads(journal.read_text(encoding="utf-8")).items():
            if Path(temporary).exists():
                Path(temporary).replace(file)
        journal.unlink()
    for file in (journal, *(file.resolve() for file in files)):
        for left in file.parent.glob(f".{file.name}.*"):
            left.unlink()


def tags(cell):
    """Return the set of a cell's tags."""
    return set(cell.get("metadata", {}).get("tags", ()))


def code_cells(notebook):
    """Return ``[(number, cell), ...]`` of the code cells; numbers count all cells from 1."""
    numbered = enumerate(notebook["cells"], 1)
    return [(number, cell) for number, cell in numbered if cell["cell_type"] == "code"]


# --- setup cell ----------------------------------------------------------------------------------

SETUP_CELL = Path(__file__).with_name("setup_cell.txt")
COLAB = {"accelerator": "GPU", "colab": {"gpuType": "T4"}}  # the metadata with which it takes a GPU


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


def public_address(url):
    """Where the site of a repository on GitHub is published."""
    owner, name = urlparse(url).path.strip("/").split("/")
    return f"https://{owner}.github.io/{name}/"


@functools.cache
def version(root):
    """Version of the book and, where the sources are a git repository, the revision."""
    words = f"version {__version__}"
    if (root / ".git").exists():
        git = ["git", "-C", str(root), "log", "-1", "--format=, revision %h of %cs"]
        with contextlib.suppress(OSError):  # no git
            words += subprocess.run(git, capture_output=True, text=True).stdout.strip()
    return words


def setup_cell(root=None, chapter=None):
    """Return the source that the ``setup`` cell of a chapter must have, with its recorded times."""
    (url, ref), took = repository(root), ""
    for file in sorted(book_root(root).glob(f"results/*/{chapter}.*.json")):
        with contextlib.suppress(RecordError):  # `status` names it
            record = reader.read(file)
            minutes, device = max(1, round(record.duration_s / 60)), record.environment["device"]
            took += f'        "{record.profile} took {minutes} min on {device}",\n'
    source = SETUP_CELL.read_text(encoding="utf-8").strip().replace("{url}", url)
    return source.replace("{ref}", ref).replace("{took}", f"[\n{took}    ]" if took else "[]")


def rewrite_setup_cells(root=None, names=None):
    """Renew setup cells of these, or of all and Colab's metadata; return the names that changed."""
    changed = []
    for name in chapters(root) if names is None else names:
        file, source = path(name, root), setup_cell(root, name)
        notebook = read(file)
        old = [c for _, c in code_cells(notebook) if "setup" in tags(c) and c["source"] != source]
        for cell in old:
            cell["source"] = source
        if old or not (names or COLAB.items() <= notebook["metadata"].items()):
            notebook["metadata"] |= COLAB
            write({file: notebook})
            changed.append(name)
    return changed
