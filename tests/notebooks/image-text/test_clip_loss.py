"""CLIP's loss, its variants and its memory savers, against open_clip, closed forms and loops."""

import math

import pytest
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss

from press import technique


@pytest.fixture(scope="module")
def clip():
    return technique.load("clip")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def pairs(n, d, seed, dtype=torch.float64):
    return F.normalize(torch.randn(2, n, d, generator=seeded(seed), dtype=dtype), dim=-1)


def with_gradients(loss, u, v, t):
    """Loss and its gradients with respect to both features and t."""
    u, v, t = (x.clone().requires_grad_() for x in (u, v, t))
    value = loss(u, v, t.exp())
    return value.detach(), *torch.autograd.grad(value, (u, v, t))


# The loss


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_loss_and_gradients_equal_open_clips(clip, dtype, bound):
    for seed in range(50):
        draw = seeded(seed)
        n, d = (int(torch.randint(1, 40, (), generator=draw)) for _ in range(2))
        u, v = pairs(n, d, seed, dtype)
        t = 4.6 * torch.rand((), generator=draw, dtype=dtype)
        ours = with_gradients(clip.clip_loss, u, v, t)
        theirs = with_gradients(ClipLoss(), u, v, t)
        for mine, other in zip(ours, theirs, strict=True):
            assert mine.dtype == dtype
            torch.testing.assert_close(mine, other, atol=bound, rtol=10 * bound)


def test_loss_equals_the_double_loop(clip):
    u, v = pairs(5, 3, 1)
    total = 0.0
    for a, b in ((u, v), (v, u)):
        for k in range(5):
            exps = [math.exp(7.0 * float(a[k] @ b[j])) for j in range(5)]
            total -= math.log(exps[k] / sum(exps))
    assert float(clip.clip_loss(u, v, 7.0)) == pytest.approx(total / 10, abs=1e-12)


def test_gradient_with_respect_to_the_logits_is_softmaxes_minus_identity(clip):
    n = 7
    u, v = pairs(n, 5, 2)
    t = torch.tensor(2.0, dtype=torch.float64)
    _, du, dv, dt = with_gradients(clip.clip_loss, u, v, t)
    logits = t.exp() * u @ v.T
    slope = (logits.softmax(1) + logits.softmax(0) - 2 * torch.eye(n)) / (2 * n)
    torch.testing.assert_close(du, t.exp() * slope @ v, atol=1e-13, rtol=0)
    torch.testing.assert_close(dv, t.exp() * slope.T @ u, atol=1e-13, rtol=0)
    torch.testing.assert_close(dt, (slope * logits).sum(), atol=1e-12, rtol=0)
    # and through the logits themselves: v = identity makes u the logits
    free = torch.randn(n, n, generator=seeded(3), dtype=torch.float64, requires_grad=True)
    (got,) = torch.autograd.grad(clip.clip_loss(free, torch.eye(n).double(), 1.0), free)
    expected = (free.softmax(1) + free.softmax(0) - 2 * torch.eye(n)) / (2 * n)
    torch.testing.assert_close(got, expected.detach(), atol=1e-14, rtol=0)


@pytest.mark.parametrize("n", [1, 2, 256])
def test_loss_closed_forms(clip, n):
    same = F.normalize(torch.ones(n, 8, dtype=torch.float64), dim=1)
    assert float(clip.clip_loss(same, same, 100.0)) == pytest.approx(math.log(n), abs=1e-11)
    apart = torch.eye(n, dtype=torch.float64)
    expected = math.log1p((n - 1) * math.exp(-5.0))
    assert float(clip.clip_loss(apart, apart, 5.0)) == pytest.approx(expected, abs=1e-12)


def test_loss_of_random_features_is_near_its_expectation(clip):
    n, d, s = 1024, 64, 1 / 0.07
    mean = sum(float(clip.clip_loss(*pairs(n, d, seed), s)) for seed in range(20)) / 20
    # a Gaussian approximation of the cosines; their fourth cumulant takes about 0.04 away
    assert mean == pytest.approx(math.log(n) + s**2 / (2 * d), abs=0.08)


