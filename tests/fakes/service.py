"""Another service than the one that is looked for, on a real loopback socket: it greets, or waits to be spoken to.

with OtherService(b"* OK IMAP4rev1 ready\\r\\n") as imap: ...
with OtherService(answer=b"HTTP/1.1 400 Bad Request\\r\\n") as http: ...
"""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class OtherService:
    """Sends `greeting` to each client, and `answer` to the first octets that a client sends."""

    host = "127.0.0.1"

    def __init__(self, greeting: bytes = b"", answer: bytes = b"") -> None:
        self._greeting = greeting
        self._answer = answer
        self._listener = socket.create_server((self.host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, name="other service", daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for sock in (self._listener, *self._sockets):
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._sockets.append(sock)
                thread = threading.Thread(target=self._serve, args=(sock,), name="other service", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock.sendall(self._greeting)
            if sock.recv(1 << 16):
                sock.sendall(self._answer)
            while sock.recv(1 << 16):
                pass
