"""The lab on LAF: closed forms, slow references, independent libraries, hand cases.

Every test takes the lab's module as its argument, so that test_laf_mutations.py can hand it a
module with a mistake in it.
"""

import ast
import copy
import inspect
import math
import types

import no_wait
import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, roc_auc_score
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from labutils import data
from labutils.start import Lab
from press import notebooks, technique

TASK = {"groups": [(1, 4)], "share": 0.5, "kappa": 5}
WHOLE = {"groups": [(1,), (4,)], "share": 1.0, "kappa": 20}
WRONG = TASK | {"wrong": True}


class FakeLab:
    """What the experiment uses of a `labutils.start.Lab`."""

    device, seeds, streams = torch.device("cpu"), (0, 1), Lab.streams

    def map(self, function, jobs, _description):
        return [function(*job) for job in jobs]


def given():
    """What the cells take from the notebook, with settings in which a mix-up would show."""
    settings = types.SimpleNamespace(**technique.settings("laf", "smoke"))
    settings.per_class, settings.num_pairs, settings.vae_steps = 10, 4, 6
    settings.factors, settings.rates, settings.tuning_seeds = (2, 5), (1e-3, 1e-2), (1000, 1001)
    known = {"PUBLISHED": (5e-5, 1e-4), "results": {}, "chosen": {}}
    return {"lab": FakeLab(), "S": settings} | known


@pytest.fixture
def lab():
    return technique.load("laf", tags=("technique", "experiment"), given=given())


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed))


class Net(nn.Module):
    """A small network for rows of five numbers, with features and a last layer."""

    def __init__(self, seed=0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 8))
            self.classifier = nn.Linear(8, 3)

    def features(self, x):
        return self.body(x)

    def forward(self, x):
        return self.classifier(self.features(x))


def autoencoder(lab, seed=0, d=8, latent=2, linear=False):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return lab.Autoencoder(d, latent, linear).requires_grad_(False)


def batches(steps=6, n=7, m=5):
    return [(randn(n, 5, seed=k), 1 + randn(m, 5, seed=100 + k)) for k in range(steps)]


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


# --- the autoencoder -----------------------------------------------------------------------------


def test_the_autoencoders_loss_is_the_squared_error_and_a_share_of_the_divergence(lab):
    e, out = randn(9, 6), randn(9, 6, seed=1)
    mean, log_var = randn(9, 3, seed=2), randn(9, 3, seed=3)
    kl = kl_divergence(Normal(mean, (log_var / 2).exp()), Normal(0.0, 1.0)).sum(1).mean()
    expected = F.mse_loss(out, e, reduction="sum") / 9 + 0.025 * kl
    assert torch.isclose(lab.autoencoder_loss(out, e, mean, log_var), expected)


def test_the_autoencoder_has_the_sizes_of_the_code(lab):
    sizes = [tuple(p.shape) for p in lab.Autoencoder(256, 8).parameters() if p.ndim == 2]
    assert sizes == [(128, 256), (32, 128), (16, 32), (32, 8), (128, 32), (256, 128)]


def test_a_sigmoid_bounds_the_reconstruction_and_a_linear_decoder_does_not(lab):
    e = 50 * randn(40, 8)
    bounded, free = (autoencoder(lab, linear=linear)(e, generator())[0] for linear in (False, True))
    assert 0 <= bounded.min() < bounded.max() <= 1
    assert free.max() > 1
    torch.testing.assert_close(free.sigmoid(), bounded)


def test_the_hidden_variable_has_its_mean_and_its_variance(lab):
    h = autoencoder(lab)
    h.decoder, h.last = nn.Identity(), nn.Identity()
    e = randn(1, 8).expand(20_000, 8)
    z, mean, log_var = h(e, generator())
    torch.testing.assert_close(z.mean(0), mean[0], atol=0.05, rtol=0)
    torch.testing.assert_close(z.var(0), log_var[0].exp(), atol=0.05, rtol=0.05)


