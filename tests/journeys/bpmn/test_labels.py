"""Times in the words of ISO 8601, and texts that XML can hold."""

import json

import pytest

from journeys.bpmn.labels import as_json, clean, duration_of, iso_duration, short


@pytest.mark.parametrize(
    ("ours", "iso", "back"),
    [
        ("90s", "PT1M30S", "1m 30s"),
        ("4h", "PT4H", "4h"),
        ("1d 12h", "P1DT12H", "1d 12h"),
        ("2 weeks", "P14D", "14d"),
        ("25h", "P1DT1H", "1d 1h"),
    ],
)
def test_durations_go_both_ways(ours: str, iso: str, back: str) -> None:
    assert (iso_duration(ours), duration_of(iso)) == (iso, back)


@pytest.mark.parametrize("text", ["", "P", "PT", "P1Y", "P1M", "P1.5D", "4h", "R3/PT1H", "-P1D", "${x}"])
def test_what_is_no_fixed_length_is_none(text: str) -> None:
    assert duration_of(text) is None


def test_texts_are_fit_for_xml() -> None:
    odd = "a\u0007b\ud800\uffff\n é"
    assert clean(odd) == "a\ufffdb\ufffd\ufffd é"
    assert json.loads(as_json({odd: odd})) == {odd: odd}
    assert "\u0007" not in as_json(odd)
    assert len(short("x" * 100)) == 45
    assert iso_duration("until 10:00") is None
