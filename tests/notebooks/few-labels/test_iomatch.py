"""The technique and the experiment of the lab on IOMatch against independent references.

Tests that take the lab's module as their argument are also handed modules with a mistake in them,
by test_iomatch_mutations.py.
"""

import copy
import math
import types

import no_wait
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from torch import nn
from torch.nn import functional as F

from labutils import data
from labutils.start import Lab
from press import technique

TAGS = ("technique", "experiment")
CHOICE = (0.1, 0.3)  # rate, tau_p


def small_settings():
    """Those of `smoke`, shorter, with numbers that differ where a mix-up could hide."""
    s = types.SimpleNamespace(**technique.settings("iomatch", "smoke"))
    s.pool, s.labels, s.batch_sizes, s.num_steps = 200, (2, 3), (12, 18), 8
    s.rates, s.thresholds, s.cuts, s.num_seeds = (0.03, 0.1), (0.2, 0.3), (0.0, 0.25, 0.4), 2
    return s


class FakeLab:
    """What the experiment uses of a `labutils.start.Lab`."""

    device, seeds, streams = torch.device("cpu"), (0, 1), Lab.streams


def given():
    return {"lab": FakeLab(), "S": small_settings()}


@pytest.fixture
def lab():
    return technique.load("iomatch", tags=TAGS, given=given())


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def shares(n=40, classes=6, seed=0):
    """Random class shares p and detectors o, (n, classes), double precision."""
    drawn = 2 * torch.randn(2, n, classes, generator=generator(seed), dtype=torch.float64)
    return drawn[0].softmax(1), drawn[1].sigmoid()


def logits(b=5, n=9, classes=4, seed=0):
    """Outputs of a network for b labelled images and two views of n unlabelled ones; labels."""
    draw, rows = generator(seed), b + 2 * n
    sizes = (rows, classes), (rows, 2, classes), (rows, classes + 1)
    parts = [2 * torch.randn(*size, generator=draw, dtype=torch.float64) for size in sizes]
    return parts, torch.randint(classes, (b,), generator=draw)


# --- the technique --------------------------------------------------------------------------------


def test_fused_targets_sum_to_one(lab):
    for seed in range(20):
        q = lab.fuse(*shares(seed=seed))
        assert q.shape == (40, 7)
        assert (q >= 0).all()
        torch.testing.assert_close(q.sum(1), torch.ones(40, dtype=torch.float64))


def test_fused_targets_equal_a_loop_over_classes(lab):
    p, o = shares()
    for i, q in enumerate(lab.fuse(p, o).tolist()):
        expected = [p[i, k].item() * o[i, k].item() for k in range(6)]
        expected.append(sum(p[i, k].item() * (1 - o[i, k].item()) for k in range(6)))
        assert q == pytest.approx(expected, abs=1e-12)


def test_fused_targets_of_the_case_by_hand(lab):
    q = lab.fuse(torch.tensor([[0.7, 0.3]]), torch.tensor([[0.9, 0.2]]))
    assert q[0].tolist() == pytest.approx([0.63, 0.06, 0.31])


def test_detector_loss_equals_a_loop(lab):
    (_, pairs, _), y = logits(b=20)
    pairs, total = pairs[:20], 0.0
    for i, label in enumerate(y.tolist()):
        o = [1 / (1 + math.exp(out - into)) for out, into in zip(*pairs[i].tolist(), strict=True)]
        negatives = [math.log(1 - o[k]) for k in range(4) if k != label]
        total += -math.log(o[label]) - min(negatives)
    assert lab.detector_loss(pairs, y).item() == pytest.approx(total / 20, abs=1e-12)


