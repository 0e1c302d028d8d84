"""Bad input of each public function and command: one sentence that says what was wrong."""

import json
import math
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from labutils import (
    augment,
    checks,
    clip_emoji,
    data,
    evaluation,
    formats,
    image_text,
    models,
    protocol,
    statistics,
)
from labutils.augment import strong, views
from labutils.claims import Ledger, RecordError
from labutils.data import DataError, emoji, images
from labutils.start import start
from labutils.training import cosine_schedule, train
from press import __main__ as command_line
from press import reader

NAN, INF = math.nan, math.inf


def g():
    return torch.Generator().manual_seed(0)


U8 = torch.zeros(4, 1, 28, 28, dtype=torch.uint8)
RGB8 = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
F32 = torch.rand(4, 1, 28, 28)
RGB = torch.rand(4, 3, 8, 8)
LABELS, FOUR = torch.tensor([0, 1, 0, 1]), torch.ones(4)
SCORES = torch.eye(2)[LABELS]
NET = models.build("cnn-tiny", 1, 2, g())

# --- values that no argument of a kind takes: (value, error, piece of the sentence) ---------------

GENERATORS = [
    (value, TypeError, "expects generator (torch.Generator().manual_seed(0)), got")
    for value in (None, 3, "0", np.random.default_rng(0), torch.Generator)
]


def whole(name, least):
    said = f"expects {name} >= {least} (whole), got"
    wrong = [(value, TypeError, said) for value in (1.5, "3", None, NAN, True, torch.ones(2))]
    return [*wrong, (least - 1, ValueError, said), (-(10**9), ValueError, said)]


def number(name, sign=">"):
    said = f"expects {name} {sign} 0.0 (finite), got"
    wrong = [(value, TypeError, said) for value in ("3", None, True, FOUR)]
    wrong += [(value, ValueError, said) for value in (NAN, INF, -INF, -1, -1e-9)]
    return [*wrong, *([(0, ValueError, said)] if sign == ">" else [])]


def tensor(name, good, dtypes=(), sizes=True):
    """No tensor, other dtypes, one dimension more or less, another number of rows."""
    said = f"expects {name}"
    wrong = [(value, TypeError, said) for value in (None, 3, good.tolist(), good.numpy())]
    wrong += [(good.to(dtype), TypeError, said) for dtype in dtypes]
    wrong += [(good[0], ValueError, said), (good[None], ValueError, said)]
    return wrong + ([(good[:3], ValueError, said)] if sizes else [])


REALS, WHOLES = (torch.float32, torch.float64), (torch.uint8, torch.int64)

# --- functions: their good arguments, and what each of them refuses -------------------------------

