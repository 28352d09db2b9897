"""Fingerprints: the code that a stage's result follows from, module by module, read from source without importing it.

A stage's code is the module of its compute function, the modules of its parameters, and every module of the same
package that these import, directly or not, at the top or inside functions. A module counts as its syntax tree:
comments, formatting, docstrings and imports for type checkers only do not count. Data files that lie beside a module
(templates, tables) count too, byte by byte.

Static reading has one blind spot, a module name put together at run time; ``import_module("literal")`` is followed,
anything else is not, and a test keeps such calls out of faceline.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib.util
import inspect
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceline.errors import FacelineError
from faceline.stage import Stage

INFRASTRUCTURE = frozenset(
    {
        # The package itself: its docstring and version.
        "faceline",
        # Which weights are found, and where they come from: the key holds their digests.
        "faceline.weights",
        "faceline.downloads",
        # What a stage is and how its payloads are kept, found, explained and handed over. A mistake in here may lose or
        # refuse an artifact, but it cannot change the values in one without failing the payload tests.
        "faceline.stage",
        "faceline.errors",
        "faceline.keys",
        "faceline.fingerprint",
        "faceline.folders",
        "faceline.payloads",
        "faceline.artifacts",
        "faceline.drafts",
        "faceline.inputs",
        "faceline.store",
        "faceline.latest",
        "faceline.familiar",
        "faceline.explain",
    }
)
"""Modules that cannot change a result; a change in them leaves every key as it is."""

_Stamp = tuple[int, int, int]
"""Times of the last change of content and of state, nanoseconds, and size; the second only the system sets."""

_NO_DATA_SUFFIXES = frozenset({".py", ".pyc", ".pyo", ".pyi", ".so", ".pyd", ".typed"})


@dataclass(frozen=True)
class ModuleCode:
    """What one source file is and reaches.

    Attributes:
        digest: SHA-256 (hex) of its syntax tree, without docstrings, positions and type-checker imports.
        imports: absolute names that it imports; ``from a import b`` gives both ``a`` and ``a.b``.
    """

    digest: str
    imports: frozenset[str]


class CodeIndex:
    """Digests of modules by name, found on disk without importing them.

    What was seen first is kept: a process goes on running the code that it loaded, so a file that changes under it
    must not give later results a newer fingerprint. Such a change raises.

    Args:
        roots: top-level package → its folder.
        excluded: modules that do not count, and are not followed.
    """

    def __init__(self, roots: Mapping[str, Path], excluded: Iterable[str] = INFRASTRUCTURE) -> None:
        self._roots = dict(roots)
        self._excluded = frozenset(excluded)
        self._seen: dict[Path, tuple[_Stamp, Any]] = {}
        self._walked: dict[Any, _Walked] = {}
        # CPython 3.11 may fail with "AST constructor recursion depth mismatch" when two threads parse at once.
        self._reading = threading.Lock()

    def digests(self, modules: Iterable[str], files: Mapping[str, Path] | None = None) -> dict[str, str]:
        """Module → digest, over all that ``modules`` reach, sorted by name.

        Args:
            modules: names to start from.
            files: source files of those names that lie outside the known packages (a stage defined in a test or a
                notebook's module); such a module counts, and its imports of known packages are followed.

        Raises:
            FacelineError: a file changed since this index first read it.
        """
        files = files or {}
        asked = (tuple(modules), tuple(files.items()))
        walked = self._walked.get(asked)
        if walked is None or walked.stamps != _stamps(walked.stamps):
            digests, places = self._walk(asked[0], files)
            walked = _Walked(digests, _stamps(places))
            # Not kept if a file changed between the walk and now: the next walk says so.
            if all(self._seen[place][0] == stamp for place, stamp in walked.stamps.items() if place in self._seen):
                self._walked[asked] = walked
        return dict(walked.digests)

    def _walk(self, modules: Iterable[str], files: Mapping[str, Path]) -> tuple[dict[str, str], set[Path]]:
        """Digests as in `digests`, and the files and folders that were looked at."""
        found: dict[str, str] = {}
        places: set[Path] = set()
        waiting = list(modules)
        visited: set[str] = set()
        packages: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name in visited:
                continue
            visited.add(name)
            # Importing a.b.c runs a and a.b too.
            waiting.extend(self._parents(name))
            path = files.get(name) or self.find(name)
            if path is None or name in self._excluded:
                continue
            places.update((path, path.parent))
            code: ModuleCode = self._read(path, name, lambda data, path=path, name=name: _module_code(data, path, name))
            found[name] = code.digest
            waiting.extend(target for target in code.imports if self._known(target))
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            if name not in files and package not in packages:
                packages.add(package)
                data = self._data_in(path.parent)
                found.update({f"{package}/{file.relative_to(path.parent).as_posix()}": d for file, d in data.items()})
                places.update(place for file in data for place in (file, file.parent))
        return dict(sorted(found.items())), places

    def find(self, name: str) -> Path | None:
        """The source file of a module of the known packages; None if there is none (a name inside a module, say)."""
        top, *rest = name.split(".")
        if top not in self._roots:
            return None
        place = self._roots[top].joinpath(*rest)
        for path in (place / "__init__.py", place.parent / f"{place.name}.py"):
            if path.is_file() and (rest or path.name == "__init__.py"):
                return path
        return None

    def _known(self, name: str) -> bool:
        return name.partition(".")[0] in self._roots

    @staticmethod
    def _parents(name: str) -> Iterator[str]:
        while "." in name:
            name = name.rpartition(".")[0]
            yield name

    def _read(self, path: Path, name: str, parse: Any) -> Any:
        with self._reading:
            return self._read_alone(path, name, parse)

    def _read_alone(self, path: Path, name: str, parse: Any) -> Any:
        stat = path.stat()
        stamp = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size)
        before = self._seen.get(path)
        if before is not None and before[0] == stamp:
            return before[1]
        fresh = parse(path.read_bytes())
        if before is not None and before[1] != fresh:
            raise FacelineError(
                f"the code of {name} changed while this process was running",
                where=str(path),
                cure="start it again, so that what runs is what the key says",
            )
        self._seen[path] = (stamp, fresh)
        return fresh

    def _data_in(self, folder: Path) -> dict[Path, str]:
        """Digests of the data files of the package in that folder."""
        return {file: self._read(file, file.name, _bytes_digest) for file in _data_files(folder)}


@dataclass(frozen=True)
class _Walked:
    """What a walk gave, and the state of all that it looked at: as long as that is the same, so is the walk."""

    digests: Mapping[str, str]
    stamps: Mapping[Path, _Stamp | None]


def _stamps(places: Iterable[Path]) -> dict[Path, _Stamp | None]:
    """Times of change and size of files and folders, None for what is gone. A folder changes with the names in it."""
    stamps: dict[Path, _Stamp | None] = {}
    for place in places:
        try:
            stat = os.stat(place)  # noqa: PTH116 (a third faster, and asked for some fifty places at every stage)
        except OSError:
            stamps[place] = None
        else:
            stamps[place] = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size)
    return stamps


def _data_files(folder: Path) -> Iterator[Path]:
    """Data files in a package's folder and in those of its subfolders that hold no Python modules."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith((".", "__pycache__")) or entry.name.endswith("~"):
            continue
        if entry.is_dir():
            if not any(entry.glob("*.py")):
                yield from _data_files(entry)
        elif entry.suffix not in _NO_DATA_SUFFIXES:
            yield entry


def _bytes_digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def module_code(source: str | bytes, name: str, *, is_package: bool = False) -> ModuleCode:
    """Digest and imports of one module's source.

    Args:
        source: Python source.
        name: absolute module name, against which relative imports are resolved.
        is_package: whether it is the package's ``__init__``.

    Raises:
        SyntaxError: the source is not Python.
    """
    reader = _TreeReader(name if is_package else name.rpartition(".")[0])
    reader.read(ast.parse(source))
    digest = hashlib.sha256("\0".join(reader.tokens).encode("utf-8", "surrogatepass")).hexdigest()
    return ModuleCode(digest, frozenset(reader.imports))


def _module_code(data: bytes, path: Path, name: str) -> ModuleCode:
    return module_code(data, name, is_package=path.name == "__init__.py")


class _TreeReader:
    """One walk over a syntax tree that writes down what counts and gathers imports (`ast.dump` takes twice as long)."""

    def __init__(self, package: str) -> None:
        self.tokens: list[str] = []
        self.imports: set[str] = set()
        self._package = package

    def read(self, node: ast.AST) -> None:
        tokens = self.tokens
        if isinstance(node, ast.Import):
            self.imports.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            self._import_from(node)
        elif isinstance(node, ast.Call):
            self._import_call(node)
        tokens.append(node.__class__.__name__)
        for field in node._fields:
            value = getattr(node, field, None)
            if isinstance(value, ast.AST):
                self.read(value)
            elif isinstance(value, list):
                tokens.append("[")
                for item in value:
                    if isinstance(item, ast.AST):
                        self._read_item(item)
                    else:
                        tokens.append(repr(item))
                tokens.append("]")
            else:
                tokens.append(repr(value))

    def _read_item(self, node: ast.AST) -> None:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return  # A docstring, or a bare string, which does nothing either.
        if isinstance(node, ast.Pass):
            return  # So that a function whose body is a docstring equals one whose body is `pass`.
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            for other in node.orelse:
                self._read_item(other)
            return
        self.read(node)

    def _import_from(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            anchor = self._package.split(".")
            anchor = anchor[: len(anchor) - (node.level - 1)]
            base = ".".join([*anchor, base] if base else anchor)
        self.imports.add(base)
        self.imports.update(f"{base}.{alias.name}" for alias in node.names if alias.name != "*")

    def _import_call(self, node: ast.Call) -> None:
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        if name in ("import_module", "__import__") and node.args and isinstance(node.args[0], ast.Constant):
            target = node.args[0].value
            if isinstance(target, str) and not target.startswith("."):
                self.imports.add(target)


def _is_type_checking(test: ast.expr) -> bool:
    if isinstance(test, ast.Attribute):
        return test.attr == "TYPE_CHECKING" and isinstance(test.value, ast.Name) and test.value.id == "typing"
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


@functools.cache
def _index_of(top: str) -> CodeIndex:
    """The process-wide index for stages defined below the top-level package ``top`` (and what they use of faceline)."""
    roots: dict[str, Path] = {}
    for name in {"faceline", top}:
        spec = importlib.util.find_spec(name)  # A top-level name is located without running anything.
        if spec is not None and spec.submodule_search_locations:
            roots[name] = Path(next(iter(spec.submodule_search_locations)))
    return CodeIndex(roots)


_at_rest: ContextVar[dict[int, dict[str, str]] | None] = ContextVar("at_rest", default=None)


@contextlib.contextmanager
def code_at_rest() -> Iterator[None]:
    """Within the block, the code of each stage is looked at once: for plans of many footages, which run nothing."""
    token = _at_rest.set({})
    try:
        yield
    finally:
        _at_rest.reset(token)


def code_digests(stage: Stage) -> dict[str, str]:
    """Module → digest of all code that a stage's result follows from, sorted by name.

    The walk starts at the modules that define the stage's compute function, its parameter class and its choice of
    model roles.

    Raises:
        FacelineError: the code changed on disk since this process first read it, or has no source.
    """
    seen = _at_rest.get()
    if seen is None:
        return _code_digests(stage)
    if id(stage) not in seen:
        seen[id(stage)] = _code_digests(stage)
    return dict(seen[id(stage)])


def _code_digests(stage: Stage) -> dict[str, str]:
    starts: dict[str, Path] = {}
    for part in (stage.compute, stage.params, stage.roles):
        module = _module_of(part)
        if module in INFRASTRUCTURE:
            continue  # The default of `Stage.roles` lives in faceline.stage.
        source = inspect.getsourcefile(sys.modules[module]) if module in sys.modules else None
        if source is None:
            raise FacelineError(
                f"the code of stage {stage.name} has no source file",
                where=module,
                cure="define its compute function in a module",
            )
        starts[module] = Path(source)
    index = _index_of(_locatable(_module_of(stage.compute).partition(".")[0]))
    return index.digests(starts, {name: path for name, path in starts.items() if index.find(name) is None})


def _module_of(part: Any) -> str:
    while isinstance(part, functools.partial):
        part = part.func
    return str(inspect.unwrap(part).__module__)


def _locatable(top: str) -> str:
    """``top`` if the import system can locate it, else faceline (for ``__main__`` and test modules)."""
    try:
        found = importlib.util.find_spec(top) is not None
    except (ValueError, ImportError):
        found = False
    return top if found else "faceline"
