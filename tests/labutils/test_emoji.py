"""The emoji set: files, licences, compositing; its rebuild."""

import hashlib
import json
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from labutils.data import DataError, emoji
from studies import emoji_card

ASSETS = Path(emoji.__file__).parents[1] / "assets"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="10"><rect {0}/></svg>'


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def core():
    return emoji.load()


@pytest.fixture(scope="module")
def make():
    return runpy.run_path(str(Path(__file__).parents[2] / "studies" / "make_emoji.py"))


# Files


def test_all_styles_have_the_stated_pictures_and_checksums():
    dataset = emoji.load(emoji.STYLES)
    concepts, styles = emoji.concepts_and_styles()
    assert dataset.style_names == tuple(style.name for style in styles) == emoji.STYLES
    assert dataset.rgba.dtype == torch.uint8
    assert dataset.rgba.shape == (len(dataset), 4, 32, 32)
    assert dataset.concept.dtype == dataset.style.dtype == torch.int64
    assert int(dataset.concept.max()) < len(concepts) == len(dataset.concepts)
    for number, style in enumerate(styles):
        rgba, concept = (x[dataset.style == number] for x in (dataset.rgba, dataset.concept))
        assert len(rgba) == style.pictures
        assert (concept.diff() > 0).all()  # sorted, at most one picture of a concept
        content = rgba.permute(0, 2, 3, 1).contiguous().numpy().tobytes()
        content += concept.numpy().astype("<i2").tobytes()
        assert hashlib.sha256(content).hexdigest() == style.sha256
    visible = dataset.rgba[:, 3] > 0
    assert visible.flatten(1).any(1).all()
    assert (dataset.rgba[:, :3].amax(1)[~visible] == 0).all()


def test_default_styles_are_the_permissive_ones_in_colour(core):
    assert core.style_names == emoji.CORE
    licences = {style.name: style.licence for style in emoji.concepts_and_styles()[1]}
    assert {licences[name] for name in emoji.CORE} == {"Apache-2.0", "MIT", "CC-BY-4.0"}
    assert [name for name in emoji.STYLES if "SA" in licences[name]] == list(emoji.SHARE_ALIKE)
    twemoji = emoji.load(["twemoji"])
    assert twemoji.style_names == ("twemoji",)
    assert torch.equal(twemoji.rgba, core.rgba[core.style == emoji.CORE.index("twemoji")])
    assert twemoji.concepts == core.concepts


def test_every_file_is_small_and_names_authors_and_licences_of_its_styles():
    styles = {style.name: style for style in emoji.concepts_and_styles()[1]}
    for file, names in emoji.FILES.items():
        assert (ASSETS / f"{file}.npz.xz").stat().st_size < 8e6
        text = (ASSETS / f"{file}.LICENSE.txt").read_text(encoding="utf-8")
        assert "Changes made" in text
        for name in names:
            style = styles[name]
            for word in (style.name, style.author, style.source, style.licence, style.package):
                assert word in text
            full = {"MIT": "Permission is hereby granted", "Apache-2.0": "Grant of Patent License"}
            assert full.get(style.licence, style.licence_url) in text
    words = (ASSETS / "emoji.LICENSE.txt").read_text(encoding="utf-8")
    assert "MIT License" in words
    assert "UNICODE LICENSE V3" in words


def test_concepts_have_unique_names_and_sensible_fields(core):
    names = [concept.name for concept in core.concepts]
    assert len(set(names)) == len(names)
    by_name = dict(zip(names, core.concepts, strict=True))
    assert by_name["octopus"].group == "animals-nature"
    assert by_name["octopus"].code_points == "1F419"
    assert {concept.gender for concept in core.concepts} == {None, "woman", "man"}
    running = {by_name[f"{who} running"].family for who in ("person", "woman", "man")}
    assert len(running) == 1
    assert by_name["dog"].family != by_name["dog face"].family
    assert not any("skin tone" in name for name in names)


def test_damaged_file_gives_one_clear_error(tmp_path, monkeypatch):
    for path in ASSETS.glob("emoji*"):
        shutil.copy(path, tmp_path)
    file = tmp_path / "emoji-core.npz.xz"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    monkeypatch.setattr(emoji, "ASSETS", tmp_path)
    emoji._read.cache_clear()
    with pytest.raises(DataError, match=r"emoji-core.npz.xz.*Install labutils again"):
        emoji.load()
    emoji._read.cache_clear()


@pytest.mark.parametrize("styles", [["emojitwo"], [], ["noto", "noto"], "emojitwo"])
def test_load_rejects_other_styles(styles):
    with pytest.raises(ValueError, match="style"):
        emoji.load(styles)


# Compositing


def test_on_background_closed_forms(core):
    pictures = core.rgba[:50]
    rgba = pictures.clone()
    rgba[:, 3] = 255
    assert torch.equal(emoji.on_background(rgba, (1, 2, 3)), rgba[:, :3])
    rgba[:, 3] = 0
    assert emoji.on_background(rgba, (1, 2, 3)).amax((0, 2, 3)).tolist() == [1, 2, 3]
    alpha = pictures[:, 3:].double() / 255
    for colour in torch.randint(256, (50, 3), generator=seeded()):
        exact = pictures[:, :3] * alpha + colour[:, None, None] * (1 - alpha)
        assert torch.equal(emoji.on_background(pictures, colour), exact.round().byte())
    assert emoji.on_background(pictures[:0], (0, 0, 0)).shape == (0, 3, 32, 32)


