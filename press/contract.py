"""The contract of a notebook: what all of them keep, what chapters and what labs keep besides."""

import ast
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from labutils import PROFILES
from press import notebooks, technique
from press.notebooks import VOLATILE_METADATA, NotebookError, tags

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
PARAMETERS = 'profile = "small"\nseeds = None'
REQUIRED_TAGS = ("technique", "check", "claims")
MAX_LINES, MAX_TECHNIQUE_LINES, MAX_PRINTED_LINES = 40, 30, 20
HEX_COLOUR = re.compile(r"""["']#[0-9A-Fa-f]{3,8}["']""")
COLOUR_TABLE = re.compile(r"^COLOURS\b.*?^[}\])].*?$", re.MULTILINE | re.DOTALL)
COLOURED_NAME = re.compile(r'"(?!color")[^"\n]+"[:,] \(?plots\.[A-Z]+')

# Chapters
MARGIN_NOTES, MIN_TERMS, MIN_PICTURES = range(3, 7), 6, 4

# Labs
SECTIONS = (
    "What is different", "The mathematics", "The technique", "The idea in a picture",
    "The experiment", "Results", "When it fails", "Claims", "Exercises", "Relatives", "References",
)  # fmt: skip
MAX_CELLS, MAX_CODE, MAX_TECHNIQUE, MAX_BYTES, MAX_MINUTES = 25, 300, 100, 400_000, 12
WORDS_A_MINUTE, LINES_A_MINUTE = 200, 50
CLAIMS, MAX_NUMBERS, NUM_EXERCISES = range(3, 10), 30, 2


@dataclass(frozen=True)
class _Notebook:
    slug: str
    root: Path

    @cached_property
    def file(self):
        return notebooks.path(self.slug, self.root)

    @cached_property
    def content(self):
        return notebooks.read(self.file)

    @cached_property
    def cells(self):
        return notebooks.code_cells(self.content)

    @cached_property
    def prose(self):
        cells = self.content["cells"]
        return "\n\n".join(c["source"] for c in cells if c["cell_type"] == "markdown")

    def tagged(self, tag):
        return [cell for _, cell in self.cells if tag in tags(cell)]


def problems(slug, root=None, kind=None):
    """Return what is wrong with a notebook by the book's contract, one line each; [] if nothing.

    kind: "chapter" or "lab"; left out, it is read from the catalogue. All notebooks: a name of
    lower-case words; first the setup cell (``notebooks.setup_cell``), then the one parameters
    cell; technique, check and claims cells; settings with a row per knob; every claim says whose it
    is; colours of methods come from ``plots`` and stand in one table ``COLOURS``; plain Python in
    cells of at most 40 lines (technique: 30); stored outputs of one run from top to bottom without
    errors, warnings and more than 20 printed lines; alternative text for figures; unique cell ids.
    The constants above say what chapters and labs keep besides.
    """
    root = notebooks.book_root(root)
    notebook = _Notebook(slug, root)
    rules = [_opening, _whole, _cells, _settings, _claims]
    rules += {"chapter": [_chapter], "lab": [_lab, _sections, _record]}[kind or _kind(slug, root)]
    return [problem for rule in rules for problem in rule(notebook)]


def _kind(slug, root):
    import yaml

    themes = yaml.safe_load((root / "book" / "catalogue.yml").read_text(encoding="utf-8"))["themes"]
    kinds = {row["slug"]: row["kind"] for theme in themes for row in theme["papers"]}
    if kinds.get(slug) not in ("chapter", "lab"):
        raise NotebookError(f"book/catalogue.yml has no row of a chapter or a lab {slug!r}; add it")
    return kinds[slug]


def _opening(notebook):
    if not NAME.fullmatch(notebook.slug):
        yield f"the name {notebook.slug!r} is not made of lower-case words, such as fixmatch-saa"
    setup, parameters = notebook.tagged("setup"), notebook.tagged("parameters")
    if len(setup) != 1:
        yield f"expected exactly one setup cell, found {len(setup)}"
    if len(parameters) != 1:
        yield f"expected exactly one parameters cell, found {len(parameters)}"
    if len(setup) == len(parameters) == 1:
        if setup + parameters != [cell for _, cell in notebook.cells[:2]]:
            yield "the first two code cells must be the setup cell and the parameters cell"
        tree = _parsed(parameters[0]["source"])
        if tree is None or ast.dump(tree) != ast.dump(ast.parse(PARAMETERS)):
            yield 'the parameters cell must be `profile = "small"` and `seeds = None`'
        if setup[0]["source"] != notebooks.setup_cell(notebook.root):
            yield "the setup cell is not the current one; run `python -m press setup-cells`"


