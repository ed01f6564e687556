"""Connect to a host by any of its addresses, all within one deadline (RFC 8305, "happy eyeballs").

IPv6 and IPv4 addresses take turns; the next attempt begins 250 ms after the last, or at once when it
failed, and the first to succeed wins. One dead address costs 250 ms, not a time-out.
"""

from __future__ import annotations

import errno
import os
import queue
import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, zip_longest
from typing import Any

from syncd import clock
from syncd.errors import ConfigError, ConnectFailed, printable
from syncd.net.deadline import Deadline

ATTEMPT_DELAY_S = 0.25  # RFC 8305 §5
_LOOK_S = 0.1  # a cancel is noticed after this time at the latest

# family, type, protocol, canonical name, socket address: a row of getaddrinfo
_AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]  # the address differs by family


def connect(host: str, port: int, deadline: Deadline, check: Callable[[], None]) -> socket.socket:
    """Returns a connected socket, non-blocking. `check` is called between waits, and raises to end them.

    Raises ConnectFailed (name unknown; every address refused), ConfigError (a name that cannot be one), TimedOut, and
    what `check` raises.
    """
    race = _Race(host, port)
    todo = deque(_take_turns(_resolve(host, port, deadline, check)))
    next_at = 0.0
    try:
        while todo or race.running:
            check()
            now = clock.monotonic()
            if todo and (not race.running or now >= next_at):
                race.enter(todo.popleft())
                next_at = now + ATTEMPT_DELAY_S
            winner = race.wait(min(_LOOK_S, deadline.remaining()))
            if winner is not None:
                return winner
    finally:
        race.close()
    raise ConnectFailed(f"{host}:{port}: no connection: {'; '.join(race.failures)}; check host and port")


class _Race:
    """Attempts to connect that run side by side."""

    def __init__(self, host: str, port: int) -> None:
        self.running: dict[int, tuple[socket.socket, str]] = {}
        self.failures: list[str] = []
        self._poll = select.poll()
        self._several = f"{host}:{port}"

    def enter(self, info: _AddressInfo) -> None:
        family, kind, protocol, _, address = info
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:  # the family is not supported here
            if error.errno in {errno.EMFILE, errno.ENFILE}:
                raise  # no other address can help, nor can waiting
            self._failed(address[0], error.errno or 0)
            return
        sock.setblocking(False)
        sock.connect_ex(address)
        self.running[sock.fileno()] = (sock, address[0])
        self._poll.register(sock, select.POLLOUT)

    def wait(self, seconds: float) -> socket.socket | None:
        for descriptor, _ in self._poll.poll(seconds * 1000 if self.running else 0):
            self._poll.unregister(descriptor)
            sock, address = self.running.pop(descriptor)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not error:
                return sock
            sock.close()
            self._failed(address, error)
        return None

    def _failed(self, address: str, error: int) -> None:
        reason = os.strerror(error).lower()
        self.failures.append(reason if self._several.startswith(address) else f"{address}: {reason}")

    def close(self) -> None:
        for sock, _ in self.running.values():
            sock.close()


def _resolve(host: str, port: int, deadline: Deadline, check: Callable[[], None]) -> Sequence[_AddressInfo]:
    """Look the name up in a thread, because getaddrinfo has no deadline. A thread that takes too long is abandoned."""
    answers: queue.SimpleQueue[Sequence[_AddressInfo] | Exception] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=look_up, name="look-up", daemon=True).start()
    while True:
        check()
        try:
            answer = answers.get(timeout=min(_LOOK_S, deadline.remaining()))
        except queue.Empty:
            continue
        if isinstance(answer, UnicodeError):
            message = f"{printable(host)}: this cannot be the name of a host: {printable(str(answer))}; correct host"
            raise ConfigError(message) from answer
        if isinstance(answer, Exception):
            reason = getattr(answer, "strerror", None) or str(answer)
            message = f"{printable(host)}: the name cannot be looked up: {printable(reason)}; check host and network"
            raise ConnectFailed(message) from answer
        return answer


def _take_turns(found: Sequence[_AddressInfo]) -> Iterable[_AddressInfo]:
    """Alternate between the first address's family and other families (RFC 8305 §4), each in the resolver's order."""
    first = [info for info in found if info[0] == found[0][0]]
    others = [info for info in found if info[0] != found[0][0]]
    return (info for info in chain.from_iterable(zip_longest(first, others)) if info is not None)
