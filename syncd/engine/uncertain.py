"""Deliveries whose outcome nobody knows: recorded, told, and sent again or held by their route's policy.

Three ways lead here: a run that ended (killed, power cut) between the last octets of a message and the reply to them,
a destination that says so itself, and a destination that failed meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from syncd.engine.context import Context
from syncd.mail.message import Key

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
    resolved = context.ledger.uncertain.resolve(context.scope, context.job.hold)
    context.report.uncertain += number
    if resolved.resent or resolved.held:
        what = f"{resolved.resent:,} are sent again, {resolved.held:,} held for you"
        context.note(f"the outcome of {number:,} deliveries is not known and recorded as uncertain: {what}")
