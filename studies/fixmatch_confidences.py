"""How sure FixMatch is of unlabelled images, and how often it is right: early and late in a run.

The chapter's own loop on one draw of four labels per class, with the settings of its small profile
and the choice that its record made. At two moments the network in training looks at a weak view of
every image without a label. What is kept is how many of them fall into each of 200 bins of
confidence, right and wrong ones apart; the chapter's page has a slider over them.

Run ``python -m studies.fixmatch_confidences`` (under a minute on one core). It writes
``book/generated/fixmatch_confidences.json``.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import torch

from labutils import augment, data, models
from labutils.augment import strong
from labutils.data import few_labels
from press import technique

RESULT = Path(__file__).parents[1] / "book" / "generated" / "fixmatch_confidences.json"
CHAPTER, SEED, EARLY, BINS = "fixmatch-saa", 0, 100, 200
CHOICE = {"rate": 0.03, "decay": 2e-3, "threshold": 0.8}  # of FixMatch, in the chapter's record


def histogram(confidence, right, bins=BINS) -> dict[str, list[int]]:
    """Numbers of right and of wrong images by confidence; bin k begins at k / bins."""
    place = (confidence.double() * bins).long().clamp(max=bins - 1)
    return {
        name: place[chosen].bincount(minlength=bins).tolist()
        for name, chosen in (("right", right), ("wrong", ~right))
    }


def study(profile="small", early=EARLY, seed=SEED, **changes) -> dict:
    """Train once; return the histograms and how they were made. changes: other settings."""
    settings = SimpleNamespace(**technique.settings(CHAPTER, profile) | changes)
    draw = torch.Generator().manual_seed(seed)
    dataset = data.load(settings.dataset, num_validation=settings.num_validation, generator=draw)
    images, labels = dataset.train.images, dataset.train.labels
    labelled = few_labels(labels, settings.labels_per_class, draw)
    others = torch.ones(len(images), dtype=torch.bool)
    others[labelled] = False

    def weak(images, generator=draw):
        views = augment.pad_crop_flip(images, settings.padding, generator)
        return augment.normalise(views, dataset.mean, dataset.std)

    def hard(images):
        return weak(strong.strong_augment(images, draw, settings.num_operations))

    channels, classes = images.shape[1], len(dataset.class_names)
    network, moments = models.build(settings.model, channels, classes, draw), []

    @torch.no_grad()
    def look(step):
        views = weak(images[others], torch.Generator().manual_seed(seed))  # the same each time
        confidence, guess = network.eval()(views).softmax(1).max(1)
        network.train()
        moments.append({"step": step} | histogram(confidence, guess == labels[others]))

    def batches():
        size = settings.batch_size * settings.unlabelled_ratio
        for step in range(settings.num_steps):
            if step == early:
                look(step)
            some = labelled[torch.randint(len(labelled), (settings.batch_size,), generator=draw)]
            pool = torch.randint(len(images), (size,), generator=draw)
            yield images[some], labels[some], images[pool]

    technique.load(CHAPTER).fixmatch(
        network, batches(), weak, hard, num_steps=settings.num_steps, mean=settings.ema_decay,
        **CHOICE,
    )  # fmt: skip
    look(settings.num_steps)
    return {
        "command": "python -m studies.fixmatch_confidences",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"), "torch": torch.__version__, "seed": seed,
        "settings": vars(settings) | CHOICE, "moments": moments,
    }  # fmt: skip


def main() -> None:
    result = study()
    kept = ("dataset", "model", "labels_per_class", "batch_size", "unlabelled_ratio", "num_steps")
    result["settings"] = {name: result["settings"][name] for name in (*kept, *CHOICE)}
    scratch = RESULT.with_suffix(".tmp")
    scratch.write_text(json.dumps(result) + "\n", encoding="utf-8")
    scratch.replace(RESULT)
    print(f"wrote {RESULT.name}")


if __name__ == "__main__":
    main()
