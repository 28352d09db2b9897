"""Display matrices against the coordinates they map, and pixel shapes."""

from __future__ import annotations

import itertools
import struct
from fractions import Fraction

import numpy as np
import pytest

from faceline.picture import Orientation, square_pixel_width

QUARTER_TURNS_AND_MIRRORINGS = [
    (a, b, c, d)
    for a, b, c, d in itertools.product((-1, 0, 1), repeat=4)
    if abs(a * d - b * c) == 1 and abs(a) + abs(b) == 1 and abs(c) + abs(d) == 1
]


@pytest.mark.parametrize(("a", "b", "c", "d"), QUARTER_TURNS_AND_MIRRORINGS)
def test_orientation_moves_every_pixel_to_where_the_matrix_maps_it(a, b, c, d):
    height, width = 3, 5
    stored = np.arange(height * width).reshape(height, width)
    unit = 1 << 16
    orientation = Orientation.from_display_matrix(
        struct.pack("=9i", a * unit, b * unit, 0, c * unit, d * unit, 0, 0, 0, 1 << 30)
    )
    upright = orientation.upright(stored)
    mapped = {(a * x + c * y, b * x + d * y): stored[y, x] for y in range(height) for x in range(width)}
    left, top = min(x for x, _ in mapped), min(y for _, y in mapped)
    expected = np.empty_like(upright)
    for (x, y), value in mapped.items():
        expected[y - top, x - left] = value
    np.testing.assert_array_equal(upright, expected)
    assert len(QUARTER_TURNS_AND_MIRRORINGS) == 8


@pytest.mark.parametrize(
    ("stored_px", "ratio", "square_px"),
    [
        (512, Fraction(15, 16), 480),
        (176, Fraction(128, 117), 193),
        (720, Fraction(64, 45), 1024),
        (640, Fraction(1), 640),
        (640, None, 640),
        (640, Fraction(0), 640),
        (640, Fraction(1, 1000), 640),
        (640, Fraction(500), 640),
    ],
)
def test_square_pixel_width(stored_px, ratio, square_px):
    assert square_pixel_width(stored_px, ratio) == square_px
