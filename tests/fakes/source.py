"""A source in memory that keeps the contract of sources, and counts what is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path

from syncd.errors import Cancelled, MailboxRefused, MessageRefused, SyncdError
from syncd.mail.body import HEADER_CAP_OCTETS, Body, BodyWriter
from syncd.mail.listing import Facts, Fetched, LineNumber, Listed, Removed, Totals, Wanted
from syncd.mail.mailbox import MAILDROP, Mailbox
from syncd.mail.message import Key, Uid
from syncd.sources.base import Room, SourceInfo
from syncd.sources.growth import Growth

CHUNK = 1_000  # mailboxes or lines
Mail = dict[bytes, bytes]  # uid → octets, in the order of the listing


class MemorySource:
    """`mail` is what its first mailbox has, `others` the mailboxes behind it; a test may change both at any time.

    `failure` is raised by the next `connect`. `tops` tells whether it gives headers alone, `lies` is uid → octets as
    listed where they are others. With `backwards=True` messages are fetched from the last to the first.
    """

    def __init__(self, mail: Mail, *, spool: Path | None = None, stops: bool = False) -> None:
        """With `stops=False` a cancel is only noted: the engine's tests go on with the same source."""
        self.mail = mail
        self.mailbox = MAILDROP  # the first one
        self.others: dict[Mailbox, Mail] = {}
        self.connections = 1
        self.tops = False
        self.backwards = False
        self.lies: dict[bytes, int] = {}
        self.facts: dict[bytes, tuple[tuple[str, ...], datetime | None]] = {}  # uid → flags and INTERNALDATE
        self.labels: dict[bytes, tuple[str, ...]] = {}  # uid → labels
        self.broken: set[bytes] = set()  # octets that are not served
        self.refuses: set[bytes] = set()  # uids, to remove
        self.closed: dict[bytes, SyncdError] = {}  # mailbox name → what `open` raises
        self.pause_s = 0.0
        self.opened: list[bytes] = []  # mailbox names, in the order in which they were opened
        self.listed: list[bytes] = []
        self.topped: list[bytes] = []
        self.fetched: list[bytes] = []
        self.removed: list[bytes] = []
        self.sessions: list[MemorySession] = []
        self.failure: SyncdError | None = None
        self.connects = 0
        self.on_finish: Callable[[], None] = lambda: None
        self.cancelled = False
        self._spool = spool
        self._stops = stops

    @property
    def boxes(self) -> dict[Mailbox, Mail]:
        return {self.mailbox: self.mail, **self.others}

    def connect(self) -> MemorySession:
        self.check()
        self.connects += 1
        if self.failure is not None:
            raise self.failure
        self.sessions.append(MemorySession(self))
        return self.sessions[-1]

    def cancel(self) -> None:
        self.cancelled = True

    def check(self) -> None:
        if self.cancelled and self._stops:
            raise Cancelled("memory: stopped on request")

    def body(self, octets: bytes, growth: Growth) -> Body:
        if self._spool is None:
            assert growth.fits(len(octets)), "there is no file to go to"
            return Body.of(octets)
        writer = BodyWriter(self._spool, growth.fits)
        writer.write(octets)
        body = writer.finish()
        growth.end(body)
        return body


class MemorySession:
    """`ended` tells how it ended: "finished", "closed", or not yet."""

    def __init__(self, source: MemorySource) -> None:
        self.info = SourceInfo("memory:0", "none", "none", (), pause_s=source.pause_s)
        self.source = source
        self.opened: MemoryMailbox | None = None
        self.doomed: list[tuple[Mailbox, bytes]] = []
        self.ended = ""

    def mailboxes(self) -> Iterator[list[Mailbox]]:
        found = list(self.source.boxes)
        for start in range(0, len(found), CHUNK):
            yield found[start : start + CHUNK]

    def open(
        self,
        mailbox: Mailbox,
        *,
        removes: bool = False,  # noqa: ARG002
        following: Mailbox | None = None,  # noqa: ARG002
    ) -> MemoryMailbox:
        self.source.check()
        if mailbox.name in self.source.closed:
            raise self.source.closed[mailbox.name]
        found = next((each for each in self.source.boxes if each.name == mailbox.name), None)
        if found is None:
            raise MailboxRefused(f"memory:0: there is no mailbox {mailbox.name!r}")
        self.source.opened.append(found.name)
        self.opened = MemoryMailbox(self, found)
        return self.opened

    def finish(self) -> None:
        self.source.on_finish()
        for mailbox, uid in self.doomed:
            del self.source.boxes[mailbox][uid]
        self.source.removed += [uid for _, uid in self.doomed]
        self.ended = "finished"

    def close(self) -> None:
        self.ended = self.ended or "closed"


class MemoryMailbox:
    """One of the source's mailboxes, dead once the session opens another one."""

    def __init__(self, session: MemorySession, mailbox: Mailbox) -> None:
        self.mailbox = mailbox
        self._session = session
        self._source = session.source

    @property
    def _mail(self) -> Mail:
        assert self._session.opened is self, "another mailbox was opened since"
        self._source.check()
        return self._source.boxes[self.mailbox]

    def totals(self) -> Totals:
        return Totals(len(self._mail), sum(map(self._octets, self._mail)))

    def facts(self) -> Iterator[list[Facts]]:
        for chunk in self.list():
            yield [self._facts(line) for line in chunk]

    def list(self) -> Iterator[list[Listed]]:
        self._source.listed.append(self.mailbox.name)
        rows = [
            Listed(LineNumber(number), Uid(uid), self._octets(uid)) for number, uid in enumerate(list(self._mail), 1)
        ]
        for start in range(0, len(rows), CHUNK):
            yield rows[start : start + CHUNK]

    def _facts(self, line: Listed) -> Facts:
        flags, date = self._source.facts.get(line.uid, ((), None))
        return Facts(*line, flags, date)

    def fetch(self, wanted: Iterable[Wanted], room: Room, *, alone: bool = False) -> Iterator[Fetched | None]:
        del alone
        for one in reversed(list(wanted)) if self._source.backwards else wanted:
            if not room.try_take(one.octets):
                yield None
                room.take(one.octets)
            self._source.fetched.append(one.uid)
            yield self._fetched(one, room)

    def headers(self, wanted: Iterable[Wanted]) -> Iterator[tuple[Key, bytes | None]]:
        for one in wanted:
            self._source.topped.append(one.uid)
            yield one.key, self._mail[one.uid][:HEADER_CAP_OCTETS] if self._source.tops else None

    def remove(self, doomed: Iterable[Wanted]) -> Iterator[Removed]:
        for one in doomed:
            refused = one.uid in self._source.refuses
            self._session.doomed += [] if refused else [(self.mailbox, one.uid)]
            yield Removed(one.key, MessageRefused("“-ERR no”") if refused else None)

    def _octets(self, uid: bytes) -> int:
        return self._source.lies.get(uid, len(self._source.boxes[self.mailbox][uid]))

    def _fetched(self, one: Wanted, room: Room) -> Fetched:
        octets = self._mail[one.uid]
        if octets in self._source.broken:
            return Fetched(one.key, None, MessageRefused("“-ERR cannot open”"))
        return Fetched(
            one.key,
            self._source.body(octets, Growth(room, one.octets)),
            None,
            *self._source.facts.get(one.uid, ((), None)),
            self._source.labels.get(one.uid, ()),
        )
