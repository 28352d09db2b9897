"""facenet-pytorch's definitions of networks, without what else its package imports.

``import facenet_pytorch`` imports torchvision for pictures that are PIL images and boxes that are tensors; ours are
neither. That takes 2.2 s of a core and 160 MB in every process. So its files are loaded below a package of another
name, in which the module that needs torchvision is empty.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

_PACKAGE = "_facenet_pytorch_networks"
_loading = threading.Lock()


def network_module(name: Literal["mtcnn", "inception_resnet_v1"]) -> Any:
    """The module ``facenet_pytorch.models.<name>``, of its own definitions.

    Only the networks in it work; what finds and cuts faces with them does not.

    Raises:
        ImportError: facenet-pytorch is not installed, or not laid out as in 2.6.0.
    """
    with _loading:
        if _PACKAGE not in sys.modules:
            _lay_out()
        # Written out: which code a stage's result depends on is read from the source.
        if name == "mtcnn":
            return importlib.import_module("_facenet_pytorch_networks.mtcnn")
        return importlib.import_module("_facenet_pytorch_networks.inception_resnet_v1")


def _lay_out() -> None:
    # Found without being imported.
    spec = importlib.util.find_spec("facenet_pytorch")
    if spec is None or spec.origin is None:
        raise ImportError("facenet-pytorch is not installed", name="facenet_pytorch")
    models = Path(spec.origin).parent / "models"
    package, utils = ModuleType(_PACKAGE), ModuleType(f"{_PACKAGE}.utils")
    package.__path__, utils.__path__ = [str(models)], [str(models / "utils")]
    without = ModuleType(f"{_PACKAGE}.utils.detect_face")
    vars(without).update(detect_face=None, extract_face=None)
    for module in (without, utils, package):
        sys.modules[module.__name__] = module
