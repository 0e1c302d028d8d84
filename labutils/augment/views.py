"""Two random views of every image of a batch, as SimCLR makes them, on the device of the images.

Random resized crop, mirror image, colour jitter in random order, grey, Gaussian blur (Chen et al.
2020a, appendix A). Every image draws its own parameters from a ``torch.Generator``; all images are
transformed together: rows are resampled by copying whole rows, columns are rows of the transposed
image, and colour operations are done to those images whose turn it is. The deterministic functions
agree with torchvision's operations for equal parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from labutils.augment.weak import on_some, per_image, uniform

GREY_WEIGHTS = (0.2989, 0.587, 0.114)  # of red, green, blue, as in torchvision
OPERATIONS = ("brightness", "contrast", "saturation", "hue")

_CPU_CHUNK = 128  # images that are worked on together: what a core's cache can hold


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
        for name in ("scale", "aspect", "blur_sigma"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(
                    f"Recipe expects {name} = (low, high), 0 < low <= high; got {low}, {high}"
                )
        if self.scale[1] > 1:
            raise ValueError(f"Recipe expects a crop of at most the whole image, got {self.scale}")
        probabilities = [f"{name}_probability" for name in ("flip", "jitter", "grey", "blur")]
        for name, largest in {**dict.fromkeys(probabilities, 1), "strength": 1.25}.items():
            if not 0 <= getattr(self, name) <= largest:
                raise ValueError(
                    f"Recipe expects {name} in 0..{largest}, got {getattr(self, name)}"
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
    images = _unit_range(images)
    _, channels, height, width = images.shape
    n = copies * len(images)

    def happens(probability: float) -> Tensor:
        return uniform(generator, n) < probability

    boxes = crop_boxes(n, height, width, recipe, generator)
    flipped = happens(recipe.flip_probability)
    spread = torch.tensor([0.8, 0.8, 0.8, 0.2])[:, None] * recipe.strength
    jitter = 2 * uniform(generator, len(OPERATIONS), n) - 1
    change = jitter * spread * happens(recipe.jitter_probability)
    change[:3].clamp_(min=-1)  # a factor below 0 cannot be: torchvision cuts the range there
    order = uniform(generator, n, len(OPERATIONS)).argsort(1)
    grey_ones, blurred = happens(recipe.grey_probability), happens(recipe.blur_probability)
    low, high = recipe.blur_sigma
    sigma = low + (high - low) * uniform(generator, n)
    kernel = max(3, 2 * (int(recipe.blur_kernel * height) // 2) + 1)

    turns = _turns(change, order, colour=channels == 3)
    source = torch.arange(n) % max(len(images), 1)
    views = images.new_empty((n, channels, height, width))
    size = _CPU_CHUNK if images.device.type == "cpu" else max(n, 1)
    for start in range(0, n, size):
        part = slice(start, start + size)
        view = views[part]
        view.copy_(_crop(images, source[part], *(x[part] for x in (*boxes, flipped))))
        _jitter(view, turns[..., part])
        if channels == 3:
            on_some(view, grey_ones[part], lambda chosen: grey(chosen).expand_as(chosen))
        on_some(view, blurred[part], partial(gaussian_blur, kernel_size=kernel), sigma[part])
    return views


def crop_boxes(
    n: int, height: int, width: int, recipe: Recipe, generator: torch.Generator
) -> Tensor:
    """Places of n random crops, int64 ``(4, n)``: top, left, height, width.

    Drawn as torchvision's ``RandomResizedCrop`` does: area uniform, aspect ratio log-uniform, up to
    ten tries to fit into the image, else the largest central crop of an allowed ratio.
    """
    scale, aspect = recipe.scale, recipe.aspect
    area = height * width * (scale[0] + (scale[1] - scale[0]) * uniform(generator, 10, n))
    low, high = math.log(aspect[0]), math.log(aspect[1])
    ratio = (low + (high - low) * uniform(generator, 10, n)).exp()
    w, h = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.to(torch.uint8).argmax(0, keepdim=True)  # argmax gives the first of equals
    fits, w, h = (x.gather(0, first)[0] for x in (fits, w, h))
    whole = min(max(width / height, aspect[0]), aspect[1])
    fallback_w = min(width, round(height * whole))
    fallback_h = min(height, round(width / whole))
    place = uniform(generator, 2, n)
    top, left = (place[0] * (height - h + 1)).floor(), (place[1] * (width - w + 1)).floor()
    drawn = torch.stack([top, left, h, w])
    fallback = [(height - fallback_h) // 2, (width - fallback_w) // 2, fallback_h, fallback_w]
    return torch.where(fits, drawn, torch.tensor(fallback)[:, None]).long()


def grey(images: Tensor) -> Tensor:
    """Luminance ``(N, 1, H, W)`` of colour images ``(N, 3, H, W)``."""
    red, green, blue = images.unbind(1)
    a, b, c = GREY_WEIGHTS
    return (a * red + b * green + c * blue)[:, None]


def gaussian_blur(images: Tensor, sigma: Tensor, kernel_size: int) -> Tensor:
    """Blur image n with standard deviation ``sigma[n]`` pixels; borders are reflected.

    images: float ``(N, C, H, W)``; sigma ``(N,)`` > 0; kernel_size: odd, below twice the side.
    Equals torchvision's ``gaussian_blur`` with an equal kernel in both directions.
    """
    reach = kernel_size // 2
    if kernel_size % 2 == 0 or reach >= min(images.shape[2:]):
        raise ValueError(
            f"gaussian_blur expects an odd kernel of less than twice the side, got {kernel_size} "
            f"for images {tuple(images.shape[2:])}"
        )
    distance = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    sigma = sigma.to(images.device, images.dtype)[:, None]
    bell = (-0.5 * (distance / sigma).square()).exp()
    weights = [x.view(-1, 1, 1, 1) for x in (bell / bell.sum(1, keepdim=True)).unbind(1)]
    for dimension, size in ((2, images.shape[2]), (3, images.shape[3])):
        border = (0, 0, reach, reach) if dimension == 2 else (reach, reach, 0, 0)
        padded = F.pad(images, border, mode="reflect")
        taps = [padded.narrow(dimension, k, size) for k in range(kernel_size)]
        images = taps[0] * weights[0]
        for tap, weight in zip(taps[1:], weights[1:], strict=True):
            images += tap * weight
    return images


def _unit_range(images: Tensor) -> Tensor:
    if images.ndim != 4:
        raise ValueError(f"views are made of images (N, C, H, W), got {tuple(images.shape)}")
    if images.dtype == torch.uint8:
        return images.float().mul_(1 / 255)
    if not images.is_floating_point():
        raise TypeError(f"views are made of uint8 (0..255) or float (0..1), got {images.dtype}")
    return images.float()


def _crop(images, source, top, left, height, width, flipped) -> Tensor:
    """View n: the box of image source[n], resized to the whole size, mirrored where flipped[n].

    Bilinear interpolation with half-pixel centres that never looks outside the box, as
    torchvision's ``resized_crop`` to the original size (where antialiasing has no effect, since
    the box is never larger than the result).
    """
    straight = torch.zeros_like(flipped)
    views = _resample_rows(images, source, *_stretch(images.shape[2], top, height, straight))
    columns = _stretch(images.shape[3], left, width, flipped)
    turned = _resample_rows(views.transpose(2, 3), torch.arange(len(source)), *columns)
    return turned.transpose(2, 3)


def _stretch(size: int, start: Tensor, length: Tensor, reverse: Tensor) -> tuple[Tensor, Tensor]:
    """Which of `size` rows lies above each new row, and the share of the row below it; (N, size).

    The new rows are start[n] .. start[n] + length[n] - 1, stretched to the whole size.
    """
    start, length = start.float()[:, None], length.float()[:, None]
    place = (torch.arange(size) + 0.5) * (length / size) - 0.5
    place = start + torch.minimum(place.clamp_(min=0), length - 1)
    place = torch.where(reverse[:, None], place.flip(1), place)
    above = place.floor()
    return above.long(), place - above


def _resample_rows(images: Tensor, source: Tensor, above: Tensor, share: Tensor) -> Tensor:
    c, size, width = images.shape[1:]
    shape = len(source), c, -1, width
    plane = (source * c)[:, None] + torch.arange(c)
    above = (above[:, None] + plane[..., None] * size).view(-1).to(images.device)
    rows = images.reshape(-1, width)
    first = rows.index_select(0, above).view(shape)
    # the row below the last is not there, and its share is 0
    below = rows.index_select(0, above.add_(1).clamp_(max=len(rows) - 1)).view(shape)
    share = share.to(images.device, images.dtype)[:, None, :, None]
    return below.sub_(first).mul_(share).add_(first)


def _turns(change: Tensor, order: Tensor, colour: bool) -> Tensor:
    """(T, 4, N): by how much each operation changes image n at turn t; 0 when it has no turn.

    change (4, N): factor - 1 of the first three operations, and the shift of the hue. Without
    colour, the two operations that are left have two turns.
    """
    if not colour:
        change = change * torch.tensor([1.0, 1.0, 0.0, 0.0])[:, None]
        contrast_first = (order == 1).long().argmax(1) < (order == 0).long().argmax(1)
        order = torch.stack([contrast_first.long(), 1 - contrast_first.long()], 1)
    return torch.where(order.T[:, None] == torch.arange(4)[:, None], change, 0.0)


def _jitter(images: Tensor, turns: Tensor) -> Tensor:
    """Colour jitter in place, as `_turns` says."""
    for brightness, contrast, saturation, hue in turns.unbind(0) if turns.any() else ():
        # brightness and contrast, for all images: the others have factor 1 and shift 0
        means = images.mean((2, 3), keepdim=True)
        means = grey(means) if images.shape[1] == 3 else means.mean(1, keepdim=True)
        images.mul_(per_image(1 + brightness + contrast, images))
        images.sub_(per_image(contrast, images) * means).clamp_(0, 1)
        on_some(images, saturation != 0, _saturation, saturation)
        on_some(images, hue != 0, _shift_hue, hue)
    return images


def _saturation(images: Tensor, change: Tensor) -> Tensor:
    change = per_image(change, images)
    pale = grey(images).mul_(change)
    return images.mul_(1 + change).sub_(pale).clamp_(0, 1)


def _shift_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of colour images (N, 3, H, W) by `shift` (N,) of a whole circle, in HSV."""
    red, green, blue = images.unbind(1)
    value, low = images.amax(1), images.amin(1)
    chroma = value - low
    safe = torch.where(chroma == 0, 1.0, chroma)
    hue = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue += 6 * shift.to(images.device, images.dtype).view(-1, 1, 1)
    # f(n) = V - C max(0, min(k, 4 - k, 1)) with k = (n + H) mod 6, for n = 5, 3, 1
    offset = torch.tensor([5.0, 3.0, 1.0], device=images.device).view(1, 3, 1, 1)
    k = (offset + hue[:, None]).remainder(6)
    weight = torch.minimum(k, 4 - k).clamp_(0, 1)
    return value[:, None] - chroma[:, None] * weight
