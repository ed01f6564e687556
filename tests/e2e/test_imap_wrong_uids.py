"""A server names UIDs that cannot be those of what it took: nothing is lost or doubled, and no UID is a receipt twice.

The messages are equal to one another and to mail that is there already, so that each copy could be taken for another.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd.engine.exit_codes import ExitCode
from tests.e2e.test_imap_connections import Peers, Several
from tests.e2e.test_imap_migration import mail
from tests.fakes.imap import EXTENDED, USERNAME, FakeConnection, FakeImap
from tests.fakes.imap_words import Word

MULTI = (*EXTENDED, "MULTIAPPEND")
MESSAGES, DIFFERENT, BEFORE = 700, 5, 150
Lie = Callable[[int, int], bytes]  # the first UID and how many → what APPENDUID says

LIES: dict[str, Lie] = {
    "below UIDNEXT": lambda _, count: b"1 1:%d" % count if count > 1 else b"1 1",
    "others' receipts": lambda _, count: b"1 %d:%d" % (BEFORE + 1, BEFORE + count) if count > 1 else b"1 151",
    "partly others' receipts": lambda first, count: b"1 %d:%d" % (first - 1, first + count - 2),
    "far above UIDNEXT": lambda first, count: b"1 %d:%d" % (first + 1_000_000, first + 999_999 + count),
    "fewer": lambda first, count: b"1 %d:%d" % (first, first + count - 2) if count > 2 else b"1 %d" % first,
    "more": lambda first, count: b"1 %d:%d" % (first, first + count),
    "one twice": lambda first, count: b"1 %b" % b",".join([b"%d" % first] * count),
    "another UIDVALIDITY": lambda first, count: b"7 %d:%d" % (first, first + count - 1),
}


@pytest.fixture
def peers() -> Iterator[Peers]:
    with FakeImap() as old, FakeImap() as new:
        new.inside = MULTI
        old.box("INBOX").add(*(mail(number % DIFFERENT) for number in range(MESSAGES)))
        new.box("INBOX").add(*(mail(number % DIFFERENT) for number in range(BEFORE)))
        yield old, new
        assert not new.violations


def tells(monkeypatch: pytest.MonkeyPatch, server: FakeImap, lie: Lie, every: int) -> None:
    """Let every so manieth answer to APPEND lie."""
    append, number = FakeConnection._append, itertools.count(1)

    def told(self: FakeConnection, arguments: list[Word]) -> bytes:
        answer = append(self, arguments)
        if self._server is not server or b"APPENDUID" not in answer or next(number) % every:
            return answer
        uids = answer.partition(b"APPENDUID 1 ")[2].partition(b"]")[0]
        first, _, last = uids.partition(b":")
        count = int(last or first) - int(first) + 1
        return self._ok(b"[APPENDUID %b] kept" % lie(int(first), count))

    monkeypatch.setattr(FakeConnection, "_append", told)


def in_order(bench: Several, new: FakeImap, expected: int) -> None:
    """See that there are as many copies as deliveries, and that no UID is the receipt of two."""
    receipts = Counter(it for it in bench.receipts() if it)
    assert set(receipts.values()) <= {1}
    assert len(new.box("INBOX").mail) == BEFORE + expected
    below = [it for it in receipts if int(it.partition(":")[2].partition(" ")[0]) <= BEFORE]
    assert not below, "mail that was there before is nobody's"


@pytest.mark.parametrize(("inside", "connections", "every"), [(EXTENDED, 1, 3), (MULTI, 3, 2)], ids=["one", "three"])
@pytest.mark.parametrize("lie", LIES)
def test_uids_that_cannot_be_right_are_no_receipts(  # noqa: PLR0917  a table
    lie: str,
    inside: tuple[str, ...],
    connections: int,
    every: int,
    tmp_path: Path,
    peers: Peers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    misled(lie, inside, connections, every, tmp_path, peers, monkeypatch)


@pytest.mark.soak
@pytest.mark.parametrize("every", [1, 2, 3, 5])
@pytest.mark.parametrize("connections", [1, 2, 3])
@pytest.mark.parametrize("inside", [EXTENDED, MULTI], ids=["one by one", "MULTIAPPEND"])
@pytest.mark.parametrize("lie", LIES)
def test_uids_that_cannot_be_right_are_no_receipts_in_all_ways(  # noqa: PLR0917  a table
    lie: str,
    inside: tuple[str, ...],
    connections: int,
    every: int,
    tmp_path: Path,
    peers: Peers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    misled(lie, inside, connections, every, tmp_path, peers, monkeypatch)


def misled(  # noqa: PLR0917  a table
    lie: str,
    inside: tuple[str, ...],
    connections: int,
    every: int,
    tmp_path: Path,
    peers: Peers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Migrate while the server lies, then once more with sessions that are lost."""
    old, new = peers
    new.inside = inside
    tells(monkeypatch, new, LIES[lie], every)
    logins = [(peer.host, peer.port, USERNAME) for peer in peers]
    bench = Several(tmp_path, logins[0], logins[1], connections, share=connections > 1)
    report = bench.go()
    assert (report.exit_code, report.errors, report.uncertain) == (ExitCode.DONE, [], 0)
    assert report.delivered == {"new": MESSAGES}
    in_order(bench, new, MESSAGES)
    assert bench.go().delivered == {}
    old.box("INBOX").add(*(mail(number % DIFFERENT) for number in range(MESSAGES)))
    lost = iter([True, False, True])

    def lose(_: list[Word]) -> bytes | None:
        return b"* BYE lost before it is stored\r\n" if next(lost, False) else None

    new.on["APPEND"] = lose
    for _ in range(2):
        report = bench.go()
    assert (report.exit_code, report.errors, report.uncertain) == (ExitCode.DONE, [], 0)
    in_order(bench, new, 2 * MESSAGES)