def test_fitting_brings_features_back_and_freezes_the_weights(lab):
    e = randn(200, 2) @ randn(2, 8, seed=1)  # in a plane
    h = autoencoder(lab, linear=True).requires_grad_(True)
    rows = torch.randint(200, (300, 32), generator=generator(2))
    before = ((h(e, generator())[0] - e) ** 2).sum(1).mean()
    assert lab.fit_autoencoder(h, e, rows, generator(3)) is h
    after = ((h(e, generator())[0] - e) ** 2).sum(1).mean()
    assert after < 0.3 * before
    assert not any(p.requires_grad for p in h.parameters())


# --- the losses ----------------------------------------------------------------------------------


def test_the_extractor_loss_is_that_of_a_loop(lab):
    q, q_forgotten = 10 * torch.rand(2, 6, generator=generator())
    q_forgotten = q_forgotten[:4]
    expected = sum(math.exp(v / (v + 1)) for v in q.tolist())
    expected -= sum(math.exp(v / (v + 1)) for v in q_forgotten.tolist())
    assert lab.extractor_loss(q, q_forgotten).item() == pytest.approx(expected, rel=1e-5)


def test_the_slope_of_the_extractor_loss_is_the_closed_form(lab):
    q = torch.tensor([0.0, 0.3, 2.0, 50.0], requires_grad=True)
    expected = (q / (q + 1)).exp() / (q + 1) ** 2
    (kept,) = torch.autograd.grad(lab.extractor_loss(q, q[:0]), q)
    (forgotten,) = torch.autograd.grad(lab.extractor_loss(q[:0], q), q)
    torch.testing.assert_close(kept, expected)
    torch.testing.assert_close(forgotten, -expected)


def test_the_alignment_loss_is_that_of_the_official_code(lab):
    c, c_forgotten = torch.rand(2, 6, generator=generator())
    c_forgotten = c_forgotten[:4]
    expected = torch.sum(torch.log(torch.exp(c) / torch.sum(torch.exp(c_forgotten / 5))))
    assert torch.isclose(lab.alignment_loss(c, c_forgotten, 5), expected)


def test_before_any_turn_the_alignment_loss_counts_images(lab):
    found = lab.alignment_loss(torch.zeros(7), torch.zeros(5), 20.0)
    assert found.item() == pytest.approx(-7 * math.log(5))


def test_a_forgotten_image_pulls_with_its_share_of_all_kept_ones(lab):
    c = torch.rand(7, generator=generator()).requires_grad_()
    turned = torch.rand(5, generator=generator(1)).requires_grad_()
    lab.alignment_loss(c, turned, 4.0).backward()
    torch.testing.assert_close(c.grad, torch.ones(7))
    torch.testing.assert_close(turned.grad, -7 / 4 * (turned.detach() / 4).softmax(0))


# --- forgetting ----------------------------------------------------------------------------------


def official(net, hs, pairs, rates, kappa, noise):
    """`VUnlearning.extractor_unlearning` of the official code, with noise from a generator."""
    teacher = copy.deepcopy(net).eval()
    first, second = (torch.optim.Adam(net.parameters(), lr=rate) for rate in rates)

    def again(h, e):
        mu, log_var = h.encoder(e).chunk(2, 1)
        sigma = torch.exp(0.5 * log_var)
        return torch.sigmoid(h.decoder(mu + sigma * torch.randn(mu.shape, generator=noise)))

    def nmse(out, e):
        mse = nn.MSELoss(reduction="none")(out, e).sum(dim=1)
        return torch.sum(torch.exp(mse / (mse + 1)))

    def turns(x):
        now, then = net.features(x), teacher.features(x)
        return nn.CosineEmbeddingLoss(reduction="none")(now, then, torch.ones(len(x)))

    for kept, forgotten in pairs:
        e = net.features(kept)
        out = again(hs[0], e)
        e_f = net.features(forgotten)
        loss = nmse(out, e) - nmse(again(hs[1], e_f), e_f)
        first.zero_grad()
        loss.backward()
        first.step()
        ratio = torch.exp(turns(kept)) / torch.sum(torch.exp(turns(forgotten) / kappa))
        second.zero_grad()
        torch.sum(torch.log(ratio)).backward()
        second.step()


