"""Which examples go where: stratified parts of a data set, and few labels per class."""

from collections.abc import Sequence

import torch
from torch import Tensor

from labutils import checks


def stratified_split(
    labels: Tensor, sizes: Sequence[int], generator: torch.Generator
) -> list[Tensor]:
    """Disjoint random sets of indices with the class proportions of ``labels``.

    ``labels`` is int64 ``(N,)`` on the CPU; ``sizes`` sum to at most N. Returns one sorted int64
    tensor of indices per size. Each class gives its share of every set, rounded up or down.
    Raises ``ValueError`` when ``sizes`` are negative or sum to more than N.
    """
    checks.fit("labels int (N,), sizes, generator", labels, sizes, generator)
    if min(sizes, default=0) < 0 or sum(sizes) > len(labels):
        raise ValueError(f"cannot split {len(labels)} examples into sets of {tuple(sizes)}")
    shuffled = torch.randperm(len(labels), generator=generator)
    by_class = [shuffled[labels[shuffled] == c] for c in labels.unique()]
    used = torch.zeros(len(by_class), dtype=torch.int64)
    counts = torch.tensor([len(members) for members in by_class])
    splits = []
    for size in sizes:
        left = counts - used
        share = left * size
        take = share // left.sum().clamp(min=1)
        # Largest remainders get the places that rounding down left over; ties are broken at random.
        remainder = (share - take * left.sum()).double()
        remainder += torch.rand(len(counts), generator=generator, dtype=torch.float64) * 0.5
        remainder[share == take * left.sum()] = -1
        take[remainder.argsort(descending=True)[: size - int(take.sum())]] += 1
        starts, lengths = used.tolist(), take.tolist()
        parts = [m[u : u + t] for m, u, t in zip(by_class, starts, lengths, strict=True)]
        splits.append(torch.cat(parts).sort().values if parts else shuffled[:0])
        used += take
    return splits


def few_labels(labels: Tensor, per_class: int, generator: torch.Generator) -> Tensor:
    """Indices of ``per_class`` random examples of every class, class after class.

    labels: int64 ``(N,)`` on the CPU; returns int64 ``(num_classes * per_class,)``. With a
    generator in the same state a smaller number is a part of a larger one: the same draw with
    fewer labels. Raises ``ValueError`` for ``per_class < 1`` or a class with fewer examples.
    """
    checks.fit("labels int (N,), per_class >= 1, generator", labels, per_class, generator)
    shuffled = torch.randperm(len(labels), generator=generator)
    found = labels[shuffled]
    chosen = []
    for c in labels.unique().tolist():
        members = shuffled[found == c][:per_class]
        if len(members) < per_class:
            raise ValueError(f"class {c} has {len(members)} examples, fewer than {per_class}")
        chosen.append(members)
    return torch.cat(chosen) if chosen else shuffled
