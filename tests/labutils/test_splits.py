"""Stratified sets, and few labels per class."""

import pytest
import torch

from labutils.data import few_labels, stratified_split


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_few_labels_are_balanced_distinct_and_repeatable():
    labels = torch.randint(7, (500,), generator=generator(5))
    chosen = few_labels(labels, 4, generator())
    assert len(set(chosen.tolist())) == 28
    assert labels[chosen].tolist() == [c for c in range(7) for _ in range(4)]
    assert torch.equal(chosen, few_labels(labels, 4, generator()))
    assert not torch.equal(chosen, few_labels(labels, 4, generator(1)))


def test_more_labels_contain_fewer():
    labels = torch.arange(300) % 10
    few, more = (set(few_labels(labels, k, generator()).tolist()) for k in (4, 25))
    assert few < more
    assert len(more) == 250


def test_every_example_of_a_class_is_equally_likely():
    labels = torch.tensor([0] * 10 + [1] * 4)
    draw, counts = generator(), torch.zeros(14)
    for _ in range(2000):
        counts[few_labels(labels, 2, draw)] += 1
    expected = torch.tensor([400.0] * 10 + [1000.0] * 4)
    assert ((counts - expected).abs() < 5 * expected.sqrt()).all()


@pytest.mark.parametrize("per_class", [0, -1])
def test_few_labels_refuses_no_labels(per_class):
    with pytest.raises(ValueError, match="per_class >= 1"):
        few_labels(torch.arange(10), per_class, generator())


def test_few_labels_names_the_class_that_is_too_small():
    with pytest.raises(ValueError, match="class 3 has 2 examples, fewer than 3"):
        few_labels(torch.tensor([0, 0, 0, 3, 3]), 3, generator())


def test_stratified_split_properties():
    for trial in range(200):
        draw = generator(trial)
        n = int(torch.randint(1, 300, (), generator=draw))
        classes = int(torch.randint(1, 12, (), generator=draw))
        labels = torch.randint(classes, (n,), generator=draw)
        cut = torch.randint(n + 1, (2,), generator=draw).sort().values.tolist()
        sizes = (cut[0], cut[1] - cut[0], n - cut[1])
        splits = stratified_split(labels, sizes, draw)
        assert [len(split) for split in splits] == list(sizes)
        assert torch.equal(torch.cat(splits).sort().values, torch.arange(n))
        share = labels.bincount(minlength=classes) * sizes[0] / n
        assert ((labels[splits[0]].bincount(minlength=classes) - share).abs() < 1).all()


def test_stratified_split_rounds_at_random():
    labels = torch.arange(100) % 10
    firsts = {int(labels[stratified_split(labels, [1], generator(s))[0]]) for s in range(200)}
    assert firsts == set(range(10))


@pytest.mark.parametrize("sizes", [(5, 6), (-1, 3), (11,)])
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(ValueError, match="cannot split 10"):
        stratified_split(torch.zeros(10, dtype=torch.int64), sizes, generator())