FUNCTIONS = {
    "augment.normalise": (
        augment.normalise, {"images": U8, "mean": (0.5,), "std": (0.5,)}, {
            "images": [*tensor("images", U8, (*REALS, torch.int64, torch.bool), sizes=False),
                       (RGB8, ValueError, "(4, 3, 8, 8), 1 means, 1 stds")],
            "mean": [((0.5, 0.5), ValueError, "2 means"), ((), ValueError, "0 means")],
            "std": [((0.5, 0.5), ValueError, "2 stds"), ((0,), ValueError, "std > 0.0"),
                    ((NAN,), ValueError, "std > 0.0"), ((-1.0,), ValueError, "std > 0.0"),
                    (("a",), TypeError, "std > 0.0"), (None, TypeError, "std > 0.0")],
        }),
    "augment.pad_crop_flip": (
        augment.pad_crop_flip, {"images": U8, "padding": 2, "generator": g()}, {
            "images": tensor("images", U8, sizes=False),
            "padding": whole("padding", 0), "generator": GENERATORS,
        }),
    "augment.crop_flip": (
        augment.crop_flip,
        {"images": U8, "padding": 2, "top": LABELS, "left": LABELS, "flipped": LABELS}, {
            "images": tensor("images", U8, sizes=False),
            "top": tensor("top (N,)", LABELS), "left": tensor("left (N,)", LABELS),
        }),
    "strong.strong_augment": (
        strong.strong_augment, {"images": U8, "generator": g(), "num_operations": 2}, {
            "images": [(F32, TypeError, "uint8 images 0..255, got torch.float32"),
                       (U8[0], ValueError, "(N, 1 or 3, H, W), got (1, 28, 28)"),
                       (U8.expand(4, 2, 28, 28), ValueError, "(N, 1 or 3, H, W)")],
            "generator": GENERATORS, "num_operations": whole("num_operations", 0),
        }),
    "strong.apply": (
        strong.apply, {"images": U8, "operations": LABELS, "magnitudes": FOUR}, {
            "operations": [(LABELS[:3], ValueError, "K = 1, N = 3"), (FOUR, TypeError, "int (K"),
                           (LABELS[None, None], ValueError, "operations int (K, N)")],
            "magnitudes": [(FOUR[:3], ValueError, "magnitudes (K, N) (K = 1, N = 4)"),
                           (torch.ones(2, 4), ValueError, "magnitudes (K, N)")],
            "images": [(U8[:3], ValueError, "magnitudes (K, N) (N = 3")],
        }),
    "strong.cutout": (
        strong.cutout, {"images": U8, "x": FOUR, "y": FOUR, "side": FOUR}, {
            "images": tensor("images", U8, sizes=False), "x": tensor("x (N,)", FOUR),
            "y": tensor("y (N,)", FOUR),
            "side": [(FOUR[:3], ValueError, "side (N,) (N = 4"), (FOUR[0], ValueError, "side")],
        }),
    "views.Recipe": (
        views.Recipe, {}, {
            "scale": [((0, 1), ValueError, "scale = (0, 1)"), ((0.5, 1.5), ValueError, "scale ="),
                      ((0.9, 0.1), ValueError, "ranges 0 < low <= high"),
                      ((NAN, 1), ValueError, "scale =")],
            "aspect": [((0, 1), ValueError, "aspect ="), ((2, 1), ValueError, "aspect =")],
            "blur_sigma": [((0, 1), ValueError, "blur_sigma ="), ((-1, 1), ValueError, "sigma =")],
            "strength": [(-1, ValueError, "strength in 0..1.25"), (NAN, ValueError, "= nan")],
            "flip_probability": [(v, ValueError, "probabilities in 0..1") for v in (-1, 2, NAN)],
            "jitter_probability": [(1.5, ValueError, "jitter_probability = 1.5")],
            "grey_probability": [(INF, ValueError, "grey_probability = inf")],
            "blur_probability": [(-0.1, ValueError, "blur_probability = -0.1")],
        }),
    "views.two_views": (
        views.two_views, {"images": RGB, "recipe": views.Recipe(), "generator": g()}, {
            "images": [*tensor("images", RGB, sizes=False)[:2], (RGB[0], ValueError, "(N, C"),
                       (RGB.long(), TypeError, "uint8 (0..255) or float (0..1), got torch.int64")],
            "generator": GENERATORS,
        }),
    "views.random_view": (
        views.random_view, {"images": RGB, "recipe": views.Recipe(), "generator": g()}, {
            "images": [(RGB[None], ValueError, "images (N, C, H, W)")], "generator": GENERATORS,
        }),
    "views.crop_boxes": (
        views.crop_boxes,
        {"n": 3, "height": 8, "width": 8, "recipe": views.Recipe(), "generator": g()}, {
            "n": whole("n", 0), "height": whole("height", 1), "width": whole("width", 1),
            "generator": GENERATORS,
        }),
    "views.grey": (views.grey, {"images": RGB}, {
        "images": [*tensor("images", RGB, sizes=False),
                   (F32, ValueError, "images (N, 3, H, W) (N = 4, H = 28, W = 28), got")]}),
    "views.gaussian_blur": (
        views.gaussian_blur, {"images": RGB, "sigma": FOUR, "reach": 1}, {
            "images": tensor("images float", RGB, WHOLES, sizes=False),
            "sigma": tensor("sigma (N,)", FOUR), "reach": whole("reach", 0),
        }),
    "data.load": (
        data.load, {"name": data.MINI, "num_validation": 10, "generator": g()}, {
            "name": [(name, ValueError, "unknown data set") for name in ("mnist", "", None, 3)],
            "num_validation": [*whole("num_validation", 0),
                               (10**9, ValueError, "num_validation must be below")],
            "generator": GENERATORS,
        }),
    "data.fetch": (data.fetch, {"name": data.MINI}, {
        "name": [("CIFAR10", ValueError, "expected one of: fashion-mnist, cifar10, cifar100")]}),
    "data.read": (images.read, {"name": data.MINI}, {
        "name": [("cifar", ValueError, "unknown data set 'cifar'")]}),
    "data.stratified_split": (
        data.stratified_split, {"labels": LABELS, "sizes": [1, 2], "generator": g()}, {
            "labels": [*tensor("labels int (N,)", LABELS, (*REALS, torch.bool), sizes=False)[:2],
                       *tensor("labels int (N,)", LABELS, (*REALS, torch.bool), sizes=False)[4:],
                       (torch.tensor([NAN] * 4), TypeError, "labels int (N,)"),
                       (torch.zeros(0), TypeError, "labels int (N,)"),
                       (LABELS[:0], ValueError, "cannot split 0 examples")],
            "sizes": [([3, 3], ValueError, "cannot split 4 examples"),
                      ([-1], ValueError, "cannot split 4"), (2, TypeError, "sizes (a list)"),
                      (None, TypeError, "sizes (a list)"), ("12", TypeError, "sizes (a list)")],
            "generator": GENERATORS,
        }),
    "data.few_labels": (
        data.few_labels, {"labels": LABELS, "per_class": 2, "generator": g()}, {
            "labels": [*tensor("labels int (N,)", LABELS, (*REALS, torch.bool), sizes=False),
                       (torch.tensor([0, 0, 1]), ValueError, "class 1 has 1 examples, fewer")],
            "per_class": [*whole("per_class", 1), (3, ValueError, "class 0 has 2 examples")],
            "generator": GENERATORS,
        }),
    "emoji.load": (emoji.load, {}, {
        "styles": [(styles, ValueError, "load expects distinct styles of noto")
                   for styles in ((), ("noto", "noto"), ("other",), "noto", (None,))]}),
    "emoji.on_background": (
        emoji.on_background,
        {"rgba": torch.zeros(2, 4, 8, 8, dtype=torch.uint8), "colour": (0, 0, 0)}, {
            "rgba": [(RGB8, ValueError, "uint8 (N, 4, H, W)"),
                     (torch.zeros(2, 4, 8, 8), ValueError, "got torch.float32")],
            "colour": [(colour, ValueError, "a colour (3,) in 0..255")
                       for colour in ((0, 0), (0, 0, 256), (-1, 0, 0), (0.5, 0, 0), [[0, 0, 0]],
                                      (NAN, 0, 0))],
        }),
    "evaluation.accuracy": (
        evaluation.accuracy, {"scores": SCORES, "labels": LABELS}, {
            "scores": [*tensor("scores (N, C)", SCORES, sizes=False), (FOUR, ValueError, "(N, C)"),
                       (SCORES * NAN, ValueError, "without NaN"),
                       (SCORES.log() * 0, ValueError, "without NaN")],
            "labels": [*tensor("labels int (N,)", LABELS, (*REALS, torch.bool)),
                       (LABELS[:1], ValueError, "labels int (N,) (N = 4, C = 2), got"),
                       (LABELS[:, None], ValueError, "got (4, 1) of torch.int64")],
        }),
    "evaluation.accuracy without rows": (
        lambda rows: evaluation.accuracy(SCORES[:rows], LABELS[:rows]), {"rows": 4}, {
            "rows": [(0, ValueError, "accuracy expects rows of scores")]}),
    "evaluation.accuracy_of": (
        evaluation.accuracy_of, {"model": NET, "inputs": F32, "labels": LABELS}, {
            "labels": [(LABELS[:3], ValueError, "labels int (N"), (FOUR, TypeError, "labels")],
            "inputs": [(U8, TypeError, "images float (N, C, H, W)")],
        }),
    "evaluation.linear_probe": (
        evaluation.linear_probe, {"features": SCORES, "labels": LABELS, "strength": 1.0}, {
            "features": [(SCORES[None], ValueError, "dim 3"), (SCORES[:3], ValueError, "3, 4"),
                         (SCORES * NAN, ValueError, "NaN"), (SCORES / 0, ValueError, "NaN")],
            "labels": [(LABELS * 0, ValueError, "at least 2 classes"),
                       (LABELS - 1, ValueError, "labels 0 and up, got -1"),
                       (LABELS[:, None], ValueError, "labels int (N,)"),
                       (LABELS.float(), TypeError, "labels int (N,)"),
                       (LABELS.tolist(), TypeError, "labels int (N,)")],
            "strength": number("strength"),
        }),
    "models.build": (
        models.build, {"name": "cnn-tiny", "in_channels": 1, "num_classes": 2, "generator": g()}, {
            "name": [(name, ValueError, "unknown model") for name in ("cnn", "", None, 3)],
            "in_channels": whole("in_channels", 1), "num_classes": whole("num_classes", 1),
            "generator": GENERATORS,
        }),
    "models.initialise": (models.initialise, {"model": NET, "generator": g()}, {
        "model": [(v, TypeError, "expects model (a torch.nn.Module), got")
                  for v in (None, "cnn-tiny", models.TinyCNN, FOUR)],
        "generator": GENERATORS,
    }),
    "models.Classifier": (NET.eval(), {"x": F32}, {
        "x": tensor("images float (N, C, H, W)", F32, WHOLES, sizes=False)}),
    "training.cosine_schedule": (
        cosine_schedule, {"learning_rate": 0.1, "num_steps": 10}, {
            "learning_rate": number("learning_rate", ">="), "final": number("final", ">="),
            "num_steps": [(n, ValueError, "0 <= warmup_steps < num_steps") for n in (0, -1, NAN)],
            "warmup_steps": [(n, ValueError, "0 <= warmup_steps") for n in (-1, 10, 11, INF, NAN)],
        }),
    "statistics.mean_interval": (statistics.mean_interval, {"values": [1.0, 2.0]}, {
        "values": [((), ValueError, "values in one dimension"), ([[1, 2]], ValueError, "one dim"),
                   (3, ValueError, "values in one dimension"), ([1, NAN], ValueError, "finite"),
                   ([1, INF], ValueError, "finite values, got [1.0, inf]")],
    }),
    "statistics.judge": (
        statistics.judge, {"differences": [1.0, 2.0, 4.0], "direction": "greater"}, {
            "differences": [(v, ValueError, "judge expects finite differences (n,)")
                            for v in ([1, 2, NAN], [INF, 1, 2], [[1, 2, 3]], 3.0)],
            "direction": [(v, ValueError, "is not one of ('greater', 'less', 'equivalent')")
                          for v in ("bigger", "", None, "GREATER")],
            "margin": [(v, ValueError, "finite differences (n,) and margin") for v in (NAN, INF)],
        }),
    "protocol.measure": (
        protocol.measure,
        {"lab": SimpleNamespace(map=lambda function, jobs, _: [function(*job) for job in jobs]),
         "score": lambda seed, *_: {("a",): seed}, "places": {"": 0}, "settings": {"": {}},
         "seeds": [0, 1], "split": "test"}, {
            "seeds": [(v, ValueError, "expects seeds distinct >= 0 (whole), got")
                      for v in ([], [-1], [0, 0], [2, 1, 2], range(-1, 2))]
            + [(v, TypeError, "seeds distinct >= 0") for v in ([0.5], ["0"], "01", [True], [None])],
            "split": [(v, ValueError, 'is not one of ("validation", "test")')
                      for v in ("train", "", None, "Test")],
        }),
    "clip_emoji.Tokenizer": (clip_emoji.Tokenizer([]), {"texts": ["a cat"]}, {
        "texts": [(v, TypeError, "expects texts (a list), got") for v in ("a cat", None, 3)]}),
    "clip_emoji.features": (clip_emoji.features, {"style": "emojione"}, {
        "style": [(v, ValueError, "load expects distinct styles") for v in ("other", "", None)]}),
    "image_text.noisy_pool": (
        image_text.noisy_pool, {"seed": 0, "picture": torch.arange(50), "size": 8}, {
            "seed": whole("seed", 0), "size": whole("size", 1),
            "picture": [*tensor("picture int (M,)", torch.arange(50), (*REALS, torch.bool),
                                sizes=False),
                        (torch.zeros(3, dtype=int), ValueError, "pairs of two families or more")],
            "right": [(v, ValueError, "shares in 0..1 that sum") for v in (-0.1, 1.1, 2)],
            "worthless": [(v, ValueError, "shares in 0..1 that sum") for v in (-0.5, 0.1)],
        }),
    "image_text.tokenise": (image_text.tokenise, {"texts": ["a cat"]}, {
        "texts": [(v, TypeError, "expects texts (a list), got") for v in ("a cat", None, 3)]}),
    "image_text.SmallClip": (image_text.SmallClip, {"generator": g()}, {"generator": GENERATORS}),
    "image_text.clip_loss": (image_text.clip_loss, {"u": SCORES, "v": SCORES, "scale": 1.0}, {
        "u": tensor("u float (N, d)", SCORES, WHOLES, sizes=False),
        "v": [*tensor("v float (N, d)", SCORES, WHOLES),
              (torch.rand(4, 3), ValueError, "v float (N, d) (N = 4, d = 2), got")],
    }),
    "image_text.recall_at_k": (
        image_text.recall_at_k, {"scores": SCORES, "target": LABELS, "k": 1}, {
            "scores": tensor("scores (N, M)", SCORES, sizes=False),
            "target": tensor("target int (N,)", LABELS, (*REALS, torch.bool)),
            "k": whole("k", 1),
        }),
}  # fmt: skip