def test_forgetting_takes_the_steps_of_the_official_code(lab):
    hs = autoencoder(lab, 1), autoencoder(lab, 2)
    net, reference = Net(), Net()
    lab.laf(net, *hs, batches(), (1e-3, 3e-3), 5.0, generator())
    official(reference, hs, batches(), (1e-3, 3e-3), 5.0, generator())
    torch.testing.assert_close(weights(net), weights(reference), atol=2e-5, rtol=1e-3)
    assert not torch.equal(weights(net), weights(Net()))


def test_without_a_rate_nothing_changes(lab):
    hs, net = (autoencoder(lab, 1), autoencoder(lab, 2)), Net()
    lab.laf(net, *hs, batches(), (0.0, 0.0), 5.0, generator())
    assert torch.equal(weights(net), weights(Net()))


def test_the_extractor_loss_alone_takes_its_steps_alone(lab):
    hs, net, reference = (autoencoder(lab, 1), autoencoder(lab, 2)), Net(), Net()
    lab.laf(net, *hs, batches(), (1e-3, 0.0), 5.0, generator())
    official(reference, hs, batches(), (1e-3, 0.0), 5.0, generator())
    torch.testing.assert_close(weights(net), weights(reference), atol=2e-5, rtol=1e-3)


def test_alignment_alone_asks_no_autoencoder(lab):
    net = Net()
    lab.laf(net, None, None, batches(), (0.0, 1e-3), 5.0, generator())
    assert not torch.equal(weights(net), weights(Net()))


def test_alignment_has_no_gradient_at_the_start(lab):
    net, old = Net().double(), Net().double()
    c = 1 - F.cosine_similarity(*(one.features(randn(12, 5).double()) for one in (net, old)))
    lab.alignment_loss(c[:7], c[7:], 5.0).backward()
    assert max(p.grad.abs().max() for p in net.body.parameters()) < 1e-12


def test_with_nothing_to_forget_alignment_keeps_all_answers(lab):
    hs, net, x = (autoencoder(lab, 1), autoencoder(lab, 2)), Net(), randn(200, 5, seed=9)
    lab.laf(net, *hs, batches(m=0), (0.0, 1e-4), 5.0, generator())
    assert torch.equal(net(x).argmax(1), Net()(x).argmax(1))


def test_forgetting_takes_no_labels(lab):
    names = list(inspect.signature(lab.laf).parameters)
    assert names == ["net", "h", "h_forgotten", "pairs", "rates", "kappa", "generator"]


def test_a_step_of_forgetting_never_waits_for_the_host(lab):
    hs, net = (autoencoder(lab, 1), autoencoder(lab, 2)), Net()
    no_wait.check(lambda: lab.laf(net, *hs, batches(1), (1e-3, 1e-3), 5.0, generator()))


# --- a draw --------------------------------------------------------------------------------------


def keys(images):
    return [image.numpy().round(4).tobytes() for image in images]


def truth_of(lab, world, seed=3):
    """The data set's own labels of the draw's training images."""
    split = data.load(
        lab.S.dataset, num_validation=lab.S.num_validation, generator=lab.lab.streams(seed).split
    )
    images = lab.augment.normalise(split.train.images, split.mean, split.std)
    known = dict(zip(keys(images), split.train.labels.tolist(), strict=True))
    return torch.tensor([known[key] for key in keys(world.x)])


@pytest.mark.parametrize("task", [TASK, WRONG, WHOLE])
def test_a_share_of_each_class_of_the_group_is_forgotten(lab, task):
    world = lab.draw(3, task, "test")
    truth = truth_of(lab, world)
    group = task["groups"][3 % len(task["groups"])]
    number = round(task["share"] * 10)
    assert torch.bincount(truth, minlength=10).tolist() == [10] * 10
    counts = torch.bincount(truth[world.gone], minlength=10).tolist()
    assert counts == [number if c in group else 0 for c in range(10)]
    assert sorted([*world.kept.tolist(), *world.gone.tolist()]) == list(range(100))


