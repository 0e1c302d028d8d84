"""The contract of notebooks: a good chapter and a good lab pass, and each fault is named."""

import json
from types import SimpleNamespace

import pytest

from labutils.claims import Claim, Record
from press import catalogue, contract, notebooks

ROWS = 'SETTINGS = {"steps": (1, 2, 3, "4", "time"), "num_seeds": (2, 5, 5, "1", "")}'
CLAIM = 'lab.ledger.claim("one", "It works", source="ours")'
PICTURE = {"mystnb": {"figure": {"name": "fig"}, "image": {"alt": "A line that rises."}}}
PNG = {"output_type": "display_data", "data": {"image/png": "x"}, "metadata": {}}
TERMS = ("anchor", "batch", "domain", "loss", "seed", "view")
GLOSSARY = "```{glossary}\n" + "\n".join(f"{term}\n  A word.\n" for term in TERMS) + "```\n"
NOTE = "```{margin}\nA note.\n```"
CHAPTER_PROSE = "\n\n".join(["# One", *[NOTE] * 3, "Terms: " + ", ".join(TERMS)])


def code(source, *tags, **metadata):
    tagged = {"tags": list(tags)} if tags else {}
    return {"cell_type": "code", "metadata": tagged | metadata, "outputs": [], "source": source}


def prose(source):
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def chapter(root):
    return [
        prose(CHAPTER_PROSE),
        code(notebooks.setup_cell(root, "one"), "setup"),
        code('profile = "small"\nseeds = None  # the profile chooses', "parameters"),
        code("x = 1", "technique"),
        code("assert x", "check"),
        code(CLAIM, "claims"),
        code(ROWS),
        *[code("plot()", **PICTURE) for _ in range(4)],
    ]


def lab(root):
    cells = chapter(root)[1:7]
    made = [prose("# One\n\n```{admonition} In one minute\nAll of it.\n```"), *cells]
    for section in contract.SECTIONS:
        made.append(prose(f"## {section}\n\nWords."))
        if section == "Results":
            made.append(code('pd.DataFrame({"ours": [1], "paper": [2]})'))
        if section == "Exercises":
            for number in range(2):
                made.append(prose(f"```{{exercise}} Do\n:label: ex-{number}\nWhat?\n```"))
                made.append(code("print(1)", "exercise-solution"))
    return made


def write(book, cells):
    """Store cells as a notebook that was run from top to bottom, under the name `one`."""
    number = 0
    for place, cell in enumerate(cells):
        cell.setdefault("id", f"c{place}")
        if cell["cell_type"] == "code":
            number += 1
            cell.setdefault("execution_count", number)
    content = {"cells": cells, "metadata": notebooks.COLAB, "nbformat": 4, "nbformat_minor": 5}
    book.notebook("one").write_text(json.dumps(content))


@pytest.fixture
def problems(book):
    """A function: the problems of a good notebook of a kind after an edit of its cells."""
    (book.root / "book").mkdir()
    (book.root / "book" / "glossary.md").write_text(GLOSSARY)

    def found(kind, edit=lambda cells: None):
        cells = {"chapter": chapter, "lab": lab}[kind](book.root)
        edit(cells)
        write(book, cells)
        return contract.problems("one", book.root, kind)

    return found


@pytest.mark.parametrize("kind", ["chapter", "lab"])
def test_a_good_notebook_has_no_problems(problems, kind):
    assert problems(kind) == []


def error(name):
    return {"output_type": "error", "ename": "ValueError", "evalue": name, "traceback": []}


def stream(name, text):
    return {"output_type": "stream", "name": name, "text": text}


