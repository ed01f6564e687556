"""A scripted POP3 server on a real loopback socket, with every fault we know of.

    with FakePop3([b"Subject: hi\\r\\n\\r\\nhello\\r\\n"]) as server:
        server.replies["RETR 1"] = b"-ERR poisoned\\r\\n"
        ... connect to server.port, sign in as "user" with "secret" ...
        assert server.commands == ["CAPA", "AUTH PLAIN …", "STAT", …]

Well-behaved by default; attributes change it, before or while it runs. One thread for each connection.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from tests.fakes import sasl

USERNAME, PASSWORD = "user", "secret"
TIMESTAMP = b"<1896.697170952@fake>"
CAPABILITIES = ("TOP", "UIDL", "RESP-CODES", "PIPELINING", "STLS", "USER", "SASL PLAIN")
UNKNOWN = b"-ERR unknown command\r\n"


def delivered(message: bytes) -> bytes:
    """What a client gets: a message of whole lines, or none (RFC 1939 §3)."""
    return message if not message or message.endswith(b"\r\n") else message + b"\r\n"


def stuffed(message: bytes) -> bytes:
    """The message as it goes over the wire after "+OK CRLF", its terminator included."""
    return (b"\r\n" + delivered(message)).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


def _decoded(word: str) -> bytes:
    """A response: "=" is an empty one (RFC 5034 §4)."""
    return b"" if word == "=" else base64.b64decode(word)


class FakePop3:
    """The server. A context manager; its threads end with it."""

    host = "127.0.0.1"

    def __init__(
        self, messages: Sequence[bytes] = (), *, tls: ssl.SSLContext | None = None, implicit: bool = False
    ) -> None:
        self.messages = list(messages)
        self.uids = [f"uid-{number}".encode() for number in range(1, len(messages) + 1)]
        self.greeting = b"+OK ready " + TIMESTAMP + b"\r\n"
        self.greets: Callable[[], bytes] | None = None  # in place of `greeting`, for each connection
        self.capabilities: tuple[str, ...] | None = CAPABILITIES  # None: CAPA is an unknown command
        self.capabilities_inside: tuple[str, ...] | None = None  # after sign-in, if they differ
        self.replies: dict[str, bytes | Callable[[], bytes]] = {}  # to a verb, or to one whole command: raw octets
        self.on: dict[
            str, Callable[[list[str]], bytes | None]
        ] = {}  # to a verb: raw octets by arguments; None: as usual
        self.hangs_up_on: set[str] = set()  # verbs or whole commands
        self.hangs_on: set[str] = set()
        self.swallows: set[str] = set()  # whole commands that get no answer, while those behind them do
        self.swallows_in_flights = False  # … only if more than one came in one piece
        self.doubles: set[str] = set()  # whole commands that are answered twice: from then on each answer is one late
        self.cut_after: int | None = None  # octets sent on a connection
        self.drip_s: float | None = None  # one octet each so many seconds, from the greeting on
        self.drips_on: str | None = None  # … or from this command on
        self.commands: list[str] = []
        self.flights: list[int] = []  # commands that came in one piece
        self.connections = 0
        self.deleted: list[int] = []
        self.stop = threading.Event()
        self.hanging = threading.Event()  # it has come to where it hangs, or greets nobody
        self.dripped = 0  # octets that were sent one by one
        self._tls = tls
        self._implicit = implicit
        self._listener = socket.create_server((self.host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._threads.append(threading.Thread(target=self._accept, name="fake pop3", daemon=True))
        self._threads[0].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop.set()
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):  # wakes accept(2) and recv(2), which close would not
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def verbs(self) -> list[str]:
        """The commands without their arguments."""
        return [command.split(" ")[0] for command in self.commands]

    def _accept(self) -> None:
        while not self.stop.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._sockets.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), name="fake pop3", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.closing(_Connection(self, sock, self._tls)) as connection:
            if self._implicit:
                connection.start_tls()
            connection.run()


class _Connection:
    """One client."""

    def __init__(self, server: FakePop3, sock: socket.socket, tls: ssl.SSLContext | None) -> None:
        self._server = server
        self._sock = sock
        self._tls = tls
        self._sent = 0
        self._late: bytes | None = None  # the answer to the command before
        self._inside = False
        self._arguments: list[str] = []
        self._dripping = server.drip_s is not None and server.drips_on is None
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self._sock.close()

    def start_tls(self) -> None:
        assert self._tls is not None
        self._sock = self._tls.wrap_socket(self._sock, server_side=True)

    def run(self) -> None:
        self._send(self._server.greets() if self._server.greets else self._server.greeting)
        if not self._server.greeting:
            self._server.hanging.set()
        waiting = b""
        while piece := self._sock.recv(65536):
            waiting += piece
            *lines, waiting = waiting.split(b"\r\n")
            self._server.flights.append(len(lines))
            swallowed = self._server.swallows if len(lines) > 1 or not self._server.swallows_in_flights else set()
            for line in (octets.decode("utf-8", "replace") for octets in lines):
                if line not in swallowed and not self._answer(line):
                    return

    def _answer(self, line: str) -> bool:
        server = self._server
        verb, *self._arguments = line.split(" ")
        server.commands.append(line)
        if {line, verb} & server.hangs_up_on:
            return False
        if {line, verb} & server.hangs_on:
            server.hanging.set()
            server.stop.wait()
            return False
        self._dripping |= server.drips_on in {line, verb}
        if verb in server.on and (octets := server.on[verb](self._arguments)) is not None:
            self._send(octets)
            return verb != "QUIT"
        whole_only = verb in {"LIST", "UIDL"} and self._arguments  # what is scripted for them is a listing
        scripted = server.replies.get(line, None if whole_only else server.replies.get(verb))
        if scripted is not None:
            self._send(scripted if isinstance(scripted, bytes) else scripted())
            return verb != "QUIT"
        if verb == "QUIT" and isinstance(self._sock, ssl.SSLSocket):
            self._quit_in_one_piece(self._sock)
            return False
        self._send(getattr(self, f"_{verb.lower()}", self._unknown)())
        if verb == "STLS":
            self.start_tls()
        return verb != "QUIT"

    def _quit_in_one_piece(self, sock: ssl.SSLSocket) -> None:
        """The answer and the farewell of TLS (close_notify) leave together, as they do from a busy server."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        self._send(self._quit())
        sock.unwrap()

    def _send(self, octets: bytes) -> None:
        server = self._server
        if self._late is not None:
            octets, self._late = self._late, octets
        elif server.commands and server.commands[-1] in server.doubles:
            self._late = octets
        if server.cut_after is not None and self._sent + len(octets) > server.cut_after:
            self._sock.sendall(octets[: max(server.cut_after - self._sent, 0)])
            raise ConnectionError("cut, as the script says")
        self._sent += len(octets)
        if not self._dripping:
            self._sock.sendall(octets)
            return
        for octet in octets:
            self._sock.sendall(bytes([octet]))
            server.dripped += 1
            if server.stop.wait(server.drip_s):
                return

    # --- commands ------------------------------------------------------------------------------------

    def _unknown(self) -> bytes:
        return UNKNOWN

    def _capa(self) -> bytes:
        server = self._server
        shown = server.capabilities_inside if self._inside and server.capabilities_inside else server.capabilities
        if shown is None:
            return UNKNOWN
        return b"+OK\r\n" + "".join(f"{line}\r\n" for line in shown).encode() + b".\r\n"

    def _stls(self) -> bytes:
        return b"+OK begin\r\n"

    def _user(self) -> bytes:
        return b"+OK\r\n"

    def _pass(self) -> bytes:
        return self._sign_in(" ".join(self._arguments) == PASSWORD)

    def _apop(self) -> bytes:
        digest = hashlib.md5(TIMESTAMP + PASSWORD.encode()).hexdigest()
        return self._sign_in(self._arguments == [USERNAME, digest])

    def _auth(self) -> bytes:
        mechanism, *initial = self._arguments
        known = sasl.Known(USERNAME, PASSWORD, self._certified())
        try:
            exchange = sasl.serve(mechanism, _decoded(initial[0]) if initial else None, known)
            challenge = next(exchange)
            while True:
                self._send(b"+ " + base64.b64encode(challenge) + b"\r\n")
                challenge = exchange.send(_decoded(self._sock.recv(65536).decode().strip()))
        except KeyError:
            return b"-ERR unknown mechanism\r\n"
        except StopIteration as end:
            return self._sign_in(end.value)

    def _certified(self) -> str:
        """The common name in the client's certificate."""
        shown = self._sock.getpeercert() if isinstance(self._sock, ssl.SSLSocket) else None
        subject: Any = shown["subject"] if shown else ((("commonName", ""),),)
        return str(dict(row[0] for row in subject)["commonName"])

    def _sign_in(self, right: bool) -> bytes:  # noqa: FBT001
        self._inside = right
        return b"+OK welcome\r\n" if right else b"-ERR [AUTH] no such user or password\r\n"

    def _stat(self) -> bytes:
        messages = [delivered(message) for message in self._server.messages]
        return b"+OK %d %d\r\n" % (len(messages), sum(map(len, messages)))

    def _list(self) -> bytes:
        rows = [b"%d %d\r\n" % (n, len(delivered(m))) for n, m in enumerate(self._server.messages, 1)]
        if self._arguments:
            return b"+OK " + rows[int(self._arguments[0]) - 1]
        return b"+OK\r\n" + b"".join(rows) + b".\r\n"

    def _uidl(self) -> bytes:
        rows = [b"%d %s\r\n" % row for row in enumerate(self._server.uids, 1)]
        if self._arguments:
            return b"+OK " + rows[int(self._arguments[0]) - 1]
        return b"+OK\r\n" + b"".join(rows) + b".\r\n"

    def _retr(self) -> bytes:
        return b"+OK\r\n" + stuffed(self._server.messages[int(self._arguments[0]) - 1])

    def _top(self) -> bytes:
        header, found, _ = self._server.messages[int(self._arguments[0]) - 1].partition(b"\r\n\r\n")
        return b"+OK\r\n" + stuffed(header + found)

    def _dele(self) -> bytes:
        self._server.deleted.append(int(self._arguments[0]))
        return b"+OK\r\n"

    def _noop(self) -> bytes:
        return b"+OK\r\n"

    def _quit(self) -> bytes:
        return b"+OK bye\r\n"
