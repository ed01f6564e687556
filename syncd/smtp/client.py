"""Blocking SMTP and LMTP: a session and the protocol's verbs as methods.

    client.open(tls); client.starttls(tls); client.authenticate(mechanism)
    refused = client.begin(envelope, content)      # all of the message but its last octets
    if not refused:
        client.end()                               # now it may have arrived
        replies = client.replies()                 # and now that is known

Many messages go over one connection. Where `pipelines_messages` is true, `begin` of the next may come before
`replies` of the last. Reconnecting is the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence

from syncd.auth.sasl import Mechanism
from syncd.errors import Unsupported
from syncd.net.tls import TlsPolicy
from syncd.net.transport import Transport
from syncd.smtp import grammar
from syncd.smtp.content import Content, Form
from syncd.smtp.encoder import command
from syncd.smtp.quirks import Quirks
from syncd.smtp.refusals import refusal
from syncd.smtp.sender import Sender
from syncd.smtp.session import Deadlines, Session
from syncd.smtp.signin import sign_in
from syncd.smtp.values import Capabilities, Envelope, Reply, Verb

__all__ = ["Client", "Content", "Deadlines"]


class Client:
    """One session with a server, which knows us as `helo`: a domain or an address literal (RFC 5321 §4.1.4).

    `quirks` are what is known of the server; give the same to each of an account's clients. Methods raise
    TransportError (also when the server ends the session), RemoteProtocolError and Cancelled, after which only
    `close` is left, and Refused, after which it goes on.
    """

    def __init__(
        self, transport: Transport, deadlines: Deadlines, *, lmtp: bool = False, helo: str, quirks: Quirks | None = None
    ) -> None:
        self.transport = transport
        self.address = transport.address
        self.greeting = Reply(0)
        self._session = Session(transport, deadlines, quirks or Quirks())
        self._sender = Sender(self._session, lmtp=lmtp)
        self._lmtp = lmtp
        self._helo = helo

    # --- what is so, and what may be -----------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        """What the server announced last."""
        return self._session.capabilities

    @property
    def pipelines(self) -> bool:
        """Whether commands of one message leave together."""
        return self._session.pipelines

    @property
    def pipelines_messages(self) -> bool:
        """Whether `begin` of the next message may follow `end` before `replies`: by BDAT, with servers that bear it."""
        quirks = self._session.quirks
        chunking = self._sender.may_chunk and "CHUNKING" in self.capabilities
        return self.pipelines and chunking and quirks.bears_pipelined_messages(self.greeting, lmtp=self._lmtp)

    @property
    def stale(self) -> bool:
        """Between messages: whether the server has closed the session meanwhile, or said something unasked (S04)."""
        connection = self._session.connection
        return connection.closing is not None or len(connection.buffer) > 0 or self.transport.readable()

    def restrict(self, *, pipelining: bool = True, chunking: bool = True, long_lines: bool = True) -> None:
        """Do without what is announced. `long_lines` False: `begin` refuses a message that has some and no BDAT."""
        self._session.may_pipeline = pipelining
        self._sender.may_chunk = chunking
        self._sender.refuses_long_lines = not long_lines

    def rewrites(self, content: Content) -> bool:
        """Whether line ends would have to be changed on the way (never with BINARYMIME)."""
        return content.rewritten and self._sender.form_of(content) is not Form.BINARY

    # --- the session ---------------------------------------------------------------------------------

    def open(self, tls: TlsPolicy | None) -> None:
        """Connect, set implicit TLS up if options for it are given, read the greeting, say EHLO (or LHLO)."""
        session = self._session
        self.transport.connect(session.deadlines.connect)
        if tls is not None:
            self.transport.start_tls(tls, session.deadlines.tls)
        self.greeting = session.answer().reply
        if not self.greeting.ok:
            raise refusal(self.address, "the server does not take the connection", Verb.GREETING, self.greeting)
        self._hello()

    def starttls(self, tls: TlsPolicy) -> None:
        """Go over to TLS (RFC 3207 §4), or raise. What was announced in clear is forgotten and asked again (§4.2)."""
        session = self._session
        if "STARTTLS" not in self.capabilities:
            raise Unsupported(
                f"{self.address}: the server does not announce STARTTLS, and nobody signs in without TLS here; "
                'try security = "tls", which has a port of its own, usually 465',
                command=Verb.STARTTLS.value,
            )
        reply = session.ask(Verb.STARTTLS, command(Verb.STARTTLS))
        if not reply.ok:
            what = "the server refuses STARTTLS, and nobody signs in without TLS here"
            raise refusal(self.address, what, Verb.STARTTLS, reply)
        with session.naming():
            session.connection.check_quiet()
        session.capabilities = Capabilities()
        self.transport.start_tls(tls, session.deadlines.tls)
        self._hello()

    def authenticate(self, mechanism: Mechanism) -> None:
        """Sign in (RFC 4954). Raises AuthRefused, Unsupported, Refused (later), LocalProtocolError."""
        sign_in(self._session, mechanism)

    def quit(self) -> Reply:
        """Say QUIT and read the reply (RFC 5321 §4.1.1.10). S07: never in one flight with a message."""
        self._session.settle()
        return self._session.ask(Verb.QUIT, command(Verb.QUIT))

    def close(self) -> None:
        """Drop the connection: the server gives up what was begun and not ended (RFC 5321 §4.1.1.10). Repeatable."""
        self._session.end("the connection was closed")
        self.transport.close()

    # --- messages ------------------------------------------------------------------------------------

    def begin(self, envelope: Envelope, content: Content) -> Sequence[Reply]:
        """Send the transaction of one message up to, not including, the last octets that end it.

        Gives nothing while it goes on. Where it was refused, it is over, and there is one reply for each recipient:
        then neither `end` nor `replies` is for it. 421 is such a reply too, after which the session is over.
        Raises LocalProtocolError for an envelope that cannot be sent and MessageRefused for long lines (see
        `restrict`), both before an octet has left. After TransportError the message was surely not sent.
        """
        return self._sender.begin(envelope, content, messages_pipelined=self.pipelines_messages)

    def end(self) -> None:
        """Send the last octets of the message that was begun. From here on it may have arrived.

        After TransportError not all of them have left this machine, so it was surely not sent; what the server had
        said before, if that is a refusal, is given by `replies` instead.
        """
        self._sender.end()

    def replies(self) -> Sequence[Reply]:
        """The outcome of the oldest ended message: one reply for each recipient of its envelope, in order.

        Where the session ended before all were known, the others are NO_REPLY; where nothing at all was known, what
        ended it is raised (RFC 1047: it may have arrived). A message that was ended is told of also after others
        raised, if its replies had come. After 421 the session is over: `early` says whether the message was not sent.
        """
        return self._sender.replies()

    # --- inside --------------------------------------------------------------------------------------

    def _hello(self) -> None:
        """EHLO, or HELO where the server knows no better (RFC 5321 §3.2); LMTP has no such way out (RFC 2033 §4.1)."""
        session = self._session
        verb = Verb.LHLO if self._lmtp else Verb.EHLO
        reply = session.ask(verb, command(verb, self._helo))
        session.capabilities = grammar.capabilities(reply) if reply.ok else Capabilities()
        if not reply.ok and not self._lmtp and not reply.transient:
            verb = Verb.HELO
            reply = session.ask(verb, command(verb, self._helo))
        if not reply.ok:
            raise refusal(self.address, f"the server refuses {verb.value}", verb, reply)
