"""The paper that plots are drawn on: figures, axes, labels, PNG bytes. Matplotlib's global state is not touched."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

from faceline.report import series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, VERMILLION, GRAY, INK = "#0072B2", "#E69F00", "#D55E00", "#767676", "#222222"
"""From Okabe and Ito, "Color Universal Design" (2008), told apart with any colour vision."""

WIDTH_IN = 11.0


def figure_of(rows: int, height_in: float) -> tuple[Figure, list[Axes]]:
    """A white figure of so many strips one above the other that share their x axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, height_in), facecolor="white")
    # Fixed margins in inches: a layout engine takes longer than all the drawing.
    figure.subplots_adjust(
        left=1.75 / WIDTH_IN,
        right=1 - 0.75 / WIDTH_IN,
        top=1 - 0.5 / height_in,
        bottom=0.52 / height_in,
        hspace=0.3,
    )
    grid = figure.subplots(rows, 1, sharex=True, squeeze=False)
    for axes in grid[:, 0]:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GRAY)
        axes.tick_params(colors=INK, labelsize=9)
    return figure, list(grid[:, 0])


def time_axis(axes: Axes, span: tuple[float, float]) -> None:
    """Make an axis one of time in the footage."""
    start_s, end_s = span
    ticks = series.time_ticks(start_s, end_s, most=12)
    step_s = ticks[1] - ticks[0] if len(ticks) > 1 else math.inf
    axes.set_xticks(ticks, [series.tick_label(tick, step_s) for tick in ticks])
    pad_s = max((end_s - start_s) * 0.005, 1e-3)
    axes.set_xlim(start_s - pad_s, end_s + pad_s)
    axes.set_xlabel("time in the footage (mm:ss)", fontsize=9)


def title(axes: Axes, words: str) -> None:
    """A heading above the axes, at their left edge."""
    axes.set_title(words, loc="left", fontsize=12, color=INK, pad=14)


def label(axes: Axes, x: float, y: float, words: str, *, va: str, ha: str = "center", above: bool = False) -> None:
    """Small bold words at (x, y) in data units; ``above``: y counts in heights of the axes, and may lie outside."""
    text = axes.text(x, y, words, fontsize=8, fontweight="bold", color=INK, ha=ha, va=va, parse_math=False)
    if above:
        text.set_transform(axes.get_xaxis_transform())


def words_in(axes: Axes, words: str) -> None:
    """Words in the middle of axes that have nothing to show."""
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", fontsize=10, color=GRAY)
    axes.set_yticks([])


def png_of(figure: Figure, name: str, dpi: int) -> bytes:
    """A figure as PNG bytes that depend on nothing but what is drawn and the footage's name."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    out = io.BytesIO()
    source = "".join(c if c.isprintable() else " " for c in name)
    # No date and no library version: the same input gives the same bytes.
    figure.savefig(out, format="png", dpi=dpi, metadata={"Software": None, "Source": source})
    return out.getvalue()
