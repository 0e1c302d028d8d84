"""LOOK's losses, queue and experiment, against independent references.

Tests that take a module as their argument are also handed modules with a mistake in them, by
test_look_mutations.py.
"""

import math
import types

import no_wait
import numpy as np
import pytest
import stand_in
import torch
import torch.nn.functional as F
from sklearn.neighbors import KNeighborsClassifier

from labutils import augment, data, training
from press import technique

TAGS = ("technique", "experiment")
SETTINGS = technique.settings("look", "smoke") | {"queue": 96, "num_steps": 4}


def given(**changes):
    return {"lab": stand_in.lab(), "S": types.SimpleNamespace(**SETTINGS | changes)}


@pytest.fixture
def lab():
    return technique.load("look", tags=TAGS, given=given())


def images(seed=0, n=40, d=6, groups=4):
    """Unit features (n, d), labels (n,), owners (n,); float64."""
    z = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(z), torch.arange(n) % groups, torch.arange(n)


def table(lab, seed=0, tau=0.1, **shape):
    z, labels, each = images(seed, **shape)
    return lab.compare(z, labels, each, (z, labels, each), tau)


# --- losses --------------------------------------------------------------------------------------


def test_with_equal_features_p_is_the_share_of_positives(lab):
    z, labels, each = torch.ones(40, 1, dtype=torch.float64), torch.arange(40) % 4, torch.arange(40)
    s, positive = lab.compare(z, labels, each, (z, labels, each), 0.1)
    assert lab.nca(s, positive).numpy() == pytest.approx(1.466337068793427)


def test_look_equals_a_slow_loop_with_sorted(lab):
    z, labels, each = images()
    for tau, k in ((0.1, 3), (0.5, 7), (1.0, 39)):
        found = lab.look(*lab.compare(z, labels, each, (z, labels, each), tau), k)
        for i in range(len(z)):
            others = [(float(z[i] @ z[j]), j) for j in range(len(z)) if j != i]
            near = sorted(others, reverse=True)[:k]
            votes = sum(math.exp(s / tau) for s, _ in near)
            right = sum(math.exp(s / tau) for s, j in near if labels[j] == labels[i])
            expected = -math.log(right / votes) if right else math.inf
            assert found[i].item() == pytest.approx(expected)


def test_p_is_the_vote_of_sklearns_weighted_neighbours(lab):
    z, labels, each = images(1)
    tau, k = 0.3, 8
    found = lab.look(*lab.compare(z, labels, each, (z, labels, each), tau), k)
    for i in range(len(z)):
        rest = each != i
        model = KNeighborsClassifier(k, metric="cosine", weights=lambda d: np.exp((1 - d) / tau))
        model.fit(z[rest].numpy(), labels[rest].numpy())
        p = model.predict_proba(z[i : i + 1].numpy())[0, labels[i]]
        assert math.exp(-found[i]) == pytest.approx(p)


def test_with_all_others_as_neighbours_look_is_nca(lab):
    s, positive = table(lab)
    assert torch.allclose(lab.look(s, positive, 39), lab.nca(s, positive), rtol=1e-13)


def test_one_label_costs_nothing_and_labels_that_all_differ_cost_infinitely_much(lab):
    assert (table(lab, groups=1)[1].sum(1) == 39).all()
    assert lab.look(*table(lab, groups=1), 5).tolist() == [0.0] * 40
    assert lab.look(*table(lab, groups=40), 5).isinf().all()


def two_heaps_a_class(lab):
    heaps = torch.eye(4, dtype=torch.float64).repeat_interleave(5, 0)
    labels, each = torch.arange(20) // 10, torch.arange(20)
    return lab.compare(heaps, labels, each, (heaps, labels, each), 0.1)


def test_two_heaps_a_class_are_fine_for_look_and_not_for_supcon(lab):
    s, positive = two_heaps_a_class(lab)
    assert lab.look(s, positive, 4).abs().max() < 1e-12
    every = lab.look(s, positive, 19).mean().item()
    others = 4 * math.exp(10) + 5, 4 * math.exp(10) + 15
    assert every == pytest.approx(math.log(others[1] / others[0]))
    assert lab.supcon(s, positive).mean().item() == pytest.approx(
        -(4 * 10 + 5 * 0) / 9 + math.log(others[1])
    )
    assert lab.supcon(s, positive).mean() > 3 * math.log(9)


