"""Progress of runs: bars on a terminal, plain lines elsewhere, JSON lines for programs.

A screen is fed the engine's events one at a time, in the main thread, and `tick`ed about ten times a
second. rich is loaded when there is something to fetch and a terminal to show it on, and not before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Protocol

from syncd import clock
from syncd.cli.render import ERASE_LINE, MAX_TEXT, Output, count, duration, octets, to_terminal
from syncd.engine.events import (
    Advanced,
    Committed,
    Event,
    MessageFailed,
    Noted,
    PhaseBegan,
    Planned,
    RunFinished,
    RunStarted,
    SignedIn,
)
from syncd.errors import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from syncd.sources.base import SourceInfo

ACTS: Final = {"backfilling": "delivered from an archive", "removing": "marked for removal"}  # phase → what is counted
LINE_SECONDS: Final = 10.0  # between plain lines of one job: enough to see that it moves, too few to fill a log
MOST_ABOUT: Final = 40  # characters of a job and the mailbox that it reads, before a bar
SHOW_CURSOR: Final = "\x1b[?25h"  # a progress display hides it
NAMES: Final[dict[type[Event], str]] = {
    RunStarted: "started",
    PhaseBegan: "phase",
    SignedIn: "signed_in",
    Planned: "planned",
    Committed: "committed",
    Advanced: "advanced",
    MessageFailed: "message_failed",
    Noted: "noted",
    RunFinished: "finished",
}


class Screen(Protocol):
    """Shows runs."""

    def show(self, event: Event) -> None:
        """Take one event."""
        ...

    def tick(self) -> None:
        """Draw what has changed."""
        ...

    def pause(self) -> None:
        """Leave the terminal as it was found, for a question; showing resumes with the next event. Repeatable."""
        ...

    def stop(self) -> None:
        """Leave the terminal as it was found, for good: only notes are shown after this. Repeatable."""
        ...


def screen(output: Output, places: Mapping[str, str]) -> Screen:
    """Returns the screen for this output, --json and --quiet. `places` says where the mail of each job is."""
    shown: Screen = Lines(output, places)
    if output.json:
        shown = JsonLines(output)
    elif output.quiet:
        shown = Silent()
    elif sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        shown = Bars(output)
    return Logged(shown, Lines(output, places, output.log)) if output.log_file else shown


class Silent:
    """Shows nothing; results and errors are printed by the verb."""

    def show(self, event: Event) -> None:
        """Take one event."""

    def tick(self) -> None:
        """Draw nothing."""

    def pause(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""


class Notes(Silent):
    """Writes to standard error what a person should know, and nothing else."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def show(self, event: Event) -> None:
        """Write a line, or none."""
        if isinstance(event, Noted):
            self._output.note(f"{event.job}: {event.text}")


