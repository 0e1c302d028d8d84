"""Each benchmark beside peers runs at a tiny size; where sides must agree, they do.

A peer that is not installed is left out: `make bench` has an environment with all of them.
"""

import pytest
import torch

from benchmarks import augmentation, executor, loading, losses, selection, sides
from labutils.augment import views


@pytest.fixture(autouse=True)
def any_core(monkeypatch):
    monkeypatch.setattr(sides, "one_core", lambda: None)


def shown(module, result):
    """The tables of a result, of one turn."""
    return module.render({**sides.machine(), "repetitions": 1, **result})


# --- augmentation ---------------------------------------------------------------------------------


def test_every_operation_and_pipeline_is_measured():
    result = augmentation.measure(1, count=6, at_least=0)
    assert len(result["pipelines"]) == len(augmentation.VIEWS) + 2
    names = {*augmentation.strong.OPERATIONS, "cutout", "normalise", "crop and mirror, weak",
             "random resized crop", "colour jitter", "grey", "blur"}  # fmt: skip
    assert set(result["operations"]) == names
    for row in (*result["pipelines"].values(), *result["operations"].values()):
        assert {"ours", "torchvision", "limit"} <= row.keys()
        assert min(rates[0] for rates in row.values()) > 0
    text = shown(augmentation, result)
    assert all(f"| {name} |" in text for name in names)


@pytest.mark.parametrize("kind", [augmentation.GREY, augmentation.COLOUR])
def test_both_strong_sides_change_whole_batches_of_real_images(kind):
    images = augmentation.pictures(kind)
    for side, run in augmentation.strongly(kind).items():
        if side == "kornia":
            continue  # floats
        changed = run()
        assert changed.shape == images.shape
        assert changed.dtype == torch.uint8
        assert (changed != images).flatten(1).any(1).float().mean() > 0.8


@pytest.mark.parametrize("case", ["two views, SimCLRv2 at small", "two views, SimCLR"])
def test_both_sides_make_equally_distributed_views(case):
    kind, recipe, options = augmentation.VIEWS[case]
    images = augmentation.pictures(kind, 64)
    torch.manual_seed(0)
    dataset = augmentation.PerImage(images, options)
    theirs = torch.stack([torch.cat(dataset[k]) for _ in range(30) for k in range(64)])
    generator = torch.Generator().manual_seed(0)
    ours = torch.cat([torch.cat(views.two_views(images, recipe, generator), 1) for _ in range(30)])
    assert ours.shape[1:] == theirs.shape[1:]
    assert (ours.mean((0, 2, 3)) - theirs.mean((0, 2, 3))).abs().max() < 0.02
    assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.06)
    changes = [(x.roll(1, 3) - x).abs().mean().item() for x in (ours, theirs)]  # sharpness
    assert changes[0] == pytest.approx(changes[1], rel=0.12)


# --- losses ---------------------------------------------------------------------------------------


def test_all_sides_of_a_loss_compute_the_same():
    for name, (_, compared) in losses.CASES.items():
        there = [s for s in compared if sides.installed(losses.PACKAGE.get(s, "torch"))]
        runs = [losses.measure_here(name, side, 48) for side in there]
        for run in runs[1:]:
            for what in ("loss", "gradient_norm"):
                assert run[what] == pytest.approx(runs[0][what], rel=1e-4)


def test_a_loss_is_measured_in_its_own_process_or_left_out_where_it_does_not_fit():
    cases = {"CLIP": ((600, 3_000_000), ("chunked", "plain"))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "needed", lambda name, side, batch: 1e15 * (batch > 600))
        result = losses.measure(1, cases)
    rows = result["runs"]["CLIP"]
    assert rows["3000000"] == {"chunked": None, "plain": None, "limit": None}
    chunked, plain = (rows["600"][side][0] for side in ("chunked", "plain"))
    for what in ("loss", "gradient_norm"):
        assert chunked[what] == pytest.approx(plain[what], rel=1e-5)
    assert plain["peak_bytes"] > 50e6
    assert "3,000,000: plain | does not fit" in shown(losses, result)


# --- selection, loading, execution ----------------------------------------------------------------


def test_selections_choose_as_many_examples_and_are_timed():
    for name, runs in selection.selections(300, 20, 100).items():
        chosen = runs["ours"]()
        assert len(chosen.unique()) == 20, name
    text = shown(selection, selection.measure(1, 300, 20, 100))
    assert "| herding, 300 examples |" in text


def test_both_sides_load_the_same_images(tmp_path):
    runs = loading.loads(tmp_path, [loading.MINI])
    (name,) = runs
    dataset, (train, test) = runs[name]["ours"](), runs[name]["peer"]()
    assert dataset.train.images[:, 0].equal(train.data)
    assert dataset.test.labels.equal(test.targets)
    assert name in shown(loading, loading.measure(1, [loading.MINI]))


def test_every_executor_runs_a_trivial_notebook_to_its_record():
    result = executor.measure(1, chapter=None)
    assert result["rows"]["trivial"].keys() == {"ours", "papermill", "nbclient"}
    assert "| `trivial` |" in shown(executor, result)
