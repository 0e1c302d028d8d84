"""Two-view augmentation: equal to torchvision for fixed parameters, and in distribution."""

import no_wait
import numpy as np
import pytest
import torch
from torchvision import transforms
from torchvision.transforms.v2 import functional as TV

from labutils.augment import views, weak


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(n=40, channels=3, size=28, seed=0):
    return torch.rand(n, channels, size, size, generator=generator(seed))


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("size", [28, 33])
def test_resized_crop_equals_torchvision(channels, size):
    images = pictures(30, channels, size)
    box = views.crop_boxes(30, size, size, views.Recipe(), generator())
    flipped = torch.arange(30) % 2 == 1
    ours = views._crop(images, 0, flipped, *box)
    for n, image in enumerate(images):
        top, left, h, w = (int(values[n]) for values in box)
        theirs = TV.resized_crop(image, top, left, h, w, [size, size], antialias=True)
        theirs = theirs.flip(-1) if flipped[n] else theirs
        torch.testing.assert_close(ours[n], theirs, atol=2e-6, rtol=0)


def test_the_whole_image_as_crop_changes_nothing():
    images = pictures(4, 1)
    zero, full = torch.zeros(4), torch.full((4,), 28.0)
    same = views._crop(images, 0, zero > 0, zero, zero, full, full)
    assert torch.equal(same, images)


@pytest.mark.parametrize("channels", [1, 3])
def test_colour_jitter_equals_torchvision_in_every_order(channels):
    images = pictures(48, channels)
    draw = generator(1)
    factors = [torch.rand(48, generator=draw) * 1.6 + 0.2 for _ in range(3)]
    hue = torch.rand(48, generator=draw) - 0.5
    order = torch.rand(48, 4, generator=draw).argsort(1)
    change = torch.stack([*(factor - 1 for factor in factors), hue])
    turns = views._turns(change, order.argsort(1).T, colour=channels == 3)
    ours = views._jitter(images.clone(), turns, hue)
    apply = (TV.adjust_brightness, TV.adjust_contrast, TV.adjust_saturation, TV.adjust_hue)
    for n, image in enumerate(images):
        for k in order[n].tolist():
            if channels == 3 or k < 2:
                image = apply[k](image, float((*factors, hue)[k][n]))
        torch.testing.assert_close(ours[n], image, atol=2e-5, rtol=0)


def test_hue_of_grey_pixels_and_primaries():
    images = torch.tensor([[0.3, 0.3, 0.3], [1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])[..., None, None]
    turned = views._shift_hue(images, torch.full((4,), 1 / 3))[..., 0, 0]
    expected = torch.tensor([[0.3, 0.3, 0.3], [0, 1.0, 0], [0, 0, 1.0], [1.0, 0, 0]])
    torch.testing.assert_close(turned, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_blur_equals_torchvision(channels):
    images = pictures(20, channels)
    sigma = torch.linspace(0.1, 2.0, 20)
    ours = views.gaussian_blur(images, sigma, 2)
    for n, image in enumerate(images):
        theirs = TV.gaussian_blur(image, [5, 5], [float(sigma[n])] * 2)
        torch.testing.assert_close(ours[n], theirs, atol=2e-6, rtol=0)


def test_grey_equals_torchvision():
    images = pictures(5)
    torch.testing.assert_close(views.grey(images), TV.rgb_to_grayscale(images), atol=1e-6, rtol=0)


def test_boxes_follow_torchvisions_distribution():
    n, size = 6000, 28
    box = views.crop_boxes(n, size, size, views.Recipe(), generator())
    torch.manual_seed(0)
    image = torch.zeros(1, size, size)
    peer = transforms.RandomResizedCrop
    theirs = np.array([peer.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(n)])
    ours = box.T.numpy()
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, :2] + ours[:, 2:] <= size).all()
    for column in range(4):
        error = np.hypot(ours[:, column].std(), theirs[:, column].std()) / np.sqrt(n)
        assert abs(ours[:, column].mean() - theirs[:, column].mean()) < 4 * error
        spread = ours[:, column].std() / theirs[:, column].std()
        assert spread == pytest.approx(1, abs=0.05)
    area = ours[:, 2] * ours[:, 3] / size**2
    assert area.mean() == pytest.approx((theirs[:, 2] * theirs[:, 3]).mean() / size**2, abs=0.02)


def test_a_crop_that_never_fits_falls_back_to_the_largest_central_one():
    top, left, h, w = views.crop_boxes(
        5, 10, 40, views.Recipe(scale=(1.0, 1.0), aspect=(1.0, 1.0)), generator()
    )
    assert h.tolist() == w.tolist() == [10] * 5
    assert top.tolist() == [0] * 5
    assert left.tolist() == [15] * 5


