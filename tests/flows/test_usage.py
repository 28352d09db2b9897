"""Help texts say what a verb takes."""

from __future__ import annotations

import pytest

from flows import usage


@pytest.mark.parametrize("verb", ["archive", "serve"])
def test_verbs_for_a_folder_list_what_they_take(verb: str) -> None:
    text = usage.of_verb(verb)
    assert "until=" not in text
    assert "footage=FILE" not in text
    assert "archive.retry=true" in text
    assert ("schedule.catch_up=" in text) == (verb == "serve")


def test_other_networks_are_not_denied() -> None:
    assert "only command that uses the network" not in usage.of_verb("models")
    assert "until=STAGE" in usage.of_verb("analyze")
