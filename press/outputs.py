"""What an executed notebook holds: why its run failed, and the form in which it is stored."""

import contextlib
import json
import re

from press import notebooks
from press.words import plain

NOT_STORED = "application/vnd.jupyter.widget-view+json"  # lives only in a running kernel

# --- failures -------------------------------------------------------------------------------------


def where(output):
    """Return the number and cell at which an executed notebook stopped, or (None, None)."""
    with contextlib.suppress(OSError, notebooks.NotebookError):
        # cells that papermill adds for parameters and errors must not shift the numbers
        cells = _own_cells(notebooks.read(output))
        states = [cell["metadata"].get("papermill", {}) for cell in cells]
        for key in ("exception", "start_time"):
            numbers = [number for number, state in enumerate(states) if state.get(key)]
            if numbers:
                return numbers[-1] + 1, cells[numbers[-1]]
    return None, None


def _own_cells(notebook):
    added = {"papermill-error-cell-tag", "injected-parameters"}
    return [cell for cell in notebook["cells"] if not notebooks.tags(cell) & added]


def explain(output, log, status):
    """Return why papermill ended with an exit status: one line, and the details."""
    number, cell = where(output)
    log = log.read_text(encoding="utf-8", errors="replace")
    last = (log.strip().splitlines() or ["no message"])[-1]
    if number is None:
        return plain(f"papermill: {last}"), plain(log.strip()[-4000:])
    errors = [o for o in cell.get("outputs", ()) if o["output_type"] == "error"]
    if errors:
        text = errors[0]["evalue"].strip().splitlines()
        what = f"{errors[0]['ename']}: {text[0] if text else ''}"
        trace = "\n".join(errors[0]["traceback"])
    elif status < 0:
        what, trace = f"papermill was ended by signal {-status}", ""
    elif "DeadKernelError" in log:
        what, trace = "the kernel died (out of memory?)", ""
    else:
        what, trace = last, log.strip()[-4000:]
    return f"cell {number}: {plain(what)}", f"{numbered(number, cell)}\n\n{plain(trace)}"


def numbered(number, cell):
    """Return the first lines of a cell below its number."""
    lines = cell["source"].splitlines()
    shown = "\n".join(f"    {line}" for line in lines[:15])
    return f"Cell {number}:\n{shown}" + (f"\n    ... {len(lines) - 15} more" * (len(lines) > 15))


# --- stored form ----------------------------------------------------------------------------------


def title(notebook):
    """Return the notebook's first heading, or an empty text."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            for line in cell["source"].splitlines():
                if line.startswith("# "):
                    return line.removeprefix("# ").strip()
    return ""


def stored_form(original, executed):
    """Return the notebook to store: ``original`` with the outputs of ``executed``, made repeatable.

    Text, tags and cell ids stay as the author wrote them. Times, widgets, memory addresses, the
    chunks of a stream and versions of the kernel do not get in, so that two runs that computed the
    same give the same bytes.
    """
    notebook = json.loads(json.dumps(original))
    notebook["nbformat"], notebook["nbformat_minor"] = 4, max(5, notebook["nbformat_minor"])
    for name in notebooks.VOLATILE_METADATA:
        notebook["metadata"].pop(name, None)
    notebook["metadata"]["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    notebook["metadata"]["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    pairs = zip(notebook["cells"], _own_cells(executed), strict=True)
    for number, (cell, ran) in enumerate(pairs, 1):
        for name in notebooks.VOLATILE_METADATA:
            cell["metadata"].pop(name, None)
        cell.setdefault("id", f"cell-{number}")
        if cell["cell_type"] == "code":
            cell["execution_count"] = ran["execution_count"]
            cell["outputs"] = _stored_outputs(ran["outputs"])
            if "figure" in cell["metadata"].get("mystnb", {}):  # the figure alone has its name
                cell["outputs"] = [o for o in cell["outputs"] if not _is_value_as_text(o)]
    return notebook


def _is_value_as_text(output):
    """Whether this is what a last line without semicolon shows: the value of a call that draws."""
    return output["output_type"] == "execute_result" and set(output["data"]) == {"text/plain"}


def _stored_outputs(outputs):
    stored = []
    for output in outputs:
        if NOT_STORED in output.get("data", {}):
            continue
        same_stream = stored and output["output_type"] == "stream" == stored[-1]["output_type"]
        if same_stream and stored[-1]["name"] == output["name"]:
            stored[-1]["text"] += output["text"]
        else:
            stored.append(output)
    for output in stored:
        if output["output_type"] == "stream":
            # what a terminal would show of lines that were written over
            lines = output["text"].split("\n")
            lines = [line.rstrip("\r").rpartition("\r")[2] for line in lines]
            output["text"] = _without_addresses("\n".join(lines))
        data = output.get("data", {})
        if "text/plain" in data:
            data["text/plain"] = _without_addresses(data["text/plain"])
        if "image/svg+xml" in data:
            svg = data["image/svg+xml"]
            data["image/svg+xml"] = re.sub(r"\s*<dc:date\b[^>]*>[^<]*</dc:date>", "", svg)
    return stored


def _without_addresses(text):
    return re.sub(r"\bat 0x[0-9a-fA-F]{6,}", "at 0x...", text)
