"""The tour of the code names things that exist."""

import json
import pkgutil
import re
from functools import cache
from pathlib import Path

import pytest

from press import notebooks, reader

ROOT = Path(__file__).parents[1]
TOUR = (ROOT / "CODE-TOUR.md").read_text(encoding="utf-8")
NAMES = list(dict.fromkeys(re.findall(r"`([^`\n]+)`", TOUR)))
DOTTED = re.compile(r"(labutils|press)(\.\w+)+")
COMMANDS = ("make execute", "python -m press status")


@cache
def words_of_the_notebook():
    """Names in the code, tags, and names of numbers and claims of the RS2 chapter."""
    cells = notebooks.read(notebooks.path("rs2", ROOT))["cells"]
    code = "\n".join(cell["source"] for cell in cells if cell["cell_type"] == "code")
    record = reader.read(ROOT / "results" / "choosing-data" / "rs2.small.json")
    words = set(re.findall(r"[\w.]+", code)) | {claim.id for claim in record.claims}
    return words | set(record.numbers) | {tag for cell in cells for tag in notebooks.tags(cell)}


def test_the_tour_fits_on_a_page_and_follows_one_number():
    assert len(TOUR.split()) <= 800
    assert len([name for name in NAMES if DOTTED.fullmatch(name)]) >= 20
    assert re.findall(r"^(\d+)\. ", TOUR, re.MULTILINE) == [str(n) for n in range(1, 13)]
    record = json.loads((ROOT / "results/choosing-data/rs2.small.json").read_text("utf-8"))
    assert "rs2-accuracy-1" in record["numbers"]


@pytest.mark.parametrize("name", [name for name in NAMES if DOTTED.fullmatch(name)])
def test_a_dotted_name_exists(name):
    assert pkgutil.resolve_name(name)


@pytest.mark.parametrize("name", [name for name in NAMES if "/" in name])
def test_a_path_exists(name):
    assert (ROOT / name).exists()


def test_every_other_name_is_of_the_notebook_or_a_command():
    others = [name for name in NAMES if not DOTTED.fullmatch(name) and "/" not in name]
    known = words_of_the_notebook() | {"labutils", "press", *COMMANDS}
    assert not [name for name in others if name not in known]