def test_only_forgotten_images_have_wrong_labels_and_all_of_them(lab):
    for task in (TASK, WRONG, WHOLE):
        world = lab.draw(3, task, "test")
        wrong = world.y != truth_of(lab, world)
        expected = torch.zeros(100, dtype=torch.bool)
        expected[world.gone] = "wrong" in task
        assert torch.equal(wrong, expected)
    many = {seed: lab.draw(seed, WRONG, "test") for seed in range(12)}
    for seed, world in many.items():
        assert (world.y != truth_of(lab, world, seed))[world.gone].all()
    assert len(torch.cat([world.y[world.gone] for world in many.values()]).unique()) == 10


@pytest.mark.parametrize("split", ["validation", "test"])
def test_unseen_images_are_those_of_the_split(lab, split):
    world = lab.draw(3, WHOLE, split)
    dataset = data.load(
        lab.S.dataset, num_validation=lab.S.num_validation, generator=lab.lab.streams(3).split
    )
    part = getattr(dataset, split)
    images = lab.augment.normalise(part.images, dataset.mean, dataset.std)
    assert torch.equal(world.unseen, images)
    assert torch.equal(world.unseen_y, part.labels)
    assert not set(keys(world.unseen)) & set(keys(world.x))


def test_a_removed_class_is_judged_apart_and_a_thinned_one_with_the_rest(lab):
    world = lab.draw(3, WHOLE, "test")
    assert torch.equal(world.concerned, world.unseen_y == 4)
    assert torch.equal(world.staying, world.unseen_y != 4)
    world = lab.draw(3, TASK, "test")
    assert torch.equal(world.concerned, (world.unseen_y == 1) | (world.unseen_y == 4))
    assert world.staying.all()


def test_tasks_of_a_seed_share_images_and_other_seeds_do_not(lab):
    first, second, other = (
        lab.draw(seed, task, "test") for seed, task in ((3, TASK), (3, WHOLE), (4, TASK))
    )
    assert torch.equal(first.x, second.x)
    assert not torch.equal(first.x, other.x)
    assert not torch.equal(first.gone, other.gone)


# --- training and reference ----------------------------------------------------------------------


def test_a_network_is_trained_on_its_rows_alone(lab):
    world = lab.draw(3, TASK, "test")
    first = lab.fit(world, world.kept, lab.lab.streams(3))
    world.x[world.gone], world.y[world.gone] = torch.nan, 77  # would raise
    second = lab.fit(world, world.kept, lab.lab.streams(3))
    assert torch.equal(weights(first), weights(second))


def test_training_sees_every_image_once_an_epoch(lab):
    handed = {}
    vars(lab)["train"] = lambda *args, **options: handed.update(options, steps=args[2])
    world = lab.draw(3, TASK, "test")
    world.kept = world.kept[:60]
    lab.S.batch_size = 20
    lab.fit(world, world.kept, lab.lab.streams(3))
    (rows,) = handed["inputs"]
    assert rows.shape == (handed["steps"], 20) == (3 * lab.S.epochs, 20)
    for epoch in rows.view(lab.S.epochs, -1):
        assert sorted(epoch.tolist()) == sorted(world.kept.tolist())


def test_one_autoencoder_sees_all_images_and_the_other_those_to_forget(lab):
    seen, world = [], lab.draw(3, TASK, "test")
    net = lab.fresh(lab.Patches(), generator())

    def watch(h, e, rows, generator):
        seen.append((h, e, rows))
        return h

    vars(lab)["fit_autoencoder"] = watch
    h, h_forgotten = lab.autoencoders(net, world, "linear", lab.lab.streams(3))
    assert [one[0] for one in seen] == [h, h_forgotten]
    for _, e, rows in seen:
        torch.testing.assert_close(e, net.features(world.x), atol=1e-5, rtol=1e-4)
        assert rows.shape == (lab.S.vae_steps, lab.S.pair_size)
    assert set(seen[1][2].flatten().tolist()) <= set(world.gone.tolist())
    assert len(seen[0][2].unique()) > 60
    assert isinstance(h.last, nn.Identity)
    (other, _) = lab.autoencoders(net, world, "sigmoid", lab.lab.streams(3))
    assert isinstance(other.last, nn.Sigmoid)


