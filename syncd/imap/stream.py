"""UID FETCH as a stream: several commands in flight, answers in any order, bodies as they come (RFC 3501 §6.4.8)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from syncd.errors import Refused, StateError
from syncd.imap.encoder import Word
from syncd.imap.events import Event, Literal, Rows, Text
from syncd.imap.fetch import Asked, encode_items
from syncd.imap.session import Command, Session
from syncd.imap.sets import UidSet
from syncd.imap.values import (
    BODY,
    HEADER,
    FetchItems,
    FetchRow,
    Verb,
)
from syncd.mail.body import HEADER_CAP_OCTETS, Body, BodyWriter

CHUNK_ROWS: Final = 1000  # in one piece of a listing

NewBody = Callable[[int, int], BodyWriter]  # makes the writer of a long body, by its UID (0: not told yet) and octets


class Arrived(NamedTuple):
    """A message that was asked for. `body` is None where the server gave NIL, or none was asked for.

    A body of 0 octets is what the server gave. Whether it is the message that was listed is for the caller to say, by
    the octets of the listing (I72, I131).
    """

    row: FetchRow
    body: Body | None


@dataclass(frozen=True, slots=True)
class Answered:
    """The end of a command, with the server's no if it was one."""

    asked: Asked
    refused: Refused | None

    @property
    def uids(self) -> UidSet:
        """Returns what the command has asked for."""
        return self.asked.uids

    @property
    def missing(self) -> UidSet:
        """Returns what of it has not come. Without a no, it was expunged, or the server cannot serve it (I64, I73).

        Works it out at each call: a set with gaps everywhere takes some 300 octets a message.
        """
        return self.asked.missing


