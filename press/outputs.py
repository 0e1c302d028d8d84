"""What an executed notebook holds: why its run failed, and the form in which it is stored."""

import contextlib
import copy
import re

from press import notebooks
from press.words import plain

NOT_STORED = "application/vnd.jupyter.widget-view+json"  # lives only in a running kernel

ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]{6,}")
DATE = re.compile(r"\s*<dc:date\b[^>]*>[^<]*</dc:date>")  # of a drawing


def _own_cells(notebook):
    """The cells without those that papermill adds, which must not shift the numbers."""
    added = {"papermill-error-cell-tag", "injected-parameters"}
    return [cell for cell in notebook["cells"] if not notebooks.tags(cell) & added]


def _where(output):
    """Return the number and cell at which an executed notebook stopped, or (None, None)."""
    with contextlib.suppress(OSError, notebooks.NotebookError):
        cells = list(enumerate(_own_cells(notebooks.read(output)), 1))
        for key in ("exception", "start_time"):
            found = [c for c in cells if c[1]["metadata"].get("papermill", {}).get(key)]
            if found:
                return found[-1]
    return None, None


def explain(output, log, status):
    """Return why papermill ended with an exit status: one line, and the details."""
    number, cell = _where(output)
    log = log.read_text(encoding="utf-8", errors="replace").strip()
    worded = [line for line in log.splitlines() if re.search(r"\w", line)]
    last, end = worded[-1] if worded else "no message", log[-4000:]
    if number is None:
        return plain(f"papermill: {last}"), plain(end)
    errors = [o for o in cell.get("outputs", ()) if o["output_type"] == "error"]
    if errors:
        what = f"{errors[0]['ename']}: {errors[0]['evalue'].strip().partition(chr(10))[0]}"
        trace = "\n".join(errors[0]["traceback"])
    elif status < 0:
        what, trace = f"papermill was ended by signal {-status}", ""
    elif "DeadKernelError" in log:
        what, trace = "the kernel died (out of memory?)", ""
    else:
        what, trace = last, end
    shown = "\n".join(f"    {line}" for line in cell["source"].splitlines()[:15])
    return f"cell {number}: {plain(what)}", f"Cell {number}:\n{shown}\n\n{plain(trace)}"


def title(notebook):
    """Return the notebook's first heading, or an empty text."""
    texts = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    found = re.search(r"^# (.*)", "\n".join(texts), re.MULTILINE)
    return found[1].strip() if found else ""


def stored_form(original, executed):
    """Return the notebook to store: ``original`` with the outputs of ``executed``, made repeatable.

    Times, widgets, memory addresses, the chunks of a stream and versions of the kernel do not get
    in, so that two runs that computed the same give the same bytes.
    """
    notebook = copy.deepcopy(original)
    notebook["nbformat"], notebook["nbformat_minor"] = 4, max(5, notebook["nbformat_minor"])
    for place in (notebook, *notebook["cells"]):
        for name in notebooks.VOLATILE_METADATA:
            place["metadata"].pop(name, None)
    notebook["metadata"] |= {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python", "pygments_lexer": "ipython3"},
    }
    pairs = zip(notebook["cells"], _own_cells(executed), strict=True)
    for number, (cell, ran) in enumerate(pairs, 1):
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
        # only streams have a name
        if stored and "name" in output and stored[-1].get("name") == output["name"]:
            stored[-1]["text"] += output["text"]
        else:
            stored.append(output)
    for output in stored:
        if output["output_type"] == "stream":
            # what a terminal would show of lines that were written over
            lines = [s.rstrip("\r").rpartition("\r")[2] for s in output["text"].split("\n")]
            output["text"] = ADDRESS.sub("at 0x...", "\n".join(lines))
        data = output.get("data", {})
        if "text/plain" in data:
            data["text/plain"] = ADDRESS.sub("at 0x...", data["text/plain"])
        if "image/svg+xml" in data:
            data["image/svg+xml"] = DATE.sub("", data["image/svg+xml"])
    return stored
