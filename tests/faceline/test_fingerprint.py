"""Fingerprints: which code counts, which edits change it, and that nothing is imported to find out."""

from __future__ import annotations

import ast
import functools
import importlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import faceline
from faceline.errors import FacelineError
from faceline.fingerprint import INFRASTRUCTURE, CodeIndex, code_digests, module_code
from faceline.stage import Payload, Stage, StageParams

PACKAGE = Path(faceline.__file__).parent

Write = Callable[..., CodeIndex]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes modules of a package ``pkg`` (``path=source``) and gives a fresh index of it."""

    def write(excluded: tuple[str, ...] = ("pkg",), **modules: str) -> CodeIndex:
        for name, source in {"__init__": "", **modules}.items():
            path = tmp_path / "pkg" / (name.replace("__in__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        return CodeIndex({"pkg": tmp_path / "pkg"}, excluded)

    return write


BASE = '''"""A module."""
import math


def area(r: float) -> float:
    """Area of a circle."""
    return math.pi * r ** 2  # by definition
'''

# Edits that must not count.


@pytest.mark.parametrize(
    "edited",
    [
        BASE.replace("# by definition", "# as the Greeks knew"),
        BASE.replace('"""A module."""', '"""Another text."""'),
        BASE.replace('    """Area of a circle."""\n', ""),
        "\n\n\n" + BASE,
        BASE.replace("math.pi * r ** 2", "(\n        math.pi\n        * r**2\n    )"),
        BASE + "\n'a bare string does nothing'\n",
        BASE.replace('"""Area of a circle."""', "'Single quotes.'"),
    ],
)
def test_comments_docstrings_and_formatting_do_not_count(edited: str) -> None:
    assert module_code(edited, "m").digest == module_code(BASE, "m").digest


def test_a_body_of_a_docstring_equals_a_body_of_pass() -> None:
    one = module_code("class A(Exception):\n    '''Doc.'''\n", "m")
    assert one == module_code("class A(Exception):\n    pass\n", "m")


def test_imports_for_type_checkers_do_not_count() -> None:
    guarded = "from typing import TYPE_CHECKING\n{}x = 1\n"
    plain = module_code(guarded.format(""), "pkg.m")
    for test in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        code = module_code(guarded.format(f"if {test}:\n    from pkg import other\n"), "pkg.m")
        assert code == plain
    other_branch = module_code(guarded.format("if TYPE_CHECKING:\n    import a\nelse:\n    import pkg.b\n"), "pkg.m")
    assert "pkg.b" in other_branch.imports
    assert "a" not in other_branch.imports


# Edits that must count.


@pytest.mark.parametrize(
    "edited",
    [
        BASE.replace("** 2", "** 3"),
        BASE.replace("** 2", "** 2.0"),
        BASE.replace("math.pi", "math.tau"),
        BASE.replace("area", "surface"),
        BASE.replace("r: float", "r: int"),
        BASE.replace("import math", "import cmath as math"),
        BASE + "X = 'text'\n",
        BASE.replace("return", "yield"),
        BASE.replace("def area", "@functools.cache\ndef area"),
    ],
)
def test_any_change_of_what_is_executed_counts(edited: str) -> None:
    assert edited != BASE
    assert module_code(edited, "m").digest != module_code(BASE, "m").digest


def test_a_text_that_is_used_counts() -> None:
    assert module_code("x = ['a']", "m").digest != module_code("x = ['b']", "m").digest
    assert module_code("f('a')", "m").digest != module_code("f('b')", "m").digest


def test_large_modules_are_told_apart_exactly_where_their_trees_differ() -> None:
    """Against `ast.dump` as the oracle: equal digests exactly where the stripped trees are equal."""
    sources = [Path(module.__file__ or "").read_text() for module in (functools, importlib, ast)]
    variants = [*sources, *(source.replace("return None", "return 1") for source in sources)]
    by_digest: dict[str, set[str]] = {}
    by_dump: dict[str, set[str]] = {}
    for source in variants:
        digest, dump = module_code(source, "m").digest, ast.dump(_stripped(ast.parse(source)))
        by_digest.setdefault(digest, set()).add(dump)
        by_dump.setdefault(dump, set()).add(digest)
    assert all(len(dumps) == 1 for dumps in by_digest.values())
    assert all(len(digests) == 1 for digests in by_dump.values())
    assert len(by_digest) > len(sources)


def _stripped(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            body = getattr(node, name, None)
            if isinstance(body, list):
                kept = [
                    n
                    for n in body
                    if not isinstance(n, ast.Pass)
                    and not (isinstance(n, ast.Expr) and isinstance(getattr(n.value, "value", None), str))
                ]
                setattr(node, name, kept)
    return tree


# Which modules count.


@pytest.mark.parametrize(
    "statement",
    [
        "import pkg.other",
        "import pkg.other as o",
        "from pkg.other import f",
        "from pkg.other import *",
        "from pkg import other",
        "from . import other",
        "from .other import f",
        "def g():\n    from pkg.other import f\n    return f",
        "async def g():\n    import pkg.other",
        "try:\n    import pkg.other\nexcept ImportError:\n    pass",
        "if True:\n    from . import other",
        "import importlib\nimportlib.import_module('pkg.other')",
        "class A:\n    from pkg import other",
    ],
)
def test_imports_are_followed_wherever_they_stand(write: Write, statement: str) -> None:
    assert set(write(start=statement, other="x = 1").digests(["pkg.start"])) == {"pkg.start", "pkg.other"}


def test_imports_are_followed_transitively_and_in_circles(write: Write) -> None:
    index = write(a="import pkg.b", b="from pkg import c", c="from . import a", d="x = 1")
    assert set(index.digests(["pkg.a"])) == {"pkg.a", "pkg.b", "pkg.c"}


def test_a_package_on_the_way_counts_but_the_root_does_not(write: Write) -> None:
    index = write(
        start="from pkg.sub.deep import f", sub__in____init__="x = 1", sub__in__deep="from .. import near\n", near=""
    )
    assert set(index.digests(["pkg.start"])) == {"pkg.start", "pkg.sub", "pkg.sub.deep", "pkg.near"}


def test_relative_imports_in_a_package_file_start_at_that_package(write: Write) -> None:
    index = write(start="import pkg.sub", sub__in____init__="from .deep import f", sub__in__deep="", deep="wrong = 1")
    assert set(index.digests(["pkg.start"])) == {"pkg.start", "pkg.sub", "pkg.sub.deep"}


def test_other_packages_and_excluded_modules_are_not_followed(write: Write) -> None:
    index = write(("pkg", "pkg.store"), start="import numpy, pkg.store, os.path", store="import pkg.hidden", hidden="")
    assert set(index.digests(["pkg.start"])) == {"pkg.start"}


def test_each_module_has_its_own_digest(write: Write) -> None:
    before = write(a="import pkg.b", b="x = 1").digests(["pkg.a"])
    after = write(a="import pkg.b", b="x = 2").digests(["pkg.a"])
    assert {name for name in before if before[name] != after[name]} == {"pkg.b"}


def test_data_files_of_a_package_count_where_a_module_of_it_is_reached(write: Write, tmp_path: Path) -> None:
    index = write(start="import pkg.sub.m", sub__in__m="", apart__in__m="")
    templates = tmp_path / "pkg" / "sub" / "templates"
    templates.mkdir()
    (templates / "page.html").write_text("<p>")
    (tmp_path / "pkg" / "apart" / "table.csv").write_text("1")
    (tmp_path / "pkg" / "py.typed").write_text("")
    before = index.digests(["pkg.start"])
    assert set(before) == {"pkg.start", "pkg.sub.m", "pkg.sub/templates/page.html"}
    (templates / "page.html").write_text("<b>")
    after = write().digests(["pkg.start"])
    assert {name for name in before if before[name] != after[name]} == {"pkg.sub/templates/page.html"}


# A process runs the code that it loaded.


def test_code_that_changes_under_a_running_process_raises(write: Write, tmp_path: Path) -> None:
    index = write(a="x = 1")
    index.digests(["pkg.a"])
    (tmp_path / "pkg" / "a.py").write_text("x = 2  # longer")
    with pytest.raises(FacelineError, match=r"pkg\.a changed while this process was running; start it again"):
        index.digests(["pkg.a"])


def test_a_time_that_was_set_back_hides_no_change_of_the_code(write: Write, tmp_path: Path) -> None:
    index = write(a="x = 1")
    index.digests(["pkg.a"])
    path = tmp_path / "pkg" / "a.py"
    before = path.stat()
    path.write_text("x = 2")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    with pytest.raises(FacelineError, match=r"pkg\.a changed while this process was running"):
        index.digests(["pkg.a"])


def test_a_touched_or_newly_commented_file_is_still_the_same_code(write: Write, tmp_path: Path) -> None:
    index = write(a="x = 1")
    before = index.digests(["pkg.a"])
    (tmp_path / "pkg" / "a.py").write_text("x = 1  # one")
    assert index.digests(["pkg.a"]) == before


def test_a_data_file_that_comes_later_counts_and_an_unchanged_package_is_walked_once(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = write(sub__in__m="x = 1")
    before = index.digests(["pkg.sub.m"])
    (tmp_path / "pkg/sub/table.csv").write_text("1")
    after = index.digests(["pkg.sub.m"])
    assert set(after) - set(before) == {"pkg.sub/table.csv"}
    monkeypatch.setattr(index, "_walk", lambda *given: pytest.fail("walked again"))
    assert index.digests(["pkg.sub.m"]) == after


def test_an_unchanged_file_is_read_once(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = write(a="x = 1")
    before = index.digests(["pkg.a"])
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read again"))
    assert index.digests(["pkg.a"]) == before


# Stages.


class OwnParams(StageParams):
    pass


def own_compute(params: OwnParams, inputs: object, runtime: object):  # type: ignore[no-untyped-def]
    from faceline import timeline

    yield {"p": timeline.timecode(0)}


STAGE = Stage("own", 1, "footage", OwnParams, (), (Payload("p", "parquet"),), own_compute)


def test_a_stage_counts_its_module_and_what_that_uses_of_faceline() -> None:
    digests = code_digests(STAGE)
    assert set(digests) == {__name__, "faceline.timeline"}
    assert all(len(digest) == 64 for digest in digests.values())


def test_parameters_and_roles_from_other_modules_count(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    lab.mkdir()
    (lab / "__init__.py").write_text("")
    (lab / "work.py").write_text("def compute(params, inputs, runtime):\n    yield {}\n")
    (lab / "options.py").write_text(
        "from faceline.stage import StageParams\nclass Options(StageParams):\n    a: int = 1\n"
    )
    (lab / "choice.py").write_text("def roles(params):\n    return ()\n")
    (lab / "declared.py").write_text(
        "from faceline.stage import Stage\nfrom lab.work import compute\nfrom lab.options import Options\n"
        "from lab.choice import roles\nS = Stage('s', 1, 'footage', Options, (), (), compute, roles=roles)\n"
    )
    program = "from faceline.fingerprint import code_digests; from lab.declared import S; print(*code_digests(S))"
    assert _run(program, tmp_path) == "lab lab.choice lab.options lab.work"


def test_a_partial_counts_as_its_function() -> None:
    stage = Stage("own", 1, "footage", OwnParams, (), (), functools.partial(own_compute))
    assert code_digests(stage) == code_digests(STAGE)


def test_a_stage_without_source_is_refused() -> None:
    namespace: dict[str, object] = {"__name__": "nowhere"}
    exec("def compute(params, inputs, runtime): yield {}", namespace)
    with pytest.raises(FacelineError, match="no source file"):
        code_digests(Stage("own", 1, "footage", OwnParams, (), (), namespace["compute"]))  # type: ignore[arg-type]


def test_the_infrastructure_exists() -> None:
    index = CodeIndex({"faceline": PACKAGE})
    assert [name for name in sorted(INFRASTRUCTURE) if index.find(name) is None] == []


def test_faceline_names_no_module_at_run_time() -> None:
    """The blind spot of static reading: `import_module(variable)`."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and not (node.args and isinstance(node.args[0], ast.Constant)):
                called = node.func
                name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
                if name in ("import_module", "__import__"):
                    found.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert found == []


