"""A release stamps every place that names the version, or refuses and changes nothing."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from press import PressError, notebooks, release, staleness

ROOT = Path(__file__).parents[2]
VERSION = "99.0.0"


def git(folder, *arguments):
    command = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A throwaway clone of the last commit, on main, with news, whose records count as fresh."""
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "A")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "a@example.org")
    git(tmp_path, "clone", "--quiet", "--no-tags", str(ROOT), "clone")
    folder = tmp_path / "clone"
    git(folder, "switch", "--quiet", "--force-create", "main")
    news = (folder / "CHANGELOG.md").read_text(encoding="utf-8")
    news = news.replace("## [Unreleased]\n", "## [Unreleased]\n\n- Something new.\n", 1)
    (folder / "CHANGELOG.md").write_text(news, encoding="utf-8")
    git(folder, "commit", "--quiet", "--all", "--message", "News")
    monkeypatch.setattr(release, "_stale", lambda root: [])
    return folder


def refusal(folder, version=VERSION):
    """What a refused release says; it must leave the clone as it was."""
    before = git(folder, "rev-parse", "HEAD"), git(folder, "status", "--porcelain")
    with pytest.raises(PressError) as caught:
        release.release(version, folder)
    assert before == (git(folder, "rev-parse", "HEAD"), git(folder, "status", "--porcelain"))
    assert not git(folder, "tag")
    return str(caught.value)


def test_a_release_stamps_every_place_and_is_one_commit_with_a_tag(clone):
    head = git(clone, "rev-parse", "HEAD")
    said = release.release(VERSION, clone)
    assert f"git push --atomic origin main v{VERSION}" in said
    assert git(clone, "rev-parse", f"v{VERSION}^{{commit}}") == git(clone, "rev-parse", "HEAD")
    assert git(clone, "rev-parse", "HEAD~1") == head
    assert not git(clone, "status", "--porcelain")

    assert f'__version__ = "{VERSION}"' in (clone / "labutils" / "__init__.py").read_text()
    assert notebooks.repository(clone)[1] == f"v{VERSION}"
    citation = yaml.safe_load((clone / "CITATION.cff").read_text(encoding="utf-8"))
    date = citation["date-released"].isoformat()
    assert str(citation["version"]) == VERSION
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", date)
    news = (clone / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [Unreleased]\n\n## [{VERSION}] - {date}\n\n- Something new.\n" in news


def test_setup_cells_install_the_tag_and_results_stay_fresh(clone):
    names = notebooks.chapters(clone)
    before = {name: staleness.fingerprint(name, clone) for name in names}
    release.release(VERSION, clone)
    for name in names:
        cells = notebooks.read(notebooks.path(name, clone))["cells"]
        (setup,) = [cell["source"] for cell in cells if "setup" in notebooks.tags(cell)]
        assert setup == notebooks.setup_cell(clone, name)
        assert f"@v{VERSION}" in setup
    assert before == {name: staleness.fingerprint(name, clone) for name in names}


def test_a_second_release_needs_a_higher_version_and_news(clone):
    release.release(VERSION, clone)
    with pytest.raises(PressError, match="not newer than"):
        release.release(VERSION, clone)
    with pytest.raises(PressError, match="nothing under"):
        release.release("99.0.1", clone)


@pytest.mark.parametrize("version", ["", "1.2", "v1.2.3", "1.2.3rc1"])
def test_a_version_has_three_numbers(clone, version):
    assert "expected a version like 1.2.3" in refusal(clone, version)


def test_an_older_version_is_refused(clone):
    assert "not newer than" in refusal(clone, "0.0.1")


def test_another_branch_is_refused(clone):
    git(clone, "switch", "--quiet", "--create", "other")
    assert "branch main, this is 'other'" in refusal(clone)


def test_a_changed_tree_is_refused(clone):
    (clone / "new.txt").write_text("not committed")
    assert "the working tree has changes" in refusal(clone)


def test_stale_records_are_refused_by_name(clone, monkeypatch):
    line = "rs2  small  stale  the notebook changed"
    monkeypatch.setattr(release, "_stale", lambda root: [line])
    said = refusal(clone)
    assert "make execute" in said
    assert line in said


def test_status_tells_which_records_are_stale(clone, monkeypatch):
    monkeypatch.undo()
    file = notebooks.path("rs2", clone)
    notebook = notebooks.read(file)
    cells = [c for _, c in notebooks.code_cells(notebook) if "technique" in notebooks.tags(c)]
    cells[0]["source"] += "\nADDED = 1"
    notebooks.write({file: notebook})
    assert any("rs2" in line for line in release._stale(clone))


def test_fresh_records_do_not_stand_in_the_way(monkeypatch):
    rows = "notebook  state  why stale\n--------  -----  ---------\nrs2       fresh"
    monkeypatch.setattr(release, "status", lambda root: rows)
    assert release._stale(ROOT) == []


def test_a_file_that_cannot_be_stamped_is_named_and_nothing_changes(clone):
    (clone / "CITATION.cff").write_text("title: no version\n", encoding="utf-8")
    git(clone, "commit", "--quiet", "--all", "--message", "No version")
    assert "CITATION.cff must have one line like" in refusal(clone)


def test_all_places_name_the_same_version_today():
    text = (ROOT / "labutils" / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "(.*)"$', text, re.MULTILINE)[1]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == version
    assert notebooks.repository(ROOT)[1] == f"v{version}"


@pytest.mark.slow
def test_the_wheel_holds_both_packages_and_their_files(tmp_path):
    git(tmp_path, "clone", "--quiet", str(ROOT), "clone")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", str(tmp_path), str(tmp_path / "clone")]
    subprocess.run(command, cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("labutils-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = git(ROOT, "ls-tree", "-r", "--name-only", "HEAD", "labutils", "press").split("\n")
    assert set(tracked) <= names
    assert not [name for name in names if name.startswith(("tests", "studies", "benchmarks"))]
