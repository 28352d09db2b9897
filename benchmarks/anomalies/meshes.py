"""The project's own detector and face mesh as a `MeshFinder`."""

from __future__ import annotations

import numpy as np


class NetworkMesh:
    """The largest face of a picture: MTCNN, then MediaPipe's refined mesh.

    Args:
        min_face_px: side of the smallest face looked for.
    """

    def __init__(self, min_face_px: float = 60.0) -> None:
        from faceline.adapters.facemesh import FaceMesh
        from faceline.adapters.mtcnn import MtcnnDetector
        from faceline.weights import resolve

        self._detector = MtcnnDetector(resolve("detector", "mtcnn").path, min_face_px=min_face_px, threads=1)
        self._mesh = FaceMesh()

    def __call__(self, rgb: np.ndarray) -> np.ndarray | None:
        """See `MeshFinder`."""
        found = self._detector.detect([rgb])[0]
        if len(found.boxes_px) == 0:
            return None
        largest = int(found.boxes_px[:, 2].argmax())
        return self._mesh.find(rgb, found.boxes_px[largest], found.points_px[largest])

    def close(self) -> None:
        """Free the face mesh."""
        self._mesh.close()
