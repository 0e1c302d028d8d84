"""LLS: the experiment's own code, on worlds so small that every answer is known by counting."""

import functools
import itertools
import types

import no_wait
import numpy as np
import pandas as pd
import pytest
import torch

from labutils import augment, shipped
from labutils.claims import Ledger
from press import technique


def streams(seed):
    names = ("split", "initialisation", "sampling", "augmentation")
    return types.SimpleNamespace(**{k: torch.Generator().manual_seed(seed) for k in names})


def given(profile="smoke"):
    """What the cells take from the notebook: the lab, its settings, and the table of results."""
    lab = types.SimpleNamespace(
        device=torch.device("cpu"), streams=streams, profile="smoke", seeds=(0, 1, 2),
        ledger=Ledger("lls", "small", (0, 1, 2), {}, {}),
    )  # fmt: skip
    settings = types.SimpleNamespace(**technique.settings("lls", profile))
    return {"lab": lab, "S": settings, "results": None}


@pytest.fixture
def chapter():
    return technique.load("lls", tags=("technique", "experiment"), given=given())


patched = pytest.MonkeyPatch.context  # what a test changes is mended, also when it fails


# Examples by input, class and domain. Inputs 0 to 2 belong to one class alone; classes and domains
# are of unequal size, and the prior of the domain decides for the shared inputs.
INPUTS = np.array([[8, 0, 0], [0, 6, 0], [0, 0, 10], [4, 4, 0], [2, 0, 4], [6, 5, 2], [0, 4, 3]])
DOMAINS = np.array([[9, 1, 1, 2], [1, 6, 1, 3], [1, 2, 9, 1]])
JOINT = INPUTS[:, :, None] * DOMAINS[None]
TRUE = JOINT.sum(0) / JOINT.sum((0, 1))  # q(y|d)


@functools.cache
def exact_world():
    """Input, class and domain of every example, and the exact f and q(y|x, d) of each."""
    x, y, d = (axis.repeat(JOINT.ravel()) for axis in np.indices(JOINT.shape).reshape(3, -1))
    f = JOINT.sum(1) / JOINT.sum((1, 2))[:, None]
    bayes = JOINT[x, :, d] / JOINT[x, :, d].sum(1, keepdims=True)
    return x, y, d, f[x], bayes


def best_accuracy(found, labels):
    """Percent right under the best of all namings of three classes, tried one by one."""
    return max(
        100 * np.mean(np.array(names)[found] == labels)
        for names in itertools.permutations(range(3))
    )


def share_distance(found, true):
    """Largest error of q(y|d) under the best of all namings."""
    orders = itertools.permutations(range(len(true)))
    return min(np.abs(found[list(order)] - true).max() for order in orders)


def world_of(chapter, images):
    ids = torch.as_tensor(exact_world()[2])
    return chapter.World(images, ids, images.clone(), ids.clone())


def images_of_inputs():
    """Every input is a picture of its own, far from all others."""
    x = exact_world()[0]
    pictures = torch.zeros(len(INPUTS), 1, 4, 4, dtype=torch.uint8)
    pictures.view(len(INPUTS), -1)[range(len(INPUTS)), range(len(INPUTS))] = 255
    return pictures[x]


def discovered(chapter):
    """`discover` in the exact world, by a network that knows the exact posteriors."""
    f = exact_world()[3]
    with patched() as patch:
        patch.setattr(chapter, "learn", lambda *_: [f, f])
        patch.setattr(chapter.S, "num_components", 7)
        patch.setattr(chapter.S, "cells_per_class", Sevenths())
        return chapter.discover(world_of(chapter, images_of_inputs()), None, 3, 0)[:2]


class Sevenths:
    """Cells per class such that three classes have seven cells, one for each input."""

    def __mul__(self, num_classes):
        return 7


# Drawing


def coded_pool():
    """Training images hold their number, test images 100 more; three classes in turn."""
    numbers = torch.arange(90, dtype=torch.uint8).view(-1, 1, 1, 1)
    labels, test_labels = np.arange(90) % 3, (np.arange(60) + 1) % 3
    return (numbers, labels), (numbers[:60] + 100, test_labels), 3, "to_input"


