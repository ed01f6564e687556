"""Suspensions: asked before a destination is opened or a source connected to, whether it is to be contacted now.

A server's word and a job's own limits count for every run. Our own back-off after a refused sign-in or a tripped
breaker is for runs that nobody watches: a run by hand tries at once, and success lifts the suspension. The pause that
a server wants between two sign-ins of one run (RFC 2449 §6.5, LOGIN-DELAY) is kept in memory.

A worker's run does not wait, and a suspension that it meets is no failure: `Throttled` says when to go on.

A source that refuses message after message alike may have a quota that is used up, or a few messages that it cannot
give. So the next two sessions ask again at once, and the second of them begins behind these messages. When that does
not help either, the account rests.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Final

from syncd import clock
from syncd.db.ledger import Ledger, of_account, of_route
from syncd.db.ledger.backoff import suspended_at
from syncd.db.rows import Cause, Suspension
from syncd.engine.breaker import LIMIT, Breaker
from syncd.engine.budget import RunRoom
from syncd.engine.job import Job, Route
from syncd.errors import AuthRefused, DestinationRefuses, SyncdError, Throttled
from syncd.sources.base import SourceInfo, SourceSession

OURS: Final = frozenset({Cause.SIGN_IN, Cause.REFUSED})
FRESH_S: Final = 5.0  # so long a session that begins need not look again
PROBE: Final = 3  # refusals that trip a breaker again: fewer than at first, and more than one bad message
MAX_PAUSE_S: Final = 900.0  # what a run waits at most: providers that ask for a pause at all want 1 to 15 minutes
ELSEWHERE: Final = 2  # sessions in a row that got nothing but refusals, after which the next begins behind them


def subjects(route: Route) -> list[str]:
    """Returns what a route may be suspended as."""
    account = route.row.account_id
    return [of_route(route.row.id), *([of_account(account)] if account is not None else [])]


class Known:
    """The suspensions of a job's source and destinations, read at once."""

    def __init__(self, job: Job, ledger: Ledger) -> None:
        wanted = [of_account(job.account.id), *(subject for route in job.routes for subject in subjects(route))]
        self.found = ledger.suspensions.find(wanted)
        self._read_at = clock.monotonic()

    @property
    def fresh(self) -> bool:
        """Returns whether they were read just now."""
        return clock.monotonic() - self._read_at < FRESH_S


def suspended(job: Job, known: Known, route: Route) -> Suspension | None:
    """Returns what keeps a destination from being opened now."""
    for suspension in filter(None, map(known.found.get, subjects(route))):
        if _holds(job, suspension, route):
            return suspension
    return None


def connect(
    job: Job, ledger: Ledger, *, patient: bool = True, dry_run: bool = False, lately: Known | None = None
) -> tuple[SourceSession, Suspension | None]:
    """Open a session with the source. Returns it with a suspension that only a message can lift, see `source_gives`.

    With `dry_run=True` the ledger is a copy, so a refused sign-in suspends nothing.
    Raises what `Source.connect` raises. Raises AuthRefused also where the server refused the credentials lately, and
    Throttled where the account is suspended for another reason; with `patient=False` it is Throttled for any reason.
    """
    subject = of_account(job.account.id)
    found = lately.found if lately is not None and lately.fresh else ledger.suspensions.find([subject])
    known = found.get(subject)
    if known is not None and _holds(job, known):
        raise _source_refusal(job.name, known, obeyed=True) if patient else postponement(known)
    try:
        session = job.source.connect()
    except AuthRefused as error:
        if dry_run:
            raise
        raise refusal(job.name, ledger.suspensions.back_off(subject, Cause.SIGN_IN, str(error))) from error
    except Throttled as error:
        raise source_refuses(job, ledger, error, known) from error
    if known is None or known.cause is Cause.REFUSED:
        return session, known
    ledger.suspensions.lift([subject])
    return session, None


