"""Hydra at work: the configuration tree from ``conf/``, a file of one's own, and overrides. Plain containers come out.

`hydra.main` is not used: it changes folders, sets up logging, reads ``sys.argv`` and hands on its own containers.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from faceline.errors import UsageError
from flows.arguments import did_you_mean, option_name, parse_override, unknown_option

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

ROOT_NAME = "config"

#: A file of one's own: so large, with so many values, so deep. faceline's own has some hundred values.
_MOST_BYTES = 2**18
_MOST_VALUES = 10_000
_DEEPEST = 20


def conf_folder() -> Path:
    """Where the configuration lies: beside the packages in a checkout, inside this one when installed."""
    here = Path(__file__).resolve().parent
    installed = here / "conf"
    return installed if installed.is_dir() else here.parent / "conf"


class Composer:
    """Composes trees from one folder; made by `composer`."""

    def __init__(self, loader: ConfigLoader) -> None:
        self._loader = loader
        self._files: Any = _file_repository(loader)
        self._parsed: dict[str, Override] = {}
        self._trees: dict[tuple[str, ...], DictConfig] = {}
        self._sections: dict[tuple[str, ...], dict[str, Any]] = {}
        self.groups: dict[str, tuple[str, ...]] = {
            group: tuple(loader.get_group_options(group))
            for group in loader.list_groups("")
            if group != "hydra" and loader.get_group_options(group)
        }

    def parse(self, text: str) -> Override:
        """One override read by Hydra's parser, able to expand ``glob(…)`` over the choices of a group."""
        if text not in self._parsed:
            self._parsed[text] = parse_override(text)
            self._parsed[text].config_loader = self._loader
        return self._parsed[text]

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The tree with these overrides (no sweeps among them).

        As `hydra.compose` gives it, in a quarter of the time: that one reads every file anew at each call, and composes
        Hydra's own section, to drop it.

        Raises:
            UsageError: Hydra cannot compose it.
        """
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        wanted = tuple(overrides)
        if wanted not in self._trees:
            try:
                self._trees[wanted] = self._composed(list(wanted))
            except (HydraException, OmegaConfBaseException, RecursionError) as error:
                raise UsageError(f"cannot compose the configuration: {error}", where=" ".join(wanted)) from error
        return self._trees[wanted]

    def _composed(self, overrides: list[str]) -> DictConfig:
        # The steps of `ConfigLoaderImpl.load_configuration`, without those that concern Hydra's own section.
        from hydra._internal.defaults_list import create_defaults_list
        from hydra.core.override_parser.overrides_parser import OverridesParser
        from omegaconf import OmegaConf

        loader: Any = self._loader
        loader.ensure_main_config_source_available()
        defaults = create_defaults_list(
            repo=self._files,
            config_name=ROOT_NAME,
            overrides_list=OverridesParser.create().parse_overrides(overrides=overrides),
            prepend_hydra=False,
            skip_missing=False,
        )
        tree: DictConfig = loader._compose_config_from_defaults_list(defaults=defaults.defaults, repo=self._files)
        OmegaConf.set_struct(tree, True)
        loader._apply_overrides_to_config(defaults.config_overrides, tree)
        return tree

    def section(self, name: str, overrides: Sequence[str]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """One section of what `compose` gives, as plain containers; quick for many overrides of few choices.

        A composition costs 0.03 s and more; setting values in a copy of one costs next to nothing. Unlike Hydra's, a
        value for an option that the chosen groups do not have is left out, so that one sweep can range over models and
        over what only some of them have.

        Returns:
            The section, and the overrides that were applied.
        """
        from omegaconf import OmegaConf

        parsed = [(text, self.parse(text)) for text in overrides]
        choices = [text for text, override in parsed if self.is_choice(override)]
        values = [(text, override) for text, override in parsed if not self.is_choice(override)]
        chosen = self._sections.get((name, *choices))
        if chosen is None:
            composed = OmegaConf.to_container(self.compose(choices), resolve=True)
            chosen = self._sections[name, *choices] = cast("dict[str, Any]", composed)[name]
        kept = [(text, override) for text, override in values if _has({name: chosen}, option_name(override))]
        applied = (*choices, *(text for text, _ in kept))
        if any("${" in text or isinstance(override.value(), Mapping) for text, override in kept):
            composed = OmegaConf.to_container(self.compose(applied), resolve=True)
            return cast("dict[str, Any]", composed)[name], applied
        tree = {name: copy.deepcopy(chosen)}
        for _, override in kept:
            set_value(tree, option_name(override), override.value())
        return tree[name], applied

    def is_choice(self, override: Override) -> bool:
        """Whether it chooses a group's file (``anomaly=lof``) and does not set a value (``anomaly.window_s=2``)."""
        return option_name(override) in self.groups and not isinstance(override.value(), Mapping)

    def check(self, override: Override, known: Sequence[str]) -> None:
        """Raise `UsageError` with the nearest name if an override sets what is not there."""
        name = option_name(override)
        if override.package is not None:
            raise UsageError(f"{override.input_line!r}: packages (@) are not used here")
        if name in self.groups:
            for choice in self._chosen(override):
                if choice not in self.groups[name]:
                    hint = did_you_mean(choice, self.groups[name]) or f"; there are {', '.join(self.groups[name])}"
                    raise UsageError(f"{name} has no choice {choice!r}{hint}")
        elif name not in known:
            raise UsageError(unknown_option(name, [*known, *self.groups]))

    def _chosen(self, override: Override) -> list[str]:
        if override.is_discrete_sweep():
            return [_unquoted(str(value)) for value in override.sweep_string_iterator()]
        value = override.value()
        return [] if isinstance(value, Mapping) else [str(value)]


