import numpy as np
import pytest

from faceline.anomaly.events import Cutting, Event
from faceline.anomaly.survival import survival

TIME_S = np.arange(300) / 10
EVENT = Event(100, 105, 110, 8.0, 0.01, 0.01)  # 10 to 11 s


def peaking(*peaks):
    return Cutting(tuple(Event(p - 5, p, p + 5, 6.0, 0.1, 0.1) for p in peaks), 4.0, 0.1, 30.0)


@pytest.mark.parametrize(("peak", "found"), [(95, 1.0), (100, 1.0), (115, 1.0), (94, 0.0), (116, 0.0)])
def test_a_peak_within_half_a_second_finds_the_event_again(peak, found):
    # Events of 94 and 116 overlap with the event; their peaks are what counts.
    assert survival(EVENT, TIME_S, [peaking(peak)]) == found


def test_is_the_share_of_variations_each_counted_once():
    variations = [peaking(20, 105, 108), peaking(20), peaking(), peaking(112)]
    assert survival(EVENT, TIME_S, variations) == 0.5


def test_is_measured_in_time_not_in_rows():
    assert survival(EVENT, TIME_S / 10, [peaking(114)]) == 1.0
    assert survival(EVENT, TIME_S * 10, [peaking(114)]) == 0.0


def test_without_variations_nothing_is_known():
    assert np.isnan(survival(EVENT, TIME_S, []))
