"""A POP3 account as a source (RFC 1939, 2449, 2595, 5034).

A session costs: connect, TLS, CAPA, sign-in, one flight of STAT, LIST and UIDL, and QUIT; where the server
does not announce PIPELINING, a round trip for each command.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from syncd.auth.sasl import Credentials
from syncd.errors import Cancelled, ConfigError, ConnectionLost
from syncd.net.tls import TlsPolicy
from syncd.net.transport import Transport
from syncd.pop3.client import Client, Deadlines
from syncd.pop3.quirks import Quirks
from syncd.pop3.signin import CHOICES, sign_in
from syncd.secret import Secret
from syncd.sources.pop3.session import Pop3Session

SECURITIES = frozenset({"tls", "starttls", "none"})


@dataclass(frozen=True, slots=True)
class Pop3Options:
    """An account. Over security "none" a password goes only with `allow_insecure`: anyone on the way can read it."""

    host: str
    port: int
    security: str  # tls, starttls, none
    username: str
    password: Callable[[], Secret]  # asked at each connect; an access token where `auth` wants one
    spool: Path  # where messages over 2 MiB lie while they are in flight
    auth: str = "auto"  # or another of signin.CHOICES
    allow_insecure: bool = False
    tls: TlsPolicy = field(default_factory=TlsPolicy)
    message_octets: int = 2 << 30  # a server that sends more in one message loses its session
    pipelining: bool = True  # where the server announces it
    deadlines: Deadlines = field(default_factory=Deadlines)

    def __post_init__(self) -> None:
        for key, value, known in (("security", self.security, SECURITIES), ("auth", self.auth, CHOICES)):
            if value not in known:
                raise ConfigError(f"{key} = {value!r} is not known for POP3; accepted: {', '.join(sorted(known))}")


class Pop3Source:
    """The account (`sources.base.Source`). One session at a time."""

    def __init__(self, options: Pop3Options, quirks: Quirks | None = None) -> None:
        """`quirks`: what is known of the server; give the same to the next source for this account."""
        self._options = options
        self._quirks = quirks or Quirks()
        self._transport: Transport | None = None
        self._cancelled = False

    def connect(self) -> Pop3Session:
        """Connect and sign in. Raises as `sources.base.Source.connect` says."""
        options = self._options
        credentials = Credentials(options.username, options.password(), options.host, options.port)
        client = self._ready()
        try:
            mechanism = sign_in(client, options.auth, credentials, allow_insecure=options.allow_insecure)
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
        """Connected, protected as asked, capabilities known: ready to sign in."""
        options = self._options
        client = self._client()
        try:
            client.open(options.tls if options.security == "tls" else None)
            if self._take_capa(client) and (options.security != "starttls" or self._protect(client)):
                return client
        except BaseException:
            client.transport.close()
            raise
        client.transport.close()
        return self._ready()

    def _client(self) -> Client:
        options = self._options
        self._transport = transport = Transport(options.host, options.port)
        if self._cancelled:
            raise Cancelled(f"{transport.address}: stopped on request")
        client = Client(transport, options.deadlines, options.message_octets)
        client.may_pipeline = options.pipelining and not self._quirks.breaks_pipelining
        return client

    def _take_capa(self, client: Client) -> bool:
        """Ask for capabilities, except a server that hangs up on it. False: it just did (P29)."""
        if self._quirks.hangs_up_on_capa:
            return True
        try:
            client.capa()
        except ConnectionLost:
            self._quirks.note_hang_up_on_capa(client.address)
            return False
        return True

    def _protect(self, client: Client) -> bool:
        """STLS; what was said in clear, be it that there are no capabilities, says nothing about after (P30)."""
        client.stls(self._options.tls)
        return self._take_capa(client)
