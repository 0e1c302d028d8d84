"""LLS: no label reaches training or selection. Runs the chapter's own cells on poisoned labels."""

import dataclasses

import numpy as np
import pytest
import torch

from labutils.start import start
from press import technique


@pytest.fixture(scope="module")
def chapter():
    """The chapter's technique and experiment, as the notebook has them, without running results."""
    rows = {k: (v, v, v, "", "") for k, v in technique.settings("lls", "smoke").items()}
    lab = start("lls", rows, profile="smoke")
    lab.settings.num_steps = 25
    given = {"lab": lab, "S": lab.settings, "results": None}
    return technique.load("lls", tags=("technique", "experiment"), given=given)


class Poison:
    """Raises whenever anything is read from it."""

    def __getattribute__(self, name):
        raise AssertionError(f"a label was read: .{name}")


def drawn(chapter, seed):
    return chapter.make_world(chapter.load_pool("super", seed), 8, 0.5, 4, seed)


def discovered(chapter, world, to_input):
    found, shares, _ = chapter.discover(world, to_input, 5, seed=0)
    return found, shares


def test_a_world_holds_images_and_domains_only(chapter):
    fields = [field.name for field in dataclasses.fields(chapter.World)]
    assert fields == ["images", "domain_ids", "test_images", "test_domain_ids"]


def test_predictions_do_not_change_when_every_label_is_poisoned(chapter, monkeypatch):
    world, _hidden, to_input = drawn(chapter, 0)
    found, shares = discovered(chapter, world, to_input)

    # From here on labels cannot be had: not from the data, not from the truth of this world.
    monkeypatch.setattr(chapter, "load_pool", Poison())
    monkeypatch.setattr(chapter.data, "load", Poison())
    monkeypatch.setattr(chapter, "Hidden", Poison())
    again, shares_again = discovered(chapter, world, to_input)
    assert found.keys() == again.keys()
    for arm in found:
        np.testing.assert_array_equal(found[arm], again[arm], err_msg=arm)
    for arm in shares:
        np.testing.assert_array_equal(shares[arm], shares_again[arm], err_msg=arm)


def test_nor_do_those_on_features(chapter, monkeypatch):
    world, _, _ = drawn(chapter, 0)
    pool = (world.images, None), (world.test_images, None), 5, None
    world.images, world.test_images = (z[:, :, None, None] for z in chapter.encode(pool, 0))
    found, _ = chapter.discover_by_features(world, 5, 0)
    for name in ("load_pool", "Hidden"):
        monkeypatch.setattr(chapter, name, Poison())
    again, _ = chapter.discover_by_features(world, 5, 0)
    for arm in found:
        np.testing.assert_array_equal(found[arm], again[arm], err_msg=arm)


def test_shuffled_labels_change_the_score_and_not_the_predictions(chapter):
    world, hidden, to_input = drawn(chapter, 1)
    found, shares = discovered(chapter, world, to_input)
    before = {row["arm"]: row["accuracy"] for row in chapter.score(found, shares, hidden)}
    rng = np.random.default_rng(0)
    for labels in (hidden.labels, hidden.test_labels):
        rng.shuffle(labels)
    again, _ = discovered(chapter, world, to_input)
    for arm in found:
        np.testing.assert_array_equal(found[arm], again[arm], err_msg=arm)
    after = {row["arm"]: row["accuracy"] for row in chapter.score(again, shares, hidden)}
    assert after["DDFA, SPA"] < before["DDFA, SPA"] - 10


def test_renamed_classes_change_names_only(chapter):
    """The scoring finds the renaming: the accuracy stays, and so do the predictions."""
    world, hidden, to_input = drawn(chapter, 1)
    found, shares = discovered(chapter, world, to_input)
    naming = np.array([3, 0, 4, 1, 2])
    renamed = dataclasses.replace(
        hidden,
        labels=naming[hidden.labels],
        test_labels=naming[hidden.test_labels],
        marginals=hidden.marginals[np.argsort(naming)],
    )
    assert chapter.score(found, shares, renamed)[0] == pytest.approx(
        chapter.score(found, shares, hidden)[0]
    )


def test_training_depends_on_domains(chapter):
    """The counterpart: shuffled domains do change what is found."""
    world, _hidden, to_input = drawn(chapter, 1)
    found, _ = discovered(chapter, world, to_input)
    order = torch.randperm(len(world.domain_ids), generator=torch.Generator().manual_seed(0))
    shuffled = dataclasses.replace(world, domain_ids=world.domain_ids[order])
    other, _ = discovered(chapter, shuffled, to_input)
    assert (found["DDFA, SPA"] != other["DDFA, SPA"]).mean() > 0.2
