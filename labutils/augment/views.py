"""Two random views of every image of a batch, as SimCLR makes them, on the device of the images.

Random resized crop, mirror image, colour jitter in random order, grey, Gaussian blur (Chen et al.
2020a, appendix A). Every image draws its own parameters from a ``torch.Generator``; all images are
transformed together: colours are resampled by products of matrices, grey by copying whole rows, and
brightness, contrast and saturation are one blend. The deterministic functions agree with
torchvision's operations for equal parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from labutils import checks
from labutils.augment.weak import constant, on_some, per_image, uniform

GREY_WEIGHTS = (0.2989, 0.587, 0.114)  # of red, green, blue, as in torchvision

_CPU_CHUNK = 96  # images that are worked on together: what a core's cache can hold


@dataclass(frozen=True)
class Recipe:
    """How a view is drawn. The defaults are those of SimCLR for ImageNet (strength 1).

    scale: range of the crop's share of the image's area; aspect: range of its width / height;
    strength: s of the jitter, 0.8 s for brightness, contrast and saturation, 0.2 s for hue;
    the four probabilities: how often each operation is applied; blur_sigma: the blur's standard
    deviation in pixels, from and to; blur_kernel: share of the image's side that the kernel covers.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip_probability: float = 0.5
    strength: float = 1.0
    jitter_probability: float = 0.8
    grey_probability: float = 0.2
    blur_probability: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    blur_kernel: float = 0.1

    def __post_init__(self):
        good = {name: 0 <= p <= 1 for name, p in vars(self).items() if "probability" in name}
        good["strength"] = 0 <= self.strength <= 1.25
        for name in ("scale", "aspect", "blur_sigma"):
            low, high = getattr(self, name)
            good[name] = 0 < low <= high <= (1 if name == "scale" else math.inf)
        if wrong := [f"{name} = {getattr(self, name)}" for name in good if not good[name]]:
            raise ValueError(
                "Recipe expects ranges 0 < low <= high, a crop of at most the whole image, "
                f"probabilities in 0..1 and a strength in 0..1.25; got {', '.join(wrong)}"
            )


