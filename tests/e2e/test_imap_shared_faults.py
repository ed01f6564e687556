"""Faults of all kinds, at random, while several connections and jobs fill one IMAP mailbox with equal messages.

A scripted server loses sessions before and after it has stored, says no although it has stored, hides UIDs, and names
those of other messages.
Afterwards it has as many messages as the ledger says were delivered, and each of them is the receipt of one.
"""

from __future__ import annotations

import random
import re
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import func, select

from syncd.db.models import deliveries
from syncd.db.states import DeliveryState
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions
from syncd.services.wiring import open_ledger
from tests.e2e.test_imap_connections import Several
from tests.e2e.test_imap_migration import mail
from tests.fakes.imap import EXTENDED, USERNAME, FakeConnection, FakeImap
from tests.fakes.imap_words import Word

MULTI = (*EXTENDED, "MULTIAPPEND")
MESSAGES = 1_500
RUNS, IN_TROUBLE = 5, 3  # the last two find an honest server
SEEDS, SEEDS_SOAK = 4, 100
_UIDS = re.compile(rb"APPENDUID 1 (\d+)(?::(\d+))?")
Append = Callable[[FakeConnection, list[Word]], bytes]


class Trouble:
    """What goes wrong with each APPEND, by chance."""

    def __init__(self, chance: random.Random, server: FakeImap) -> None:
        scale = 1.0 if server.inside == MULTI else 0.05  # a command is a hundred messages, or one
        shares = {fault: scale * chance.choice([0.0, 0.03, 0.08]) for fault in ("lose", "drop", "deny", "refuse")}
        self.shares = {**shares, "hide": chance.choice([0.0, 0.0, 0.3]), "mislead": chance.choice([0.0, 0.0, 0.02])}
        self._chance = chance
        self._server = server
        self._choosing = threading.Lock()

    def over(self, append: Append) -> Append:
        def troubled(connection: FakeConnection, arguments: list[Word]) -> bytes:
            if connection._server is not self._server:
                return append(connection, arguments)
            match self._fault():
                case "drop":
                    raise ConnectionError("lost before it is stored")
                case "refuse":
                    return connection._no(b"sorry")
                case "lose":
                    append(connection, arguments)
                    raise ConnectionError("lost after it is stored")
                case "deny":
                    append(connection, arguments)
                    return connection._no(b"sorry")
                case "hide":
                    return (
                        connection._ok(b"kept") if b" OK " in append(connection, arguments) else connection._no(b"no")
                    )
                case "mislead":
                    answer = append(connection, arguments)
                    uids = _UIDS.search(answer)
                    if uids is None:
                        return answer
                    first, last = int(uids[1]), int(uids[2] or uids[1])
                    shift = self._chance.randint(0, first - 1)
                    return connection._ok(b"[APPENDUID 1 %d:%d] kept" % (first - shift, last - shift))
            return append(connection, arguments)

        return troubled

    def _fault(self) -> str:
        with self._choosing:
            return next((fault for fault, share in self.shares.items() if self._chance.random() < share), "")


@pytest.mark.parametrize("seed", range(SEEDS))
def test_copies_are_as_many_as_deliveries(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_in_trouble(random.Random(seed), tmp_path, monkeypatch)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(SEEDS, SEEDS_SOAK))
def test_copies_are_as_many_as_deliveries_with_many_seeds(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_in_trouble(random.Random(seed), tmp_path, monkeypatch)


def fill_in_trouble(chance: random.Random, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = ["move", "also"][: chance.choice([1, 2])]
    with FakeImap() as old, FakeImap() as other, FakeImap() as new:
        new.inside = chance.choice([EXTENDED, MULTI])
        new.backwards = chance.random() < 0.5
        different = chance.choice([3, 10, 200])
        for server in (old, other):
            server.box("INBOX").add(*(mail(number % different) for number in range(MESSAGES)))
        trouble = Trouble(chance, new)
        monkeypatch.setattr(FakeConnection, "_append", trouble.over(FakeConnection._append))
        bench = Several(tmp_path, (old.host, old.port, USERNAME), (new.host, new.port, USERNAME), 3, share=True)
        add_job(tmp_path / "syncd.toml", old.port, other.port)
        for number in range(RUNS):
            if number == IN_TROUBLE:
                trouble.shares.clear()
            RunsByHand(bench.loaded(), jobs, RunOptions(parallel=len(jobs)), lambda _: None).execute()
        with open_ledger(bench.loaded()) as database, database.read() as connection:
            delivered = deliveries.c.state == DeliveryState.DELIVERED
            count = connection.execute(select(func.count()).select_from(deliveries).where(delivered)).scalar_one()
            receipts = Counter(connection.execute(select(deliveries.c.receipt).where(delivered)).scalars())
        assert len(new.box("INBOX").mail) == count
        assert set(receipts.values()) <= {1}


def add_job(file: Path, port: int, other: int) -> None:
    """One more job into the same mailbox, from an account like the first one."""
    text = file.read_text()
    account = text[text.index("[accounts.old]") : text.index("[accounts.new]")]
    account = account.replace("[accounts.old]", "[accounts.other]").replace(f"port = {port}", f"port = {other}")
    file.write_text(f'{text}{account}[jobs.also]\nsource = "other"\ndestinations = ["new"]\n')
