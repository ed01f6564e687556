"""Fetching with sizes that are not as listed: what a message takes is what has come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from syncd.engine.budget import Budget
from syncd.engine.exit_codes import ExitCode
from syncd.mail.message import Message
from syncd.mail.outcome import Outcome
from tests.fakes.archive import MemoryArchive
from tests.fakes.source import MemorySource
from tests.support.engine import Engine, Make, mail, source

KIB = 1 << 10
LETTERS = {uid: data + b"x" * (100 * KIB) for uid, data in mail(30).items()}


class Watched(MemoryArchive):
    """Notes how much of each batch is in memory, and the room that is left then."""

    def __init__(self, budget: Budget) -> None:
        super().__init__()
        self.budget = budget
        self.in_memory: list[int] = []
        self.free: list[int] = []

    def deliver(self, batch: Sequence[Message], upcoming: Sequence[Message] = ()) -> Iterator[Sequence[Outcome]]:
        self.in_memory.append(sum(message.body.octets for message in batch if message.body.data is not None))
        self.free.append(self.budget.free)
        yield from super().deliver(batch, upcoming)


def bench(make: Make, octets: int, spool: Path, listed: int) -> tuple[Engine, Watched]:
    """An engine with such a budget, and a server that lists each message with so many octets."""
    budget = Budget(octets)
    home = Watched(budget)
    engine = make(0, {"home": home}, budget=budget)
    engine.source = MemorySource(dict(LETTERS), spool=spool)
    source(engine).lies = dict.fromkeys(LETTERS, listed)
    return engine, home


@pytest.mark.parametrize("octets", [600 * KIB, 9000 * KIB], ids=["scarce", "plenty"])
def test_messages_longer_than_listed_stay_within_the_budget(make: Make, tmp_path: Path, octets: int):
    """Each was counted as listed, and a server that lists one octet filled the memory."""
    engine, home = bench(make, octets, tmp_path, listed=1)
    report = engine.run()
    assert (report.exit_code, report.fetched, home.copies) == (ExitCode.DONE, 30, 30)
    assert max(home.in_memory) <= octets
    assert min(home.free) >= -engine.budget.growth
    assert engine.budget.free == octets


def test_where_there_is_room_they_stay_in_memory(make: Make, tmp_path: Path):
    engine, home = bench(make, 9000 * KIB, tmp_path, listed=1)
    engine.run()
    assert sum(home.in_memory) == sum(map(len, LETTERS.values()))


def test_messages_shorter_than_listed_keep_no_room(make: Make, tmp_path: Path):
    """A third of the budget each: they came one by one."""
    engine, home = bench(make, 3000 * KIB, tmp_path, listed=900 * KIB)
    assert engine.run().exit_code is ExitCode.DONE
    assert max(home.batches) > 1
    assert engine.budget.free == 3000 * KIB
