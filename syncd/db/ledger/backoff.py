"""Every delay there is before something is tried again (pure).

    what                                      first, next, …                        then
    a message cannot be fetched               5 min, 1 h, 1 day, 1 day              waits for a person
      the session ended at it                 at once, then the same
      too large, or not mail                                                        waits for a person
    a delivery is deferred                    5, 15, 30 min, 1, 2, 4, 8, 12 h,      waits for a person, after more than
                                              4 × 1 day                             five days
    a delivery is uncertain and sent again    at once, 5, 15, 30 min, 1 h           held, after MAX_UNCERTAIN outcomes
    a sign-in or everything was refused       15 min, twice as long each time       once a day

A time that a server named, or that a limit of ours sets, is no failed attempt: it replaces the next step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from syncd.errors import Retry

Steps = Sequence[timedelta]

# A broken mailbox is seldom mended within the hour.
FETCH: Final[Steps] = (timedelta(minutes=5), timedelta(hours=1), timedelta(days=1), timedelta(days=1))
FETCH_STEPS: Final[Mapping[Retry, Steps]] = {Retry.NOW: (timedelta(), *FETCH), Retry.LATER: FETCH, Retry.NEVER: ()}
# Five days and more in all (RFC 5321 §4.5.4.1 asks for four to five). The first steps are for greylisting, which lets a
# message in after 5 to 15 minutes (RFC 6647 §4.1).
DELIVERY: Final[Steps] = (
    *(timedelta(minutes=minutes) for minutes in (5, 15, 30)),
    *(timedelta(hours=hours) for hours in (1, 2, 4, 8, 12, 24, 24, 24, 24)),
)
MAX_UNCERTAIN: Final = 5  # uncertain outcomes of one delivery before a person decides: at most so many extra copies
SUSPENSION_FIRST: Final = timedelta(minutes=15)
SUSPENSION_LONGEST: Final = timedelta(days=1)
SOURCE_LONGEST: Final = timedelta(hours=6)  # for a source that refuses message after message, as its adapter says
LONGEST: Final = timedelta(days=1)  # of all rules, what servers name and daily limits included


def next_try(
    steps: Steps,
    attempts: int,
    *,
    now: datetime,
    first_at: datetime,
    named: datetime | None = None,
    at_once: bool = False,
) -> datetime | None:
    """Returns when to try again after so many failed attempts (from 1); None: a person decides.

    `named` is a time that a server or a limit of ours has set. It counts until the steps would be over, reckoned from
    the first failure. With `at_once=True` nothing speaks against trying again now (it was surely not sent).
    """
    if attempts > len(steps):
        return None
    if named is not None:
        return named if now - first_at <= sum(steps, timedelta()) else None
    return now if at_once else now + steps[attempts - 1]


def resend_after(outcomes: int) -> timedelta | None:
    """Returns how long to wait before an uncertain delivery is sent again, after so many outcomes; None: hold it."""
    if outcomes > MAX_UNCERTAIN:
        return None
    return DELIVERY[outcomes - 2] if outcomes > 1 else timedelta()


def suspension(tries: int) -> timedelta:
    """Returns how long to suspend an account or destination after so many refusals in a row (from 1)."""
    return min(SUSPENSION_FIRST * (1 << min(tries - 1, 10)), SUSPENSION_LONGEST)


def suspended_at(until: datetime, tries: int) -> datetime:
    """Returns when `suspension` began that lasts until then, after so many refusals in a row (from 1)."""
    return until - suspension(tries)
