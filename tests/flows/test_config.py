"""Configuration: what conf/ says, what the command line may say, and how it is told what it got wrong."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from faceline.anomaly.models import MODELS
from faceline.errors import UsageError
from faceline.stages import STAGES
from flows.arguments import parse_override, split_arguments
from flows.composition import composer, conf_folder, override_value
from flows.config import load_config, load_sweep, section_of
from flows.grid import expand
from flows.options import SECTIONS, RunnerOptions

CONF = conf_folder()


# ------------------------------------------------------------------------------------------ conf/ and the parameters


def leaves(model: BaseModel, prefix: str) -> Iterator[tuple[str, Any]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{prefix}.{name}")
        else:
            yield f"{prefix}.{name}", list(value) if isinstance(value, tuple) else value


def plain_leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from plain_leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def composed(*overrides: str) -> dict[str, Any]:
    from omegaconf import OmegaConf

    with composer() as hydra:
        tree = OmegaConf.to_container(hydra.compose(overrides), resolve=True)
    assert isinstance(tree, dict)
    return tree


def test_every_parameter_stands_in_conf_with_its_default_and_nothing_else_does() -> None:
    expected: dict[str, Any] = {"footage": None, "output": None, "rerun": None, "until": None}
    for stage in STAGES:
        expected |= dict(leaves(stage.params(), section_of(stage)))
    for section, options in SECTIONS.items():
        expected |= dict(leaves(options(), section))
    # The one default that is the configuration's own: which of the models `auto` may choose among.
    found = dict(plain_leaves(composed()))
    assert found.pop("gridsearch.space")
    assert found == expected


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_anomaly_model_has_a_documented_file(name: str) -> None:
    tree = yaml.safe_load((CONF / "anomaly" / f"{name}.yaml").read_text())
    assert tree["model"] == MODELS[name]().model_dump(mode="json")


@pytest.mark.parametrize("kind", ["processes", "threads", "dask", "ray"])
def test_every_kind_of_runner_has_a_file_with_all_options(kind: str) -> None:
    tree = yaml.safe_load((CONF / "runner" / f"{kind}.yaml").read_text())
    assert tree == RunnerOptions(kind=kind).model_dump(mode="json")  # type: ignore[arg-type]


def test_the_models_of_the_group_are_those_that_exist() -> None:
    assert {path.stem for path in (CONF / "anomaly").glob("*.yaml")} == set(MODELS)


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_every_option_is_explained_above_its_line(path: Path) -> None:
    lines = path.read_text().splitlines()
    bare = []
    for number, line in enumerate(lines):
        if line.startswith("defaults:") or not re.match(r"\s*[a-z_]+:", line):
            continue
        if not re.match(r"\s*# \S", lines[number - 1] if number else ""):
            bare.append(f"{number + 1}: {line}")
    assert not bare, "options without a comment"


def test_all_spaces_of_the_grid_search_can_be_expanded() -> None:
    sizes = {
        path.stem: len(load_config([f"gridsearch={path.stem}"], STAGES).trials)
        for path in (CONF / "gridsearch").glob("*.yaml")
    }
    assert sizes["small"] < sizes["default"] < sizes["wide"]


def test_composing_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import logging

    monkeypatch.chdir(tmp_path)
    handlers = list(logging.getLogger().handlers)
    load_config(["sample.fps=5"], STAGES)
    assert list(tmp_path.iterdir()) == []
    assert Path.cwd() == tmp_path
    assert logging.getLogger().handlers == handlers


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\n"
            + "".join(f"{chr(c)}: &{chr(c)} [{','.join([f'*{chr(c - 1)}'] * 9)}]\n" for c in range(ord("c"), ord("m"))),
            "too many values, or nested too deeply",
        ),
        ("a: &a {b: *a}\n", "too many values, or nested too deeply"),
        ("[" * 5000, "is no YAML"),
        ("sample: {fps: 2001-99-99}\n", "is no YAML: month must be in 1..12"),
        ("x" * 300_000, "has more than 262144 bytes"),
        ("sample: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
    ],
)
def test_a_hostile_file_ends_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(text)
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        load_config([f"config={own}"], STAGES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("anomaly.window_s=range(1,100000000)", "a range of more than 100000 values"),
        ("anomaly=range(0,1,0.0000000001)", "a range of more than 100000 values"),
        ("anomaly.window_s=" + "[" * 5000, "cannot read 'anomaly.window_s=[[["),
        ("anomaly.window_s=" + "1" * 30_000, "too long for an option"),
        ("x" * 5000, "is no option=value"),
    ],
)
def test_hostile_arguments_end_in_one_line(argument: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_config([argument], STAGES)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 6000


def test_a_group_choice_and_a_value_reach_the_parameters() -> None:
    config = load_config(
        ["embedder=dlib", "report.top_events=20", "runtime.threads=3", "gridsearch.select=best"], STAGES
    )
    assert config.models.identity == "dlib"
    assert config.params["report"].top_events == 20  # type: ignore[attr-defined]
    assert config.params["gridsearch"].select == "best"  # type: ignore[attr-defined]
    assert config.runtime.threads == 3
    assert not any("omegaconf" in type(value).__module__ for value in walk(config.tree))


def walk(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, dict):
        for item in value.values():
            yield from walk(item)
    elif isinstance(value, list):
        for item in value:
            yield from walk(item)


def test_a_file_of_ones_own_comes_before_the_command_line(tmp_path: Path) -> None:
    own = tmp_path / "study.yaml"
    own.write_text("sample: {fps: 5}\nembedder: dlib\nreport:\n  top_events: 7\nstore: {root: 'a, b=c'}\n")
    config = load_config([f"config={own}", "report.top_events=8"], STAGES)
    assert config.params["sample"].fps == 5  # type: ignore[attr-defined]
    assert config.params["report"].top_events == 8  # type: ignore[attr-defined]
    assert config.models.identity == "dlib"
    assert config.store.root == "a, b=c"
    own.write_text("sample: {fsp: 5}\n")
    with pytest.raises(UsageError, match=r"no option 'sample\.fsp'; did you mean 'sample\.fps'"):
        load_config([f"config={own}"], STAGES)
    own.write_text("- 5\n")
    with pytest.raises(UsageError, match="must hold options"):
        load_config([f"config={own}"], STAGES)
    with pytest.raises(UsageError, match="cannot read the configuration: No such file"):
        load_config(["config=nowhere.yaml"], STAGES)


def test_the_digest_of_a_file_of_ones_own_is_that_of_the_bytes_that_were_read(tmp_path: Path) -> None:
    own = tmp_path / "study.yaml"
    own.write_text("sample: {fps: 5}\n")
    config = load_config([f"config={own}"], STAGES)
    assert config.file is not None
    assert config.file.sha256 == hashlib.sha256(b"sample: {fps: 5}\n").hexdigest()
    assert load_config([], STAGES).file is None


def test_a_key_that_cannot_sign_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"custody\.sign_key=.*: no such file"):
        load_config([f"custody.sign_key={tmp_path / 'none, or = any.pem'}"], STAGES)
    own = tmp_path / "study.yaml"
    own.write_text(f"custody: {{sign_key: {own}}}\n")
    with pytest.raises(UsageError, match="holds no private key"):
        load_config([f"config={own}"], STAGES)


# ------------------------------------------------------------------------------------------ what may be wrong


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["smaple.fps=5"], "there is no option 'smaple.fps'; did you mean 'sample.fps'?"),
        (["fps=5"], "there is no option 'fps'; did you mean 'sample.fps'?"),
        (["gridserch=wide"], "there is no option 'gridserch'; did you mean 'gridsearch'?"),
        (["embedder=vgface2"], "embedder has no choice 'vgface2'; did you mean 'vggface2'?"),
        (["anomaly=iforst,lof"], "anomaly has no choice 'iforst'; did you mean 'iforest'?"),
        (
            ["report.top_events=0"],
            "report.top_events=0: must be a whole number at least 1 and at most 1000",
        ),
        (["report.top_events=2.5"], "report.top_events=2.5: must be a whole number at least 1 and at most 1000"),
        (["report.plots=perhaps"], "report.plots=perhaps: must be true or false"),
        (["sample.fps=true"], "sample.fps=true: must be a number or native"),
        (["runtime.device=gpu"], "runtime.device=gpu: must be one of cpu, cuda, auto"),
        (["anomaly.window_s=1,nine"], "anomaly.window_s=nine: must be a number greater than 0 and at most 600"),
        (
            ["anomaly=ocsvm", "anomaly.model.nu=3"],
            "anomaly.model.nu=3: must be a number greater than 0 and at most 1",
        ),
        (
            ["anomaly=lof", "anomaly.model.nu=0.1"],
            "anomaly.model.nu=0.1: none of the chosen models has this option",
        ),
        (["sample.fps=5,10"], "'sample.fps=5,10' names several values; use `faceline sweep`"),
        (["clip.mp4"], "'clip.mp4' is no option=value; did you mean footage=clip.mp4?"),
        (["--verbose"], "'--verbose' is no option=value; options are written option=value"),
        (["+sample.new=1"], "'+sample.new=1': options cannot be added or taken away"),
        (["footage=a.mp4", "footage=b.mp4"], "footage= is given twice"),
        (["footage="], "footage= is empty"),
        (["sample.fps=("], "cannot read 'sample.fps=('"),
        (["anomaly.window_s=interval(1,2)"], "'anomaly.window_s=interval(1,2)': an interval has no end of values"),
        (
            ["gridsearch.space=['sample.fps=5,10']"],
            "gridsearch.space: 'sample.fps=5,10' is none of the anomaly options",
        ),
        (["gridsearch.space=5"], "gridsearch.space: must be a list of overrides"),
        (["hydra.run.dir=x"], "there is no option 'hydra.run.dir'"),
        (["anomaly.seed=range(0,20000)"], "the sweep has more than 10000 combinations"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_config(arguments, STAGES)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        load_config(["smaple.fps=5", "embeder=dlib"], STAGES)
    assert str(caught.value).count("; ") == 3
    with pytest.raises(UsageError) as caught:
        load_config(["report.dpi=1", "runtime.batch_size=0", "embed.min_faces=x"], STAGES)
    assert [part.partition("=")[0] for part in str(caught.value).split("; ")] == [
        "embed.min_faces",
        "report.dpi",
        "runtime.batch_size",
    ]


# ------------------------------------------------------------------------------------------ paths


@pytest.mark.parametrize(
    "name",
    [
        "plain.mp4",
        "two words.mp4",
        "a=b,c.mp4",
        'it\'s "q".mp4',
        "[x]{y}(z).mp4",
        "${oc.env:HOME}.mp4",
        "ünï 你.mp4",
        "~x",
    ],
)
def test_a_path_is_taken_as_it_is(name: str) -> None:
    config = load_config([f"footage={name}", f"output={name}", f"store.root={name}"], STAGES)
    assert (config.footage, config.output, config.store.root) == (name, name, name)


def test_a_path_in_hydras_own_quotes_works_too() -> None:
    assert split_arguments(["footage='a,b.mp4'"]).paths["footage"] == "a,b.mp4"


def test_quotes_that_belong_to_the_name_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("'quoted'").touch()
    assert split_arguments(["footage='quoted'"]).paths["footage"] == "'quoted'"


def test_a_name_that_is_no_text_survives() -> None:
    name = b"caf\xe9.mp4".decode("utf-8", "surrogateescape")
    assert load_config([f"footage={name}"], STAGES).footage == name


# ------------------------------------------------------------------------------------------ presets


def settled(*overrides: str) -> dict[str, Any]:
    (config,) = load_sweep(list(overrides), STAGES)
    return dict(plain_leaves(dict(config.tree)))


def test_a_preset_sets_what_belongs_together() -> None:
    micro, usual = settled("preset=micro"), settled()
    changed = {name: value for name, value in micro.items() if value != usual[name]}
    assert changed.pop("gridsearch.space")[-1] == "anomaly.window_s=0.08,0.16,0.32"
    assert changed == {
        "sample.fps": "native",
        "require.native_fps": 25.0,
        "gridsearch.select": "all",
        "gridsearch.events.min_duration_s": 0.04,
        "gridsearch.events.min_gap_s": 0.3,
        "gridsearch.events.block_s": 0.75,
    }
    assert settled("preset=usual") == usual


@pytest.mark.parametrize("turned", [False, True], ids=["preset first", "preset last"])
@pytest.mark.parametrize(
    ("option", "name", "value"),
    [
        ("sample.fps=50", "sample.fps", 50),
        ("require.native_fps=0", "require.native_fps", 0),
        ("gridsearch.events.block_s=2", "gridsearch.events.block_s", 2),
    ],
)
def test_the_command_line_comes_after_the_preset(option: str, name: str, value: object, turned: bool) -> None:
    given = ["preset=micro", option]
    assert settled(*(reversed(given) if turned else given)) == settled("preset=micro") | {name: value}


def test_a_space_on_the_command_line_comes_after_the_presets_too() -> None:
    small = load_config(["gridsearch=small", "preset=micro"], STAGES)
    assert small.trials == load_config(["gridsearch=small"], STAGES).trials
    assert small.params["sample"].fps == "native"  # type: ignore[attr-defined]
    one = load_config(["preset=micro", "anomaly=lof", "anomaly.window_s=0.1"], STAGES)
    assert [(t.params.model.name, t.params.window_s) for t in one.trials] == [("lof", 0.1)]  # type: ignore[attr-defined]


def test_a_preset_can_stand_in_a_file_and_in_a_sweep(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("preset: micro\nsample: {segment_s: 60}\n")
    assert settled(f"config={file}") == settled("preset=micro", "sample.segment_s=60")
    usual, micro = load_sweep(["preset=usual,micro"], STAGES)
    assert (usual.params["sample"].fps, micro.params["sample"].fps) == (10, "native")  # type: ignore[attr-defined]
    assert usual.trials == load_config([], STAGES).trials
    assert micro.trials == load_config(["preset=micro"], STAGES).trials


def test_a_preset_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(UsageError, match="preset has no choice 'mikro'; did you mean 'micro'"):
        load_config(["preset=mikro"], STAGES)


# ------------------------------------------------------------------------------------------ sweeps

SWEEPS = [
    ["anomaly=iforest,lof", "anomaly.window_s=0.5,2,8"],
    ["anomaly.window_s=choice(0.5,2)", "anomaly.seed=range(0,3)"],
    ["anomaly=glob(*)"],
    ["anomaly=glob(*,exclude=lof)", "anomaly.features=all,expressions"],
    ["anomaly.window_s=1,2", "anomaly.window_s=4,8"],
    ["anomaly.window_s=sort(8,2,4)", "anomaly=lof"],
    ["anomaly=lof", "anomaly.model.n_neighbors=10,20"],
    ["anomaly.min_rows=10,40", "anomaly.masks.max_gap_s=0.5,1"],
]


def hydras_jobs(overrides: Sequence[str]) -> list[list[str]]:
    """The jobs that `hydra --multirun` makes, by Hydra's own classes alone."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    return BasicSweeper.split_arguments(parser.parse_overrides(list(overrides)), None)[0]


