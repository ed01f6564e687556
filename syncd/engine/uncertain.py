"""Deliveries whose outcome nobody knows: recorded, told, and sent again or held by their route's policy.

With `uncertain = "probe"` a delivery is first looked for in the account of its recipient. If it is there, it is
delivered. If it is not, it is sent again when it has had PATIENCE to arrive. Until then, and as long as the account
cannot be searched, it stays uncertain.

Three ways lead here: a run that ended (killed, power cut) between the last octets of a message and the reply to them,
a destination that says so itself, and a destination that failed meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from syncd import clock
from syncd.db.rows import MailboxScope, SoughtRow
from syncd.engine.context import Context
from syncd.engine.job import Route, origin
from syncd.errors import Cancelled, SyncdError
from syncd.mail.message import Key, MessageRef, Receipt
from syncd.mail.outcome import Outcome, Sought, Verdict

PATIENCE: Final = timedelta(minutes=15)  # a server between takes the mail, and hands it on within minutes
LONG_AGO: Final = datetime(1970, 1, 4, tzinfo=UTC)  # what is left of it when days are taken off is a date of IMAP
ENDED: Final = "the program ended before it read the reply, so it may have arrived"


def recover(context: Context) -> None:
    """Record what an earlier run left `sending` as uncertain; call it before anything is delivered.

    Also on routes that are not in use any more, and of other jobs that read the account: while we have its lease none
    of them is at work. What comes of their deliveries is for the next run that uses them, or for a person.
    """
    ledger, scope = context.ledger, context.scope
    routes = [route.row.id for route in context.job.routes if not route.repeats and not route.asked]
    if routes:
        record(context, routes, ENDED)
    others = set(ledger.uncertain.routes(account_id=scope.account_id)).difference(routes)
    number = ledger.uncertain.record(scope, sorted(others), ENDED) if others else 0
    if number:
        line = f"the outcome of {number:,} deliveries of other jobs or former destinations is not known"
        context.note(f"{line} and recorded as uncertain; see: syncd errors")


def hold_predecessors(context: Context) -> None:
    """Hold what was sent to the same recipient by a destination used before; call it before a listing."""
    held = context.ledger.uncertain.hold_predecessors(context.scope)
    if held:
        line = f"{held:,} deliveries were made before, or may have been, by a destination that is not in use any more"
        context.note(f"{line}: held for you; see: syncd errors {context.job.name}")


def record(context: Context, route_ids: Sequence[int], reason: str, keys: Collection[Key] | None = None) -> None:
    """Record what is `sending` on these routes (all of it, or `keys`) as uncertain, and resolve it."""
    resolve(context, context.ledger.uncertain.record(context.scope, route_ids, reason, keys))


def resolve(context: Context, number: int) -> None:
    """Send uncertain deliveries again, or hold them; `number` of them were just recorded."""
    waiting = {(key, route.row.id) for route in context.job.routes for key in _look_for(context, route)}
    resolved = context.ledger.uncertain.resolve(context.scope, context.job.hold, waiting)
    context.report.uncertain += number
    if resolved.resent or resolved.held:
        what = f"{resolved.resent:,} are sent again, {resolved.held:,} held for you"
        context.note(f"the outcome of {number:,} deliveries is not known and recorded as uncertain: {what}")


def _look_for(context: Context, route: Route) -> list[Key]:
    """Look for the uncertain deliveries of a route in the account of its recipient; returns those that stay uncertain.

    What is there is committed as delivered.
    """
    if route.probe is None:
        return []
    rows = context.ledger.uncertain.sought(context.scope, route.row.id)
    if not rows:
        return []
    scopes = context.ledger.mailboxes.find(context.scope)
    sought = [_sought(context, row, scopes[row.mailbox_id]) for row in rows if row.mailbox_id in scopes]
    waiting = [row.key for row in rows if row.mailbox_id not in scopes]  # of an account that the job read before
    if not sought:
        return waiting
    try:
        found = route.probe.find(sought)
    except Cancelled:
        raise
    except SyncdError as error:
        context.note(f"{route.name}: {len(sought):,} deliveries stay uncertain, they could not be looked for: {error}")
        return waiting + [one.key for one in sought]
    there = [
        (route.row.id, Outcome(one.key, Verdict.DELIVERED, Receipt(one.sha256, found[one.key])))
        for one in sought
        if one.key in found
    ]
    context.ledger.commit(context.scope, [], there, [])
    early = [one.key for one in sought if one.key not in found and abs(clock.now() - one.noticed) < PATIENCE]
    context.note(f"{route.name}: {len(sought):,} uncertain deliveries were looked for: {len(there):,} have arrived")
    if early:
        minutes = PATIENCE // timedelta(minutes=1)
        context.note(f"{route.name}: {len(early):,} may be on their way still, and are sent again after {minutes} min")
    return waiting + early


def _sought(context: Context, row: SoughtRow, scope: MailboxScope) -> Sought:
    ref = MessageRef(origin(context.job.account, scope.mailbox, row.epoch), row.uid, row.occurrence)
    since = row.since if row.since <= clock.now() else LONG_AGO  # nobody knows when, by a clock that was ahead
    return Sought(row.key, ref, row.octets, row.sha256, since, row.noticed)
