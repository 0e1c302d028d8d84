"""The command line: help, exit statuses, errors of one line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from press import __main__ as command_line
from press import engine
from press.__main__ import main

COMMANDS = [
    "execute", "sweep", "status", "book", "pdf", "technique", "data", "new-lab", "setup-cells",
]  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_help(name):
    listing = CliRunner().invoke(main, ["--help"]).output
    assert f"  {name} " in listing
    assert "..." not in listing.partition("Commands:")[2]  # no summary is cut off
    shown = CliRunner().invoke(main, [name, "--help"])
    assert shown.exit_code == 0
    assert shown.output.startswith(f"Usage: main {name}")


def test_both_words_run_the_engine(monkeypatch):
    asked = []
    monkeypatch.setattr(
        engine, "execute", lambda names, **options: asked.append((names, options)) or []
    )
    options = {"profile": "small", "jobs": None, "dask": None, "force": False}
    for words, names, changes in (
        (["execute"], (), {"seeds": None}),
        (["execute", "a", "b", "--jobs", "2", "--force"], ("a", "b"),
         {"seeds": None, "jobs": 2, "force": True}),
        (["sweep", "a", "--seeds", "0-2", "--dask", "tcp://x"], ("a",),
         {"seeds": [0, 1, 2], "dask": "tcp://x"}),
        (["execute", "a", "--seeds", "3"], ("a",),
         {"seeds": [3]}),
    ):  # fmt: skip
        assert CliRunner().invoke(main, words).exit_code == 0
        assert asked.pop() == (names, options | changes)
    for words in (["sweep", "a"], ["sweep", "--seeds", "1"]):
        assert CliRunner().invoke(main, words).exit_code == 2
    shown = CliRunner().invoke(main, ["execute", "--profile", "big"])
    assert shown.exit_code == 2
    assert "'big' is not one of 'smoke', 'small', 'full'" in shown.output


@pytest.mark.parametrize(("status", "code"), [("executed", 0), ("fresh", 0), ("failed", 1)])
def test_the_exit_status_tells_whether_a_job_failed(monkeypatch, status, code):
    outcomes = [engine.Outcome("a", "executed"), engine.Outcome("b", status)]
    monkeypatch.setattr(engine, "execute", lambda *_, **__: outcomes)
    assert CliRunner().invoke(main, ["execute"]).exit_code == code


@pytest.mark.parametrize("text", ["", "a", "3-1", "-1", "1,,2", "0-2,1", "1.5"])
def test_bad_lists_of_seeds(text):
    shown = CliRunner().invoke(main, ["sweep", "a", "--seeds", text])
    assert shown.exit_code == 2
    assert re.search(r"is not a list of seeds|names a seed twice", shown.output)


def test_lists_of_seeds():
    assert command_line.parse_seeds("0-3") == [0, 1, 2, 3]
    assert command_line.parse_seeds("7") == [7]
    assert command_line.parse_seeds("5, 0-2,9") == [5, 0, 1, 2, 9]


def test_an_expected_error_is_one_line(book):
    book.write("a", "1")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "press", "execute", "b"],
        cwd=book.root / "notebooks",
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == "Error: unknown notebook 'b'; the notebooks are: a\n"


def test_building_the_site_and_status_need_no_package_of_the_engine():
    """The site's environment has numpy and scipy, and nothing that runs a notebook."""
    absent = {"torch", "pandas", "joblib", "psutil", "filelock", "papermill"}
    code = f"""
import sys
class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from press.__main__ import main
main(["status"])"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("notebook ")


def test_a_package_that_is_missing_is_one_line_that_names_the_environment(monkeypatch, capsys):
    def needs_more(**_):
        raise ModuleNotFoundError("No module named 'numpy'", name="numpy")

    monkeypatch.setattr(command_line, "main", needs_more)
    with pytest.raises(SystemExit) as stopped:
        command_line.run()
    assert stopped.value.code == 2
    assert "numpy is not installed" in (err := capsys.readouterr().err)
    assert ".venv/bin/python" in err
