from __future__ import annotations

import io
import json
import sys
from datetime import UTC, datetime, timedelta

import pytest

from syncd.cli.options import Common
from syncd.cli.render import Output, ago, columns, count, cut, duration, instant, octets, pad, paint, write_octets
from syncd.errors import DiskFull, StorageError


class Terminal(io.StringIO):
    name = "<stdout>"

    def isatty(self) -> bool:
        return True


class FullDisk(io.StringIO):
    name = "<stdout>"

    def write(self, _: str) -> int:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (2.4 * 2**20, "2.4 MiB"), (1000 * 2**20, "1.0 GiB"),
     (5 * 2**40, "5.0 TiB")],
)  # fmt: skip
def test_sizes(number: float, text: str) -> None:
    assert octets(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.96, "10.0 s"), (45, "45 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_counts_and_times() -> None:
    assert (count(1, "message"), count(20_000, "message"), count(2, "try", "tries")) == (
        "1 message",
        "20,000 messages",
        "2 tries",
    )
    now = datetime(2026, 1, 2, tzinfo=UTC)
    assert ago(now - timedelta(minutes=3), now) == "3 minutes ago"
    assert ago(now - timedelta(days=1, hours=5), now) == "1 day ago"
    assert ago(now + timedelta(seconds=5), now) == "just now"
    assert instant(None) == "-"


def test_wide_characters_take_two_columns() -> None:
    assert columns("漢字") == 4
    assert columns("e\u0301") == 1
    assert cut("漢字漢字", 5) == "漢字…"
    assert cut("abcdef", 6) == "abcdef"
    assert cut("abcdefg", 6) == "abcde…"
    assert pad("漢", 4, right=True) == "  漢"


def test_nothing_that_is_shown_can_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(Common())
    output.line("subject \x1b[2J\u202eevil\r\n")
    output.note("\x07")
    output.error("a\nb")
    output.table(("A", "B"), [("x\x1b]0;t\x07", "\x9b31m")])
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert set(text) - {"\n"} == {c for c in text if c.isprintable()}
    assert shown.out.startswith("subject \\x1b[2J\\u202eevil")
    assert shown.err == "\\x07\na\\nb\n"


def test_json_is_ascii_with_instants_in_utc(capsys: pytest.CaptureFixture[str]) -> None:
    Output(Common(json=True)).document({"at": datetime(2026, 1, 2, tzinfo=UTC), "text": "é\u202e", "octets": b"\x00"})
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out) == {"at": "2026-01-02T00:00:00+00:00", "text": "é\u202e", "octets": "\\x00"}


def test_a_table_is_aligned_and_cut_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("NO_COLOR", "1")
    Output(Common()).table(("NAME", "N", "TEXT"), [("a", "1", "x" * 40), ("long", "20", "")], right=frozenset({1}))
    assert terminal.getvalue().splitlines() == ["NAME   N  TEXT", "a      1  xxxxxxxxx…", "long  20"]


def test_colour_only_on_a_terminal_that_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert paint("x", "red", Terminal()) == "\x1b[31mx\x1b[0m"
    assert paint("x", "red", io.StringIO()) == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert paint("x", "red", Terminal()) == "x"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert paint("x", "red", Terminal()) == "x"


def test_output_that_cannot_be_written_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", FullDisk())
    with pytest.raises(DiskFull, match="cannot write to <stdout>: No space left"):
        Output(Common()).line("x")


def test_octets_go_out_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw))
    write_octets([b"\x00\xff\r\n", b"\x1b"])
    assert raw.getvalue() == b"\x00\xff\r\n\x1b"


def test_octets_that_cannot_be_written_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(Broken()))
    with pytest.raises(StorageError, match="cannot write to standard output: Input/output error"):
        write_octets([b"x"])