def slow_terms(outputs, y, tau_p, tau_q):
    """L_ui and L_op image by image, from the paper's equations."""
    closed, pairs, opened = outputs
    b, n, found = len(y), (len(closed) - len(y)) // 2, []
    for i in range(n):
        p = closed[b + i].softmax(0)
        o = pairs[b + i].softmax(0)[1]
        s = sum(p[k] * (1 - o[k]) for k in range(len(p)))
        q = torch.stack([*(p * o), s])
        cross = [
            -(target * logits[b + n + i].log_softmax(0)).sum()
            for target, logits in ((p, closed), (q, opened))
        ]
        found.append((cross[0] * (p.max() > tau_p and s < 0.5), cross[1] * (q.max() > tau_q)))
    return [torch.stack(column) for column in zip(*found, strict=True)]


def test_terms_equal_the_equations_image_by_image(lab):
    used = []
    for seed in range(5):
        outputs, y = logits(seed=seed)
        l_s, l_mb, ui, op, p, q = lab.iomatch_terms(outputs, y, 0.6, 0.5)
        expected = slow_terms(outputs, y, 0.6, 0.5)
        torch.testing.assert_close(ui, expected[0])
        torch.testing.assert_close(op, expected[1])
        torch.testing.assert_close(l_s, F.cross_entropy(outputs[0][:5], y))
        torch.testing.assert_close(l_mb, lab.detector_loss(outputs[1][:5], y))
        torch.testing.assert_close(p, outputs[0][5:14].softmax(1))
        torch.testing.assert_close(q, lab.fuse(p, outputs[1][5:14].softmax(1)[:, 1]))
        used += [(ui > 0).double().mean(), (op > 0).double().mean()]
    assert 0 < sum(used[::2]) < 5  # the masks say yes to some and no to others
    assert 0 < sum(used[1::2]) < 5


def test_without_outliers_it_is_fixmatch_with_soft_targets(lab):
    outputs, y = logits()
    outputs[1][:, 0] = -2000.0  # o = 1
    _, _, ui, _, p, q = lab.iomatch_terms(outputs, y, 0.6, 0.5)
    assert torch.equal(q[:, :-1], p)
    assert (q[:, -1] == 0).all()
    soft = F.cross_entropy(outputs[0][14:], p, reduction="none") * (p.amax(1) > 0.6)
    assert torch.equal(ui, soft)


def test_where_all_detectors_say_outlier_nobody_is_an_inlier(lab):
    outputs, y = logits()
    outputs[1][:, 1] = -2000.0  # o = 0
    _, _, ui, op, _, q = lab.iomatch_terms(outputs, y, 0.0, 0.5)
    torch.testing.assert_close(q[:, -1], torch.ones(9, dtype=torch.float64))
    assert (ui == 0).all()
    torch.testing.assert_close(op, -outputs[2][14:].log_softmax(1)[:, -1])


def test_no_gradient_flows_into_the_targets(lab):
    outputs, y = logits()
    outputs = [part.requires_grad_() for part in outputs]
    _, _, ui, op, p, q = lab.iomatch_terms(outputs, y, 0.0, 0.0)
    assert not p.requires_grad
    assert not q.requires_grad
    closed, opened = torch.autograd.grad((ui + op).sum(), [outputs[0], outputs[2]])
    assert (closed[:14] == 0).all()
    assert (opened[:14] == 0).all()
    assert opened[14:].abs().sum() > 0
    assert closed[14:].abs().sum() > 0


