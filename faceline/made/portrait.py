"""The still portraits that made footage is based on, with their frozen face-mesh landmarks.

Both pictures are in the public domain and lie inside packages that faceline depends on, so nothing is downloaded and
nothing is copied into this repository. The landmark tables (`portraits/*.csv`) were computed once with MediaPipe's
refined face mesh and are frozen, so that making footage needs no network and is the same on every machine.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from faceline.errors import FacelineError

PortraitName = Literal["astronaut", "commodore"]

LANDMARKS = 478


@dataclass(frozen=True)
class Portrait:
    """One portrait.

    Attributes:
        name: name in scripts and truth files.
        package: the installed package that ships the picture.
        path_in_package: where in the package it lies.
        sha256: digest of the picture's file, hexadecimal.
        credit: who is shown, who took it, and why it may be used.
        brows_free: whether the brows can be moved; the rim of spectacles would be bent with them.
        lids_seen: whether the picture shows upper lids; otherwise they are painted.
        lid_room: height above the upper lids that may stretch when they close, in eye distances.
    """

    name: PortraitName
    package: str
    path_in_package: str
    sha256: str
    credit: str
    brows_free: bool
    lids_seen: bool
    lid_room: float

    @property
    def path(self) -> Path:
        """The picture's file; raises `FacelineError` when the package lacks it."""
        spec = importlib.util.find_spec(self.package)
        if spec is None or spec.origin is None:
            raise FacelineError(f"the package {self.package} is not installed", cure="run make setup")
        path = Path(spec.origin).parent / self.path_in_package
        if not path.is_file():
            raise FacelineError(
                f"the installed {self.package} lacks {self.path_in_package}",
                cure="install it from its wheel: make setup",
            )
        return path

    @cached_property
    def rgb(self) -> np.ndarray:
        """The picture, uint8 [height, width, 3], RGB; raises `FacelineError` when it is not the expected one."""
        from PIL import Image

        data = self.path.read_bytes()
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise FacelineError(
                f"{self.path_in_package} is not the picture that the landmarks belong to",
                where=self.package,
                cure="install the locked environment: make setup",
            )
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))

    @cached_property
    def landmarks_px(self) -> np.ndarray:
        """MediaPipe's 478 landmarks, float64 [478, 3]: x, y in picture pixels, z in the same scale, nearer smaller."""
        table = Path(__file__).parent / "portraits" / f"{self.name}.csv"
        return np.loadtxt(table, delimiter=",", skiprows=1)


ASTRONAUT = Portrait(
    name="astronaut",
    package="skimage",
    path_in_package="data/astronaut.png",
    sha256="88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    credit="Eileen Collins, NASA Great Images; public domain; shipped by scikit-image",
    brows_free=True,
    lids_seen=True,
    lid_room=0.13,
)
COMMODORE = Portrait(
    name="commodore",
    package="matplotlib",
    path_in_package="mpl-data/sample_data/grace_hopper.jpg",
    sha256="a8ca6d734765703b09728ab47fe59f473d93ae3967fc24c7c0288c3c7adb7130",
    credit="Grace M. Hopper, official United States Navy portrait, 1984; public domain; shipped by matplotlib",
    brows_free=False,
    lids_seen=False,
    lid_room=0.065,
)

PORTRAITS: dict[PortraitName, Portrait] = {p.name: p for p in (ASTRONAUT, COMMODORE)}