def test_supcon_equals_a_slow_loop(lab):
    z, labels, each = images(2, n=24)
    found = lab.supcon(*lab.compare(z, labels, each, (z, labels, each), 0.2))
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        total = sum(math.exp(z[i] @ z[a] / 0.2) for a in others)
        same = [j for j in others if labels[j] == labels[i]]
        terms = [math.log(math.exp(z[i] @ z[j] / 0.2) / total) for j in same]
        assert found[i].item() == pytest.approx(-sum(terms) / len(terms))


def test_supcon_is_at_least_nca_and_the_logarithm_of_the_number_of_positives(lab):
    for seed in range(20):
        s, positive = table(lab, seed, tau=0.1 + 0.1 * seed)
        slack = lab.supcon(s, positive) - lab.nca(s, positive) - positive.sum(1).log()
        assert slack.min() > 0


def test_the_gradient_is_that_of_the_page(lab):
    s = torch.randn(5, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    s.requires_grad_()
    positive = torch.arange(12).expand(5, -1) % 3 == 0
    (slope,) = torch.autograd.grad(lab.look(s, positive, 12).sum(), s)
    w = s.softmax(1)
    p = (w * positive).sum(1, keepdim=True)
    assert torch.allclose(slope, torch.where(positive, w * (1 - 1 / p), w))


def test_a_rotation_and_another_order_change_nothing(lab):
    z, labels, each = images(4)
    turn = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    bank = z[order] @ turn, labels[order], each[order]
    found = lab.look(*lab.compare(z @ turn, labels, each, bank, 0.1), 6)
    assert torch.allclose(found, lab.look(*table(lab, 4), 6))


def test_images_beyond_the_k_nearest_do_not_exist(lab):
    def outcome(far):
        s = torch.tensor([[0.9, 0.8, 0.7, far, far]], requires_grad=True)
        loss = lab.look(s, torch.tensor([[True, False, True, True, False]]), 3)
        return loss.item(), *torch.autograd.grad(loss, s)

    (loss, slope), (other, another) = outcome(0.1), outcome(-0.6)
    assert loss == other
    assert torch.equal(slope, another)
    assert (slope[0, 3:] == 0).all()


def test_an_images_own_keys_are_never_among_its_neighbours(lab):
    """A bank with two views of everything: only those of others count, for either label."""
    z, labels, each = images(5, n=20)
    bank = torch.cat([z, z]), labels.repeat(2), each.repeat(2)
    s, positive = lab.compare(z, labels, each, bank, 0.1)
    own = each[:, None] == bank[2]
    assert s[own].isinf().all()
    assert not positive[own].any()
    assert s[~own].isfinite().all()
    assert torch.allclose(lab.nca(s, positive), lab.nca(*table(lab, 5, n=20)))


def test_more_neighbours_than_the_bank_has_are_refused(lab):
    with pytest.raises(RuntimeError, match="index k out of range"):
        lab.look(*table(lab), 41)


def test_dead_images_give_no_gradient_and_the_others_their_mean(lab):
    z, labels, each = images(6, n=12)
    labels[0] = 9  # alone
    z.requires_grad_()
    losses = lab.look(*lab.compare(z, labels, each, (z.detach(), labels, each), 0.5), 11)
    assert losses.isinf().tolist() == [True] + [False] * 11
    mean = lab.mean_of_living(losses)
    assert mean.item() == pytest.approx(losses[1:].mean().item())
    (slope,) = torch.autograd.grad(mean, z)
    assert slope.isfinite().all()
    assert (slope[0] == 0).all()
    assert (slope[1:].norm(dim=1) > 0).all()
    assert lab.mean_of_living(torch.tensor([math.inf, math.inf])) == 0


# --- the queue -----------------------------------------------------------------------------------


def test_the_queue_holds_the_last_keys_in_their_order(lab):
    queue = [torch.zeros(6, 2), torch.zeros(6, dtype=torch.long)]
    places = [part.data_ptr() for part in queue]
    for step in range(5):
        new = torch.arange(2 * step, 2 * step + 2)
        lab.push(queue, (torch.stack([new, -new], 1).float(), new))
        if step == 1:
            assert queue[1].tolist() == [0, 0, 0, 1, 2, 3]
    assert queue[1].tolist() == [4, 5, 6, 7, 8, 9]
    assert queue[0].tolist() == [[n, -n] for n in range(4, 10)]
    assert [part.data_ptr() for part in queue] == places


def test_the_slow_network_follows_and_its_keys_enter_with_length_one(lab):
    slow, net = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    expected = 0.9 * slow.weight.detach() + 0.1 * net.weight.detach()
    queue = [torch.zeros(4, 2), torch.zeros(4).long(), torch.zeros(4).long()]
    x = torch.randn(2, 3)
    lab.refresh(slow, net, queue, x, torch.tensor([5, 6]), torch.tensor([7, 8]), 0.9)
    assert torch.allclose(slow.weight, expected)
    assert torch.allclose(queue[0][2:], F.normalize(slow(x)))
    assert not queue[0].requires_grad
    assert [part.tolist() for part in queue[1:]] == [[0, 0, 5, 6], [0, 0, 7, 8]]


# --- a draw --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world():
    return technique.load("look", tags=TAGS, given=given()).draw(3)


def test_a_draw_has_different_images_each_step_and_two_views_of_each(lab):
    world = lab.draw(3)
    rows, half = world.rows, SETTINGS["batch_size"]
    assert rows.shape == (4, half)
    assert len(rows.unique()) == rows.numel()  # less than an epoch
    assert world.views.shape == (4, 2 * half, 1, 28, 28)
    pictures = world.dataset.train.images[rows].float()
    first, second = world.views[:, :half].float(), world.views[:, half:].float()
    assert (first != second).any((2, 3, 4)).all()
    for view in (first, second):  # a view is nearer to its image than to another
        own = (view - pictures).abs().mean((2, 3, 4))
        other = (view - pictures.roll(1, 1)).abs().mean((2, 3, 4))
        assert (own < other).double().mean() > 0.75
    assert torch.equal(lab.draw(3).views, world.views)
    assert not torch.equal(lab.draw(4).rows, rows)


def test_longer_training_begins_another_epoch():
    short = technique.load("look", tags=TAGS, given=given(num_steps=60)).draw(3)
    n = len(short.dataset.train)
    order = short.rows.flatten()
    assert len(order) > n
    assert len(order[:n].unique()) == n


# --- arms ----------------------------------------------------------------------------------------


def outputs(n=12):
    """Outputs of a network for n images in two views, labels and owners of the views."""
    z = 3 * torch.randn(2 * n, 5, generator=torch.Generator().manual_seed(8))
    return z, (torch.arange(n) % 3).repeat(2), torch.arange(n).repeat(2)


def test_simclr_is_the_loss_of_the_chapter_and_knows_no_label(lab):
    z, _, owners = outputs()
    found = lab.losses_of("SimCLR", torch.nn.Identity(), z, None, owners, None, 0.3, None)
    expected = technique.load("simclrv2").nt_xent_loss(*z.chunk(2), 0.3)
    assert torch.allclose(found.mean(), expected)


def test_supcon_counts_the_other_view_and_look_does_not(lab):
    z, _, owners = outputs()
    alone = owners  # every image its own label: the other view is the only positive
    found = lab.losses_of("SupCon", torch.nn.Identity(), z, alone, owners, None, 0.3, None)
    expected = technique.load("simclrv2").nt_xent_loss(*z.chunk(2), 0.3)
    assert torch.allclose(found.mean(), expected)
    found = lab.losses_of("LOOK, batch", torch.nn.Identity(), z, alone, owners, None, 0.3, 22)
    assert found.isinf().all()


def test_look_and_nca_ask_the_queue_and_lengths_do_not_matter(lab):
    z, labels, owners = outputs()
    keys, key_labels, key_owners = images(9, n=30, d=5, groups=3)
    queue = keys.float(), key_labels, key_owners + 6  # some of them are own keys
    for arm, k in (("LOOK", 4), ("NCA", None), ("LOOK", 24)):
        found = lab.losses_of(arm, torch.nn.Identity(), z, labels, owners, queue, 0.3, k)
        s = F.normalize(z) @ queue[0].T / 0.3
        for i, row in enumerate(s.tolist()):
            rest = [(v, labels[i] == queue[1][j]) for j, v in enumerate(row)
                    if owners[i] != queue[2][j]]  # fmt: skip
            near = sorted(rest, key=lambda pair: -pair[0])[:k]
            right = sum(math.exp(v) for v, same in near if same)
            p = right / sum(math.exp(v) for v, _ in near)
            assert found[i].item() == pytest.approx(-math.log(p) if p else math.inf, rel=1e-4)
        longer = lab.losses_of(arm, torch.nn.Identity(), 7 * z, labels, owners, queue, 0.3, k)
        assert torch.allclose(found, longer, atol=1e-5)


def test_cross_entropy_is_that_of_torch(lab):
    z, labels, owners = outputs()
    for arm in ("cross-entropy", "cross-entropy + head"):
        found = lab.losses_of(arm, torch.nn.Identity(), z, labels, owners, None, None, None)
        assert torch.allclose(found.mean(), F.cross_entropy(z, labels))


def handed(lab, arm, world, groups=None):
    """What `pretrain` hands to `labutils.training.train`, with the weights at the start."""
    seen = {}

    def train(net, step_loss, num_steps, optimizer, learning_rate, **options):
        state = {name: value.clone() for name, value in net.state_dict().items()}
        seen.update(options, net=net, step_loss=step_loss, num_steps=num_steps, start=state)
        seen.update(optimizer=optimizer, rates=[learning_rate(k) for k in range(num_steps + 1)])
        return training.History(torch.zeros(num_steps))

    vars(lab)["train"] = train
    groups = lab.GROUPS if groups is None else groups
    seen["result"] = lab.pretrain(arm, world, groups, 0.2, 0.3, 10)
    return seen


def test_all_arms_have_the_same_start_views_steps_optimiser_and_head(lab, world):
    arms_are_treated_alike(lab, world)


def arms_are_treated_alike(lab, world):
    seen = {arm: handed(lab, arm, world) for arm in lab.KNOBS}
    first, headless = seen["LOOK"], ("cross-entropy", "ceiling")
    for arm, one in seen.items():
        for name, value in first["start"].items():
            if "classifier" not in name or ("classifier.0" in name and arm not in headless):
                assert torch.equal(one["start"][name], value), (arm, name)
        assert one["num_steps"] == 4
        assert one["inputs"][0] is world.rows
        assert one["inputs"][1] is world.views
        group = one["optimizer"].param_groups[0]
        assert (group["momentum"], group["weight_decay"]) == (0.9, 5e-4)
        assert one["rates"] == pytest.approx(first["rates"])
        assert one["rates"][0] == pytest.approx(0.2)
        assert one["rates"][-1] == pytest.approx(0)
        widths = {"cross-entropy": [4], "cross-entropy + head": [64, 4], "ceiling": [10]}
        found = [p.shape[0] for p in one["net"].classifier.parameters() if p.ndim == 2]
        assert found == widths.get(arm, [64, 64]), arm


def test_the_ten_classes_are_never_seen_upstream(lab, world):
    """Classes exchanged within their groups leave every weight as it is; for SimCLR, all labels."""
    exchange = torch.tensor([6, 1, 4, 0, 2, 9, 3, 5, 8, 7])
    assert torch.equal(lab.GROUPS[exchange], lab.GROUPS)
    train = world.dataset.train
    for arm in ("LOOK", "SupCon", "cross-entropy + head", "LOOK, batch", "SimCLR"):
        labels = exchange[train.labels]
        if arm == "SimCLR":
            labels = torch.zeros_like(labels)
        other = types.SimpleNamespace(
            seed=3, rows=world.rows, views=world.views, moments=world.moments,
            dataset=types.SimpleNamespace(train=data.Images(train.images, labels)),
        )  # fmt: skip
        one, two = (lab.pretrain(arm, w, lab.GROUPS, 0.1, 0.3, 10)[0] for w in (world, other))
        for a, b in zip(one.parameters(), two.parameters(), strict=True):
            assert torch.equal(a, b), arm


@pytest.mark.parametrize("arm", ["LOOK", "NCA"])
def test_before_the_first_step_the_queue_is_full_and_a_step_adds_its_second_views(lab, world, arm):
    step_fills_the_queue(lab, world, arm)


def step_fills_the_queue(lab, world, arm="LOOK"):
    entered, refresh = [], lab.refresh

    def watch(slow, net, queue, x, labels, owners, momentum):
        refresh(slow, net, queue, x, labels, owners, momentum)
        entered.append((x, labels, owners, momentum, [part.clone() for part in queue]))

    vars(lab)["refresh"] = watch
    seen = handed(lab, arm, world)
    batch, labels = SETTINGS["batch_size"], lab.GROUPS[world.dataset.train.labels]
    assert len(entered) == SETTINGS["queue"] // batch
    assert entered[-1][4][2].tolist() == world.rows[: SETTINGS["queue"] // batch].flatten().tolist()
    seen["step_loss"](world.rows[3], world.views[3])
    x, y, owners, momentum, queue = entered[-1]
    assert torch.equal(x, augment.normalise(world.views[3, batch:], *world.moments))
    assert torch.equal(owners, world.rows[3])
    assert torch.equal(y, labels[world.rows[3]])
    assert momentum == 0.99
    assert queue[2].tolist() == world.rows[1:4].flatten().tolist()
    assert torch.equal(queue[1], labels[queue[2]])
    assert torch.allclose(queue[0].norm(dim=1), torch.ones(SETTINGS["queue"]))


def test_the_loss_of_a_step_is_the_mean_over_its_living_views(lab, world):
    rows, half = world.rows[2], SETTINGS["batch_size"]
    seen = handed(lab, "LOOK, batch", world)
    labels = lab.GROUPS[world.dataset.train.labels[rows]].repeat(2)
    z = F.normalize(seen["net"](augment.normalise(world.views[2], *world.moments)))
    bank = z, labels, rows.repeat(2)
    losses = lab.look(*lab.compare(z, labels, rows.repeat(2), bank, 0.3), 10)
    assert len(losses) == 2 * half
    found = seen["step_loss"](rows, world.views[2])
    assert found.item() == pytest.approx(losses[losses.isfinite()].mean().item(), rel=1e-5)


@pytest.mark.parametrize("arm", ["LOOK", "SupCon", "SimCLR", "LOOK, batch"])
def test_a_step_never_waits_for_the_host(lab, world, arm):
    seen = handed(lab, arm, world)

    def step():
        seen["optimizer"].zero_grad()
        seen["step_loss"](world.rows[0], world.views[0]).backward()
        seen["optimizer"].step()

    no_wait.check(step)


def test_dead_images_are_counted_in_every_step(lab, world):
    _, dead = lab.pretrain("LOOK", world, torch.arange(10), 0.1, 0.3, 1)
    assert len(dead) == SETTINGS["num_steps"]
    assert all(0 < share < 0.9 for share in dead)
    assert max(lab.pretrain("NCA", world, lab.GROUPS, 0.1, 0.3)[1]) == 0


# --- what is measured ----------------------------------------------------------------------------


def test_twenty_neighbours_vote_by_cosine(lab):
    z, labels, _ = images(10, n=160, d=5, groups=3)
    z = z * torch.linspace(0.1, 9, 160, dtype=torch.float64)[:, None]  # lengths do not matter
    known, asked, truth = z[:100], z[100:], labels[100:]
    near = (F.normalize(asked) @ F.normalize(known).T).topk(20).indices
    votes = F.one_hot(labels[:100][near], 3).sum(1)
    expected = 100 * (votes.argmax(1) == truth).double().mean().item()
    assert lab.right_by_neighbours(known, labels[:100], asked, truth) == pytest.approx(expected)


def test_variance_inside_is_what_analysis_of_variance_says(lab):
    z, groups, _ = images(11, n=60)
    means = torch.stack([z[groups == g].mean(0) for g in range(4)])
    between = (means[groups] - z.mean(0)).square().sum()
    total = (z - z.mean(0)).square().sum()
    assert lab.inside(5 * z, groups) == pytest.approx(100 * (1 - between / total).item())
    assert lab.inside(torch.eye(4)[groups], groups) == pytest.approx(0)
    assert lab.inside(z, torch.zeros(60)) == pytest.approx(100)


def test_validation_tells_the_four_groups_and_never_looks_at_test_images(lab, world):
    encoder, _ = lab.pretrain("untrained", world, lab.GROUPS)
    parts = {"train": world.dataset.train, "validation": world.dataset.validation}
    blind = types.SimpleNamespace(**parts)
    blind = types.SimpleNamespace(seed=3, dataset=blind, moments=world.moments)
    assert set(lab.evaluate(encoder, blind, "validation")) == {"four groups"}
    found = lab.evaluate(encoder, world, "test")
    assert {"ten classes", "four groups", "inside", "digits", "probe, 3"} <= set(found)
    assert found["ten classes"] < found["four groups"] < 100
    assert set(found["kinds"]) == {5, 7, 9}


def test_raw_pixels_are_the_pixels(lab, world):
    net, dead = lab.pretrain("raw pixels", world, lab.GROUPS)
    assert dead is None
    known, asked = SETTINGS["asked"]
    train, test = world.dataset.train, world.dataset.test
    kept = torch.randperm(len(train), generator=torch.Generator().manual_seed(3))[:known]
    pairs = (train.images, kept), (test.images, slice(0, asked))
    rows = [augment.normalise(p[k], *world.moments).flatten(1) for p, k in pairs]
    expected = lab.right_by_neighbours(rows[0], train.labels[kept], rows[1], test.labels[:asked])
    assert lab.evaluate(net, world, "test")["ten classes"] == pytest.approx(expected)


def test_the_probe_and_the_digits_are_told_their_labels(lab, world):
    found = lab.evaluate(*lab.pretrain("raw pixels", world, lab.GROUPS)[:1], world, "test")
    assert found["probe, 10"] > 40
    assert found["digits"] > 90


# --- tuning --------------------------------------------------------------------------------------

WIDE = {"rates": [0.03, 0.1, 0.3], "taus": [0.1, 0.3, 1.0], "ks": [10, 50, 200]}
BEST = {"cross-entropy": (0.3,), "SupCon": (0.1, 1.0), "LOOK": (0.03, 0.1, 200)}


def watch_scores(lab):
    """`score` becomes best at BEST on validation images, and elsewhere on test images."""
    calls = []

    def score(seed, groups, settings, split):
        calls.append((seed, settings, split))
        sign = 1 if split == "validation" else -1
        found = {}
        for arm in settings:
            for setting in settings[arm]:
                best = BEST.get(arm, setting)
                gap = sum(abs(math.log(a / b)) for a, b in zip(setting, best, strict=True))
                found[arm, *setting] = 90 - sign * gap + seed / 1e6
        return found

    vars(lab)["score"] = score
    return calls


@pytest.fixture
def wide():
    return technique.load("look", tags=TAGS, given=given(**WIDE))


def test_settings_are_the_best_on_validation_images_of_the_extra_draws(wide):
    calls = watch_scores(wide)
    chosen = wide.choose()
    assert {arm: chosen[arm] for arm in BEST} == {arm: [best] for arm, best in BEST.items()}
    assert {split for _, _, split in calls} == {"validation"}
    assert {seed for seed, _, _ in calls} == set(SETTINGS["tuning_seeds"])


def test_every_arm_tries_as_many_rates_and_as_many_temperatures(wide):
    calls = watch_scores(wide)
    wide.choose()
    for arm in wide.KNOBS:
        tried = [s for _, settings, _ in calls for s in settings[arm]]
        taus = set(WIDE["taus"]) if len(tried[0]) > 1 else set()
        assert {setting[0] for setting in tried} == set(WIDE["rates"]), arm
        assert {tau for _, *rest in tried for tau in rest[:1]} == taus, arm
    ks = {s[2] for _, settings, _ in calls for s in settings["LOOK"]}
    assert ks == set(WIDE["ks"])
    assert {arm for arm, knobs in wide.KNOBS.items() if knobs == [()]} == {
        "cross-entropy", "cross-entropy + head", "ceiling"
    }  # fmt: skip


@pytest.mark.parametrize("profile", ["smoke", "small"])
def test_extra_draws_are_no_draws_of_the_results(profile):
    settings = technique.settings("look", profile)
    assert min(settings["tuning_seeds"]) >= 1000 > settings["num_seeds"]


def test_a_score_is_a_number_in_tuning_and_qualities_in_results(lab):
    settings = {"raw pixels": [()], "cross-entropy": [(0.1,)]}
    found = lab.score(0, lab.GROUPS, settings, "validation")
    assert set(found) == {("raw pixels",), ("cross-entropy", 0.1)}
    assert all(0 < value <= 100 for value in found.values())
    found = lab.score(0, lab.GROUPS, {"cross-entropy": [(0.1,)]}, "test")
    assert len(found["cross-entropy", 0.1]["dead"]) == SETTINGS["num_steps"]


# --- claims --------------------------------------------------------------------------------------


def test_claims_are_those_that_were_fixed(lab):
    found = {name: row for name, _, *row in lab.CLAIMS}
    ten, ce = "ten classes", "cross-entropy"
    assert list(found.items()) == [
        ("look-transfers-better-than-ce", ["LOOK", ce, ten, "paper"]),
        ("look-beats-ce-with-head", ["LOOK", f"{ce} + head", ten, "ours"]),
        ("look-beats-supcon", ["LOOK", "SupCon", ten, "paper"]),
        ("look-beats-self-supervision", ["LOOK", "SimCLR", ten, "paper"]),
        ("truncation-matters", ["LOOK", "NCA", ten, "ours"]),
        ("more-variance-inside", ["LOOK", ce, "inside", "paper"]),
        ("head-helps", [f"{ce} + head", ce, ten, "ours"]),
        ("pixels-beat-look", ["raw pixels", "LOOK", ten, "ours"]),
    ]
