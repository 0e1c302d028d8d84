"""Models: shapes, published sizes, torchvision as an oracle, initialisation."""

import pytest
import torch
import torchvision

from labutils import models


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def size(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", models.MODELS)
@pytest.mark.parametrize(("channels", "side", "classes"), [(1, 28, 10), (3, 32, 100)])
def test_shapes_and_classifier(name, channels, side, classes):
    model = models.build(name, channels, classes, seeded()).eval()
    x = torch.randn(3, channels, side, side, generator=seeded(1))
    with torch.no_grad():
        logits, features = model(x), model.features(x)
    assert logits.shape == (3, classes)
    assert features.shape == (3, model.classifier.in_features)
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(model.classifier(features), logits)


@pytest.mark.parametrize("name", models.MODELS)
def test_every_parameter_gets_a_gradient(name):
    model = models.build(name, 1, 10, seeded())
    model(torch.randn(4, 1, 28, 28, generator=seeded(1))).logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("name", models.MODELS)
def test_initialised_from_the_generator_only(name):
    before = torch.random.get_rng_state()
    first = models.build(name, 1, 10, seeded(3)).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(5)  # the global generator moves on; the result must not
    same = models.build(name, 1, 10, seeded(3)).state_dict()
    other = models.build(name, 1, 10, seeded(4)).state_dict()
    assert all(torch.equal(first[key], same[key]) for key in first)
    weights = [key for key in first if key.endswith("weight") and first[key].ndim > 1]
    assert not any(torch.equal(first[key], other[key]) for key in weights)


def test_known_size():
    # that of ResNet-18 with a 3x3 stem and 10 classes
    assert size(models.build("resnet18", 3, 10, seeded())) == 11_173_962


def test_resnet18_agrees_with_torchvision():
    ours = models.build("resnet18", 3, 10, seeded()).eval()
    theirs = torchvision.models.resnet18(num_classes=10)
    theirs.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    theirs.maxpool = torch.nn.Identity()
    state = {key.replace("classifier", "fc"): value for key, value in ours.state_dict().items()}
    theirs.load_state_dict(state)
    x = torch.randn(2, 3, 32, 32, generator=seeded(1))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs.eval()(x))


def test_convolution_weights_have_he_variance():
    conv = models.build("resnet18", 3, 10, seeded()).get_submodule("layer4.1.conv2")
    fan_out = 512 * 9
    assert conv.weight.var().item() == pytest.approx(2 / fan_out, rel=0.01)


def test_unknown_model_is_refused_with_the_names():
    with pytest.raises(ValueError, match=r"resnet50.*cnn-tiny.*resnet18"):
        models.build("resnet50", 3, 10, seeded())
