"""SMTP and LMTP as a destination (RFC 5321, 2033): mail that was pulled is delivered again, to one recipient.

Nothing tells what such a server has, so this is the class UNCERTAIN: a message is SENDING from just before its last
octets leave until its reply is read. The parts:

    smtp_relay     the account's connections, kept and shared        smtp_envelope   what is decided beforehand
    smtp_crew      groups of outcomes, in the engine's thread         smtp_trace      what is put before a message
    smtp_lane      a thread and connection that sends                 smtp_outcomes   what a reply means
    smtp_board     what lanes share and tell                          smtp_pace       `rate`, `per_day`
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from syncd import clock
from syncd.destinations.base import Outcome, Repeat, Verdict
from syncd.destinations.smtp.envelope import Facts, Terms, examine, needs_smtputf8, objection, reverse_path
from syncd.destinations.smtp.pace import Pace
from syncd.destinations.smtp.relay import Connection, Relay, RelayOptions
from syncd.destinations.smtp.shared import Transaction
from syncd.destinations.smtp.threads import Crew
from syncd.destinations.smtp.trace import Passage, loops, resent_fields, route_tag, trace_fields, trace_id
from syncd.errors import Cancelled
from syncd.mail.message import Message
from syncd.smtp.content import Content
from syncd.smtp.values import Envelope


@dataclass(frozen=True, slots=True)
class SmtpOptions:
    """A recipient at an account. `sender`: an address, "" for the null one, or "original" (Return-Path, else From)."""

    relay: RelayOptions
    recipient: str
    sender: str = ""
    trace: bool = True  # put Received and X-Syncd-Id before a message
    resent: bool = False  # … and a Resent- block; its sender is `resent_from`
    resent_from: str = ""
    send_eight_bit: bool = False  # to a server that does not announce 8BITMIME
    refuse_long_lines: bool = False  # where the server does not announce CHUNKING
    source: str = ""  # for Received: the server that the mail comes from, "" for an archive
    protocol: str = ""  # … and what it speaks, such as POP3


class SmtpDestination:
    """One route. Those that lead to one account share a `relay` and a `pace`; one thread delivers, any may `stop`."""

    repeat = Repeat.UNCERTAIN

    def __init__(self, options: SmtpOptions, relay: Relay | None = None, pace: Pace | None = None) -> None:
        self._options = options
        self._relay = relay or Relay(options.relay)
        self._pace = pace or Pace(())
        self._tags: dict[UUID, str] = {}  # by source
        self._insisted: Collection[int] = ()
        self._passage = Passage(options.relay.helo, options.source, options.protocol)
        self._terms = Terms(options.recipient, options.send_eight_bit, options.refuse_long_lines)
        self._crew: Crew | None = None
        self._stopped = False

    def open(self) -> None:
        """Nothing: the server is asked when there is something to deliver."""

    def insist(self, keys: Collection[int]) -> None:
        """See `base.Insistent`."""
        self._insisted = keys

    def deliver(
        self,
        batch: Sequence[Message],
        upcoming: Sequence[Message] = (),  # noqa: ARG002  the contract's
    ) -> Iterator[Sequence[Outcome]]:
        """Deliver over as many connections as the account allows; outcomes come in the order in which they are known.

        Raises about the destination as a whole, after the outcomes that are known: TransportError, AuthRefused,
        Throttled (by the server, or by our own limits), Refused, ProtocolError, SecretUnavailable, ConfigError.
        """
        if not batch:
            return
        crew = self._crew = Crew(self._relay, batch, self._prepare, self._pace)
        try:
            if self._stopped:  # from here on `stop` finds the crew
                return
            crew.start()
            while group := crew.gather():
                yield group
                crew.release()
        except Cancelled:
            if not self._stopped:
                raise
        finally:
            crew.finish()
        crew.check()

    def stop(self) -> None:
        """See `base.Stoppable`."""
        self._stopped = True
        if self._crew is not None:
            self._crew.stop()

    def close(self) -> None:
        """Say goodbye to the server. Repeatable."""
        if self._crew is not None:
            self._crew.finish()
        self._relay.close()

    # --- decided before an octet is sent --------------------------------------------------------------

    def _prepare(self, message: Message, connection: Connection) -> Transaction | Outcome:
        options, facts = self._options, examine(message.body)
        tag = self._tag(message.ref.origin.account)
        message_id = trace_id(message.ref, message.body.sha256, tag)
        sender = reverse_path(options.sender, facts)
        content = Content(self._prefix(message_id), message.body)
        loop = "" if message.key in self._insisted else loops(facts.ids, facts.received, tag)
        if reason := loop or objection(sender, facts, content, self._terms, connection.offer):
            return Outcome(message.key, Verdict.REJECTED, reason=reason)
        note = "line ends made CRLF" if connection.client.rewrites(content) else ""
        return Transaction(self._envelope(sender, message_id, facts, content), content, note)

    def _tag(self, account: UUID) -> str:
        if account not in self._tags:
            self._tags[account] = route_tag(account, self._options.recipient)
        return self._tags[account]

    def _prefix(self, message_id: str) -> bytes:
        options, now = self._options, clock.now()
        trace = trace_fields(self._passage, message_id, options.recipient, now) if options.trace else b""
        author = options.resent_from or options.recipient
        return trace + (resent_fields(message_id, author, options.recipient, now) if options.resent else b"")

    def _envelope(self, sender: str, message_id: str, facts: Facts, content: Content) -> Envelope:
        return Envelope(
            sender=sender,
            recipients=(self._options.recipient,),
            size=content.octets,
            eight_bit=content.eight_bit,
            smtputf8=needs_smtputf8(sender, facts, self._terms),
            envid=message_id,
        )
