"""The site's build, the table of records, the data sets."""

import re
from pathlib import Path

import pytest
from throwaway import record

from press import PressError, notebooks, records, staleness
from press import book as books

FAKE_SPHINX = """\
import os, pathlib, sys
def main():
    pass
assert "--warningiserror" in sys.argv
out = pathlib.Path(sys.argv[sys.argv.index("--path-output") + 1])
assert os.environ["PYTHONPATH"].split(os.pathsep)[0] == str(out)  # finds press.site
out = out / "_build"
(out / ".doctrees").mkdir(parents=True, exist_ok=True)
print("reading sources... [ 50%] page")
{rest}
(out / "html").mkdir(exist_ok=True)
(out / "html" / "index.html").touch()
"""


@pytest.fixture
def build(book, monkeypatch):
    """Build the throw-away book with a stand-in for jupyter-book."""

    def build(rest=""):
        package = book.root / "fake" / "jupyter_book" / "cli"
        package.mkdir(parents=True, exist_ok=True)
        (package.parent / "__init__.py").touch()
        (package / "__init__.py").touch()
        (package / "main.py").write_text(FAKE_SPHINX.format(rest=rest))
        monkeypatch.setenv("PYTHONPATH", str(book.root / "fake"))
        monkeypatch.setattr(books.catalogue, "write_toc", lambda root: None)  # it has no catalogue
        return books.book(book.root)

    return build


def test_book_prints_the_address(build, book, capsys):
    page = build()
    out = capsys.readouterr().out
    assert (book.root / "_build" / "html" / "index.html").as_uri() in out
    assert "%20" in page.as_uri()
    assert f"http.server 8000 --bind 127.0.0.1 --directory '{page.parent}'" in out


def test_book_shows_warnings_and_warns_again_next_time(build, book):
    with pytest.raises(PressError, match=r"intro.md:3: WARNING: no such label"):
        build("print('intro.md:3: WARNING: no such label', file=sys.stderr); sys.exit(1)")
    assert not (book.root / "_build" / ".doctrees").exists()
    assert "WARNING" in (book.root / "_build" / "book.log").read_text()


def test_book_shows_the_end_of_the_output_when_it_crashes(build):
    with pytest.raises(PressError, match="KeyError: 'x'"):
        build("{}['x']")


def test_book_is_built_without_a_malformed_record_and_says_so(build, book):
    book.write("a", "1")
    file = records.record_path("a", "small", book.root)
    notebooks.write({file: "[]"})
    with pytest.raises(PressError, match=r"left out of it:\n.*a\.small\.json is not a record"):
        build()
    assert (book.root / "_build" / "html" / "index.html").is_file()


def test_status_has_a_line_per_record_and_one_damaged_record_costs_its_own_only(book):
    assert books.status(book.root) == "There are no notebooks yet."
    for name in ("damaged", "fresh", "old", "waiting"):
        book.write(name, "1")
    text = book.notebook("fresh").read_text()
    book.notebook("fresh").write_text(
        text.replace('"execution_count": null', '"execution_count": 1')
    )
    code = {
        "fingerprint": staleness.fingerprint("fresh", book.root),
        "code": staleness.fingerprint_parts("fresh", book.root),
        "peak_memory_mb": 812,
    }
    for name, profile, changes in (
        ("fresh", "small", code), ("fresh", "full", code), ("old", "smoke", {}),
        ("damaged", "small", {}),
    ):  # fmt: skip
        path = records.record_path(name, profile, book.root)
        made = record(name, profile=profile, **changes)
        made = records.sealed(made, notebooks.read(book.notebook(name)), "")
        notebooks.write({path: made.to_json()})
    path.write_text("{")
    _header, _, *lines = books.status(book.root).splitlines()
    rows = [re.split(r"  +", line) for line in lines]
    assert rows[1:] == [
        ["fresh", "small", "fresh", "1 reproduced", "10.0 s", "812 MB", "2026-01-02"],
        ["fresh", "full", "fresh", "1 reproduced", "10.0 s", "812 MB", "2026-01-02"],
        ["old", "smoke", "stale", "1 not judged", "10.0 s", "-", "2026-01-02",
         "its code changed since"],
        ["waiting", "-", "not run", "-", "-", "-", "-"],
    ]  # fmt: skip
    assert rows[0][:3] == ["damaged", "small", "stale"]
    assert "damaged.small.json is not a record" in rows[0][-1]


def test_data_sets_are_fetched_and_each_problem_is_said(monkeypatch, capsys):
    data = pytest.importorskip("labutils.data")
    real = data.fetch

    def fetch(name):
        if name == "cifar10":
            raise data.DataError("no network; run it again")
        return Path("/somewhere") / name if name == "fashion-mnist" else real(name)

    def read(name):
        if name == "cifar100":
            raise data.DataError("/somewhere/cifar100: damaged")

    monkeypatch.setattr(data, "fetch", fetch)
    monkeypatch.setattr(data.images, "read", read)
    assert books.fetch_data(["fashion-mnist"])
    assert not books.fetch_data(["fashion-mnist", "cifar10"])
    out, err = capsys.readouterr()
    assert out.splitlines() == ["fashion-mnist: /somewhere/fashion-mnist"] * 2
    assert "cifar10: no network; run it again" in err
    monkeypatch.setattr(data, "fetch", lambda name: Path("/somewhere") / name)
    assert not books.fetch_data(["cifar100"])
    out, err = capsys.readouterr()
    assert (out, err) == ("", "cifar100: /somewhere/cifar100: damaged\n")
    monkeypatch.setattr(data, "fetch", real)
    assert not books.fetch_data(["mnist"])
    assert re.search(r"unknown data set 'mnist'.*fashion-mnist", capsys.readouterr().err)
