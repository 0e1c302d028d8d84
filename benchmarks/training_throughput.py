"""Training throughput: our batched loop against a DataLoader with per-image transforms.

Both sides train the same model with the same function, ``labutils.training.train``, on one CPU
core (one thread, pinned where the system can). They differ only in where a batch comes from: ours
is cut out of one uint8 tensor and augmented as a whole; the peer's comes from
``torch.utils.data.DataLoader`` over single PIL images with torchvision's transforms, as
torchvision's data sets do it.

Run ``python -m benchmarks.training_throughput`` (or ``make bench``) on a quiet machine. It writes
``training_throughput.json`` beside this file and the table and figure of the book page.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from labutils import augment, data, models
from labutils.training import cosine_schedule, train

HERE = Path(__file__).parent
RESULT = HERE / "training_throughput.json"
GENERATED = HERE.parent / "book" / "generated"

BATCH_SIZE = 128
PADDING = 2
EPOCHS = 10  # of the training that says what each model is worth
LEARNING_RATE = 0.1
# Steps of one repetition: some tenths of a second for ours, enough to average for the peer.
STEPS = {"cnn-tiny": (200, 20), "resnet-16-32-64": (20, 12)}
REPETITIONS = 9


class PerImage(Dataset):
    """What torchvision's data sets do: one PIL image, transformed alone, per index."""

    def __init__(self, split: data.Images, mean: tuple[float, ...], std: tuple[float, ...]):
        self.images = split.images[:, 0]
        self.labels = split.labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(self.images.shape[-1], padding=PADDING),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean, std),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.images[index].numpy())
        return self.transform(image), self.labels[index]


def loader(dataset: data.Dataset) -> DataLoader:
    """The peer: no worker processes, because there is one core for everything."""
    images = PerImage(dataset.train, dataset.mean, dataset.std)
    return DataLoader(images, BATCH_SIZE, shuffle=True, drop_last=True)


class BatchedInput:
    """Ours: call it for the next batch of augmented, normalised images and their labels."""

    def __init__(self, dataset: data.Dataset, generator: torch.Generator):
        self.dataset, self.generator = dataset, generator
        self.order: Tensor = torch.empty(0, dtype=torch.int64)

    def __call__(self) -> tuple[Tensor, Tensor]:
        split = self.dataset.train
        if len(self.order) < BATCH_SIZE:
            self.order = torch.randperm(len(split), generator=self.generator)
        chosen, self.order = self.order[:BATCH_SIZE], self.order[BATCH_SIZE:]
        images = augment.pad_crop_flip(
            split.images.index_select(0, chosen), PADDING, self.generator
        )
        images = augment.normalise(images, self.dataset.mean, self.dataset.std)
        return images, split.labels.index_select(0, chosen)


def run_training(model: torch.nn.Module, next_batch: Callable, num_steps: int) -> float:
    """Train for ``num_steps``; return images per second."""
    optimizer = torch.optim.SGD(
        model.parameters(),
        LEARNING_RATE,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        fused=True,
    )

    def step_loss(step: int) -> Tensor:
        images, labels = next_batch()
        return F.cross_entropy(model(images), labels)

    history = train(
        model, step_loss, num_steps, optimizer, cosine_schedule(LEARNING_RATE, num_steps)
    )
    return num_steps * BATCH_SIZE / history.seconds[num_steps]


def run_input(next_batch: Callable, num_steps: int) -> float:
    """Make ``num_steps`` batches without training; return images per second."""
    start = time.perf_counter()
    for _ in range(num_steps):
        next_batch()
    return num_steps * BATCH_SIZE / (time.perf_counter() - start)


def interleave(ours: Callable[[], float], peer: Callable[[], float], repetitions: int) -> dict:
    """Measure both in turn after one warm-up each; ratios are paired within a repetition."""
    ours(), peer()
    pairs = [(ours(), peer()) for _ in range(repetitions)]
    return {
        "ours": summary([a for a, _ in pairs]),
        "peer": summary([b for _, b in pairs]),
        "ratio": summary([a / b for a, b in pairs]),
    }


def summary(values: list[float]) -> dict:
    digits = 3 if max(values) < 1000 else 0
    return {
        "median": round(statistics.median(values), digits),
        "low": round(min(values), digits),
        "high": round(max(values), digits),
    }


