"""The technique cells of the chapter on FixMatch and SAA against independent references.

Some of these tests are also handed modules with a mistake in them, by
test_fixmatch_saa_mutations.py.
"""

import math
import re

import numpy as np
import pytest
import torch
from skimage.filters import threshold_otsu
from torch.nn import functional as F

from press import notebooks, technique


@pytest.fixture
def chapter():
    return technique.load("fixmatch-saa")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# --- FixMatch ------------------------------------------------------------------------------------


def slow_loss(weak, strong, threshold):
    total, masks = 0.0, []
    for w, s in zip(weak.tolist(), strong.tolist(), strict=True):
        exponentials = [math.exp(v - max(w)) for v in w]
        q = [e / sum(exponentials) for e in exponentials]
        label = q.index(max(q))
        masks.append(float(max(q) >= threshold))
        log_sum = math.log(sum(math.exp(v - max(s)) for v in s)) + max(s)
        total += masks[-1] * (log_sum - s[label])
    return total / len(masks), masks


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.95, 1.1])
@pytest.mark.parametrize("seed", range(5))
def test_fixmatch_loss_equals_a_slow_loop(chapter, seed, threshold):
    weak, strong = 3 * torch.randn(2, 33, 7, generator=generator(seed), dtype=torch.float64)
    loss, mask = chapter.fixmatch_loss(weak, strong, threshold)
    expected, masks = slow_loss(weak, strong, threshold)
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    assert mask.tolist() == masks


def test_fixmatch_loss_of_a_worked_case(chapter):
    weak, strong = 3 * torch.randn(2, 33, 7, generator=generator(1), dtype=torch.float64)
    loss, mask = chapter.fixmatch_loss(weak, strong, 0.8)
    expected, masks = slow_loss(weak, strong, 0.8)
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    assert mask.tolist() == masks
    assert 0 < sum(masks) < 33


def test_a_confidence_at_the_threshold_passes(chapter):
    even = torch.zeros(3, 4)  # every class has probability 1/4, exactly
    _, mask = chapter.fixmatch_loss(even, even, 0.25)
    assert mask.tolist() == [1.0] * 3


def test_confidence_carries_no_gradient(chapter):
    weak = torch.randn(8, 5, generator=generator(0), requires_grad=True)
    _, confidence, _ = chapter.consistency(weak, weak.detach())
    assert not confidence.requires_grad


def test_a_threshold_per_image(chapter):
    weak = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
    _, mask = chapter.fixmatch_loss(weak, weak, torch.tensor([0.8, 0.9]))
    assert mask.tolist() == [1.0, 0.0]


def test_no_gradient_through_the_weak_view(chapter):
    weak, strong = (torch.randn(8, 5, generator=generator(s), requires_grad=True) for s in (0, 1))
    loss, mask = chapter.fixmatch_loss(weak, strong, 0.3)
    loss.backward()
    assert weak.grad is None
    # p - onehot(label), over the number of all images
    expected = strong.softmax(1) - F.one_hot(weak.argmax(1), 5)
    torch.testing.assert_close(strong.grad, expected * mask[:, None] / 8)


def test_confident_images_have_small_gradients(chapter):
    logits = 5 * torch.randn(200, 10, generator=generator(), dtype=torch.float64)
    logits.requires_grad_()
    losses, _, labels = chapter.consistency(logits.detach(), logits)
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    share = logits.softmax(1).gather(1, labels[:, None])[:, 0]
    assert (gradient.norm(dim=1) <= math.sqrt(2) * (1 - share) + 1e-12).all()


# --- distribution alignment ----------------------------------------------------------------------


