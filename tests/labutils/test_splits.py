"""Few labels per class and the moving average of a network."""

import pytest
import torch
from torch import nn

from labutils.data import few_labels
from labutils.training import MovingAverage


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_few_labels_are_balanced_distinct_and_repeatable():
    labels = torch.randint(7, (500,), generator=generator(5))
    chosen = few_labels(labels, 4, generator())
    assert len(set(chosen.tolist())) == 28
    assert labels[chosen].tolist() == [c for c in range(7) for _ in range(4)]
    assert torch.equal(chosen, few_labels(labels, 4, generator()))
    assert not torch.equal(chosen, few_labels(labels, 4, generator(1)))


def test_more_labels_contain_fewer():
    labels = torch.arange(300) % 10
    few, more = (set(few_labels(labels, k, generator()).tolist()) for k in (4, 25))
    assert few < more
    assert len(more) == 250


def test_every_example_of_a_class_is_equally_likely():
    labels = torch.tensor([0] * 10 + [1] * 4)
    draw, counts = generator(), torch.zeros(14)
    for _ in range(2000):
        counts[few_labels(labels, 2, draw)] += 1
    expected = torch.tensor([400.0] * 10 + [1000.0] * 4)
    assert ((counts - expected).abs() < 5 * expected.sqrt()).all()


@pytest.mark.parametrize("per_class", [0, -1])
def test_few_labels_refuses_no_labels(per_class):
    with pytest.raises(ValueError, match="per_class >= 1"):
        few_labels(torch.arange(10), per_class, generator())


def test_few_labels_names_the_class_that_is_too_small():
    with pytest.raises(ValueError, match="class 3 has 2 examples, fewer than 3"):
        few_labels(torch.tensor([0, 0, 0, 3, 3]), 3, generator())


class Net(nn.Module):
    """Two parameters of known values and a batch norm with its buffers."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([100.0, -100.0]))
        self.bn = nn.BatchNorm1d(2)


def set_to(net, step):
    with torch.no_grad():
        net.weight.copy_(torch.tensor([float(step), float(step) ** 2]))
        net.bn.running_mean.fill_(step)
        net.bn.num_batches_tracked.fill_(step)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999])
def test_moving_average_equals_its_closed_form(decay):
    """m_T = sum_t (1 - d_t) prod_{s > t} d_s w_t, d_t = min(1 - 1/t, decay)."""
    net, steps = Net(), 30
    average = MovingAverage(net, decay)
    for step in range(1, steps + 1):
        set_to(net, step)
        average.update(net)
    decays = [min(1 - 1 / t, decay) for t in range(1, steps + 1)]
    shares = []
    for t in range(steps):
        share = 1 - decays[t]
        for later in decays[t + 1 :]:
            share *= later
        shares.append(share)
    assert sum(shares) == pytest.approx(1)  # nothing is left of the initial weights
    expected = [sum(s * (t + 1) ** power for t, s in enumerate(shares)) for power in (1, 2)]
    assert average.module.weight.tolist() == pytest.approx(expected, rel=1e-5)


def test_the_plain_mean_comes_first():
    net = Net()
    average = MovingAverage(net, 0.99)
    for step in range(1, 11):
        set_to(net, step)
        average.update(net)
    assert average.module.weight[0].item() == pytest.approx(5.5)


def test_buffers_are_copied_and_the_network_is_left_alone():
    net = Net()
    average = MovingAverage(net, 0.9)
    for step in (1, 2, 3):
        set_to(net, step)
        average.update(net)
    assert average.module.bn.running_mean.tolist() == [3, 3]
    assert average.module.bn.num_batches_tracked == 3
    assert net.weight.tolist() == [3, 9]
    assert net.weight.requires_grad
    assert not any(p.requires_grad for p in average.module.parameters())


def test_a_saved_average_goes_on_as_if_nothing_had_happened():
    net = Net()
    whole, first = MovingAverage(net, 0.9), MovingAverage(net, 0.9)
    for step in range(1, 9):
        set_to(net, step)
        whole.update(net)
        if step == 4:
            second = MovingAverage(net, 0.9)
            second.load_state_dict(first.state_dict())
            first = second
        first.update(net)
    assert torch.equal(first.module.weight, whole.module.weight)


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5])
def test_moving_average_refuses_an_impossible_decay(decay):
    with pytest.raises(ValueError, match="0 <= decay < 1"):
        MovingAverage(Net(), decay)