def test_a_world_is_drawn_from_its_own_split_and_the_truth_belongs_to_it(chapter):
    pool = coded_pool()
    for seed in range(3):
        world, hidden, _ = chapter.make_world(pool, 4, 3, 8, seed)
        train, test = world.images.flatten().long(), world.test_images.flatten().long() - 100
        assert train.max() < 90
        assert test.min() >= 0
        np.testing.assert_array_equal(train, hidden.indices)
        np.testing.assert_array_equal(test, hidden.test_indices)
        np.testing.assert_array_equal(pool[0][1][train], hidden.labels)
        np.testing.assert_array_equal(pool[1][1][test], hidden.test_labels)
        for ids, labels, of_a_class in (
            (world.domain_ids, hidden.labels, 30),
            (world.test_domain_ids, hidden.test_labels, 20),
        ):
            counts = np.zeros((3, 4))
            np.add.at(counts, (labels, ids.numpy()), 1)
            capacity = of_a_class / hidden.marginals.sum(1).max()
            np.testing.assert_array_equal(counts, np.floor(hidden.marginals * capacity + 1e-9))


def test_every_seed_draws_other_shares(chapter):
    first, second = (chapter.make_world(coded_pool(), 4, 3, 8, s)[1].marginals for s in (0, 1))
    assert np.abs(first - second).max() > 0.05


def test_super_classes_join_the_garments_that_the_table_names(chapter):
    (_, labels), (_, test_labels), k, _ = chapter.load_pool("super", 0)
    (_, plain), (_, test_plain), ten, _ = chapter.load_pool("ten", 0)
    assert (k, ten) == (5, 10)
    pairs = [{0, 5}, {1, 7}, {2, 8}, {3, 6}, {4, 9}]  # numbers of Fashion-MNIST's classes
    for joined, single in ((labels, plain), (test_labels, test_plain)):
        assert [set(single[joined == y].tolist()) for y in range(5)] == pairs


# Training


def scripted(chapter, losses):
    """Weights that `train_classifier` keeps when its held-out losses are these; images it saw."""
    images = torch.arange(200, dtype=torch.float32).view(-1, 1, 1, 1)
    net, seen, looked = torch.nn.Linear(1, 2), [], []
    logits = iter(losses)

    def predict(_, held_out):
        looked.append(held_out.flatten())
        return torch.tensor([[0.0, next(logits)]]).expand(len(held_out), 2)

    def augment(batch, *_):
        seen.append(batch.flatten())
        return batch

    def train(net, step_loss, steps, *_, inputs, evaluate, evaluate_steps, **__):
        for step in range(1, steps + 1):
            step_loss(inputs[0][step - 1])
            torch.nn.init.constant_(net.weight, step)
            if step in evaluate_steps:
                evaluate()

    with patched() as patch:
        patch.setattr(chapter, "predict", predict)
        patch.setattr(chapter, "train", train)
        patch.setattr(chapter.augment, "pad_crop_flip", augment)
        settings = types.SimpleNamespace(
            num_steps=20, batch_size=8, learning_rate=0.1, weight_decay=0, padding=0,
            precision="float32",
        )  # fmt: skip
        kept = chapter.train_classifier(
            net, images, torch.zeros(200, dtype=torch.long), lambda x: x.flatten(1), settings,
            streams(0),
        )  # fmt: skip
    return kept.weight[0].item(), torch.cat(seen), torch.cat(looked)


def test_the_best_weights_are_kept_and_not_the_last_or_the_first(chapter):
    assert scripted(chapter, [3, 1, 2, 4, 5])[0] == 8
    assert scripted(chapter, [5, 4, 3, 1, 2])[0] == 16
    assert scripted(chapter, [5, 4, 3, 2, 1])[0] == 20