def test_alignment_is_the_normalised_ratio_of_shares(chapter):
    """Against the formula, image by image, over more steps than the window holds."""
    draw = generator(4)
    shares = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    align, remembered = chapter.DistributionAlignment(shares, window=4), [[1 / 3] * 3] * 4
    for _ in range(9):
        logits = 2 * torch.randn(6, 3, generator=draw, dtype=torch.float64)
        aligned = align(logits).softmax(1)
        lately = [sum(column) / 4 for column in zip(*remembered[-4:], strict=True)]
        for got, q in zip(aligned.tolist(), logits.softmax(1).tolist(), strict=True):
            product = [
                p * (1e-6 + s) / (1e-6 + m)
                for p, s, m in zip(q, shares.tolist(), lately, strict=True)
            ]
            assert got == pytest.approx([p / sum(product) for p in product], abs=1e-12)
        remembered.append(logits.softmax(1).mean(0).tolist())


def test_alignment_gives_back_a_class_that_the_network_neglects(chapter):
    draw = generator(5)
    align = chapter.DistributionAlignment(torch.full((4,), 0.25), window=16)
    bias = torch.tensor([2.0, 0.0, 0.0, -2.0])  # of a network that hardly ever says "3"
    for _ in range(20):
        logits = torch.randn(400, 4, generator=draw) + bias
        aligned = align(logits)
    before, after = (x.argmax(1).bincount(minlength=4) / 400 for x in (logits, aligned))
    assert before[3] < 0.03
    assert (after - 0.25).abs().max() < (before - 0.25).abs().max() / 3


def test_alignment_of_balanced_predictions_changes_nothing(chapter):
    align = chapter.DistributionAlignment(torch.full((3,), 1 / 3))
    for _ in range(3):
        logits = torch.eye(3)
        torch.testing.assert_close(align(logits), logits)


def test_no_gradient_through_the_aligned_weak_view(chapter):
    logits = torch.randn(8, 5, generator=generator(), requires_grad=True)
    assert not chapter.DistributionAlignment(torch.full((5,), 0.2))(logits).requires_grad


# --- FlexMatch -----------------------------------------------------------------------------------


def test_flexible_thresholds_of_the_worked_case(chapter):
    flexible = chapter.FlexibleThresholds(20, 3, 0.95)
    q = torch.tensor([[0.97, 0.02, 0.01], [0.4, 0.5, 0.1], [0.02, 0.02, 0.96]])
    confidence, labels = q.max(1)
    assert flexible.thresholds().tolist() == [0, 0, 0]
    flexible.update(torch.tensor([0, 1, 2]), confidence, labels)
    torch.testing.assert_close(flexible.beta(), torch.tensor([1 / 18, 0, 1 / 18]))
    beta = 1 / 18
    expected = torch.tensor([beta / (2 - beta) * 0.95, 0, beta / (2 - beta) * 0.95])
    torch.testing.assert_close(flexible.thresholds(), expected)


def test_flexible_thresholds_against_counting(chapter):
    flexible, draw = chapter.FlexibleThresholds(50, 4, 0.9), generator(3)
    kept = {}
    for _ in range(40):
        indices = torch.randperm(50, generator=draw)[:10]
        confidence, labels = torch.randn(10, 4, generator=draw).mul(4).softmax(1).max(1)
        flexible.update(indices, confidence, labels)
        for i, c, label in zip(indices.tolist(), confidence.tolist(), labels.tolist(), strict=True):
            if c >= 0.9:
                kept[i] = label
        counts = [sum(v == c for v in kept.values()) for c in range(4)]
        largest = max(*counts, 50 - sum(counts))
        expected = [c / largest for c in counts]
        assert flexible.beta().tolist() == pytest.approx(expected)
        assert flexible.thresholds().tolist() == pytest.approx(
            [0.9 * b / (2 - b) for b in expected]
        )


# --- SAA -----------------------------------------------------------------------------------------


