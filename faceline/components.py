"""UMAP components of one person's embeddings: a few numbers per face that place it among that person's faces."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from faceline.manifold import fuzzy_graph, layout, place
from faceline.stage import StageParams


class ComponentParams(StageParams):
    """How the components are made."""

    components: int = Field(default=3, ge=1, le=16, description="Number of UMAP components.")
    neighbours: int = Field(
        default=15, ge=2, le=200, description="UMAP's n_neighbors; fewer where a person has fewer embedded faces."
    )
    components_min_faces: int = Field(
        default=10, ge=4, description="Persons with fewer embedded faces have no components (missing)."
    )
    components_max_faces: int = Field(
        default=2000,
        ge=10,
        description="Layout of at most this many faces per person, evenly spread; the others are placed among them.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the layout.")


def components_of(embeddings: np.ndarray, params: ComponentParams) -> np.ndarray:
    """Lay out one person's embeddings.

    Args:
        embeddings: float32 [n, d], in order of time.
        params: number of components, neighbours, limits, seed.

    Returns:
        float32 [n, components]; NaN throughout where there are too few faces.
    """
    count = len(embeddings)
    result = np.full((count, params.components), np.nan, np.float32)
    if count < max(params.components_min_faces, params.components + 2):
        return result
    laid_out = np.unique(np.linspace(0, count - 1, min(count, params.components_max_faces)).round().astype(np.int64))
    neighbours = min(params.neighbours, len(laid_out) - 1)
    points = embeddings[laid_out]
    position = layout(points, fuzzy_graph(points, neighbours), params.components, params.seed)
    result[laid_out] = position
    others = np.setdiff1d(np.arange(count), laid_out)
    if len(others):
        result[others] = place(points, position, embeddings[others], neighbours)
    return result
