"""Whole training steps: our batched loop against steps that a DataLoader feeds, image by image.

Both sides train the same model with the same function, ``labutils.training.train``, on one CPU
core (one thread, pinned where the system can). They differ only in where a batch comes from: ours
is cut out of one uint8 tensor and augmented as a whole; the peer's comes from
``torch.utils.data.DataLoader`` over single PIL images, as torchvision's data sets do it: with
torchvision's transforms for a classifier and for FixMatch, with lightly's for SimCLR. A third side,
`limit`, trains on one batch that is there already.

Run ``python -m benchmarks.training_throughput`` (or ``make bench``) on a quiet machine. It writes
``training_throughput.json`` beside this file and the table and figure of the book page.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks import sides
from benchmarks.augmentation import GREY, VIEWS, cutout
from benchmarks.augmentation import PerImage as TwoViews
from labutils import augment, data, models
from labutils.augment import strong, views
from labutils.training import cosine_schedule, train
from press import technique

RESULT = Path(__file__).parent / "training_throughput.json"

BATCH_SIZE = 128
PADDING = 2
EPOCHS = 10  # of the training that says what each model is worth
LEARNING_RATE = 0.1
RATIO = 7  # unlabelled images for each labelled one in a step of FixMatch
NETWORK = "resnet-16-32-64"  # of SimCLR and FixMatch
# Steps of one measurement: of ours, of the peer.
STEPS = {"cnn-tiny": (100, 20), NETWORK: (12, 8), "SimCLR": (6, 3), "FixMatch": (6, 3)}
REPETITIONS = 5


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


def run_training(model: nn.Module, next_batch: Callable, num_steps: int, loss_of=None) -> float:
    """Train for ``num_steps``; return images per second. Without loss_of(batch), a classifier."""
    optimizer = torch.optim.SGD(
        model.parameters(), LEARNING_RATE, momentum=0.9, nesterov=True, weight_decay=5e-4,
        fused=True,
    )  # fmt: skip

    def classify(batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1])

    started = sides.clock()
    train(
        model, lambda step: (loss_of or classify)(next_batch()), num_steps, optimizer,
        cosine_schedule(LEARNING_RATE, num_steps),
    )  # fmt: skip
    return num_steps * BATCH_SIZE / (sides.clock() - started)


def endless(loader: DataLoader) -> Callable:
    """Call it for the next batch; passes follow each other."""
    batches = (batch for _ in iter(int, 1) for batch in loader)
    return lambda: next(batches)


# --- the steps ------------------------------------------------------------------------------------


def classifier(name: str, dataset: data.Dataset, generator: torch.Generator) -> tuple:
    """(model, our batches, the peer's, loss)."""
    model = models.build(name, 1, 10, generator)
    return model, BatchedInput(dataset, generator), endless(loader(dataset)), None


def simclr(dataset: data.Dataset, generator: torch.Generator) -> tuple:
    """Two views of each image, encoder, head and NT-Xent of the chapter."""
    chapter = technique.load("simclrv2")
    encoder = models.build(NETWORK, 1, 10, generator)
    head = chapter.ProjectionHead(encoder.classifier.in_features, 64)
    images = dataset.train.images
    _, recipe, options = next(row for row in VIEWS.values() if row[0] == GREY)

    def ours() -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(images), (BATCH_SIZE,), generator=generator)
        return views.two_views(images.index_select(0, chosen), recipe, generator)

    def loss_of(pair) -> Tensor:
        return chapter.nt_xent_loss(*head(encoder.features(torch.cat(pair))).chunk(2), 0.5)

    peer = None
    if sides.installed("lightly"):
        peer = DataLoader(TwoViews(images, options), BATCH_SIZE, shuffle=True, drop_last=True)
    return nn.ModuleList([encoder, head]), ours, peer and endless(peer), loss_of


