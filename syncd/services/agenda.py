"""The agenda: when a job is due by its schedule, and when the run that follows may begin.

Times that pass while nothing is scheduled (the service is down, a run of the job is under way) are counted in the one
run that covers them. After a time without service the runs are spread out, so that they do not all begin at once.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from syncd.db.due import Next
from syncd.services.triggers import due_between, next_due
from syncd.settings.quiet import quiet_until

if TYPE_CHECKING:
    from syncd.db.definitions import Definition
    from syncd.db.due import Due

OVERDUE: Final = timedelta(seconds=60)  # a job due for longer was not served: its run is one of those spread out
SPREAD_S: Final = 0.1  # for each job that is overdue at that time
LONGEST_SPREAD_S: Final = 300.0
QUIET_SPREAD_S: Final = 60.0  # after quiet hours, which many jobs have in common


def first_due(configuration: str, now: datetime, definition: Definition) -> datetime | None:
    """Returns the first time after `now` at which a definition is due; None for a job without a schedule."""
    if not definition.schedule:
        return None
    key = phase_key(configuration, definition.job)
    return next_due(definition.schedule, definition.timezone, key, definition.jitter_s, now)


def following(due: Due, until: datetime, waiting: int = 1) -> Next:
    """Returns what follows a due time: the next one after `until`, and when this run may begin.

    `waiting`: the number of jobs that are due now.
    """
    if not due.schedule or due.next_due is None:
        return Next(None)
    key = phase_key(due.configuration, due.job)
    missed = due_between(due.schedule, due.timezone, key, due.jitter_s, after=due.next_due, until=until)
    begins = quiet_until(due.quiet_hours, due.timezone, until) if due.quiet_hours else None
    if begins is not None:
        begins += timedelta(seconds=_share(key) * QUIET_SPREAD_S)
    elif until - due.next_due > OVERDUE:
        begins = until + timedelta(seconds=_share(key) * min(LONGEST_SPREAD_S, SPREAD_S * waiting))
    return Next(next_due(due.schedule, due.timezone, key, due.jitter_s, until), missed, begins)


def due_again(now: datetime, due: Due) -> datetime:
    """Returns the first time after `now` at which a job with a schedule is due, whatever was noted of it before."""
    return next_due(due.schedule, due.timezone, phase_key(due.configuration, due.job), due.jitter_s, now)


def phase_key(configuration: str, job: str) -> str:
    """Returns what phase and jitter of a job's schedule follow from: the same on every machine, after every start."""
    return f"{configuration}/{job}"


def _share(key: str) -> float:
    """Returns a number from 0 to 1 that follows from a key."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