def test_renaming_the_seen_classes_renames_the_targets_and_changes_no_loss(lab):
    outputs, y = logits()
    new = torch.tensor([2, 0, 3, 1])  # the place of each class
    old = new.argsort()
    other = [outputs[0][:, old], outputs[1][:, :, old], outputs[2][:, [*old.tolist(), 4]]]
    first, second = (
        lab.iomatch_terms(outputs, y, 0.5, 0.5),
        lab.iomatch_terms(other, new[y], 0.5, 0.5),
    )
    for a, b in zip(first[:4], second[:4], strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(first[5][:, [*old.tolist(), 4]], second[5])


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.classifier = nn.Linear(3, 8), nn.Linear(8, 4)

    def features(self, x):
        return self.body(x)


def test_heads_stand_where_the_paper_puts_them(lab):
    network, x = lab.OpenSetNetwork(Encoder(), 6, 5), torch.randn(7, 3, generator=generator())
    closed, pairs, opened = network(x)
    h = network.encoder.features(x)
    torch.testing.assert_close(closed, network.encoder.classifier(h))
    z = network.g(h)
    assert z.shape == (7, 5)
    assert [type(layer) for layer in network.g] == [nn.Linear, nn.ReLU, nn.Linear]
    torch.testing.assert_close(pairs.flatten(1), z @ network.chi.weight.T)  # no bias
    assert pairs.shape == (7, 2, 4)
    torch.testing.assert_close(opened, network.psi(z))
    assert opened.shape == (7, 5)


# --- data -----------------------------------------------------------------------------------------


def tiny_dataset(test_seed=1, sizes=(400, 0, 150)):
    """Noise around a picture of each of ten classes, so that there is something to learn."""
    splits, means = [], torch.randint(60, 196, (10, 1, 28, 28), generator=generator(9))
    for n, seed in zip(sizes, (0, 2, test_seed), strict=True):
        labels = (torch.arange(n) % 10)[torch.randperm(n, generator=generator(seed))]
        noise = torch.randint(-60, 60, (n, 1, 28, 28), generator=generator(seed))
        splits.append(data.Images((means[labels] + noise).to(torch.uint8), labels))
    return data.Dataset("tiny", *splits, tuple("abcdefghij"), (0.3,), (0.35,))


def numbered_dataset():
    """Every image is filled with its own number, so that views show who they are."""
    dataset = tiny_dataset(sizes=(250, 0, 20))
    dataset.train.images[:] = torch.arange(250, dtype=torch.uint8).view(-1, 1, 1, 1)
    return dataset


def identities(lab, patch):
    """Weak views show the image as it is, strong ones its negative."""
    patch.setattr(lab.augment, "pad_crop_flip", lambda images, *_: images)
    patch.setitem(vars(lab), "strong_augment", lambda images, *_: 255 - images)


def test_seen_classes_get_their_places_and_all_others_the_last(lab):
    labels = torch.arange(10)
    assert lab.relabel(labels, "near").tolist() == [0, 1, 6, 2, 6, 3, 6, 6, 4, 5]
    assert lab.relabel(labels, "far").tolist() == [0, 1, 2, 3, 4, 6, 5, 6, 6, 6]
    assert lab.relabel(labels, "no outliers").tolist() == lab.relabel(labels, "near").tolist()


def test_each_step_sees_distinct_images_and_each_labelled_one(lab):
    with pytest.MonkeyPatch.context() as patch:
        identities(lab, patch)
        dataset = numbered_dataset()
        indices = torch.arange(12) + 100
        batches, weak, strong = lab.views(dataset.train.images, indices, 12, lab.lab.streams(3))
    assert batches.sort(1).values.tolist() == [indices.tolist()] * 8
    assert weak.shape == strong.shape == (8, 12, 1, 28, 28)
    assert torch.equal(weak[:, :, 0, 0, 0].long(), batches)
    assert torch.equal(255 - strong[:, :, 0, 0, 0].long(), batches)


def test_labels_are_balanced_nested_and_of_the_pool(lab):
    with pytest.MonkeyPatch.context() as patch:
        identities(lab, patch)
        dataset, seen = numbered_dataset(), {}
        for split, count in (("near", 2), ("near", 3), ("far", 2)):
            draw = lab.load(dataset, 3, split, count)
            numbers = draw.x[0][:, :, 0, 0, 0].long()
            assert torch.equal(255 - draw.x[1][:, :, 0, 0, 0].long(), numbers)
            assert torch.equal(lab.relabel(dataset.train.labels[numbers], split), draw.y)
            seen[split, count] = set(numbers.unique().tolist())
            few = torch.tensor(sorted(seen[split, count]))
            counts = lab.relabel(dataset.train.labels[few], split).bincount(minlength=7)
            assert counts.tolist() == [count] * 6 + [0]
            pool = draw.weak[:, :, 0, 0, 0].long()
            assert torch.equal(255 - draw.strong[:, :, 0, 0, 0].long(), pool)
            assert pool.max() < 250
            assert torch.equal(draw.inlier, lab.relabel(dataset.train.labels[pool], split) < 6)
    assert seen["near", 2] < seen["near", 3]
    assert seen["near", 2] != seen["far", 2]


def test_a_draw_is_the_same_each_time_and_another_draw_another(lab):
    dataset = tiny_dataset()
    first, same, other = (lab.load(dataset, seed, "near", 2) for seed in (3, 3, 4))
    for name in ("weak", "strong", "y", "inlier", "coin"):
        assert torch.equal(getattr(first, name), getattr(same, name)), name
        assert not torch.equal(getattr(first, name), getattr(other, name)), name


def test_validation_images_are_neither_test_images_nor_of_the_pool(lab):
    dataset = numbered_dataset()
    with pytest.MonkeyPatch.context() as patch:
        identities(lab, patch)
        draw = lab.load(dataset, 3, "near", 2, "validation")
    numbers = set(draw.judged.images[:, 0, 0, 0].tolist())
    assert len(numbers) == 50
    assert not numbers & set(draw.weak[:, :, 0, 0, 0].unique().tolist())
    assert torch.equal(
        draw.judged.labels, dataset.train.labels[draw.judged.images[:, 0, 0, 0].long()]
    )
    assert lab.load(dataset, 3, "near", 2).judged is dataset.test


def test_a_pool_without_outliers_has_none(lab):
    dataset = tiny_dataset()
    assert not lab.load(dataset, 3, "near", 2).inlier.all()
    assert lab.load(dataset, 3, "no outliers", 2).inlier.all()


# --- arms -----------------------------------------------------------------------------------------

SEMI = ["FixMatch", "soft FixMatch", "filter", "random filter", "IOMatch", "IOMatch, tau_q .95"]
KNOWING = ["oracle filter", "IOMatch on inliers"]


def one_step(lab, arm, seed=0, tau_p=0.3, inlier=None, coin=None):
    """Loss of an arm on fixed outputs of a network of six classes; and these outputs."""
    outputs, y = logits(b=6, n=12, classes=6, seed=seed)
    x = torch.zeros(6, 1), torch.zeros(12, 1), torch.zeros(12, 1)
    if inlier is None:
        inlier = torch.arange(12) % 3 > 0
    if coin is None:
        coin = torch.rand(12, generator=generator(seed))

    def network(x):
        assert len(x) == 30  # all views in one pass
        return outputs

    return lab.step_loss(arm, network, x[0], y, *x[1:], inlier, coin, tau_p), outputs, y


def parts_of(lab, arm, **options):
    loss, outputs, y = one_step(lab, arm, **options)
    closed, p = outputs[0], outputs[0][6:18].softmax(1)
    hard = F.cross_entropy(closed[18:], p.argmax(1), reduction="none")
    soft = F.cross_entropy(closed[18:], p, reduction="none")
    terms = lab.iomatch_terms(outputs, y, options.get("tau_p", 0.3), 0.5)
    return loss, F.cross_entropy(closed[:6], y), hard, soft, p, terms


def test_fixmatch_is_the_one_of_the_chapter(lab):
    chapter = technique.load("fixmatch-saa")
    for seed in range(4):
        loss, outputs, y = one_step(lab, "FixMatch", seed=seed)
        expected, mask = chapter.fixmatch_loss(outputs[0][6:18], outputs[0][18:], 0.3)
        torch.testing.assert_close(loss, F.cross_entropy(outputs[0][:6], y) + expected)
    assert 0 < mask.sum() <= 12


def test_soft_fixmatch_differs_in_the_targets_alone(lab):
    loss, l_s, _, soft, p, _ = parts_of(lab, "soft FixMatch")
    torch.testing.assert_close(loss, l_s + (soft * (p.amax(1) > 0.3)).mean())


def test_the_oracle_filter_is_fixmatch_on_true_inliers(lab):
    loss, l_s, hard, _, p, _ = parts_of(lab, "oracle filter")
    used = (p.amax(1) > 0.3) & (torch.arange(12) % 3 > 0)
    torch.testing.assert_close(loss, l_s + (hard * used).mean())


def test_the_filter_is_iomatch_without_its_open_loss(lab):
    loss, *_, (l_s, l_mb, ui, op, _, _) = parts_of(lab, "filter")
    torch.testing.assert_close(loss, l_s + l_mb + ui.mean())
    whole = one_step(lab, "IOMatch")[0]
    torch.testing.assert_close(whole, loss + op.mean())
    inner = one_step(lab, "IOMatch on inliers")[0]
    torch.testing.assert_close(inner, loss + (op * (torch.arange(12) % 3 > 0)).mean())
    assert op.mean() > 0


def test_a_high_threshold_of_the_open_loss(lab):
    _, outputs, y = one_step(lab, "IOMatch")
    l_s, l_mb, ui, op, *_ = lab.iomatch_terms(outputs, y, 0.3, 0.95)
    loss = one_step(lab, "IOMatch, tau_q .95")[0]
    torch.testing.assert_close(loss, l_s + l_mb + ui.mean() + op.mean())


def test_the_random_filter_takes_as_many_sure_images_as_the_filter_by_lot(lab):
    sizes = []
    for seed in range(6):
        coin = torch.rand(12, generator=generator(seed + 50))
        options = {"seed": seed, "coin": coin, "tau_p": 0.6}
        loss, *_, soft, p, terms = parts_of(lab, "random filter", **options)
        sure = [i for i in range(12) if p[i].max() > 0.6]
        size = sum(bool(terms[5][i, -1] < 0.5) for i in sure)
        used = sorted(sure, key=lambda i: coin[i].item())[:size]
        expected = terms[0] + terms[1] + sum(soft[i] for i in used) / 12
        torch.testing.assert_close(loss, expected)
        sizes.append(0 < size < len(sure) < 12)
    assert any(sizes)


def test_the_supervised_arm_sees_labelled_images_alone(lab):
    draw = lab.load(tiny_dataset(), 3, "near", 2)
    before = lab.fit(draw, "supervised", CHOICE).state_dict()
    draw.weak, draw.strong = draw.strong, draw.weak * 0
    after = lab.fit(draw, "supervised", CHOICE).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    draw.x[0] = draw.x[0] * 0  # weak views of the labelled images
    weak = lab.fit(draw, "supervised", CHOICE).state_dict()
    assert all(torch.equal(before[name], weak[name]) for name in before)


def weights(lab, draw, arm, choice=CHOICE):
    network = lab.fit(draw, arm, choice)
    return torch.cat([w.flatten() for w in network.state_dict().values()])


def test_nobody_but_two_arms_learns_who_is_an_inlier(lab):
    draw = lab.load(tiny_dataset(), 3, "near", 2)
    blind = copy.copy(draw)
    blind.inlier = ~draw.inlier
    for arm in SEMI:
        assert torch.equal(weights(lab, draw, arm), weights(lab, blind, arm)), arm
    for arm in KNOWING:
        assert not torch.equal(weights(lab, draw, arm), weights(lab, blind, arm)), arm


def test_arms_of_a_draw_start_from_the_same_weights(lab):
    draw = lab.load(tiny_dataset(), 3, "near", 2)
    start = {arm: lab.fit(draw, arm, (0.0, 0.3)) for arm in ("FixMatch", "IOMatch", "supervised")}
    for name, value in start["FixMatch"].named_parameters():
        for network in start.values():
            assert torch.equal(value, network.get_parameter(name)), name
    other = lab.fit(lab.load(tiny_dataset(), 4, "near", 2), "FixMatch", (0.0, 0.3))
    assert not torch.equal(other.encoder.hidden.weight, start["FixMatch"].encoder.hidden.weight)


def handed_to_train(lab, arm):
    """What `fit` hands to `labutils.training.train`."""
    handed = {}

    def train(network, step, num_steps, optimizer, schedule, inputs):
        handed.update(step=step, optimizer=optimizer, schedule=schedule, inputs=inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab.training, "train", train)
        lab.fit(lab.load(tiny_dataset(), 3, "near", 2), arm, CHOICE)
    return handed


@pytest.mark.parametrize("arm", ["supervised", *SEMI, *KNOWING])
def test_a_step_never_waits_for_the_host(lab, arm):
    handed = handed_to_train(lab, arm)
    rows = [part[0] for part in handed["inputs"]]

    def step():
        handed["optimizer"].zero_grad()
        handed["step"](*rows).backward()
        handed["optimizer"].step()

    no_wait.check(step)
    assert no_wait.operators(step).total() <= 250


def test_the_network_has_the_moving_average_of_its_weights(lab):
    seen = []

    def train(network, step, num_steps, optimizer, schedule, inputs):
        for k in range(3):
            optimizer.zero_grad()
            step(*(part[k] for part in inputs)).backward()
            optimizer.step()
            seen.append(network.encoder.hidden.weight.detach().clone())

    draw = lab.load(tiny_dataset(), 3, "near", 2)
    mean = lab.fit(draw, "IOMatch", (0.0, 0.3)).encoder.hidden.weight.detach().clone()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab.training, "train", train)
        found = lab.fit(draw, "IOMatch", CHOICE)
    for weight in seen:
        mean += 5 / 8 * (weight - mean)
    torch.testing.assert_close(found.encoder.hidden.weight.detach(), mean)
    assert not torch.allclose(mean, seen[-1])
    assert not found.training


