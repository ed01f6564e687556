"""Several connections fill one IMAP mailbox: side by side, refused, lost, and killed; scripted peers, then Dovecot."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.destinations.imap.claims import Claim, Claims, LooksFor
from syncd.engine.exit_codes import ExitCode
from tests.e2e.test_imap_connections import Peers, Several, between, held, together
from tests.e2e.test_imap_migration import contents, mail
from tests.fakes.imap import EXTENDED, FakeConnection, FakeImap
from tests.fakes.imap_words import Word
from tests.servers.imap import FLAVOURS, Letter, dovecot, fill

WAIT_S = 30.0  # only a test that fails waits so long
MESSAGES = 1_300  # four batches
MULTI = (*EXTENDED, "MULTIAPPEND")


class First(set[str]):
    """A set of verbs that has them for the first `number` questions only."""

    def __init__(self, verb: str, number: int) -> None:
        super().__init__({verb})
        self._left = iter(range(number))

    def __contains__(self, verb: object) -> bool:
        return super().__contains__(verb) and next(self._left, None) is not None


@pytest.fixture
def peers() -> Iterator[Peers]:
    with FakeImap() as old, FakeImap() as new:
        new.inside = MULTI
        # Each message is there twice, so that one can be taken for the other.
        old.box("INBOX").add(*(mail(number % (MESSAGES // 2)) for number in range(MESSAGES)))
        yield old, new
        assert not new.violations


def test_a_mailbox_is_filled_by_several_connections(tmp_path: Path, peers: Peers) -> None:
    old, new = peers
    together(new, "APPEND", 3)
    bench = between(tmp_path, peers, share=True)
    report = bench.go()
    assert (report.exit_code, report.errors, report.delivered) == (ExitCode.DONE, [], {"new": MESSAGES})
    assert new.connections == 3
    assert held(new) == held(old)
    assert len(set(bench.receipts())) == MESSAGES
    assert bench.go().delivered == {}


def test_a_mailbox_has_one_connection_unless_the_account_says_otherwise(tmp_path: Path, peers: Peers) -> None:
    old, new = peers
    report = between(tmp_path, peers).go()
    assert (report.exit_code, report.delivered) == (ExitCode.DONE, {"new": MESSAGES})
    assert new.connections == 1
    assert held(new) == held(old)


@pytest.mark.parametrize("stored", [True, False])
def test_i161_a_refused_message_is_looked_for_alone(
    tmp_path: Path, peers: Peers, monkeypatch: pytest.MonkeyPatch, *, stored: bool
) -> None:
    """What the others put there meanwhile, equal messages too, is not taken for it."""
    old, new = peers
    together(new, "APPEND", 3)
    left = [mail(3), mail(3), mail(400), mail(600)]  # the server says no to each of them once, also to equal ones
    alone: list[Claim] = []
    make_alone = Claims.make_alone

    def see(claims: Claims, claim: Claim, looks_for: LooksFor) -> None:
        alone.append(claim)
        make_alone(claims, claim, looks_for)

    monkeypatch.setattr(Claims, "make_alone", see)

    def takes(letters: list[bytes]) -> bytes | None:
        blamed = next((one for one in letters if one in left), None)
        if blamed is None:
            return None
        left.remove(blamed)
        if stored:
            new.box("INBOX").add(*letters)
        return b"sorry"

    new.takes = takes
    bench = between(tmp_path, peers, share=True)
    report = bench.go()
    assert not report.uncertain
    assert alone
    assert (report.exit_code, report.errors) == (ExitCode.DONE, [])
    assert held(new) == held(old)


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_sessions_that_are_lost_at_once_double_nothing(tmp_path: Path, peers: Peers, lost: int) -> None:
    """What each of them had on its way is told apart, though its messages are equal to those of the others."""
    old, new = peers
    together(new, "APPEND", 3)
    new.loses_reply_to = First("APPEND", lost)
    bench = between(tmp_path, peers, share=True)
    report = bench.go()
    assert (report.exit_code, report.errors, report.uncertain) == (ExitCode.DONE, [], 0)
    assert held(new) == held(old)
    assert len(set(bench.receipts())) == MESSAGES


@pytest.mark.parametrize("backwards", [False, True])
def test_i94_messages_whose_uids_are_not_told_are_looked_for_alone(
    tmp_path: Path, peers: Peers, monkeypatch: pytest.MonkeyPatch, *, backwards: bool
) -> None:
    """None of them is given the copy of an equal message, also if rows come in reverse."""
    old, new = peers
    append, number = FakeConnection._append, itertools.count()

    def sometimes_told(self: FakeConnection, arguments: list[Word]) -> bytes:
        told = append(self, arguments)
        return self._ok(b"kept") if self._server is new and next(number) % 3 == 0 else told

    monkeypatch.setattr(FakeConnection, "_append", sometimes_told)
    new.backwards = backwards
    new.loses_reply_to = First("APPEND", 1)
    bench = between(tmp_path, peers, share=True)
    report = bench.go()
    assert (report.exit_code, report.errors, report.uncertain) == (ExitCode.DONE, [], 0)
    assert held(new) == held(old)
    assert len(set(bench.receipts())) == MESSAGES, "each copy is the receipt of one message"


def test_a_run_that_lost_all_sessions_is_made_up_for(tmp_path: Path, peers: Peers) -> None:
    old, new = peers
    new.loses_reply_to = {"APPEND"}
    bench = between(tmp_path, peers, share=True)
    assert bench.go().exit_code is ExitCode.TEMPORARY
    new.loses_reply_to = set()
    assert bench.go().exit_code is ExitCode.DONE
    assert held(new) == held(old)


def test_a_full_account_stops_all_connections(tmp_path: Path, peers: Peers) -> None:
    _, new = peers
    together(new, "APPEND", 3)
    new.takes = lambda _: b"[OVERQUOTA] full"
    report = between(tmp_path, peers, share=True).go()
    assert report.exit_code is ExitCode.TEMPORARY
    assert not report.uncertain
    assert not new.box("INBOX").mail


def test_a_connection_that_is_not_had_leaves_its_messages_to_others(tmp_path: Path, peers: Peers) -> None:
    old, new = peers
    refused = threading.Event()

    def sign_in(_: list[Word]) -> bytes | None:
        if new.connections < 3:
            return None
        refused.set()
        return b"<tag> NO [LIMIT] too many connections\r\n"

    def wait(_: list[Word]) -> bytes | None:
        assert refused.wait(WAIT_S), "no third connection was tried"
        return None

    new.on["AUTHENTICATE"] = new.on["LOGIN"] = sign_in
    new.on["APPEND"] = wait
    bench = between(tmp_path, peers, share=True)
    report = bench.go()
    assert (report.exit_code, report.errors) == (ExitCode.DONE, [])
    assert held(new) == held(old)


@pytest.mark.parametrize("uid", [4294967295, 4294967296, 9999999999])
def test_a_uid_out_of_bounds_is_no_receipt(tmp_path: Path, peers: Peers, uid: int) -> None:
    """The largest that there is may be one, and nothing can be put behind it (RFC 3501 §2.3.1.1)."""
    old, new = peers
    old.box("INBOX").mail[5:] = []
    new.stores_and_says = b"<tag> OK [APPENDUID 1 %d:%d] kept\r\n" % (uid - 4, uid)
    bench = between(tmp_path, peers, share=True)
    report = bench.go()
    assert (report.exit_code, report.errors) == (ExitCode.DONE, [])
    assert held(new) == held(old)
    old.box("INBOX").add(mail(7))
    new.stores_and_says = None
    report = bench.go()
    assert (report.exit_code, report.errors) == (ExitCode.DONE, [])
    assert held(new) == held(old)


@pytest.mark.servers
def test_dovecot_takes_one_mailbox_by_four_connections(tmp_path: Path) -> None:
    with dovecot(FLAVOURS["slash"]) as server:
        old, new = server.user("old"), server.user("new")
        fill(old, {"INBOX": [Letter(mail(number % 900), ("\\Seen",)) for number in range(MESSAGES)]})
        bench = Several(tmp_path, (old.host, old.port, old.username), (new.host, new.port, new.username), 4, share=True)
        report = bench.go()
        assert (report.exit_code, report.errors) == (ExitCode.DONE, [])
        assert {name: sorted(map(repr, found)) for name, found in contents(new).items()} == {
            name: sorted(map(repr, found)) for name, found in contents(old).items()
        }
        assert bench.go().delivered == {}
