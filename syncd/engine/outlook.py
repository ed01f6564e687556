"""What a run would do with each mailbox of the source, and which mailbox it becomes: for dry runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from syncd.db.rows import KnownMailbox
from syncd.destinations.base import Filing, Spelling
from syncd.engine.events import MailboxPlan, PlannedPlace
from syncd.engine.job import Route
from syncd.engine.plan import Would, would
from syncd.mail.listing import Totals
from syncd.mail.mailbox import INBOX_PATH, Mailbox


class Outlook:
    """The plans of one dry run, in the order in which the source lists its mailboxes. For one thread."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = [route for route in routes if isinstance(route.destination, Filing)]
        self._accounts = {route.name for route in routes if isinstance(route.destination, Spelling)}
        self._plans: dict[bytes, MailboxPlan] = {}  # by name
        self._read: list[Mailbox] = []  # that the job reads

    def leave_out(self, mailbox: Mailbox) -> None:
        """Take in a mailbox that the job does not read."""
        plan = MailboxPlan(mailbox.path, mailbox.use, Would.LEFT_OUT, mailbox.messages, mailbox.octets)
        self._plans[mailbox.name] = plan

    def take(self, known: KnownMailbox) -> None:
        """Take in a mailbox that the job reads."""
        mailbox = known.scope.mailbox
        self._read.append(mailbox)
        places = self._places(mailbox)
        plan = would(known, makes=any(it.to in self._accounts and it.path != INBOX_PATH for it in places))
        messages = known.present if mailbox.messages is None and plan is Would.NOTHING else mailbox.messages
        self._plans[mailbox.name] = MailboxPlan(
            mailbox.path, mailbox.use, plan, messages, mailbox.octets, places=places
        )

    def refuse(self, names: Collection[bytes]) -> None:
        """Note that mailboxes are refused. That has decided where the others go."""
        for mailbox in self._read:
            plan = self._plans[mailbox.name]
            would = Would.REFUSE if mailbox.name in names else plan.would
            self._plans[mailbox.name] = replace(plan, would=would, places=self._places(mailbox))

    def list(self, mailbox: Mailbox, totals: Totals, due: tuple[int, int]) -> None:
        """Take in what the listing of a mailbox says, and how many messages and octets are due."""
        before = self._plans[mailbox.name]
        self._plans[mailbox.name] = replace(
            before,
            would=Would.FETCH if totals.messages and due[0] == totals.messages else before.would,
            messages=totals.messages,
            octets=totals.octets,
            to_fetch=due[0],
            to_fetch_octets=due[1],
        )

    def _places(self, mailbox: Mailbox) -> tuple[PlannedPlace, ...]:
        return tuple(_place(route, mailbox) for route in self._routes)

    @property
    def plans(self) -> tuple[MailboxPlan, ...]:
        """The plans so far."""
        return tuple(self._plans.values())


def _place(route: Route, mailbox: Mailbox) -> PlannedPlace:
    path, why = route.paths.explain(mailbox)
    there = route.destination
    return PlannedPlace(route.name, there.path_there(path) if isinstance(there, Spelling) else path, why)
