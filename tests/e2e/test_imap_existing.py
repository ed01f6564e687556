"""Messages that another program has put into the destination before (`skip_existing`), where that is hard to tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.cli.main import call
from syncd.engine.exit_codes import ExitCode
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions
from tests.e2e.test_imap_migration import MULTI, Bench, between, mail, octets, peers
from tests.fakes.imap import USERNAME, FakeImap
from tests.fakes.imap_words import flat

__all__ = ["peers"]

NOTE = b"Subject: note\r\n\r\nReceived: %b\r\n"
FIRST, SECOND = NOTE % b"one", NOTE % b"two"
MARK = b"Subject: note\r\nX-TUID: R2QvEwCq6zIp\r\n"
BY_MBSYNC = SECOND.replace(b"Subject: note\r\n", MARK)
QUOTED = SECOND.replace(b"two\r\n", b"two\r\nX-TUID: R2QvEwCq6zIp\r\n")


@pytest.mark.parametrize(
    "there", [SECOND, SECOND.replace(b"\r\n", b"\n"), BY_MBSYNC, BY_MBSYNC.replace(b"\r\n", b"\n")]
)
def test_messages_without_identity_are_told_apart_by_their_bodies(
    tmp_path: Path, peers: tuple[FakeImap, FakeImap], there: bytes
) -> None:
    old, new = peers
    old.box("INBOX").add(FIRST, SECOND, SECOND)
    new.box("INBOX").add(there)
    bench = between(tmp_path, peers, skip_existing="true")
    assert bench.run().delivered == {"new": 3}
    assert octets(new.box("INBOX").mail) == [there, FIRST, SECOND], "the copy that is there stands for one, and its own"
    assert sum("altered" in receipt for receipt in bench.receipts()) == (there != SECOND)
    assert bench.run().delivered == {}


def test_a_line_of_the_text_is_no_mark_of_mbsync(tmp_path: Path, peers: tuple[FakeImap, FakeImap]) -> None:
    old, new = peers
    old.box("INBOX").add(SECOND)
    new.box("INBOX").add(QUOTED)
    bench = between(tmp_path, peers, skip_existing="true")
    assert bench.run().delivered == {"new": 1}
    assert octets(new.box("INBOX").mail) == [QUOTED, SECOND]


@pytest.mark.parametrize("one", [mail(2), SECOND])
@pytest.mark.parametrize("how", ["refuses", "leaves_out", "serves"])
def test_what_the_server_does_not_give_is_not_copied_again(
    tmp_path: Path, peers: tuple[FakeImap, FakeImap], one: bytes, how: str
) -> None:
    """One copy at the destination cannot be read: its original waits, and all others go on."""
    old, new = peers
    old.box("INBOX").add(mail(1), one, mail(3), mail(14))
    new.box("INBOX").add(mail(1), one, mail(3))
    mended = getattr(new, how)
    setattr(new, how, {2: b""} if how == "serves" else {2})
    bench = between(tmp_path, peers, skip_existing="true")
    report = bench.run()
    assert (report.exit_code, report.delivered) == (ExitCode.TEMPORARY, {"new": 3})
    assert octets(new.box("INBOX").mail) == [mail(1), one, mail(3), mail(14)]
    [reason] = bench.reasons()
    assert reason.startswith("it may be there already, as the message with UID 2 in INBOX, which cannot be read: ")
    assert ("could not be fetched" if how == "refuses" else "the server said OK and gave nothing") in reason
    assert bench.run().delivered == {}, "nor later, while that lasts"

    setattr(new, how, mended)
    assert call(["retry", "move", "--config", str(tmp_path / "syncd.toml")]) == ExitCode.DONE
    assert bench.run().delivered == {"new": 1}
    assert len(new.box("INBOX").mail) == 4


def test_a_throttle_is_no_sign_of_absence(tmp_path: Path, peers: tuple[FakeImap, FakeImap]) -> None:
    old, new = peers
    old.box("INBOX").add(mail(1), mail(2))
    new.box("INBOX").add(mail(1), mail(2))
    later = b"<tag> NO [THROTTLED] later\r\n"
    new.on["UID FETCH"] = lambda words: later if b"BODY.PEEK[HEADER]" in flat(words[1]) else None
    bench = between(tmp_path, peers, skip_existing="true")
    report = bench.run()
    assert (report.exit_code, report.delivered) == (ExitCode.TEMPORARY, {})
    assert len(new.box("INBOX").mail) == 2


MOVE = 'mode = "move"\nconfirm_removal = true\n'
REPORT = b"Subject: report\r\nMessage-ID: <1@example.org>\r\n\r\n%b\r\n"


def test_a_move_takes_equal_octets_alone_for_a_copy(tmp_path: Path, peers: tuple[FakeImap, FakeImap]) -> None:
    old, new = peers
    one, other = REPORT % b"one", REPORT % b"two"
    old.box("INBOX").add(one, mail(2), mail(3).replace(b"\r\n", b"\n"))
    new.box("INBOX").add(other, mail(3))
    new.box("INBOX").add(mail(2), flags=[b"\\Deleted"])
    bench = between(tmp_path, peers, job=MOVE, skip_existing="true")
    assert bench.run().delivered == {"new": 3}
    assert octets(new.box("INBOX").mail) == [other, mail(3), mail(2), one, mail(2)], "one will be expunged by its user"
    assert not old.box("INBOX").mail


def test_a_mailbox_is_not_moved_into_itself(tmp_path: Path) -> None:
    """One server by two names: each message is its own copy."""
    with FakeImap() as server:
        server.inside = MULTI
        server.box("INBOX").add(mail(1), mail(2))
        here, there = ((host, server.port, USERNAME) for host in ("127.0.0.1", "localhost"))
        bench = Bench(tmp_path, here, there, job=MOVE, skip_existing="true")
        report = bench.run()
        assert octets(server.box("INBOX").mail) == [mail(1), mail(2)]
    assert report.exit_code is ExitCode.CONFIG_INVALID
    [error] = report.errors
    assert "INBOX at localhost" in error
    assert "seems to be the mailbox that is read" in error


@pytest.mark.parametrize(("option", "told"), [({}, True), ({"skip_existing": "false"}, False)])
def test_mail_that_was_there_before_the_first_run_is_told(
    tmp_path: Path, peers: tuple[FakeImap, FakeImap], option: dict[str, str], *, told: bool
) -> None:
    """Another ledger, or another configuration, may have put it there: the account would have it twice."""
    old, new = peers
    old.box("INBOX").add(mail(1))
    new.box("INBOX").add(mail(1), mail(2))
    new.box("Sent").add(mail(3))
    bench = between(tmp_path, peers, **option)
    for dry_run in (True, False):
        events: list[object] = []
        RunsByHand(bench.loaded(), ["move"], RunOptions(dry_run=dry_run), events.append).execute()
        notes = [str(event) for event in events if "has mail already" in str(event)]
        assert len(notes) == told
        assert not told or "3 messages, in INBOX (2), Sent (1)" in notes[0]
    old.box("INBOX").add(mail(4))
    events = []
    RunsByHand(bench.loaded(), ["move"], RunOptions(), events.append).execute()
    assert "has mail already" not in str(events), "from then on it is our own"


def test_mail_that_was_there_is_told_after_a_first_run_that_failed(
    tmp_path: Path, peers: tuple[FakeImap, FakeImap]
) -> None:
    old, new = peers
    old.box("INBOX").add(mail(1))
    new.box("INBOX").add(mail(1))
    bench = between(tmp_path, peers)
    old.replies["LIST"] = b"<tag> NO [UNAVAILABLE] later\r\n"
    assert bench.run().exit_code is ExitCode.TEMPORARY
    old.replies.clear()
    events: list[object] = []
    RunsByHand(bench.loaded(), ["move"], RunOptions(by_hand=True), events.append).execute()
    assert "has mail already" in str(events)


def test_each_message_that_is_there_is_read_once_in_a_run(tmp_path: Path, peers: tuple[FakeImap, FakeImap]) -> None:
    """The mailbox has as many messages of these sizes, and each batch looked at all of them again."""
    old, new = peers
    old.box("INBOX").add(*(mail(number) for number in range(1000, 2200)))
    new.box("INBOX").add(*(mail(number) for number in range(3000, 3100)))
    bench = between(tmp_path, peers, skip_existing="true")
    assert bench.run().delivered == {"new": 1200}
    asked = [command for command in new.commands if "BODY.PEEK[HEADER]" in command]
    assert asked == ["UID FETCH 1:100 (UID BODY.PEEK[HEADER])"]
