"""A proxy on a real loopback socket: SOCKS5 (RFC 1928, 1929) or HTTP CONNECT, one thread for each connection.

with FakeProxy("socks5", answer=...) as proxy:
    ... connect to proxy.port ...
    assert proxy.asked == [("pop.example.net", 110)]
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

HOST: Final = "127.0.0.1"


class FakeProxy:
    """Leads every connection to the port `leads_to`, whatever name it is asked for.

    `credentials` are "user:password", or "" where none are wanted. `refuses` is an answer in place of the way on: a
    reply code of SOCKS5, or a status line of HTTP. `says` are the first octets in place of all that.
    """

    def __init__(self, scheme: str, leads_to: int, *, credentials: str = "") -> None:
        self.credentials = credentials
        self.refuses: int | bytes | None = None
        self.says: bytes | None = None
        self.hangs = False
        self.hanging = threading.Event()
        self.asked: list[tuple[str, int]] = []
        self.signed_in: list[str] = []
        self._leads_to = leads_to
        self._talk: Callable[[socket.socket], bool] = self._socks5 if scheme == "socks5" else self._http
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for sock in (self._listener, *self._sockets):
            sock.close()

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name="fake proxy", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(sock)
            self._start(lambda near=sock: self._serve(near))  # type: ignore[misc]

    def _serve(self, near: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self.says is not None:
                near.sendall(self.says)
                near.shutdown(socket.SHUT_RDWR)
                return
            if self.hangs:
                self.hanging.set()
                near.recv(1 << 16)
                near.recv(1 << 16)
                return
            if not self._talk(near):
                near.shutdown(socket.SHUT_RDWR)

    def _lead(self, near: socket.socket, answer: bytes) -> bool:
        """Connect, wait for the server's first octets, and pass them on in one piece with the answer."""
        far = socket.create_connection((HOST, self._leads_to))
        self._sockets.append(far)
        near.sendall(answer + far.recv(1 << 16))
        self._start(lambda: _pass(near, far))
        _pass(far, near)
        return True

    # --- SOCKS5 --------------------------------------------------------------------------------------

    def _socks5(self, near: socket.socket) -> bool:
        methods = _exactly(near, _exactly(near, 2)[1])
        wanted = 2 if self.credentials else 0
        if wanted not in methods:
            near.sendall(b"\x05\xff")
            return False
        near.sendall(bytes((5, wanted)))
        if wanted:
            user = _exactly(near, _exactly(near, 2)[1])
            password = _exactly(near, _exactly(near, 1)[0])
            self.signed_in.append(f"{user.decode()}:{password.decode()}")
            right = self.signed_in[-1] == self.credentials
            near.sendall(bytes((1, not right)))
            if not right:
                return False
        kind = _exactly(near, 4)[3]
        host = _exactly(near, _exactly(near, 1)[0]).decode() if kind == 3 else socket.inet_ntoa(_exactly(near, 4))
        self.asked.append((host, struct.unpack("!H", _exactly(near, 2))[0]))
        if isinstance(self.refuses, int):
            near.sendall(bytes((5, self.refuses, 0, 1)) + bytes(6))
            return False
        return self._lead(near, b"\x05\0\0\x01" + bytes(6))

    # --- HTTP ----------------------------------------------------------------------------------------

    def _http(self, near: socket.socket) -> bool:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += _exactly(near, 1)
        line, *fields = head.decode().split("\r\n")
        verb, target, _ = line.split(" ")
        assert verb == "CONNECT", line
        host, _, port = target.rpartition(":")
        self.asked.append((host, int(port)))
        self.signed_in += [field.split(" ")[-1] for field in fields if field.startswith("Proxy-Authorization: Basic ")]
        if isinstance(self.refuses, bytes):
            near.sendall(self.refuses)
            return False
        return self._lead(near, b"HTTP/1.1 200 Connection established\r\nVia: fake\r\n\r\n")


def _exactly(sock: socket.socket, octets: int) -> bytes:
    got = b""
    while len(got) < octets:
        piece = sock.recv(octets - len(got))
        if not piece:
            raise ConnectionError("the client went away")
        got += piece
    return got


def _pass(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while octets := source.recv(1 << 16):
            target.sendall(octets)
        target.shutdown(socket.SHUT_WR)
