"""Several footages at the same time: how many, in which order, and what ends them all."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Iterator

import pytest

from flows.console import Silent
from flows.side_by_side import Labelled, run_side_by_side


class Watch:
    """Notes how much is under way at the same time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now, self.most = 0, 0
        self.begun: list[int] = []

    def run(self, item: int) -> None:
        with self.lock:
            self.begun.append(item)
            self.now += item
            self.most = max(self.most, self.now)
        time.sleep(0.03)
        with self.lock:
            self.now -= item


def test_as_many_as_there_is_room_for() -> None:
    watch = Watch()
    run_side_by_side([1] * 12, watch.run, room=3, stopping=threading.Event())
    assert watch.most == 3
    assert len(watch.begun) == 12


def test_items_are_taken_when_there_is_room_for_them() -> None:
    taken: list[int] = []
    done: list[int] = []

    def items() -> Iterator[int]:
        for item in range(8):
            taken.append(item)
            yield item

    def run(item: int) -> None:
        time.sleep(0.02)
        # At most as many have been taken as are done or under way.
        assert len(taken) <= len(done) + 2
        done.append(item)

    run_side_by_side(items(), run, room=2, stopping=threading.Event())
    assert sorted(done) == list(range(8))


@pytest.mark.parametrize("room", [1, 2])
def test_an_error_stops_the_rest(room: int) -> None:
    begun: list[int] = []
    stopping = threading.Event()

    def run(item: int) -> None:
        begun.append(item)
        if item == 0:
            raise ZeroDivisionError
        stopping.wait(10)

    with pytest.raises(ZeroDivisionError):
        run_side_by_side(range(40), run, room=room, stopping=stopping)
    assert len(begun) <= room + 1


def test_each_runs_in_a_copy_of_the_context() -> None:
    name = contextvars.ContextVar("name", default="none")
    seen: list[str] = []

    def run(item: int) -> None:
        seen.append(name.get())
        name.set(str(item))

    name.set("outside")
    run_side_by_side(range(6), run, room=2, stopping=threading.Event())
    assert seen == ["outside"] * 6
    assert name.get() == "outside"


def test_lines_say_whose_they_are() -> None:
    class Told(Silent):
        def __init__(self) -> None:
            self.said: list[str] = []

        def started(self, name: str) -> None:
            self.said.append(f"started {name}")

        def progressed(self, name: str, done: int, total: int) -> None:
            self.said.append(f"progressed {name}")

        def finished(self, name: str, state: str, reason: str, seconds: float) -> None:
            self.said.append(f"finished {name}")

        def total(self, label: str, stages: int) -> None:
            raise AssertionError("the whole is counted once, by whoever runs them all")

        def noted(self, text: str) -> None:
            self.said.append(text)

        def warned(self, text: str) -> None:
            self.said.append(text)

    told = Told()
    labelled = Labelled(told, "deep/a.mp4")
    labelled.total("a", 3)
    labelled.started("detect · segment 0")
    labelled.progressed("detect · segment 0", 1, 2)
    labelled.finished("detect · segment 0", "run", "first run", 1.0)
    labelled.noted("so")
    labelled.warned("but")
    assert told.said == [
        "started deep/a.mp4 · detect · segment 0",
        "progressed deep/a.mp4 · detect · segment 0",
        "finished deep/a.mp4 · detect · segment 0",
        "deep/a.mp4: so",
        "deep/a.mp4: but",
    ]
