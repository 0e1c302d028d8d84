"""A short contrastive training in float64, on one process or several. Run by test_distributed.py.

Usage: data_parallel.py CHAPTER STEPS OUTPUT, plain or under torchrun.
"""

import os
import sys
import types

import torch
import torch.distributed as dist

from press import technique
from studies import distributed


def main(chapter, steps, output):
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        dist.init_process_group("gloo")
    code = technique.load(chapter)
    settings = types.SimpleNamespace(**technique.settings(chapter, "smoke"))
    task = distributed.TASKS[chapter](code, settings, 0, torch.device("cpu"))
    make = task.batch

    def batch(step, block):
        return tuple(x.double() if x.is_floating_point() else x for x in make(step, block))

    task.network.double()  # so that only a mistake, and no rounding, tells the runs apart
    task.batch = batch
    if dist.is_initialized():
        distributed.use_global_statistics(task.network)
    history = distributed.run(task, int(steps))
    if not dist.is_initialized() or dist.get_rank() == 0:
        torch.save({"losses": history.losses, "network": task.network.state_dict()}, output)
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
