"""MTCNN (Zhang et al. 2016) with the networks and weights of facenet-pytorch 2.6.0, run over batches of frames.

facenet-pytorch's own loop is not used. It keeps the frames of a batch apart by shifting their boxes along one float32
axis, so that boxes reaching beyond the left or upper edge can suppress those of another frame; boxes that lie wholly
outside put scores and boxes out of step; and its area pooling takes longer than its networks. Here every frame is
treated on its own, whatever else is in the batch, and pictures are scaled by area averaging in 8 bits, as in the
implementation the weights were trained with (davidsandberg/facenet ``align/detect_face.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from faceline.batches import side_by_side
from faceline.devices import exact_arithmetic, to_device
from faceline.faces import Detections
from faceline.threads import one_torch_thread

if TYPE_CHECKING:
    import torch

#: Side in pixels of the smallest face the first network sees, and its stride, at scale 1.
_CELL_PX = 12
_STRIDE_PX = 2

#: Pixels that the first network gets at once; bounds memory, whatever the batch. By device: a GPU is busy with more.
_PIXELS_AT_ONCE = {"cpu": 250_000, "cuda": 8_000_000}

#: The second network gets candidates in chunks of this size, the last one padded: with smaller ones, the libraries
#: below choose other kernels, and the last digits of a face would depend on how many others there are.
_CANDIDATES_AT_ONCE = {"cpu": 16, "cuda": 256}

#: The same for the third, which sees each face three times: four fit a core's cache, and most frames have no more.
_FACES_AT_ONCE = {"cpu": 4, "cuda": 256}


class MtcnnDetector:
    """Finds faces and their five points.

    Args:
        weights: the folder that holds ``data/pnet.pt``, ``data/rnet.pt`` and ``data/onet.pt``.
        min_face_px: side of the smallest face to look for, in pixels of the frames given (12 at least).
        thresholds: smallest probability after each of the three networks.
        pyramid_factor: step between the scales that are searched.
        device: ``cpu`` or ``cuda``.
        threads: parts of a batch worked on at the same time; does not change the result.
    """

    def __init__(
        self,
        weights: Path,
        *,
        min_face_px: float = 20.0,
        thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7),
        pyramid_factor: float = 0.709,
        device: str = "cpu",
        threads: int = 1,
    ) -> None:
        import torch

        from faceline.adapters.facenet import network_module
        from faceline.adapters.pooled import Largest, pool_first

        one_torch_thread()
        self._threads = threads if device == "cpu" else 1
        exact_arithmetic(device)
        self._device = torch.device(device)
        self._pixels_at_once = _PIXELS_AT_ONCE[device]
        self._candidates_at_once, self._faces_at_once = _CANDIDATES_AT_ONCE[device], _FACES_AT_ONCE[device]
        self._min_face_px = max(float(_CELL_PX), min_face_px)
        self._thresholds = thresholds
        self._factor = pyramid_factor
        nets: list[Any] = []
        defined = network_module("mtcnn")
        for kind, name in ((defined.PNet, "pnet"), (defined.RNet, "rnet"), (defined.ONet, "onet")):
            net = kind(pretrained=False)
            net.load_state_dict(torch.load(weights / "data" / f"{name}.pt", map_location="cpu", weights_only=True))
            nets.append(net.eval().requires_grad_(False))
        # Not in the others, where a third more channels to convolve cost what pooling first saves.
        pool_first(nets[0])
        for net in nets[1:]:
            net.pool1 = Largest(net.pool1)
        nets = [net.to(self._device, memory_format=torch.channels_last) for net in nets]
        self._pnet, self._rnet, self._onet = nets

    def detect(self, frames_rgb: Sequence[np.ndarray]) -> list[Detections]:
        """Faces of each frame, most confident first.

        Args:
            frames_rgb: uint8 RGB ``[H, W, 3]``, all of one size.

        Returns:
            One `Detections` per frame, in pixels of the frames given; boxes may reach beyond the edge.
        """
        if not frames_rgb:
            return []
        if len({frame.shape for frame in frames_rgb}) > 1:
            raise ValueError(f"frames of one batch differ in size: {sorted({f.shape for f in frames_rgb})}")
        share = -(-len(frames_rgb) // self._threads)
        parts = [frames_rgb[start : start + share] for start in range(0, len(frames_rgb), share)]
        return [found for part in side_by_side(self._detect, parts, self._threads) for found in part]

    def refine(self, frames_rgb: Sequence[np.ndarray], boxes_px: Sequence[np.ndarray]) -> list[Detections]:
        """Faces that are known to be about here, measured by the third network alone, as `detect` measures them.

        Args:
            frames_rgb: uint8 RGB ``[H, W, 3]``, all of one size.
            boxes_px: for each frame ``[n, 4]``: x, y, width, height of its faces.

        Returns:
            One `Detections` per frame with one row per box, in their order; confidence near 0 where no face is.
        """
        if not frames_rgb:
            return []
        share = -(-len(frames_rgb) // self._threads)
        parts = [slice(start, start + share) for start in range(0, len(frames_rgb), share)]
        measured = side_by_side(lambda part: self._measure(frames_rgb[part], boxes_px[part]), parts, self._threads)
        return [found for part in measured for found in part]

    def _measure(self, frames_rgb: Sequence[np.ndarray], boxes_px: Sequence[np.ndarray]) -> list[Detections]:
        import torch

        counts = [len(boxes) for boxes in boxes_px]
        owners = np.repeat(np.arange(len(counts)), counts)
        boxes = np.concatenate([np.asarray(boxes, np.float64).reshape(-1, 4) for boxes in boxes_px])
        boxes = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        with torch.inference_mode():
            first = self._look(frames_rgb, _squared(boxes), owners)
            return self._settled(frames_rgb, *first, owners)

    def _detect(self, frames_rgb: Sequence[np.ndarray]) -> list[Detections]:
        import torch

        with torch.inference_mode():
            boxes, owners = self._propose(frames_rgb)
            boxes, owners = self._refine(frames_rgb, boxes, owners)
            return self._locate(frames_rgb, boxes, owners)

    def _propose(self, frames: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """First network: candidate squares ``[n, 4]`` (x1, y1, x2, y2) and the frame of each."""
        height, width = frames[0].shape[:2]
        per_scale: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
        halved = [list(frames)]
        scale = _CELL_PX / self._min_face_px
        while min(height, width) * scale >= _CELL_PX:
            size = (int(width * scale + 1), int(height * scale + 1))
            level = min(int(-math.log2(scale)), 3) if scale < 1 else 0
            while len(halved) <= level:
                halved.append([_resized(frame, (frame.shape[1] // 2, frame.shape[0] // 2)) for frame in halved[-1]])
            for start in range(0, len(frames), step := max(1, self._pixels_at_once // (size[0] * size[1]))):
                pictures = [_resized(frame, size) for frame in halved[level][start : start + step]]
                offsets, scores = self._first_look(pictures, padded=step > 1)
                boxes, kept, shifts, owner = _cells(offsets, scores[:, 1], scale, self._thresholds[0])
                picked = _nms(boxes, kept, owner, 0.5)
                per_scale.append((boxes[picked], kept[picked], shifts[picked], owner[picked] + start))
            scale *= self._factor
        if not per_scale:
            return np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
        boxes, scores, shifts, owners = (np.concatenate(parts) for parts in zip(*per_scale, strict=True))
        picked = _nms(boxes, scores, owners, 0.7)
        boxes, shifts, owners = boxes[picked], shifts[picked], owners[picked]
        sides = boxes[:, 2:] - boxes[:, :2]
        return _squared(boxes + shifts * np.tile(sides, 2)), owners

    def _first_look(self, pictures: Sequence[np.ndarray], *, padded: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """What the first network says of pictures: offsets ``[n, 4, h, w]`` and scores ``[n, 2, h, w]``.

        A single picture goes in twice where others of its size go in several at a time: NCHW and NHWC are the same
        for one, so the libraries below may choose another kernel (on an AMD EPYC they did), and boxes differ by 1e-5.
        """
        given = [*pictures, *pictures] if padded and len(pictures) == 1 else pictures
        offsets, scores = self._pnet(self._tensor(given))
        return offsets[: len(pictures)], scores[: len(pictures)]

    def _refine(
        self, frames: Sequence[np.ndarray], boxes: np.ndarray, owners: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Second network: the candidates that remain, corrected."""
        crops, inside = _crops(frames, boxes, owners, 24)
        boxes, owners = boxes[inside], owners[inside]
        offsets, scores = self._in_chunks(self._rnet, crops, (4, 2), self._candidates_at_once)
        good = scores[:, 1] > self._thresholds[1]
        boxes, owners, offsets, confidence = boxes[good], owners[good], offsets[good], scores[good, 1]
        picked = _nms(boxes, confidence, owners, 0.7)
        return _squared(_corrected(boxes[picked], offsets[picked])), owners[picked]

    def _locate(self, frames: Sequence[np.ndarray], boxes: np.ndarray, owners: np.ndarray) -> list[Detections]:
        """Third network: final boxes, confidences and points.

        It looks at each face three times, each time at the box that it gave before, and the last two answers are
        averaged: the first depends on which candidate happened to survive, so that boxes of a still face jump by
        several per cent of their side from one frame to the next. The confidence is the mean of the three, which
        tells faces from prints, hands and backs of heads that pass one look by chance.
        """
        boxes, confidence, points = self._look(frames, boxes, owners)
        good = confidence > self._thresholds[2]
        boxes, confidence, points, owners = boxes[good], confidence[good], points[good], owners[good]
        kept = _nms_in_frames(boxes, confidence, owners, 0.7)
        found = self._settled(frames, boxes[kept], confidence[kept], points[kept], owners[kept])
        return [faces.taken(np.argsort(-faces.confidence, kind="stable")) for faces in found]

    def _settled(
        self,
        frames: Sequence[np.ndarray],
        boxes: np.ndarray,
        confidence: np.ndarray,
        points: np.ndarray,
        owners: np.ndarray,
    ) -> list[Detections]:
        """Faces after two more looks, by frame, in the order given."""
        second = self._look(frames, _squared(boxes), owners)
        third = self._look(frames, _squared(second[0]), owners)
        boxes, points = (second[0] + third[0]) / 2, (second[2] + third[2]) / 2
        confidence = (confidence + second[1] + third[1]) / 3
        xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        found = []
        for frame in range(len(frames)):
            own = np.flatnonzero(owners == frame)
            found.append(
                Detections(
                    xywh[own].astype(np.float32), confidence[own].astype(np.float32), points[own].astype(np.float32)
                )
            )
        return found

    def _look(
        self, frames: Sequence[np.ndarray], boxes: np.ndarray, owners: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes, confidences and points that the third network gives for these boxes, confidence 0 outside frames."""
        crops, inside = _crops(frames, boxes, owners, 48)
        offsets, marks, confidence = np.zeros((len(boxes), 4)), np.zeros((len(boxes), 10)), np.zeros(len(boxes))
        offsets[inside], marks[inside], scores = self._in_chunks(self._onet, crops, (4, 10, 2), self._faces_at_once)
        confidence[inside] = scores[:, 1]
        sides = boxes[:, 2:] - boxes[:, :2] + 1
        points = marks.reshape(-1, 2, 5).swapaxes(1, 2) * sides[:, None] + boxes[:, None, :2] - 1
        return _corrected(boxes, offsets), confidence, points

    def _tensor(self, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        """uint8 ``[H, W, 3]`` pictures as the networks want them: float32, −1 to 1; NHWC in memory."""
        batch = to_device(np.stack(pictures), self._device).permute(0, 3, 1, 2).float()
        return batch.sub_(127.5).mul_(0.0078125)

    def _in_chunks(
        self, net: torch.nn.Module, crops: _Crops, widths: Iterable[int], size: int
    ) -> tuple[np.ndarray, ...]:
        outputs: list[list[np.ndarray]] = [[np.zeros((0, width), np.float32)] for width in widths]
        for start in range(0, len(crops), size):
            chunk = crops.chunk(start, size)
            padded = chunk + [np.zeros_like(chunk[0])] * (size - len(chunk))
            for output, values in zip(outputs, net(self._tensor(padded)), strict=True):
                output.append(values[: len(chunk)].cpu().numpy())
        return tuple(np.concatenate(output) for output in outputs)


def _resized(picture: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    import cv2

    return cv2.resize(picture, size_px, interpolation=cv2.INTER_AREA)


def _cells(
    offsets: torch.Tensor, scores: torch.Tensor, scale: float, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cells above the threshold as boxes in frame pixels: boxes, scores, offsets (in box sides), frames."""
    frames, rows, columns = (index.cpu().numpy() for index in (scores >= threshold).nonzero(as_tuple=True))
    kept = scores[frames, rows, columns].cpu().numpy()
    shifts = offsets.permute(0, 2, 3, 1)[frames, rows, columns].cpu().numpy()
    corner = np.stack([columns, rows], axis=1) * _STRIDE_PX
    boxes = np.floor(np.concatenate([corner + 1, corner + _CELL_PX], axis=1) / scale).astype(np.float32)
    return boxes, kept, shifts, frames


def _nms(boxes: np.ndarray, scores: np.ndarray, owners: np.ndarray, threshold: float) -> np.ndarray:
    """Indices that survive non-maximum suppression within each frame, most confident first."""
    import cv2

    if not len(boxes):
        return np.zeros(0, np.int64)
    # Frames side by side in float64, from 0 on: far enough apart, and too precise for the shift to matter.
    apart = boxes.astype(np.float64) - boxes.min()
    apart += (owners * (apart.max() + 1.0))[:, None]
    apart[:, 2:] -= apart[:, :2]
    kept = cv2.dnn.NMSBoxes(apart, scores.astype(np.float64).tolist(), 0.0, threshold)
    return np.asarray(kept, np.int64).reshape(-1)


def _nms_within(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    """The same for one frame, with the overlap measured against the smaller box, so that nested boxes go."""
    areas = np.prod(boxes[:, 2:] - boxes[:, :2] + 1, axis=1)
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable").tolist():
        low = np.maximum(boxes[index, :2], boxes[kept, :2])
        high = np.minimum(boxes[index, 2:], boxes[kept, 2:])
        shared = np.prod(np.maximum(high - low + 1, 0), axis=1)
        if not np.any(shared > threshold * np.minimum(areas[index], areas[kept])):
            kept.append(index)
    return kept


def _nms_in_frames(boxes: np.ndarray, scores: np.ndarray, owners: np.ndarray, threshold: float) -> np.ndarray:
    """`_nms_within` each frame: indices, frame by frame."""
    kept = [np.zeros(0, np.int64)]
    for frame in np.unique(owners):
        own = np.flatnonzero(owners == frame)
        kept.append(own[_nms_within(boxes[own], scores[own], threshold)])
    return np.concatenate(kept)


def _corrected(boxes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    return boxes + offsets * np.tile(sides, 2)


def _squared(boxes: np.ndarray) -> np.ndarray:
    """The squares with the boxes' centres and longer sides."""
    sides = boxes[:, 2:] - boxes[:, :2]
    longer = sides.max(axis=1, keepdims=True, initial=0)
    low = boxes[:, :2] + (sides - longer) / 2
    return np.concatenate([low, low + longer], axis=1)


class _Crops:
    """Parts of frames, each cut out when it is its turn: a picture can be made that is one candidate beside another."""

    def __init__(self, parts: Sequence[np.ndarray], side_px: int) -> None:
        self._parts, self._side_px = parts, side_px

    def __len__(self) -> int:
        return len(self._parts)

    def chunk(self, start: int, size: int) -> list[np.ndarray]:
        """The next ``size`` of them, fewer at the end: uint8 ``[side, side, 3]``."""
        return [_resized(part, (self._side_px, self._side_px)) for part in self._parts[start : start + size]]


def _crops(
    frames: Sequence[np.ndarray], boxes: np.ndarray, owners: np.ndarray, side_px: int
) -> tuple[_Crops, np.ndarray]:
    """The part of each box that lies inside its frame, scaled to a square; and which boxes have such a part."""
    height, width = frames[0].shape[:2]
    corners = np.trunc(boxes).astype(np.int64)
    x1, y1 = np.maximum(corners[:, 0], 1) - 1, np.maximum(corners[:, 1], 1) - 1
    x2, y2 = np.minimum(corners[:, 2], width), np.minimum(corners[:, 3], height)
    inside = (x2 > x1) & (y2 > y1)
    parts = [frames[owners[i]][y1[i] : y2[i], x1[i] : x2[i]] for i in np.flatnonzero(inside)]
    return _Crops(parts, side_px), inside
