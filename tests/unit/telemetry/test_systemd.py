"""What systemd is told, and where it listens: without a socket. `tests/e2e/test_units.py` has real ones."""

from __future__ import annotations

import os
from typing import Self

import pytest

from syncd import clock
from syncd.telemetry import systemd


class Sent:
    """Stands where `socket.socket` does, and keeps what it was given."""

    def __init__(self, error: OSError | None = None) -> None:
        self.datagrams: list[tuple[bytes, str]] = []
        self.error = error

    def __call__(self, *_family_and_kind: int) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        """There is nothing to close."""

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0

    def sendto(self, octets: bytes, address: str) -> None:
        if self.error is not None:
            raise self.error
        self.datagrams.append((octets, address))


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    sent = Sent()
    monkeypatch.setattr("syncd.telemetry.systemd.socket.socket", sent)
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    return sent


def test_each_state_is_one_datagram(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "monotonic", lambda: 12.5)
    systemd.notify_ready("3 jobs")
    systemd.notify_reloading()
    systemd.notify_watchdog()
    systemd.notify_stopping("2 runs\nend")
    assert [octets for octets, _ in sent.datagrams] == [
        b"READY=1\nSTATUS=3 jobs",
        b"RELOADING=1\nMONOTONIC_USEC=12500000",
        b"WATCHDOG=1",
        b"STOPPING=1\nSTATUS=2 runs end",
    ]


@pytest.mark.parametrize(
    ("variable", "address"), [("/run/systemd/notify", "/run/systemd/notify"), ("@notify/7", "\0notify/7")]
)
def test_the_socket_is_a_path_or_abstract(
    sent: Sent, monkeypatch: pytest.MonkeyPatch, variable: str, address: str
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", variable)
    systemd.notify_ready()
    assert sent.datagrams == [(b"READY=1", address)]


def test_without_systemd_nothing_is_sent(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET")
    systemd.notify_ready()
    monkeypatch.setenv("NOTIFY_SOCKET", "")
    systemd.notify_ready()
    assert sent.datagrams == []


def test_a_socket_that_is_gone_is_logged_and_not_raised(sent: Sent, caplog: pytest.LogCaptureFixture) -> None:
    sent.error = ConnectionRefusedError(111, "Connection refused")
    systemd.notify_watchdog()
    assert caplog.messages == ["systemd was not told WATCHDOG=1: [Errno 111] Connection refused"]


def test_the_watchdog_is_told_twice_in_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert systemd.watchdog_interval_s() == 30.0
    monkeypatch.delenv("WATCHDOG_PID")
    assert systemd.watchdog_interval_s() == 30.0


@pytest.mark.parametrize(
    ("microseconds", "process"),
    [(None, None), ("0", None), ("-1", None), ("soon", None), ("60000000", "1"), ("60000000", "")],
)
def test_nobody_watches(monkeypatch: pytest.MonkeyPatch, microseconds: str | None, process: str | None) -> None:
    for name, value in (("WATCHDOG_USEC", microseconds), ("WATCHDOG_PID", process)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert systemd.watchdog_interval_s() is None
