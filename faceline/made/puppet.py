"""A portrait that can be posed: one picture, its displacement fields, and the layers behind lids and lips.

The displacement of a pose is computed on a coarse grid, inverted there by Newton steps, and the picture is fetched
through it once. Over this base lie two layers: the *sheet* (lower lip with chin, upper lids), fetched through its own
displacement, and, between the lips, the *cavity* (teeth and the dark behind them), which moves with the skull.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from faceline.made import landmarks as lm
from faceline.made.fields import HEAD_CHANNELS, SIDES, face_fields, head_fields
from faceline.made.landmarks import FaceFrame
from faceline.made.paint import paint_cavity, paint_lids
from faceline.made.portrait import Portrait
from faceline.made.warp import Basis, BlockNodes

EYE_DISTANCE_SHARE = 0.235
"""Distance of the outer eye corners as a share of the tile's height."""
OVERSAMPLING = 1.5
"""Canvas pixels per tile pixel at zoom 1: fetched bilinearly, a finer canvas keeps the picture equally sharp
whatever fraction of a pixel it is moved by."""
BLOCK_PX = 4
FACE_GRID_PX = 4
HEAD_GRID_PX = 10

Pose = Mapping[str, float]


@dataclass(frozen=True)
class Camera:
    """Where a tile looks.

    Attributes:
        shift_x: right shift of the view in eye distances (the face moves left).
        shift_y: downward shift of the view in eye distances.
        zoom: magnification about the middle of the tile.
    """

    shift_x: float = 0.0
    shift_y: float = 0.0
    zoom: float = 1.0


STRAIGHT_ON = Camera()


