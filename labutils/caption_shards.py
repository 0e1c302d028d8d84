"""Captioned images from a large public set, streamed: shards of the WebDataset format over HTTP.

A shard is a tar archive in which files with the same stem make one example, here ``KEY.jpg`` (or
.jpeg, .png, .webp) and ``KEY.txt``. The common tools that gather public sets of images and captions
write this format. :func:`stream` reads shards one after the other without storing them.
"""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from labutils.data import DataError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
# A request that breaks off is taken up again where it stopped, this many times without progress,
# after pauses of 1, 2, 4, ... seconds.
ATTEMPTS, PAUSE = 5, 1.0
BUSY = (408, 425, 429)  # answers that call for another attempt, unlike the rest of 4xx


@dataclass
class Skipped:
    """How many examples were left out, by reason; filled while the stream is read."""

    missing_caption: int = 0
    missing_image: int = 0
    damaged_image: int = 0


@dataclass
class Stream:
    """Iterate once for pairs: image uint8 ``(3, size, size)`` and caption."""

    shards: Sequence[str | Path]
    size: int
    skipped: Skipped = field(default_factory=Skipped)

    def __iter__(self) -> Iterator[tuple[Tensor, str]]:
        for shard in self.shards:
            yield from self._read(str(shard))

    def _read(self, shard: str) -> Iterator[tuple[Tensor, str]]:
        try:
            with _open(shard) as source, tarfile.open(fileobj=source, mode="r|*") as archive:
                for image, caption in _pairs(archive):
                    if caption is None or not caption.strip():
                        self.skipped.missing_caption += 1
                    elif image is None:
                        self.skipped.missing_image += 1
                    elif (pixels := _decode(image, self.size)) is None:
                        self.skipped.damaged_image += 1
                    else:
                        yield pixels, caption.strip()
        except (tarfile.TarError, EOFError) as error:
            raise DataError(
                f"{shard}: expected a whole tar archive with KEY.jpg and KEY.txt, but: {error}"
            ) from error


def stream(shards: Sequence[str | Path], size: int) -> Stream:
    """Examples of ``shards`` (addresses or files, in this order) as they arrive.

    Iterating gives ``(image, caption)``: RGB uint8 ``(3, size, size)``, the middle square of the
    picture, on white where it is transparent; and the stripped text. Examples without caption or
    image, and damaged images, are left out and counted in ``.skipped``. A connection that breaks
    off is taken up at the byte where it stopped. Raises ``ValueError`` for no shards or a size that
    is not positive, and :class:`labutils.data.DataError` when a shard cannot be fetched or is no
    tar archive.
    """
    if isinstance(shards, str | Path):
        shards = (shards,)
    if not shards or size < 1:
        raise ValueError(f"stream expects shards and a size of 1 or more, got {shards}, {size}")
    return Stream(tuple(shards), size)


def batches(examples: Stream, batch_size: int) -> Iterator[tuple[Tensor, list[str]]]:
    """Stack examples: images uint8 ``(B, 3, size, size)`` and B captions; the last may be smaller.

    Raises ``ValueError`` for a batch size below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batches expects a batch size of 1 or more, got {batch_size}")
    images: list[Tensor] = []
    captions: list[str] = []
    for image, caption in examples:
        images.append(image)
        captions.append(caption)
        if len(images) == batch_size:
            yield torch.stack(images), captions
            images, captions = [], []
    if images:
        yield torch.stack(images), captions


def _pairs(archive: tarfile.TarFile) -> Iterator[tuple[bytes | None, str | None]]:
    """Image and caption of every example; the files of one example lie side by side."""
    current, image, caption = None, None, None
    for member in archive:
        stem, dot, ending = member.name.rpartition(".")
        if not member.isfile() or not dot:
            continue
        if stem != current:
            if image is not None or caption is not None:
                yield image, caption
            current, image, caption = stem, None, None
        if f".{ending.lower()}" in IMAGE_ENDINGS:
            image = archive.extractfile(member).read()
        elif ending.lower() == "txt":
            caption = archive.extractfile(member).read().decode("utf-8", errors="replace")
    if image is not None or caption is not None:
        yield image, caption


def _decode(content: bytes, size: int) -> Tensor | None:
    from PIL import Image, ImageOps

    try:
        picture = Image.open(io.BytesIO(content)).convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    white = Image.new("RGBA", picture.size, "white")
    picture = Image.alpha_composite(white, picture).convert("RGB")
    square = ImageOps.fit(picture, (size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()


def _open(shard: str) -> io.RawIOBase | io.BufferedReader:
    if shard.startswith(("http://", "https://")):
        return io.BufferedReader(_Download(shard), 1 << 16)
    try:
        return open(shard, "rb")
    except OSError as error:
        raise DataError(f"{shard}: cannot be read ({error})") from error


class _Download(io.RawIOBase):
    """The bytes of an address, in order; goes on where the connection broke off."""

    def __init__(self, url: str):
        self.url, self.position, self.length = url, 0, None
        self.response, self.failures = None, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        import requests
        from urllib3.exceptions import HTTPError

        while self.length is None or self.position < self.length:
            try:
                if self.response is None:
                    self._connect()
                content = self.response.raw.read(len(buffer))
                if not content and self.length is None:
                    return 0
                if content:
                    buffer[: len(content)] = content
                    self.position += len(content)
                    self.failures = 0
                    return len(content)
                problem = "the connection ended"
            except (requests.RequestException, HTTPError, OSError) as error:
                problem = str(error)
            self._give_up_or_retry(problem)
        return 0

    def _connect(self) -> None:
        import requests

        headers = {"Accept-Encoding": "identity"}  # the bytes as they lie on the server
        if self.position:
            headers["Range"] = f"bytes={self.position}-"
        self.response = requests.get(self.url, headers=headers, stream=True, timeout=30)
        if 400 <= self.response.status_code < 500 and self.response.status_code not in BUSY:
            raise DataError(
                f"{self.url}: the server answers {self.response.status_code} "
                f"({self.response.reason}); check the address of the shard"
            )
        self.response.raise_for_status()
        if self.position and self.response.status_code != 206:
            raise DataError(
                f"{self.url}: the connection broke off after {self.position} bytes, and the server "
                "cannot go on in the middle; download the shard and pass its path instead"
            )
        if not self.position and "Content-Length" in self.response.headers:
            self.length = int(self.response.headers["Content-Length"])

    def _give_up_or_retry(self, problem: str) -> None:
        self.close_response()
        self.failures += 1
        if self.failures >= ATTEMPTS:
            raise DataError(
                f"{self.url}: stopped after {self.position} bytes and {ATTEMPTS} attempts "
                f"({problem}). Try again later, or download the shard and pass its path instead."
            )
        time.sleep(PAUSE * 2 ** (self.failures - 1))

    def close_response(self) -> None:
        if self.response is not None:
            self.response.close()
            self.response = None

    def close(self) -> None:
        self.close_response()
        super().close()
