"""The connections to one SMTP or LMTP account: signed in, kept from batch to batch, never more than it allows.

All routes to the account share them; each sender thread borrows one. A connection is made when it is first needed, so
a run that has nothing to deliver does not connect.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from syncd import clock
from syncd.auth.sasl import CHOICES, Credentials, candidates
from syncd.destinations.smtp.envelope import Offer
from syncd.destinations.smtp.outcomes import throttled_by_refusal
from syncd.errors import AuthRefused, ConfigError, Refused, SyncdError, Throttled, Unsupported, printable
from syncd.net.endpoint import Endpoint
from syncd.net.transport import Transport
from syncd.smtp.client import Client, Deadlines
from syncd.smtp.names import is_full_name, is_literal
from syncd.smtp.quirks import Quirks
from syncd.smtp.refusals import nothing_left


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """An account. Without a username we do not sign in, except by EXTERNAL. `endpoint.auth` is one of `sasl.CHOICES`.

    Raises ConfigError for names that SMTP does not know.
    """

    endpoint: Endpoint
    lmtp: bool = False
    connections: int = 1  # at a time, at most
    pipeline_messages: bool | None = None  # None: only with servers that are known to work, see `smtp.quirks`
    deadlines: Deadlines = field(default_factory=Deadlines)
    ehlo_name: str = ""  # our name in EHLO; "": this machine's full name, or our address (`smtp.names`)

    def __post_init__(self) -> None:
        self.endpoint.check("SMTP", CHOICES)
        if self.ehlo_name and not (is_full_name(self.ehlo_name) or is_literal(self.ehlo_name)):
            raise ConfigError(
                f"ehlo_name = {printable(self.ehlo_name)!r} is no full host name; "
                'accepted: a name such as "laptop.example.org", or an address such as "[192.0.2.1]"'
            )


@dataclass(slots=True)
class Connection:
    """A signed-in client. `used`: it has taken a message or a reply, so its end says little about the server."""

    client: Client
    offer: Offer
    mechanism: str = ""  # by which we signed in; "" if we did not
    used: bool = False


Adopt = Callable[[Transport], None]
Dial = Callable[[RelayOptions, Adopt, Quirks], Connection]


def connect(options: RelayOptions, adopt: Adopt, quirks: Quirks) -> Connection:
    """Returns a new connection: protected as asked, capabilities known, signed in. Raises what `Relay.take` raises."""
    endpoint = options.endpoint
    transport = Transport(endpoint.host, endpoint.port, endpoint.proxy)
    adopt(transport)
    client = Client(transport, options.deadlines, lmtp=options.lmtp, helo=options.ehlo_name, quirks=quirks)
    try:
        client.open(endpoint.tls if endpoint.security == "tls" else None)
        if endpoint.security == "starttls":
            client.starttls(endpoint.tls)
        with endpoint.signing_in():
            mechanism = _sign_in(client, endpoint)
        return Connection(client, Offer.of(client.capabilities), mechanism)
    except Refused as error:
        client.close()
        until = throttled_by_refusal(error, clock.now())
        if until is None:
            raise
        raise Throttled(str(error), until=until, command=error.command, code=error.code, text=error.text) from error
    except BaseException:
        client.close()
        raise


def _sign_in(client: Client, endpoint: Endpoint) -> str:
    if not endpoint.username and endpoint.auth != "external":
        return ""
    credentials = Credentials(endpoint.username, endpoint.password(), endpoint.host, endpoint.port)
    unknown: list[Unsupported] = []
    for make in candidates(
        client.capabilities.mechanisms,
        endpoint.auth,
        credentials,
        encrypted=client.transport.tls != "none",
        allow_insecure=endpoint.allow_insecure,
    ):
        mechanism = make()
        try:
            client.authenticate(mechanism)
        except Unsupported as error:  # S33: no attempt was made
            unknown.append(error)
        else:
            return mechanism.name
    raise nothing_left(client.address, unknown) if len(unknown) > 1 else unknown[0]


class Relay:
    """Lends at most `options.connections` at a time. Any thread may call any method.

    Until the first connection is signed in, connections are made one at a time, and none after a refused password,
    because servers that lock accounts count attempts (S21).
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
        """Returns an idle connection that the server has not closed, or a new one; waits while all are in use.

        `adopt` gets the transport before any wait, so that it can be cancelled. Raises TransportError, AuthRefused,
        Throttled, Refused, Unsupported, ProtocolError, SecretUnavailable, ConfigError, Cancelled.
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
        """Take back a connection that is between two messages and may be used again."""
        connection.used = True
        with self._change:
            self._idle.append(connection)
            self._change.notify()

    def drop(self, connection: Connection) -> None:
        """Close a connection at once, without QUIT."""
        connection.client.close()
        self._forget()

    def close(self) -> None:
        """Send QUIT on idle connections and close them. Repeatable; does not raise for errors of the server."""
        with self._change:
            idle, self._idle = self._idle, []
        for connection in idle:
            with contextlib.suppress(SyncdError):  # every message is answered: nothing depends on QUIT
                connection.client.quit()
            self.drop(connection)

    def _may_dial(self) -> bool:
        most = self.options.connections if self._signed_in else 1
        return self._open < most or self._refused is not None

    def _forget(self) -> None:
        with self._change:
            self._open -= 1
            self._change.notify_all()
