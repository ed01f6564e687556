"""What is left alone for a while: destinations before they are opened, sources before they are connected to.

A server's word and a job's own limits hold for every run. Our own back-off after a refused sign-in or a tripped breaker
is for runs that nobody watches: one by hand tries at once, and what succeeds lifts it.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from syncd import clock
from syncd.db.ledger import Cause, Ledger, Suspension, of_account, of_route
from syncd.engine.breaker import LIMIT, Breaker
from syncd.engine.job import Job, Route
from syncd.errors import AuthRefused, BrakeTripped, SyncdError, Throttled
from syncd.sources.base import SourceSession

OURS: Final = frozenset({Cause.SIGN_IN, Cause.REFUSED})
PROBE: Final = 3  # refusals that trip a breaker anew: fewer than at first, and more than one bad message


def subjects(route: Route) -> list[str]:
    """What a route may be suspended as."""
    account = route.row.account_id
    return [of_route(route.row.id), *([of_account(account)] if account is not None else [])]


def left_alone(job: Job, ledger: Ledger, route: Route) -> Suspension | None:
    """What keeps a destination from being opened now."""
    for suspension in ledger.suspensions(subjects(route)).values():
        if _holds(job, suspension, route):
            return suspension
    return None


def connect(job: Job, ledger: Ledger) -> SourceSession:
    """A session with the source. Raises what `Source.connect` raises; AuthRefused also where that was so lately."""
    subject = of_account(job.account.id)
    known = ledger.suspensions([subject]).get(subject)
    if known is not None and _holds(job, known):
        raise refusal(job.name, known)
    try:
        session = job.source.connect()
    except AuthRefused as error:
        raise refusal(job.name, ledger.back_off(subject, Cause.SIGN_IN, str(error))) from error
    if known is not None:
        ledger.lift([subject])
    return session


def cause_of(route: Route, error: Throttled) -> Cause:
    """Whose limit it is."""
    return Cause.LIMIT if _names_limit(route, str(error)) else Cause.SERVER


def breaker(job: Job, ledger: Ledger, route: Route) -> Breaker:
    """The breaker of a destination, with what earlier runs saw."""
    known = ledger.suspensions([of_route(route.row.id)]).values()
    limit = PROBE if any(one.cause is Cause.REFUSED for one in known) else LIMIT
    return Breaker(limit if job.brake else 0, partial(ledger.refused_lately, route.row.id, limit))


def refusal(job: str, suspension: Suspension) -> SyncdError:
    """The error that tells of a suspension."""
    when = f"{suspension.until.astimezone():%Y-%m-%d %H:%M}"
    if suspension.cause not in OURS:
        return Throttled(f"{suspension.reason}; it goes on at {when}", until=suspension.until)
    kind = AuthRefused if suspension.cause is Cause.SIGN_IN else BrakeTripped
    return kind(f"{suspension.reason}; left alone until {when}, to try at once: `syncd retry {job} suspended`")


def _holds(job: Job, suspension: Suspension, route: Route | None = None) -> bool:
    if suspension.until <= clock.now() or (job.by_hand and suspension.cause in OURS):
        return False
    return suspension.cause is not Cause.LIMIT or route is None or _names_limit(route, suspension.reason)


def _names_limit(route: Route, reason: str) -> bool:
    """Whether it is about a limit that the job sets now."""
    return any(f" {limit} " in reason for limit in route.limits)
