"""An IMAP account as a source (RFC 3501, 9051 and the extensions that `imap.client` lists).

A session costs: connect, TLS, sign-in, one flight for the list of mailboxes with the STATUS of each (where the server
has LIST-STATUS), for each mailbox that has changed one for EXAMINE and listing and one for the bodies, and LOGOUT.
The next mailbox is asked for in the flight of the last bodies (`ahead`).
"""

from __future__ import annotations

from weakref import WeakSet

from syncd.auth.sasl import Credentials
from syncd.errors import Cancelled
from syncd.imap.client import Client
from syncd.imap.quirks import Quirks
from syncd.imap.signin import sign_in
from syncd.net.transport import Transport
from syncd.sources.imap.options import ImapOptions
from syncd.sources.imap.session import ImapSession


class ImapSource:
    """The account (`sources.base.Source`)."""

    def __init__(self, options: ImapOptions, quirks: Quirks | None = None) -> None:
        """`quirks` holds what is known about the server; pass the same object to each source for this account."""
        self._options = options
        self._quirks = quirks or Quirks()
        self._transports: WeakSet[Transport] = WeakSet()  # of sessions
        self._cancelled = False

    @property
    def connections(self) -> int:
        """The number of sessions that may be open at once."""
        return self._options.connections

    def connect(self) -> ImapSession:
        """Connect and sign in. Raises as `sources.base.Source.connect` says."""
        options, endpoint = self._options, self._options.endpoint
        password = endpoint.password()
        client = self._client()
        try:
            client.open(endpoint.tls if endpoint.security == "tls" else None)
            if endpoint.security == "starttls":
                client.starttls(endpoint.tls)
            credentials = Credentials(endpoint.username, password, endpoint.host, endpoint.port, endpoint.authzid)
            with endpoint.signing_in():
                mechanism = sign_in(client.session, endpoint.auth, credentials, allow_insecure=endpoint.allow_insecure)
            return ImapSession(client, options, mechanism)
        except BaseException:
            client.close()
            raise

    def cancel(self) -> None:
        """From any thread: a session's thread raises Cancelled within a moment, and so does every later connect."""
        self._cancelled = True
        for transport in tuple(self._transports):
            transport.cancel()

    def _client(self) -> Client:
        options = self._options
        transport = Transport(options.endpoint.host, options.endpoint.port, options.endpoint.proxy)
        self._transports.add(transport)
        if self._cancelled:
            raise Cancelled(f"{transport.address}: stopped on request")
        return Client(
            transport, options.deadlines, options.message_octets, self._quirks, may_pipeline=options.pipelining
        )
