"""Telling what has changed in a picture since it was searched."""

from __future__ import annotations

import numpy as np

from faceline.changes import ChangeWatch

RNG = np.random.default_rng(3)


def plain(value=100):
    return np.full((320, 480), value, np.uint8)


def with_thing(x, y, value=160):
    picture = plain()
    picture[y : y + 32, x : x + 32] = value
    return picture


def told(watch, pictures, keys=(), anew=()):
    """Per picture the parts that changed, None where it changed as a whole."""
    return [watch.changed(p, is_key=i in keys, starts_anew=i in anew) for i, p in enumerate(pictures)]


def counts(parts):
    return [None if boxes is None else len(boxes) for boxes in parts]


def test_noise_is_no_change_and_a_small_thing_is_found_where_it_is():
    noisy = np.clip(plain() + RNG.normal(0, 5, (320, 480)), 0, 255).astype(np.uint8)
    first, second, third = told(ChangeWatch(20), [plain(), noisy, with_thing(160, 96)])
    assert first is None
    assert len(second) == 0
    ((x, y, width, height),) = third
    assert x <= 160 - 16 and y <= 96 - 16
    assert x + width >= 160 + 48 and y + height >= 96 + 48
    assert width * height < 0.1 * 320 * 480


def test_what_has_been_told_once_is_not_told_again_until_it_changes_again():
    parts = told(ChangeWatch(20), [plain(), with_thing(160, 96), with_thing(160, 96), plain(), plain()])
    assert counts(parts) == [None, 1, 0, 1, 0]


def test_two_things_apart_are_two_parts():
    both = np.maximum(with_thing(32, 32), with_thing(400, 256))
    assert counts(told(ChangeWatch(20), [plain(), both])) == [None, 2]


def test_slow_changes_add_up():
    parts = told(ChangeWatch(20), [with_thing(160, 96, 100 + 2 * i) for i in range(31)])
    assert [i for i, boxes in enumerate(parts) if boxes is not None and len(boxes)] == [10, 20, 30]


def test_who_comes_in_bit_by_bit_is_told_as_a_whole_at_the_next_key_frame():
    half = with_thing(160, 96)
    half[:, 176:] = 100
    *_, whole = told(ChangeWatch(20), [plain(), half, with_thing(160, 96), with_thing(160, 96)], keys={0, 3})
    ((x, y, width, height),) = whole
    assert x <= 160 and y <= 96 and x + width >= 192 and y + height >= 128


def test_too_much_change_is_a_change_of_all_until_a_key_frame():
    parts = told(ChangeWatch(20), [plain(), plain(150), plain(), plain(150), plain(150)], keys={0, 3})
    # The third looks as the first did, but the second has not been searched: the next key frame is, as a whole.
    assert counts(parts) == [None, None, 0, None, 0]


def test_a_frame_searched_in_any_case_is_what_later_ones_are_compared_with():
    parts = told(ChangeWatch(20), [plain(), with_thing(160, 96), plain()], keys={0, 1}, anew={1})
    assert counts(parts) == [None, None, 1]


def test_zero_takes_every_frame_for_changed():
    assert told(ChangeWatch(0), [plain()] * 3, keys={0, 1, 2}) == [None] * 3
