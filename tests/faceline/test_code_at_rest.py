"""Plans of many footages look at the code once. Apart from the other tests, whose stages are of what they import."""

from __future__ import annotations

import pytest

from faceline import fingerprint
from faceline.fingerprint import code_at_rest, code_digests
from faceline.stage import Stage
from faceline.stages import STAGES


def test_code_at_rest_is_looked_at_once_and_again_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    look = fingerprint._code_digests

    def counted(stage: Stage) -> dict[str, str]:
        looks.append(stage.name)
        return look(stage)

    monkeypatch.setattr(fingerprint, "_code_digests", counted)
    with code_at_rest():
        first = code_digests(STAGES[0])
        first.clear()  # Whoever alters what he was given alters nobody else's.
        assert code_digests(STAGES[0]) == look(STAGES[0])
        assert code_digests(STAGES[1]) == look(STAGES[1])
        assert looks == [STAGES[0].name, STAGES[1].name]
    code_digests(STAGES[0])
    assert looks[2:] == [STAGES[0].name]