def test_the_images_that_choose_the_weights_are_not_trained_on(chapter):
    _, seen, looked = scripted(chapter, [5, 4, 3, 2, 1])
    assert len(set(looked.tolist())) == 20
    assert not set(seen.tolist()) & set(looked.tolist())


def trained_with(chapter, learner, *arguments, **changes):
    """What a learner gives to `train_classifier`, and the two posteriors that it returns."""
    calls = []

    def remember(net, images, targets, to_input, settings, streams):
        weights = torch.cat([p.flatten() for p in net.parameters()]).clone()
        calls.append((weights.detach(), images, targets, settings, streams.sampling.initial_seed()))
        return net.eval()

    with patched() as patch:
        patch.setattr(chapter, "train_classifier", remember)
        for name, value in changes.items():
            patch.setattr(chapter, name, value)
        parts = learner(*arguments)
    return calls[0], parts


def test_a_network_learns_training_images_and_their_domains_and_nothing_else(chapter):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (30, 1, 28, 28), dtype=torch.uint8, generator=generator)
    ids = torch.arange(30) % 4
    world = chapter.World(images, ids, images[:7] // 2, ids[:7])

    def learned(seed):
        to_input = functools.partial(chapter.augment.normalise, mean=(0.3,), std=(0.3,))
        return trained_with(chapter, chapter.learn, world, to_input, seed)

    (weights, seen, targets, _, stream), (f, test_f) = learned(0)
    assert torch.equal(seen, images)
    assert torch.equal(targets, ids)
    assert (f.shape, test_f.shape, stream) == ((30, 4), (7, 4), 0)
    (other, *_, stream), _ = learned(1)
    assert not torch.equal(weights, other)  # a new seed starts from other weights
    assert stream == 1


def test_a_step_never_waits_for_the_host(chapter):
    handed = {}

    def train(net, step_loss, steps, optimizer, *_, inputs, evaluate, **__):
        evaluate()  # so that there are weights to keep
        handed.update(step_loss=step_loss, optimizer=optimizer, net=net, row=inputs[0][0])

    def step():
        handed["net"].train()
        handed["optimizer"].zero_grad()
        handed["step_loss"](handed["row"]).backward()
        handed["optimizer"].step()

    pool = small_pool(28)
    world = chapter.World(pool[0][0], torch.as_tensor(pool[0][1]), pool[1][0], torch.empty(0))
    with patched() as patch:
        patch.setattr(chapter, "train", train)
        chapter.learn(world, normalised, 0)
        no_wait.check(step)
        chapter.learn_on_features(feature_world(chapter), 0)
        no_wait.check(step)


def normalised(images):
    return augment.normalise(images, (0.3,), (0.3,))


def small_pool(width=8):
    """200 training and 100 test images of noise in ten classes."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (300, 1, width, width), dtype=torch.uint8, generator=generator)
    labels = np.arange(300) % 10
    return (images[:200], labels[:200]), (images[200:], labels[200:]), 10, normalised


@pytest.mark.slow
def test_every_arm_takes_its_steps_at_the_settings_of_full():
    chapter = technique.load("lls", tags=("technique", "experiment"), given=given("full"))
    assert all(r > k for name, k in (("ten", 10), ("super", 5)) for r, *_ in chapter.S.worlds[name])
    chapter.S.num_steps, chapter.S.batch_size = 5, 4
    posteriors_of, rng = chapter.posteriors_of, np.random.default_rng(0)

    def blurred(*arguments):  # after so few steps all images look alike to the network
        f = posteriors_of(*arguments)
        return (f + rng.dirichlet(np.ones(f.shape[1]), len(f))) / 2

    chapter.posteriors_of = blurred
    chapter.S.worlds = chapter.S.feature_worlds = {"ten": chapter.S.worlds["ten"][:1]}
    chapter.load_pool = lambda *_: small_pool()
    rows, (run,) = chapter.compare("ten", 0)
    found = {row["arm"]: row["accuracy"] for row in rows + chapter.compare_on_features(0)}
    assert {"DDFA, SPA", "DDFA, features, NMF", "supervised", "pixel cells, NMF"} <= set(found)
    assert all(0 < accuracy <= 100 for arm, accuracy in found.items() if arm != "uniform guess")
    assert run["f"][0].shape == (len(run["ids"][0]), 20)


def feature_world(chapter):
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(40, 6, 1, 1, generator=generator)
    ids = torch.arange(40) % 4
    return chapter.World(z, ids, z[:9] + 1, ids[:9])


def test_features_are_not_shifted_and_their_seeds_differ(chapter):
    world = feature_world(chapter)
    first, (f, test_f) = trained_with(chapter, chapter.learn_on_features, world, 0)
    second, _ = trained_with(chapter, chapter.learn_on_features, world, 1)
    assert first[3].padding == 0 < chapter.S.padding  # a shifted pixel of one by one is black
    assert first[3].num_steps == chapter.S.num_steps
    assert torch.equal(first[1], world.images)
    assert torch.equal(first[2], world.domain_ids)
    assert (f.shape, test_f.shape) == ((40, 4), (9, 4))
    assert not torch.equal(first[0], second[0])


def test_features_are_those_of_the_shipped_encoder_and_of_unit_length(chapter):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (12, 1, 28, 28), dtype=torch.uint8, generator=generator)
    pool = (images[:8], None), (images[8:], None), 10, None
    found = {seed: chapter.encode(pool, seed) for seed in (0, 1, 12)}
    with torch.no_grad():
        plain = shipped.simclr_encoder(0).features(images.float() / 255)
    expected = plain / plain.norm(dim=1, keepdim=True)
    torch.testing.assert_close(torch.cat(found[0]), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(found[0][0], found[12][0])  # twelve encoders take turns
    assert not torch.allclose(found[0][0], found[1][0], atol=0.01)


def test_few_examples_are_few_in_every_domain(chapter):
    seen = []

    def learn(world, *_):
        seen.append(np.bincount(world.domain_ids.numpy()).tolist())
        assert len(world.test_images) == len(world.test_domain_ids) > 40
        f = np.random.default_rng(0).dirichlet(np.ones(4), len(world.images))
        return [f, np.random.default_rng(1).dirichlet(np.ones(4), len(world.test_images))]

    with patched() as patch:
        patch.setattr(chapter, "learn", learn)
        patch.setattr(chapter, "load_pool", lambda *_: coded_pool())
        patch.setattr(chapter.S, "sizes", [4, 6])
        rows = chapter.few_examples("ten", 4, 3, 8, 2)
    assert seen == [[4] * 4, [6] * 4]
    assert [(row["size"], row["seed"]) for row in rows] == [(4, 2), (6, 2)]


# Arms


def test_small_cells_believe_the_network(chapter):
    """A cell of one example is no corner: pseudo-examples draw it to the network's mean."""
    counts = np.array([[90.0, 10, 0], [10, 80, 10], [5, 5, 90], [0, 1, 0]])
    means = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.4, 0.3, 0.3]])
    pseudo = 0.1 * counts.sum() / 4
    rows = [(c + pseudo * m) / (c.sum() + pseudo) for c, m in zip(counts, means, strict=True)]
    corners = np.array(rows[:3])
    mixtures = np.array([chapter.nnls(corners.T, row)[0] for row in rows])
    expected = corners * (counts.sum(1) @ mixtures)[:, None]
    found = chapter.factorise_spa(counts, means, 3)
    assert share_distance(found, expected / expected.sum(0)) < 1e-12