def test_loss_invariances(clip):
    u, v = pairs(9, 6, 4)
    loss = clip.clip_loss(u, v, 10.0)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=seeded(5), dtype=torch.float64)).Q
    order = torch.randperm(9, generator=seeded(6))
    for a, b in ((v, u), (u @ turn, v @ turn), (u[order], v[order])):
        torch.testing.assert_close(clip.clip_loss(a, b, 10.0), loss, atol=1e-12, rtol=0)
    assert not torch.isclose(clip.clip_loss(u[order], v, 10.0), loss)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_and_autocast_are_raised_to_float32(clip, dtype):
    u, v = (x.to(dtype) for x in pairs(64, 32, 7, torch.float32))
    exact = clip.clip_loss(u.double(), v.double(), 100.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for loss in (clip.clip_loss, clip.chunked_clip_loss):
            value = loss(u, v, torch.tensor(100.0))
            assert value.dtype == torch.float32
            assert float(value) == pytest.approx(float(exact), rel=1e-5)


BAD = [
    (torch.ones(3, 2), torch.ones(4, 2)),
    (torch.ones(3, 2), torch.ones(3, 4)),
    (torch.ones(3), torch.ones(3)),
    (torch.ones(0, 2), torch.ones(0, 2)),
]


@pytest.mark.parametrize(("u", "v"), BAD)
def test_bad_shapes_are_named(clip, u, v):
    for loss in (clip.clip_loss, clip.chunked_clip_loss):
        with pytest.raises(ValueError, match=r"one shape \(N, d\)"):
            loss(u, v, 1.0)
    with pytest.raises(ValueError, match=r"one shape \(N, d\)"):
        clip.multi_positive_loss(u, v, 1.0, torch.zeros(len(u)))


# Duplicates


def test_duplicate_floor_is_reached_by_ideal_features_and_bounds_all_others(clip):
    labels = torch.arange(64) % 10
    floor = clip.duplicate_floor(labels)
    counts = [sum(int(b == a) for b in labels) for a in labels]
    assert floor == pytest.approx(sum(map(math.log, counts)) / 64, abs=1e-14)
    ideal = torch.eye(10, dtype=torch.float64)[labels]
    assert float(clip.clip_loss(ideal, ideal, 100.0)) == pytest.approx(floor, abs=1e-9)
    for seed in range(20):  # texts depend on the caption only; images are free
        v = F.normalize(torch.randn(10, 6, generator=seeded(seed), dtype=torch.float64), dim=1)
        u = F.normalize(v[labels] + 0.3 * pairs(64, 6, seed)[0], dim=1)
        assert float(clip.clip_loss(u, v[labels], 30.0)) > floor


def test_floor_of_distinct_captions_is_zero(clip):
    assert clip.duplicate_floor(torch.arange(9)) == 0
    assert clip.duplicate_floor(torch.zeros(9)) == pytest.approx(math.log(9))


def test_multi_positive_loss_equals_the_loop(clip):
    u, v = pairs(8, 5, 8)
    labels = torch.tensor([3, 1, 3, 2, 1, 3, 0, 7])
    total = 0.0
    for a, b in ((u, v), (v, u)):
        for k in range(8):
            exps = [math.exp(4.0 * float(a[k] @ b[j])) for j in range(8)]
            positives = [j for j in range(8) if labels[j] == labels[k]]
            total -= sum(math.log(exps[j] / sum(exps)) for j in positives) / len(positives)
    value = float(clip.multi_positive_loss(u, v, 4.0, labels))
    assert value == pytest.approx(total / 16, abs=1e-12)


def test_multi_positive_loss_without_duplicates_is_the_loss(clip):
    u, v = pairs(8, 5, 9)
    value = clip.multi_positive_loss(u, v, 4.0, torch.arange(8))
    torch.testing.assert_close(value, clip.clip_loss(u, v, 4.0))


def test_for_equal_captions_multi_positive_targets_change_neither_loss_nor_gradient(clip):
    labels = torch.tensor([3, 1, 3, 2, 1, 3, 0, 7])
    u, _ = pairs(8, 5, 14)
    texts, _ = pairs(8, 5, 15)  # one row per caption
    t = torch.tensor(1.0, dtype=torch.float64)
    hard = with_gradients(lambda a, b, s: clip.clip_loss(a, b[labels], s), u, texts, t)
    soft = with_gradients(
        lambda a, b, s: clip.multi_positive_loss(a, b[labels], s, labels), u, texts, t
    )
    for mine, other in zip(hard, soft, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-12, rtol=0)


def test_multi_positive_gradient_vanishes_at_the_ideal_but_hard_targets_push_images_apart(clip):
    labels = torch.tensor([0, 0, 1, 1])
    u = torch.tensor([[1, 0.0], [1, 0], [0, 1], [0, 1]], dtype=torch.float64)
    t = torch.tensor(math.log(50.0), dtype=torch.float64)
    _, du, *_ = with_gradients(lambda a, b, s: clip.multi_positive_loss(a, b, s, labels), u, u, t)
    assert du.abs().max() < 1e-15
    v = torch.tensor([[1, 0.0], [0.8, 0.6], [0, 1], [0, 1]], dtype=torch.float64)
    _, hard, *_ = with_gradients(clip.clip_loss, u, v, t)
    assert hard[1] @ (v[1] - v[0]) < 0  # hard targets pull image 1 away from its twin's text


def test_multi_positive_rejects_labels_that_do_not_fit(clip):
    u, v = pairs(4, 3, 0)
    with pytest.raises(ValueError, match=r"expected labels \(4,\)"):
        clip.multi_positive_loss(u, v, 1.0, torch.zeros(5))


# Memory


@pytest.mark.parametrize("chunk", [1, 3, 7, 16, 100])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_chunked_loss_and_gradients_equal_the_full_batch(clip, chunk, dtype, bound):
    u, v = pairs(16, 8, 10, dtype)
    t = torch.tensor(3.0, dtype=dtype)
    ours = with_gradients(lambda a, b, s: 3 * clip.chunked_clip_loss(a, b, s, chunk), u, v, t)
    full = with_gradients(lambda a, b, s: 3 * clip.clip_loss(a, b, s), u, v, t)
    for mine, other in zip(ours, full, strict=True):
        assert mine.shape == other.shape
        torch.testing.assert_close(mine, other, atol=bound, rtol=bound)


def test_chunked_gradient_passes_gradcheck(clip):
    u, v = (x.requires_grad_() for x in pairs(6, 4, 11))
    t = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda a, b, x: clip.chunked_clip_loss(a, b, x.exp(), 4), (u, v, t)
    )


