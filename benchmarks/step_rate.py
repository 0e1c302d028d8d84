"""Steps per second on a card: a plain loop, `training.train`, and many networks trained at once.

A step takes its images out of a tensor on the card, pads, crops and mirrors them, and does forward
pass, backward pass and SGD. The plain loop asks for one kernel after another; `training.train`
captures the whole step where it can. Many networks of one shape are trained at once by
``torch.func``.

Run ``python -m benchmarks.step_rate`` on a machine with a GPU. It writes ``step_rate.json`` beside
this file and the table of the book page.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import card
from labutils import augment, models

RESULT = Path(__file__).parent / "step_rate.json"
NUM_IMAGES, MEAN, STD, RATE = 50_000, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), card.RATE
# network: batch, steps that are timed after as many to warm up
NETWORKS = {
    "cnn-tiny": (120, 2000), "resnet-16-32-64": (128, 500), "resnet18": (115, 300),
}  # fmt: skip
AT_ONCE = (1, 8, 64)


def case(name: str, batch: int, steps: int, device: torch.device, number: int):
    """(network, optimiser, loss of a batch of indices, (indices (2 steps, batch),), generator)."""
    images, generator = card.pictures(device, number)
    labels = torch.zeros(batch, dtype=torch.long, device=device)
    order = torch.randint(number, (2 * steps, batch), generator=generator).to(device)
    draws = torch.Generator(device).manual_seed(0)
    network = models.build(name, 3, 10, torch.Generator()).to(device)
    optimizer = torch.optim.SGD(network.parameters(), RATE, momentum=0.9, fused=True)

    def loss_of(chosen: Tensor) -> Tensor:
        batch = augment.pad_crop_flip(images.index_select(0, chosen), 4, draws)
        return F.cross_entropy(network(augment.normalise(batch, MEAN, STD)).float(), labels)

    return network, optimizer, loss_of, (order,), draws


def eager(network, optimizer, loss_of: Callable, inputs: tuple, draws: torch.Generator) -> float:
    """Seconds of a step in the loop that every tutorial has, from the second half of the steps."""
    (order,) = inputs
    device, started = order.device, 0.0
    for k, chosen in enumerate(order):
        if 2 * k == len(order):
            started = card.clock(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = loss_of(chosen)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (card.clock(device) - started) / (len(order) // 2)


def rates(name: str, batch: int, steps: int, device: torch.device, number: int) -> dict:
    """{"eager": milliseconds of a step, "training.train": ...}."""
    return {
        loop: 1000 * run(*case(name, batch, steps, device, number))
        for loop, run in (("eager", eager), ("training.train", card.trained))
    }


def together(count: int, batch: int, steps: int, device: torch.device) -> float:
    """Milliseconds of a step of so many networks (cnn-tiny), each on a batch of its own."""
    networks = [
        models.build("cnn-tiny", 3, 10, torch.Generator().manual_seed(k)).to(device)
        for k in range(count)
    ]
    weights, buffers = torch.func.stack_module_state(networks)
    shape = copy.deepcopy(networks[0]).to("meta")
    x = torch.rand(count, batch, 3, 32, 32, device=device)
    y = torch.zeros(count, batch, dtype=torch.long, device=device)

    def loss_of(own: dict, fixed: dict, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(torch.func.functional_call(shape, (own, fixed), (x,)), y)

    gradients_of = torch.func.vmap(torch.func.grad(loss_of))

    def step() -> None:
        found = gradients_of(weights, buffers, x, y)
        with torch.no_grad():
            for name, gradient in found.items():
                weights[name].sub_(gradient, alpha=RATE)

    card.seconds(step, device, 3)  # warm
    return 1000 * card.seconds(step, device, steps)


def measure(device: torch.device, smoke: bool) -> dict:
    """{"networks": {name and batch: milliseconds by loop}, "at_once": {count: milliseconds}}."""
    networks = {"cnn-tiny": (8, 3)} if smoke else NETWORKS
    number, steps = (100, 3) if smoke else (NUM_IMAGES, 300)
    return {
        "networks": {
            f"{name}, batch {batch}": rates(name, batch, n, device, number)
            for name, (batch, n) in networks.items()
        },
        "at_once": {
            str(count): together(count, 8 if smoke else 120, steps, device)
            for count in (AT_ONCE[:2] if smoke else AT_ONCE)
        },
    }


def render(result: dict) -> str:
    """The two tables of the book's page."""
    loops = list(next(iter(result["networks"].values())))
    lines = [f"| steps per second | {' | '.join(loops)} |", "|---|" + "---:|" * len(loops)]
    for name, row in result["networks"].items():
        lines.append(f"| {name} | {' | '.join(f'{1000 / row[loop]:,.0f}' for loop in loops)} |")
    lines += ["", "| networks at once | a step of all, ms | a step of each, ms |"]
    lines += ["|---:|---:|---:|"]
    for count, spent in result["at_once"].items():
        lines.append(f"| {count} | {spent:.2f} | {spent / int(count):.3f} |")
    return "\n".join([*lines, "", card.origin(result), ""])


if __name__ == "__main__":
    card.main("step_rate", measure, render)
