"""Reads a stored record, and refuses by name what no run wrote."""

import json
from pathlib import Path
from types import UnionType
from typing import get_args, get_origin, get_type_hints

from labutils.claims import RUN, SCHEMA, Claim, Record, RecordError, digest, expect, finite


def read(path):
    """Return the ``Record`` in a file.

    Raises ``FileNotFoundError``, and ``RecordError`` if it is malformed.
    """
    try:
        return parse(Path(path).read_bytes(), str(path))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}") from None


def parse(text, name):
    """Return the record that ``Record.to_json`` wrote as this text.

    Raises ``RecordError``, in which ``name`` stands for the file.
    """
    try:
        content = json.loads(text)
        found = content.get("schema") if isinstance(content, dict) else [content]
        expect(found == SCHEMA, "schema", SCHEMA, found)
        stored = content.pop("digest", None)
        said, run = {**content}, content.pop("run", None)
        expect(isinstance(run, dict) and {*run} == {*RUN}, "run", f"the fields {RUN}", run)
        content |= run
        check_fields(Record, content, "")
        seeds = content["seeds"]
        distinct = seeds and [*map(type, seeds)] == [int] * len({*seeds}) and min(seeds) >= 0
        expect(distinct, "seeds", "distinct integers >= 0", seeds)
        named = [isinstance(v, str) for v in content["environment"].values()]
        good = all(named) and "device" in content["environment"]
        expect(good, "environment", "texts, a device among them", content["environment"])
        for place, claim in enumerate(content["claims"]):
            check_fields(Claim, claim, f"claims[{place}].")
            claim, most = Claim(**claim), len(seeds)
            claim.check(min(claim.n or most, most), f"claims[{place}].")
            once = [other["id"] for other in content["claims"][: place + 1]].count(claim.id)
            expect(once == 1, f"claims[{place}].id", "a name of its own", claim.id)
        for key, number in content["numbers"].items():
            good = isinstance(number, dict) and finite(number.get("value"))
            expect(good, f"numbers.{key}", "a finite value and its unit", number)
        expect(stored == digest(said), "digest", "that of the content: it changed", stored)
    except (ValueError, TypeError, RecursionError) as error:
        raise RecordError(
            f"{name} is not a record: {error}; restore it, or delete it and run again"
        ) from None
    claims = [Claim(**claim) for claim in content.pop("claims")]
    return Record(claims=claims, **content)


def check_fields(kind, content, place):
    """Raise ``RecordError`` unless a dict has the fields of a dataclass, of their types."""
    hints = get_type_hints(kind)
    expected = f"the fields {', '.join(hints)}"
    expect(isinstance(content, dict), place.rstrip("."), expected, content)
    for name in sorted(set(content) ^ set(hints)):
        expect(False, f"{place}{name}", expected, list(content))
    for name, hint in hints.items():
        kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        kinds = tuple((int, float) if k is float else get_origin(k) or k for k in kinds)
        expect(isinstance(content[name], kinds), f"{place}{name}", hint, content[name])
