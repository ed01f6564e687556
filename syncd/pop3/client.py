"""Blocking POP3: a session and the protocol's verbs as methods.

    client.open(tls); client.capa(); client.stls(tls)
    sign_in(client.session, …)                          `signin.py`
    client.session.ask(STAT); client.session.status()   what a source asks for, many commands in one flight
    client.quit()

A session costs round trips: none is spent that the server or its state does not call for. Reconnecting is the
caller's.
"""

from __future__ import annotations

import contextlib

from syncd.errors import Refused, Unsupported
from syncd.net.tls import TlsPolicy
from syncd.net.transport import Transport
from syncd.pop3 import grammar
from syncd.pop3.refusals import refusal
from syncd.pop3.session import Deadlines, Session
from syncd.pop3.values import CAPA, GREETING, QUIT, STLS, Capabilities, Status

__all__ = ["Client", "Deadlines"]

MAX_CAPA_OCTETS = 64 << 10  # real answers are under 1 KiB


class Client:
    """One session with a server.

    Its methods raise TransportError, RemoteProtocolError and Cancelled, after which it can only be closed, and
    Refused, after which it goes on.
    """

    def __init__(
        self, transport: Transport, deadlines: Deadlines, max_message_octets: int, *, may_pipeline: bool = True
    ) -> None:
        """With `may_pipeline=False` commands leave one at a time, even if the server announces PIPELINING."""
        self.session = Session(transport, deadlines, max_message_octets, may_pipeline=may_pipeline)
        self.transport = transport
        self.address = transport.address

    @property
    def capabilities(self) -> Capabilities:
        """Returns what the server announced last; empty before CAPA, and where the server does not know CAPA."""
        return self.session.capabilities

    @property
    def greeting(self) -> Status:
        """Returns the server's greeting."""
        return self.session.greeting

    @property
    def may_pipeline(self) -> bool:
        """Returns whether we use PIPELINING with this server at all."""
        return self.session.may_pipeline

    @property
    def pipelines(self) -> bool:
        """Returns whether commands may leave before earlier commands are answered."""
        return self.session.pipelines

    def open(self, tls: TlsPolicy | None) -> None:
        """Connect, begin TLS at once if `tls` is given, read the greeting. Raises Refused, WrongService."""
        session = self.session
        session.open(tls)
        if not session.greeting.ok:
            raise refusal(self.address, "the server does not take the connection", GREETING, session.greeting)

    def capa(self) -> None:
        """Ask for capabilities (RFC 2449 §5)."""
        self.session.ask(CAPA)
        self.read_capa()

    def read_capa(self) -> None:
        """Read the answer to a CAPA that was asked. A server that does not know CAPA has no capabilities."""
        octets = b""
        with contextlib.suppress(Refused):
            for chunk in self.session.lines():
                octets += chunk
                if len(octets) > MAX_CAPA_OCTETS:
                    raise self.session.nonsense(f"the answer to CAPA is longer than {MAX_CAPA_OCTETS} octets")
        self.session.capabilities = grammar.capabilities(octets)

    def stls(self, tls: TlsPolicy) -> None:
        """Begin TLS by STLS (RFC 2595 §4), or raise. What was announced in clear is forgotten: call `capa` again."""
        session = self.session
        if self.capabilities.lines and "STLS" not in self.capabilities:
            raise Unsupported(
                f"{self.address}: the server does not announce STLS, and we do not sign in without TLS; "
                'try security = "tls", which has a port of its own, usually 995',
                command=STLS.name,
            )
        session.ask(STLS)
        answer = session.status()
        if not answer.ok:
            raise refusal(self.address, "the server refuses STLS, and we do not sign in without TLS", STLS, answer)
        session.check_quiet()
        self.transport.start_tls(tls, session.deadlines.tls)
        session.capabilities = Capabilities()

    def quit(self) -> Status:
        """Send QUIT and return the answer, which may take long (RFC 1939 §6)."""
        self.session.ask(QUIT)
        return self.session.status()
