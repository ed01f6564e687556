from __future__ import annotations

import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable

import pytest

from syncd.cli import conduct
from syncd.cli.conduct import Conductor
from syncd.cli.progress import Silent
from syncd.engine.events import Event, Noted, RunReport


class Recorder(Silent):
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.stopped = 0

    def show(self, event: Event) -> None:
        self.events.append(event)

    def stop(self) -> None:
        self.stopped += 1


class FakeRunner:
    """Does `work` in the run's thread; a cancel sets `cancelled`."""

    def __init__(self, work: Callable[[FakeRunner], None]) -> None:
        self.work = work
        self.cancelled = threading.Event()

    def execute(self) -> list[RunReport]:
        self.work(self)
        return [RunReport("job")]

    def cancel(self) -> None:
        self.cancelled.set()


class Left(BaseException):
    """os._exit, for the tests."""


def leave() -> None:
    raise Left


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def screen() -> Recorder:
    return Recorder()


@pytest.fixture
def conductor(said: list[str], screen: Recorder, monkeypatch: pytest.MonkeyPatch) -> Conductor:
    monkeypatch.setattr(conduct, "leave", leave)
    return Conductor(screen, said.append)


def interrupt(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


def test_a_warning_of_a_lower_layer_is_shown_by_the_main_thread_once(
    conductor: Conductor, screen: Recorder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server's ALERT was written behind the line with the phase, by the thread that heard it."""
    shown: list[str] = []
    monkeypatch.setattr(screen, "pause", lambda: shown.append(threading.current_thread().name))
    logger = logging.getLogger("syncd.imap.quirks")
    conductor.conduct(FakeRunner(lambda _: logger.warning("%s: the server says: %s", "host:993", "mind\x07")))
    assert shown == ["MainThread"]
    assert capsys.readouterr().err == "host:993: the server says: mind\\x07\n"
    assert not logging.getLogger("syncd").handlers


def test_events_are_shown_in_the_main_thread_in_order(conductor: Conductor, screen: Recorder) -> None:
    notes = [Noted("job", str(n)) for n in range(5)]

    def work(_: FakeRunner) -> None:
        for note in notes:
            conductor.listen(note)

    reports = conductor.conduct(FakeRunner(work))
    assert [report.job for report in reports] == ["job"]
    assert screen.events == notes
    assert screen.stopped


@pytest.mark.parametrize("number", conduct.SIGNALS)
def test_a_signal_cancels_and_says_so_once(conductor: Conductor, said: list[str], number: int) -> None:
    def work(runner: FakeRunner) -> None:
        interrupt(number)
        assert runner.cancelled.wait(5)
        for _ in range(3):
            conductor.listen(Noted("job", "ending"))

    before = signal.getsignal(number)
    conductor.conduct(FakeRunner(work))
    assert said == ["stopping …"]
    assert signal.getsignal(number) is before


def test_a_second_signal_leaves_at_once(conductor: Conductor) -> None:
    end = threading.Event()

    def work(runner: FakeRunner) -> None:
        interrupt()
        runner.cancelled.wait(5)
        interrupt()
        end.wait(5)

    with pytest.raises(Left):
        conductor.conduct(FakeRunner(work))
    end.set()


def test_a_run_that_does_not_end_is_left(conductor: Conductor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conduct, "STOP_SECONDS", 0.0)
    end = threading.Event()

    def work(_: FakeRunner) -> None:
        interrupt()
        end.wait(5)

    with pytest.raises(Left):
        conductor.conduct(FakeRunner(work))
    end.set()


def test_what_nohup_ignores_stays_ignored(conductor: Conductor) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        conductor.conduct(FakeRunner(lambda _: interrupt(signal.SIGHUP)))
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_error_of_the_run_comes_out(conductor: Conductor) -> None:
    def work(_: FakeRunner) -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        conductor.conduct(FakeRunner(work))


def test_a_screen_that_fails_ends_the_run(conductor: Conductor, screen: Recorder) -> None:
    def fail(_: Event) -> None:
        raise BrokenPipeError

    screen.show = fail  # type: ignore[method-assign, assignment]

    def work(runner: FakeRunner) -> None:
        conductor.listen(Noted("job", "x"))
        runner.cancelled.wait(5)

    runner = FakeRunner(work)
    with pytest.raises(BrokenPipeError):
        conductor.conduct(runner)
    assert runner.cancelled.is_set()


@pytest.mark.parametrize(
    ("answer", "yes"), [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_a_question(
    conductor: Conductor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str, *, yes: bool
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    answers = []
    conductor.conduct(FakeRunner(lambda _: answers.append(conductor.ask("Remove them?"))))
    assert answers == [yes]
    assert capsys.readouterr().err == "Remove them? [y/N] "


def test_a_signal_is_a_no(conductor: Conductor, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(io.StringIO):
        def readline(self, _: int | None = -1) -> str:  # type: ignore[override]
            interrupt()
            return "y\n"

    monkeypatch.setattr(sys, "stdin", Interrupted())
    answers = []
    runner = FakeRunner(lambda _: answers.append((conductor.ask("Remove?"), conductor.ask("More?"))))
    conductor.conduct(runner)
    assert answers == [(False, False)]
    assert runner.cancelled.is_set()
