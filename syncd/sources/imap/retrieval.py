r"""UID FETCH of bodies: hands out what is proven, tells a message's faults from the mailbox's and the session's.

A body is proven if it belongs to a UID that was asked for and has the octets that the listing gave. Anything else is
kept aside, and looked into when nothing is in flight: NOOP, and a listing of these UIDs alone, tell what is there.

    not listed any more                    gone: nothing is stored, whatever came in its place (I64, I130, I131)
    listed, and octets came                they are taken: the server counts sizes in a way of its own (I76, I142)
    listed, and NIL or no octets came      the server cannot serve it (I72)
    listed, and nothing came               it is asked for once more, alone; then the server cannot serve it (I73)

A command that is refused is divided until the message at fault stands alone (I15, I74). A server that refuses every
message of a mailbox refuses the mailbox: then no message is noted.

A server that slows us down has less in flight; one that goes on doing so is left alone for a while (I09). After a BAD
one command is in flight at a time, because servers hang up after some of them (I105).

Where the session breaks off at a message, that message is answered with an error of its own (I132), and SessionLost
says that another session does better.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from syncd import clock
from syncd.errors import (
    MailboxRefused,
    MessageLost,
    MessageRefused,
    Refused,
    RemoteProtocolError,
    SessionLost,
    SyncdError,
    Throttled,
    TransportError,
)
from syncd.imap.client import Client
from syncd.imap.events import TooLong
from syncd.imap.fetch import instant
from syncd.imap.refusals import PAUSE
from syncd.imap.sets import UidSet
from syncd.imap.stream import Answered, Arrived
from syncd.imap.values import FetchItems, FetchRow, Verb
from syncd.mail import utf7
from syncd.mail.body import Body, BodyWriter, Spool
from syncd.mail.listing import Fetched, Wanted
from syncd.mail.mailbox import Mailbox
from syncd.sources.base import Room
from syncd.sources.growth import Growth
from syncd.sources.imap.ahead import Ahead
from syncd.sources.imap.flight import SLOWEST, Queue

MOST_ASIDE: Final = 200  # messages that are kept aside before they are looked into …
MOST_ASIDE_OCTETS: Final = 8 << 20
MOST_REFUSED: Final = 50  # refusals from the beginning, after which the mailbox is to blame
MOST_BAD: Final = 4  # I105: a server hangs up after six BADs
MOST_THROTTLED: Final = 20  # answers one after the other, with one command in flight

Answer = Fetched | None


class _Odd(NamedTuple):
    """A message whose answer is not proven. `arrived` is None where there was no answer."""

    one: Wanted
    arrived: Arrived | None

    @property
    def body(self) -> Body | None:
        return self.arrived.body if self.arrived is not None else None


class Retrieval:
    """The messages of one mailbox that is open, for one call of `fetch`."""

    def __init__(
        self, client: Client, mailbox: Mailbox, spool: Spool, room: Room, ahead: Ahead, *, labels: bool
    ) -> None:
        """With `labels=True` the server knows Gmail's labels."""
        self._client = client
        self._mailbox = mailbox
        self._ahead = ahead
        self._spool = spool
        self._room = room
        self._stream = client.bodies(
            FetchItems(flags=True, internal_date=True, body=True, gmail_labels=labels), self._new_body
        )
        self._asked: dict[int, Wanted] = {}  # by UID: in flight, the first asked for first
        self._growths: dict[int, Growth] = {}  # of long bodies under way
        self._again: deque[list[Wanted]] = deque()  # to be asked for once more, in these commands
        self._alone: set[int] = set()  # UIDs that were asked for alone
        self._odd: list[_Odd] = []
        self._octets_aside = 0
        self._refused: list[tuple[Wanted, Refused]] = []  # before anything came
        self._came = False
        self._throttled = client.session.throttled  # what the session has counted so far …
        self._throttles = 0  # … and how many of the last answers were

    def messages(self, wanted: Iterable[Wanted], *, alone: bool) -> Iterator[Answer]:
        """Ask for messages and answer each once. Raises as `ImapMailbox.fetch` says."""
        try:
            yield from self._all(Queue(wanted, self._room), alone=alone)
        except (TransportError, RemoteProtocolError) as error:
            yield from self._broken_off(error)
        finally:
            self._stream.close()
            for growth in self._growths.values():
                growth.end()
            for odd in self._odd:
                if odd.body is not None:
                    odd.body.close()

    def _all(self, queue: Queue, *, alone: bool) -> Iterator[Answer]:
        stream = self._stream
        self._stay()
        while True:
            if self._again or (queue.has_place and not self._is_full_aside):
                self._refill(queue, alone=alone)
            if not stream.in_flight:
                yield from self._look_into(queue)
                if self._again:
                    continue
                if queue.is_empty:
                    break
                yield None
                self._ask(queue.take_one())
            event = stream.next()
            if isinstance(event, Arrived):
                answer = self._proven(event, queue)
                if answer is not None:
                    if not self._came or self._refused:
                        yield from self._blame()
                    yield answer
            else:
                yield from self._ended(event, queue)
        if self._refused:
            raise self._refuses_all()

    def _refill(self, queue: Queue, *, alone: bool) -> None:
        if self._again:
            if not self._stream.in_flight:
                self._stay()
                self._ask(self._again.popleft())
        elif not alone:
            while wanted := queue.take_set():
                self._ask(wanted)
            if queue.is_empty and self._stream.in_flight and not (self._odd or self._refused or queue.slowness):
                self._ahead.begin()

    def _stay(self) -> None:
        """More is wanted of this mailbox."""
        self._ahead.back(self._mailbox)

    def _ask(self, wanted: list[Wanted]) -> None:
        asked = {int(one.uid): one for one in wanted}
        self._asked.update(asked)
        if len(asked) == 1:
            self._alone.update(asked)
        self._stream.ask(UidSet.of(asked))

    # --- answers ---------------------------------------------------------------------------------------

    def _proven(self, event: Arrived, queue: Queue) -> Fetched | None:
        """Returns the answer if it is proven; puts it aside if not."""
        row, body = event
        one = self._asked.pop(row.uid)
        if self._growths and (growth := self._growths.pop(row.uid, None)) is not None:
            growth.end(body)
        if body is not None and body.octets == one.octets > 0:
            queue.answered(one)
            return _fetched(one, row, body)
        self._put_aside(_Odd(one, event))
        return None

    def _ended(self, event: Answered, queue: Queue) -> Iterator[Answer]:
        """Deal with what a command that has ended did not give. Raises Throttled."""
        self._adapt(queue)
        missing = [self._asked.pop(uid) for uid in event.missing if uid in self._asked]
        refused = event.refused
        if not missing:
            return
        if refused is None:
            for one in missing:
                self._put_aside(_Odd(one, None))
        elif isinstance(refused, Throttled):
            raise refused
        elif len(missing) == 1:
            queue.answered(missing[0])
            yield from self._refuse(missing[0], refused)
        elif self._client.session.bad:  # each further BAD brings the end of the session nearer
            self._again.extend([one] for one in missing)
        else:
            half = len(missing) // 2
            self._again.extend((missing[:half], missing[half:]))

    def _adapt(self, queue: Queue) -> None:
        """Have as much in flight as the server bears. Raises Throttled where it goes on slowing us down."""
        session = self._client.session
        count, self._throttled = session.throttled - self._throttled, session.throttled
        self._throttles = self._throttles + count if count else 0
        if self._throttles > MOST_THROTTLED:
            raise Throttled(
                f"{session.address}: the server goes on slowing us down ([THROTTLED]); it is left alone for a while",
                until=clock.now() + PAUSE,
                command=Verb.UID_FETCH.value,
                code="THROTTLED",
            )
        queue.slow_down(SLOWEST if session.bad else self._throttles)

    def _refuse(self, one: Wanted, refused: Refused) -> Iterator[Answer]:
        """Take a refusal of a single message. The next message shows whether this one is to blame."""
        if self._came:
            yield Fetched(one.key, None, self._refusal(one, refused))
        else:
            self._refused.append((one, refused))
        if len(self._refused) >= MOST_REFUSED:
            raise self._refuses_all()
        if self._client.session.bad >= MOST_BAD:
            yield from self._blame()
            raise SessionLost(f"{refused}; this session has had {MOST_BAD} such answers, a new one goes on")

    def _blame(self) -> Iterator[Answer]:
        """A message has come: those that were refused before it are themselves to blame."""
        self._came = True
        refused, self._refused = self._refused, []
        for one, why in refused:
            yield Fetched(one.key, None, self._refusal(one, why))

    @property
    def _is_full_aside(self) -> bool:
        return len(self._odd) >= MOST_ASIDE or self._octets_aside >= MOST_ASIDE_OCTETS

    def _put_aside(self, odd: _Odd) -> None:
        self._odd.append(odd)
        self._octets_aside += odd.one.octets

    # --- what is not proven ----------------------------------------------------------------------------

    def _look_into(self, queue: Queue) -> Iterator[Answer]:
        """Nothing is in flight: find out about the messages that were kept aside."""
        if not self._odd:
            return
        self._stay()
        sizes = self._sizes(UidSet.of(int(odd.one.uid) for odd in self._odd))
        odd_ones, self._odd, self._octets_aside = deque(self._odd), [], 0
        try:
            while odd_ones:
                odd = odd_ones.popleft()
                answer = self._judged(odd, sizes.get(int(odd.one.uid)))
                if answer is not None:
                    queue.answered(odd.one)
                    if answer.body is not None:
                        yield from self._blame()
                    yield answer
        finally:
            self._odd += odd_ones  # whose bodies are to be closed

    def _sizes(self, uids: UidSet) -> dict[int, int]:
        """Returns UID → size of those that the mailbox has now. Raises MailboxRefused where it is not there any more.

        A mailbox that another session deletes may show its messages as expunged, one and all (I119).
        """
        noop = self._client.noop()
        try:
            found = {
                int(row.uid): row.size or 0 for chunk in self._client.rows(uids, FetchItems(size=True)) for row in chunk
            }
            noop.wait()
        except Throttled:
            raise
        except Refused as error:
            raise MailboxRefused(f"{error}; the other mailboxes are not affected", text=error.text) from error
        if not found:
            self._client.examine(self._mailbox.name).wait()
        return found

    def _judged(self, odd: _Odd, size: int | None) -> Fetched | None:
        """Returns the answer for a message that has `size` octets now (None: it is gone); None: it is asked again."""
        one, body = odd.one, odd.body
        if size is not None and body is not None and (body.octets or not size):
            assert odd.arrived is not None, "it has a body"
            return _fetched(one, odd.arrived.row, self._fitted(one, body))
        if body is not None:
            body.close()
        if size is not None and odd.arrived is None and int(one.uid) not in self._alone:
            self._again.append([one])
            return None
        return Fetched(one.key, None, self._not_served(one, gone=size is None))

    def _fitted(self, one: Wanted, body: Body) -> Body:
        """Returns a body for which there is room in memory, or one in a file: it may be longer than listed."""
        if body.data is None or body.octets <= one.octets:
            return body
        growth = Growth(self._room, one.octets)
        if growth.fits(body.octets):
            growth.end(body)
            return body
        writer = BodyWriter(self._spool, _never_fits)
        writer.write(body.data)
        return writer.finish()

    def _new_body(self, uid: int, octets: int) -> BodyWriter:
        """Returns where a long body goes. One whose UID is not told yet goes to a file (I133)."""
        del octets
        one = self._asked.get(uid)
        if one is None:
            return BodyWriter(self._spool, _never_fits)
        self._growths[uid] = growth = Growth(self._room, one.octets)
        return BodyWriter(self._spool, growth.fits)

    # --- errors ----------------------------------------------------------------------------------------

    def _broken_off(self, error: SyncdError) -> Iterator[Answer]:
        """The session is over. Name the message at which it broke off, if it was one. Raises SessionLost."""
        losing = self._client.session.losing()
        culprit = self._asked.get(losing.uid) if losing is not None else None
        if culprit is None:
            culprit = next(iter(self._asked.values()), None)
        if self._came:
            yield from self._blame()
        if culprit is None:
            raise SessionLost(str(error)) from error
        kind = MessageRefused if isinstance(error, TooLong) else MessageLost
        what = f"the message with UID {culprit.uid.decode()} was not taken: {error}"
        yield Fetched(culprit.key, None, kind(what, command=Verb.UID_FETCH.value))
        raise SessionLost(f"{error} (at the message with UID {culprit.uid.decode()})") from error

    def _refusal(self, one: Wanted, refused: Refused) -> MessageRefused:
        return MessageRefused(
            f"{self._client.address}: the server does not give the message with UID {one.uid.decode()}: "
            f"“{refused.text}”; the others are not affected",
            command=refused.command,
            code=refused.code,
            text=refused.text,
        )

    def _refuses_all(self) -> SyncdError:
        _, refused = self._refused[-1]
        return MailboxRefused(
            f"{self._client.address}: the server gives none of {len(self._refused):,} messages: “{refused.text}”; "
            "so this is about the mailbox, and no message is noted as unfetchable",
            command=refused.command,
            code=refused.code,
            text=refused.text,
        )

    def _not_served(self, one: Wanted, *, gone: bool) -> MessageRefused:
        what = f"{self._client.address}: the message with UID {one.uid.decode()} "
        what += (
            "is not there any more: another program has removed or moved it"
            if gone
            else "is listed, and the server gives nothing of it; the others are not affected"
        )
        return MessageRefused(what, command=Verb.UID_FETCH.value)


def _never_fits(_octets: int) -> bool:
    return False


def _fetched(one: Wanted, row: FetchRow, body: Body) -> Fetched:
    date = None if row.internal_date is None else instant(row.internal_date)
    return Fetched(one.key, body, None, row.flags or (), date, _labels(row.labels) if row.labels else ())


def _labels(labels: tuple[bytes, ...]) -> tuple[str, ...]:
    return tuple(sorted({utf7.text_of(label) for label in labels}))