def test_chunked_loss_survives_extreme_scales(clip):
    u, v = pairs(32, 4, 12, torch.float32)
    for scale in (1e-3, 100.0):
        ours = with_gradients(
            lambda a, b, s: clip.chunked_clip_loss(a, b, s, 5), u, v, torch.tensor(scale).log()
        )
        full = with_gradients(clip.clip_loss, u, v, torch.tensor(scale).log())
        for mine, other in zip(ours, full, strict=True):
            torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)


def test_chunked_loss_never_holds_the_whole_matrix(clip):
    n, chunk = 512, 32
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                largest = max(largest, out.numel())
            return out

    u, v = (x.requires_grad_() for x in pairs(n, 8, 13, torch.float32))
    with Watch():
        clip.chunked_clip_loss(u, v, torch.tensor(10.0), chunk).backward()
    assert largest == n * chunk
    with Watch():
        clip.clip_loss(u, v, 10.0).backward()
    assert largest == n * n


def test_chunk_below_one_is_rejected(clip):
    with pytest.raises(ValueError, match="chunk >= 1"):
        clip.chunked_clip_loss(*pairs(4, 3, 0), 1.0, 0)


def small_model(clip, dtype=torch.float64):
    visual = clip.VisionTransformer(16, 8, width=16, depth=2, heads=2, output=8)
    text = clip.TextTransformer(50, 6, width=16, depth=2, heads=2, output=8)
    clip.initialise_transformers(visual, text, seeded(0))
    images = torch.randn(20, 3, 16, 16, generator=seeded(1), dtype=dtype)
    tokens = torch.randint(1, 49, (20, 6), generator=seeded(2))
    tokens[:, 4] = 49
    return clip.CLIP(visual, text).to(dtype), images, tokens


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("chunk", [1, 6, 20, 64])
def test_cached_gradients_equal_the_full_batch(clip, chunk):
    model, images, tokens = small_model(clip)
    loss = clip.clip_loss(*model(images, tokens))
    loss.backward()
    full = {name: g.clone() for name, g in gradients(model).items()}
    for function in (clip.clip_loss, clip.chunked_clip_loss):
        model.zero_grad()
        value = clip.cached_backward(model, images, tokens, chunk, function)
        torch.testing.assert_close(value, loss.detach())
        assert not value.requires_grad
        for name, gradient in gradients(model).items():
            torch.testing.assert_close(gradient, full[name], atol=1e-12, rtol=1e-9)


def test_cached_gradients_add_to_what_is_there(clip):
    model, images, tokens = small_model(clip)
    clip.cached_backward(model, images, tokens, 5)
    once = {name: g.clone() for name, g in gradients(model).items()}
    clip.cached_backward(model, images, tokens, 5)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, 2 * once[name])


def test_plain_accumulation_is_another_gradient(clip):
    model, images, tokens = small_model(clip)
    clip.clip_loss(*model(images, tokens)).backward()
    full = torch.cat([g.flatten() for g in gradients(model).values()])
    model.zero_grad()
    for x, y in zip(images.split(5), tokens.split(5), strict=True):
        (clip.clip_loss(*model(x, y)) / 4).backward()
    plain = torch.cat([g.flatten() for g in gradients(model).values()])
    assert (plain - full).norm() > 0.1 * full.norm()
