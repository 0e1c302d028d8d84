"""Image data sets as whole uint8 tensors, read by torchvision: :func:`load` is for notebooks.

A process reads the files once and checks their content. What can be wrong ends in a
:class:`DataError`, which names the file and the command that mends it.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import zlib
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from labutils import checks
from labutils.data.download import ASSETS, DataError, cache_folder, download, reading
from labutils.data.splits import stratified_split


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


# Reader, a class of torchvision.datasets, which knows addresses, checksums and class names; mean
# and std as in `Dataset`.
SOURCES = {
    "fashion-mnist": ("FashionMNIST", (0.2860,), (0.3530,)),
    "cifar10": ("CIFAR10", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ("CIFAR100", (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}
SYSTEM_FOLDERS = {"fashion-mnist": Path("/usr/share/datasets/fashion-mnist")}
# sha256 of the files after gunzip, since a system package compresses them anew
CONTENTS = {
    "fashion-mnist": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    )
}

MINI = "fashion-mnist-mini"
MINI_CLASSES = (  # torchvision knows them, too, but takes two seconds to import
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
NAMES = (*SOURCES, MINI)
COMMAND = "python -m press data "  # that fetches them; a name follows


def load(name: str, *, num_validation: int, generator: torch.Generator) -> Dataset:
    """Read data set ``name`` (one of :data:`NAMES`), fetching it first if needed.

    ``num_validation`` images, stratified by class, are drawn from the official training set with
    ``generator``; the rest of it is ``train``. The test split is the official one. All tensors are
    on the CPU. Raises :class:`DataError` when data are missing or damaged and ``ValueError`` for an
    unknown name or an impossible ``num_validation``.
    """
    checks.fit("num_validation >= 0, generator", num_validation, generator)
    train, test, class_names = read(name)
    if not 0 <= num_validation < len(train):
        raise ValueError(f"{name}: num_validation must be below {len(train)}, got {num_validation}")
    sizes = num_validation, len(train) - num_validation
    splits = stratified_split(train.labels, sizes, generator)
    validation, rest = (Images(train.images[k], train.labels[k]) for k in splits)
    _, mean, std = SOURCES[name.removesuffix("-mini")]
    return Dataset(name, rest, validation, test, class_names, mean, std)


def fetch(name: str) -> Path:
    """Make sure that the files of data set ``name`` are here; return their folder.

    Looks in :func:`cache_folder`, then in that of an installed system package, and then downloads
    into the cache, see `download`. Raises :class:`DataError` if that fails and ``ValueError`` for
    an unknown name.
    """
    if name not in NAMES:
        raise ValueError(f"unknown data set {name!r}; expected one of: {', '.join(NAMES)}")
    if name == MINI:
        return ASSETS
    files, folder = _files(name), cache_folder() / name
    for place in (folder, SYSTEM_FOLDERS.get(name)):
        if place and all((place / Path(url).name).is_file() for url, _ in files):
            return place
    for url, md5 in files:
        download(url, folder / Path(url).name, md5, COMMAND + name)
    return folder


def read(name: str) -> tuple[Images, Images, tuple[str, ...]]:
    """The official training and test set of ``name``, as they are, and the names of the classes.

    Raises what :func:`fetch` raises, and :class:`DataError` for a damaged file.
    """
    return deepcopy(_read(name, fetch(name)))  # what a caller changes is its own


@lru_cache(maxsize=1)  # to unpack and check takes a second, and a notebook loads for every seed
def _read(name: str, folder: Path) -> tuple[Images, Images, tuple[str, ...]]:
    if name == MINI:
        path = folder / f"{MINI}.npz"
        with reading(path), np.load(path, allow_pickle=False) as file:
            splits = [
                Images(*(torch.from_numpy(file[f"{split}_{k}"]) for k in ("images", "labels")))
                for split in ("train", "test")
            ]
            for part in splits:
                checks.fit("images uint8 (N, H, W), labels int (N,)", part.images, part.labels)
        train, test = (Images(part.images[:, None], part.labels.long()) for part in splits)
        return train, test, MINI_CLASSES
    from torchvision.datasets.utils import extract_archive

    reader = _reader(name)
    with TemporaryDirectory(prefix="labutils-") as root:  # torchvision reads unpacked files
        target = Path(root, reader.__name__, "raw") if hasattr(reader, "resources") else Path(root)
        target.mkdir(parents=True, exist_ok=True)
        for number, (url, md5) in enumerate(_files(name)):
            path = folder / Path(url).name
            _check(name, path, md5, CONTENTS.get(name, ())[number:])
            extract_archive(path, target)
        train, test = (reader(root, train=train) for train in (True, False))
    return _to_tensors(train), _to_tensors(test), tuple(train.classes)


def _reader(name: str):
    from torchvision import datasets

    return getattr(datasets, SOURCES[name][0])


def _files(name: str) -> list[tuple[str, str]]:
    """Address and md5 of the files of a data set."""
    reader = _reader(name)
    if hasattr(reader, "resources"):  # MNIST and those made like it
        return [(reader.mirrors[0] + file, md5) for file, md5 in reader.resources]
    return [(reader.url, reader.tgz_md5)]


def _check(name: str, path: Path, md5: str, contents: tuple[str, ...]) -> None:
    """Refuse a file with another checksum, unless its content is `contents[0]`."""
    with contextlib.suppress(OSError, EOFError, zlib.error):  # unreadable, or no whole gzip file
        raw = path.read_bytes()
        if hashlib.md5(raw).hexdigest() == md5:
            return
        if contents and hashlib.sha256(gzip.decompress(raw)).hexdigest() == contents[0]:
            return
    raise DataError(
        f"{path}: damaged, expected a file with md5 {md5}. Remove it and fetch it anew: "
        f"rm '{path}' && {COMMAND}{name}"
    )


def _to_tensors(part) -> Images:
    images = torch.as_tensor(part.data)
    images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
    return Images(images.contiguous(), torch.as_tensor(part.targets))
