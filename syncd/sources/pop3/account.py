"""A POP3 account as a source (RFC 1939, 2449, 2595, 5034).

A session costs: connect, TLS, CAPA, sign-in, one flight of STAT, LIST and UIDL, and QUIT; where the server
does not announce PIPELINING, a round trip for each command.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from syncd.auth.sasl import Credentials
from syncd.errors import Cancelled, ConnectionLost
from syncd.net.endpoint import Endpoint
from syncd.net.transport import Transport
from syncd.pop3.client import Client, Deadlines
from syncd.pop3.quirks import Quirks
from syncd.pop3.signin import CHOICES, sign_in
from syncd.sources.pop3.session import Pop3Session


@dataclass(frozen=True, slots=True)
class Pop3Options:
    """An account. `endpoint.auth` is one of `signin.CHOICES`. Raises ConfigError for names that POP3 does not know."""

    endpoint: Endpoint
    spool: Path  # the folder for messages over 2 MiB while they are in flight
    message_octets: int = 2 << 30  # a server that sends more in one message loses its session
    pipelining: bool = True  # where the server announces it
    deadlines: Deadlines = field(default_factory=Deadlines)

    def __post_init__(self) -> None:
        self.endpoint.check("POP3", CHOICES)


class Pop3Source:
    """The account (`sources.base.Source`). One session at a time: it locks the mailbox (RFC 1939 §4)."""

    connections = 1

    def __init__(self, options: Pop3Options, quirks: Quirks | None = None) -> None:
        """`quirks` holds what is known about the server; pass the same object to each source for this account."""
        self._options = options
        self._quirks = quirks or Quirks()
        self._transport: Transport | None = None
        self._cancelled = False

    def connect(self) -> Pop3Session:
        """Connect and sign in. Raises as `sources.base.Source.connect` says."""
        options, endpoint = self._options, self._options.endpoint
        credentials = Credentials(endpoint.username, endpoint.password(), endpoint.host, endpoint.port)
        client = self._ready()
        try:
            with endpoint.signing_in():
                mechanism = sign_in(client.session, endpoint.auth, credentials, allow_insecure=endpoint.allow_insecure)
            return Pop3Session(client, options.spool, mechanism, self._quirks)
        except BaseException:
            client.transport.close()
            raise

    def cancel(self) -> None:
        """From any thread: the session's thread raises Cancelled within a moment, and at every later connect."""
        self._cancelled = True
        transport = self._transport
        if transport is not None:
            transport.cancel()

    def _ready(self) -> Client:
        """Returns a client that is connected, protected as asked, and knows the capabilities: ready to sign in."""
        endpoint = self._options.endpoint
        client = self._client()
        try:
            client.open(endpoint.tls if endpoint.security == "tls" else None)
            if self._take_capa(client) and (endpoint.security != "starttls" or self._protect(client)):
                return client
        except BaseException:
            client.transport.close()
            raise
        client.transport.close()
        return self._ready()

    def _client(self) -> Client:
        options = self._options
        self._transport = transport = Transport(options.endpoint.host, options.endpoint.port, options.endpoint.proxy)
        if self._cancelled:
            raise Cancelled(f"{transport.address}: stopped on request")
        may_pipeline = options.pipelining and not self._quirks.breaks_pipelining
        return Client(transport, options.deadlines, options.message_octets, may_pipeline=may_pipeline)

    def _take_capa(self, client: Client) -> bool:
        """Ask for capabilities, unless the server hangs up on CAPA. Returns False if it did so just now (P29)."""
        if self._quirks.hangs_up_on_capa:
            return True
        try:
            client.capa()
        except ConnectionLost:
            self._quirks.note_hang_up_on_capa(client.address)
            return False
        return True

    def _protect(self, client: Client) -> bool:
        """Begin TLS and ask for capabilities again: whatever was said in clear may not hold under TLS (P30)."""
        client.stls(self._options.endpoint.tls)
        return self._take_capa(client)
