"""Every kind of wait is found where it is, and operators are counted as a GPU would launch them."""

import no_wait
import pytest
import torch
import torch.nn.functional as F

x = torch.arange(12.0).view(4, 3)
mask, place, places = x[:, 0] > 2, torch.tensor(1), torch.tensor([1, 2])


def seeded():
    return torch.Generator().manual_seed(0)


WAITS = {
    "item": lambda: x.sum().item(),
    "float": lambda: float(x.sum()),
    "if on a tensor": lambda: 1 if mask.any() else 2,
    "nonzero": lambda: mask.nonzero(),
    "selection by a mask": lambda: x[mask],
    "assignment by a mask of unknown size": lambda: x.clone().index_put_((mask,), x[mask]),
    "masked_select": lambda: x.masked_select(mask[:, None]),
    "unique": lambda: x.unique(),
    "index without dimensions": lambda: x[place],
    "range by a tensor": lambda: [0, 1, 2][place],
    "tolist": lambda: x.tolist(),
    "tolist of a result": lambda: (x + 1).tolist(),
    "cpu": lambda: x.cpu(),
    "numpy": lambda: x.numpy(),
    "constant of Python's numbers": lambda: x + torch.tensor([1.0, 2.0, 3.0]),
    "number assigned to places": lambda: x.clone().__setitem__(places, 5.0),
    "value of a fresh draw": lambda: torch.rand((), generator=seeded()).item(),
    "repetition by counts": lambda: x.repeat_interleave(torch.tensor([1, 2, 0, 1]), 0),
}


@pytest.mark.parametrize("name", WAITS)
def test_every_kind_of_wait_is_found(name):
    with pytest.raises(
        no_wait.WaitError, match=r"the step .* at .*test_no_wait.py:\d+, in <lambda>"
    ):
        no_wait.check(WAITS[name])


def network():
    layers = torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten()
    return torch.nn.Sequential(*layers, torch.nn.Dropout(0.1), torch.nn.Linear(144, 3))


class Training:
    """A whole step of training."""

    def __init__(self, make=torch.optim.SGD, **options):
        self.net, self.generator, self.memory = network(), seeded(), torch.zeros(20)
        self.images, self.labels = torch.rand(20, 1, 8, 8), torch.arange(20) % 3
        self.optimizer = make(self.net.parameters(), 0.1, **options)
        self.chosen, self.runs = torch.tensor([3, 1, 2, 7]), 0

    def step(self):
        noise = torch.rand(4, 1, 8, 8, generator=self.generator, device=self.generator.device)
        logits = self.net(self.images[self.chosen] + noise)
        losses = F.cross_entropy(logits, self.labels[self.chosen], reduction="none")
        self.memory[self.chosen] = losses.detach()
        self.optimizer.zero_grad()
        torch.where(losses < 9, losses, 0.0).mean().backward()
        self.optimizer.step()
        self.runs += 1


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (torch.optim.SGD, {"momentum": 0.9}),
        (torch.optim.SGD, {"momentum": 0.9, "fused": True}),
        (torch.optim.AdamW, {"fused": True}),
    ],
)
def test_a_whole_step_without_waits_passes(make, options):
    task = Training(make, **options)
    no_wait.check(task.step)
    assert task.runs == 2
    assert (task.memory != 0).sum() == 4


def test_an_optimiser_that_waits_is_found():
    with pytest.raises(no_wait.WaitError, match=r"test_no_wait.py:\d+, in step"):
        no_wait.check(Training(torch.optim.AdamW).step)


def test_views_and_metadata_are_not_counted():
    def step():
        y = x.t()[1:].view(2, 2, 2).unsqueeze(0).expand(3, -1, -1, -1)
        z = torch.empty_like(y).copy_(y)
        return (z.mul_(2) + 1).detach().sum().reshape(1)

    assert no_wait.operators(step) == {"copy_": 1, "mul_": 1, "add": 1, "sum": 1}
