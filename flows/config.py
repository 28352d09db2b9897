"""The configuration of a run: composed from ``conf/``, checked, and turned into typed, immutable values.

This is the edge of Hydra's world. Beyond it there are stage parameters, options and plain dicts; no DictConfig.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, ValidationError

from faceline.errors import UsageError
from faceline.stage import Stage, StageParams
from flows.arguments import VERBATIM, Arguments, did_you_mean, option_name, split_arguments
from flows.composition import Composer, ConfigFile, composer, override_value, read_config_file, set_value
from flows.grid import TRIAL_SECTION, expand, expand_jobs, is_trial_option
from flows.options import (
    SECTIONS,
    ArchiveOptions,
    CustodyOptions,
    LimitOptions,
    ModelOptions,
    RequireOptions,
    RunnerOptions,
    RuntimeOptions,
    ScheduleOptions,
    StoreOptions,
)
from flows.violations import option_names, violations

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

SPACE = "space"
"""Option of the section ``gridsearch`` with the space in override grammar; expanded here, unknown to the stage."""

_PATHS = ("footage", "output")
_STAGE_CHOICES = ("rerun", "until")


@dataclass(frozen=True)
class Trial:
    """One trial of the grid search: the overrides that make it, and the checked parameters."""

    overrides: tuple[str, ...]
    params: StageParams


@dataclass(frozen=True)
class Config:
    """A checked configuration.

    Attributes:
        footage: path as it was given, or None.
        output: folder for the results as it was given, or None for ``results/<footage name>``.
        rerun: stage that is computed anew with all that follows from it, whatever is stored; or None.
        until: last stage that is of interest; or None for all.
        params: parameters by stage name; the stage of the trials is not among them.
        trials: the trials of the grid search, in the order of its space, none twice.
        options: the sections of `flows.options`, by name.
        tree: everything as plain containers, for ``run.json`` and for people.
        overrides: what the command line (and a configuration file) said; of a combination of a sweep, its own values,
            without what makes the trials.
        given: the same as it was said: of a sweep, with all values of all combinations.
        paths: what was said literally, but for the footage.
        file: the file of one's own that options came from, or None.
    """

    footage: str | None
    output: str | None
    params: Mapping[str, StageParams]
    trials: tuple[Trial, ...]
    options: Mapping[str, BaseModel]
    tree: Mapping[str, Any]
    overrides: tuple[str, ...]
    paths: Mapping[str, str] = field(default_factory=dict)
    file: ConfigFile | None = None
    rerun: str | None = None
    until: str | None = None
    given: tuple[str, ...] = ()

    @property
    def arguments(self) -> list[str]:
        """Everything but the footage as arguments of a command line."""
        return [*(f"{name}={value}" for name, value in self.paths.items()), *self.overrides]

    @cached_property
    def models(self) -> ModelOptions:
        return cast(ModelOptions, self.options["models"])

    @cached_property
    def runtime(self) -> RuntimeOptions:
        return cast(RuntimeOptions, self.options["runtime"])

    @cached_property
    def runner(self) -> RunnerOptions:
        return cast(RunnerOptions, self.options["runner"])

    @cached_property
    def store(self) -> StoreOptions:
        return cast(StoreOptions, self.options["store"])

    @cached_property
    def require(self) -> RequireOptions:
        return cast(RequireOptions, self.options["require"])

    @cached_property
    def custody(self) -> CustodyOptions:
        return cast(CustodyOptions, self.options["custody"])

    @cached_property
    def limits(self) -> LimitOptions:
        return cast(LimitOptions, self.options["limits"])

    @cached_property
    def archive(self) -> ArchiveOptions:
        return cast(ArchiveOptions, self.options["archive"])

    @cached_property
    def schedule(self) -> ScheduleOptions:
        return cast(ScheduleOptions, self.options["schedule"])

    def for_footage(self, path: str, output: str | None) -> Config:
        """The same for another footage, as for each file of an archive."""
        tree = {**self.tree, "footage": path, "output": output}
        return replace(self, footage=path, output=output, tree=tree)


def section_of(stage: Stage) -> str:
    """The section of a stage's parameters: its own name, but ``anomaly`` for the trials."""
    return TRIAL_SECTION if stage.scope == "trial" else stage.name


