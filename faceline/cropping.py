"""Cutting faces out of frames: the aligned 160×160 crop, and the 64×64 gray crop that FER's network was made for.

Coordinates are continuous: pixel *i* covers ``[i, i + 1)`` and its centre lies at ``i + 0.5``, in frames and crops
alike. A crop matrix is the 2×3 affine matrix that takes such a frame point to its place in the crop.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

CROP_SIZE_PX = 160
CROP_PADDING = 0.45
JPEG_QUALITY = 95

MESH_TEMPLATE_INDICES: tuple[int, ...] = (263, 362, 33, 133, 2)
"""Mesh points that carry the alignment: outer and inner corner of the left and of the right eye, nose base."""

_MESH_TEMPLATE = np.array(
    [
        (0.8595674595992, 0.2134981538014),
        (0.6460604764104, 0.2289674387677),
        (0.1205750620789, 0.2137274526848),
        (0.3340850613712, 0.2290642403242),
        (0.4901123135679, 0.6277975316475),
    ]
)
"""dlib's 5-point chip template (``get_face_chip_details``), in units of the unpadded chip, x right, y down."""

_POINTS_TEMPLATE = np.array([(0.2210, 0.2103), (0.7674, 0.2103), (0.4942, 0.5320), (0.2582, 0.7944), (0.7302, 0.7944)])
"""MTCNN's eye centres, nose tip and mouth corners in the same units.

The mean place of the five points of 67 faces of about 45 people after each was aligned by its mesh, made symmetric
about the chip's axis. On those faces a crop aligned by it lies 1.9 px (median) from the crop aligned by the mesh.
"""

_FER_SIZE_PX = 64
_FER_PADDING_PX = 40
_FER_OFFSET_PX = 10