CALLS = [
    pytest.param(function, good, argument, value, error, said, id=f"{name}({argument}) {k}")
    for name, (function, good, refused) in FUNCTIONS.items()
    for argument, cases in refused.items()
    for k, (value, error, said) in enumerate(cases)
]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_good_arguments_are_taken(name):
    function, good, _ = FUNCTIONS[name]
    function(**good)


@pytest.mark.parametrize(("function", "good", "argument", "value", "error", "said"), CALLS)
def test_a_bad_argument_is_refused_in_one_sentence(function, good, argument, value, error, said):
    with pytest.raises(error) as caught:
        function(**good | {argument: value})
    assert said in str(caught.value)
    assert type(caught.value) is error


def test_there_are_many_cases():
    assert len(CALLS) + len(COMMANDS) + len(LEDGERS) + len(RECORDS) + len(STARTS) >= 300


# --- training, the start of a notebook, its ledger ------------------------------------------------


def trained(loss=lambda row: NET(F32[:2]).mean(), num_steps=2, inputs=(range(2),), **more):
    model = more.pop("model", NET)
    optimizer = torch.optim.SGD(NET.parameters(), 0.1)
    return train(model, loss, num_steps, optimizer, lambda k: 0.1, inputs=inputs, **more)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"loss": lambda row: 0.5}, TypeError, "expects loss float (), got 0.5"),
        ({"loss": lambda row: None}, TypeError, "expects loss float (), got None"),
        ({"loss": lambda row: NET(F32)}, ValueError, "loss float (), got (4, 2) of torch.float32"),
        ({"loss": lambda row: LABELS.sum()}, TypeError, "expects loss float ()"),
        ({"loss": lambda row: NET(F32).mean() * NAN}, FloatingPointError, "nan at step 0"),
        ({"inputs": (torch.zeros(1),)}, ValueError, "inputs of 2 rows, one a step, got [1]"),
        ({"inputs": (torch.zeros(0), torch.zeros(2))}, ValueError, "one a step, got [0]"),
        ({"precision": "half"}, ValueError, "choose one of: float32, auto"),
        ({"precision": None}, ValueError, "unknown precision None"),
        ({"model": None}, TypeError, "expects model (a torch.nn.Module), got None"),
        *(({"num_steps": v}, error, said) for v, error, said in whole("num_steps", 0)),
    ],
)  # fmt: skip
def test_training_says_what_it_cannot_do(changes, error, said):
    with pytest.raises(error) as caught:
        trained(**changes)
    assert said in str(caught.value)


