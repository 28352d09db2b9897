"""Footage to be forgotten: which pointers still call its artifacts current.

A pointer lies under the footage's content, and again under its path, of which only a digest is kept. So footage can be
named by either, also when the file has long been deleted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from faceline.errors import UsageError
from faceline.folders import Folder
from faceline.latest import path_group, pointer_groups, pointers

_DIGEST = re.compile(r"[0-9a-f]{12,64}")


@dataclass(frozen=True)
class Forgotten:
    """What is no longer current.

    Attributes:
        groups: groups of pointers.
        notes: what stays current although it may have been meant, one line each.
    """

    groups: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def forgotten(folder: Folder, named: Sequence[str]) -> Forgotten:
    """Find the pointers of footage.

    Args:
        folder: root of the store.
        named: paths as they were analysed, or SHA-256 of contents (at least the first 12 digits).

    Raises:
        UsageError: nothing is known of one of them.
    """
    if not named:
        return Forgotten()
    contents = {group: _contents(folder, group) for group in pointer_groups(folder)}
    groups = set().union(*(_groups_of(name, contents) for name in named))
    by_content = {group for group in groups if not _is_path(group)}
    notes = []
    # A path that holds nothing but forgotten contents, and contents that no other path is known to hold, go with them.
    groups |= {group for group, its in contents.items() if _is_path(group) and its and its <= by_content}
    for sha in sorted(set().union(*(contents[group] for group in groups))):
        if not any(sha in its for group, its in contents.items() if _is_path(group) and group not in groups):
            groups.add(sha)
        elif sha not in by_content:
            notes.append(f"{sha[:12]}… stays current: another path holds it as well; forget={sha[:12]} forgets it")
        else:
            notes.append(f"{sha[:12]}… may stay current in part: a path was last analysed with this and other footage")
    return Forgotten(frozenset(groups & contents.keys()), tuple(notes))


def _is_path(group: str) -> bool:
    return group.startswith("path-")


def _groups_of(name: str, contents: Mapping[str, frozenset[str]]) -> set[str]:
    by_path = path_group(Path(name).expanduser())
    if by_path in contents:
        return {by_path}
    if _DIGEST.fullmatch(name):
        found = {group for group in contents if group.startswith(name)}
        if len(found) == 1:
            return found
        if found:
            raise UsageError(f"forget={name}: {len(found)} footages begin like that", cure="give more digits")
    raise UsageError(
        f"forget={name}: the store knows no footage of that path or SHA-256",
        cure="name it as it was analysed, or by footage.sha256 of its run.json",
    )


def _contents(folder: Folder, group: str) -> frozenset[str]:
    return frozenset(pointer.footage for pointer in pointers(folder, group) if pointer.footage is not None)
