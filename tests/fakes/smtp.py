"""A scripted SMTP or LMTP server on a real loopback socket, with every fault we know of.

    with FakeSmtp() as server:
        server.replies["RCPT TO:<bad@example.org>"] = b"550 5.1.1 nobody\\r\\n"
        ... connect to server.port ...
        assert server.arrivals == [Arrival("me@example.org", ("you@example.org",), b"Subject: hi\\r\\n")]
        assert server.commands == ["EHLO client.example", "MAIL FROM:<me@example.org>", …]

Well-behaved by default; attributes change it, before or while it runs. There is one thread for each connection. Replies
are looked up by the whole command, by its verb, and for the end of a message by "." or "LAST"; a list is used up.
`arrivals` are the messages that were answered with a 2xx, in LMTP one for each such recipient.
"""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Self

from tests.fakes import sasl

USERNAME, PASSWORD = "user", "secret"
CAPABILITIES = ("PIPELINING", "SIZE 10000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN", "STARTTLS")
CHUNKING = (*CAPABILITIES, "CHUNKING")
END = re.compile(rb"(?:^|(?<=\r\n))\.\r\n")  # RFC 5321 §4.1.1.4
LAX_END = re.compile(rb"(?:^|(?<=[\r\n]))\.(?:\r\n|\r|\n)")  # S14: what some receivers take for it
_PARAMETER = re.compile(r"<(.*)>", re.DOTALL)


class Arrival(NamedTuple):
    """A message that the server took, and its recipients."""

    sender: str
    recipients: tuple[str, ...]
    octets: bytes


@dataclass
class _Transaction:
    sender: str | None = None
    recipients: list[str] = field(default_factory=list)
    octets: bytes = b""
    failed: bool = False  # a chunk was refused: RFC 3030 §2 wants RSET

    @property
    def arrival(self) -> Arrival:
        return Arrival(self.sender or "", tuple(self.recipients), self.octets)