def test_ddfa_on_exact_posteriors_is_bayes_with_and_without_the_domain(chapter):
    x, y, _, _, bayes = exact_world()
    found, shares = discovered(chapter)
    assert best_accuracy(found["DDFA, SPA"], y) == pytest.approx(
        100 * np.mean(bayes.argmax(1) == y)
    )
    free = JOINT.sum(2)[x]
    assert best_accuracy(found["DDFA, SPA, no prior"], free.argmax(1)) == 100
    assert share_distance(shares["DDFA, SPA"], TRUE) < 1e-8
    assert shares["DDFA, SPA, no prior"] is shares["DDFA, SPA"]


def test_each_arm_has_its_own_factoriser(chapter):
    _, shares = discovered(chapter)
    for arm, expected in (("DDFA", TRUE), ("pixel cells", counted_by_spa(chapter))):
        assert share_distance(shares[f"{arm}, SPA"], expected) < 1e-8
        assert share_distance(shares[f"{arm}, NMF"], expected) > 0.01  # it fits, and is another


def counted_by_spa(chapter):
    """Shares by SPA from the exact table of inputs and domains, with no network to lean on."""
    table = JOINT.sum(1).astype(float)
    return chapter.factorise_spa(table, np.tile(table.sum(0) / table.sum(), (7, 1)), 3)


