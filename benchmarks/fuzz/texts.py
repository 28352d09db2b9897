"""Mutated configurations, command lines, manifests and run.json files, and what reads them."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import random
import shutil
from pathlib import Path
from typing import Any

from benchmarks.fuzz.media import Outcome
from faceline.errors import FacelineError

KINDS = ("file", "file", "command line", "manifest", "run.json")

_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 5, 10**6, 10**30, -0.0, 0.5, 1e308, float("inf"), float("nan"), "", "x", "null"),
    *(
        "true",
        "1e400",
        "${footage}",
        "${oc.env:HOME}",
        "${sample.fps}",
        "${",
        "a,b",
        "[1,2]",
        "{a: 1}",
        "=1+1",
        "ä\n",
        "\0",
    ),
    *(
        [],
        [1, 2],
        [[]],
        {},
        {"a": 1},
        {1: 2},
        {"": {}},
        {"a.b": 1},
        [None],
        "!!python/object:os.system",
        "\ud800",
        "9" * 5000,
    ),
)

_YAML_TEXTS = (
    "sample: {fps: 5}\n",
    "a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n"
    "d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e]\n"
    "g: &g [*f,*f,*f,*f,*f,*f,*f,*f]\nh: &h [*g,*g,*g,*g,*g,*g,*g,*g]\narchive: {extensions: *h}\n",
    "a: &a {b: *a}\n",
    "? [a, b]\n: 1\n",
    "sample: !!python/object/apply:os.system ['true']\n",
    "--- 1\n--- 2\n",
    "%YAML 9.9\n---\nsample: {fps: 5}\n",
    "sample:\n\t fps: 5\n",
    "{" * 400,
    "[" * 5000,
    "a: " * 3000,
    "2001-01-01: 2001-99-99\n",
    "<<: {sample: {fps: 3}}\n",
    "sample: {<<: [1]}\n",
    "\ufeffsample: {fps: 5}\n",
    "sample: {fps: 0x1p3, segment_s: 1_0:00}\n",
    "sample: {fps: 1:30}\n",
)

_WORDS = (
    *("sample.fps", "anomaly", "anomaly.window_s", "gridsearch", "gridsearch.space", "runner", "detect.thresholds"),
    *(
        "limits.max_hours",
        "footage",
        "output",
        "store.root",
        "hydra.run.dir",
        "a.b.c.d",
        "anomaly@x",
        "~sample",
        "+x",
        "++x",
    ),
    *("anomaly.model.name", "archive.extensions", "embedder", "preset", "hydra/launcher", "detect.max_faces", ""),
)
_GRAMMAR = (
    *("5", "native", "iforest,lof", "0.25,0.5", "range(1,10)", "range(1,100000000)", "range(0,1,1e-9)", "choice(1,2)"),
    *(
        "glob(*)",
        "interval(0,1)",
        "shuffle(1,2)",
        "sort(3,1)",
        "tag(a,1)",
        "cast",
        "int(5.5)",
        "float(x)",
        "str(5)",
        "null",
    ),
    *(
        "extend_list(1)",
        "{a:1}",
        "[1,2",
        "'",
        '"',
        "\\",
        "${footage}",
        "${oc.env:HOME}",
        "${..}",
        "a=b",
        "[" * 300,
        "{a:" * 200,
    ),
    *(
        "(" * 300,
        "range(" * 50,
        "1" * 400,
        "9e999",
        "nan",
        "-inf",
        "\x00",
        "\x1b[31m",
        "ä€😀",
        "x" * 5000,
        "../..",
        "a\nb",
        "1,1",
        ",",
    ),
)


_SCRIBBLES = (b"", b"\0", b"\xff", b"{", b":", b"'", b"\n", b"&a ", b"*a ", b"!!", b"\t", b"%", b"\x1b")

_JSON_TEXTS = (
    *(b"", b"[" * 100_000, b'{"a":' * 50_000, b"1" * 6000, b"nul", b"\xff\xfe", b"NaN", b"{}", b"[]", b'"x"', b"1"),
    *(b'{"check": NaN}', b'{"check": 1}', b'{"faceline": 1, "outputs": 2}'),
)


def read_text(number: int, seed: int, folder: str) -> Outcome:
    """Make the mutated text of this number, and read it. Runs in the guarded process.

    Args:
        number, seed: decide everything.
        folder: a folder with the store of `make_store` in ``store``; what is mutated lies in ``case`` afterwards.
    """
    rng = random.Random(f"faceline fuzz text {seed} {number}")
    kind = KINDS[rng.randrange(len(KINDS))]
    # What the store says of artifacts that it sets aside.
    logging.disable()
    case = Path(folder) / "case"
    shutil.rmtree(case, ignore_errors=True)
    case.mkdir()
    read = {"file": _file, "command line": _command_line, "manifest": _manifest, "run.json": _run_json}[kind]
    try:
        said = read(rng, case, Path(folder) / "store")
    except FacelineError as error:
        said = str(error)
        if len(said.splitlines()) != 1:
            raise AssertionError(f"an error of several lines: {said!r}") from error
        return Outcome("refused", f"{kind}: {said}")
    return Outcome("fine", f"{kind}: {said}")


def make_store(root: Path) -> None:
    """A store with one artifact of three payloads, to have its manifest mutated."""
    import numpy as np
    import pyarrow as pa

    from faceline.keys import KeyParts
    from faceline.stage import Payload
    from faceline.store import Store

    outputs = (
        Payload("rows", "parquet", "rows"),
        Payload("values", "npy", "values"),
        Payload("files", "files", "files"),
    )
    parts = KeyParts("sample", 1, {"fps": 10.0}, {}, "0" * 64, {}, {}, {}, {"faceline.sampling": "0" * 64})
    store = Store(root)
    with store.lock("sample", parts.key), store.draft("sample", parts.key, outputs) as draft:
        draft.append(
            {"rows": pa.table({"a": [1, 2, 3]}), "values": np.arange(6.0).reshape(3, 2), "files": {"a/b.txt": b"x"}}
        )
        store.commit(draft, parts, runtime={"device": "cpu"}, timings={"compute_s": 1.0})


def _file(rng: random.Random, case: Path, _: Path) -> str:
    from faceline.stages import STAGES
    from flows.config import load_config

    path = case / "own.yaml"
    path.write_bytes(_yaml(rng))
    config = load_config([f"config={path}"], STAGES)
    return f"{len(config.trials)} trials"


def _yaml(rng: random.Random) -> bytes:
    import yaml

    if rng.random() < 0.3:
        text = rng.choice(_YAML_TEXTS)
    else:
        tree = yaml.safe_load(_conf("config.yaml"))
        tree.pop("defaults", None)
        for name in rng.sample(sorted(tree), rng.randrange(len(tree))):
            tree.pop(name)
        for _ in range(rng.choice((1, 1, 2, 4))):
            tree = _spoilt(tree, rng)
        text = yaml.safe_dump(tree, allow_unicode=True) if _is_plain(tree) else str(tree)
    return _scribbled(text, rng)


def _conf(name: str) -> str:
    from flows.composition import conf_folder

    return (conf_folder() / name).read_text()


def _is_plain(tree: Any) -> bool:
    import yaml

    with contextlib.suppress(yaml.YAMLError, ValueError, TypeError, RecursionError):
        yaml.safe_dump(tree, allow_unicode=True).encode()
        return True
    return False


def _scribbled(text: str, rng: random.Random) -> bytes:
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    if rng.random() < 0.3:
        for _ in range(rng.choice((1, 3, 10))):
            at = rng.randrange(len(data)) if data else 0
            data[at : at + 1] = rng.choice(_SCRIBBLES)
    return bytes(data)


def _spoilt(tree: Any, rng: random.Random) -> Any:
    """A copy with one place replaced, doubled, renamed, or nested."""
    tree = copy.deepcopy(tree)
    places = list(_places(tree))
    if not places:
        return rng.choice(_VALUES)
    holder, key = rng.choice(places)
    what = rng.randrange(5)
    if what <= 1:
        holder[key] = rng.choice(_VALUES)
    elif what == 2 and isinstance(holder, dict):
        holder[rng.choice(("x", "", f"{key}x", "__class__", "a.b", "/", "é"))] = holder.pop(key)
    elif what == 3:
        for _ in range(rng.choice((1, 10, 40))):
            holder[key] = rng.choice(({"a": holder[key]}, [holder[key]]))
    else:
        holder[key] = rng.choice((str(holder[key]), [holder[key]] * 3, str(holder[key])[:-1]))
    return tree


def _places(tree: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        here = waiting.pop()
        keys = list(here) if isinstance(here, dict) else range(len(here)) if isinstance(here, list) else ()
        for key in keys:
            found.append((here, key))
            waiting.append(here[key])
    return found


def _command_line(rng: random.Random, _: Path, __: Path) -> str:
    from faceline.stages import STAGES
    from flows.config import load_config, load_sweep

    arguments = []
    for _n in range(rng.choice((1, 1, 2, 3))):
        value = rng.choice(_GRAMMAR)
        if rng.random() < 0.3:
            at = rng.randrange(len(value) + 1)
            value = value[:at] + rng.choice(_GRAMMAR)[:40] + value[at:]
        arguments.append(f"{rng.choice(_WORDS)}{rng.choice(('=', '=', '=', '=', '', '=='))}{value}")
    if rng.random() < 0.5:
        configs = [load_config(arguments, STAGES)]
    else:
        configs = load_sweep(arguments, STAGES)
    return f"{len(configs)} configurations"


def _json(tree: Any, rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.1:
        return rng.choice(_JSON_TEXTS)
    for _ in range(rng.choice((1, 1, 2, 4))):
        tree = _spoilt(tree, rng)
    try:
        text = json.dumps(tree, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = "{}"
    return _scribbled(text, rng)


def _manifest(rng: random.Random, case: Path, store: Path) -> str:
    from faceline.artifacts import MANIFEST
    from faceline.keys import digest_of
    from faceline.store import Store

    copy = case / "store"
    shutil.copytree(store, copy)
    path = next(copy.glob(f"sample/*/{MANIFEST}"))
    tree = json.loads(path.read_bytes())
    if rng.random() < 0.7:
        # One whose check fits: altered by somebody who knows how.
        tree.pop("check")
        tree = _spoilt(tree, rng)
        with contextlib.suppress(Exception):
            tree["check"] = digest_of(tree)
        with contextlib.suppress(ValueError):
            path.write_bytes(json.dumps(tree, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    else:
        path.write_bytes(_json(tree, rng))
    opened = Store(copy)
    found = [opened.inspect("sample", path.parent.name, deep=deep).state for deep in (False, True)]
    found += [finding.state for finding in opened.verify(repair=True)]
    if found[0] != "damaged" and found[1] == "ok":
        artifact = opened.read(opened.ref(opened.inspect("sample", path.parent.name)))
        for name, payload in artifact.manifest.payloads.items():
            with contextlib.suppress(FacelineError):
                {"parquet": artifact.table, "npy": artifact.array, "files": lambda n: list(artifact.files(n))}[
                    payload.kind
                ](name)
    return ", ".join(found)


def _run_json(rng: random.Random, case: Path, _: Path) -> str:
    from faceline.report.results import check_replaceable

    tree = {"faceline": "0.1.0", "footage": {"path": "/a.mp4", "sha256": "0" * 64}, "outputs": {"events.csv": "0" * 64}}
    results = case / "results"
    results.mkdir()
    (results / "run.json").write_bytes(_json(tree, rng))
    check_replaceable(results)
    return "replaceable"
