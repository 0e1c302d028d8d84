"""What cards, badges, themes and scoreboard say about runs that are absent, fresh or stale."""

import json
import re
import shutil
from dataclasses import replace

import pytest
from building import build, copy_book

from labutils.claims import Claim, Record
from press import notebooks, records, staleness
from press.site import records as runs
from press.site import templates

CHAPTER, LAB = "rs2", "datm"
CATALOGUE = """\
themes:
- slug: choosing-data
  title: Choosing data
  question: Which examples are worth a step?
  papers:
  - {slug: rs2, short: RS2, key: okanovic2024repeated, kind: chapter, near: rs2, code: none,
     idea: draw afresh}
  - {slug: datm, short: DATM, key: guo2024lossless, kind: lab, near: rs2, code: none,
     idea: match them}
  - {slug: clear, short: CLEAR, key: chen2024automated, kind: lab, near: rs2, code: none,
     idea: filter}
- slug: image-text
  title: Images and text
  question: What can captions teach?
  papers:
  - {slug: clip, short: CLIP, key: radford2021learning, kind: chapter, near: clip, code: none,
     idea: match}
"""
TOC = """\
format: jb-book
root: book/index
chapters:
{% for theme in themes if theme.notebooks %}
  - file: {{ theme.docname }}
    sections:
{% for paper in theme.notebooks %}
      - file: {{ paper.docname }}
{% endfor %}
{% endfor %}
  - file: book/scoreboard
  - file: book/field-map
"""
INDEX = "# Index\n\n```{verdict-strip}\n```\n\n```{chapter-cards}\n```\n"
HOLDS = {"first": [2.0, 2.1, 2.2], "second": [1.0, 1.0, 1.0]}
OPEN = {"first": [1.0, 2.0, 0.5], "second": [1.2, 1.0, 1.0]}
PAGES = {
    "index": "book/index.html",
    "theme": "book/themes/choosing-data.html",
    "board": "book/scoreboard.html",
    "chapter": f"notebooks/choosing-data/{CHAPTER}.html",
    "map": "book/field-map.html",
}


def claim(number, source="paper", direction="greater", values=HOLDS):
    paper = {"value": 15.1, "unit": "points", "source": "Figure 3"} if number else None
    return Claim(
        f"claim-{number}", f"Statement {'abcde'[number]} at 1 %", source, False, "Section 4",
        ["first", "second"], direction, 0.0, "points", values, paper,
    )  # fmt: skip


def record(fingerprint):
    environment = {"python": "3.11.7", "torch": "2.11.0", "torchvision": "0.26.0", "numpy": "2.4.6",
                   "labutils": "0.1.0", "device": "cpu (a processor)", "platform": "L"}  # fmt: skip
    claims = [claim(0), claim(1), claim(2, direction="less"), claim(3, values=OPEN)]
    return Record(
        CHAPTER, "small", [0, 1, 2], {}, environment, [*claims, claim(4, "ours")], {},
        "2026-01-31T16:00:00Z", 431.2, 812, title="A title", fingerprint=fingerprint,
    )  # fmt: skip


def replication(fingerprint, device):
    """The same run on another device, where one claim gets another verdict."""
    own = record(fingerprint)
    moved = replace(own.claims[3], values=HOLDS)
    claims = [*own.claims[:3], moved, *own.claims[4:]]
    return replace(own, claims=claims, environment=own.environment | {"device": device})


