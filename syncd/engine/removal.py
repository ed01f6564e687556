"""The one place that removes mail at a source, and only against committed receipts.

A session of its own: list, verify that the id still names the message we have (the hash of its header by TOP where
the server has it) and that all of it came, commit `removing`, DELE, QUIT, commit `removed`. A listing that looks wrong
freezes removals and is not recorded: that is for the next one to find. If the farewell is lost, nothing is believed:
the next listing shows what went.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from syncd import clock
from syncd.db.ages import LEAP
from syncd.db.ledger import ListingSession, RemovalRow, Scope
from syncd.engine.events import Noted, PhaseBegan
from syncd.engine.job import RemovalPolicy
from syncd.engine.pause import MAX_PAUSE_S
from syncd.engine.reader import PAGE_ROWS, Context
from syncd.engine.survey import survey
from syncd.errors import Cancelled, ConfirmationNeeded, RemovalsFrozen
from syncd.sources.base import SourceSession, Wanted

# Servers are a little off where they count line ends otherwise or guess (RFC 1939 §11); a part left out is more (P33).
SHORT_OCTETS = 1024
SHORT_PERCENT = 5


def remove_at_source(context: Context, scope: Scope, policy: RemovalPolicy, check_lease: Callable[[], None]) -> None:
    """Remove what is due. Raises RemovalsFrozen, ConfirmationNeeded, or what the session raises."""
    ledger, job, report = context.ledger, context.job, context.report
    delivered_before = _delivered_before(context, scope, policy.after)
    due = ledger.removal_due(scope, delivered_before)
    report.to_remove = due
    if not due or report.dry_run:
        return
    reason = ledger.frozen_reason(scope.account_id)
    if reason is not None:
        raise RemovalsFrozen(
            f"{job.name}: {due:,} messages are due for removal, but removals at {job.account.name} are frozen:"
            f" {reason};"
            f" look at the account, then run `syncd run {job.name} --unfreeze`"
        )
    if not policy.confirmed and not (policy.confirm is not None and policy.confirm(due)):
        raise ConfirmationNeeded(
            f"{job.name}: {due:,} messages would be removed from {job.account.name}; nothing was removed,"
            f" set confirm_removal = true in [jobs.{job.name}] to allow it"
        )
    if not _may_sign_in(context, due):
        return
    context.listen(PhaseBegan(job.name, "removing"))
    session = job.source.connect()
    try:
        with ledger.listing(scope) as listing:
            _record(context, scope, session, listing)
            removed = _mark(context, policy, session, listing, delivered_before)
        check_lease()
        session.finish()
        ledger.mark_removed(removed)
        report.removed = len(removed)
    finally:
        session.close()


def _delivered_before(context: Context, scope: Scope, age: timedelta) -> datetime | None:
    """The instant that decides by age; None where none is asked for. Time that a clock leapt over does not count."""
    if not age:
        return None
    ledger, by_clock = context.ledger, clock.now() - age
    sure = ledger.old_enough(scope, age)
    if by_clock - sure >= LEAP:
        held = ledger.removal_due(scope, by_clock) - ledger.removal_due(scope, sure)
        line = f"between two listings the clock went ahead by more than {LEAP.days} days, which do not count as age"
        context.listen(Noted(context.job.name, f"{line}: {held:,} messages stay for {age.days} days more"))
    return sure


def _may_sign_in(context: Context, due: int) -> bool:
    """Wait until the server lets us sign in again; False where that is too long."""
    job, left_s = context.job, context.pause.left_s
    if left_s > MAX_PAUSE_S:
        line = f"{due:,} messages are not removed: the server wants {left_s:,.0f} s until the next sign-in"
        context.listen(Noted(job.name, line))
        return False
    if left_s:
        line = (
            f"the server wants {left_s:,.0f} s until the next sign-in (LOGIN-DELAY), then {due:,} messages are removed"
        )
        context.listen(Noted(job.name, line))
        context.pause.keep(context.room)
    return True


def _record(context: Context, scope: Scope, session: SourceSession, listing: ListingSession) -> None:
    totals, found = survey(session, listing, context.job.lifted)
    if found is not None:
        context.ledger.freeze(scope.account_id, found.value)
        raise RemovalsFrozen(
            f"{context.job.name}: nothing was removed, and removals at {context.job.account.name} are frozen:"
            f" {found.value}; look at the account, then run `syncd run {context.job.name} --unfreeze`"
        )
    listing.record(totals, suspicious=session.info.pages)


def _mark(
    context: Context,
    policy: RemovalPolicy,
    session: SourceSession,
    listing: ListingSession,
    delivered_before: datetime | None,
) -> list[int]:
    """Verify, commit the intent and DELE, page by page; the keys that the server will remove at QUIT."""
    marked: list[int] = []
    after = 0
    while page := listing.removable(after, PAGE_ROWS, delivered_before):
        if context.room.cancelled:
            raise Cancelled("cancelled before the removal was final; nothing was removed")
        verified = list(_verified(context, policy, session, listing.scope, page))
        context.ledger.mark_removing(listing.scope, [row.key for row in verified])
        for answer in session.remove(Wanted(row.key, row.number, row.uid, row.octets) for row in verified):
            if answer.error is None:
                marked.append(answer.key)
            else:
                _keep(context, listing.scope, answer.key, f"not removed: {answer.error}; --unfreeze tries again")
        after = page[-1].number
    return marked


def _verified(
    context: Context, policy: RemovalPolicy, session: SourceSession, scope: Scope, page: list[RemovalRow]
) -> Iterator[RemovalRow]:
    """Those whose id still names what we fetched, whole. What came short is frozen for a person.

    Another message under a known id is for the next listing, which finds it to be new.
    """
    hashes = dict(session.header_hashes([Wanted(row.key, row.number, row.uid, row.octets) for row in page]))
    others = {row.key for row in page if hashes.get(row.key) not in {None, row.header_hash}}
    if others:
        context.ledger.mark_missing(list(others))
        line = f"the server now shows another message under {len(others):,} known ids: they are fetched by the next run"
        context.listen(Noted(context.job.name, line))
    for row in page:
        if row.key in others:
            continue
        short = None if policy.lifted else _shortage(row)
        if short is None:
            yield row
        else:
            _keep(context, scope, row.key, short)


def _keep(context: Context, scope: Scope, key: int, why: str) -> None:
    """Not removed until a person says so; it counts as waiting, and `syncd errors` shows why."""
    context.ledger.mark_frozen(scope, [key], why)
    context.listen(Noted(context.job.name, why))


def _shortage(row: RemovalRow) -> str | None:
    """Why a message is not to be removed that came shorter than it is listed."""
    short = row.octets - row.received
    if short > max(SHORT_OCTETS, row.octets * SHORT_PERCENT // 100):
        return (
            f"the server lists {row.octets:,} octets and gave {row.received:,}: parts of this message may be missing"
            " here, so it is not removed; compare the two, then --unfreeze removes it"
        )
    return None
