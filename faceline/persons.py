"""Who is who over a whole footage: constrained clustering of tracklets by their embeddings.

Average-linkage agglomerative clustering (Sokal and Michener 1958) of the tracklets that carry enough evidence, with
cannot-links between tracklets that are seen in one frame; then the weak tracklets join the nearest person if it is
near enough. The number of persons follows from the embedder's scale; nothing assumes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from faceline.stage import StageParams
from faceline.tracklets import Faces, Pieces, mean_embedding, pieces_of

UNKNOWN = 0


class PersonParams(StageParams):
    """What makes a person. Distances are in units of the embedder's own scale, its ``same_person_tracklets``."""

    link: float = Field(
        default=1.0, gt=0, le=2, description="Tracklets and persons nearer than this are one person (× scale)."
    )
    split: float = Field(
        default=1.2, gt=0, le=4, description="A tracklet whose parts are further apart than this is cut (× scale)."
    )
    split_min_faces: int = Field(
        default=3, ge=1, description="Embedded faces that each part of a cut tracklet must have."
    )
    good_quality: float = Field(
        default=0.2, ge=0, le=1, description="Faces of lower quality may follow a person, but prove nothing."
    )
    strong_min_faces: int = Field(
        default=3,
        ge=1,
        description="Tracklets with fewer good embedded faces found no person, unless hardly any has more.",
    )
    person_min_faces: int = Field(default=5, ge=1, description="A person with fewer faces counts as unknown.")
    person_min_s: float = Field(
        default=0.5, ge=0, description="A person seen for less time, at the rate of sampling, counts as unknown."
    )
    max_linked: int = Field(
        default=4000,
        ge=1,
        description="At most this many tracklets, the largest, found persons; memory grows with the square.",
    )


@dataclass(frozen=True)
class Persons:
    """Who each face is.

    Attributes:
        person: int32 [n], 1-based by number of faces, descending; 0 = unknown.
        distance: float32 [n], to the person's centre; NaN where unknown or not embedded.
        count: number of persons.
    """

    person: np.ndarray
    distance: np.ndarray
    count: int


def find_persons(faces: Faces, scale: float, params: PersonParams) -> Persons:
    """Assign every face to a person, or to none.

    The result does not depend on the order of the faces or the numbers of the tracklets, and two faces of one frame
    are never one person.

    Args:
        faces: all faces of the footage.
        scale: distance of mean embeddings up to which two tracklets count as one person.
        params: what makes a person.

    Raises:
        ValueError: a tracklet has two faces in one frame.
    """
    pieces = pieces_of(faces, params.split * scale, params.split_min_faces, params.good_quality)
    owner = np.full(len(pieces), -1, np.int64)
    step_s = _sampling_step_s(faces)
    for least_good in (params.strong_min_faces, 1):
        # The second round is for footage in which hardly any tracklet is long (a moving face sampled once a second).
        # Elsewhere what is left over is scattered fragments, and fragments together look like one more person.
        if pieces.good[owner < 0].sum() > pieces.good[owner >= 0].sum():
            _found(pieces, owner, least_good, step_s, params, params.link * scale)
            _join(faces, pieces, owner, params.link * scale)

    person = np.full(len(faces), UNKNOWN, np.int32)
    for number, members in enumerate(_by_size(pieces, owner), start=1):
        for piece in members:
            person[pieces.rows[piece]] = number
    _drop_unseen_doubles(faces, pieces, person)
    _assert_one_face_per_frame(faces, person)
    count = int(person.max(initial=0))
    return Persons(person, _distances(faces, person, count), count)


def average_linkage(distance: np.ndarray, weight: np.ndarray, apart: np.ndarray, limit: float) -> np.ndarray:
    """Merge the two nearest clusters until none are nearer than ``limit``; the mean distance counts between clusters.

    A pair that must stay apart has infinite distance, and a mean with infinity in it stays infinite: so clusters that
    hold such a pair never merge. Takes memory n² and, with a remembered nearest neighbour per row, about n² time.

    Args:
        distance: float [n, n], symmetric.
        weight: float [n], how much each item counts in means.
        apart: bool [n, n], symmetric; pairs that may not end in one cluster.
        limit: largest mean distance that is merged.

    Returns:
        int64 [n], cluster of each item, named by its first item.
    """
    count = len(distance)
    label = np.arange(count)
    if count < 2:
        return label
    work = np.where(apart, np.inf, distance).astype(np.float64)
    np.fill_diagonal(work, np.inf)
    mass = weight.astype(np.float64).copy()
    nearest = work.argmin(axis=1)
    nearest_distance = work[label, nearest]
    while True:
        a = int(nearest_distance.argmin())
        if not nearest_distance[a] <= limit:
            return label
        a, b = sorted((a, int(nearest[a])))
        mean = (mass[a] * work[a] + mass[b] * work[b]) / (mass[a] + mass[b])
        mean[[a, b]] = np.inf
        work[a, :] = work[:, a] = mean
        work[b, :] = work[:, b] = np.inf
        mass[a] += mass[b]
        label[label == b] = a
        nearest_distance[b] = np.inf
        stale = np.flatnonzero((nearest == a) | (nearest == b) | (mean < nearest_distance))
        stale = np.union1d(stale[np.isfinite(nearest_distance[stale])], [a])
        nearest[stale] = work[stale].argmin(axis=1)
        nearest_distance[stale] = work[stale, nearest[stale]]


def _sampling_step_s(faces: Faces) -> float:
    """Usual time between two frames that show a face; 0 where there are not two."""
    times = np.unique(faces.time_s)
    return float(np.median(np.diff(times))) if len(times) > 1 else 0.0


