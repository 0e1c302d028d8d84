"""The page that tells how an execution went: outcomes, time and memory of every cell."""

import html
import json
import re
from datetime import datetime

from labutils import notebooks

SLOWEST = 15
COLAB_GPU_MB = 15_000  # what a free Colab T4 offers

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto;
        padding: 0 1rem }}
table {{ border-collapse: collapse; margin: 1rem 0 }}
th, td {{ text-align: left; padding: .25rem .75rem; border-bottom: 1px solid #bbb;
          vertical-align: top }}
td.n {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }}
code, pre {{ font-size: 14px }} pre {{ overflow-x: auto; padding: .5rem; border: 1px solid #bbb }}
tr.failed td {{ font-weight: 600 }}
@media (prefers-color-scheme: dark) {{ body {{ background: #181818; color: #ddd }} }}
</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""


def folder(profile, root):
    """Return where the measurements of a profile's runs lie."""
    return root / "_build" / "report" / profile


def path(profile, root):
    """Return where the page of a profile is written."""
    return root / "_build" / "report" / f"{profile}.html"


def cells(executed, samples):
    """Return time and memory of the cells of a notebook that papermill executed.

    samples: ``[(time, bytes), ...]`` of the whole process tree. One dict per code cell that began:
    number, first line, seconds (None if it did not end), peak_memory_mb (of the samples in its
    time, the nearest one for a cell between two samples).
    """
    found = []
    for number, cell in notebooks.code_cells(executed):
        state = cell["metadata"].get("papermill", {})
        if not state.get("start_time") or not cell["source"].strip():
            continue
        began = datetime.fromisoformat(state["start_time"]).timestamp()
        ended = state.get("end_time")
        ended = datetime.fromisoformat(ended).timestamp() if ended else float("inf")
        inside = [size for at, size in samples if began <= at <= ended]
        if not inside and samples:
            inside = [min(samples, key=lambda sample: abs(sample[0] - began))[1]]
        found.append(
            {
                "number": number,
                "line": _first_line(cell["source"]),
                "seconds": None if ended == float("inf") else round(ended - began, 2),
                "peak_memory_mb": round(max(inside, default=0) / 2**20),
            }
        )
    return found


def _first_line(source):
    lines = [line.strip() for line in source.splitlines()]
    code = [line for line in lines if line and not re.match(r"#|from |import ", line)]
    return (code or lines)[0][:90]


def keep(chapter, profile, root, measured):
    """Store the measurements of one run, so that a later page has them too."""
    text = json.dumps(measured, indent=1) + "\n"
    notebooks.write_text(text, folder(profile, root) / f"{chapter}.json")


def write(outcomes, profile, root, read_record, duration, memory):
    """Write the page about ``outcomes`` (of ``pipeline.execute``); return its path.

    Chapters that were skipped appear with the measurements of their last run on this machine.
    """
    measured = {}
    for outcome in outcomes:
        file = folder(profile, root) / f"{outcome.chapter}.json"
        measured[outcome.chapter] = json.loads(file.read_text("utf-8")) if file.is_file() else []
    rows, notes = [], []
    for o in outcomes:
        record = read_record(o.chapter, profile, root) or {}
        gpu = record.get("peak_gpu_memory_mb") if o.status in ("executed", "fresh") else None
        device = record.get("environment", {}).get("device", "-")
        took = duration(o.seconds or record.get("duration_s"))
        peak = memory(o.peak_memory_mb or record.get("peak_memory_mb"))
        rows.append((o.chapter, o.status, took, peak, memory(gpu), device, o.note))
        if gpu and gpu > COLAB_GPU_MB:
            notes.append(
                f"{o.chapter} needs {memory(gpu)} of GPU memory: too much for a free Colab GPU."
            )  # noqa: E501
    every = [(chapter, cell) for chapter, found in measured.items() for cell in found]
    slowest = sorted(every, key=lambda pair: -(pair[1]["seconds"] or float("inf")))[:SLOWEST]
    count = {s: sum(o.status == s for o in outcomes) for s in ("executed", "fresh", "failed")}
    body = [
        f"<p>{datetime.now():%Y-%m-%d %H:%M}: {count['executed']} executed, "
        f"{count['fresh']} fresh and skipped, {count['failed']} failed.</p>",
        _table(
            ("chapter", "status", "time", "peak memory", "GPU memory", "device", "note"), rows,
            numbers=(2, 3, 4), marked={o.chapter for o in outcomes if o.status == "failed"},
        ),
        *(f"<p>{html.escape(note)}</p>" for note in notes),
        f"<h2>The {len(slowest)} slowest cells</h2>",
        _table(
            ("chapter", "cell", "time", "peak memory", "code"),
            [(chapter, *_row(cell, duration, memory)) for chapter, cell in slowest],
            numbers=(1, 2, 3), code=4,
        ),
    ]  # fmt: skip
    for o in outcomes:
        body.append(f"<h2>{html.escape(o.chapter)}</h2>")
        if o.details:
            body.append(f"<pre>{html.escape(o.note)}\n\n{html.escape(o.details)}</pre>")
        table = _table(
            ("cell", "time", "peak memory", "code"),
            [_row(cell, duration, memory) for cell in measured[o.chapter]],
            numbers=(0, 1, 2), code=3,
        )  # fmt: skip
        count = len(measured[o.chapter])
        body.append(f"<details><summary>{count} cells</summary>{table}</details>")
    title = html.escape(f"Execution at profile {profile}")
    notebooks.write_text(_PAGE.format(title=title, body="\n".join(body)), path(profile, root))
    return path(profile, root)


def _row(cell, duration, memory):
    took = "not ended" if cell["seconds"] is None else duration(cell["seconds"])
    return cell["number"], took, memory(cell["peak_memory_mb"]), cell["line"]


def _table(header, rows, numbers=(), code=None, marked=()):
    lines = ["<table><tr>", *(f"<th>{name}</th>" for name in header), "</tr>"]
    for row in rows:
        lines.append('<tr class="failed">' if row[0] in marked else "<tr>")
        for place, value in enumerate(row):
            text = html.escape(str(value))
            text = f"<code>{text}</code>" if place == code else text
            lines.append(f'<td class="n">{text}</td>' if place in numbers else f"<td>{text}</td>")
        lines.append("</tr>")
    return "".join([*lines, "</table>"])
