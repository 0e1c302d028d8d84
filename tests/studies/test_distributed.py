"""Data-parallel training: two processes do what one does with the same global batch."""

import os
import subprocess
import sys
from pathlib import Path

import data_parallel
import pytest
import torch
from torch import nn

from studies import distributed

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("data_parallel.py")
STEPS = 8


def start(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)], env=environment, cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("chapter", list(distributed.TASKS))
def test_two_processes_give_the_trajectory_of_one(chapter, tmp_path):
    """Losses and final weights in float64, where rounding stays far below the tolerance."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    files = [tmp_path / "one.pt", tmp_path / "two.pt"]
    process = start(*torchrun, SCRIPT, chapter, STEPS, files[1])
    data_parallel.main(chapter, STEPS, files[0])
    output, _ = process.communicate(timeout=290)
    assert process.returncode == 0, output[-3000:]
    one, two = map(torch.load, files)
    assert len(one["losses"]) == STEPS
    assert one["losses"].std() > 0
    torch.testing.assert_close(two["losses"], one["losses"], rtol=1e-6, atol=0)
    assert list(two["network"]) == list(one["network"])
    for name, weights in one["network"].items():
        torch.testing.assert_close(two["network"][name], weights, rtol=1e-6, atol=1e-8)


def test_batch_normalisation_is_replaced_with_weights_and_statistics():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Sequential(nn.BatchNorm1d(5)))
    network[1].running_mean.fill_(3.0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    distributed.use_global_statistics(network)
    kinds = [type(module) for module in network.modules()]
    assert kinds.count(distributed.GlobalBatchNorm) == 2
    assert nn.BatchNorm2d not in kinds
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_blocks_make_the_batch_whatever_the_number_of_processes():
    settings = distributed._generator(0, 1, 2).get_state()
    assert torch.equal(settings, distributed._generator(0, 1, 2).get_state())
    assert not torch.equal(settings, distributed._generator(0, 2, 1).get_state())
    with pytest.raises(Exception, match="not a multiple of 8 blocks"):
        distributed._block_size(60)


def test_a_chapter_without_such_a_task_is_refused():
    process = start("-m", "studies.distributed", "rs2")
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 2
    assert "'rs2' is not" in output
