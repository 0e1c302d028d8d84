"""The lab on diversification: closed forms, slow references, independent libraries, hand cases."""

import math
import types

import no_wait
import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score
from torch import nn
from torch.distributions import Categorical, kl_divergence
from torch.nn import functional as F

from labutils import data
from labutils.start import Lab
from press import technique

WORLD = {"top": (1, 8), "bottom": (4, 3), "net": "MLP", "negative": False, "r": 0.5}
FLOOR = -math.log(1e-7)


class FakeLab:
    """What the experiment uses of a `labutils.start.Lab`."""

    device, seeds, streams = torch.device("cpu"), (0, 1), Lab.streams

    def map(self, function, jobs, _description):
        return [function(*job) for job in jobs]


def given():
    """What the cells take from the notebook, with settings in which a mix-up would show."""
    settings = types.SimpleNamespace(**technique.settings("diversification", "smoke"))
    settings.size, settings.num_steps, settings.tuning_seeds = 60, 8, (1000, 1001)
    settings.lams, settings.alphas, settings.labels = (3, 10), (0.1, 1), (2, 16)
    known = {"best": {}, "results": {}, "ranked": ["linear", "MLP", "CNN"]}
    return {"lab": FakeLab(), "S": settings} | known


@pytest.fixture
def lab():
    return technique.load("diversification", tags=("technique", "experiment"), given=given())


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_logits(heads=3, n=12, classes=2, seed=0):
    size = heads, n, classes
    return 2 * torch.randn(size, generator=generator(seed), dtype=torch.float64)


def labels_of(n=12, classes=2, seed=0):
    return torch.randint(classes, (n,), generator=generator(seed))


def hard(answers, classes=2):
    """Answers (H, N) as shares of one class each, (H, N, K)."""
    return F.one_hot(torch.as_tensor(answers), classes).double()


# --- DivDis --------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3])
def test_mutual_information_of_hard_answers_is_that_of_scikit_learn(lab, classes):
    for seed in range(5):
        answers = torch.randint(classes, (4, 50), generator=generator(seed))
        found = lab.mutual_information(hard(answers, classes))
        for h in range(4):
            for g in range(4):
                expected = mutual_info_score(answers[h], answers[g])
                assert found[h, g].item() == pytest.approx(expected, abs=1e-9)


def test_mutual_information_of_soft_answers_is_that_of_their_mean_table(lab):
    p = random_logits(3, 20, 3).softmax(2)
    found = lab.mutual_information(p)
    for h in range(3):
        for g in range(3):
            table = sum(torch.outer(p[h, i], p[g, i]) for i in range(20)) / 20
            apart = torch.outer(p[h].mean(0), p[g].mean(0))
            expected = kl_divergence(Categorical(table.flatten()), Categorical(apart.flatten()))
            assert found[h, g].item() == pytest.approx(expected.item(), abs=1e-9)


def test_equal_and_opposite_heads_cost_log_two_and_independent_ones_nothing(lab):
    first = torch.tensor([0, 0, 1, 1])
    second = torch.tensor([0, 1, 0, 1])
    table = lab.mutual_information(hard(torch.stack([first, first, 1 - first, second])))
    assert table[0, 1].item() == pytest.approx(math.log(2))
    assert table[0, 2].item() == pytest.approx(math.log(2))
    assert table[0, 3].item() == pytest.approx(0, abs=1e-12)


def test_mutual_information_of_balanced_answers_depends_on_their_agreement_alone(lab):
    for agreeing in range(0, 101, 10):
        first = torch.arange(100) % 2
        second = torch.where(torch.arange(100) < agreeing, first, 1 - first)
        a = agreeing / 100
        entropy = -sum(s * math.log(s) for s in (a, 1 - a) if s)
        found = lab.mutual_information(hard(torch.stack([first, second])))[0, 1]
        assert found.item() == pytest.approx(math.log(2) - entropy, abs=1e-9)


