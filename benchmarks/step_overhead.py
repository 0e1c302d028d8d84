"""How much of a training step is spent outside forward pass, backward pass and optimiser.

For the chapters whose steps make their own views: CLIP (small towers, batch 128), pretraining in
SimCLRv2 (ResNet-18, batch 512) and FixMatch with sample adaptive augmentation (ResNet-18, 64
labelled images, 7 times as many unlabelled). A whole step, with views and bookkeeping, is timed in
turn with the same step on views that are made already. Losses, selection and networks are the
technique cells of the chapters.

Run ``python -m benchmarks.step_overhead`` on a machine with a GPU. It writes ``step_overhead.json``
beside this file and the table of the book page.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import card
from labutils import augment, models
from labutils.augment import strong, views
from press import technique

RESULT = Path(__file__).parent / "step_overhead.json"
STEPS, REPETITIONS, LIMIT = 20, 9, 0.15
VOCABULARY = 8514  # tokens of CLIP's captions
SMALL = "resnet-16-32-64"  # for a trial
NUM_IMAGES, MEAN, STD = 50_000, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


@dataclass
class Case:
    """A network and two losses of the rows of `inputs`: with all of a step, and the bare one."""

    network: nn.Module
    whole: Callable
    bare: Callable
    inputs: tuple
    draws: torch.Generator

    def seconds(self, loss_of: Callable) -> float:
        """Seconds of a step, as `training.train` does it."""
        optimizer = torch.optim.SGD(
            self.network.parameters(), card.RATE, momentum=0.9, nesterov=True, fused=True
        )
        return card.trained(self.network, optimizer, loss_of, self.inputs, self.draws)


def indices(generator: torch.Generator, steps: int, batch: int, device: torch.device) -> Tensor:
    """Batches of images, (2 steps, batch): as many to warm up as are timed."""
    return torch.randint(NUM_IMAGES, (2 * steps, batch), generator=generator).to(device)


def simclr(device: torch.device, batch: int, model: str, steps: int = STEPS) -> Case:
    """Contrastive pretraining."""
    chapter = technique.load("simclrv2")
    images, generator = card.pictures(device, NUM_IMAGES)
    draws = torch.Generator(device).manual_seed(0)
    encoder = models.build(model, 3, 10, torch.Generator()).to(device)
    head = chapter.ProjectionHead(encoder.classifier.in_features, 128).to(device)
    recipe = views.Recipe(strength=0.5, blur_probability=0.0)
    there = torch.cat(views.two_views(images[:batch], recipe, draws))

    def whole(chosen: Tensor) -> Tensor:
        batch = images.index_select(0, chosen)
        return chapter.contrastive_step(encoder, head, batch, recipe, 0.5, draws)

    def bare(chosen: Tensor) -> Tensor:
        return chapter.nt_xent_loss(*head(encoder.features(there)).chunk(2), 0.5)

    inputs = (indices(generator, steps, batch, device),)
    return Case(nn.ModuleList([encoder, head]), whole, bare, inputs, draws)


def fixmatch(device: torch.device, batch: int, model: str, steps: int = STEPS, ratio: int = 7):
    """FixMatch + SAA with nine in ten naive; every image gets both strong views, one is taken."""
    settings = SimpleNamespace(**technique.settings("fixmatch-saa", "small"))
    given = {"lab": SimpleNamespace(device=device, seeds=(0,)), "S": settings}
    chapter = technique.load("fixmatch-saa", tags=("technique", "experiment"), given=given)
    images, generator = card.pictures(device, NUM_IMAGES)
    draws = torch.Generator(device).manual_seed(0)
    network = models.build(model, 3, 10, torch.Generator()).to(device)
    average = chapter.MovingAverage(network, 0.999)
    history = chapter.HistoryLoss(len(images), device=device)
    harder = torch.rand(len(images), generator=generator).to(device) < 0.9
    labels = torch.zeros(batch, dtype=torch.long, device=device)

    def views_of(labelled: Tensor, chosen: Tensor) -> Tensor:
        x, u = images.index_select(0, labelled), images.index_select(0, chosen)
        once, twice = (strong.strong_augment(u, draws, 3) for _ in range(2))
        naive = harder.index_select(0, chosen).view(-1, 1, 1, 1)
        hard = torch.where(naive, chapter.regroup(once, twice, draws), once)
        moved = augment.pad_crop_flip(torch.cat([x, u, hard]), 4, draws)
        return augment.normalise(moved, MEAN, STD)

    def losses(inputs: Tensor):
        logits = network(inputs).float().split([batch, ratio * batch, ratio * batch])
        unlabelled, _ = chapter.fixmatch_loss(*logits[1:], 0.95)
        return F.cross_entropy(logits[0], labels) + unlabelled, logits

    def whole(labelled: Tensor, chosen: Tensor) -> Tensor:
        loss, logits = losses(views_of(labelled, chosen))
        history.record(chosen, chapter.consistency(*logits[1:])[0])
        average.update_parameters(network)
        return loss

    inputs = tuple(indices(generator, steps, n, device) for n in (batch, ratio * batch))
    there = views_of(*(x[0] for x in inputs))
    return Case(network, whole, lambda *_: losses(there)[0], inputs, draws)


def clip(device: torch.device, batch: int, widths: list[int], steps: int = STEPS) -> Case:
    """Contrastive training on pictures and captions; the towers have the output of `full`."""
    chapter = technique.load("clip")
    images, generator = card.pictures(device, NUM_IMAGES)
    draws = torch.Generator(device).manual_seed(0)
    captions = torch.randint(VOCABULARY, (NUM_IMAGES, 16), generator=generator).to(device)
    network = chapter.CLIP(
        chapter.ConvTower(32, widths, 256), chapter.BagOfTokens(VOCABULARY, 256, 256)
    ).to(device)
    recipe = views.Recipe(
        scale=(0.8, 1.0), flip_probability=0.0, strength=0.25, grey_probability=0.05,
        blur_probability=0.0,
    )  # fmt: skip
    there = 4 * images[:batch].float() / 255 - 2

    def loss_of(pictures: Tensor, chosen: Tensor) -> Tensor:
        network.bound_scale()
        return chapter.clip_loss(*network(pictures, captions.index_select(0, chosen)))

    def whole(chosen: Tensor) -> Tensor:
        view = views.random_view(images.index_select(0, chosen), recipe, draws)
        return loss_of(4 * view - 2, chosen)

    inputs = (indices(generator, steps, batch, device),)
    return Case(network, whole, lambda chosen: loss_of(there, chosen), inputs, draws)


def measure(make: Callable, device: torch.device, *sizes, repetitions=REPETITIONS) -> dict:
    """Seconds of both kinds of step, in turn, and the share that is outside the bare one."""
    case = make(device, *sizes)
    rows = [[case.seconds(loss) for loss in (case.whole, case.bare)] for _ in range(repetitions)]
    shares = [1 - inner / outer for outer, inner in rows]
    return {
        "whole": [outer for outer, _ in rows], "bare": [inner for _, inner in rows],
        "share": statistics.median(shares), "shares": shares,
    }  # fmt: skip


def measure_all(device: torch.device, smoke: bool) -> dict:
    """{"limit": ..., "steps": {what: times and share}}."""
    if smoke:
        return {
            "limit": LIMIT,
            "steps": {
                "CLIP": measure(clip, device, 8, [4, 8], 2, repetitions=2),
                "SimCLRv2": measure(simclr, device, 8, SMALL, 2, repetitions=2),
                "FixMatch + SAA": measure(fixmatch, device, 2, SMALL, 2, repetitions=2),
            },
        }
    return {
        "limit": LIMIT,
        "steps": {
            "CLIP, small towers, batch 128": measure(clip, device, 128, [64, 128, 256]),
            "SimCLRv2, ResNet-18, batch 512": measure(simclr, device, 512, "resnet18"),
            "FixMatch + SAA, ResNet-18, batch 64": measure(fixmatch, device, 64, "resnet18"),
        },
    }


def render(result: dict) -> str:
    """The table of the book's page."""
    lines = ["| step | whole, ms | outside forward, backward and optimiser |", "|---|---:|---:|"]
    for name, row in result["steps"].items():
        whole = 1000 * statistics.median(row["whole"])
        lines.append(f"| {name} | {whole:.1f} | {100 * row['share']:.1f} % |")
    bar = f"The bar is {100 * result['limit']:.0f} %."
    return "\n".join([*lines, "", f"{bar} {card.origin(result)}", ""])


if __name__ == "__main__":
    card.main("step_overhead", measure_all, render)