def test_pairs_are_kept_and_forgotten_rows(lab):
    world = lab.draw(3, TASK, "test")
    pairs = lab.pairs_of(world, lab.lab.streams(3))
    assert len(pairs) == lab.S.num_pairs
    for kept, gone in pairs:
        assert len(kept) == len(gone) == lab.S.pair_size
        assert set(kept.tolist()) <= set(world.kept.tolist())
        assert set(gone.tolist()) <= set(world.gone.tolist())


# --- rivals --------------------------------------------------------------------------------------


def slow_relearn(net, world, pairs, arm, rate):
    """Image by image; losses are means over the batches."""
    with torch.no_grad():
        ranks = net(world.x).argsort(1, descending=True)
    adam = torch.optim.Adam(net.parameters(), lr=rate)
    for kept, gone in pairs:
        loss = 0
        for i in kept.tolist():
            label = world.y[i] if "true" in arm else ranks[i, 0]
            loss = loss - net(world.x[i : i + 1]).log_softmax(1)[0, label] / len(kept)
        for i in gone.tolist() if "fine" not in arm else []:
            said = net(world.x[i : i + 1]).log_softmax(1)[0]
            if arm == "second choice":
                loss = loss - said[ranks[i, 1]] / len(gone)
            else:
                label = world.y[i] if "true" in arm else ranks[i, 0]
                if said[label] > math.log(0.1):
                    loss = loss + said[label] / len(gone)
        adam.zero_grad()
        loss.backward()
        adam.step()


def small_world(lab):
    """A draw in which wrong labels are forgotten, with a network that has learned a little."""
    world = lab.draw(3, WRONG, "test")
    return world, lab.fit(world, torch.arange(100), lab.lab.streams(3))


ARMS = (
    "ascent, own labels", "ascent, true labels", "second choice", "fine-tuning, own labels",
    "fine-tuning, true labels",
)  # fmt: skip


@pytest.mark.parametrize("arm", ARMS)
def test_a_rival_takes_the_steps_of_a_slow_reference(lab, arm):
    world, net = small_world(lab)
    pairs = [(kept[:6], gone[:6]) for kept, gone in lab.pairs_of(world, lab.lab.streams(3))[:3]]
    found, expected = copy.deepcopy(net), copy.deepcopy(net)
    lab.relearn(found, world, pairs, arm, 1e-3)
    slow_relearn(expected, world, pairs, arm, 1e-3)
    torch.testing.assert_close(weights(found), weights(expected), atol=3e-5, rtol=1e-3)
    assert (weights(found) - weights(net)).abs().max() > 1e-3


def without_labels(lab, value=5):
    """Arms that change when labels are shuffled after training."""
    world, net = small_world(lab)
    shuffled = types.SimpleNamespace(**vars(world) | {"y": world.y.roll(1)})
    hs = lab.autoencoders(net, world, "sigmoid", lab.lab.streams(3))
    changed = set()
    for arm in lab.LAF | lab.RIVALS:
        nets = [lab.unlearned(net, hs, w, TASK, arm, value * 1e-3, 3) for w in (world, shuffled)]
        if not torch.equal(*map(weights, nets)):
            changed.add(arm)
        assert not torch.equal(weights(nets[0]), weights(net)), arm
    return changed


def test_only_arms_with_true_labels_depend_on_labels(lab):
    assert without_labels(lab) == {"ascent, true labels", "fine-tuning, true labels"}


