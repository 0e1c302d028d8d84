"""RandAugment and cutout for whole batches: every image its own operations and magnitudes.

The pool of 14 operations and their ranges are those of the code that FlexMatch and sample adaptive
augmentation share (`TorchSSL/TorchSSL`, `GuanGui-nju/SAA`), after Cubuk et al. 2020. Each operation
follows its counterpart in PIL to the rounding. They are of three kinds: blends with another image,
tables of 256 values per image, and moves with an index per pixel. On a CPU every operation is done
to its own images, elsewhere all operations of a kind to all images, which then take what is theirs.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from labutils import checks
from labutils.augment.weak import constant, per_image, selects, uniform

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
LARGEST_CUTOUT = 0.5  # share of the width


def strong_augment(images: Tensor, generator: torch.Generator, num_operations: int = 3) -> Tensor:
    """RandAugment, then cutout; every image draws its own operations, magnitudes and square.

    images: uint8 ``(N, C, H, W)``, C = 1 or 3; the result has the same shape, dtype and device.
    num_operations: applied one after the other, drawn with replacement. The square's side is
    uniform between 0 and half of the width. ``generator`` may live on the CPU when the images do
    not.

    Raises ``TypeError`` for other dtypes and ``ValueError`` for other shapes.
    """
    checks.fit("generator, num_operations >= 0", generator, num_operations)
    size, device = (num_operations, len(images)), generator.device
    operations = torch.randint(len(OPERATIONS), size, generator=generator, device=device)
    drawn = uniform(generator, num_operations + 3, len(images)).to(images.device)
    operations, shares, square = operations.to(images.device), drawn[:-3], drawn[-3:]
    low, high = constant(tuple(RANGES.values()), images.device).unbind(1)
    images = apply(images, operations, low[operations] + (high - low)[operations] * shares)
    height, width = images.shape[2:]
    side = square[0] * (LARGEST_CUTOUT * width)
    return cutout(images, square[1] * width, square[2] * height, side)


def apply(images: Tensor, operations: Tensor, magnitudes: Tensor) -> Tensor:
    """Apply ``OPERATIONS[operations[n]]`` with ``magnitudes[n]`` to image n.

    images: uint8 ``(N, C, H, W)``, C = 1 or 3; operations: int64 ``(N,)``, or ``(K, N)`` for one
    after the other; magnitudes: float32, in the units of :data:`RANGES`; all on one device.
    Geometric operations take the nearest pixel and fill with 0. Returns new images.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"strong augmentation expects uint8 images 0..255, got {images.dtype}")
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"apply expects images (N, 1 or 3, H, W), got {tuple(images.shape)}")
    operations, magnitudes = torch.atleast_2d(operations, magnitudes)
    checks.fit("operations int (K, N), magnitudes (K, N)", operations, magnitudes)
    checks.fit("images (N, C, H, W), magnitudes (K, N)", images, magnitudes)
    if selects(images):
        for operation, magnitude in zip(operations, magnitudes, strict=True):
            images = _apply_by_groups(images, operation, magnitude)
        return images
    numbers = torch.arange(len(OPERATIONS), device=images.device)[:, None]
    masks = dict(zip(OPERATIONS, (operations[:, None] == numbers).unbind(1), strict=True))
    sources = _sources(masks, magnitudes, *images.shape[2:])
    for k, magnitude in enumerate(magnitudes):
        now = {name: mask[k] for name, mask in masks.items()}
        images = _look_up(_blend(images, now, magnitude), now, magnitude)
        images = _move(images, sources[k])
    return images


def _apply_by_groups(images: Tensor, operation: Tensor, magnitude: Tensor) -> Tensor:
    """One operation per image, ``(N,)``: every group of operations for its own images."""
    group = torch.tensor(_GROUP_OF)[operation]
    order, sizes = group.argsort(), group.bincount(minlength=len(_GROUPS)).tolist()
    split = (x.index_select(0, order).split(sizes) for x in (images, operation, magnitude))
    parts = []
    for (names, function), part, numbers, strength in zip(_GROUPS.items(), *split, strict=True):
        masks = {name: numbers == OPERATIONS.index(name) for name in names if len(names) > 1}
        parts.append(function(part, masks or dict.fromkeys(names), strength) if len(part) else part)
    return torch.cat(parts).index_select(0, order.argsort())


