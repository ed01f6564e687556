"""Random histories of a job whose destination cannot be asked: servers that fail in every way, crashes at any step."""

from __future__ import annotations

import itertools
import threading
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncd import clock, durable
from syncd.db.database import Database
from syncd.destinations.base import Destination
from syncd.durable import Moment, Step
from tests.fakes.archive import MemoryArchive
from tests.fakes.relay import Relay
from tests.fakes.source import MemorySource
from tests.support.engine import Engine, mail
from tests.support.ledger import START

ANSWERS = st.sampled_from(
    [*["accept"] * 6, "defer", "reject", "large", "lost", "lost-early", "cut", "silent", "throttle"]
)
RUNS = st.lists(st.tuples(st.lists(ANSWERS, max_size=12), st.integers(0, 40), st.integers(0, 3)), max_size=5)
MESSAGES = 7
_serial = itertools.count(1)


class Crash(BaseException):
    """The process ends here."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ledgers")


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(runs=RUNS, window=st.integers(1, 4), archived=st.booleans(), hold=st.booleans())
def test_copies_are_bounded_and_nothing_is_lost(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    runs: list[tuple[list[str], int, int]],
    window: int,
    archived: bool,
    hold: bool,
) -> None:
    now = [START]
    monkeypatch.setattr(clock, "now", lambda: now[0])
    relay, archive, source = Relay(window=window), MemoryArchive(), MemorySource(mail(MESSAGES))
    destinations: dict[str, Destination] = {"home": archive, "new": relay} if archived else {"new": relay}
    with Database.open(None, folder / str(next(_serial))) as database:
        engine = Engine(database, source, destinations, frozenset({"new"} if hold else ()), brake=False)
        for script, stop, days in runs:
            relay.script.clear()
            relay.script.extend(script)
            broken_off(engine, stop)
            check(engine, relay)
            now[0] += timedelta(days=days)
        relay.script.clear()
        finish(engine, now)
        check(engine, relay)
        assert set(engine.states("new")) == {"DELIVERED"}
        assert set(relay.copies) == set(mail(MESSAGES))


def broken_off(engine: Engine, stop: int) -> None:
    """A run that ends at its durable step number `stop`; with `stop=0` it goes through."""
    seen = itertools.count(1)

    def observe(_step: Step, _moment: Moment) -> None:
        if threading.current_thread().name == "syncd-leases":
            return  # it renews by the real clock: on a slow machine, in the middle of a run
        if stop and next(seen) >= stop:
            raise Crash

    durable.observer = observe
    try:
        engine.run()
    except Crash:
        pass
    finally:
        durable.observer = None


def check(engine: Engine, relay: Relay) -> None:
    """INV4, and that nothing counts as delivered which is not there. What is `sending` will be recorded."""
    uncertain, states = engine.uncertain("new"), engine.states("new")
    sending = set(states.get("SENDING", ()))
    for uid, copies in relay.copies.items():
        assert copies <= 1 + uncertain[uid] + (uid in sending), uid
    assert set(states.get("DELIVERED", ())) <= set(relay.copies)


def finish(engine: Engine, now: list[datetime]) -> None:
    """Time passes, and a person has everything tried again that waits for one."""
    for _ in range(3):
        now[0] += timedelta(days=3)
        engine.run()
        engine.ledger.decisions.retry([(row.key, row.route_id) for row in engine.ledger.problems(engine.row.id)])
        engine.ledger.decisions.resume(engine.row.id)
    engine.run()