ROW = (1, 2, 3, "4", "why")
STARTS = [
    ({"seeds": 3}, TypeError, "a list of distinct integers >= 0, got 3"),
    ({"seeds": True}, TypeError, "a list of distinct integers"),
    ({"seeds": "012"}, TypeError, "a list of distinct integers"),
    *(({"seeds": v}, ValueError, "distinct integers >= 0, got")
      for v in ([], [-1], [0, 0], [0.0], [True], ["0"], [None], [np.int64(1)])),
    *(({"profile": v}, ValueError, "choose one of: smoke, small, full") for v in ("huge", "SMALL")),
    *(({"settings": v}, ValueError, "one row per knob")
      for v in ({}, {"num_seeds": 3}, {"num_seeds": (1, 2, 3)}, {"num_seeds": list(ROW)},
                {"num_seeds": ROW, "rate": ROW[:4]})),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "error", "said"), STARTS)
def test_the_start_says_what_is_wrong_with_its_settings(changes, error, said, monkeypatch):
    monkeypatch.delenv("LABUTILS_PROFILE", raising=False)
    with pytest.raises(error, match=re.escape(said)):
        start(**{"notebook": "a", "settings": {"num_seeds": ROW}} | changes)


def ledger():
    return Ledger("a", "small", [0, 1, 2], {}, {"device": "cpu"})


