"""What is said of a night first: how it went in a word, and a sentence each on the work, the news and the failures."""

from __future__ import annotations

from faceline.nightly.rows import Tally
from faceline.nightly.summary import Summary
from faceline.nightly.words import counted, cut, duration_words, shown, when_words

LIMIT = (
    "A moment is atypical for this person in this footage: a lead for a human, and no more. It is no finding about"
    " truthfulness, intent, guilt, health or character."
)


def title_of(summary: Summary) -> str:
    """``Done``, ``Done, 3 files set aside``, ``Failed``, ``Interrupted`` or ``Cut off``."""
    if summary.state == "done with files set aside":
        return f"Done, {counted(len(summary.set_aside), 'file')} set aside"
    return summary.state.capitalize()


def sentences_of(summary: Summary) -> tuple[str, ...]:
    """The night in a few sentences, foreign text in them made visible."""
    return tuple(filter(None, (_work(summary), _news(summary), _aside(summary), _next(summary))))


def tally_words(tally: Tally, most: int = 4) -> str:
    """``12 new, 3 changed, 1 vanished``; empty for none."""
    parts = {"new": tally.new, "changed": tally.changed, "vanished": tally.vanished, "explained": tally.explained}
    return ", ".join([f"{number:,} {kind}" for kind, number in parts.items() if number][:most])


def _work(summary: Summary) -> str:
    counts, took = summary.counts, duration_words(summary.seconds)
    after = f" after {took}" if summary.seconds is not None else ""
    done = f"{counted(counts['done'], 'file was', 'files were')} analysed"
    left = "" if not summary.remaining else f", {counted(summary.remaining, 'file was', 'files were')} not reached"
    if summary.state == "interrupted":
        return f"The run was told to stop{after}: {done}{left}."
    if summary.state == "cut off":
        return f"Its journal has no end, so that it was killed or is still going on: {done} by then."
    if summary.state == "failed" and summary.reason:
        return f"The run could not go on{after}: {cut(shown(summary.reason)).rstrip('.')}. {done}{left}."
    if summary.state == "failed":
        return f"Not one of {counted(summary.files, 'file')} could be analysed."
    if not summary.files:
        return "There is no footage in the archive."
    if counts["unchanged"] == summary.files:
        return f"Nothing had to be done: {_all(summary.files)} as {'it was' if summary.files == 1 else 'they were'}."
    if not counts["done"]:
        tried = any(row.is_news or row.state == "failed" for row in summary.set_aside)
        what = "Nothing could be analysed anew" if tried else "Nothing had to be done"
        return f"{what}; {counted(counts['unchanged'], 'file is', 'files are')} as before."
    footage = f": {duration_words(summary.work.footage_s)} of footage" if summary.work.footage_s else ""
    wall = f" in {took}" if summary.seconds is not None else ""
    whole = "" if counts["done"] == summary.files else f" of {summary.files:,}"
    subject = f"{counts['done']:,}{whole} {'file was' if summary.files == 1 else 'files were'} analysed"
    return f"{subject}{footage}{wall}."


def _all(files: int) -> str:
    return "the one file is" if files == 1 else f"all {files:,} files are"


def _news(summary: Summary) -> str:
    tally = summary.tally
    since = "" if summary.since is None else f" since the run of {when_words(summary.since['began'])}"
    besides = f" ({tally.explained:,} explained by something beside expression do not count)" if tally.explained else ""
    if not (tally.new or tally.changed or tally.vanished):
        if not summary.rows:
            return ""
        return f"No moment is new{since}{besides}."
    new = counted(tally.new, "new moment") if tally.new else "No moment is new"
    places = len({row.file for row in summary.moments if row.counts and row.kind == "new"})
    where = f" in {counted(places, 'file')}" if tally.new else ""
    others = [f"{n:,} {kind}" for kind, n in (("changed", tally.changed), ("vanished", tally.vanished)) if n]
    return f"{new}{where}{since}" + (f"; {', '.join(others)}" if others else "") + f"{besides}."


def _aside(summary: Summary) -> str:
    aside = summary.set_aside
    news = sum(row.is_news for row in aside)
    if not aside:
        return f"{counted(len(summary.recovered), 'file is', 'files are')} well again." if summary.recovered else ""
    old = len(aside) - news
    still = f"{old:,} still {'is' if old == 1 else 'are'}" if old else ""
    new = f"{counted(news, 'file was', 'files were')} set aside for the first time" if news else ""
    if not new:
        return f"{counted(old, 'file is', 'files are')} still set aside, none for the first time."
    return f"{new}{', ' if still else ''}{still}."


def _next(summary: Summary) -> str:
    return f"The next run is planned for {when_words(summary.next_at)}." if summary.next_at else ""
