"""The GPU that is not there refuses what CUDA refuses, and computes what a CPU does."""

import copy

import numpy as np
import pretend_card
import pytest
import torch
import torch.nn.functional as F


@pytest.fixture
def card():
    with pretend_card.here():
        yield torch.device("cuda")


def seeded(device):
    return torch.Generator(device).manual_seed(0)


MIXED = {
    "sum": lambda x: x + torch.ones(4),
    "list": lambda x: torch.cat([x, torch.ones(3, 4)]),
    "labels": lambda x: F.cross_entropy(x, torch.tensor([0, 1, 2])),
    "CPU indexed by the card": lambda x: torch.ones(20)[x[0].long()],
    "values put": lambda x: x.index_put_((torch.tensor([0]),), torch.ones(1, 4)),
    "layer": lambda x: torch.nn.Linear(4, 2)(x),
    "generator of the CPU": lambda x: torch.rand(3, generator=seeded("cpu"), device=x.device),
    "generator of the card": lambda x: torch.rand(3, generator=seeded("cuda")),
    "in place": lambda x: x.normal_(generator=seeded("cpu")),
}


@pytest.mark.parametrize("name", MIXED)
def test_what_lies_on_two_devices_is_refused(card, name):
    with pytest.raises(pretend_card.OtherDeviceError):
        MIXED[name](torch.arange(12.0, device=card).view(3, 4))


@pytest.mark.parametrize("convert", [lambda x: x.numpy(), np.asarray, lambda x: np.array([x, x])])
def test_a_tensor_on_the_card_is_no_array(card, convert):
    with pytest.raises(TypeError, match="can't convert cuda"):
        convert(torch.ones((), device=card))


def test_what_cuda_allows_is_allowed(card):
    x = torch.arange(12.0).view(3, 4).to(card)
    assert x.is_cuda
    assert (x + torch.tensor(1.0)).device == x.device  # a number that happens to be a tensor
    assert x[torch.tensor([2, 0])].device == x.device  # indices of the CPU
    assert torch.equal(x.cpu().copy_(x + 1), torch.arange(1.0, 13).view(3, 4))
    assert torch.zeros_like(x).device == x.new_ones(2).device == x.double().device == x.device
    assert x.to(torch.zeros(1, dtype=torch.float64)).device.type == "cpu"
    assert f"{x.sum():.1f} {x[0].tolist()} {x.max().item()}" == "66.0 [0.0, 1.0, 2.0, 3.0] 11.0"
    assert F.one_hot(x[0].long(), 4).device == x.device


def trained(device):
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten()
    net = torch.nn.Sequential(*layers, torch.nn.Linear(144, 3)).to(device)
    images, labels = torch.rand(6, 1, 8, 8).to(device), (torch.arange(6) % 3).to(device)
    adam = torch.optim.Adam(net.parameters(), 0.01, fused=True)
    for _ in range(4):
        loss = F.cross_entropy(net(images), labels)
        adam.zero_grad()
        loss.backward()
        adam.step()
    return copy.deepcopy(net).eval()(images).detach().cpu()


def test_training_gives_the_numbers_of_a_cpu(card):
    assert torch.equal(trained(card), trained("cpu"))


WAITS = {
    "item": lambda x: x.sum().item(),
    "if": lambda x: 1 if x.sum() > 0 else 2,
    "mask": lambda x: x[x > 3],
    "nonzero": lambda x: x.nonzero(),
    "copy to the CPU": lambda x: x.cpu(),
    "copy to the card": lambda x: torch.ones(3).to(x.device),
    "indices of the CPU": lambda x: x[torch.tensor([0, 1])],
    "numbers": lambda x: torch.tensor([1.0, 2.0], device=x.device),
    "tolist": lambda x: x.tolist(),
    "index without dimensions": lambda x: x[x[1].long()],
}  # fmt: skip


@pytest.mark.parametrize("name", WAITS)
def test_waits_are_noticed_where_they_are(card, name):
    x = torch.arange(4.0, device=card)
    assert pretend_card.watched(lambda: x.square().sum(), None) == []
    (place, *_) = pretend_card.watched(lambda: WAITS[name](x), None)
    assert "test_pretend_card.py:" in place


def test_nothing_is_left_behind():
    before = torch.Generator, torch.cuda.is_available, torch.nn.Parameter.__new__
    with pretend_card.here():
        assert torch.cuda.is_available()
    assert (torch.Generator, torch.cuda.is_available, torch.nn.Parameter.__new__) == before
    assert type(torch.nn.Linear(1, 1).weight) is torch.nn.Parameter