def _file_repository(loader: ConfigLoader) -> Any:
    """What a loader's files hold, each read once; made anew for every reader, since composing changes what it gets."""
    from hydra._internal.config_repository import CachingConfigRepository

    class Repository(CachingConfigRepository):
        def load_config(self, config_path: str) -> Any:
            return copy.deepcopy(super().load_config(config_path))

    return Repository(cast("Any", loader).repository)


def set_value(tree: dict[str, Any], name: str, value: Any) -> None:
    """Set the option of that dotted name in a plain tree."""
    *sections, leaf = name.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
    tree[leaf] = value


def _has(tree: Mapping[str, Any], name: str) -> bool:
    here: Any = tree
    for part in name.split("."):
        if not isinstance(here, Mapping) or part not in here:
            return False
        here = here[part]
    return True


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"" else text


@contextlib.contextmanager
def composer(folder: Path | None = None) -> Iterator[Composer]:
    """A `Composer` over ``folder`` (default: the project's own configuration)."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    place = (folder or conf_folder()).resolve()
    with initialize_config_dir(str(place), job_name="faceline", version_base="1.3"):
        yield Composer(GlobalHydra.instance().config_loader())


@dataclass(frozen=True)
class ConfigFile:
    """A configuration file of one's own, as it was when it was read.

    Attributes:
        path: the file.
        sha256: hex digest of the bytes that the options were read from.
        options: the options in it, by their dotted names.
    """

    path: Path
    sha256: str
    options: tuple[tuple[str, Any], ...]


def read_config_file(path: Path) -> ConfigFile:
    """Read a YAML file of one's own, once: what is used is what the digest was taken of.

    Raises:
        UsageError: it cannot be read, or is no mapping.
    """
    import yaml

    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise UsageError(f"is no configuration: it has more than {_MOST_BYTES} bytes", where=str(path))
        tree = yaml.safe_load(data.decode("utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        # A date that does not exist, say, is a ValueError of PyYAML's.
        if isinstance(error, OSError) or "null byte" in str(error):
            why = getattr(error, "strerror", None) or str(error)
            raise UsageError(f"cannot read the configuration: {why}", where=str(path)) from error
        raise UsageError(f"is no YAML: {' '.join(str(error).split())}", where=str(path)) from error
    if tree is not None and not isinstance(tree, dict):
        raise UsageError("must hold options, as in `sample: {fps: 5}`", where=str(path))
    _check_extent(tree, path)
    return ConfigFile(path, hashlib.sha256(data).hexdigest(), tuple(_flattened("", tree or {})))


def _check_extent(tree: Any, path: Path) -> None:
    """Refuse what references within a file blow up: ten lines of YAML can stand for thousands of millions of values."""
    waiting = [(tree, 0)]
    seen = 0
    while waiting:
        here, depth = waiting.pop()
        seen += 1
        if seen > _MOST_VALUES or depth > _DEEPEST:
            raise UsageError("is no configuration: too many values, or nested too deeply", where=str(path))
        inner = here.values() if isinstance(here, Mapping) else here if isinstance(here, list | tuple | set) else ()
        waiting.extend((value, depth + 1) for value in inner)


def _flattened(prefix: str, tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flattened(f"{prefix}{name}.", value)
        else:
            yield f"{prefix}{name}", value


def override_value(value: Any) -> str:
    """A plain value written in Hydra's override grammar, so that it is read back as the same value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ",".join(override_value(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{override_value(item)}" for key, item in value.items()) + "}"
    text = str(value)
    # Backslashes count only before a quote, or at the end, where they would escape the closing one.
    body, tail = text.rstrip("\\"), text[len(text.rstrip("\\")) :]
    escaped = "".join(_escaped_quotes(body)) + tail * 2
    return f"'{escaped}'"


def _escaped_quotes(text: str) -> Iterator[str]:
    backslashes = 0
    for character in text:
        if character == "\\":
            backslashes += 1
            continue
        yield "\\" * (backslashes * 2 if character == "'" else backslashes)
        backslashes = 0
        yield "\\'" if character == "'" else character
    yield "\\" * backslashes
