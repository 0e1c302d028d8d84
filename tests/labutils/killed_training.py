"""A small training run in processes that kill themselves or are killed. Run by test_training.py.

Usage: killed_training.py FOLDER. One process imports torch and forks: once for a run without
interruption, and for every way to die as often as it takes to reach the end. Prints one JSON
object: scenario -> steps at which its processes began. The results are saved in FOLDER.
"""

import io
import json
import os
import random
import re
import signal
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from labutils import augment, training
from labutils.evaluation import accuracy_of

NUM_STEPS = 40


def run(folder, name, kill_at=None):
    """Train, continue if there is a checkpoint, and save what came out; may die on the way."""
    torch.manual_seed(random.SystemRandom().randrange(2**31))  # a resumed process knows nothing
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (64, 1, 8, 8), generator=generator).to(torch.uint8)
    labels = torch.randint(3, (64,), generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = torch.nn.Sequential(
            torch.nn.Conv2d(1, 6, 3, stride=2), torch.nn.BatchNorm2d(6), torch.nn.ReLU(),
            torch.nn.Flatten(), torch.nn.Dropout(0.3), torch.nn.Linear(54, 3),
        )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True)
    average = torch.optim.swa_utils.AveragedModel(model)  # an object beside the model
    checkpoint = folder / f"{name}.pt"
    if not checkpoint.exists():
        torch.manual_seed(3)  # dropout's stream

    def step_loss(step):
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        print(f"step {step}")
        chosen = torch.randint(64, (16,), generator=generator)
        moved = augment.pad_crop_flip(images[chosen], 1, generator)
        average.update_parameters(model)
        return F.cross_entropy(model(augment.normalise(moved, [0.5], [0.25])), labels[chosen])

    def evaluate():
        inputs = augment.normalise(images, [0.5], [0.25])
        return accuracy_of(model, inputs, labels) + average.module[5].weight.sum().item()

    history = training.train(
        model, step_loss, NUM_STEPS, optimizer,
        training.cosine_schedule(0.1, NUM_STEPS, warmup_steps=4),
        evaluate=evaluate, evaluate_steps=range(5, NUM_STEPS + 1, 5), generators=[generator],
        state={"average": average}, checkpoint=checkpoint, checkpoint_seconds=0,
    )  # fmt: skip
    result = {
        "losses": history.losses,
        "evaluations": history.evaluations,
        "weights": model.state_dict(),
        "momentum": [optimizer.state[p]["momentum_buffer"] for p in model.parameters()],
        "next": torch.rand(3),
        "next_augmentation": torch.rand(3, generator=generator),
    }
    torch.save(result, folder / f"{name}.result")


def fork(folder, name, kill_at=None, kill_after=None, run=run):
    """Run in a child, killed once it has begun `kill_after` steps: (exit status, first step)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.dup2(writing, 1)
        sys.stdout = io.TextIOWrapper(open(1, "wb", buffering=0, closefd=False), write_through=True)  # noqa: SIM115
        status = 1
        try:
            run(folder, name, kill_at)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    first, begun = 0, 0
    with open(reading) as stream:  # noqa: PTH123 - a pipe
        for line in stream:
            if resumed := re.match(r"resumed .* at step (\d+) of", line):
                first = int(resumed[1])
            begun += line.startswith("step")
            if begun == kill_after and line.startswith("step"):
                time.sleep(random.uniform(0, 0.004))  # often in the middle of a save
                os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), first


def warm_up():
    """Import what the first optimiser's step imports, so that the children have it."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    torch.optim.SGD([parameter]).step()


def main(folder):
    warm_up()
    status, _ = fork(folder, "whole")
    assert status == 0
    began = {}
    for kill_at in (0, 1, 18, NUM_STEPS - 1):
        name = f"step {kill_at}"
        status, first = fork(folder, name, kill_at)
        assert (status, first) == (-signal.SIGKILL, 0)
        (folder / f"{name}.pt.1.tmp").write_bytes(b"half a checkpoint")
        status, first = fork(folder, name)
        assert status == 0
        began[name] = [0, first]
    for name in ("moments 1", "moments 2", "moments 3", "moments 4"):
        firsts, status = [], None
        for kill_after in (*random.choices(range(2, 7), k=5), None):
            if status != 0:
                status, first = fork(folder, name, kill_after=kill_after)
                firsts.append(first)
        assert status == 0
        began[name] = firsts
    print(json.dumps(began))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