def test_pixel_cells_on_separate_inputs_are_bayes(chapter):
    """No network: every input is a cell, so that the control loses nothing."""
    _, y, _, _, bayes = exact_world()
    found, _ = discovered(chapter)
    right = 100 * np.mean(bayes.argmax(1) == y)
    assert best_accuracy(found["pixel cells, SPA"], y) == pytest.approx(right)


def test_the_posterior_control_is_the_same_adjustment_on_its_own_clusters(chapter):
    *_, d, f, _ = exact_world()
    found, shares = discovered(chapter)
    clusters = chapter.discretise(f, 3, 0).predict(f)
    counts = np.zeros((3, 4))
    np.add.at(counts, (clusters, d), 1)
    np.testing.assert_array_equal(found["posterior k-means"], clusters)
    np.testing.assert_allclose(shares["posterior k-means"], counts / counts.sum(0))
    corners = (counts / counts.sum(1, keepdims=True)).T  # q(d|cluster), domains as they are
    coordinates = np.maximum(f @ np.linalg.pinv(corners).T, 0)
    expected = (coordinates * corners[d]).argmax(1)
    np.testing.assert_array_equal(found["posterior k-means + prior"], expected)


def test_k_means_with_the_prior_takes_the_shares_of_ddfa(chapter):
    """Where appearance does not decide, the shares do: pictures that are all alike."""
    *_, d, _, _ = exact_world()
    generator = torch.Generator().manual_seed(0)
    alike = torch.randint(100, 156, (len(d), 1, 4, 4), dtype=torch.uint8, generator=generator)
    pure = np.array([[0.97, 0.01, 0.01, 0.3], [0.01, 0.97, 0.01, 0.3], [0.02, 0.02, 0.98, 0.4]])
    shares, found = {"DDFA, SPA": pure}, {}
    chapter.by_appearance(world_of(chapter, alike), 3, 0, found, shares)
    prior, plain = found["k-means + prior"], found["k-means, PCA"]
    same = [np.bincount(prior[d == place]).max() / (d == place).sum() for place in (0, 1, 2)]
    assert min(same) > 0.75
    assert np.mean(prior == plain) < 0.75


def test_no_arm_looks_at_other_test_images(chapter):
    """A part of the test set gets the predictions that it had in the whole."""
    (x, _, _, f, _), images = exact_world(), images_of_inputs()
    everything, part = np.arange(len(x)), np.flatnonzero((x == 1) | (x == 4))
    for arms in ("discover", "discover_by_features"):
        predictions = []
        for tested in (everything, part):
            world = world_of(chapter, images)
            world.test_images = world.test_images[tested]
            world.test_domain_ids = world.test_domain_ids[tested]
            if arms == "discover_by_features":
                world.images = world.images.flatten(1)[:, :, None, None].float()
                world.test_images = world.test_images.flatten(1)[:, :, None, None].float()
            with patched() as patch:
                patch.setattr(chapter, "learn", lambda *_, tested=tested: [f, f[tested]])
                patch.setattr(
                    chapter, "learn_on_features", lambda *_, tested=tested: [f, f[tested]]
                )
                patch.setattr(chapter.S, "num_components", 6)
                patch.setattr(chapter.S, "cells_per_class", 2)
                arguments = (world, 3, 0) if "features" in arms else (world, None, 3, 0)
                predictions.append(getattr(chapter, arms)(*arguments)[0])
        for arm in predictions[0]:
            np.testing.assert_array_equal(predictions[0][arm][part], predictions[1][arm], arm)


