"""A run as it goes on: bars on a terminal, plain lines elsewhere, JSON lines for programs.

A screen is fed the engine's events one at a time, in the main thread, and `tick`ed about ten times a
second. rich is loaded when there is something to fetch and a terminal to show it on, and not before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Protocol

from syncd import clock
from syncd.cli.render import ERASE_LINE, MAX_TEXT, Output, count, duration, octets, to_terminal
from syncd.engine.events import Committed, Event, Noted, PhaseBegan, Planned, RunFinished, RunStarted, SignedIn
from syncd.errors import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from syncd.sources.base import SourceInfo

LINE_SECONDS: Final = 10.0  # between plain lines of one job: enough to see that it moves, too few to fill a log
SHOW_CURSOR: Final = "\x1b[?25h"  # a progress display hides it
NAMES: Final[dict[type[Event], str]] = {
    RunStarted: "started",
    PhaseBegan: "phase",
    SignedIn: "signed_in",
    Planned: "planned",
    Committed: "committed",
    Noted: "noted",
    RunFinished: "finished",
}


class Screen(Protocol):
    """What a run is shown on."""

    def show(self, event: Event) -> None:
        """Take one event."""
        ...

    def tick(self) -> None:
        """Draw what has changed."""
        ...

    def pause(self) -> None:
        """Leave the terminal as it was found, for a question; the next event goes on. Repeatable."""
        ...

    def stop(self) -> None:
        """Leave the terminal as it was found, for good: from now on only notes are shown. Repeatable."""
        ...


def screen(output: Output, places: Mapping[str, str]) -> Screen:
    """The one that fits: where the output goes decides, and --json and --quiet. `places` say where a job's mail is."""
    if output.json:
        return JsonLines(output)
    if output.quiet:
        return Silent()
    if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return Bars(output)
    return Lines(output, places)


class Silent:
    """Nothing; results and errors are printed by the verb."""

    def show(self, event: Event) -> None:
        """Take one event."""

    def tick(self) -> None:
        """Draw nothing."""

    def pause(self) -> None:
        """Leave nothing."""

    def stop(self) -> None:
        """Leave nothing."""


class JsonLines(Silent):
    """Every event as a JSON document on a line of standard output, as soon as it happens."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def show(self, event: Event) -> None:
        """Write one line."""
        self._output.event(as_json(event))


def as_json(event: Event) -> dict[str, object]:
    """An event as plain values; the last of a job is its whole report."""
    values = event.report.as_json() if isinstance(event, RunFinished) else asdict(event)
    return {"event": NAMES[type(event)], **values}


@dataclass(slots=True)
class _Task:
    """What is known of one job under way. `since` is when it began to fetch."""

    messages: int = 0
    octets: int = 0
    since: float = 0.0
    shown_at: float = 0.0


class Lines(Silent):
    """Plain lines on standard error, few enough for a log."""

    def __init__(self, output: Output, places: Mapping[str, str]) -> None:
        self._output = output
        self._places = places
        self._tasks: dict[str, _Task] = {}

    def show(self, event: Event) -> None:
        """Write a line, or none."""
        match event:
            case PhaseBegan(job, phase):
                self._output.note(f"{job}: {phase}")
            case SignedIn(job, info) if self._output.verbose:
                self._output.note(f"{job}: {signed_in_line(info)}")
            case Planned(job, listed, new, messages, size):
                now = clock.monotonic()
                self._tasks[job] = _Task(messages, size, now, now)
                self._output.note(f"{job}: {plan_line(self._places[job], listed, new, messages, size)}")
            case Committed(job, messages, size):
                self._committed(job, messages, size)
            case Noted(job, text):
                self._output.note(f"{job}: {text}")
            case _:
                pass

    def _committed(self, job: str, messages: int, size: int) -> None:
        task, now = self._tasks.setdefault(job, _Task()), clock.monotonic()
        if now - task.shown_at >= LINE_SECONDS:
            task.shown_at = now
            rate = size / (now - task.since)
            left = f", {duration((task.octets - size) / rate)} left" if 0 < size < task.octets else ""
            so_far = f"{messages:,} of {count(task.messages, 'message')}, {octets(size)} of {octets(task.octets)}"
            self._output.note(f"{job}: {so_far}, {octets(rate)}/s{left}")


def signed_in_line(info: SourceInfo) -> str:
    """How the session with a server stands, or which archive is read."""
    if not info.mechanism:
        return f"reading {info.address}"
    tls = info.tls if info.tls != "none" else "not encrypted"
    return f"signed in to {info.address} by {info.mechanism}, {tls}"


def plan_line(place: str, listed: int, new: int, messages: int, size: int) -> str:
    """What a listing showed."""
    ahead = f"{messages:,} to fetch ({octets(size)})" if messages else "nothing to fetch"
    return f"{count(listed, 'message')} {place}, {new:,} new, {ahead}"


class Bars(Silent):
    """One bar a job on a terminal: messages, octets, rate, time left; before that a line that says what goes on."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._status_shown = False
        self._stopped = False

    def show(self, event: Event) -> None:
        """Take one event."""
        match event:
            case PhaseBegan(job, phase):
                self._status(f"{job}: {phase} …")
            case SignedIn(job, info) if self._output.verbose:
                self._note(f"{job}: {signed_in_line(info)}")
            case Planned(job, _, _, messages, size) if messages:
                self._begin(job, messages, size)
            case Committed(job, messages, size):
                self._advance(job, messages, size)
            case Noted(job, text):
                self._note(f"{job}: {text}")
            case RunFinished(job, report) if not report.errors and job in self._tasks:
                self._advance(job, report.fetched, report.fetched_octets)
            case _:
                pass

    def tick(self) -> None:
        """Draw the bars."""
        if self._progress is not None and self._progress.live.is_started:
            self._progress.refresh()

    def pause(self) -> None:
        """Erase the line that says what is going on; stop drawing, the bars stay as they are."""
        if self._status_shown:
            self._status_shown = False
            to_terminal(ERASE_LINE)
        if self._progress is not None and self._progress.live.is_started:
            self._progress.refresh()
            self._progress.stop()

    def stop(self) -> None:
        """Draw no more."""
        self.pause()
        self._stopped = True

    def _note(self, text: str) -> None:
        """Above the bars, if there are some."""
        if self._progress is not None and self._progress.live.is_started:
            self._progress.console.print(printable(text, MAX_TEXT), markup=False, highlight=False, soft_wrap=True)
        else:
            self.pause()
            self._output.note(text)

    def _status(self, text: str) -> None:
        if self._progress is None and not self._stopped:
            self._status_shown = True
            to_terminal(ERASE_LINE + printable(text))

    def _begin(self, job: str, messages: int, size: int) -> None:
        if self._stopped:
            return
        if self._progress is None:
            self.pause()
            from syncd.cli.bars import make_progress

            self._progress = make_progress()
        self._progress.start()
        self._tasks[job] = self._progress.add_task(printable(job), total=max(size, 1), done=0, messages=messages)

    def _advance(self, job: str, messages: int, size: int) -> None:
        if self._progress is not None and job in self._tasks and not self._stopped:
            self._progress.start()
            self._progress.update(self._tasks[job], completed=size, done=messages)


def restore_terminal() -> None:
    """Make the cursor visible again, whatever was being drawn: we are about to leave at once."""
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), (ERASE_LINE + SHOW_CURSOR).encode())
