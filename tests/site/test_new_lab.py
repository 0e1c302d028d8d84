"""A new lab touches its notebook, test, example, catalogue row, reference and record."""

import hashlib
import os
import subprocess
import sys

import pytest
from building import build, copy_book

from press import catalogue, consistency, contract, records
from press.new_lab import new_lab

SLUG, THEME = "throwaway", "few-labels"
ROW = (
    f"  - {{slug: {SLUG}, short: Throwaway, key: nobody2026throwaway, kind: lab, "
    "near: fixmatch-saa, code: none, idea: a lab that only a test writes}\n"
)
REFERENCE = """
@article{nobody2026throwaway,
  author = {Nobody, Ann and Noone, Ben},
  title = {A throwaway idea},
  journal = {Journal of Tests},
  year = {2026},
  url = {https://example.org/throwaway},
}
"""
MADE = ("_build", "__pycache__", ".pytest_cache", "_toc.yml")  # not written by whoever adds a lab


def contents(book):
    files = [f for f in book.rglob("*") if f.is_file() and not set(MADE) & set(f.parts)]
    return {str(f.relative_to(book)): hashlib.md5(f.read_bytes()).hexdigest() for f in files}


def run(book, *command):
    done = subprocess.run(
        [sys.executable, *command], cwd=book, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(book)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def added(tmp_path_factory):
    """A copy of the book with one more lab, its site built; and what changed in it."""
    book = copy_book(tmp_path_factory.mktemp("lab") / "a book")
    before = contents(book)
    catalogue = book / "book" / "catalogue.yml"
    head, mark, tail = catalogue.read_text("utf-8").partition(f"- slug: {THEME}\n")
    top, papers, rows = tail.partition("  papers:\n")
    catalogue.write_text(head + mark + top + papers + ROW + rows, "utf-8")
    with (book / "book" / "references.bib").open("a", encoding="utf-8") as stream:
        stream.write(REFERENCE)
    new_lab(SLUG, book)
    run(book, "-m", "press", "execute", SLUG, "--profile", "small")
    status, output = build(book)
    assert status == 0, output
    after = contents(book)
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    return book, changed


@pytest.mark.notebook
@pytest.mark.timeout(600)
class TestNewLab:
    def test_six_places_are_touched(self, added):
        assert added[1] == {
            f"notebooks/{THEME}/{SLUG}.ipynb",
            f"tests/notebooks/{THEME}/test_{SLUG}.py",
            f"book/examples/{SLUG}.py",
            "book/catalogue.yml",
            "book/references.bib",
            f"results/{THEME}/{SLUG}.small.json",
        }

    def test_it_keeps_the_contract_and_its_outputs_are_its_records(self, added):
        book, _ = added
        assert contract.problems(SLUG, book) == []
        assert consistency.problems(SLUG, book) == []
        assert records.why_stale(SLUG, "small", book) is None

    def test_its_own_test_passes(self, added):
        book, _ = added
        test = f"tests/notebooks/{THEME}/test_{SLUG}.py"
        out = run(book, "-m", "pytest", "-q", "-p", "no:cacheprovider", test)
        assert "1 passed" in out

    def test_the_site_shows_it_everywhere(self, added):
        html = added[0] / "_build" / "html"
        page = f"notebooks/{THEME}/{SLUG}.html"
        assert (html / page).is_file()
        for shown in (f"book/themes/{THEME}.html", "book/index.html", "book/field-map.html"):
            assert f"{THEME}/{SLUG}.html" in (html / shown).read_text("utf-8"), shown
        assert SLUG in (html / "results.csv").read_text("utf-8")
        theme = (html / f"book/themes/{THEME}.html").read_text("utf-8")
        assert f"claim-{SLUG}-beats-baseline" in theme
        assert f"{SLUG}.html#{SLUG}.technique_loss" in (html / "book/techniques.html").read_text()

    def test_its_file_runs_where_labutils_is_not(self, added):
        refuse = "import sys, runpy; sys.modules['labutils'] = None; "
        file = f"_build/html/technique/{SLUG}.py"
        assert float(run(added[0], "-c", f"{refuse}runpy.run_path('{file}', run_name='__main__')"))


def test_a_lab_that_is_there_is_not_written_again(tmp_path):
    from press import notebooks

    book = copy_book(tmp_path / "book")
    before = contents(book)
    for slug, message in (
        ("rs2", "rs2 is a chapter in book/catalogue.yml, not a lab"),
        ("unheard-of", "no row with the slug 'unheard-of'"),
    ):
        with pytest.raises(notebooks.NotebookError, match=message):
            new_lab(slug, book)
    papers = catalogue.load(book).papers
    paper = next(p for p in papers if p.kind == "lab" and not p.heading)
    new_lab(paper.slug, book)
    with pytest.raises(notebooks.NotebookError, match="ipynb exists; nothing was written"):
        new_lab(paper.slug, book)
    changed = [name for name, digest in contents(book).items() if before.get(name) != digest]
    theme, name = paper.docname.split("/")[1], paper.slug.replace("-", "_")
    assert sorted(changed) == [
        f"book/examples/{paper.slug}.py", f"{paper.docname}.ipynb",
        f"tests/notebooks/{theme}/test_{name}.py",
    ]  # fmt: skip
