"""Progress of long work: a bar for whoever watches, plain lines for a run without a terminal."""

import io
import os
import sys
from pathlib import Path

from tqdm import tqdm as plain_tqdm
from tqdm.auto import tqdm


def progress_bar(total: int, description: str, **options) -> tqdm:
    """A tqdm bar with time left; a plain line a minute when LABUTILS_HEADLESS is set.

    The lines go to the file that this environment variable names, or to stderr when it is 1.
    """
    if not os.environ.get("LABUTILS_HEADLESS"):
        return tqdm(total=total, desc=description, dynamic_ncols=True, **options)
    return _Lines(
        total=total, desc=description, file=io.StringIO(), mininterval=60, maxinterval=60, delay=60,
        bar_format="{desc}: {n_fmt} of {total_fmt} after {elapsed}, {remaining} left",
        **{**options, "leave": False},
    )  # fmt: skip


class _Lines(plain_tqdm):
    """A bar that reports in whole lines, without what a terminal would write over."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if msg is None:  # it is not being cleared
            log(str(self))


def log(text: str) -> None:
    """Print a line for whoever watches; a stored notebook must not depend on interruptions."""
    target = os.environ.get("LABUTILS_HEADLESS")
    if target in (None, "", "1"):
        print(text, file=sys.stderr if target else None, flush=True)
    else:
        with Path(target).open("a", encoding="utf-8") as stream:
            print(text, file=stream)
