"""Files of data sets: those of the package, and downloads that go on where they stopped."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
import requests
from filelock import FileLock

from labutils.progress import progress_bar

ASSETS = Path(__file__).parents[1] / "assets"
LARGEST = 1 << 29  # bytes, more than any file that is fetched; some servers do not tell the size


class DataError(RuntimeError):
    """Data are missing or damaged. The message says which file, why, and what to do."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever goes wrong while a file of the package is read becomes a DataError."""
    try:
        yield
    except Exception as error:
        raise DataError(
            f"{path}: part of the package, but cannot be read ({error}). Install labutils again."
        ) from error


def cache_folder() -> Path:
    """Where downloads are kept: ``LABUTILS_DATA`` or the user's cache folder."""
    path = os.environ.get("LABUTILS_DATA")
    return Path(path) if path else Path(platformdirs.user_cache_dir("labutils")) / "data"


def download(url: str, target: Path, md5: str, command: str) -> None:
    """Download `url` to `target`, which appears only when it is whole and its checksum is right.

    What an interrupted download has left in a ``.part`` file is kept and continued; other
    processes wait and find the file. command: what the reader types to try again. Raises DataError.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if target.is_file():  # another process was faster
                return
            _continue(url, part)
            size, found = part.stat().st_size, hashlib.md5(part.read_bytes()).hexdigest()
            if found != md5:
                part.unlink()
                raise DataError(
                    f"{url}: expected a file with md5 {md5}, received {size} bytes with md5 "
                    f"{found}. Nothing was kept. Try again: {command}"
                )
            part.replace(target)
    except OSError as error:  # those of requests are OSErrors, too
        kept = part.stat().st_size if part.is_file() else 0
        raise DataError(
            f"{target}: cannot be downloaded from {url} and written ({error}). {kept} bytes "
            "are kept. With a connection and free space (LABUTILS_DATA names another folder), go "
            f"on with: {command}. Or put the file there yourself (md5 {md5})."
        ) from error


def _continue(url: str, part: Path) -> None:
    """Add to the file `part` what it lacks of the file at `url`."""
    start = part.stat().st_size if part.is_file() else 0
    headers = {"Accept-Encoding": "identity"}  # the bytes as they lie on the server
    if start:
        headers["Range"] = f"bytes={start}-"
    with requests.get(url, headers=headers, stream=True, timeout=30) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # there is nothing behind what we have
        response.raise_for_status()
        if "text/html" in response.headers.get("Content-Type", ""):  # of a login, not of the server
            raise requests.ConnectionError("a web page came in the place of the file")
        if response.status_code != requests.codes.partial_content:
            start = 0  # the server sends the whole file
        total = start + int(response.headers.get("Content-Length", 0))
        most = total if total > start else LARGEST
        with (
            part.open("ab" if start else "wb") as stream,
            progress_bar(total, part.stem, initial=start, unit="B", unit_scale=True) as bar,
        ):
            for chunk in response.iter_content(1 << 14):
                if stream.tell() + len(chunk) > most:
                    part.unlink()  # else the next attempt would go on with it
                    raise requests.ConnectionError(f"it sent more than {most} bytes")
                stream.write(chunk)
                bar.update(len(chunk))
    if (size := part.stat().st_size) < total:  # some versions of requests do not tell
        raise requests.ConnectionError(f"it ended after {size} of {total} bytes")
