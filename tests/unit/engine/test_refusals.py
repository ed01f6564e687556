"""A source that refuses message after message alike: no message is to blame, and other messages get their turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta

import pytest

from syncd import clock
from syncd.engine.exit_codes import ExitCode
from syncd.errors import Throttled
from syncd.mail.listing import Fetched, Wanted
from syncd.sources.base import Room
from tests.fakes.archive import MemoryArchive
from tests.fakes.source import MemoryMailbox
from tests.support.engine import Engine, Make, mail, source
from tests.unit.engine.conftest import Time

UIDS = list(mail(9))


class Refusing:
    """Ends a session of mailboxes in memory at a uid of `refused`, as an adapter does after some refusals."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refused: Iterable[bytes]) -> None:
        self.refused = set(refused)
        self.asked: list[bytes] = []
        plain = MemoryMailbox.fetch

        def fetch(
            box: MemoryMailbox, wanted: Iterable[Wanted], room: Room, *, alone: bool = False
        ) -> Iterator[Fetched | None]:
            yield from plain(box, self._until_refused(wanted), room, alone=alone)

        monkeypatch.setattr(MemoryMailbox, "fetch", fetch)

    def _until_refused(self, wanted: Iterable[Wanted]) -> Iterator[Wanted]:
        for one in wanted:
            self.asked.append(one.uid)
            if one.uid in self.refused:
                until = clock.now() + timedelta(hours=6)
                raise Throttled("-ERR quota", until=until, messages=(int(one.key),))
            yield one

    def take(self) -> list[bytes]:
        """The uids asked for since the last time."""
        asked, self.asked = self.asked, []
        return asked


@pytest.fixture
def engine(make: Make) -> Engine:
    return make(9, {"home": MemoryArchive()})


def test_no_message_is_noted_and_what_came_stays(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    Refusing(monkeypatch, UIDS[4:])
    report = engine.run()
    assert (report.exit_code, report.fetched, list(engine.ledger.problems())) == (ExitCode.TEMPORARY, 4, [])
    assert report.errors == ["-ERR quota; the next run asks again"]


def test_a_quota_that_is_full_no_more_lets_the_next_run_fetch_the_rest(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    there = Refusing(monkeypatch, UIDS[4:])
    engine.run()
    there.refused.clear()
    report = engine.run()
    assert (report.exit_code, report.fetched) == (ExitCode.DONE, 5)


def test_after_two_sessions_without_a_message_the_next_begins_behind(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    there = Refusing(monkeypatch, UIDS[:2])
    engine.run()
    engine.run()
    assert there.take() == [UIDS[0]] * 2
    report = engine.run()
    assert there.take() == [*reversed(UIDS[2:]), UIDS[1]]
    assert (report.exit_code, report.fetched) == (ExitCode.TEMPORARY, 7)
    there.refused.clear()
    assert engine.run().exit_code is ExitCode.DONE
    assert there.take() == UIDS[:2], "messages came since, so this was the first refusal again"


def test_where_that_does_not_help_the_account_rests(engine: Engine, monkeypatch: pytest.MonkeyPatch, at: Time):
    there = Refusing(monkeypatch, UIDS)
    for _ in range(3):
        engine.run()
    there.take()
    connects = source(engine).connects
    report = engine.run()
    assert (report.exit_code, source(engine).connects, there.take()) == (ExitCode.TEMPORARY, connects, [])
    assert "suspended until" in report.errors[0]
    at(hours=6)
    there.refused.clear()
    assert engine.run().exit_code is ExitCode.DONE
    assert sorted(engine.states("home")["DELIVERED"]) == UIDS
