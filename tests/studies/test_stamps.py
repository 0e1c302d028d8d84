"""The stamps of Tux Paint: pictures, sentences and groups, and clear errors without them."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from labutils.data import DataError
from studies import stamps

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="10"><rect {0}/></svg>'


def write_stamp(folder: Path, name: str, caption: str | None, size=(40, 20)) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".svg"):
        path.write_text(SVG.format('width="20" height="10" fill="#00f"'))
    else:
        Image.new("RGBA", size, (255, 0, 0, 255)).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(f"{caption}\nde.utf8=Etwas.\n", encoding="utf-8")


def test_stamps_reads_pictures_sentences_and_groups(tmp_path):
    write_stamp(tmp_path, "animals/birds/robin.png", "A robin – red.")
    write_stamp(tmp_path, "animals/birds/robin_mirror.png", None)
    write_stamp(tmp_path, "food/apple.png", "An apple.", size=(10, 30))
    write_stamp(tmp_path, "food/empty.png", "")
    found = stamps.stamps(tmp_path)
    assert found.captions == ("A robin – red.", "An apple.")
    assert found.groups == ("animals", "food")
    assert found.names == ("animals/birds/robin", "food/apple")
    assert found.rgba.shape == (2, 4, 32, 32)
    # A picture twice as wide as high fills the middle half.
    assert (found.rgba[0, :, 8:24] == torch.tensor([255, 0, 0, 255]).view(4, 1, 1)).all()
    assert (found.rgba[0, :, :8] == 0).all()


def test_stamps_renders_drawings(tmp_path):
    pytest.importorskip("resvg_py", reason="resvg-py renders the drawings")
    write_stamp(tmp_path, "animals/whale.svg", "A whale.")
    found = stamps.stamps(tmp_path)
    assert (found.rgba[0, :, 10:22] == torch.tensor([0, 0, 255, 255]).view(4, 1, 1)).all()


def test_stamps_prefers_pixels_to_drawings(tmp_path):
    write_stamp(tmp_path, "food/apple.svg", "An apple.")
    write_stamp(tmp_path, "food/apple.png", "An apple.")
    assert stamps.stamps(tmp_path).rgba[0, 0].max() == 255  # the red of the PNG


def test_stamps_gives_clear_errors(tmp_path):
    with pytest.raises(DataError, match="apt-get install tuxpaint-stamps-default"):
        stamps.stamps(tmp_path / "nothing")
    write_stamp(tmp_path, "food/apple.png", "An apple.")
    (tmp_path / "food/apple.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"apple\.png: cannot be read"):
        stamps.stamps(tmp_path)


@pytest.mark.skipif(not stamps.STAMPS_FOLDER.is_dir(), reason="no system package of the stamps")
def test_stamps_of_the_system():
    pytest.importorskip("resvg_py", reason="resvg-py renders the drawings")
    found = stamps.stamps()
    assert len(found) > 900
    assert "A red kangaroo." in found.captions
    assert {"animals", "food", "vehicles"} <= set(found.groups)
