"""Damaged and forged files: every parser ends with what it documents, or reads the file.

The ordinary tests try each parser a few hundred times, `make soak` for FUZZ_SECONDS (600) each.
Three kinds of change: of bytes; of the tree of values that JSON or YAML holds; and of what stands
under a digest, which is then made anew, since a digest that does not fit hides the parser.
"""

import hashlib
import io
import json
import lzma
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache, partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import click
import numpy as np
import pytest
import torch
import yaml
from pybtex import database

from labutils import kept, training
from labutils.claims import RecordError, digest
from labutils.data import DataError, emoji, images
from press import PressError, catalogue, digests, notebooks, outputs, reader, records
from press.__main__ import parse_seeds

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "results/image-text/loki.small.json"
TOKENS = (b"", b"\0", b"\xff\xfe", b"{", b"}", b"[", b"]", b'"', b"'", b":", b"- ", b"\n", b"NaN",
          b"Infinity", b"-1", b"1e999", b"null", b"true", b"\\ud800", b"&a ", b"*a",
          b"!!python/object:os.system ", b"0" * 50, b"9" * 5000, b"[" * 2000,
          "\u202e\u0663".encode())  # fmt: skip
VALUES = (None, True, -1, 2**70, 1.5, float("nan"), "", "a", "\ud800", [], [[]], {}, {"a": None})


def change_bytes(content: bytes, rng: random.Random) -> bytes:
    """One to four changes: a flipped bit, a cut, a piece removed, doubled or written over."""
    content = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        start = rng.randint(0, len(content))
        end = min(len(content), start + rng.choice((1, 4, 16, 256)))
        kind = rng.randrange(6)
        if kind == 0 and start < len(content):
            content[start] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del content[start:]
        elif kind == 2:
            del content[start:end]
        elif kind == 3:
            content[start:start] = content[start:end]
        else:
            content[start : end if kind == 4 else start] = rng.choice(TOKENS)
    return bytes(content)


def change_tree(tree, rng: random.Random):
    """One to three changes of a tree of dicts and lists: a value replaced, removed or doubled."""
    for _ in range(rng.randint(1, 3)):
        tree = _change_one(tree, rng)
    return tree


def _change_one(tree, rng):
    inner = (
        list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    )
    if not inner or rng.random() < 0.08:
        return rng.choice(VALUES)
    key = rng.choice(list(inner))
    kind, tree = rng.randrange(8), tree.copy()
    if kind == 0:
        del tree[key]
    elif kind == 1 and isinstance(tree, dict):
        tree[rng.choice(("", "a", "cells", "values"))] = tree[key]
    elif kind == 1:
        tree.insert(key, tree[key])
    else:
        tree[key] = _change_one(tree[key], rng)
    return tree


@dataclass
class Parser:
    """read: of a file; good: its content; wrong: the documented errors; others: more changes."""

    read: Callable[[Path], object]
    good: bytes
    wrong: tuple[type[Exception], ...]
    name: str = "file"
    changes: tuple[Callable, ...] = (change_bytes,)


def of_json(sign: Callable = lambda tree: tree):
    """A change of the tree of a JSON file; `sign` makes its digest anew."""
    return lambda content, rng: json.dumps(sign(change_tree(json.loads(content), rng))).encode()


def sign_record(tree):
    if isinstance(tree, dict):
        tree.pop("digest", None)
        try:
            tree["digest"] = digest(tree)
        except (ValueError, TypeError):
            tree["digest"] = "0"
    return tree


def sign_kept(content: bytes, rng: random.Random) -> bytes:
    body = change_bytes(content[: -digests.HEXADECIMAL], rng)
    return body + hashlib.sha256(body).hexdigest().encode()


def change_line(content: bytes, rng: random.Random) -> bytes:
    """A change of the tree of one line of a .jsonl."""
    lines = content.splitlines()
    place = rng.randrange(len(lines))
    lines[place] = json.dumps(change_tree(json.loads(lines[place]), rng)).encode()
    return b"\n".join(lines) + b"\n"


def change_content(content: bytes, rng: random.Random) -> bytes:
    """A change of the tree that `kept.write` was given."""
    tree = torch.load(io.BytesIO(content), weights_only=True)
    with TemporaryDirectory() as folder:
        kept.write(change_tree(tree, rng), Path(folder, "a"))
        return Path(folder, "a").read_bytes()


