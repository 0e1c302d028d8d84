"""A small notebook in processes that are killed at random moments. Run by test_start.py.

Usage: killed_notebook.py FOLDER. The notebook maps eight jobs, each a training of eight steps, and
saves its ledger. Prints one JSON object: name of the run -> how often it was killed.
"""

import io
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from labutils import training
from labutils.start import start

SETTINGS = {"num_steps": (8, 8, "8", ""), "num_seeds": (8, 8, "8", "")}


def notebook(folder, name):
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


def fork(folder, name, kill_after):
    """Run in a child, killed once it has begun `kill_after` steps; its exit status."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.dup2(writing, 1)
        sys.stdout = io.TextIOWrapper(open(1, "wb", buffering=0, closefd=False), write_through=True)  # noqa: SIM115
        status = 1
        try:
            notebook(folder, name)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    begun = 0
    with open(reading) as stream:  # noqa: PTH123 - a pipe
        for line in stream:
            begun += line.startswith("step")
            if begun == kill_after and line.startswith("step"):
                time.sleep(random.uniform(0, 0.004))  # often in the middle of a save
                os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def warm_up():
    """Import what the first optimiser's step imports, so that the children have it."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    torch.optim.SGD([parameter]).step()


def main(folder):
    os.environ["OMP_NUM_THREADS"] = "1"  # jobs run in the process that is killed
    warm_up()
    killed = {}
    for name in ("whole", "moments 1", "moments 2", "moments 3", "moments 4"):
        killed[name], status = 0, None
        kills = [] if name == "whole" else random.choices(range(2, 15), k=5)
        for kill_after in (*kills, None):
            status = fork(folder, name, kill_after)
            killed[name] += status != 0
        assert status == 0
    print(json.dumps(killed))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
