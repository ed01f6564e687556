"""Deliveries of which nobody knows whether they happened: recorded, told, and settled by their route's policy.

Three ways lead here: a run that ended (killed, power cut) between the last octets of a message and the reply to them,
a destination that says so itself, and one that failed meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from syncd.db.ledger import Scope
from syncd.engine.events import Noted
from syncd.engine.reader import Context

ENDED: Final = "the program ended before it read the reply, so it may have arrived"


def recover(context: Context, scope: Scope) -> None:
    """What an earlier run left `sending` is uncertain; call it before anything is delivered.

    Also on routes that are not in use any more, and of other jobs that read the account: while we have its lease none
    of them is at work. What comes of those is for the next run that uses them, or for a person.
    """
    routes = [route.row.id for route in context.job.routes if not route.repeats]
    if routes:
        doubt(context, scope, routes, ENDED)
    others = set(context.ledger.mail_routes(account_id=scope.account_id)).difference(routes)
    number = context.ledger.doubt(scope, sorted(others), ENDED) if others else 0
    if number:
        line = f"the outcome of {number:,} deliveries of other jobs or former destinations is not known"
        context.listen(Noted(context.job.name, f"{line} and recorded as uncertain; see: syncd errors"))


def hold_elsewhere(context: Context, scope: Scope) -> None:
    """What was sent to the same recipient another way is not sent again by itself; call it before a listing."""
    held = context.ledger.hold_elsewhere(scope)
    if held:
        line = f"{held:,} deliveries were made before, or may have been, by a destination that is not in use any more"
        context.listen(Noted(context.job.name, f"{line}: held for you; see: syncd errors {context.job.name}"))


def doubt(
    context: Context, scope: Scope, route_ids: Sequence[int], reason: str, keys: Collection[int] | None = None
) -> None:
    """What is `sending` on these routes (of `keys`, or all) is uncertain; then see `settle_doubts`."""
    settle_doubts(context, scope, context.ledger.doubt(scope, route_ids, reason, keys))


def settle_doubts(context: Context, scope: Scope, number: int) -> None:
    """Send again or hold whatever is uncertain; `number` of them were just recorded."""
    settled = context.ledger.settle_doubts(scope, context.job.hold)
    context.report.uncertain += number
    if settled.resent or settled.held:
        what = f"{settled.resent:,} are sent again, {settled.held:,} held for you"
        line = f"the outcome of {number:,} deliveries is not known and recorded as uncertain: {what}"
        context.listen(Noted(context.job.name, line))