def slow_divdis(logits, y, unlabelled, lam1, lam2):
    heads, p = len(logits), unlabelled.softmax(2)
    fit = sum(F.cross_entropy(head, y) for head in logits) / heads
    prior = sum(head.softmax(1).mean(0) for head in logits).detach() / heads
    balance = sum(kl_divergence(Categorical(q.mean(0)), Categorical(prior)) for q in p) / heads
    pairs = []
    for h in range(heads):
        for g in range(h):
            table = torch.einsum("nc,nd->cd", p[h], p[g]) / p.shape[1]
            apart = torch.outer(p[h].mean(0), p[g].mean(0))
            pairs.append((table * (table / apart).log()).sum())
    return fit + lam1 * sum(pairs) / len(pairs) + lam2 * balance


@pytest.mark.parametrize("heads", [2, 3, 5])
def test_the_loss_of_divdis_is_that_of_loops_over_heads_and_pairs(lab, heads):
    for seed in range(4):
        logits, unlabelled = random_logits(heads, 9, 3, seed), random_logits(heads, 15, 3, seed + 9)
        y = labels_of(9, 3, seed)
        found = lab.divdis_loss(logits, y, unlabelled, 2.0, 0.7)
        torch.testing.assert_close(found, slow_divdis(logits, y, unlabelled, 2.0, 0.7))


def test_no_gradient_flows_into_the_prior(lab):
    logits, unlabelled, y = random_logits(2).requires_grad_(), random_logits(2, seed=1), labels_of()
    fit, whole = (
        torch.autograd.grad(lab.divdis_loss(logits, y, unlabelled, 1.0, lam2), logits)[0]
        for lam2 in (0.0, 50.0)
    )
    torch.testing.assert_close(fit, whole)


def test_swapping_heads_changes_no_loss(lab):
    logits, unlabelled, y = random_logits(3), random_logits(3, 20, seed=1), labels_of()
    swapped = lab.divdis_loss(logits[[2, 0, 1]], y, unlabelled[[2, 0, 1]], 10.0, 10.0)
    torch.testing.assert_close(swapped, lab.divdis_loss(logits, y, unlabelled, 10.0, 10.0))


def test_a_constant_head_is_free_without_the_balance_and_dear_with_it(lab):
    y = torch.arange(12) % 2
    logits = 20 * (hard(torch.stack([y, y])) - 0.5)
    constant = 20 * (hard(torch.stack([y, 0 * y])) - 0.5)
    same = 20 * (hard(torch.stack([y, y])) - 0.5)
    loss = lambda u, lam2: lab.divdis_loss(logits, y, u, 10.0, lam2).item()  # noqa: E731
    assert loss(constant, 0.0) == pytest.approx(0, abs=1e-3)
    assert loss(same, 0.0) == pytest.approx(10 * math.log(2), abs=1e-2)
    assert loss(constant, 10.0) > 3


# --- D-BAT ---------------------------------------------------------------------------------------


def test_the_loss_of_dbat_is_that_of_a_loop(lab):
    for seed in range(4):
        logits, y = random_logits(1, 9, seed=seed)[0], labels_of(9, seed=seed)
        p = torch.rand(15, generator=generator(seed), dtype=torch.float64)
        frozen = torch.rand(3, 15, generator=generator(seed + 9), dtype=torch.float64)
        terms = [
            -math.log(a * (1 - b) + (1 - a) * b + 1e-7)
            for model in frozen.tolist()
            for a, b in zip(p.tolist(), model, strict=True)
        ]
        found = lab.dbat_loss(logits, y, p, frozen, 0.7)
        expected = F.cross_entropy(logits, y).item() + 0.7 * sum(terms) / len(terms)
        assert found.item() == pytest.approx(expected, abs=1e-9)


def test_agreement_costs_sixteen_and_disagreement_nothing(lab):
    logits, y = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([0])
    first = torch.tensor([[0.0, 0.0, 1.0, 1.0]], dtype=torch.float64)
    for second, agreeing in (([0, 0, 1, 1], 1.0), ([1, 1, 0, 0], 0.0), ([0, 1, 0, 1], 0.5)):
        p = torch.tensor(second, dtype=torch.float64)
        found = lab.dbat_loss(logits, y, p, first, 1.0).item() - math.log(2)
        assert found == pytest.approx(FLOOR * agreeing, abs=1e-6)


# --- both: the toy of the DivDis code ------------------------------------------------------------


