"""What an archive holds tonight, and what of it has something to do. Opens no footage and computes nothing."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from faceline import familiar
from faceline.familiar import Ends
from faceline.folders import Folder
from faceline.nightly.catalogue import Catalogue, Unsteady
from faceline.nightly.records import Record, Records
from flows.discovery import find_footage, results_folders
from flows.job import cores
from flows.options import ArchiveOptions

log = logging.getLogger(__name__)

Verdict = Literal["work", "unchanged", "quarantined"]


@dataclass(frozen=True)
class Content:
    """Files with the same bytes: analysed once, listed under every name.

    Attributes:
        sha256: of the bytes; empty where a plan knows that they are new, and has not read them.
        files: their paths below the archive's folder; the first is the one under whose name it is analysed.
        results: where its results belong, below the output folder.
        record: what came of it before; None if it was never seen.
        verdict: what is to be done.
        why: the reason for that, in words.
    """

    sha256: str
    files: tuple[str, ...]
    results: str
    record: Record | None
    verdict: Verdict
    why: str


@dataclass
class Survey:
    """What was found.

    Attributes:
        contents: in order of their first files' paths.
        unreadable: file → reason, for what could not be read.
        young: files written to a moment ago, to be looked at again later.
        seconds: that it took.
    """

    contents: list[Content] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    young: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def of(self, verdict: Verdict) -> list[Content]:
        """The contents of one verdict."""
        return [content for content in self.contents if content.verdict == verdict]


@dataclass
class Surveyor:
    """Looks at an archive's folder.

    Args:
        folder: the archive.
        output: where results go.
        closed: folders not to enter.
        state: where it is kept what was met.
        options: what counts as footage.
        catalogue: digests of the files.
        records: what came of contents before.
        recipe: digest of the recipe at hand.
        conditions: digest of the options that decide what footage is refused.
        forced: whether contents are worked on though nothing changed.
    """

    folder: Path
    output: Path
    closed: Sequence[Path]
    state: Folder
    options: ArchiveOptions
    catalogue: Catalogue
    records: Records
    recipe: str
    conditions: str = ""
    forced: bool = False
    _wanted: dict[str, str] = field(default_factory=dict)

    def survey(self, progress: Callable[[int, int], None] = lambda done, total: None) -> Survey:
        """Find all files, hash those that are not known, and tell what is to be done with each content.

        Args:
            progress: told how many files are identified, of how many.
        """
        began_s = time.perf_counter()
        found = Survey()
        names = self._quiet(found)
        digests = self._identify(names, found, progress)
        self._keep()
        found.contents = list(self._contents(digests))
        found.young.sort()
        found.seconds = time.perf_counter() - began_s
        return found

    def glance(self, met: Collection[Ends]) -> Survey:
        """As `survey`, for planning: keeps nothing, and reads no footage whole that is told to be new by its ends.

        Args:
            met: the ends of contents that were met before, here or elsewhere.

        Returns:
            what was found; ``sha256`` is empty for contents that were told to be new.
        """
        began_s = time.perf_counter()
        found = Survey()
        names = self._quiet(found)
        strangers = self._strangers(names, met)
        digests = self._identify([name for name in names if name not in strangers], found)
        known = list(self._contents(digests))
        new = [Content("", (name,), self._wanted[name], None, "work", "never analysed") for name in strangers]
        found.contents = sorted([*known, *new], key=lambda content: content.files[0])
        found.young.sort()
        found.seconds = time.perf_counter() - began_s
        return found

    def _keep(self) -> None:
        """Keep the digests that were made, for the next run and for plans."""
        self.catalogue.save()
        for name, sha256 in self.catalogue.hashed().items():
            # What is gone meanwhile a plan does not know by its ends, and hashes.
            with contextlib.suppress(OSError):
                familiar.note(self.state, self.folder / name, sha256)

    def _quiet(self, found: Survey) -> list[str]:
        """Names of all files that nobody is writing; the others and what cannot be read are noted."""

        def unreadable(error: OSError) -> None:
            name = os.path.relpath(error.filename, self.folder)
            found.unreadable[name] = f"the folder cannot be read ({error.strerror})"

        files = find_footage(self.folder, self.options, self.closed, unreadable)
        names = [os.path.relpath(file, self.folder) for file in files]
        folders = results_folders(self.folder, files, self.output)
        self._wanted = {n: os.path.relpath(f, self.output) for n, f in zip(names, folders, strict=True)}
        found.young = [name for name in names if self._is_young(name)]
        # What is gone is forgotten, and with rehash all that is known.
        self.catalogue.forget_all_but(set() if self.options.rehash else set(names))
        young = set(found.young)
        return [name for name in names if name not in young]

    def _strangers(self, names: Sequence[str], met: Collection[Ends]) -> set[str]:
        """Those of the names whose content neither was met before nor lies under another name."""

        def ends(name: str) -> Ends | None:
            with contextlib.suppress(OSError):
                file = self.folder / name
                if self.catalogue.known(name, file.stat()) is None:
                    return Ends.of(file)
            return None  # Known; or what is wrong with it is said when it is read whole.

        # Waiting for a disk or for a share, not computing.
        with ThreadPoolExecutor(max_workers=4 * cores()) as pool:
            found = dict(zip(names, pool.map(ends, names), strict=True))
        alike = Counter(found.values())
        return {name for name, end in found.items() if end is not None and alike[end] == 1 and end not in met}

    def second_look(self, names: Sequence[str], known: Iterable[Content]) -> tuple[Survey, list[str]]:
        """Look again at files that were young, once they have had time to become quiet.

        Returns:
            what there is to say of those that are quiet now, and the names of those that are not.
        """
        deadline_s = time.monotonic() + self.options.quiet_s
        waiting = [name for name in names if (self.folder / name).exists()]
        while any(self._is_young(name) for name in waiting) and time.monotonic() < deadline_s:
            time.sleep(min(0.5, self.options.quiet_s / 4))
        still = [name for name in waiting if self._is_young(name)]
        found = Survey()
        digests = self._identify([name for name in waiting if name not in still], found)
        self._keep()
        there = {content.sha256: content for content in known}
        for content in self._contents(digests):
            twin = there.get(content.sha256)
            if twin is None:
                found.contents.append(content)
            else:
                # Known by another name, whatever comes of that one.
                found.contents.append(
                    Content(
                        content.sha256,
                        (twin.files[0], *content.files),
                        twin.results,
                        twin.record,
                        "unchanged",
                        "the same content as another file",
                    )
                )
        return found, sorted({*still, *found.young})

    def _is_young(self, name: str) -> bool:
        try:
            state = (self.folder / name).stat()
        except OSError:
            return False  # What is wrong with it is said when it is read.
        # A clock that runs ahead (of another machine, say) makes no file young for ever.
        return 0 <= time.time() - state.st_mtime < self.options.quiet_s

    def _identify(
        self, names: Sequence[str], found: Survey, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> dict[str, list[str]]:
        """Digest → names, in the order of the names."""

        def identify(name: str) -> tuple[str, str | None, str]:
            try:
                return name, self.catalogue.identify(name, self.folder / name), ""
            except Unsteady:
                return name, None, "unsteady"
            except OSError as error:
                return name, None, f"cannot be read ({error.strerror or error})"

        digests: dict[str, list[str]] = defaultdict(list)
        with ThreadPoolExecutor(max_workers=cores()) as pool:
            for done, (name, digest, problem) in enumerate(pool.map(identify, names), start=1):
                progress(done, len(names))
                if digest is not None:
                    digests[digest].append(name)
                elif problem == "unsteady":
                    found.young.append(name)
                else:
                    found.unreadable[name] = problem
        return digests

    def _contents(self, digests: Mapping[str, list[str]]) -> Iterator[Content]:
        for sha256, names in digests.items():
            record = self.records.get(sha256)
            # The name under which it was analysed stays the first, so that a copy moves no results.
            if record is not None and record.file in names:
                names = [record.file, *(name for name in names if name != record.file)]
            wanted = self._wanted[names[0]]
            verdict, why = self._verdict(record, wanted)
            yield Content(sha256, tuple(names), wanted, record, verdict, why)

    def _verdict(self, record: Record | None, wanted: str) -> tuple[Verdict, str]:
        if record is None:
            return "work", "never analysed"
        if self.forced:
            return "work", "forced"
        if record.recipe != self.recipe:
            return "work", "parameters, code or models changed"
        if record.state == "failed":
            return "work", f"failed before: {record.reason}"
        if record.state == "quarantined":
            if record.conditions != self.conditions:
                return "work", "quarantined under other limits"
            return ("work", "quarantined, tried again") if self.options.retry else ("quarantined", record.reason)
        if record.results != wanted:
            return "work", "moved or renamed"
        if not self._has_results(record):
            return "work", "the results folder was removed or altered"
        return "unchanged", "unchanged"

    def _has_results(self, record: Record) -> bool:
        try:
            data = (self.output / record.results / "run.json").read_bytes()
        except OSError:
            return False
        return hashlib.sha256(data).hexdigest() == record.run_sha256
