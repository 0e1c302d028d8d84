"""Damage is found before it becomes a number: kept files, packaged data."""

import hashlib
import shutil

import numpy as np
import pytest
import torch

from labutils import kept
from press import PressError, digests, engine, notebooks


def test_each_of_forty_flipped_bits_of_a_checkpoint_is_found(tmp_path):
    file, rng = tmp_path / "runs" / "run.pt", np.random.default_rng(1)
    kept.write({"step": 3, "parts": {"model": torch.nn.Linear(9, 9).state_dict()}}, file)
    assert digests.damaged(tmp_path) == []
    whole, found = file.read_bytes(), 0
    for place in rng.choice(8 * len(whole), 40, replace=False):
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << (place % 8)
        file.write_bytes(changed)
        found += digests.damaged(tmp_path) == [file]
    assert found == 40
    for content in (b"", whole[:-1], whole[: len(whole) // 2], whole + b" "):
        file.write_bytes(content)
        assert digests.damaged(tmp_path) == [file]
    assert digests.damaged(tmp_path / "nowhere") == []


def test_a_damaged_checkpoint_is_said_and_computed_again(book, capsys):
    book.chapter(
        "a",
        "import os, pathlib\n"
        "print(sorted(p.name for p in pathlib.Path(os.environ['LABUTILS_CHECKPOINTS']).iterdir()))",
    )
    folder = book.root / "_build" / "checkpoints" / "small-a"
    for name in ("good.pt", "bad.pt"):
        kept.write([1.0], folder / name)
    (folder / "good.pt.123.tmp").write_bytes(b"half a checkpoint")
    (folder / "bad.pt").write_bytes((folder / "bad.pt").read_bytes().replace(b"PK", b"KP", 1))
    (outcome,) = engine.execute(root=book.root)
    assert outcome.status == "executed", outcome
    (output,) = notebooks.read(book.notebook("a"))["cells"][1]["outputs"]
    assert output["text"] == "['good.pt']\n"
    (line,) = (s for s in capsys.readouterr().out.splitlines() if "damaged" in s)
    assert line == f"a: {folder / 'bad.pt'} was damaged; what it held is computed again"


def test_packaged_data_are_those_that_are_listed():
    package = notebooks.book_root() / "labutils"
    assert (package / "assets.sha256").is_file()
    digests.check_assets(package)


@pytest.mark.parametrize("damage", ["flipped", "removed", "added"])
def test_changed_packaged_data_stop_a_run(book, damage):
    book.chapter("a", "1")
    package = book.root / "labutils"
    file = package / "assets" / "data.json"
    file.parent.mkdir()
    file.write_bytes(b"[1]")
    digest = hashlib.sha256(b"[1]").hexdigest()
    (package / "assets.sha256").write_text(f"{digest}  data.json\n")
    digests.check_assets(package)
    if damage == "removed":
        file.unlink()
    elif damage == "flipped":
        file.write_bytes(b"[3]")
    else:
        shutil.copy(file, file.with_name("more.json"))
    (outcome,) = engine.execute(root=book.root)
    assert outcome.status == "failed"
    assert ".json is not the file that assets.sha256 lists; restore it" in outcome.note
    with pytest.raises(PressError, match="sha256sum"):
        digests.check_assets(package)