def samples(kind, rng):
    n = int(rng.integers(2, 3000))
    if kind == "constant":
        return np.full(n, rng.normal())
    if kind == "two values":
        return rng.choice(rng.normal(size=2), n)
    if kind == "heavy tail":
        return rng.pareto(rng.uniform(0.8, 3), n)
    if kind == "bimodal":
        return np.where(rng.random(n) < rng.random(), rng.normal(0, 0.1, n), rng.normal(2, 0.5, n))
    return rng.exponential(rng.uniform(0.01, 5), n)


@pytest.mark.parametrize("kind", ["constant", "two values", "heavy tail", "bimodal", "exponential"])
def test_otsu_equals_scikit_image(chapter, kind):
    rng = np.random.default_rng(0)
    for _ in range(200):
        values = samples(kind, rng)
        ours = chapter.otsu_threshold(torch.from_numpy(values))
        assert ours == pytest.approx(float(threshold_otsu(values)), rel=1e-9, abs=1e-12)


def test_otsu_of_float32_and_other_bins(chapter):
    values = torch.rand(1000, generator=generator()) ** 3
    for bins in (2, 16, 256, 1000):
        expected = threshold_otsu(values.double().numpy(), nbins=bins)
        assert chapter.otsu_threshold(values, bins) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [1.0, float("inf")]])
def test_otsu_refuses_what_has_no_threshold(chapter, values):
    with pytest.raises(ValueError, match="at least one value, all of them finite"):
        chapter.otsu_threshold(torch.tensor(values))


def test_history_follows_its_recursion(chapter):
    history = chapter.HistoryLoss(3, weight=0.001)
    history.record(torch.tensor([1]), torch.tensor([2.0]))
    assert history.values[1].item() == pytest.approx(1.998)
    history.record(torch.tensor([1, 2]), torch.tensor([1.0, 0.5]))
    assert history.values.tolist() == pytest.approx([0, 1.000998, 0.4995])
    assert history.seen.tolist() == [False, True, True]


def test_naive_are_seen_images_below_the_threshold(chapter):
    values = torch.tensor([-9.0, 0.1, 0.1, 3.0, 3.1])
    seen = torch.tensor([False, True, True, True, True])
    naive, threshold = chapter.select_naive_samples(values, seen)
    assert naive.tolist() == [False, True, True, False, False]
    assert threshold == pytest.approx(float(threshold_otsu(values[1:].double().numpy())))
    nobody, threshold = chapter.select_naive_samples(values, torch.zeros(5, dtype=torch.bool))
    assert not nobody.any()
    assert math.isnan(threshold)
    same, _ = chapter.select_naive_samples(torch.ones(5), seen)
    assert not same.any()  # all equal: nobody is below


def test_regroup_pastes_a_half_in_its_place(chapter):
    for size in ((28, 28), (7, 10)):
        first = torch.rand(2000, 3, *size, generator=generator(0))
        second = torch.rand(2000, 3, *size, generator=generator(1))
        mixed = chapter.regroup(first, second, generator(2))
        height, width = size
        left, upper = first.clone(), first.clone()
        left[..., : width // 2] = second[..., : width // 2]
        upper[:, :, : height // 2] = second[:, :, : height // 2]
        is_left = (mixed == left).flatten(1).all(1)
        is_upper = (mixed == upper).flatten(1).all(1)
        assert (is_left ^ is_upper).all()
        assert abs(is_left.float().mean() - 0.5) < 4 * 0.5 / math.sqrt(2000)
        assert torch.equal(mixed, chapter.regroup(first, second, generator(2)))


# --- the page -------------------------------------------------------------------------------------


def test_no_difference_in_the_text_is_shown_as_minus_zero():
    cells = notebooks.read(notebooks.path("fixmatch-saa"))["cells"]
    text = "".join(cell["source"] for cell in cells if cell["cell_type"] == "markdown")
    shown = re.findall(r"\{glue:text\}`[a-z0-9-]+:(\+[^`]*)`", text)
    assert len(shown) > 40
    assert {format(-0.001, form) for form in shown} <= {"+0.0", "+0.00"}
