"""Sessions that break off: how many follow, and which mailboxes are left for the next run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from syncd.engine.exit_codes import ExitCode
from syncd.engine.losses import MOST, MOST_AT_ONE, Losses
from syncd.errors import ConnectionLost, LostStep, MessageLost, NoHeaders, SessionLost
from syncd.mail.listing import Fetched, Wanted
from syncd.mail.mailbox import Mailbox
from syncd.sources.base import Room
from tests.fakes.archive import MemoryArchive
from tests.fakes.source import MemoryMailbox
from tests.support.engine import Engine, Make, source

SENT = Mailbox(b"Sent", ("Sent",))
LATER = Mailbox(b"Zuletzt", ("Zuletzt",))
LOST = SessionLost("the server closed the connection")


def letters(name: str, count: int) -> dict[bytes, bytes]:
    return {b"%d" % n: f"Subject: {name} {n}\r\n\r\ntext\r\n".encode() for n in range(1, count + 1)}


def test_one_more_session_where_the_source_says_that_it_helps() -> None:
    losses = Losses()
    assert not losses.may_go_on(ConnectionLost("gone"))
    assert losses.may_go_on(LostStep("mixed up"))
    assert not losses.may_go_on(NoHeaders("broke off"))


def test_a_lost_session_may_be_followed_by_several_but_not_at_one_mailbox() -> None:
    losses = Losses(at=b"INBOX")
    for _ in range(MOST_AT_ONE):
        assert not losses.gives_up(b"INBOX")
        assert losses.may_go_on(LOST)
    assert losses.gives_up(b"INBOX")
    losses.at = b"Sent"
    assert [losses.may_go_on(LOST) for _ in range(MOST - MOST_AT_ONE)] == [True] * (MOST - MOST_AT_ONE)
    assert not losses.may_go_on(LOST)


@pytest.fixture
def engine(make: Make) -> Engine:
    made = make(3, {"home": MemoryArchive()})
    source(made).others = {SENT: letters("sent", 4), LATER: letters("later", 2)}
    return made


def breaking_at(monkeypatch: pytest.MonkeyPatch, poison: set[bytes], *, mailbox: Mailbox = SENT) -> None:
    """Sessions break off at these uids of a mailbox, as IMAP's do."""
    real = MemoryMailbox.fetch

    def fetch(
        self: MemoryMailbox, wanted: Iterable[Wanted], room: Room, *, alone: bool = False
    ) -> Iterator[Fetched | None]:
        for one in wanted:
            if self.mailbox.name == mailbox.name and one.uid in poison:
                yield Fetched(one.key, None, MessageLost(f"message {one.uid.decode()} was not taken"))
                raise SessionLost("the server closed the connection")
            yield from real(self, [one], room, alone=alone)

    monkeypatch.setattr(MemoryMailbox, "fetch", fetch)


def test_messages_that_end_the_session_are_set_aside_and_all_others_come(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking_at(monkeypatch, {b"2", b"3"})
    report = engine.run()
    assert report.exit_code is ExitCode.TEMPORARY
    assert report.waiting_time == 2
    assert len(engine.states("home")["DELIVERED"]) == 3 + 2 + 2
    assert source(engine).connects == 1 + 4  # each of the two costs two sessions
    breaking_at(monkeypatch, set())
    engine.run()
    assert engine.states("home")["DELIVERED"] is not None


def test_a_mailbox_that_costs_too_many_sessions_is_left_and_the_next_one_follows(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    source(engine).others[SENT] = letters("sent", 40)
    breaking_at(monkeypatch, {b"%d" % n for n in range(1, 40)})
    report = engine.run()
    assert report.exit_code is ExitCode.TEMPORARY
    assert any("Sent: session after session broke off here" in note for note in engine.notes())
    assert source(engine).connects == 1 + MOST_AT_ONE
    delivered = engine.states("home")["DELIVERED"]
    assert len(delivered) == 3 + 2


def test_a_mailbox_that_cannot_even_be_opened_does_not_keep_others_from_being_read(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    source(engine).closed[SENT.name] = LOST
    assert engine.run().exit_code is ExitCode.TEMPORARY
    assert len(engine.states("home")["DELIVERED"]) == 3 + 2
