"""Deltas of several runs put together: what came and went is nothing, what was told twice counts once."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from faceline.nightly.delta import change_words, counts_for_nothing, put_together
from faceline.nightly.moments import Difference, Moment, compare
from faceline.nightly.nights import Delta, Entry, Night
from tests.faceline.nightly.factory import changed, moment, new, vanished

analyses = st.lists(
    st.lists(
        st.builds(
            moment, st.sampled_from([1.0, 1.1, 2.0, 3.0, 3.15]), st.integers(1, 2), score=st.sampled_from([1.0, 2.0])
        ),
        max_size=5,
        unique=True,
    ),
    min_size=2,
    max_size=5,
)


def run(*deltas: Delta, entries: tuple[Entry, ...] = ()) -> Night:
    return Night("n", {}, {entry.file: entry for entry in entries}, deltas)


def delta(*differences: Difference, file: str = "a", cause: str = "new footage", detail: str = "") -> Delta:
    return Delta(file, (cause,), (detail,) if detail else (), differences)  # type: ignore[arg-type]


@given(analyses, st.booleans())
def test_the_steps_between_do_not_matter(steps: list[list[Moment]], told_twice: bool) -> None:
    runs = [run(delta(*compare(a, b))) for a, b in pairwise(steps)]
    if told_twice:
        # A run that was killed between telling and remembering tells the same again.
        runs = [runs[0], *runs]
    (whole,) = put_together(runs) or [delta()]
    assert list(whole.differences) == compare(steps[0], steps[-1])


def test_what_came_and_went_is_nothing() -> None:
    assert put_together([run(delta(new())), run(delta(vanished()))]) == []
    assert put_together([run(delta(vanished())), run(delta(new()))]) == []
    assert put_together([run(delta())]) == []


def test_causes_and_details_of_all_runs_are_kept_once() -> None:
    first = run(delta(new(1.0), cause="parameter", detail="x"))
    second = run(Delta("a", ("code", "parameter"), ("y", "x"), (new(5.0),)), delta(new(), file="b"))
    one, other = put_together([first, second])
    assert (one.causes, one.details) == (("parameter", "code"), ("x", "y"))
    assert [d.kind for d in one.differences] == ["new", "new"]
    assert (other.file, other.causes) == ("b", ("new footage",))


def test_a_moved_file_goes_by_its_last_name() -> None:
    first = run(delta(new(1.0), file="a"), delta(new(2.0), file="b"))
    second = run(
        delta(changed(1.0), file="b"),
        entries=(Entry("b", "done", moved_from="a"), Entry("a", "unchanged", moved_from="b")),
    )
    found = {
        d.file: [(x.kind, x.after and x.after.peak_s) for x in d.differences] for d in put_together([first, second])
    }
    assert found == {"b": [("new", 1.0)], "a": [("new", 2.0)]}


def test_an_event_counts_unless_it_is_explained_on_all_its_sides() -> None:
    explained = replace(moment(), explained=True)
    assert counts_for_nothing(Difference("new", None, explained))
    assert counts_for_nothing(Difference("vanished", explained, None))
    assert counts_for_nothing(Difference("changed", explained, replace(explained, score=1.0)))
    assert not counts_for_nothing(Difference("changed", moment(), explained))
    assert not counts_for_nothing(new())


def test_changes_in_words() -> None:
    a = moment(10.0, 1, score=7.5, p_value=0.01)
    assert change_words(a, a) == ()
    b = Moment(2, 9.5, 10.1, 11.0, None, None, "", True)
    assert change_words(a, b) == (
        "is now explained by something beside expression",
        "person 1 → 2",
        "peak 00:00:10.000 → 00:00:10.100",
        "end 00:00:10.700 → 00:00:11.000",
        "p = 0.010 → p not known",
        "score 7.5 → not known",
        "what departed: mouth opening +5.2, fear +3.1 → not stated",
    )
    assert change_words(b, a)[0] == "is no longer explained"
    # Two values that read the same are told apart.
    assert change_words(replace(a, p_value=0.0001), replace(a, p_value=0.0002)) == ("p = 0.0001 → 0.0002",)
