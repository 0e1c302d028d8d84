"""The lab on DRO-SSL: closed forms, slow references, independent libraries, hand cases."""

import ast
import types

import numpy as np
import pytest
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture

from press import notebooks, technique

WIDE = {"middle": {}, "valley": {}}


def given():
    """What the cells take from the notebook, with settings in which a mix-up would show."""
    settings = types.SimpleNamespace(**technique.settings("dro-ssl", "smoke"))
    settings.images = [3, 40, 20, 5]
    return {"S": settings, "results": {}, "chosen": {}, "wide": WIDE}


@pytest.fixture
def lab():
    return technique.load("dro-ssl", tags=("technique", "experiment"), given=given())


def mean_accuracy(lab, arm, settings, seeds, **world):
    draws = [lab.draw(seed, **world) for seed in seeds]
    return np.mean([lab.accuracy(lab.fit(arm, a, settings)[0], a) for a in draws])


# --- the robust loss -----------------------------------------------------------------------------


def test_the_robust_loss_is_the_supremum_over_all_moves(lab):
    """In three dimensions: no random move is above it, the move to the boundary attains it."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        theta, x, y = (
            lab.unit(rng.standard_normal(3)),
            2 * rng.standard_normal(3),
            rng.choice([-1, 1]),
        )
        gamma, margin = rng.uniform(0.05, 3), y * (theta @ x)
        closed = lab.robust_loss(margin, gamma)
        moves = np.concatenate([x + rng.standard_normal((500, 3)) * rng.uniform(0, 3), [x]])
        found = (y * (moves @ theta) <= 0) - gamma * np.linalg.norm(moves - x, axis=1)
        assert found.max() <= closed + 1e-12
        nearest = x - (1 + 1e-9) * margin * y * theta  # just across
        reached = (y * (theta @ nearest) <= 0) - gamma * np.linalg.norm(nearest - x)
        assert max(reached, found[-1]) == pytest.approx(closed, abs=1e-6)


def test_a_higher_price_never_raises_the_loss(lab):
    margins = np.linspace(-4, 4, 81)
    losses = np.stack([lab.robust_loss(margins, gamma) for gamma in (0.05, 0.2, 0.5, 1, 2)])
    assert (np.diff(losses, axis=0) <= 0).all()
    assert (np.diff(lab.robust_loss(np.abs(margins), 0.5)[:41]) >= 0).all(), "a hat, highest at 0"


# --- the estimator -------------------------------------------------------------------------------


def slow_objective(theta, X, y, U, gamma, lam):
    """The hinge of the labelled points and the hat of the unlabelled ones, point by point."""
    hinge = sum(max(0, 1 - gamma * s * sum(theta * x)) for x, s in zip(X, y, strict=True)) / len(X)
    return hinge + lam * sum(max(0, 1 - gamma * abs(sum(theta * u))) for u in U) / len(U)


def small_world(lab, seed=0, **options):
    a = lab.draw(seed, **({"d": 6, "m": 5, "n": 40, "norm": 1.5} | options))
    return a.X.astype(float), a.y.astype(float), a.U.astype(float)


def test_the_gradient_is_that_of_a_slow_objective(lab):
    rng = np.random.default_rng(1)
    for seed in range(10):
        X, y, U = small_world(lab, seed)
        theta, gammas, lams = lab.unit(rng.standard_normal((3, 6))), [0.05, 0.4, 1.5], [0.1, 1, 30]
        columns = np.array(gammas)[:, None], np.array(lams)[:, None]
        found = lab.gradient(theta, X, y, U, *columns)
        for k in range(3):
            for axis in range(6):
                step = 1e-6 * np.eye(6)[axis]
                up, down = (
                    slow_objective(theta[k] + s, X, y, U, gammas[k], lams[k]) for s in (step, -step)
                )
                assert found[k, axis] == pytest.approx((up - down) / 2e-6, abs=1e-4)


def test_rss_finds_a_direction_that_no_search_nearby_improves(lab):
    for seed in range(5):
        X, y, U = small_world(lab, seed)
        (theta,) = lab.rss(X, y, U, [0.3], [3.0], num_steps=400)
        assert np.linalg.norm(theta) == pytest.approx(1)
        best = slow_objective(theta, X, y, U, 0.3, 3.0)
        assert best < slow_objective(lab.unit(y @ X), X, y, U, 0.3, 3.0)
        rng = np.random.default_rng(seed)
        near = lab.unit(theta + 0.05 * rng.standard_normal((200, 6)))
        assert min(slow_objective(other, X, y, U, 0.3, 3.0) for other in near) > best - 5e-4


def test_settings_side_by_side_are_settings_one_by_one(lab):
    X, y, U = small_world(lab)
    gammas, lams = [0.05, 0.5, 1.0], [100.0, 1.0, 10.0]
    together = lab.rss(X, y, U, gammas, lams)
    for row, gamma, lam in zip(together, gammas, lams, strict=True):
        np.testing.assert_allclose(row, lab.rss(X, y, U, [gamma], [lam])[0], atol=1e-9)


def test_a_rotated_world_gives_the_rotated_direction(lab):
    X, y, U = small_world(lab)
    turn = stats.ortho_group(6, seed=0).rvs()
    (theta,), (turned,) = (
        lab.rss(x, y, u, [0.3], [3.0]) for x, u in ((X, U), (X @ turn, U @ turn))
    )
    np.testing.assert_allclose(turned, theta @ turn, atol=1e-8)


def test_flipped_labels_flip_the_direction(lab):
    X, y, U = small_world(lab)
    np.testing.assert_allclose(
        lab.rss(X, -y, U, [0.3], [3.0]), -lab.rss(X, y, U, [0.3], [3.0]), atol=1e-12
    )


def test_unlabelled_points_that_come_twice_change_nothing(lab):
    X, y, U = small_world(lab)
    twice = lab.rss(X, y, np.concatenate([U, U]), [0.3], [3.0])
    np.testing.assert_allclose(twice, lab.rss(X, y, U, [0.3], [3.0]), atol=1e-9)


def test_without_weight_the_labels_decide_alone(lab):
    X, y, U = small_world(lab)
    (theta,) = lab.rss(X, y, U, [1.0], [0.0], num_steps=400)
    np.testing.assert_array_equal(theta, lab.rss(X, y, -3 * U[::2], [1.0], [0.0], 400)[0])
    rng = np.random.default_rng(0)
    others = lab.unit(rng.standard_normal((3000, 6)))
    hinge = np.maximum(0, 1 - y * (others @ X.T)).mean(1).min()
    assert np.maximum(0, 1 - y * (X @ theta)).mean() <= hinge + 1e-3
    (small_price,) = lab.rss(X, y, U, [1e-3], [0.0])  # no kink is met: the labelled mean
    np.testing.assert_allclose(small_price, lab.unit(y @ X), atol=1e-3)


def test_a_small_price_and_a_great_weight_maximise_the_mean_absolute_projection(lab):
    X, y, U = small_world(lab, d=6, m=5, n=400, norm=2.0)
    (theta,) = lab.rss(X, y, U, [1e-3], [1e5], num_steps=400)
    np.testing.assert_allclose(theta, lab.unit(np.sign(U @ theta) @ U), atol=0.02)


# --- the worlds ----------------------------------------------------------------------------------


def test_accuracy_is_that_of_many_fresh_points(lab):
    rng = np.random.default_rng(0)
    a = lab.draw(3, 5, 4, 4, norm=1.3, spread=3.0)
    y = rng.choice([-1, 1], 400_000)
    noise = rng.standard_normal((400_000, 5))
    noise += 2.0 * np.outer(noise @ a.nuisance, a.nuisance)
    fresh = y[:, None] * a.mu + noise
    for theta in (a.mu, a.mu + a.nuisance, 7 * rng.standard_normal(5)):
        measured = 100 * np.mean(np.sign(fresh @ theta) == y)
        assert lab.accuracy(theta, a) == pytest.approx(measured, abs=0.4)


def test_a_world_has_the_moments_that_were_asked_for(lab):
    a = lab.draw(0, 4, 1000, 10_000, alpha=0.5, norm=2.0, spread=3.0)
    assert np.linalg.norm(a.mu) == pytest.approx(2)
    assert a.mu @ a.nuisance == pytest.approx(0, abs=1e-12)
    assert np.linalg.norm(a.nuisance) == pytest.approx(1)
    np.testing.assert_allclose((a.y[:, None] * a.X).mean(0), a.mu, atol=0.35)
    shift = (a.signs[:, None] * a.U).mean(0) - a.mu
    assert np.linalg.norm(shift) == pytest.approx(0.5 * 2, abs=0.15)  # alpha in units of |mu|
    noise = a.U - np.outer(a.signs, (a.signs[:, None] * a.U).mean(0))
    wanted = np.eye(4) + 8 * np.outer(a.nuisance, a.nuisance)
    np.testing.assert_allclose(noise.T @ noise / 10_000, wanted, atol=0.4)
    assert set(a.signs) == {-1, 1}
    assert abs(a.signs.mean()) < 0.05


def test_without_clusters_there_is_one_gaussian_of_the_same_covariance(lab):
    world = {"d": 4, "m": 5, "n": 10_000, "norm": 3.0}
    mixture, cloud = lab.draw(0, **world), lab.draw(0, **world, clusters=False)
    np.testing.assert_allclose(np.cov(cloud.U.T), np.cov(mixture.U.T), atol=0.5)
    along = lab.unit(cloud.mu)
    assert abs(stats.kurtosis(cloud.U @ along)) < 0.2
    assert stats.kurtosis(mixture.U @ along) < -1, "two humps"
    np.testing.assert_array_equal(cloud.X, mixture.X)


def test_worlds_of_a_seed_share_their_points_and_other_seeds_do_not(lab):
    small, large = lab.draw(5, 8, 3, 10), lab.draw(5, 8, 30, 200)
    for name, size in (("X", 3), ("y", 3), ("U", 10), ("signs", 10)):
        np.testing.assert_array_equal(getattr(small, name), getattr(large, name)[:size])
    shifted = lab.draw(5, 8, 3, 10, alpha=2.0)
    np.testing.assert_array_equal(shifted.X, small.X)
    moved = (shifted.U - small.U) * small.signs[:, None]
    np.testing.assert_allclose(moved, np.tile(moved[0], (10, 1)), atol=1e-5)
    assert not np.array_equal(lab.draw(6, 8, 3, 10).X, small.X)


# --- closed forms --------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [10, 20, 40])
def test_labels_alone_follow_their_formula(lab, m):
    found = mean_accuracy(lab, "labels alone", [()], range(20), d=200, m=m, n=1)
    assert found == pytest.approx(100 * stats.norm.cdf((1 + 200 / m) ** -0.5), abs=1.0)


@pytest.mark.parametrize(("n", "draws"), [(1000, 20), (10_000, 6)])
def test_pca_follows_the_theory_of_spiked_covariances(lab, n, draws):
    found = mean_accuracy(lab, "PCA + sign", [()], range(draws), d=200, m=200, n=n)
    cosine = np.sqrt((1 - 200 / n) / (1 + 200 / n))
    assert found == pytest.approx(100 * stats.norm.cdf(cosine), abs=1.0)


def test_under_a_shift_rss_nears_the_accuracy_of_the_shifted_direction(lab):
    for alpha in (0.0, 1.0, 2.0):
        draws = [lab.draw(seed, 40, 40, 4000, alpha=alpha) for seed in range(12)]
        known = np.mean([lab.accuracy(a.signs @ a.U, a) for a in draws])
        assert known == pytest.approx(100 * stats.norm.cdf((1 + alpha**2) ** -0.5), abs=3.0)
        found = [lab.accuracy(lab.fit("RSS", a, [(0.05, 100.0)])[0], a) for a in draws[:4]]
        assert np.mean(found) == pytest.approx(
            np.mean([lab.accuracy(a.signs @ a.U, a) for a in draws[:4]]), abs=1.0
        )


def test_no_arm_beats_the_truth_about_all_points_on_average(lab):
    world = {"d": 50, "m": 10, "n": 100}
    bound = mean_accuracy(lab, "all labels known", [()], range(50), **world)
    expected = 100 * stats.norm.cdf((1 + 50 / 110) ** -0.5)
    assert bound == pytest.approx(expected, abs=1.0)
    knobs = {"RSS": [(0.05, 10.0)], "self-training": [(0.01,)]}
    for arm in ("labels alone", "RSS", "PCA + sign", "EM", "self-training"):
        assert mean_accuracy(lab, arm, knobs.get(arm, [()]), range(50), **world) < bound, arm


# --- the rivals ----------------------------------------------------------------------------------


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_the_pca_arm_is_that_of_sklearn_with_the_sign_of_the_labels(lab):
    for seed in range(6):
        a = lab.draw(seed, 10, 20, 200)
        (found,) = lab.fit("PCA + sign", a, [()])
        (theirs,) = PCA(1).fit(a.U).components_
        assert abs(cosine(found, theirs)) == pytest.approx(1, abs=1e-4)
        assert a.y @ (a.X @ found) > 0


def test_em_agrees_with_a_mixture_of_sklearn(lab):
    for seed in range(3):
        a = lab.draw(seed, 5, 20, 4000, norm=2.5)
        (found,) = lab.fit("EM", a, [()])
        start = np.stack([a.y @ a.X, -(a.y @ a.X)]) / len(a.X)
        theirs = GaussianMixture(2, covariance_type="spherical", means_init=start).fit(a.U).means_
        np.testing.assert_allclose(found, (theirs[0] - theirs[1]) / 2, atol=0.1)


def test_self_training_trains_on_its_own_labels_over_and_over(lab):
    a = lab.draw(0, 5, 6, 60, norm=1.0)
    own = LogisticRegression(C=0.1, fit_intercept=False).fit(a.X, a.y)
    (alone,) = lab.fit("logistic regression", a, [(0.1,)])
    np.testing.assert_allclose(alone, own.coef_[0], atol=1e-6)
    for _ in range(5):
        both = np.concatenate([a.X, a.U]), np.append(a.y, own.predict(a.U))
        own = LogisticRegression(C=0.1, fit_intercept=False).fit(*both)
    (found,) = lab.fit("self-training", a, [(0.1,)])
    assert cosine(found, own.coef_[0]) == pytest.approx(1, abs=1e-4)
    assert cosine(found, alone) < 0.9999


def test_only_the_bound_looks_at_the_truth(lab):
    a = lab.draw(0, 10, 20, 100)
    honest = ("labels alone", "RSS", "PCA + sign", "EM", "self-training", "logistic regression")
    knobs = {"RSS": [(0.5, 1.0)], "self-training": [(0.1,)], "logistic regression": [(0.1,)]}
    before = {arm: lab.fit(arm, a, knobs.get(arm, [()]))[0] for arm in honest}
    (bound,) = lab.fit("all labels known", a, [()])
    np.testing.assert_allclose(bound, a.y @ a.X + a.signs @ a.U, rtol=1e-4, atol=1e-4)
    del a.signs, a.mu, a.nuisance
    for arm in honest:
        np.testing.assert_array_equal(before[arm], lab.fit(arm, a, knobs.get(arm, [()]))[0])


# --- tuning and comparison -----------------------------------------------------------------------


def calls(source, name):
    """The arguments of each call of a function, as text."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [[*map(ast.unparse, n.args)] for n in nodes if ast.unparse(n.func) == name]


