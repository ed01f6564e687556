"""What the contract suite of sources works with: a kit for each kind, and short ways through a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from syncd.sources.base import Fetched, Room, Source, SourceSession
from tests.contract.destination_kit import octets
from tests.contract.pop3_kit import Plenty, listed, wanted

HEAD = b"Subject: test\r\nFrom: a@example.net\r\n\r\n"


@dataclass(frozen=True)
class Kit:
    """One kind of source, with mail in it that a test puts there."""

    source: Callable[[Path], Source]  # large messages go to that folder
    add: Callable[[Sequence[bytes]], None]  # more mail arrives
    spoil: Callable[[bytes], None]  # the message with these octets, one of `add`'s, can no longer be had
    given: Callable[[bytes], bytes] = lambda octets: octets  # what the source gives of a message
    removes: bool = False


def some(number: int, start: int = 1) -> list[bytes]:
    """Messages that differ, also in their octets."""
    return [HEAD + b"message %d\r\n" % key + b"x\r\n" * key for key in range(start, start + number)]


@contextmanager
def opened(source: Source) -> Iterator[SourceSession]:
    session = source.connect()
    try:
        yield session
    finally:
        session.close()


def fetched(session: SourceSession, room: Room | None = None) -> dict[int, bytes | Fetched]:
    """Everything that is listed, by its number: octets, or the answer where there are none."""
    got: dict[int, bytes | Fetched] = {}
    for answer in session.fetch(wanted(listed(session)), room or Plenty()):
        assert answer is not None
        assert answer.key not in got
        got[answer.key] = answer if answer.body is None else octets(answer.body)
    return got
