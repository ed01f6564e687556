from __future__ import annotations

import io
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from syncd import clock
from syncd.cli.options import Common
from syncd.cli.progress import Bars, JsonLines, Lines, Silent, as_json, restore_terminal, screen
from syncd.cli.render import Output
from syncd.cli.run import tell
from syncd.engine.events import (
    Advanced,
    Committed,
    Event,
    MessageFailed,
    Noted,
    PhaseBegan,
    Planned,
    RunFinished,
    RunReport,
    RunStarted,
    SignedIn,
)
from syncd.engine.exit_codes import ExitCode
from syncd.settings.schema import Settings
from syncd.sources.base import SourceInfo

STORY: list[Event] = [
    RunStarted("road", 7),
    PhaseBegan("road", "connecting"),
    SignedIn("road", SourceInfo("pop.example.net:995", "TLSv1.3", "PLAIN", ("UIDL",))),
    PhaseBegan("road", "listing"),
    Planned("road", 1200, 300, 300, 3 << 20),
    PhaseBegan("road", "fetching"),
    Committed("road", 100, 1 << 20),
    Noted("road", "careful \x1b[2J"),
    Committed("road", 300, 3 << 20),
    RunFinished("road", RunReport("road", fetched=300, fetched_octets=3 << 20)),
]

PLACES = {"road": "on the server", "onwards": "in home"}


class Terminal(io.StringIO):
    name = "<stderr>"

    def isatty(self) -> bool:
        return True


def without_time(shown: str) -> list[str]:
    """The lines, each of which begins with the time."""
    return [line[20:] for line in shown.splitlines()]


def become_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    made = Terminal()
    monkeypatch.setattr(sys, "stderr", made)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return made


def test_which_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    become_terminal(monkeypatch)
    assert isinstance(screen(Output(Common()), PLACES), Bars)
    assert isinstance(screen(Output(Common(json=True)), PLACES), JsonLines)
    assert type(screen(Output(Common(quiet=True)), PLACES)) is Silent
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(screen(Output(Common()), PLACES), Lines)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(screen(Output(Common()), PLACES), Lines)


def test_every_event_is_a_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    lines = JsonLines(Output(Common(json=True)))
    for event in STORY:
        lines.show(event)
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [document["event"] for document in documents] == [
        "started", "phase", "signed_in", "phase", "planned", "phase", "committed", "noted", "committed", "finished",
    ]  # fmt: skip
    assert {document["job"] for document in documents} == {"road"}
    report = RunReport("road", fetched=300, fetched_octets=3 << 20).as_json()
    assert documents[-1] == {"time": documents[-1]["time"], "version": 1, "event": "finished", **report}


def test_a_report_as_json_has_the_exit_code_as_a_number() -> None:
    report = RunReport("road", exit_code=ExitCode.TEMPORARY)
    assert as_json(RunFinished("road", report))["exit_code"] == 5


