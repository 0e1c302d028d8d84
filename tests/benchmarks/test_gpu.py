"""`make gpu`: what is done, kept and taken up again; where it goes. And its bundle."""

import gzip
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from throwaway import Book, record

from benchmarks import gpu, gpu_bundle
from press import notebooks, reader, records, staleness

ROOT = Path(__file__).parents[2]


@pytest.fixture
def book(tmp_path):
    return Book(tmp_path / "a book")


def command(where, *options, **environment):
    """Run the command in a folder as `make gpu` does; (exit status, output, error output)."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "benchmarks.gpu", *options],
        cwd=where,
        env={**os.environ, "PYTHONPATH": str(ROOT), "GPU_BUNDLE": "none", **environment},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_a_machine_without_a_card_gets_one_sentence():
    status, out, error = command(ROOT, CUDA_VISIBLE_DEVICES="")
    assert (status, out) == (1, "")
    assert error.startswith("torch sees no GPU here, and `make gpu` measures one: run it on")
    assert error.count("\n") == 1


@pytest.mark.slow
def test_the_whole_command_runs_on_a_cpu_at_smoke_and_knows_what_is_missing(book):
    book.chapter("good", "print('fine')")
    book.chapter("bad", "raise ValueError('wrong')")
    options = "--device", "cpu", "--profile", "smoke"
    status, out, _ = command(book.root, *options, "--minutes", "0")
    assert status == 0
    assert "Missing: tests; shares of a step; steps per second; views per second; bad, smoke" in out
    status, out, _ = command(book.root, *options, "--minutes", "4")
    assert status == 1
    assert "bad failed: cell 2: ValueError: wrong" in out
    assert "Missing: bad, smoke. Give the command again" in out
    book.chapter("bad", "y = 2")
    status, out, _ = command(book.root, *options, "--minutes", "4")
    assert status == 0
    assert [line.split("  ")[0] for line in out.splitlines() if "done before" in line] == [
        "tests", "shares of a step", "steps per second", "views per second", "good, smoke",
    ]  # fmt: skip
    assert "Nothing is missing" in out
    tree = book.root / gpu.FOLDER / gpu.CPU / "tree"
    assert sorted(p.relative_to(tree).as_posix() for p in tree.rglob("*") if p.is_file()) == sorted(
        [f"benchmarks/{name}.json" for name in gpu.MEASUREMENTS]
        + [f"book/generated/{name}.md" for name in gpu.MEASUREMENTS]
        + [f"_build/results/theme/{name}.smoke.json" for name in ("good", "bad")]
        + [f"_build/executed/smoke/{name}.ipynb" for name in ("good", "bad")]
    )


def test_chapters_come_first_and_labs_are_not_run_at_full(book):
    book.chapter("a-lab", 'SETTINGS = {"num_seeds": (2, 3, "", "")}')
    book.chapter("chapter", 'SETTINGS = {"num_seeds": (2, 3, 4, "", "")}')
    names = [part.name for part in gpu.parts(book.root, book.root / gpu.FOLDER, ["small", "full"])]
    assert names == [
        "tests", *gpu.MEASUREMENTS.values(), "chapter, small", "chapter, full", "a-lab, small"
    ]  # fmt: skip


def test_the_cpu_is_compared_with_the_card_where_the_code_is_the_same(book, capsys, monkeypatch):
    folder = book.root / gpu.FOLDER
    assert [part.name for part in gpu.parts(book.root, folder / gpu.CPU, ["small"])] == []
    book.write("a", "1")
    book.write("b", "1")
    for where, device, seconds in ((folder / gpu.CPU, "cpu (two)", 300.0), (folder, "H100", 60.0)):
        for name, code in (("a", "same"), ("b", device)):
            made = record(name, environment={"device": device}, fingerprint=code)
            made = replace(made, duration_s=seconds)
            notebooks.write(gpu.files_of(made, {"cells": []}, book.root, where / "tree"))
    monkeypatch.setattr(gpu, "parts", lambda *_: [])
    assert gpu.run(book.root, folder, ["small"], 1) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["a", "5", "min", "00", "s", "1", "min", "00", "s", "5.0"] in rows
    assert not [row for row in rows if row[:1] == ["b"]]


# Half of the work is done in one call, the rest in the next.
HALF = """\
import os, pathlib, time
half = pathlib.Path(os.environ["LABUTILS_CHECKPOINTS"], "half")
print("resumed" if half.exists() else "from nothing")
if not half.exists():
    half.parent.mkdir(parents=True, exist_ok=True)
    half.touch()
    time.sleep(200)"""


@pytest.mark.slow
def test_a_notebook_is_cut_short_in_time_and_goes_on_where_it_stopped(book):
    book.chapter("a", HALF)
    own = records.record_path("a", "small", book.root)
    notebooks.write({own: record("a").to_json()})
    before, source = own.read_bytes(), book.notebook("a").read_bytes()
    folder = book.root / gpu.FOLDER
    part = gpu.notebook("a", "small", book.root, folder)
    half = folder / "checkpoints" / "small-a" / "half"
    seconds = 6
    while not half.exists():  # a slow machine needs longer to get that far
        assert part.run(seconds) == gpu.CUT
        assert not part.done()
        seconds *= 2
    assert part.run(120) == gpu.DONE
    assert part.done()
    tree = folder / "tree"
    made = reader.read(tree / "results" / "theme" / "a.small.cpu.json")
    assert made.fingerprint == staleness.fingerprint("a", book.root)
    executed = notebooks.read(tree / "_build" / "executed" / "small" / "a.ipynb")
    assert executed["cells"][1]["outputs"][0]["text"] == "resumed\n"
    assert not half.exists()
    # what the book has stays as it was
    assert (own.read_bytes(), book.notebook("a").read_bytes()) == (before, source)
    book.notebook("a").write_text(book.notebook("a").read_text().replace("resumed", "again"))
    assert not gpu.notebook("a", "small", book.root, folder).done()  # other code


def places(made, book):
    found = gpu.files_of(made, {"cells": []}, book.root, Path("tree"))
    return [path.as_posix() for path in found]


def test_records_go_where_the_book_has_them(book):
    book.write("a", "1")
    made = record("a", environment={"device": "NVIDIA H100 80GB HBM3"}, fingerprint="new")
    assert places(made, book) == [
        "tree/_build/executed/small/a.ipynb",
        "tree/results/theme/a.small.nvidia-h100-80gb-hbm3.json",
    ]
    full = replace(made, profile="full")
    own = ["tree/_build/executed/full/a.ipynb", "tree/results/theme/a.full.json"]
    assert places(full, book) == own
    path = records.record_path("a", "full", book.root)
    notebooks.write({path: replace(full, environment={"device": "NVIDIA T4"}).to_json()})
    beside = "tree/results/theme/a.full.nvidia-h100-80gb-hbm3.json"
    assert places(full, book) == [own[0], beside]
    notebooks.write({path: replace(full, fingerprint="old").to_json()})
    assert places(full, book) == ["tree/results/theme/a.full.history.jsonl", *own]


# --- the bundle -----------------------------------------------------------------------------------


def wheel(folder, name):
    """A wheel of one module, as pip accepts it."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": "answer = 42\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as packed:
        for file, text in files.items():
            packed.writestr(file, text)


