"""A signed-in POP3 session: list, fetch, recognise, remove, say goodbye. Message numbers never leave it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from syncd.durable import Step, durable_step
from syncd.errors import ConnectionLost, MessageRefused, RemoteProtocolError, TransportError, printable
from syncd.mail.body import Body
from syncd.pop3.client import Client
from syncd.pop3.encoder import numbered
from syncd.pop3.quirks import Quirks
from syncd.pop3.refusals import refusal
from syncd.pop3.values import DELE, NOOP, QUIT, RETR, TOP, Capabilities, OutOfStep, Status, TooLong
from syncd.sources.base import Fetched, Listed, Removed, Room, SourceInfo, Totals, Wanted
from syncd.sources.pop3_listing import Listing
from syncd.sources.pop3_stream import Stream, Unbounded, read_body, read_header_hash

DELE_COMMANDS = 100  # in one durable step: 1 KiB, and so few octets of answers that neither side can block
HEADER_OCTETS = 4 << 10  # what an answer to TOP n 0 is taken to have, for the window

_Answer = tuple[Wanted, Body | Status]


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
        capabilities = client.capabilities
        return SourceInfo(
            client.address, client.transport.tls, self._mechanism, capabilities.lines, _notes(capabilities)
        )

    def totals(self) -> Totals:
        """STAT's answer; of the last listing, if there was one."""
        return self._listing.totals()

    def list(self) -> Iterator[list[Listed]]:
        """Every message, in order. Raises Unsupported where the server has no UIDL, and as the contract says."""
        return self._listing.rows()

    def fetch(self, wanted: Iterable[Wanted], room: Room) -> Iterator[Fetched | None]:
        """RETR, pipelined.

        Each message is held back until the server's next reply has begun well: after a lone dot in a message
        that the server forgot to stuff (P18), what follows is no reply, and the message is not whole. Such a
        message, and one longer than `message_octets`, ends the session, but is first answered with its own
        error: so that the next session can leave it out and get at those behind it.
        """
        self._listing.settle()
        stream = Stream(self._client, RETR, "", wanted, room)
        held: _Answer | None = None
        try:
            for answer in stream.answers(partial(read_body, self._client, self._spool)):
                if answer is None:
                    self._check_step(held)
                ready, held = held, answer
                if ready is not None:
                    yield self._fetched(*ready)
                if answer is None:
                    yield None
            self._check_step(held)
            ready, held = held, None
            if ready is not None:
                yield self._fetched(*ready)
        except OutOfStep as error:
            if self._client.pipelines:
                self._quirks.note_broken_pipelining(self._client.address)  # P31
            if held is not None:
                yield self._spoiled(held[0], error)
            raise
        except (TransportError, TooLong) as error:  # what is held ended well: nothing that followed speaks against it
            ready, held = held, None
            if ready is not None:
                yield self._fetched(*ready)
            culprit = stream.unanswered()
            if isinstance(error, TooLong) and culprit is not None:
                yield self._spoiled(culprit, error)
            raise
        finally:
            if held is not None and isinstance(held[1], Body):
                held[1].close()

    def header_hashes(self, wanted: Iterable[Wanted]) -> Iterator[tuple[int, bytes | None]]:
        """TOP n 0, pipelined; None for each message where the server does not know TOP (it is optional)."""
        self._listing.settle()
        headers = (one._replace(octets=min(one.octets, HEADER_OCTETS)) for one in wanted)
        stream = Stream(self._client, TOP, " 0", headers, Unbounded())
        for answer in stream.answers(partial(read_header_hash, self._client)):
            if answer is not None:
                yield answer[0].key, answer[1]

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
            with contextlib.suppress(ConnectionLost):  # nothing hangs on the answer
                self._quit()
        self.close()

    def close(self) -> None:
        """Hang up without QUIT: what was marked stays (RFC 1939 §6). Repeatable."""
        self._client.transport.close()

    # --- inside --------------------------------------------------------------------------------------

    def _fetched(self, one: Wanted, answer: Body | Status) -> Fetched:
        if isinstance(answer, Body):
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

    def _spoiled(self, one: Wanted, error: RemoteProtocolError) -> Fetched:
        """The message that ended the session, as a failure of its own."""
        return Fetched(one.key, None, MessageRefused(f"message {one.number} was not taken: {error}", command=RETR.name))

    def _check_step(self, held: _Answer | None) -> None:
        """Before the last message is handed out: if it is shorter than listed, see that a reply follows it.

        A round trip, but only where LIST exaggerates (P16) or a message was cut (P18).
        """
        if held is not None and isinstance(held[1], Body) and held[1].octets < held[0].octets:
            self._client.ask(NOOP)
            self._client.status()

    def _mark(self, batch: tuple[Wanted, ...]) -> Iterator[Removed]:
        client = self._client
        self._marked = True
        with durable_step(Step.SOURCE_REMOVE):
            client.send(DELE, numbered(DELE, (one.number for one in batch)), len(batch))
            answers = [client.status() for _ in batch]
        for one, answer in zip(batch, answers, strict=True):
            what = f"the server does not remove message {one.number}"
            yield Removed(one.key, None if answer.ok else refusal(client.address, what, DELE, answer))

    def _quit(self) -> None:
        answer = self._client.quit()
        if not answer.ok:
            what = "the session did not end well, messages marked for removal may still be there"
            raise refusal(self._client.address, what, QUIT, answer)


def _may_change(capabilities: Capabilities) -> bool:
    """Whether signing in may change what matters to us (RFC 2449 §5, §6.5, §6.7: "USER" says so)."""
    if not capabilities.lines:
        return False
    values = (capabilities.arguments(tag) or () for tag in ("EXPIRE", "LOGIN-DELAY"))
    return "PIPELINING" not in capabilities or any("USER" in words for words in values)


def _notes(capabilities: Capabilities) -> tuple[str, ...]:
    """What the account's owner should know (RFC 2449 §6.5, §6.7; P27, P45)."""
    notes = []
    expire, delay = capabilities.arguments("EXPIRE"), capabilities.arguments("LOGIN-DELAY")
    if expire and expire[0] == "0":
        notes.append("the server may remove messages as soon as they were retrieved (EXPIRE 0)")
    elif expire and expire[0] != "NEVER":
        notes.append(f"the server removes messages after {printable(expire[0])} days (EXPIRE)")
    if delay and delay[0] != "0":
        notes.append(f"the server wants {printable(delay[0])} s between sign-ins (LOGIN-DELAY)")
    return tuple(notes)
