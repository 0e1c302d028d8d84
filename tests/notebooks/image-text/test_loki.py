"""The lab on Loki: closed forms, slow references, independent libraries, hand cases."""

import types

import networkx
import numpy as np
import pytest
import torch
from scipy.cluster import hierarchy
from scipy.ndimage import rotate
from scipy.sparse.csgraph import floyd_warshall
from scipy.spatial.distance import squareform

from labutils import data
from labutils.data import emoji
from labutils.start import Lab
from press import technique


class FakeLab:
    """What the experiment uses of a `labutils.start.Lab`."""

    device, seeds, streams = torch.device("cpu"), (0, 1), Lab.streams

    def map(self, function, jobs, _description):
        return [function(*job) for job in jobs]


def given():
    """What the cells take from the notebook, with settings in which a mix-up would show."""
    settings = types.SimpleNamespace(**technique.settings("loki", "smoke"))
    settings.num_trained, settings.num_judged, settings.tuning_seeds = 30, 10, (1000, 1001)
    settings.num_names, settings.counts = 6, (4, 6)
    return {"lab": FakeLab(), "S": settings, "results": {}, "best": {}}


@pytest.fixture
def lab():
    return technique.load("loki", tags=("technique", "experiment"), given=given())


def rng(seed=0):
    return np.random.default_rng(seed)


def shares(n, k, seed=0):
    return rng(seed).dirichlet(np.ones(k), n)


def random_metric(size, seed=0):
    """Distances of random points of space."""
    points = rng(seed).normal(size=(size, 3))
    return np.linalg.norm(points[:, None] - points, axis=2)


# --- the rule ------------------------------------------------------------------------------------


def test_the_rule_is_that_of_two_loops(lab):
    for seed in range(5):
        distance, p = random_metric(9, seed), shares(40, 4, seed)
        observed = rng(seed).permutation(9)[:4]
        for power in (1, 2):
            found = lab.loki(p, distance, observed, power)
            for row, chosen in zip(p, found, strict=True):
                costs = [
                    sum(w * distance[y, k] ** power for w, k in zip(row, observed, strict=True))
                    for y in range(9)
                ]
                assert costs[chosen] == pytest.approx(min(costs))


def test_with_equal_distances_the_likeliest_label_wins(lab):
    for size in (2, 3, 10):
        for seed in range(3):
            observed = rng(seed).permutation(size)
            p = shares(50, size, seed)
            found = lab.loki(p, 1 - np.eye(size), observed)
            assert (found == observed[p.argmax(1)]).all()
            assert (found == lab.arg_max(p, observed)).all()


def test_a_sure_row_gives_the_label_that_it_is_sure_of(lab):
    observed = [5, 2, 7]
    assert lab.loki(np.eye(3), random_metric(8), observed).tolist() == observed
    assert lab.loki(np.ones((2, 1)), random_metric(8), [6]).tolist() == [6, 6]


def test_between_the_ends_of_a_path_the_answer_is_the_rounded_mean(lab):
    path = np.abs(np.arange(9)[:, None] - np.arange(9))
    a = np.array([0, 0.03, 0.1, 0.2, 0.45, 0.6, 0.7, 0.9, 1])
    p = np.stack([1 - a, a], 1)
    assert lab.loki(p, path, [0, 8]).tolist() == np.round(8 * a).astype(int).tolist()
    assert set(lab.loki(p, path, [0, 8], power=1)) == {0, 8}


def test_in_euclidean_space_it_is_the_label_nearest_to_the_mean_point(lab):
    points, p, observed = rng(1).normal(size=(99, 2)), shares(60, 4, 1), np.arange(10, 14)
    distance = np.linalg.norm(points[:, None] - points, axis=2)
    nearest = np.linalg.norm((p @ points[observed])[:, None] - points, axis=2).argmin(1)
    assert (lab.loki(p, distance, observed) == nearest).all()
    assert len(set(nearest) - set(observed)) > 3, "labels that nobody observed win, too"


def test_in_an_ultrametric_only_observed_labels_are_chosen(lab):
    for seed in range(20):
        tree = hierarchy.linkage(rng(seed).random((12, 2)), "average")
        distance = squareform(hierarchy.cophenet(tree))
        observed, p = rng(seed).permutation(12)[:5], shares(100, 5, seed)
        assert np.isin(lab.loki(p, distance, observed), observed).all()
        costs = p @ distance[observed] ** 2
        assert np.allclose(costs.min(1), costs[:, observed].min(1))


