"""SSLD's losses, its first stage and its choice of images, against independent references.

Every test takes the technique's module as its argument, so that test_ssld_mutations.py can hand it
a module with a mistake in it.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.distance import jensenshannon
from torch import nn

from press import technique


@pytest.fixture(scope="module")
def ssld():
    return technique.load("ssld")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def answers(seed=0, size=2.0, n=30):
    """Random log p and logits z of n images and seven classes, float64."""
    log_p, z = size * torch.randn(2, n, 7, generator=seeded(seed), dtype=torch.float64)
    return log_p.log_softmax(1), z


def kl(log_a, log_b):
    """KL(a || b) by torch, the mean over the batch."""
    return F.kl_div(log_b, log_a, reduction="batchmean", log_target=True)


def losses(ssld):
    return ssld.cross_entropy, ssld.half_jeffreys, ssld.jensen_shannon


# --- values --------------------------------------------------------------------------------------


def test_cross_entropy_equals_torch_with_soft_targets(ssld):
    log_p, z = answers()
    assert torch.allclose(ssld.cross_entropy(log_p, z), F.cross_entropy(z, log_p.exp()))


def test_half_jeffreys_equals_two_divergences(ssld):
    log_p, z = answers()
    log_q = z.log_softmax(1)
    expected = (kl(log_p, log_q) + kl(log_q, log_p)) / 2
    assert torch.allclose(ssld.half_jeffreys(log_p, z), expected)


def test_jensen_shannon_equals_scipy_squared(ssld):
    log_p, z = answers()
    pairs = zip(log_p.exp().numpy(), z.softmax(1).numpy(), strict=True)
    expected = sum(jensenshannon(p, q) ** 2 for p, q in pairs) / len(z)
    assert ssld.jensen_shannon(log_p, z).item() == pytest.approx(expected)


def test_jensen_shannon_is_a_difference_of_entropies(ssld):
    log_p, z = answers(1)

    def entropy(p):
        return -(p * p.log()).sum(1).mean()

    p, q = log_p.exp(), z.softmax(1)
    expected = entropy((p + q) / 2) - entropy(p) / 2 - entropy(q) / 2
    assert torch.allclose(ssld.jensen_shannon(log_p, z), expected)


def test_jensen_shannon_of_answers_without_overlap_is_log_2(ssld):
    log_p, z = torch.tensor([[900.0, 0.0]]).log_softmax(1), torch.tensor([[0.0, 900.0]])
    assert ssld.jensen_shannon(log_p, z).item() == pytest.approx(math.log(2), rel=1e-6)


def test_the_two_divergences_are_symmetric(ssld):
    log_p, z = answers()
    for loss in (ssld.half_jeffreys, ssld.jensen_shannon):
        assert torch.allclose(loss(log_p, z), loss(z.log_softmax(1), log_p))
        assert loss(log_p, z) > 0
        assert loss(log_p, log_p).abs() < 1e-12


def test_jensen_shannon_is_at_most_half_of_half_jeffreys(ssld):
    for seed in range(20):
        log_p, z = answers(seed, n=1)
        assert ssld.jensen_shannon(log_p, z) <= ssld.half_jeffreys(log_p, z) / 2


def test_far_logits_have_finite_losses_and_gradients(ssld):
    log_p = torch.tensor([[500.0, 0.0], [0.0, -500.0]]).log_softmax(1)
    for loss in losses(ssld):
        z = torch.tensor([[-500.0, 0.0], [-900.0, 900.0]], requires_grad=True)
        value = loss(log_p, z)
        assert value.isfinite(), loss
        assert torch.autograd.grad(value, z)[0].isfinite().all(), loss


def test_one_hot_targets_are_allowed_in_the_cross_entropy(ssld):
    z = torch.randn(6, 4, generator=seeded(0))
    labels = torch.arange(6) % 4
    log_p = F.one_hot(labels, 4).float().log()
    assert torch.allclose(ssld.cross_entropy(log_p, z), F.cross_entropy(z, labels))


# --- gradients -----------------------------------------------------------------------------------


def test_gradients_are_those_of_the_page(ssld):
    log_p, z = answers()
    z.requires_grad_()
    p, q, log_q = log_p.exp(), z.softmax(1).detach(), z.log_softmax(1).detach()
    to_m = log_q - ((p + q) / 2).log()
    to_p = log_q - log_p
    expected = (
        q - p,
        (q - p) / 2 + q / 2 * (to_p - (q * to_p).sum(1, keepdim=True)),
        q / 2 * (to_m - (q * to_m).sum(1, keepdim=True)),
    )
    for loss, gradient in zip(losses(ssld), expected, strict=True):
        found = torch.autograd.grad(loss(log_p, z), z)[0] * len(z)
        assert torch.allclose(found, gradient, atol=1e-12), loss


def test_near_the_target_true_js_is_a_quarter_of_the_others(ssld):
    log_p, noise = answers()
    z = log_p + 1e-3 * noise
    js = ssld.jensen_shannon(log_p, z)
    rest = ssld.cross_entropy(log_p, z) - ssld.cross_entropy(log_p, log_p)
    assert (rest / js).item() == pytest.approx(4, rel=1e-2)
    assert (ssld.half_jeffreys(log_p, z) / js).item() == pytest.approx(4, rel=1e-2)


# --- the first stage -----------------------------------------------------------------------------


def network(seed):
    """With batch norm, whose buffers a teacher in training mode would change; float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)
        ).double()


