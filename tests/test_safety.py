"""What may not stand in our code: ways by which a file, a name or a configuration could run something."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("faceline", "tasks", "flows", "benchmarks")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

UNPICKLING = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "pandas"}
OWN_BYTES = {"tasks/worker_process.py": 1}
"""Calls that read back what the same line wrote."""

NETWORK = {"urllib.request", "http.client", "requests", "httpx", "aiohttp", "ftplib", "smtplib", "telnetlib"}
USES_NETWORK = {
    "faceline/downloads.py",  # `faceline models fetch`
    "faceline/nightly/notification.py",  # the webhook that was named
    "flows/server.py",  # whether the Prefect server that was named, or our own, answers
}


def dotted(node: ast.expr) -> str:
    """``torch.load`` for the function of a call."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join(reversed([*parts, node.id if isinstance(node, ast.Name) else "?"]))


def says(call: ast.Call, name: str, value: object) -> bool:
    return any(
        word.arg == name and isinstance(word.value, ast.Constant) and word.value.value is value
        for word in call.keywords
    )


def dangers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in UNPICKLING and node.module != "pandas":
            yield node.lineno, f"from {node.module} import: calls could not be told apart"
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        module, _, function = name.rpartition(".")
        if function in ("load", "loads", "Unpickler", "read_pickle", "open") and module.split(".")[0] in UNPICKLING:
            yield node.lineno, f"{name} runs what a file says"
        if function == "read_pickle" or name in ("eval", "exec", "compile", "__import__", "os.system", "os.popen"):
            yield node.lineno, name
        if name.startswith(("os.exec", "os.spawn", "commands.", "pty.")):
            yield node.lineno, name
        if any(word.arg == "shell" and not says(node, "shell", False) for word in node.keywords):
            yield node.lineno, f"{name} with a shell"
        if name in ("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load") and not any(
            word.arg == "Loader" and dotted(word.value).endswith("SafeLoader") for word in node.keywords
        ):
            yield node.lineno, f"{name} without SafeLoader"
        if name in ("torch.load", "torch.jit.load", "torch.hub.load") and not says(node, "weights_only", True):
            yield node.lineno, f"{name} without weights_only=True"
        pickling = any(word.arg == "allow_pickle" for word in node.keywords) and not says(node, "allow_pickle", False)
        if name in ("np.load", "numpy.load") and pickling:
            yield node.lineno, f"{name} with allow_pickle"
        if function in ("tempnam", "tmpnam", "mktemp"):
            yield node.lineno, f"{name}: a name that others can take first"


def test_there_is_something_to_look_at() -> None:
    assert len(FILES) > 200


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_runs_what_a_file_a_name_or_a_configuration_says(path: Path) -> None:
    found = list(dangers(ast.parse(path.read_text("utf-8"))))
    allowed = OWN_BYTES.get(path.relative_to(ROOT).as_posix(), 0)
    assert len(found) <= allowed, found


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", ["faceline", "tasks", "flows"])
def test_the_network_is_used_where_it_is_asked_for_and_nowhere_else(package: str) -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / package).rglob("*.py")
        if NETWORK & set(imported(ast.parse(path.read_text("utf-8"))))
    }
    assert users == {path for path in USES_NETWORK if path.startswith(f"{package}/")}


@pytest.mark.parametrize(
    "code",
    [
        "import pickle\npickle.load(file)",
        "import pickle\npickle.Unpickler(file)",
        "from pickle import loads",
        "import os\nos.system(text)",
        "import subprocess\nsubprocess.run(text, shell=True)",
        "import subprocess\nsubprocess.run(text, shell=wanted)",
        "eval(text)",
        "import yaml\nyaml.load(text)",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import pandas as pd\npd.read_pickle(path)",
        "import joblib\njoblib.load(path)",
    ],
)
def test_the_dangers_are_recognised(code: str) -> None:
    assert list(dangers(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "import yaml\nyaml.load(text, Loader=yaml.SafeLoader)\nyaml.safe_load(text)",
        "import torch\ntorch.load(path, weights_only=True)",
        "import numpy as np\nnp.load(path, allow_pickle=False)\nnp.load(path)",
        "import subprocess\nsubprocess.run(words)",
        "network.eval()\nre.compile(text)",
    ],
)
def test_what_is_harmless_passes(code: str) -> None:
    assert list(dangers(ast.parse(code))) == []
