"""What was touched after a run is seen: outputs, glued values, records, histories, parts."""

import json
import os
import shutil
from dataclasses import replace

import pytest
from throwaway import Book, record

from press import PressError, engine, notebooks, reader, records
from press import book as books

GLUE = """\
from IPython.display import HTML, display
prefix = "application/papermill.record/"
about = {"scrapbook": {"name": "width", "mime_prefix": prefix}}
display({prefix + "text/plain": "2.0"}, raw=True, metadata=about)
display(HTML("<table><tr><td>reproduced</td></tr></table>"))"""


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A book with two notebooks that ran; the record of the first has a history of two."""
    book = Book(tmp_path_factory.mktemp("executed") / "a book")
    book.chapter("a", "print('seeds 0, 1, 2')", GLUE)
    book.chapter("b", "print('another')")
    place = records.record_path("a", "small", book.root)
    first, second = record("a", fingerprint="f"), record("a", fingerprint="g")
    history = records.history_path("a", "small", book.root)
    notebooks.write({history: records.history_with(first, history), place: second.to_json()})
    assert [o.status for o in engine.execute(root=book.root)] == ["executed"] * 2
    assert len(records.read_history("a", "small", book.root)) == 2
    return book.root


@pytest.fixture
def ran(executed, tmp_path):
    """A copy of the book to forge things in."""
    shutil.copytree(executed, tmp_path / "book")

    class Ran:
        root = tmp_path / "book"
        notebook = root / "notebooks" / "theme" / "a.ipynb"
        record = root / "results" / "theme" / "a.small.json"
        history = root / "results" / "theme" / "a.small.history.jsonl"

    return Ran


def in_record(change):
    def forge(ran):
        content = json.loads(ran.record.read_text())
        change(content)
        ran.record.write_text(json.dumps(content))

    return forge


def in_outputs(change):
    def forge(ran):
        content = json.loads(ran.notebook.read_text())
        change([cell for cell in content["cells"] if cell["cell_type"] == "code"])
        ran.notebook.write_text(json.dumps(content))

    return forge


def in_history(change):
    return lambda ran: ran.history.write_text(change(ran.history.read_text()))


def swap(cells):
    cells[0]["outputs"], cells[1]["outputs"] = cells[1]["outputs"], cells[0]["outputs"]


def add(cells):
    cells[2]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "Another line"}]


def recomputed(ran):
    """A record of other values with the digest of its own."""
    own = reader.read(ran.record)
    values = {arm: [v + 50 for v in sample] for arm, sample in own.claims[0].values.items()}
    forged = replace(own, claims=[replace(own.claims[0], values=values)], outputs=None)
    ran.record.write_text(forged.to_json())


FORGERIES = {
    "a value of a seed": in_record(lambda r: r["claims"][0]["values"]["A"].__setitem__(1, 9.0)),
    "the seeds": in_record(lambda r: r.update(seeds=[0, 1, 9])),
    "torch": in_record(lambda r: r["environment"].update(torch="9.9")),
    "the device": in_record(lambda r: r["environment"].update(device="a GPU")),
    "a number": in_record(lambda r: r["numbers"]["width"].update(value=99.99)),
    "the direction": in_record(lambda r: r["claims"][0].update(direction="less")),
    "the margin": in_record(lambda r: r["claims"][0].update(margin=0.5)),
    "what is primary": in_record(lambda r: r["claims"][0].update(primary=False)),
    "the sentence": in_record(lambda r: r["claims"][0].update(statement="B beats A")),
    "the paper's value": in_record(lambda r: r["claims"][0]["paper"].update(value=1.1)),
    "a claim left out": in_record(lambda r: r["claims"].clear()),
    "the time": in_record(lambda r: r["run"].update(duration_s=1.0)),
    "the settings": in_record(lambda r: r["settings"].update(n=2)),
    "the digest of the outputs": in_record(lambda r: r.update(outputs="0" * 32)),
    "values with a digest of their own": recomputed,
    "an older record": lambda ran: ran.record.write_text(record("a").to_json()),
    "the record of another notebook": lambda ran: shutil.copy(
        ran.record.with_name("b.small.json"), ran.record
    ),
    "the record of another profile": lambda ran: ran.record.write_text(
        replace(reader.read(ran.record), profile="full").to_json()
    ),
    "a printed line": in_outputs(lambda c: c[0]["outputs"][0].update(text="seeds 0, 1, 2, 3\n")),
    "a glued value": in_outputs(
        lambda c: c[1]["outputs"][0]["data"].update(
            {"application/papermill.record/text/plain": "99.99"}
        )
    ),
    "a table": in_outputs(
        lambda c: c[1]["outputs"][1]["data"].update({"text/html": "<table></table>"})
    ),
    "outputs deleted": in_outputs(lambda c: [cell["outputs"].clear() for cell in c]),
    "one output deleted": in_outputs(lambda c: c[1]["outputs"].pop()),
    "an output added": in_outputs(add),
    "outputs swapped": in_outputs(swap),
    "a count of execution": in_outputs(lambda c: c[1].update(execution_count=None)),
    "a line of history invented": in_history(lambda text: text + text.splitlines()[0] + "\n"),
    "a line of history left out": in_history(lambda text: text.splitlines()[0] + "\n"),
    "a verdict of history": in_history(lambda text: text.replace("reproduced", "inconclusive", 1)),
    "lines of history swapped": in_history(lambda text: "\n".join(text.splitlines()[::-1]) + "\n"),
    "the history deleted": lambda ran: ran.history.unlink(),
}


def test_what_nobody_touched_is_fresh(ran):
    assert records.why_stale("a", "small", ran.root) is None
    assert records.malformed(ran.root) == []
    for change in (lambda text: text.replace("# About a", "# Other prose"), str.strip):
        ran.notebook.write_text(change(ran.notebook.read_text()))
    assert records.why_stale("a", "small", ran.root) is None


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_each_forgery_is_seen(ran, forge):
    forge(ran)
    why = records.why_stale("a", "small", ran.root)
    assert why is not None
    assert "\n" not in why
    lines = books.status(ran.root).splitlines()
    assert [line.split()[2] for line in lines[2:]] == ["stale", "fresh"]


# --- malformed records cost their own chapter only ------------------------------------------------

MALFORMED = {
    "empty": b"",
    "cut": b'{"notebook": "a", "seeds": [0, 1',
    "a list": b"[]",
    "merge markers": b"<<<<<<< ours\n{}\n=======\n{}\n>>>>>>> theirs\n",
    "not text": b"\x80\x81\xfe\xff",
    "nested": b"[" * 100_000,
    "infinite": b'{"schema": 4, "run": {"duration_s": Infinity}}',
    "an older schema": b'{"schema": 3}',
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_record_costs_its_own_chapter_only(ran, content):
    ran.record.write_bytes(content)
    (problem,) = records.malformed(ran.root)
    assert problem.startswith(f"{ran.record} is not a record")
    assert "restore it, or delete it and run again" in problem
    assert "\n" not in problem
    first, second = books.status(ran.root).splitlines()[2:]
    assert (first.split()[2], second.split()[2]) == ("stale", "fresh")
    assert "is not a record" in first
    notebooks.rewrite_setup_cells(ran.root)
    outcomes = engine.execute(["b"], root=ran.root)
    assert [outcome.status for outcome in outcomes] == ["fresh"]


def test_a_malformed_replication_and_history_are_named_too(ran):
    ran.record.with_name("a.small.a-gpu.json").write_text("{")
    ran.history.write_bytes(b"{}\n\xff\n")
    first, second = records.malformed(ran.root)
    assert "a.small.a-gpu.json is not a record" in first
    assert "history.jsonl, line 1: not a superseded record" in second


def test_a_fresh_run_replaces_a_malformed_record(ran):
    ran.record.write_bytes(b"{")
    (outcome,) = engine.execute(["a"], root=ran.root)
    assert outcome.status == "executed"
    assert records.why_stale("a", "small", ran.root) is None


# --- outputs and record are one thing -------------------------------------------------------------


@pytest.mark.parametrize("renames", range(5))
def test_a_kill_between_the_files_leaves_all_of_a_run_or_nothing(ran, renames):
    """After so many renames the process is gone: the journal is the first, then three files."""
    files = [ran.notebook, ran.history, ran.record]
    before = [file.read_bytes() for file in files]
    journal = engine._journal("a", "small", ran.root)
    child = os.fork()
    if child == 0:
        done = 0

        def rename(self, target):
            nonlocal done
            if done == renames:
                os._exit(7)
            done += 1
            self.rename(target)

        type(ran.record).replace = rename
        notebooks.write({file: f"new {file.name}" for file in files}, journal)
        os._exit(7)
    assert os.waitpid(child, 0)[1] == 7 << 8
    with engine.reserved("a", "small", ran.root):
        after = [file.read_bytes() for file in files]
    new = [f"new {file.name}".encode() for file in files]
    assert after == (new if renames else before)
    assert not journal.exists()
    for folder in (ran.notebook.parent, ran.record.parent):
        assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_a_record_without_its_outputs_is_not_fresh(ran):
    """What a kill between the two leaves, as long as nobody runs anything."""
    old = replace(reader.read(ran.record), outputs="those of another run")
    ran.record.write_text(old.to_json())
    why = records.why_stale("a", "small", ran.root)
    assert why == "its stored outputs are not those of its run"


@pytest.mark.parametrize("place", ["results", "notebooks"])
def test_a_folder_that_cannot_be_written_costs_one_line_and_no_file(
    ran, monkeypatch, capsys, place
):
    files = [ran.notebook, ran.history, ran.record]
    before = [file.read_bytes() for file in files]
    write = type(ran.record).write_text

    def full(self, text, **options):
        if self.name.startswith(".") and place in self.parts:
            raise OSError(28, "No space left on device", str(self))
        return write(self, text, **options)

    monkeypatch.setattr(type(ran.record), "write_text", full)
    a, b = engine.execute(force=True, root=ran.root)
    assert (a.status, b.status) == ("failed", "failed")
    assert "it could not be stored: [Errno 28] No space left on device" in a.note
    assert [file.read_bytes() for file in files] == before
    monkeypatch.undo()
    assert records.why_stale("a", "small", ran.root) is None
    assert "Traceback" not in capsys.readouterr().out


# --- the parts of a sweep -------------------------------------------------------------------------


@pytest.fixture
def swept(book, monkeypatch):
    """A sweep of three finished seeds: (its root, the files of its parts, seeds that run anew)."""
    book.seeded("a")
    files, ran = [], []
    for job in engine.jobs_of("a", "small", [0, 1, 2], book.root):
        made = record("a", [job.seed], fingerprint=job.fingerprint)
        engine._store(job, engine.Outcome(job.label, "executed", record=made))
        files.append(engine._seed_path(job))

    def run_job(job, threads):
        ran.append(job.seed)
        made = record("a", [job.seed], fingerprint=job.fingerprint)
        return engine.Outcome(job.label, "executed", record=made)

    monkeypatch.setattr(engine, "run_job", run_job)
    return book.root, files, ran


@pytest.mark.parametrize("damage", ["value", "seed", "notebook", "code", "empty", "bit"])
def test_a_part_that_was_changed_is_said_and_computed_again(swept, capsys, damage):
    root, files, ran = swept
    own = reader.read(files[1])
    forged = {
        "value": lambda: files[1].read_text().replace("1.1", "1.9", 1),
        "seed": lambda: replace(own, seeds=[7]).to_json(),
        "notebook": lambda: replace(own, notebook="b").to_json(),
        "code": lambda: replace(own, fingerprint="x").to_json(),
        "empty": lambda: "",
        "bit": lambda: files[1].read_text().replace("cm", "cn"),
    }[damage]()
    files[1].write_text(forged)
    engine.execute(["a"], seeds=[0, 1, 2], root=root)
    assert ran == [1]
    merged = reader.read(records.merged_path("a", "small", root))
    assert merged.seeds == [0, 1, 2]
    assert merged.claims[0].values["A"] == [1.0, 1.1, 1.2]
    assert f"a, seed 1: {files[1]} is not" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "value"), [("torch", "9.9"), ("device", "a GPU"), ("python", "3.99")]
)
def test_parts_of_other_versions_and_devices_are_not_merged(swept, key, value):
    root, files, _ = swept
    own = reader.read(files[1])
    files[1].write_text(replace(own, environment=own.environment | {key: value}).to_json())
    with pytest.raises(PressError, match=rf"a: records of seeds .* were made with {key} .* and"):
        engine.execute(["a"], seeds=[0, 1, 2], root=root)
    assert not records.merged_path("a", "small", root).exists()


def test_a_record_of_another_notebook_is_not_stored(book):
    book.chapter("a", "1")
    text = book.notebook("a").read_text()
    book.notebook("a").write_text(
        text.replace('\\"notebook\\": \\"a\\"', '\\"notebook\\": \\"b\\"')
    )
    (outcome,) = engine.execute(root=book.root)
    assert outcome.status == "failed"
    assert "expected notebook 'a', found 'b'" in outcome.note
    assert not records.record_path("a", "small", book.root).exists()
