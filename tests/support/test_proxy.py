from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.delay import Delay
from tests.support.proxy import Act, Fault, Proxy, Way

TIMEOUT_S = 20.0


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that sends back what it gets, and ends when its client does."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while chunk := connection.recv(65536):
                    connection.sendall(chunk)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield listener.getsockname()
    listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    listener.close()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)


def read_all(connection: socket.socket) -> bytes:
    parts = []
    while chunk := connection.recv(65536):
        parts.append(chunk)
    return b"".join(parts)


def exchange(port: int, sent: bytes) -> bytes:
    """Send everything, say that it was everything, and read what comes back until the end."""
    with connect(port) as connection:
        writer = threading.Thread(target=connection.sendall, args=(sent,))
        writer.start()
        received = b""
        while len(received) < len(sent) and (chunk := connection.recv(65536)):
            received += chunk
        writer.join()
        connection.shutdown(socket.SHUT_WR)
        return received + read_all(connection)


def test_without_a_fault_everything_passes(echo: tuple[str, int]) -> None:
    sent = bytes(range(256)) * 4_000
    with Proxy(echo) as proxy:
        assert exchange(proxy.port, sent) == sent
        assert exchange(proxy.port, b"again") == b"again"
        assert proxy.connections == 2
        assert proxy.passed == {Way.UP: len(sent) + 5, Way.DOWN: len(sent) + 5}


@pytest.mark.parametrize("after", [0, 1, 99, 100])
def test_cut_on_the_way_down(echo: tuple[str, int], after: int) -> None:
    with Proxy(echo) as proxy:
        proxy.fault = Fault(Way.DOWN, after)
        with connect(proxy.port) as connection:
            connection.sendall(b"x" * 100)
            assert read_all(connection) == b"x" * after


def test_cut_on_the_way_up(echo: tuple[str, int]) -> None:
    with Proxy(echo) as proxy:
        proxy.fault = Fault(Way.UP, 10)
        with connect(proxy.port) as connection:
            connection.sendall(b"x" * 100)
            assert len(read_all(connection)) <= 10
        assert proxy.passed[Way.UP] == 10


def test_reset(echo: tuple[str, int]) -> None:
    with Proxy(echo) as proxy:
        proxy.fault = Fault(Way.DOWN, 10, Act.RESET)
        with connect(proxy.port) as connection:
            connection.sendall(b"x" * 100)
            with pytest.raises(ConnectionResetError):
                read_all(connection)


def test_stall(echo: tuple[str, int]) -> None:
    with Proxy(echo) as proxy:
        proxy.fault = Fault(Way.DOWN, 10, Act.STALL)
        with connect(proxy.port) as connection:
            connection.sendall(b"x" * 100)
            connection.settimeout(0.2)
            with pytest.raises(TimeoutError):
                read_all(connection)
        assert proxy.passed[Way.DOWN] == 10


def test_a_server_behind_a_stall_learns_that_the_client_gave_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, Proxy(listener.getsockname()) as proxy:
        proxy.fault = Fault(Way.UP, 3, Act.STALL)
        with connect(proxy.port) as connection:
            connection.sendall(b"xxxyyy")
            served, _ = listener.accept()
        with served:
            served.settimeout(TIMEOUT_S)
            assert read_all(served) == b"xxx"


def test_slices(echo: tuple[str, int]) -> None:
    with Proxy(echo, slice_octets=3) as proxy:
        assert exchange(proxy.port, b"0123456789" * 20) == b"0123456789" * 20


def test_a_fault_for_each_connection(echo: tuple[str, int]) -> None:
    with Proxy(echo) as proxy:
        proxy.fault_of = lambda number: Fault(Way.DOWN, 1) if number == 1 else None
        with connect(proxy.port) as connection:
            connection.sendall(b"xyz")
            assert read_all(connection) == b"x"
        assert exchange(proxy.port, b"xyz") == b"xyz"


def test_a_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    with Proxy(address) as proxy, connect(proxy.port) as connection:
        assert read_all(connection) == b""


def test_delay_holds_octets_and_changes_none(echo: tuple[str, int]) -> None:
    sent = bytes(range(256)) * 40_000
    with Delay(echo, one_way_s=0.02) as far:
        start = time.monotonic()
        with connect(far.port) as connection:
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"
            assert time.monotonic() - start >= 0.08  # a handshake and a round trip
            start = time.monotonic()
            connection.sendall(b"y")
            assert connection.recv(1) == b"y"
            assert time.monotonic() - start >= 0.04
        assert exchange(far.port, sent) == sent


def test_delay_to_a_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    with Delay(address, one_way_s=0.001) as far, connect(far.port) as connection:
        assert read_all(connection) == b""
