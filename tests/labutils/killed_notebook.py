"""A small notebook in processes that are killed at random moments. Run by test_start.py.

Usage: killed_notebook.py FOLDER. The notebook maps five jobs, each a training with a checkpoint,
and saves its ledger. Prints one JSON object: name of the run -> how often it was killed.
"""

import json
import os
import random
import sys
from pathlib import Path

import killed_training
import torch
import torch.nn.functional as F

from labutils import training
from labutils.start import start

SETTINGS = {"num_steps": (8, 8, "8", ""), "num_seeds": (5, 5, "5", "")}


def notebook(folder, name, kill_at=None):
    """What a notebook does from its settings to its record."""
    os.environ["LABUTILS_CHECKPOINTS"] = str(folder / name)
    os.environ["LABUTILS_RESULTS"] = str(folder / f"{name}.results")
    lab = start("killed", SETTINGS)

    def job(seed):
        streams = lab.streams(seed)
        inputs = torch.randn(32, 4, generator=streams.split)
        model = torch.nn.Linear(4, 3)
        torch.nn.init.normal_(model.weight, generator=streams.initialisation)
        torch.nn.init.zeros_(model.bias)

        def step_loss(step):
            print(f"step {step}")
            chosen = torch.randint(32, (8,), generator=streams.sampling)
            return F.cross_entropy(model(inputs[chosen]), chosen % 3)

        history = training.train(
            model, step_loss, lab.settings.num_steps, torch.optim.SGD(model.parameters(), 0.1),
            training.cosine_schedule(0.1, lab.settings.num_steps), generators=[streams.sampling],
            checkpoint=lab.checkpoint(f"run-{seed}"), checkpoint_seconds=0,
        )  # fmt: skip
        return {"seed": seed, "losses": history.losses, "weight": model.weight.detach()}

    rows = lab.map(job, [(seed,) for seed in lab.seeds], "trainings")
    first, last = ([row["losses"][k].item() for row in rows] for k in (0, -1))
    lab.ledger.claim(
        "falls", "The loss falls", source="ours", direction="less",
        values={"last": last, "first": first},
    )  # fmt: skip
    lab.ledger.number("weights", sum(row["weight"].double().sum().item() for row in rows))
    lab.save()


def main(folder):
    os.environ["OMP_NUM_THREADS"] = "1"  # jobs run in the process that is killed
    killed_training.warm_up()
    killed = {}
    for name in ("whole", "moments 1", "moments 2", "moments 3", "moments 4"):
        killed[name], status = 0, None
        kills = [] if name == "whole" else random.choices(range(2, 8), k=5)
        for kill_after in (*kills, None):
            status, _ = killed_training.fork(folder, name, kill_after=kill_after, run=notebook)
            killed[name] += status != 0
        assert status == 0
    print(json.dumps(killed))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