def slope(model):
    """The direction, in degrees, along which each head of a linear model decides; 0 is x1."""
    weights = model[0].weight.unflatten(0, (-1, 2))
    direction = (weights[:, 1] - weights[:, 0]).detach()
    return torch.atan2(direction[:, 1], direction[:, 0]).abs().rad2deg()


def plane(r, n=2000, seed=0):
    """Labelled points of two opposite quadrants; unlabelled ones whose signs agree in a share r."""
    draw = generator(seed)
    y, sizes = torch.arange(n) % 2, 0.2 + torch.rand(2, n, 2, generator=draw)
    sign = 2.0 * y - 1
    other = torch.where(torch.rand(n, generator=draw) < r, sign, -sign)
    return sizes[0] * sign[:, None], y, sizes[1] * torch.stack([other, sign], 1)


def train_on_plane(num_heads, loss):
    """A linear model; loss(heads), where heads(x) are logits (H, N, 2)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 2 * num_heads), nn.Unflatten(1, (num_heads, 2)))
        optimizer = torch.optim.Adam(model.parameters(), 0.05)
        for _ in range(300):
            optimizer.zero_grad()
            loss(lambda x: model(x).transpose(0, 1)).backward()
            optimizer.step()
    return model


def test_on_the_plane_divdis_finds_the_two_rules_when_cues_are_independent(lab):
    x, y, u = plane(0.5)
    model = train_on_plane(2, lambda m: lab.divdis_loss(m(x), y, m(u), 10.0, 10.0))
    low, high = slope(model).sort().values.tolist()
    assert low < 10
    assert high > 80
    plain = slope(train_on_plane(2, lambda m: lab.divdis_loss(m(x), y, m(u), 0.0, 0.0)))
    assert ((plain > 25) & (plain < 65)).all()


def test_on_the_plane_dbat_finds_the_other_rule_when_cues_are_opposed(lab):
    x, y, u = plane(0.0)
    frozen = (u[:, 0] > 0).float()[None]  # the model before goes by x1
    own = lambda m: m(u)[0].softmax(1)[:, 1]  # noqa: E731
    model = train_on_plane(1, lambda m: lab.dbat_loss(m(x)[0], y, own(m), frozen, 1.0))
    right = (model(u)[:, 0].argmax(1) == (u[:, 1] > 0)).float().mean()
    assert right > 0.97


# --- the choice ----------------------------------------------------------------------------------


def test_labels_are_asked_where_heads_differ_and_the_better_head_is_chosen(lab):
    y = torch.tensor([1, 0, 1, 0, 1, 0])
    first, second = torch.tensor([1, 0, 0, 0, 1, 1]), torch.tensor([1, 0, 1, 0, 1, 0])
    head, asked = lab.choose(hard(torch.stack([first, second])), y, 2)
    assert head == 1
    assert set(asked.tolist()) == {2, 5}
    assert lab.choose(hard(torch.stack([second, first])), y, 2)[0] == 0


def test_disagreement_is_the_mean_difference_of_all_pairs(lab):
    p = random_logits(3, 30).softmax(2)
    scores = [
        sum((p[h, i] - p[g, i]).abs().mean() for h in range(3) for g in range(3)) / 9
        for i in range(30)
    ]
    _, asked = lab.choose(p, labels_of(30), 7)
    assert set(asked.tolist()) == set(torch.stack(scores).argsort(descending=True)[:7].tolist())


def test_heads_of_all_networks_stand_side_by_side(lab):
    x = torch.randn(5, 1, 56, 28, generator=generator())
    for net in ("linear", "MLP", "CNN"):
        two, one = lab.network(net, 2), lab.network(net, 1)
        assert two(x).shape == (5, 2, 2)
        found = lab.shares([two, one], x)
        assert found.shape == (3, 5, 2)
        torch.testing.assert_close(found[1], two(x)[:, 1].softmax(1))
        torch.testing.assert_close(found[2], one(x)[:, 0].softmax(1))


def test_the_linear_network_is_linear(lab):
    model = lab.network("linear", 1)
    x = torch.randn(2, 1, 56, 28, generator=generator())
    middle = model(x).mean(0)
    torch.testing.assert_close(model(x.mean(0, keepdim=True))[0], middle)
    assert not torch.allclose(lab.network("MLP", 1)(x.mean(0, keepdim=True))[0], middle)


# --- dominoes ------------------------------------------------------------------------------------


def numbered(train=90, test=40):
    """Images of one grey value, 25 times their class, with their number in the last two pixels."""
    parts = []
    for n, start in ((train, 0), (test, 2000)):
        labels = torch.arange(10).repeat(n)
        images = (25 * labels[:, None, None, None]).repeat(1, 1, 28, 28)
        number = start + torch.arange(10 * n)
        images[:, 0, 27, 26], images[:, 0, 27, 27] = number // 100, number % 100
        parts.append(data.Images(images.to(torch.uint8), labels))
    empty = data.Images(parts[0].images[:0], parts[0].labels[:0])
    names = tuple("abcdefghij")
    return data.Dataset("numbered", parts[0], empty, parts[1], names, (0.0,), (1.0,))


def drawn(lab, split="test", seed=3, dataset=None, **world):
    dataset = numbered() if dataset is None else dataset
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab.data, "load", lambda *_, **__: dataset)
        return lab.draw(seed, WORLD | world, split)


PARTS = ("labelled", "even", "unlabelled", "judged")


def halves(part):
    """Classes and numbers of the top and bottom halves of dominoes, read off their pixels."""
    pixels = (part.x * 255).round().long()[:, 0].unflatten(1, (2, 28))
    numbers = 100 * pixels[:, :, 27, 26] + pixels[:, :, 27, 27]
    return (pixels[:, :, 0, 0] // 25).unbind(1), numbers.unbind(1)


@pytest.mark.parametrize("r", [0, 0.25, 0.5, 1])
def test_the_cues_agree_as_often_as_was_asked(lab, r):
    lab.S.size = 1000
    a = drawn(lab, r=r)
    for name, share in zip(PARTS, (1.0, 0.5, r, 0.5), strict=True):
        part = getattr(a, name)
        assert part.x.shape == (1000, 1, 56, 28)
        (top, bottom), _ = halves(part)
        assert torch.equal(top, torch.tensor([1, 8])[part.cue])
        assert torch.equal(bottom, torch.tensor([4, 3])[part.y])
        assert part.y.sum() == 500
        found = (part.cue == part.y).double().mean().item()
        deviation = math.sqrt(share * (1 - share) / 1000)
        assert abs(found - share) <= 4 * deviation, name


@pytest.mark.parametrize("split", ["validation", "test"])
def test_no_half_serves_in_two_parts(lab, split):
    a = drawn(lab, split)
    seen = [set(torch.cat(halves(getattr(a, name))[1]).tolist()) for name in PARTS]
    labelled, even, unlabelled, judged = seen
    assert not (labelled | even) & unlabelled
    assert not (labelled | even | unlabelled) & judged
    assert (min(judged) >= 2000) == (split == "test")
    assert max(labelled | even | unlabelled) < 2000


def test_tops_and_bottoms_are_paired_by_chance(lab):
    lab.S.size = 300
    part = drawn(lab).judged
    _, (top, bottom) = halves(part)
    assert len({*zip(top.tolist(), bottom.tolist(), strict=True)}) > 200
    assert abs(np.corrcoef(part.cue, part.y)[0, 1]) < 0.25


def test_worlds_of_a_seed_share_all_but_the_unlabelled_tops(lab):
    first, second, other = drawn(lab, r=0), drawn(lab, r=1), drawn(lab, r=0, seed=4)
    for name in ("labelled", "even", "judged"):
        assert torch.equal(getattr(first, name).x, getattr(second, name).x)
        assert not torch.equal(getattr(first, name).x, getattr(other, name).x)
    bottoms = [a.unlabelled.x[:, :, 28:] for a in (first, second)]
    assert torch.equal(*bottoms)
    assert not torch.equal(first.unlabelled.x, second.unlabelled.x)


def test_negatives_turn_half_of_the_bottoms_and_no_top(lab):
    lab.S.size = 400
    plain, negative = drawn(lab), drawn(lab, negative=True)
    for name in PARTS:
        a, b = getattr(plain, name).x, getattr(negative, name).x
        assert torch.equal(a[:, :, :28], b[:, :, :28])
        turned = (a[:, :, 28:] != b[:, :, 28:]).flatten(1).any(1)
        assert 0.4 < turned.double().mean() < 0.6
        torch.testing.assert_close(a[turned][:, :, 28:] + b[turned][:, :, 28:],
                                   torch.ones(int(turned.sum()), 1, 28, 28))  # fmt: skip
        y = getattr(plain, name).y
        assert abs(y[turned].double().mean() - 0.5) < 0.15


# --- arms ----------------------------------------------------------------------------------------


def weights(model):
    return torch.cat([w.flatten() for w in model.state_dict().values()])


def test_without_weights_divdis_is_two_heads_without_diversity_bit_for_bit(lab):
    a = drawn(lab)
    plain, found, diverse = (lab.fit(a, s)[0] for s in ((2,), (2, 0.0, 0.0), (2, 10.0, 10.0)))
    assert torch.equal(weights(plain), weights(found))
    assert not torch.equal(weights(plain), weights(diverse))


def test_without_weight_dbats_second_model_is_ordinary_training_from_other_weights(lab):
    a = drawn(lab)
    erm = lab.fit(a, (1,))
    first, second = lab.fit(a, (1, 0.0), erm)
    assert first is erm[0]
    with pytest.MonkeyPatch.context() as patch:
        once = lab.models.initialise

        def twice(model, draw):
            once(model, draw)
            once(model, draw)

        patch.setattr(lab.models, "initialise", twice)
        (other,) = lab.fit(a, (1,))
    assert torch.equal(weights(second), weights(other))
    assert not torch.equal(weights(second), weights(first))


def handed_to_train(lab, a, *arguments):
    """What `fit` hands to `labutils.training.train`, and the network that it made."""
    handed = {}

    def train(model, loss, num_steps, optimizer, rate, inputs):
        handed.update(model=model, loss=loss, num_steps=num_steps, optimizer=optimizer)
        handed.update(rate=rate, rows=inputs[0])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab.training, "train", train)
        lab.fit(a, *arguments)
    return types.SimpleNamespace(**handed)


def test_the_loss_of_a_step_is_that_of_its_images(lab):
    """Each arm's, on a network that is not trained yet, from the equations by hand."""
    a = drawn(lab)
    erm = lab.fit(a, (1,))
    for part, setting, earlier in (
        ("labelled", (1,), ()), ("even", (1,), ()), ("labelled", (2,), ()),
        ("labelled", (3, 2.0, 0.5), ()), ("labelled", (1, 0.7), erm),
    ):  # fmt: skip
        handed, images = handed_to_train(lab, a, setting, earlier, part), vars(a)[part]
        i, j = handed.rows[3]
        logits = handed.model(images.x[i]).transpose(0, 1)
        u, y = handed.model(a.unlabelled.x[j]).transpose(0, 1), images.y[i]
        expected = sum(F.cross_entropy(head, y) for head in logits) / len(logits)
        if len(setting) == 3:
            expected = slow_divdis(logits, y, u, *setting[1:])
        if earlier:
            p, q = u[0].softmax(1)[:, 1], erm[0](a.unlabelled.x[j])[:, 0].softmax(1)[:, 1]
            expected = expected - 0.7 * (p * (1 - q) + q * (1 - p) + 1e-7).log().mean()
        torch.testing.assert_close(handed.loss(handed.rows[3]), expected, msg=str(setting))


