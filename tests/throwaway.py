"""Throw-away books for the tests of the press."""

import json

from labutils.claims import Claim, Record, digest

# A notebook's end: two arms drawn from its seeds, saved as a record without importing labutils.
SAVE = """\
import hashlib, json, os, pathlib, random
record = json.loads({record!r})
record["profile"] = os.environ["LABUTILS_PROFILE"]
record["seeds"] = list(globals().get("seeds") or [0, 1, 2])
rngs = [random.Random(seed) for seed in record["seeds"]]
for claim in record["claims"]:
    claim["values"] = {{arm: [r.gauss(m, 0.3) for r in rngs] for arm, m in (("A", 3), ("B", 0))}}
record["numbers"]["width"]["value"] = 2.0 + record["seeds"][0]
del record["digest"]
text = json.dumps(record, sort_keys=True)
record["digest"] = hashlib.sha256(text.encode()).hexdigest()[:32]
file = pathlib.Path(os.environ["LABUTILS_RESULTS"], "{name}." + record["profile"] + ".json")
file.parent.mkdir(parents=True, exist_ok=True)
file.write_text(json.dumps(record));"""


def record(notebook="a", seeds=(0, 1, 2), rival="B", **changes):
    """A valid ``Record`` of one claim and one number."""
    seeds = list(seeds)
    values = {"A": [1.0 + 0.1 * seed for seed in seeds], rival: [0.0 for _ in seeds]}
    claim = Claim(
        "better", f"A beats {rival}", "paper", True, "here", list(values), "greater", 0.0,
        "points", values, {"value": 3, "source": "Table 1"},
    )  # fmt: skip
    given = {
        "settings": {"n": 1},
        "environment": {"device": "cpu"},
        "claims": [claim],
        "numbers": {"width": {"value": 2.0 + seeds[0], "unit": "cm"}},
        "finished": "2026-01-02T03:04:05Z",
        "duration_s": 10.0,
        "fingerprint": "f",
    }
    return Record(notebook=notebook, **{"profile": "small", "seeds": seeds, **given, **changes})


def digest_anew(file):
    """Give a record that was edited the digest of what it says now."""
    content = json.loads(file.read_text("utf-8"))
    content.pop("digest", None)
    content["digest"] = digest(content)
    file.write_text(json.dumps(content), "utf-8")


class Book:
    """A book of tiny notebooks with a labutils of its own (one module, ``helper``)."""

    def __init__(self, root):
        self.root = root
        (root / "notebooks" / "theme").mkdir(parents=True)
        (root / "labutils").mkdir()
        (root / "labutils" / "__init__.py").write_text('"""A labutils."""\n')
        (root / "labutils" / "helper.py").write_text("def double(x):\n    return 2 * x\n")
        address = "repository:\n  url: https://example.org/book\n  branch: main\n"
        (root / "_config.yml").write_text(address)

    def notebook(self, name):
        return self.root / "notebooks" / "theme" / f"{name}.ipynb"

    def write(self, name, *cells):
        """Write a notebook and return its path; a cell is a source, or its tags and its source."""
        made = []
        for number, cell in enumerate(cells):
            tags, source = cell if isinstance(cell, tuple) else ("", cell)
            made.append(
                {
                    "cell_type": "code",
                    "id": f"c{number}",
                    "metadata": {"tags": tags.split()} if tags else {},
                    "execution_count": None,
                    "outputs": [],
                    "source": source,
                }
            )
        title = {
            "cell_type": "markdown",
            "id": "title",
            "metadata": {},
            "source": f"# About {name}",
        }
        notebook = {"cells": [title, *made], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        self.notebook(name).write_text(json.dumps(notebook))
        return self.notebook(name)

    def chapter(self, name, *cells):
        """Write a notebook that ends by saving a record."""
        return self.write(name, *cells, SAVE.format(name=name, record=record(name).to_json()))

    def seeded(self, name, *cells):
        """Like ``chapter``, with parameters, for sweeps."""
        return self.chapter(name, ("parameters", 'profile = "small"\nseeds = None'), *cells)
