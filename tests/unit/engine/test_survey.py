"""Unique-ids that are used again or renamed, sizes that change: every message is fetched once and delivered once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.db.database import Database
from syncd.engine.events import RunReport
from syncd.engine.exit_codes import ExitCode
from tests.fakes.archive import MemoryArchive
from tests.fakes.relay import Relay
from tests.fakes.source import MemorySource
from tests.support.engine import Engine, mail

Make = Callable[..., Engine]


@pytest.fixture(params=[True, False], ids=["TOP", "no TOP"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Makes an engine of this mail, with an archive and a relay, at a server with TOP or without."""
    with Database.open(None, tmp_path) as database:

        def engine(mails: dict[bytes, bytes], **more: Any) -> Engine:
            source = MemorySource(dict(mails))
            source.tops = request.param
            return Engine(database, source, {"home": MemoryArchive(), "new": Relay()}, **more)

        yield engine


def source(engine: Engine) -> MemorySource:
    assert isinstance(engine.source, MemorySource)
    return engine.source


def letter(subject: str, octets: int) -> bytes:
    return f"From: a@example.net\r\nSubject: {subject}\r\n\r\n".encode().ljust(octets, b".")


def sent(engine: Engine) -> int:
    relay = engine.destinations["new"]
    assert isinstance(relay, Relay)
    return sum(relay.copies.values())


def quiet(engine: Engine) -> None:
    """Nothing more is fetched or delivered, however often it runs."""
    for _ in range(3):
        report: RunReport = engine.run()
        assert (report.exit_code, report.fetched, report.delivered) == (ExitCode.DONE, 0, {})


def test_p05_a_uid_used_for_another_message(make: Make):
    """Known by name, it was never fetched: lost without a word."""
    engine = make({b"1": letter("one", 100), b"2": letter("two", 100)})
    engine.run()
    source(engine).mail[b"1"] = letter("three", 200)
    report = engine.run()
    assert (report.exit_code, report.new, report.fetched) == (ExitCode.DONE, 1, 1)
    assert report.delivered == {"home": 1, "new": 1}
    assert sent(engine) == 3
    quiet(engine)


def test_p05_a_counter_that_begins_again(make: Make):
    """Twenty new messages, "0 new", exit 0."""
    engine = make({b"%d" % n: letter(f"old {n}", 100 + n) for n in range(1, 21)})
    engine.run()
    source(engine).mail.clear()
    for _ in range(2):
        engine.run()
    engine.ledger.mailboxes.thaw(engine.account.id)
    source(engine).mail.update({b"%d" % n: letter(f"new {n}", 200 + n) for n in range(1, 21)})
    report = engine.run()
    assert (report.new, report.fetched, sent(engine)) == (20, 20, 40)
    quiet(engine)


def test_p16_sizes_that_change_for_no_reason_deliver_nothing(make: Make):
    engine = make(mail(20))
    there = source(engine)
    engine.run()
    there.lies = {uid: len(data) + 2 for uid, data in there.mail.items()}
    report = engine.run()
    assert (report.exit_code, report.delivered, sent(engine)) == (ExitCode.DONE, {}, 20)
    assert report.fetched == (0 if there.tops else 20)
    assert engine.frozen() == {}
    asked = len(there.topped)
    there.lies = {}
    engine.run()
    quiet(engine)
    assert len(there.topped) == asked  # as they were received: nothing to ask, nothing to fetch
    assert sent(engine) == 20


def test_p06_f17_of_fifty_messages_one_keeps_its_name(make: Make):
    """The other 49 were sent again."""
    engine = make(mail(50))
    engine.run()
    there = source(engine)
    there.mail = {(uid if uid == b"uid007" else b"new" + uid): data for uid, data in there.mail.items()}
    report = engine.run()
    assert (report.fetched, report.recognised, report.delivered, sent(engine)) == (49, 49, {}, 50)
    quiet(engine)


def test_p05_a_uid_used_for_another_message_of_the_same_size(make: Make):
    """With TOP it is found out where an id was away in between, and then wherever; without, it is what it was."""
    engine = make({b"1": letter("one", 100), b"2": letter("two", 100)})
    engine.run()
    there = source(engine)
    there.mail[b"1"] = letter("six", 100)
    del there.mail[b"2"]
    engine.run()
    there.mail[b"2"] = letter("ten", 100)
    for _ in range(2):
        engine.run()
    assert sent(engine) == (4 if there.tops else 2)
    quiet(engine)
