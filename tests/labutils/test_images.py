"""Data sets: reading, splitting, fetching; and one clear error for everything that can be wrong."""

import contextlib
import gzip
import hashlib
import http.server
import io
import multiprocessing
import os
import pickle
import runpy
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from labutils import data
from labutils.data import download, images

SYSTEM = images.SYSTEM_FOLDERS["fashion-mnist"]
needs_system_data = pytest.mark.skipif(
    not (SYSTEM / "train-images-idx3-ubyte.gz").exists(), reason="no system package of the data"
)
ARCHIVE = "cifar-10-python.tar.gz"
LIMIT_S = 240  # for a process that imports torch on a busy machine; nothing waits for its end


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Stand-ins: small files in the official formats


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def tar_gz(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def cifar_arrays(num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """60 random images (so that gzip cannot shrink them) and their labels."""
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (60, 3, 32, 32), np.uint8)
    return pixels, rng.permutation(np.arange(60) % num_classes)


def small_cifar(reader: type) -> tuple[bytes, dict]:
    """An archive of 60 images as `reader` reads them, and what then stands in the class."""
    key, num_classes = reader.meta["key"], 100 if reader is datasets.CIFAR100 else 10
    pixels, labels = cifar_arrays(num_classes)
    label_key = "fine_labels" if num_classes == 100 else "labels"
    names = [file for file, _ in reader.train_list + reader.test_list]
    contents = {}
    for part, name in zip(np.array_split(np.arange(60), len(names)), names, strict=True):
        rows = {"data": pixels[part].reshape(len(part), -1), label_key: labels[part].tolist()}
        contents[name] = pickle.dumps(rows)
    contents[reader.meta["filename"]] = pickle.dumps({key: [f"c{k}" for k in range(num_classes)]})
    content = tar_gz({f"{reader.base_folder}/{name}": contents[name] for name in contents})
    lists = {
        field: [[name, md5(contents[name])] for name, _ in getattr(reader, field)]
        for field in ("train_list", "test_list")
    }
    meta = reader.meta | {"md5": md5(contents[reader.meta["filename"]])}
    return content, {"tgz_md5": md5(content), "meta": meta, **lists}


class Server:
    """Serves one file at ``url``, in the ways of good and of bad servers."""

    def __init__(self):
        self.content = b""
        self.requests: list[str | None] = []  # the Range header of each request
        self.cut_after: int | None = None  # bytes sent before the connection is closed
        self.ranges = True
        self.status = 200
        self.page = False  # of a login: sent with status 200 in the place of the file
        self.endless = False  # without a length, again and again
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                wanted = self.headers.get("Range")
                outer.requests.append(wanted)
                start = int(wanted[6:-1]) if wanted and outer.ranges else 0
                if outer.status != 200:
                    return self.send_error(outer.status)
                if start and start >= len(outer.content):
                    return self.send_error(416)
                self.send_response(206 if start else 200)
                if start:
                    last = len(outer.content) - 1
                    self.send_header("Content-Range", f"bytes {start}-{last}/{last + 1}")
                if outer.page:
                    self.send_header("Content-Type", "text/html; charset=utf-8")
                if not outer.endless:
                    self.send_header("Content-Length", str(len(outer.content) - start))
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    while outer.endless:
                        self.wfile.write(bytes(1 << 14))
                end = None if outer.cut_after is None else start + outer.cut_after
                self.wfile.write(outer.content[start:end])
                self.wfile.flush()
                self.close_connection = True

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder, in which nothing comes from the system or from outside."""
    folder = tmp_path / "the cache"
    monkeypatch.setenv("LABUTILS_DATA", str(folder))
    monkeypatch.setattr(images, "SYSTEM_FOLDERS", {})
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    for reader in (datasets.CIFAR10, datasets.CIFAR100):
        monkeypatch.setattr(reader, "url", f"http://127.0.0.1:9/{reader.filename}")
    return folder


@pytest.fixture
def serve(server, cache, monkeypatch):
    """``serve(reader)``: the server offers a small CIFAR archive; returns its content."""

    def serve(reader: type = datasets.CIFAR10) -> bytes:
        server.content, fields = small_cifar(reader)
        for name, value in (fields | {"url": server.url + reader.filename}).items():
            monkeypatch.setattr(reader, name, value)
        return server.content

    return serve


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


# Reading


def test_mini_is_whole_and_stratified():
    mini = data.load("fashion-mnist-mini", num_validation=300, generator=seeded())
    assert mini.train.images.shape == (1700, 1, 28, 28)
    assert mini.validation.images.shape == (300, 1, 28, 28)
    assert mini.test.images.shape == (1000, 1, 28, 28)
    for split, per_class in ((mini.train, 170), (mini.validation, 30), (mini.test, 100)):
        assert split.images.dtype == torch.uint8
        assert split.labels.dtype == torch.int64
        assert split.labels.bincount().tolist() == [per_class] * 10
    assert len(mini.class_names) == 10
    assert mini.class_names[9] == "Ankle boot"


def test_mini_is_shipped_with_its_licence():
    folder = data.fetch("fashion-mnist-mini")
    licence = (folder / "fashion-mnist-mini.LICENSE.txt").read_text()
    assert "MIT" in licence
    assert "Zalando" in licence


@needs_system_data
def test_mini_is_rebuilt_from_the_full_set(tmp_path):
    script = Path(__file__).parents[2] / "studies" / "make_fashion_mnist_mini.py"
    runpy.run_path(str(script))["make"](tmp_path)
    shipped = np.load(data.fetch("fashion-mnist-mini") / "fashion-mnist-mini.npz")
    rebuilt = np.load(tmp_path / "fashion-mnist-mini.npz")
    assert set(shipped) == set(rebuilt)
    assert all(np.array_equal(shipped[key], rebuilt[key]) for key in shipped)


@needs_system_data
def test_fashion_mnist_from_the_system_package(tmp_path, monkeypatch):
    monkeypatch.setenv("LABUTILS_DATA", str(tmp_path))
    full = data.load("fashion-mnist", num_validation=5000, generator=seeded())
    assert not files_in(tmp_path), "nothing is copied or downloaded"
    assert full.train.images.shape == (55_000, 1, 28, 28)
    assert full.train.labels.bincount().tolist() == [5500] * 10
    assert full.validation.labels.bincount().tolist() == [500] * 10
    assert full.test.labels.bincount().tolist() == [1000] * 10
    pixels = torch.cat([full.train.images, full.validation.images]).double() / 255
    assert pixels.mean().item() == pytest.approx(full.mean[0], abs=5e-5)
    assert pixels.std().item() == pytest.approx(full.std[0], abs=5e-5)


@pytest.mark.parametrize(
    ("name", "reader", "num_train"),
    [("cifar10", datasets.CIFAR10, 50), ("cifar100", datasets.CIFAR100, 30)],
)
def test_cifar_from_its_archive(name, reader, num_train, serve):
    serve(reader)
    num_classes = 100 if name == "cifar100" else 10
    pixels, labels = cifar_arrays(num_classes)
    small = data.load(name, num_validation=0, generator=seeded())
    assert np.array_equal(small.train.images.numpy(), pixels[:num_train])
    assert np.array_equal(small.train.labels.numpy(), labels[:num_train])
    assert np.array_equal(small.test.images.numpy(), pixels[num_train:])
    assert np.array_equal(small.test.labels.numpy(), labels[num_train:])
    assert small.train.images.is_contiguous()
    assert small.train.images.dtype == torch.uint8
    assert small.train.labels.dtype == torch.int64
    assert small.class_names == tuple(f"c{k}" for k in range(num_classes))
    assert len(small.mean) == len(small.std) == 3


def test_split_is_drawn_from_the_generator():
    def validation(seed: int) -> torch.Tensor:
        return data.load(
            "fashion-mnist-mini", num_validation=100, generator=seeded(seed)
        ).validation.images

    before = torch.random.get_rng_state()
    assert torch.equal(validation(1), validation(1))
    assert not torch.equal(validation(1), validation(2))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_train_and_validation_are_the_official_training_set():
    parts = data.load("fashion-mnist-mini", num_validation=333, generator=seeded())
    whole = data.load("fashion-mnist-mini", num_validation=0, generator=seeded())
    together = torch.cat([parts.train.images, parts.validation.images]).flatten(1)
    assert torch.equal(
        together.unique(dim=0, return_counts=True)[1],
        whole.train.images.flatten(1).unique(dim=0, return_counts=True)[1],
    )
    assert len(together) == 2000


def test_what_a_caller_changes_does_not_reach_the_next():
    first, second = (images.read("fashion-mnist-mini") for _ in range(2))
    first[1].images.zero_()
    third = images.read("fashion-mnist-mini")
    assert third[1].images.any()
    assert torch.equal(second[0].images, third[0].images)


def test_to_device_moves_everything():
    moved = data.load("fashion-mnist-mini", num_validation=10, generator=seeded()).to("meta")
    for split in (moved.train, moved.validation, moved.test):
        assert split.images.is_meta
        assert split.labels.is_meta


def test_unknown_name_and_impossible_split_are_refused():
    with pytest.raises(ValueError, match=r"mnist-fashion.*fashion-mnist.*cifar100"):
        data.load("mnist-fashion", num_validation=0, generator=seeded())
    with pytest.raises(ValueError, match="num_validation"):
        data.load("fashion-mnist-mini", num_validation=2000, generator=seeded())
    with pytest.raises(ValueError, match="num_validation"):
        data.load("fashion-mnist-mini", num_validation=-1, generator=seeded())


# Download


def test_downloaded_once_then_from_the_cache(serve, server, cache):
    content = serve()
    folder = data.fetch("cifar10")
    assert folder == cache / "cifar10"
    assert (folder / "cifar-10-python.tar.gz").read_bytes() == content
    data.fetch("cifar10")
    assert server.requests == [None]
    assert files_in(cache) == {"cifar-10-python.tar.gz"}


def test_cut_connection_is_reported_and_resumed(serve, server, cache):
    content = serve()
    server.cut_after = len(content) // 3
    expected = [None]
    for _ in range(2):
        with pytest.raises(data.DataError, match=r"python -m press data cifar10"):
            data.fetch("cifar10")
        assert files_in(cache) == {"cifar-10-python.tar.gz.part"}
        kept = (cache / "cifar10" / "cifar-10-python.tar.gz.part").stat().st_size
        expected.append(f"bytes={kept}-")
    server.cut_after = None
    folder = data.fetch("cifar10")
    assert (folder / "cifar-10-python.tar.gz").read_bytes() == content
    assert server.requests == expected
    assert len(content) // 3 < kept < len(content)
    assert files_in(cache) == {"cifar-10-python.tar.gz"}


def test_the_page_of_a_login_does_not_spoil_what_is_kept(serve, server, cache):
    content = serve()
    server.cut_after = len(content) // 3
    with pytest.raises(data.DataError):
        data.fetch("cifar10")
    (part,) = cache.rglob("*.part")
    before = part.read_bytes()
    assert before
    assert content.startswith(before)
    server.cut_after, server.page, server.ranges = None, True, False
    with pytest.raises(data.DataError, match="a web page came in the place of the file"):
        data.fetch("cifar10")
    assert part.read_bytes() == before
    server.page, server.ranges = False, True
    assert (data.fetch("cifar10") / "cifar-10-python.tar.gz").read_bytes() == content
    assert server.requests[-1] == f"bytes={len(before)}-"


def test_a_server_that_sends_without_end_is_left(serve, server, cache, monkeypatch):
    content = serve()
    monkeypatch.setattr(download, "LARGEST", 1 << 18)
    server.endless = True
    with pytest.raises(data.DataError, match=f"it sent more than {1 << 18} bytes"):
        data.fetch("cifar10")
    assert not files_in(cache)
    server.endless = False
    assert (data.fetch("cifar10") / "cifar-10-python.tar.gz").read_bytes() == content


def test_server_without_ranges_starts_again(serve, server, cache):
    content = serve()
    server.ranges, server.cut_after = False, 1000
    with pytest.raises(data.DataError):
        data.fetch("cifar10")
    server.cut_after = None
    folder = data.fetch("cifar10")
    assert (folder / "cifar-10-python.tar.gz").read_bytes() == content


def test_wrong_checksum_keeps_nothing(serve, server, cache):
    content = serve()
    server.content = content[:-1] + b"?"
    with pytest.raises(data.DataError, match="md5") as error:
        data.fetch("cifar10")
    assert "python -m press data cifar10" in str(error.value)
    assert not files_in(cache)
    server.content = content
    data.fetch("cifar10")


def test_file_that_is_too_long_keeps_nothing(serve, server, cache):
    content = serve()
    server.content = content + b"more"
    with pytest.raises(data.DataError, match="md5"):
        data.fetch("cifar10")
    assert not files_in(cache)


def test_stale_part_that_is_too_long_is_replaced(serve, cache):
    content = serve()
    (cache / "cifar10").mkdir(parents=True)
    part = cache / "cifar10" / "cifar-10-python.tar.gz.part"
    part.write_bytes(content + b"rest of an older version")
    with pytest.raises(data.DataError, match="Try again"):
        data.fetch("cifar10")
    folder = data.fetch("cifar10")
    assert (folder / "cifar-10-python.tar.gz").read_bytes() == content


@pytest.mark.parametrize("status", [404, 503])
def test_server_error_is_one_clear_error(status, serve, server, cache):
    serve()
    server.status = status
    with pytest.raises(data.DataError, match=rf"{status}.*python -m press data cifar10"):
        data.fetch("cifar10")
    assert not files_in(cache)


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar100"])
def test_no_network_is_one_clear_error(name, cache):
    url, checksum = images._files(name)[0]
    with pytest.raises(data.DataError) as error:
        data.load(name, num_validation=0, generator=seeded())
    for part in (Path(url).name, url, checksum, f"python -m press data {name}"):
        assert part in str(error.value)


def test_full_disk_is_one_clear_error(serve, cache, monkeypatch):
    serve()

    def no_space(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(data.DataError, match=r"No space left.*LABUTILS_DATA"):
        data.fetch("cifar10")
    assert "cifar-10-python.tar.gz" not in files_in(cache)


def test_cache_folder_that_cannot_be_made(serve, cache):
    serve()
    cache.write_text("a file where the folder should be")
    with pytest.raises(
        data.DataError, match=r"cannot be downloaded .* and written .*LABUTILS_DATA"
    ):
        data.fetch("cifar10")


def _fetch_in_process(url, md5, queue):
    datasets.CIFAR10.url, datasets.CIFAR10.tgz_md5 = url, md5
    try:
        queue.put(str(data.fetch("cifar10")))
    except Exception as error:
        queue.put(repr(error))


def test_two_processes_do_not_collide(serve, server, cache):
    content = serve()
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    arguments = (datasets.CIFAR10.url, md5(content), queue)
    processes = [context.Process(target=_fetch_in_process, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=LIMIT_S) for _ in processes]
    for process in processes:
        process.join()
    assert results == [str(cache / "cifar10")] * 2
    assert (cache / "cifar10" / "cifar-10-python.tar.gz").read_bytes() == content
    assert server.requests == [None], "the second process waited and found the file"


def test_killed_half_way_goes_on(serve, server, cache):
    content = serve()
    stop = threading.Event()
    half = len(content) // 2

    # The server sends half and then stalls, so that the process is killed in the middle.
    class Stalling(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:half])
            self.wfile.flush()
            stop.wait(LIMIT_S)

        def log_message(self, *arguments):
            pass

    stalling = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stalling)
    threading.Thread(target=stalling.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{stalling.server_port}/{ARCHIVE}"
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_fetch_in_process, args=(url, md5(content), queue))
    process.start()
    part = cache / "cifar10" / "cifar-10-python.tar.gz.part"
    limit = time.monotonic() + LIMIT_S
    while not (part.is_file() and part.stat().st_size > 0):
        assert process.is_alive(), "it ended before it wrote anything"
        assert time.monotonic() < limit, "it wrote nothing"
        time.sleep(0.02)
    process.kill()
    process.join()
    stop.set()
    stalling.shutdown()
    kept = part.stat().st_size
    assert 0 < kept <= half
    assert files_in(cache) == {part.name}
    folder = data.fetch("cifar10")
    assert server.requests == [f"bytes={kept}-"]
    assert (folder / "cifar-10-python.tar.gz").read_bytes() == content


# Damage


def put(cache: Path, name: str, file: str, content: bytes) -> Path:
    path = cache / name / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def assert_clear(error: pytest.ExceptionInfo, path: Path, name: str) -> None:
    assert str(path) in str(error.value)
    assert "expected" in str(error.value)
    assert f"rm '{path}' && python -m press data {name}" in str(error.value)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text"])
def test_damaged_archive(damage, serve, cache):
    content = serve()
    bad = {
        "truncated": content[: len(content) // 2],
        "flipped": content[:2000] + bytes([content[2000] ^ 1]) + content[2001:],
        "empty": b"",
        "text": b"<html>Please log in</html>",
    }[damage]
    path = put(cache, "cifar10", "cifar-10-python.tar.gz", bad)
    with pytest.raises(data.DataError, match="md5") as error:
        data.load("cifar10", num_validation=0, generator=seeded())
    assert_clear(error, path, "cifar10")


@pytest.fixture
def fashion(cache, monkeypatch):
    """Small IDX files in the cache, as gzip; their names and contents."""
    rng = np.random.default_rng(0)
    contents = {}
    for split, n in (("train", 40), ("t10k", 20)):
        contents[f"{split}-images-idx3-ubyte.gz"] = idx(rng.integers(0, 256, (n, 28, 28)))
        contents[f"{split}-labels-idx1-ubyte.gz"] = idx(np.arange(n) % 10)
    resources = [(name, "another md5") for name, _ in datasets.FashionMNIST.resources]
    digests = tuple(hashlib.sha256(contents[name]).hexdigest() for name, _ in resources)
    monkeypatch.setitem(images.CONTENTS, "fashion-mnist", digests)
    monkeypatch.setattr(datasets.FashionMNIST, "resources", resources)
    for name, content in contents.items():
        put(cache, "fashion-mnist", name, gzip.compress(content))
    return contents


def test_files_that_a_package_compressed_anew(fashion):
    small = data.load("fashion-mnist", num_validation=0, generator=seeded())
    pixels = np.frombuffer(fashion["t10k-images-idx3-ubyte.gz"][16:], np.uint8)
    assert small.test.images.shape == (20, 1, 28, 28)
    assert np.array_equal(small.test.images.numpy().ravel(), pixels)
    assert small.test.labels.tolist() == [i % 10 for i in range(20)]


@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("damage", ["truncated", "not gzip", "wrong magic", "wrong count", "other"])
def test_damaged_idx_files(position, damage, fashion, cache):
    name = datasets.FashionMNIST.resources[position][0]
    content = fashion[name]
    bad = {
        "truncated": gzip.compress(content)[:-9],
        "not gzip": b"<html>moved</html>",
        "wrong magic": gzip.compress(b"\0\0\x09" + content[3:]),
        "wrong count": gzip.compress(content[:-1]),
        "other": gzip.compress(content[:-1] + bytes([content[-1] ^ 1])),
    }[damage]
    path = put(cache, "fashion-mnist", name, bad)
    with pytest.raises(data.DataError) as error:
        data.load("fashion-mnist", num_validation=0, generator=seeded())
    assert_clear(error, path, "fashion-mnist")


def test_damaged_mini_is_a_clear_error(monkeypatch, tmp_path):
    (tmp_path / "fashion-mnist-mini.npz").write_bytes(b"PK\x03\x04 cut")
    monkeypatch.setattr(images, "ASSETS", tmp_path)
    with pytest.raises(data.DataError, match=r"fashion-mnist-mini.npz.*Install labutils again"):
        data.load("fashion-mnist-mini", num_validation=0, generator=seeded())
