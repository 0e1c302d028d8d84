"""Image data sets as whole uint8 tensors, from the cache, the system, or the official download.

:func:`load` is what chapters call. Files are looked for in this order: the cache folder
(environment variable ``LABUTILS_DATA``, otherwise the user's cache), the folder of an installed
system package, the official download. Their content is checked every time they are read. Everything
that can be wrong with them ends in a :class:`DataError`, which names the file and the command that
mends it.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.resources
import io
import math
import os
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from labutils.data.splits import stratified_split

PROGRAM = "python -m press data"


class DataError(RuntimeError):
    """Data are missing or damaged. The message says which file, why, and what to do."""


@dataclass(frozen=True)
class Images:
    """Images uint8 ``(N, C, H, W)`` and labels int64 ``(N,)``."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Images:
        """The same on ``device``."""
        return Images(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Dataset:
    """Three disjoint splits of one data set.

    ``mean`` and ``std`` are per channel, of pixels scaled to 0..1, over the whole training set.
    """

    name: str
    train: Images
    validation: Images
    test: Images
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def to(self, device: torch.device | str) -> Dataset:
        """The same with all images and labels on ``device``."""
        splits = (self.train.to(device), self.validation.to(device), self.test.to(device))
        return Dataset(self.name, *splits, self.class_names, self.mean, self.std)


@dataclass(frozen=True)
class File:
    """One official file: what it is called, where it comes from, and how to know that it is whole.

    ``size`` (bytes) and ``md5`` are of the file as downloaded. ``sha256`` is of its content after
    ``gunzip``: packages and mirrors compress the same content anew, with another ``md5``.
    """

    name: str
    url: str
    size: int
    md5: str
    sha256: str | None = None


@dataclass(frozen=True)
class Source:
    """What is known about one data set."""

    files: tuple[File, ...]
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    num_train: int
    num_test: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    system_folder: Path | None = None


_FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_CIFAR_URL = "https://www.cs.toronto.edu/~kriz/"

FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
CIFAR100_CLASSES = tuple(
    """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
    butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab
    crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard
    lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm""".split()
)

SOURCES = {
    "fashion-mnist": Source(
        files=(
            File(
                "train-images-idx3-ubyte.gz",
                _FASHION_URL + "train-images-idx3-ubyte.gz",
                26421880,
                "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            ),
            File(
                "train-labels-idx1-ubyte.gz",
                _FASHION_URL + "train-labels-idx1-ubyte.gz",
                29515,
                "25c81989df183df01b3e8a0aad5dffbe",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            ),
            File(
                "t10k-images-idx3-ubyte.gz",
                _FASHION_URL + "t10k-images-idx3-ubyte.gz",
                4422102,
                "bef4ecab320f06d8554ea6380940ec79",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            ),
            File(
                "t10k-labels-idx1-ubyte.gz",
                _FASHION_URL + "t10k-labels-idx1-ubyte.gz",
                5148,
                "bb300cfdad3c16e7a12a480ee83cd310",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
        ),
        class_names=FASHION_CLASSES,
        image_shape=(1, 28, 28),
        num_train=60_000,
        num_test=10_000,
        mean=(0.2860,),
        std=(0.3530,),
        system_folder=Path("/usr/share/datasets/fashion-mnist"),
    ),
    "cifar10": Source(
        files=(
            File(
                "cifar-10-binary.tar.gz",
                _CIFAR_URL + "cifar-10-binary.tar.gz",
                170052171,
                "c32a1d4ab5d03f1284b67883e8d87530",
            ),
        ),
        class_names=CIFAR10_CLASSES,
        image_shape=(3, 32, 32),
        num_train=50_000,
        num_test=10_000,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    ),
    "cifar100": Source(
        files=(
            File(
                "cifar-100-binary.tar.gz",
                _CIFAR_URL + "cifar-100-binary.tar.gz",
                168513733,
                "03b5dce01913d631647c71ecec9e9cb8",
            ),
        ),
        class_names=CIFAR100_CLASSES,
        image_shape=(3, 32, 32),
        num_train=50_000,
        num_test=10_000,
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
    ),
}

MINI = "fashion-mnist-mini"
NAMES = (*SOURCES, MINI)


def load(name: str, *, num_validation: int, generator: torch.Generator) -> Dataset:
    """Read data set ``name`` (one of :data:`NAMES`), fetching it first if needed.

    ``num_validation`` images, stratified by class, are drawn from the official training set with
    ``generator``; the rest of it is ``train``. The test split is the official one. All tensors are
    on the CPU. Raises :class:`DataError` when data are missing or damaged and ``ValueError`` for an
    unknown name or an impossible ``num_validation``.
    """
    _check_name(name)
    if name == MINI:
        train, test = _read_mini()
        source = SOURCES["fashion-mnist"]
    else:
        source = SOURCES[name]
        folder = fetch(name)
        reader = _read_idx_files if name == "fashion-mnist" else _read_cifar
        train, test = reader(name, folder)
    if not 0 <= num_validation < len(train):
        raise ValueError(
            f"num_validation must be in 0..{len(train) - 1} for {name}, got {num_validation}"
        )
    validation, rest = stratified_split(
        train.labels, (num_validation, len(train) - num_validation), generator
    )
    return Dataset(
        name=name,
        train=Images(train.images[rest], train.labels[rest]),
        validation=Images(train.images[validation], train.labels[validation]),
        test=test,
        class_names=source.class_names,
        mean=source.mean,
        std=source.std,
    )


def fetch(name: str, root: str | Path | None = None) -> Path:
    """Make sure that the files of data set ``name`` are here; return their folder.

    Looks in ``root`` (default: the cache folder), then, without ``root``, in the folder of an
    installed system package, and then downloads into ``root``. An interrupted download goes on
    where it stopped; a file appears under its name only when it is whole and its checksum is right.
    Raises :class:`DataError` if that fails.
    """
    _check_name(name)
    if name == MINI:
        return Path(str(importlib.resources.files("labutils") / "assets"))
    source = SOURCES[name]
    folder = (Path(root) if root is not None else cache_folder()) / name
    if all(_find(folder, file) for file in source.files):
        return folder
    system = source.system_folder
    if root is None and system and all(_find(system, file) for file in source.files):
        return system
    for file in source.files:
        if not _find(folder, file):
            _download(name, file, folder)
    return folder


def cache_folder() -> Path:
    """Where downloads are kept: ``LABUTILS_DATA`` or the user's cache folder."""
    if path := os.environ.get("LABUTILS_DATA"):
        return Path(path)
    import platformdirs

    return Path(platformdirs.user_cache_dir("labutils")) / "data"


def _check_name(name: str) -> None:
    if name not in NAMES:
        raise ValueError(f"unknown data set {name!r}; expected one of: {', '.join(NAMES)}")


def _find(folder: Path, file: File) -> Path | None:
    """The file in ``folder``, as downloaded or (IDX files) already decompressed."""
    candidates = [folder / file.name]
    if file.sha256:
        candidates.append(folder / file.name.removesuffix(".gz"))
    return next((path for path in candidates if path.is_file()), None)


# Readers


def _damaged(name: str, path: Path, problem: str) -> DataError:
    """The error for a file that is there but wrong."""
    return DataError(
        f"{path}: {problem}. Remove the damaged file and fetch it anew: "
        f"rm '{path}' && {PROGRAM} {name}"
    )


def _read_bytes(name: str, path: Path) -> bytes:
    """Content of a file, decompressed if it is gzip."""
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(name, path, f"expected a whole gzip file, but: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def parse_idx(content: bytes) -> np.ndarray:
    """An array of bytes in the IDX format of MNIST: uint8, 1 to 3 dimensions.

    Header: two zero bytes, 0x08 for uint8, the number of dimensions, then each dimension as a
    big-endian 32-bit integer. Raises ``ValueError`` if the content does not fit.
    """
    if len(content) < 4 or content[:3] != b"\0\0\x08" or not 1 <= content[3] <= 3:
        raise ValueError(
            f"expected an IDX file of bytes (first bytes 00 00 08 and 01..03), "
            f"found {content[:4].hex(' ')}"
        )
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise ValueError(f"expected an IDX header of {start} bytes, found {len(content)}")
    shape = tuple(int(n) for n in np.frombuffer(content[4:start], ">u4"))
    if len(content) - start != math.prod(shape):
        raise ValueError(
            f"expected {math.prod(shape)} bytes after the header, found {len(content) - start}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _read_idx_files(name: str, folder: Path) -> tuple[Images, Images]:
    source = SOURCES[name]
    arrays = []
    for file in source.files:
        path = _find(folder, file)
        if path is None:
            raise DataError(f"{folder / file.name}: missing; fetch it: {PROGRAM} {name}")
        content = _read_bytes(name, path)
        try:
            arrays.append(parse_idx(content))
        except ValueError as error:
            raise _damaged(name, path, str(error)) from error
        digest = hashlib.sha256(content).hexdigest()
        if digest != file.sha256:
            raise _damaged(
                name, path, f"expected content with sha256 {file.sha256}, found {digest}"
            )
    return tuple(
        Images(torch.from_numpy(images[:, None].copy()), torch.from_numpy(labels.astype(np.int64)))
        for images, labels in (arrays[:2], arrays[2:])
    )


def _read_cifar(name: str, folder: Path) -> tuple[Images, Images]:
    """CIFAR's binary format: per image one label byte (CIFAR-100: coarse, fine) and 3072 pixels."""
    source = SOURCES[name]
    (file,) = source.files
    path = folder / file.name
    try:
        archive = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}); fetch it: {PROGRAM} {name}") from error
    _check_download(name, file, path, archive)
    labels_per_image = 2 if name == "cifar100" else 1
    members: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            for member in tar:
                if member.isfile() and member.name.endswith(".bin"):
                    members[Path(member.name).name] = tar.extractfile(member).read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise _damaged(name, path, f"expected a whole tar.gz archive, but: {error}") from error
    if name == "cifar100":
        parts = {"train": ["train.bin"], "test": ["test.bin"]}
    else:
        parts = {
            "train": [f"data_batch_{i}.bin" for i in range(1, 6)],
            "test": ["test_batch.bin"],
        }
    splits = []
    for split, expected in (("train", source.num_train), ("test", source.num_test)):
        for part in parts[split]:
            if part not in members:
                raise _damaged(name, path, f"expected a member {part} in the archive")
        content = b"".join(members[part] for part in parts[split])
        record = labels_per_image + math.prod(source.image_shape)
        if len(content) != expected * record:
            raise _damaged(
                name,
                path,
                f"expected {expected} {split} images of {record} bytes, found {len(content)} bytes",
            )
        rows = torch.from_numpy(np.frombuffer(content, np.uint8).reshape(expected, record).copy())
        labels = rows[:, labels_per_image - 1].long()
        if len(labels) and int(labels.max()) >= len(source.class_names):
            raise _damaged(
                name,
                path,
                f"expected labels 0..{len(source.class_names) - 1}, found {int(labels.max())}",
            )
        images = rows[:, labels_per_image:].reshape(expected, *source.image_shape)
        splits.append(Images(images.contiguous(), labels))
    return tuple(splits)


def _read_mini() -> tuple[Images, Images]:
    """The subset of Fashion-MNIST that is shipped with the package."""
    path = fetch(MINI) / f"{MINI}.npz"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return tuple(
                Images(
                    torch.from_numpy(arrays[f"{split}_images"][:, None]),
                    torch.from_numpy(arrays[f"{split}_labels"].astype(np.int64)),
                )
                for split in ("train", "test")
            )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path}: part of the package, but cannot be read ({error}). Install labutils again."
        ) from error


# Download


def _check_download(name: str, file: File, path: Path, content: bytes) -> None:
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if digest != file.md5:
        raise _damaged(
            name,
            path,
            f"expected {file.size} bytes with md5 {file.md5}, "
            f"found {len(content)} bytes with md5 {digest}",
        )


def _download(name: str, file: File, folder: Path) -> None:
    """Download ``file`` into ``folder``; resumes a ``.part`` file, checks, renames."""
    import requests
    from filelock import FileLock

    from labutils.progress import progress_bar

    target = folder / file.name
    part = folder / (file.name + ".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / (file.name + ".lock")):
            if target.is_file():  # another process was faster
                return
            start = part.stat().st_size if part.is_file() else 0
            if start < file.size:
                headers = {"Accept-Encoding": "identity"}  # the bytes as they lie on the server
                if start:
                    headers["Range"] = f"bytes={start}-"
                with requests.get(file.url, headers=headers, stream=True, timeout=30) as response:
                    response.raise_for_status()
                    if response.status_code != 206:
                        start = 0  # the server sends the whole file
                    with (
                        open(part, "ab" if start else "wb") as stream,
                        progress_bar(
                            file.size, file.name, initial=start, unit="B", unit_scale=True
                        ) as bar,
                    ):
                        for chunk in response.iter_content(1 << 14):
                            stream.write(chunk)
                            bar.update(len(chunk))
            size = part.stat().st_size
            if size < file.size:
                raise DataError(
                    f"{part}: the connection ended after {size} of {file.size} bytes. "
                    f"Go on where it stopped: {PROGRAM} {name}"
                )
            content = part.read_bytes()
            digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
            if digest != file.md5:
                part.unlink()
                raise DataError(
                    f"{file.url}: expected {file.size} bytes with md5 {file.md5}, received "
                    f"{size} bytes with md5 {digest}. Nothing was kept. Try again: {PROGRAM} {name}"
                )
            os.replace(part, target)
    except requests.RequestException as error:
        kept = part.stat().st_size if part.is_file() else 0
        raise DataError(
            f"{target}: cannot be downloaded from {file.url} ({error}). {kept} of {file.size} "
            f"bytes are kept. With a connection, go on with: {PROGRAM} {name}. "
            f"Or put the file there yourself (md5 {file.md5})."
        ) from error
    except OSError as error:
        raise DataError(
            f"{target}: cannot be written ({error}); it needs {file.size / 1e6:.0f} MB. Free space "
            f"or choose another folder with LABUTILS_DATA, then: {PROGRAM} {name}"
        ) from error