def batches(num_steps=20):
    return torch.randn(num_steps, 16, 5, generator=seeded(0), dtype=torch.float64)


def distilled(ssld, teacher, num_steps=20, **options):
    student = network(1)
    optimizer = torch.optim.SGD(student.parameters(), 0.1, 0.9)
    ssld.distil(student, teacher, batches(num_steps), optimizer, **options)
    return student


def test_the_teacher_is_the_same_afterwards_bit_for_bit(ssld):
    teacher = network(0).train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    distilled(ssld, teacher)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(weight.grad is None for weight in teacher.parameters())


def test_divergence_and_cross_entropy_give_the_same_student_bit_for_bit(ssld):
    def divergence(log_p, z):
        return (log_p.exp() * (log_p - z.log_softmax(1))).sum(1).mean()

    first = distilled(ssld, network(0), loss=ssld.cross_entropy)
    second = distilled(ssld, network(0), loss=divergence)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_every_loss_brings_the_student_to_the_teacher(ssld):
    teacher = network(0).eval()
    x = batches(1)[0]

    def gap(student):
        return (student.eval()(x).softmax(1) - teacher(x).softmax(1)).abs().mean()

    for loss in losses(ssld):
        assert gap(distilled(ssld, teacher, 300, loss=loss)) < gap(network(1)) / 4, loss


def test_one_step_is_sgd_on_the_loss_of_that_batch(ssld):
    teacher, expected = network(0).eval(), network(1)
    student = distilled(ssld, teacher, 1, loss=ssld.jensen_shannon)
    x = batches(1)[0]
    loss = ssld.jensen_shannon(teacher(x).log_softmax(1).detach(), expected(x))
    for w, new in zip(expected.parameters(), student.parameters(), strict=True):
        (slope,) = torch.autograd.grad(loss, w, retain_graph=True)
        assert torch.allclose(new, w - 0.1 * slope)


def test_a_student_that_is_its_teacher_has_nothing_to_learn(ssld):
    teacher = nn.Linear(5, 3).double()
    for loss in (ssld.half_jeffreys, ssld.jensen_shannon):
        student = nn.Linear(5, 3).double()
        student.load_state_dict(teacher.state_dict())
        ssld.distil(student, teacher, batches(), torch.optim.SGD(student.parameters(), 0.1), loss)
        assert torch.allclose(student.weight, teacher.weight, atol=1e-12)


# --- which images --------------------------------------------------------------------------------


def test_the_likeliest_images_of_every_class_are_taken(ssld):
    log_p = torch.randn(40, 4, generator=seeded(3)).log_softmax(1)
    expected = set()
    for c in range(4):
        ranked = sorted(range(40), key=lambda i: -log_p[i, c].item())
        expected |= set(ranked[:8])
    found = ssld.top_per_class(log_p, 32).tolist()
    assert found == sorted(expected)
    assert len(found) < 32  # some were likeliest for two classes, and come once