def test_arms_of_laf_get_the_published_rates_times_their_factor(lab):
    world, net = small_world(lab)
    seen = []
    vars(lab)["laf"] = lambda net, *rest: seen.append(rest)
    for arm in lab.LAF:
        lab.unlearned(net, ("h", "h_f"), world, TASK, arm, 10, 3)
    rates = dict(zip(lab.LAF, [one[3] for one in seen], strict=True))
    both = pytest.approx([5e-4, 1e-3])
    assert rates["LAF"] == rates["LAF, published rates"] == rates["LAF, linear decoder"] == both
    assert rates["only L_UE"] == pytest.approx([5e-4, 0])
    assert rates["only L_RA"] == pytest.approx([0, 1e-3])
    assert {one[:2] for one in seen} == {("h", "h_f")}
    assert {one[4] for one in seen} == {TASK["kappa"]}


def test_all_arms_see_the_same_pairs_and_start_alike(lab):
    world, net = small_world(lab)
    seen, start = [], weights(net)
    vars(lab)["laf"] = lambda net, h, g, pairs, *rest: seen.append((weights(net), list(pairs)))
    vars(lab)["relearn"] = lambda net, world, pairs, *rest: seen.append(
        (weights(net), [(world.x[kept], world.x[gone]) for kept, gone in pairs])
    )
    for arm in lab.LAF | lab.RIVALS:
        lab.unlearned(net, (0, 0), world, TASK, arm, 1e-3, 3)
    for begin, pairs in seen:
        assert torch.equal(begin, start)
        assert len(pairs) == lab.S.num_pairs
        for one, other in zip(pairs, seen[0][1], strict=True):
            assert torch.equal(one[0], other[0])
            assert torch.equal(one[1], other[1])
    assert torch.equal(weights(net), start), "the original stays as it was"


# --- what is measured ----------------------------------------------------------------------------


def hand_world():
    """Ten training and eight unseen rows of logits of three classes."""
    return types.SimpleNamespace(
        x=4 * randn(10, 3, seed=1), y=torch.arange(10) % 3, kept=torch.arange(6),
        gone=torch.arange(6, 10), unseen=4 * randn(8, 3, seed=2), unseen_y=torch.arange(8) % 3,
        concerned=torch.arange(8) % 3 == 1, staying=torch.arange(8) % 3 != 1,
    )  # fmt: skip


def test_the_five_numbers_are_those_of_scikit_learn(lab):
    w = hand_world()
    numbers, answers = lab.look_at(nn.Identity(), w)
    said, said_unseen = w.x.argmax(1), w.unseen.argmax(1)
    sure = np.concatenate([w.x[w.gone].softmax(1), w.unseen[w.concerned].softmax(1)]).max(1)
    member = [1] * 4 + [0] * int(w.concerned.sum())
    expected = {
        "kept train": accuracy_score(w.y[:6], said[:6]),
        "kept test": accuracy_score(w.unseen_y[w.staying], said_unseen[w.staying]),
        "forgotten train": accuracy_score(w.y[6:], said[6:]),
        "forgotten test": accuracy_score(w.unseen_y[w.concerned], said_unseen[w.concerned]),
        "attack": roc_auc_score(member, sure),
    }
    assert numbers == pytest.approx({name: 100 * value for name, value in expected.items()})
    assert torch.equal(answers, said[6:])


def test_a_network_that_has_diverged_is_measured_as_one_that_knows_nothing(lab):
    class Nan(nn.Module):
        def forward(self, x):
            return x * torch.nan

    numbers, answers = lab.look_at(Nan(), hand_world())
    assert numbers["attack"] == 50
    assert len(answers.unique()) == 1


def test_an_attack_on_images_that_were_never_trained_on_is_a_guess(lab):
    lab.S.per_class = 30
    found = []
    for seed in range(6):
        world = lab.draw(seed, WHOLE | {"share": 0.9}, "test")
        net = lab.fit(world, world.kept, lab.lab.streams(seed))
        found.append(lab.look_at(net, world)[0]["attack"])
    assert np.mean(found) == pytest.approx(50, abs=5)


