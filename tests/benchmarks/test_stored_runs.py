"""Pages of benchmarks and studies show the runs that are stored, and these meet their bars."""

import importlib
import json
import statistics
from pathlib import Path

import pytest

from benchmarks import sides

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


def middle(row, peer):
    """The median of our rate over a peer's."""
    return statistics.median(sides.ratios(row["ours"], row[peer]))


def training_throughput(_, result):
    assert middle(result["rows"]["train cnn-tiny"], "peer") >= 10
    assert middle(result["rows"]["input alone"], "peer") >= 20
    assert (GENERATED / "training_throughput.svg").is_file()


def augmentation(module, result):
    assert result["batch"] == 448
    rows = result["pipelines"]
    assert middle(next(iter(rows.values())), "lightly") >= 30
    assert middle(rows[f"RandAugment and cutout; {module.GREY}"], "torchvision") >= 15
    assert middle(rows[f"RandAugment and cutout; {module.COLOUR}"], "kornia") >= 3


def losses(module, result):
    rows = result["runs"]["CLIP"]["16384"]
    for plain, chunked in zip(rows["plain"], rows["chunked"], strict=True):
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


BARS = [training_throughput, augmentation, losses, lls_scaling, sweep_scaling, fixmatch_longer]


@pytest.mark.parametrize("bar", BARS, ids=lambda bar: bar.__name__)
def test_stored_run_meets_its_bar(bar):
    bar(*stored(bar.__name__))


@pytest.mark.xfail(strict=True, reason="missed: the stored run has 4.3 to 4.9")
def test_views_in_colour_are_five_times_as_fast_as_kornia():
    module, result = stored("augmentation")
    rows = [row for name, row in result["pipelines"].items() if name.endswith(module.COLOUR)]
    assert min(middle(row, "kornia") for row in rows if "lightly" in row) >= 5
