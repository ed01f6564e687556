"""The systemd units: what systemd says of them, and what `telemetry.systemd` says over real sockets."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.telemetry import systemd

UNITS = Path(__file__).parents[2] / "config" / "systemd"
SERVICES = ["syncd.service", "syncd@.service", "syncd-run.service"]
INSTALLED = "/usr/local/bin/syncd"
MOST_EXPOSED = 2.0  # of 10; "OK" ends at 4.9 and a service without any protection has 9.6
PATIENCE_S = 60.0
STOP_TIMEOUT_S = 30.0  # TimeoutStopSec of the units
HARDENING = "# What the service does not need"

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as installed beside each other, with a program that exists."""
    program = shutil.which("true")
    assert program is not None
    for file in UNITS.glob("syncd*.*"):
        (tmp_path / file.name).write_text(file.read_text().replace(INSTALLED, program))
    return tmp_path


def analyze(*arguments: str | Path) -> str:
    done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60)
    return done.stdout + done.stderr


def hardening(unit: str) -> list[str]:
    text = (UNITS / unit).read_text()
    return text[text.index(HARDENING) :].partition("\n[Install]")[0].split("\n\n")[0].splitlines()


@needs_systemd
@pytest.mark.parametrize("unit", [*SERVICES, "syncd-run.timer"])
def test_systemd_finds_nothing_to_say(installed: Path, unit: str) -> None:
    # It ends with 0 for unknown keys, too: what counts is that it prints nothing.
    assert analyze("verify", "--man=no", installed / unit.replace("@.", "@worker.")) == ""


@needs_systemd
@pytest.mark.parametrize("unit", SERVICES)
def test_systemd_finds_a_misspelt_key(installed: Path, unit: str) -> None:
    file = installed / unit
    file.write_text(file.read_text().replace("KillMode=", "KillModes="))
    assert "KillModes" in analyze("verify", "--man=no", installed / unit.replace("@.", "@worker."))


@needs_systemd
@pytest.mark.parametrize("unit", SERVICES)
def test_the_services_are_hardened(installed: Path, unit: str) -> None:
    shown = analyze("security", "--offline=yes", "--no-pager", installed / unit)
    found = re.search(r"exposure level for \S+: ([0-9.]+)", shown)
    assert found is not None, shown
    assert float(found[1]) <= MOST_EXPOSED


def test_all_services_are_hardened_alike() -> None:
    assert len(hardening("syncd.service")) > 25
    assert hardening("syncd@.service") == hardening("syncd.service") == hardening("syncd-run.service")


@pytest.mark.parametrize("unit", SERVICES)
def test_a_service_sees_the_other_processes_of_its_machine(unit: str) -> None:
    """`db/holder.py` takes a process that is not in /proc for dead, and its lease for free."""
    assert not re.search(r"^(ProtectProc|ProcSubset)=", (UNITS / unit).read_text(), re.MULTILINE)


@pytest.mark.parametrize("abstract", [False, True])
def test_messages_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, abstract: bool) -> None:
    name = f"@syncd-{tmp_path.name}-{id(tmp_path)}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(10)
        listener.bind("\0" + name[1:] if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        systemd.notify_ready("2 jobs")
        systemd.notify_watchdog()
        assert [listener.recv(1000) for _ in range(2)] == [b"READY=1\nSTATUS=2 jobs", b"WATCHDOG=1"]


def test_a_listener_that_is_gone_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    systemd.notify_stopping()
    assert "systemd was not told STOPPING=1" in caplog.text


class Systemd:
    """What systemd is to a service: who starts it, and listens."""

    def __init__(self, folder: Path) -> None:
        name = str(folder / "notify")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.listener.settimeout(PATIENCE_S)
        self.listener.bind(name)
        file = folder / "syncd.toml"
        file.touch()
        found = re.search(r"^ExecStart=(.*)$", (UNITS / "syncd.service").read_text(), re.MULTILINE)
        assert found is not None
        words = (
            found[1]
            .replace(INSTALLED, f"{sys.executable} -m syncd.cli.main")
            .replace("/etc/syncd/syncd.toml", str(file))
        )
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(UNITS.parents[1]),
            "NOTIFY_SOCKET": name,
            "WATCHDOG_USEC": "60000000",
            "SYNCD_HOME": str(folder / "state"),
            "SYNCD_SERVICE__LISTEN": "",
        }
        self.service = subprocess.Popen(
            words.split(), env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def told(self, first: str) -> None:
        """Returns when the service has said so."""
        while not self.listener.recv(1000).decode().startswith(first):
            continue

    def close(self) -> None:
        self.listener.close()
        self.service.kill()
        self.service.communicate()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Systemd]:
    systemd = Systemd(tmp_path)
    yield systemd
    systemd.close()


def test_the_service_says_how_it_is(started: Systemd) -> None:
    started.told("READY=1")
    started.told("WATCHDOG=1")
    started.service.send_signal(signal.SIGHUP)  # ExecReload
    started.told("RELOADING=1")
    started.told("READY=1")
    started.service.send_signal(signal.SIGTERM)
    started.told("STOPPING=1")
    assert started.service.wait(STOP_TIMEOUT_S) == 0