def load_config(arguments: Sequence[str], stages: Sequence[Stage], folder: Path | None = None) -> Config:
    """The configuration that the arguments of ``analyze`` or ``plan`` describe.

    A sweep over ``anomaly`` replaces the same axes of the grid search's space; a sweep over anything else is refused.

    Raises:
        UsageError: an option is misspelt, or values are not allowed; all of these in one line.
    """
    given = split_arguments(arguments)
    with composer(folder) as hydra:
        loading = _Loading(hydra, given, stages)
        for override in loading.parsed:
            if override.is_sweep_override() and not is_trial_option(option_name(override)):
                raise UsageError(
                    f"{override.input_line!r} names several values",
                    cure="use `faceline sweep` to run each of them, or [a,b] for a list",
                )
        return loading.config([], None)


def load_sweep(arguments: Sequence[str], stages: Sequence[Stage], folder: Path | None = None) -> list[Config]:
    """The configurations that the arguments of ``sweep`` describe: one for each combination before the trials.

    Their trials are the combinations of the ``anomaly`` options that are named; the grid search's space if none is.

    Raises:
        UsageError: as `load_config`.
    """
    given = split_arguments(arguments)
    with composer(folder) as hydra:
        loading = _Loading(hydra, given, stages)
        grouped: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
        for job in expand_jobs(hydra, loading.texts):
            grouped.setdefault(job.upstream, []).append(job.trial)
        named = any(is_trial_option(option_name(override)) for override in loading.parsed)
        return [loading.config(list(upstream), trials if named else None) for upstream, trials in grouped.items()]