class FakeSmtp:
    """The server. A context manager; its threads end with it."""

    host = "127.0.0.1"

    def __init__(self, *, lmtp: bool = False, tls: ssl.SSLContext | None = None, implicit: bool = False) -> None:
        self.lmtp = lmtp
        self.greeting = b"220 fake.example ready\r\n"
        self.capabilities: tuple[str, ...] | None = CAPABILITIES  # None: EHLO is an unknown command
        self.capabilities_in_tls: tuple[str, ...] | None = None
        self.replies: dict[str, bytes | list[bytes]] = {}  # raw octets; b"" is silence
        self.hangs_up_on: set[str] = set()  # after reading it
        self.hangs_on: set[str] = set()
        self.padding = b""  # S31: sent before and after each reply, and between its lines
        self.behind: dict[str, bytes] = {}  # sent in one piece with the reply to this
        self.goes_on_without_recipients = False  # S05: 354 to DATA, whoever was refused
        self.refuses_content_after: int | None = None  # octets of DATA, then 552 and the end of the connection
        self.needs_sign_in_after_rset = False  # S28
        self.messages_a_connection: int | None = None  # S28: then 421 to MAIL
        self.end = END
        self.certified = ""  # for EXTERNAL
        self.cut_after: int | None = None  # octets sent on a connection
        self.cut_in_after: int | None = None  # octets received on a connection
        self.commands: list[str] = []
        self.flights: list[list[str]] = []  # commands that were there together
        self.arrivals: list[Arrival] = []
        self.received = 0  # octets, all connections
        self.connections = 0
        self.stop = threading.Event()
        self._tls = tls
        self._implicit = implicit
        self._listener = socket.create_server((self.host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._threads.append(threading.Thread(target=self._accept, name="fake smtp", daemon=True))
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

    def hang_up(self, words: bytes = b"") -> None:
        """Close all connections, as after an idle time; returns when the clients' kernels know."""
        for sock in self._sockets:
            with contextlib.suppress(OSError):  # the client was faster
                sock.sendall(words)
                sock.shutdown(socket.SHUT_RDWR)

    def interject(self, words: bytes) -> None:
        """Send octets on all connections that answer no command."""
        for sock in self._sockets:
            with contextlib.suppress(OSError):  # it is over
                sock.sendall(words)

    def verbs(self) -> list[str]:
        """The commands without their arguments."""
        return [command.split(" ")[0] for command in self.commands]

    def scripted(self, *names: str) -> bytes | None:
        """Returns what the script has for one of `names`."""
        for name in names:
            reply = self.replies.get(name)
            if isinstance(reply, list) and reply:
                return reply.pop(0)
            if isinstance(reply, bytes):
                return reply
        return None

    def _accept(self) -> None:
        while not self.stop.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._sockets.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), name="fake smtp", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.closing(_Connection(self, sock, self._tls)) as connection:
            if self._implicit:
                connection.start_tls()
            connection.run()


class _Connection:
    """One client."""

    def __init__(self, server: FakeSmtp, sock: socket.socket, tls: ssl.SSLContext | None) -> None:
        self._server = server
        self._sock = sock
        self._tls = tls
        self._sent = self._received = self._messages = 0
        self._in_tls = False
        self._must_sign_in = False
        self._waiting = b""
        self._transaction = _Transaction()
        self._arguments = ""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self._sock.close()

    def start_tls(self) -> None:
        assert self._tls is not None
        self._sock = self._tls.wrap_socket(self._sock, server_side=True)
        self._in_tls = True

    def run(self) -> None:
        self._send(self._server.greeting)
        for line in self._lines():
            self._answer(line)

    # --- octets --------------------------------------------------------------------------------------

    def _lines(self) -> Iterator[str]:
        while True:
            while b"\r\n" not in self._waiting:
                self._receive()
                together = [line.decode("utf-8", "replace") for line in self._waiting.split(b"\r\n")[:-1]]
                self._server.flights.append(together)
            line, _, self._waiting = self._waiting.partition(b"\r\n")
            yield line.decode()

    def _receive(self) -> None:
        limit = self._server.cut_in_after
        left = 1 << 20 if limit is None else limit - self._received
        piece = self._sock.recv(min(left, 1 << 20))
        if not piece:
            raise ConnectionError("the client has gone, or the script says so")
        self._received += len(piece)
        self._server.received += len(piece)
        self._waiting += piece

    def _send(self, octets: bytes) -> None:
        server = self._server
        if server.cut_after is not None and self._sent + len(octets) > server.cut_after:
            self._sock.sendall(octets[: max(server.cut_after - self._sent, 0)])
            raise ConnectionError("cut, as the script says")
        self._sent += len(octets)
        self._sock.sendall(padded(octets, server.padding) if server.padding and octets else octets)
        if octets.startswith(b"421"):
            self._hear_out()
            raise ConnectionError("421 closes the connection")

    def _hear_out(self) -> None:
        """Wait until the client has gone: closing with octets unread would reset, and take the last replies along."""
        if not self._in_tls:
            self._sock.shutdown(socket.SHUT_WR)
            while self._sock.recv(1 << 16):
                pass

    # --- commands ------------------------------------------------------------------------------------

    def _answer(self, line: str) -> None:
        server = self._server
        verb, _, self._arguments = line.partition(" ")
        verb = verb.upper()
        server.commands.append(line)
        self._trip(line, verb)
        if verb == "BDAT":
            self._bdat(line)
            return
        scripted = server.scripted(line, verb)
        reply = scripted or b""
        if scripted is None or (scripted[:1] in b"23" and verb != "AUTH"):  # a yes changes what the server knows
            usual = getattr(self, f"_{verb.lower()}", self._unknown)()
            reply = usual if scripted is None else scripted
        self._send(reply + server.behind.get(verb, b""))
        if verb == "DATA" and reply.startswith(b"354"):
            self._end_of_data()
        if verb == "STARTTLS" and reply.startswith(b"220"):
            self.start_tls()
        if verb == "QUIT":
            raise ConnectionError("the client said goodbye")

    def _trip(self, *names: str) -> None:
        """Fail here, if the script says so."""
        server = self._server
        if server.hangs_up_on.intersection(names):
            raise ConnectionError("hung up, as the script says")
        if server.hangs_on.intersection(names):
            server.stop.wait()
            raise ConnectionError("the test is over")

    def _unknown(self) -> bytes:
        return b"500 5.5.1 unknown command\r\n"

    def _ehlo(self) -> bytes:
        server = self._server
        shown = server.capabilities_in_tls if self._in_tls and server.capabilities_in_tls else server.capabilities
        if shown is None or server.lmtp:
            return self._unknown()
        return self._hello(shown)

    def _lhlo(self) -> bytes:
        return self._hello(self._server.capabilities or ()) if self._server.lmtp else self._unknown()

    def _hello(self, shown: tuple[str, ...]) -> bytes:
        self._transaction = _Transaction()
        *rows, last = ("fake.example", *shown)
        return "".join(f"250-{row}\r\n" for row in rows).encode() + f"250 {last}\r\n".encode()

    def _helo(self) -> bytes:
        return self._unknown() if self._server.lmtp else b"250 fake.example\r\n"

    def _starttls(self) -> bytes:
        return b"220 2.0.0 begin\r\n"

    def _auth(self) -> bytes:
        mechanism, *initial = self._arguments.split(" ")
        server = self._server
        known = sasl.Known(USERNAME, PASSWORD, server.certified)
        try:
            exchange = sasl.serve(mechanism, _decoded(initial[0]) if initial else None, known)
            challenge = next(exchange)
            while True:
                scripted = server.scripted("334")
                self._send(scripted or b"334 " + base64.b64encode(challenge) + b"\r\n")
                line = next(self._lines())
                server.commands.append(line)
                if line == "*":
                    return b"501 5.7.0 cancelled\r\n"
                challenge = exchange.send(_decoded(line))
        except KeyError:
            return b"504 5.5.4 unknown mechanism\r\n"
        except StopIteration as end:
            self._must_sign_in = not end.value
            if verdict := server.scripted("end of AUTH"):
                return verdict
            return b"235 2.7.0 welcome\r\n" if end.value else b"535 5.7.8 no such user or password\r\n"

    def _mail(self) -> bytes:
        if self._must_sign_in:
            return b"530 5.7.0 sign in first\r\n"
        if self._transaction.sender is not None:
            return b"503 5.5.1 nested MAIL\r\n"
        if self._messages == self._server.messages_a_connection:
            return b"421 4.7.0 too many messages in this session\r\n"
        self._transaction = _Transaction(sender=_parameter(self._arguments))
        return b"250 2.1.0 ok\r\n"

    def _rcpt(self) -> bytes:
        if self._transaction.sender is None:
            return b"503 5.5.1 MAIL first\r\n"
        self._transaction.recipients.append(_parameter(self._arguments))
        return b"250 2.1.5 ok\r\n"

    def _rset(self) -> bytes:
        self._transaction = _Transaction()
        self._must_sign_in |= self._server.needs_sign_in_after_rset
        return b"250 2.0.0 flushed\r\n"

    def _quit(self) -> bytes:
        return b"221 2.0.0 bye\r\n"

    # --- messages ------------------------------------------------------------------------------------

    def _data(self) -> bytes:
        if self._transaction.recipients or self._server.goes_on_without_recipients:
            return b"354 go on\r\n"
        return b"503 5.5.1 no valid recipients\r\n"

    def _end_of_data(self) -> None:
        while (found := self._server.end.search(self._waiting)) is None:
            self._receive()
            limit = self._server.refuses_content_after
            if limit is not None and len(self._waiting) > limit:
                self._send(b"552 5.3.4 too large\r\n")
                raise ConnectionError("the server has no patience")
        text, self._waiting = self._waiting[: found.start()], self._waiting[found.end() :]
        self._transaction.octets = re.sub(rb"(?:^|(?<=\n))\.", b"", text)
        self._server.commands.append(".")
        self._taken(".")

    def _bdat(self, line: str) -> None:
        words = self._arguments.split(" ")
        transaction = self._transaction
        octets = int(words[0])
        while len(self._waiting) < octets:
            self._receive()
        transaction.octets += self._waiting[:octets]
        self._waiting = self._waiting[octets:]
        last = words[1:] == ["LAST"]
        if not transaction.recipients or transaction.failed:
            self._send(b"503 5.5.1 no valid recipients\r\n")
        elif last:
            self._taken("LAST")
        else:
            reply = self._server.scripted(line, "BDAT") or b"250 2.0.0 %d octets\r\n" % octets
            transaction.failed = not reply.startswith(b"2")
            self._send(reply)

    def _taken(self, name: str) -> None:
        """Answer the end of a message: in LMTP once for each recipient (RFC 2033 §4.2)."""
        server = self._server
        arrival = self._transaction.arrival
        self._trip(name)
        if not arrival.recipients:
            self._transaction = _Transaction()
            self._send(b"554 5.5.1 no valid recipients\r\n")
            return
        each = [(recipient,) for recipient in arrival.recipients] if server.lmtp else [arrival.recipients]
        taken = False
        for number, recipients in enumerate(each, 1):
            scripted = server.scripted(f"{name} {number}", name)
            reply = b"250 2.0.0 taken as %d\r\n" % (len(server.arrivals) + 1) if scripted is None else scripted
            if reply.startswith(b"2"):
                taken = True
                self._messages += 1
                server.arrivals.append(arrival._replace(recipients=recipients))
            self._trip(f"{name} {number}")
            self._send(reply)
        if name == "." or taken:
            self._transaction = _Transaction()
        else:
            self._transaction.failed = True


def padded(octets: bytes, padding: bytes) -> bytes:
    """Returns a reply with `padding` before each of its lines and at its end."""
    return padding + octets.replace(b"\r\n", b"\r\n" + padding)


def _parameter(arguments: str) -> str:
    found = _PARAMETER.search(arguments)
    assert found is not None, arguments
    return found[1]


def _decoded(word: str) -> bytes:
    """A response: "=" is an empty one (RFC 4954 §4)."""
    return b"" if word == "=" else base64.b64decode(word)
