"""Holds a run against the limit of open files (RLIMIT_NOFILE), before anything begins.

Without enough of them a run would break somewhere in the middle: in the ledger, in an archive, in a look-up of a name.
The soft limit is raised as far as the run needs and the hard limit allows, and no further: programs that we start
inherit it, and some cannot cope with high numbers.
"""

from __future__ import annotations

import resource
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from syncd.engine.budget import SESSIONS
from syncd.errors import UsageError
from syncd.settings.account import Protocol

if TYPE_CHECKING:
    from syncd.settings.load import Loaded
    from syncd.settings.schema import Settings

# Measured: 18 for one job with an archive of packs, 154 for 16 of them at a time. The peaks of jobs seldom meet.
BASE: Final = 12  # standard streams, the ledger, what a look-up of a name opens
FOR_ARCHIVE: Final = 8  # folder, identity, index with its log, the file that is written; open until the run ends
FOR_JOB: Final = 12  # the connection, four of the ledger, an archive that is read, large messages in flight
ROUND: Final = 64  # what we advise is a multiple of it


def allow_open_files(loaded: Loaded, jobs: Collection[str], parallel: int) -> None:
    """Raise the soft limit if these jobs need it. Raises UsageError if the hard limit is too low for them."""
    at_a_time = min(parallel, len(jobs))
    needed = files_needed(loaded.settings, jobs, at_a_time)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise UsageError(_too_few(loaded.settings, jobs, at_a_time, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def allow_for_service(threads: int) -> None:
    """Raise the soft limit to what a worker with so many threads needs, or to the hard limit if that is lower."""
    needed = BASE + threads * (FOR_ARCHIVE + FOR_JOB) + SESSIONS * FOR_JOB
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != soft < needed:
        allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def files_needed(settings: Settings, jobs: Collection[str], at_a_time: int) -> int:
    """Returns how many files are open at most while so many of the jobs run at a time."""
    named = {to.to for job in jobs for to in settings.jobs[job].destinations}
    archives = len(named & settings.archives.keys())
    connections = sum(settings.accounts[name].connections for name in named & settings.accounts.keys())
    readers = min(SESSIONS, at_a_time * max((_readers(settings, job) - 1 for job in jobs), default=0))
    return BASE + FOR_ARCHIVE * archives + FOR_JOB * (at_a_time + readers) + connections


def _readers(settings: Settings, job: str) -> int:
    """Returns how many sessions with its source a job may have: those of the account, or as an archive is restored."""
    source = settings.jobs[job].source
    names = {source} if source in settings.accounts else {to.to for to in settings.jobs[job].destinations}
    imap = [account for name in names if (account := settings.accounts.get(name)) and account.protocol is Protocol.IMAP]
    return max((account.connections for account in imap), default=1)


def _too_few(settings: Settings, jobs: Collection[str], at_a_time: int, allowed: int) -> str:
    needed = files_needed(settings, jobs, at_a_time)
    advice = f"allow more before (ulimit -n {-(-needed // ROUND) * ROUND})"
    fitting = (allowed - files_needed(settings, jobs, 0)) // FOR_JOB
    if fitting > 0:
        advice += f", or use --parallel {fitting}"
    what = "one job needs" if at_a_time == 1 else f"{at_a_time} jobs at a time need"
    return f"{what} up to {needed} open files, and {allowed} are allowed: {advice}; nothing was begun"
