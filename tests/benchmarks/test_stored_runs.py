"""Pages of benchmarks and studies show the runs that are stored, and these meet their bars."""

import importlib
import json
import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "book" / "generated"
# The card of the emoji set shows the data themselves; its own test computes them.
NAMES = sorted(page.stem for page in GENERATED.glob("*.md") if page.stem != "emoji")


def stored(name):
    """The module of a page and its stored run."""
    package = "studies" if (ROOT / "studies" / f"{name}.json").is_file() else "benchmarks"
    module = importlib.import_module(f"{package}.{name}")
    assert ROOT / package / f"{name}.json" == module.RESULT
    return module, json.loads(module.RESULT.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_page_shows_the_stored_run(name):
    module, result = stored(name)
    render = getattr(module, "render", None) or module.table
    assert (GENERATED / f"{name}.md").read_text(encoding="utf-8") == render(result)


def training_throughput(_, result):
    assert result["models"]["cnn-tiny"]["ratio"]["median"] >= 10
    assert result["input"]["ratio"]["median"] >= 20
    page = (GENERATED / "training_throughput.md").read_text(encoding="utf-8")
    for row in result["models"].values():
        assert f"**{row['ratio']['median']:,.1f} (" in page


def view_throughput(_, result):
    assert next(iter(result["cases"].values()))["ratio"]["median"] >= 30


def strong_augmentation(module, result):
    ratios = module.ratios(result["speeds"]["grey, 28 x 28"])
    assert result["batch_size"] == 448
    assert statistics.median(ratios) >= module.TARGET == 15


def contrastive_memory(module, result):
    assert result["batch_size"] == 16_384
    for plain, chunked in zip(*(result["runs"][side] for side in module.SIDES), strict=True):
        assert chunked["loss"] == pytest.approx(plain["loss"], rel=1e-5)
        assert chunked["gradient_norm"] == pytest.approx(plain["gradient_norm"], rel=1e-5)
        assert chunked["peak_bytes"] < module.TARGET * plain["peak_bytes"]


def lls_scaling(_, result):
    assert (GENERATED / "lls_scaling.svg").is_file()
    assert result["base"]["n"] == 1_000_000
    assert result["base"]["r"] == 50
    assert result["base"]["seconds"] < result["limits"]["seconds"] == 30
    assert result["base"]["memory_gb"] < result["limits"]["memory_gb"] == 4


def sweep_scaling(_, result):
    assert result["ratio"] < result["limit"] == 0.6


def fixmatch_longer(module, result):
    assert result["asked"]["settings"] == module.SETTINGS
    for arm in module.CHOICES:
        assert len(result["accuracy"][arm]) == 10
        found = [result["runs"][json.dumps([arm, draw, result["chosen"][arm], "test"])]["accuracy"]
                 for draw in module.DRAWS]  # fmt: skip
        assert found == result["accuracy"][arm]


BARS = [training_throughput, view_throughput, strong_augmentation, contrastive_memory, lls_scaling,
        sweep_scaling, fixmatch_longer]  # fmt: skip


@pytest.mark.parametrize("bar", BARS, ids=lambda bar: bar.__name__)
def test_stored_run_meets_its_bar(bar):
    bar(*stored(bar.__name__))
