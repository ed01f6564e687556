"""Runs have a thread of their own, while the main thread draws, asks and receives signals.

Python delivers signals to the main thread alone, between two of its steps. That thread must therefore never wait
for a server or an fsync. The first Ctrl-C (or SIGTERM, SIGHUP) cancels: work under way is made durable or given up,
whichever is sooner. After STOP_SECONDS, or at a second Ctrl-C, the process ends at once. That loses nothing either:
the next run can continue from every state on disk.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from types import FrameType
from typing import Final, NoReturn, Protocol

from syncd import clock
from syncd.cli.progress import Screen, restore_terminal
from syncd.cli.render import MAX_TEXT, to_terminal
from syncd.engine.events import Event, RunReport
from syncd.engine.exit_codes import ExitCode
from syncd.errors import printable

TICK_SECONDS: Final = 0.1  # how often bars are drawn
STOP_SECONDS: Final = 0.8  # with the interpreter's own end, less than a second after Ctrl-C
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Runner(Protocol):
    """Work to be conducted, such as `services.runs.RunsByHand`."""

    def execute(self) -> list[RunReport]:
        """Do the work; blocks until it is done."""
        ...

    def cancel(self) -> None:
        """End the work within a moment; from any thread, repeatable."""
        ...


@dataclass(frozen=True, slots=True)
class _Question:
    """A question that the main thread asks, and a thread of a run waits for `answer`."""

    text: str
    answer: SimpleQueue[bool]


class _Warnings(logging.Handler):
    """Takes warnings of lower layers, such as a server's ALERT, for the main thread: it alone writes to the screen."""

    def __init__(self, take: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        """Take one."""
        self._take(record.getMessage())


class _Signalled(Exception):
    """A signal came while we waited for an answer."""


class Conductor:
    """Takes events and questions from the threads of runs, and signals; handles them in the main thread."""

    def __init__(self, screen: Screen, say: Callable[[str], None]) -> None:
        self._screen = screen
        self._say = say
        self._queue: SimpleQueue[Event | _Question | str | None] = SimpleQueue()  # a text is a warning
        self._runner: Runner | None = None
        self._reports: list[RunReport] = []
        self._failure: BaseException | None = None
        self._stop_by: float | None = None
        self._stop_said = False
        self._asking = False

    def listen(self, event: Event) -> None:
        """The engine's listener: any thread, never waits."""
        self._queue.put(event)

    def ask(self, text: str) -> bool:
        """Ask the person at the terminal a yes-or-no question, from a thread of a run; waits for the answer."""
        question = _Question(text, SimpleQueue())
        self._queue.put(question)
        return question.answer.get()

    @property
    def interrupted(self) -> bool:
        """Returns whether a signal asked us to stop."""
        return self._stop_by is not None

    def conduct(self, runner: Runner) -> list[RunReport]:
        """Conduct `runner` to its end, from the main thread. Raises what `execute` raises."""
        self._runner = runner
        thread = Thread(target=self._work, args=(runner,), name="runs", daemon=True)
        with self._signals(), self._warnings():
            thread.start()
            try:
                while self._step():
                    self._screen.tick()
            except BaseException:  # nobody listens any more, or would learn how it ends
                runner.cancel()
                thread.join(STOP_SECONDS)
                raise
            finally:
                self._screen.stop()
        if self._failure is not None:
            raise self._failure
        return self._reports

    def _work(self, runner: Runner) -> None:
        try:
            self._reports = runner.execute()
        except BaseException as error:  # noqa: BLE001 (raised again in the main thread)
            self._failure = error
        finally:
            self._queue.put(None)

    def _step(self) -> bool:
        """Handle the next event or question, or none after a tick. Returns whether the work goes on."""
        if self._stop_by is not None:
            self._say_stopping()
            if clock.monotonic() > self._stop_by:
                leave()
        try:
            thing = self._queue.get(timeout=TICK_SECONDS)
        except Empty:
            return True
        if thing is None:
            return False
        if isinstance(thing, _Question):
            thing.answer.put(self._answer(thing.text))
        elif isinstance(thing, str):
            self._screen.pause()
            to_terminal(printable(thing, MAX_TEXT) + "\n")
        else:
            self._screen.show(thing)
        return True

    def _say_stopping(self) -> None:
        if not self._stop_said:
            self._stop_said = True
            self._screen.stop()
            self._say("stopping …")

    def _answer(self, text: str) -> bool:
        """Ask a question; every answer but a yes is a no."""
        self._screen.pause()
        self._asking = True
        try:
            if self._stop_by is not None:
                return False
            to_terminal(f"{text} [y/N] ")
            return sys.stdin.readline().strip().lower() in {"y", "yes"}
        except _Signalled:
            to_terminal("\n")
            return False
        finally:
            self._asking = False

    @contextmanager
    def _warnings(self) -> Iterator[None]:
        """Show the warnings of lower layers."""
        handler, logger = _Warnings(self._queue.put), logging.getLogger("syncd")
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Handle the signals that end programs; a signal that was ignored before (nohup) stays ignored."""
        ours = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = [(number, signal.signal(number, self._on_signal)) for number in ours]
        try:
            yield
        finally:
            for number, handler in before:
                signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._stop_by is not None:
            leave()
        self._stop_by = clock.monotonic() + STOP_SECONDS
        if self._runner is not None:
            self._runner.cancel()
        if self._asking:
            raise _Signalled


def leave() -> NoReturn:
    """End the process now, whatever its threads do."""
    restore_terminal()
    os._exit(ExitCode.INTERRUPTED)
