"""`syncd verify` where a server tells too little, or something changed since: nothing passes for equal."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.cli.main import call
from syncd.engine.exit_codes import ExitCode
from syncd.services.verify.values import Status
from tests.e2e.test_imap_migration import MULTI, Bench, between, mail
from tests.e2e.test_verify import renumber, verified
from tests.fakes.imap import PASSWORD, FakeImap
from tests.fakes.imap_store import row
from tests.fakes.imap_words import Word, flat

MOVE = 'mode = "move"\nconfirm_removal = true\n'
SENT = range(11, 14)
Peers = tuple[FakeImap, FakeImap]


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", PASSWORD)


@pytest.fixture
def peers() -> Iterator[Peers]:
    with FakeImap() as old, FakeImap() as new:
        new.inside = MULTI
        old.box("INBOX").add(*map(mail, range(1, 6)), flags=[b"\\Seen"])
        old.box("Sent").add(*map(mail, SENT))
        yield old, new


@pytest.fixture
def bench(tmp_path: Path, peers: Peers) -> Bench:
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.DONE
    return bench


@pytest.fixture
def moved(tmp_path: Path, peers: Peers) -> Bench:
    bench = between(tmp_path, peers, job=MOVE)
    assert bench.run().removed == 8
    return bench


def exit_code(bench: Bench, *options: str) -> int:
    return call(["--config", str(bench.directory / "syncd.toml"), "verify", "move", *options])


# --- altered once, and again -----------------------------------------------------------------------------------------


def in_header(octets: bytes) -> bytes:
    return octets.replace(b"\xe4", b"X")


@pytest.mark.parametrize("then", [b"Subject: X\r\n\r\nanother\r\n", b""])
@pytest.mark.parametrize("altered", ["by the destination", "by us"])
def test_a_recorded_alteration_excuses_no_later_one(tmp_path: Path, peers: Peers, then: bytes, altered: str) -> None:
    old, new = peers
    if altered == "by us":
        old.box("Odd").add(b"Subject: odd\n\nbody\n")
        new.takes = lambda messages: b"bare newlines" if any(b"\n\n" in octets for octets in messages) else None
    else:
        old.box("Odd").add(b"Subject: \xe4\r\n\r\nbody\r\n")
        new.alters = in_header
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.DONE
    for read in (False, True):
        [entry] = verified(bench, read=read).entries
        assert entry.status is Status.ALTERED
        assert entry.reason.startswith(f"altered {altered}")
    new.box("Odd").mail[0].octets = then
    [entry] = verified(bench, read=True).entries
    assert entry.status is Status.DIFFERENT
    assert "as recorded, and since then: " in entry.reason
    assert exit_code(bench, "--read") == ExitCode.DIFFERENCES


# --- what is not told ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1])
def test_flags_that_are_not_told_are_not_no_flags(bench: Bench, peers: Peers, which: int) -> None:
    """First as a row without them, and nothing more; then as a row that has them follows."""
    box = peers[which].box("INBOX")
    less = b"".join(b"* %d FETCH (UID %d RFC822.SIZE %d)\r\n" % (n, n, len(mail(n))) for n in range(1, 6))
    del peers[which].boxes[b"Sent"]
    peers[which].on["UID FETCH"] = lambda _: less + b"<tag> OK\r\n"
    reasons = [entry.reason for entry in verified(bench).entries if entry.status is Status.UNREADABLE]
    assert len(reasons) == (1 if which == 0 else 5)
    assert all("does not tell the flags of the message 1" in reason for reason in reasons)

    def twice(words: list[Word]) -> bytes:
        rows = b"".join(row(number, one, words[1]) for number, one in enumerate(box.mail, 1))
        return less + rows + b"<tag> OK\r\n"

    peers[which].on["UID FETCH"] = twice
    assert verified(bench).counts[Status.EQUAL] == 5


def test_a_mailbox_whose_contents_are_not_told_is_not_empty(tmp_path: Path, peers: Peers) -> None:
    old, _ = peers
    old.on["EXAMINE"] = lambda words: b"<tag> OK [READ-ONLY] opened\r\n" if words[0] == b"INBOX" else None
    bench = between(tmp_path, peers)
    report = bench.run()
    assert (report.exit_code, report.delivered) == (ExitCode.TEMPORARY, {"new": 3})
    assert "does not say what is in it (EXISTS)" in report.errors[0]
    [entry] = verified(bench).entries
    assert (entry.status, entry.mailbox) == (Status.UNREADABLE, ("INBOX",))


def test_a_mailbox_that_shows_none_of_its_messages_is_not_empty(moved: Bench, peers: Peers) -> None:
    """It froze the mailbox until a person came."""
    old, _ = peers
    old.box("INBOX").add(mail(6), mail(7))
    old.on["UID FETCH"] = lambda _: b"<tag> OK\r\n"
    report = moved.run()
    assert report.exit_code is ExitCode.TEMPORARY
    assert "counts 2 messages and shows none" in report.errors[0]
    old.on.clear()
    assert moved.run().removed == 2


def test_a_listing_of_the_destination_that_lacks_messages_proves_nothing(bench: Bench, peers: Peers) -> None:
    _, new = peers
    opened: list[Word] = []
    new.on["EXAMINE"] = lambda words: opened.append(words[0])

    def some(words: list[Word]) -> bytes | None:
        if opened[-1] != b"INBOX":
            return None
        shown = enumerate(new.box("INBOX").mail[:2] if words[0][:2] == b"1:" else [], 1)
        return b"".join(row(number, one, words[1]) for number, one in shown) + b"<tag> OK\r\n"

    new.on["UID FETCH"] = some
    found = verified(bench)
    assert found.counts[Status.UNREADABLE] == 3
    assert {entry.reason for entry in found.entries} == {"the server counts 5 messages and shows 2"}


# --- mailboxes that are not opened, or not listed ---------------------------------------------------------------------


def test_after_a_move_a_mailbox_that_is_not_opened_is_told(moved: Bench, peers: Peers) -> None:
    old, new = peers
    del old.boxes[b"Sent"]
    for number in range(3):
        old.box("INBOX").add(mail(100 + number))
        moved.run()
    assert verified(moved).counts == {Status.MOVED: 11}
    new.on["EXAMINE"] = lambda words: b"<tag> NO [NOPERM] go away\r\n" if words[0] == b"Sent" else None
    found = verified(moved)
    assert found.counts == {Status.MOVED: 8, Status.UNREADABLE: 3}
    assert exit_code(moved) == ExitCode.DIFFERENCES


def test_after_a_move_messages_without_a_certain_place_are_looked_for(moved: Bench, peers: Peers) -> None:
    renumber(peers[1])
    for read in (False, True):
        assert verified(moved, read=read).report.differences == 0
    peers[1].box("INBOX").expunge(3)
    [entry] = verified(moved).entries
    assert entry.status is Status.REMOVED


def test_a_mailbox_that_the_list_lacks_is_opened_by_its_name(tmp_path: Path, peers: Peers) -> None:
    """Messages that were rejected passed for messages that had left the source."""
    old, new = peers
    new.takes = lambda messages: b"[CANNOT] no" if any(mail(number) in messages for number in SENT) else None
    bench = between(tmp_path, peers)
    bench.run()
    before = verified(bench).report.differences
    assert before == 3
    old.hides = {b"Sent"}
    assert verified(bench).report.differences == before
    del old.boxes[b"Sent"]
    assert verified(bench).counts[Status.GONE] == 3


# --- odd answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("date", [b"01-Jan-0001 00:00:00 +0100", b"31-Dec-9999 23:59:59 -0100"])
@pytest.mark.parametrize("which", [0, 1])
def test_dates_at_the_ends_of_the_calendar(bench: Bench, peers: Peers, date: bytes, which: int) -> None:
    peers[which].box("INBOX").mail[0].date = date
    [entry] = verified(bench).entries
    assert entry.status in {Status.DIFFERENT, Status.ALTERED}
    assert "date: " in entry.reason


def test_a_line_that_breaks_off_twice_blames_no_message(bench: Bench, peers: Peers) -> None:
    calls = itertools.count()

    def flap(words: list[Word]) -> None:
        if b"BODY.PEEK[]" in flat(words[1]) and next(calls) in {0, 3}:
            raise ConnectionError("lost, as the script says")

    peers[0].on["UID FETCH"] = flap
    assert verified(bench, read=True).counts == {Status.EQUAL: 8}


def test_a_message_at_which_the_server_hangs_up_does_not_end_the_reading(bench: Bench, peers: Peers) -> None:
    peers[0].breaks_off_at = {3, 4}  # and the third of Sent
    found = verified(bench, read=True)
    assert found.counts == {Status.EQUAL: 5, Status.DIFFERENT: 3}, found.entries
    assert all("the source does not give it" in entry.reason for entry in found.entries), found.entries
