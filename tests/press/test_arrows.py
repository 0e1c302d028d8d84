"""Who imports whom: notebooks import labutils, press checks both, nothing imports press back."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from press import notebooks

ROOT = Path(__file__).parents[2]
PAGES = {"labutils", "labutils.claims", "labutils.statistics", "labutils.formats"}  # no torch


def imported(source, package="", lazily=True):
    """Dotted names that a source imports; without `lazily`, only while it is itself imported."""
    tree = ast.parse(source)
    inside = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
    }
    names = set()
    for node in ast.walk(tree):
        if node in inside and not lazily:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            module = ".".join(parents * bool(node.level) + [node.module] * bool(node.module))
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return names


def modules(*packages):
    """{dotted name: (source, package)} of all modules of some packages."""
    found = {}
    for file in (file for package in packages for file in (ROOT / package).rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        package = ".".join(parts[:-1])
        name = package if parts[-1] == "__init__" else ".".join(parts)
        found[name] = file.read_text("utf-8"), package
    return found


def of_packages(names, *packages):
    return {name for name in names if name.partition(".")[0] in packages}


@pytest.mark.parametrize("name", modules("labutils"))
def test_labutils_imports_neither_press_nor_studies(name):
    names = imported(*modules("labutils")[name])
    assert of_packages(names, "press", "studies", "benchmarks") == set()


@pytest.mark.parametrize("name", modules("press"))
def test_press_imports_of_labutils_only_what_needs_no_torch(name):
    source, package = modules("press")[name]
    known = {*modules("labutils"), "labutils"}
    at_once, ever = (
        of_packages(imported(source, package, lazily), "labutils") & known
        for lazily in (False, True)
    )
    assert at_once <= PAGES
    assert {n for n in ever if not n.startswith("labutils.data")} <= PAGES


@pytest.mark.parametrize("slug", notebooks.chapters(ROOT))
def test_no_notebook_imports_press(slug):
    names = set()
    for _, cell in notebooks.code_cells(notebooks.read(notebooks.path(slug, ROOT))):
        names |= imported(cell["source"])
    assert of_packages(names, "press", "studies", "benchmarks", "tests") == set()


def test_importing_press_without_the_site_needs_no_torch():
    names = [n for n in modules("press") if not n.startswith("press.site") and "__main__" not in n]
    code = f"import sys, json, {', '.join(names)}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    heavy = {"torch", "torchvision", "matplotlib", "sklearn"}
    assert heavy.isdisjoint(json.loads(done.stdout))


def test_labutils_has_no_circles():
    known = modules("labutils")
    arrows = {
        name: (imported(*of) & set(known)) - {name, name.rpartition(".")[0] or name}
        for name, of in known.items()
    }
    while free := [name for name, targets in arrows.items() if not targets & set(arrows)]:
        for name in free:
            del arrows[name]
    assert not arrows, f"these modules import each other: {sorted(arrows)}"
