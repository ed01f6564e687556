"""RETR for many messages: hands out what is proven, tells the message's faults from the server's and the account's."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from syncd import clock
from syncd.errors import (
    LostStep,
    MessageLost,
    MessageRefused,
    NotMail,
    RemoteProtocolError,
    SyncdError,
    Throttled,
    TransportError,
    printable,
)
from syncd.mail.body import Body, Spool
from syncd.mail.listing import Fetched, LineNumber, Wanted
from syncd.mail.message import Key, Uid
from syncd.pop3.quirks import Quirks, is_folder_data
from syncd.pop3.session import Session
from syncd.pop3.values import RETR, Check, OutOfStep, Status, TooLong
from syncd.sources.base import Room
from syncd.sources.pop3.checks import find_check
from syncd.sources.pop3.listing import Listing
from syncd.sources.pop3.proof import Answered, broken_off, close_all, swapped
from syncd.sources.pop3.refused import AHEAD_MESSAGES, Refusals, kind, pause
from syncd.sources.pop3.stream import Sign, Stream, Unbounded, read_body


class Retrieval:
    """The messages of one session. `messages` may be called again when its iterator has ended."""

    def __init__(self, session: Session, listing: Listing, spool: Path, quirks: Quirks) -> None:
        self._session = session
        self._listing = listing
        self._quirks = quirks
        self._refusals = Refusals()
        self._read = partial(read_body, session, Spool(spool))
        self._check = Check.STAT
        self._held: list[tuple[Wanted, Status]] = []  # refused alike, proven, and not handed out

    def messages(self, wanted: Iterable[Wanted], room: Room, *, alone: bool) -> Iterator[Fetched | None]:
        """Ask for messages in order and answer each once. Raises as `Pop3Session.fetch` says."""
        todo = iter(wanted)
        first = next(todo, None)
        if first is None:
            return
        self._check = find_check(self._session, self._quirks, first)
        stream = Stream(self._session, RETR, "", chain([first], todo), room, check=self._check, alone=alone)
        for event in self._proven(stream):
            if event is Sign.PAUSED:
                yield from self._judge(stream, room)
                stream.go_on()
            elif isinstance(event, Fetched) or event is None:
                yield event
        yield from self._blame()

    def _proven(self, stream: Stream) -> Iterator[Fetched | Sign | None]:
        """Yields answers that are proven; None and PAUSED as they come."""
        unproven: deque[Answered] = deque()
        try:
            for event in stream.answers(self._read):
                if event is Sign.IN_STEP:
                    if stream.pipelined and swapped(unproven):
                        raise OutOfStep(f"{self._session.address}: messages came in another order than asked for")
                    yield from self._hand_out(unproven)
                elif isinstance(event, tuple):
                    unproven.append(event)
                    self._refusals.arrived(*event)
                    if self._refusals.suspicious:
                        stream.pause()
                else:
                    yield event
        except (TransportError, RemoteProtocolError) as error:
            verdict = broken_off(stream, unproven, error)
            yield from self._hand_out(verdict.proven)
            if verdict.culprit is not None:
                yield Fetched(verdict.culprit.key, None, _not_taken(verdict.culprit, error, stream))
            if not self._refusals.suspicious:
                yield from self._blame()
            if verdict.lost_step:
                raise lost_step(error, self._quirks, self._session.address) from error
            raise
        finally:
            close_all(unproven)

    # --- the account's fault, or the messages' -------------------------------------------------------

    def _judge(self, stream: Stream, room: Room) -> Iterator[Fetched | None]:
        """Ask for a message further on if the last refusals may be about the account. Raises Throttled if they are."""
        if not self._refusals.suspicious:  # an answer that was under way has cleared it up
            return
        came = False
        if (ahead := stream.take_ahead(AHEAD_MESSAGES)) is not None:
            came = yield from self._probe(ahead, room, wanted=True)
        elif not self._refusals.confirmed and (number := self._refusals.other(self._listing.sizes)) is not None:
            other = Wanted(Key(0), LineNumber(number), Uid(b""), 0)
            came = yield from self._probe(other, Unbounded(), wanted=False)
        if not came:
            raise self._throttled()
        self._refusals.acquit()

    def _probe(self, one: Wanted, room: Room, *, wanted: bool) -> Generator[Fetched | None, None, bool]:
        """Ask for a message alone; returns whether it came. If it is `wanted` it is handed out, or held if refused."""
        answers: deque[Answered] = deque()
        try:
            for event in Stream(self._session, RETR, "", [one], room, check=self._check, alone=True).answers(
                self._read
            ):
                if isinstance(event, tuple):
                    answers.append(event)
                elif event is None:
                    yield None
            came = isinstance(answers[0][1], Body)
            if came:
                yield from self._blame()
            if wanted:
                yield from self._hand_out(answers)
            return came
        finally:
            close_all(answers)

    def _throttled(self) -> Throttled:
        last, answer = self._held[-1]
        text = printable(answer.text)
        message = (
            f"{self._session.address}: the server refuses one message after another alike: “{text}” (the last is "
            f"message {last.number}); so this is about the account, and no message is noted as unfetchable"
        )
        until = clock.now() + pause(answer)
        keys = tuple(int(one.key) for one, _ in self._held)
        return Throttled(message, until=until, messages=keys, command=RETR.name, code=answer.code, text=text)

    # --- answers -------------------------------------------------------------------------------------

    def _hand_out(self, answers: deque[Answered]) -> Iterator[Fetched]:
        """Yields bodies; refusals are held while they are alike and no body has come behind them."""
        while answers:
            one, answer = answers.popleft()
            if isinstance(answer, Body):
                yield from self._blame()
                yield self._fetched(one, answer)
                continue
            if self._held and kind(*self._held[-1]) != kind(one, answer):
                yield from self._blame()
            self._held.append((one, answer))

    def _blame(self) -> Iterator[Fetched]:
        """Hand out the refusals that are held: they are about their messages."""
        held, self._held = self._held, []
        for one, answer in held:
            yield Fetched(one.key, None, self._refused(one, answer))

    def _fetched(self, one: Wanted, answer: Body | Status) -> Fetched:
        if isinstance(answer, Status):
            return Fetched(one.key, None, self._refused(one, answer))
        if one.number == 1 and is_folder_data(answer.data or b""):
            answer.close()
            return Fetched(one.key, None, _not_mail(one))
        return Fetched(one.key, answer, None)

    def _refused(self, one: Wanted, answer: Status) -> MessageRefused:
        text = printable(answer.text)
        return MessageRefused(
            f"{self._session.address}: the server does not give message {one.number} "
            f"(unique-id “{printable(one.uid)}”): “{text}”; the others are not affected",
            command=RETR.name,
            code=answer.code,
            text=text,
        )


def lost_step(error: SyncdError, quirks: Quirks, address: str) -> LostStep:
    """P31: returns the error for commands that were mixed up in flight."""
    quirks.note_broken_pipelining(address)
    return LostStep(
        f"{error}; the server announces PIPELINING and seems not to bear it: it is asked one thing at a time now. "
        "If this comes in every run, set pipelining = false for this account"
    )


def _not_taken(one: Wanted, error: SyncdError, stream: Stream) -> MessageRefused:
    """The message at which the session broke off, as a failure of its own."""
    sure = isinstance(error, TooLong) or (isinstance(error, OutOfStep) and not stream.pipelined)
    kind_of_error = MessageRefused if sure else MessageLost
    return kind_of_error(f"message {one.number} was not taken: {error}", command=RETR.name)


def _not_mail(one: Wanted) -> NotMail:
    return NotMail(
        f"message {one.number} is the server's own data about the mailbox (FOLDER INTERNAL DATA), no mail: it is not "
        "taken, and never removed, because the server would then give every message a new unique-id; "
        "`syncd drop` takes it off this list",
        command=RETR.name,
    )
