"""LLS: what must be exact. The chapter's technique cells against brute force and closed forms."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from press import technique


@pytest.fixture(scope="module")
def lls():
    return technique.load("lls")


def world(rng, num_classes, num_domains, num_shared):
    """Examples by input, class and domain as whole numbers; the first k inputs are anchors."""
    inputs = np.vstack(
        [
            np.diag(rng.integers(1, 4, num_classes)),
            rng.integers(0, 3, (num_shared, num_classes)),
        ]
    )
    inputs = inputs[inputs.sum(1) > 0]
    while True:
        domains = rng.integers(0, 6, (num_classes, num_domains))
        if domains.sum(0).all() and np.linalg.matrix_rank(domains) == num_classes:
            return inputs[:, :, None] * domains[None]


def dealt(table):
    """Inputs, domains and exact posteriors, one row per example of a table (inputs, domains)."""
    x, d = (axis.repeat(table.ravel()) for axis in np.indices(table.shape).reshape(2, -1))
    f = table / table.sum(1, keepdims=True)
    return x, d, f[x]


def order_of(found, true):
    """Row of `found` for each row of `true`, by the smallest total distance."""
    _rows, columns = linear_sum_assignment(np.abs(true[:, None] - found[None]).sum(2))
    return columns


def test_exact_shares_and_bayes_in_200_random_worlds(lls):
    """L1 error of p_d(y) per domain and error of p_d(y|x) below 1e-8: k from 2 to 12, r to 4k."""
    for number in range(200):
        rng = np.random.default_rng(number)
        k = 2 + number % 11
        r = int(rng.integers(k, 4 * k + 1))
        joint = world(rng, k, r, int(rng.integers(0, 3 * k + 1)))
        table = joint.sum(1)
        true = joint.sum(0) / joint.sum((0, 1))
        # the step itself, on the exact distribution
        f = table / table.sum(1, keepdims=True)
        shares = lls.factorise_spa(table.astype(float), f, k)
        order = order_of(shares, true)
        assert np.abs(shares[order] - true).sum(0).max() < 1e-8, (number, k, r)
        # Bayes by brute force: count the examples of each class among those with this x and d
        model = lls.DDFA(shares, table.sum(0) / table.sum())
        xs, ds = np.nonzero(table)
        bayes = joint[xs, :, ds] / joint[xs, :, ds].sum(1, keepdims=True)
        assert np.abs(model.predict(f[xs], ds)[:, order] - bayes).max() < 1e-8, (number, k, r)
        free = joint.sum(2) / joint.sum((1, 2))[:, None]
        assert np.abs(model.predict(f)[:, order] - free).max() < 1e-8, (number, k, r)


@pytest.mark.parametrize("number", range(8))
def test_the_public_function_is_exact_as_well(lls, number):
    rng = np.random.default_rng(1000 + number)
    k = 2 + number % 4
    joint = world(rng, k, int(rng.integers(k, 2 * k + 1)), k)
    table = joint.sum(1)
    x, d, f = dealt(table)
    model = lls.ddfa(f, d, k, len(np.unique(f, axis=0)))
    true = joint.sum(0) / joint.sum((0, 1))
    order = order_of(model.p_y_given_d, true)
    assert np.abs(model.p_y_given_d[order] - true).sum(0).max() < 1e-8
    bayes = (joint[x, :, d] / joint[x, :, d].sum(1, keepdims=True))[:, np.argsort(order)]
    assert np.abs(model.predict(f, d) - bayes).max() < 1e-8


@pytest.mark.parametrize("factoriser", ["spa", "nmf"])
def test_columns_and_rows_sum_to_one(lls, factoriser):
    rng = np.random.default_rng(0)
    f = rng.dirichlet(np.ones(6), 500)
    d = rng.integers(6, size=500)
    model = lls.ddfa(f, d, 4, 12, factoriser)
    assert model.p_y_given_d.shape == (4, 6)
    assert model.p_y_given_d.min() >= 0
    np.testing.assert_allclose(model.p_y_given_d.sum(0), 1, atol=1e-12)
    for posterior in (model.predict(f, d), model.predict(f)):
        assert posterior.shape == (500, 4)
        assert posterior.min() >= 0
        np.testing.assert_allclose(posterior.sum(1), 1, atol=1e-12)


def test_nmf_fits_and_needs_not_be_right(lls):
    """Exact matrices: NMF misses the truth at r = k, and comes close at r = 6k."""
    missed, near = [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        inputs = np.vstack([0.3 * np.eye(5), 0.7 * rng.dirichlet(np.ones(15), 5).T])
        for r, alpha, errors in ((5, 10, missed), (30, 0.5, near)):
            true = rng.dirichlet(np.full(5, alpha / 5), r).T
            exact = inputs @ true
            found = lls.factorise_nmf(exact, None, 5, seed)
            errors.append(np.abs(found[order_of(found, true)] - true).mean())
    assert np.mean(missed) > 0.05
    assert np.mean(near) < 0.005


def slow_spa(points, k):
    """Successive projection through explicit orthogonal complements."""
    chosen = []
    for _ in range(k):
        if chosen:
            basis = np.linalg.qr(points[chosen].T)[0]
            complement = np.eye(points.shape[1]) - basis @ basis.T
        else:
            complement = np.eye(points.shape[1])
        lengths = [float(np.sqrt(sum((complement @ p) ** 2))) for p in points]
        chosen.append(max(range(len(points)), key=lengths.__getitem__))
    return chosen


@pytest.mark.parametrize("seed", range(10))
def test_successive_projection_agrees_with_the_slow_version(lls, seed):
    points = np.random.default_rng(seed).dirichlet(np.ones(7), 40)
    assert lls.successive_projection(points, 5) == slow_spa(points, 5)


@pytest.mark.parametrize("seed", range(20))
def test_successive_projection_finds_the_corners_of_separable_matrices(lls, seed):
    rng = np.random.default_rng(seed)
    k = int(rng.integers(2, 9))
    corners = rng.dirichlet(np.ones(k + 3), k)
    points = np.vstack([corners, rng.dirichlet(np.full(k, 0.7), 50) @ corners])
    shuffled = rng.permutation(len(points))
    found = lls.successive_projection(points[shuffled], k)
    assert sorted(shuffled[found]) == list(range(k))


def test_proportional_classes_are_refused(lls):
    corners = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], [0.4, 0.2, 0.4]])  # rank 2
    with pytest.raises(ValueError, match="proportional"):
        lls.successive_projection(corners, 3)


def test_adjustment_is_bayes_by_brute_force(lls):
    """Draw nothing, enumerate: q(y|x, d) from the joint of x, y and d with unequal domains."""
    rng = np.random.default_rng(3)
    q_x_given_y = rng.dirichlet(np.ones(9), 3).T
    q_y_given_d = rng.dirichlet(np.ones(3), 5).T
    q_d = rng.dirichlet(np.ones(5))
    joint = np.zeros((9, 3, 5))
    for x, y, d in itertools.product(range(9), range(3), range(5)):
        joint[x, y, d] = q_d[d] * q_y_given_d[y, d] * q_x_given_y[x, y]
    f = joint.sum(1) / joint.sum((1, 2))[:, None]
    model = lls.DDFA(q_y_given_d, q_d)
    for d in range(5):
        bayes = joint[:, :, d] / joint[:, :, d].sum(1, keepdims=True)
        np.testing.assert_allclose(model.predict(f, np.full(9, d)), bayes, atol=1e-10)
    np.testing.assert_allclose(model.p_d_given_y, (joint.sum(0) / joint.sum((0, 2))[:, None]).T)


def test_pure_domains_are_the_classes(lls):
    f = np.repeat(np.eye(4), 25, axis=0)
    model = lls.ddfa(f, np.repeat(np.arange(4), 25), 4, 4)
    assert sorted(model.p_y_given_d.argmax(1)) == [0, 1, 2, 3]
    np.testing.assert_allclose(model.p_y_given_d.max(1), 1)


@pytest.fixture
def learned_like():
    """Noisy posteriors around four corners, with domain ids to match; 6 domains."""
    rng = np.random.default_rng(5)
    shares = rng.dirichlet(np.full(4, 0.3), 6).T
    v = shares / shares.sum(1, keepdims=True)
    y = rng.integers(4, size=3000)
    d = np.array([rng.choice(6, p=v[c]) for c in y])
    f = 0.95 * v[y] + 0.05 * rng.dirichlet(np.ones(6), 3000)
    return f, d


@pytest.mark.parametrize("factoriser", ["spa", "nmf"])
def test_renaming_the_domains_permutes_columns_only(lls, learned_like, factoriser):
    f, d = learned_like
    order = np.array([3, 0, 5, 1, 4, 2])  # new domain i is old domain order[i]
    kmeans = lls.discretise(f, 12)
    cells = kmeans.predict(f)
    before, after = (
        lls.FACTORISERS[factoriser](*lls.count_cells(cells, ids, posteriors, 12), 4)
        for ids, posteriors in ((d, f), (np.argsort(order)[d], f[:, order]))
    )
    if factoriser == "nmf":  # its random start depends on the order of the domains
        after = after[order_of(after, before[:, order])]
        assert np.abs(after - before[:, order]).mean() < 0.1
    else:
        np.testing.assert_allclose(after, before[:, order], atol=1e-10)


def test_the_order_of_examples_and_cells_does_not_matter(lls, learned_like):
    f, d = learned_like
    cells = lls.discretise(f, 12).predict(f)
    counts, means = lls.count_cells(cells, d, f, 12)
    order, names = (
        np.random.default_rng(0).permutation(len(f)),
        np.random.default_rng(1).permutation(12),
    )
    again, means_again = lls.count_cells(names[cells[order]], d[order], f[order], 12)
    np.testing.assert_array_equal(again[names], counts)
    np.testing.assert_allclose(means_again[names], means)
    shares, renamed = lls.factorise_spa(counts, means, 4), lls.factorise_spa(again, means_again, 4)
    np.testing.assert_allclose(renamed[order_of(renamed, shares)], shares, atol=1e-10)


def test_doubling_a_domain_leaves_the_other_columns_alone(lls):
    rng = np.random.default_rng(2)
    joint = world(rng, 3, 5, 6)
    table = joint.sum(1).astype(float)
    doubled = np.concatenate([table, table[:, 1:2]], 1)
    a, b = (lls.factorise_spa(t, t / t.sum(1, keepdims=True), 3) for t in (table, doubled))
    b = b[order_of(b, np.concatenate([a, a[:, 1:2]], 1))]
    np.testing.assert_allclose(b[:, :5], a, atol=1e-10)
    np.testing.assert_allclose(b[:, 5], a[:, 1], atol=1e-10)


def test_counts_by_a_loop(lls):
    rng = np.random.default_rng(0)
    cells, ids, f = (
        rng.integers(4, size=60),
        rng.integers(3, size=60),
        rng.dirichlet(np.ones(3), 60),
    )
    counts, means = lls.count_cells(cells, ids, f, 5)
    for a in range(5):
        for d in range(3):
            assert counts[a, d] == sum(
                1 for c, i in zip(cells, ids, strict=True) if (c, i) == (a, d)
            )
        expected = f[cells == a].mean(0) if (cells == a).any() else np.zeros(3)
        np.testing.assert_allclose(means[a], expected)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_matching_is_the_best_of_all_namings(lls, k):
    rng = np.random.default_rng(k)
    found, labels = rng.integers(k, size=200), rng.integers(k, size=200)
    best = max(
        np.mean(np.array(naming)[found] == labels) for naming in itertools.permutations(range(k))
    )
    accuracy, names = lls.match_classes(found, labels, k)
    assert accuracy == pytest.approx(100 * best)
    assert 100 * np.mean(names[found] == labels) == pytest.approx(accuracy)


GOOD = np.full((20, 4), 0.25), np.arange(20) % 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"domain_posteriors": np.full(20, 0.25)}, r"shape \(n, r\)"),
        ({"domain_posteriors": np.full((20, 4), 0.3)}, "probabilities"),
        ({"domain_posteriors": np.full((20, 4), np.nan)}, "probabilities"),
        ({"domain_posteriors": np.array([[1.5, -0.5, 0, 0]] * 20)}, "probabilities"),
        ({"domain_ids": np.arange(19) % 4}, "20 integers"),
        ({"domain_ids": np.arange(20) % 5}, r"0\.\.3"),
        ({"domain_ids": np.arange(20) % 4 * 1.0}, "integers"),
        ({"domain_ids": np.zeros(20, int)}, "without examples"),
        ({"num_classes": 5}, "classes <= domains"),
        ({"num_classes": 1}, "classes"),
        ({"num_clusters": 1}, "classes <= clusters"),
        ({"num_clusters": 21}, "clusters <= examples"),
        ({"factoriser": "svd"}, "'spa', 'nmf'"),
    ],
)
def test_bad_input_is_named(lls, change, message):
    arguments = {
        "domain_posteriors": GOOD[0],
        "domain_ids": GOOD[1],
        "num_classes": 2,
        "num_clusters": 4,
        "factoriser": "spa",
    }
    with pytest.raises(ValueError, match=message):
        lls.ddfa(**(arguments | change))


def test_predict_refuses_other_domains(lls):
    model = lls.DDFA(np.eye(3), np.full(3, 1 / 3))
    with pytest.raises(ValueError, match=r"\(n, 3\)"):
        model.predict(np.full((2, 4), 0.25))
    with pytest.raises(ValueError, match="2 integers"):
        model.predict(np.full((2, 3), 1 / 3), [0, 1, 2])