def _parsed(source):
    try:
        return ast.parse(source)
    except SyntaxError:
        return None


def _whole(notebook):
    for tag in REQUIRED_TAGS:
        if not notebook.tagged(tag):
            yield f"no code cell has the tag `{tag}`"
    ids = [cell.get("id") for cell in notebook.content["cells"]]
    if None in ids or len(set(ids)) < len(ids):
        yield "cell ids are missing or not unique (nbformat 4.5 is needed)"
    if set(VOLATILE_METADATA) & set(notebook.content.get("metadata", {})):
        yield "the notebook's metadata holds traces of an execution; store it by `execute`"
    counts = [cell.get("execution_count") for _, cell in notebook.cells if cell["source"].strip()]
    if counts != list(range(1, len(counts) + 1)):
        yield "the stored outputs are not those of one run from top to bottom; execute it"


def _cells(notebook):
    for number, cell in notebook.cells:
        for rule in (_source, _outputs):
            yield from (f"cell {number}: {problem}" for problem in rule(cell))


def _source(cell):
    source, lines = cell["source"], len(cell["source"].splitlines())
    limit = MAX_TECHNIQUE_LINES if "technique" in tags(cell) else MAX_LINES
    if lines > limit:
        yield f"{lines} lines, at most {limit} are allowed"
    if _parsed(source) is None:
        yield "not plain Python"
    if match := HEX_COLOUR.search(source):
        yield f"the colour {match[0]} is spelled out; take one of `plots`"
    if match := COLOURED_NAME.search(COLOUR_TABLE.sub("", source)):
        yield f"{match[0]}...: colours of methods stand in the notebook's table `COLOURS`"


def _outputs(cell):
    if set(VOLATILE_METADATA) & set(cell.get("metadata", {})):
        yield "the metadata holds traces of an execution"
    outputs = cell.get("outputs", [])
    for output in outputs:
        if output["output_type"] == "error" and "raises-exception" not in tags(cell):
            yield f"a stored error: {output['ename']}: {output['evalue']}"
        if output.get("name") == "stderr":
            yield f"stored warnings: {output['text'].strip().splitlines()[-1]}"
    printed = sum(len(o["text"].splitlines()) for o in outputs if o.get("name") == "stdout")
    if printed > MAX_PRINTED_LINES:
        yield f"prints {printed} lines, at most {MAX_PRINTED_LINES} are allowed"
    text = cell.get("metadata", {}).get("mystnb", {}).get("image", {}).get("alt", "")
    if _has_picture(cell) and not text.strip():
        yield "a figure without alternative text (metadata: mystnb.image.alt)"


def _has_picture(cell):
    mimes = [mime for output in cell.get("outputs", []) for mime in output.get("data", {})]
    figure = "figure" in cell.get("metadata", {}).get("mystnb", {})
    return figure or any(mime.startswith("image/") for mime in mimes)


def _settings(notebook):
    for profile in PROFILES[:2]:  # a lab may leave out the last
        try:
            technique.settings(notebook.slug, profile, notebook.root)
        except NotebookError as error:
            yield str(error)


def _claims(notebook):
    """Every call of the ledger's `claim`, under whatever name, says whose the sentence is."""
    names = set()
    for number, cell in notebook.cells:
        for node in ast.walk(_parsed(cell["source"]) or ast.Module([], [])):
            if isinstance(node, ast.Assign) and ast.unparse(node.value).endswith("ledger.claim"):
                names |= {ast.unparse(target) for target in node.targets}
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            given = {keyword.arg for keyword in node.keywords}
            if (called in names or called.endswith("ledger.claim")) and "source" not in given:
                yield f'cell {number}: a claim does not say whose it is (source="paper" or "ours")'


