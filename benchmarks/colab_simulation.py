"""Which versions of torch, torchvision and numpy a hosted notebook may bring: tried, not assumed.

For each set of versions, a fresh virtual environment gets them and a notebook kernel, as a host
such as Colab has them. A chapter's notebook is copied alone into an empty folder; its setup cell
installs the book's package from a clone of this repository (its address in the cell is replaced,
nothing else); then the whole notebook runs at profile smoke twice in the same kernel. The host's
versions must be the same afterwards.

Run ``python -m benchmarks.colab_simulation`` (or ``make colab``): about ten minutes and 15 GB of
downloads. It writes ``colab_simulation.json`` beside this file and the table of the book page.
Committed changes only are tried, since the package is installed from git.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from press import notebooks

HERE = Path(__file__).parent
RESULT = HERE / "colab_simulation.json"
TABLE = HERE.parent / "book" / "generated" / "colab_simulation.md"

HOST = ("torch", "torchvision", "numpy")
# Names of sets of versions: the oldest that pyproject.toml allows, the lock's, the index's newest.
SETS = ("oldest supported", "pinned for the book", "newest")
KERNEL = ["ipykernel", "ipywidgets"]  # what every hosted notebook has beside the three


def requirements(versions: str, root: Path) -> list[str]:
    """What to install for one of SETS, as requirements of pip."""
    if versions == "newest":
        return list(HOST)
    if versions == "pinned for the book":
        lock = (root / "requirements.txt").read_text(encoding="utf-8")
        # with their markers: a package may be pinned twice, for older and newer versions of Python
        return [line.strip() for name in HOST
                for line in re.findall(rf"^{name}==[^\\\n]*", lock, re.MULTILINE)]  # fmt: skip
    bounds = (root / "pyproject.toml").read_text(encoding="utf-8")
    found = {name: re.search(rf'"{name}>=([\d.]+)"', bounds).group(1) for name in HOST}
    return [f"{name}=={bound}.*" for name, bound in found.items()]


def installed(python: Path) -> dict[str, str]:
    """Version of every package of an environment."""
    listing = subprocess.run(
        [python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {p["name"].lower().replace("_", "-"): p["version"] for p in json.loads(listing.stdout)}


def run_notebook(chapter: str, python: Path, repository: Path, root: Path, folder: Path) -> dict:
    """Seconds of the setup cell and of two runs from top to bottom in one kernel of `python`.

    Raises nbclient's CellExecutionError when a cell fails.
    """
    import nbformat
    from jupyter_client.kernelspec import KernelSpec
    from nbclient import NotebookClient

    shutil.copy(notebooks.path(chapter, root), folder)
    notebook = nbformat.read(folder / f"{chapter}.ipynb", as_version=4)
    address = "git+{}@{}".format(*notebooks.repository(root))
    setup = next(c for c in notebook.cells if "setup" in c.metadata.get("tags", ()))
    assert address in setup.source, "the setup cell does not name the repository"
    # pip takes an address of a requirement only with a host
    setup.source = setup.source.replace(address, f"git+file://localhost{repository}")
    client = NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(folder)}})
    client.create_kernel_manager()
    client.km._kernel_spec = KernelSpec(
        argv=[str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    )
    hidden = {"LABUTILS_RESULTS", "LABUTILS_CHECKPOINTS", "PYTHONPATH", "VIRTUAL_ENV"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"LABUTILS_PROFILE": "smoke", "PATH": f"{python.parent}:{os.environ['PATH']}"}
    seconds = {}
    with client.setup_kernel(env=environment, cwd=str(folder)):
        for run in ("first run", "second run"):
            started = time.perf_counter()
            for index, cell in enumerate(notebook.cells):
                if cell.cell_type == "code":
                    begun = time.perf_counter()
                    client.execute_cell(cell, index)
                    if cell is setup and run == "first run":
                        seconds["setup"] = round(time.perf_counter() - begun, 1)
            seconds[run] = round(time.perf_counter() - started, 1)
    return seconds


def simulate(versions: str, chapters: list[str], repository: Path, root: Path) -> dict:
    """Run `chapters` with one of SETS, each installing anew; {"host": ..., "chapters": ...}."""
    with tempfile.TemporaryDirectory(prefix="colab-") as scratch:
        environment = Path(scratch) / "host"
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        python = environment / "bin" / "python"
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *requirements(versions, root), *KERNEL], check=True)
        host, outcomes = installed(python), {}
        for chapter in chapters:
            folder = Path(scratch) / chapter
            folder.mkdir()
            try:
                outcome = run_notebook(chapter, python, repository, root, folder)
                after = installed(python)
                changed = [name for name in host if after.get(name) != host[name]]
                outcome["problem"] = f"changed the host's {', '.join(changed)}" if changed else ""
            except Exception as error:  # a failed chapter is a result of its own
                message = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
                outcome = {"problem": message.splitlines()[-1][:200] if message else repr(error)}
                print(message, file=sys.stderr)
            outcomes[chapter] = outcome
            print(f"{versions:20} {chapter:16} {outcome}", flush=True)
            # The next chapter meets a host without the package, as its reader does.
            remove = [python, "-m", "pip", "uninstall", "--quiet", "--yes", "labutils"]
            subprocess.run(remove, check=True)
        date = datetime.now(UTC).strftime("%Y-%m-%d")
        versions_of_host = {name: host[name] for name in HOST}
        return {"date": date, "host": versions_of_host, "chapters": outcomes}


def table(result: dict) -> str:
    """The table of the book page, in Markdown."""
    lines = ["| versions | torch | torchvision | numpy | setup cell | chapters |"]
    lines.append("|---|---|---|---|---|---|")
    for versions, outcome in result["sets"].items():
        chapters = outcome["chapters"]
        setup = max((c["setup"] for c in chapters.values() if "setup" in c), default=None)
        fine = [name for name, c in chapters.items() if not c["problem"]]
        bad = [f"{name}: {c['problem']}" for name, c in chapters.items() if c["problem"]]
        said = f"{len(fine)} of {len(chapters)} run" + "".join(f"; {line}" for line in bad)
        host = " | ".join(outcome["host"][name] for name in HOST)
        took = f"{setup:.0f} s" if setup is not None else "failed"
        lines.append(f"| {versions} | {host} | {took} | {said} |")
    names = sorted({name for outcome in result["sets"].values() for name in outcome["chapters"]})
    dates = " and ".join(sorted({outcome["date"] for outcome in result["sets"].values()}))
    lines += ["", f"Tried on {dates} with Python {result['python']}: {', '.join(names)}."]
    return "\n".join(lines) + "\n"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("chapters", nargs=-1, metavar="[CHAPTER]...")
@click.option("--versions", "names", type=click.Choice(SETS), multiple=True, help="Default: all.")
def main(chapters, names):
    """Run CHAPTERs (default: all) as a hosted notebook would, with each set of versions.

    Results are stored set by set. Sets that are not asked for keep their stored results, and so do
    chapters, as long as the set's versions are the same.
    """
    root = notebooks.book_root()
    chapters = list(chapters) or notebooks.chapters(root)
    with tempfile.TemporaryDirectory(prefix="colab-repository-") as scratch:
        repository = Path(scratch) / "book.git"
        subprocess.run(["git", "clone", "--quiet", "--bare", str(root), repository], check=True)
        stored = json.loads(RESULT.read_text("utf-8"))["sets"] if RESULT.is_file() else {}
        for name in names or SETS:
            outcome, before = simulate(name, chapters, repository, root), stored.get(name)
            if before and before["host"] == outcome["host"]:
                both = before["chapters"] | outcome["chapters"]
                outcome["chapters"] = dict(sorted(both.items()))
            stored[name] = outcome
            result = {
                "python": platform.python_version(),
                "sets": {name: stored[name] for name in SETS if name in stored},
            }
            RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
            TABLE.write_text(table(result), encoding="utf-8")
    problems = [c["problem"] for s in result["sets"].values() for c in s["chapters"].values()]
    sys.exit(any(problems))


if __name__ == "__main__":
    main()