class Shift(nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, x):
        return x.roll(self.by, 1)


def test_the_gap_is_the_mean_distance_to_the_retrained_network(lab):
    w = hand_world()
    aim, wanted = lab.look_at(Shift(0), w)
    found, said = lab.look_at(Shift(1), w)
    row = lab.compared(Shift(1), 0.5, aim, wanted, w)
    gaps = [abs(found[name] - aim[name]) for name in found]
    assert row["gap"] == pytest.approx(sum(gaps) / 5)
    assert row["gap"] > abs(sum(found[name] - aim[name] for name in found)) / 5
    assert row["agreement"] == 100 * (said == wanted).double().mean()
    assert {name: row[name] for name in found} == found
    assert row["seconds"] == 0.5
    same = lab.compared(Shift(0), 0.5, aim, wanted, w)
    assert (same["gap"], same["agreement"]) == (0, 100)


# --- a job ---------------------------------------------------------------------------------------

EVERY = {"LAF": [(2,), (5,)], "only L_RA": [(5,)], "LAF, linear decoder": [(2,)],
         "second choice": [(1e-3,)], "retrained": [()]}  # fmt: skip


def watched_run(lab, settings=EVERY, split="test"):
    """The rows of a job, and what it asked for: trainings, autoencoders, unlearnings."""
    calls = {"fit": [], "autoencoders": [], "unlearned": []}
    for name, kept in calls.items():
        whole = getattr(lab, name)

        def watch(*arguments, whole=whole, kept=kept):
            kept.append(arguments)
            return whole(*arguments)

        vars(lab)[name] = watch
    return lab.run(3, TASK, settings, split), calls


def test_a_job_measures_each_setting_beside_three_reference_networks(lab):
    rows, calls = watched_run(lab)
    wanted = {(arm, *s) for arm in EVERY for s in EVERY[arm]}
    assert set(rows) == wanted | {("original",), ("retrained again",)}
    sizes = [len(rows) for _, rows, _ in calls["fit"]]
    assert sizes == [100, 90, 90]
    world = calls["fit"][0][0]
    for _, rows_trained_on, _ in calls["fit"][1:]:
        assert torch.equal(rows_trained_on, world.kept)
    assert [decoder for _, _, decoder, _ in calls["autoencoders"]] == ["sigmoid", "linear"]
    for original, hs, _, task, arm, *_ in calls["unlearned"]:
        assert original is calls["unlearned"][0][0]
        assert task is TASK
        if lab.LAF.get(arm, (0,))[0]:
            assert isinstance(hs[0].last, nn.Identity if "linear" in arm else nn.Sigmoid)


def test_the_second_retrained_network_is_another_one(lab):
    rows, _ = watched_run(lab)
    assert rows["retrained",]["gap"] == 0
    assert rows["retrained again",]["gap"] > 0
    choosing, calls = watched_run(lab, split="validation")  # needs the first alone
    assert set(choosing) == set(rows) - {("retrained again",)}
    assert len(calls["fit"]) == 2


def test_a_job_is_repeated_bit_for_bit(lab):
    first, second = (lab.run(3, TASK, EVERY, "test") for _ in range(2))
    for key, row in first.items():
        assert {k: v for k, v in row.items() if k != "seconds"} == {
            k: v for k, v in second[key].items() if k != "seconds"
        }


def test_seconds_of_laf_count_its_autoencoders(lab):
    clock = iter(range(1000))
    vars(lab)["process_time"] = lambda: next(clock)  # every call takes one second
    rows, _ = watched_run(lab)
    seconds = {key: row["seconds"] for key, row in rows.items()}
    assert seconds["LAF", 2] == seconds["LAF", 5] == seconds["LAF, linear decoder", 2] == 2
    assert seconds["only L_RA", 5] == seconds["second choice", 1e-3] == 1
    assert seconds["retrained",] == 1