def test_the_rate_falls_as_fixmatchs(lab):
    schedule = handed_to_train(lab, "FixMatch")["schedule"]
    expected = [0.1 * math.cos(7 * math.pi * k / 128) for k in range(8)]
    assert [schedule(k) for k in range(8)] == pytest.approx(expected)


# --- what is measured -----------------------------------------------------------------------------


def test_balanced_accuracy_equals_scikit_learn(lab):
    draw = generator(2)
    y = torch.randint(7, (500,), generator=draw)
    found = torch.where(torch.rand(500, generator=draw) < 0.6, y, 6)
    expected = 100 * balanced_accuracy_score(y.numpy(), found.numpy())
    assert lab.balanced(found, y) == pytest.approx(expected, abs=1e-9)


def test_predictions_are_those_of_the_three_heads(lab):
    draw = lab.load(tiny_dataset(), 3, "near", 2)
    network = lab.fit(draw, "IOMatch", CHOICE)
    p, o, q, psi = lab.predict(network, draw)
    x = lab.augment.normalise(draw.judged.images, draw.dataset.mean, draw.dataset.std)
    closed, pairs, opened = network(x)
    torch.testing.assert_close(p, closed.softmax(1))
    torch.testing.assert_close(o, (pairs[:, 1] - pairs[:, 0]).sigmoid())
    torch.testing.assert_close(q, lab.fuse(p, o))
    torch.testing.assert_close(psi, opened)