@pytest.mark.parametrize("channels", [1, 3])
def test_views_follow_torchvisions_distribution(channels):
    """Moments over many views of one image: ours against torchvision's pipeline."""
    ramp = torch.linspace(0.1, 0.9, 24)
    image = torch.stack([ramp.expand(24, 24) * (1 - 0.2 * c) for c in range(channels)])
    image[:, 4:9, 3:8] = torch.linspace(0.9, 0.2, channels).view(-1, 1, 1)
    steps = [
        transforms.RandomResizedCrop(24, (0.2, 1.0), antialias=True),
        transforms.RandomHorizontalFlip(),
        transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
    ]
    if channels == 3:
        steps.append(transforms.RandomGrayscale(0.2))
    steps.append(transforms.RandomApply([transforms.GaussianBlur(3, (0.1, 2.0))], 0.5))
    torch.manual_seed(0)
    pipeline, n = transforms.Compose(steps), 1500
    theirs = torch.stack([pipeline(image) for _ in range(n)])
    recipe = views.Recipe(scale=(0.2, 1.0), strength=0.5)
    ours = views.random_view(image.expand(n, -1, -1, -1), recipe, generator())
    error = (ours.std(0) ** 2 + theirs.std(0) ** 2).sqrt() / n**0.5
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 5 * error + 2e-3).all()
    torch.testing.assert_close(ours.std(0), theirs.std(0), atol=0.03, rtol=0.12)
    means = [x.mean((1, 2, 3)).sort().values for x in (ours, theirs)]  # brightness of whole views
    assert (means[0] - means[1]).abs().mean() < 0.01


def test_two_views_differ_and_repeat_with_the_seed():
    images = (pictures(16, 1) * 255).to(torch.uint8)
    recipe = views.Recipe()
    first, second = views.two_views(images, recipe, generator())
    again = views.two_views(images, recipe, generator())
    assert torch.equal(first, again[0])
    assert torch.equal(second, again[1])
    assert (first - second).abs().mean() > 0.02
    assert first.dtype == torch.float32
    assert first.shape == images.shape
    assert 0 <= min(first.min(), second.min()) <= max(first.max(), second.max()) <= 1


def test_views_of_bytes_are_those_of_the_floats_and_the_input_stays():
    images = (pictures(6) * 255).to(torch.uint8)
    kept = images.clone()
    recipe = views.Recipe()
    ours = views.random_view(images, recipe, generator())
    torch.testing.assert_close(ours, views.random_view(images / 255, recipe, generator()))
    assert torch.equal(images, kept)
    floats = images / 255
    views.random_view(floats, views.Recipe(scale=(1.0, 1.0), aspect=(1.0, 1.0)), generator())
    assert torch.equal(floats, kept / 255)


def test_switched_off_operations_do_nothing():
    images = pictures(8)
    recipe = views.Recipe(
        scale=(1.0, 1.0), aspect=(1.0, 1.0), flip_probability=0, strength=0, grey_probability=0,
        blur_probability=0,
    )  # fmt: skip
    assert torch.equal(views.random_view(images, recipe, generator()), images)


def test_an_empty_batch_is_fine():
    first, second = views.two_views(torch.zeros(0, 1, 28, 28), views.Recipe(), generator())
    assert first.shape == second.shape == (0, 1, 28, 28)


def test_wrong_input_says_what_was_expected():
    with pytest.raises(ValueError, match=r"\(N, C, H, W\), got \(28, 28\)"):
        views.random_view(torch.zeros(28, 28), views.Recipe(), generator())
    with pytest.raises(TypeError, match=r"uint8 .* or float .*, got torch.int64"):
        views.random_view(torch.zeros(1, 1, 8, 8, dtype=torch.int64), views.Recipe(), generator())
    with pytest.raises(RuntimeError, match="less than the corresponding input dimension"):
        views.gaussian_blur(torch.zeros(1, 1, 8, 8), torch.ones(1), 8)
    for wrong in (
        {"scale": (0.0, 1.0)}, {"scale": (0.5, 1.5)}, {"flip_probability": 1.2}, {"strength": 2.0},
        {"aspect": (2.0, 1.0)}, {"blur_probability": -0.1}, {"blur_sigma": (0.0, 1.0)},
    ):  # fmt: skip
        (name,) = wrong
        with pytest.raises(ValueError, match=rf"Recipe expects .* got {name} = [^=]*$"):
            views.Recipe(**wrong)


# --- on a GPU -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "most"), [(1, 130), (3, 190)])
def test_views_never_wait_and_launch_few_operators(channels, most):
    images, draw = (pictures(8, channels) * 255).to(torch.uint8), generator()

    def step():
        return views.two_views(images, views.Recipe(), draw)

    no_wait.check(step)
    assert no_wait.operators(step).total() <= most


@pytest.mark.parametrize("channels", [1, 3])
def test_views_are_the_same_whether_work_is_saved_or_not(channels, monkeypatch):
    images = pictures(150, channels)
    saved = torch.cat(views.two_views(images, views.Recipe(), generator()))
    monkeypatch.setattr(weak, "SELECTING", ())
    assert torch.equal(torch.cat(views.two_views(images, views.Recipe(), generator())), saved)


@pytest.mark.gpu
@pytest.mark.parametrize("channels", [1, 3])
def test_a_gpu_makes_the_views_of_the_cpu(channels):
    images = pictures(64, channels)
    ours = views.random_view(images.cuda(), views.Recipe(), generator())
    torch.testing.assert_close(
        ours.cpu(), views.random_view(images, views.Recipe(), generator()), atol=1e-4, rtol=0
    )
    assert views.random_view(images.cuda(), views.Recipe(), torch.Generator("cuda")).is_cuda
