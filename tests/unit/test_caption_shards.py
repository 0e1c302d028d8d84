"""Streams of captioned images: pairs, skipped examples, broken connections, clear errors."""

import http.server
import io
import tarfile
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from labutils import caption_shards
from labutils.data import DataError


def png(colour, size=(12, 8)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def shard(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


GOOD = {
    "00/0001.png": png("red"),
    "00/0001.txt": b"A red field.\n",
    "00/0001.json": b"{}",
    "00/0002.txt": b"A lonely sentence.",
    "00/0003.png": png("lime"),
    "00/0004.png": b"no picture",
    "00/0004.txt": b"A damaged picture.",
    "00/0005.jpg": png("blue"),
    "00/0005.txt": "Ein blaues Feld, schön.".encode(),
}

WHITE = {"png": png("white"), "txt": b"White."}


@pytest.fixture
def server():
    """Serves ``content``, and breaks the connection after ``cut`` bytes of each answer."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            state.ranges.append(self.headers.get("Range"))
            if state.status != 200:
                return self.send_error(state.status)
            start = 0
            if state.resumes and self.headers.get("Range"):
                start = int(self.headers["Range"][6:-1])
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(state.content) - start))
            self.end_headers()
            self.wfile.write(state.content[start:][: state.cut])
            self.close_connection = True

        def log_message(self, *arguments):
            pass

    class State:
        content, cut, status, resumes = shard(GOOD), None, 200, True
        ranges: list = []

    state = State()
    state.ranges = []
    http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{http_server.server_port}/00000.tar"
    threading.Thread(target=http_server.serve_forever, daemon=True).start()
    yield state
    http_server.shutdown()
    http_server.server_close()


def check_good(stream):
    examples = list(stream)
    assert [caption for _, caption in examples] == ["A red field.", "Ein blaues Feld, schön."]
    for (image, _), colour in zip(examples, ([255, 0, 0], [0, 0, 255]), strict=True):
        assert image.dtype == torch.uint8
        assert image.shape == (3, 6, 6)
        assert (image == torch.tensor(colour).view(3, 1, 1)).all()
    skipped = stream.skipped
    assert (skipped.missing_caption, skipped.missing_image, skipped.damaged_image) == (1, 1, 1)


def test_pairs_arrive_and_others_are_counted(server):
    check_good(caption_shards.stream([server.url], 6))
    assert server.ranges == [None]


def test_files_are_read_as_well(tmp_path):
    path = tmp_path / "0.tar"
    path.write_bytes(shard(GOOD))
    check_good(caption_shards.stream(path, 6))


def test_broken_connection_goes_on_where_it_stopped(server, monkeypatch):
    monkeypatch.setattr(caption_shards, "PAUSE", 0.0)
    server.cut = len(server.content) // 3
    check_good(caption_shards.stream([server.url], 6))
    starts = [int(wanted[6:-1]) for wanted in server.ranges[1:]]
    assert starts == [server.cut, 2 * server.cut, 3 * server.cut][: len(starts)]
    assert len(starts) >= 2


def test_batches_over_several_shards(server, tmp_path):
    path = tmp_path / "1.tar"
    numbered = {
        f"{i}.{end}": png("white") if end == "png" else b"White."
        for i in range(3)
        for end in ("png", "txt")
    }
    path.write_bytes(shard(numbered))
    found = list(caption_shards.batches(caption_shards.stream([server.url, path], 4), 2))
    assert [tuple(images.shape) for images, _ in found] == [(2, 3, 4, 4)] * 2 + [(1, 3, 4, 4)]
    assert [len(captions) for _, captions in found] == [2, 2, 1]


def test_wide_pictures_are_cropped_and_transparent_ones_are_on_white(tmp_path):
    pixels = np.zeros((4, 8, 4), np.uint8)
    pixels[:, 2:6] = (0, 0, 255, 255)  # the middle square; the rest is transparent
    pixels[0, 2:6, 3] = 0
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    path = tmp_path / "0.tar"
    path.write_bytes(shard({"0.png": buffer.getvalue(), "0.txt": b"Blue."}))
    ((image, _),) = caption_shards.stream(path, 4)
    assert (image[:, 1:] == torch.tensor([0, 0, 255]).view(3, 1, 1)).all()
    assert (image[:, 0] == 255).all()


def test_clear_errors(server, tmp_path, monkeypatch):
    server.content = b"no archive" * 200
    with pytest.raises(DataError, match="expected a whole tar archive"):
        list(caption_shards.stream([server.url], 4))
    server.status = 404
    with pytest.raises(DataError, match="answers 404.*check the address"):
        list(caption_shards.stream([server.url], 4))
    pauses = []
    monkeypatch.setattr(caption_shards.time, "sleep", pauses.append)
    for server.status in (429, 503):
        with pytest.raises(DataError, match=f"{caption_shards.ATTEMPTS} attempts"):
            list(caption_shards.stream([server.url], 4))
    assert pauses == 2 * [1, 2, 4, 8]
    with pytest.raises(DataError, match="cannot be read"):
        list(caption_shards.stream([tmp_path / "nothing.tar"], 4))


def test_truncated_shard_and_server_without_ranges(server, tmp_path):
    path = tmp_path / "cut.tar"
    path.write_bytes(server.content[:1800])
    with pytest.raises(DataError, match="expected a whole tar archive"):
        list(caption_shards.stream([path], 4))
    server.cut, server.resumes = 2000, False
    with pytest.raises(DataError, match="cannot go on in the middle"):
        list(caption_shards.stream([server.url], 4))


def test_bad_arguments():
    with pytest.raises(ValueError, match="expects shards"):
        caption_shards.stream([], 4)
    with pytest.raises(ValueError, match="size"):
        caption_shards.stream(["a.tar"], 0)
    with pytest.raises(ValueError, match="batch size"):
        next(caption_shards.batches(caption_shards.stream(["a.tar"], 4), 0))
