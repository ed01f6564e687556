"""The small HTTP server of a process of the service: /healthz, /readyz, /metrics. Nothing else is there.

Built for clients that mean harm: GET and HEAD alone, a head of at most 8 KiB that must come within 10 s in all, at most
16 connections at a time (further ones are closed at once), one request each. No body is read, no file is served, and no
answer tells what or which version serves it. Without a password it tells names of jobs: it listens on loopback unless
the configuration says otherwise.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import socketserver
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from syncd import clock
from syncd.errors import ConfigError
from syncd.telemetry import logs
from syncd.telemetry.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from syncd.telemetry.health import Health, Reason
    from syncd.telemetry.metrics import Metrics

MAX_CONNECTIONS: Final = 16
MAX_HEAD_OCTETS: Final = 8 << 10
TIMEOUT_S: Final = 10.0  # for a request to come, and again for its answer to leave
BACKLOG: Final = 32
_FIRST_GIVEN: Final = 3  # the descriptor of the first socket that systemd gives (sd_listen_fds(3))
_HEAD_END: Final = b"\r\n\r\n"
_JSON: Final = "application/json"
_PHRASES: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}

_log = logs.get(__name__)


class Answer(NamedTuple):
    """A reply: status, type and octets of its body."""

    status: int
    kind: str = "text/plain; charset=utf-8"
    body: bytes = b""


class Server:
    """Serves from `start` to `stop`. The socket is bound at once, so a port in use is known before anything begins."""

    def __init__(self, address: tuple[str, int], health: Health, metrics: Metrics) -> None:
        """Listen at `address`, or at the socket that systemd gave. Raises ConfigError where that cannot be."""
        self._server = _HttpServer(listening(address), answers(health, metrics))
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Returns host and port, as they are bound."""
        host, port = self._server.socket.getsockname()[:2]
        return host, port

    def start(self) -> None:
        """Begin. Returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End. Answers under way are cut. Repeatable."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def _serve(self) -> None:
        self._server.serve_forever(poll_interval=0.5)


def answers(health: Health, metrics: Metrics) -> dict[str, Callable[[], Answer]]:
    """Returns what is answered at each path; the page of a service, which is another server, has the same."""
    return {
        "/healthz": lambda: _judged(health.alive()),
        "/readyz": lambda: _judged(health.ready()),
        "/metrics": lambda: Answer(200, CONTENT_TYPE, metrics.text()),
    }


def listening(address: tuple[str, int]) -> socket.socket:
    """Returns a socket that listens at `address`, or the one that systemd gave. Raises ConfigError."""
    return _given() or _listen(address)


# --- inside --------------------------------------------------------------------------------------------


def _judged(reasons: list[Reason]) -> Answer:
    """Returns 200, or 503 with what is wrong."""
    document = {"ok": not reasons, "reasons": [{"part": it.part, "text": it.text} for it in reasons]}
    return Answer(503 if reasons else 200, _JSON, json.dumps(document).encode() + b"\n")


def _given() -> socket.socket | None:
    """Returns the socket that systemd opened for us (sd_listen_fds(3)), if there is one."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        return None
    os.set_inheritable(_FIRST_GIVEN, False)  # password commands do not get it
    return socket.socket(fileno=_FIRST_GIVEN)


def _listen(address: tuple[str, int]) -> socket.socket:
    host, port = address
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(
            f'[service] listen = "{where}": {error.strerror or error}; give an address of this machine'
        ) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(place)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise ConfigError(f'[service] listen = "{where}": {_REASONS.get(error.errno or 0, str(error))}') from error
    return listening


_REASONS: Final = {
    errno.EADDRINUSE: (
        'another program listens there, perhaps another syncd; stop it, or give another port; listen = "" for none'
    ),
    errno.EADDRNOTAVAIL: "this machine does not have that address; give one that it has, such as 127.0.0.1",
    errno.EACCES: "this user may not listen there; give a port from 1024 on",
}


class _HttpServer(socketserver.ThreadingMixIn, socketserver.BaseServer):
    """Accepts connections, and hands each to a thread of its own while fewer than MAX_CONNECTIONS are open."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, listening: socket.socket, pages: dict[str, Callable[[], Answer]]) -> None:
        super().__init__(listening.getsockname(), _Handler)
        self.socket = listening
        self.pages = pages
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)

    def fileno(self) -> int:
        """Returns the descriptor to wait for."""
        return self.socket.fileno()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; the base class passes over an OSError."""
        accepted, peer = self.socket.accept()
        accepted.settimeout(TIMEOUT_S)
        return accepted, peer

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 (Any: the base class's)
        """Returns whether a thread is free for it."""
        return self._free.acquire(blocking=False)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin a thread for a connection."""
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer in a thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        request.close()

    def server_close(self) -> None:
        """Close the listening socket."""
        self.socket.close()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 (the same)
        """Log what a handler did not expect."""
        _log.exception("http.failed")


class _Handler(socketserver.BaseRequestHandler):
    server: _HttpServer
    request: socket.socket

    def handle(self) -> None:
        """Read one request, and answer it."""
        try:
            head, status = _read_head(self.request)
            answer, with_body = (Answer(status), True) if head is None else self._answer(head)
            self.request.settimeout(TIMEOUT_S)
            self.request.sendall(_octets(answer, with_body=with_body))
            self.request.shutdown(socket.SHUT_WR)
        except OSError as error:  # the client is gone, or too slow
            _log.debug("http.cut", error=str(error))

    def _answer(self, head: bytes) -> tuple[Answer, bool]:
        """Returns the answer, and whether its body is sent."""
        words = head.partition(b"\r\n")[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return Answer(400), True
        method, target = words[0], words[1].partition(b"?")[0].decode("ascii", "replace")
        page = self.server.pages.get(target)
        if page is None:
            return Answer(404), True
        if method not in (b"GET", b"HEAD"):
            return Answer(405), True
        try:
            return page(), method == b"GET"
        except Exception:  # noqa: BLE001 (it is logged with its trace)
            _log.exception("http.failed", page=target)
            return Answer(500), True


def _read_head(connection: socket.socket) -> tuple[bytes | None, int]:
    """Returns the head of a request, or None and the status that says why. Raises OSError."""
    deadline = clock.monotonic() + TIMEOUT_S
    head = bytearray()
    while (end := head.find(_HEAD_END)) < 0:
        if len(head) >= MAX_HEAD_OCTETS:
            return None, 431
        left = deadline - clock.monotonic()
        if left <= 0:
            return None, 408
        connection.settimeout(left)
        try:
            octets = connection.recv(MAX_HEAD_OCTETS - len(head))
        except TimeoutError:
            return None, 408
        if not octets:
            return None, 400
        head += octets
    return bytes(head[:end]), 200


def _octets(answer: Answer, *, with_body: bool) -> bytes:
    body = answer.body or f"{answer.status} {_PHRASES[answer.status]}\n".encode()
    head = (
        f"HTTP/1.1 {answer.status} {_PHRASES[answer.status]}",
        f"Content-Type: {answer.kind}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        *(("Allow: GET, HEAD",) if answer.status == 405 else ()),
        "Connection: close",
    )
    return "\r\n".join((*head, "", "")).encode("latin-1") + (body if with_body else b"")