def test_plain_lines_are_few(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    lines = Lines(Output(Common()), PLACES)
    for event in STORY[:6]:
        lines.show(event)
    for step in range(1, 31):
        now[0] += 1.0
        lines.show(Committed("road", step * 10, step * (3 << 20) // 30))
    lines.show(Noted("road", "careful"))
    assert without_time(capsys.readouterr().err) == [
        "road: connecting",
        "road: listing",
        "road: 1,200 messages on the server, 300 to fetch (3.0 MiB)",
        "road: fetching",
        "road: 100 of 300 messages, 1.0 MiB of 3.0 MiB, 102.4 KiB/s, 20 s left",
        "road: 200 of 300 messages, 2.0 MiB of 3.0 MiB, 102.4 KiB/s, 10 s left",
        "road: 300 of 300 messages, 3.0 MiB of 3.0 MiB, 102.4 KiB/s",
        "road: careful",
    ]


def test_no_line_tells_that_nothing_of_nothing_was_fetched(capsys: pytest.CaptureFixture[str]) -> None:
    """Such a line stood before "connecting", where a run began with what an archive had."""
    lines = Lines(Output(Common()), PLACES)
    lines.show(Committed("road", 0, 0))
    lines.show(PhaseBegan("road", "connecting"))
    lines.show(Planned("road", 3, 0, 0, 0))
    lines.show(Committed("road", 0, 0))
    assert without_time(capsys.readouterr().err) == [
        "road: connecting",
        "road: 3 messages on the server, nothing to fetch",
    ]


def test_plain_lines_say_where_the_mail_is(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(Output(Common()), PLACES)
    for job in PLACES:
        lines.show(Planned(job, 11, 2, 2, 1024))
    assert without_time(capsys.readouterr().err) == [
        "road: 11 messages on the server, 2 to fetch (1.0 KiB)",
        "onwards: 11 messages in home, 2 to fetch (1.0 KiB)",
    ]


def test_of_many_mailboxes_a_few_lines_name_the_one_that_is_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, now = Lines(Output(Common()), PLACES), 100.0
    for number in range(30):
        monkeypatch.setattr(clock, "monotonic", lambda at=now + number: at)
        lines.show(Planned("road", 10 * number, number, number, 1024, mailboxes=30, mailbox=f"Archive/{number}"))
    assert without_time(capsys.readouterr().err) == [
        "road: 10 messages on the server, 1 to fetch (1.0 KiB) so far; reading Archive/1",
        "road: 110 messages on the server, 11 to fetch (1.0 KiB) so far; reading Archive/11",
        "road: 210 messages on the server, 21 to fetch (1.0 KiB) so far; reading Archive/21",
    ]


def test_before_all_is_listed_nothing_is_told_that_reads_like_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(Output(Common()), PLACES)
    lines.show(Planned("road", 0, 0, 0, 0, mailboxes=2, mailbox="Leer"))
    assert without_time(capsys.readouterr().err) == []
    lines.show(Planned("road", 48, 0, 0, 0))
    assert without_time(capsys.readouterr().err) == ["road: 48 messages on the server, nothing to fetch"]


def test_a_bar_names_the_mailbox_that_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = become_terminal(monkeypatch)
    bars = Bars(Output(Common()))
    bars.show(Planned("road", 5, 5, 5, 1024, mailboxes=2, mailbox="Archive/2019"))
    bars.tick()
    bars.stop()
    assert "road: Archive/2019" in terminal.getvalue()


def test_verbose_tells_how_we_are_signed_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Lines(Output(Common(verbose=True)), PLACES).show(STORY[2])
    assert without_time(capsys.readouterr().err) == ["road: signed in to pop.example.net:995 by PLAIN, TLSv1.3"]
    terminal = become_terminal(monkeypatch)
    Bars(Output(Common(verbose=True))).show(STORY[2])
    assert terminal.getvalue() == "road: signed in to pop.example.net:995 by PLAIN, TLSv1.3\n"


def test_nothing_is_drawn_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = become_terminal(monkeypatch)
    bars = Bars(Output(Common()))
    bars.show(STORY[4])
    bars.stop()
    before = terminal.getvalue()
    for event in (*STORY[3:7], *STORY[8:]):
        bars.show(event)
        bars.tick()
    assert terminal.getvalue() == before
    bars.show(STORY[7])
    assert terminal.getvalue() == before + "road: careful \\x1b[2J\n"


def test_bars_show_messages_octets_and_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = become_terminal(monkeypatch)
    bars = Bars(Output(Common()))
    for event in STORY:
        bars.show(event)
        bars.tick()
    bars.pause()
    shown = terminal.getvalue()
    assert "road: connecting …" in shown
    assert "100/300" in shown
    assert "1.0 MiB/3.0 MiB" in shown
    assert "300/300" in shown
    assert "road: careful \\x1b[2J\n" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h")  # the cursor is visible again


def test_rich_is_not_loaded_when_there_is_nothing_to_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = become_terminal(monkeypatch)
    monkeypatch.setitem(sys.modules, "syncd.cli.bars", None)  # importing it raises
    bars = Bars(Output(Common()))
    for event in (*STORY[:4], Planned("road", 20_000, 0, 0, 0), RunFinished("road", RunReport("road"))):
        bars.show(event)
        bars.tick()
    bars.pause()
    assert terminal.getvalue().endswith("\r\x1b[K")
    assert "\n" not in terminal.getvalue()


def test_restoring_the_terminal_needs_no_screen(capfd: pytest.CaptureFixture[str]) -> None:
    restore_terminal()
    assert capfd.readouterr().err == ""


# --- phases that fetch nothing ------------------------------------------------------------------------------


@pytest.mark.parametrize("fetched", [True, False])
def test_a_bar_shows_what_goes_on_after_the_fetch(monkeypatch: pytest.MonkeyPatch, *, fetched: bool) -> None:
    terminal = become_terminal(monkeypatch)
    bars = Bars(Output(Common()))
    for event in STORY[:9] if fetched else STORY[:4]:
        bars.show(event)
    bars.show(PhaseBegan("road", "backfilling"))
    seen = []
    for done in range(0, 300, 100):
        bars.show(Advanced("road", "backfilling", done, 300))
        terminal.truncate(0)
        bars.tick()
        seen.append(terminal.getvalue())
    bars.stop()
    assert ["0/300" in seen[0], "100/300" in seen[1], "200/300" in seen[2]] == [True] * 3
    assert all("road: delivered from an archive" in shown for shown in seen)
    assert "3.0 MiB" not in seen[-1]


def test_plain_lines_tell_what_goes_on_after_the_fetch(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    said: list[str] = []
    lines = Lines(Output(Common()), PLACES, said.append)
    lines.show(Advanced("road", "backfilling", 0, 100))
    for done in range(1, 21):
        now[0] += 1.0
        lines.show(Advanced("road", "backfilling", done, 100))
    assert said == [
        "road: 10 of 100 delivered from an archive, 1.0/s, 1 min 30 s left",
        "road: 20 of 100 delivered from an archive, 1.0/s, 1 min 20 s left",
    ]


def test_lines_carry_the_time_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = datetime(2024, 5, 17, 12, 30, 5, tzinfo=UTC).astimezone()
    monkeypatch.setattr(clock, "now", lambda: at)
    Lines(Output(Common()), PLACES).show(Noted("road", "careful"))
    assert capsys.readouterr().err == f"{at:%Y-%m-%d %H:%M:%S} road: careful\n"
    terminal = become_terminal(monkeypatch)
    Lines(Output(Common()), PLACES).show(Noted("road", "careful"))
    assert terminal.getvalue() == "road: careful\n"


@pytest.mark.parametrize("options", [Common(), Common(quiet=True)])
def test_an_error_that_was_noted_is_not_said_again_at_the_end(
    options: Common, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings.model_validate(
        {
            "accounts": {"a": {"protocol": "pop3", "host": "pop.example.net", "username": "me", "password": "env:A"}},
            "archives": {"home": {"path": "/mail/home"}},
            "jobs": {"road": {"source": "a", "destinations": ["home"]}},
        }
    )
    output = Output(options)
    screen(output, PLACES).show(Noted("road", "Work: closed", ExitCode.TEMPORARY))
    tell(RunReport("road", exit_code=ExitCode.TEMPORARY, errors=["Work: closed", "cut off"]), settings, output)
    said = capsys.readouterr().err
    assert [said.count(f"road: {line}\n") for line in ("Work: closed", "cut off")] == [1, 1]


@pytest.mark.parametrize("options", [Common(quiet=True), Common(json=True), Common()])
def test_a_log_file_has_the_lines_whatever_is_shown(options: Common, tmp_path: Path) -> None:
    options.log_file = tmp_path / "log"
    output = Output(options)
    shown = screen(output, PLACES)
    for event in STORY:
        shown.show(event)
    output.error("road: broken")
    output.line("road: 300 messages fetched")
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line[20:] for line in lines] == [
        "road: connecting",
        "road: listing",
        "road: 1,200 messages on the server, 300 to fetch (3.0 MiB)",
        "road: fetching",
        "road: careful \\x1b[2J",
        "road: broken",
        "road: 300 messages fetched",
    ]
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_a_message_that_fails_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    JsonLines(Output(Common(json=True))).show(MessageFailed("road", 7, "new", "rejected", "550 no"))
    line = json.loads(capsys.readouterr().out)
    assert line.pop("time")
    assert line == {
        "version": 1,
        "event": "message_failed",
        "job": "road",
        "number": 7,
        "destination": "new",
        "why": "rejected",
        "reason": "550 no",
    }
