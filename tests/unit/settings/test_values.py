from datetime import timedelta

import pytest

from syncd.settings.values import (
    parse_duration,
    parse_octets,
    show_duration,
    show_octets,
)


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("2 GiB", 2 << 30),
        ("2GiB", 2 << 30),
        ("1.5 mib", 3 << 19),
        ("500 MB", 500_000_000),
        ("10 octets", 10),
        ("1048576", 1 << 20),
        (1048576, 1 << 20),
        ("0.5 KiB", 512),
    ],
)
def test_sizes(text: object, octets: int) -> None:
    assert parse_octets(text) == octets


@pytest.mark.parametrize(
    "text", ["", "GiB", "2 Gib2", "two GiB", "2 GiX", "-1 MiB", "1e3 MiB", True, 1.5, None, [], "٣"]
)
def test_no_sizes(text: object) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_octets(text)


@pytest.mark.parametrize("text", [0, -5, "0", "0 MiB", "99999999 TiB", 1 << 63])
def test_sizes_out_of_range(text: object) -> None:
    with pytest.raises(ValueError, match="between 1 octet and 8 EiB"):
        parse_octets(text)


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("30 days", 30),
        ("1 day", 1),
        ("12 hours", 0.5),
        ("2 weeks", 14),
        ("1440 minutes", 1),
        ("86400 seconds", 1),
        ("3Days", 3),
    ],
)
def test_durations(text: str, days: float) -> None:
    assert parse_duration(text) == timedelta(days=days)


@pytest.mark.parametrize(
    "text", ["", "30", "days", "30 dayz", "1.5 days", "-1 day", "a month", 30, None, True, "1 dayss"]
)
def test_no_durations(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0 days", "36501 days", "999999999999999999 weeks"])
def test_durations_out_of_range(text: str) -> None:
    with pytest.raises(ValueError, match="out of range"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["2 GiB", "1 KiB", "1023 octets", "5 TiB", "1500 MiB"])
def test_a_size_is_shown_as_it_is_written(text: str) -> None:
    assert show_octets(parse_octets(text)) == text


@pytest.mark.parametrize("text", ["30 days", "1 day", "36 hours", "1 minute", "90 seconds"])
def test_a_duration_is_shown_as_it_is_written(text: str) -> None:
    assert show_duration(parse_duration(text)) == text