class FetchStream:
    """Asks for messages by UID and reads the answers, one at a time.

    `ask` queues a command; `next` gives what has come. Everything that was asked for is answered before the Answered of
    its command. Messages that were not asked for are read off and dropped (I130). While a stream has commands in
    flight, it must be read: what comes for it while another command is waited for is kept in memory.
    """

    def __init__(self, session: Session, items: FetchItems, new_body: NewBody | None = None) -> None:
        """`new_body` is called for bodies over `connection.WHOLE_OCTETS`; it is needed where bodies are asked for."""
        self._session = session
        self._items = items
        self._word = Word(encode_items(items))
        self._new_body = new_body
        self._asked: dict[Command, Asked] = {}  # the oldest first
        self._arrived: deque[Arrived] = deque()
        self._writer: BodyWriter | None = None  # of the body of the response under way
        self._header: bytearray | None = None  # … and its header
        self._part = 0  # of the literal under way, if it is taken
        self._closed = False

    @property
    def in_flight(self) -> int:
        """Returns how many commands are queued or sent and have not given their Answered."""
        return len(self._asked)

    def ask(self, uids: UidSet) -> None:
        """Queue UID FETCH for `uids`, in as many commands as their lines want (I24). It leaves with the next `next`."""
        for piece in uids.pieces():
            command = self._session.ask(Verb.UID_FETCH, Word(piece.encode()), self._word, take=self._take)
            self._asked[command] = Asked(piece, self._items)

    def next(self) -> Arrived | Answered:
        """Returns the next message or end of a command; waits for it. Raises StateError when nothing is in flight.

        Raises what a session raises. A command that the server refuses is an Answered with its error; where the whole
        account is to pause, the error is Throttled.
        """
        if not self._asked:
            raise StateError("nothing is asked for")
        self._session.flush()
        while not self._arrived:
            ended = next((command for command in self._asked if command.status is not None), None)
            if ended is None:
                self._session.step()
                continue
            rest = self._asked[ended].rest()
            if not rest:
                return self._end(ended)
            self._arrived.extend(Arrived(row, None) for row in rest)
        return self._arrived.popleft()

    def come(self, most: int) -> list[Arrived]:
        """Returns up to `most` messages that have come already; waits for none."""
        arrived = self._arrived
        return [arrived.popleft() for _ in range(min(most, len(arrived)))]

    def close(self) -> None:
        """Give up: what comes is read off and dropped, so that the session can be used for other things. Repeatable."""
        self._closed = True
        self._drop()
        for arrived in self._arrived:
            if arrived.body is not None:
                arrived.body.close()
        self._arrived.clear()
        self._asked.clear()

    # --- inside --------------------------------------------------------------------------------------

    def _end(self, command: Command) -> Answered:
        asked = self._asked.pop(command)
        assert command.status is not None, command.verb
        refused = None
        if not command.status.ok:
            refused = self._session.not_opened or self._session.refused(command, "the server does not give messages")
        return Answered(asked, refused)

    def _take(self, event: Event) -> bool:
        """Take what belongs to this stream."""
        if isinstance(event, FetchRow):
            return self._take_row(event)
        if isinstance(event, Rows):
            return self._take_rows(event.rows)
        if isinstance(event, Literal):
            return self._begin(event)
        if isinstance(event, Text):
            return self._write(event)
        return False

    def _wanting(self, uid: int) -> Asked | None:
        for asked in self._asked.values():
            if asked.wants(uid):
                return asked
        return None

    def _take_row(self, row: FetchRow) -> bool:
        if self._closed:
            return True
        asked = self._wanting(row.uid)
        answer = asked.answer(self._with_header(row)) if asked is not None else None
        if answer is None:
            taken = asked is not None or self._writer is not None
            self._drop()
            return taken
        if answer.body is not None:
            self._drop()
            self._arrived.append(Arrived(answer, Body.of(answer.body)))
            return True
        writer, self._writer = self._writer, None
        self._drop()
        self._arrived.append(Arrived(answer, writer.finish() if writer is not None else None))
        return True

    def _take_rows(self, rows: list[FetchRow]) -> bool:
        taken = self._closed
        for asked in () if taken else self._asked.values():
            answers, rows = asked.answers(rows)
            self._arrived.extend([Arrived(row, None) for row in answers])
            taken = taken or bool(answers)
            if not rows:
                break
        return taken

    def _begin(self, literal: Literal) -> bool:
        """A long literal begins. I133: the UID may stand behind it, then it is kept until the response ends."""
        uid = literal.row.uid
        if self._closed or (uid and self._wanting(uid) is None):
            return False
        if literal.part == BODY and self._items.body:
            assert self._new_body is not None, "bodies are asked for"
            self._writer = self._new_body(uid, literal.octets)
        elif literal.part == HEADER and self._items.header:
            self._header = bytearray()
        else:
            return False
        self._part = literal.part
        return True

    def _write(self, text: Text) -> bool:
        if not self._part:
            return False
        if self._part == BODY and self._writer is not None:
            self._writer.write(text.octets)
        elif self._header is not None:
            self._header += text.octets[: HEADER_CAP_OCTETS - len(self._header)]
        if text.last:
            self._part = 0
        return True

    def _with_header(self, row: FetchRow) -> FetchRow:
        return row if self._header is None else row._replace(header=bytes(self._header))

    def _drop(self) -> None:
        """Forget the literals of the response."""
        if self._writer is not None:
            self._writer.discard()
        self._writer = self._header = None
        self._part = 0


class RowStream:
    """What is said of messages, in chunks of at most CHUNK_ROWS; asked for when it is made.

    Rows that were not asked for are dropped (I130). UIDs that there are not give none: whether a listing is whole is
    for the caller to say, by EXISTS (I61). Memory: 8 octets for each run of neighbours. Raises Refused after the rows
    that came, and what a session raises. A stream that is not read to its end must be closed.
    """

    def __init__(self, session: Session, uids: UidSet, items: FetchItems) -> None:
        self._stream = FetchStream(session, items)
        self._stream.ask(uids)
        self._chunks = self._read()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> list[FetchRow]:
        return next(self._chunks)

    def close(self) -> None:
        """Give up, as `FetchStream.close`."""
        self._stream.close()

    def _read(self) -> Iterator[list[FetchRow]]:
        stream, refused, chunk = self._stream, None, list[FetchRow]()
        try:
            while stream.in_flight:
                event = stream.next()
                if isinstance(event, Answered):
                    refused = refused or event.refused
                    continue
                chunk.append(event.row)
                chunk += [arrived.row for arrived in stream.come(CHUNK_ROWS - len(chunk))]
                if len(chunk) == CHUNK_ROWS:
                    yield chunk
                    chunk = []
            if chunk:
                yield chunk
        finally:
            stream.close()
        if refused is not None:
            raise refused
