"""The paper that plots are drawn on: frames of panels, strokes, boxes, words, PNG bytes.

Matplotlib draws; of it only a figure and the artists on it are used, with coordinates in inches. Its axes make dozens
of objects each and lay all of them out, which took longer than the drawing, and a plot here has up to eight panels. Its
global state (pyplot, rcParams) is not touched.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from faceline.report.panels import LEFT_IN, TOP_MARGIN_IN, WIDTH_IN, Panel, Tick

BLUE, ORANGE, VERMILLION, GRAY, INK, BLACK = "#0072B2", "#E69F00", "#D55E00", "#767676", "#222222", "#000000"
"""From Okabe and Ito, "Color Universal Design" (2008), told apart with any colour vision."""

_POINT_IN = 1 / 72
_TICK_PT, _TICK_WORDS_PT = 3.5, 7.0
_NAME_IN = 0.38
"""From the left edge of a panel to its name: room for the labels of its ticks."""


class Paper:
    """A white sheet, 11 inches wide. What is drawn later lies on top, words on top of all.

    Args:
        height_in: its height in inches.
    """

    def __init__(self, height_in: float) -> None:
        from matplotlib.figure import Figure

        self.height_in = height_in
        self._figure = Figure(figsize=(WIDTH_IN, height_in), facecolor="white")
        self._drawn = 0

    def title(self, words: str) -> None:
        """A heading above the panels, at their left edge."""
        self.words(LEFT_IN, self.height_in - TOP_MARGIN_IN + 14 * _POINT_IN, words, size=12, ha="left", va="baseline")

    def words(
        self,
        x_in: float,
        y_in: float,
        words: str,
        *,
        size: float,
        ha: str,
        va: str,
        colour: str = INK,
        bold: bool = False,
        upwards: bool = False,
    ) -> None:
        """Words at a place in inches; ``upwards``: turned to be read from below."""
        self._figure.text(
            x_in,
            y_in,
            words,
            transform=self._figure.dpi_scale_trans,
            fontsize=size,
            fontweight="bold" if bold else "normal",
            color=colour,
            ha=ha,
            va=va,
            rotation=90 if upwards else 0,
            # Words come from footage: a $ in them is a $.
            parse_math=False,
        )

    def words_in(self, panel: Panel, words: str) -> None:
        """Words in the middle of a panel that has nothing to show."""
        x_in = (panel.left_in + panel.right_in) / 2
        self.words(x_in, panel.middle_in, words, size=10, ha="center", va="center", colour=GRAY)

    def name(self, panel: Panel, words: str) -> None:
        """What a panel shows, to the left of it."""
        self.words(panel.left_in - _NAME_IN, panel.middle_in, words, size=9, ha="right", va="center", colour=BLACK)

    def frame(self, panel: Panel) -> None:
        """Lines along the left and the lower edge of a panel."""
        corner = (panel.left_in, panel.bottom_in)
        edges = [((panel.left_in, panel.top_in), corner), (corner, (panel.right_in, panel.bottom_in))]
        self._strokes(edges, GRAY, 0.8, capstyle="projecting")

    def x_ticks(self, panel: Panel, ticks: Sequence[Tick], what: str | None) -> None:
        """Marks below a panel; what they count below their labels, or no labels at all for ``None``."""
        at_in = panel.x_in([tick.at for tick in ticks])
        end_in = panel.bottom_in - _TICK_PT * _POINT_IN
        self._strokes([((x, panel.bottom_in), (x, end_in)) for x in at_in], INK, 0.8)
        if what is None:
            return
        y_in = panel.bottom_in - _TICK_WORDS_PT * _POINT_IN
        for x_in, tick in zip(at_in, ticks, strict=True):
            self.words(x_in, y_in, tick.words, size=9, ha="center", va="top")
        x_in = (panel.left_in + panel.right_in) / 2
        self.words(x_in, y_in - 13.2 * _POINT_IN, what, size=9, ha="center", va="top", colour=BLACK)

    def y_ticks(self, panel: Panel, ticks: Sequence[Tick], *, size: float) -> None:
        """Marks with labels to the left of a panel."""
        at_in = panel.y_in([tick.at for tick in ticks])
        end_in = panel.left_in - _TICK_PT * _POINT_IN
        self._strokes([((panel.left_in, y), (end_in, y)) for y in at_in], INK, 0.8)
        x_in = panel.left_in - _TICK_WORDS_PT * _POINT_IN
        for y_in, tick in zip(at_in, ticks, strict=True):
            self.words(x_in, y_in, tick.words, size=size, ha="right", va="center_baseline")

    def rule(self, panel: Panel, y: float, colour: str, width: float, style: str = "-") -> None:
        """A level line across a panel."""
        y_in = panel.y_in(y)
        self._strokes([((panel.left_in, y_in), (panel.right_in, y_in))], colour, width, linestyle=style)

    def upright(self, panel: Panel, x: float, colour: str, width: float, style: str = "-") -> None:
        """An upright line across a panel."""
        x_in = panel.x_in(x)
        self._strokes([((x_in, panel.bottom_in), (x_in, panel.top_in))], colour, width, linestyle=style)

    def line(self, panel: Panel, x: Any, y: Any, colour: str, width: float, *, round_ends: bool = False) -> None:
        """A line through points, broken where one is NaN."""
        from matplotlib.lines import Line2D

        at = (panel.x_in(x), panel.y_in(y))
        ends: Literal["round", "projecting"] = "round" if round_ends else "projecting"
        self._add(Line2D(*at, color=colour, lw=width, solid_joinstyle="round", solid_capstyle=ends))

    def marks(
        self, panel: Panel, x: Any, y: Any, shape: str, size: float, colour: str, edge: tuple[str, float] | None = None
    ) -> None:
        """A mark at each point: ``"o"`` a dot, ``"v"`` a triangle on its tip; ``edge``: its colour and width."""
        from matplotlib.lines import Line2D

        hue, width = edge or ("none", 0.0)
        at = (panel.x_in(x), panel.y_in(y))
        self._add(Line2D(*at, ls="none", marker=shape, ms=size, color=colour, mec=hue, mew=width))

    def boxes(
        self, panel: Panel, boxes: Iterable[tuple[float, float, float, float]], colour: str, alpha: float = 1.0
    ) -> None:
        """Filled rectangles (left, right, one end, other end), in values of the panel's scales."""
        edges = np.array(list(boxes), dtype=np.float64).reshape(-1, 4)
        left, right = panel.x_in(edges[:, 0]), panel.x_in(edges[:, 1])
        low, high = panel.y_in(edges[:, 2]), panel.y_in(edges[:, 3])
        corners = np.stack([left, low, left, high, right, high, right, low], axis=1)
        self._polygons(list(corners.reshape(-1, 4, 2)), colour, alpha)

    def areas(
        self, panel: Panel, lines: Iterable[tuple[np.ndarray, np.ndarray]], base: float, colour: str, alpha: float
    ) -> None:
        """What lies between lines and a height, filled."""
        foot_in = float(panel.y_in(base))
        shapes = []
        for x, y in lines:
            x_in, y_in = panel.x_in(x), panel.y_in(y)
            around = ([x_in[0], *x_in, x_in[-1]], [foot_in, *y_in, foot_in])
            shapes.append(np.column_stack(around))
        self._polygons(shapes, colour, alpha)

    def png(self, name: str, dpi: int) -> bytes:
        """The sheet as PNG bytes that depend on nothing but what is drawn and ``name``, written into a text field."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from PIL import Image, PngImagePlugin

        self._figure.set_dpi(dpi)
        canvas = FigureCanvasAgg(self._figure)
        canvas.draw()
        # No date and no library version: the same input gives the same bytes.
        fields = PngImagePlugin.PngInfo()
        fields.add_text("Source", "".join(c if c.isprintable() else " " for c in name))
        size = canvas.get_width_height()
        # White paper has no transparency: a quarter less to compress. Level 3 takes two thirds of the time of 6, for
        # files that are some 10 % larger.
        picture = Image.frombuffer("RGBA", size, canvas.buffer_rgba(), "raw", "RGBA", 0, 1).convert("RGB")
        out = io.BytesIO()
        picture.save(out, "PNG", pnginfo=fields, dpi=(dpi, dpi), compress_level=3)
        return out.getvalue()

    def _strokes(self, segments: Sequence[Any], colour: str, width: float, **how: Any) -> None:
        from matplotlib.collections import LineCollection

        if segments:
            self._add(LineCollection(segments, colors=colour, linewidths=width, **how))

    def _polygons(self, shapes: Sequence[np.ndarray], colour: str, alpha: float) -> None:
        from matplotlib.collections import PolyCollection

        if shapes:
            self._add(PolyCollection(shapes, facecolors=colour, alpha=alpha, linewidths=0))

    def _add(self, artist: Any) -> None:
        # By default Matplotlib lays lines over areas whatever came first; words have 3.
        self._drawn += 1
        artist.set_zorder(1 + self._drawn / 1e6)
        artist.set_transform(self._figure.dpi_scale_trans)
        self._figure.add_artist(artist)
