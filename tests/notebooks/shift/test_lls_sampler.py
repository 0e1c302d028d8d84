"""LLS: the sampler of domains against the distribution that it claims to draw from."""

import numpy as np
import pytest
from scipy import stats

from press import technique


@pytest.fixture(scope="module")
def lls():
    return technique.load("lls")


@pytest.mark.parametrize(("k", "alpha"), [(4, 0.5), (4, 3.0), (10, 10.0)])
def test_shares_are_dirichlet_with_total_concentration_alpha(lls, k, alpha):
    """Each coordinate alone is Beta(alpha / k, alpha - alpha / k): alpha is the total."""
    rng = np.random.default_rng(0)
    draws = [lls.domain_marginals(k, k, alpha, np.inf, rng, 1) for _ in range(400)]
    first = np.stack(draws)[:, 0].ravel()
    expected = stats.beta(alpha / k, alpha - alpha / k)
    assert stats.kstest(first, expected.cdf).pvalue > 0.001
    assert stats.kstest(first, stats.beta(alpha, alpha * (k - 1)).cdf).pvalue < 1e-6


def test_columns_are_distributions_and_the_cap_is_met(lls):
    for seed in range(20):
        marginals = lls.domain_marginals(5, 8, 3.0, 4.0, np.random.default_rng(seed))
        assert marginals.shape == (5, 8)
        assert marginals.min() >= 0
        np.testing.assert_allclose(marginals.sum(0), 1)
        assert np.linalg.cond(marginals) <= 4.0


def test_the_first_draw_below_the_cap_is_taken(lls):
    """Taking the best draw instead of the first that is good enough would make every world easy."""
    conditions = [
        np.linalg.cond(lls.domain_marginals(3, 6, 3.0, 8.0, np.random.default_rng(s)))
        for s in range(200)
    ]
    plain = []
    for seed in range(200):
        rng = np.random.default_rng(10_000 + seed)
        while (condition := np.linalg.cond(rng.dirichlet(np.ones(3), 6))) > 8.0:
            pass
        plain.append(condition)
    assert stats.ks_2samp(conditions, plain).pvalue > 0.001


def test_an_impossible_cap_gives_the_best_draw(lls):
    marginals = lls.domain_marginals(4, 4, 10.0, 0.5, np.random.default_rng(0), 3000)
    rng = np.random.default_rng(0)
    every = np.concatenate([rng.dirichlet(np.full(4, 2.5), (1000, 4)) for _ in range(3)])
    assert np.linalg.cond(marginals) == pytest.approx(np.linalg.cond(every).min())


def test_every_domain_has_its_shares_and_nobody_is_used_twice(lls):
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.repeat(np.arange(6), 3000))
    marginals = lls.domain_marginals(6, 9, 1.0, 6.0, rng)
    indices, ids = lls.draw_domains(labels, marginals, rng)
    assert len(set(indices.tolist())) == len(indices)
    counts = np.zeros((6, 9), int)
    np.add.at(counts, (labels[indices], ids), 1)
    capacity = 3000 / marginals.sum(1).max()
    np.testing.assert_array_equal(counts, np.floor(marginals * capacity + 1e-9))
    assert counts.sum(1).max() <= 3000  # the class in greatest demand is used up, not exceeded
    assert counts.sum(1).max() >= 3000 - 9


def test_inside_a_class_the_draw_is_uniform(lls):
    """Every example of a class is equally likely to be dealt to a domain."""
    labels = np.repeat([0, 1], 40)
    marginals = np.array([[0.5, 0.25], [0.5, 0.75]])
    dealt = np.zeros(80)
    for seed in range(500):
        indices, ids = lls.draw_domains(labels, marginals, np.random.default_rng(seed))
        dealt[indices[ids == 0]] += 1
    assert stats.chisquare(dealt[:40]).pvalue > 0.001
    assert stats.chisquare(dealt[40:]).pvalue > 0.001


def test_the_order_does_not_give_the_classes_away(lls):
    labels = np.repeat(np.arange(4), 500)
    rng = np.random.default_rng(0)
    indices, ids = lls.draw_domains(labels, lls.domain_marginals(4, 6, 3.0, 6.0, rng), rng)
    position = np.arange(len(indices))
    for values in (labels[indices], ids):
        assert abs(stats.spearmanr(position, values).statistic) < 0.1


def test_relative_sizes_are_kept(lls):
    labels = np.repeat(np.arange(3), 20_000)
    rng = np.random.default_rng(0)
    marginals = lls.domain_marginals(3, 4, 3.0, 6.0, rng)
    _, ids = lls.draw_domains(labels, marginals, rng, sizes=[1, 2, 3, 4])
    np.testing.assert_allclose(np.bincount(ids) / len(ids), [0.1, 0.2, 0.3, 0.4], atol=1e-3)


def test_fewer_domains_than_classes_are_refused(lls):
    with pytest.raises(ValueError, match="classes <= domains"):
        lls.domain_marginals(5, 4, 1.0, 4.0, np.random.default_rng(0))