def fixed_predictions(lab, patch):
    """`compare` with a network that is never trained and answers that are known."""
    dataset = tiny_dataset()
    p, o = shares(150, seed=5)
    psi = torch.randn(150, 7, generator=generator(6))
    patch.setitem(vars(lab), "fit", lambda *_: None)
    patch.setitem(vars(lab), "predict", lambda *_: (p, o, lab.fuse(p, o), psi))
    rows = lab.compare(dataset, 3, "near", 2, [("IOMatch", CHOICE)])
    return rows[0], dataset.test.labels, lab.relabel(dataset.test.labels, "near"), p, o, psi


def test_what_compare_counts(lab):
    with pytest.MonkeyPatch.context() as patch:
        row, c, y, p, o, psi = fixed_predictions(lab, patch)
    known = [i for i in range(150) if y[i] < 6]
    right = [p[i].argmax().item() == y[i].item() for i in known]
    assert row["closed"] == pytest.approx(100 * np.mean(right))
    right = [psi[i, :6].argmax().item() == y[i].item() for i in known]
    assert row["psi"] == pytest.approx(100 * np.mean(right))
    score = lambda found: 100 * balanced_accuracy_score(y.numpy(), found)  # noqa: E731
    assert row["open"] == pytest.approx(score(psi.argmax(1).numpy()))
    assert row["fused"] == pytest.approx(score(lab.fuse(p, o).argmax(1).numpy()))
    cuts = [score([r.argmax() if r.max() > t else 6 for r in p.numpy()]) for t in (0.0, 0.25, 0.4)]
    assert row["cuts"] == pytest.approx(cuts)
    s = (p * (1 - o)).sum(1)
    passed = [
        100 * np.mean([(s[i] < 0.5).item() for i in range(150) if c[i] == k]) for k in range(10)
    ]
    assert row["passed"] == pytest.approx(passed)
    assert (row["seed"], row["setting"], row["arm"]) == (3, "('near', 2)", "IOMatch")