def whole_source():
    cells = notebooks.code_cells(notebooks.read(notebooks.path("dro-ssl")))
    return "\n".join(cell["source"] for _, cell in cells)


def test_settings_are_chosen_on_the_extra_draws_and_results_are_of_the_others():
    check_calls(whole_source())


def check_calls(source):
    tuned, measured = calls(source, "tune"), calls(source, "measure")
    assert len(tuned) == len(measured) == 4
    assert {call[-1] for call in tuned} == {"S.tuning_seeds"}
    assert {(*call[-2:],) for call in measured} == {("lab.seeds", "'test'")}


@pytest.mark.parametrize("profile", ["smoke", "small"])
def test_extra_draws_are_no_draws_of_the_results(profile):
    settings = technique.settings("dro-ssl", profile)
    assert min(settings["tuning_seeds"]) >= 1000 > settings["num_seeds"]


def test_an_arm_is_read_at_the_setting_of_its_place(lab):
    lab.chosen.update({"x": {"A": [(1, 2)], "B": [()]}, "y": {"A": [(3, 4)]}})
    lab.results.update({"x": {("A", 1, 2): [1], ("A", 3, 4): [2], ("B",): [3]}})
    lab.results.update({"y": {("A", 1, 2): [4], ("A", 3, 4): [5]}, "mean": {("A",): [6]}})
    found = {(place, arm): lab.per_seed(place, arm) for place, arm in (("x", "A"), ("x", "B"))}
    assert found == {("x", "A"): [1], ("x", "B"): [3]}
    assert lab.per_seed("y", "A") == [5]
    assert lab.per_seed("mean", "A") == [6]  # nothing was chosen there


