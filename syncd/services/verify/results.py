"""The results of a verification: a row of counts for each mailbox and destination, and an entry for each exception."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from syncd.db.rows import MailboxScope, RouteRow
from syncd.mail.mailbox import Mailbox
from syncd.services.verify.copies import Copies
from syncd.services.verify.scratch import Scratch
from syncd.services.verify.values import NOT_LISTED, Case, DestinationProof, MailboxProof, Other, Tally, Verdict


class Destination(NamedTuple):
    """A destination of the job. `copies` is None where it cannot be asked what it has."""

    route: RouteRow
    facts: DestinationProof
    copies: Copies | None


@dataclass(slots=True)
class Compared:
    """A mailbox of the source that is or was compared. `scope` is None where the ledger does not know it."""

    mailbox: Mailbox
    scope: MailboxScope | None
    proof: MailboxProof


@dataclass(slots=True)
class Results:
    """What was found out so far."""

    destinations: tuple[Destination, ...]
    scratch: Scratch
    mailboxes: list[Compared] = field(default_factory=list)
    others: list[Other] = field(default_factory=list)

    def begin(self, mailbox: Mailbox, scope: MailboxScope | None, *, chosen: bool) -> Compared:
        """Begin with a mailbox, the last one of `mailboxes` from now on."""
        tallies = [Tally(one.facts.name) for one in self.destinations] if chosen else []
        proof = MailboxProof(mailbox.path, mailbox.use, chosen=chosen, tallies=tallies)
        self.mailboxes.append(Compared(mailbox, scope, proof))
        return self.mailboxes[-1]

    def tally(self, case: Case) -> Tally:
        """Returns the counts that a message is part of."""
        return self.mailboxes[case.mailbox].proof.tallies[case.destination]

    def tell(self, case: Case, verdict: Verdict, place: str = "") -> None:
        """Give a message its status; `place` is the mailbox at the destination, as far as it is known."""
        self.tally(case).counts[verdict.status] += 1
        if verdict.status not in NOT_LISTED:
            self.scratch.tell(*case, place, verdict.status, verdict.reason)
