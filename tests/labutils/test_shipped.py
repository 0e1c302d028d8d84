"""The networks that come with the book are the stored ones, frozen; misfits are named."""

import numpy as np
import pytest
import torch

from labutils import data, models, shipped
from labutils.data.download import ASSETS

HEADS = {"classifier.weight", "classifier.bias"}


def images(n=5):
    return torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def stored(seed):
    """Encoder of a seed by hand: every array of the file into the weight of its name."""
    network = models.build("resnet-16-32-64", 1, 10, torch.Generator().manual_seed(9)).eval()
    weights = network.state_dict()
    with np.load(ASSETS / "simclr-fashion-mnist.npz") as arrays:
        for name, weight in weights.items():
            if name not in HEADS and not name.endswith("num_batches_tracked"):
                weight.copy_(torch.from_numpy(arrays[f"{seed}/width 16/0.{name}"]))
    return network


def test_features_are_those_of_the_stored_weights():
    for seed in (0, 3):
        found = shipped.simclr_encoder(seed).features(images())
        assert found.shape == (5, 64)
        assert found.dtype == torch.float32
        with torch.no_grad():
            assert torch.equal(found, stored(seed).features(images()))


def test_the_encoder_is_frozen():
    encoder = shipped.simclr_encoder(0)
    assert not encoder.training
    assert not any(weight.requires_grad for weight in encoder.parameters())
    assert {weight.device.type for weight in encoder.parameters()} == {"cpu"}
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder(images())
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_seeds_take_turns():
    firsts = [shipped.simclr_encoder(seed).conv1.weight for seed in range(shipped.NUM_SIMCLR)]
    assert len({tuple(weight.flatten().tolist()) for weight in firsts}) == shipped.NUM_SIMCLR
    for seed in (1, 1000):
        again = shipped.simclr_encoder(seed + shipped.NUM_SIMCLR).conv1.weight
        assert torch.equal(again, firsts[seed % shipped.NUM_SIMCLR])


def test_weights_are_found_by_the_beginning_of_their_names():
    weights = shipped.simclr_weights("3/width 16/0.")
    assert weights["conv1.weight"].shape == (16, 1, 3, 3)
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    whole = shipped.simclr_weights("3/width 16/")
    assert torch.equal(whole["0.conv1.weight"], weights["conv1.weight"])
    assert any(name.startswith("1.") for name in whole)  # the projection head
    assert shipped.simclr_weights("3/no such pretraining/") == {}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda weights: weights.pop("conv1.weight"), "conv1.weight"),
        (lambda weights: weights.update(stem=torch.zeros(1)), "stem"),
        (lambda weights: weights.clear(), "bn1.running_mean"),
    ],
)
def test_weights_that_do_not_fit_are_named(monkeypatch, change, named):
    weights = shipped.simclr_weights("0/width 16/0.")
    change(weights)
    monkeypatch.setattr(shipped, "simclr_weights", lambda start: weights)
    with pytest.raises(RuntimeError, match=rf"do not fit: .*\b{named}\b"):
        shipped.simclr_encoder(0)


def test_features_tell_classes_apart():
    """Nearest class means on a few labels are far better than chance."""
    split = torch.Generator().manual_seed(0)
    dataset = data.load("fashion-mnist-mini", num_validation=0, generator=split)
    encoder = shipped.simclr_encoder(0)
    x, y = dataset.train.images[:300] / 255, dataset.train.labels[:300]
    features = encoder.features(x)
    means = torch.stack([features[:200][y[:200] == k].mean(0) for k in range(10)])
    found = torch.cdist(features[200:], means).argmin(1)
    assert (found == y[200:]).double().mean() > 0.5
