"""An exception that nobody expects, raised at any seam of a run: it ends this run alone, and leaves nothing behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from syncd.db.ledger import Ledger, ListingSession
from syncd.engine.events import Committed, Event, Noted, PhaseBegan, Planned, RunStarted, SignedIn
from syncd.engine.exit_codes import ExitCode
from syncd.mail.body import Body, BodyWriter, Spool
from tests.fakes.archive import MemoryArchive
from tests.fakes.relay import Relay
from tests.fakes.source import MemoryMailbox, MemorySession, MemorySource
from tests.support.engine import Engine, Make, mail, source

COUNT = 6


class Bug(Exception):
    """Not one of ours."""


def raises(*_: object, **__: object) -> None:
    raise Bug("nobody expects it")


def raises_later(plain: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """The same iterator, which fails after two items."""

    def items(*arguments: object, **more: object) -> Iterator[Any]:
        yield from islice(plain(*arguments, **more), 2)
        raise Bug("nobody expects it")

    return items


class Spooling(MemorySource):
    """Has every body in a file, and knows all of them."""

    def __init__(self, spool: Path) -> None:
        super().__init__(mail(COUNT))
        self.bodies: list[Body] = []
        self._place = Spool(spool)

    def body(self, octets: bytes, growth: object) -> Body:  # noqa: ARG002
        writer = BodyWriter(self._place, lambda _: False)
        writer.write(octets)
        self.bodies.append(writer.finish())
        return self.bodies[-1]


AT_ONCE = [
    (MemorySource, "connect"),
    (MemorySession, "mailboxes"),
    (MemorySession, "open"),
    (MemorySession, "finish"),
    (MemorySession, "close"),
    (MemoryMailbox, "list"),
    (MemoryMailbox, "totals"),
    (MemoryMailbox, "fetch"),
    (MemoryArchive, "open"),
    (MemoryArchive, "deliver"),
    (Relay, "open"),
    (Relay, "deliver"),
    (Ledger, "commit"),
    (Ledger, "rebind"),
    (Ledger, "accounting"),
    (Ledger, "backfill"),
    (ListingSession, "add"),
    (ListingSession, "record"),
    (ListingSession, "work"),
    (ListingSession, "outlook"),
    (threading.Thread, "start"),
]
LATER = [(MemoryMailbox, "fetch"), (MemoryArchive, "deliver"), (Relay, "deliver")]
SEAMS = [
    *(pytest.param(owner, name, False, id=f"{owner.__name__}.{name}") for owner, name in AT_ONCE),
    *(pytest.param(owner, name, True, id=f"{owner.__name__}.{name} later") for owner, name in LATER),
]


@pytest.fixture
def engine(make: Make, tmp_path: Path) -> Engine:
    made = make(0, {"home": MemoryArchive(), "new": Relay()})
    made.source = Spooling(tmp_path / "spool")
    return made


def breaks_off(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends with the exception; afterwards the seams are whole again."""
    run = engine.prepare()
    context = run._context
    with pytest.raises(Bug):
        run.execute()
    monkeypatch.undo()
    assert (engine.budget.free, engine.budget.reserved) == (engine.budget.total, 0)
    assert not engine.budget.waiting
    assert all(route.lock.acquire(blocking=False) for route in context.job.routes)
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("reader")] == []


def is_whole(engine: Engine) -> None:
    """The next run does what is left, and nothing twice but what was recorded as uncertain."""
    report = engine.run()
    assert report.exit_code in {ExitCode.DONE, ExitCode.TEMPORARY}, report.errors
    assert engine.run().exit_code is ExitCode.DONE
    assert engine.states("home") == {"DELIVERED": list(mail(COUNT))}
    relay = engine.destinations["new"]
    assert isinstance(relay, Relay)
    assert set(relay.copies) == set(mail(COUNT))
    assert all(relay.copies[uid] <= 1 + engine.uncertain("new")[uid] for uid in mail(COUNT))


def open_bodies(engine: Engine) -> int:
    there = source(engine)
    assert isinstance(there, Spooling)
    return sum(body._file is not None for body in there.bodies)


@pytest.mark.parametrize(("owner", "name", "later"), SEAMS)
def test_it_leaves_nothing_behind(
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    name: str,
    later: bool,  # noqa: FBT001
):
    monkeypatch.setattr(owner, name, raises_later(getattr(owner, name)) if later else raises)
    breaks_off(engine, monkeypatch)
    assert open_bodies(engine) == 0
    is_whole(engine)


@pytest.mark.parametrize("kind", [RunStarted, PhaseBegan, SignedIn, Planned, Committed])
def test_a_listener_that_fails_is_no_different(engine: Engine, monkeypatch: pytest.MonkeyPatch, kind: type[Event]):
    heard = engine.events

    class Listening(list[Event]):
        def append(self, event: Event) -> None:
            if isinstance(event, kind):
                raise Bug("nobody expects it")

    engine.events = Listening()
    breaks_off(engine, monkeypatch)
    engine.events = heard
    assert open_bodies(engine) == 0
    is_whole(engine)


def test_the_session_is_closed(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Ledger, "commit", raises)
    breaks_off(engine, monkeypatch)
    assert [session.ended for session in source(engine).sessions] == ["closed"]
    assert not [event for event in engine.events if isinstance(event, Noted)]
