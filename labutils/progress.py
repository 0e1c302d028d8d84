"""Progress of long work: a bar for whoever watches, plain lines for a run without a terminal."""

import os
import sys
from pathlib import Path

from tqdm import tqdm as plain_tqdm
from tqdm.auto import tqdm


def progress_bar(total: int, description: str, **options) -> tqdm:
    """A tqdm bar with time left; a plain line a minute when LABUTILS_HEADLESS is set.

    The lines go to the file that this environment variable names, or to stderr when it is 1.
    """
    if not _headless():
        return tqdm(total=total, desc=description, dynamic_ncols=True, **options)
    return plain_tqdm(
        total=total, desc=description, file=_Lines(), mininterval=60, maxinterval=60, delay=60,
        bar_format="{desc}: {n_fmt} of {total_fmt} after {elapsed}, {remaining} left",
        **{**options, "leave": False},
    )  # fmt: skip


def log(text: str) -> None:
    """Print a line for whoever watches; a stored notebook must not depend on interruptions."""
    if _headless():
        _Lines().write(text)
    else:
        print(text)


def _headless() -> str:
    return os.environ.get("LABUTILS_HEADLESS") or ""


class _Lines:
    """Where a headless run reports: whole lines, without what a terminal would write over."""

    def write(self, text: str) -> None:
        if text := text.strip():
            if _headless() == "1":
                print(text, file=sys.stderr, flush=True)
            else:
                with Path(_headless()).open("a", encoding="utf-8") as stream:
                    stream.write(text + "\n")

    def flush(self) -> None:
        pass