def test_of_labels_that_cost_the_same_an_observed_one_wins_then_the_smaller_number(lab):
    even, r = np.array([[0.5, 0.5]]), np.sqrt(2)
    distance = np.array([[0, 1, 1], [1, 0, r], [1, r, 0]])  # all three cost 1
    assert lab.loki(even, distance, [1, 2]).tolist() == [1]
    assert lab.loki(even, distance, [2, 1]).tolist() == [1]
    assert lab.loki(even, lab.cycle(4), [1, 3]).tolist() == [0]  # as good as 2
    path = np.abs(np.arange(4)[:, None] - np.arange(4))
    assert lab.loki(even, path, [0, 3]).tolist() == [1]
    assert lab.loki(even, path, [0, 3], power=1).tolist() == [0]


def test_scale_order_and_a_constant_change_nothing(lab):
    distance, p, observed = random_metric(9), shares(50, 4), np.array([7, 0, 3, 5])
    expected = lab.loki(p, distance, observed)
    assert (lab.loki(p, 7.3 * distance, observed) == expected).all()
    assert (lab.loki(p[:, [2, 0, 3, 1]], distance, observed[[2, 0, 3, 1]]) == expected).all()
    assert (lab.loki(p, np.sqrt(distance**2 + 2), observed) == expected).all()


def test_with_the_true_posterior_no_rule_has_a_smaller_squared_distance(lab):
    """Labels on a path are drawn from the probabilities that the rules are given."""
    n, distance = 100_000, lab.tree_distance([["a", "u"], ["a", "v"], ["b", "w"], ["c", "x"]])
    p = shares(200, 4)[rng(2).integers(200, size=n)]
    truth = (rng(3).random(n)[:, None] > p.cumsum(1)).sum(1).clip(max=3)
    best = distance[lab.loki(p, distance, range(4)), truth] ** 2.0
    rivals = {
        "arg max": lab.arg_max(p, range(4)),
        "median": lab.loki(p, distance, range(4), power=1),
        "branch first": lab.likeliest_branch_first(p, np.array(list("aabc"))),
        "constant": np.zeros(n, int),
    }
    for name, chosen in rivals.items():
        worse = distance[chosen, truth] ** 2.0 - best
        assert worse.mean() > -3 * worse.std() / np.sqrt(n), name
    assert (distance[rivals["arg max"], truth] ** 2.0 - best).mean() > 0.05


# --- metrics and the rival rule ------------------------------------------------------------------


def test_tree_distances_are_shortest_paths(lab):
    concepts = emoji.concepts_and_styles()[0][::40]
    paths = [[c.group, c.subgroup, c.name] for c in concepts]
    graph = networkx.Graph()
    for group, subgroup, name in paths:
        graph.add_edges_from([("all", group), (group, (subgroup,)), ((subgroup,), ("leaf", name))])
    found, nodes = lab.tree_distance(paths), list(graph)
    walked = floyd_warshall(networkx.to_numpy_array(graph, nodes))
    for a, (*_, one) in enumerate(paths):
        lengths = networkx.shortest_path_length(graph, ("leaf", one))
        for b, (*_, two) in enumerate(paths):
            i, j = nodes.index(("leaf", one)), nodes.index(("leaf", two))
            assert found[a, b] == lengths["leaf", two] == walked[i, j]
    assert set(found.flatten()) <= {0, 2, 4, 6}


def test_equal_names_of_subgroups_in_other_groups_are_other_subgroups(lab):
    assert lab.tree_distance([["a", "other", "x"], ["b", "other", "y"]])[0, 1] == 6


def test_steps_on_the_dial_are_shortest_paths_on_a_cycle(lab):
    for n in (5, 24):
        graph = networkx.to_numpy_array(networkx.cycle_graph(n), range(n))
        assert np.array_equal(lab.cycle(n), floyd_warshall(graph))


def test_the_self_derived_metric_is_two_minus_two_cosines(lab):
    v = rng().normal(size=(7, 5))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    found = lab.text_distance(v)
    assert np.allclose(found, np.linalg.norm(v[:, None] - v, axis=2), atol=1e-7)


def test_the_likeliest_branch_comes_first_then_its_likeliest_label(lab):
    branch, p = np.array(["b", "a", "a", "c", "b"]), shares(60, 5)
    for row, chosen in zip(p, lab.likeliest_branch_first(p, branch), strict=True):
        mass = {name: row[branch == name].sum() for name in "abc"}
        winner = max(mass, key=mass.get)
        assert branch[chosen] == winner
        assert row[chosen] == row[branch == winner].max()


# --- turned garments -----------------------------------------------------------------------------