@pytest.mark.parametrize("kind", ["chapter", "lab"])
@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda c: c[1].update(source="import labutils"), "setup cell is not the current one"),
        (lambda c: c[1]["metadata"].clear(), "0 cells tagged `setup`, expected at least 1"),
        (
            lambda c: c[3]["metadata"]["tags"].append("parameters"),
            "2 cells tagged `parameters`, expected at most 1",
        ),
        (lambda c: c[2].update(source='profile = "full"\nseeds = None'), "parameters cell must be"),
        (lambda c: c[3].update(source="x = 1\n" * 31), "cell 4: 31 lines, at most 30"),
        (lambda c: c[4].update(source="x = 1\n" * 41), "cell 5: 41 lines, at most 40"),
        (lambda c: c[4].update(source="%matplotlib inline"), "cell 5: not plain Python"),
        (lambda c: c[4]["metadata"].clear(), "0 cells tagged `check`, expected at least 1"),
        (lambda c: c[4].update(execution_count=9), "not those of one run from top to bottom"),
        (lambda c: c[4].update(id="c1"), "cell ids are missing or not unique"),
        (lambda c: c[4]["metadata"].update(papermill={}), "traces of an execution"),
        (lambda c: c[4]["outputs"].append(error("bad")), "cell 5: a stored error: ValueError: bad"),
        (
            lambda c: c[4]["outputs"].append(stream("stderr", "UserWarning: old\n")),
            "cell 5: stored warnings: UserWarning: old",
        ),
        (
            lambda c: c[4]["outputs"].append(stream("stdout", ["line\n"] * 21)),
            "prints 21 lines, at most 20",
        ),
        (
            lambda c: c[4].update(source='styles = {"ours": plots.BLUE}'),
            'cell 5: "ours": plots.BLUE...: colours of methods stand in',
        ),
        (
            lambda c: c[4].update(source='ax.plot(x, color="#0072B2")'),
            'cell 5: the colour "#0072B2" is spelled out',
        ),
        (lambda c: c[4]["outputs"].append(PNG), "cell 5: a figure without alternative text"),
        (
            lambda c: c[4]["metadata"].update(mystnb={"figure": {"caption": "x"}}),
            "cell 5: a figure without alternative text",
        ),
        (lambda c: c[6].update(source="steps = 2"), "one has no table SETTINGS"),
        (lambda c: c[6].update(source='SETTINGS = {"k": (1, 2)}'), "expected rows (smoke, small"),
        (lambda c: c.insert(1, c.pop(4)), "the first two code cells must be the setup cell and"),
    ],
)
def test_the_contract_of_all_notebooks_names_the_problem(problems, kind, edit, problem):
    found = problems(kind, edit)
    assert [line for line in found if problem in line], found


def test_the_metadata_ask_colab_for_a_gpu(problems, book):
    assert problems("lab") == []
    text = book.notebook("one").read_text()
    book.notebook("one").write_text(text.replace('"T4"', '"A100"'))
    (found,) = contract.problems("one", book.root, "lab")
    assert "the metadata lacks {'accelerator': 'GPU', 'colab': {'gpuType': 'T4'}}" in found


def test_figures_with_text_wanted_errors_and_a_table_of_colours_are_fine(problems):
    def edit(cells):
        cells[4]["outputs"].append(PNG)
        cells[4]["metadata"] |= PICTURE
        cells[5]["outputs"].append(error(""))
        cells[5]["metadata"]["tags"].append("raises-exception")
        cells[6]["source"] += '\nCOLOURS = {\n    "ours": plots.OURS,\n}\nplot(color=plots.OURS)'

    assert problems("chapter", edit) == []


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (
            lambda c: c[0].update(source=CHAPTER_PROSE.replace(NOTE, "", 1)),
            "2 margin notes, expected at least 3",
        ),
        (
            lambda c: c[0].update(source=CHAPTER_PROSE + f"\n\n{NOTE}" * 4),
            "7 margin notes, expected at most 6",
        ),
        (
            lambda c: c[0].update(source=CHAPTER_PROSE.replace("anchor", "x")),
            "5 terms of the glossary, expected at least 6",
        ),
        (lambda c: c.pop(), "3 pictures, expected at least 4"),
        (
            lambda c: c[6].update(source='SETTINGS = {"num_seeds": (2, 5, "1", "")}'),
            "no settings of the profile full",
        ),
    ],
)
def test_the_contract_of_chapters_names_the_problem(problems, edit, problem):
    found = problems("chapter", edit)
    assert [line for line in found if problem in line], found


