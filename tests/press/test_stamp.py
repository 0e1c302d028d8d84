"""The digests that records of schema 2 get, once."""

import json
import shutil

import pytest

from labutils.claims import Record
from press import notebooks, records
from press.stamp import stamp

ROOT = notebooks.book_root()
SLUG = "rad"


@pytest.fixture
def book(tmp_path):
    """A book of one notebook as it was before: its record without digests."""
    for file in (notebooks.path(SLUG, ROOT), records.record_path(SLUG, "small", ROOT)):
        (tmp_path / file.relative_to(ROOT)).parent.mkdir(parents=True)
        shutil.copy(file, tmp_path / file.relative_to(ROOT))
    shutil.copytree(ROOT / "labutils", tmp_path / "labutils")
    (tmp_path / "_config.yml").touch()
    file = records.record_path(SLUG, "small", tmp_path)
    content = json.loads(file.read_text("utf-8"))
    for name in ("digest", "outputs", "history"):
        content.pop(name, None)
    file.write_text(json.dumps(content | {"schema": 2}), "utf-8")
    return tmp_path


def test_a_record_is_stamped_once(book):
    file = records.record_path(SLUG, "small", book)
    assert stamp(book) == ([file], [])
    assert records.touched(Record.read(file), book) is None
    assert stamp(book) == ([], [])


def test_a_record_that_does_not_say_what_its_notebook_shows_is_refused(book):
    file = records.record_path(SLUG, "small", book)
    content = json.loads(file.read_text("utf-8"))
    name = next(iter(content["numbers"]))
    content["numbers"][name]["value"] += 1
    file.write_text(json.dumps(content), "utf-8")
    stamped, (problem,) = stamp(book)
    assert stamped == []
    assert f"number {name}: " in problem
    assert json.loads(file.read_text("utf-8")) == content