def accuracy_after_training(name: str, dataset: data.Dataset) -> float:
    """Percent of the validation split that is right after EPOCHS epochs of ours."""
    generator = torch.Generator().manual_seed(1)
    model = models.build(name, 1, 10, generator)
    run_training(
        model, BatchedInput(dataset, generator), EPOCHS * (len(dataset.train) // BATCH_SIZE)
    )
    model.eval()
    correct = 0
    with torch.inference_mode():
        for images, labels in zip(
            dataset.validation.images.split(500), dataset.validation.labels.split(500), strict=True
        ):
            logits = model(augment.normalise(images, dataset.mean, dataset.std))
            correct += int((logits.argmax(1) == labels).sum())
    return 100 * correct / len(dataset.validation)


def environment() -> dict:
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x]
        cpu = names[0].split(":", 1)[1].strip() if names else cpu
    load = [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None
    return {
        "cpu": cpu,
        "cores_used": 1,
        "load_before": load,
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
        "torchvision": torchvision.__version__.split("+")[0],
        "numpy": np.__version__,
        "platform": f"{platform.system()}-{platform.machine()}",
    }


def measure(repetitions: int, with_accuracy: bool) -> dict:
    result = {
        "schema": 1,
        "finished": None,
        "environment": environment(),
        "settings": {
            "data": "fashion-mnist",
            "batch_size": BATCH_SIZE,
            "padding": PADDING,
            "repetitions": repetitions,
            "epochs": EPOCHS if with_accuracy else None,
        },
    }
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    generator = torch.Generator().manual_seed(0)
    dataset = data.load("fashion-mnist", num_validation=5_000, generator=generator)
    batched, per_image = BatchedInput(dataset, generator), loader(dataset)

    def per_image_batches() -> Callable:
        return iter(per_image).__next__

    result["input"] = interleave(
        lambda: run_input(batched, 400), lambda: run_input(per_image_batches(), 20), repetitions
    )
    print("input alone", json.dumps(result["input"]), flush=True)
    result["models"] = {}
    for name, (our_steps, peer_steps) in STEPS.items():
        ours, peer = (models.build(name, 1, 10, generator) for _ in range(2))
        row = interleave(
            lambda m=ours, n=our_steps: run_training(m, batched, n),
            lambda m=peer, n=peer_steps: run_training(m, per_image_batches(), n),
            repetitions,
        )
        row["parameters"] = sum(p.numel() for p in ours.parameters())
        row["validation_accuracy"] = (
            round(accuracy_after_training(name, dataset), 2) if with_accuracy else None
        )
        row["loader_cores"] = math.ceil(row["ours"]["median"] / result["input"]["peer"]["median"])
        result["models"][name] = row
        print(name, json.dumps(row), flush=True)
    result["finished"] = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return result


# The page


def interval(row: dict, digits: int = 0) -> str:
    """Median and range, as ``61,000 (58,000 to 62,000)``."""
    median, low, high = (f"{row[key]:,.{digits}f}" for key in ("median", "low", "high"))
    return f"{median} ({low} to {high})"


def render(result: dict) -> str:
    """The book's table and the sentences with numbers, from the JSON."""
    env, settings, alone = result["environment"], result["settings"], result["input"]
    lines = [
        "| | ours, images/s | `DataLoader`, images/s | ratio | parameters | validation accuracy |",
        "|---|---|---|---|---|---|",
        f"| input alone | {interval(alone['ours'])} | {interval(alone['peer'])} "
        f"| **{interval(alone['ratio'], 1)}** | | |",
    ]
    for name, row in result["models"].items():
        accuracy = row["validation_accuracy"]
        lines.append(
            f"| train `{name}` | {interval(row['ours'])} | {interval(row['peer'])} "
            f"| **{interval(row['ratio'], 1)}** | {row['parameters']:,} "
            f"| {'' if accuracy is None else f'{accuracy:.1f} %'} |"
        )
    fastest = next(iter(result["models"]))
    row = result["models"][fastest]
    load = f"; load average before the run {env['load_before'][0]}" if env["load_before"] else ""
    lines += [
        "",
        f"Median and range of {settings['repetitions']} interleaved repetitions, batch size "
        f"{settings['batch_size']}, float32, one core of {env['cpu']} ({env['platform']}), Python "
        f"{env['python']}, torch {env['torch']}, torchvision {env['torchvision']}, measured "
        f"{result['finished'][:10]}{load}. Accuracy is that of one run of {settings['epochs']} "
        "epochs on 5,000 images held out from the training set.",
        "",
        f"A loader makes {alone['peer']['median']:,.0f} images per second and core. To keep up "
        f"with our loop on one core, it would need about {row['loader_cores']} more cores for "
        f"`{fastest}`"
        + "".join(
            f", {other['loader_cores']} for `{name}`"
            for name, other in result["models"].items()
            if name != fastest
        )
        + ". The larger the model, the less the input matters: the ratio is a property of small "
        "models and small images.",
        "",
    ]
    return "\n".join(lines)


def draw(result: dict, path: Path) -> None:
    """Images per second of both sides, one pair of bars per measurement."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "benchmarks"  # the same file for the same numbers
    from matplotlib import pyplot as plt

    rows = {"input alone": result["input"]} | {
        f"train {name}": row for name, row in result["models"].items()
    }
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    for offset, side, label, colour in (
        (-0.19, "ours", "batched tensors (ours)", "#0072B2"),
        (0.19, "peer", "DataLoader, per-image transforms", "#E69F00"),
    ):
        medians = [row[side]["median"] for row in rows.values()]
        errors = [
            [abs(row[side]["median"] - row[side][end]) for row in rows.values()]
            for end in ("low", "high")
        ]
        places = [i + offset for i in range(len(rows))]
        axes.barh(places, medians, 0.36, xerr=errors, label=label, color=colour, ecolor="0.25")
    for i, row in enumerate(rows.values()):
        axes.annotate(
            f"{row['ratio']['median']:.1f}x",
            (row["ours"]["high"], i - 0.19),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.set_yticks(range(len(rows)), rows)
    axes.invert_yaxis()
    axes.set_xlabel("images per second on one CPU core (logarithmic)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.45, 1.18), ncols=2, frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def write_page(result: dict, folder: Path) -> None:
    """Table and figure of ``book/benchmarks.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "training_throughput.md").write_text(render(result))
    draw(result, folder / "training_throughput.svg")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure training throughput side by side.")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--no-accuracy", action="store_true", help="skip the 10-epoch trainings")
    parser.add_argument("--page", action="store_true", help="only redraw the page from the JSON")
    parser.add_argument("--dry-run", action="store_true", help="print, write nothing")
    arguments = parser.parse_args()
    if arguments.page:
        write_page(json.loads(RESULT.read_text()), GENERATED)
        return
    result = measure(arguments.repetitions, not arguments.no_accuracy)
    if not arguments.dry_run:
        RESULT.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
        write_page(result, GENERATED)


if __name__ == "__main__":
    main()
