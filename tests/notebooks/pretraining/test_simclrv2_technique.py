"""The SimCLRv2 chapter's technique, against lightly, torch, closed forms and double loops."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.utils.lars import LARS as LightlyLARS
from torch import nn

from labutils import models
from labutils.augment import views
from press import technique


@pytest.fixture(scope="module")
def simclr():
    return technique.load("simclrv2")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def cases(count, dtype):
    draw = np.random.default_rng(0)
    for k in range(count):
        n, d = int(draw.integers(1, 40)), int(draw.integers(2, 64))
        tau = float(draw.choice([0.1, 0.2, 0.5, 1.0]))
        yield *(torch.randn(2, n, d, generator=seeded(k), dtype=dtype)), tau


# NT-Xent


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_nt_xent_and_its_gradient_equal_lightlys_in_200_cases(simclr, dtype, bound):
    for z0, z1, tau in cases(200, dtype):
        results = []
        for loss in (lambda a, b, t=tau: simclr.nt_xent_loss(a, b, t), NTXentLoss(tau)):
            a, b = z0.clone().requires_grad_(), z1.clone().requires_grad_()
            value = loss(a, b)
            results.append((value.detach(), *torch.autograd.grad(value, (a, b))))
        for ours, theirs in zip(*results, strict=True):
            assert ours.dtype == dtype
            torch.testing.assert_close(ours, theirs, atol=bound, rtol=bound)


def test_nt_xent_equals_the_double_loop(simclr):
    z0, z1 = torch.randn(2, 5, 3, generator=seeded(1), dtype=torch.float64)
    z = [*z0, *z1]
    total = 0.0
    for i in range(10):
        similarity = [float(F.cosine_similarity(z[i], z[k], dim=0)) / 0.3 for k in range(10)]
        others = sum(math.exp(similarity[k]) for k in range(10) if k != i)
        total -= math.log(math.exp(similarity[(i + 5) % 10]) / others)
    assert float(simclr.nt_xent_loss(z0, z1, 0.3)) == pytest.approx(total / 10, abs=1e-13)


@pytest.mark.parametrize("tau", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("n", [1, 2, 4, 50])
def test_nt_xent_closed_forms(simclr, n, tau):
    same = torch.ones(n, 7, dtype=torch.float64)
    assert float(simclr.nt_xent_loss(same, same, tau)) == pytest.approx(
        math.log(2 * n - 1), abs=1e-12
    )
    apart = torch.eye(n, dtype=torch.float64)
    assert float(simclr.nt_xent_loss(apart, apart, tau)) == pytest.approx(
        math.log1p((2 * n - 2) * math.exp(-1 / tau)), abs=1e-12
    )


@pytest.mark.parametrize(
    ("tau", "value"), [(0.1, 7.5429769265), (0.5, 2.5859004668), (1.0, 2.1810513883)]
)
def test_nt_xent_golden_values(simclr, tau, value):
    t = torch.arange(24, dtype=torch.float64).reshape(4, 6)
    assert float(simclr.nt_xent_loss(t.sin(), (0.7 * t).cos(), tau)) == pytest.approx(
        value, abs=1e-9
    )


def test_nt_xent_invariances(simclr):
    z0, z1 = torch.randn(2, 9, 6, generator=seeded(2), dtype=torch.float64)
    loss = simclr.nt_xent_loss(z0, z1, 0.2)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=seeded(3), dtype=torch.float64)).Q
    scale = torch.rand(9, 1, generator=seeded(4), dtype=torch.float64) + 0.1
    order = torch.randperm(9, generator=seeded(5))
    for a, b in ((z1, z0), (z0 @ turn, z1 @ turn), (scale * z0, z1), (z0[order], z1[order])):
        torch.testing.assert_close(simclr.nt_xent_loss(a, b, 0.2), loss, atol=1e-12, rtol=0)
    assert not torch.isclose(simclr.nt_xent_loss(z0[order], z1, 0.2), loss)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_nt_xent_is_finite_at_a_tiny_temperature(simclr, dtype):
    z0, z1 = torch.randn(2, 64, 32, generator=seeded(6)).to(dtype)
    z0, z1 = z0.requires_grad_(), z1.requires_grad_()
    loss = simclr.nt_xent_loss(z0, z1, 0.01)
    assert loss.isfinite()
    assert all(g.isfinite().all() for g in torch.autograd.grad(loss, (z0, z1)))
    exact = simclr.nt_xent_loss(z0.detach().double(), z1.detach().double(), 0.01)
    assert float(loss) == pytest.approx(float(exact), rel=1e-4)  # computed in float32


def test_nt_xent_under_autocast_is_computed_in_float32(simclr):
    z0, z1 = torch.randn(2, 64, 32, generator=seeded(6))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = simclr.nt_xent_loss(z0, z1, 0.1)
    torch.testing.assert_close(loss, simclr.nt_xent_loss(z0, z1, 0.1))


# Head, step, fine-tuning


def test_head_equals_lightlys_with_the_same_weights(simclr):
    ours, theirs = simclr.ProjectionHead(12, 5), SimCLRProjectionHead(12, 12, 5, num_layers=3)
    models.initialise(ours, seeded(0))
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    h = torch.randn(20, 12, generator=seeded(1))
    torch.testing.assert_close(ours(h), theirs(h))
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(h), theirs(h))
    torch.testing.assert_close(ours(h, 1), theirs.layers[:3](h))
    assert torch.equal(ours(h, 0), h)


@pytest.mark.parametrize(("layers", "parameters"), [(2, 328_832), (3, 592_000), (4, 855_168)])
def test_head_has_the_official_number_of_weights(simclr, layers, parameters):
    head = simclr.ProjectionHead(512, 128, layers)
    trained = sum(p.numel() for p in head.parameters() if p.requires_grad)
    assert trained == parameters


def test_step_puts_both_views_into_one_batch(simclr):
    class Watched(nn.Module):
        seen = None

        def features(self, x):
            self.seen = x
            return x.flatten(1)

    encoder, head = Watched(), simclr.ProjectionHead(64, 8)
    images = torch.rand(6, 1, 8, 8, generator=seeded(0))
    recipe = views.Recipe(blur_probability=0.0)
    loss = simclr.contrastive_step(encoder, head, images, recipe, 0.5, seeded(1))
    pair = torch.cat(views.two_views(images, recipe, seeded(1)))
    assert torch.equal(encoder.seen, pair)
    torch.testing.assert_close(loss, simclr.nt_xent_loss(*head(pair.flatten(1)).chunk(2), 0.5))


def test_fine_tuning_from_layer_1_leaves_the_pretrained_network_alone(simclr):
    test_fine_tuning_keeps_the_head_up_to_its_depth_and_moves_everything(simclr, 1)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_fine_tuning_keeps_the_head_up_to_its_depth_and_moves_everything(simclr, depth):
    encoder = models.build("resnet-16-32-64", 1, 10, seeded(0))
    head = simclr.ProjectionHead(64, 16)
    models.initialise(head, seeded(1))
    network = simclr.FineTuned(encoder, head, depth, 10)
    x = torch.rand(16, 1, 28, 28, generator=seeded(2))
    expected = head.eval()(encoder.eval().features(x), depth)
    torch.testing.assert_close(network.eval().features(x), expected)
    assert (network(x) == 0).all()
    nn.init.normal_(network.classifier.weight, generator=seeded(3))
    kept = {k: v.clone() for k, v in encoder.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    before = [p.detach().clone() for p in network.parameters()]
    F.cross_entropy(network.train()(x), torch.arange(16) % 10).backward()
    optimizer.step()
    moved = [not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True)]
    assert all(moved)  # nothing is frozen
    assert all(torch.equal(kept[k], v) for k, v in encoder.state_dict().items())  # a copy


def test_the_batch_norm_control_adds_a_batch_norm_and_nothing_else(simclr):
    encoder = models.build("resnet-16-32-64", 1, 10, seeded(0))
    head = simclr.ProjectionHead(64, 16)
    plain = simclr.FineTuned(encoder, head, 0, 10)
    control = simclr.FineTuned(encoder, head, 0, 10, fresh_norm=True)
    count = [sum(p.numel() for p in n.parameters()) for n in (plain, control)]
    assert count[1] - count[0] == 2 * 64
    x = torch.rand(16, 1, 28, 28, generator=seeded(2))
    torch.testing.assert_close(
        control.features(x), F.batch_norm(plain.features(x), None, None, training=True)
    )


# Distillation


@pytest.mark.parametrize("tau", [0.1, 1.0, 4.0])
def test_distillation_is_a_divergence_with_the_known_gradient(simclr, tau):
    student, teacher = torch.randn(2, 32, 7, generator=seeded(0), dtype=torch.float64)
    student.requires_grad_(), teacher.requires_grad_()
    loss = simclr.distillation_loss(student, teacher, tau).double()
    p, q = ((x.detach() / tau).softmax(1) for x in (teacher, student))
    reference = -(p * q.log()).sum(1).mean()
    assert float(loss) == pytest.approx(float(reference), rel=1e-5)
    slope = torch.autograd.grad(loss, student, retain_graph=True)[0]
    torch.testing.assert_close(32 * slope, (q - p) / tau, atol=1e-5, rtol=1e-4)
    assert torch.autograd.grad(loss, teacher, allow_unused=True)[0] is None
    squared = simclr.distillation_loss(student, teacher, tau, tau_squared=True)
    assert float(squared) == pytest.approx(tau**2 * float(loss), rel=1e-6)


def test_a_cold_teacher_gives_hard_pseudo_labels(simclr):
    student, teacher = torch.randn(2, 32, 7, generator=seeded(0))
    ours = simclr.distillation_loss(student * 1e-3, teacher, 1e-3)
    torch.testing.assert_close(ours, F.cross_entropy(student, teacher.argmax(1)), rtol=1e-4, atol=0)


def test_weighted_loss_is_the_convex_combination(simclr):
    assert simclr.weighted_loss(3.0, 7.0, 1.0) == 3.0
    assert simclr.weighted_loss(3.0, 7.0, 0.0) == 7.0
    assert simclr.weighted_loss(3.0, 7.0, 0.25) == pytest.approx(6.0)


def test_distillation_gives_the_teacher_no_gradient(simclr):
    student, teacher = torch.randn(2, 8, 5, generator=seeded(0))
    student.requires_grad_(), teacher.requires_grad_()
    simclr.distillation_loss(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad is not None


# The whole method in one cell


def descend(network, loss_of, steps, rate):
    """SGD with Nesterov momentum and a cosine, written out."""
    velocity = {p: torch.zeros_like(p) for p in network.parameters()}
    for k in range(steps):
        moving = [p for p in network.parameters() if p.requires_grad]
        slopes = torch.autograd.grad(loss_of(), moving, allow_unused=True)
        with torch.no_grad():
            for p, slope in zip(moving, slopes, strict=True):
                if slope is not None:
                    velocity[p] = slope if k == 0 else 0.9 * velocity[p] + slope
                    step = slope + 0.9 * velocity[p]
                    p -= rate * (1 + math.cos(math.pi * k / steps)) / 2 * step


def test_the_whole_method_in_one_cell_equals_its_three_steps(simclr):
    """Against the same steps written out one after the other, with views that leave a trace."""
    images = torch.rand(40, 1, 8, 8, generator=seeded(0))
    few, labels = images[:6], torch.tensor([0, 1, 2, 0, 1, 2])

    def parts():
        encoder = models.ResNet(1, 3, (2, 4), blocks=1, stem_stride=1)
        models.initialise(encoder, seeded(1))
        head = simclr.ProjectionHead(4, 3)
        models.initialise(head, seeded(2))
        student = models.ResNet(1, 3, (2,), blocks=1, stem_stride=1)
        models.initialise(student, seeded(3))
        return encoder, head, student

    def view_with(generator):
        return lambda x: x + 0.1 * torch.randn(x.shape, generator=generator)

    plan, draw, view = [(4, 0.1), (3, 0.1), (5, 0.2)], seeded(4), view_with(seeded(5))
    encoder, head, student = parts()
    teacher, losses = simclr.simclrv2(
        (encoder, head), student, images, few, labels, view, plan, 0.5, 6, draw
    )
    assert [len(values) for values in losses] == [4, 3, 5]

    draw, view = seeded(4), view_with(seeded(5))
    encoder, head, other = parts()

    def some(count):
        return torch.randint(count, (6,), generator=draw)

    def contrast():
        x = images[some(40)]
        pair = torch.cat([view(x), view(x)])
        return simclr.nt_xent_loss(*head(encoder.features(pair)).chunk(2), 0.5)

    def name():
        chosen = some(6)
        return F.cross_entropy(reference(view(few[chosen])), labels[chosen])

    def imitate():
        x = view(images[some(40)])
        with torch.no_grad():
            target = reference(x).softmax(1)
        return -(target * other(x).log_softmax(1)).sum(1).mean()

    descend(nn.ModuleList([encoder, head]), contrast, *plan[0])
    reference = simclr.FineTuned(encoder, head, 1, 3)
    descend(reference, name, *plan[1])
    reference.eval()
    descend(other, imitate, *plan[2])
    assert not teacher.training
    for ours, theirs in ((teacher, reference), (student, other)):
        named = zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True)
        for (key, value), expected in named:
            assert torch.allclose(value, expected, atol=1e-4), key


# LARS


def test_lars_equals_lightlys_at_a_constant_rate(simclr):
    shapes = [(8, 5), (8,), (3, 2, 3, 3)]
    weights = [
        torch.randn(s, generator=seeded(k), dtype=torch.float64) for k, s in enumerate(shapes)
    ]
    sides = []
    for kind in ("ours", "theirs"):
        params = [nn.Parameter(w.clone()) for w in weights]
        if kind == "ours":
            optimizer = simclr.LARS(params, lr=0.5, momentum=0.9, weight_decay=1e-8)
        else:
            groups = [
                {"params": [p for p in params if p.ndim > 1], "weight_decay": 1e-8},
                {"params": [p for p in params if p.ndim == 1], "weight_decay": 0.0},
            ]
            optimizer = LightlyLARS(groups, lr=0.5, momentum=0.9)
        for step in range(5):
            for k, p in enumerate(params):
                p.grad = torch.randn(p.shape, generator=seeded(10 * step + k), dtype=p.dtype)
            optimizer.step()
        sides.append(params)
    for a, b in zip(*sides, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-7)


def test_lars_follows_the_equation_with_decay_and_a_changing_rate(simclr):
    shapes = [(8, 5), (8,), (3, 2, 3, 3)]
    weights = [torch.randn(s, generator=seeded(k)).double() for k, s in enumerate(shapes)]
    params = [nn.Parameter(w.clone()) for w in weights]
    optimizer = simclr.LARS(params, lr=0.0, momentum=0.9, weight_decay=0.1)
    velocity = [torch.zeros_like(w) for w in weights]
    for step in range(5):
        rate = 0.5 / (step + 1)
        optimizer.param_groups[0]["lr"] = rate
        for k, (w, p) in enumerate(zip(weights, params, strict=True)):
            p.grad = torch.randn(w.shape, generator=seeded(10 * step + k)).double()
            g = p.grad + 0.1 * w if w.ndim > 1 else p.grad
            trust = 0.001 * w.norm() / g.norm() if w.ndim > 1 else 1.0
            velocity[k] = 0.9 * velocity[k] + rate * trust * g
            weights[k] = w - velocity[k]
        optimizer.step()
    for p, expected in zip(params, weights, strict=True):
        assert torch.allclose(p.detach(), expected, atol=1e-12)


def test_lars_takes_plain_steps_where_a_norm_is_zero(simclr):
    w = nn.Parameter(torch.zeros(2, 2))
    w.grad = torch.ones(2, 2)
    simclr.LARS([w], lr=0.5).step()
    assert torch.equal(w.detach(), torch.full((2, 2), -0.5))


# Bad input


def test_wrong_input_says_what_was_expected(simclr):
    z = torch.ones(3, 4)
    with pytest.raises(ValueError, match="two equal shapes"):
        simclr.nt_xent_loss(z, z[:2], 0.5)
    with pytest.raises(ValueError, match="two equal shapes"):
        simclr.nt_xent_loss(z[:0], z[:0], 0.5)
    for tau in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="temperature > 0"):
            simclr.nt_xent_loss(z, z, tau)
        with pytest.raises(ValueError, match="temperature > 0"):
            simclr.distillation_loss(z, z, tau)
    with pytest.raises(ValueError, match="two equal shapes"):
        simclr.distillation_loss(z, z.T)
    with pytest.raises(ValueError, match=r"alpha in 0\.\.1"):
        simclr.weighted_loss(1.0, 1.0, 1.5)
    head = simclr.ProjectionHead(4, 2)
    with pytest.raises(ValueError, match="3 layers, got depth 4"):
        head(z, 4)
    encoder = models.build("cnn-tiny", 1, 10, seeded(0))
    with pytest.raises(ValueError, match=r"depth must be in 0\.\.3"):
        simclr.FineTuned(encoder, head, -1, 10)
    with pytest.raises(ValueError, match="LARS needs"):
        simclr.LARS([nn.Parameter(z)], lr=-1.0)
