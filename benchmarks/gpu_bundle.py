"""What `make gpu` needs on a card without a network, besides the tree and the machine's own torch.

``make gpu-bundle`` packs wheels for Linux on x86-64 and Python 3.11 to 3.13, and Fashion-MNIST,
into ``_build/gpu-bundle.tar.xz``. Carried to the card in the same place, `make gpu` starts from it:
wheels are installed into a folder of their own, without an index, and nothing of the machine's own
is replaced. Data travel unpacked, since xz makes them smaller than gzip does.

Only `pack` needs more than Python itself.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

FILE, LIMIT = "_build/gpu-bundle.tar.xz", 36_000_000  # bytes
DATA = "fashion-mnist"
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = [f"manylinux_2_{n}_x86_64" for n in (34, 31, 28, 27, 26, 24, 17, 12, 5)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]
# What runs notebooks and tests; what these need comes along.
WANTED = (
    "papermill", "ipykernel", "nbformat", "click", "psutil", "pyyaml", "filelock", "joblib",
    "platformdirs", "requests", "tqdm", "lightly", "lightning-utilities", "pytest",
    "pytest-timeout",
)  # fmt: skip
# A peer that is measured beside ours; its version is that of `make bench`.
PEER, PEERS = "kornia", "requirements-bench.txt"
# What a machine with a card has, with all that these need.
MACHINE = {
    "torch", "torchvision", "numpy", "scipy", "pandas", "scikit-learn", "matplotlib", "pillow",
    "python-dateutil",
}  # fmt: skip
# What is asked for and not needed: a debugger, completion, trainings of others.
LEFT_OUT = {"debugpy", "jedi", "hydra-core", "pytorch-lightning", "aiohttp"}


def closure() -> list[str]:
    """NAME==VERSION of what is wanted and all that it needs, as installed here."""
    from packaging.markers import default_environment
    from packaging.requirements import Requirement

    found, waiting = {}, list(WANTED)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found or name in MACHINE | LEFT_OUT:
            continue
        distribution = metadata.distribution(name)
        found[name] = f"{name}=={distribution.version}"
        for needed in map(Requirement, distribution.requires or ()):
            for version in PYTHONS:
                target = default_environment() | {
                    "extra": "", "python_version": version, "python_full_version": f"{version}.0",
                }  # fmt: skip
                if needed.marker is None or needed.marker.evaluate(target):
                    waiting.append(needed.name)
                    break
    return sorted(found.values())


def peer(root: Path) -> str:
    """NAME==VERSION of the peer, as the lock of the benchmarks has it."""
    return re.search(rf"^{PEER}==\S+", (root / PEERS).read_text("utf-8"), re.MULTILINE)[0]


def download(names: list[str], folder: Path) -> None:
    """Put the wheels of NAME==VERSION for all PYTHONS into a folder."""
    options = ["--no-deps", "--only-binary", ":all:", "--implementation", "cp"]
    options += [word for name in PLATFORMS for word in ("--platform", name)]
    for version in PYTHONS:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
             *options, "--python-version", version, "--dest", folder, *names],
            check=True,
        )  # fmt: skip


def store(wheel: Path) -> None:
    """Write a wheel anew without compression: xz makes all of them together far smaller."""
    with zipfile.ZipFile(wheel) as old:
        files = [(item.filename, old.read(item)) for item in old.infolist() if not item.is_dir()]
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_STORED) as new:
        for name, content in files:
            new.writestr(name, content)


def pack(file: Path, names: list[str], data: Path) -> int:
    """Write the bundle of NAME==VERSION and of a folder of gzip files; return its bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        wheels, unpacked = Path(scratch, "wheels"), Path(scratch, DATA)
        wheels.mkdir()
        unpacked.mkdir()
        download(names, wheels)
        for wheel in wheels.glob("*.whl"):
            store(wheel)
        (wheels / "names.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
        for source in sorted(data.glob("*.gz")):
            (unpacked / source.stem).write_bytes(gzip.decompress(source.read_bytes()))
        partial = file.with_name(f"{file.name}.part")
        with tarfile.open(partial, "w:xz", preset=9) as archive:
            for folder in (wheels, unpacked):
                archive.add(folder, folder.name)
        partial.replace(file)
    return file.stat().st_size


def unpack(file: Path, folder: Path) -> dict[str, str]:
    """Install a bundle into a folder, once; return the environment that uses it.

    Raises SystemExit with what pip says if the bundle has nothing for this Python.
    """
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    stamp, site = folder / "digest", folder / "site"
    if not stamp.is_file() or stamp.read_text("utf-8") != digest:
        shutil.rmtree(folder, ignore_errors=True)
        with tarfile.open(file) as archive:
            archive.extractall(folder, filter="data")
        for raw in (folder / DATA).iterdir():
            raw.with_name(f"{raw.name}.gz").write_bytes(gzip.compress(raw.read_bytes(), 1, mtime=0))
            raw.unlink()
        wheels = folder / "wheels"
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
             "--no-index", "--find-links", wheels, "--no-deps", "--target", site,
             "--requirement", wheels / "names.txt"],
            capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"{file} cannot be installed for {sys.executable}: {done.stderr.strip()}")
        stamp.write_text(digest, encoding="utf-8")
    path = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(path), "LABUTILS_DATA": str(folder)}


def main() -> None:
    from labutils import data

    root = Path(__file__).resolve().parents[1]
    size = pack(root / FILE, [*closure(), peer(root)], data.fetch(DATA))
    print(f"{FILE}: {size / 1e6:.1f} MB")
    if size > LIMIT:
        sys.exit(f"A bundle may have {LIMIT / 1e6:.0f} MB; leave something out of WANTED.")


if __name__ == "__main__":
    main()
