"""Probes, against scikit-learn; the encoder stays as it was."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from labutils import evaluation, models


def clouds(n=300, d=12, classes=4, seed=0, spread=1.2):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    centres = torch.randn(classes, d, generator=draw)
    return centres[labels] + spread * torch.randn(n, d, generator=draw), labels


@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_probe_equals_scikit_learn_on_standardised_features(strength):
    features, labels = clouds()
    features = features * torch.logspace(-2, 2, 12) + 3  # very unequal scales
    probe = evaluation.linear_probe(features, labels, strength=strength)
    scaler = StandardScaler().fit(features.numpy())
    peer = LogisticRegression(C=strength, max_iter=1000)
    peer.fit(scaler.transform(features.numpy()), labels.numpy())
    theirs = peer.predict_proba(scaler.transform(features.numpy()))
    np.testing.assert_allclose(probe(features).softmax(1).numpy(), theirs, atol=2e-3)


def test_probe_with_two_classes_and_with_a_missing_one():
    features, labels = clouds(classes=2)
    probe = evaluation.linear_probe(features, labels * 2)
    logits = probe(features)
    assert logits.shape == (300, 3)
    assert set(logits.argmax(1).tolist()) <= {0, 2}
    scaler = StandardScaler().fit(features.numpy())
    peer = LogisticRegression(max_iter=1000).fit(scaler.transform(features), labels.numpy())
    ours = logits[:, [0, 2]].softmax(1).numpy()
    np.testing.assert_allclose(ours, peer.predict_proba(scaler.transform(features)), atol=2e-3)


def test_probe_of_one_example_per_class_and_constant_features():
    features, labels = clouds(n=4)
    features[:, 0] = 7.0
    probe = evaluation.linear_probe(features, labels)
    assert evaluation.accuracy(probe(features), labels) == 100
    assert probe(features).isfinite().all()


def test_the_encoder_is_bit_equal_before_and_after():
    draw = torch.Generator().manual_seed(0)
    encoder = models.build("resnet-16-32-64", 1, 10, draw)
    encoder.train()
    encoder.layer1.eval()
    images = torch.rand(30, 1, 28, 28, generator=draw)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    modes = [module.training for module in encoder.modules()]
    features = evaluation.frozen_features(encoder, images, function=encoder.features)
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert modes == [module.training for module in encoder.modules()]
    assert features.shape == (30, 64)
    alone = evaluation.frozen_features(encoder, images[:1], function=encoder.features)
    torch.testing.assert_close(features[:1], alone)  # batch norm did not look at the batch
    assert not features.requires_grad


def test_modes_come_back_after_an_error():
    encoder = models.build("cnn-tiny", 1, 10, torch.Generator().manual_seed(0))
    with pytest.raises(RuntimeError):
        evaluation.frozen_features(encoder, torch.zeros(2, 3, 28, 28))
    assert encoder.training
    assert encoder.bn.training


def test_wrong_input_says_what_was_expected():
    features, labels = clouds(n=20)
    with pytest.raises(ValueError, match="dim 3"):
        evaluation.linear_probe(features[None], labels)
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        evaluation.linear_probe(features / 0, labels)
    with pytest.raises(ValueError, match="at least 2 classes"):
        evaluation.linear_probe(features, torch.zeros_like(labels))


def test_predict_equals_one_big_forward():
    draw = torch.Generator().manual_seed(5)
    model = models.build("cnn-tiny", 1, 10, draw).eval()
    inputs = torch.randn(103, 1, 28, 28, generator=draw)
    whole = model(inputs)
    for batch_size in (1, 7, 103, 1000):
        rows = evaluation.predict(model, inputs, batch_size)
        torch.testing.assert_close(rows, whole)
        assert not rows.requires_grad
    assert evaluation.predict(lambda x: x.double() * 2, inputs, 10).dtype == torch.float32


def test_accuracy_by_hand():
    class Constant(torch.nn.Module):
        def forward(self, x):
            assert not self.training
            return x

    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [1.0, 0.0, 5.0], [9.0, 0.0, 1.0]])
    model = Constant()
    for labels, percent in (([0, 1, 2, 0], 100), ([0, 1, 1, 1], 50), ([1, 0, 0, 0], 25)):
        assert evaluation.accuracy_of(model, logits, torch.tensor(labels)) == percent
    assert model.training
    model.eval()
    evaluation.accuracy_of(model, logits, torch.tensor([0, 1, 2, 0]))
    assert not model.training
