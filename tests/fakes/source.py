"""A maildrop in memory that keeps the contract of sources, and counts what is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from syncd.errors import MessageRefused, SyncdError
from syncd.mail.body import Body, header_hash
from syncd.sources.base import Fetched, Listed, Removed, Room, SourceInfo, Totals, Wanted


class MemorySource:
    """`mail` is uid → octets, in the order of the listing. `failure` is raised by the next `connect`.

    `tops` tells whether it gives headers alone, `lies` is uid → octets as listed where they are others.
    """

    def __init__(self, mail: dict[bytes, bytes]) -> None:
        self.mail = mail
        self.tops = False
        self.lies: dict[bytes, int] = {}
        self.refuses: set[bytes] = set()  # to remove
        self.pause_s = 0.0
        self.topped: list[bytes] = []
        self.fetched: list[bytes] = []
        self.removed: list[bytes] = []
        self.sessions: list[MemorySession] = []
        self.failure: SyncdError | None = None
        self.connects = 0
        self.on_finish: Callable[[], None] = lambda: None
        self.cancelled = False

    def connect(self) -> MemorySession:
        self.connects += 1
        if self.failure is not None:
            raise self.failure
        self.sessions.append(MemorySession(self))
        return self.sessions[-1]

    def cancel(self) -> None:
        self.cancelled = True


class MemorySession:
    """`ended` tells how it ended: "finished", "closed", or not yet."""

    def __init__(self, source: MemorySource) -> None:
        self.info = SourceInfo("memory:0", "none", "none", (), pause_s=source.pause_s)
        self._source = source
        self._doomed: list[bytes] = []
        self.ended = ""

    def totals(self) -> Totals:
        return Totals(len(self._source.mail), sum(map(len, self._source.mail.values())))

    def list(self) -> Iterator[list[Listed]]:
        mail, lies = self._source.mail, self._source.lies
        yield [Listed(number, uid, lies.get(uid, len(data))) for number, (uid, data) in enumerate(mail.items(), 1)]

    def fetch(self, wanted: Iterable[Wanted], room: Room, *, alone: bool = False) -> Iterator[Fetched | None]:
        del alone
        for one in wanted:
            if not room.try_take(one.octets):
                yield None
                room.take(one.octets)
            self._source.fetched.append(one.uid)
            yield Fetched(one.key, Body.of(self._source.mail[one.uid]), None)

    def header_hashes(self, wanted: Iterable[Wanted]) -> Iterator[tuple[int, bytes | None]]:
        for one in wanted:
            self._source.topped.append(one.uid)
            yield one.key, header_hash(self._source.mail[one.uid]) if self._source.tops else None

    def remove(self, doomed: Iterable[Wanted]) -> Iterator[Removed]:
        for one in doomed:
            refused = one.uid in self._source.refuses
            self._doomed += [] if refused else [one.uid]
            yield Removed(one.key, MessageRefused("“-ERR no”") if refused else None)

    def finish(self) -> None:
        self._source.on_finish()
        for uid in self._doomed:
            del self._source.mail[uid]
        self._source.removed += self._doomed
        self.ended = "finished"

    def close(self) -> None:
        self.ended = self.ended or "closed"