@pytest.mark.parametrize("overrides", SWEEPS, ids=" ".join)
def test_trials_are_what_hydra_would_compose(overrides: list[str]) -> None:
    from omegaconf import OmegaConf

    stage = next(stage for stage in STAGES if stage.scope == "trial")
    with composer() as hydra:
        jobs = hydras_jobs(overrides)
        assert [list(job) for job in expand(hydra, overrides)] == jobs
        expected = []
        for job in jobs:
            tree: Any = OmegaConf.to_container(hydra.compose(job), resolve=True)
            expected.append(stage.params.model_validate(tree["anomaly"]))
    (config,) = load_sweep(overrides, STAGES)
    assert [trial.params for trial in config.trials] == list(dict.fromkeys(expected))


def test_the_same_text_works_in_the_space_and_on_the_command_line() -> None:
    axes = ["anomaly=iforest,lof", "anomaly.window_s=0.5,2,8"]
    swept = load_sweep(axes, STAGES)[0].trials
    in_space = load_config([f"gridsearch.space={override_value(axes)}"], STAGES).trials
    replaced = load_config([*axes, "anomaly.features=expressions"], STAGES).trials
    assert [t.params for t in swept] == [t.params for t in in_space] == [t.params for t in replaced]
    assert len(swept) == 6


