"""A stream of octets to a server: TCP, or TLS over it, on a blocking socket.

Every wait has a Deadline. Small writes leave at once (TCP_NODELAY); a peer that vanished is noticed
(keepalive). One thread uses a transport. Any thread may call `cancel`: it sets a flag and shuts the socket down with
shutdown(2), which wakes a thread that waits on it. The owning thread checks the flag before it takes more octets.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from typing import TYPE_CHECKING

from syncd.errors import Cancelled, ConnectionLost, StateError, printable
from syncd.net.connect import connect
from syncd.net.deadline import Deadline
from syncd.net.proxy import Proxy, tunnel
from syncd.net.tls import TlsPolicy

if TYPE_CHECKING:
    from syncd.net.tls_stream import TlsStream

FIRST_OCTETS = 128  # of a peer are kept, to tell what kind of server it is
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 20, "TCP_KEEPCNT": 5}  # a peer that vanished is noticed in 160 s


class Transport:
    """A connection, to be made by `connect`. `octets_in` and `octets_out` count the protocol's octets, without TLS.

    `first` has the first octets that came over the socket, TLS included; FIRST_OCTETS at most.
    """

    def __init__(self, host: str, port: int, proxy: Proxy | None = None) -> None:
        self.host = host
        self.port = port
        self.proxy = proxy
        self.first = b""
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
        self._another: Transport | None = None

    def connect(self, seconds: float) -> None:
        """Connect by any of the host's addresses, look-up included, within `seconds` (RFC 8305), or through the proxy.

        Raises ConnectFailed, ConfigError (a name that cannot be one, a proxy that refuses us), TimedOut, Cancelled.
        """
        deadline = Deadline(seconds, f"{self.address}: no connection")
        if self.proxy is None:
            sock = self._socket = connect(self.host, self.port, deadline, self._check)
        else:
            sock = self._socket = connect(self.proxy.host, self.proxy.port, deadline, self._check)
            tunnel(self.proxy, sock, self.host, self.port, deadline, self._check)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._poll.register(sock, select.POLLOUT)
        self._poll_in.register(sock, select.POLLIN)

    def another(self) -> Transport:
        """Returns a transport to the same server, not connected; `cancel` reaches it too."""
        self._another = Transport(self.host, self.port, self.proxy)
        return self._another

    def start_tls(self, policy: TlsPolicy, seconds: float) -> None:
        """Begin TLS. The caller must not use octets that it received before.

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

    def acknowledge(self) -> None:
        """Have the kernel acknowledge what comes next at once, not with the next octets that we send (Linux).

        A server that does not set TCP_NODELAY sends its second small answer when the first is acknowledged (RFC 896),
        which takes the kernel 40 ms while we have nothing to send.
        """
        if self._socket is not None and hasattr(socket, "TCP_QUICKACK"):
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    @property
    def local_host(self) -> str:
        """Returns our own IP address on this connection. Raises StateError without a connection."""
        if self._socket is None:
            raise StateError(f"{self.address}: the connection is closed")
        host: str = self._socket.getsockname()[0]
        return host

    def writable(self) -> bool:
        """Returns whether the kernel takes a few KiB now, without waiting for the peer to read."""
        return bool(self._poll.poll(0))

    def readable(self) -> bool:
        """Returns whether octets, the end of the stream, or a reset have come. Between commands none of them should."""
        return self._socket is None or bool(self._poll_in.poll(0))

    def cancel(self) -> None:
        """From any thread: end the wait under way and every later one by Cancelled. Repeatable."""
        self._cancelled = True
        if self._another is not None:
            self._another.cancel()
        sock = self._socket
        if sock is not None:
            with contextlib.suppress(OSError):  # no longer connected: no thread waits
                sock.shutdown(socket.SHUT_RDWR)

    def abort_unless_ended(self) -> None:
        """Have the kernel throw away what it has not sent yet when the connection is closed, also by our death.

        Otherwise it goes on sending for minutes, and the server takes a message that we have asked for in vain by then.
        """
        if self._socket is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def end_well(self) -> None:
        """Have the kernel send all that it has, as it does by default."""
        if self._socket is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))

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
        if len(self.first) < FIRST_OCTETS:
            self.first += bytes(target[: min(octets, FIRST_OCTETS - len(self.first))])
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
        """Returns the socket, with the time that is left as its timeout, and the deadline of the wait under way."""
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