def fit_similarity(source: npt.ArrayLike, target: npt.ArrayLike) -> np.ndarray:
    """Rotation, scale and shift that take ``source`` points to ``target`` points with least squared error.

    The least squares of Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
    IEEE TPAMI 13(4), 1991, which in the plane need no singular value decomposition: turn and scale are one complex
    number. Reflections are excluded.

    Args:
        source: [n, 2], n ≥ 2.
        target: [n, 2].

    Returns:
        float64 [2, 3] affine matrix.

    Raises:
        ValueError: if the points are not finite, or the source points coincide.
    """
    x = np.asarray(source, dtype=np.float64)
    y = np.asarray(target, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 2 or x.shape[1] != 2 or len(x) < 2:
        raise ValueError(f"two [n, 2] arrays of at least 2 points are needed, got {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("points must be finite")
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    x0, y0 = x - x_mean, y - y_mean
    spread = float((x0**2).sum())
    if spread <= 1e-12:
        raise ValueError("source points coincide")
    along = float((x0 * y0).sum()) / spread
    across = float((x0[:, 0] * y0[:, 1] - x0[:, 1] * y0[:, 0]).sum()) / spread
    linear = np.array([[along, -across], [across, along]])
    return np.column_stack([linear, y_mean - linear @ x_mean])


def _to_crop_px(template: np.ndarray, size_px: int) -> np.ndarray:
    return (CROP_PADDING + template) / (2 * CROP_PADDING + 1) * size_px


def matrix_from_mesh(landmarks: np.ndarray, size_px: int = CROP_SIZE_PX) -> np.ndarray:
    """Crop matrix, float64 [2, 3], of a face whose mesh ``landmarks`` [478, 3] (frame px) are known."""
    return fit_similarity(landmarks[list(MESH_TEMPLATE_INDICES), :2], _to_crop_px(_MESH_TEMPLATE, size_px))


def matrix_from_points(points_px: npt.ArrayLike, size_px: int = CROP_SIZE_PX) -> np.ndarray:
    """Crop matrix, float64 [2, 3], from MTCNN's five points [5, 2] (frame px) alone; less exact than the mesh."""
    return fit_similarity(np.asarray(points_px, dtype=np.float64).reshape(5, 2), _to_crop_px(_POINTS_TEMPLATE, size_px))


def transform(matrix: np.ndarray, points: npt.ArrayLike) -> np.ndarray:
    """Apply a 2×3 affine matrix to points [..., 2]."""
    return np.asarray(points, dtype=np.float64) @ matrix[:, :2].T + matrix[:, 2]


def invert(matrix: np.ndarray) -> np.ndarray:
    """The inverse 2×3 affine matrix (crop px → frame px)."""
    (a, b, _), (c, d, _) = matrix.tolist()
    linear = np.array([[d, -b], [-c, a]]) / (a * d - b * c)
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def scale_of(matrix: np.ndarray) -> float:
    """Crop pixels per frame pixel of a similarity."""
    (a, b, _), (c, d, _) = matrix.tolist()
    return math.sqrt(abs(a * d - b * c))


def warp(rgb: np.ndarray, matrix: np.ndarray, size_px: int = CROP_SIZE_PX) -> np.ndarray:
    """Resample the square that ``matrix`` describes, without aliasing when the face is larger than the crop.

    ``cv2.warpAffine`` samples points, so detail finer than the crop's pixels would fold back as false texture. Here
    the surroundings of the square are first averaged over whole blocks of pixels (``INTER_AREA``) until a factor
    between 1.5 and 3 is left, and that is taken off by a Gaussian blur of matching width, which cuts high frequencies
    more cleanly than block averages do but costs more the wider it is.

    Args:
        rgb: uint8 [H, W, 3] or [H, W]; any colour order, which is kept.
        matrix: float64 [2, 3] similarity, frame px → crop px.
        size_px: side of the crop.

    Returns:
        uint8 [size_px, size_px(, 3)]; beyond the frame's edge the edge is repeated.
    """
    import cv2

    height, width = rgb.shape[:2]
    shrink = 1.0 / max(scale_of(matrix), 1e-9)
    block = max(1, int(shrink / 1.5))
    margin = 2 * block + 4
    corners = transform(invert(matrix), [(0, 0), (size_px, 0), (0, size_px), (size_px, size_px)])
    low, high = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    # At least one block of the frame stays, so that a square beyond the edge repeats that edge.
    left = min(max(math.floor(low[0]) - margin, 0), max(width - block, 0))
    top = min(max(math.floor(low[1]) - margin, 0), max(height - block, 0))
    right = min(max(math.ceil(high[0]) + margin, left + 1), width)
    bottom = min(max(math.ceil(high[1]) + margin, top + 1), height)
    part = rgb[top:bottom, left:right]
    fx = fy = 1.0
    if block > 1:
        columns, rows = max(1, part.shape[1] // block), max(1, part.shape[0] // block)
        part = part[: rows * block, : columns * block]  # whole blocks only: the reduction is then exact averaging
        fx, fy = part.shape[1] / columns, part.shape[0] / rows
        part = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
    rest = shrink / block
    if rest > 1.05:
        # A Gaussian of the pixel's own width (σ 0.5) has to become one of `rest` pixels: variances add. What lies
        # beyond 2.5 σ moves an eight-bit pixel by 2 at most, and 2 in 100 at all, but takes its share of the time.
        sigma = 0.5 * math.sqrt(rest * rest - 1)
        taps = 2 * max(1, round(2.5 * sigma)) + 1
        part = cv2.GaussianBlur(part, (taps, taps), sigma, borderType=cv2.BORDER_REPLICATE)
    linear = matrix[:, :2] * np.array([fx, fy])
    shift = matrix[:, :2] @ np.array([left, top], dtype=np.float64) + matrix[:, 2]
    # OpenCV puts pixel centres at whole numbers.
    shift = shift + linear @ np.array([0.5, 0.5]) - 0.5
    affine = np.column_stack([linear, shift])
    return cv2.warpAffine(
        np.ascontiguousarray(part), affine, (size_px, size_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def encode_jpeg(rgb: np.ndarray, quality: int = JPEG_QUALITY) -> bytes:
    """JPEG bytes of an RGB picture, uint8 [H, W, 3]."""
    import cv2

    done, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"picture of shape {rgb.shape} could not be written as JPEG")
    return bytes(data)


def decode_jpeg(data: bytes) -> np.ndarray:
    """RGB picture, uint8 [H, W, 3], from JPEG bytes; `ValueError` if they are no picture."""
    import cv2

    bgr = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ValueError("these bytes are no picture")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def fer_crop(rgb: np.ndarray, box_px: npt.ArrayLike) -> np.ndarray | None:
    """The face as FER 22.5.1 cuts it for its network, bit for bit.

    FER turns the whole frame gray and gives it a border of 40 px, filled with the mean of the last two rows
    (``FER.pad(cv2.cvtColor(bgr, COLOR_BGR2GRAY))``). The box is cut to whole pixels as FER does with MTCNN's, made
    square by lengthening its shorter side, widened by 10 px on every side, and resampled bilinearly. Where it leaves
    the border too the slice simply ends, as in FER. Here only what the slice holds is turned gray.

    Args:
        rgb: the frame, uint8 [H, W, 3], RGB.
        box_px: x, y, width, height in frame pixels.

    Returns:
        uint8 [64, 64]; None where FER finds nothing to resample and skips the face.
    """
    import cv2

    left, top, width, height = (float(v) for v in np.asarray(box_px, dtype=np.float64))
    x, y = int(left), int(top)
    w, h = int(left + width) - x, int(top + height) - y
    if h > w:
        x, w = x - (h - w) // 2, h
    elif w > h:
        y, h = y - (w - h) // 2, w
    # The slice in pixels of the frame, ending with the border.
    rows, columns = rgb.shape[:2]
    pad = _FER_PADDING_PX
    x1, y1 = max(x - _FER_OFFSET_PX, -pad), max(y - _FER_OFFSET_PX, -pad)
    x2, y2 = min(x + w + _FER_OFFSET_PX, columns + pad), min(y + h + _FER_OFFSET_PX, rows + pad)
    if x2 <= x1 or y2 <= y1:
        return None
    part = rgb[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
    if part.shape[:2] == (y2 - y1, x2 - x1):
        face = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY)
    else:
        face = np.full((y2 - y1, x2 - x1), _fer_border(rgb), dtype=np.uint8)
        if part.size:
            inside = face[max(-y1, 0) :, max(-x1, 0) :][: part.shape[0], : part.shape[1]]
            inside[...] = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY)
    return cv2.resize(face, (_FER_SIZE_PX, _FER_SIZE_PX))


def _fer_border(rgb: np.ndarray) -> int:
    """Gray value of FER's border: the mean of the frame's last two rows, rounded as OpenCV does (half to even)."""
    import cv2

    # Of a picture of one row FER takes gray[-1:1], which is that row.
    return round(cv2.mean(cv2.cvtColor(rgb[-2:], cv2.COLOR_RGB2GRAY))[0])