def test_a_bundle_is_installed_without_an_index_and_brings_the_data(tmp_path, monkeypatch):
    data = tmp_path / "data"
    data.mkdir()
    (data / "images.gz").write_bytes(gzip.compress(b"many pictures", 9))
    monkeypatch.setattr(gpu_bundle, "download", lambda names, folder: wheel(folder, "carried"))
    file, folder = tmp_path / "bundle.tar.xz", tmp_path / "unpacked"
    assert gpu_bundle.pack(file, ["carried==1.0"], data) == file.stat().st_size
    monkeypatch.setenv("PIP_INDEX_URL", "file:///nowhere")
    environment = gpu_bundle.unpack(file, folder)
    code = "import carried, sys; sys.exit(carried.answer != 42)"
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | environment)
    assert done.returncode == 0
    images = Path(environment["LABUTILS_DATA"], gpu_bundle.DATA, "images.gz")
    assert gzip.decompress(images.read_bytes()) == b"many pictures"
    (folder / "left").touch()
    assert gpu_bundle.unpack(file, folder) == environment  # once
    assert (folder / "left").exists()
    monkeypatch.setattr(gpu_bundle, "download", lambda names, folder: wheel(folder, "other"))
    gpu_bundle.pack(file, ["missing==1.0"], data)
    with pytest.raises(SystemExit, match=r"cannot be installed for .*missing"):
        gpu_bundle.unpack(file, folder)


def test_a_bundle_holds_all_that_its_packages_need_but_not_the_machines_own():
    names = {line.split("==")[0] for line in gpu_bundle.closure()}
    assert {"papermill", "ipykernel", "nbformat", "jupyter-client", "pyzmq", "lightly"} <= names
    assert names.isdisjoint(gpu_bundle.MACHINE | gpu_bundle.LEFT_OUT)
    assert not [name for name in names if name.startswith(("nvidia", "torch", "antlr"))]
    lock = (ROOT / "requirements.txt").read_text("utf-8")
    assert all(line in lock for line in gpu_bundle.closure())
    assert re.fullmatch(r"kornia==[\d.]+", gpu_bundle.peer(ROOT))
