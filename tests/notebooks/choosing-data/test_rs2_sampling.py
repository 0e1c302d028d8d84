"""The RS2 chapter's sampler, batches and schedule, against what their definitions promise.

Every test takes the technique module as its argument, so that test_rs2_mutations.py can hand it a
module with a mistake in it.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from labutils.training import cosine_schedule, train
from press import technique


@pytest.fixture(scope="module")
def rs2():
    return technique.load("rs2")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def sizes(count, seed):
    """Random (num_examples, ratio, num_rounds) with at least one example per round."""
    generator = seeded(seed)
    while count:
        n = int(torch.randint(1, 80, (1,), generator=generator))
        ratio = float(torch.rand(1, generator=generator))
        if count % 3 == 0:
            ratio = 1 / int(torch.randint(1, 11, (1,), generator=generator))
        if round(ratio * n) >= 1 and 0 < ratio <= 1:
            yield n, ratio, int(torch.randint(1, 25, (1,), generator=generator))
            count -= 1


def labelled(count, seed):
    """Random (labels of unequal classes in random order, ratio that leaves one of each class)."""
    generator = seeded(seed)
    for _ in range(count):
        ratio = 0.1 + 0.9 * float(torch.rand(1, generator=generator))
        per_class = torch.randint(math.ceil(1 / ratio), 40, (3,), generator=generator).tolist()
        labels = torch.tensor(
            [c for c, n in zip((0, 4, 7), per_class, strict=True) for _ in range(n)]
        )
        yield labels[torch.randperm(len(labels), generator=generator)], ratio


# --- any variant ---------------------------------------------------------------------------------


def test_rounds_have_the_right_size_and_distinct_indices(rs2):
    for seed, (n, ratio, num_rounds) in enumerate(sizes(200, 0)):
        for with_replacement in (False, True):
            rounds = list(rs2.rs2_rounds(n, ratio, num_rounds, seeded(seed), with_replacement))
            assert len(rounds) == num_rounds
            for indices in rounds:
                assert indices.dtype == torch.long
                assert len(indices) == len(indices.unique()) == round(ratio * n)
                assert indices.min() >= 0
                assert indices.max() < n


def test_same_generator_same_sequence(rs2):
    labels = torch.arange(50) % 3
    for options in ({}, {"with_replacement": True}, {"labels": labels}):
        one, same, other = (
            torch.cat(list(rs2.rs2_rounds(50, 0.3, 9, seeded(s), **options))) for s in (1, 1, 2)
        )
        assert torch.equal(one, same)
        assert not torch.equal(one, other)


def test_global_generator_is_left_alone(rs2):
    before = torch.get_rng_state()
    for with_replacement in (False, True):
        list(rs2.rs2_rounds(50, 0.3, 9, seeded(0), with_replacement))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("ratio", [0, -0.1, 1.0001, 2, 0.004])
def test_ratios_without_a_subset(rs2, ratio):
    with pytest.raises(ValueError, match="0 < ratio <= 1 and a subset of at least 1"):
        list(rs2.rs2_rounds(100, ratio, 3, seeded(0)))


def test_no_examples(rs2):
    with pytest.raises(ValueError, match="of 0"):
        list(rs2.rs2_rounds(0, 0.5, 3, seeded(0)))


def test_class_too_small_for_its_share(rs2):
    labels = torch.tensor([0] * 50 + [1])
    with pytest.raises(ValueError, match=r"0.1 of 1\b"):
        list(rs2.rs2_rounds(51, 0.1, 3, seeded(0), labels=labels))


# --- without replacement -------------------------------------------------------------------------


def test_nobody_twice_before_everybody_once(rs2):
    """At any time, in whole rounds, visit counts differ by at most one."""
    for seed, (n, ratio, num_rounds) in enumerate(sizes(300, 1)):
        visits = torch.zeros(n, dtype=torch.long)
        for indices in rs2.rs2_rounds(n, ratio, num_rounds, seeded(seed)):
            visits[indices] += 1
            assert visits.max() - visits.min() <= 1
        assert visits.sum() == num_rounds * round(ratio * n)


def test_whole_passes_are_disjoint_chunks_in_a_new_order(rs2):
    for seed in range(100):
        parts = 2 + seed % 7
        n = parts * (3 + seed % 5)
        rounds = list(rs2.rs2_rounds(n, 1 / parts, 3 * parts, seeded(seed)))
        passes = [torch.cat(rounds[k : k + parts]) for k in range(0, 3 * parts, parts)]
        assert all(torch.equal(p.sort().values, torch.arange(n)) for p in passes)
        if n > 10:  # with 6 examples, two passes in the same order are no surprise
            assert not torch.equal(passes[0], passes[1])
            assert not torch.equal(passes[1], passes[2])


def test_every_example_is_equally_likely_in_every_round(rs2):
    """Chi-square over 2,000 seeds, for rounds on both sides of the seam between two passes."""
    n, m, repeats = 10, 3, 2000
    counts = torch.zeros(7, n)
    for seed in range(repeats):
        for t, indices in enumerate(rs2.rs2_rounds(n, m / n, 7, seeded(seed))):
            counts[t, indices] += 1
    for row in counts:
        assert uniformity(row, repeats, m / n) > 1e-4


def uniformity(counts, draws, share):
    """p-value of inclusion counts (n,) under `draws` independent uniform subsets of n * share."""
    n = len(counts)
    spread = (counts - draws * share).square().sum() / (draws * share * (1 - share))
    # a round's inclusions are negatively correlated, which costs one degree of freedom
    return stats.chi2.sf(float(spread) * (n - 1) / n, n - 1)


# --- with replacement between rounds -------------------------------------------------------------


def test_coverage_with_replacement(rs2):
    for n, ratio, num_rounds in ((5000, 0.01, 100), (2000, 0.05, 20), (1000, 0.1, 10)):
        seen = torch.zeros(n, dtype=torch.bool)
        for indices in rs2.rs2_rounds(n, ratio, num_rounds, seeded(3), with_replacement=True):
            seen[indices] = True
        missed = (1 - ratio) ** num_rounds
        sigma = math.sqrt(missed * (1 - missed) / n)
        assert abs(seen.double().mean().item() - (1 - missed)) < 4 * sigma


def test_inclusion_counts_are_binomial(rs2):
    n, ratio, num_rounds = 400, 0.1, 500
    counts = torch.zeros(n)
    for indices in rs2.rs2_rounds(n, ratio, num_rounds, seeded(4), with_replacement=True):
        counts[indices] += 1
    assert 1e-4 < uniformity(counts, num_rounds, ratio) < 1 - 1e-4


def test_rounds_with_replacement_are_independent(rs2):
    """Two rounds share m^2/N examples on average (hypergeometric)."""
    n, m, num_rounds = 200, 40, 600
    rounds = list(rs2.rs2_rounds(n, m / n, num_rounds, seeded(5), with_replacement=True))
    for lag in (1, 5):
        pairs = zip(rounds, rounds[lag:], strict=False)
        shared = torch.tensor([torch.isin(a, b).sum().item() for a, b in pairs]).double()
        sigma = math.sqrt(stats.hypergeom(n, m, m).var() / len(shared))
        assert abs(shared.mean().item() - m * m / n) < 4 * sigma


# --- stratified ----------------------------------------------------------------------------------


def test_stratified_counts_are_exact(rs2):
    for seed, (labels, ratio) in enumerate(labelled(60, 6)):
        for with_replacement in (False, True):
            rounds = rs2.rs2_rounds(len(labels), ratio, 4, seeded(seed), with_replacement, labels)
            for indices in rounds:
                assert len(indices.unique()) == len(indices)
                for c in labels.unique():
                    expected = round(ratio * int((labels == c).sum()))
                    assert (labels[indices] == c).sum() == expected


def test_stratified_without_replacement_covers_every_class(rs2):
    for seed, (labels, ratio) in enumerate(labelled(60, 7)):
        visits = torch.zeros(len(labels), dtype=torch.long)
        for indices in rs2.rs2_rounds(len(labels), ratio, 12, seeded(seed), labels=labels):
            visits[indices] += 1
            for c in labels.unique():
                assert visits[labels == c].max() - visits[labels == c].min() <= 1


# --- batches and the schedule --------------------------------------------------------------------


def test_batches_partition_every_round(rs2):
    for seed, (n, ratio, num_rounds) in enumerate(sizes(150, 8)):
        rounds = list(rs2.rs2_rounds(n, ratio, num_rounds, seeded(seed)))
        batch_size = 1 + seed % 17
        per_round = -(-len(rounds[0]) // batch_size)
        for generator in (None, seeded(seed)):
            batches = rs2.batches_of(rounds, batch_size, generator)
            assert len(batches) == num_rounds * per_round
            for t, indices in enumerate(rounds):
                own = batches[t * per_round : (t + 1) * per_round]
                lengths = [len(b) for b in own]
                assert max(lengths) <= batch_size
                assert max(lengths) - min(lengths) <= 1
                together = torch.cat(own)
                if generator is None:
                    assert torch.equal(together, indices)
                assert torch.equal(together.sort().values, indices.sort().values)


def test_batches_are_shuffled_anew_in_every_round(rs2):
    fixed = [torch.arange(40)] * 3
    orders = [torch.cat(rs2.batches_of(fixed, 40, seeded(9))[k : k + 1]) for k in range(3)]
    assert not torch.equal(orders[0], fixed[0])
    assert not torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[1], orders[2])


def test_every_pass_of_a_loader_is_the_next_round(rs2):
    """The sampler hands out the rounds of `rs2_rounds`, and a loader takes one a pass."""
    numbers = torch.utils.data.TensorDataset(torch.arange(50))
    for ratio in (0.2, 0.3):
        sampler = rs2.RS2Sampler(50, ratio, seeded(14))
        loader = torch.utils.data.DataLoader(numbers, batch_size=4, sampler=sampler)
        expected = list(rs2.rs2_rounds(50, ratio, 7, seeded(14)))
        assert len(sampler) == len(expected[0])
        assert len(loader) == math.ceil(len(expected[0]) / 4)
        for indices in expected:
            batches = [batch.tolist() for (batch,) in loader]
            assert len(batches) == len(loader)
            assert [i for batch in batches for i in batch] == indices.tolist()


def test_shortened_run_is_the_number_of_batches(rs2):
    for seed, (n, ratio, num_rounds) in enumerate(sizes(200, 10)):
        batch_size = 1 + seed % 17
        rounds = rs2.rs2_rounds(n, ratio, num_rounds, seeded(seed))
        steps = rs2.shortened_run(n, ratio, num_rounds, batch_size)
        assert steps == len(rs2.batches_of(rounds, batch_size))
    assert rs2.shortened_run(50_000, 0.1, 200, 128) == 8000  # the official figure's two runs
    assert rs2.shortened_run(50_000, 1.0, 200, 128) == 78_200


def test_cosine_ends_with_the_shortened_run(rs2):
    """The schedule's horizon is S * T: the last step is within 1e-6 of the cosine's last value."""
    for n, ratio, num_rounds, batch_size in ((50_000, 0.1, 200, 128), (60_000, 0.01, 100, 64)):
        per_round = math.ceil(round(ratio * n) / batch_size)
        steps = num_rounds * per_round
        schedule = cosine_schedule(
            0.1, rs2.shortened_run(n, ratio, num_rounds, batch_size), final=1e-4
        )
        half = (1 + math.cos(math.pi * (steps - 1) / steps)) / 2
        assert schedule(0) == 0.1
        assert schedule(steps - 1) == pytest.approx(1e-4 + (0.1 - 1e-4) * half, abs=1e-6)
        assert schedule(steps // 2) == pytest.approx((0.1 + 1e-4) / 2)
        assert schedule(steps) == pytest.approx(1e-4, abs=1e-12)


def test_rs2_is_ordinary_training_with_a_shorter_schedule(rs2):
    """With the same permutations, weights after rT epochs are bit-identical to plain epochs'."""
    n, batch_size, parts, num_epochs = 96, 8, 4, 3
    data = seeded(11)
    inputs, labels = torch.randn(n, 6, generator=data), torch.randint(3, (n,), generator=data)
    num_steps = num_epochs * n // batch_size
    schedule = cosine_schedule(0.1, num_steps)

    def network():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(12)
            layers = torch.nn.Linear(6, 16), torch.nn.BatchNorm1d(16), torch.nn.Linear(16, 3)
        net = torch.nn.Sequential(*layers)
        return net, torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)

    rounds = rs2.rs2_rounds(n, 1 / parts, parts * num_epochs, seeded(13))
    batches = rs2.batches_of(rounds, batch_size)
    ours, optimizer = network()
    train(
        ours, lambda k: F.cross_entropy(ours(inputs[batches[k]]), labels[batches[k]]),
        num_steps, optimizer, schedule,
    )  # fmt: skip

    plain, optimizer = network()
    generator, step = seeded(13), 0
    for _ in range(num_epochs):
        for batch in torch.randperm(n, generator=generator).split(batch_size):
            optimizer.param_groups[0]["lr"] = schedule(step)
            optimizer.zero_grad()
            F.cross_entropy(plain(inputs[batch]), labels[batch]).backward()
            optimizer.step()
            step += 1
    assert step == num_steps == len(batches)
    for name, value in plain.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name