def test_finding_the_code_imports_none_of_it(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "__init__.py").write_text("")
    (tmp_path / "lab" / "heavy.py").write_text("raise SystemExit('imported')")
    (tmp_path / "lab" / "stages.py").write_text(
        "from faceline.stage import Stage, StageParams\n"
        "def compute(params, inputs, runtime):\n    import lab.heavy\n    yield {}\n"
        "S = Stage('s', 1, 'footage', StageParams, (), (), compute)\n"
    )
    program = "from faceline.fingerprint import code_digests; from lab.stages import S; print(*code_digests(S))"
    assert _run(program, tmp_path) == "lab lab.heavy lab.stages"


def test_digests_are_the_same_from_a_wheel(tmp_path: Path) -> None:
    """A wheel is an archive of the package, unpacked into site-packages."""
    archive = tmp_path / "faceline.whl"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(PACKAGE.rglob("*.py")):
            file.write(path, Path("faceline") / path.relative_to(PACKAGE))
    site = tmp_path / "site"
    with zipfile.ZipFile(archive) as file:
        file.extractall(site)
    (site / "mystage.py").write_text(
        "from faceline.stage import Stage, StageParams\nfrom faceline import timeline\n"
        "def compute(params, inputs, runtime): yield {}\n"
        "S = Stage('s', 1, 'footage', StageParams, (), (), compute)\n"
    )
    program = (
        "import faceline, sys; assert faceline.__file__.startswith(sys.argv[1]), faceline.__file__;"
        "from mystage import S; from faceline.fingerprint import code_digests;"
        "print(code_digests(S)['faceline.timeline'])"
    )
    assert _run(program, site, str(site)) == code_digests(STAGE)["faceline.timeline"]


def _run(program: str, path: Path, *arguments: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(path), "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=env, capture_output=True, text=True, check=False, cwd=path
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_digest_is_frozen() -> None:
    assert module_code(BASE, "m").digest == "74dc0377951d66c73260f705a9e765db7c3540ab6d5ac16a421ae0c9183cdb21"
