"""Long pretraining for the chapter on SimCLRv2: writes the checkpoint that the package ships.

``python -m studies.pretrain_simclr`` trains one encoder per seed on all 60,000 training images
of Fashion-MNIST, without labels, with the loss, head and step of the notebook. It keeps snapshots
of encoder and head after the numbers of steps in ``SNAPSHOTS``. ``--pack`` turns the runs of all
seeds into ``labutils/assets/simclr-fashion-mnist.npz`` (float16) with its record beside it.

``--variants`` trains one network for each change of size, head, batch or temperature in
``VARIANTS`` instead, all on equally many images, and packs ``simclr-variants.npz``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from labutils import data, models
from labutils.augment import views
from labutils.training import cosine_schedule, train
from press import technique

ASSETS = Path(__file__).parent.parent / "labutils" / "assets"
NAME = "simclr-fashion-mnist"
SEEDS = (0, 1, 2)
SETTINGS = {
    "data": "fashion-mnist, 60,000 training images, no labels",
    "model": "resnet-16-32-64",
    "head": {"layers": 3, "output": 64},
    "batch_size": 256,
    "steps": 5000,
    "temperature": 0.2,
    "optimiser": "SGD, Nesterov momentum 0.9, cosine after 5 % warm-up",
    "learning_rate": 0.17,
    "weight_decay": 5e-4,
    "recipe": {"scale": [0.2, 1.0], "strength": 0.5, "blur_probability": 0.0},
    "precision": "bfloat16 autocast",
    "threads": 1,
}
SNAPSHOTS = (100, 400, 1600, SETTINGS["steps"])

VARIANTS_NAME = "simclr-variants"
VARIANT_STEPS = 1600  # of the base; with another batch size, as many as give equally many images
VARIANTS = {
    "base": {},
    "half the width": {"widths": [8, 16, 32]},
    "twice the width": {"widths": [32, 64, 128]},
    "head of 1 layer": {"head_layers": 1},
    "head of 2 layers": {"head_layers": 2},
    "temperature 0.05": {"temperature": 0.05},
    "temperature 0.5": {"temperature": 0.5},
    "temperature 1": {"temperature": 1.0},
    "batch of 64": {"batch_size": 64},
    "batch of 1,024": {"batch_size": 1024},
}


def recipe() -> views.Recipe:
    """The augmentation of the pretraining: crop, mirror, brightness and contrast."""
    options = dict(SETTINGS["recipe"], scale=tuple(SETTINGS["recipe"]["scale"]))
    return views.Recipe(**options)


def variant_settings(name: str) -> dict:
    """Settings of one variant: equally many images, rate in proportion to the root of the batch."""
    settings = SETTINGS | {"widths": [16, 32, 64], "head_layers": SETTINGS["head"]["layers"]}
    settings |= VARIANTS[name]
    share = settings["batch_size"] / SETTINGS["batch_size"]
    return settings | {
        "steps": round(VARIANT_STEPS / share),
        "learning_rate": SETTINGS["learning_rate"] * share**0.5,
    }


def networks(code, settings: dict, variant: str | None, generator) -> tuple:
    """Encoder and head as the settings say, drawn from the generator in this order."""
    if variant is None:
        encoder = models.build(settings["model"], 1, 10, generator)
    else:
        encoder = models.ResNet(1, 10, tuple(settings["widths"]), blocks=1, stem_stride=2)
        models.initialise(encoder, generator)
        encoder.to(memory_format=torch.channels_last)
    layers = settings["head"]["layers"] if variant is None else settings["head_layers"]
    head = code.ProjectionHead(encoder.classifier.in_features, settings["head"]["output"], layers)
    models.initialise(head, generator)
    return encoder, head


def pretrain(seed: int, folder: Path, root: Path | None = None, variant: str | None = None) -> None:
    """Train one seed; write ``NAME-step-K.pt`` per snapshot and ``NAME.json`` at the end.

    NAME is ``seed-S``, or ``variant-V`` for the V-th of ``VARIANTS``, which keeps its last step.
    """
    settings = SETTINGS if variant is None else variant_settings(variant)
    kept = SNAPSHOTS if variant is None else (settings["steps"],)
    name = f"seed-{seed}" if variant is None else f"variant-{list(VARIANTS).index(variant)}"
    code = technique.load("simclrv2", root)
    generator = torch.Generator().manual_seed(1000 + seed)
    split = data.load("fashion-mnist", num_validation=0, generator=generator)
    images = split.train.images
    encoder, head = networks(code, settings, variant, generator)
    both = torch.nn.ModuleDict({"encoder": encoder, "head": head})
    batch, steps = settings["batch_size"], settings["steps"]
    order = torch.empty(0, dtype=torch.int64)
    started = time.process_time()

    def step_loss(step: int) -> torch.Tensor:
        nonlocal order
        if len(order) < batch:
            order = torch.randperm(len(images), generator=generator)
        chosen, order = order[:batch], order[batch:]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return code.contrastive_step(
                encoder, head, images[chosen], recipe(), settings["temperature"], generator
            )

    pending = iter(kept)

    def snapshot() -> float:
        torch.save(both.state_dict(), folder / f"{name}-step-{next(pending)}.pt")
        return 0.0

    optimizer = torch.optim.SGD(
        [p for p in both.parameters() if p.requires_grad and p is not encoder.classifier.weight],
        settings["learning_rate"],
        momentum=0.9,
        nesterov=True,
        weight_decay=settings["weight_decay"],
    )
    schedule = cosine_schedule(settings["learning_rate"], steps, warmup_steps=steps // 20)
    history = train(
        both, step_loss, steps, optimizer, schedule, evaluate=snapshot, evaluate_steps=kept
    )
    record = {
        "seed": seed,
        "cpu_seconds": round(time.process_time() - started, 1),
        "losses": [round(float(x), 4) for x in history.losses[:: max(1, steps // 100)]],
    }
    if variant is not None:
        record = {"variant": variant, "steps": steps, **record}
    (folder / f"{name}.json").write_text(json.dumps(record) + "\n")


def pack(folder: Path, variants: bool = False) -> dict:
    """Write a shipped file and its record from the runs in ``folder``.

    Keys of the arrays: ``SEED/STEP/PARAMETER``, or ``V/STEP/PARAMETER`` for the V-th variant.
    """
    if variants:
        runs = {
            k: (f"variant-{k}", [variant_settings(name)["steps"]])
            for k, name in enumerate(VARIANTS)
        }
        details = {"settings": SETTINGS, "variants": VARIANTS, "variant_steps": VARIANT_STEPS}
    else:
        runs = {seed: (f"seed-{seed}", SNAPSHOTS) for seed in SEEDS}
        details = {"settings": SETTINGS, "snapshots": list(SNAPSHOTS)}
    arrays = {}
    for key, (stem, steps) in runs.items():
        for step in steps:
            state = torch.load(folder / f"{stem}-step-{step}.pt", weights_only=True)
            for name, value in state.items():
                if not name.endswith("num_batches_tracked") and "classifier" not in name:
                    arrays[f"{key}/{step}/{name}"] = value.numpy().astype(np.float16)
    path = ASSETS / f"{VARIANTS_NAME if variants else NAME}.npz"
    np.savez_compressed(path, **arrays)
    record = {
        "finished": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "command": "python -m studies.pretrain_simclr" + (" --variants" if variants else ""),
        **details,
        "storage": "float16",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "bytes": path.stat().st_size,
        "torch": torch.__version__.split("+")[0],
        "runs": [json.loads((folder / f"{stem}.json").read_text()) for stem, _ in runs.values()],
    }
    path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("_runs/simclr"))
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--variants", action="store_true", help="the variants, with seed 0")
    parser.add_argument("--root", type=Path, help="the book's folder")
    parser.add_argument("--pack", action="store_true", help="only pack finished runs")
    arguments = parser.parse_args()
    os.environ.setdefault("LABUTILS_HEADLESS", "1")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(SETTINGS["threads"])
    runs = [(0, name) for name in VARIANTS] if arguments.variants else [
        (seed, None) for seed in arguments.seeds
    ]  # fmt: skip
    for seed, variant in [] if arguments.pack else runs:
        pretrain(seed, arguments.folder, arguments.root, variant)
        print(f"{variant or f'seed {seed}'}: done", flush=True)
    if arguments.variants or set(arguments.seeds) == set(SEEDS):
        record = pack(arguments.folder, arguments.variants)
        print(f"packed {record['bytes']:,} bytes")


if __name__ == "__main__":
    main()
