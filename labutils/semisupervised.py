"""What semi-supervised chapters share: few labels per class, and the moving average of a network.

The techniques themselves stand in the chapters.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


def few_labels(labels: Tensor, per_class: int, generator: torch.Generator) -> Tensor:
    """Indices of ``per_class`` random examples of every class, class after class.

    labels: int64 ``(N,)`` on the CPU; returns int64 ``(num_classes * per_class,)``. With a
    generator in the same state a smaller number is a part of a larger one: the same draw with
    fewer labels. Raises ``ValueError`` for ``per_class < 1`` or a class with fewer examples.
    """
    if per_class < 1:
        raise ValueError(f"few_labels expects per_class >= 1, got {per_class}")
    shuffled = torch.randperm(len(labels), generator=generator)
    found = labels[shuffled]
    chosen = []
    for c in labels.unique().tolist():
        members = shuffled[found == c][:per_class]
        if len(members) < per_class:
            raise ValueError(
                f"few_labels: class {c} has {len(members)} examples, fewer than {per_class}"
            )
        chosen.append(members)
    return torch.cat(chosen) if chosen else shuffled


class MovingAverage:
    """Exponential moving average of a network's weights, for evaluation.

    After update t = 1, 2, ... with weights w_t the average is m_t = d_t m_(t-1) + (1 - d_t) w_t
    with d_t = min(1 - 1/t, decay): the plain mean of all weights so far, until that mean would be
    longer than the decay says. (The rule of the official code of sample adaptive augmentation;
    with d_t = decay from the start, the initial weights would stay in the average.) Buffers, such
    as the statistics of batch normalisation, are copied: averaged variances would belong to none
    of the networks.
    """

    def __init__(self, network: nn.Module, decay: float):
        if not 0 <= decay < 1:
            raise ValueError(f"MovingAverage expects a decay in 0 <= decay < 1, got {decay}")
        self.decay, self.num_updates = decay, 0
        self.module = copy.deepcopy(network).requires_grad_(False)
        self.module.eval()

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the network's weights as they are after a step of the optimiser."""
        self.num_updates += 1
        decay = min(1 - 1 / self.num_updates, self.decay)
        kept, current = list(self.module.parameters()), list(network.parameters())
        torch._foreach_lerp_(kept, current, 1 - decay)
        for kept, current in zip(self.module.buffers(), network.buffers(), strict=True):
            kept.copy_(current)

    def state_dict(self) -> dict:
        """For checkpoints."""
        return {"module": self.module.state_dict(), "num_updates": self.num_updates}

    def load_state_dict(self, state: dict) -> None:
        """Go on from a ``state_dict``."""
        self.module.load_state_dict(state["module"])
        self.num_updates = state["num_updates"]