def test_an_axis_on_the_command_line_replaces_its_own_alone() -> None:
    whole = load_config([], STAGES).trials
    some = load_config(["anomaly=lof"], STAGES).trials
    assert len(some) * 5 == len(whole)
    assert {t.params for t in some} < {t.params for t in whole}


def test_an_option_of_one_model_does_not_concern_the_others() -> None:
    trials = load_config(["gridsearch=small", "anomaly.model.nu=0.05,0.1,0.2"], STAGES).trials
    assert sorted(t.params.model.name for t in trials) == ["iforest", "lof", "ocsvm", "ocsvm", "ocsvm"]  # type: ignore[attr-defined]


def test_a_sweep_before_the_trials_makes_several_configurations() -> None:
    configs = load_sweep(["sample.fps=5,10", "anomaly=iforest,lof", "report.top_events=3"], STAGES)
    assert [config.params["sample"].fps for config in configs] == [5, 10]  # type: ignore[attr-defined]
    assert [len(config.trials) for config in configs] == [2, 2]
    assert configs[0].overrides == ("sample.fps=5", "report.top_events=3")
    assert load_sweep(["sample.fps=5,10"], STAGES)[1].trials == load_config([], STAGES).trials


@pytest.mark.parametrize("trials", [[], ["anomaly=lof"]], ids=["the space's trials", "trials that are named"])
def test_each_combination_of_a_sweep_states_its_own_values(trials: list[str]) -> None:
    configs = load_sweep(["sample.fps=5,8", *trials], STAGES)
    assert [config.overrides for config in configs] == [("sample.fps=5",), ("sample.fps=8",)]
    assert configs[0].given == ("sample.fps=5,8", *trials), "what the whole sweep can be begun anew from"


