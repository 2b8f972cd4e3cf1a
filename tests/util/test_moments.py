from __future__ import annotations

import time

import pytest

from nnunet_active.util.moments import for_people, now_in_utc, seconds_of


@pytest.fixture
def zone(monkeypatch):
    """Sets the time zone of this machine."""

    def choose(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield choose
    monkeypatch.undo()
    time.tzset()


needs_zones = pytest.mark.skipif(not hasattr(time, "tzset"), reason="needs time zones of the system")


@needs_zones
def test_what_is_written_means_the_same_moment_in_every_zone(zone):
    zone("UTC")
    written, now = now_in_utc(), time.time()
    for name in ("UTC", "Europe/Berlin", "America/New_York"):
        zone(name)
        assert seconds_of(written) == pytest.approx(now, abs=2)
        assert now_in_utc().endswith("+00:00") and seconds_of(now_in_utc()) == pytest.approx(time.time(), abs=2)


@needs_zones
def test_a_moment_of_an_earlier_version_has_no_zone_and_is_local(zone):
    zone("Europe/Berlin")
    assert seconds_of("2026-05-01T12:00:00") == seconds_of("2026-05-01T10:00:00+00:00")


@needs_zones
def test_people_see_the_time_of_their_machine(zone):
    zone("Europe/Berlin")
    assert for_people("2026-05-01T10:00:00+00:00") == for_people("2026-05-01T12:00:00") == "2026-05-01 12:00"
    assert for_people(seconds_of("2026-05-01T10:00:59+00:00")) == "2026-05-01 12:00"


def test_what_is_no_moment_is_shown_as_it_is_and_is_an_error_where_it_counts():
    assert [for_people(text) for text in ("", "yesterday", "2026")] == ["", "yesterday", "2026"]
    with pytest.raises(ValueError, match="yesterday"):
        seconds_of("yesterday")
