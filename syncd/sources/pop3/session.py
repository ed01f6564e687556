"""A signed-in POP3 session: list, fetch, recognise, remove, say goodbye. Message numbers never leave it."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from syncd.durable import Step, durable_step
from syncd.errors import (
    LostStep,
    MessageLost,
    MessageRefused,
    NoHeaders,
    NotMail,
    Refused,
    RemoteProtocolError,
    SyncdError,
    TransportError,
    printable,
)
from syncd.mail.body import Body
from syncd.pop3.client import Client
from syncd.pop3.encoder import numbered
from syncd.pop3.quirks import Quirks, is_folder_data, shows_pages
from syncd.pop3.refusals import refusal
from syncd.pop3.values import DELE, QUIT, RETR, TOP, Capabilities, OutOfStep, Status, TooLong
from syncd.sources.base import Fetched, Listed, Removed, Room, SourceInfo, Totals, Wanted
from syncd.sources.pop3.listing import Listing
from syncd.sources.pop3.notes import notes, pause_s
from syncd.sources.pop3.proof import Answered, broken_off, close_all, swapped
from syncd.sources.pop3.stream import Sign, Stream, Unbounded, read_body, read_header_hash

DELE_COMMANDS = 100  # in one durable step: 1 KiB, and so few octets of answers that neither side can block
HEADER_OCTETS = 4 << 10  # what an answer to TOP n 0 is taken to have, for the window


class Pop3Session:
    """A signed-in session (`sources.base.SourceSession`)."""

    def __init__(self, client: Client, spool: Path, mechanism: str, quirks: Quirks) -> None:
        self._client = client
        self._spool = spool
        self._mechanism = mechanism
        self._quirks = quirks
        self._marked = False
        again = _may_change(client.capabilities)
        if again and client.may_pipeline and not client.pipelines:
            client.capa()  # PIPELINING is worth a round trip; some servers announce it only now
            again = False
        self._listing = Listing(client, capa_again=again and client.pipelines)

    @property
    def info(self) -> SourceInfo:
        """What the server says it can do; complete after the first listing."""
        client = self._client
        return SourceInfo(
            client.address,
            client.transport.tls,
            self._mechanism,
            client.capabilities.lines,
            tuple(notes(client, self._quirks)),
            pause_s=pause_s(client),
            pages=shows_pages(client.greeting.text, client.capabilities),
        )

    def totals(self) -> Totals:
        """STAT's answer; of the last listing, if there was one."""
        return self._listing.totals()

    def list(self) -> Iterator[list[Listed]]:
        """Every message, in order. Raises Unsupported where the server has no UIDL, and as the contract says.

        LostStep where the answers may be mixed up because they were pipelined.
        """
        try:
            yield from self._listing.rows()
        except RemoteProtocolError as error:
            if not self._client.pipelines:
                raise
            raise self._lost_step(error) from error

    def fetch(self, wanted: Iterable[Wanted], room: Room, *, alone: bool = False) -> Iterator[Fetched | None]:
        """RETR, pipelined unless `alone`.

        Messages are held back until they are proven to be whole and those that were asked for (see `Stream`). When
        the session breaks off, the message it broke off at is answered with an error of its own, where that is sure:
        so that a later session can leave it out and get at those behind it. Raises LostStep where a session that
        does not pipeline will do better.
        """
        self._listing.settle()
        stream = Stream(self._client, RETR, "", wanted, room, alone=alone)
        held: deque[Answered] = deque()
        try:
            for event in stream.answers(partial(read_body, self._client, self._spool)):
                if event is None:
                    yield None
                elif isinstance(event, Sign):
                    if stream.pipelined and swapped(held):
                        raise OutOfStep(f"{self._client.address}: messages came in another order than asked for")
                    yield from self._hand_out(held)
                else:
                    held.append(event)
        except (TransportError, RemoteProtocolError) as error:
            verdict = broken_off(stream, held, error)
            yield from self._hand_out(verdict.proven)
            if verdict.culprit is not None:
                yield Fetched(verdict.culprit.key, None, _not_taken(verdict.culprit, error, stream))
            if verdict.lost_step:
                raise self._lost_step(error) from error
            raise
        finally:
            close_all(held)

    def header_hashes(self, wanted: Iterable[Wanted]) -> Iterator[tuple[int, bytes | None]]:
        """TOP n 0, pipelined; None for each message where the server does not know TOP (it is optional).

        NoHeaders where the session breaks off.
        """
        self._listing.settle()
        headers = (one._replace(octets=min(one.octets, HEADER_OCTETS)) for one in wanted)
        stream = Stream(self._client, TOP, " 0", headers, Unbounded())
        try:
            for answer in stream.answers(partial(read_header_hash, self._client)):
                if isinstance(answer, tuple):
                    yield answer[0].key, answer[1]
        except (TransportError, RemoteProtocolError) as error:
            raise NoHeaders(f"{error}; it broke off where headers alone were asked for") from error

    def remove(self, doomed: Iterable[Wanted]) -> Iterator[Removed]:
        """DELE, up to DELE_COMMANDS in one durable step."""
        self._listing.settle()
        todo = iter(doomed)
        while batch := tuple(islice(todo, DELE_COMMANDS if self._client.pipelines else 1)):
            yield from self._mark(batch)

    def finish(self) -> None:
        """QUIT, and hang up. Raises Refused when the server says that it did not remove what was marked (P35)."""
        self._listing.settle()
        if self._marked:
            with durable_step(Step.SOURCE_QUIT):
                self._quit()
        else:
            with contextlib.suppress(TransportError, RemoteProtocolError, Refused):  # nothing hangs on the answer
                self._quit()
        self.close()

    def close(self) -> None:
        """Hang up without QUIT: what was marked stays (RFC 1939 §6). Repeatable."""
        self._client.transport.close()

    # --- inside --------------------------------------------------------------------------------------

    def _fetched(self, one: Wanted, answer: Body | Status) -> Fetched:
        if isinstance(answer, Body):
            if one.number == 1 and is_folder_data(answer.data or b""):
                return Fetched(one.key, None, _not_mail(one))
            return Fetched(one.key, answer, None)
        text = printable(answer.text)
        error = MessageRefused(
            f"{self._client.address}: the server does not give message {one.number} "
            f"(unique-id “{printable(one.uid)}”): “{text}”; the others are not affected",
            command=RETR.name,
            code=answer.code,
            text=text,
        )
        return Fetched(one.key, None, error)

    def _hand_out(self, answers: deque[Answered]) -> Iterator[Fetched]:
        while answers:
            yield self._fetched(*answers.popleft())

    def _lost_step(self, error: SyncdError) -> LostStep:
        """P31."""
        self._quirks.note_broken_pipelining(self._client.address)
        return LostStep(
            f"{error}; the server announces PIPELINING and seems not to bear it: it is asked one thing at a time now. "
            "If this comes in every run, set pipelining = false for this account"
        )

    def _mark(self, batch: tuple[Wanted, ...]) -> Iterator[Removed]:
        client = self._client
        self._marked = True
        with durable_step(Step.SOURCE_REMOVE):
            client.send(numbered(DELE, (one.number for one in batch)), [(DELE, len(batch))])
            answers = [client.status() for _ in batch]
        for one, answer in zip(batch, answers, strict=True):
            what = f"the server does not remove message {one.number}"
            yield Removed(one.key, None if answer.ok else refusal(client.address, what, DELE, answer))

    def _quit(self) -> None:
        answer = self._client.quit()
        if not answer.ok:
            what = "the session did not end well, messages marked for removal may still be there"
            raise refusal(self._client.address, what, QUIT, answer)


def _not_taken(one: Wanted, error: SyncdError, stream: Stream) -> MessageRefused:
    """The message at which the session broke off, as a failure of its own."""
    sure = isinstance(error, TooLong) or (isinstance(error, OutOfStep) and not stream.pipelined)
    kind = MessageRefused if sure else MessageLost
    return kind(f"message {one.number} was not taken: {error}", command=RETR.name)


def _not_mail(one: Wanted) -> NotMail:
    return NotMail(
        f"message {one.number} is the server's own data about the mailbox (FOLDER INTERNAL DATA), no mail: it is not "
        "taken, and never removed, because the server would then give every message a new unique-id; "
        "`syncd drop` takes it off this list",
        command=RETR.name,
    )


def _may_change(capabilities: Capabilities) -> bool:
    """Whether signing in may change what matters to us (RFC 2449 §5, §6.5, §6.7: "USER" says so)."""
    if not capabilities.lines:
        return False
    values = (capabilities.arguments(tag) or () for tag in ("EXPIRE", "LOGIN-DELAY"))
    return "PIPELINING" not in capabilities or any("USER" in words for words in values)
