"""Whether the outputs stored in a notebook say what its record says: neither is edited by hand."""

import re
import xml.etree.ElementTree as ET
from itertools import zip_longest

from labutils.claims import Ledger
from press.notebooks import book_root, code_cells, path, read
from press.records import read_record, record_path

GLUED = "application/papermill.record/text/plain"
TABLE = re.compile(r"<table.*?</table>", re.DOTALL)


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
    return [
        *_number_problems(outputs, record),
        *_table_problems(outputs, record),
        *_provenance_problems(outputs, record),
    ]


def _number_problems(outputs, record):
    recorded = {name: repr(number["value"]) for name, number in record.numbers.items()}
    missing = set(recorded)
    for output in outputs:
        if shown := output.get("data", {}).get(GLUED):
            name = output["metadata"]["scrapbook"]["name"]
            missing.discard(name)
            if shown != recorded.get(name):
                there = recorded.get(name, "nothing")
                yield f"number {name}: the notebook holds {shown}, its record {there}"
    for name in sorted(missing):
        yield f"number {name}: the record holds {recorded[name]}, the notebook nothing"


def _table_problems(outputs, record):
    ledger = Ledger(record.notebook, record.profile, record.seeds, {}, {})
    ledger.claims = {claim.id: claim for claim in record.claims}
    table = ledger.table()
    head = ["", *table.columns]
    pages = [output.get("data", {}).get("text/html", "") for output in outputs]
    found = [rows for page in pages for rows in map(_rows, TABLE.findall(page)) if rows[0] == head]
    if len(found) != 1:
        yield f"expected one output of `lab.ledger.table()`, found {len(found)}"
        return
    shown = [row[1:] for row in found[0][1:]]
    expected = [list(map(_words, row)) for row in table.values.tolist()]
    for number, (then, now) in enumerate(zip_longest(shown, expected), 1):
        if then != now:
            yield f"claim {number}: the notebook shows {then}, its record gives {now}"


def _rows(table):
    """Texts of the cells of a table as pandas writes it, row by row; [[]] for something else."""
    try:
        rows = ET.fromstring(table).iter("tr")
    except ET.ParseError:
        return [[]]
    return [[_words("".join(cell.itertext())) for cell in row] for row in rows] or [[]]


def _words(text):
    return " ".join(text.split())


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