def test_the_score_of_a_setting_is_minus_its_gap(lab):
    rows = lab.run(3, TASK, EVERY, "validation")
    scores = lab.closeness(3, TASK, EVERY, "validation")
    assert scores == {key: -row["gap"] for key, row in rows.items()}


# --- tuning and claims ---------------------------------------------------------------------------


def whole_source():
    cells = notebooks.code_cells(notebooks.read(notebooks.path("laf")))
    return "\n".join(cell["source"] for _, cell in cells)


def calls_of(source, name):
    """The arguments of each call of a function, as text."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [[*map(ast.unparse, n.args)] for n in nodes if ast.unparse(n.func) == name]


def check_calls(source):
    tuned, measured = calls_of(source, "tune"), calls_of(source, "measure")
    assert [call[1] for call in tuned] == ["closeness"] * 2
    assert [call[2] for call in tuned] == ["{'class': TUNED_ON['class']}", "others"]
    assert [call[3] for call in tuned] == ["GRIDS", "FEWER"]
    assert [call[-1] for call in tuned] == ["S.tuning_seeds", "S.tuning_seeds[:2]"]
    assert [call[1:3] for call in measured] == [["run", "PLACES"], ["run", "near_far"]]
    assert [call[-2:] for call in measured] == [
        ["lab.seeds", "'test'"], ["lab.seeds[:3]", "'test'"],
    ]  # fmt: skip
    assert "others = {name: TUNED_ON[name] for name in" in source


def test_settings_are_chosen_on_the_extra_draws_and_results_are_of_the_others():
    check_calls(whole_source())


@pytest.mark.parametrize("profile", ["smoke", "small"])
def test_extra_draws_are_no_draws_of_the_results(profile):
    settings = technique.settings("laf", profile)
    assert min(settings["tuning_seeds"]) >= 1000 > settings["num_seeds"]


def test_settings_are_chosen_where_other_classes_are_forgotten(lab):
    for name in lab.PLACES:
        shown, tuned = lab.PLACES[name], lab.TUNED_ON[name]
        concerned, others = ({c for g in p["groups"] for c in g} for p in (shown, tuned))
        assert not concerned & others
        assert shown | {"groups": 0} == tuned | {"groups": 0}
    shares = {name: place["share"] for name, place in lab.PLACES.items()}
    assert shares == {"class": 1.0, "wrong labels": 0.6, "random": 0.4}
    assert {n: p["kappa"] for n, p in lab.PLACES.items()} == {
        "class": 20, "wrong labels": 20, "random": 5,
    }  # fmt: skip
    assert [name for name, place in lab.PLACES.items() if place.get("wrong")] == ["wrong labels"]


def test_every_arm_chooses_among_equally_many_settings(lab):
    assert {arm: len(grid) for arm, grid in lab.GRIDS.items()} == dict.fromkeys(lab.GRIDS, 2)
    assert set(lab.LAF | lab.RIVALS) - set(lab.GRIDS) == {"LAF, published rates", "only L_UE"}
    assert set(lab.GRIDS) - set(lab.FEWER) == {"LAF, linear decoder"}
    small = technique.settings("laf", "small")
    assert len(small["factors"]) == len(small["rates"])


def test_an_arm_is_read_at_the_setting_of_its_place(lab):
    lab.chosen.update({"x": {"A": [(1,)], "B": [(2,)]}, "y": {"A": [(3,)]}})
    row = {"gap": 7.0, "attack": 1.0}
    lab.results.update(
        x={("A", 1): [row, row | {"gap": 8.0}], ("A", 3): [{"gap": 0}], ("B", 2): [{"gap": 1}]},
        y={("A", 3): [{"gap": 5}], ("original",): [{"gap": 6}]},
    )
    assert lab.per_seed("x", "A", "gap").tolist() == [7, 8]
    assert lab.per_seed("x", "B", "gap").tolist() == [1]
    assert lab.per_seed("y", "A", "gap").tolist() == [5]
    assert lab.per_seed("y", "original", "gap").tolist() == [6]
