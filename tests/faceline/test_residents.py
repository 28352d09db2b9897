"""Models that stay loaded: lent to one at a time, kept in number, closed once."""

from __future__ import annotations

import pytest

from faceline.residents import Residents


class Model:
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def test_the_same_model_comes_back() -> None:
    residents = Residents(2)
    with residents.lend("a", Model) as first:
        pass
    with residents.lend("a", Model) as second:
        assert second is first
        assert first.closed == 0


def test_two_borrowers_never_share() -> None:
    residents = Residents(2)
    with residents.lend("a", Model) as first, residents.lend("a", Model) as second:
        assert first is not second


def test_another_key_is_another_model() -> None:
    residents = Residents(2)
    with residents.lend(("mtcnn", 20), Model) as first:
        pass
    with residents.lend(("mtcnn", 40), Model) as second:
        assert second is not first


def test_the_one_that_rested_longest_goes_first() -> None:
    residents = Residents(2)
    models = []
    for key in "abc":
        with residents.lend(key, Model) as model:
            models.append(model)
    assert [model.closed for model in models] == [1, 0, 0]


def test_none_is_kept_by_default() -> None:
    with Residents().lend("a", Model) as model:
        assert model.closed == 0
    assert model.closed == 1


def test_a_model_in_use_at_a_failure_is_not_kept() -> None:
    residents = Residents(2)
    with pytest.raises(ValueError), residents.lend("a", Model) as first:
        raise ValueError
    assert first.closed == 1
    with residents.lend("a", Model) as second:
        assert second is not first


def test_closing_closes_what_rests() -> None:
    residents = Residents(2)
    with residents.lend("a", Model) as model:
        pass
    residents.close()
    residents.close()
    assert model.closed == 1


def test_what_has_no_close_is_let_go() -> None:
    with Residents().lend("a", object):
        pass


def test_what_rested_too_long_is_closed_and_loaded_anew_when_asked_for() -> None:
    now_s = 100.0
    residents = Residents(5, rest_s=20.0, clock=lambda: now_s)
    with residents.lend("a", Model) as early:
        pass
    now_s = 110.0
    with residents.lend("b", Model) as late:
        pass
    now_s = 125.0
    with residents.lend("c", Model) as used:
        residents.tidy()
    assert (early.closed, late.closed, used.closed) == (1, 0, 0)
    with residents.lend("b", Model) as again:
        assert again is late
    with residents.lend("a", Model) as anew:
        assert anew is not early
    now_s = 1000.0
    residents.tidy()
    assert (late.closed, used.closed, anew.closed) == (1, 1, 1)


def test_a_model_that_cannot_be_closed_is_told_and_keeps_nobody_from_closing_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Stuck:
        def close(self) -> None:
            raise RuntimeError("the graph is stuck")

    residents = Residents(5)
    with residents.lend("a", Stuck), residents.lend("b", Model) as other:
        pass
    residents.close()
    assert other.closed == 1
    assert "the graph is stuck" in caplog.text
