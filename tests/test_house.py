"""What the documents say agrees with the code: commands, variables, requirements, links."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from press.__main__ import main

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "book").glob("*.md"))]
DOCUMENTS += [ROOT / "results" / "README.md", ROOT / ".github" / "PULL_REQUEST_TEMPLATE.md"]
PACKAGE = {"scikit-learn": "sklearn", "pyyaml": "yaml"}
WITH_IPYTHON = {"IPython", "matplotlib_inline"}  # only used where a notebook runs
OPTIONAL = {"resvg_py"}
RECORDED = {"torchvision"}  # not imported, but its version stands in every record


def text(file):
    return file.read_text(encoding="utf-8")


def source_files(*packages):
    return [file for package in packages for file in (ROOT / package).rglob("*.py")]


def code_of(file):
    """Blocks of shell commands, and code within lines."""
    found = re.findall(
        r"^```(?:bash|shell)\n(.*?)^```|`([^`\n]+)`", text(file), re.MULTILINE | re.DOTALL
    )
    return "\n".join(block or inline for block, inline in found)


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_the_commands_of_a_document_exist(file):
    targets = set(re.findall(r"^([a-z-]+):", text(ROOT / "Makefile"), re.MULTILINE))
    for target in re.findall(r"\bmake ([a-z][a-z-]*)", code_of(file)):
        assert target in targets, f"make {target}"
    for line in re.findall(r"python -m press ([a-z][a-z |-]*)", code_of(file)):
        for command in line.split(" | ") if "|" in line else line.split()[:1]:
            assert command.strip() in main.commands, command
    for module in re.findall(r"-m ((?:press|studies|benchmarks)\.\w+)", code_of(file)):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_the_files_that_a_document_links_to_exist(file):
    for link in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", text(file)):
        if link.startswith("../results."):  # made by the build
            continue
        assert (file.parent / link).exists(), link


def test_one_table_lists_the_environment_variables_and_no_other_is_read():
    page = text(ROOT / "book" / "run-anywhere.md")
    listed = re.findall(r"^\| `(LABUTILS_[A-Z]+)` \|", page, re.MULTILINE)
    code = "\n".join(text(file) for file in source_files("labutils", "press"))
    assert sorted(listed) == sorted(set(re.findall(r"LABUTILS_[A-Z]+", code)))


def test_the_package_requires_what_it_imports_and_nothing_else():
    imported = set()
    for file in source_files("labutils"):
        for node in ast.walk(ast.parse(text(file))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.partition(".")[0])
    imported -= set(sys.stdlib_module_names) | {"labutils"} | WITH_IPYTHON | OPTIONAL
    project = tomllib.loads(text(ROOT / "pyproject.toml"))["project"]
    required = {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]}
    assert {PACKAGE.get(name, name) for name in required} == imported | RECORDED


@pytest.mark.parametrize("name", ["jobs", "body"])
def test_workflows_and_forms_can_be_read(name):
    folder = {"jobs": "workflows", "body": "ISSUE_TEMPLATE"}[name]
    files = [file for file in (ROOT / ".github" / folder).glob("*.yml") if file.stem != "config"]
    assert len(files) >= 2
    for file in files:
        assert yaml.safe_load(text(file))[name], file.name


def test_actions_are_pinned_and_the_scheduled_one_covers_newer_pythons():
    for file in (ROOT / ".github" / "workflows").glob("*.yml"):
        for action in re.findall(r"uses: (\S+)", text(file)):
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action), action
    weekly = yaml.safe_load(text(ROOT / ".github" / "workflows" / "weekly.yml"))
    assert weekly["jobs"]["newest"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]


def test_lint_comes_before_the_tests_in_ci():
    lines = text(ROOT / ".ci" / "run").splitlines()
    assert lines.index("make lint") < lines.index("exec make test")


def test_the_hooks_run_files_that_exist():
    hooks = text(ROOT / ".pre-commit-config.yaml")
    for file in re.findall(r"tests/\S+\.py", hooks):
        assert (ROOT / file).is_file(), file
    for chapter in re.search(r"notebooks/\((.*)\)\\.ipynb", hooks)[1].split("|"):
        assert (ROOT / "notebooks" / f"{chapter}.ipynb").is_file(), chapter


def test_every_asset_has_a_source_a_licence_and_a_script():
    assets = ROOT / "labutils" / "assets"
    page = text(ROOT / "book" / "data.md").partition("## Every file of the package")[2]
    listed = {}
    for line in re.findall(r"^\| `.*$", page.partition("## Normalisation")[0], re.MULTILINE):
        names, source, licence, script = (part.strip() for part in line.strip("|").split("|"))
        assert source
        assert licence
        for name in re.findall(r"`([^`]+)`", names):
            listed[name] = script
    files = {file.name for file in assets.iterdir()}
    licences = {name for name in files if name.endswith(".LICENSE.txt")}
    assert listed.keys() == files - licences
    for name, script in listed.items():
        if name != "book.mplstyle":  # code
            assert f"{name.partition('.')[0]}.LICENSE.txt" in licences, name
            assert (ROOT / f"{script.strip('`').replace('.', '/')}.py").is_file(), name


@pytest.mark.parametrize("name", ["requirements", "requirements-book", "requirements-bench"])
def test_every_requirement_has_digests_and_the_version_of_the_first_lock(name):
    def pins(name):
        lines = text(ROOT / f"{name}.txt").replace("\\\n", " ").splitlines()
        assert all("--hash=sha256:" in line for line in lines)
        return {line.partition(" ")[0] for line in lines}

    names = {pin.partition("==")[0] for pin in pins("requirements")}
    own = {pin for pin in pins(name) if pin.partition("==")[0] in names}
    assert own <= pins("requirements")
    for wanted in re.findall(r"^[\w-]+", text(ROOT / f"{name}.in"), re.MULTILINE):
        assert any(pin.startswith(f"{wanted}==") for pin in pins(name)), wanted
