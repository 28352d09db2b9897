"""facenet-pytorch's networks without the rest of its package."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Literal

import pytest

from faceline.adapters.facenet import network_module

pytestmark = pytest.mark.models


@pytest.mark.parametrize(
    ("module", "names"), [("mtcnn", ("PNet", "RNet", "ONet")), ("inception_resnet_v1", ("InceptionResnetV1",))]
)
def test_they_are_the_package_s_own_definitions(
    module: Literal["mtcnn", "inception_resnet_v1"], names: tuple[str, ...]
) -> None:
    from facenet_pytorch.models import inception_resnet_v1, mtcnn

    theirs = {"mtcnn": mtcnn, "inception_resnet_v1": inception_resnet_v1}[module]
    ours = network_module(module)
    assert ours.__file__ == theirs.__file__
    for name in names:
        assert getattr(ours, name).forward.__code__.co_code == getattr(theirs, name).forward.__code__.co_code


def test_nothing_else_is_imported() -> None:
    code = (
        "import sys; from faceline.adapters.facenet import network_module;"
        "network_module('mtcnn').PNet(pretrained=False); network_module('inception_resnet_v1');"
        "print('torchvision' in sys.modules, 'facenet_pytorch' in sys.modules, 'torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert told.split() == ["False", "False", "True"]


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("_facenet_pytorch_networks")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="facenet-pytorch is not installed"):
        network_module("mtcnn")
