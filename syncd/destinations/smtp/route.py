"""SMTP and LMTP as a destination (RFC 5321, 2033): mail that was fetched is delivered again, to one recipient.

Such a server cannot be asked which messages it has, so the destination is of class UNCERTAIN: a message is SENDING from
just before its last octets leave until its reply is read. The parts:

    relay     the account's connections, kept and shared        envelope   decisions before anything is sent
    threads   groups of outcomes, in the engine's thread        trace      fields that are put before a message
    thread    a thread that sends over a connection             opening    how they go before its first octets
    shared    state and events of the threads                   outcomes   meaning of a reply
                                                                pace       the limits `rate` and `per_day`
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from syncd import clock
from syncd.destinations.smtp.envelope import Facts, Terms, examine, needs_smtputf8, objection, reverse_path
from syncd.destinations.smtp.opening import LOOK_OCTETS, opening
from syncd.destinations.smtp.pace import Pace
from syncd.destinations.smtp.relay import Connection, Relay, RelayOptions
from syncd.destinations.smtp.shared import Transaction
from syncd.destinations.smtp.threads import SenderThreads
from syncd.destinations.smtp.trace import Passage, loop_reason, resent_fields, route_tag, trace_fields, trace_id
from syncd.errors import Cancelled
from syncd.mail.message import Key, Message
from syncd.mail.outcome import Outcome, Repeat, Verdict
from syncd.smtp.content import Content
from syncd.smtp.values import Envelope


@dataclass(frozen=True, slots=True)
class SmtpOptions:
    """A recipient at an account.

    `sender` is an address, "" for the null sender, or "original": Return-Path, else the first address of From.
    """

    relay: RelayOptions
    recipient: str
    sender: str = ""
    trace: bool = True  # put Received and X-Syncd-Id before a message
    resent: bool = False  # put a Resent- block before a message, too; its sender is `resent_from`
    resent_from: str = ""
    send_eight_bit: bool = False  # even to a server that does not announce 8BITMIME
    refuse_long_lines: bool = False  # if the server does not announce CHUNKING
    source: str = ""  # for Received: the server that the mail comes from; "" for an archive
    protocol: str = ""  # for Received: the protocol of the source, such as POP3


class SmtpDestination:
    """One route. Routes to one account share a `relay` and a `pace`. One thread delivers; any thread may `stop`."""

    repeat = Repeat.UNCERTAIN

    def __init__(self, options: SmtpOptions, relay: Relay | None = None, pace: Pace | None = None) -> None:
        self._options = options
        self._relay = relay or Relay(options.relay)
        self._pace = pace or Pace(())
        self._tags: dict[UUID, str] = {}  # by source
        self._insisted: Collection[Key] = ()
        self._over: Callable[[], bool] = lambda: False
        self._terms = Terms(options.recipient, options.send_eight_bit, options.refuse_long_lines)
        self._threads: SenderThreads | None = None
        self._stopped = False

    def open(self) -> None:
        """Do nothing: the first message to deliver connects to the server."""

    def insist(self, keys: Collection[Key]) -> None:
        """See `base.Insistent`."""
        self._insisted = keys

    def end_when(self, over: Callable[[], bool], patience_s: float = math.inf) -> None:
        """See `base.Endable`."""
        self._over = over
        self._pace.patience_s = patience_s

    def deliver(
        self,
        batch: Sequence[Message],
        upcoming: Sequence[Message] = (),  # noqa: ARG002  the contract's
    ) -> Iterator[Sequence[Outcome]]:
        """Deliver over as many connections as the account allows. Outcomes come as soon as they are known.

        After the outcomes that are known, raises errors of the destination as a whole: TransportError, AuthRefused,
        Throttled (by the server, or by our own limits), Refused, ProtocolError, SecretUnavailable, ConfigError.
        """
        if not batch:
            return
        threads = self._threads = SenderThreads(self._relay, batch, self._prepare, self._pace, self._over)
        try:
            if self._stopped:  # from here on `stop` finds the threads
                return
            threads.start()
            while group := threads.gather():
                yield group
                threads.release()
        except Cancelled:
            if not self._stopped:
                raise
        finally:
            threads.finish()
        threads.check()

    def stop(self) -> None:
        """See `base.Stoppable`."""
        self._stopped = True
        if self._threads is not None:
            self._threads.stop()

    def close(self) -> None:
        """Wait for the threads and close the connections. Repeatable."""
        if self._threads is not None:
            self._threads.finish()
        self._relay.close()

    # --- decided before an octet is sent --------------------------------------------------------------

    def _prepare(self, message: Message, connection: Connection) -> Transaction | Outcome:
        options, facts = self._options, examine(message.body)
        tag = self._tag(message.ref.origin.account)
        message_id = trace_id(message.ref, message.body.sha256, tag)
        sender = reverse_path(options.sender, facts)
        before = opening(
            self._fields(message_id, connection.client.helo), next(message.body.chunks(), b"")[:LOOK_OCTETS]
        )
        content = Content(before.prefix, message.body, before.skip)
        if message.key not in self._insisted and (reason := loop_reason(facts.ids, facts.received, tag)):
            return Outcome(message.key, Verdict.REJECTED, reason=reason, loop=True)
        if reason := objection(sender, facts, content, self._terms, connection.offer):
            return Outcome(message.key, Verdict.REJECTED, reason=reason)
        notes = (before.note, "line ends made CRLF" if connection.client.rewrites(content) else "")
        note = "; ".join(filter(None, notes))
        return Transaction(self._envelope(sender, message_id, facts, content), content, note)

    def _tag(self, account: UUID) -> str:
        if account not in self._tags:
            self._tags[account] = route_tag(account, self._options.recipient)
        return self._tags[account]

    def _fields(self, message_id: str, helo: str) -> bytes:
        options, now = self._options, clock.now()
        passage = Passage(helo, options.source, options.protocol)
        trace = trace_fields(passage, message_id, options.recipient, now) if options.trace else b""
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
