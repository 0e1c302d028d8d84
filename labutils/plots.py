"""One look for all figures of the book."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from labutils.statistics import mean_interval

# Okabe & Ito's palette, which colour-blind readers can tell apart, and wine of Tol's
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, YELLOW, GREY = "#CC79A7", "#56B4E9", "#C9B400", "#7F7F7F"
BLACK, WINE = "#222222", "#882255"

# One colour per role in the whole book, so that a reader knows the curves of a new notebook.
OURS = BLUE  # the technique that the notebook is about
REFERENCE = GREY  # training without it: on the labels alone, or on all data
CHANCE = BLACK  # a uniform guess, a random choice
PROBE = SKY  # a linear layer on frozen features
RIVALS = (ORANGE, GREEN, VERMILION, PURPLE, WINE, YELLOW)  # others, in the order of the notebook


def use_style() -> None:
    """Set the book's figure style for this kernel: vector output, white ground, light frame."""
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats("svg", dpi=200)  # of what is drawn as pixels
    ground = {"legend.frameon": True, "legend.framealpha": 0.8, "legend.edgecolor": "none"}
    plt.style.use([Path(__file__).parent / "assets" / "book.mplstyle", ground])  # words on curves


def mean_line(ax, x, samples, **style) -> None:
    """Line of means with the band of their 95 % t intervals.

    x: (num_points,). samples: for each point its values, one per seed. style: for `ax.plot`.
    """
    (line,) = ax.plot(x, [np.mean(sample) for sample in samples], **style)
    if min(map(len, samples)) > 1:
        bounds = [mean_interval(sample) for sample in samples]
        low, high = [b.low for b in bounds], [b.high for b in bounds]
        ax.fill_between(x, low, high, color=line.get_color(), alpha=0.18, linewidth=0)


def points(ax, x, y, **style):
    """`ax.scatter` for many points: they are drawn as pixels, so that a figure stays small.

    x, y: (num_points,). style: for `ax.scatter`, whose collection is returned.
    """
    return ax.scatter(x, y, rasterized=True, **style)


def image_grid(images, columns=10, scale=0.7):
    """Figure of images (N, C, H, W), uint8 or float in [0, 1], pixel by pixel, `columns` a row."""
    rows = -(-len(images) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(columns * scale, rows * scale), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, image in zip(axes.flat, images, strict=False):
        picture = image.permute(1, 2, 0).cpu().numpy()
        picture = picture if picture.shape[2] == 3 else picture[..., 0]
        top = 255 if picture.dtype == np.uint8 else 1  # a dark image is shown dark
        ax.imshow(picture, cmap="gray_r", interpolation="none", vmin=0, vmax=top)
    return fig
