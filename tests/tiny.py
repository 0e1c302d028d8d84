"""A throw-away notebook on the real labutils, in a book of its own."""

import shutil
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]

PARAMETERS = 'profile = "small"\nseeds = None'
START = """\
from labutils.start import start

SETTINGS = {"num_steps": (1, 4, "100", "time"), "num_seeds": (1, 3, "5", "time")}
lab = start("tiny", SETTINGS, profile=profile, seeds=seeds)
lab.settings_table()"""
NUMBERS = """\
lab.ledger.number("width", 0.1 + 0.2, "cm")
lab.ledger.number("steps", lab.settings.num_steps);"""
CLAIMS = """\
draws = [lab.streams(seed).sampling.initial_seed() % 1000 / 1000 for seed in lab.seeds]
lab.ledger.claim(
    "better", "A beats B by more than $r < 1$ & a half", source="paper", primary=True,
    where="Table 1", values={"A": [2 + draw for draw in draws], "B": draws}, direction="greater",
    margin=0.5, paper={"value": 3.0, "unit": "points", "source": "Table 1"},
)
lab.ledger.claim(
    "falls", "The loss falls", source="ours", values={"last": draws, "first": [1.0] * len(draws)},
    direction="less", unit="nats",
)
lab.save()
lab.ledger.table()"""


def make_book(root):
    """A folder that counts as a book, with a copy of labutils but no notebook; returns it."""
    ignored = shutil.ignore_patterns("__pycache__", "assets")
    shutil.copytree(ROOT / "labutils", root / "labutils", ignore=ignored)
    (root / "_config.yml").write_text("title: A book\n")
    return root


def write(root, *, numbers=NUMBERS):
    """Write notebooks/theme/tiny.ipynb without outputs; return its path."""
    make = nbformat.v4
    cells = [
        make.new_markdown_cell("# Tiny", id="title"),
        make.new_code_cell(PARAMETERS, id="parameters", metadata={"tags": ["parameters"]}),
        make.new_code_cell(START, id="start"),
        make.new_code_cell(numbers, id="numbers"),
        make.new_code_cell(CLAIMS, id="claims", metadata={"tags": ["claims"]}),
    ]
    file = root / "notebooks" / "theme" / "tiny.ipynb"
    file.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(make.new_notebook(cells=cells), file)
    return file