def at(cells, text):
    """The place of the first cell that holds a text."""
    return next(k for k, cell in enumerate(cells) if text in cell["source"])


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda c: c.extend(code("x") for _ in range(20)), "29 code cells, expected at most 25"),
        (
            lambda c: c.extend(code("x\n" * 40) for _ in range(8)),
            "326 lines of code without imports, comments and claims, expected at most 300",
        ),
        (
            lambda c: c.extend(code("x\n" * 25, "technique") for _ in range(4)),
            "101 lines of technique, expected at most 100",
        ),
        (
            lambda c: c[4]["outputs"].append(PNG | {"data": {"image/png": "x" * 400_000}}),
            "stored bytes, expected at most 400,000",
        ),
        (lambda c: c.append(prose("word " * 2500)), "minutes to read"),
        (
            lambda c: c.append(code("x\n" * 40, "exercise-solution")),
            "3 cells tagged `exercise-solution`, expected at most 2",
        ),
        (
            lambda c: c[at(c, "{exercise}")].update(source="Do"),
            "1 exercises, expected at least 2",
        ),
        (lambda c: c[0].update(source="# One"), "no admonition `In one minute` before"),
        (lambda c: c.pop(at(c, "## When it fails")), "the sections are What is different"),
        (lambda c: c.insert(1, c.pop(at(c, "## Results"))), "expected in this order"),
        (
            lambda c: c[at(c, "pd.DataFrame")].update(source='pd.DataFrame({"ours": [1]})'),
            "no table under `Results` has the paper's numbers",
        ),
    ],
)
def test_the_contract_of_labs_names_the_problem(problems, edit, problem):
    found = problems("lab", edit)
    assert [line for line in found if problem in line], found


def test_blank_lines_comments_imports_and_claims_are_no_lines_of_code(problems):
    def edit(cells):
        cells.extend(code(five_lines + "x = 1\n" * 35) for _ in range(8))
        cells.append(code("x = 1\n" * 40, "claims", "hide-input"))

    five_lines = "import y\n\nfrom y import z\n# why\n    # so\n"
    assert problems("lab", edit) == []
    five_lines = "y = 1  # why\n" * 4 + "important = x\n"
    assert "326 lines of code" in "".join(problems("lab", edit))


def test_folded_code_takes_no_time_to_read(problems):
    def edit(cells):
        cells.append(prose("word " * 2200))
        cells.append(code("x = 1\n" * 40, *tags))
        cells.append(code("x = 1\n" * 40, *tags))

    tags = ()
    assert "minutes to read" in "".join(problems("lab", edit))
    tags = ("hide-input",)
    assert problems("lab", edit) == []


def test_a_lab_may_leave_out_the_full_profile(problems):
    def edit(cells):
        cells[6].update(source='SETTINGS = {"num_seeds": (2, 5, "1", "")}')

    assert problems("lab", edit) == []


@pytest.mark.parametrize(
    ("claims", "primary", "numbers", "problem"),
    [
        (3, 1, 30, None),
        (9, 9, 0, None),
        (2, 1, 0, "2 claims, expected at least 3"),
        (10, 1, 0, "10 claims, expected at most 9"),
        (3, 0, 0, "0 primary claims, expected at least 1"),
        (3, 1, 31, "31 recorded numbers, expected at most 30"),
    ],
)
def test_a_labs_record_is_short(book, problems, claims, primary, numbers, problem):
    found = [
        Claim(f"c{k}", "It works", "ours", k < primary, "", ["a", "b"], "greater", 0.0, "points",
              {"a": [1.0, 2.0], "b": [0.0, 0.0]}, None)
        for k in range(claims)
    ]  # fmt: skip
    record = Record(
        "one", "small", [0, 1], {}, {"device": "cpu"}, found,
        {f"n-{k}": {"value": k, "unit": ""} for k in range(numbers)}, "2026-01-02T03:04:05Z", 1.0,
    )  # fmt: skip
    file = book.root / "results" / "theme" / "one.small.json"
    file.parent.mkdir(parents=True)
    file.write_text(record.to_json())
    complaints = problems("lab")
    assert len(complaints) == (0 if problem is None else 1)
    assert problem is None or problem in complaints[0]


def test_the_kind_stands_in_the_catalogue(book, monkeypatch):
    book.write("one", "x = 1")
    row = SimpleNamespace(slug="one", kind="lab")
    found = catalogue.Catalogue([SimpleNamespace(papers=[row])])
    monkeypatch.setattr(catalogue, "load", {book.root: found}.get)
    assert [p for p in contract.problems("one", book.root) if p.startswith("the sections are")]
    row.slug = "another"
    with pytest.raises(notebooks.NotebookError, match="no row with the slug 'one'"):
        contract.problems("one", book.root)