def change_yaml(content: bytes, rng: random.Random) -> bytes:
    return yaml.safe_dump(change_tree(yaml.safe_load(content), rng)).encode()


def repack(pack: Callable, unpack: Callable):
    """A change of what is packed."""
    return lambda content, rng: pack(change_bytes(unpack(content), rng))


def change_array(content: bytes, rng: random.Random) -> bytes:
    """Another type, shape or name of an array in an .npz."""
    arrays = dict(np.load(io.BytesIO(content)))
    name = rng.choice(sorted(arrays))
    array = arrays.pop(name)
    changes = (
        lambda x: x[:1], lambda x: x[..., None], lambda x: x.ravel()[:7], lambda x: x.astype(str),
        lambda x: x == x[:1], lambda x: np.zeros(0), lambda x: x[None], lambda x: x[::-1],
    )  # fmt: skip
    arrays[rng.choice((name, name, "a"))] = rng.choice(changes)(array)
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


# --- the parsers ----------------------------------------------------------------------------------


def checkpointed(path: Path):
    """A short training with a checkpoint, or what is left of it."""
    model, generator = torch.nn.Linear(3, 2), torch.Generator()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    x = torch.ones(4, 3)
    return training.train(
        model, lambda k: model(x).square().mean(), 3, optimizer, lambda k: 0.1,
        generators=[generator], evaluate=lambda: 1.0, evaluate_steps=(1,), checkpoint=path,
    )  # fmt: skip


def made(function: Callable, path: Path) -> bytes:
    function(path)
    return path.read_bytes()


def read_mini(path: Path):
    images._read.cache_clear()
    return images._read(images.MINI, path.parent)


def mini(folder: Path) -> bytes:
    """The packaged images, fewer of them, as a small file is tried more often."""
    arrays = np.load(images.ASSETS / f"{images.MINI}.npz")
    np.savez(folder / "few.npz", **{name: array[:30] for name, array in arrays.items()})
    return (folder / "few.npz").read_bytes()


PICTURES = "emoji-core.npz.xz"


def read_pictures(path: Path):
    """Of a package whose file is the one at `path`."""
    emoji._read.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emoji, "ASSETS", path.parent)
        return emoji._read(path.name.partition(".")[0])


def read_history(book: Path):
    """As the scoreboard does it, and as the download of all results."""
    found = records.read_history("loki", "small", book)
    return json.dumps([[asdict(run), Counter(c["verdict"] for c in run.claims)] for run in found],
                      allow_nan=False)  # fmt: skip


def read_notebook(path: Path):
    """With its code cells and title, which the commands look at first."""
    tree = notebooks.read(path)
    return notebooks.code_cells(tree), outputs.title(tree), digests.of_outputs(tree)


def pictures() -> bytes:
    """A file of pictures with two of each style."""
    arrays = dict(np.load(io.BytesIO(lzma.decompress((emoji.ASSETS / PICTURES).read_bytes()))))
    rows = {name: array[:40] for name, array in arrays.items() if name != "style_names"}
    stream = io.BytesIO()
    np.savez(stream, **rows, style_names=arrays["style_names"])
    return lzma.compress(stream.getvalue(), preset=0)


def small_book(folder: Path) -> Path:
    """What `catalogue.load` reads, its notebooks with their titles only."""
    for file in (*catalogue.BIBLIOGRAPHIES, catalogue.FILE):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, folder / file)
    for file in (ROOT / "notebooks").glob("*/*.ipynb"):
        tree = notebooks.read(file)
        copy = folder / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(json.dumps(tree | {"cells": tree["cells"][:1]}))
    return folder


parsed = cache(database.parse_file)  # the bibliographies, which stay as they are


def read_catalogue(book: Path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "parse_file", parsed)
        return catalogue.load(book)


def notebook() -> bytes:
    tree = json.loads((ROOT / "notebooks/image-text/loki.ipynb").read_text("utf-8"))
    cells = [cell for cell in tree["cells"] if cell.get("outputs")][:3]
    return json.dumps({**tree, "cells": [*tree["cells"][:4], *cells]}).encode()


