"""The RS2 chapter's pruning methods, against slow versions written from their definitions.

Every test takes the technique module as its argument, so that test_rs2_mutations.py can hand it a
module with a mistake in it.
"""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from press import technique

BOTH = (torch.float32, torch.float64)


@pytest.fixture(scope="module")
def rs2():
    return technique.load("rs2")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def softmax(row):
    shifted = [math.exp(z - max(row)) for z in row]
    return [e / sum(shifted) for e in shifted]


def random_logits(seed, dtype, n=60, num_classes=5, scale=3.0):
    generator = seeded(seed)
    logits = scale * torch.randn(n, num_classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(num_classes, (n,), generator=generator)
    return logits.to(dtype), labels


# --- scores --------------------------------------------------------------------------------------


def test_el2n_equals_a_slow_loop(rs2):
    for dtype in BOTH:
        logits, labels = random_logits(0, dtype)
        expected = []
        for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
            p = softmax(row)
            expected.append(math.sqrt(sum((p[c] - (c == label)) ** 2 for c in range(len(p)))))
        scores = rs2.el2n_scores(logits, labels)
        assert scores.dtype == dtype
        tolerance = 1e-5 if dtype == torch.float32 else 1e-12
        assert scores.tolist() == pytest.approx(expected, rel=tolerance, abs=tolerance)


def test_el2n_of_a_perfect_and_of_an_ignorant_network(rs2):
    for num_classes in (2, 3, 10, 100):
        labels = torch.arange(num_classes)
        perfect = 1e4 * F.one_hot(labels).double()
        assert rs2.el2n_scores(perfect, labels).abs().max() == 0
        ignorant = rs2.el2n_scores(torch.full((num_classes, num_classes), 0.7).double(), labels)
        c = num_classes
        expected = math.sqrt((1 - 1 / c) ** 2 + (c - 1) / c**2)
        assert ignorant.tolist() == pytest.approx([expected] * c)


def test_grand_equals_autograd(rs2):
    for dtype in BOTH:
        generator = seeded(1)
        features = 2 * torch.randn(40, 7, generator=generator).to(dtype)
        labels = torch.randint(4, (40,), generator=generator)
        layer = torch.nn.Linear(7, 4, dtype=dtype)
        with torch.no_grad():
            layer.weight.normal_(generator=generator)
            layer.bias.normal_(generator=generator)
        expected = []
        for h, y in zip(features, labels, strict=True):
            gradients = torch.autograd.grad(F.cross_entropy(layer(h), y), layer.parameters())
            expected.append(torch.cat([g.flatten() for g in gradients]).norm().item())
        scores = rs2.grand_scores(layer(features).detach(), features, labels)
        assert scores.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_margin_equals_a_slow_loop(rs2):
    for dtype in BOTH:
        logits, _ = random_logits(2, dtype)
        probabilities = [sorted(softmax(row)) for row in logits.tolist()]
        expected = [p[-2] - p[-1] for p in probabilities]
        assert rs2.margin_scores(logits).tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_with_two_classes_margin_least_confidence_and_entropy_agree(rs2):
    logits, _ = random_logits(3, torch.float64, n=200, num_classes=2, scale=1.0)
    p = logits.softmax(1)
    order = rs2.margin_scores(logits).argsort()
    assert torch.equal(order, (-p.amax(1)).argsort())
    assert torch.equal(order, (-(p * p.log()).sum(1)).argsort())


def test_forgetting_events_equal_a_slow_count(rs2):
    """Random histories in random order, with examples that are always, never and seldom right."""
    for seed in range(30):
        generator = seeded(seed)
        n = 40
        events = rs2.ForgettingEvents(n)
        skill = torch.rand(n, generator=generator).round(decimals=1)  # some exactly 0, some 1
        history = {i: [] for i in range(n)}
        for _ in range(int(torch.randint(0, 8, (1,), generator=generator))):
            for batch in torch.randperm(n, generator=generator)[:35].split(8):
                correct = torch.rand(len(batch), generator=generator) < skill[batch]
                events.visit(batch, correct)
                for i, right in zip(batch.tolist(), correct.tolist(), strict=True):
                    history[i].append(right)
        expected = []
        for visits in history.values():
            lost = sum(a and not b for a, b in itertools.pairwise(visits))
            expected.append(float(lost) if any(visits) else math.inf)
        assert events.scores().tolist() == expected


# --- keeping the highest -------------------------------------------------------------------------


def test_keep_highest_keeps_the_budget_and_the_highest(rs2):
    for seed in range(60):
        for dtype in BOTH:
            scores = torch.rand(37, generator=seeded(seed)).to(dtype)
            budget = seed % 38
            kept = rs2.keep_highest(scores, budget, seeded(seed))
            assert kept.dtype == torch.long
            assert len(kept) == len(kept.unique()) == budget
            assert set(kept.tolist()) == set(
                sorted(range(37), key=scores.__getitem__)[37 - budget :]
            )


def test_ties_are_broken_at_random(rs2):
    """Two clear winners and ten tied for three places: each of the ten in 3 of 10 draws."""
    scores = torch.tensor([1.0] * 5 + [2.0] + [1.0] * 5 + [math.inf] + [0.0] * 4)
    draws = 1500
    counts = torch.zeros(len(scores))
    for seed in range(draws):
        counts[rs2.keep_highest(scores, 5, seeded(seed))] += 1
    assert counts[[5, 11]].tolist() == [draws, draws]
    assert counts[12:].sum() == 0
    tied = counts[scores == 1].numpy()
    spread = ((tied - draws * 0.3) ** 2).sum() / (draws * 0.3 * 0.7) * 0.9
    assert stats.chi2.sf(spread, 9) > 1e-4


def test_infinite_scores_come_first_and_tie(rs2):
    scores = torch.tensor([math.inf, 3.0, math.inf, 2.0, math.inf])
    kept = {tuple(sorted(rs2.keep_highest(scores, 2, seeded(s)).tolist())) for s in range(40)}
    assert kept == {(0, 2), (0, 4), (2, 4)}


def test_classes_are_kept_in_equal_shares(rs2):
    for seed in range(40):
        generator = seeded(seed)
        labels = (torch.arange(90) % 5 * 3)[torch.randperm(90, generator=generator)]
        scores = torch.rand(90, generator=generator)
        budget = 5 + 2 * seed
        kept = rs2.keep_highest(scores, budget, generator, labels)
        assert len(kept.unique()) == len(kept) == budget
        shares = []
        for c in labels.unique():
            mine = scores[kept[labels[kept] == c]]
            shares.append(len(mine))
            best = scores[labels == c].sort(descending=True).values[: len(mine)]
            assert torch.equal(mine.sort(descending=True).values, best)
        assert max(shares) - min(shares) <= 1


# --- geometry ------------------------------------------------------------------------------------


def point_clouds(count, seed):
    """Random features of both dtypes; every third cloud lies on a grid and has duplicates."""
    generator = seeded(seed)
    for k in range(count):
        n, d = torch.randint(2, 40, (2,), generator=generator).tolist()
        cloud = torch.randn(n, d, generator=generator, dtype=torch.float64)
        if k % 3 == 0:
            cloud = torch.randint(0, 3, (n, 2), generator=generator).double()
        yield cloud.to(BOTH[k % 2])


def test_k_center_always_takes_the_farthest(rs2):
    """Against the definition: O(mN) distances in plain loops, any of tied examples accepted."""
    for seed, features in enumerate(point_clouds(60, 4)):
        n = len(features)
        budget = 1 + seed % n
        chosen = rs2.k_center_greedy(features, budget, seeded(seed)).tolist()
        assert len(set(chosen)) == budget
        points = features.double()
        distances = (points[:, None] - points[None]).norm(dim=2)
        radius = math.inf
        for k in range(1, budget):
            nearest = [min(distances[i, j].item() for j in chosen[:k]) for i in range(n)]
            farthest = max(nearest[i] for i in range(n) if i not in chosen[:k])
            assert nearest[chosen[k]] == pytest.approx(farthest, rel=1e-5, abs=1e-6)
            assert max(nearest) <= radius
            radius = max(nearest)


def test_k_center_is_within_twice_the_best_radius(rs2):
    for seed in range(40):
        points = torch.randn(8, 2, generator=seeded(seed), dtype=torch.float64)
        distances = (points[:, None] - points[None]).norm(dim=2)

        def radius(centers, distances=distances):
            return distances[:, list(centers)].amin(1).max().item()

        for budget in (1, 2, 3, 5):
            best = min(radius(c) for c in itertools.combinations(range(8), budget))
            chosen = rs2.k_center_greedy(points, budget, seeded(seed)).tolist()
            assert radius(chosen) <= 2 * best + 1e-12


def test_k_center_starts_anywhere(rs2):
    starts = [rs2.k_center_greedy(torch.eye(6), 1, seeded(s)).item() for s in range(600)]
    counts = np.bincount(starts, minlength=6)
    assert stats.chisquare(counts).pvalue > 1e-4


def test_k_center_by_hand(rs2):
    line = torch.tensor([[0.0], [1.0], [10.0]])
    orders = {tuple(rs2.k_center_greedy(line, 3, seeded(s)).tolist()) for s in range(30)}
    assert orders == {(0, 2, 1), (1, 2, 0), (2, 0, 1)}


def test_herding_always_takes_the_closest_to_the_mean(rs2):
    """Against the definition: argmin_i ||(k + 1) mean - total - h_i||, ties either way."""
    for seed, features in enumerate(point_clouds(60, 5)):
        n = len(features)
        budget = 1 + seed % n
        chosen = rs2.herding(features, budget).tolist()
        assert len(set(chosen)) == budget
        points = features.double()
        mean, total = points.mean(0), torch.zeros_like(points[0])
        for k, i in enumerate(chosen):
            errors = [((k + 1) * mean - total - h).norm().item() for h in points]
            best = min(errors[j] for j in range(n) if j not in chosen[:k])
            assert errors[i] == pytest.approx(best, rel=1e-4, abs=1e-4)
            total = total + points[i]


def test_herding_of_all_has_the_exact_mean_and_of_few_a_closer_one_than_chance(rs2):
    for seed in range(10):
        features = torch.randn(100, 8, generator=seeded(seed), dtype=torch.float64)
        mean = features.mean(0)
        order = rs2.herding(features, 100)
        assert (features[order].mean(0) - mean).norm() < 1e-12
        for m in (5, 10, 25, 50):
            herded = (features[rs2.herding(features, m)].mean(0) - mean).norm()
            drawn = [
                (features[torch.randperm(100, generator=seeded(s))[:m]].mean(0) - mean).norm()
                for s in range(20)
            ]
            assert herded < min(drawn)


def test_herding_leaves_its_input_alone(rs2):
    features = torch.randn(20, 3, generator=seeded(6))
    before = features.clone()
    rs2.herding(features, 10)
    rs2.k_center_greedy(features, 10, seeded(0))
    assert torch.equal(features, before)


# --- coverage ------------------------------------------------------------------------------------


def slow_coverage(scores, budget, drop_hardest, num_strata):
    """What CCS promises: {stratum: (members, how many are taken)}, from scores as numpy scalars."""
    order = sorted(range(len(scores)), key=lambda i: scores[i])
    kept = order[: max(budget, round((1 - drop_hardest) * len(scores)))]
    low, high = scores[kept[0]], scores[kept[-1]]
    width = (high - low) / type(low)(num_strata)
    strata = {}
    for i in kept:
        s = min(int((scores[i] - low) / width), num_strata - 1) if width else 0
        strata.setdefault(s, []).append(i)
    taken, left = {}, budget
    waiting = sorted(strata, key=lambda s: len(strata[s]))
    while waiting:
        s = waiting.pop(0)
        taken[s] = min(len(strata[s]), left // (len(waiting) + 1))
        left -= taken[s]
    return {s: (strata[s], taken[s]) for s in strata}


def test_coverage_centric_equals_a_slow_version(rs2):
    """The budget is met exactly, spread as the slow version spreads it, hardest left out."""
    random = np.random.default_rng(7)
    for trial in range(150):
        n = int(random.integers(2, 200))
        dtype = (np.float32, np.float64)[trial % 2]
        scores = random.gamma(1.0, 1.0, n).astype(dtype)  # crowded at the easy end
        budget, num_strata = int(random.integers(1, n + 1)), int(random.integers(1, 60))
        drop = float(random.choice([0.0, 0.1, 0.3, 0.6]))
        chosen = rs2.coverage_centric(
            torch.from_numpy(scores), budget, seeded(trial), drop, num_strata
        ).tolist()
        assert len(set(chosen)) == len(chosen) == budget
        expected = slow_coverage(scores, budget, drop, num_strata)
        assert set(chosen) <= {i for members, _ in expected.values() for i in members}
        # strata of equal size may swap an example that does not divide evenly
        ours = sorted((len(m), len(set(m) & set(chosen))) for m, _ in expected.values())
        assert ours == sorted((len(m), k) for m, k in expected.values())


def test_coverage_centric_drops_the_hardest_30_percent_into_50_strata(rs2):
    scores = torch.arange(1000, dtype=torch.float64)[torch.randperm(1000, generator=seeded(8))]
    chosen = scores[rs2.coverage_centric(scores, 100, seeded(9))]
    assert chosen.max() < 700
    per_stratum = torch.histc(chosen, 50, 0, 700)
    assert per_stratum.tolist() == [2] * 50


def test_coverage_centric_draws_evenly_inside_a_stratum(rs2):
    scores = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 10.0, 10.0, 10.0])
    counts = torch.zeros(8)
    for seed in range(600):
        counts[rs2.coverage_centric(scores, 4, seeded(seed), 0.0, 2)] += 1
    assert counts[:5].sum() == counts[5:].sum() == 1200
    for group, share in ((counts[:5], 2 / 5), (counts[5:], 2 / 3)):
        n = len(group)
        spread = (group - 600 * share).square().sum() / (600 * share * (1 - share)) * (n - 1) / n
        assert stats.chi2.sf(float(spread), n - 1) > 1e-4


def test_coverage_centric_of_equal_scores_is_a_random_subset(rs2):
    kept = {
        tuple(sorted(rs2.coverage_centric(torch.ones(5), 2, seeded(s), 0.0).tolist()))
        for s in range(200)
    }
    assert len(kept) == 10
