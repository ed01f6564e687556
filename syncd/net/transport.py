"""A stream of octets to a server: TCP, or TLS over it, on a blocking socket.

Every wait has a Deadline. Small writes leave at once (TCP_NODELAY), a peer that vanished is noticed
(keepalive). One thread uses a transport; `cancel` may come from any other: it sets a flag and shuts the
socket down with shutdown(2), which wakes whoever waits on it. The owning thread looks at the flag before it
takes any more octets.
"""

from __future__ import annotations

import contextlib
import select
import socket
from typing import TYPE_CHECKING

from syncd.errors import Cancelled, ConnectionLost, StateError, printable
from syncd.net.connect import connect
from syncd.net.deadline import Deadline
from syncd.net.tls import TlsPolicy

if TYPE_CHECKING:
    from syncd.net.tls_stream import TlsStream

_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 20, "TCP_KEEPCNT": 5}  # a peer that vanished is noticed in 160 s


class Transport:
    """Not connected at first. `octets_in` and `octets_out` count what the protocol sees, without TLS."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.tls = "none"  # or the version in use, such as "TLSv1.3"
        self.octets_in = 0
        self.octets_out = 0
        self._socket: socket.socket | None = None
        self._tls: TlsStream | None = None
        self._deadline: Deadline | None = None  # of the wait under way
        self._poll = select.poll()
        self._poll_in = select.poll()
        self._cancelled = False

    def connect(self, seconds: float) -> None:
        """Connect by any of the host's addresses, look-up included, within `seconds` (RFC 8305).

        Raises ConnectFailed, TimedOut, Cancelled.
        """
        deadline = Deadline(seconds, f"{self.address}: no connection")
        sock = connect(self.host, self.port, deadline, self._check)
        self._socket = sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._poll.register(sock, select.POLLOUT)
        self._poll_in.register(sock, select.POLLIN)

    def start_tls(self, policy: TlsPolicy, seconds: float) -> None:
        """Go on in TLS. The caller has seen to it that nothing received before is used afterwards.

        Raises TlsFailed, ConfigError, ConnectionLost, TimedOut, Cancelled.
        """
        from syncd.net.tls_stream import TlsStream  # with ssl, which takes 10 ms that a plain connection saves

        self._deadline = Deadline(seconds, f"{self.address}: TLS was not set up")
        stream = TlsStream(self.address, self._receive, self._send)
        self.tls = stream.handshake(self.host, policy)
        self._tls = stream

    def receive(self, target: memoryview, deadline: Deadline) -> int:
        """Receive some octets into `target`; 0 when the peer has ended the stream.

        Raises TimedOut, ConnectionLost, Cancelled.
        """
        self._deadline = deadline
        octets = self._receive(target) if self._tls is None else self._tls.receive(target)
        self.octets_in += octets
        return octets

    def send(self, octets: bytes, deadline: Deadline) -> None:
        """Send all of `octets`. Raises TimedOut, ConnectionLost, Cancelled."""
        self._deadline = deadline
        if self._tls is None:
            self._send(octets)
        else:
            self._tls.send(octets)
        self.octets_out += len(octets)

    def writable(self) -> bool:
        """Whether the kernel takes a few KiB now without waiting for the peer to read."""
        return bool(self._poll.poll(0))

    def readable(self) -> bool:
        """Whether octets have come, or the end of the stream, or a reset: between commands, none should."""
        return self._socket is None or bool(self._poll_in.poll(0))

    def cancel(self) -> None:
        """From any thread: what waits here raises Cancelled, and so does whatever comes next. Repeatable."""
        self._cancelled = True
        sock = self._socket
        if sock is not None:
            with contextlib.suppress(OSError):  # not connected any more: nobody waits
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Drop the connection. Repeatable."""
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()

    # --- the plain socket ----------------------------------------------------------------------------

    def _receive(self, target: memoryview) -> int:
        sock, deadline = self._ready()
        try:
            octets = sock.recv_into(target)
        except TimeoutError as error:
            raise deadline.passed() from error
        except OSError as error:
            raise self._lost(error) from error
        self._check()
        return octets

    def _send(self, octets: bytes | memoryview) -> None:
        sock, deadline = self._ready()
        try:
            sock.sendall(octets)
        except TimeoutError as error:
            raise deadline.passed() from error
        except OSError as error:
            raise self._lost(error) from error

    def _ready(self) -> tuple[socket.socket, Deadline]:
        """The socket, its timeout set to what is left of the wait under way."""
        self._check()
        sock, deadline = self._socket, self._deadline
        if sock is None or deadline is None:
            raise StateError(f"{self.address}: the connection is closed")
        sock.settimeout(deadline.remaining())
        return sock, deadline

    def _check(self) -> None:
        if self._cancelled:
            raise Cancelled(f"{self.address}: stopped on request")

    def _lost(self, error: OSError) -> ConnectionLost:
        self._check()
        reason = printable(error.strerror or str(error)).lower()
        return ConnectionLost(f"{self.address}: the connection broke: {reason}; try again later")