@pytest.mark.parametrize(
    ("rgba", "colour"),
    [
        (torch.zeros(2, 4, 8, 8), (0, 0, 0)),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), (0, 0, 0)),
        (torch.zeros(2, 4, 8, 8, dtype=torch.uint8), (0.5, 0.5, 0.5)),
        (torch.zeros(2, 4, 8, 8, dtype=torch.uint8), (0, 0, 256)),
        (torch.zeros(2, 4, 8, 8, dtype=torch.uint8), torch.zeros(3, 3, dtype=int)),
    ],
)
def test_on_background_rejects(rgba, colour):
    with pytest.raises(ValueError, match="on_background expects"):
        emoji.on_background(rgba, colour)


# The data card


def test_page_shows_the_counts_of_the_files():
    assert emoji_card.TABLES.read_text(encoding="utf-8") == emoji_card.render()
    with Image.open(emoji_card.PICTURE) as stored:
        assert np.array_equal(np.asarray(stored.convert("RGB")), np.asarray(emoji_card.picture()))


# Rebuild


def fake_icons() -> dict:
    square = '<path d="M0 0h16v16H0z" fill="#f00"/>'
    return {
        "width": 16,
        "height": 16,
        "icons": {
            "dog": {"body": square},
            "dog-face": {"body": square.replace("f00", "0f0")},
            "flag-for-turkey": {"body": square.replace("f00", "00f")},
            "cricket-game": {"body": square.replace("f00", "0ff")},
            "wide": {"body": '<path d="M0 0h16v8H0z" fill="#fff"/>', "height": 8},
        },
        "aliases": {
            "cricket": {"parent": "cricket-game"},
            "god": {"parent": "dog", "hFlip": True},
        },
    }


class FakePackage:
    def json(self, path):
        return fake_icons() if path == "icons.json" else {}


def test_rebuild_matches_names_exactly_before_other_names(make, core):
    concepts = json.loads((ASSETS / "emoji.json").read_text(encoding="utf-8"))["concepts"]
    found = make["find_icons"](FakePackage(), concepts, {})
    by_name = {concepts[index]["name"]: svg for index, svg in found.items()}
    assert set(by_name) == {"dog", "dog face", "cricket game", "flag: Türkiye"}
    assert "#f00" in by_name["dog"]
    assert "#0f0" in by_name["dog face"]


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("twelve o’clock", "twelve-oclock"),
        ("flag: Bosnia & Herzegovina", "flag-for-bosnia-and-herzegovina"),
        ("keycap: *", "keycap-asterisk"),
        ("piñata", "pinata"),
    ],
)
def test_rebuild_names_icons(make, name, slug):
    assert make["slug"](name) == slug


def test_rebuild_joins_families_by_gender_and_by_picture(make):
    concepts = [
        {"code_points": points}
        for points in (
            "1F3C3",
            "1F3C3-200D-2640-FE0F",
            "1F468-200D-1F33E",
            "1F469-200D-1F33E",
            "1F419",
        )
    ]
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 4), np.uint8)
    assert make["find_families"](concepts, {}) == [0, 0, 1, 1, 2]
    same = {"style": (pixels[[0, 1, 0]], np.array([0, 2, 4]))}
    assert make["find_families"](concepts, same) == [0, 0, 1, 1, 0]


def test_rebuild_renders_a_few_icons(make):
    pytest.importorskip("resvg_py", reason="resvg-py renders the drawings")
    red = make["render"](make["svg_text"](fake_icons(), "dog"))
    assert red.shape == (32, 32, 4)
    assert (red == [255, 0, 0, 255]).all()
    wide = make["render"](make["svg_text"](fake_icons(), "wide"))
    assert (wide[8:24] == 255).all()  # keeps its proportions, in the middle
    assert (wide[:8] == 0).all()
    assert (wide[24:] == 0).all()
    assert make["svg_text"](fake_icons(), "cat") is None


def test_rebuild_writes_files_that_load_reads_back(make, core, tmp_path, monkeypatch):
    concepts = json.loads((ASSETS / "emoji.json").read_text(encoding="utf-8"))["concepts"]
    everything = emoji.load(emoji.STYLES)
    few = everything.concept < 40
    pictures = {}
    for number, name in enumerate(emoji.STYLES):
        if len(chosen := (few & (everything.style == number)).nonzero()[:, 0]):
            pixels = everything.rgba[chosen].permute(0, 2, 3, 1).numpy()
            pictures[name] = pixels, everything.concept[chosen].numpy()
    licence = {"title": "T", "spdx": "MIT", "url": "u"}
    info = {"name": "n", "author": {"name": "a", "url": "u"}, "license": licence}
    make["write"](tmp_path, concepts, pictures, dict.fromkeys(emoji.STYLES, info))
    monkeypatch.setattr(emoji, "ASSETS", tmp_path)
    emoji._read.cache_clear()
    again = emoji.load(emoji.STYLES)
    emoji._read.cache_clear()
    assert torch.equal(again.rgba, everything.rgba[few])
    assert torch.equal(again.concept, everything.concept[few])
    assert torch.equal(again.style, everything.style[few])
