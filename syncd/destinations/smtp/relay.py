"""The connections to one SMTP or LMTP account: signed in, kept from batch to batch, never more than it allows.

Shared by every route that leads to the account; each lane that sends borrows one. A connection is signed in when it is
first needed: a run that has nothing to deliver does not connect.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from syncd import clock
from syncd.auth.sasl import CHOICES, Credentials, choose
from syncd.destinations.smtp.envelope import Offer
from syncd.destinations.smtp.outcomes import shut_until
from syncd.errors import AuthRefused, ConfigError, Refused, SyncdError, Throttled
from syncd.net.tls import TlsPolicy
from syncd.net.transport import Transport
from syncd.secret import Secret
from syncd.smtp.client import Client, Deadlines
from syncd.smtp.quirks import Quirks

SECURITIES = frozenset({"tls", "starttls", "none"})
_FULL_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*\.)+[A-Za-z0-9-]+")


def our_name() -> str:
    """What we call ourselves in EHLO and Received: this machine's full name, or else an address (RFC 5321 §4.1.4)."""
    name = socket.gethostname()
    return name if _FULL_NAME.fullmatch(name) else "[127.0.0.1]"


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """An account. Without a `username` nobody signs in. `connections`: at most so many at a time."""

    host: str
    port: int
    security: str  # tls, starttls, none
    username: str = ""
    password: Callable[[], Secret] = lambda: Secret("")  # asked at each sign-in
    auth: str = "auto"  # or one of `auth.sasl.CHOICES`
    allow_insecure: bool = False
    lmtp: bool = False
    connections: int = 1
    pipeline_messages: bool | None = None  # None: where the server is known to bear it, see `smtp.quirks`
    tls: TlsPolicy = field(default_factory=TlsPolicy)
    deadlines: Deadlines = field(default_factory=Deadlines)
    helo: str = field(default_factory=our_name)  # in EHLO

    def __post_init__(self) -> None:
        for key, value, known in (("security", self.security, SECURITIES), ("auth", self.auth, CHOICES)):
            if value not in known:
                raise ConfigError(f"{key} = {value!r} is not known for SMTP; accepted: {', '.join(sorted(known))}")


@dataclass(slots=True)
class Connection:
    """A signed-in client. `used`: it has been good for something, so that its end says little about the server."""

    client: Client
    offer: Offer
    mechanism: str = ""  # how we signed in, "" if not at all
    used: bool = False


Adopt = Callable[[Transport], None]
Dial = Callable[[RelayOptions, Adopt, Quirks], Connection]


def connect(options: RelayOptions, adopt: Adopt, quirks: Quirks) -> Connection:
    """A connection of its own, protected as asked, capabilities known, signed in. Raises as `Relay.take` does."""
    transport = Transport(options.host, options.port)
    adopt(transport)
    client = Client(transport, options.deadlines, lmtp=options.lmtp, helo=options.helo, quirks=quirks)
    try:
        client.open(options.tls if options.security == "tls" else None)
        if options.security == "starttls":
            client.starttls(options.tls)
        mechanism = _sign_in(client, options)
        return Connection(client, Offer.of(client.capabilities), mechanism)
    except Refused as error:
        client.close()
        until = shut_until(error, clock.now())
        if until is None:
            raise
        raise Throttled(str(error), until=until, command=error.command, code=error.code, text=error.text) from error
    except BaseException:
        client.close()
        raise


def _sign_in(client: Client, options: RelayOptions) -> str:
    if not options.username and options.auth != "external":
        return ""
    credentials = Credentials(options.username, options.password(), options.host, options.port)
    mechanism = choose(
        client.capabilities.mechanisms,
        options.auth,
        credentials,
        encrypted=client.transport.tls != "none",
        allow_insecure=options.allow_insecure,
    )
    client.authenticate(mechanism)
    return mechanism.name


class Relay:
    """At most `options.connections` at a time, whoever asks; from any thread.

    Until a first one is signed in, they come one at a time, and none after a refused password: servers that lock
    accounts count attempts (S21).
    """

    def __init__(self, options: RelayOptions, dial: Dial = connect) -> None:
        self.options = options
        self._dial = dial
        self._quirks = Quirks(pipelines_messages=options.pipeline_messages)
        self._idle: list[Connection] = []
        self._open = 0
        self._signed_in = False
        self._refused: AuthRefused | None = None
        self._change = threading.Condition()

    def take(self, adopt: Adopt) -> Connection:
        """An idle connection that the server has not closed, or a new one; waits while all are in use.

        `adopt` is told of its transport before anything is waited for, so that it can be cancelled. Raises
        TransportError, AuthRefused, Throttled (the server has enough), Refused, Unsupported, ProtocolError,
        SecretUnavailable, Cancelled.
        """
        with self._change:
            self._change.wait_for(lambda: self._idle or self._may_dial())
            while self._idle:
                connection = self._idle.pop()
                if not connection.client.stale:
                    adopt(connection.client.transport)
                    return connection
                connection.client.close()
                self._open -= 1
            if self._refused is not None:
                raise self._refused
            self._open += 1
        try:
            connection = self._dial(self.options, adopt, self._quirks)
        except BaseException as error:
            if isinstance(error, AuthRefused):
                self._refused = error
            self._forget()
            raise
        if not self._signed_in:
            with self._change:
                self._signed_in = True
                self._change.notify_all()
        return connection

    def give_back(self, connection: Connection) -> None:
        """It is between two messages and may be used again."""
        connection.used = True
        with self._change:
            self._idle.append(connection)
            self._change.notify()

    def drop(self, connection: Connection) -> None:
        """It is not to be used again: no farewell."""
        connection.client.close()
        self._forget()

    def close(self) -> None:
        """Say goodbye on the idle ones. Repeatable; does not raise for what a server does."""
        with self._change:
            idle, self._idle = self._idle, []
        for connection in idle:
            with contextlib.suppress(SyncdError):  # all is answered: nothing depends on a farewell
                connection.client.quit()
            self.drop(connection)

    def _may_dial(self) -> bool:
        most = self.options.connections if self._signed_in else 1
        return self._open < most or self._refused is not None

    def _forget(self) -> None:
        with self._change:
            self._open -= 1
            self._change.notify_all()