class Puppet:
    """A posable portrait, seen through a tile of fixed size.

    "Picture pixels" are tile pixels at zoom 1, with an origin of their own; the canvas is finer by `OVERSAMPLING`.

    Args:
        portrait: the picture and its landmarks.
        width_px: width of the tile.
        height_px: height of the tile; it sets the size of the face (`EYE_DISTANCE_SHARE`).
    """

    def __init__(self, portrait: Portrait, width_px: int, height_px: int) -> None:
        self.width_px, self.height_px = width_px, height_px
        scale = EYE_DISTANCE_SHARE * height_px / FaceFrame.of(portrait.landmarks_px).eye_distance_px
        canvas, margin = _canvas(portrait.rgb, scale * OVERSAMPLING, width_px, height_px)
        on_canvas = portrait.landmarks_px * scale * OVERSAMPLING
        on_canvas[:, :2] += 0.5 * scale * OVERSAMPLING - 0.5 + margin  # pixel centres, not corners
        self.landmarks_px = on_canvas / OVERSAMPLING
        """float64 [478, 3]: the portrait's landmarks at rest, picture pixels."""
        self.frame = FaceFrame.of(self.landmarks_px)
        self._canvas_rgb = canvas
        self._cavity_rgb = paint_cavity(canvas, on_canvas)
        self._lids_rgb = canvas if portrait.lids_seen else paint_lids(canvas, on_canvas, portrait.lid_room)
        self._tile_middle = np.array([width_px - 1, height_px - 1], np.float32) / 2
        self._nodes = BlockNodes(width_px, height_px, BLOCK_PX)
        self._coarse_nodes = BlockNodes(width_px, height_px, 2 * BLOCK_PX)  # heads bend less than faces

        unit, marks, centre = self.frame.eye_distance_px, self.landmarks_px, self.frame.origin_px
        low, high = marks[:468, :2].min(axis=0), marks[:468, :2].max(axis=0)
        self._face_box = np.concatenate([low - 0.5 * unit, high + 0.7 * unit])
        fields = face_fields(marks, portrait.lid_room)
        self._common = Basis.of(fields.common, self.frame, marks, self._face_box, FACE_GRID_PX)
        self._upper = Basis.of(fields.upper, self.frame, marks, self._face_box, FACE_GRID_PX)
        self._sheet = Basis.of(fields.sheet, self.frame, marks, self._face_box, FACE_GRID_PX)
        head_box = np.concatenate([centre - 2.9 * unit, centre + 2.9 * unit])
        self._head = Basis.of(head_fields(marks), self.frame, marks, head_box, HEAD_GRID_PX)
        self._on_sheet = _on_sheet(self.frame.to_face(marks[:, :2]))
        # The eyes a little above the middle of the tile.
        self._view_px = centre + np.array([0.0, 0.37 * unit])

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of everything that a pose may hold."""
        return (*self._common.channels, *self._upper.channels, *self._sheet.channels, *HEAD_CHANNELS)

    @property
    def lip_gap(self) -> float:
        """How far the lips of the portrait at rest are apart, in eye distances."""
        inner = self.frame.to_face(self.landmarks_px[:, :2])
        return float(inner[lm.INNER_LIP_LOWER[5], 1] - inner[lm.INNER_LIP_UPPER[5], 1])

    def landmarks_at(self, pose: Pose, camera: Camera = STRAIGHT_ON) -> np.ndarray:
        """Where the pose puts the 478 landmarks in the tile, float64 [478, 2], pixels: exact, without rendering."""
        base, sheet = self._forward(pose, camera)
        return np.where(self._on_sheet[:, None], sheet, base)

    def render(self, pose: Pose, camera: Camera = STRAIGHT_ON) -> np.ndarray:
        """The posed portrait, uint8 [height, width, 3], RGB.

        Args:
            pose: channel → amount; channels left out are at rest. See `faceline.made.fields` for the units.
            camera: the view.
        """
        common, upper, sheet = self._common.mix(pose), self._upper.mix(pose), self._sheet.mix(pose)
        seen_px = self._to_picture(self._coarse_nodes.positions_px, camera)
        skull_px = self._coarse_nodes.halved(self._head.invert(self._head.mix(pose), seen_px))
        window = self._nodes.window(self._face_box_in_tile(camera))
        base_px = skull_px.copy()
        base_px[window] = self._common.invert(common + upper, skull_px[window])
        picture = self._fetch(self._canvas_rgb, base_px)

        base_marks, sheet_marks = self._forward(pose, camera)
        top, bottom = _lips(base_marks, sheet_marks)
        if sheet.any():
            sheet_px = skull_px.copy()
            sheet_px[window] = self._common.invert(common + sheet, skull_px[window])
            unit = self.frame.eye_distance_px * camera.zoom
            self._lay_over(picture, self._canvas_rgb, sheet_px, _lower_face(bottom, sheet_marks, unit))
            for side in SIDES:
                if pose.get(f"lid_close_{side}", 0.0) > 0.02:
                    self._lay_over(picture, self._lids_rgb, sheet_px, _lid(side, base_marks, sheet_marks, unit))
        if np.max(bottom[:, 1] - top[:, 1]) > 0.3:
            self._lay_over(picture, self._cavity_rgb, skull_px, np.concatenate([top, bottom[::-1]]))
        return picture

    def _forward(self, pose: Pose, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
        """The landmarks carried by the base and by the sheet, each float64 [478, 2], tile pixels."""
        common, head = self._common.mix_points(pose), self._head.mix(pose)
        places = []
        for layer in (self._upper, self._sheet):
            moved = self.landmarks_px[:, :2] + common + layer.mix_points(pose)
            moved = moved + self._head.sample(head, moved[None].astype(np.float32))[0]
            places.append((moved - self._target_px(camera)) * camera.zoom + self._tile_middle)
        return places[0], places[1]

    def _target_px(self, camera: Camera) -> np.ndarray:
        """The picture point in the middle of the tile."""
        return self._view_px + np.array([camera.shift_x, camera.shift_y]) * self.frame.eye_distance_px

    def _to_picture(self, tile_px: np.ndarray, camera: Camera) -> np.ndarray:
        target = self._target_px(camera).astype(np.float32)
        return (tile_px - self._tile_middle) / np.float32(camera.zoom) + target

    def _face_box_in_tile(self, camera: Camera) -> tuple[float, float, float, float]:
        """Where the moving face may be seen, with room for the head's own movement."""
        room = 0.4 * self.frame.eye_distance_px
        corners = self._face_box.reshape(2, 2) + np.array([[-room], [room]])
        (x0, y0), (x1, y1) = (corners - self._target_px(camera)) * camera.zoom + self._tile_middle
        return float(x0), float(y0), float(x1), float(y1)

    def _fetch(
        self, canvas_rgb: np.ndarray, nodes_px: np.ndarray, box: tuple[int, int, int, int] | None = None
    ) -> np.ndarray:
        """The canvas through a map (picture position per node), within a box (x0, y0, x1, y1) of the tile."""
        import cv2

        on_canvas = nodes_px * np.float32(OVERSAMPLING)
        source = self._nodes.per_pixel(on_canvas, box)
        return cv2.remap(canvas_rgb, source, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def _lay_over(self, picture: np.ndarray, canvas_rgb: np.ndarray, nodes_px: np.ndarray, outline: np.ndarray) -> None:
        """Draw the canvas, fetched through a map, inside an outline [n, 2] with a soft edge; changes ``picture``."""
        import cv2

        margin = 4
        x0, y0 = np.floor(outline.min(axis=0)).astype(int) - margin
        x1, y1 = np.ceil(outline.max(axis=0)).astype(int) + margin + 1
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, self.width_px), min(y1, self.height_px)
        if x1 <= x0 or y1 <= y0:
            return
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillPoly(mask, [np.round((outline - (x0, y0)) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        mask = cv2.GaussianBlur(mask, (0, 0), 0.8)[..., None]
        under = picture[y0:y1, x0:x1]
        layer = self._fetch(canvas_rgb, nodes_px, (x0, y0, x1, y1))
        # 16-bit fixed point is exact enough for a mask of 8 bits and four times as fast as floats.
        blended = under.astype(np.uint16) * (255 - mask.astype(np.uint16)) + layer.astype(np.uint16) * mask
        picture[y0:y1, x0:x1] = (blended + 127) // 255


def _on_sheet(face: np.ndarray) -> np.ndarray:
    """Which landmarks ride on the sheet, bool [478]: those below the lower lip's edge and the upper lids."""
    lower = np.array([face[i] for i in lm.INNER_LIP_LOWER])
    rides = face[:, 1] >= np.interp(face[:, 0], lower[:, 0], lower[:, 1]) - 1e-9
    rides[list(lm.INNER_LIP_UPPER[1:-1])] = False
    rides[[*lm.UPPER_LID["left"], *lm.UPPER_LID["right"]]] = True
    return rides


def _lips(base_marks: np.ndarray, sheet_marks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inner edges of the upper and the lower lip, each [11, 2]; where the lips would cross they meet."""
    top, bottom = base_marks[list(lm.INNER_LIP_UPPER)], sheet_marks[list(lm.INNER_LIP_LOWER)]
    middle = (top[:, 1] + bottom[:, 1]) / 2
    crossed = bottom[:, 1] < top[:, 1]
    top[crossed, 1] = bottom[crossed, 1] = middle[crossed]
    return top, bottom


def _lower_face(bottom: np.ndarray, sheet_marks: np.ndarray, unit_px: float) -> np.ndarray:
    """Outline of what lies below the lower lip's inner edge, out to where the sheet no longer moves."""
    down = sheet_marks[lm.CHIN, 1] + 0.75 * unit_px
    (left, left_y), (right, right_y) = bottom[0] - (0.6 * unit_px, 0), bottom[-1] + (0.6 * unit_px, 0)
    return np.array([*bottom, (right, right_y), (right, down), (left, down), (left, left_y)])


def _lid(side: str, base_marks: np.ndarray, sheet_marks: np.ndarray, unit_px: float) -> np.ndarray:
    """Outline of an upper lid: from its edge up to below the brow."""
    contour = list(lm.UPPER_LID[side])
    return np.concatenate([sheet_marks[contour], (base_marks[contour] - (0, 0.2 * unit_px))[::-1]])


def _canvas(rgb: np.ndarray, scale: float, width_px: int, height_px: int) -> tuple[np.ndarray, int]:
    """The picture scaled and continued beyond its edges, and the width of the margin at its top and left.

    Left, above and below it is mirrored; to the right comes a plain continuation, for views without the person.
    """
    import cv2

    scaled = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    edge = cv2.GaussianBlur(scaled[:, -16:].astype(np.float32).mean(axis=1, keepdims=True), (1, 91), 20)
    plain = np.repeat(edge.reshape(-1, 1, 3), round(1.5 * OVERSAMPLING * width_px), axis=1)
    wide = np.concatenate([scaled, np.rint(plain).astype(np.uint8)], axis=1)
    margin = round(0.25 * OVERSAMPLING * height_px)
    return cv2.copyMakeBorder(wide, margin, margin, margin, 0, cv2.BORDER_REFLECT_101), margin
