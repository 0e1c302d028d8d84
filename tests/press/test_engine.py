"""The pipeline on throw-away chapters: what is stored, kept, skipped, reported."""

import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from click.testing import CliRunner
from throwaway import Book

from labutils import __main__ as command_line
from press import engine, notebooks, staleness
from press.__main__ import main

REPOSITORY = Path(__file__).parents[2]

NOISY = """\
import sys, time
from labutils.helper import double
for _ in range(3):
    print("a line", flush=True)
    time.sleep(0.05)
print("10 %\\r100 %")
object()"""

FIGURE = """\
from IPython.display import SVG, display
import datetime
display(SVG(f"<svg xmlns='http://www.w3.org/2000/svg'><metadata>"
            f"<dc:date xmlns:dc='d'>{datetime.datetime.now()}</dc:date></metadata></svg>"))"""

THREADS = 'import os\nprint(os.environ["OMP_NUM_THREADS"], os.environ["LABUTILS_PROFILE"])'

# Two of these finish only when they run at the same time.
MEET = """\
import pathlib, time
pathlib.Path("{me}.here").touch()
end = time.monotonic() + 60
while not pathlib.Path("{other}.here").exists():
    assert time.monotonic() < end, "alone"
    time.sleep(0.05)"""


def bytes_of(book, name, profile="small"):
    files = [engine.record_path(name, profile, book.root), book.notebook(name)]
    return [file.read_bytes() if file.exists() else None for file in files]


def by_chapter(outcomes):
    return {outcome.chapter: outcome for outcome in outcomes}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A book after one run of good and bad chapters; ``before`` holds the bad ones' files."""
    book = Book(tmp_path_factory.mktemp("ran") / "a book")
    book.chapter("01-good", NOISY, FIGURE, THREADS)
    book.chapter("02-bad", "x = 1", "raise ValueError('wrong \\x1b[31mcolour\\x00')", "y = 2")
    book.chapter("03-dead", "import os\nos.kill(os.getpid(), 9)", "y = 2")
    book.write("04-silent", "x = 1")
    book.before = {name: bytes_of(book, name) for name in notebooks.chapters(book.root)}
    book.junit = book.root / "reports" / "junit.xml"
    outcomes = engine.execute(junit=book.junit, jobs=2, root=book.root)
    book.outcomes = by_chapter(outcomes)
    return book


def test_success_stores_notebook_and_record(ran):
    outcome = ran.outcomes["01-good"]
    assert outcome.status == "executed"
    record = engine.read_record("01-good", "small", ran.root)
    assert record["title"] == "About 01-good"
    assert record["fingerprint"] == staleness.fingerprint("01-good", ran.root)
    assert set(record["code"]) == {"notebook", "labutils.helper"}
    assert 0 < record["duration_s"] < 60
    assert 30 < record["peak_memory_mb"] < 2000  # a kernel and papermill
    cells = notebooks.read(ran.notebook("01-good"))["cells"]
    assert [cell["execution_count"] for cell in cells[1:]] == [1, 2, 3, 4]
    assert [cell["id"] for cell in cells] == ["title", "c0", "c1", "c2", "c3"]
    threads = max(1, engine.cores() // 2)
    assert cells[3]["outputs"][0]["text"] == f"{threads} small\n"


def test_stored_notebook_keeps_nothing_volatile(ran):
    notebook = notebooks.read(ran.notebook("01-good"))
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    stream, value = notebook["cells"][1]["outputs"]
    assert stream["text"] == "a line\na line\na line\n100 %\n"
    assert value["data"]["text/plain"] == "<object at 0x...>"
    assert "papermill" not in ran.notebook("01-good").read_text()
    (figure,) = notebook["cells"][2]["outputs"]
    assert "<svg" in figure["data"]["image/svg+xml"]
    assert "date" not in figure["data"]["image/svg+xml"]


def test_a_figure_is_stored_without_the_value_of_the_last_line():
    shown = {"output_type": "display_data", "data": {"image/svg+xml": "<svg/>"}, "metadata": {}}
    value = {"output_type": "execute_result", "data": {"text/plain": "(0, 1)"}, "metadata": {},
             "execution_count": 1}  # fmt: skip
    for named in (True, False):
        metadata = {"mystnb": {"figure": {"name": "fig-a"}}} if named else {}
        cell = {"cell_type": "code", "id": "a", "metadata": metadata, "source": "ax.set_ylim(0, 1)",
                "execution_count": 1, "outputs": [value, shown]}  # fmt: skip
        notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        (stored,) = engine.stored_form(notebook, notebook)["cells"]
        kinds = [output["output_type"] for output in stored["outputs"]]
        assert kinds == (["display_data"] if named else ["execute_result", "display_data"])


def test_a_second_run_gives_the_same_bytes(ran):
    first = ran.notebook("01-good").read_bytes()
    (outcome,) = engine.execute(["01-good"], force=True, jobs=1, root=ran.root)
    assert outcome.status == "executed"
    threads = f"{max(1, engine.cores() // 2)} small".encode()
    again = ran.notebook("01-good").read_bytes()
    assert again.replace(f"{engine.cores()} small".encode(), threads) == first


@pytest.mark.parametrize("name", ["02-bad", "03-dead", "04-silent"])
def test_failure_leaves_stored_files_and_keeps_the_partial_notebook(ran, name):
    assert ran.outcomes[name].status == "failed"
    assert bytes_of(ran, name) == ran.before[name]
    partial = notebooks.read(engine.failed_path(name, "small", ran.root))
    assert partial["cells"]
    assert f"{name}.failed.ipynb" in ran.outcomes[name].details


def test_failure_names_cell_and_error(ran):
    bad, dead, silent = (ran.outcomes[name] for name in ("02-bad", "03-dead", "04-silent"))
    assert bad.note.startswith("cell 3: ValueError: wrong")
    assert "raise ValueError" in bad.details
    assert "\x1b" not in bad.note + bad.details
    assert dead.note == "cell 2: the kernel died (out of memory?)"
    assert "os.kill" in dead.details
    assert silent.note.startswith("no record")


def test_nothing_is_left_running_or_lying_about(ran):
    assert [p for p in (ran.root / "_build" / "running").iterdir() if p.is_dir()] == []
    assert sorted(p.name for p in (ran.root / "notebooks").iterdir()) == [
        f"{name}.ipynb" for name in sorted(ran.before)
    ]


def test_junit_report(ran):
    suite = ET.parse(ran.junit).getroot().find("testsuite")
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "3", "0")
    cases = {case.get("name"): case for case in suite.findall("testcase")}
    assert float(cases["01-good"].get("time")) > 0
    assert cases["01-good"].find("failure") is None
    assert cases["02-bad"].find("failure").get("message").startswith("cell 3: ValueError")
    assert "raise ValueError" in cases["02-bad"].find("failure").text


