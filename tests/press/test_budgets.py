"""The packages stay small: lines of each, and of each function."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_LINES_OF_A_FUNCTION = 60


def sources(*patterns):
    return sorted(file for pattern in patterns for file in ROOT.glob(pattern))


# The goal for labutils is 2,600 lines; but for modules that labs share (150 of them are
# clip_emoji.py), its number only falls.
# The techniques as files took 332 lines of press and 75 of the site; ends that leave nothing behind
# and comparing records by bytes 56 of press. Checks of arguments took 80 lines of labutils, and to
# leave them out of fingerprints 62 of press. The emoji that words find in the page took 84 of the
# site, so that 3 MB which follow from the assets need not lie in the repository.
@pytest.mark.parametrize(
    ("name", "patterns", "most"),
    [
        ("labutils", ["labutils/**/*.py"], 3339),
        ("press", ["press/*.py"], 3006),
        ("the site", ["press/site/**/*.py"], 1382),
    ],
)
def test_a_package_keeps_its_budget_of_lines(name, patterns, most):
    lines = {
        str(file.relative_to(ROOT)): len(file.read_text("utf-8").splitlines())
        for file in sources(*patterns)
    }
    assert sum(lines.values()) <= most, (name, sum(lines.values()), lines)


def test_no_function_is_longer_than_a_screen():
    found = []
    for file in sources("labutils/**/*.py", "press/**/*.py", "studies/*.py", "benchmarks/*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > MOST_LINES_OF_A_FUNCTION:
                    found.append(f"{file.relative_to(ROOT)}, {node.name}: {lines} lines")
    assert not found, found
