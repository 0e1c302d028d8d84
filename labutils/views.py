"""Two random views of every image of a batch, as SimCLR makes them, on the device of the images.

Random resized crop, mirror image, colour jitter in random order, grey, Gaussian blur (Chen et al.
2020a, appendix A). Every image draws its own parameters from a ``torch.Generator``; all images are
transformed together. Cropping with resizing, mirroring and blurring are linear in rows and columns
of an image, so that two batched matrix products do each of them. The deterministic functions agree
with torchvision's operations for equal parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

GREY_WEIGHTS = (0.2989, 0.587, 0.114)  # of red, green, blue, as in torchvision
OPERATIONS = ("brightness", "contrast", "saturation", "hue")


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
                raise ValueError(f"Recipe expects {name} = (low, high), 0 < low <= high; got {low}, {high}")  # noqa: E501  # fmt: skip
        if self.scale[1] > 1:
            raise ValueError(f"Recipe expects a crop of at most the whole image, got {self.scale}")
        for name in ("flip", "jitter", "grey", "blur"):
            p = getattr(self, f"{name}_probability")
            if not 0 <= p <= 1:
                raise ValueError(f"Recipe expects {name}_probability in 0..1, got {p}")
        if not 0 <= self.strength <= 1.25:
            raise ValueError(f"Recipe expects a strength in 0..1.25, got {self.strength}")


def two_views(images: Tensor, recipe: Recipe, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two independent random views of each image.

    images: ``(N, C, H, W)``, uint8 (0..255) or float (0..1), any C; colour operations other than
    brightness and contrast need C = 3 and are left out otherwise. Returns two float32 tensors of
    the same shape with values in 0..1. ``generator`` may live on the CPU when the images do not.
    """
    views = random_view(torch.cat([images, images]), recipe, generator)
    return views[: len(images)], views[len(images) :]