def source_refuses(job: Job, ledger: Ledger, error: Throttled, known: Suspension | None) -> SyncdError:
    """Suspend the account of a source that says "enough for now"; returns the error that tells of it.

    `known` is the account's suspension, if no message came since it began. Where the server refused messages without
    naming a time, the next sessions may ask at once until it is sure that asking elsewhere does not help.
    """
    if not error.messages:
        cause = Cause.LIMIT if error.limit in job.limits else Cause.SERVER
        suspension = Suspension(error.until, str(error), cause, limit=error.limit)
    else:
        tries = known.tries + 1 if known is not None and known.cause is Cause.REFUSED else 1
        until = error.until if tries > ELSEWHERE else clock.now()
        suspension = Suspension(until, str(error), Cause.REFUSED, tries)
    ledger.suspensions.put(of_account(job.account.id), suspension)
    return _source_refusal(job.name, suspension)


def source_gives(job: Job, ledger: Ledger) -> None:
    """Lift the suspension of a source: a message came."""
    ledger.suspensions.lift([of_account(job.account.id)])


def begins_behind(known: Suspension | None) -> bool:
    """Returns whether a session is to begin behind the messages that were refused, for the last sessions got none."""
    return known is not None and known.cause is Cause.REFUSED and known.tries >= ELSEWHERE


def throttled(route: Route, error: Throttled) -> Suspension:
    """Returns the suspension that a limit asks for, the server's or the job's own."""
    cause = Cause.LIMIT if error.limit in route.limits else Cause.SERVER
    return Suspension(error.until, str(error), cause, limit=error.limit)


def breaker(job: Job, ledger: Ledger, route: Route) -> Breaker:
    """Returns the breaker of a destination, with what earlier runs saw."""
    known = ledger.suspensions.find([of_route(route.row.id)]).values()
    limit = PROBE if any(suspension.cause is Cause.REFUSED for suspension in known) else LIMIT
    return Breaker(limit if job.brake else 0, partial(ledger.uncertain.refused_lately, route.row.id, limit))


def postponement(suspension: Suspension) -> Throttled:
    """Returns the error that says when a suspension is over."""
    return Throttled(
        f"{suspension.reason}; it goes on at {_minute(suspension.until)}",
        until=suspension.until,
        limit=suspension.limit,
    )


def refusal(job: str, suspension: Suspension, *, obeyed: bool = False) -> SyncdError:
    """Returns the error that tells of a suspension; with `obeyed=True` of one that an earlier run began."""
    if suspension.cause not in OURS:
        return postponement(suspension)
    kind = AuthRefused if suspension.cause is Cause.SIGN_IN else DestinationRefuses
    began = _minute(suspended_at(suspension.until, suspension.tries))
    asked = f"; that was the answer at {began}, and this run did not ask again" if obeyed else ""
    return kind(f"{suspension.reason}{asked}; {_until(job, suspension)}")


def _source_refusal(job: str, suspension: Suspension, *, obeyed: bool = False) -> SyncdError:
    if suspension.cause is not Cause.REFUSED:
        return refusal(job, suspension, obeyed=obeyed)
    when = _until(job, suspension) if suspension.until > clock.now() else "the next run asks again"
    asked = "; this run did not ask again" if obeyed else ""
    return Throttled(f"{suspension.reason}{asked}; {when}", until=suspension.until)


def _until(job: str, suspension: Suspension) -> str:
    return f"suspended until {_minute(suspension.until)}, to try at once: `syncd retry {job} suspended`"


def _minute(at: datetime) -> str:
    return f"{at.astimezone():%Y-%m-%d %H:%M}"


def _holds(job: Job, suspension: Suspension, route: Route | None = None) -> bool:
    if suspension.until <= clock.now() or (job.by_hand and suspension.cause in OURS):
        return False
    return suspension.cause is not Cause.LIMIT or suspension.limit in (job.limits if route is None else route.limits)


class Pause:
    """The time of the next sign-in of a run. Asked by the reader, and after its end by the removal."""

    def __init__(self) -> None:
        self._until = 0.0

    def begin(self, signed_in: float, info: SourceInfo) -> None:
        """A session ended, that began at `signed_in` (by `clock.monotonic`)."""
        self._until = signed_in + info.pause_s

    @property
    def left_s(self) -> float:
        """Seconds that are left; 0 where nobody has to wait."""
        return max(0.0, self._until - clock.monotonic())

    def wait(self, room: RunRoom) -> None:
        """Wait until it is over, MAX_PAUSE_S at most. Raises Cancelled."""
        if self.left_s:
            room.pause(min(self.left_s, MAX_PAUSE_S))