def _take(mask: Tensor | None, new: Tensor, old: Tensor) -> Tensor:
    """``new`` where the mask ``(N,)`` holds, and everywhere without one."""
    return new if mask is None else torch.where(mask.view(-1, *[1] * (old.ndim - 1)), new, old)


def cutout(images: Tensor, x: Tensor, y: Tensor, side: Tensor) -> Tensor:
    """Paint a square of ``side[n]`` pixels around ``(x[n], y[n])`` into image n.

    images: uint8 ``(N, C, H, W)``; x, y, side: float ``(N,)`` in pixels, on the same device. As in
    the code that FlexMatch and SAA share, a square that begins outside is moved to the border
    instead of being cut, and both its end pixels are painted. Grey images get the luminance of
    :data:`CUTOUT_COLOUR`.
    """
    checks.fit("images (N, C, H, W), x (N,), y (N,), side (N,)", images, x, y, side)
    side = side.masked_fill(side <= 0, -1)  # paints nothing
    columns = _span(x, side, images.shape[3])[:, None, None, :].to(images.dtype)
    rows = _span(y, side, images.shape[2])[:, None, :, None].to(images.dtype)
    paint = constant(tuple(map(float, CUTOUT_COLOUR)), images.device).view(1, 3, 1, 1)
    paint = paint if images.shape[1] == 3 else _luminance(paint)
    # bytes count in a circle, so that the difference may be negative; faster than torch.where
    return torch.addcmul(images, paint.to(images.dtype) - images, rows * columns)


def _span(centre: Tensor, side: Tensor, size: int) -> Tensor:
    """bool (N, size): which pixels lie in [centre - side / 2, ... + side], moved inside."""
    first = torch.sub(centre, side, alpha=0.5).clamp_(min=0).floor_()[:, None]
    pixels = torch.arange(size, device=centre.device)
    return (pixels >= first) & (pixels <= first + side[:, None])


# --- blends with another image --------------------------------------------------------------------


def _blend(images: Tensor, masks: dict, magnitude: Tensor) -> Tensor:
    """PIL's Image.blend of another image and the pixels, rounded down."""
    pixels = images.float()
    grey = pixels
    if images.shape[1] == 3 and masks.keys() & {"Color", "Contrast"}:
        grey = _luminance(pixels)
    first = pixels  # blended with itself, an image stays as it is
    for name, other in _OTHERS.items():
        if name in masks:
            first = _take(masks[name], other(pixels, grey), first)
    mixed = (pixels - first).mul_(per_image(magnitude)).add_(first)
    mixed = mixed.short() if selects(images) else mixed  # a CPU is faster in two steps
    return mixed.to(torch.uint8)  # rounds down


def _smooth(pixels: Tensor, _) -> Tensor:
    rows = pixels[:, :, :-2] + pixels[:, :, 1:-1] + pixels[:, :, 2:]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    total.add_(pixels[:, :, 1:-1, 1:-1], alpha=4)
    smooth = pixels.clone()  # the border stays as it is
    smooth[:, :, 1:-1, 1:-1] = total.div_(13).add_(0.5).floor_()
    return smooth


def _luminance(pixels: Tensor) -> Tensor:
    """PIL's conversion of whole numbers (N, 3, ...) to grey; 24 bits are enough to be exact."""
    red, green, blue = pixels.split(1, 1)
    grey = torch.add(red * (19595 / 65536), green, alpha=38470 / 65536)
    return grey.add_(blue, alpha=7471 / 65536).add_(0.5).floor_()


_OTHERS = {
    "Brightness": lambda pixels, _: constant((0.0,), pixels.device),
    "Color": lambda _, grey: grey,
    "Contrast": lambda _, grey: grey.mean((2, 3), keepdim=True).add_(0.5).floor_(),
    "Sharpness": _smooth,
}


# --- tables of 256 values per image and channel ---------------------------------------------------


