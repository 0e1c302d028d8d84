"""Long pretraining for the chapter on SimCLRv2: writes the checkpoint that the package ships.

``python -m studies.pretrain_simclr`` trains one encoder per seed on all 60,000 training images
of Fashion-MNIST, without labels, with the loss, head and step of the notebook. It keeps snapshots
of encoder and head after the numbers of steps in ``SNAPSHOTS``. ``--pack`` turns the runs of all
seeds into ``labutils/assets/simclr-fashion-mnist.npz`` (float16) with its record beside it.
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


def recipe() -> views.Recipe:
    """The augmentation of the pretraining: crop, mirror, brightness and contrast."""
    options = dict(SETTINGS["recipe"], scale=tuple(SETTINGS["recipe"]["scale"]))
    return views.Recipe(**options)


def pretrain(seed: int, folder: Path, root: Path | None = None) -> None:
    """Train one seed; write ``seed-S-step-K.pt`` per snapshot and ``seed-S.json`` at the end."""
    settings, name = SETTINGS, f"seed-{seed}"
    code = technique.load("simclrv2", root)
    generator = torch.Generator().manual_seed(1000 + seed)
    split = data.load("fashion-mnist", num_validation=0, generator=generator)
    images = split.train.images
    encoder = models.build(settings["model"], 1, 10, generator)
    layers, output = settings["head"]["layers"], settings["head"]["output"]
    head = code.ProjectionHead(encoder.classifier.in_features, output, layers)
    models.initialise(head, generator)
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

    pending = iter(SNAPSHOTS)

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
        both, step_loss, steps, optimizer, schedule, evaluate=snapshot, evaluate_steps=SNAPSHOTS
    )
    record = {
        "seed": seed,
        "cpu_seconds": round(time.process_time() - started, 1),
        "losses": [round(float(x), 4) for x in history.losses[:: max(1, steps // 100)]],
    }
    (folder / f"{name}.json").write_text(json.dumps(record) + "\n")


def pack(folder: Path) -> dict:
    """Write the shipped file and its record; keys of the arrays: ``SEED/STEP/PARAMETER``."""
    arrays = {}
    for seed in SEEDS:
        for step in SNAPSHOTS:
            state = torch.load(folder / f"seed-{seed}-step-{step}.pt", weights_only=True)
            for name, value in state.items():
                if not name.endswith("num_batches_tracked") and "classifier" not in name:
                    arrays[f"{seed}/{step}/{name}"] = value.numpy().astype(np.float16)
    path = ASSETS / f"{NAME}.npz"
    np.savez_compressed(path, **arrays)
    record = {
        "finished": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "command": "python -m studies.pretrain_simclr",
        "settings": SETTINGS,
        "snapshots": list(SNAPSHOTS),
        "storage": "float16",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "bytes": path.stat().st_size,
        "torch": torch.__version__.split("+")[0],
        "runs": [json.loads((folder / f"seed-{seed}.json").read_text()) for seed in SEEDS],
    }
    path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("_runs/simclr"))
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--root", type=Path, help="the book's folder")
    parser.add_argument("--pack", action="store_true", help="only pack finished runs")
    arguments = parser.parse_args()
    os.environ.setdefault("LABUTILS_HEADLESS", "1")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(SETTINGS["threads"])
    for seed in [] if arguments.pack else arguments.seeds:
        pretrain(seed, arguments.folder, arguments.root)
        print(f"seed {seed}: done", flush=True)
    if set(arguments.seeds) == set(SEEDS):
        print(f"packed {pack(arguments.folder)['bytes']:,} bytes")


if __name__ == "__main__":
    main()