def test_the_arms_on_features_cluster_the_features(chapter):
    _, y, _, f, bayes = exact_world()
    world = world_of(chapter, images_of_inputs().flatten(1)[:, :, None, None].float())
    with patched() as patch:
        patch.setattr(chapter, "learn_on_features", lambda *_: [f, f])
        patch.setattr(chapter.S, "cells_per_class", Sevenths())
        found, shares = chapter.discover_by_features(world, 3, 0)
    assert list(found) == [
        "k-means, features", "feature cells, SPA", "feature cells, NMF",
        "DDFA, features, SPA", "DDFA, features, NMF",
    ]  # fmt: skip
    right = 100 * np.mean(bayes.argmax(1) == y)
    for arm, expected in (("feature cells", counted_by_spa(chapter)), ("DDFA, features", TRUE)):
        assert best_accuracy(found[f"{arm}, SPA"], y) == pytest.approx(right)
        assert share_distance(shares[f"{arm}, SPA"], expected) < 1e-8
        assert share_distance(shares[f"{arm}, NMF"], expected) > 0.01
    assert len(np.unique(found["k-means, features"])) == 3


def test_the_references_are_exact_when_the_supervised_network_is(chapter):
    """Posteriors under equal classes, as it is trained; worlds have others."""
    x, y, d, *_ = exact_world()
    equal = INPUTS / INPUTS.sum(0)
    q_y = (equal / equal.sum(1, keepdims=True))[x]
    # shares of domains of equal size, which is how worlds are drawn
    true = DOMAINS * INPUTS.sum(0)[:, None] / (DOMAINS * INPUTS.sum(0)[:, None]).sum(0)
    joint = equal[:, :, None] * true[None]
    expected_f = (joint.sum(1) / joint.sum((1, 2))[:, None])[x]
    everyone = np.arange(len(x))
    hidden = chapter.Hidden(everyone, everyone, y, y, true)
    world, seen, found, shares = world_of(chapter, images_of_inputs()), [], {}, {}

    def both_models(f, ids, num_classes, seed):
        seen.append(f)
        model = types.SimpleNamespace(predict=lambda f, ids: f, p_y_given_d=true)
        return {"SPA": model, "NMF": model}

    with patched() as patch:
        patch.setattr(chapter, "both_models", both_models)
        chapter.reference_arms((q_y, q_y), hidden, world, 0, found, shares)
    assert set(found) == {"supervised", "supervised f, SPA", "supervised f, NMF"}
    expected = (joint[x, :, d] / joint[x, :, d].sum(1, keepdims=True)).argmax(1)
    np.testing.assert_array_equal(found["supervised"], expected)
    np.testing.assert_allclose(seen[0], expected_f, atol=1e-12)


# Scoring


def test_crossed_accuracy_takes_the_names_from_the_other_half(chapter):
    labels = np.repeat([0, 1], 40)
    found = np.where(np.arange(80) % 2 == 0, labels, 1 - labels)  # the halves disagree on names
    assert chapter.crossed_accuracy(found, labels, 2) == 0
    assert chapter.match_classes(found, labels, 2)[0] == 50
    assert chapter.crossed_accuracy(1 - labels, labels, 2) == 100


def test_scores_are_those_of_the_whole_test_set_with_one_renaming(chapter):
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=300)
    found = np.where(rng.random(300) < 0.8, (labels + 1) % 3, rng.integers(3, size=300))
    true = rng.dirichlet(np.ones(3), 4).T
    hidden = chapter.Hidden(None, None, None, labels, true)
    shares = {"arm": np.roll(true, 1, 0)}  # found class y + 1 is the true class y
    row, guess = chapter.score({"arm": found}, shares, hidden)
    assert row["accuracy"] == pytest.approx(best_accuracy(found, labels))
    assert row["error"] == pytest.approx(0, abs=1e-12)
    assert guess["error"] == pytest.approx(np.abs(true - 1 / 3).mean())