def test_the_default_space_is_expanded_quickly() -> None:
    load_config([], STAGES)
    before_s = time.process_time()
    assert len(load_config([], STAGES).trials) == 15
    # 0.5 s on a free core; a composition for each trial would cost over 3 s.
    assert time.process_time() - before_s < 2


texts = st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=30)


@given(texts)
def test_any_text_survives_the_override_grammar(text: str) -> None:
    assert parse_override(f"key={override_value(text)}").value() == text


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6) | texts,
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=6,
    )
)
def test_any_plain_value_survives_the_override_grammar(value: Any) -> None:
    assert parse_override(f"key={override_value(value)}").value() == value


def test_the_configuration_is_found_in_a_checkout_and_in_an_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import composition

    (tmp_path / "flows").mkdir()
    monkeypatch.setattr(composition, "__file__", str(tmp_path / "flows" / "composition.py"))
    assert conf_folder() == tmp_path / "conf", "beside the packages"
    (tmp_path / "flows" / "conf").mkdir()
    assert conf_folder() == tmp_path / "flows" / "conf", "inside the package, where the wheel puts it"


@pytest.mark.parametrize(
    "overrides",
    [[], ["anomaly=lof", "sample.fps=5"], ["preset=micro", "embedder=dlib", "gridsearch=small"], ["anomaly=ecod"]],
    ids=" ".join,
)
def test_a_tree_is_what_hydra_composes_whatever_was_composed_before(overrides: list[str]) -> None:
    from hydra import compose
    from omegaconf import OmegaConf

    with composer() as hydra:
        hydra.compose(["anomaly=knn", "preset=micro", "sample.fps=1"])
        tree = hydra.compose(overrides)
        assert OmegaConf.to_yaml(tree) == OmegaConf.to_yaml(compose("config", overrides=overrides))
        assert OmegaConf.is_struct(tree)