def claim(book, **changes):
    values = {"a": [1.0, 2.0, 4.0], "b": [0.0, 0.0, 0.0]}
    good = {"name": "a-b", "statement": "a beats b", "source": "ours", "values": values}
    book.claim(**good | {"direction": "greater"} | changes)


WORDS = "lower-case words, digits and hyphens"
LEDGERS = [
    *((lambda book, v=v: book.number(v, 1.0), WORDS) for v in ("", "A", "a b", "a_b", None, 3)),
    *((lambda book, v=v: book.number("a", v), "a finite number") for v in (NAN, INF, None, "3")),
    (lambda book: [book.number("a", v) for v in (1, 2)], "the value that it had, or another name"),
    *((lambda book, v=v: claim(book, name=v), WORDS) for v in ("", "A b", None)),
    (lambda book: [claim(book), claim(book)], "a name that no other claim has"),
    (lambda book: claim(book, statement="<b>a</b>"), "a sentence without HTML"),
    (lambda book: claim(book, source="theirs"), "one of ('paper', 'ours')"),
    (lambda book: claim(book, source="paper"), "where the paper makes the claim"),
    *((lambda book, v=v: claim(book, direction=v), "one of ('greater', 'less', 'equivalent')")
      for v in ("bigger", "", None)),
    (lambda book: claim(book, direction="equivalent"), "a margin above 0 for an equivalence"),
    *((lambda book, v=v: claim(book, margin=v), "a finite number") for v in (NAN, INF, None, "1")),
    *((lambda book, v=v: claim(book, values=v), "{arm: values}") for v in (None, [1, 2], "ab")),
    (lambda book: claim(book, values={"a": [1.0] * 3}), "two names"),
    (lambda book: claim(book, values={"a": [1.0] * 3, "b": [1.0] * 2}), "each of 3 seeds"),
    (lambda book: claim(book, values={"a": [1.0] * 3, "b": [1.0, 2.0, NAN]}), "a finite number"),
    (lambda book: claim(book, paper={}), "a finite value and its source"),
    (lambda book: claim(book, paper={"value": 1.0}), "a finite value and its source"),
]  # fmt: skip


