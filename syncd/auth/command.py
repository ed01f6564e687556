"""Runs a password command within bounds: of time, of octets, and until somebody stops it.

The command inherits standard input and error, where a password manager asks for its passphrase. So it stays in our
process group where we have the terminal, and Ctrl-C reaches the command as it reaches us. Elsewhere it gets a group of
its own, which is ended as a whole. At a terminal one command runs at a time: two of them would ask in one line.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from threading import Event, Lock
from typing import Final

from syncd import clock
from syncd.errors import Cancelled, SecretUnavailable

COMMAND_TIMEOUT_S: Final = 60.0  # enough time to type a passphrase into a password manager's window
TICK_S: Final = 0.05  # between two looks at the clock and at `stopped`
GRACE_S: Final = 0.5  # from the request to end to the end: a password manager closes its files
READ_OCTETS: Final = 16 << 10
_AT_TERMINAL: Final = Lock()
STOPPED: Final = "the password command was stopped"


def run(words: Sequence[str], environment: Mapping[str, str], most: int, stopped: Event) -> tuple[bytes, int]:
    """Run a program. Returns what it printed, at most `most` + 1 octets, and its exit status.

    A program that prints more is ended, and so is one that `stopped` interrupts. What keeps the program's standard
    output open after its end is not waited for. Raises OSError (it cannot be started), SecretUnavailable (it does not
    end), Cancelled.
    """
    if stopped.is_set():
        raise Cancelled(STOPPED)
    if not _has_terminal():
        return _run(words, environment, most, stopped, group=0)
    with _alone(stopped):
        return _run(words, environment, most, stopped, group=None)


@contextlib.contextmanager
def _alone(stopped: Event) -> Iterator[None]:
    while not _AT_TERMINAL.acquire(timeout=TICK_S):
        if stopped.is_set():
            raise Cancelled(STOPPED)
    try:
        yield
    finally:
        _AT_TERMINAL.release()


def _run(
    words: Sequence[str], environment: Mapping[str, str], most: int, stopped: Event, *, group: int | None
) -> tuple[bytes, int]:
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=dict(environment), process_group=group) as process:
        try:
            until = clock.monotonic() + COMMAND_TIMEOUT_S
            octets = _read(process, most, until, stopped)
            if len(octets) > most:
                _end(process, whole_group=group is not None)
                return octets, 0
            _wait(process, until, stopped)
        except BaseException:
            _end(process, whole_group=group is not None)
            raise
    if process.returncode == -signal.SIGINT:  # Ctrl-C at the terminal, which we are about to hear of
        raise Cancelled("the password command was interrupted")
    return octets, process.returncode


def _has_terminal() -> bool:
    """Returns whether the terminal at standard input reads for our process group."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def _read(process: subprocess.Popen[bytes], most: int, until: float, stopped: Event) -> bytes:
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    octets = b""
    for ready in _looks(descriptor, process, until, stopped):
        chunk = os.read(descriptor, READ_OCTETS) if ready else b""
        octets += chunk
        if not chunk or len(octets) > most:
            break
    return octets[: most + 1]


def _looks(descriptor: int, process: subprocess.Popen[bytes], until: float, stopped: Event) -> Iterator[bool]:
    """Yields True when there is something to read, and False when nothing comes any more."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while True:
        _check(until, stopped)
        ended = process.poll() is not None
        if poll.poll(0 if ended else TICK_S * 1000):
            yield True
        elif ended:
            yield False


def _wait(process: subprocess.Popen[bytes], until: float, stopped: Event) -> None:
    """Wait for the end of a program that has closed its standard output."""
    while True:
        try:
            process.wait(TICK_S)
        except subprocess.TimeoutExpired:
            _check(until, stopped)
        else:
            return


def _check(until: float, stopped: Event) -> None:
    if stopped.is_set():
        raise Cancelled(STOPPED)
    if clock.monotonic() >= until:
        raise SecretUnavailable(f"did not end within {COMMAND_TIMEOUT_S:.0f} s")


def _end(process: subprocess.Popen[bytes], *, whole_group: bool) -> None:
    """End a program, and its children where it leads a group: SIGTERM, and SIGKILL after GRACE_S.

    The program is not reaped in between, so that its number and that of its group stay its own.
    """
    send = os.killpg if whole_group else os.kill
    if process.returncode is not None and not whole_group:
        return
    with contextlib.suppress(OSError):
        send(process.pid, signal.SIGTERM)
        until = clock.monotonic() + GRACE_S
        while clock.monotonic() < until and not _is_over(process):
            clock.sleep(TICK_S)
        send(process.pid, signal.SIGKILL)
    process.wait()


def _is_over(process: subprocess.Popen[bytes]) -> bool:
    if process.returncode is not None:
        return True
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