def test_every_arm_is_scored_on_its_own_direction(lab):
    world = {"d": 8, "m": 6, "n": 50}
    settings = {"RSS": [(0.05, 1.0), (1.0, 10.0)], "labels alone": [()], "PCA + sign": [()]}
    found, a = lab.exact(3, world, settings, "test"), lab.draw(3, **world)
    assert set(found) == {(arm, *s) for arm in settings for s in settings[arm]}
    for (arm, *setting), value in found.items():
        assert value == pytest.approx(
            lab.accuracy(lab.fit(arm, a, [tuple(setting)])[0], a), abs=1e-3
        )


# --- photographs ---------------------------------------------------------------------------------


def small_images(seed=0, n=200, width=6):
    """Images of two classes of different brightness in their left halves; labels 2 and 4."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat([2, 4], n // 2))
    images = rng.integers(0, 120, (n, width, width))
    images[labels == 4, :, : width // 2] += 25
    return images.astype(np.uint8), labels


SETTINGS = {"logistic regression": [(0.1,)], "RSS": [(0.5, 1.0)], "λ = 0": [(0.5, 0.0)]}


def score(lab, split, test, pool="same", images=None, seed=0, settings=SETTINGS):
    images, labels = small_images() if images is None else images
    return lab.photographs(seed, ((2, 4), pool, (images, labels, *test)), settings, split)


def test_settings_of_photographs_never_see_test_images(lab):
    assert score(lab, "validation", (None, None)) == score(lab, "validation", small_images(1))


def test_results_of_photographs_are_on_test_images(lab):
    test = small_images(1)
    found = score(lab, "test", test)
    wrong = score(lab, "test", (test[0], 6 - test[1]))
    for key, value in found.items():
        assert value > 60, key
        assert wrong[key] == pytest.approx(100 - value)


def test_only_the_pool_is_changed(lab, monkeypatch):
    """The pool is as large as was asked, labelled images and validation images are not in it."""
    seen = {}
    images = np.arange(200, dtype=np.uint8)[:, None, None] + np.zeros((1, 6, 6), np.uint8)
    labels = np.tile([2, 4], 100)

    def pool(x):
        seen["pool"] = x[:, 0, 0].copy()
        return x + np.random.default_rng(0).standard_normal(x.shape)

    monkeypatch.setitem(lab.POOLS, "noted", pool)
    monkeypatch.setattr(lab, "fit", lambda arm, a, settings: seen.update(a=a) or [a.X[0]])
    score(lab, "validation", (None, None), "noted", (images, labels), settings={"RSS": [()]})
    per_class, size, _, components = lab.S.images
    assert seen["pool"].shape == (size,)
    assert len(set(seen["pool"])) == size
    assert seen["a"].X.shape == (2 * per_class, components)
    assert seen["a"].U.shape == (size, components)
    assert seen["a"].y.tolist() == [-1] * per_class + [1] * per_class
    np.testing.assert_allclose(seen["a"].U.mean(0), 0, atol=1e-3)
    assert seen["a"].U.var(0).mean() == pytest.approx(1, abs=0.05)


def test_labelled_pool_and_validation_images_are_disjoint(lab, monkeypatch):
    images = np.arange(200, dtype=np.uint8)[:, None, None] + np.zeros((1, 6, 6), np.uint8)
    labels, seen = np.tile([2, 4], 100), []

    class Noting(np.ndarray):
        def __getitem__(self, index):
            if isinstance(index, np.ndarray):
                seen.append(set(index.tolist()))
            return super().__getitem__(index)

    monkeypatch.setattr(lab, "fit", lambda arm, a, settings: [a.X[0]])
    score(lab, "validation", (None, None), images=(images.view(Noting), labels),
          settings={"RSS": [()]})  # fmt: skip
    per_class, size, held, _ = lab.S.images
    assert sorted(map(len, seen)) == sorted([size, 2 * per_class, held])
    assert len(set.union(*seen)) == size + 2 * per_class + held


def test_another_seed_is_another_draw(lab):
    test = small_images(1)
    assert score(lab, "test", test, seed=0) != score(lab, "test", test, seed=1)


def test_pools_darken_and_move(lab):
    images = np.arange(32.0).reshape(2, 4, 4)
    np.testing.assert_array_equal(lab.POOLS["same"](images), images)
    np.testing.assert_allclose(lab.POOLS["dark"](images), 0.6 * images)
    np.testing.assert_array_equal(lab.POOLS["moved"](images)[:, :, 2:], images[:, :, :2])


# --- claims --------------------------------------------------------------------------------------


def test_claims_compare_rss_where_their_sentences_say(lab):
    found = {name: (rival, place, direction) for name, _, rival, place, direction, *_ in lab.CLAIMS}
    few, most = min(lab.S.labelled), lab.S.most
    assert found == {
        "gain": ("labels alone", (few, most, 0.0), "greater"),
        "shifted": ("labels alone", (few, most, lab.S.alpha), "greater"),
        "few": ("labels alone", (few, few, 0.0), "greater"),
        "images": ("λ = 0", "mean", "greater"),
        "table": ("paper", "column", "equivalent"),
        "crossing": ("labels alone", ("shift", lab.S.shift_size[0][0], 4.5), "less"),
        "pca": ("PCA + sign", (few, most, 0.0), "equivalent"),
        "clouds": ("no clusters", "moments", "equivalent"),
        "valley": ("self-training", "valley", "equivalent"),
    }


def test_margins_of_the_papers_claims_are_half_of_its_gains(lab):
    for name, *_, margin, gain in lab.CLAIMS:
        assert gain is None or margin == gain / 2, name


def test_the_far_shift_is_twice_the_crossing():
    small = technique.settings("dro-ssl", "small")
    crossing = np.sqrt(small["dimension"] / small["shift_size"][0][0])
    assert small["shifts"][-1] == pytest.approx(2 * crossing, abs=0.05)
