"""Describes a job in plain words: for the page, from its settings alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from syncd.settings.schema import Duplicates
from syncd.settings.values import show_duration

if TYPE_CHECKING:
    from syncd.settings.delivery import JobDestination
    from syncd.settings.schema import Job, Settings


def place(settings: Settings, name: str) -> str:
    """Returns an account or archive with what it is: "road, POP3 at pop.example.net"."""
    account = settings.accounts.get(name)
    if account is not None:
        return f"{name}, {account.protocol.value.upper()} at {account.host}"
    archive = settings.archives.get(name)
    return name if archive is None else f"{name}, an archive ({archive.format.value})"


class Stop(NamedTuple):
    """A place on the route of a job: its name, what it is, and for whom mail is delivered there."""

    name: str
    what: str
    how: str = ""


def route(settings: Settings, name: str) -> tuple[Stop, list[Stop]]:
    """Returns the source and the destinations of a job, to be drawn."""
    job = settings.jobs[name]
    return _stop(settings, job.source, _mailboxes(job)), [_stop(settings, to.to, _how(to)) for to in job.destinations]


def _stop(settings: Settings, name: str, how: str) -> Stop:
    _, _, what = place(settings, name).partition(", ")
    return Stop(name, what, how.lstrip(",: "))


def policy(settings: Settings, name: str) -> Iterator[str]:
    """Yields sentences that say what a job of the configuration does."""
    job = settings.jobs[name]
    if not job.enabled:
        yield "It is disabled: it does not run by its schedule, and not with all the others."
    yield f"It reads {place(settings, job.source)}{_mailboxes(job)}."
    for to in job.destinations:
        yield f"It delivers to {place(settings, to.to)}{_how(to)}."
    yield _removal(job)
    if job.duplicates is not Duplicates.OFF:
        yield "Of messages with the same Message-ID, the first one alone is delivered."
    yield schedule(settings, name)
    if job.late_after is not None:
        yield f"It is late when no run has succeeded for {show_duration(job.late_after)}."


def schedule(settings: Settings, name: str) -> str:
    """Returns when a job runs, in a sentence."""
    job = settings.jobs[name]
    if job.schedule is None:
        return "It runs only when somebody asks for it."
    text = f"It runs {job.schedule} ({job.timezone or settings.timezone})"
    if job.jitter is not None:
        text += f", up to {show_duration(job.jitter)} later"
    if job.quiet_hours is not None:
        text += f", not at {job.quiet_hours}"
    return f"{text}."


def _mailboxes(job: Job) -> str:
    return "" if job.mailboxes is None else ": some of its mailboxes"


def _how(to: JobDestination) -> str:
    parts = []
    if to.recipient:
        parts.append(f"for {', '.join(to.recipient)}")
    if to.limits:
        parts.append(f"at most {' and '.join(str(limit) for limit in to.limits)}")
    return f", {', '.join(parts)}" if parts else ""


def _removal(job: Job) -> str:
    if not job.removes:
        return "All mail stays at the source."
    after = f" {show_duration(job.kept_for)} after" if job.kept_for else " after"
    confirmed = "" if job.confirm_removal else ", once a person has confirmed it"
    return f"It removes mail at the source{after} every destination has it{confirmed}."
