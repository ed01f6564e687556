"""Destinations that are IMAP accounts: options, and mail that would come back to where it is read."""

from __future__ import annotations

from collections.abc import Iterator

from syncd.db.fingerprints import fingerprint
from syncd.settings.alike import identity
from syncd.settings.delivery import IMAP_OPTIONS, JobDestination, Uncertain
from syncd.settings.mistakes import KeyPath, Mistake
from syncd.settings.schema import Job, Protocol, Settings


def contradictions(at: KeyPath, job: Job, destination: JobDestination, settings: Settings) -> Iterator[Mistake]:
    """Yields the mistakes of a destination (at the key path `at`) that is an IMAP account."""
    name = destination.to
    wrong = [key for key in destination.options if key not in IMAP_OPTIONS]
    if wrong:
        accepted = ", ".join(sorted(IMAP_OPTIONS))
        yield Mistake(at, f'"{name}" is an imap account and takes no {", ".join(wrong)}; accepted: {accepted}')
    if destination.uncertain is Uncertain.PROBE:
        text = '"probe" has no meaning for an imap account, which is asked in any case; accepted: "resend", "hold"'
        yield Mistake((*at, "uncertain"), text)
    mark = _mark(settings, name)
    twins = [other.to for other in job.destinations if other is not destination and _mark(settings, other.to) == mark]
    if twins and job.destinations.index(destination) > 0:
        yield Mistake(at, f'"{name}" is the account of another destination of this job; a job fills an account once')
    way = _way_back(name, job.source, settings)
    if way:
        text = f"the jobs form a circle, {' → '.join([job.source, *way])}, in which mail would be copied without end"
        yield Mistake(at, text)


def _way_back(start: str, goal: str, settings: Settings) -> list[str]:
    """Returns the names on a way of mail from `start` back to `goal`, both included; empty if there is none."""
    if _mark(settings, start) == _mark(settings, goal):  # one account with two names
        return [start]
    ways, seen = [[start]], {start}
    while ways:
        way = ways.pop()
        if way[-1] == goal:
            return way
        nexts = {name for name in settings.read_into.get(way[-1], ()) if _holds(settings, name)} - seen
        seen |= nexts
        ways += [[*way, name] for name in sorted(nexts)]
    return []


def _holds(settings: Settings, name: str) -> bool:
    """Returns whether mail can be read again where it was put."""
    account = settings.accounts.get(name)
    return name in settings.archives or (account is not None and account.protocol is Protocol.IMAP)


def _mark(settings: Settings, name: str) -> str:
    """Returns a text that is equal for names of one account or archive."""
    account = settings.accounts.get(name)
    return f"archive {name}" if account is None else fingerprint(*identity(account))
