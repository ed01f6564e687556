"""Password commands within their bounds: what they print, how long they take, and that they end."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from syncd import clock
from syncd.auth import command
from syncd.errors import Cancelled, SecretUnavailable

DEAF = (
    "import signal, time, pathlib, os, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "signal.signal(signal.SIGINT, signal.SIG_IGN);"
    "pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(60)"
)


def run(*words: str, most: int = 1000, stopped: threading.Event | None = None) -> tuple[bytes, int]:
    return command.run(words, os.environ, most, stopped or threading.Event())


def is_gone(process_id: int) -> bool:
    """Tells whether a process ends, or has ended and is to be reaped by whoever adopted it."""
    for _ in range(15_000):
        try:
            if ") Z " in Path(f"/proc/{process_id}/stat").read_text():
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def appears(file: Path) -> int:
    """The number in a file that another process writes."""
    for _ in range(15_000):
        if file.exists() and (text := file.read_text()):
            return int(text)
        time.sleep(0.02)
    raise AssertionError(file)


def test_what_it_prints_and_its_status() -> None:
    assert run("sh", "-c", "printf one; exit 3") == (b"one", 3)
    assert run("sh", "-c", "printf one; kill -9 $$") == (b"one", -signal.SIGKILL)
    with pytest.raises(OSError, match="No such file"):
        run("no-such-program-here")


def test_it_prints_without_end() -> None:
    octets, _ = run("sh", "-c", "exec yes")
    assert len(octets) == 1001


def test_it_may_close_its_output_and_work_on() -> None:
    assert run("sh", "-c", "printf one; exec >&-; sleep 0.1; exit 4") == (b"one", 4)


def test_a_child_that_keeps_its_output_open_is_not_waited_for() -> None:
    assert run("sh", "-c", "echo one; sleep 60 &") == (b"one\n", 0)


def test_it_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It ends, with its children, though none of them hears a signal."""
    monkeypatch.setattr(command, "GRACE_S", 0.0)
    start = clock.monotonic()
    file = tmp_path / "pid"

    def late() -> float:
        return start + (command.COMMAND_TIMEOUT_S if file.exists() else 0)

    monkeypatch.setattr(clock, "monotonic", late)
    with pytest.raises(SecretUnavailable, match="did not end within 60 s"):
        run("sh", "-c", f"trap '' TERM INT; {sys.executable} -c \"$0\" {file} & wait; wait", DEAF)
    assert is_gone(appears(file))


def test_it_is_stopped(tmp_path: Path) -> None:
    stopped = threading.Event()
    file = tmp_path / "pid"
    found: list[BaseException] = []

    def work() -> None:
        try:
            run(sys.executable, "-c", DEAF, str(file), stopped=stopped)
        except Cancelled as error:
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    number = appears(file)
    stopped.set()
    thread.join(300)
    assert found
    assert is_gone(number)


def test_a_program_that_ctrl_c_ended_means_that_we_are_to_end() -> None:
    with pytest.raises(Cancelled):
        run("sh", "-c", "kill -INT $$")


def test_without_a_terminal_it_leads_a_group_of_its_own() -> None:
    program = (
        "import os, sys, threading; from syncd.auth.command import run;"
        "print(run(['sh', '-c', 'ps -o pgid= -p $$'], os.environ, 1000, threading.Event())[0].decode(), os.getpgrp())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    theirs, ours = done.stdout.split()
    assert theirs != ours


def test_at_a_terminal_one_asks_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Source and destination are signed in to at the same time, and both may have a password manager that asks."""
    monkeypatch.setattr(command, "_has_terminal", lambda: True)
    asking = f'mkdir "{tmp_path}/asking" && sleep 0.1 && rmdir "{tmp_path}/asking"'
    found: list[tuple[bytes, int]] = []
    threads = [threading.Thread(target=lambda: found.append(run("sh", "-c", asking))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(b"", 0)] * 3


def test_one_that_waits_for_its_turn_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_has_terminal", lambda: True)
    stopped = threading.Event()
    with command._alone(threading.Event()):
        thread = threading.Timer(0.1, stopped.set)
        thread.start()
        with pytest.raises(Cancelled):
            run("true", stopped=stopped)
        thread.join()
    assert run("true") == (b"", 0)
