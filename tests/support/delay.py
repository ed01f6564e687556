"""A distance for measurements: a loopback TCP relay that holds every octet for a while and limits nothing else.

    with Delay(("127.0.0.1", 110), one_way_s=0.020) as far: connect to far.port

It is a process of its own (this file, run as a script), and ends when its starter does. A connection costs what
it would over the wire: connect(2) to a relay on loopback returns at once, so the relay waits for one and a half
round trips before it connects onward, and the greeting is there after two. It models no slow start, no loss and
no bandwidth; it carries several hundred MiB/s.
"""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

CHUNK_OCTETS = 512 << 10
IN_FLIGHT_OCTETS = 128 << 20  # a direction: more than fits into 20 ms at any rate reached here
SOCKET_BUFFER_OCTETS = 4 << 20


class Delay:
    """The relay to `target`, `one_way_s` away. A context manager; the connections end with it."""

    host = "127.0.0.1"

    def __init__(self, target: tuple[str, int], one_way_s: float) -> None:
        self._arguments = [target[0], str(target[1]), str(one_way_s)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-ISE", __file__, *self._arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()


# --- the process ---------------------------------------------------------------------------------------


@dataclass(eq=False)
class Pipe:
    """One direction of one connection: what was read, and when it may leave."""

    source: socket.socket
    sink: socket.socket | None = None  # None: not connected yet
    held: deque[tuple[float, memoryview]] = field(default_factory=deque)  # an empty chunk is the end of the stream
    octets: int = 0
    ended: bool = False  # nothing more will be read
    blocked: bool = False  # the sink took less than it was given


class Relay:
    """All connections in one epoll loop."""

    def __init__(self, target: tuple[str, int], one_way_s: float) -> None:
        self._target = target
        self._one_way_s = one_way_s
        self._poll = select.epoll()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._poll.register(self._listener, select.EPOLLIN)
        self._poll.register(sys.stdin, select.EPOLLIN | select.EPOLLHUP)
        self._reads: dict[int, Pipe] = {}  # by the descriptor it is read from
        self._pipes: set[Pipe] = set()
        self._onward: deque[tuple[float, Pipe]] = deque()  # when to connect a new connection onward
        self.port = self._listener.getsockname()[1]

    def run(self) -> None:
        """Relay until standard input ends."""
        while True:
            for descriptor, _ in self._poll.poll(self._patience()):
                if descriptor == sys.stdin.fileno():
                    return
                if descriptor == self._listener.fileno():
                    self._accept()
                elif descriptor in self._reads:
                    self._read(self._reads[descriptor])
            now = time.monotonic()
            while self._onward and self._onward[0][0] <= now:
                self._connect(self._onward.popleft()[1])
            for pipe in [pipe for pipe in self._pipes if pipe.held and pipe.held[0][0] <= now]:
                self._write(pipe, now)

    def _patience(self) -> float | None:
        due = [pipe.held[0][0] for pipe in self._pipes if pipe.held and pipe.sink and not pipe.blocked]
        if self._onward:
            due.append(self._onward[0][0])
        if any(pipe.blocked for pipe in self._pipes):
            due.append(time.monotonic() + 0.001)  # rather than track writability for a case of a full buffer
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        _tune(client)
        upward = Pipe(client)
        self._pipes.add(upward)
        self._watch(upward)
        self._onward.append((time.monotonic() + 3 * self._one_way_s, upward))

    def _connect(self, upward: Pipe) -> None:
        try:
            server = socket.create_connection(self._target)
        except OSError:
            self._drop(upward)
            return
        _tune(server)
        upward.sink = server
        downward = Pipe(server, sink=upward.source)
        self._pipes.add(downward)
        self._watch(downward)

    def _watch(self, pipe: Pipe) -> None:
        self._reads[pipe.source.fileno()] = pipe
        self._poll.register(pipe.source, select.EPOLLIN)

    def _unwatch(self, pipe: Pipe) -> None:
        if self._reads.pop(pipe.source.fileno(), None) is not None:
            self._poll.unregister(pipe.source)

    def _read(self, pipe: Pipe) -> None:
        try:
            chunk = pipe.source.recv(CHUNK_OCTETS)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""  # a reset ends the stream as well as a farewell
        pipe.held.append((time.monotonic() + self._one_way_s, memoryview(chunk)))
        pipe.octets += len(chunk)
        pipe.ended = not chunk
        if pipe.ended or pipe.octets > IN_FLIGHT_OCTETS:
            self._unwatch(pipe)

    def _write(self, pipe: Pipe, now: float) -> None:
        if pipe.sink is None:
            return
        try:
            while pipe.held and pipe.held[0][0] <= now:
                due, chunk = pipe.held[0]
                if not chunk:
                    pipe.held.popleft()
                    pipe.sink.shutdown(socket.SHUT_WR)
                    break
                sent = pipe.sink.send(chunk)
                pipe.octets -= sent
                if sent == len(chunk):
                    pipe.held.popleft()
                else:
                    pipe.held[0] = due, chunk[sent:]
            pipe.blocked = False
        except BlockingIOError:
            pipe.blocked = True
        except OSError:
            self._drop(pipe)
            return
        self._tidy(pipe)

    def _tidy(self, pipe: Pipe) -> None:
        if pipe.ended and not pipe.held:
            partner = next((p for p in self._pipes if p.source is pipe.sink), None)
            if partner is None or (partner.ended and not partner.held):
                self._drop(pipe)
        elif not pipe.ended and pipe.octets <= IN_FLIGHT_OCTETS and pipe.source.fileno() not in self._reads:
            self._watch(pipe)

    def _drop(self, pipe: Pipe) -> None:
        for one in [p for p in self._pipes if p is pipe or p.source is pipe.sink]:
            self._pipes.discard(one)
            self._unwatch(one)
            one.source.close()
        if pipe.sink is not None:
            pipe.sink.close()


def _tune(connection: socket.socket) -> None:
    connection.setblocking(False)  # the standard library's spelling
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        connection.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_OCTETS)


if __name__ == "__main__":
    relay = Relay((sys.argv[1], int(sys.argv[2])), float(sys.argv[3]))
    print(relay.port, flush=True)
    relay.run()
