"""What camera and scene do to a finished tile: light, focus, an object in front, sensor noise."""

from __future__ import annotations

import numpy as np

from faceline.made.motion import Wander, window
from faceline.made.script import Confound, Script


class Optics:
    """The look of one person's tile over time."""

    def __init__(self, script: Script, person: int) -> None:
        """
        Args:
            script: the whole script.
            person: 1-based number.
        """
        rng = np.random.default_rng([script.seed, person, 10])
        self._confounds = tuple(c for c in script.confounds if c.person in (None, person))
        self._drift = Wander.draw(rng, 0.01, 0.06)
        self._seed = [script.seed, person, 11]
        self._shape = (script.tile_height_px, script.tile_width_px)
        # Fresh noise for each frame would cost more than the whole warp: one larger field, seen at random offsets.
        size = (self._shape[0] + 61, self._shape[1] + 67, 3)
        self._noise = np.rint(128 + rng.standard_normal(size, np.float32) * np.float32(script.noise)).astype(np.uint8)
        x = np.linspace(0, 1, self._shape[1], dtype=np.float32)
        self._side_light = np.repeat(x[None, :], self._shape[0], axis=0)

    def apply(self, rgb: np.ndarray, time_s: float, frame: int) -> np.ndarray:
        """The tile as the camera records it, uint8 [h, w, 3].

        Args:
            rgb: uint8 [h, w, 3]; not changed.
            time_s: seconds from the first frame.
            frame: index, from which the noise is drawn.
        """
        import cv2

        out = rgb
        for confound in self._confounds:
            if confound.kind == "occlusion" and window(confound, time_s) > 0:
                out = _occlude(out, confound, time_s)
        for confound in self._confounds:
            amount = confound.strength * window(confound, time_s)
            if confound.kind == "light" and amount > 0:
                out = self._relight(out, amount)
            elif confound.kind == "blur" and amount > 0.02:
                out = cv2.GaussianBlur(out, (0, 0), 0.3 + 5.0 * amount * self._shape[0] / 480)
        gain = 1.0 + 0.02 * self._drift.at(time_s)
        rng = np.random.default_rng([*self._seed, frame])
        top, left = int(rng.integers(0, 62)), int(rng.integers(0, 68))
        grain = self._noise[top : top + self._shape[0], left : left + self._shape[1]]
        return cv2.addWeighted(out, gain, grain, 1.0, -128.0)  # in one pass, saturating

    def _relight(self, rgb: np.ndarray, amount: float) -> np.ndarray:
        """Dim the scene, more on its right, and warm its colour."""
        dim = 1.0 - amount * (0.35 + 0.4 * self._side_light)
        tint = np.array([1.0, 1.0 - 0.08 * amount, 1.0 - 0.22 * amount], np.float32)
        return (rgb * (dim[..., None] * tint)).astype(np.uint8)


def _occlude(rgb: np.ndarray, confound: Confound, time_s: float) -> np.ndarray:
    """A mug comes up from below, stays before the mouth and goes again."""
    import cv2

    height, width = rgb.shape[:2]
    up = window(confound, time_s)
    cover = 0.30 + 0.15 * confound.strength
    half = int(0.17 * width)
    middle, top = width // 2, int(height * (1.05 - up * (1.05 - (0.98 - cover))))
    out = rgb.copy()
    bottom = min(top + int(0.6 * height), height + 40)
    cv2.rectangle(out, (middle - half, top), (middle + half, bottom), (52, 74, 112), -1)
    cv2.ellipse(out, (middle, top), (half, half // 4), 0, 0, 360, (66, 92, 136), -1, cv2.LINE_AA)
    cv2.ellipse(out, (middle, top), (int(half * 0.88), int(half * 0.2)), 0, 0, 360, (30, 38, 54), -1, cv2.LINE_AA)
    cv2.ellipse(
        out,
        (middle + half, top + half),
        (half // 2, int(half * 0.7)),
        0,
        -90,
        90,
        (46, 66, 100),
        half // 5,
        cv2.LINE_AA,
    )
    box = slice(max(top - half, 0), height)
    out[box] = cv2.GaussianBlur(out[box], (0, 0), 0.8) if top < height else out[box]
    return out