def compared(chapter, name, *job, **changes):
    """Rows of a comparison whose steps are replaced: every arm repeats what it was given."""
    with patched() as patch:
        patch.setattr(chapter, "load_pool", lambda *_: coded_pool())
        patch.setattr(chapter.S, "worlds", {"ten": [[4, 3, 8], [5, 10, 8]]})
        patch.setattr(chapter.S, "feature_worlds", {"ten": [[4, 3, 8]], "super": [[5, 10, 8]]})
        for key, value in changes.items():
            patch.setattr(chapter, key, value)
        return getattr(chapter, name)(*job)


def test_a_comparison_goes_through_all_worlds_of_its_seed(chapter):
    drawn = []

    def discover(world, to_input, num_classes, seed):
        drawn.append((world, num_classes, seed))
        f = np.zeros((len(world.images), 4)), np.zeros((len(world.test_images), 4))
        return {"arm": world.test_images.flatten().numpy() % 3}, {}, f

    rows, kept = compared(
        chapter, "compare", "ten", 2, discover=discover,
        supervise=lambda pool, seed: f"labels of {seed}",
        reference_arms=lambda posterior, hidden, world, seed, found, shares: found.update(
            reference=(hidden.test_labels + (posterior == "labels of 2")) % 3
        ),
    )  # fmt: skip
    assert [(k, seed) for _, k, seed in drawn] == [(3, 2)] * 2
    expected = chapter.make_world(coded_pool(), 4, 3, 8, 2)[0]
    assert torch.equal(drawn[0][0].images, expected.images)
    assert [(k["r"], k["alpha"], k["seed"]) for k in kept] == [(4, 3, 2), (5, 10, 2)]
    assert [len(k["hidden"].marginals[0]) for k in kept] == [4, 5]
    assert [k["condition"] for k in kept] == [np.linalg.cond(k["hidden"].marginals) for k in kept]
    arms = ["arm", "reference", "uniform guess"]
    assert [(row["alpha"], row["arm"]) for row in rows] == [
        (a, arm) for a in (3, 10) for arm in arms
    ]
    assert {row["accuracy"] for row in rows if row["arm"] != "uniform guess"} == {100}


def test_features_stand_for_the_images_of_the_world(chapter):
    codes = torch.arange(90.0)[:, None]
    seen, encoded = [], []

    def encode(pool, seed):
        encoded.append(seed)
        return [codes, codes + 99]

    def discover_by_features(world, num_classes, seed):
        seen.append(world)
        return {"arm": world.test_images.flatten().long().numpy() % 3}, {}

    rows = compared(
        chapter, "compare_on_features", 2, discover_by_features=discover_by_features,
        encode=encode,
    )  # fmt: skip
    assert encoded == [2]  # all label sets have the same images
    for (r, alpha), world in zip([(4, 3), (5, 10)], seen, strict=True):
        plain, *_ = chapter.make_world(coded_pool(), r, alpha, 8, 2)
        assert torch.equal(world.images.flatten(), plain.images.flatten().float())
        assert torch.equal(world.test_images.flatten(), plain.test_images.flatten().float() - 1)
        assert torch.equal(world.domain_ids, plain.domain_ids)
    found = [(row["classes"], row["r"], row["seed"], row["accuracy"]) for row in rows]
    assert found == [("ten", 4, 2, 100), ("super", 5, 2, 100)]


# Claims