def two_views(images: Tensor, recipe: Recipe, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two independent random views of each image.

    images: ``(N, C, H, W)``, uint8 (0..255) or float (0..1), any C; colour operations other than
    brightness and contrast need C = 3 and are left out otherwise. Returns two float32 tensors of
    the same shape with values in 0..1. ``generator`` may live on the CPU when the images do not.
    """
    views = _views(images, 2, recipe, generator)
    return views[: len(images)], views[len(images) :]


def random_view(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """One random view of each image; see :func:`two_views`."""
    return _views(images, 1, recipe, generator)


def _views(images: Tensor, copies: int, recipe: Recipe, generator: torch.Generator) -> Tensor:
    checks.fit("images (N, C, H, W)", images)
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise TypeError(f"views are made of uint8 (0..255) or float (0..1), got {images.dtype}")
    _, channels, height, width = images.shape
    n, device = copies * len(images), images.device
    boxes = crop_boxes(n, height, width, recipe, generator).to(device)
    draws = uniform(generator, 13, n).to(device)
    order = torch.arange(n, device=device)
    if channels == 3:  # those whose hue changes at the same turn become neighbours: fewer turns
        kind = (draws[6:10].argsort(0)[3] + 1) * (draws[5] < recipe.jitter_probability)
        order = torch.add(draws[11] < recipe.blur_probability, kind, alpha=2).argsort()
        boxes, draws = boxes[:, order], draws[:, order]
    images = images.index_select(0, order % max(1, len(images)))
    change = (draws[1:5] - 0.5) * (draws[5] < recipe.jitter_probability)
    change[:3].mul_(1.6 * recipe.strength)
    change[3].mul_(0.4 * recipe.strength)
    turns = _turns(change, draws[6:10].argsort(0), colour=channels == 3)
    flipped, grey_ones = draws[0] < recipe.flip_probability, draws[10] < recipe.grey_probability
    blurred, (low, high) = draws[11] < recipe.blur_probability, recipe.blur_sigma
    sigma = low + (high - low) * draws[12]
    reach = max(1, int(recipe.blur_kernel * height) // 2)

    views = torch.empty(images.shape, dtype=torch.float32, device=device)
    size = _CPU_CHUNK if device.type == "cpu" else max(n, 1)
    with torch.autocast(device.type, enabled=False):  # products of matrices would be rounded
        for start in range(0, n, size):
            part = slice(start, start + size)
            view = _crop(images, start, flipped[part], *boxes[:, part])
            view = view if channels == 3 else views[part].copy_(view)
            if recipe.jitter_probability and recipe.strength:
                _jitter(view, turns[:, part], change[3, part])
            if channels == 3 and recipe.grey_probability:
                on_some(view, grey_ones[part], lambda chosen: grey(chosen).expand_as(chosen))
            if recipe.blur_probability:
                on_some(view, blurred[part], partial(gaussian_blur, reach=reach), sigma[part])
            if channels == 3:
                views.index_copy_(0, order[part], view)
    return views


def crop_boxes(
    n: int, height: int, width: int, recipe: Recipe, generator: torch.Generator
) -> Tensor:
    """Places of n random crops, whole numbers (4, n): top, left, height, width.

    Drawn as torchvision's ``RandomResizedCrop`` does: area uniform, aspect ratio log-uniform, up to
    ten tries to fit into the image, else the largest central crop of an allowed ratio.
    """
    checks.fit("n >= 0, height >= 1, width >= 1, generator", n, height, width, generator)
    low, high = (height * width * share for share in recipe.scale)
    area = low + (high - low) * uniform(generator, 10, n)
    low, high = (math.log(aspect) for aspect in recipe.aspect)
    ratio = (low + (high - low) * uniform(generator, 10, n)).exp()
    w, h = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fails = (torch.minimum(w, h) < 1) | (w > width) | (h > height)
    first = fails.view(torch.uint8).argmin(0, keepdim=True)  # argmin gives the first of equals
    fails, w, h = (x.gather(0, first)[0] for x in (fails, w, h))
    whole = min(max(width / height, recipe.aspect[0]), recipe.aspect[1])
    fallback_w = min(width, round(height * whole))
    fallback_h = min(height, round(width / whole))
    place = uniform(generator, 2, n)
    top, left = (place[0] * (height + 1 - h)).floor(), (place[1] * (width + 1 - w)).floor()
    fallback = (height - fallback_h) // 2, (width - fallback_w) // 2, fallback_h, fallback_w
    drawn = zip((top, left, h, w), fallback, strict=True)
    return torch.stack([value.masked_fill_(fails, other) for value, other in drawn])


def grey(images: Tensor) -> Tensor:
    """Luminance ``(N, 1, H, W)`` of colour images ``(N, 3, H, W)``."""
    checks.fit("images (N, 3, H, W)", images)
    red, green, blue = images.unbind(1)
    a, b, c = GREY_WEIGHTS
    return torch.add(red * a, green, alpha=b).add_(blue, alpha=c)[:, None]


def gaussian_blur(images: Tensor, sigma: Tensor, reach: int) -> Tensor:
    """Blur image n with standard deviation ``sigma[n]`` pixels; borders are reflected.

    images: float ``(N, C, H, W)``; sigma ``(N,)`` > 0; reach: how many pixels on each side are
    looked at, fewer than the image has (else torch raises RuntimeError). Equals torchvision's
    ``gaussian_blur`` with a kernel of 2 reach + 1 in both directions.
    """
    checks.fit("images float (N, C, H, W), sigma (N,), reach >= 0", images, sigma, reach)
    distance = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    bell = (-0.5 * (distance / sigma[:, None]).square()).softmax(1)
    weights = [per_image(x) for x in bell.unbind(1)]
    for dimension, size in ((2, images.shape[2]), (3, images.shape[3])):
        border = (0, 0, reach, reach) if dimension == 2 else (reach, reach, 0, 0)
        padded = F.pad(images, border, mode="reflect")
        taps = [padded.narrow(dimension, k, size) for k in range(2 * reach + 1)]
        images = taps[0] * weights[0]
        for tap, weight in zip(taps[1:], weights[1:], strict=True):
            images.addcmul_(tap, weight)
    return images


def _crop(images, first, flipped, top, left, height, width) -> Tensor:
    """View n: a box of image first + n, resized to the whole size, mirrored where flipped[n].

    Bilinear interpolation with half-pixel centres that never looks outside the box, as
    torchvision's ``resized_crop`` to the original size (where antialiasing has no effect, since the
    box is never larger than the result).
    """
    images = images[first : first + len(flipped)]
    images = images.float().mul_(1 / 255) if images.dtype == torch.uint8 else images.float()
    rows = _stretch(images.shape[2], top, height)
    columns = _stretch(images.shape[3], left, width)
    columns = torch.where(flipped[:, None], columns.flip(1), columns)
    if images.shape[1] == 1:
        views = _resample_rows(images, rows)
        return _resample_rows(views.transpose(2, 3), columns).transpose(2, 3)
    wide = torch.bmm(images.flatten(1, 2), _shares(columns, images.shape[3]).mT)
    return _shares(rows, images.shape[2])[:, None] @ wide.view(images.shape)


def _stretch(size: int, start: Tensor, length: Tensor) -> Tensor:
    """Where in the image each new row comes from, (N, size).

    The new rows are start[n] .. start[n] + length[n] - 1, stretched to the whole size.
    """
    start, length = start[:, None], length[:, None]
    middle = torch.arange(0.5, size, device=start.device)
    place = (middle * (length / size)).sub_(0.5).clamp_(min=0)
    return torch.minimum(place, length - 1).add_(start)


def _shares(place: Tensor, size: int) -> Tensor:
    """How much of every row of the image is in each new row, (N, new, size)."""
    rows = torch.arange(size, device=place.device)
    return (1 - (place[:, :, None] - rows).abs_()).relu_()


def _resample_rows(images: Tensor, place: Tensor) -> Tensor:
    """Row r of view n: image n at place[n, r] rows, between two of its rows."""
    n, c, size, width = images.shape
    above = place.long()
    begin = torch.arange(0, n * c * size, size, device=images.device)
    index = (above[:, None] + begin.view(n, c, 1)).view(-1)
    rows = images.reshape(-1, width)
    upper = rows.index_select(0, index)
    # the row below the last is not there, and its share is 0
    lower = rows.index_select(0, index.add_(1).clamp_(max=len(rows) - 1))
    upper, lower = (x.view(n, c, -1, width) for x in (upper, lower))
    return upper.lerp_(lower, (place - above).view(n, 1, -1, 1))


def _turns(change: Tensor, turn: Tensor, colour: bool) -> Tensor:
    """(T, N, 2 or 4, 3): at every turn, what pixels and means of channels are multiplied with.

    change (4, N): factor - 1 of brightness, contrast and saturation, and the shift of the hue.
    turn (4, N): which of the four comes first, second and so on; the hue changes between the third
    and the fourth of six turns. In colour, three rows are a matrix for the pixels. Without,
    brightness and contrast have two turns.
    """
    if colour:
        turn = torch.add(turn[:3], turn[:3] > turn[3], alpha=2)
    else:
        turn = (turn[:2] > turn[:2].flip(0)).long()
    count = torch.arange(6 if colour else 2, device=turn.device).view(-1, 1, 1)
    changes = (turn == count) * change[: len(turn)]
    factor = 1 + changes.sum(1)
    if not colour:
        return torch.stack([factor, -changes[:, 1]], 2)
    same = constant((1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0), change.device)
    pale = constant(GREY_WEIGHTS * 3, change.device)
    matrix = torch.addcmul(factor[..., None] * same, changes[:, 2, :, None], pale, value=-1)
    return torch.cat([matrix, -changes[:, 1, :, None] * pale[:3]], 2).unflatten(2, (4, 3))


def _jitter(images: Tensor, turns: Tensor, hue: Tensor) -> Tensor:
    """Colour jitter in place, as `_turns` says; hue (N,): by how much it changes."""
    acts = turns.flatten(2)[..., 0] != 1
    for k, values in enumerate(turns):
        if k == 3:
            on_some(images, hue != 0, _shift_hue, hue)
        on_some(images, acts[k], _blend, values)
    return images


def _blend(images: Tensor, values: Tensor) -> Tensor:
    """In place: pixels times a factor or matrix, plus a share of the mean grey, in 0..1."""
    if images.shape[1] != 3:
        added = per_image(values[:, 1]) * images.mean((1, 2, 3), keepdim=True)
        return torch.addcmul(added, images, per_image(values[:, 0]), out=images).clamp_(0, 1)
    pixels = images.flatten(2)
    added = (values[:, 3] * pixels.mean(2)).sum(1)[:, None, None]
    mixed = torch.baddbmm(added, values[:, :3], pixels).view_as(images)
    return torch.clamp(mixed, 0, 1, out=images)


def _shift_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of colour images (N, 3, H, W) by `shift` (N,) of a whole circle, in HSV."""
    red, green, blue = images.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = value - low
    # the angle from red in turns, up to a half, whose sign says whether it is on green's side
    angle = torch.add(green + blue, low, alpha=-2).add_(value).sub_(red).copysign_(green - blue)
    start = (shift + 1).view(-1, 1, 1)
    hue = torch.addcdiv(start, angle, chroma.clamp(min=1e-9), value=1 / 6).frac_().mul_(6)
    # red falls from 0 to 2 and rises again from 4; green is the highest at 2, blue at 4
    centre = constant((3.0, 2.0, 4.0), images.device).view(1, 3, 1, 1)
    share = (hue[:, None] - centre).abs_().sub_(1).clamp_(0, 1)
    torch.addcmul(low, chroma, share[:, 0], out=share[:, 0])
    rest, chroma, value = share[:, 1:], chroma[:, None], value[:, None]
    torch.addcmul(value, chroma, rest, value=-1, out=rest)
    return share