def test_choosing_does_not_see_test_images(lab):
    arms = [(arm, (0.1, tau)) for arm in ("FixMatch", "filter") for tau in (0.2, 0.3)]
    found = [
        lab.compare(tiny_dataset(test_seed), 1000, "near", 2, arms, "validation")
        for test_seed in (1, 5)
    ]
    assert found[0] == found[1]


def test_the_best_mean_over_draws_is_chosen_within_a_setting(lab):
    rows = [
        (lab.FEW, "FixMatch", (0.1, 0.2), 90.0, [1, 2, 3]),
        (lab.FEW, "FixMatch", (0.1, 0.2), 40.0, [1, 9, 3]),
        (lab.FEW, "FixMatch", (0.1, 0.3), 70.0, [5, 1, 1]),
        (lab.FEW, "FixMatch", (0.1, 0.3), 68.0, [1, 1, 6]),
        (lab.FEW, "IOMatch", (0.03, 0.2), 99.0, [0, 0, 0]),
        (lab.FEW, "filter", (0.03, 0.3), 98.0, [0, 0, 0]),
        (lab.MORE, "FixMatch", (0.1, 0.2), 99.0, [0, 9, 0]),
    ]
    names = ("setting", "arm", "choice", "closed", "cuts")
    tried = pd.DataFrame([dict(zip(names, (str(row[0]), *row[1:]), strict=True)) for row in rows])
    assert lab.best(tried, lab.FEW, "FixMatch") == ((0.1, 0.3), 2)
    assert lab.best(tried, lab.FEW, "soft FixMatch") == ((0.1, 0.3), 2)
    assert lab.best(tried, lab.FEW, "random filter")[0] == (0.03, 0.3)
    for variant in ("IOMatch on inliers", "IOMatch, tau_q .95"):
        assert lab.best(tried, lab.FEW, variant)[0] == (0.03, 0.2)
    assert lab.best(tried, lab.MORE, "FixMatch") == ((0.1, 0.2), 1)


def test_every_method_is_tuned_in_every_setting_where_it_is_compared(lab):
    assert set(lab.TUNED) == {lab.FEW, lab.MORE, lab.FAR, lab.NONE}
    assert lab.TUNED[lab.FEW] == ["supervised", "oracle filter", "filter", "FixMatch", "IOMatch"]
    for setting in (lab.MORE, lab.FAR, lab.NONE):
        assert lab.TUNED[setting] == ["FixMatch", "IOMatch"]
    assert set(lab.LIKE.values()) <= set(lab.TUNED[lab.FEW])
