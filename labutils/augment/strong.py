"""RandAugment and cutout for whole batches: every image its own operations and magnitudes.

The pool of 14 operations and their ranges are those of the code that FlexMatch and sample adaptive
augmentation share (`TorchSSL/TorchSSL`, `GuanGui-nju/SAA`), after Cubuk et al. 2020. Each operation
follows its counterpart in PIL to the rounding. Images are grouped by what an operation needs:
point operations become one table of 256 values per image, geometric ones one index per pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from labutils.augment.weak import per_image, uniform

# Range of the uniformly drawn magnitude. Rotation in degrees, shear and translation as shares of
# the side, solarize as threshold, posterize in bits kept, the other four as factor of a blend.
RANGES = {
    "AutoContrast": (0.0, 1.0),
    "Brightness": (0.05, 0.95),
    "Color": (0.05, 0.95),
    "Contrast": (0.05, 0.95),
    "Equalize": (0.0, 1.0),
    "Identity": (0.0, 1.0),
    "Posterize": (4.0, 8.0),
    "Rotate": (-30.0, 30.0),
    "Sharpness": (0.05, 0.95),
    "ShearX": (-0.3, 0.3),
    "ShearY": (-0.3, 0.3),
    "Solarize": (0.0, 256.0),
    "TranslateX": (-0.3, 0.3),
    "TranslateY": (-0.3, 0.3),
}
OPERATIONS = tuple(RANGES)
CUTOUT_COLOUR = (125, 123, 114)

_LOW, _HIGH = torch.tensor(list(RANGES.values())).unbind(1)


def strong_augment(
    images: Tensor,
    generator: torch.Generator,
    num_operations: int = 3,
    largest_cutout: float = 0.5,
) -> Tensor:
    """RandAugment, then cutout; every image draws its own operations, magnitudes and square.

    images: uint8 ``(N, C, H, W)``, C = 1 or 3; the result has the same shape, dtype and device.
    num_operations: applied one after the other, drawn with replacement. largest_cutout: the
    square's side is uniform between 0 and this share of the width; 0 leaves cutout out.
    ``generator`` may live on the CPU when the images do not.

    Raises ``TypeError`` for other dtypes and ``ValueError`` for other shapes or settings.
    """
    _check(images)
    if num_operations < 0 or not 0 <= largest_cutout <= 1:
        raise ValueError(
            f"strong_augment expects num_operations >= 0 and largest_cutout in 0..1, got "
            f"{num_operations} and {largest_cutout}"
        )
    n, _, height, width = images.shape
    # on the CPU: choosing who gets an operation must not wait for a GPU
    operations = torch.randint(
        len(OPERATIONS), (num_operations, n), generator=generator, device=generator.device
    ).cpu()
    shares, square = uniform(generator, num_operations, n), uniform(generator, 3, n)
    magnitudes = _LOW[operations] + (_HIGH - _LOW)[operations] * shares
    for operation, magnitude in zip(operations, magnitudes, strict=True):
        images = apply(images, operation, magnitude)
    if largest_cutout == 0:
        return images
    sides = square[0] * largest_cutout * width
    return cutout(images, square[1] * width, square[2] * height, sides)


def apply(images: Tensor, operation: Tensor, magnitude: Tensor) -> Tensor:
    """Apply ``OPERATIONS[operation[n]]`` with ``magnitude[n]`` to image n.

    images: uint8 ``(N, C, H, W)``, C = 1 or 3; operation: int64 ``(N,)``, magnitude: float32
    ``(N,)``, both on the CPU, in the units of :data:`RANGES`. Geometric operations take the nearest
    pixel and fill with 0. Returns new images.
    """
    _check(images)
    parts, order = [], []
    for function, members in _GROUPS.items():
        chosen = members[operation].nonzero()[:, 0]
        part = images.index_select(0, chosen.to(images.device, non_blocking=True))
        parts.append(function(part, operation[chosen], magnitude[chosen]) if len(part) else part)
        order.append(chosen)
    back = torch.cat(order).argsort().to(images.device, non_blocking=True)
    return torch.cat(parts).index_select(0, back)  # several times faster than index_copy


def cutout(
    images: Tensor,
    x: Tensor,
    y: Tensor,
    side: Tensor,
    colour: tuple[int, int, int] = CUTOUT_COLOUR,
) -> Tensor:
    """Paint a square of ``side[n]`` pixels around ``(x[n], y[n])`` into image n.

    images: uint8 ``(N, C, H, W)``; x, y, side: float ``(N,)`` on the CPU, in pixels. As in the code
    that FlexMatch and SAA share, a square that begins outside is moved to the border instead of
    being cut, and both its end pixels are painted. Grey images get the luminance of ``colour``.
    """
    height, width = images.shape[2:]
    columns = _span(x, side, width, images.device)[:, None, None, :]
    rows = _span(y, side, height, images.device)[:, None, :, None]
    values = colour if images.shape[1] == 3 else (_luminance(*colour),)
    paint = torch.tensor(values, dtype=torch.uint8, device=images.device).view(1, -1, 1, 1)
    return torch.where(rows, torch.where(columns, paint, images), images)


def _span(centre: Tensor, side: Tensor, size: int, device: torch.device) -> Tensor:
    """bool (N, size): which pixels lie in [centre - side / 2, ... + side], moved inside."""
    first = (centre - side / 2).clamp(min=0).floor()
    last = (first + side).clamp(max=size).floor()
    last = torch.where(side > 0, last, -1.0)
    pixels = torch.arange(size)
    return ((pixels >= first[:, None]) & (pixels <= last[:, None])).to(device)


# --- point operations: one table of 256 values per image and channel ------------------------------


def _look_up(images: Tensor, operation: Tensor, magnitude: Tensor) -> Tensor:
    tables = torch.empty((*images.shape[:2], 256), dtype=torch.uint8, device=images.device)
    levels = torch.arange(256, dtype=torch.float32, device=images.device).view(1, 1, 256)
    for name, make_table in _TABLES.items():
        chosen = (operation == OPERATIONS.index(name)).nonzero()[:, 0]
        if len(chosen):
            at = chosen.to(images.device, non_blocking=True)
            strength = magnitude[chosen].to(images.device).view(-1, 1, 1)
            tables[at] = make_table(images.index_select(0, at), levels, strength).to(torch.uint8)
    pixels = images.flatten(2).flatten(0, 1).long()
    return tables.flatten(0, 1).gather(1, pixels).view_as(images)  # faster than in 3 dimensions


def _contrast_table(images, levels, factor):
    grey = images if images.shape[1] == 1 else _luminance(*images.int().unbind(1))
    mean = (grey.flatten(1).float().mean(1) + 0.5).floor()
    return _blend(mean.view(-1, 1, 1), levels, factor)


def _posterize_table(images, levels, bits):
    unit = 2.0 ** (8 - bits.floor())
    return (levels / unit).floor() * unit


def _auto_contrast_table(images, levels, _):
    pixels = images.flatten(2)
    device = "cpu" if images.device.type == "mps" else images.device  # MPS has no float64
    low, high = (x(2, keepdim=True).to(device).double() for x in (pixels.amin, pixels.amax))
    scale = 255.0 / (high - low).clamp(min=1)
    levels = levels.to(device).double()
    stretched = (levels * scale + -low * scale).clamp(0, 255).floor()
    return torch.where(high > low, stretched, levels).float().to(images.device)


def _equalize_table(images, levels, _):
    pixels = images.flatten(2).long()
    counts = torch.zeros((*pixels.shape[:2], 256), dtype=torch.int64, device=images.device)
    counts.scatter_add_(2, pixels, torch.ones_like(pixels))
    last = counts.gather(2, images.flatten(2).amax(2, keepdim=True).long())
    step = (pixels.shape[2] - last) // 255
    below = counts.cumsum(2) - counts
    table = ((below + step // 2) // step.clamp(min=1)).clamp(max=255)
    return torch.where(step > 0, table.float(), levels)


# --- operations on neighbouring pixels and channels -----------------------------------------------


def _sharpness(images: Tensor, _: Tensor, magnitude: Tensor) -> Tensor:
    pixels = images.float()
    rows = pixels[:, :, :-2] + pixels[:, :, 1:-1] + pixels[:, :, 2:]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * pixels[:, :, 1:-1, 1:-1]
    smooth = pixels.clone()  # the border stays as it is
    smooth[:, :, 1:-1, 1:-1] = (total / 13 + 0.5).floor()
    return _blend(smooth, pixels, per_image(magnitude, pixels)).to(torch.uint8)


def _colour(images: Tensor, _: Tensor, magnitude: Tensor) -> Tensor:
    if images.shape[1] == 1:
        return images
    pixels, grey = images.float(), _luminance(*images.int().unbind(1))[:, None].float()
    return _blend(grey, pixels, per_image(magnitude, pixels)).to(torch.uint8)


def _blend(first, second: Tensor, share: Tensor) -> Tensor:
    """PIL's Image.blend: rounds down."""
    return (first + share * (second - first)).floor()