def test_fresh_is_skipped_and_an_edit_makes_stale(ran, capsys):
    stored = bytes_of(ran, "01-good")
    helper = ran.root / "labutils" / "helper.py"
    source = helper.read_text()
    (outcome,) = engine.execute(["01-good"], root=ran.root)
    assert outcome.status == "fresh"
    assert bytes_of(ran, "01-good") == stored
    assert engine.why_stale("02-bad", "small", ran.root) == "not run yet"
    try:
        helper.write_text(source + "# a comment\n")
        assert engine.why_stale("01-good", "small", ran.root) is None
        helper.write_text(source + "y = 1\n")
        assert engine.why_stale("01-good", "small", ran.root) == "changed since: labutils.helper"
    finally:
        helper.write_text(source)
    text = ran.notebook("01-good").read_text()
    try:
        ran.notebook("01-good").write_text(text.replace("range(3)", "range(4)"))
        assert engine.why_stale("01-good", "small", ran.root) == "changed since: its code cells"
        ran.notebook("01-good").write_text(text.replace('"execution_count": 2', '"x": 0'))
        assert "incomplete" in engine.why_stale("01-good", "small", ran.root)
    finally:
        ran.notebook("01-good").write_text(text)


def test_status_table(ran):
    lines = engine.status(ran.root).splitlines()
    assert len(lines) == 2 + 4 * 3
    rows = {tuple(line.split()[:2]): " ".join(line.split()[2:]) for line in lines}
    assert rows["01-good", "small"].startswith("fresh 1 reproduced")
    assert rows["01-good", "small"].endswith("MB 2026-01-02")
    assert rows["02-bad", "small"].startswith("not run")


def test_damaged_record_is_named(book):
    book.chapter("01-a")
    file = engine.record_path("01-a", "small", book.root)
    file.parent.mkdir(parents=True)
    file.write_text('{"chapter": ')
    with pytest.raises(engine.PipelineError, match="01-a.json is not a record"):
        engine.status(book.root)


def test_two_chapters_run_side_by_side_and_other_profiles_stay_out_of_place(book):
    book.chapter("01-a", MEET.format(me="a", other="b"))
    book.chapter("02-b", MEET.format(me="b", other="a"))
    before = {name: book.notebook(name).read_bytes() for name in ("01-a", "02-b")}
    outcomes = by_chapter(engine.execute(profile="smoke", jobs=2, root=book.root))
    assert {o.status for o in outcomes.values()} == {"executed"}
    assert {name: book.notebook(name).read_bytes() for name in before} == before
    assert not (book.root / "results").exists()
    assert (book.root / "_build" / "results" / "smoke" / "01-a.json").is_file()
    assert (book.root / "_build" / "executed" / "smoke" / "02-b.ipynb").is_file()


