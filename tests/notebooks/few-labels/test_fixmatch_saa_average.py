"""The moving average of the weights in the chapter on FixMatch and SAA, by its closed form."""

import pytest
import torch
from test_fixmatch_saa_experiment import LAB, TAGS, small_settings

from press import technique


def average_of(network, decay):
    given = {"lab": LAB, "S": small_settings()}
    return technique.load("fixmatch-saa", tags=TAGS, given=given).MovingAverage(network, decay)


class Net(torch.nn.Module):
    """Two parameters of known values and a batch norm with its buffers."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([100.0, -100.0]))
        self.bn = torch.nn.BatchNorm1d(2)


def set_to(net, step):
    with torch.no_grad():
        net.weight.copy_(torch.tensor([float(step), float(step) ** 2]))
        net.bn.running_mean.fill_(step)
        net.bn.num_batches_tracked.fill_(step)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999])
def test_moving_average_equals_its_closed_form(decay):
    """m_T = sum_t (1 - d_t) prod_{s > t} d_s w_t, d_t = min(1 - 1/t, decay)."""
    net, steps = Net(), 30
    average = average_of(net, decay)
    for step in range(1, steps + 1):
        set_to(net, step)
        average.update_parameters(net)
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
    average = average_of(net, 0.99)
    for step in range(1, 11):
        set_to(net, step)
        average.update_parameters(net)
    assert average.module.weight[0].item() == pytest.approx(5.5)


def test_buffers_are_copied_and_the_network_is_left_alone():
    net = Net()
    average = average_of(net, 0.9)
    for step in (1, 2, 3):
        set_to(net, step)
        average.update_parameters(net)
    assert average.module.bn.running_mean.tolist() == [3, 3]
    assert average.module.bn.num_batches_tracked == 3
    assert net.weight.tolist() == [3, 9]
    assert net.weight.requires_grad
    assert not any(p.requires_grad for p in average.module.parameters())


def test_a_saved_average_goes_on_as_if_nothing_had_happened():
    net = Net()
    whole, first = average_of(net, 0.9), average_of(net, 0.9)
    for step in range(1, 9):
        set_to(net, step)
        whole.update_parameters(net)
        if step == 4:
            second = average_of(net, 0.9)
            second.load_state_dict(first.state_dict())
            first = second
        first.update_parameters(net)
    assert torch.equal(first.module.weight, whole.module.weight)