def _look_up(images: Tensor, masks: dict, magnitude: Tensor) -> Tensor:
    n, c = images.shape[:2]
    exact = torch.float32 if images.device.type == "mps" else torch.float64  # as in Python
    table = levels = torch.arange(256, dtype=exact, device=images.device).view(1, 1, 256)
    pixels, index = images.flatten(2), images.flatten(2).long()
    for name, make_table in _TABLES.items():
        if name in masks:
            new = make_table(pixels, index, levels, magnitude.view(-1, 1, 1))
            table = _take(masks[name], new, table)
    table = table.to(torch.uint8).expand(n, c, 256).reshape(n * c, 256)
    found = table.gather(1, index.reshape(n * c, -1))  # faster than in 3 dimensions
    return found.view(images.shape)


def _auto_contrast(pixels, _, levels, __):
    low, high = (x(2, keepdim=True).to(levels.dtype) for x in (pixels.amin, pixels.amax))
    scale = 255.0 / (high - low)
    stretched = (levels * scale - low * scale).clamp_(0, 255)  # rounded down by `_look_up`
    return torch.where(high > low, stretched, levels)


def _equalize(pixels, index, levels, _):
    counts = torch.zeros((*pixels.shape[:2], 256), device=pixels.device)  # exact below 2 ** 22
    counts.scatter_add_(2, index, torch.ones_like(index, dtype=counts.dtype))
    last = counts.gather(2, index.amax(2, keepdim=True))
    step = (pixels.shape[2] - last).div_(255).floor_()
    below = counts.cumsum(2).sub_(counts).add_(step, alpha=0.5)
    table = below.div_(step.clamp(min=1)).floor_().clamp_(max=255)
    return torch.where(step > 0, table, levels)


_TABLES = {
    "AutoContrast": _auto_contrast,
    "Equalize": _equalize,
    "Posterize": lambda _, __, levels, bits: levels - levels.fmod(2.0 ** (8 - bits.floor())),
    "Solarize": lambda _, __, levels, limit: torch.where(levels < limit, levels, 255 - levels),
}


# --- moves: where each pixel comes from -----------------------------------------------------------

_MOVES = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")


def _sources(masks: dict, magnitude: Tensor, height: int, width: int) -> Tensor:
    """Places in the image with a border of one pixel, (..., N, 1, H * W); masks are (..., N)."""
    rotate, shear_x, shear_y, right, down = (magnitude * masks[name] for name in _MOVES)
    angle = rotate * (-math.pi / 180)
    cosine, sine, centre_x, centre_y = angle.cos(), angle.sin(), width / 2, height / 2
    # source x = a column + b row + x0, source y = d column + e row + y0, at the pixels' centres
    a, b, d, e = cosine, sine + shear_x, shear_y - sine, cosine
    x0 = centre_x - cosine * centre_x - sine * centre_y + right * width
    y0 = centre_y + sine * centre_x - cosine * centre_y + down * height
    column = torch.arange(0.5, width, device=magnitude.device)
    row = torch.arange(0.5, height, device=magnitude.device)
    x = (a[..., None] * column)[..., None, :] + (b[..., None] * row + x0[..., None])[..., None]
    y = (d[..., None] * column)[..., None, :] + (e[..., None] * row + y0[..., None])[..., None]
    # what lies outside lands on the border, which is black
    x, y = x.floor_().clamp_(-1, width), y.floor_().clamp_(-1, height)
    place = torch.add(x, y, alpha=width + 2).add_(width + 3)
    return place.long().flatten(-2)[..., None, :]


def _move(images: Tensor, source: Tensor) -> Tensor:
    padded = F.pad(images, (1, 1, 1, 1)).flatten(2)
    return padded.gather(2, source.expand(-1, images.shape[1], -1)).view(images.shape)


_GROUPS: dict[tuple, Callable] = {  # names -> what does them together
    **{(name,): _blend for name in _OTHERS},
    **{(name,): _look_up for name in _TABLES},
    _MOVES: lambda images, *which: _move(images, _sources(*which, *images.shape[2:])),
    ("Identity",): lambda images, *_: images,
}
_GROUP_OF = [next(k for k, names in enumerate(_GROUPS) if name in names) for name in OPERATIONS]