def _luminance(red, green, blue):
    """PIL's conversion to grey, in integers."""
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16


# --- geometric operations: where each pixel comes from --------------------------------------------


def _affine(images: Tensor, operation: Tensor, magnitude: Tensor) -> Tensor:
    def amount(name: str) -> Tensor:
        return torch.where(operation == OPERATIONS.index(name), magnitude, 0.0)

    angle = -torch.deg2rad(amount("Rotate"))
    n, c, height, width = images.shape
    cosine, sine, centre_x, centre_y = angle.cos(), angle.sin(), width / 2, height / 2
    # source x = a column + b row + x0, source y = d column + e row + y0, at the pixels' centres
    matrix = torch.stack([
        cosine,
        sine + amount("ShearX"),
        centre_x - cosine * centre_x - sine * centre_y + amount("TranslateX") * width,
        -sine + amount("ShearY"),
        cosine,
        centre_y + sine * centre_x - cosine * centre_y + amount("TranslateY") * height,
    ])  # fmt: skip
    a, b, x0, d, e, y0 = matrix.to(images.device)
    column = torch.arange(width, device=images.device) + 0.5
    row = torch.arange(height, device=images.device) + 0.5
    x = (a[:, None] * column)[:, None, :] + (b[:, None] * row + x0[:, None])[:, :, None]
    y = (d[:, None] * column)[:, None, :] + (e[:, None] * row + y0[:, None])[:, :, None]
    # what lies outside lands on a border of zeros
    x, y = x.floor_().clamp_(-1, width), y.floor_().clamp_(-1, height)
    index = y.add_(1).mul_(width + 2).add_(x).add_(1).long().view(n, 1, height * width)
    padded = F.pad(images, (1, 1, 1, 1)).flatten(2)
    return padded.gather(2, index.expand(-1, c, -1)).view_as(images)


def _check(images: Tensor) -> None:
    if images.dtype != torch.uint8:
        raise TypeError(f"strong augmentation expects uint8 images 0..255, got {images.dtype}")
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            f"strong augmentation expects images (N, 1 or 3, H, W), got {tuple(images.shape)}"
        )


_TABLES = {
    "Brightness": lambda _, levels, factor: _blend(0.0, levels, factor),
    "Contrast": _contrast_table,
    "Solarize": lambda _, levels, limit: torch.where(levels < limit, levels, 255 - levels),
    "Posterize": _posterize_table,
    "AutoContrast": _auto_contrast_table,
    "Equalize": _equalize_table,
}


def _mask(*names: str) -> Tensor:
    return torch.tensor([name in names for name in OPERATIONS])


_GROUPS = {  # function -> which operations it does together
    _look_up: _mask(*_TABLES),
    _affine: _mask("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"),
    _sharpness: _mask("Sharpness"),
    _colour: _mask("Color"),
    lambda images, *_: images: _mask("Identity"),
}
