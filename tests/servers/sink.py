"""A receiver that is nobody's but aiosmtpd's: what it understood of a session, message by message.

    with Sink() as sink:
        ... sink.host, sink.port ...
        sink.received("me@example.org")

It offers 8BITMIME, SMTPUTF8 and HELP: neither PIPELINING nor CHUNKING nor SIZE.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, NamedTuple, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.servers.dovecot import free_ports


class Arrival(NamedTuple):
    """One transaction that was answered with 250."""

    sender: str
    recipients: tuple[str, ...]
    octets: bytes


class _Receiver(SMTP):
    """As it comes, but for the length of a line: what a server may refuse is not what is looked at here."""

    line_length_limit = 1 << 20


class _Controller(Controller):
    def factory(self) -> SMTP:
        """Called by aiosmtpd for each connection."""
        return _Receiver(self.handler, **self.SMTP_kwargs)


class Sink:
    """The receiver. A context manager: listens inside the block, in a thread of its own."""

    host = "127.0.0.1"

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        (self.port,) = free_ports(1)
        kwargs: dict[str, Any] = {"data_size_limit": None, "enable_SMTPUTF8": True}
        self._controller = _Controller(self, hostname=self.host, port=self.port, **kwargs)

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._controller.stop()

    def received(self, recipient: str) -> list[bytes]:
        """Returns the messages for an address, as they came over the wire, unstuffed."""
        return [arrival.octets for arrival in self.arrivals if recipient in arrival.recipients]

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802  # its name
        """Called by aiosmtpd for a whole message."""
        octets = envelope.content
        assert isinstance(octets, bytes)
        self.arrivals.append(Arrival(envelope.mail_from or "", tuple(envelope.rcpt_tos), octets))
        return f"250 2.0.0 taken as {len(self.arrivals)}"