def test_pictures_are_turned_counter_clockwise_by_steps_of_15_degrees(lab):
    image = torch.zeros(1, 1, 28, 28)
    image[..., 6:12, 5:16] = torch.rand(6, 11, generator=torch.Generator().manual_seed(0))
    for quarter in range(4):
        found = lab.turned(image, torch.tensor([6 * quarter]))
        torch.testing.assert_close(found, torch.rot90(image, quarter, (2, 3)), atol=1e-4, rtol=0)
    for turn in (1, 5, 20):
        found = lab.turned(image, torch.tensor([turn]))[0, 0].numpy()
        expected = rotate(image[0, 0].numpy(), 15 * turn, reshape=False, order=1)
        assert np.allclose(found, expected, atol=1e-4)


def test_each_training_garment_shows_two_observed_angles_and_others_all(lab):
    for count in (4, 6):
        train, (x, y), observed, images = lab.draw_turns(3, 9, count, "validation")
        assert observed.tolist() == list(range(0, 24, 24 // count))
        assert train[0].shape == (60, 40)
        pairs = train[1].reshape(-1, 2)
        assert np.isin(pairs, observed).all()
        assert (pairs[:, 0] != pairs[:, 1]).all()
        assert set(train[1]) == set(observed)
        assert y.tolist() == 10 * list(range(24))
        assert len(x) == len(images) == 240


def marked(train=50, test=20):
    """Garments of one class; the number of each stands in every pixel."""
    parts = [
        data.Images(
            (start + torch.arange(n)).view(-1, 1, 1, 1).expand(-1, 1, 28, 28).to(torch.uint8),
            torch.full((n,), 9),
        )
        for n, start in ((train, 0), (test, 200))
    ]
    empty = data.Images(parts[0].images[:0], parts[0].labels[:0])
    return data.Dataset("marked", parts[0], empty, parts[1], tuple("abcdefghij"), (0.0,), (1.0,))


@pytest.mark.parametrize("split", ["validation", "test"])
def test_no_garment_that_judges_is_in_training_and_only_results_see_test_garments(lab, split):
    seen, turned = [], lab.turned

    def watch(images, turns):
        seen.append(set((images[:, 0, 14, 14] * 255).round().int().tolist()))
        return turned(images, turns)

    lab.turned = watch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab.data, "load", lambda *_, **__: marked())
        lab.draw_turns(3, 9, 4, split)
    trained, judged = seen
    assert len(trained) == 30
    assert len(judged) == 10
    assert not trained & judged
    assert max(trained) < 200
    assert (min(judged) >= 200) == (split == "test")


def test_probabilities_stand_in_the_order_of_the_observed_angles(lab):
    x, y = np.repeat(np.eye(3), 5, 0) * 9, np.repeat([16, 0, 8], 5)
    p = lab.probabilities((x, y), np.eye(3) * 9, 10.0)
    assert p.argmax(1).tolist() == [2, 0, 1]
    assert p.sum(1) == pytest.approx(1)


def test_regression_finds_angles_between_observed_ones(lab):
    angle = 2 * np.pi * np.arange(24) / 24
    plane = np.stack([np.cos(angle), np.sin(angle)], 1)
    y = np.arange(0, 24, 4)
    assert lab.regress((3 * plane[y], y), 3 * plane, 1e-6).tolist() == list(range(24))


def test_scores_of_turns_are_those_of_the_rules(lab):
    settings = {arm: [(0.01,), (1,)] for arm in lab.CLASSIFIER} | {"ridge regression": [(10,)]}
    found = lab.score_turns(3, (9, 6), settings, "test")
    train, (x, y), observed, _ = lab.draw_turns(3, 9, 6, "test")
    for c in (0.01, 1):
        p = lab.probabilities(train, x, c)
        expected = {"arg max": observed[p.argmax(1)], "Loki": lab.loki(p, lab.cycle(24), observed)}
        expected["Loki, d not squared"] = lab.loki(p, lab.cycle(24), observed, 1)
        for arm, chosen in expected.items():
            steps = np.minimum((chosen - y) % 24, (y - chosen) % 24)
            assert found[arm, c] == pytest.approx(-np.mean(steps**2.0))
            assert found[f"{arm}: right", c] == pytest.approx(100 * np.mean(chosen == y))
    assert found["Loki, shuffled metric", 0.01] < found["Loki", 0.01] - 1
    assert found["ridge regression", 10] == pytest.approx(
        -np.mean(lab.cycle(24)[lab.regress(train, x, 10), y] ** 2.0)
    )
    tuned = lab.score_turns(3, (9, 6), settings, "validation")
    assert not any("right" in arm for arm, _ in tuned), "what tuning does not need is not there"


def test_the_shuffled_metric_has_the_same_distances(lab):
    observed, p = np.arange(0, 24, 4), shares(500, 6)
    chosen = lab.dial_rules(observed, 5)["Loki, shuffled metric"](p)
    mixed = np.random.default_rng(5).permutation(24)
    other = lab.cycle(24)[np.ix_(mixed, mixed)]
    assert sorted(other.flatten()) == sorted(lab.cycle(24).flatten())
    assert (chosen == lab.loki(p, other, observed)).all()


# --- names ---------------------------------------------------------------------------------------


def fake_clip(lab, seen, style_concepts):
    """A CLIP whose features are one-hot, a little mixed; pictures of the concepts of a style."""
    size = len(emoji.concepts_and_styles()[0])
    g = torch.Generator().manual_seed(0)
    space = torch.nn.functional.normalize(torch.randn(size, 16, generator=g), dim=1)
    number = {c.name: k for k, c in enumerate(emoji.concepts_and_styles()[0])}
    model = types.SimpleNamespace(
        seen=torch.isin(torch.arange(size), torch.tensor(seen)),
        tokenizer=lambda names: torch.tensor([number[name] for name in names]),
        encode_text=lambda rows: space[rows],
        logit_scale=torch.tensor(5.0).log(),
    )
    noise = torch.randn(len(style_concepts), 16, generator=g)
    u = torch.nn.functional.normalize(space[style_concepts] + 0.2 * noise, dim=1)
    pictures = types.SimpleNamespace(u=u, concept=torch.tensor(style_concepts))
    lab.clip_emoji = types.SimpleNamespace(load_clip=lambda: model, features=lambda style: pictures)
    return model, pictures


SEEN = list(range(0, 1000, 50))


def test_names_are_drawn_from_those_that_clip_was_trained_on(lab):
    _, pictures = fake_clip(lab, SEEN, [*range(0, 1900, 25)])
    draws = [lab.draw_names(seed, "twemoji") for seed in (0, 0, 1)]
    for cosines, truth, paths, v in draws:
        assert cosines.shape == (6, 6)  # each name has one picture
        names = [emoji.concepts_and_styles()[0][c].name for c in SEEN]
        assert set(paths[:, 2]) <= set(names)
        assert sorted(truth) == list(range(6))
        shown = [c for c in pictures.concept.tolist() if c in SEEN]
        u = {emoji.concepts_and_styles()[0][c].name: row for c, row in zip(
            pictures.concept.tolist(), pictures.u, strict=True)}  # fmt: skip
        assert len(shown) == 20
        for row, place in zip(cosines, truth, strict=True):
            assert np.allclose(row, v @ u[paths[place, 2]].numpy(), atol=1e-6)
    assert np.array_equal(draws[0][2], draws[1][2])
    assert not np.array_equal(draws[0][2], draws[2][2])


def test_scores_of_names_are_those_of_the_rules_at_the_factor(lab):
    lab.S.num_names = 15
    fake_clip(lab, SEEN, SEEN)
    settings = {arm: [(0.5,), (2,)] for arm in lab.NAME_GRID}
    found = lab.score_names(4, "twemoji", settings, "test")
    cosines, truth, paths, v = lab.draw_names(4, "twemoji")
    tree, near = lab.tree_distance(paths), lab.text_distance(v)
    mixed = np.random.default_rng(4).permutation(15)
    for factor in (0.5, 2):
        p = np.exp(5 * factor * cosines)
        p /= p.sum(1, keepdims=True)
        expected = {
            "arg max": cosines.argmax(1), "Loki, tree": lab.loki(p, tree, range(15)),
            "Loki, self-derived": lab.loki(p, near, range(15)),
            "Loki, tree, d not squared": lab.loki(p, tree, range(15), 1),
            "Loki, shuffled tree": lab.loki(p, tree[np.ix_(mixed, mixed)], range(15)),
            "subgroup first": lab.likeliest_branch_first(p, paths[:, 1]),
            "most central name": np.full(15, (tree**2).sum(1).argmin()),
        }  # fmt: skip
        for arm, chosen in expected.items():
            square = near if "self" in arm else tree
            assert found[arm, factor] == pytest.approx(-np.mean(square[chosen, truth] ** 2)), arm
            assert found[f"{arm}: tree", factor] == pytest.approx(np.mean(tree[chosen, truth] ** 2))
            assert found[f"{arm}: self", factor] == pytest.approx(np.mean(near[chosen, truth] ** 2))
            for level, name in enumerate(("group", "subgroup", "right")):
                same = paths[chosen, level] == paths[truth, level]
                assert found[f"{arm}: {name}", factor] == pytest.approx(100 * same.mean())
    tuned = lab.score_names(4, "twemoji", settings, "validation")
    assert set(tuned) == {(arm, f) for arm in settings for f in (0.5, 2)}


# --- settings and claims -------------------------------------------------------------------------


class Recorded:
    """A stand-in for a `score` that notes what it was asked for.

    The last setting is the best, but for sneakers the first.
    """

    def __init__(self):
        self.calls = []

    def __call__(self, seed, place, settings, split):
        self.calls.append((seed, place, split, {arm: list(s) for arm, s in settings.items()}))
        sign = -1.0 if place[0] == 7 else 1.0
        return {(arm, *s): sign * k for arm in settings for k, s in enumerate(settings[arm])}


def recorded_run(lab):
    turns, names = Recorded(), Recorded()
    lab.score_turns, lab.score_names = turns, names
    return *lab.run(), turns.calls, names.calls


def test_every_setting_is_chosen_on_validation_data_of_other_seeds(lab):
    best, _, turns, names = recorded_run(lab)
    for calls in (turns, names):
        assert {call[0] for call in calls if call[2] == "validation"} == {1000, 1001}
        assert {call[0] for call in calls if call[2] == "test"} == {0, 1}
    assert {call[1] for call in names if call[2] == "validation"} == {"emojione"}
    assert {call[1] for call in names if call[2] == "test"} == set(lab.S.styles)
    assert "emojione" not in lab.S.styles
    assert best["boots", 6]["Loki"] == [(lab.S.strengths[-1],)]
    assert best["emojione"]["Loki, tree"] == [(lab.S.factors[-1],)]


def test_all_arms_that_use_probabilities_choose_from_the_same_list(lab):
    assert {tuple(lab.TURN_GRID[arm]) for arm in lab.CLASSIFIER} == {
        tuple((c,) for c in lab.S.strengths)
    }
    free = {"arg max", "most central name"}  # on which the factor has no influence
    grids = {tuple(tried) for arm, tried in lab.NAME_GRID.items() if arm not in free}
    assert grids == {tuple((f,) for f in lab.S.factors)}


def test_results_have_each_arm_at_its_own_setting_and_sneakers_at_that_of_boots_too(lab):
    _, results, turns, _ = recorded_run(lab)
    boots = next(c[3] for c in turns if c[1] == (9, 6) and c[2] == "test")
    sneakers = next(c[3] for c in turns if c[1] == (7, 6) and c[2] == "test")
    assert all(len(tried) == 1 for tried in (boots | sneakers).values())
    assert sneakers["Loki, C of boots"] == boots["Loki"] != sneakers["Loki"]
    assert {("boots", 4), ("sneakers", 6), "twemoji"} <= set(results)


@pytest.mark.parametrize("profile", ["smoke", "small"])
def test_extra_seeds_are_no_seeds_of_the_results(profile):
    settings = technique.settings("loki", profile)
    assert min(settings["tuning_seeds"]) >= 1000 > settings["num_seeds"]


def test_per_seed_turns_scores_into_distances_and_leaves_measures(lab):
    lab.results["x"] = {("Loki", 0.1): [-1.5, -2.0], ("Loki: right", 0.1): [40.0, 50.0]}
    assert lab.per_seed("x", "Loki").tolist() == [1.5, 2.0]
    assert lab.per_seed("x", "Loki", "right").tolist() == [40.0, 50.0]


def test_claims_compare_what_their_sentences_say(lab):
    found = {name: (arms, what, way, margin) for name, _, arms, what, _, way, margin, *_ in
             lab.CLAIMS}  # fmt: skip
    less, more = "less", "greater"
    assert found == {
        "cycle-distance": (("Loki", "arg max"), "", less, 0.5),
        "cycle-accuracy": (("Loki", "arg max"), "right", more, 10),
        "needs-squares": (("Loki", "Loki, d not squared"), "", less, 0.5),
        "needs-geometry": (("Loki, shuffled metric", "arg max"), "", more, 1),
        "against-regression": (("ridge regression", "Loki"), "", less, 0),
        "zero-shot-tree": (("Loki, tree", "98 % of arg max"), "tree", less, 0),
        "zero-shot-self": (("Loki, self-derived", "98 % of arg max"), "self", less, 0),
        "costs-accuracy": (("arg max", "Loki, tree"), "right", more, 0),
        "against-two-steps": (("Loki, tree", "subgroup first"), "tree", less, 0),
    }
    assert lab.BOOTS == ("boots", 6)
    assert lab.NEW == "twemoji"
    lab.results["twemoji"] = {("arg max: tree", 1): [10.0, 20.0]}
    assert lab.arm_values("98 % of arg max", "tree", False) == pytest.approx([9.8, 19.6])
