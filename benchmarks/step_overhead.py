"""How much of a training step is spent outside forward pass, backward pass and optimiser.

For the chapters whose steps make their own views: pretraining in SimCLRv2 (ResNet-18, batch 512)
and FixMatch with sample adaptive augmentation (ResNet-18, 64 labelled images, 7 times as many
unlabelled). A whole step, with views and bookkeeping, is timed in turn with the same step on views
that are made already. Losses, selection and networks are the technique cells of the chapters.

Run ``python -m benchmarks.step_overhead`` on a machine with a GPU. It writes ``step_overhead.json``
beside this file.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from labutils import augment, models
from labutils.augment import strong, views
from labutils.training import MovingAverage
from press import technique

RESULT = Path(__file__).parent / "step_overhead.json"
STEPS, REPETITIONS, LIMIT = 20, 9, 0.15
NUM_IMAGES, MEAN, STD = 50_000, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def pictures(device: torch.device) -> tuple[Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (NUM_IMAGES, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return images.to(device), generator


def update(parameters: list, rate: float) -> Callable:
    """A function that does one step of SGD on a loss."""
    device = parameters[0].device
    optimizer = torch.optim.SGD(parameters, rate, momentum=0.9, nesterov=True, fused=True)
    dtype = torch.bfloat16

    def step(loss_of: Callable[[], Tensor]) -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype, enabled=device.type == "cuda"):
            loss = loss_of()
        loss.backward()
        optimizer.step()

    return step


def simclr(device: torch.device, batch: int, model: str) -> tuple[Callable, Callable]:
    """(whole step, the same on views that are there) of a contrastive pretraining."""
    chapter = technique.load("simclrv2")
    images, generator = pictures(device)
    encoder = models.build(model, 3, 10, torch.Generator()).to(device)
    head = chapter.ProjectionHead(encoder.classifier.in_features, 128).to(device)
    recipe = views.Recipe(strength=0.5, blur_probability=0.0)
    train = update([*encoder.parameters(), *head.parameters()], 0.01)
    there = torch.cat(views.two_views(images[:batch], recipe, generator))

    def whole() -> None:
        chosen = torch.randint(len(images), (batch,), generator=generator).to(device)
        train(lambda: chapter.contrastive_step(
            encoder, head, images[chosen], recipe, 0.5, generator
        ))  # fmt: skip

    def bare() -> None:
        train(lambda: chapter.nt_xent_loss(*head(encoder.features(there)).chunk(2), 0.5))

    return whole, bare


def fixmatch(device: torch.device, batch: int, model: str, ratio: int = 7):
    """(whole step, the same on views that are there) of FixMatch + SAA with nine in ten naive."""
    chapter = technique.load("fixmatch-saa")
    images, generator = pictures(device)
    network = models.build(model, 3, 10, torch.Generator()).to(device)
    average, train = MovingAverage(network, 0.999), update([*network.parameters()], 0.01)
    history = chapter.HistoryLoss(len(images), device=device)
    harder = torch.rand(len(images), generator=generator).to(device) < 0.9
    labels = torch.zeros(batch, dtype=torch.long, device=device)

    def views_of(labelled: Tensor, indices: Tensor) -> Tensor:
        x, u = images[labelled], images[indices]
        hard, at = strong.strong_augment(u, generator, 3), harder[indices].nonzero()[:, 0]
        second = strong.strong_augment(u[at], generator, 3)
        hard[at] = chapter.regroup(hard[at], second, generator)
        weak = augment.pad_crop_flip(torch.cat([x, u, hard]), 4, generator)
        return augment.normalise(weak, MEAN, STD)

    def losses(inputs: Tensor):
        logits = network(inputs).float().split([batch, ratio * batch, ratio * batch])
        unlabelled, _ = chapter.fixmatch_loss(*logits[1:], 0.95)
        return F.cross_entropy(logits[0], labels) + unlabelled, logits

    def draw(count: int) -> Tensor:
        return torch.randperm(len(images), generator=generator)[:count].to(device)

    there = views_of(draw(batch), draw(ratio * batch))

    def whole() -> None:
        indices = draw(ratio * batch)

        def loss_of():
            loss, logits = losses(views_of(draw(batch), indices))
            history.record(indices, chapter.consistency(*logits[1:])[0])
            return loss

        train(loss_of)
        average.update_parameters(network)

    return whole, lambda: train(lambda: losses(there)[0])


def seconds(step: Callable, device: torch.device, steps: int) -> float:
    """Mean seconds of a step, with everything that a GPU was asked to do finished."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / steps


def measure(make: Callable, device: torch.device, *sizes, steps=STEPS, repetitions=REPETITIONS):
    """Seconds of both kinds of step, in turn, and the share that is outside the bare one."""
    whole, bare = make(device, *sizes)
    for step in (whole, bare):
        seconds(step, device, 3)  # warm
    rows = [[seconds(step, device, steps) for step in (whole, bare)] for _ in range(repetitions)]
    shares = [1 - inner / outer for outer, inner in rows]
    return {
        "whole": [outer for outer, _ in rows], "bare": [inner for _, inner in rows],
        "share": statistics.median(shares), "shares": shares,
    }  # fmt: skip


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("This benchmark is about GPUs, and torch sees none here.")
    device = torch.device("cuda")
    result = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "device": torch.cuda.get_device_name(device),
        "torch": torch.__version__,
        "limit": LIMIT,
        "steps": {
            "SimCLRv2, ResNet-18, batch 512": measure(simclr, device, 512, "resnet18"),
            "FixMatch + SAA, ResNet-18, batch 64": measure(fixmatch, device, 64, "resnet18"),
        },
    }
    for name, row in result["steps"].items():
        print(f"{name}: {100 * row['share']:.1f} % of a step outside (at most {100 * LIMIT:.0f})")
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