def notebook(name):
    def cell(kind, source, tags=()):
        made = {"cell_type": kind, "id": f"c{len(source)}", "source": source}
        made["metadata"] = {"tags": list(tags)}
        return made | ({"execution_count": None, "outputs": []} if kind == "code" else {})

    return {
        "cells": [
            cell(
                "markdown", f"(ch-{name})=\n# Title of {name}\n\n```{{chapter-badges}} {name}\n```"
            ),
            cell("markdown", "## What became of the claims"),
            cell("code", "answer = 42", ["claims"]),
        ],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "p", "language": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def text(html):
    body = html[html.index("<article") : html.index("</article>")]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small book: a chapter, a lab, and one of each to come."""
    book = copy_book(tmp_path_factory.mktemp("directives") / "book")
    for folder in ("notebooks", "results"):
        shutil.rmtree(book / folder)
    (book / "book/catalogue.yml").write_text(CATALOGUE, "utf-8")
    (book / "book/_templates/_toc.yml").write_text(TOC, "utf-8")
    (book / "book/index.md").write_text(INDEX, "utf-8")
    for name in (CHAPTER, LAB):
        file = book / f"notebooks/choosing-data/{name}.ipynb"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(notebook(name)), "utf-8")
    return book


@pytest.fixture(scope="module")
def states(small):
    """{state: {page: html}} of the small book without records, with fresh, and with stale ones."""
    found, fresh = {}, staleness.fingerprint(CHAPTER, small)
    for state, mark in (("absent", None), ("fresh", fresh), ("stale", "0" * 16)):
        if mark:
            path = small / f"results/choosing-data/{CHAPTER}.small.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            shown = notebooks.read(notebooks.path(CHAPTER, small))
            path.write_text(records.sealed(record(mark), shown, "").to_json(), "utf-8")
            for device, code in (("H100", fresh), ("T4", "1" * 16)):  # the other's is older
                other = replication(code, f"NVIDIA {device}").to_json()
                path.with_name(f"{CHAPTER}.small.{device.lower()}.json").write_text(other, "utf-8")
        # The second and third builds reuse the first: what changed must show all the same.
        status, output = build(small)
        assert status == 0, output
        html = small / "_build/html"
        found[state] = {name: (html / page).read_text("utf-8") for name, page in PAGES.items()}
    return found


def test_no_record(states):
    pages = states["absent"]
    for name in ("index", "theme", "board"):
        assert "not yet run" in text(pages[name]), name
    assert "small: not yet run full: not yet run" in text(pages["chapter"])
    assert "No claim has been put to the test yet." in text(pages["index"])


def test_fresh_record_counts_the_claims_of_the_paper_and_apart_our_own(states):
    pages = states["fresh"]
    for name in ("index", "theme", "chapter"):
        shown = text(pages[name])
        assert "✓ 2 reproduced ✗ 1 not reproduced ≈ 1 inconclusive and 1 of our own" in shown, name
        assert "stale" not in shown.partition("Claims")[0], name
    for name in ("index", "chapter"):
        assert "7 min" in text(pages[name])
    shown = text(pages["index"])
    assert "4 statements of 1 paper, tested at laptop scale in 4 settings" in shown
    assert "1 comparison of our own is counted apart" in shown


def test_numbers_of_a_fresh_record(states):
    shown = text(states["fresh"]["theme"]).replace("\xa0", " ").replace("&nbsp;", " ")
    assert "first 2.10, second 1.00 points" in shown
    assert "difference +1.10 [+0.85, +1.35] points" in shown
    assert "(95 % interval, n = 3)" in shown
    assert re.search(r"15.1 points \(Figure 3\)", shown)
    assert "gives no single number" in shown
    shown = text(states["fresh"]["board"])
    assert "cpu (a processor)" in shown
    assert "2026-01-31" in shown


def test_replications_of_the_same_code_count_and_say_where_a_verdict_moved(states):
    shown = text(states["fresh"]["theme"])
    assert shown.count("1 of 1 replication agrees") == 4
    assert "≈ inconclusive 0 of 1 replication agrees; reproduced on NVIDIA H100" in shown
    assert "T4" not in shown
    board = text(states["fresh"]["board"])
    assert "Replicated on NVIDIA H100: 2026-01-31, 7 min 11 s" in board
    for pages in (states["stale"], states["absent"]):
        assert "replication" not in text(pages["theme"])
        assert "Replicated" not in text(pages["board"])


def test_stale_record_shows_no_verdict_on_cards(states):
    pages = states["stale"]
    for name in ("index", "theme", "board", "chapter"):
        assert "stale: the code has changed" in text(pages[name]), name
    assert "2 reproduced" not in text(pages["index"])


def test_claims_of_a_theme_link_to_those_of_the_notebook_and_badges_back(states):
    pages = states["fresh"]
    assert f'href="../../notebooks/choosing-data/{CHAPTER}.html#table-of-claims"' in pages["theme"]
    assert 'id="table-of-claims"' in pages["chapter"]
    back = f"book/themes/choosing-data.html#claims-of-{CHAPTER}"
    assert f'href="../../{back}"' in pages["chapter"]
    assert f'href="{back.removeprefix("book/")}"' in pages["index"]
    assert f'id="claims-of-{CHAPTER}"' in pages["theme"]


def test_chapters_without_a_notebook_are_in_preparation_and_not_linked(states):
    page = states["fresh"]["index"]
    assert text(page).count("in preparation") == 1
    assert "clip.html" not in page
    assert f'href="../notebooks/choosing-data/{CHAPTER}.html"' in page


def test_labs_stand_under_their_theme_and_those_to_come_are_named(states):
    page = states["fresh"]["index"]
    assert "Choosing data DATM : Match them." in text(page)
    assert page.count('<li class="chapter-card') == 2
    theme = text(states["fresh"]["theme"])
    assert theme.index("Title of rs2") < theme.index("Title of datm")
    assert "1 lab to come CLEAR (Chen & Mueller 2024): filter" in theme.replace("&amp;", "&")


def test_a_theme_with_a_lab_shows_how_labs_compare(states):
    before, _, after = text(states["fresh"]["theme"]).partition("How the labs compare")
    assert "1 lab to come" in before
    for words in ("def measure (", "def tune (", "Of equally good settings the first wins"):
        assert words in after, words


def test_the_map_leads_to_the_notebooks_that_are_there(states):
    page = states["fresh"]["map"]
    assert "4 papers in 2 themes: 1 chapter, 1 lab, 2 labs to come" in text(page)
    assert f'href="../notebooks/choosing-data/{LAB}.html">Title of datm</a>' in page
    assert "clear.html" not in page


def test_a_wrong_catalogue_stops_the_build_with_one_sentence(small, states):
    (small / "book/catalogue.yml").write_text(CATALOGUE.replace("kind: lab", "kind: lap", 1))
    status, output = build(small)
    assert status != 0
    wrong = "Error: book/catalogue.yml, row 'datm': kind is 'lap'; expected one of chapter, lab"
    assert f"\n{wrong}" in f"\n{output}"
    assert "Traceback" not in output


def test_a_record_that_was_touched_is_stale_and_a_malformed_one_is_left_out(small, tmp_path):
    root = tmp_path / "book"
    shutil.copytree(small, root, ignore=shutil.ignore_patterns("_build", "results"))
    (root / "book/catalogue.yml").write_text(CATALOGUE, "utf-8")  # other tests spoil it
    path = root / f"results/choosing-data/{CHAPTER}.small.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    file = notebooks.path(CHAPTER, root)
    own = record(staleness.fingerprint(CHAPTER, root))
    path.write_text(records.sealed(own, notebooks.read(file), "").to_json(), "utf-8")

    def seen():
        runs.all_runs.cache_clear()
        return [run.stale for run in runs.all_runs(root)]

    assert seen() == [False]
    content, count = file.read_text("utf-8"), '"execution_count": null'
    file.write_text(content.replace(count, '"execution_count": 9'), "utf-8")
    assert seen() == [True]
    file.write_text(content, "utf-8")
    path.with_suffix(".history.jsonl").write_text("an invented line\n", "utf-8")
    assert seen() == [True]
    assert runs.superseded(root, runs.all_runs(root)[0].paper) == []
    path.with_suffix(".h100.json").write_text("{", "utf-8")
    assert seen() == [True]
    path.write_text("{", "utf-8")
    assert seen() == []
    assert len(records.malformed(root)) == 3


def test_numbers_below_zero_have_a_minus_sign():
    assert (
        templates.words("zero-shot by -2.6 %, of CIFAR-10") == "zero-shot by −2.6\xa0%, of CIFAR-10"
    )
