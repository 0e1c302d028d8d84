"""What is stored of an executed notebook, and how its failure is told."""

import json

import pytest

from press import outputs


def notebook(*cells):
    return {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def code(source, outputs=(), **metadata):
    return {"cell_type": "code", "id": "a", "metadata": metadata, "source": source,
            "execution_count": 1, "outputs": list(outputs)}  # fmt: skip


def stored(cell):
    (kept,) = outputs.stored_form(notebook(cell), notebook(cell))["cells"]
    return kept["outputs"]


def test_streams_are_joined_and_lines_written_over_are_gone():
    parts = [
        {"output_type": "stream", "name": "stdout", "text": text}
        for text in ("a\nb", "\n10 %\r100 %\n", "<x at 0x7f00deadbeef>")
    ]
    (stream,) = stored(code("", parts))
    assert stream["text"] == "a\nb\n100 %\n<x at 0x...>"


def test_widgets_and_dates_of_drawings_are_not_stored():
    data = {"image/svg+xml": "<svg><metadata>\n  <dc:date>today</dc:date></metadata></svg>"}
    drawing = {"output_type": "display_data", "data": data, "metadata": {}}
    widget = {"output_type": "display_data", "data": {outputs.NOT_STORED: {}}, "metadata": {}}
    (kept,) = stored(code("", [widget, drawing]))
    assert kept["data"]["image/svg+xml"] == "<svg><metadata></metadata></svg>"


@pytest.mark.parametrize("named", [True, False])
def test_a_figure_is_stored_without_the_value_of_the_last_line(named):
    shown = {"output_type": "display_data", "data": {"image/svg+xml": "<svg/>"}, "metadata": {}}
    value = {"output_type": "execute_result", "data": {"text/plain": "(0, 1)"}, "metadata": {},
             "execution_count": 1}  # fmt: skip
    metadata = {"mystnb": {"figure": {"name": "fig-a"}}} if named else {}
    kinds = [
        o["output_type"] for o in stored(code("ax.set_ylim(0, 1)", [value, shown], **metadata))
    ]
    assert kinds == (["display_data"] if named else ["execute_result", "display_data"])


def test_text_and_tags_stay_and_traces_of_the_run_go():
    original = notebook(code("x = 1", tags=["check"]))
    injected = code("seeds = [3]", tags=["injected-parameters"])
    ran = notebook(injected, code("x = 1", papermill={"status": "completed"}, tags=["check"]))
    ran["metadata"]["papermill"] = {"duration": 1}
    (cell,) = outputs.stored_form(original, ran)["cells"]
    assert cell["metadata"] == {"tags": ["check"]}
    assert set(outputs.stored_form(original, ran)["metadata"]) == {"kernelspec", "language_info"}


def test_a_failure_names_its_cell_whatever_papermill_added(tmp_path):
    error = {"output_type": "error", "ename": "ValueError", "evalue": "wrong \x1b[31mred\x00\nmore",
             "traceback": ["here"]}  # fmt: skip
    injected = code("seeds = [3]", tags=["injected-parameters"])
    bad = code("raise ValueError('wrong')", [error], papermill={"exception": True})
    (output := tmp_path / "output.ipynb").write_text(json.dumps(notebook(code(""), injected, bad)))
    (log := tmp_path / "log").write_text("PapermillExecutionError")
    note, details = outputs.explain(output, log, 1)
    assert note == "cell 2: ValueError: wrong red"
    assert details == "Cell 2:\n    raise ValueError('wrong')\n\nhere"


def test_a_run_that_never_began_shows_the_log(tmp_path):
    (log := tmp_path / "log").write_text("one\nNoSuchKernel: python3\n")
    assert outputs.explain(tmp_path / "none", log, 1) == (
        "papermill: NoSuchKernel: python3",
        "one\nNoSuchKernel: python3",
    )
