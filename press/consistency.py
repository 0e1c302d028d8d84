"""Whether the outputs stored in a notebook say what its record says: neither is edited by hand."""

import re
from itertools import zip_longest

import pandas

from press.notebooks import book_root, code_cells, path, read
from press.records import read_record, record_path

GLUED = "application/papermill.record/text/plain"


def problems(slug, root=None):
    """Return where the stored outputs of a notebook and its `small` record differ, one line each.

    Compared are every glued number, the table of claims as the record gives it now, and the line of
    provenance that `start` prints. Raises RecordError if the record is malformed.
    """
    root = book_root(root)
    record = read_record(slug, "small", root)
    if record is None:
        missing = record_path(slug, "small", root).relative_to(root)
        return [f"there is no record {missing}; execute the notebook"]
    cells = code_cells(read(path(slug, root)))
    outputs = [output for _, cell in cells for output in cell["outputs"]]
    rules = (_number_problems, _table_problems, _provenance_problems)
    return [problem for rule in rules for problem in rule(outputs, record)]


def _number_problems(outputs, record):
    recorded = {(name, repr(number["value"])) for name, number in record.numbers.items()}
    shown = {
        (output["metadata"]["scrapbook"]["name"], output["data"][GLUED])
        for output in outputs
        if GLUED in output.get("data", {})
    }
    for name, value in sorted(shown - recorded):
        yield f"number {name}: the notebook holds {value}, its record does not"
    for name, value in sorted(recorded - shown):
        yield f"number {name}: the record holds {value}, the notebook does not"


def _table_problems(outputs, record):
    with pandas.option_context("display.max_colwidth", None):
        expected = _rows(record.table().to_html())
    pages = "\n".join(output.get("data", {}).get("text/html", "") for output in outputs)
    tables = map(_rows, re.findall(r"<table.*?</table>", pages, re.DOTALL))
    found = [rows for rows in tables if rows[:1] == expected[:1]]
    if len(found) != 1:
        yield f"expected one output of `lab.ledger.table()`, found {len(found)}"
        return
    for number, (then, now) in enumerate(zip_longest(found[0], expected)):
        if then != now:
            yield f"claim {number}: the notebook shows {then!r}, its record gives {now!r}"


def _rows(table):
    """The rows of a table that pandas wrote, the heading first, with bars between the cells."""
    rows = re.findall(r"<tr.*?</tr>", table, re.DOTALL)
    return [" | ".join(re.findall(r"<t[hd]>(.*?)</t[hd]>", row)) for row in rows]


def _provenance_problems(outputs, record):
    made = record.environment
    expected = (
        f"{record.notebook} | profile {record.profile} | "
        f"seeds {', '.join(map(str, record.seeds))} | {made['device']} | torch {made['torch']}, "
        f"labutils {made['labutils']}, Python {made['python']}"
    )
    printed = "".join(output["text"] for output in outputs if output.get("name") == "stdout")
    lines = [line for line in printed.splitlines() if " | profile " in line]
    if lines != [expected]:
        yield f"provenance: the notebook says {lines}, its record {expected!r}"
