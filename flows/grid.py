"""Sweeps: overrides in Hydra's grammar (``anomaly=iforest,lof  anomaly.window_s=0.25,0.5,1``) expanded into jobs.

The grid search inside a run, the ``sweep`` verb and ``conf/gridsearch/*.yaml`` all go through `expand`, which is
Hydra's own basic sweeper: the product of all axes, the last one named turning fastest; of two overrides of one option
the later counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from faceline.errors import UsageError
from flows.arguments import option_name
from flows.composition import Composer

TRIAL_SECTION = "anomaly"
"""Section, and group, of the options that make a trial of the grid search."""

MAX_JOBS = 10_000
"""More combinations than this are taken for a slip of the keyboard."""


@dataclass(frozen=True)
class Job:
    """One combination of a sweep.

    Attributes:
        upstream: its overrides outside the section of trials; jobs with equal ones share everything before the trials.
        trial: its overrides of that section.
    """

    upstream: tuple[str, ...]
    trial: tuple[str, ...]


def is_trial_option(name: str) -> bool:
    """Whether an option belongs to the trials of the grid search."""
    return name == TRIAL_SECTION or name.startswith(f"{TRIAL_SECTION}.")


def expand(composer: Composer, overrides: Sequence[str]) -> list[tuple[str, ...]]:
    """All combinations of the values that overrides sweep over, each a tuple of overrides without sweeps.

    Raises:
        UsageError: an override cannot be read, sweeps over an interval, or there are more than `MAX_JOBS`.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.errors import HydraException

    parsed = [composer.parse(text) for text in overrides]
    count = 1
    for override in {option_name(override): override for override in parsed}.values():
        if override.is_discrete_sweep():
            count *= max(1, sum(1 for _ in override.sweep_string_iterator()))
        elif override.is_sweep_override():
            raise UsageError(
                f"{override.input_line!r}: an interval has no end of values", cure="write a list or range(…)"
            )
        if count > MAX_JOBS:
            raise UsageError(f"the sweep has more than {MAX_JOBS} combinations", cure="name fewer values")
    try:
        batches = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    except HydraException as error:
        raise UsageError(f"cannot expand the sweep: {error}") from error
    return [tuple(job) for job in batches[0]]


def expand_jobs(composer: Composer, overrides: Sequence[str]) -> list[Job]:
    """`expand`, with each combination parted into what comes before the trials and the trial itself."""
    jobs = []
    for combination in expand(composer, overrides):
        names = [text.partition("=")[0] for text in combination]
        upstream = tuple(t for t, name in zip(combination, names, strict=True) if not is_trial_option(name))
        trial = tuple(t for t, name in zip(combination, names, strict=True) if is_trial_option(name))
        jobs.append(Job(upstream, trial))
    return list(dict.fromkeys(jobs))
