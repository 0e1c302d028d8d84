"""What a notebook of the book imports: data, models, training, evaluation, claims and plots.

Importing this package imports nothing heavy; take what you need from its modules, for example
``from labutils.start import start``.
"""

from pathlib import Path

__version__ = "0.2.0"

PROFILES = ("smoke", "small", "full")


def find_root(start=None) -> Path | None:
    """The book's folder, or None where the package is installed without the book.

    Looked for in `start` (default: the working folder), its parents, then around this package.
    """
    start = Path(start or Path.cwd()).resolve()
    for folder in (start, *start.parents, Path(__file__).resolve().parents[1]):
        if (folder / "_config.yml").is_file() and (folder / "labutils" / "__init__.py").is_file():
            return folder
    return None
