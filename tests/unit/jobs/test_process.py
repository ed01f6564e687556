"""Signals of a process of the service: which of them counts, and that none of them waits behind another."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread

import pytest

from jobs import process
from jobs.process import Process, Roles
from syncd.db import workers
from syncd.db.database import Database
from syncd.errors import ConfigError, LedgerError
from syncd.settings.load import load_service

SOON_S = 10.0  # far more than a thread needs
Make = Callable[[Callable[[], None]], Process]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes a process without parts that calls a function where it reads its configuration again."""
    monkeypatch.setattr(process, "TICK_S", 0.01)
    (tmp_path / "syncd.toml").write_text('state_directory = "state"')
    loaded = load_service(tmp_path / "syncd.toml", environment={})
    with Database.open(None, tmp_path / "state") as database:

        def made(reload: Callable[[], None]) -> Process:
            def reload_() -> None:
                reload()

            return Process(loaded, database, Roles(), reload=reload_)

        yield made


def waiting(ours: Process) -> Thread:
    """Has a process wait for its end, in another thread."""
    thread = Thread(target=ours._wait, daemon=True)
    thread.start()
    return thread


def ended(thread: Thread) -> bool:
    thread.join(SOON_S)
    return not thread.is_alive()


def test_a_stop_does_not_wait_for_reloads(make: Make) -> None:
    """SIGTERM stood in line behind each SIGHUP before it, and each of them may take a minute with many jobs."""
    begun, go_on, reloads = Event(), Event(), SimpleQueue[int]()

    def slowly() -> None:
        reloads.put(1)
        begun.set()
        assert go_on.wait(SOON_S)

    ours = make(slowly)
    wait = waiting(ours)
    ours._on_signal(signal.SIGHUP, None)
    assert begun.wait(SOON_S)
    for _ in range(50):
        ours._on_signal(signal.SIGHUP, None)
    ours._on_signal(signal.SIGTERM, None)
    assert ended(wait)
    assert reloads.qsize() == 1
    go_on.set()


def test_signals_that_come_while_the_configuration_is_read_count_as_one(make: Make) -> None:
    begun, go_on, last = Event(), Event(), Event()
    reloads: list[int] = []

    def slowly() -> None:
        reloads.append(1)
        begun.set()
        assert go_on.wait(SOON_S)
        if len(reloads) == 2:
            last.set()

    ours = make(slowly)
    for _ in range(50):
        ours._on_signal(signal.SIGHUP, None)
    wait = waiting(ours)
    assert begun.wait(SOON_S)
    for _ in range(50):
        ours._on_signal(signal.SIGHUP, None)
    while ours._signals.qsize():
        Event().wait(0.01)
    go_on.set()
    assert last.wait(SOON_S), "what was written meanwhile is read, too"
    ours._on_signal(signal.SIGTERM, None)
    assert ended(wait)
    assert len(reloads) in {2, 3}  # of a hundred signals


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConfigError("line 1", "line 2"), ["config.refused", "config.refused", "config.kept"]),
        (LedgerError("the database is away"), ["config.not_applied"]),
        (OSError("the log's folder is gone"), ["config.not_applied"]),
    ],
)
def test_a_reload_that_fails_ends_nothing(
    make: Make, caplog: pytest.LogCaptureFixture, error: Exception, told: list[str]
) -> None:
    """The last one ended the service, without an orderly stop of its runs."""

    def refused() -> None:
        raise error

    make(refused)._load_again()
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == told


def test_the_second_signal_ends_it_at_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    ours = make(lambda: None)
    ours._on_signal(signal.SIGTERM, None)
    assert (ours._wait(), codes) == (0, [])
    ours._on_signal(signal.SIGINT, None)
    assert codes == [130]


def test_an_end_that_hangs_is_cut_short(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database does not answer where the process says that it has ended."""
    codes: SimpleQueue[int] = SimpleQueue()
    monkeypatch.setattr(os, "_exit", codes.put)
    monkeypatch.setattr(process, "DEADLINE_S", 0.01)
    cut: list[int] = []

    def hang(*_: object) -> None:
        cut.append(codes.get(timeout=SOON_S))

    monkeypatch.setattr(workers, "remove", hang)
    make(lambda: None)._stop(70)
    assert cut == [70]
