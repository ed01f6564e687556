"""A connection waits to have a mailbox alone, while an answer to another connection is held back.

A message of the first was refused, so it looks whether that was stored all the same; the other ones are still sending.
Meanwhile the lease of the account goes, or the octets of a day are used up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from syncd.db.models import leases
from syncd.destinations.imap.claims import Claim, Claims, LooksFor
from syncd.engine.context import Slice
from syncd.engine.exit_codes import ExitCode
from syncd.services.wiring import open_ledger
from tests.e2e.test_imap_connections import Peers, Several, between, held
from tests.e2e.test_imap_migration import mail
from tests.fakes.imap import EXTENDED, FakeConnection, FakeImap
from tests.fakes.imap_words import Word
from tests.support.processes import wait_for

WAIT_S = 30.0  # only a test that fails waits so long
MESSAGES = 1_300  # four batches
Meanwhile = tuple[threading.Event, list[FakeConnection]]
MULTI = (*EXTENDED, "MULTIAPPEND")


@pytest.fixture
def peers() -> Iterator[Peers]:
    with FakeImap() as old, FakeImap() as new:
        new.inside = MULTI
        old.box("INBOX").add(*(mail(number % (MESSAGES // 2)) for number in range(MESSAGES)))
        yield old, new
        assert not new.violations


def meanwhile(monkeypatch: pytest.MonkeyPatch, server: FakeImap, act: Callable[[], None]) -> Meanwhile:
    """Refuse the first group; hold the answers to the others until a connection waits alone, and `act` is over.

    Returns what is set then, and the list of what the connection that waited sends after it.
    """
    append, make_alone, again = FakeConnection._append, Claims.make_alone, list[FakeConnection]()
    choosing, refused, sent, over = threading.Lock(), threading.Event(), threading.Event(), threading.Event()

    def answer(self: FakeConnection, arguments: list[Word]) -> bytes:
        if self._server is not server:
            return append(self, arguments)
        with choosing:
            first = not refused.is_set()
            refused.set()
        if first:
            assert sent.wait(WAIT_S), "no other connection sends"
            self.refused = True  # type: ignore[attr-defined]
            return self._no(b"sorry")
        if hasattr(self, "refused") and over.is_set():
            again.append(self)
        told = append(self, arguments)
        if not hasattr(self, "refused"):
            sent.set()
            assert over.wait(WAIT_S), "nobody waits to be alone"
        return told

    def waits(claims: Claims, claim: Claim, looks_for: LooksFor) -> None:
        def acts() -> None:
            wait_for(lambda: claim.waits)
            act()
            over.set()

        thread = None if over.is_set() else threading.Thread(target=acts)
        if thread is not None:
            thread.start()
        make_alone(claims, claim, looks_for)
        if thread is not None:
            thread.join(WAIT_S)

    monkeypatch.setattr(FakeConnection, "_append", answer)
    monkeypatch.setattr(Claims, "make_alone", waits)
    return over, again


def take_over(bench: Several) -> None:
    """Let another process have had all leases."""
    with open_ledger(bench.loaded()) as database, database.write() as connection:
        connection.execute(update(leases).values(generation=leases.c.generation + 1, holder=""))


def test_a_lease_that_is_lost_meanwhile(tmp_path: Path, peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection that waited sent its messages again, though another process had the account by then."""
    old, new = peers
    bench = between(tmp_path, peers, share=True)
    over, again = meanwhile(monkeypatch, new, lambda: take_over(bench))
    report = bench.go()
    assert over.is_set()
    assert report.exit_code is ExitCode.HELD
    assert not again
    monkeypatch.undo()
    report = bench.go()
    assert (report.exit_code, report.errors, report.uncertain) == (ExitCode.DONE, [], 0)
    assert held(new) == held(old)


def test_a_days_octets_that_are_used_up_meanwhile(
    tmp_path: Path, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = peers
    bench = between(tmp_path, peers, share=True)
    file = tmp_path / "syncd.toml"
    text = file.read_text()
    limited = text.replace("[accounts.new]\n", f"[accounts.new]\noctets_per_day = {{ up = {1_000 * len(mail(1))} }}\n")
    file.write_text(limited)
    over, again = meanwhile(monkeypatch, new, lambda: None)
    report = bench.run(slice=Slice.lasting(600))
    assert over.is_set()
    assert again
    assert (report.exit_code, report.errors, report.more, report.uncertain) == (ExitCode.DONE, [], True, 0)
    assert report.not_before is not None
    filled = len(new.box("INBOX").mail)
    assert report.delivered == {"new": filled}
    assert 800 < filled <= 1_000
    file.write_text(text)
    report = bench.go()
    assert (report.exit_code, report.errors, report.uncertain) == (ExitCode.DONE, [], 0)
    assert held(new) == held(old)
    assert len(set(bench.receipts())) == MESSAGES
