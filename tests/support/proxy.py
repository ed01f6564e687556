"""A faulty network: a loopback TCP proxy that cuts, resets, stalls or slices connections at a given octet.

    with Proxy((server.host, server.pop3_port)) as network:
        network.fault = Fault(Way.DOWN, after=10_000, act=Act.RESET)
        ... connect to network.port ...

Threads in the process of the test, two for each connection; a fault counts octets of one connection, and is
that of the moment the connection was made. For a distance instead of faults see `tests.support.delay`.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Self

CHUNK_OCTETS = 64 << 10


class Way(Enum):
    """A direction."""

    UP = "to the server"
    DOWN = "to the client"


class Act(Enum):
    """What happens to the whole connection."""

    CUT = "both sides see an orderly end"
    RESET = "both sides see a reset"
    STALL = "nothing more passes in this direction, until the client gives up"


@dataclass(frozen=True)
class Fault:
    """Let `after` octets of a direction pass, then act. With 0, not even the first one passes."""

    way: Way
    after: int
    act: Act = Act.CUT


class Proxy:
    """The proxy to `target`. A context manager; connections and threads end with it.

    `fault` holds for connections made from now on; None (as at first) passes everything. `fault_of`, when set,
    wins and is asked for each connection, which are counted from 1. `slice_octets` passes everything on in
    pieces of at most so many octets, each sent on its own. `passed` counts octets, all connections together.
    """

    host = "127.0.0.1"

    def __init__(self, target: tuple[str, int], slice_octets: int | None = None) -> None:
        self.fault: Fault | None = None
        self.fault_of: Callable[[int], Fault | None] | None = None
        self.slice_octets = slice_octets
        self.connections = 0
        self.passed = {Way.UP: 0, Way.DOWN: 0}
        self._target = target
        self._links: list[_Link] = []
        self._listener = socket.create_server((self.host, 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.suppress(OSError):  # wakes accept(2), which close would not
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        for link in self._links:
            link.end(Act.CUT)
            link.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            fault = self.fault_of(self.connections) if self.fault_of else self.fault
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()  # as a server that is not there: nobody answers
                continue
            link = _Link(client, server, fault, self)
            self._links.append(link)
            link.start()


class _Link:
    """One connection: two threads that pump, and one end for both."""

    def __init__(self, client: socket.socket, server: socket.socket, fault: Fault | None, proxy: Proxy) -> None:
        self._sockets = (client, server)
        self._fault = fault
        self._proxy = proxy
        self._lock = threading.Lock()
        self._ended = False
        ways = ((Way.UP, client, server), (Way.DOWN, server, client))
        self._threads = [threading.Thread(target=self._pump, args=way, name="proxy", daemon=True) for way in ways]
        for one in self._sockets:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()
        for one in self._sockets:
            one.close()

    def end(self, act: Act) -> None:
        """End both sides; the first call decides how."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            for one in self._sockets:
                with contextlib.suppress(OSError):
                    if act is Act.RESET:  # lingering for no time means: reset instead of a farewell
                        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    one.shutdown(socket.SHUT_RD if act is Act.RESET else socket.SHUT_RDWR)
                    if act is Act.RESET:
                        one.close()

    def _pump(self, way: Way, source: socket.socket, sink: socket.socket) -> None:
        fault = self._fault if self._fault and self._fault.way is way else None
        left = fault.after if fault else None
        try:
            while left != 0 and (chunk := source.recv(CHUNK_OCTETS if left is None else min(left, CHUNK_OCTETS))):
                if left is not None:
                    left -= len(chunk)
                self._send(sink, chunk)
                self._proxy.passed[way] += len(chunk)
            if left == 0 and fault:
                self._act(fault, source)
            else:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            self.end(Act.CUT)

    def _act(self, fault: Fault, source: socket.socket) -> None:
        if fault.act is not Act.STALL:
            self.end(fault.act)
            return
        while source.recv(CHUNK_OCTETS):  # takes the octets, so that only the one behind the stall waits
            pass
        if fault.way is Way.UP:  # the client gave up: a server that is not told would wait for the rest
            self.end(Act.CUT)

    def _send(self, sink: socket.socket, chunk: bytes) -> None:
        step = self._proxy.slice_octets or len(chunk)
        for start in range(0, len(chunk), step):
            sink.sendall(chunk[start : start + step])
