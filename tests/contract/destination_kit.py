"""What the contract suite of archives works with: a kit for each kind, messages, crashes, failing disks.

A crash is an observer of durable steps that raises from a chosen step on: the same instance can do nothing durable
any more, as if it had been killed there.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from uuid import UUID, uuid4

from syncd import durable
from syncd.destinations.base import Archive
from syncd.durable import Moment, Step
from syncd.errors import DiskFull, StorageError
from syncd.mail.body import Body
from syncd.mail.mailbox import INBOX, Epoch
from syncd.mail.message import Key, Message, MessageRef, Origin, Receipt, Uid
from syncd.mail.outcome import Outcome, Verdict

ROAD = Origin(UUID(int=1), "road", INBOX, Epoch(1))
SENT = Origin(UUID(int=1), "road", b"Sent/2019 \xff", Epoch(7), ("Sent", "2019 \udcff"), "\\Sent", subscribed=False)
OTHER = Origin(UUID(int=2), "other", INBOX, Epoch(1))

CRLF_MAIL = b"Subject: one\r\n\r\nFrom here on\r\n>From there\r\n"
MAIL = (
    CRLF_MAIL,
    b"",
    b"\r\n",
    b"From the first octet\n",
    b"no line end",
    b"bare\rCR\r\n",
    b"bare\nLF\r\n",
    b"unix\nlines\n",
    b"\r\n\r",
    b"\n\r",
    b"NUL \x00 and \xff\xfe\r\n.\r\n..\r\n",
    b"x" * 100_000 + b"\r\n",
)


@dataclass(frozen=True)
class Kit:
    """One kind of archive."""

    archive: Callable[[Path], Archive]  # not opened
    copies: Callable[[Path], int]  # how many messages it holds, counted without its own index
    gives_places: bool = True
    keeps_offsets: bool = True  # of dates
    shares_octets: bool = False  # equal octets are kept once

    def create(self, path: Path) -> UUID:
        uuid = uuid4()
        self.archive(path).create(uuid)
        return uuid

    @contextmanager
    def opened(self, path: Path) -> Iterator[Archive]:
        archive = self.archive(path)
        archive.open()
        try:
            yield archive
        finally:
            archive.close()


def message(key: int, data: bytes, origin: Origin = ROAD, flags: tuple[str, ...] = (), uid: bytes = b"") -> Message:
    ref = MessageRef(origin, Uid(uid or b"uid-%d" % key), 1)
    return Message(Key(key), ref, Body.of(data), flags, path=origin.path)


def batch(origin: Origin = ROAD) -> list[Message]:
    flags = [(), ("\\Seen",), ("\\Flagged", "\\Answered", "$Junk")]
    return [message(key, data, origin, flags[key % 3]) for key, data in enumerate(MAIL)]


def outcomes_of(archive: Archive, messages: Sequence[Message]) -> list[Outcome]:
    """The outcomes of all groups, in their order."""
    return list(chain.from_iterable(archive.deliver(messages)))


def delivered(archive: Archive, messages: Sequence[Message]) -> dict[Key, Receipt]:
    """Deliver; all must be delivered, with one outcome each."""
    outcomes = outcomes_of(archive, messages)
    assert Counter(outcome.key for outcome in outcomes) == Counter(m.key for m in messages)
    assert [o for o in outcomes if o.verdict is not Verdict.DELIVERED or o.reason] == []
    return {outcome.key: outcome.receipt for outcome in outcomes if outcome.receipt}


def octets(body: Body) -> bytes:
    try:
        return b"".join(body.chunks())
    finally:
        body.close()


def check(archive: Archive, receipts: dict[Key, Receipt], messages: Sequence[Message]) -> None:
    """Every message comes back byte for byte by its receipt."""
    for m in messages:
        body = archive.read(receipts[m.key]).body
        assert (body.sha256, body.octets, body.header_hash) == (m.body.sha256, m.body.octets, m.body.header_hash)
        assert octets(body) == octets(m.body)


class Crash(BaseException):
    """The process ends here."""


@contextmanager
def watching(see: Callable[[int, Step, Moment], None]) -> Iterator[None]:
    """Call `see` with a running number at each durable step."""
    lock, seen = threading.Lock(), 0

    def observe(step: Step, moment: Moment) -> None:
        nonlocal seen
        with lock:
            seen += 1
            number = seen
        see(number, step, moment)

    durable.observer = observe
    try:
        yield
    finally:
        durable.observer = None


def count_steps(act: Callable[[], object]) -> int:
    last = [0]

    def see(number: int, _step: Step, _moment: Moment) -> None:
        last[0] = max(last[0], number)

    with watching(see):
        act()
    return last[0]


@contextmanager
def failing_as(code: int) -> Iterator[None]:
    """A full disk is named as such, any other failure is not."""
    try:
        yield
    except DiskFull:
        assert code == errno.ENOSPC
        raise
    except StorageError:
        assert code != errno.ENOSPC
        raise


@contextmanager
def powerless(folder: Path) -> Iterator[None]:
    """Take away the right to write in a folder (from root as well, by being somebody else)."""
    directories = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    files = [path for path in folder.rglob("*") if path.is_file()]
    root = os.geteuid() == 0
    if root:
        for path in directories + files:
            os.chown(path, 65534, 65534)
    for path in directories + files:
        path.chmod(0o500 if path in directories else 0o400)
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for path in directories + files:
            path.chmod(0o700 if path in directories else 0o600)
