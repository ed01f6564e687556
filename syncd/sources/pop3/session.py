"""A signed-in POP3 session, and the one mailbox that it has: list, headers, fetch, remove, QUIT.

Message numbers (RFC 1939 §5) mean something in this session only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from syncd.durable import Step, durable_step
from syncd.errors import NoHeaders, Refused, RemoteProtocolError, TransportError
from syncd.mail.listing import Facts, Fetched, Listed, Removed, Totals, Wanted
from syncd.mail.mailbox import MAILDROP, Mailbox
from syncd.mail.message import Key
from syncd.pop3.client import Client
from syncd.pop3.encoder import numbered
from syncd.pop3.quirks import Quirks, shows_pages
from syncd.pop3.refusals import refusal
from syncd.pop3.values import DELE, QUIT, TOP, Capabilities
from syncd.sources.base import Room, SourceInfo
from syncd.sources.pop3.listing import Listing
from syncd.sources.pop3.notes import notes, pause_s
from syncd.sources.pop3.retrieval import Retrieval, lost_step
from syncd.sources.pop3.stream import Stream, Unbounded, read_header

DELE_COMMANDS = 100  # in one durable step: 1 KiB, and so few octets of answers that neither side can block
HEADER_OCTETS = 4 << 10  # what an answer to TOP n 0 is taken to have, for the window


class Pop3Session:
    """A signed-in session (`sources.base.SourceSession`), which is its own `OpenMailbox`: POP3 has one mailbox."""

    mailbox = MAILDROP

    def __init__(self, client: Client, spool: Path, mechanism: str, quirks: Quirks) -> None:
        self._client = client
        self._mechanism = mechanism
        self._quirks = quirks
        self._marked = False
        again = _may_change(client.capabilities)
        if again and client.may_pipeline and not client.pipelines:
            client.capa()  # PIPELINING is worth a round trip; some servers announce it only now
            again = False
        self._listing = Listing(client, quirks, capa_again=again and client.pipelines)
        self._retrieval = Retrieval(client.session, self._listing, spool, quirks)

    @property
    def info(self) -> SourceInfo:
        """The connection, and the capabilities that the server announces; complete after the first listing."""
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

    def mailboxes(self) -> Iterator[list[Mailbox]]:
        """The one that there is."""
        yield [MAILDROP]

    def open(
        self,
        mailbox: Mailbox,
        *,
        removes: bool = False,  # noqa: ARG002
        following: Mailbox | None = None,  # noqa: ARG002
    ) -> Pop3Session:
        """The session itself: signing in has opened its mailbox."""
        assert mailbox.name == MAILDROP.name, mailbox
        return self

    def totals(self) -> Totals:
        """STAT's answer, as of the last listing if there was one."""
        return self._listing.totals()

    def facts(self) -> Iterator[list[Facts]]:
        """Every message, in order: POP3 has neither flags nor dates."""
        for chunk in self.list():
            yield [Facts(*line) for line in chunk]

    def list(self) -> Iterator[list[Listed]]:
        """Every message, in order. Raises Unsupported where the server has no UIDL, and as the contract says.

        LostStep where the answers may be mixed up because they were pipelined.
        """
        try:
            yield from self._listing.rows()
        except RemoteProtocolError as error:
            if not self._client.pipelines:
                raise
            raise lost_step(error, self._quirks, self._client.address) from error

    def fetch(self, wanted: Iterable[Wanted], room: Room, *, alone: bool = False) -> Iterator[Fetched | None]:
        """RETR in the order of `wanted`, pipelined unless `alone`.

        A message is handed out when it is proven to be whole and the one that was asked for (see `Stream`). When the
        session breaks off at a message, and it is certain which, that message is answered with an error of its own;
        a later session can then leave it out and reach the messages behind it. Raises LostStep where a session that
        does not pipeline will do better, Throttled where the server refuses every message alike.
        """
        self._listing.drain()
        yield from self._retrieval.messages(wanted, room, alone=alone)

    def headers(self, wanted: Iterable[Wanted]) -> Iterator[tuple[Key, bytes | None]]:
        """TOP n 0, pipelined. None for each message where the server does not know TOP, which is optional.

        Raises NoHeaders where the session breaks off.
        """
        self._listing.drain()
        headers = (one._replace(octets=min(one.octets, HEADER_OCTETS)) for one in wanted)
        stream = Stream(self._client.session, TOP, " 0", headers, Unbounded())
        try:
            for answer in stream.answers(partial(read_header, self._client.session)):
                if isinstance(answer, tuple):
                    yield answer[0].key, answer[1]
        except (TransportError, RemoteProtocolError) as error:
            raise NoHeaders(f"{error}; the session broke off where headers alone were asked for") from error

    def remove(self, doomed: Iterable[Wanted]) -> Iterator[Removed]:
        """DELE, up to DELE_COMMANDS in one durable step."""
        self._listing.drain()
        todo = iter(doomed)
        while batch := tuple(islice(todo, DELE_COMMANDS if self._client.pipelines else 1)):
            yield from self._mark(batch)

    def finish(self) -> None:
        """QUIT, and hang up. Raises Refused when the server says that it did not remove what was marked (P35)."""
        self._listing.drain()
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

    def _mark(self, batch: tuple[Wanted, ...]) -> Iterator[Removed]:
        session = self._client.session
        self._marked = True
        with durable_step(Step.SOURCE_REMOVE):
            session.send(numbered(DELE, (one.number for one in batch)), [(DELE, len(batch))])
            answers = [session.status() for _ in batch]
        for one, answer in zip(batch, answers, strict=True):
            what = f"the server does not remove message {one.number}"
            yield Removed(one.key, None if answer.ok else refusal(session.address, what, DELE, answer))

    def _quit(self) -> None:
        answer = self._client.quit()
        if not answer.ok:
            what = "the session did not end well, messages marked for removal may still be there"
            raise refusal(self._client.address, what, QUIT, answer)


def _may_change(capabilities: Capabilities) -> bool:
    """Tells whether signing in may change what matters to us (RFC 2449 §5, §6.5, §6.7: "USER" says so)."""
    if not capabilities.lines:
        return False
    values = (capabilities.arguments(tag) or () for tag in ("EXPIRE", "LOGIN-DELAY"))
    return "PIPELINING" not in capabilities or any("USER" in words for words in values)
