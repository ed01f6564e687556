"""Batches that are sent while the answers to the one before are on their way: nothing is lost or doubled by that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.db.ledger import Ledger
from syncd.destinations.imap import account
from syncd.engine import pipe
from syncd.engine.exit_codes import ExitCode
from syncd.engine.pipe import Batch, Pipe
from syncd.mail.outcome import Verdict
from tests.e2e.test_imap_migration import MULTI, between, mail, octets
from tests.fakes.imap import FakeImap
from tests.fakes.imap_words import Word

BARE = ("IMAP4rev1", "LITERAL+")  # tells no UIDs, and takes one message at a time
WAIT_S = 30.0  # only a test that fails waits so long
IN_BATCH, COUNT = 5, 40
Peers = tuple[FakeImap, FakeImap]


@pytest.fixture(params=["several", "singly, opened", "singly"])
def peers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Peers]:
    with FakeImap() as old, FakeImap() as new:
        new.inside = MULTI if request.param == "several" else BARE
        monkeypatch.setattr(account, "MANY", IN_BATCH if request.param == "singly, opened" else COUNT)
        yield old, new
        assert not new.violations


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> list[set[Verdict]]:
    """Small batches, each of which is at hand when the one before is sent. Returns what each commit tells."""
    commits: list[set[Verdict]] = []
    follower, commit = Pipe.follower, Ledger.commit

    def patient(self: Pipe, batch: Batch) -> Batch | None:
        with self.change:
            assert batch.inlet is not None
            inlet = batch.inlet
            self.change.wait_for(lambda: self.closed or inlet.messages >= COUNT - IN_BATCH, WAIT_S)
        return follower(self, batch)

    def noting(self: Ledger, *arguments: Any, **by: Any) -> None:
        commits.append({outcome.verdict for _, outcome in arguments[2]})
        commit(self, *arguments, **by)

    monkeypatch.setattr(pipe, "BATCH_MESSAGES", IN_BATCH)
    monkeypatch.setattr(Pipe, "follower", patient)
    monkeypatch.setattr(Ledger, "commit", noting)
    return commits


def test_outcomes_of_a_batch_and_the_intents_of_the_next_share_a_transaction(
    tmp_path: Path, peers: Peers, together: list[set[Verdict]]
) -> None:
    old, new = peers
    old.box("INBOX").add(*map(mail, range(COUNT)))
    report = between(tmp_path, peers).run()
    assert (report.exit_code, report.errors) == (ExitCode.DONE, [])
    assert octets(new.box("INBOX").mail) == octets(old.box("INBOX").mail)
    assert together.count({Verdict.DELIVERED, Verdict.SENDING}) >= 3


@pytest.mark.parametrize("at", [2, 3, 5, 8])
@pytest.mark.parametrize("how", ["reply", "command"])
def test_a_session_that_is_lost_with_two_batches_in_flight(
    tmp_path: Path, peers: Peers, together: list[set[Verdict]], at: int, how: str
) -> None:
    old, new = peers
    old.box("INBOX").add(*map(mail, range(COUNT)))
    appends = 0

    def lose(_: list[Word]) -> bytes | None:
        nonlocal appends
        appends += 1
        new.loses_reply_to = {"APPEND"} if how == "reply" and appends == at else set()
        return b"* BYE for now\r\n" if how == "command" and appends == at else None

    new.on["APPEND"] = lose
    bench = between(tmp_path, peers)
    bench.run()
    assert bench.run().exit_code is ExitCode.DONE
    assert sorted(octets(new.box("INBOX").mail)) == sorted(octets(old.box("INBOX").mail))
    assert len(set(bench.receipts())) == COUNT
    assert {Verdict.DELIVERED, Verdict.SENDING} in together


@pytest.mark.parametrize("at", [7, 12, 33])
def test_a_message_that_is_refused_does_not_take_the_next_batch_along(
    tmp_path: Path, peers: Peers, together: list[set[Verdict]], at: int
) -> None:
    old, new = peers
    old.box("INBOX").add(*map(mail, range(COUNT)))
    new.takes = lambda group: b"Message contains NUL characters" if mail(at) in group else None
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.WAITING
    assert sorted(octets(new.box("INBOX").mail)) == sorted(mail(number) for number in range(COUNT) if number != at)
    assert len(bench.reasons()) == 1
    assert {Verdict.DELIVERED, Verdict.SENDING} in together


def test_i161_what_is_stored_in_spite_of_a_no_is_found_behind_later_batches(
    tmp_path: Path, peers: Peers, together: list[set[Verdict]]
) -> None:
    old, new = peers
    old.box("INBOX").add(*map(mail, range(COUNT)))
    appends = 0

    def lie(_: list[Word]) -> bytes | None:
        nonlocal appends
        appends += 1
        new.stores_and_says = b"<tag> BAD no idea\r\n" if appends == 4 else None
        return None

    new.on["APPEND"] = lie
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.DONE
    assert sorted(octets(new.box("INBOX").mail)) == sorted(octets(old.box("INBOX").mail))
    assert {Verdict.DELIVERED, Verdict.SENDING} in together


def test_an_account_that_gets_full_takes_no_more(tmp_path: Path, peers: Peers, together: list[set[Verdict]]) -> None:
    old, new = peers
    old.box("INBOX").add(*map(mail, range(COUNT)))
    new.takes = lambda _: b"[OVERQUOTA] full" if len(new.box("INBOX").mail) >= 20 else None
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.TEMPORARY
    assert len(new.box("INBOX").mail) == 20
    new.takes = lambda _: None
    report = bench.run(by_hand=True)
    assert {Verdict.DELIVERED, Verdict.SENDING} in together
    assert len(new.box("INBOX").mail) in {20, COUNT}, report.errors