@pytest.mark.parametrize(("act", "said"), LEDGERS)
def test_the_ledger_refuses_what_is_no_number_or_claim(act, said):
    with pytest.raises(RecordError) as caught:
        act(ledger())
    assert said in str(caught.value)


def changed(**changes):
    content = json.loads(ledger().to_json())
    return json.dumps({k: v for k, v in (content | changes).items() if v is not ...})


RUN = json.loads(ledger().to_json())["run"]
RECORDS = [
    ("", "Expecting value"), ("{", "Expecting property name"), ("[]", "schema: expected 4"),
    ("3", "schema"), ("null", "schema"), (b"\xff\xfe", "not a rec"), ("[" * 100_000, "not a rec"),
    (changed(schema=2), "schema: expected 4, found 2"), (changed(more=1), "more: expected the"),
    (changed(seeds=...), "seeds: expected the fields"), (changed(seeds=[]), "distinct integers"),
    (changed(seeds=[0, 0]), "distinct integers >= 0"), (changed(seeds=[-1]), "distinct integers"),
    (changed(seeds=[True]), "distinct integers"), (changed(seeds="0"), "seeds: expected"),
    (changed(finished=5), "digest: expected"), (changed(run={}), "run: expected the fields"),
    (changed(run=RUN | {"finished": 5}), "finished: expected"), (changed(run=3), "run: expected"),
    (changed(run=RUN | {"duration_s": "1"}), "duration_s: expected"),
    (changed(environment={}), "texts, a device among them"), (changed(claims=[3]), "claims[0]"),
    (changed(environment={"device": 3}), "texts, a device"), (changed(claims=[{}]), "claims[0]."),
    (changed(numbers={"a": 3}), "numbers.a: expected a finite value"),
    (changed(numbers={"a": {"value": NAN}}), "numbers.a: expected a finite value"),
    (changed(title="other"), "digest: expected that of the content"),
    (changed(digest=...), "digest: expected"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), RECORDS)
