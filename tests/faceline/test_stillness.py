"""Telling still pictures from changed ones."""

from __future__ import annotations

import numpy as np

from faceline.stillness import StillWatch, largest_change

RNG = np.random.default_rng(3)


def plain(value=100):
    return np.full((120, 160), value, np.uint8)


def verdicts(watch, pictures, keys, cuts=()):
    return [watch.is_still(p, is_key=i in keys, cut=i in cuts) for i, p in enumerate(pictures)]


def test_noise_is_no_change_and_a_small_thing_is():
    noisy = np.clip(plain() + RNG.normal(0, 2, (120, 160)), 0, 255).astype(np.uint8)
    thing = plain()
    thing[40:60, 70:90] += 20
    assert largest_change(plain(), noisy) < 6 < largest_change(plain(), thing)


def test_key_frames_are_still_until_something_changes_even_for_one_frame():
    pictures = [plain() for _ in range(12)]
    pictures[5] = plain(130)
    assert verdicts(StillWatch(6), pictures, {0, 3, 6, 9}) == [i in (3, 9) for i in range(12)]


def test_slow_changes_add_up():
    still = verdicts(StillWatch(6), [plain(100 + i) for i in range(20)], set(range(20)))
    assert [i for i, is_still in enumerate(still) if not is_still] == [0, 6, 12, 18]


def test_a_cut_is_a_change_and_zero_takes_all_for_changed():
    assert verdicts(StillWatch(6), [plain()] * 4, {0, 1, 2, 3}, cuts={2}) == [False, True, False, True]
    assert verdicts(StillWatch(0), [plain()] * 3, {0, 1, 2}) == [False] * 3
