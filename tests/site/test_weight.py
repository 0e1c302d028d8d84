"""What makes the site light must not change what is seen."""

import io
import json
import re

import numpy as np
import pytest
import resvg_py
from building import ROOT
from PIL import Image

from press.site import slim as weight


def drawings():
    for file in sorted((ROOT / "notebooks").glob("*/*.ipynb")):
        for cell in json.loads(file.read_text("utf-8"))["cells"]:
            for output in cell.get("outputs", ()):
                if svg := output.get("data", {}).get("image/svg+xml"):
                    yield "".join(svg)


def pixels(svg):
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, dpi=96, background="#ffffff"))
    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture.convert("RGB"), dtype=float)


def parts(svg):
    """Bytes of the pictures in a drawing, and of the rest: they shrink by different means."""
    pictures = sum(map(len, re.findall(r'data:image/[^"]+', svg)))
    return np.array([pictures, len(svg) - pictures])


@pytest.mark.slow
def test_slim_drawings_look_the_same_and_weigh_less():
    before, after = np.zeros(2), np.zeros(2)
    for number, svg in enumerate(drawings()):
        slim = weight.slim(svg)
        before, after = before + parts(svg), after + parts(slim)
        assert "prefers-color-scheme" in slim
        first, second = pixels(svg), pixels(slim)
        assert first.shape == second.shape
        # On average less than one of 255 levels; a missing line or sign would cost more.
        assert np.abs(first - second).mean() < 1, number
    assert (before > 0).all()
    assert (after < [0.35, 0.8] * before).all()


def test_lost_signs_would_be_seen():
    svg = max(drawings(), key=lambda drawing: drawing.count("<use"))
    assert np.abs(pixels(svg) - pixels(re.sub(r"<use[^>]*/>", "", svg))).mean() > 1


def test_styles_keep_what_pages_have_and_drop_the_rest():
    import tinycss2

    rules = tinycss2.parse_stylesheet(
        ".a{x:1}.a.b{x:2}.c,.a{x:3}p:not(.b){x:4}@media print{.b{x:5}.a{x:6}}@media print{.b{x:7}}"
        ":is(.b,.a){x:8}"
    )
    kept = "".join(weight.kept(rules, {"a"}))
    for value, there in zip(range(1, 9), (1, 0, 1, 1, 0, 1, 0, 1), strict=True):
        assert (f"x:{value}" in kept) == bool(there), value


def test_name_of_the_rows_of_a_table_moves_into_its_first_cell():
    head = "<thead><tr><th>{}</th><th>1 %</th></tr>\n<tr><th>arm</th>\n<th></th></tr></thead>"
    for first in ("", "ratio"):
        found = weight.ROW_NAME.sub(r'\1 class="row-name">\3</th>\2', head.format(first))
        assert found == '<thead><tr><th class="row-name">arm</th><th>1 %</th></tr></thead>'
    other = "<thead><tr><th></th><th>a</th></tr></thead><tbody><tr><th>b</th><td></td></tr></tbody>"
    assert weight.ROW_NAME.sub("", other) == other