def table_of_results(chapter):
    """Accuracies by arm and seed, rows in no order; the difference of two arms is theirs alone."""
    means = {
        "DDFA, SPA": 90, "DDFA, NMF": 80, "k-means, pixels": 50, "k-means, PCA": 52,
        "pixel cells, SPA": 70, "pixel cells, NMF": 75, "posterior k-means + prior": 85,
        "k-means + prior": 55, "k-means, features": 60, "feature cells, NMF": 77,
        "feature cells, SPA": 76, "DDFA, features, NMF": 82, "DDFA, features, SPA": 92,
    }  # fmt: skip
    rows = [
        {"classes": c, "r": r, "alpha": alpha, "arm": arm, "seed": seed, "error": 0.1,
         "accuracy": mean + 3 * seed + number / 100 - (c == "super") - alpha / 10}
        for c, r, alpha in (("ten", 10, 0.5), ("ten", 10, 3), ("super", 8, 0.5))
        for number, (arm, mean) in enumerate(means.items()) for seed in (0, 1, 2)
    ]  # fmt: skip
    chapter.results = pd.DataFrame(rows).sample(frac=1, random_state=0)
    return means


def test_seeds_are_paired_in_their_order(chapter):
    means = table_of_results(chapter)
    for arm in means:
        values = chapter.per_seed("ten", 10, 0.5, arm)
        np.testing.assert_allclose(np.diff(values), 3)
        assert values[0] == chapter.per_seed("super", 8, 0.5, arm)[0] + 1
        assert values[0] == pytest.approx(chapter.per_seed("ten", 10, 3, arm)[0] + 0.25)


def test_every_family_has_its_rival_and_the_stronger_one_where_there_are_two(chapter):
    table_of_results(chapter)
    rivals = {
        ("kmeans", "NMF"): "k-means, PCA", ("kmeans", "SPA"): "k-means, PCA",
        ("network", "NMF"): "pixel cells, NMF", ("network", "SPA"): "pixel cells, NMF",
        ("posterior-prior", "SPA"): "posterior k-means + prior",
        ("kmeans-prior", "SPA"): "k-means + prior", ("features-kmeans", "NMF"): "k-means, features",
        ("features-cells", "NMF"): "feature cells, NMF",
        ("features-cells", "SPA"): "feature cells, SPA",
    }  # fmt: skip
    world = "ten", 10, 0.5
    assert {key: chapter.rival_of(*key, world) for key in rivals} == rivals


@pytest.mark.parametrize("factoriser", ["NMF", "SPA"])
def test_a_claim_holds_the_values_of_its_two_arms(chapter, factoriser):
    table_of_results(chapter)
    world = "ten", 10, 0.5
    for family in ("kmeans", "network", "features-kmeans"):
        margin = 10.0 if family == "kmeans" else 0.0
        chapter.accuracy_claim(family, factoriser, world, primary=True, margin=margin)
        claims = {claim.id: claim for claim in chapter.lab.ledger.claims}
        claim = claims[f"{factoriser.lower()}-beats-{family}-ten-a05"]
        stem = "DDFA, features" if "features" in family else "DDFA"
        assert claim.arms == [f"{stem}, {factoriser}", chapter.rival_of(family, factoriser, world)]
        for arm in claim.arms:
            assert claim.values[arm] == chapter.per_seed(*world, arm).tolist()
        papers = factoriser == "NMF" and family != "network"
        assert claim.source == ("paper" if papers else "ours")
        assert (claim.direction, claim.margin) == ("greater", margin)


def test_a_wrong_number_of_classes_is_found_by_shuffling_the_domains(chapter):
    _, y, d, f, _ = exact_world()
    hidden = types.SimpleNamespace(marginals=DOMAINS / DOMAINS.sum(0), test_labels=y)
    run = {"f": (f, f), "ids": (d, d), "hidden": hidden}
    with patched() as patch:
        patch.setattr(chapter.S, "cells_per_class", Sevenths())
        patch.setattr(
            chapter, "factorise_spa", chapter.factorise_nmf
        )  # at k = 4, no corner is left
        true, noise, accuracies = chapter.wrong_k(run, 0)
    assert (true[:3] > noise[1]).all()
    assert true[3] < 1e-8 < noise[1]
    assert list(accuracies) == [2, 3, 4]
