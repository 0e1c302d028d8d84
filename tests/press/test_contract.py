"""The contract of notebooks: a good chapter and a good lab pass, and each fault is named."""

import json

import pytest

from labutils.claims import Claim, Record
from press import contract, notebooks

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
        code(notebooks.setup_cell(root), "setup"),
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
    content = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
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
        (lambda c: c[1]["metadata"].clear(), "exactly one setup cell, found 0"),
        (lambda c: c[3]["metadata"]["tags"].append("parameters"), "one parameters cell, found 2"),
        (lambda c: c[2].update(source='profile = "full"\nseeds = None'), "parameters cell must be"),
        (lambda c: c[3].update(source="x = 1\n" * 31), "cell 4: 31 lines, at most 30"),
        (lambda c: c[4].update(source="x = 1\n" * 41), "cell 5: 41 lines, at most 40"),
        (lambda c: c[4].update(source="%matplotlib inline"), "cell 5: not plain Python"),
        (lambda c: c[4]["metadata"].clear(), "no code cell has the tag `check`"),
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
        (
            lambda c: c[5].update(source='lab.ledger.claim("one", "It works")'),
            "cell 6: a claim does not say whose it is",
        ),
        (
            lambda c: c[5].update(source='say = lab.ledger.claim\nsay("one", "It works")'),
            "cell 6: a claim does not say whose it is",
        ),
    ],
)
def test_the_contract_of_all_notebooks_names_the_problem(problems, kind, edit, problem):
    found = problems(kind, edit)
    assert [line for line in found if problem in line], found


def test_figures_with_text_wanted_errors_and_a_table_of_colours_are_fine(problems):
    def edit(cells):
        cells[4]["outputs"].append(PNG)
        cells[4]["metadata"] |= PICTURE
        cells[5]["outputs"].append(error(""))
        cells[5]["metadata"]["tags"].append("raises-exception")
        cells[6]["source"] += '\nCOLOURS = {\n    "ours": plots.OURS,\n}\nplot(color=plots.OURS)'

    assert problems("chapter", edit) == []


def test_names_are_lower_case_words(book):
    book.notebook("One_2").write_text('{"cells": []}')
    found = contract.problems("One_2", book.root, "lab")
    assert found[0] == "the name 'One_2' is not made of lower-case words, such as fixmatch-saa"


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda c: c[0].update(source=CHAPTER_PROSE.replace(NOTE, "", 1)), "2 margin notes"),
        (lambda c: c[0].update(source=CHAPTER_PROSE + f"\n\n{NOTE}" * 4), "7 margin notes"),
        (
            lambda c: c[0].update(source=CHAPTER_PROSE.replace("anchor", "x")),
            "uses 5 terms of the glossary, expected at least 6",
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
        (lambda c: c.extend(code("x") for _ in range(20)), "29 code cells, at most 25"),
        (
            lambda c: c.extend(code("x\n" * 40) for _ in range(8)),
            "327 lines of code besides the first two cells, at most 300",
        ),
        (
            lambda c: c.extend(code("x\n" * 25, "technique") for _ in range(4)),
            "101 lines of technique, at most 100",
        ),
        (
            lambda c: c[4]["outputs"].append(PNG | {"data": {"image/png": "x" * 400_000}}),
            "stored bytes, at most 400,000",
        ),
        (lambda c: c.append(prose("word " * 2500)), "minutes to read"),
        (
            lambda c: c.append(code("x\n" * 40, "exercise-solution")),
            "2 exercises and 3 cells tagged `exercise-solution`, expected 2 of each",
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
        (2, 1, 0, "2 claims, expected 3 to 9"),
        (10, 1, 0, "10 claims, expected 3 to 9"),
        (3, 0, 0, "no claim is primary"),
        (3, 1, 31, "records 31 numbers, at most 30"),
    ],
)
def test_a_labs_record_is_short(book, problems, claims, primary, numbers, problem):
    found = [
        Claim(f"c{k}", "It works", "ours", k < primary, "", ["a", "b"], "greater", 0.0, "points",
              {"a": [1.0, 2.0], "b": [0.0, 0.0]}, None)
        for k in range(claims)
    ]  # fmt: skip
    record = Record(
        "one", "small", [0, 1], {}, {}, found,
        {f"n-{k}": {"value": k, "unit": ""} for k in range(numbers)}, "2026-01-02T03:04:05Z", 1.0,
    )  # fmt: skip
    file = book.root / "results" / "theme" / "one.small.json"
    file.parent.mkdir(parents=True)
    file.write_text(record.to_json())
    complaints = problems("lab")
    assert len(complaints) == (0 if problem is None else 1)
    assert problem is None or problem in complaints[0]


def test_the_kind_stands_in_the_catalogue(book):
    book.write("one", "x = 1")
    (book.root / "book").mkdir()
    catalogue = book.root / "book" / "catalogue.yml"
    catalogue.write_text("themes: [{slug: theme, papers: [{slug: one, kind: lab}]}]")
    assert [p for p in contract.problems("one", book.root) if p.startswith("the sections are")]
    catalogue.write_text("themes: [{slug: theme, papers: [{slug: one, kind: reading}]}]")
    with pytest.raises(notebooks.NotebookError, match="no row of a chapter or a lab 'one'; add it"):
        contract.problems("one", book.root)
