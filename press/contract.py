"""The contract of a notebook: what all of them keep, what chapters and what labs keep besides."""

import ast
import re
from math import inf

from labutils import PROFILES
from press import catalogue, notebooks, technique
from press.new_lab import TEMPLATE
from press.notebooks import VOLATILE_METADATA, NotebookError, tags
from press.records import read_record

PARAMETERS = "profile = 'small'\nseeds = None"
TAGS = ("setup", "parameters", "technique", "check", "claims")
MAX_LINES, MAX_TECHNIQUE_LINES, MAX_PRINTED_LINES = 40, 30, 20
HEX_COLOUR = re.compile(r"""["']#[0-9A-Fa-f]{3,8}["']""")
COLOUR_TABLE = re.compile(r"^COLOURS\b.*?^[}\])].*?$", re.MULTILINE | re.DOTALL)
COLOURED_NAME = re.compile(r'"(?!color")[^"\n]+"[:,] \(?plots\.[A-Z]+')
CODE_LINE = re.compile(r"^[ \t]*(?!#|import |from )\S", re.MULTILINE)
HEADING = re.compile(r"^## (.+?)\s*$", re.MULTILINE)
SECTIONS = HEADING.findall(TEMPLATE.read_text(encoding="utf-8"))
WORDS_A_MINUTE, LINES_A_MINUTE = 200, 50
MINUTES = f"minutes to read, at {WORDS_A_MINUTE} words or {LINES_A_MINUTE} lines of code a minute"
AMOUNTS = {  # fewest and most
    "cells tagged `setup`": (1, 1),
    "cells tagged `parameters`": (1, 1),
    "cells tagged `technique`": (1, inf),
    "cells tagged `check`": (1, inf),
    "cells tagged `claims`": (1, inf),
    # of chapters
    "margin notes": (3, 6),
    "terms of the glossary": (6, inf),
    "pictures": (4, inf),
    # of labs
    "code cells": (1, 25),
    "lines of code without imports, comments and claims": (1, 300),
    "lines of technique": (1, 100),
    "stored bytes": (1, 400_000),
    MINUTES: (0, 12),
    "exercises": (2, 2),
    "cells tagged `exercise-solution`": (2, 2),
    "claims": (3, 9),
    "primary claims": (1, inf),
    "recorded numbers": (0, 30),
}


class _Notebook:
    def __init__(self, slug, root, kind):
        self.slug, self.root, self.kind = slug, root, kind
        self.file = notebooks.path(slug, root)
        self.content = notebooks.read(self.file)
        self.cells = notebooks.code_cells(self.content)
        prose = [cell for cell in self.content["cells"] if cell["cell_type"] == "markdown"]
        self.prose = "\n\n".join(cell["source"] for cell in prose)

    def tagged(self, tag):
        return [cell for _, cell in self.cells if tag in tags(cell)]


def problems(slug, root=None, kind=None):
    """Return what is wrong with a notebook by the book's contract, one line each; [] if nothing.

    kind: "chapter" or "lab"; left out, it is read from the catalogue. Notebooks begin with the
    setup cell and the parameters cell; have a table of settings, and one of colours of methods;
    are plain Python in short cells; hold the outputs of one run from top to bottom without errors
    and warnings, figures with alternative text. ``AMOUNTS`` says how much of what they hold.
    """
    root = notebooks.book_root(root)
    notebook = _Notebook(slug, root, kind or catalogue.load(root).paper(slug).kind)
    rules = [_opening, _whole, _cells, _settings, _amounts]
    rules += [_sections] if notebook.kind == "lab" else []
    return [problem for rule in rules for problem in rule(notebook)]


def _opening(notebook):
    first = [cell for _, cell in notebook.cells[:2]]
    if [tags(cell) & set(TAGS) for cell in first] != [{"setup"}, {"parameters"}]:
        yield "the first two code cells must be the setup cell and the parameters cell"
        return
    if first[0]["source"] != notebooks.setup_cell(notebook.root, notebook.slug):
        yield "the setup cell is not the current one; run `python -m press setup-cells`"
    if not notebooks.COLAB.items() <= notebook.content["metadata"].items():
        yield f"the metadata lacks {notebooks.COLAB}; run `python -m press setup-cells`"
    if _code(first[1]["source"]) != PARAMETERS:
        yield 'the parameters cell must be `profile = "small"` and `seeds = None`'


def _code(source):
    """The source without comments and layout; None if it is not Python."""
    try:
        return ast.unparse(ast.parse(source))
    except SyntaxError:
        return None


def _whole(notebook):
    cells = notebook.content["cells"]
    ids = [cell.get("id") for cell in cells]
    if None in ids or len(set(ids)) < len(ids):
        yield "cell ids are missing or not unique (nbformat 4.5 is needed)"
    if any(set(VOLATILE_METADATA) & set(part["metadata"]) for part in [notebook.content, *cells]):
        yield "the metadata holds traces of an execution; store the notebook by `execute`"
    counts = [cell.get("execution_count") for _, cell in notebook.cells if cell["source"].strip()]
    if counts != list(range(1, len(counts) + 1)):
        yield "the stored outputs are not those of one run from top to bottom; execute it"


