"""Stands in for the lab that `labutils.start` gives a notebook, in tests of its cells."""

import types

import torch


def streams(seed):
    names = ("split", "initialisation", "sampling", "augmentation")
    generators = {n: torch.Generator().manual_seed(10 * seed + k) for k, n in enumerate(names)}
    return types.SimpleNamespace(**generators)


def lab():
    """A lab on the CPU with two seeds, whose jobs run here, one after the other."""
    return types.SimpleNamespace(
        device=torch.device("cpu"), streams=streams, seeds=(0, 1),
        map=lambda function, jobs, description: [function(*job) for job in jobs],
    )  # fmt: skip
