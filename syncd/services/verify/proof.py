"""The story of a verification: every mailbox of the source, then what was not where its receipt says, then the rest.

For each mailbox and destination two streams in the same order are merged: what the source lists now, and what the
ledger has. So every message of either gets exactly one status, and memory does not grow with the mailbox.

Nothing is written but notes in a temporary file, and no lease is taken: a run may be under way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

from syncd.db.ledger import proof as ledger
from syncd.db.ledger.proof import Known
from syncd.db.rows import MailboxScope
from syncd.errors import MailboxRefused
from syncd.mail.mailbox import INBOX_PATH, Epoch, Mailbox
from syncd.services.verify.comparison import Fact
from syncd.services.verify.examiner import Examiner
from syncd.services.verify.results import Results
from syncd.services.verify.scratch import SOURCE
from syncd.services.verify.search import search
from syncd.services.verify.values import Case, Other, Status, Verdict

if TYPE_CHECKING:
    from syncd.db.database import Database
    from syncd.services.verify.copies import Copies
    from syncd.services.verify.ends import End

CAME_LATER: Final = "it came after the last run; the next run copies it"
REFUSED: Final = "runs copy nothing from its mailbox, which would become one with {}: a run says how to change that"
RENUMBERED: Final = "the server has given the mailbox a new UIDVALIDITY; the next run recognises its messages"

Progress = Callable[[str, int, int], None]  # mailbox, its number, of how many
Place = tuple[bytes, int]  # uid and occurrence


class Met(NamedTuple):
    """A message of the ledger, the source, or both."""

    place: Place
    row: Known | None
    here: Fact | None


class Proof:
    """Compares one job. For one thread."""

    def __init__(self, database: Database, source: End, results: Results, progress: Progress, *, skips: bool) -> None:
        """With `skips=True` the job leaves out what is marked as deleted at the source."""
        self._database = database
        self._source = source
        self._results = results
        self._progress = progress
        self._examiner = Examiner(source, results, skips=skips)
        self._refused: list[
            dict[bytes, str]
        ] = []  # for each destination: mailbox → those that it would become one with

    def compare(self, known: Mapping[bytes, MailboxScope], chooses: Callable[[Mailbox], bool]) -> None:
        """Compare everything. `known`: the mailboxes of the account in the ledger, by name. Raises SyncdError."""
        listed = sorted(self._source.mailboxes(), key=lambda it: (it.path != INBOX_PATH, it.path))
        self._refused = [
            _refused(one.copies, [it for it in listed if chooses(it)]) for one in self._results.destinations
        ]
        names = {it.name for it in listed}
        gone = [scope for name, scope in known.items() if name not in names and chooses(scope.mailbox)]
        for number, mailbox in enumerate(listed, 1):
            self._progress("/".join(mailbox.path), number, len(listed))
            self._mailbox(mailbox, known.get(mailbox.name), chosen=chooses(mailbox))
        for scope in gone:
            self._mailbox(scope.mailbox, scope, chosen=True, listed=False)
        for number in self._numbers:
            self._departed(number)
            search(self._results, self._examiner, number)
            self._count_others(number)

    @property
    def _numbers(self) -> range:
        return range(len(self._results.destinations))

    def _mailbox(self, mailbox: Mailbox, scope: MailboxScope | None, *, chosen: bool, listed: bool = True) -> None:
        """Compare a mailbox of the source. One that is not listed may be there, where it is asked for by its name."""
        proof = self._results.begin(mailbox, scope, chosen=chosen).proof
        if not chosen:
            proof.messages, proof.octets = mailbox.messages or 0, mailbox.octets or 0
            return
        unread = self._source.unread(mailbox)
        if unread and not listed:
            for number in self._numbers:
                self._tell_mailbox(number, Verdict(Status.UNREADABLE, unread))
            return
        try:
            taken = self._source.take_in(SOURCE, mailbox)
        except MailboxRefused as error:
            self._results.scratch.empty(SOURCE)
            for number in self._numbers:
                if listed:
                    self._tell_mailbox(number, Verdict(Status.UNREADABLE, str(error)))
                else:
                    self._merge(number, scope, None)
            return
        proof.messages, proof.octets = self._results.scratch.totals(SOURCE)
        lack = taken.lack or unread
        for number in self._numbers:
            if lack:
                self._tell_mailbox(number, Verdict(Status.UNREADABLE, lack))
            self._merge(number, scope, taken.validity)
            if not proof.messages:
                self._look_for_mailbox(number, mailbox)

    def _merge(self, number: int, scope: MailboxScope | None, validity: Epoch | None) -> None:
        """Examine every message of a mailbox at a destination."""
        at = len(self._results.mailboxes) - 1
        renumbered = scope is not None and validity not in {None, scope.epoch}
        route = self._results.destinations[number].route
        rows = iter(()) if scope is None else ledger.present(self._database, scope, route.id)
        lines = self._results.scratch.ordered(SOURCE)
        met = chain(merged(rows, iter(())), merged(iter(()), lines)) if renumbered else merged(rows, lines)
        for (uid, occurrence), row, here in met:
            case = Case(at, number, uid, occurrence)
            if row is not None:
                self._examiner.examine(case, row, here)
            elif (verdict := self._examiner.left_out(here)) is not None:
                self._results.tell(case, verdict)
            elif others := self._refused[number].get(self._results.mailboxes[at].mailbox.name):
                self._results.tell(case, Verdict(Status.HELD, REFUSED.format(others)))
            else:
                self._results.tell(case, Verdict(Status.WAITING, RENUMBERED if renumbered else CAME_LATER))

    def _look_for_mailbox(self, number: int, mailbox: Mailbox) -> None:
        """See that a mailbox without messages is at the destination, too."""
        copies = self._results.destinations[number].copies
        if copies is None:
            return
        box = copies.expected(mailbox)
        if box is not None and box.closed:
            self._tell_mailbox(number, Verdict(Status.UNREADABLE, box.missing))
        elif box is None or box.missing:
            why = "the mailbox, which is empty, is not at the destination"
            self._tell_mailbox(number, Verdict(Status.REMOVED, why))
        else:
            self._results.tally(Case(len(self._results.mailboxes) - 1, number)).places.add(box.name)

    def _tell_mailbox(self, number: int, verdict: Verdict) -> None:
        self._results.tell(Case(len(self._results.mailboxes) - 1, number), verdict)

    # --- afterwards ------------------------------------------------------------------------------------

    def _departed(self, number: int) -> None:
        """Examine what the ledger has of messages that left the source before."""
        route = self._results.destinations[number].route
        for at, compared in enumerate(self._results.mailboxes):
            if compared.scope is not None and compared.proof.chosen:
                for row in ledger.departed(self._database, compared.scope, route.id):
                    self._examiner.examine_departed(Case(at, number, row.uid, row.occurrence), row)

    def _count_others(self, number: int) -> None:
        destination = self._results.destinations[number]
        for box in destination.copies.boxes.values() if destination.copies is not None else ():
            messages, octets = self._results.scratch.others(box.number)
            if messages:
                alike = self._results.scratch.alike(box.number)
                self._results.others.append(Other(destination.facts.name, box.name, messages, octets, alike))


def _refused(copies: Copies | None, mailboxes: Sequence[Mailbox]) -> dict[bytes, str]:
    """Returns the mailboxes that runs refuse for a destination, and those that each would become one with."""
    clashes = () if copies is None else copies.clashes(mailboxes)
    return {
        it.name: ", ".join("/".join(other.path) for other in clash.mailboxes if other is not it)
        for clash in clashes
        for it in clash.mailboxes
    }


def merged(rows: Iterator[Known], lines: Iterator[tuple[int, Fact]]) -> Iterator[Met]:
    """Merge rows of the ledger and lines of the source, both by uid and occurrence."""
    row, line = next(rows, None), next(lines, None)
    while row is not None or line is not None:
        mine: Place | None = None if row is None else (row.uid, row.occurrence)
        theirs: Place | None = None if line is None else (line[1].uid, line[0])
        place = min(one for one in (mine, theirs) if one is not None)
        yield Met(
            place,
            row if mine == place else None,
            line[1] if line is not None and theirs == place else None,
        )
        row = next(rows, None) if mine == place else row
        line = next(lines, None) if theirs == place else line
