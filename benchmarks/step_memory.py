"""GPU memory of each chapter's largest training step at profile `full`, counted without a GPU.

What a step needs is mostly what its layers keep for the backward pass. That is the same tensors, in
the same precision, on every device, so it can be counted on a CPU: at two small batches, under
mixed precision, through the hooks that autograd calls for every tensor it keeps. A line through the
two gives the chapter's own batch. Weights, gradients and the optimiser's state are added. Not
counted are the images of the data set (under 0.2 GB) and what kernels need for a moment.

Run ``python -m benchmarks.step_memory`` (or ``make bench``). It writes ``step_memory.json`` beside
this file and the table of the book page.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from labutils import models
from labutils.augment import views
from press import technique

HERE = Path(__file__).parent
RESULT = HERE / "step_memory.json"
TABLE = HERE.parent / "book" / "generated" / "step_memory.md"

LIMIT, ROOM = 15e9, 1.25  # bytes of a free Colab T4; factor for what kernels need for a moment
CHAPTERS = ("clip", "simclrv2", "lls", "rs2", "fixmatch-saa")
COUNTED = (16, 32)  # batches at which bytes are counted


def kept_bytes(loss: Callable[[], torch.Tensor], weights: set[int]) -> int:
    """Bytes that the graph of `loss()` keeps for its backward pass, weights left out."""
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage  # held, so that no other gets its place
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16):
        result = loss()
    assert result.requires_grad
    return sum(storage.nbytes() for storage in storages.values())


def step_memory(parts: list[nn.Module], loss_of: Callable, batch: int, per_weight: int) -> dict:
    """Bytes of one step. loss_of(batch): its loss. per_weight: with gradient and optimiser."""
    weights = [p for part in parts for p in part.parameters()]
    own = {p.untyped_storage().data_ptr() for p in weights}
    low, high = (kept_bytes(lambda n=n: loss_of(n), own) for n in COUNTED)
    slope = (high - low) / (COUNTED[1] - COUNTED[0])
    state = per_weight * sum(p.numel() for p in weights)
    return {
        "batch": batch,
        "kept": round(low + slope * (batch - COUNTED[0])),
        "state": state,
    }


def images(count: int, size: int, channels: int = 3) -> torch.Tensor:
    return torch.rand(count, channels, size, size).to(memory_format=torch.channels_last)


def classifier(name: str, per_image: int = 1) -> Callable:
    """Loss of a classifier on batches of `per_image` pictures for each image of the batch."""

    def make(batch: int) -> dict:
        network = models.build(name, 3, 10, torch.Generator())

        def loss(count):
            labels = torch.zeros(per_image * count, dtype=torch.long)
            return F.cross_entropy(network(images(per_image * count, 32)), labels)

        return step_memory([network], loss, batch, 12)  # SGD: weight, gradient, momentum

    return make


def contrastive(settings: dict) -> dict:
    """One pretraining step of SimCLRv2's largest network: two views of every image."""
    chapter, s = technique.load("simclrv2"), settings
    widths = tuple(s["widths"][-1] * 2**k for k in range(s["stages"]))
    encoder = models.ResNet(3, 10, widths, s["blocks"], s["stem_stride"])
    head = chapter.ProjectionHead(encoder.classifier.in_features, s["output"])
    generator = torch.Generator().manual_seed(0)

    def loss(count):
        pictures = (255 * images(count, 32)).to(torch.uint8)
        return chapter.contrastive_step(encoder, head, pictures, views.Recipe(), 0.5, generator)

    return step_memory([encoder, head], loss, s["pretraining_batch"], 12)


def image_text(settings: dict) -> dict:
    """One step of CLIP."""
    chapter, s = technique.load("clip"), settings
    vocabulary = s["merges"] + 514  # bytes, bytes at the end of a word, start and end of text
    model = chapter.CLIP(
        chapter.ConvTower(32, s["main_widths"], s["output"]),
        chapter.BagOfTokens(vocabulary, s["text_width"], s["output"]),
    )

    def loss(count):
        tokens = torch.zeros(count, s["context"], dtype=torch.long)
        return chapter.clip_loss(*model(images(count, 32), tokens))

    return step_memory([model], loss, max(s["batch"], *s["batches"]), 16)  # AdamW: two moments


def measure() -> dict:
    """{"steps": {"CHAPTER: what": {"batch": ..., "kept": ..., "state": ...}}}."""
    clip, simclr, lls, rs2, fixmatch = (technique.settings(chapter, "full") for chapter in CHAPTERS)
    per_label = 1 + 2 * fixmatch["unlabelled_ratio"]  # a weak and a strong view of the unlabelled
    steps = {
        "clip": image_text(clip),
        "simclrv2: the largest encoder": contrastive(simclr),
        "lls: the classifier of domains": classifier(lls["model"])(lls["batch_size"]),
        "rs2: the classifier": classifier(rs2["model"])(rs2["batch_size"]),
        "fixmatch-saa: labelled, weak and strong": classifier(fixmatch["model"], per_label)(
            fixmatch["batch_size"]
        ),
    }
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"), "torch": torch.__version__, "steps": steps,
    }  # fmt: skip


def table(result: dict) -> str:
    """The table of the book page, in Markdown."""
    lines = [
        "| largest step at `full` | batch | kept for the backward pass | weights and optimiser |"
    ]
    lines.append("|---|---:|---:|---:|")
    for name, step in result["steps"].items():
        kept, state = (f"{step[part] / 1e9:.2f} GB" for part in ("kept", "state"))
        lines.append(f"| {name} | {step['batch']:,} | {kept} | {state} |")
    lines += ["", f"Counted on a CPU under mixed precision, torch {result['torch']}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    result = measure()
    print(table(result))
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    TABLE.write_text(table(result), encoding="utf-8")


if __name__ == "__main__":
    main()