class _Loading:
    """One command line on its way to configurations."""

    def __init__(self, hydra: Composer, given: Arguments, stages: Sequence[Stage]) -> None:
        self._hydra, self._stages, self._paths = hydra, stages, dict(given.paths)
        path = self._paths.pop("config", None)
        self._file = read_config_file(Path(path)) if path else None
        self.texts = [*self._from_file(), *given.overrides]
        self._models: dict[str, type[BaseModel]] = {section_of(stage): stage.params for stage in stages}
        self._models |= SECTIONS
        self.parsed: list[Override] = []
        self._check_names()

    def _from_file(self) -> list[str]:
        texts = []
        for name, value in self._file.options if self._file is not None else ():
            if name in VERBATIM:
                self._paths.setdefault(name, "null" if value is None else str(value))
            else:
                texts.append(f"{name}={override_value(value)}")
        return texts

    def _check_names(self) -> None:
        known = [*_PATHS, *_STAGE_CHOICES, *self._models, f"gridsearch.{SPACE}"]
        for section, model in self._models.items():
            known.extend(option_names(section, model))
        wrong = []
        for text in self.texts:
            try:
                override = self._hydra.parse(text)
                self._hydra.check(override, known)
                self.parsed.append(override)
            except UsageError as error:
                wrong.append(str(error))
        _refuse(wrong)

    def config(self, upstream: list[str], trials: Sequence[tuple[str, ...]] | None) -> Config:
        """One configuration. ``trials``: overrides of each trial; None for the grid search's space."""
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        plain_texts = upstream or [
            text
            for text, override in zip(self.texts, self.parsed, strict=True)
            if not override.is_sweep_override() and not is_trial_option(option_name(override))
        ]
        try:
            tree = cast("dict[str, Any]", OmegaConf.to_container(self._hydra.compose(plain_texts), resolve=True))
        except OmegaConfBaseException as error:
            raise UsageError(f"cannot resolve the configuration: {' '.join(str(error).split())}") from error
        for name, value in self._paths.items():
            set_value(tree, name, None if value == "null" else value)
        wrong: list[str] = []
        space = self._space(tree, wrong)
        checked = {
            section: self._checked(section, tree.get(section) or {}, wrong)
            for section in self._models
            if section != TRIAL_SECTION
        }
        for name in _STAGE_CHOICES:
            wrong.extend(self._no_stage(name, tree.get(name)))
        _refuse(wrong)
        axes = space if trials is None else []
        if trials is None or any(trials):
            axes = _merged([*axes, *(text for text in self.texts if is_trial_option(text.partition("=")[0]))])
        found = self._trials(expand(self._hydra, axes) if trials is None else trials, wrong)
        _refuse(wrong)
        _check_key(checked["custody"])
        # What the trials are made of is the space; the section itself only holds what the space is laid over.
        tree.pop(TRIAL_SECTION, None)
        tree["gridsearch"] = {SPACE: axes, **tree.get("gridsearch", {})}
        return Config(
            footage=tree["footage"],
            output=tree["output"],
            params={s.name: cast(StageParams, checked[section_of(s)]) for s in self._stages if s.scope != "trial"},
            trials=found,
            options={name: value for name, value in checked.items() if name in SECTIONS and value is not None},
            tree=tree,
            overrides=tuple(plain_texts if upstream or trials is not None else self.texts),
            given=tuple(self.texts),
            paths={name: value for name, value in self._paths.items() if name != "footage"},
            file=self._file,
            rerun=tree.get("rerun"),
            # To end with the last stage is to run them all.
            until=None if tree.get("until") == self._stages[-1].name else tree.get("until"),
        )

    def _no_stage(self, option: str, value: Any) -> Iterator[str]:
        names = [stage.name for stage in self._stages]
        if value is not None and value not in names:
            near = did_you_mean(str(value), names)
            yield f"{option}={value}: must be one of {', '.join(names)}{near}"

    def _space(self, tree: dict[str, Any], wrong: list[str]) -> list[str]:
        """Take the space out of the section of the grid search, and let the command line's axes replace its own."""
        section = tree.get("gridsearch")
        space = section.pop(SPACE, []) if isinstance(section, dict) else []
        if not isinstance(space, list) or not all(isinstance(text, str) for text in space):
            wrong.append("gridsearch.space: must be a list of overrides, each a text such as 'anomaly.window_s=0.5,2'")
            return []
        if strangers := [text for text in space if not is_trial_option(text.partition("=")[0])]:
            wrong.append(f"gridsearch.space: {strangers[0]!r} is none of the {TRIAL_SECTION} options")
        return space

    def _trials(self, trials: Sequence[tuple[str, ...]], wrong: list[str]) -> tuple[Trial, ...]:
        if TRIAL_SECTION not in self._models:
            return ()
        found: dict[str, Trial] = {}
        unused = {text for overrides in trials for text in overrides}
        for overrides in trials:
            values, applied = self._hydra.section(TRIAL_SECTION, overrides)
            unused.difference_update(applied)
            params = self._checked(TRIAL_SECTION, values, wrong)
            if params is not None:
                found.setdefault(params.model_dump_json(), Trial(applied, cast(StageParams, params)))
        wrong.extend(f"{text}: none of the chosen models has this option" for text in sorted(unused))
        return tuple(found.values())

    def _checked(self, section: str, values: Any, wrong: list[str]) -> BaseModel | None:
        model = self._models[section]
        try:
            # As strict JSON: lists become tuples and text becomes choices, but "abc" or true become no number.
            return model.model_validate_json(json.dumps(values), strict=True)
        except ValidationError as error:
            wrong.extend(clause for clause in violations(section, model, error) if clause not in wrong)
            return None


def _merged(texts: Sequence[str]) -> list[str]:
    """Of several overrides of one option the last, at the place of the first; as Hydra's sweeper has it."""
    return list({text.partition("=")[0]: text for text in texts}.values())


def _check_key(custody: BaseModel | None) -> None:
    """Refuse a key that cannot sign before a night's work, not after it."""
    if isinstance(custody, CustodyOptions) and custody.sign_key is not None:
        from faceline.signing import load_private_key

        load_private_key(custody.sign_key, "custody.sign_key")


def _refuse(wrong: Sequence[str]) -> None:
    if wrong:
        raise UsageError("; ".join(wrong))