def random_view(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """One random view of each image; see :func:`two_views`."""
    images = _unit_range(images)
    n, channels, height, width = images.shape
    if n == 0:
        return images

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=generator.device)

    def happens(probability: float) -> Tensor:
        return uniform(n) < probability

    box = crop_boxes(n, height, width, recipe.scale, recipe.aspect, generator)
    views = resized_crop(images, *box, flipped=happens(recipe.flip_probability))
    if recipe.strength > 0 and recipe.jitter_probability > 0:
        spread = torch.tensor([0.8, 0.8, 0.8, 0.2])[:, None] * recipe.strength
        change = (2 * uniform(len(OPERATIONS), n).cpu() - 1) * spread
        change = change * happens(recipe.jitter_probability).cpu()
        # a factor below 0 cannot be: torchvision cuts the range there
        factors = [(1 + c).clamp_(min=0) for c in change[:3]] + [change[3]]
        order = uniform(n, len(OPERATIONS)).argsort(1)
        views = colour_jitter(views, *factors, order)
    if recipe.grey_probability > 0 and channels == 3:
        views = torch.where(_per_image(happens(recipe.grey_probability), views), grey(views), views)
    if recipe.blur_probability > 0:
        low, high = recipe.blur_sigma
        sigma = low + (high - low) * uniform(n)
        chosen = happens(recipe.blur_probability).nonzero()[:, 0]
        kernel = 2 * (int(recipe.blur_kernel * height) // 2) + 1
        at = chosen.to(views.device)
        views = views.index_copy(0, at, gaussian_blur(views[at], sigma[chosen], max(kernel, 3)))
    return views


def crop_boxes(
    n: int,
    height: int,
    width: int,
    scale: tuple[float, float],
    aspect: tuple[float, float],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Places of n random crops: top, left, height, width; each int64 ``(n,)``.

    Drawn as torchvision's ``RandomResizedCrop`` does: area uniform, aspect ratio log-uniform, up to
    ten tries to fit into the image, else the largest central crop of an allowed ratio.
    """

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=generator.device)

    area = height * width * (scale[0] + (scale[1] - scale[0]) * uniform(10, n))
    low, high = math.log(aspect[0]), math.log(aspect[1])
    ratio = (low + (high - low) * uniform(10, n)).exp()
    w, h = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.to(torch.uint8).argmax(0, keepdim=True)  # argmax gives the first of equals
    fits, w, h = (x.gather(0, first)[0] for x in (fits, w, h))
    whole = min(max(width / height, aspect[0]), aspect[1])
    fallback_w = min(width, round(height * whole))
    fallback_h = min(height, round(width / whole))
    place = uniform(2, n)
    top, left = (place[0] * (height - h + 1)).floor(), (place[1] * (width - w + 1)).floor()
    choices = (
        (top, (height - fallback_h) // 2), (left, (width - fallback_w) // 2),
        (h, fallback_h), (w, fallback_w),
    )  # fmt: skip
    return tuple(torch.where(fits, drawn, float(other)).long() for drawn, other in choices)


def resized_crop(
    images: Tensor,
    top: Tensor,
    left: Tensor,
    height: Tensor,
    width: Tensor,
    flipped: Tensor | None = None,
) -> Tensor:
    """Crop image n to ``height[n] x width[n]`` at ``(top[n], left[n])``, resize back, mirror.

    images: float ``(N, C, H, W)``; boxes int64 ``(N,)`` inside the image; flipped: bool ``(N,)``.
    Bilinear interpolation with half-pixel centres that never looks outside the crop, as
    torchvision's ``resized_crop`` to the original size (where antialiasing has no effect, since
    the crop is never larger than the result).
    """
    rows = _interpolation(images.shape[2], top, height, images)
    columns = _interpolation(images.shape[3], left, width, images, flipped)
    return _rows_columns(images, rows, columns)


def colour_jitter(
    images: Tensor,
    brightness: Tensor,
    contrast: Tensor,
    saturation: Tensor,
    hue: Tensor,
    order: Tensor,
) -> Tensor:
    """Brightness, contrast, saturation (factors, 1 = unchanged) and hue (shift, 0 = unchanged).

    images: float ``(N, C, H, W)`` in 0..1; factors float ``(N,)``, hue in -0.5..0.5; order: int64
    ``(N, 4)``, row n being the order of :data:`OPERATIONS` for image n. Values are cut to 0..1
    after each operation, as in torchvision. Without three channels, saturation and hue are skipped.
    """
    colour = images.shape[1] == 3
    order = order.cpu()
    factors = torch.stack([brightness, contrast, saturation]).cpu().float()
    if not colour:  # the order of the two that are left
        first = (order == 1).long().argmax(1) < (order == 0).long().argmax(1)
        order = torch.stack([first.long(), 1 - first.long()], 1)
    for position in range(order.shape[1]):
        operation = order[:, position]
        factor = factors.gather(0, operation.clamp(max=2)[None])[0]
        factor = torch.where(operation == 3, 1.0, factor)  # hue comes below
        blend = _per_image((1 - factor) * (operation == 1), images)
        if colour:
            pale = grey(images)
            base = blend * pale.mean((1, 2, 3), keepdim=True)
            base = base + _per_image((1 - factor) * (operation == 2), images) * pale
        else:
            base = blend * images.mean((1, 2, 3), keepdim=True)
        images = torch.addcmul(base, images, _per_image(factor, images)).clamp_(0, 1)
        if colour:
            chosen = ((operation == 3) & (hue.cpu() != 0)).nonzero()[:, 0]
            at = chosen.to(images.device)
            images = images.index_copy(0, at, _shift_hue(images[at], hue.cpu()[chosen]))
    return images


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
    weights = (-0.5 * (distance / sigma).square()).exp()
    weights = weights / weights.sum(1, keepdim=True)

    def matrix(size: int) -> Tensor:
        eye = torch.eye(size, device=images.device, dtype=images.dtype)
        # row i of `taps[o]` picks the pixel at i + o - reach, reflected at the borders
        padded = F.pad(eye[None], (reach, reach), mode="reflect")[0]
        taps = padded.unfold(1, size, 1).permute(1, 2, 0)
        return (weights @ taps.reshape(kernel_size, -1)).view(-1, size, size)

    return _rows_columns(images, matrix(images.shape[2]), matrix(images.shape[3]))


def _unit_range(images: Tensor) -> Tensor:
    if images.ndim != 4:
        raise ValueError(f"views are made of images (N, C, H, W), got {tuple(images.shape)}")
    if images.dtype == torch.uint8:
        return images.float().mul_(1 / 255)
    if not images.is_floating_point():
        raise TypeError(f"views are made of uint8 (0..255) or float (0..1), got {images.dtype}")
    return images.float()


def _per_image(values: Tensor, images: Tensor) -> Tensor:
    dtype = torch.bool if values.dtype == torch.bool else images.dtype
    return values.to(images.device, dtype, non_blocking=True).view(-1, 1, 1, 1)


def _interpolation(
    size: int, start: Tensor, length: Tensor, images: Tensor, flipped: Tensor | None = None
) -> Tensor:
    """(N, size, size): row i holds the weights of the input pixels in output pixel i."""
    device = images.device
    start, length = (x.to(device, torch.float32)[:, None] for x in (start, length))
    output = torch.arange(size, device=device, dtype=torch.float32)
    place = (output + 0.5) * (length / size) - 0.5
    place = start + torch.minimum(place.clamp_(min=0), length - 1)
    if flipped is not None:
        place = torch.where(flipped.to(device)[:, None], place.flip(1), place)
    weights = place[:, :, None] - output  # of the two neighbours: 1 - distance
    return weights.abs_().neg_().add_(1).clamp_(min=0).to(images.dtype)


def _rows_columns(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """rows[n] @ images[n, c] @ columns[n]^T for all images and channels."""
    n, c, h, w = images.shape
    if c == 1:
        return torch.bmm(torch.bmm(rows, images[:, 0]), columns.transpose(1, 2))[:, None]
    across = torch.bmm(images.reshape(n, c * h, w), columns.transpose(1, 2)).view(n, c, h, w)
    return torch.matmul(rows[:, None], across)


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
    hue = hue + 6 * shift.to(images.device, images.dtype).view(-1, 1, 1)
    # f(n) = V - C max(0, min(k, 4 - k, 1)) with k = (n + H) mod 6, for n = 5, 3, 1
    offset = torch.tensor([5.0, 3.0, 1.0], device=images.device).view(1, 3, 1, 1)
    k = (offset + hue[:, None]).remainder(6)
    weight = torch.minimum(k, 4 - k).clamp_(0, 1)
    return value[:, None] - chroma[:, None] * weight
