"""Random augmentation of whole batches, on the device where the images are.

Every image of a batch gets its own random parameters, drawn from a ``torch.Generator``, and all
images are transformed together by a few tensor operations. Compare torchvision's per-image
pipeline, which handles one image at a time in Python.
"""

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from labutils import checks

SELECTING = ("cpu",)


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Pixels 0..255 to float32 with ``(x / 255 - mean) / std`` per channel.

    ``images`` is uint8 ``(N, C, H, W)``; ``mean`` and ``std`` have one value per channel, in units
    of the pixel range 0..1. Raises ``TypeError`` for other dtypes (a float image may already be
    scaled) and ``ValueError`` for other shapes.
    """
    checks.fit("images uint8 (N, C, H, W), std > 0.0", images, std)
    if len(mean) != images.shape[1] or len(std) != images.shape[1]:
        raise ValueError(f"{tuple(images.shape)}, {len(mean)} means, {len(std)} stds: each needs C")
    scale = constant(tuple(1 / (255 * s) for s in std), images.device).view(-1, 1, 1)
    shifts = tuple(-m / s for m, s in zip(mean, std, strict=True))
    return images.float().mul_(scale).add_(constant(shifts, images.device).view(-1, 1, 1))


def pad_crop_flip(
    images: Tensor, padding: int, generator: torch.Generator, flip: bool = True
) -> Tensor:
    """Random crop after zero padding, then random horizontal flip, for every image on its own.

    ``images`` is ``(N, C, H, W)`` of any dtype, on any device; the result has the same shape, dtype
    and device. Each image is padded with ``padding`` zeros on all sides and cropped back to
    ``H x W`` at one of ``(2 * padding + 1) ** 2`` equally likely places; with ``flip`` it is then
    mirrored left to right with probability 1/2. ``generator`` may live on the CPU while the images
    are on a GPU: the random numbers are drawn where the generator is.
    """
    checks.fit("images (N, C, H, W), padding >= 0, generator", images, padding, generator)
    n = len(images)

    def draw(high: int) -> Tensor:
        values = torch.randint(high, (n,), generator=generator, device=generator.device)
        return values.to(images.device)

    top, left = draw(2 * padding + 1), draw(2 * padding + 1)
    flipped = draw(2) if flip else torch.zeros_like(top)
    return crop_flip(images, padding, top, left, flipped)


def crop_flip(images: Tensor, padding: int, top: Tensor, left: Tensor, flipped: Tensor) -> Tensor:
    """The deterministic part of :func:`pad_crop_flip`.

    ``top`` and ``left`` (int64 ``(N,)``, in 0..2*padding) place the crop in the padded image,
    ``flipped`` (``(N,)``, 0 or 1) says which crops are mirrored.
    """
    checks.fit("images (N, C, H, W), top (N,), left (N,)", images, top, left)
    n, c, h, w = images.shape
    if n == 0:
        return images.clone()
    # Copying whole rows of pixels from where each crop begins is several times faster than
    # indexing pixels. `rows` is a view: row k is the w pixels that begin at position k.
    padded = F.pad(images, (padding, padding, padding, padding)).contiguous()
    height, width = padded.shape[2:]
    rows = padded.as_strided((padded.numel() - w + 1, w), (1, 1))
    planes = torch.arange(n * c, device=images.device).view(n, c, 1) * (height * width)
    lines = torch.arange(h, device=images.device) * width
    corner = (top * width + left).view(n, 1, 1)
    crops = rows.index_select(0, (planes + corner + lines).view(-1)).view(n, c, h, w)
    both = torch.cat([crops, crops.flip(-1)])
    return both.index_select(0, torch.arange(n, device=images.device) + n * flipped)


def uniform(generator: torch.Generator, *shape: int) -> Tensor:
    """Uniform numbers in 0..1, where the generator is."""
    return torch.rand(shape, generator=generator, device=generator.device)


@cache
def constant(values: tuple, device: torch.device) -> Tensor:
    """Numbers as a tensor that is made once: a GPU would wait for the host at each copy."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)


def per_image(values: Tensor) -> Tensor:
    """One value per image, ``(N,)`` to ``(N, 1, 1, 1)``."""
    return values.view(-1, 1, 1, 1)


def selects(images: Tensor) -> bool:
    """Whether work is done for those images only that need it: a GPU would wait to learn which."""
    return images.device.type in SELECTING


def on_some(images: Tensor, mask: Tensor, function: Callable[..., Tensor], *values: Tensor) -> None:
    """Replace the images where ``mask`` (N,) holds by function(those images, their values).

    A function that changes images in place leaves those alone whose values say so.
    """
    if selects(images):
        chosen = mask.nonzero()[:, 0]
        if not len(chosen):
            return
        part = slice(int(chosen[0]), int(chosen[-1]) + 1)
        if part.stop - part.start == len(chosen):  # neighbours
            some = images[part]
            some.copy_(function(some, *(x[part] for x in values)))
            return
        if len(chosen) <= 0.7 * len(images):  # else to pick them out costs more than it saves
            new = function(images.index_select(0, chosen), *(x[chosen] for x in values))
            images.index_copy_(0, chosen, new)
            return
    new = function(images, *values)
    if new is not images:
        torch.where(per_image(mask), new, images, out=images)
