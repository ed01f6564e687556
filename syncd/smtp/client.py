"""Blocking SMTP and LMTP: a session and the protocol's verbs as methods.

    client.open(tls); client.starttls(tls); client.authenticate(mechanism)
    refused = client.begin(envelope, content)      # all of the message but its last octets
    if not refused:
        client.end()                               # the message may have arrived
        replies = client.replies()                 # its outcome is known

Many messages go over one connection. If `pipelines_messages` is true, `begin` of the next message may come before
`replies` of the last. Reconnecting is the caller's.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from syncd.auth.sasl import Mechanism
from syncd.errors import Unsupported
from syncd.net.tls import TlsPolicy
from syncd.net.transport import Transport
from syncd.smtp import grammar
from syncd.smtp.content import Content, Form
from syncd.smtp.encoder import command
from syncd.smtp.names import our_name
from syncd.smtp.quirks import Quirks
from syncd.smtp.refusals import refusal
from syncd.smtp.sender import Sender
from syncd.smtp.session import Deadlines, Session
from syncd.smtp.signin import sign_in
from syncd.smtp.values import Capabilities, Envelope, Reply, Verb

__all__ = ["Client", "Content", "Deadlines"]


class Client:
    """One session with a server. `helo` is our name: a domain or an address literal (RFC 5321 §4.1.4).

    Without a name, this machine's full name is said, or else our address on the connection.

    `quirks` holds what is known about the server; pass the same object to each client of an account. Methods raise
    TransportError (also when the server ends the session), RemoteProtocolError and Cancelled, after which the session
    can only be closed, and Refused, after which the session goes on.
    """

    def __init__(
        self,
        transport: Transport,
        deadlines: Deadlines,
        *,
        lmtp: bool = False,
        helo: str = "",
        quirks: Quirks | None = None,
    ) -> None:
        self.transport = transport
        self.address = transport.address
        self.greeting = Reply(0)
        self._session = Session(transport, deadlines, quirks or Quirks(), "LMTP" if lmtp else "SMTP")
        self._sender = Sender(self._session, lmtp=lmtp)
        self._lmtp = lmtp
        self.helo = helo

    # --- state and options ----------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        """Returns what the server announced last."""
        return self._session.capabilities

    @property
    def pipelines(self) -> bool:
        """Returns whether commands of one message leave together."""
        return self._session.pipelines

    @property
    def pipelines_messages(self) -> bool:
        """Returns whether `begin` of the next message may follow `end` before `replies`.

        This needs BDAT, and a server that is known to work so.
        """
        quirks = self._session.quirks
        chunking = self._sender.may_chunk and "CHUNKING" in self.capabilities
        return self.pipelines and chunking and quirks.takes_pipelined_messages(self.greeting, lmtp=self._lmtp)

    @property
    def stale(self) -> bool:
        """Returns, between messages, whether the server has closed the session or said something unasked (S04)."""
        connection = self._session.connection
        return connection.closing is not None or connection.has_octets or self.transport.readable()

    def restrict(self, *, pipelining: bool = True, chunking: bool = True, long_lines: bool = True) -> None:
        """Do not use an announced extension. With `long_lines=False`, `begin` refuses long lines without CHUNKING."""
        self._session.may_pipeline = pipelining
        self._sender.may_chunk = chunking
        self._sender.refuses_long_lines = not long_lines

    def rewrites(self, content: Content) -> bool:
        """Returns whether line ends would have to be changed (never with BINARYMIME)."""
        return content.rewritten and self._sender.form_of(content) is not Form.BINARY

    # --- the session ---------------------------------------------------------------------------------

    def open(self, tls: TlsPolicy | None) -> None:
        """Connect, begin TLS at once if `tls` is given, read the greeting, send EHLO (or LHLO).

        Raises Refused, and WrongService for another kind of server, or one that begins otherwise than `tls` says.
        """
        self.greeting = self._session.open(tls)
        self.helo = self.helo or our_name(socket.gethostname(), self.transport.local_host)
        if not self.greeting.ok:
            raise refusal(self.address, "the server does not take the connection", Verb.GREETING, self.greeting)
        self._hello()

    def starttls(self, tls: TlsPolicy) -> None:
        """Begin TLS by STARTTLS (RFC 3207 §4), or raise. What was announced in clear is asked again (§4.2)."""
        session = self._session
        if "STARTTLS" not in self.capabilities:
            raise Unsupported(
                f"{self.address}: the server does not announce STARTTLS, and we do not sign in without TLS; "
                'try security = "tls", which has a port of its own, usually 465',
                command=Verb.STARTTLS.value,
            )
        reply = session.ask(Verb.STARTTLS, command(Verb.STARTTLS))
        if not reply.ok:
            what = "the server refuses STARTTLS, and we do not sign in without TLS"
            raise refusal(self.address, what, Verb.STARTTLS, reply)
        with session.naming():
            session.connection.check_quiet()
        session.capabilities = Capabilities()
        self.transport.start_tls(tls, session.deadlines.tls)
        self._hello()

    def authenticate(self, mechanism: Mechanism) -> None:
        """Sign in (RFC 4954). Raises AuthRefused, Unsupported, Refused (try later), LocalProtocolError."""
        sign_in(self._session, mechanism)

    def quit(self) -> Reply:
        """Send QUIT and return the reply (RFC 5321 §4.1.1.10). S07: never in one flight with a message."""
        self._session.read_answers()
        return self._session.ask(Verb.QUIT, command(Verb.QUIT))

    def close(self) -> None:
        """Drop the connection: the server discards a message that was not ended (RFC 5321 §4.1.1.10). Repeatable."""
        self._session.end("the connection was closed")
        self.transport.close()

    # --- messages ------------------------------------------------------------------------------------

    def begin(self, envelope: Envelope, content: Content) -> Sequence[Reply]:
        """Send the transaction of one message, except the last octets, which end it.

        Returns nothing if the message may be ended. If it was refused, returns one reply for each recipient; then the
        transaction is over, and `end` and `replies` must not be called for it. Such a reply may be 421, after which
        the session is over.

        Raises LocalProtocolError for an envelope that cannot be sent and MessageRefused for long lines (see
        `restrict`), both before an octet has left. After TransportError the message was surely not sent.
        """
        return self._sender.begin(envelope, content, messages_pipelined=self.pipelines_messages)

    def end(self) -> None:
        """Send the last octets of the message that was begun. From here on it may have arrived.

        After TransportError not all octets have left this machine, so the message was surely not sent. If the server
        had refused the message before that, nothing is raised here, and `replies` returns the refusal.
        """
        self._sender.end()

    def replies(self) -> Sequence[Reply]:
        """Returns the outcome of the oldest ended message: one reply for each recipient of its envelope, in order.

        If the session ended before all replies came, the missing ones are NO_REPLY. If no reply came, the error that
        ended the session is raised: the message may have arrived (RFC 1047). Replies that came before the end of the
        session are returned even after `replies` raised for an earlier message. After 421 the session is over, and
        `early` says whether the message was surely not sent.
        """
        return self._sender.replies()

    # --- inside --------------------------------------------------------------------------------------

    def _hello(self) -> None:
        """Send EHLO, or HELO if the server does not know EHLO (RFC 5321 §3.2). LMTP has only LHLO (RFC 2033 §4.1)."""
        session = self._session
        verb = Verb.LHLO if self._lmtp else Verb.EHLO
        reply = session.ask(verb, command(verb, self.helo))
        session.capabilities = grammar.capabilities(reply) if reply.ok else Capabilities()
        if not reply.ok and not self._lmtp and not reply.transient:
            verb = Verb.HELO
            reply = session.ask(verb, command(verb, self.helo))
        if not reply.ok:
            raise refusal(self.address, f"the server refuses {verb.value}", verb, reply)