def test_no_arm_trains_on_labels_of_unlabelled_images_or_on_what_judges(lab):
    a, b = drawn(lab), drawn(lab)
    b.unlabelled.y, b.unlabelled.cue = 1 - b.unlabelled.y, 1 - b.unlabelled.cue
    b.judged.x, b.even.x = b.judged.x * 0, b.even.x * 0
    for setting, with_erm in (((1,), 0), ((2, 10.0, 10.0), 0), ((1, 1.0), 1)):
        one, two = (lab.fit(x, setting, lab.fit(x, (1,)) * with_erm)[-1] for x in (a, b))
        assert torch.equal(weights(one), weights(two)), setting


def test_every_network_has_the_same_steps(lab):
    a, found = drawn(lab), set()
    erm = lab.fit(a, (1,))
    for setting, earlier in (((1,), ()), ((2,), ()), ((5, 1.0, 1.0), ()), ((1, 1.0), erm)):
        handed = handed_to_train(lab, a, setting, earlier)
        found.add((handed.num_steps, tuple(handed.rows.shape), handed.rate(0), handed.rate(7)))
        assert handed.rows.max() < lab.S.size
    assert found == {(8, (8, 2, 64), lab.S.rate, lab.S.rate)}


@pytest.mark.parametrize("setting", [(1,), (3, 1.0, 1.0), (1, 1.0)])
def test_a_step_never_waits_for_the_host(lab, setting):
    a = drawn(lab)
    handed = handed_to_train(lab, a, setting, lab.fit(a, (1,)) if setting == (1, 1.0) else ())

    def step():
        handed.optimizer.zero_grad()
        handed.loss(handed.rows[0]).backward()
        handed.optimizer.step()

    no_wait.check(step)


