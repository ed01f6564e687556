"""The HTTP server of a service process, against clients of all kinds."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from syncd.errors import ConfigError
from syncd.telemetry import server as server_module
from syncd.telemetry.health import Health
from syncd.telemetry.metrics import Metrics
from syncd.telemetry.server import MAX_CONNECTIONS, Server


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
def server(health: Health) -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), health, Metrics(health=health))
    made.start()
    yield made
    made.stop()


def ask(server: Server, method: str, path: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(*server.address, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def send(server: Server, octets: bytes) -> bytes:
    """Send octets and return all that comes back."""
    with socket.create_connection(server.address, timeout=10) as connection:
        connection.sendall(octets)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while octets := connection.recv(65536):
            received += octets
        return received


def test_health_and_readiness(server: Server, health: Health) -> None:
    answer, body = ask(server, "GET", "/healthz")
    assert (answer.status, json.loads(body)) == (200, {"ok": True, "reasons": []})
    health.check("database", lambda: "is away")
    health.expect("sweep", within_s=-1)
    answer, body = ask(server, "GET", "/readyz?verbose=1")
    assert answer.status == 503
    document = json.loads(body)
    assert document["ok"] is False
    assert [reason["part"] for reason in document["reasons"]] == ["sweep", "database"]
    answer, body = ask(server, "GET", "/healthz")
    assert (answer.status, [reason["part"] for reason in json.loads(body)["reasons"]]) == (503, ["sweep"])


def test_metrics_and_what_answers_tell(server: Server) -> None:
    answer, body = ask(server, "GET", "/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b"process_resident_memory_bytes" in body
    assert "Server" not in answer.headers
    assert "Date" not in answer.headers
    answer, body = ask(server, "HEAD", "/metrics")
    assert (answer.status, body) == (200, b"")
    assert int(answer.headers["Content-Length"]) > 100


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics/../etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"GET /%6detrics HTTP/1.1\r\n\r\n", 404),
        (b"GET \xff\xfe HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"get /metrics HTTP/1.1\r\n\r\n", 405),
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET /metrics HTTP/2.0\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: x", 400),
        (b"GET /" + b"x" * 8187, 431),
        (b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 2000, 431),
    ],
)
def test_odd_requests(server: Server, request_: bytes, status: int) -> None:
    received = send(server, request_[:8192])
    assert received.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"Connection: close\r\n" in received
    assert b"ython" not in received


def test_a_request_that_does_not_come_is_not_waited_for(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "TIMEOUT_S", 0.05)
    with socket.create_connection(server.address, timeout=10) as connection:
        connection.sendall(b"GET /heal")
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")


def test_many_connections_are_closed_and_the_server_goes_on(server: Server) -> None:
    idle = [socket.create_connection(server.address, timeout=10) for _ in range(MAX_CONNECTIONS)]
    for connection in idle:
        connection.sendall(b"GET ")
    with socket.create_connection(server.address, timeout=10) as further:
        assert further.recv(100) == b""
    for connection in idle:
        connection.sendall(b"/healthz HTTP/1.0\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
        connection.close()


def test_a_page_that_fails_is_an_answer_without_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics()
    monkeypatch.setattr(metrics, "text", lambda: 1 / 0)
    made = Server(("127.0.0.1", 0), Health(), metrics)
    made.start()
    try:
        received = send(made, b"GET /metrics HTTP/1.1\r\n\r\n")
    finally:
        made.stop()
    assert received.startswith(b"HTTP/1.1 500 ")
    assert b"ZeroDivision" not in received


def test_a_port_that_is_taken_is_one_clear_line(server: Server, health: Health) -> None:
    host, port = server.address
    with pytest.raises(ConfigError, match=rf'^\[service\] listen = "{host}:{port}": another program listens there'):
        Server(server.address, health, Metrics())
    with pytest.raises(ConfigError, match=r'listen = "192\.0\.2\.1:0": this machine does not have that address'):
        Server(("192.0.2.1", 0), health, Metrics())
    with pytest.raises(ConfigError, match=r'listen = "no\.such\.host\.invalid:1": .*; give an address of this machine'):
        Server(("no.such.host.invalid", 1), health, Metrics())


def test_ipv6(health: Health) -> None:
    try:
        made = Server(("::1", 0), health, Metrics())
    except ConfigError:
        pytest.skip("this machine has no IPv6")
    made.start()
    try:
        assert ask(made, "GET", "/healthz")[0].status == 200
    finally:
        made.stop()
        made.stop()


GIVEN = """
import os, sys
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.dup2(int(sys.argv[1]), 3)
from syncd.telemetry.health import Health
from syncd.telemetry.metrics import Metrics
from syncd.telemetry.server import Server
server = Server(("192.0.2.1", 1), Health(), Metrics())
server.start()
print(server.address[1], os.get_inheritable(3), flush=True)
sys.stdin.readline()
server.stop()
"""


def test_a_socket_that_systemd_hands_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        command = [sys.executable, "-c", GIVEN, str(given.fileno())]
        with subprocess.Popen(
            command, pass_fds=[given.fileno()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            port = given.getsockname()[1]
            assert process.stdout.readline() == f"{port} False\n"
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/healthz")
            assert connection.getresponse().status == 200
            connection.close()
            process.stdin.write("end\n")
            process.stdin.flush()
            assert process.wait(60) == 0
