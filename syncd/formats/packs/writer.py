"""Writing to an archive of packs: one batch at a time, under the lock.

    lock → take up what others appended → append → fdatasync → still the same archive? → commit of the index → unlock

If something goes wrong before the fdatasync returned, the appended octets are cut off at once, or by the next writer;
after it, the next writer takes them up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from operator import is_
from typing import Final, Self

from syncd import clock
from syncd.errors import storage_error
from syncd.formats.packs.append import Appender
from syncd.formats.packs.frame import LARGE_OCTETS
from syncd.formats.packs.frames import META_OCTETS, Compressor, Frames, Packed, place, row_octets
from syncd.formats.packs.home import Home
from syncd.formats.packs.index import Index, explained, remove
from syncd.formats.packs.meta import Meta
from syncd.formats.packs.reader import Unit
from syncd.formats.packs.take_up import open_index, take_up
from syncd.mail.message import Message, Origin

ORIGINS: Final = 1_000  # in one frame without messages
MOST_BEGUN: Final = 4  # batches compressed ahead: one for each job that delivers here; a run that broke off leaves its


class PackWriter:
    """An archive that is open for writing. For one thread; raises SyncdError."""

    def __init__(self, home: Home, index: Index, seal_octets: int) -> None:
        self.home = home
        self._index = index
        self._appender = Appender(home, seal_octets)
        self._compressor = Compressor()
        self._begun: OrderedDict[int, tuple[list[Message], Frames]] = OrderedDict()  # by the batch's first message

    @classmethod
    def open(cls, home: Home, seal_octets: int) -> Self:
        """Take up what a crash left, and be ready. `home` is closed with the writer."""
        with home.locked():
            return cls(home, open_index(home), seal_octets)

    def close(self) -> None:
        """Let go of the thread and of files."""
        for _, frames in self._begun.values():
            frames.drop()
        self._begun.clear()
        self._compressor.close()
        self._index.close()
        self.home.close()

    def extent(self) -> int:
        """The octets of all packs that are known to be durable."""
        with explained(self.home.index):
            return sum(self._index.packs().values())

    def drop_index(self) -> None:
        """Delete the index; opening the archive builds it again."""
        with self.home.locked():
            try:
                remove(self.home.index)
            except OSError as error:
                raise storage_error(error, f"cannot delete {self.home.index}") from error

    def store(self, messages: Sequence[Message], upcoming: Sequence[Message] = ()) -> None:
        """Make every message and its place durable; octets and places that are stored are not stored again.

        Compressing the `upcoming` messages begins meanwhile.
        """
        with self.home.locked(), explained(self.home.index):
            self._take_up()
            known = self._index.known([message.body.sha256 for message in messages])
            fresh, again = _told_apart(messages, known)
            facts = self._new_places(again, known)
            frames = self._take_begun(messages, fresh)
            try:
                self._begin(upcoming, fresh)
                if fresh or facts:
                    self._write(frames, [m for m in fresh if _is_large(m)], facts, known)
            finally:
                frames.drop()

    def note(self, origins: Iterable[Origin]) -> None:
        """Make mailboxes durable that are not known just so: those without messages, and those whose facts changed."""
        with self.home.locked(), explained(self.home.index):
            self._take_up()
            known = self._index.origins()
            new = [origin for origin in dict.fromkeys(origins) if origin not in known]
            metas = [Meta(_seconds(), origins=new[start : start + ORIGINS]) for start in range(0, len(new), ORIGINS)]
            if metas:
                self._write(Frames(self._compressor, _seconds()), [], metas, {})

    def _begin(self, messages: Sequence[Message], stored: Sequence[Message]) -> None:
        """Begin to compress messages that are not stored, and not among `stored`. Several jobs may deliver in turn."""
        if not messages or id(messages[0]) in self._begun or self._compressor.is_crowded:
            return
        known = self._index.known([message.body.sha256 for message in messages])
        fresh, _ = _told_apart(messages, [*known, *(message.body.sha256 for message in stored)])
        self._begun[id(messages[0])] = fresh, self._frames(fresh)
        while len(self._begun) > MOST_BEGUN:
            _, (_, frames) = self._begun.popitem(last=False)
            frames.drop()

    def _take_begun(self, messages: Sequence[Message], fresh: list[Message]) -> Frames:
        """Returns the frames of these messages: those begun earlier, if they were begun with just these messages."""
        begun, frames = self._begun.pop(id(messages[0]), ([], None))
        if frames is not None and len(begun) == len(fresh) and all(map(is_, begun, fresh)):
            return frames
        if frames is not None:
            frames.drop()
        return self._frames(fresh)

    def _frames(self, fresh: Sequence[Message]) -> Frames:
        frames = Frames(self._compressor, _seconds())
        frames.add(message for message in fresh if not _is_large(message))
        return frames

    def _take_up(self) -> None:
        take_up(self.home, self._index, max(self._index.packs(), default=0))

    def _new_places(self, messages: Sequence[Message], known: dict[bytes, int]) -> list[Meta]:
        """Returns the places that are not yet known just so, of messages whose octets are stored."""
        if not messages:
            return []
        metas = [Meta(_seconds())]
        said, numbers = 0, self._index.origins()
        for message in messages:
            if said > META_OCTETS:
                metas.append(Meta(_seconds()))
                said = 0
            meta = metas[-1]
            row = place(meta, message)
            stored, origin = known.get(row.sha256), numbers.get(message.ref.origin)
            if stored is None or origin is None or not self._index.has_place(stored, origin, row):
                meta.places.append(row)
                said += row_octets(message)
        return [meta for meta in metas if meta.places]

    def _write(self, frames: Frames, large: Sequence[Message], facts: Iterable[Meta], known: dict[bytes, int]) -> None:
        batch = _Batch(self._appender, self._index, known)
        self._index.begin()
        durable = False
        try:
            self._appender.begin(self._index.packs())
            for message in large:
                batch.put(frames.add_parts(message))
            for meta in facts:
                frames.add_facts(meta)
            batch.put(frames.finish())
            self._appender.sync()
            durable = True
            self.home.verify()
            for pack, end in self._appender.ends().items():
                self._index.taken_up(pack, end)
            self._index.commit()
        except OSError as error:
            raise storage_error(error, f"cannot write to the archive {self.home.path}") from error
        finally:
            self._index.rollback()
            if not durable:
                self._appender.undo()


class _Batch:
    """Appends frames as they come and puts them into the index; parts of a message when the last is written."""

    def __init__(self, appender: Appender, index: Index, known: dict[bytes, int]) -> None:
        self._appender = appender
        self._index = index
        self._known = known
        self._first = Meta(0)
        self._start = self._length = 0

    def put(self, frames: Iterable[Packed]) -> None:
        """While one frame is written and its rows are inserted, the next are being made."""
        for packed in frames:
            meta, *octets = packed.result()
            number, total = meta.part or (1, 1)
            if number == 1:
                self._appender.make_room(meta.messages[0].octets if total > 1 else 0)
                self._start, self._first, self._length = self._appender.position, meta, 0
            self._length += meta.messages[0].length if total > 1 else 0
            if number == total:
                unit = Unit(self._start, self._appender.position, self._first, total, self._length)
                self._index.add(self._appender.number, unit, self._known)
            self._appender.append(*octets)


def _told_apart(messages: Sequence[Message], known: Iterable[bytes]) -> tuple[list[Message], list[Message]]:
    """Returns the messages whose octets must be stored (equal octets once), and the other messages."""
    seen = set(known)
    fresh, again = [], []
    for message in messages:
        sha256 = message.body.sha256
        if sha256 in seen:
            again.append(message)
        else:
            seen.add(sha256)
            fresh.append(message)
    return fresh, again


def _is_large(message: Message) -> bool:
    return message.body.octets > LARGE_OCTETS


def _seconds() -> int:
    return int(clock.now().timestamp())
