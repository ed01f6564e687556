"""Conditions that narrow a query to a scope: the one place that says which messages and routes a run is about."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, exists, select

from syncd.db.bulk import number
from syncd.db.models import deliveries, mailboxes, messages
from syncd.db.rows import MailboxScope, RouteRow, RunScope

is_open = deliveries.c.state.in_([number(state) for state in (0, 1, 3, 5)])  # the condition of ix_deliveries_open


def of(scope: RunScope, column: ColumnElement[int] = messages.c.mailbox_id) -> ColumnElement[bool]:
    """Returns the condition that `column` is a mailbox of the scope's account, and not left out."""
    here = select(mailboxes.c.id).where(mailboxes.c.account_id == scope.account_id)
    return column.in_(here.where(mailboxes.c.id.not_in(scope.left_out)) if scope.left_out else here)


def of_named(column: ColumnElement[int] = messages.c.mailbox_id) -> ColumnElement[bool]:
    """Returns the condition of `of` for a statement that is made once; its parameters are those of `named`."""
    left_out = mailboxes.c.id.not_in(bindparam("left_out", expanding=True))
    return column.in_(select(mailboxes.c.id).where(mailboxes.c.account_id == bindparam("account"), left_out))


def named(scope: RunScope) -> dict[str, Any]:
    """Returns the parameters of `of_named`."""
    return {"account": scope.account_id, "left_out": scope.left_out}


def within(scope: RunScope | MailboxScope) -> ColumnElement[bool]:
    """Returns the condition that a message is in the scope's mailbox, or in any mailbox of the run."""
    return of(scope) if isinstance(scope, RunScope) else messages.c.mailbox_id == scope.mailbox_id


def in_present_epoch() -> ColumnElement[bool]:
    """Returns the condition that a message is of the epoch that its own mailbox has now."""
    return exists().where(and_(mailboxes.c.id == messages.c.mailbox_id, mailboxes.c.epoch == messages.c.epoch))


def enabled(scope: RunScope) -> list[RouteRow]:
    """The routes that a run delivers to."""
    return [route for route in scope.routes if route.enabled]


def archive_routes(scope: RunScope) -> list[RouteRow]:
    """The enabled routes to archives, which can be read back."""
    return [route for route in enabled(scope) if route.kind == "archive"]
