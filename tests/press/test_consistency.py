"""What a notebook shows is what its record says: forged outputs and forged records are found."""

import json
import shutil

import nbformat
import pytest
import tiny
from nbclient import NotebookClient
from throwaway import digest_anew

from press import consistency, reader


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A book with one notebook that really ran, and its record in results/."""
    root = tiny.make_book(tmp_path_factory.mktemp("executed") / "a book")
    file = tiny.write(root)
    notebook = nbformat.read(file, 4)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LABUTILS_RESULTS", str(root / "results" / "theme"))
        environment.setenv("PYTHONPATH", str(root))
        client = NotebookClient(notebook, resources={"metadata": {"path": str(file.parent)}})
        client.execute()
    nbformat.write(notebook, file)
    return root


@pytest.fixture
def book(executed, tmp_path):
    """A copy of the book to forge things in."""
    shutil.copytree(executed, tmp_path / "book")

    class Book:
        root = tmp_path / "book"
        notebook = root / "notebooks" / "theme" / "tiny.ipynb"
        record = root / "results" / "theme" / "tiny.small.json"

    return Book


def forge(file, old, new):
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), "utf-8")


def forge_output(file, cell_id, old, new):
    """Replace in the outputs of one cell, not in its source."""
    notebook = json.loads(file.read_text("utf-8"))
    (cell,) = (cell for cell in notebook["cells"] if cell["id"] == cell_id)
    text = json.dumps(cell["outputs"], ensure_ascii=False)
    assert old in text
    cell["outputs"] = json.loads(text.replace(old, new, 1))
    file.write_text(json.dumps(notebook, ensure_ascii=False), "utf-8")


def test_a_run_as_it_was_stored_has_no_problem(book):
    assert len(reader.read(book.record).claims) == 2
    assert consistency.problems("tiny", book.root) == []


@pytest.mark.parametrize(
    ("cell", "old", "new", "found"),
    [
        ("numbers", "0.30000000000000004", "0.3", "number width: the notebook holds 0.3"),
        ("numbers", '"name": "steps"', '"name": "stops"', "number stops"),
        ("claims", "+2.00 [", "+2.10 [", "claim 1"),
        ("claims", "reproduced", "not reproduced", "claim 1"),
        ("claims", "&lt; 0.001", "0.020", "claim 1"),
        ("claims", "+3 points", "+1 points", "claim 1"),
        ("claims", "paper ●", "ours ●", "claim 1"),
        ("claims", "The loss falls", "The loss rises", "claim 2"),
        ("claims", "<td>The loss falls</td>", "", "claim 2"),
        ("claims", "</tbody>", "<tr><th>2</th><td>Another</td></tr></tbody>", "claim 3"),
        ("claims", "</table>", "", "expected one output of `lab.ledger.table()`, found 0"),
        ("start", "seeds 0, 1, 2", "seeds 0, 1, 2, 3", "provenance"),
        ("start", "profile small", "profile full", "provenance"),
        ("start", "| cpu (", "| a GPU (", "provenance"),
    ],
)
def test_a_forged_output_is_found(book, cell, old, new, found):
    forge_output(book.notebook, cell, old, new)
    problems = consistency.problems("tiny", book.root)
    assert any(problem.startswith(found) for problem in problems), problems


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("0.30000000000000004", "0.3", "number width"),
        ('"steps": {', '"stops": {', "number stops: the record holds 4, the notebook does not"),
        ('"margin": 0.5', '"margin": 2.5', "claim 1"),
        ('"primary": true', '"primary": false', "claim 1"),
        ("The loss falls", "The loss rises", "claim 2"),
        ('"value": 3.0', '"value": 4.0', "claim 1"),
        ('"device": "cpu', '"device": "a GPU', "provenance"),
    ],
)
def test_a_forged_record_is_found(book, old, new, found):
    forge(book.record, old, new)
    digest_anew(book.record)
    problems = consistency.problems("tiny", book.root)
    assert any(problem.startswith(found) for problem in problems), problems


@pytest.mark.parametrize("arm", ["A", "B"])
def test_a_forged_value_of_one_seed_is_found(book, arm):
    content = json.loads(book.record.read_text("utf-8"))
    content["claims"][0]["values"][arm][1] += 0.05
    book.record.write_text(json.dumps(content), "utf-8")
    digest_anew(book.record)
    (problem,) = consistency.problems("tiny", book.root)
    assert problem.startswith("claim 1: ")


def test_outputs_without_a_record_are_found(book):
    book.record.unlink()
    assert consistency.problems("tiny", book.root) == [
        "there is no record results/theme/tiny.small.json; execute the notebook"
    ]
