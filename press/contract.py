"""The contract that every notebook of the book keeps."""

import ast
import re

from press.notebooks import VOLATILE_METADATA, book_root, code_cells, path, read, setup_cell, tags
from press.source import normalised

CHAPTER_NAME = re.compile(r"\d\d-[a-z0-9]+(-[a-z0-9]+)*")
MAX_LINES, MAX_TECHNIQUE_LINES, MAX_PRINTED_LINES = 40, 30, 20
COLOURED_NAME = re.compile(r'"(?!color")[^"\n]+"[:,] \(?plots\.(?!COLOURS)[A-Z]+')
REQUIRED_TAGS = ("technique", "check", "claims")


def problems(chapter, root=None):
    """Return what is wrong with a chapter by the book's contract, one line each; empty if nothing.

    The contract: name ``NN-name``; first the setup cell (as ``setup_cell`` gives it), then the one
    parameters cell (``profile = "small"``, ``seeds = None``); technique, check and claims cells;
    plain Python in cells of at most 40 lines (technique: 30); stored outputs of one run from top to
    bottom without errors, warnings and more than 20 printed lines; alternative text for figures;
    methods coloured by ``plots.COLOURS``; unique cell ids; no traces of the execution in the
    metadata.
    """
    root = book_root(root)
    notebook = read(path(chapter, root))
    cells = code_cells(notebook)
    found = []
    if not CHAPTER_NAME.fullmatch(chapter):
        found.append(f"the name {chapter!r} is not of the form NN-name, such as rs2")
    found += _opening_problems(cells, root)
    for tag in REQUIRED_TAGS:
        if not any(tag in tags(cell) for _, cell in cells):
            found.append(f"no code cell has the tag `{tag}`")
    ids = [cell.get("id") for cell in notebook["cells"]]
    if None in ids or len(set(ids)) < len(ids):
        found.append("cell ids are missing or not unique (nbformat 4.5 is needed)")
    if set(VOLATILE_METADATA) & set(notebook.get("metadata", {})):
        found.append("the notebook's metadata holds traces of an execution; store it by `execute`")
    counts = [cell.get("execution_count") for _, cell in cells if cell["source"].strip()]
    if counts != list(range(1, len(counts) + 1)):
        found.append("the stored outputs are not those of one run from top to bottom; execute it")
    for number, cell in cells:
        found += [f"cell {number}: {problem}" for problem in _cell_problems(cell)]
    return found


def _opening_problems(cells, root):
    setup = [number for number, cell in cells if "setup" in tags(cell)]
    parameters = [number for number, cell in cells if "parameters" in tags(cell)]
    if len(setup) != 1:
        yield f"expected exactly one setup cell, found {len(setup)}"
    if len(parameters) != 1:
        yield f"expected exactly one parameters cell, found {len(parameters)}"
    if len(setup) == len(parameters) == 1:
        if setup + parameters != [number for number, _ in cells[:2]]:
            yield "the first two code cells must be the setup cell and the parameters cell"
        source = dict(cells)[parameters[0]]["source"]
        if normalised(source) != normalised('profile = "small"\nseeds = None'):
            yield 'the parameters cell must be `profile = "small"` and `seeds = None`'
        if dict(cells)[setup[0]]["source"] != setup_cell(root):
            yield "the setup cell is not the current one; run `python -m press setup-cells`"


def _cell_problems(cell):
    source, lines = cell["source"], len(cell["source"].splitlines())
    limit = MAX_TECHNIQUE_LINES if "technique" in tags(cell) else MAX_LINES
    if lines > limit:
        yield f"{lines} lines, at most {limit} are allowed"
    try:
        ast.parse(source)
    except SyntaxError as error:
        yield f"not plain Python: {error.msg} (line {error.lineno})"
    if match := COLOURED_NAME.search(source):
        yield f"{match[0]}...: colours of methods come from `plots.COLOURS`, one for the whole book"
    if set(VOLATILE_METADATA) & set(cell.get("metadata", {})):
        yield "the metadata holds traces of an execution"
    outputs = cell.get("outputs", [])
    for output in outputs:
        if output["output_type"] == "error" and "raises-exception" not in tags(cell):
            yield f"a stored error: {output['ename']}: {output['evalue']}"
        if output.get("name") == "stderr":
            yield f"stored warnings: {output['text'].strip().splitlines()[-1]}"
    printed = sum(
        len(output["text"].splitlines()) for output in outputs if output.get("name") == "stdout"
    )
    if printed > MAX_PRINTED_LINES:
        yield f"prints {printed} lines, at most {MAX_PRINTED_LINES} are allowed"
    mystnb = cell.get("metadata", {}).get("mystnb", {})
    figures = any(
        mime.startswith("image/") for output in outputs for mime in output.get("data", {})
    )
    if (figures or "figure" in mystnb) and not mystnb.get("image", {}).get("alt", "").strip():
        yield "a figure without alternative text (metadata: mystnb.image.alt)"
