"""Figures: one style, roles with distinct colours, many points as pixels, intervals, images."""

import io
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from labutils import plots
from labutils.statistics import mean_interval


@pytest.fixture
def ax():
    with plt.rc_context():
        plots.use_style()
        figure, ax = plt.subplots()
        yield ax
        plt.close(figure)


def svg(figure) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", dpi=200)
    return stream.getvalue()


def test_no_two_roles_have_the_same_colour():
    roles = [plots.OURS, plots.REFERENCE, plots.CHANCE, plots.PROBE, *plots.RIVALS]
    assert len(set(roles)) == len(roles) == 10


def test_many_points_are_pixels_in_a_small_figure(ax):
    x, y = np.random.default_rng(0).random((2, 5000))
    drawn = plots.points(ax, x, y, s=4, color=plots.OURS)
    assert np.allclose(drawn.get_offsets(), np.stack([x, y], 1))
    assert to_hex(drawn.get_facecolor()[0]).upper() == plots.OURS
    text = svg(ax.figure)
    assert text.count("<image") == 1
    assert len(text) < 300_000
    assert "<text" in text or '<g id="text' in text  # what is not a point stays as it was


def test_the_same_figure_gives_the_same_file(ax):
    ax.plot([1, 2, 3])
    first, second = (re.sub("<dc:date>.*?</dc:date>", "", svg(ax.figure)) for _ in range(2))
    assert first == second


def test_a_line_of_means_has_the_band_of_its_intervals(ax):
    samples = np.array([[1.0, 2.0, 4.0], [5.0, 5.5, 7.0]])
    plots.mean_line(ax, [10, 20], samples, color=plots.OURS, label="ours")
    (line,) = ax.lines
    assert line.get_ydata().tolist() == samples.mean(1).tolist()
    (band,) = ax.collections
    corners = band.get_paths()[0].vertices
    for x, row in zip((10, 20), samples, strict=True):
        interval = mean_interval(row)
        heights = corners[corners[:, 0] == x, 1]
        assert heights.min() == pytest.approx(interval.low)
        assert heights.max() == pytest.approx(interval.high)


def test_one_seed_has_no_band(ax):
    plots.mean_line(ax, [1, 2], [[1.0], [2.0]])
    assert not ax.collections


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_shown_with_their_own_pixels_and_range(channels):
    dark = torch.full((5, channels, 4, 4), 10, dtype=torch.uint8)
    dark[:, :, 0, 0] = torch.arange(5, dtype=torch.uint8).view(5, 1)
    figure = plots.image_grid(dark, columns=3)
    shown = [ax for ax in figure.axes if ax.images]
    assert len(figure.axes) == 6
    assert [ax.images[0].get_array()[0, 0].min() for ax in shown] == list(range(5))
    for ax in shown:
        (image,) = ax.images
        assert image.get_clim() == (0, 255)
        assert image.get_array().shape == ((4, 4) if channels == 1 else (4, 4, 3))
    assert plots.image_grid(dark / 255).axes[0].images[0].get_clim() == (0, 1)
    plt.close("all")


def test_no_curve_runs_through_the_words_of_a_legend(ax):
    ax.plot([0, 1], label="a curve")
    frame = ax.legend().get_frame()
    assert frame.get_visible()
    assert 0.7 < frame.get_alpha() < 1
    assert frame.get_edgecolor()[3] == 0