def test_memory_keeps_chapters_apart(book, monkeypatch):
    """Chapters that together need more than there is run one after the other."""
    log = "import pathlib\nwith open('log', 'a') as f: f.write('in ')"
    for name in ("01-a", "02-b"):
        book.chapter(name, log, "import time\ntime.sleep(0.5)", log.replace("in ", "out "))
    memory = psutil.virtual_memory()._replace(available=3000 * 2**20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    outcomes = engine.execute(profile="smoke", jobs=2, root=book.root)
    assert {o.status for o in outcomes} == {"executed"}
    assert (book.root / "notebooks" / "log").read_text() == "in out in out "


def test_time_limit(book):
    book.chapter("01-a", "x = 1", "import time\ntime.sleep(300)")
    before = bytes_of(book, "01-a")
    started = time.monotonic()
    (outcome,) = engine.execute(timeout=8, root=book.root)
    assert time.monotonic() - started < 20
    assert outcome.status == "failed"
    assert "stopped at the time limit of 8 s" in outcome.note
    assert bytes_of(book, "01-a") == before
    assert kernels(book) == []


CHECKPOINT = """\
import os, pathlib
folder = pathlib.Path(os.environ["LABUTILS_CHECKPOINTS"])
resumed = (folder / "half.pt").exists()
folder.mkdir(parents=True, exist_ok=True)
(folder / "half.pt").touch()
print("resumed" if resumed else "from nothing")
assert resumed or pathlib.Path("go").exists(), 'interrupted'"""


def test_an_interrupted_run_goes_on_from_its_checkpoints(book):
    def run(**options):
        (outcome,) = engine.execute(root=book.root, **options)
        return outcome

    def printed():
        return notebooks.read(book.notebook("01-a"))["cells"][1]["outputs"][0]["text"]

    book.chapter("01-a", CHECKPOINT)
    first = run()
    assert "interrupted" in first.note
    second = run()
    assert (second.status, printed()) == ("executed", "resumed\n")
    record = engine.read_record("01-a", "small", book.root)
    assert record["duration_s"] > second.seconds + 0.5 * first.seconds  # both runs count
    assert not (book.root / "_build" / "checkpoints" / "small-01-a").exists()
    (book.root / "_build" / "checkpoints" / "small-01-a").mkdir()
    (book.root / "_build" / "checkpoints" / "small-01-a" / "half.pt").touch()
    (book.root / "notebooks" / "go").touch()
    assert run(force=True).status == "executed"
    assert printed() == "from nothing\n"


def test_an_edit_during_the_run_is_not_overwritten(book):
    edit = "import pathlib\np = pathlib.Path('01-a.ipynb')\np.write_text(p.read_text() + ' ')"
    book.chapter("01-a", edit)
    (outcome,) = engine.execute(root=book.root)
    assert outcome.status == "failed"
    assert "was edited while it ran" in outcome.note
    assert book.notebook("01-a").read_text().endswith(" ")


def kernels(book):
    """Processes that still work on a chapter of the book."""
    found = []
    for process in psutil.process_iter():
        try:
            inside = str(book.root) in " ".join(process.cmdline()) or (
                process.cwd() == str(book.root / "notebooks")
            )
            if inside and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_killed_run_leaves_everything_as_it_was(book, kind):
    book.chapter("01-a", "open('running', 'w').close()", "import time\ntime.sleep(300)")
    record = engine.record_path("01-a", "small", book.root)
    record.parent.mkdir(parents=True)
    record.write_text('{"chapter": "01-a", "fingerprint": "old"}')
    before = bytes_of(book, "01-a")
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "press", "execute"],
        cwd=book.root,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # shells start background jobs with SIGINT ignored, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_for((book.root / "notebooks" / "running").exists)
    process.send_signal(kind)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == (-kind if kind == signal.SIGKILL else 130)
    assert bytes_of(book, "01-a") == before
    wait_for(lambda: not kernels(book))  # no kernel goes on working for nobody
    if kind != signal.SIGKILL:
        assert "stopped" in output
        assert "Traceback" not in output
        assert [p.suffix for p in (book.root / "_build" / "running").iterdir()] == [".lock"]
    # and the next run starts afresh
    book.chapter("01-a", "x = 1")
    (outcome,) = engine.execute(["01-a"], root=book.root)
    assert outcome.status == "executed"


def wait_for(condition, seconds=40):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def test_one_run_of_a_chapter_at_a_time(book):
    book.chapter("01-a", "x = 1")
    with engine._scratch("01-a", "small", book.root):
        (outcome,) = engine.execute(root=book.root)
    assert outcome.status == "failed"
    assert "another run" in outcome.note