def history(folder: Path) -> bytes:
    record = reader.read(RECORD)
    file = folder / "history"
    for _ in range(2):
        file.write_text(records.history_with(record, file))
        record.finished += "x"
    return file.read_bytes()


def result() -> dict:
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.float32(1), "c": torch.ones(3)}
    return {"rows": [(1, "a", None), (2, "b", True)], "arrays": arrays, 3: {1, 2}}


@pytest.fixture(scope="module")
def parsers(tmp_path_factory):
    """{name: Parser}."""
    folder = tmp_path_factory.mktemp("fuzz")
    few, book, package = mini(folder), small_book(folder / "book"), folder / "package"
    package.mkdir()
    (package / "assets").symlink_to(images.ASSETS)
    return {
        "record": Parser(
            reader.read, RECORD.read_bytes(), (RecordError,),
            changes=(change_bytes, of_json(), of_json(sign_record)),
        ),
        "history": Parser(
            lambda _: read_history(book), history(folder),
            (PressError,), str(records.history_path("loki", "small", book)),
            (change_bytes, change_line),
        ),
        "notebook": Parser(
            read_notebook, notebook(), (PressError,), changes=(change_bytes, of_json())
        ),
        "catalogue": Parser(
            lambda _: read_catalogue(book), (ROOT / catalogue.FILE).read_bytes(),
            (PressError,), str(book / catalogue.FILE), (change_bytes, change_yaml, change_yaml),
        ),
        "sums of assets": Parser(
            lambda path: digests.check_assets(path.parent),
            (ROOT / "labutils/assets.sha256").read_bytes(), (PressError,),
            str(package / "assets.sha256"),
        ),
        "kept result": Parser(
            kept.load, made(partial(kept.save, result()), folder / "kept"), (ValueError,),
            changes=(change_bytes, sign_kept, change_content),
        ),
        "checkpoint": Parser(
            checkpointed, made(checkpointed, folder / "run"), (training.CheckpointError,),
            changes=(change_bytes, sign_kept),
        ),
        "packaged images": Parser(
            read_mini, few, (DataError,), f"{images.MINI}.npz", (change_bytes, change_array)
        ),
        "packaged pictures": Parser(
            read_pictures, pictures(), (DataError,), PICTURES,
            (change_bytes, repack(lzma.compress, lzma.decompress),
             lambda content, rng: lzma.compress(change_array(lzma.decompress(content), rng))),
        ),
        "seeds": Parser(
            lambda path: parse_seeds(path.read_text("utf-8", "replace")), b"0-9, 13,15-17,12",
            (click.BadParameter,),
        ),
    }  # fmt: skip


NAMES = ("record", "history", "notebook", "catalogue", "sums of assets", "kept result",
         "checkpoint", "packaged images", "packaged pictures", "seeds")  # fmt: skip


def fuzz(parser: Parser, name: str, folder: Path, end: Callable[[int], bool]):
    """Change, read, until `end`; any other error than the documented fails with its input."""
    file = folder / parser.name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(parser.good)
    parser.read(file)
    refused, tries = [], 0
    for tries in count():
        if end(tries):
            break
        rng = random.Random(f"{name} {tries}")
        file.write_bytes(content := rng.choice(parser.changes)(parser.good, rng))
        try:
            parser.read(file)
        except parser.wrong as error:
            refused.append(str(error))
        except Exception as error:
            found = folder / f"{name}-{tries}"
            found.write_bytes(content)
            raise AssertionError(f"{name}, try {tries}: {error!r} of {found}") from error
    print(f"{name}: {tries} tries, {len(refused)} refused")
    assert len(refused) > tries / 5
    assert all(refused)


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_read_or_refused_with_the_documented_error(name, parsers, tmp_path):
    assert set(NAMES) == set(parsers)
    fuzz(parsers[name], name, tmp_path, lambda tries: tries == 50)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", NAMES)
def test_parsers_for_minutes(name, parsers, tmp_path):
    seconds, start = float(os.environ.get("FUZZ_SECONDS", "600")), monotonic()
    fuzz(parsers[name], name, tmp_path, lambda _: monotonic() - start > seconds)
