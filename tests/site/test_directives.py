"""What cards, badges and scoreboard say about records that are absent, fresh or stale."""

import json
import re

import pytest
from building import build, copy_book

from press import staleness

CHAPTER = "rs2"
VERDICTS = ["reproduced", "reproduced", "not reproduced", "inconclusive"]


def claim(number, verdict):
    return {
        "id": f"claim-{number}",
        "statement": f"Statement number {number} with $r = 1$ %",
        "where": "Section 4",
        "paper": {"value": 15.1, "unit": "points", "source": "Figure 3"} if number else None,
        "arms": ["first", "second"],
        "direction": "greater",
        "margin": 0.25,
        "unit": "points",
        "values": {"first": [2.0, 3.0, 4.0], "second": [1.0, 1.5, 2.0]},
        "difference": {"mean": 1.5, "low": 0.25, "high": 2.75, "confidence": 0.95, "n": 3},
        "verdict": verdict,
    }


def record(profile, fingerprint):
    return {
        "schema": 1,
        "chapter": CHAPTER,
        "title": "A title",
        "profile": profile,
        "seeds": [0, 1, 2],
        "finished": "2026-01-31T16:00:00Z",
        "duration_s": 431.2,
        "peak_memory_mb": 812,
        "environment": {
            "python": "3.11.7",
            "torch": "2.11.0",
            "torchvision": "0.26.0",
            "numpy": "2.4.6",
            "labutils": "0.1.0",
            "device": "cpu (a processor, 2 threads)",
            "platform": "Linux-x86_64",
        },
        "fingerprint": fingerprint,
        "settings": {},
        "claims": [claim(number, verdict) for number, verdict in enumerate(VERDICTS)],
        "numbers": {},
    }


def notebook():
    def cell(kind, source, tags=()):
        made = {"cell_type": kind, "id": f"c{len(source)}", "source": source}
        made["metadata"] = {"tags": list(tags)}
        return made | ({"execution_count": None, "outputs": []} if kind == "code" else {})

    return {
        "cells": [
            cell("markdown", f"# A chapter\n\n```{{chapter-badges}} {CHAPTER}\n```"),
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
def states(tmp_path_factory):
    """{state: {page: html}} of a small book without records, with fresh, and with stale ones."""
    book = copy_book(tmp_path_factory.mktemp("directives") / "book")
    (book / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nchapters:\n"
        f"  - file: notebooks/{CHAPTER}\n  - file: book/scoreboard\n  - file: book/how-to-use\n"
    )
    index = "# Index\n\n```{chapter-cards}\n```\n"
    (book / "book/index.md").write_text(index, "utf-8")
    (book / "book/how-to-use.md").write_text("# Other\n", "utf-8")
    (book / "notebooks").mkdir(exist_ok=True)
    (book / f"notebooks/{CHAPTER}.ipynb").write_text(json.dumps(notebook()), "utf-8")
    for old in (book / "results").rglob("*.json"):
        old.unlink()
    found = {}
    fresh = staleness.fingerprint(CHAPTER, book)
    for state, mark in (("absent", None), ("fresh", fresh), ("stale", "0" * 16)):
        if mark:
            path = book / f"results/small/{CHAPTER}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(record("small", mark)), "utf-8")
        # The second and third builds reuse the first: what changed must show all the same.
        status, output = build(book)
        assert status == 0, output
        html = book / "_build/html"
        found[state] = {
            page: (html / page).read_text("utf-8")
            for page in ("book/index.html", "book/scoreboard.html", f"notebooks/{CHAPTER}.html")
        }
    return found


def test_no_record(states):
    pages = states["absent"]
    assert "not yet run" in text(pages["book/index.html"])
    assert "Not yet run" in text(pages["book/scoreboard.html"])
    assert "small: not yet run" in text(pages[f"notebooks/{CHAPTER}.html"])


def test_fresh_record(states):
    pages = states["fresh"]
    for page in ("book/index.html", f"notebooks/{CHAPTER}.html"):
        shown = text(pages[page])
        assert "2 reproduced" in shown
        assert "1 not reproduced" in shown
        assert "1 inconclusive" in shown
        assert "7 min" in shown
        assert "stale" not in shown
    board = text(pages["book/scoreboard.html"])
    assert "first 3.00, second 1.50 points" in board
    assert "difference +1.50 [+0.25, +2.75] points (95 % interval, n = 3)" in board
    assert "15.1 points (Figure 3)" in board
    assert "gives no single number" in board
    assert "cpu (a processor, 2 threads)" in board
    assert "finished 2026-01-31" in board


def test_stale_record_shows_no_verdict_on_cards(states):
    pages = states["stale"]
    for page, html in pages.items():
        assert "stale: the code has changed" in text(html), page
    assert "2 reproduced" not in text(pages["book/index.html"])


def test_scoreboard_links_to_the_claims_of_the_chapter(states):
    assert f"../notebooks/{CHAPTER}.html#claims" in states["fresh"]["book/scoreboard.html"]
    assert 'id="claims"' in states["fresh"][f"notebooks/{CHAPTER}.html"]


def test_chapters_without_a_notebook_are_in_preparation_and_not_linked(states):
    page = states["fresh"]["book/index.html"]
    assert text(page).count("in preparation") == 4
    assert "clip.html" not in page
    assert f"../notebooks/{CHAPTER}.html" in page
