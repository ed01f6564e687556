"""Tells systemd how the service is: ready, reloading, stopping, alive (sd_notify(3), systemd.service(5) Type=notify).

systemd names a datagram socket in NOTIFY_SOCKET: a path, or "@" and a name in the abstract name space. Without the
variable nobody listens, and every function does nothing. A message that does not arrive is logged and never raised:
the mail matters more than the one who watches. Needs no library.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import Final

from syncd import clock

SEND_TIMEOUT_S: Final = 2.0  # the queue of the socket is full only where systemd itself hangs

_log = logging.getLogger(__name__)


def notify_ready(status: str = "") -> None:
    """The service has started, or has reloaded. `status` is one line for `systemctl status`."""
    _notify("READY=1", *_status(status))


def notify_reloading(status: str = "") -> None:
    """The configuration is being read again; `notify_ready` has to follow."""
    _notify("RELOADING=1", f"MONOTONIC_USEC={int(clock.monotonic() * 1_000_000)}", *_status(status))


def notify_stopping(status: str = "") -> None:
    """The service is about to end."""
    _notify("STOPPING=1", *_status(status))


def notify_watchdog() -> None:
    """The service is alive. Call it each `watchdog_interval_s`, and only while it really makes progress."""
    _notify("WATCHDOG=1")


def watchdog_interval_s() -> float | None:
    """Returns how often to call `notify_watchdog`, in seconds; None when nobody watches this process.

    It is half of what the unit's WatchdogSec says, as sd_watchdog_enabled(3) advises.
    """
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # the variables were meant for the process that started us
    try:
        microseconds = int(os.environ.get("WATCHDOG_USEC", "0"))
    except ValueError:
        _log.warning("WATCHDOG_USEC is not a number; the watchdog is not told anything")
        return None
    return microseconds / 2_000_000 if microseconds > 0 else None


def _status(text: str) -> list[str]:
    return [f"STATUS={' '.join(text.split())}"] if text else []


def _notify(*lines: str) -> None:
    name = os.environ.get("NOTIFY_SOCKET")
    if not name:
        return
    address = "\0" + name[1:] if name.startswith("@") else name
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
            connection.settimeout(SEND_TIMEOUT_S)
            connection.sendto("\n".join(lines).encode(), address)
    except OSError as error:
        _log.warning("systemd was not told %s: %s", lines[0], error)