def test_unknown_chapter_and_profile(book):
    book.chapter("01-a")
    book.chapter("02-b")
    with pytest.raises(engine.PipelineError, match="'03-c'; the chapters are: 01-a, 02-b"):
        engine.execute(["01-a", "03-c"], root=book.root)
    with pytest.raises(engine.PipelineError, match="'big'; the profiles are: smoke, small, full"):
        engine.execute(profile="big", root=book.root)


def command(book, *arguments):
    return subprocess.run(
        [sys.executable, "-P", "-m", "press", *arguments],
        cwd=book.root / "notebooks",
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )


def test_exit_codes_and_one_line_errors(book):
    book.chapter("01-a", "1 / 0")
    failed = command(book, "execute", "--profile", "smoke")
    assert failed.returncode == 1
    assert "cell 2: ZeroDivisionError" in failed.stdout
    assert failed.stderr == ""
    unknown = command(book, "execute", "02-b")
    assert unknown.returncode == 2
    assert unknown.stderr == "Error: unknown chapter '02-b'; the chapters are: 01-a\n"
    assert command(book, "status").returncode == 0


def test_a_package_that_is_missing_is_one_line_that_names_the_environment(monkeypatch, capsys):
    def needs_more(**_):
        raise ModuleNotFoundError("No module named 'numpy'", name="numpy")

    monkeypatch.setattr(command_line, "main", needs_more)
    with pytest.raises(SystemExit) as stopped:
        command_line.run()
    assert stopped.value.code == 2
    assert "numpy is not installed" in (err := capsys.readouterr().err)
    assert ".venv/bin/python" in err


@pytest.mark.parametrize("name", ["execute", "sweep", "book", "data", "status", "setup-cells"])
def test_help(name):
    listing = CliRunner().invoke(main, ["--help"]).output
    assert f"  {name} " in listing
    assert "..." not in listing.partition("Commands:")[2]  # no summary is cut off
    shown = CliRunner().invoke(main, [name, "--help"])
    assert shown.exit_code == 0
    assert shown.output.startswith(f"Usage: main {name}")


def test_a_line_a_minute_tells_cells_and_the_longest_loop(capsys):
    progress = engine._Progress()
    progress.live = False
    said = "trainings: 5 of 9 after 01:00, 00:48 left"
    run = SimpleNamespace(chapter="01-a", seconds=61.0, done=3, total=9, said=lambda: said)
    progress.update([run])
    run.seconds = 70.0
    progress.update([run])
    assert capsys.readouterr().out == f"01-a: 3 of 9 cells after 1 min 01 s; {said}\n"


def test_durations_in_words():
    words = [engine.duration(s) for s in (None, 8.26, 59.97, 245, 3599.7, 4320)]
    assert words == ["-", "8.3 s", "1 min 00 s", "4 min 05 s", "1 h 00 min", "1 h 12 min"]


# --- book and data -------------------------------------------------------------------------------

FAKE_SPHINX = """\
import pathlib, sys
def main():
    pass
assert "--warningiserror" in sys.argv
out = pathlib.Path(sys.argv[sys.argv.index("--path-output") + 1]) / "_build"
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
        return engine.book(book.root)

    return build


def test_book_prints_the_address(build, book, capsys):
    page = build()
    out = capsys.readouterr().out
    assert (book.root / "_build" / "html" / "index.html").as_uri() in out
    assert "%20" in page.as_uri()
    assert f"http.server 8000 --directory '{page.parent}'" in out


def test_book_shows_warnings_and_warns_again_next_time(build, book):
    with pytest.raises(engine.PipelineError, match="intro.md:3: WARNING: no such label"):
        build("print('intro.md:3: WARNING: no such label', file=sys.stderr); sys.exit(1)")
    assert not (book.root / "_build" / ".doctrees").exists()
    assert "WARNING" in (book.root / "_build" / "book.log").read_text()


def test_book_shows_the_end_of_the_output_when_it_crashes(build):
    with pytest.raises(engine.PipelineError, match="KeyError: 'x'"):
        build("{}['x']")


def test_data_table(monkeypatch, capsys):
    data = pytest.importorskip("labutils.data")

    def fetch(name):
        if name == "cifar10":
            raise data.DataError("no network; run it again")
        return Path("/somewhere") / name

    monkeypatch.setattr(data, "fetch", fetch)
    assert engine.fetch_data(["fashion-mnist"])
    assert not engine.fetch_data(["fashion-mnist", "cifar10"])
    out, err = capsys.readouterr()
    assert "fashion-mnist  ready    /somewhere/fashion-mnist" in out
    assert "cifar10: no network; run it again" in err
    with pytest.raises(engine.PipelineError, match="unknown data set 'mnist'.*fashion-mnist"):
        engine.fetch_data(["mnist"])