class JsonLines(Silent):
    """Writes every event as a JSON document on a line of standard output, as soon as it happens."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def show(self, event: Event) -> None:
        """Write one line."""
        self._output.event(as_json(event))


def as_json(event: Event) -> dict[str, object]:
    """Returns an event as plain values; the last event of a job is its whole report."""
    values = event.report.as_json() if isinstance(event, RunFinished) else asdict(event)
    return {"event": NAMES[type(event)], **values}


@dataclass(slots=True)
class _Task:
    """The progress of one job in one phase. `since` is when that began."""

    messages: int = 0
    octets: int = 0
    since: float = 0.0
    shown_at: float = 0.0
    phase: str = "fetching"


class Logged(Silent):
    """A screen whose events stand in the log file as well, as plain lines."""

    def __init__(self, shown: Screen, log: Lines) -> None:
        self._shown = shown
        self._log = log

    def show(self, event: Event) -> None:
        """Take one event."""
        self._shown.show(event)
        self._log.show(event)

    def tick(self) -> None:
        """Draw what has changed."""
        self._shown.tick()

    def pause(self) -> None:
        """Leave the terminal as it was found."""
        self._shown.pause()

    def stop(self) -> None:
        """Leave the terminal as it was found, for good."""
        self._shown.stop()


class Lines(Silent):
    """Writes plain lines to standard error, few enough for a log; with the time where that is no terminal."""

    def __init__(self, output: Output, places: Mapping[str, str], say: Callable[[str], None] | None = None) -> None:
        """`say` writes a line elsewhere, with the time."""
        self._output = output
        self._places = places
        self._write = say or output.timed_note
        self._tasks: dict[str, _Task] = {}

    def show(self, event: Event) -> None:
        """Write a line, or none."""
        match event:
            case PhaseBegan(job, phase):
                self._write(f"{job}: {phase}")
            case SignedIn(job, info) if self._output.verbose:
                self._write(f"{job}: {signed_in_line(info)}")
            case Planned():
                self._planned(event)
            case Committed(job, messages, size):
                self._committed(job, messages, size)
            case Advanced():
                self._advanced(event)
            case Noted(job, text):
                self._write(f"{job}: {text}")
                if self._write == self._output.timed_note:
                    self._output.noted.add(f"{job}: {text}")
            case _:
                pass

    def _planned(self, event: Planned) -> None:
        """Write what lies ahead. Of an account with many mailboxes a few lines are enough, each with a mailbox.

        Before the last mailbox is listed the counts are no result: they are told once there is something to fetch.
        """
        task, now = self._tasks.get(event.job), clock.monotonic()
        if task is None or task.phase != "fetching" or not event.mailbox:
            task = self._tasks[event.job] = _Task(event.messages, event.octets, now, now - LINE_SECONDS)
        task.messages, task.octets = event.messages, event.octets
        if (event.messages or not event.mailbox) and now - task.shown_at >= LINE_SECONDS:
            task.shown_at = now
            line = plan_line(self._places[event.job], event.listed, event.messages, event.octets)
            reading = f" so far; reading {event.mailbox}" if event.mailbox else ""
            self._write(f"{event.job}: {line}{reading}")

    def _advanced(self, event: Advanced) -> None:
        task, now = self._tasks.setdefault(event.job, _Task()), clock.monotonic()
        if task.phase != event.phase:
            task = self._tasks[event.job] = _Task(event.total, 0, now, now, event.phase)
        if now - task.shown_at >= LINE_SECONDS:
            task.shown_at = now
            rate = event.done / (now - task.since)
            so_far = f"{event.done:,} of {event.total:,}" if event.total else f"{event.done:,}"
            left = f", {duration((event.total - event.done) / rate)} left" if rate and event.total > event.done else ""
            self._write(f"{event.job}: {so_far} {ACTS[event.phase]}, {rate:.1f}/s{left}")

    def _committed(self, job: str, messages: int, size: int) -> None:
        task, now = self._tasks.get(job), clock.monotonic()
        if task is None or not task.messages:
            return  # something was delivered from an archive: how much is fetched tells nothing about that
        if now - task.shown_at >= LINE_SECONDS:
            task.shown_at = now
            rate = size / (now - task.since)
            left = f", {duration((task.octets - size) / rate)} left" if 0 < size < task.octets else ""
            so_far = f"{messages:,} of {count(task.messages, 'message')}, {octets(size)} of {octets(task.octets)}"
            self._write(f"{job}: {so_far}, {octets(rate)}/s{left}")


def signed_in_line(info: SourceInfo) -> str:
    """Returns how the session with a server was opened, or which archive is read."""
    if not info.mechanism:
        return f"reading {info.address}"
    tls = info.tls if info.tls != "none" else "not encrypted"
    return f"signed in to {info.address} by {info.mechanism}, {tls}"


def plan_line(place: str, listed: int, messages: int, size: int) -> str:
    """Returns the result of a listing."""
    ahead = f"{messages:,} to fetch ({octets(size)})" if messages else "nothing to fetch"
    return f"{count(listed, 'message')} {place}, {ahead}"


class Bars(Silent):
    """Draws a bar for each job on a terminal: messages, octets, rate, time left; before that a line with the phase."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._phases: dict[str, str] = {}  # that the bar of a job is about
        self._status_shown = False
        self._stopped = False

    def show(self, event: Event) -> None:
        """Take one event."""
        match event:
            case PhaseBegan(job, phase):
                self._status(f"{job}: {phase} …")
                if phase in ACTS and self._progress is not None:
                    self._advance_phase(job, phase, 0, 0)
            case SignedIn(job, info) if self._output.verbose:
                self._note(f"{job}: {signed_in_line(info)}")
            case Planned(job, _, _, messages, size) if messages:
                self._begin(job, messages, size, event.mailbox)
            case Committed(job, messages, size):
                self._advance(job, messages, size)
            case Advanced(job, phase, done, total):
                self._advance_phase(job, phase, done, total)
            case Noted(job, text):
                self._note(f"{job}: {text}")
                self._output.noted.add(f"{job}: {text}")
            case RunFinished(job, report) if not report.errors and self._phases.get(job) == "fetching":
                self._advance(job, report.fetched, report.fetched_octets)
            case _:
                pass

    def tick(self) -> None:
        """Draw the bars."""
        if self._progress is not None and self._progress.live.is_started:
            self._progress.refresh()

    def pause(self) -> None:
        """Erase the line with the phase and stop drawing; the bars stay as they are."""
        if self._status_shown:
            self._status_shown = False
            to_terminal(ERASE_LINE)
        if self._progress is not None and self._progress.live.is_started:
            self._progress.refresh()
            self._progress.stop()

    def stop(self) -> None:
        """Stop drawing."""
        self.pause()
        self._stopped = True

    def _note(self, text: str) -> None:
        """Write a line, above the bars if there are any."""
        if self._progress is not None and self._progress.live.is_started:
            self._progress.console.print(printable(text, MAX_TEXT), markup=False, highlight=False, soft_wrap=True)
        else:
            self.pause()
            self._output.note(text)

    def _status(self, text: str) -> None:
        if self._progress is None and not self._stopped:
            self._status_shown = True
            to_terminal(ERASE_LINE + printable(text))

    def _begin(self, job: str, messages: int, size: int, mailbox: str) -> None:
        if self._stopped:
            return
        if self._progress is None:
            self.pause()
            from syncd.cli.bars import make_progress

            self._progress = make_progress()
        self._progress.start()
        self._replace(job, "fetching")
        about = printable(f"{job}: {mailbox}" if mailbox else job, MOST_ABOUT)
        self._tasks[job] = self._progress.add_task(about, total=max(size, 1), done=0, messages=messages)

    def _replace(self, job: str, phase: str) -> None:
        """Take away the bar of an earlier phase: a job has one bar, which is about what it does now."""
        if self._progress is not None and job in self._tasks:
            self._progress.remove_task(self._tasks.pop(job))
        self._phases[job] = phase

    def _advance_phase(self, job: str, phase: str, done: int, total: int) -> None:
        """Show how far a phase is that counts no octets."""
        if self._stopped:
            return
        if self._progress is None:
            self.pause()
            from syncd.cli.bars import make_progress

            self._progress = make_progress()
        self._progress.start()
        if self._phases.get(job) != phase:
            self._replace(job, phase)
            about = printable(f"{job}: {ACTS[phase]}")
            self._tasks[job] = self._progress.add_task(about, total=total or None, done=0, messages=total, octets=False)
        self._progress.update(self._tasks[job], completed=done, total=total or None, done=done, messages=total)

    def _advance(self, job: str, messages: int, size: int) -> None:
        fetching = self._phases.get(job) == "fetching"
        if self._progress is not None and fetching and job in self._tasks and not self._stopped:
            self._progress.start()
            self._progress.update(self._tasks[job], completed=size, done=messages)


def restore_terminal() -> None:
    """Make the cursor visible again before the process ends at once, whatever is being drawn."""
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), (ERASE_LINE + SHOW_CURSOR).encode())