def _found(
    pieces: Pieces, owner: np.ndarray, least_good: int, step_s: float, params: PersonParams, limit: float
) -> None:
    """Make persons of the pieces that have none yet and ``least_good`` good faces; in place.

    Args:
        pieces: all pieces.
        owner: int64 [p], the first piece of each piece's person, −1 where there is none yet.
        least_good: good embedded faces that a piece must have to be among those that are clustered.
        step_s: time that one face stands for.
        params: what makes a person.
        limit: largest mean distance within a person.
    """
    strong = np.flatnonzero((owner < 0) & (pieces.good >= least_good) & ~_shadows(pieces))
    # The largest, in their original order.
    strong = np.sort(strong[np.argsort(-pieces.embedded[strong], kind="stable")][: params.max_linked])
    distance = _pairwise(pieces.centre[strong])
    clusters = average_linkage(distance, pieces.embedded[strong], _apart(pieces, strong), limit)
    for cluster in np.unique(clusters):
        members = strong[clusters == cluster]
        if (
            pieces.faces[members].sum() >= params.person_min_faces
            and pieces.faces[members].sum() * step_s >= params.person_min_s
        ):
            owner[members] = members[0]


def _shadows(pieces: Pieces) -> np.ndarray:
    """bool [p]: pieces that lie on a larger piece (of equals, on an earlier one), i.e. the same face found twice."""
    first, second = pieces.together[pieces.doubles].T
    shadows = np.zeros(len(pieces), bool)
    shadows[np.where(pieces.faces[first] < pieces.faces[second], first, second)] = True
    return shadows


def _apart(pieces: Pieces, chosen: np.ndarray) -> np.ndarray:
    """bool [c, c]: which of the chosen pieces are seen in one frame."""
    place = np.full(len(pieces), -1, np.int64)
    place[chosen] = np.arange(len(chosen))
    pairs = place[pieces.together]
    first, second = pairs[(pairs >= 0).all(axis=1)].T
    apart = np.zeros((len(chosen), len(chosen)), bool)
    apart[first, second] = apart[second, first] = True
    return apart


def _join(faces: Faces, pieces: Pieces, owner: np.ndarray, limit: float) -> None:
    """Give pieces without an owner to the nearest person, nearest pairs first, where no frame forbids it; in place."""
    persons = np.unique(owner[owner >= 0])
    free = np.flatnonzero((owner < 0) & (pieces.embedded > 0))
    if len(persons) == 0 or len(free) == 0:
        return
    centres = np.array([_centre(faces, pieces, np.flatnonzero(owner == person)) for person in persons])
    distance = np.stack([np.linalg.norm(pieces.centre[free] - centre, axis=1) for centre in centres], axis=1)
    neighbours: dict[int, list[int]] = {}
    for first, second in pieces.together.tolist():
        neighbours.setdefault(first, []).append(second)
        neighbours.setdefault(second, []).append(first)
    # Persons that are seen in one frame with a piece, and so cannot be its owner.
    taken = {piece: {int(owner[other]) for other in others} for piece, others in neighbours.items()}
    rows, columns = np.nonzero(distance <= limit)
    for pair in np.argsort(distance[rows, columns], kind="stable"):
        piece, person = int(free[rows[pair]]), int(persons[columns[pair]])
        if owner[piece] < 0 and person not in taken.get(piece, ()):
            owner[piece] = person
            for other in neighbours.get(piece, ()):
                taken[other].add(person)


def _by_size(pieces: Pieces, owner: np.ndarray) -> list[np.ndarray]:
    """Members of each person, persons by number of visible faces, descending; equals by their first piece."""
    members = [np.flatnonzero(owner == person) for person in np.unique(owner[owner >= 0])]
    return sorted(members, key=lambda pieces_of_person: (-pieces.faces[pieces_of_person].sum(), pieces_of_person[0]))


def _centre(faces: Faces, pieces: Pieces, members: np.ndarray) -> np.ndarray:
    return mean_embedding(faces, np.concatenate([pieces.rows[piece] for piece in members]))


def _pairwise(vectors: np.ndarray) -> np.ndarray:
    """Euclidean distances [n, n], row by row, so that no [n, n, d] array is ever made."""
    return np.array([np.linalg.norm(vectors - vector, axis=1) for vector in vectors]).reshape(
        len(vectors), len(vectors)
    )


def _distances(faces: Faces, person: np.ndarray, count: int) -> np.ndarray:
    distance = np.full(len(faces), np.nan, np.float32)
    for number in range(1, count + 1):
        rows = np.flatnonzero((person == number) & (faces.vector >= 0))
        distance[rows] = np.linalg.norm(faces.vectors[faces.vector[rows]] - mean_embedding(faces, rows), axis=1)
    return distance


def _drop_unseen_doubles(faces: Faces, pieces: Pieces, person: np.ndarray) -> None:
    """Unassign interpolated boxes where the person is already seen in that frame.

    Cannot-links rest on faces really seen, since a box that was interpolated past a lost face may overlap in time with
    the tracklet in which the same face was found again.
    """
    piece = np.empty(len(faces), np.int64)
    for index, rows in enumerate(pieces.rows):
        piece[rows] = index
    order = np.lexsort((piece, ~faces.visible, person, faces.frame))
    again = (np.diff(faces.frame[order]) == 0) & (np.diff(person[order]) == 0)
    later = order[1:][again]
    person[later[~faces.visible[later]]] = UNKNOWN


def _assert_one_face_per_frame(faces: Faces, person: np.ndarray) -> None:
    known = person != UNKNOWN
    keys = np.stack([faces.frame[known], person[known]], axis=1)
    if len(np.unique(keys, axis=0)) != len(keys):
        raise AssertionError("two faces of one frame were given to one person")
