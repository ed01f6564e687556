"""A holder is a process that works on something, named so that others on the same machine can tell whether it lives.

A process id alone is used again, so its start time stands beside it (proc(5): `/proc/PID/stat`, field 22, clock ticks
since boot), and both mean something only within one boot and one namespace of process ids (containers share a boot).
Where `/proc` does not exist, or hides the processes of other users (mount option hidepid), none of this is known:
nobody is taken for dead, and leases run out by time alone.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Final, Self

from syncd import clock
from syncd.db.instants import from_microseconds, to_microseconds

_PROC: Final = Path("/proc")
_ENDED: Final = frozenset("ZXx")  # exited and not yet waited for (proc(5)): it will never write again


@dataclass(frozen=True, slots=True)
class Holder:
    """A process and what it does. `boot` is empty where the platform does not tell."""

    host: str
    boot: str  # boot id and namespace of process ids
    pid: int
    started: int  # clock ticks since boot
    token: str  # differs for every acquisition, also in one process
    what: str  # for people, such as 'run of job "road-backup"'
    since: int  # microseconds UTC

    @classmethod
    def me(cls, what: str) -> Self:
        """This process, now."""
        pid = os.getpid()
        token = os.urandom(8).hex()
        return cls(socket.gethostname(), _boot(), pid, _started(pid) or 0, token, what, to_microseconds(clock.now()))

    @classmethod
    def parse(cls, text: str) -> Self:
        """The opposite of `str`."""
        return cls(**json.loads(text))

    def __str__(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    def is_here(self) -> bool:
        """Returns whether this process belongs to this machine, since it was started: then `is_dead` knows for sure."""
        return bool(self.boot) and (self.host, self.boot) == (socket.gethostname(), _boot())

    def is_dead(self) -> bool:
        """Returns whether this process has surely ended: it ran here in this boot, and is gone. False if unknown."""
        return self.is_here() and _started(self.pid) != self.started and not _is_hidden(self.pid)

    def describe(self, *, more: bool = True) -> str:
        """For an error line: process, host, and since when; with `more`, what it does."""
        since = from_microseconds(self.since).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"process {self.pid} on {self.host}{f' ({self.what})' if more else ''}, since {since}"


@cache
def _boot() -> str:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> int | None:
    """When a living process was started; None if there is none of this id."""
    try:
        status = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    state, *fields = status[status.rindex(")") + 2 :].split()  # the name before it may hold anything
    return None if state in _ENDED else int(fields[18])


def _is_hidden(pid: int) -> bool:
    """Returns whether there is a process of this id that /proc does not show: one of another user's."""
    if (_PROC / str(pid)).exists():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