def test_a_malformed_record_is_refused_by_name(text, said):
    with pytest.raises(RecordError) as caught:
        reader.parse(text, "results/a.small.json")
    assert str(caught.value).startswith("results/a.small.json is not a record: ")
    assert "restore it, or delete it and run again" in str(caught.value)
    assert said in str(caught.value)


def test_a_package_file_that_is_empty_is_named(monkeypatch, tmp_path):
    (tmp_path / f"{data.MINI}.npz").write_bytes(b"")
    monkeypatch.setattr(images, "ASSETS", tmp_path)
    with pytest.raises(DataError, match=r"fashion-mnist-mini.npz.*Install labutils again"):
        images.read(data.MINI)


# --- checks of arguments themselves ---------------------------------------------------------------


def test_a_check_changes_nothing_and_gives_nothing_back():
    x, draw = torch.rand(4, 3), g()
    before, state = x.clone(), draw.get_state()
    assert checks.fit("x float (N, 3), n >= 1, generator", x, 4, draw) is None
    assert torch.equal(x, before)
    assert torch.equal(draw.get_state(), state)


def test_a_check_refuses_what_could_be_used_up():
    seeds = iter([1, 2])
    for expected in ("seeds", "seeds distinct >= 0"):
        with pytest.raises(TypeError):
            checks.fit(expected, seeds)
    assert list(seeds) == [1, 2]