def _chapter(notebook):
    try:
        technique.settings(notebook.slug, PROFILES[-1], notebook.root)
    except NotebookError as error:
        yield str(error)
    notes = notebook.prose.count("```{margin}")
    if notes not in MARGIN_NOTES:
        yield f"{notes} margin notes, expected {MARGIN_NOTES[0]} to {MARGIN_NOTES[-1]}"
    terms = _terms(notebook)
    if len(terms) < MIN_TERMS:
        yield f"uses {len(terms)} terms of the glossary, expected at least {MIN_TERMS}"
    pictures = sum(_has_picture(cell) for _, cell in notebook.cells)
    if pictures < MIN_PICTURES:
        yield f"{pictures} pictures, expected at least {MIN_PICTURES}"


def _terms(notebook):
    glossary = (notebook.root / "book" / "glossary.md").read_text(encoding="utf-8")
    defined = re.findall(r"^(\w.*)\n  ", glossary.partition("```{glossary}")[2], re.MULTILINE)
    return [
        term
        for term in defined
        if re.search(rf"\b{re.escape(term)}(?:s|es)?\b", notebook.prose, re.IGNORECASE)
    ]


def _lab(notebook):
    own = [cell for _, cell in notebook.cells if not tags(cell) & {"setup", "parameters"}]
    folded = {"hide-input", "hide-cell"}
    words = len(notebook.prose.split())
    seen = _lines(cell for cell in own if not tags(cell) & folded)
    minutes = words / WORDS_A_MINUTE + seen / LINES_A_MINUTE
    exercises = len(re.findall(r"^```\{exercise\}", notebook.prose, re.MULTILINE))
    solved = len(notebook.tagged("exercise-solution"))
    for value, most, what in (
        (len(notebook.cells), MAX_CELLS, "code cells"),
        (_lines(own), MAX_CODE, "lines of code besides the first two cells"),
        (_lines(notebook.tagged("technique")), MAX_TECHNIQUE, "lines of technique"),
        (notebook.file.stat().st_size, MAX_BYTES, "stored bytes"),
        (round(minutes, 1), MAX_MINUTES, f"minutes to read ({words} words, {seen} lines of code)"),
    ):
        if value > most:
            yield f"{value:,} {what}, at most {most:,} are allowed"
    if not exercises == solved == NUM_EXERCISES:
        yield (
            f"{exercises} exercises and {solved} cells tagged `exercise-solution`, expected "
            f"{NUM_EXERCISES} of each"
        )


def _lines(cells):
    return sum(len(cell["source"].splitlines()) for cell in cells)


def _sections(notebook):
    if "```{admonition} In one minute" not in notebook.prose.partition("\n## ")[0]:
        yield "no admonition `In one minute` before the first section"
    found = re.findall(r"^## (.+?)\s*$", notebook.prose, re.MULTILINE)
    if tuple(found) != SECTIONS:
        yield f"the sections are {', '.join(found)}; expected in this order {', '.join(SECTIONS)}"
    section, results = "", ""
    for cell in notebook.content["cells"]:
        if cell["cell_type"] == "markdown":
            section = [section, *re.findall(r"^## (.+?)\s*$", cell["source"], re.MULTILINE)][-1]
        elif section == "Results":
            results += cell["source"]
    if "paper" not in results.lower():
        yield "no table under `Results` has the paper's numbers beside ours (a column `paper`)"


def _record(notebook):
    """Rules on what the last recorded run of `small` holds; before it there is nothing to say."""
    from labutils.claims import Record

    theme = notebook.file.parent.name
    file = notebook.root / "results" / theme / f"{notebook.slug}.small.json"
    if not file.exists():
        return
    record = Record.read(file)
    if len(record.claims) not in CLAIMS:
        yield f"{len(record.claims)} claims, expected {CLAIMS[0]} to {CLAIMS[-1]}"
    if not any(claim.primary for claim in record.claims):
        yield "no claim is primary; name those that the lab is about"
    if len(record.numbers) > MAX_NUMBERS:
        yield f"records {len(record.numbers)} numbers, at most {MAX_NUMBERS} are allowed"