def _cells(notebook):
    for number, cell in notebook.cells:
        for rule in (_source, _outputs):
            yield from (f"cell {number}: {problem}" for problem in rule(cell))


def _source(cell):
    source, lines = cell["source"], _lines([cell])
    limit = MAX_TECHNIQUE_LINES if "technique" in tags(cell) else MAX_LINES
    if lines > limit:
        yield f"{lines} lines, at most {limit} are allowed"
    if _code(source) is None:
        yield "not plain Python"
    if match := HEX_COLOUR.search(source):
        yield f"the colour {match[0]} is spelled out; take one of `plots`"
    if match := COLOURED_NAME.search(COLOUR_TABLE.sub("", source)):
        yield f"{match[0]}...: colours of methods stand in the notebook's table `COLOURS`"


def _lines(cells):
    return sum(len(cell["source"].splitlines()) for cell in cells)


def _outputs(cell):
    outputs = cell.get("outputs", [])
    for output in outputs:
        if output["output_type"] == "error" and "raises-exception" not in tags(cell):
            yield f"a stored error: {output['ename']}: {output['evalue']}"
        if output.get("name") == "stderr":
            yield f"stored warnings: {output['text'].strip().splitlines()[-1]}"
    printed = sum(len(o["text"].splitlines()) for o in outputs if o.get("name") == "stdout")
    if printed > MAX_PRINTED_LINES:
        yield f"prints {printed} lines, at most {MAX_PRINTED_LINES} are allowed"
    text = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
    if _has_picture(cell) and not text.strip():
        yield "a figure without alternative text (metadata: mystnb.image.alt)"


def _has_picture(cell):
    mimes = [mime for output in cell.get("outputs", []) for mime in output.get("data", {})]
    figure = "figure" in cell["metadata"].get("mystnb", {})
    return figure or any(mime.startswith("image/") for mime in mimes)


def _settings(notebook):
    """A chapter has settings of all profiles; a lab may leave out the last."""
    profile = PROFILES[-1] if notebook.kind == "chapter" else PROFILES[-2]
    try:
        technique.settings(notebook.slug, profile, notebook.root)
    except NotebookError as error:
        yield str(error)


def _amounts(notebook):
    found = {f"cells tagged `{tag}`": len(notebook.tagged(tag)) for tag in TAGS}
    found |= _in_chapter(notebook) if notebook.kind == "chapter" else _in_lab(notebook)
    for what, number in found.items():
        least, most = AMOUNTS[what]
        if not least <= number <= most:
            expected = f"at least {least}" if number < least else f"at most {most:,}"
            yield f"{number:,} {what}, expected {expected}"


def _in_chapter(notebook):
    glossary = (notebook.root / "book" / "glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^(\w.*)\n  ", glossary.partition("```{glossary}")[2], re.MULTILINE)
    used = [t for t in terms if re.search(rf"(?i)\b{re.escape(t)}(?:s|es)?\b", notebook.prose)]
    return {
        "margin notes": notebook.prose.count("```{margin}"),
        "terms of the glossary": len(used),
        "pictures": sum(_has_picture(cell) for _, cell in notebook.cells),
    }


def _in_lab(notebook):
    """Amounts of a lab; those of its record only after the first recorded run of `small`."""
    told = [c for _, c in notebook.cells if not tags(c) & {"setup", "parameters", "claims"}]
    code = "\n".join(cell["source"] for cell in told)
    found = {
        "code cells": len(notebook.cells),
        "lines of code without imports, comments and claims": len(CODE_LINE.findall(code)),
        "lines of technique": _lines(notebook.tagged("technique")),
        "stored bytes": notebook.file.stat().st_size,
        MINUTES: round(minutes_to_read(notebook.content["cells"]), 1),
        "exercises": len(re.findall(r"^```\{exercise\}", notebook.prose, re.MULTILINE)),
        "cells tagged `exercise-solution`": len(notebook.tagged("exercise-solution")),
    }
    if record := read_record(notebook.slug, "small", notebook.root):
        found["claims"] = len(record.claims)
        found["primary claims"] = sum(claim.primary for claim in record.claims)
        found["recorded numbers"] = len(record.numbers)
    return found


def minutes_to_read(cells):
    """Minutes that the prose and the code in sight of a notebook take."""
    words = sum(len(c["source"].split()) for c in cells if c["cell_type"] == "markdown")
    folded = {"setup", "parameters", "hide-input", "hide-cell"}
    seen = (c for c in cells if c["cell_type"] == "code" and not tags(c) & folded)
    return words / WORDS_A_MINUTE + _lines(seen) / LINES_A_MINUTE


def _sections(notebook):
    if "```{admonition} In one minute" not in notebook.prose.partition("\n## ")[0]:
        yield "no admonition `In one minute` before the first section"
    names, results = [], ""
    for cell in notebook.content["cells"]:
        if cell["cell_type"] == "markdown":
            names += HEADING.findall(cell["source"])
        elif names[-1:] == ["Results"]:
            results += cell["source"]
    if names != SECTIONS:
        yield f"the sections are {', '.join(names)}; expected in this order {', '.join(SECTIONS)}"
    if "paper" not in results.lower():
        yield "no table under `Results` has the paper's numbers beside ours (a column `paper`)"
