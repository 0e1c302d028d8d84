"""Notebooks as files: where they lie, how they are read, their setup cells."""

import re
import subprocess
from pathlib import Path

import pytest
from throwaway import record

from press import notebooks
from press.notebooks import NotebookError


def test_unknown_notebook_lists_the_valid_ones(book):
    book.write("a", "x = 1")
    book.write("b", "x = 1")
    with pytest.raises(NotebookError, match=r"unknown notebook 'c'.*: a, b"):
        notebooks.path("c", book.root)


def test_notebooks_are_found_in_the_folders_of_themes(book):
    book.write("b", "x = 1")
    other = book.root / "notebooks" / "another" / "a.ipynb"
    other.parent.mkdir()
    book.write("a", "x = 1").rename(other)
    assert notebooks.chapters(book.root) == ["a", "b"]
    assert notebooks.path("a", book.root) == other


def test_damaged_notebook_is_named(book):
    book.notebook("a").write_text('{"cells": [')
    with pytest.raises(NotebookError, match=r"a\.ipynb is not a Jupyter notebook"):
        notebooks.read(notebooks.path("a", book.root))


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_setup_cells_follow_the_address(book):
    book.write("01-a", ("setup", "install()"), "x = 1")
    assert notebooks.rewrite_setup_cells(book.root) == ["01-a"]
    assert notebooks.rewrite_setup_cells(book.root) == []
    edit(book.root / "_config.yml", "example.org/book", "example.org/other")
    assert notebooks.rewrite_setup_cells(book.root) == ["01-a"]
    source = notebooks.read(book.notebook("01-a"))["cells"][1]["source"]
    assert "labutils @ git+https://example.org/other@main" in source
    assert source == notebooks.setup_cell(book.root, "01-a")


def test_notebooks_ask_colab_for_a_gpu(book):
    book.write("a", "x = 1")
    assert notebooks.rewrite_setup_cells(book.root) == ["a"]
    metadata = notebooks.read(book.notebook("a"))["metadata"]
    assert metadata == {"accelerator": "GPU", "colab": {"gpuType": "T4"}}
    assert notebooks.rewrite_setup_cells(book.root) == []


CARD = "NVIDIA H100 80GB HBM3"


def timed(book, profile, device, seconds):
    made = record("a", profile=profile, environment={"device": device}, duration_s=seconds)
    folder = book.root / "results" / "theme"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"a.{profile}.{device[0]}.json").write_text(made.to_json())


@pytest.mark.parametrize(
    ("card", "said"),
    [
        (None, r"Found \d+ CPU cores: small took 9 min on cpu \(two threads\)"),
        ("Tesla T4", rf"Found Tesla T4: full took 8 min on {CARD}; small took 1 min on {CARD}"),
    ],
)
def test_setup_cell_says_what_it_found_and_what_runs_took_on_such_a_device(
    book, monkeypatch, capsys, card, said
):
    import torch

    monkeypatch.delenv("LABUTILS_HEADLESS", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: card is not None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: card)
    exec(notebooks.setup_cell(book.root, "a"), {})
    found = re.fullmatch(
        r"Found [^:]+: an estimate: small takes minutes; .*\n", capsys.readouterr()[0]
    )
    assert found
    timed(book, "small", "cpu (two threads)", 521.0)
    timed(book, "small", CARD, 9.0)
    timed(book, "full", CARD, 500.0)
    exec(notebooks.setup_cell(book.root, "a"), {})
    assert re.fullmatch(f"{said}\n", capsys.readouterr()[0])
    monkeypatch.setenv("LABUTILS_HEADLESS", "1")
    exec(notebooks.setup_cell(book.root, "a"), {})
    assert capsys.readouterr()[0] == ""


def test_setup_cells_install_from_the_tag_that_the_pages_are_rendered_from(book):
    edit(book.root / "_config.yml", "branch: main", "branch: v1.2")
    assert "git+https://example.org/book@v1.2" in notebooks.setup_cell(book.root)


def test_setup_cell_installs_only_where_the_package_is_absent(book, monkeypatch):
    calls = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: calls.append(command))
    source = notebooks.setup_cell(book.root)
    exec(source, {})
    assert calls == []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.2+cu3")
    exec(source, {})
    (command,) = calls
    assert command[-1] == "labutils @ git+https://example.org/book@main"
    constraints = Path(command[command.index("--constraint") + 1]).read_text().splitlines()
    assert constraints == ["torch==1.2+cu3", "torchvision==1.2+cu3", "numpy==1.2+cu3"]


def test_missing_address_is_named(book):
    (book.root / "_config.yml").write_text("title: x\n")
    with pytest.raises(
        NotebookError, match=r"_config\.yml does not give the book's public address"
    ):
        notebooks.setup_cell(book.root)


def test_several_files_are_replaced_or_none(tmp_path):
    notebooks.write({tmp_path / "a": "old", tmp_path / "file": ""})
    with pytest.raises(OSError, match="file"):
        notebooks.write({tmp_path / "a": "new", tmp_path / "file" / "b": "new"})
    assert (tmp_path / "a").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "file"]
    notebooks.write({tmp_path / "a": "new", tmp_path / "folder" / "b": "new"})
    assert [(tmp_path / name).read_text() for name in ("a", "folder/b")] == ["new", "new"]