class WeakAndStrong(Dataset):
    """One PIL image, padded, cropped and mirrored; and once more after RandAugment and cutout."""

    def __init__(self, split: data.Images):
        self.images = split.images[:, 0].numpy()
        randaugment = transforms.RandAugment(num_ops=3)
        self.strong = transforms.Lambda(lambda image: cutout(randaugment(image)))
        self.weak = transforms.Compose(
            [
                transforms.RandomCrop(28, padding=PADDING),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(0.5, 0.5),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = Image.fromarray(self.images[index])
        return self.weak(image), self.weak(self.strong(image))


def fixmatch(dataset: data.Dataset, generator: torch.Generator) -> tuple:
    """BATCH_SIZE images, one in eight of them labelled: weak and strong views of the others."""
    fixmatch_loss = technique.load("fixmatch-saa").fixmatch_loss
    model, images = models.build(NETWORK, 1, 10, generator), dataset.train.images
    few = BATCH_SIZE // (RATIO + 1)

    def ours() -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(images), (BATCH_SIZE,), generator=generator)
        weak = images.index_select(0, chosen)
        hard = strong.strong_augment(weak[few:], generator)
        moved = augment.pad_crop_flip(torch.cat([weak, hard]), PADDING, generator)
        return augment.normalise(moved, (0.5,), (0.5,)).split([BATCH_SIZE, len(hard)])

    def loss_of(pair) -> Tensor:
        weak, hard = pair
        logits = model(torch.cat([weak, hard[-(BATCH_SIZE - few) :]]))
        labelled, easy, hard = logits.split([few, BATCH_SIZE - few, BATCH_SIZE - few])
        labels = torch.zeros(few, dtype=torch.long)
        return F.cross_entropy(labelled, labels) + fixmatch_loss(easy, hard, 0.95)[0]

    peer = DataLoader(WeakAndStrong(dataset.train), BATCH_SIZE, shuffle=True, drop_last=True)
    return model, ours, endless(peer), loss_of


def cases(dataset: data.Dataset, generator: torch.Generator) -> dict[str, tuple]:
    made = {name: classifier(name, dataset, generator) for name in ("cnn-tiny", NETWORK)}
    return made | {
        "SimCLR": simclr(dataset, generator), "FixMatch": fixmatch(dataset, generator),
    }  # fmt: skip


# --- measure and show -----------------------------------------------------------------------------


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


def measure(repetitions: int, epochs: int = EPOCHS, name: str = "fashion-mnist") -> dict:
    """{"rows": {what: {side: images per second in each turn}}, and what classifiers are worth."""
    sides.one_core()
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    dataset = data.load(name, num_validation=500 if epochs == 0 else 5_000, generator=generator)
    batched, per_image = BatchedInput(dataset, generator), endless(loader(dataset))
    rows = {
        "input alone": sides.in_turns(
            {"ours": sides.rate(batched, BATCH_SIZE), "peer": sides.rate(per_image, BATCH_SIZE)},
            repetitions,
        )
    }
    parameters = {}
    for case, (model, ours, peer, loss_of) in cases(dataset, generator).items():
        there = ours()
        inputs = {"ours": ours, "peer": peer, "limit": lambda there=there: there}
        runs = {
            side: lambda m=model, b=batches, n=STEPS[case][side == "peer"], f=loss_of: run_training(
                m, b, n, f
            )
            for side, batches in inputs.items()
            if batches
        }
        rows[f"train {case}"] = sides.in_turns(runs, repetitions)
        parameters[case] = sum(p.numel() for p in model.parameters())
        print(case, flush=True)
    worth = ("cnn-tiny", NETWORK) if epochs else ()
    accuracy = {case: round(accuracy_after_training(case, dataset), 1) for case in worth}
    return {
        "batch": BATCH_SIZE, "epochs": epochs, "rows": rows, "parameters": parameters,
        "accuracy": accuracy,
    }  # fmt: skip


def render(result: dict) -> str:
    """The book's table and the sentences with numbers, from the JSON."""
    body = []
    for name, row in result["rows"].items():
        case = name.removeprefix("train ")
        accuracy = result["accuracy"].get(case)
        body.append([
            name, sides.spread(row["ours"]),
            sides.spread(row["peer"]) if "peer" in row else "not measured",
            sides.ratio(row["ours"], row.get("peer")), sides.ratio(row.get("limit"), row["ours"]),
            f"{result['parameters'][case]:,}" if case in result["parameters"] else "",
            f"{accuracy:.1f} %" if accuracy else "",
        ])  # fmt: skip
    head = ["", "ours, images/s", "`DataLoader`, images/s", "ratio",
            "a batch that is there / ours", "parameters", "validation accuracy"]  # fmt: skip
    alone = statistics.median(result["rows"]["input alone"]["peer"])
    cores = ", ".join(
        f"{math.ceil(statistics.median(row['ours']) / alone)} for `{name.removeprefix('train ')}`"
        for name, row in result["rows"].items()
        if name in ("train cnn-tiny", f"train {NETWORK}")
    )
    return "\n".join([
        *sides.table(head, body), "",
        f"Batches of {result['batch']} images of Fashion-MNIST, float32, one core. Accuracy is "
        f"that of one run of {result['epochs']} epochs on 5,000 images held out from the training "
        f"set. {sides.origin(result)}", "",
        f"A loader makes {alone:,.0f} images per second and core. To keep up with our loop on one "
        f"core, it would need about so many more cores: {cores}. The larger the model, the less "
        "the input matters: the ratio is a property of small models and small images.", "",
    ])  # fmt: skip


def draw(result: dict, path: Path) -> None:
    """Images per second of both sides, one pair of bars per measurement."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "benchmarks"  # the same file for the same numbers
    from matplotlib import pyplot as plt

    rows = {name: row for name, row in result["rows"].items() if "peer" in row}
    figure, axes = plt.subplots(figsize=(7, 3.8), layout="constrained")
    for offset, side, label, colour in (
        (-0.19, "ours", "batched tensors (ours)", "#0072B2"),
        (0.19, "peer", "DataLoader, per-image transforms", "#E69F00"),
    ):
        medians = [statistics.median(row[side]) for row in rows.values()]
        errors = [
            [
                abs(middle - end(row[side]))
                for middle, row in zip(medians, rows.values(), strict=True)
            ]
            for end in (min, max)
        ]
        places = [i + offset for i in range(len(rows))]
        axes.barh(places, medians, 0.36, xerr=errors, label=label, color=colour, ecolor="0.25")
    for i, row in enumerate(rows.values()):
        axes.annotate(
            f"{statistics.median(sides.ratios(row['ours'], row['peer'])):.1f}x",
            (max(row["ours"]), i - 0.19),
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


if __name__ == "__main__":
    sides.main(
        "training_throughput", measure, render, "torchvision", "lightly",
        repetitions=REPETITIONS, draw=draw,
    )  # fmt: skip