# --- scores --------------------------------------------------------------------------------------

ARMS = {"ERM": [(1,)], "skyline": [(1,)], "DivDis": [(2, 3.0, 1.0), (2, 10.0, 1.0)],
        "D-BAT fixed": [(1, 0.3)]}  # fmt: skip


def scored(lab, split="test", seed=3, settings=ARMS, dataset=None, **world):
    dataset = numbered() if dataset is None else dataset
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab.data, "load", lambda *_, **__: dataset)
        return lab.score(seed, WORLD | world, settings, split)


def test_a_score_is_that_of_the_better_hypothesis_on_dominoes_that_judge(lab):
    found, a = scored(lab), drawn(lab)
    erm = lab.fit(a, (1,))
    for arm, tried in ARMS.items():
        for setting in tried:
            earlier, part = erm * ("D-BAT" in arm), "even" if arm == "skyline" else "labelled"
            models = lab.fit(a, setting, earlier, part)
            logits = torch.cat([model(a.judged.x).transpose(0, 1) for model in models])
            right = [100 * np.mean((h.argmax(1) == a.judged.y).numpy()) for h in logits]
            assert found[(arm, *setting)] == pytest.approx(max(right))
            assert found[(f"{arm}: last", *setting)] == pytest.approx(right[-1])
            assert found[(f"{arm}: by chance", *setting)] == pytest.approx(np.mean(right))
            top = 100 * np.mean((logits[0].argmax(1) == a.judged.cue).numpy())
            assert found[(f"{arm}: top half", *setting)] == pytest.approx(top)
            pool = lab.shares(models, a.unlabelled.x)
            for m in lab.S.labels:
                head, _ = lab.choose(pool, a.unlabelled.y, m)
                assert found[(f"{arm}: {m} labels", *setting)] == pytest.approx(right[head])


