"""Data sets: reading, splitting, fetching; and one clear error for everything that can be wrong."""

import dataclasses
import gzip
import hashlib
import http.server
import io
import multiprocessing
import os
import runpy
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from labutils import data

SYSTEM = data.SOURCES["fashion-mnist"].system_folder
needs_system_data = pytest.mark.skipif(
    not (SYSTEM / "train-images-idx3-ubyte.gz").exists(), reason="no system package of the data"
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Stand-ins: small files in the official formats


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def tar_gz(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def cifar_arrays(name: str) -> tuple[np.ndarray, np.ndarray]:
    """60 random images (so that gzip cannot shrink them) and their labels."""
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (60, 3, 32, 32), np.uint8)
    labels = rng.permutation(np.arange(60) % (100 if name == "cifar100" else 10))
    return images, labels


def cifar_members(name: str) -> dict[str, bytes]:
    images, labels = cifar_arrays(name)
    columns = [labels[:, None], images.reshape(60, -1)]
    if name == "cifar100":
        columns.insert(0, np.full((60, 1), 19))  # the coarse label, which is not used
    rows = np.concatenate(columns, axis=1).astype(np.uint8)
    if name == "cifar100":
        parts = {"train": rows[:50], "test": rows[50:]}
        return {f"cifar-100-binary/{part}.bin": parts[part].tobytes() for part in parts}
    members = {
        f"cifar-10-batches-bin/data_batch_{i + 1}.bin": rows[10 * i : 10 * i + 10].tobytes()
        for i in range(5)
    }
    return members | {"cifar-10-batches-bin/test_batch.bin": rows[50:].tobytes()}


class Server:
    """Serves one file at ``url``, in the ways of good and of bad servers."""

    def __init__(self):
        self.content = b""
        self.requests: list[str | None] = []  # the Range header of each request
        self.cut_after: int | None = None  # bytes sent before the connection is closed
        self.ranges = True
        self.status = 200
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                wanted = self.headers.get("Range")
                outer.requests.append(wanted)
                start = int(wanted[6:-1]) if wanted and outer.ranges else 0
                if outer.status != 200:
                    return self.send_error(outer.status)
                self.send_response(206 if start else 200)
                if start:
                    last = len(outer.content) - 1
                    self.send_header("Content-Range", f"bytes {start}-{last}/{last + 1}")
                self.send_header("Content-Length", str(len(outer.content) - start))
                self.end_headers()
                end = None if outer.cut_after is None else start + outer.cut_after
                self.wfile.write(outer.content[start:end])
                self.wfile.flush()
                self.close_connection = True

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/file"
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
    for name, source in data.SOURCES.items():
        files = tuple(dataclasses.replace(f, url="http://127.0.0.1:9/no") for f in source.files)
        monkeypatch.setitem(
            data.SOURCES, name, dataclasses.replace(source, files=files, system_folder=None)
        )
    return folder


@pytest.fixture
def serve(server, cache, monkeypatch):
    """``serve(name)``: the server offers a small CIFAR archive; returns its content."""

    def serve(name: str = "cifar10", members: dict[str, bytes] | None = None) -> bytes:
        server.content = tar_gz(cifar_members(name) if members is None else members)
        source = data.SOURCES[name]
        file = dataclasses.replace(
            source.files[0],
            url=server.url,
            size=len(server.content),
            md5=hashlib.md5(server.content).hexdigest(),
        )
        monkeypatch.setitem(
            data.SOURCES,
            name,
            dataclasses.replace(source, files=(file,), num_train=50, num_test=10),
        )
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


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_from_its_binary_format(name, serve):
    serve(name)
    images, labels = cifar_arrays(name)
    small = data.load(name, num_validation=0, generator=seeded())
    assert np.array_equal(small.train.images.numpy(), images[:50])
    assert np.array_equal(small.train.labels.numpy(), labels[:50])
    assert np.array_equal(small.test.images.numpy(), images[50:])
    assert np.array_equal(small.test.labels.numpy(), labels[50:])
    assert small.train.labels.dtype == torch.int64
    assert len(small.class_names) == (100 if name == "cifar100" else 10)
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


def test_to_device_moves_everything():
    moved = data.load("fashion-mnist-mini", num_validation=10, generator=seeded()).to("meta")
    for split in (moved.train, moved.validation, moved.test):
        assert split.images.is_meta
        assert split.labels.is_meta


def test_unknown_name_and_impossible_split_are_refused():
    with pytest.raises(ValueError, match="mnist-fashion.*fashion-mnist.*cifar100"):
        data.load("mnist-fashion", num_validation=0, generator=seeded())
    with pytest.raises(ValueError, match="num_validation"):
        data.load("fashion-mnist-mini", num_validation=2000, generator=seeded())
    with pytest.raises(ValueError, match="num_validation"):
        data.load("fashion-mnist-mini", num_validation=-1, generator=seeded())


# Stratified split


def test_stratified_split_properties():
    for trial in range(200):
        generator = seeded(trial)
        n = int(torch.randint(1, 300, (), generator=generator))
        classes = int(torch.randint(1, 12, (), generator=generator))
        labels = torch.randint(classes, (n,), generator=generator)
        cut = torch.randint(n + 1, (2,), generator=generator).sort().values.tolist()
        sizes = (cut[0], cut[1] - cut[0], n - cut[1])
        splits = data.stratified_split(labels, sizes, generator)
        assert [len(split) for split in splits] == list(sizes)
        assert torch.equal(torch.cat(splits).sort().values, torch.arange(n))
        share = labels.bincount(minlength=classes) * sizes[0] / n
        assert ((labels[splits[0]].bincount(minlength=classes) - share).abs() < 1).all()


def test_stratified_split_rounds_at_random():
    labels = torch.arange(100) % 10
    firsts = {int(labels[data.stratified_split(labels, [1], seeded(s))[0]]) for s in range(200)}
    assert firsts == set(range(10))


@pytest.mark.parametrize("sizes", [(5, 6), (-1, 3), (11,)])
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(ValueError, match="cannot split 10"):
        data.stratified_split(torch.zeros(10, dtype=torch.int64), sizes, seeded())


# Download


def test_downloaded_once_then_from_the_cache(serve, server, cache):
    content = serve()
    folder = data.fetch("cifar10")
    assert folder == cache / "cifar10"
    assert (folder / "cifar-10-binary.tar.gz").read_bytes() == content
    data.fetch("cifar10")
    assert server.requests == [None]
    assert files_in(cache) == {"cifar-10-binary.tar.gz"}


def test_root_overrides_the_cache(serve, cache, tmp_path):
    serve()
    folder = data.fetch("cifar10", root=tmp_path / "elsewhere")
    assert (folder / "cifar-10-binary.tar.gz").is_file()
    assert not files_in(cache)


def test_cut_connection_is_reported_and_resumed(serve, server, cache):
    content = serve()
    server.cut_after = len(content) // 3
    expected = [None]
    for _ in range(2):
        with pytest.raises(data.DataError, match=r"python -m press data cifar10"):
            data.fetch("cifar10")
        assert files_in(cache) == {"cifar-10-binary.tar.gz.part"}
        kept = (cache / "cifar10" / "cifar-10-binary.tar.gz.part").stat().st_size
        expected.append(f"bytes={kept}-")
    server.cut_after = None
    folder = data.fetch("cifar10")
    assert (folder / "cifar-10-binary.tar.gz").read_bytes() == content
    assert server.requests == expected
    assert len(content) // 3 < kept < len(content)
    assert files_in(cache) == {"cifar-10-binary.tar.gz"}


def test_server_without_ranges_starts_again(serve, server, cache):
    content = serve()
    server.ranges, server.cut_after = False, 1000
    with pytest.raises(data.DataError):
        data.fetch("cifar10")
    server.cut_after = None
    folder = data.fetch("cifar10")
    assert (folder / "cifar-10-binary.tar.gz").read_bytes() == content


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
    part = cache / "cifar10" / "cifar-10-binary.tar.gz.part"
    part.write_bytes(content + b"rest of an older version")
    with pytest.raises(data.DataError, match="Try again"):
        data.fetch("cifar10")
    folder = data.fetch("cifar10")
    assert (folder / "cifar-10-binary.tar.gz").read_bytes() == content


@pytest.mark.parametrize("status", [404, 503])
def test_server_error_is_one_clear_error(status, serve, server, cache):
    serve()
    server.status = status
    with pytest.raises(data.DataError, match=rf"{status}.*python -m press data cifar10"):
        data.fetch("cifar10")
    assert not files_in(cache)


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar100"])
def test_no_network_is_one_clear_error(name, cache):
    first = data.SOURCES[name].files[0]
    with pytest.raises(data.DataError) as error:
        data.load(name, num_validation=0, generator=seeded())
    for part in (first.name, first.url, first.md5, f"python -m press data {name}"):
        assert part in str(error.value)


def test_full_disk_is_one_clear_error(serve, cache, monkeypatch):
    serve()

    def no_space(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(data.DataError, match="No space left.*LABUTILS_DATA"):
        data.fetch("cifar10")
    assert "cifar-10-binary.tar.gz" not in files_in(cache)


def test_cache_folder_that_cannot_be_made(serve, cache):
    serve()
    cache.write_text("a file where the folder should be")
    with pytest.raises(data.DataError, match="cannot be written"):
        data.fetch("cifar10")


def _fetch_in_process(source, queue):
    data.SOURCES["cifar10"] = source
    try:
        queue.put(str(data.fetch("cifar10")))
    except Exception as error:
        queue.put(repr(error))


def test_two_processes_do_not_collide(serve, server, cache):
    content = serve()
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    arguments = (data.SOURCES["cifar10"], queue)
    processes = [context.Process(target=_fetch_in_process, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert results == [str(cache / "cifar10")] * 2
    assert (cache / "cifar10" / "cifar-10-binary.tar.gz").read_bytes() == content
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
            stop.wait(60)

        def log_message(self, *arguments):
            pass

    stalling = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stalling)
    threading.Thread(target=stalling.serve_forever, daemon=True).start()
    source = data.SOURCES["cifar10"]
    file = dataclasses.replace(source.files[0], url=f"http://127.0.0.1:{stalling.server_port}/file")
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(
        target=_fetch_in_process,
        args=(dataclasses.replace(source, files=(file,)), queue),
    )
    process.start()
    part = cache / "cifar10" / "cifar-10-binary.tar.gz.part"
    for _ in range(600):
        if part.is_file() and part.stat().st_size > 0:
            break
        process.join(0.1)
    process.kill()
    process.join()
    stop.set()
    stalling.shutdown()
    kept = part.stat().st_size
    assert 0 < kept <= half
    assert files_in(cache) == {part.name}
    folder = data.fetch("cifar10")
    assert server.requests == [f"bytes={kept}-"]
    assert (folder / "cifar-10-binary.tar.gz").read_bytes() == content


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
    path = put(cache, "cifar10", "cifar-10-binary.tar.gz", bad)
    with pytest.raises(data.DataError, match="md5") as error:
        data.load("cifar10", num_validation=0, generator=seeded())
    assert_clear(error, path, "cifar10")


def test_archive_without_a_member(serve, cache):
    members = cifar_members("cifar10")
    del members["cifar-10-batches-bin/data_batch_3.bin"]
    serve(members=members)
    with pytest.raises(data.DataError, match="data_batch_3.bin") as error:
        data.load("cifar10", num_validation=0, generator=seeded())
    assert_clear(error, cache / "cifar10" / "cifar-10-binary.tar.gz", "cifar10")


@pytest.mark.parametrize(("name", "member"), [("cifar10", "test_batch"), ("cifar100", "train")])
def test_archive_with_a_wrong_count(name, member, serve, cache):
    members = cifar_members(name)
    key = next(key for key in members if key.endswith(f"/{member}.bin"))
    members[key] = members[key][:-1]
    serve(name, members)
    with pytest.raises(data.DataError, match="images of 307[34] bytes") as error:
        data.load(name, num_validation=0, generator=seeded())
    assert_clear(error, cache / name / data.SOURCES[name].files[0].name, name)


def test_archive_with_an_impossible_label(serve, cache):
    members = cifar_members("cifar10")
    key = "cifar-10-batches-bin/data_batch_1.bin"
    members[key] = b"\x0a" + members[key][1:]
    serve(members=members)
    with pytest.raises(data.DataError, match=r"labels 0\.\.9, found 10") as error:
        data.load("cifar10", num_validation=0, generator=seeded())
    assert_clear(error, cache / "cifar10" / "cifar-10-binary.tar.gz", "cifar10")


def test_archive_cut_before_it_was_published(serve, server, cache, monkeypatch):
    content = serve()
    cut = content[: len(content) // 2]
    source = data.SOURCES["cifar10"]
    file = dataclasses.replace(source.files[0], size=len(cut), md5=hashlib.md5(cut).hexdigest())
    monkeypatch.setitem(data.SOURCES, "cifar10", dataclasses.replace(source, files=(file,)))
    path = put(cache, "cifar10", file.name, cut)
    with pytest.raises(data.DataError, match="whole tar.gz") as error:
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
    source = data.SOURCES["fashion-mnist"]
    files = tuple(
        dataclasses.replace(file, sha256=hashlib.sha256(contents[file.name]).hexdigest())
        for file in source.files
    )
    monkeypatch.setitem(data.SOURCES, "fashion-mnist", dataclasses.replace(source, files=files))
    for name, content in contents.items():
        put(cache, "fashion-mnist", name, gzip.compress(content))
    return contents


@pytest.mark.parametrize("decompressed", [False, True])
def test_idx_files_as_gzip_or_raw(decompressed, fashion, cache):
    if decompressed:
        for name, content in fashion.items():
            (cache / "fashion-mnist" / name).unlink()
            put(cache, "fashion-mnist", name.removesuffix(".gz"), content)
    small = data.load("fashion-mnist", num_validation=0, generator=seeded())
    pixels = np.frombuffer(fashion["t10k-images-idx3-ubyte.gz"][16:], np.uint8)
    assert np.array_equal(small.test.images.numpy().ravel(), pixels)
    assert small.test.labels.tolist() == [i % 10 for i in range(20)]


@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("damage", ["truncated", "not gzip", "wrong magic", "wrong count", "other"])
def test_damaged_idx_files(position, damage, fashion, cache):
    name = data.SOURCES["fashion-mnist"].files[position].name
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


@pytest.mark.parametrize("length", [0, 3, 5, 15])
def test_idx_header_that_is_cut(length):
    with pytest.raises(ValueError, match="expected"):
        data.parse_idx(idx(np.zeros((2, 3, 4)))[:length])


def test_parse_idx_shapes():
    for shape in ((5,), (2, 3), (2, 3, 4), (0,)):
        array = np.arange(np.prod(shape)).reshape(shape)
        assert np.array_equal(data.parse_idx(idx(array)), array)


def test_damaged_mini_is_a_clear_error(monkeypatch, tmp_path):
    (tmp_path / "fashion-mnist-mini.npz").write_bytes(b"PK\x03\x04 cut")
    monkeypatch.setattr(data, "fetch", lambda name: tmp_path)
    with pytest.raises(data.DataError, match="fashion-mnist-mini.npz.*Install labutils again"):
        data.load("fashion-mnist-mini", num_validation=0, generator=seeded())