def test_numpy_numbers_are_numbers():
    checks.fit("n >= 1, rate > 0.0, sizes >= 0", np.int64(3), np.float32(0.1), (np.int32(1), 2))
    assert formats.mean_sd([np.float32(1)]) == "1.0"


# --- commands -------------------------------------------------------------------------------------

UNKNOWN = "unknown notebook"
COMMANDS = {
    "nonsense": "No such command", "--nope": "No such option", "execute --nope": "No such option",
    "execute 99-none": UNKNOWN, "execute rs2 none": UNKNOWN, "execute rs2.ipynb": UNKNOWN,
    "execute ../rs2": UNKNOWN, "execute notebooks/choosing-data/rs2.ipynb": UNKNOWN,
    "execute RS2": UNKNOWN, "execute *": UNKNOWN, "execute ''": UNKNOWN,
    "execute rs2 --profile huge": "'huge' is not one of 'smoke', 'small', 'full'",
    "execute rs2 --profile": "requires an argument", "execute rs2 --jobs 0": "x>=1",
    "execute rs2 --jobs -1": "x>=1", "execute rs2 --jobs two": "is not a valid integer",
    "execute rs2 --jobs 1.5": "not a valid integer", "execute rs2 --seeds 2-1": "a list of seeds",
    "execute rs2 --seeds 1,1": "names a seed twice", "sweep": "Missing argument",
    "sweep rs2": "Missing option '--seeds'", "sweep --seeds 0": "Missing argument",
    "sweep rs2 --seeds ''": "a list of seeds such as 0-9", "sweep rs2 --seeds a": "a list of seeds",
    "sweep rs2 --seeds -1": "a list of seeds", "sweep rs2 --seeds 1.5": "a list of seeds",
    "sweep rs2 --seeds 0,0": "names a seed twice", "sweep rs2 --seeds 0-2,1": "names a seed twice",
    "sweep none --seeds 0": UNKNOWN, "sweep rs2 --seeds 0 --profile tiny": "is not one of",
    "sweep rs2 --seeds 0 --jobs 0": "x>=1", "status x": "unexpected extra argument",
    "book x": "unexpected extra argument", "book --nope": "No such option",
    "pdf x": "unexpected extra argument", "technique none": "has no row with the slug 'none'",
    "technique rs2 ''": "has no row with the slug ''", "new-lab": "Missing argument",
    "new-lab none": "has no row with the slug 'none'", "new-lab rad": "exists; nothing was written",
    "new-lab rs2": "rs2 is a chapter in", "new-lab ../x": "has no row with the slug",
    "new-lab a b": "unexpected extra argument", "setup-cells x": "unexpected extra argument",
}  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS)
def test_a_bad_command_line_is_one_error_and_status_2(words, monkeypatch, capsys):
    arguments = [word.strip("'") for word in words.split()]
    monkeypatch.setattr(sys, "argv", ["press", *arguments])
    with pytest.raises(SystemExit) as stopped:
        command_line.run()
    shown = capsys.readouterr().err
    assert stopped.value.code == 2
    assert COMMANDS[words] in shown
    assert len(re.findall("^Error: ", shown, re.MULTILINE)) == 1
    assert "Traceback" not in shown


@pytest.mark.parametrize("name", ["mnist", "CIFAR10", "''"])
def test_an_unknown_data_set_is_one_line_and_status_1(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["press", "data", name.strip("'")])
    with pytest.raises(SystemExit) as stopped:
        command_line.run()
    assert stopped.value.code == 1
    assert "expected one of: fashion-mnist, cifar10" in (shown := capsys.readouterr().err)
    assert len(shown.splitlines()) == 1
