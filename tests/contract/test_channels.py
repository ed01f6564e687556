"""Mail, web hook and dead man's switch, against servers that take them and servers that do not."""

from __future__ import annotations

import contextlib
import email
import email.policy
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import pytest

from syncd.db.database import Database
from syncd.destinations.smtp.relay import RelayOptions
from syncd.errors import ConnectFailed, Refused, SyncdError, TimedOut
from syncd.net.endpoint import Endpoint
from syncd.secret import Secret
from syncd.services import channels
from syncd.services.channels import Mail, Ping, Webhook
from syncd.services.notifier import make_notifier
from syncd.services.notify import Message
from syncd.settings.load import load
from syncd.settings.urls import parse_hook
from tests.fakes.smtp import CAPABILITIES, PASSWORD, USERNAME, FakeSmtp

MESSAGE = Message(
    'syncd: job "road" needs attention',
    'job "road" is late: é\nAs of 2026-03-01 12:00 UTC.',
    {"title": "syncd", "text": "é", "jobs": [{"job": "road"}]},
)


class FakeWeb:
    """An HTTP server that gives `answers` in turn, the last one for ever, and keeps what it was asked."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                connection.settimeout(10)
                with connection, contextlib.suppress(OSError):  # a client that does not speak HTTP
                    self.requests.append(_request(connection))
                    connection.sendall(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])


def _request(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received or len(received.partition(b"\r\n\r\n")[2]) < _length(received):
        octets = connection.recv(65536)
        received += octets
        if not octets or received.startswith(b"\x16"):  # TLS
            raise ConnectionError
    return received


def _length(request: bytes) -> int:
    lines = request.lower().split(b"\r\n")
    return next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def smtp() -> Iterator[FakeSmtp]:
    with FakeSmtp() as server:
        server.capabilities = (*CAPABILITIES, "AUTH PLAIN")
        yield server


def mail(server: FakeSmtp, recipients: Sequence[str] = ("you@example.org",), username: str = USERNAME) -> Mail:
    endpoint = Endpoint(
        server.host, server.port, "none", username, password=lambda: Secret(PASSWORD), allow_insecure=True
    )
    return Mail(RelayOptions(endpoint, deadlines=channels.short_waits()), recipients)


def test_a_mail_is_plain_text(smtp: FakeSmtp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncd.clock.now", lambda: datetime(2026, 3, 1, 12, tzinfo=UTC))
    mail(smtp, ("you@example.org", "they@example.org")).send(MESSAGE)
    (arrival,) = smtp.arrivals
    assert arrival.recipients == ("you@example.org", "they@example.org")
    assert arrival.octets.isascii()
    read = email.message_from_bytes(arrival.octets, policy=email.policy.default)
    assert read["Subject"] == MESSAGE.title
    assert read["To"] == "you@example.org, they@example.org"
    assert read["From"] == "syncd <you@example.org>"
    assert read["Date"] == "Sun, 01 Mar 2026 12:00:00 +0000"
    assert read["Auto-Submitted"] == "auto-generated"
    assert read["Message-ID"].endswith("@example.org>")
    assert read.get_content_type() == "text/plain"
    assert read.get_content().splitlines() == MESSAGE.text.splitlines()
    assert b"=0D" not in arrival.octets
    assert smtp.commands[-1] == "QUIT"


def test_a_mail_comes_from_the_account_where_its_username_is_an_address(smtp: FakeSmtp) -> None:
    assert mail(smtp, username="me@example.net").sender == "me@example.net"
    assert mail(smtp, username="me").sender == "you@example.org"


def test_a_mail_that_is_refused(smtp: FakeSmtp) -> None:
    smtp.replies["RCPT TO:<bad@example.org>"] = b"550 5.1.1 nobody\r\n"
    mail(smtp, ("bad@example.org", "you@example.org")).send(MESSAGE)
    assert [arrival.recipients for arrival in smtp.arrivals] == [("you@example.org",)]
    with pytest.raises(Refused, match=r"the notice by mail was refused: 550 nobody"):
        mail(smtp, ("bad@example.org",)).send(MESSAGE)


def test_a_mail_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "TOTAL_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = Endpoint("127.0.0.1", silent.getsockname()[1], "none")
        with pytest.raises(TimedOut, match=r"the notice by mail: it was not sent within 0\.1 s"):
            Mail(RelayOptions(endpoint, deadlines=channels.short_waits()), ("you@example.org",)).send(MESSAGE)


def test_a_web_hook_gets_json() -> None:
    with FakeWeb(OK) as web:
        Webhook(parse_hook(f"{web.url}/services/T0?x=1")).send(MESSAGE)
    head, _, body = web.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /services/T0?x=1 HTTP/1.1\r\n")
    assert b"Content-Type: application/json" in head
    assert json.loads(body) == MESSAGE.document


def test_an_address_with_a_password() -> None:
    with FakeWeb(OK) as web:
        Webhook(parse_hook(web.url.replace("http://", "http://me:p%40ss@"))).send(MESSAGE)
    assert b"Authorization: Basic bWU6cEBzcw==" in web.requests[0]
    assert b"p%40ss" not in web.requests[0]


def test_a_switch_is_called_and_told() -> None:
    with FakeWeb(OK) as web:
        switch = Ping(parse_hook(f"{web.url}/ping/uuid/?rid=1"))
        switch.send(well=True)
        switch.send(well=False)
        Ping(parse_hook(web.url)).send(well=True)
    assert [it.partition(b" HTTP")[0] for it in web.requests] == [
        b"GET /ping/uuid/?rid=1",
        b"GET /ping/uuid/fail?rid=1",
        b"GET /",
    ]


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "it refuses: 404 Not Found"),
        (b"HTTP/1.1 500 \x1b[2J\r\nContent-Length: 0\r\n\r\n", r"it refuses: 500 \x1b[2J"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            "it leads elsewhere, which is not followed: 302 Found",
        ),
        (b"* OK IMAP ready\r\n", "no answer that HTTP allows (BadStatusLine)"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n", "no answer that HTTP allows (HTTPException)"),
        (b"", "no answer that HTTP allows (RemoteDisconnected)"),
    ],
)
def test_odd_answers_are_one_clear_line_without_the_path(answer: bytes, line: str) -> None:
    with FakeWeb(answer) as web, pytest.raises(SyncdError) as caught:
        Webhook(parse_hook(f"{web.url}/services/secret-path")).send(MESSAGE)
    assert str(caught.value) == f"{web.url}/…: {line}" or "RemoteDisconnected" in line
    assert "secret-path" not in str(caught.value)
    assert len(web.requests) == 1


def test_an_answer_without_end_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "MAX_ANSWER_OCTETS", 10)
    with FakeWeb(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000) as web:
        Webhook(parse_hook(web.url)).send(MESSAGE)


def test_a_server_that_is_away_or_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/secret-path"
        monkeypatch.setattr(channels, "WAIT_S", 0.05)
        with pytest.raises(TimedOut, match=r"/…: no answer within 0\.05 s"):
            Webhook(parse_hook(url)).send(MESSAGE)
        monkeypatch.setattr(channels, "WAIT_S", 10.0)
        monkeypatch.setattr(channels, "TOTAL_S", 0.05)
        with pytest.raises(TimedOut, match=r"/…: it was not sent within 0\.05 s"):
            Webhook(parse_hook(url)).send(MESSAGE)
    monkeypatch.undo()
    with pytest.raises(ConnectFailed, match=r"^http://127\.0\.0\.1:\d+/…: Connection refused$"):
        Webhook(parse_hook(url)).send(MESSAGE)


def test_tls_is_verified() -> None:
    with FakeWeb(b"220 hello\r\n") as web, pytest.raises(ConnectFailed, match=r"/…: TLS failed: |/…: Connection reset"):
        Webhook(parse_hook(web.url.replace("http:", "https:") + "/secret-path")).send(MESSAGE)


CONFIGURATION = """
[accounts.new]
protocol = "smtp"
host = "127.0.0.1"
security = "none"
allow_insecure = true
port = {port}
username = "user"
password = "env:NEW"

[notify]
email = {{ through = "new", to = ["you@example.org"] }}
webhook = "{web}/hook"
ping_url = "{web}/ping"
"""


def test_channels_come_from_the_configuration(smtp: FakeSmtp, tmp_path: Path) -> None:
    file = tmp_path / "syncd.toml"
    with FakeWeb(OK) as web, Database.open(None, tmp_path) as database:
        file.write_text(CONFIGURATION.format(port=smtp.port, web=web.url))
        notifier = make_notifier(load(file, environment={"NEW": PASSWORD}), database, str)
        notifier.tick()
        assert notifier.wait(60)
        assert [it.partition(b" HTTP")[0] for it in web.requests] == [b"GET /ping"]
        for channel in notifier._channels:
            channel.send(MESSAGE)
    assert len(smtp.arrivals) == 1
    assert web.requests[1].startswith(b"POST /hook ")