def test_the_better_of_two_hypotheses_counts(lab):
    """Known answers in the place of trained networks: heads right on all, none, and 3 of 4."""

    def shares(hypotheses, x):
        y = drawn(lab).judged.y
        third = torch.where(torch.arange(len(y)) % 4 == 0, 1 - y, y)
        return hard(torch.stack([1 - y, third, y]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(vars(lab), "shares", shares)
        found = scored(lab, settings={"DivDis": [(3, 1.0, 1.0)]})
    assert found["DivDis", 3, 1.0, 1.0] == 100
    assert found["DivDis: last", 3, 1.0, 1.0] == 100
    assert found["DivDis: by chance", 3, 1.0, 1.0] == pytest.approx(175 / 3, abs=0.1)


def test_settings_are_chosen_without_test_images(lab):
    other = numbered()
    other.test.images.copy_(255 - other.test.images)
    assert scored(lab, "validation") == scored(lab, "validation", dataset=other)
    assert scored(lab) != scored(lab, dataset=other)
    assert set(scored(lab, "validation")) == {(arm, *s) for arm in ARMS for s in ARMS[arm]}


def easy_features(lab):
    """A draw of which ERM's body sees the label itself, in the first pixel."""
    a = drawn(lab)
    for part in (a.unlabelled, a.judged):
        part.x = part.x * 0
        part.x[:, 0, 0, 0] = 30.0 * part.y
    erm = lab.network("linear", 1)
    pool = hard(torch.stack([a.unlabelled.y, 1 - a.unlabelled.y]))
    return a, erm, pool


@pytest.mark.parametrize("asked", ["by chance", "where heads differ"])
def test_a_refitted_layer_learns_from_the_labels_that_were_asked_for(lab, asked):
    a, erm, pool = easy_features(lab)
    pool[1, 10:30] = pool[0, 10:30]  # heads agree there
    found = lab.refit(a, erm, pool, 20, 10.0, asked)
    assert found > 90
    places = slice(20) if asked == "by chance" else lab.choose(pool, a.unlabelled.y, 20)[1]
    mask = torch.ones(len(a.unlabelled.y), dtype=torch.bool)
    mask[places] = False
    a.unlabelled.y[mask] = 1 - a.unlabelled.y[mask]  # labels that nobody asked for
    assert lab.refit(a, erm, pool, 20, 10.0, asked) == found
    a.unlabelled.y[~mask] = 1 - a.unlabelled.y[~mask]
    assert lab.refit(a, erm, pool, 20, 10.0, asked) < 10


def test_labels_of_one_class_leave_erm_as_it_is(lab):
    a, erm, pool = easy_features(lab)
    a.unlabelled.y[:4] = 1
    expected = 100 * (erm(a.judged.x)[:, 0].argmax(1) == a.judged.y).double().mean().item()
    assert lab.refit(a, erm, pool, 4, 0.1, "by chance") == pytest.approx(expected)


def test_the_refit_asks_where_the_two_heads_of_divdis_differ(lab):
    seen = []

    def refit(a, erm, pool, m, strength, asked):
        seen.append(pool)
        return 50.0

    settings = {"ERM": [(1,)], "DivDis": [(2, 3.0, 1.0)], "D-BAT": [(1, 1.0)],
                "five heads": [(5, 3.0, 1.0)], "refit-4": [(4, 0.1, "by chance")]}  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(vars(lab), "refit", refit)
        scored(lab, settings=settings)
    a = drawn(lab)
    expected = lab.shares(lab.fit(a, (2, 3.0, 1.0)), a.unlabelled.x)
    torch.testing.assert_close(seen[0], expected)


# --- settings, plan and claims -------------------------------------------------------------------


class Recorded:
    """A stand-in for `score` that knows which setting is best on validation data."""

    def __init__(self, best):
        self.best, self.calls = best, []

    def __call__(self, seed, world, settings, split):
        self.calls.append(
            (seed, world, split, {arm: list(tried) for arm, tried in settings.items()})
        )
        return {
            (arm, *s): float(s == self.best.get(arm)) for arm in settings for s in settings[arm]
        }


BEST = {
    "DivDis": (2, 10, 10),
    "D-BAT": (1, 1),
    "five heads": (5, 10, 10),
    "refit-16": (16, 0.1, "where heads differ"),
}


def test_every_setting_is_chosen_on_validation_data_of_the_extra_seeds(lab):
    score = Recorded(BEST)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(vars(lab), "score", score)
        best = lab.choose_settings()
    assert {call[2] for call in score.calls} == {"validation"}
    assert {call[0] for call in score.calls} == {1000, 1001}
    assert best[0]["five heads"] == [BEST["five heads"]]
    for r in (0, 0.5, 1):
        assert best[r]["DivDis"] == [BEST["DivDis"]]
    for r in (0, 0.5):
        assert best[r]["D-BAT"] == [BEST["D-BAT"]]
    assert best[0.5]["refit-16"] == [BEST["refit-16"]]
    for net in ("CNN", "linear"):
        assert best[net] == {"DivDis": [BEST["DivDis"]]}
    refits = [tried for *_, tried in score.calls if "refit-16" in tried]
    assert [next(iter(tried)) for tried in refits] == ["DivDis", "DivDis"], "it says where to ask"
    assert all(tried["DivDis"] == [BEST["DivDis"]] for tried in refits)


@pytest.mark.parametrize("profile", ["smoke", "small"])
def test_extra_seeds_are_no_seeds_of_the_results(profile):
    settings = technique.settings("diversification", profile)
    assert min(settings["tuning_seeds"]) >= 1000 > settings["num_seeds"]


def test_the_weights_hold_a_mean_and_a_sum_over_the_ten_pairs_of_five_heads():
    small = technique.settings("diversification", "small")
    assert {3, 10, 30} <= set(small["lams"])
    assert {10 * lam for lam in (3, 10, 30)} <= set(small["lams"])


OWN = {
    0: {"DivDis": [(2, 30, 10)], "D-BAT": [(1, 3)], "five heads": [(5, 3, 10)]},
    0.5: {"DivDis": [(2, 10, 10)], "D-BAT": [(1, 0.1)], "refit-16": [(16, 0.1, "by chance")]},
    1: {"DivDis": [(2, 3, 10)]},
    "linear": {"DivDis": [(2, 3, 10)]}, "CNN": {"DivDis": [(2, 30, 10)]},
}  # fmt: skip


def test_own_and_fixed_weights_are_run(lab):
    lab.WORLDS[0.25] = lab.WORLDS[0] | {"r": 0.25}
    plan = lab.plan(OWN)
    erm, skyline = {"ERM": [(1,)]}, {"skyline": [(1,)]}
    fixed = erm | {"DivDis fixed": [(2, 10, 10)], "D-BAT fixed": [(1, 3)]}
    divdis = {"DivDis": OWN[0.5]["DivDis"]}
    assert plan == {
        0: fixed | OWN[0], 0.25: fixed, 1: fixed | OWN[1],
        0.5: fixed | OWN[0.5] | skyline | {"two-head ERM": [(2,)]},
        **{net: skyline | OWN[net] for net in ("CNN", "linear")},
        "negatives": skyline | divdis, "swapped": erm | divdis,
    }  # fmt: skip
    assert list(plan[0.5]).index("DivDis") < list(plan[0.5]).index("refit-16")


def test_worlds_differ_in_what_their_names_say(lab):
    assert [world["r"] for world in lab.WORLDS.values()] == list(lab.S.ratios)
    found = {
        place: (world["net"], world["negative"], world["top"], world["r"])
        for place, world in (lab.WORLDS | lab.NETS | lab.ODD).items()
    }
    assert found == {
        **{r: ("MLP", False, (1, 8), r) for r in lab.S.ratios},
        "CNN": ("CNN", False, (1, 8), 0.5), "linear": ("linear", False, (1, 8), 0.5),
        "negatives": ("linear", True, (1, 8), 0.5),
        "swapped": ("MLP", False, (4, 3), 0.5),
    }  # fmt: skip
    assert lab.ODD["swapped"]["bottom"] == (1, 8)


def test_per_seed_finds_the_one_setting_of_an_arm(lab):
    own, fixed = (2, 10, 10), (2, 3, 10)
    lab.results[0.5] = {("DivDis", *own): [1, 2], ("DivDis: 16 labels", *own): [3, 4],
                        ("DivDis fixed", *fixed): [5, 6]}  # fmt: skip
    assert lab.per_seed(0.5, "DivDis").tolist() == [1, 2]
    assert lab.per_seed(0.5, "DivDis: 16 labels").tolist() == [3, 4]
    assert lab.per_seed(0.5, "DivDis fixed").tolist() == [5, 6]


def test_claims_compare_what_their_sentences_say(lab):
    found = {
        name: (first, second, way, margin) for name, _, first, second, way, margin, *_ in lab.CLAIMS
    }
    up = "greater"
    assert found == {
        "diversify-helps": ((0.5, "DivDis"), (0.5, "ERM"), up, 15),
        "dbat-helps": ((0, "D-BAT: last"), (0, "ERM"), up, 15),
        "sweet-divdis": ((0.5, "DivDis fixed"), (0.5, "D-BAT fixed"), up, 0),
        "sweet-dbat": ((0, "D-BAT fixed"), (0, "DivDis fixed"), up, 0),
        "own-weights": (("gains", "ahead at ½"), ("gains", "ahead at 0"), up, 0),
        "no-news": (("gains", "at 1"), ("gains", "half of that at ½"), "less", 0),
        "learner-matters": (("linear", "DivDis"), ("MLP", "DivDis"), up, 5),
        "few-labels-rival": ((0.5, "DivDis: 16 labels"), (0.5, "refit-16"), up, 0),
        "more-heads": ((0, "five heads"), (0, "DivDis"), "equivalent", 3),
    }
