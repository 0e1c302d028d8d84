"""The technique of SimCore against an independent reference."""

import pytest
import torch
import torch.nn.functional as F

from press import technique


@pytest.fixture(scope="module")
def lab():
    return technique.load("simcore")


def test_loss_equals_cross_entropy_with_smoothed_labels(lab):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(20, 10, generator=generator)
    labels = torch.randint(10, (20,), generator=generator)
    expected = F.cross_entropy(logits, labels, label_smoothing=0.1)
    assert torch.allclose(lab.technique_loss(logits, labels, 0.1), expected, atol=1e-6)
