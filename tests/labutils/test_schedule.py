"""The learning-rate schedule against torch's schedulers, stepped per batch."""

import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from labutils.training import cosine_schedule


def optimizer(rate):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], rate)


def rates(opt, scheduler, steps):
    for _ in range(steps):
        yield opt.param_groups[0]["lr"]
        opt.step()
        scheduler.step()


@pytest.mark.parametrize("final", [0.0, 1e-4, 0.05])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 39, 40, 128, 1000, 8000])
def test_equals_torchs_cosine(steps, final):
    opt = optimizer(0.1)
    theirs = list(rates(opt, CosineAnnealingLR(opt, T_max=steps, eta_min=final), steps))
    schedule = cosine_schedule(0.1, steps, final=final)
    assert [schedule(k) for k in range(steps)] == pytest.approx(theirs, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("warmup", "steps"), [(2, 3), (2, 10), (5, 6), (10, 100), (99, 500)])
def test_warmup_equals_torchs_linear_then_cosine(warmup, steps):
    opt = optimizer(0.2)
    linear = LinearLR(opt, start_factor=1 / warmup, end_factor=1, total_iters=warmup - 1)
    cosine = CosineAnnealingLR(opt, T_max=steps - warmup, eta_min=0.01)
    theirs = list(rates(opt, SequentialLR(opt, [linear, cosine], milestones=[warmup]), steps))
    schedule = cosine_schedule(0.2, steps, final=0.01, warmup_steps=warmup)
    assert [schedule(k) for k in range(steps)] == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 9, 200, 78_200])
def test_ends(steps):
    schedule = cosine_schedule(0.1, steps, final=1e-4)
    assert schedule(0) == 0.1
    assert schedule(steps) == pytest.approx(1e-4, abs=1e-15)
    last = 1e-4 + (0.1 - 1e-4) * (1 + math.cos(math.pi * (steps - 1) / steps)) / 2
    assert schedule(steps - 1) == pytest.approx(last, abs=1e-6)
    if steps % 2 == 0:
        assert schedule(steps // 2) == pytest.approx((0.1 + 1e-4) / 2)
    sampled = [schedule(k) for k in range(0, steps + 1, max(1, steps // 50))]
    assert sampled == sorted(sampled, reverse=True)


def test_warmup_of_one_step_starts_at_the_full_rate():
    schedule = cosine_schedule(0.1, 5, warmup_steps=1)
    assert schedule(0) == schedule(1) == 0.1


@pytest.mark.parametrize(("steps", "warmup"), [(0, 0), (-3, 0), (5, 5), (5, 6), (5, -1)])
def test_bad_arguments(steps, warmup):
    with pytest.raises(ValueError, match="warmup_steps < num_steps, got"):
        cosine_schedule(0.1, steps, warmup_steps=warmup)
