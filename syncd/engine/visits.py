"""Visits mailboxes by one session of the source: lists each, records it, and fetches what is due into the pipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from syncd.db.ledger import ListingSession
from syncd.db.rows import Freeze, KnownMailbox, ListingReport, MailboxScope
from syncd.engine.budget import Door, RunRoom
from syncd.engine.context import Context
from syncd.engine.exit_codes import exit_code
from syncd.engine.fetch import MailboxFetch
from syncd.engine.job import Route
from syncd.engine.outlook import Outlook
from syncd.engine.pipe import Inlet
from syncd.engine.recognition import recognise
from syncd.engine.seen import Seen
from syncd.engine.survey import Survey, survey
from syncd.errors import Scope, SyncdError, count
from syncd.mail.mailbox import Mailbox
from syncd.sources.base import OpenMailbox, SourceSession


class Visits:
    """The visits of one reader; `seen` is common to all readers of a run. For one thread, except `door`."""

    def __init__(
        self,
        context: Context,
        inlet: Inlet,
        room: RunRoom,
        routes: Sequence[Route],
        seen: Seen,
        *,
        outlook: Outlook | None = None,
    ) -> None:
        """`routes` take deliveries in this run. A dry run has an `outlook`, and fetches nothing."""
        self.inlet = inlet
        self.room = room
        self.door = Door(room)
        self.seen = seen
        self.with_headers = True  # of suspect lines, alone (P17: a message may end the session there)
        self.behind = False  # this session begins behind the messages that the last ones were refused
        self._context = context
        self._routes = routes
        self._outlook = outlook
        self._ahead = (0, 0)  # messages and octets of the mailboxes that a dry run has listed

    @property
    def _usable(self) -> int:
        """Returns the routes (bits) that still take deliveries."""
        return sum(route.bit for route in tuple(self._routes))  # the writer may leave one out meanwhile

    def visit(self, session: SourceSession, known: KnownMailbox, following: Mailbox | None = None) -> int:
        """Visit a mailbox; returns how many messages are new. An error of the mailbox is noted.

        `following` is the mailbox that this session visits next, if that is known.
        """
        try:
            return self._visit(session, known, following)
        except SyncdError as error:
            if error.scope is not Scope.MAILBOX:
                raise
            self.refuse(known, error)
            return 0

    def refuse(self, known: KnownMailbox, error: SyncdError) -> None:
        """Note an error of a mailbox."""
        self.give_back()
        self.seen.changed = True
        self._context.note(f"{'/'.join(known.scope.mailbox.path)}: {error}", exit_code(error))
        self.tell_plan(mailbox=known.scope.mailbox)

    def give_back(self) -> None:
        """Give back the room of messages that were asked for and did not come."""
        self.inlet.wait_written()
        self.room.release()

    def _visit(self, session: SourceSession, known: KnownMailbox, following: Mailbox | None) -> int:
        """Open a mailbox, record what is there, fetch what is due; returns how many messages are new."""
        context = self._context
        opened = session.open(known.scope.mailbox, following=following)
        with context.ledger.listing(replace(known.scope, mailbox=opened.mailbox)) as listing:
            recorded = self._list(session, opened, listing, known)
            due = (0, 0) if recorded.unchanged else listing.outlook(context.job.message_octets)
            self.tell_plan(*due, mailbox=known.scope.mailbox)
            if self._outlook is not None:
                self._outlook.list(known.scope.mailbox, opened.totals(), due)
                self._ahead = (self._ahead[0] + due[0], self._ahead[1] + due[1])
            elif not recorded.unchanged:
                if due[0]:
                    self.begin("fetching")
                    self._take_archives()
                fetch = MailboxFetch(context, self.inlet, self.room, self.door, opened, listing, self._usable)
                fetch.run(behind=self.behind)
                self.inlet.flush()  # the next mailbox may be another session's
        return recorded.new

    def _take_archives(self) -> None:
        """Take the leases of the archives, so that nothing is asked for in vain. Raises LeaseHeld."""
        for route in tuple(self._routes):
            route.take()

    def _list(
        self, session: SourceSession, opened: OpenMailbox, listing: ListingSession, known: KnownMailbox
    ) -> ListingReport:
        lifted, pages = self._context.job.lifted.get(listing.scope.mailbox_id), session.info.pages
        seen = survey(opened, listing, pages=pages, lifted=lifted, with_headers=self.with_headers)
        if not seen.totals.messages and known.scope.mailbox.messages is None:
            self.note([known._replace(scope=replace(known.scope, mailbox=opened.mailbox))])
        self._distrust(seen, listing)
        recorded = listing.record(seen.totals, suspicious=pages or seen.found is not None)
        self.seen.list(listing.scope.mailbox_id, seen.totals, recorded)
        if seen.validity is not None and recorded.new and self.with_headers and self._outlook is None:
            self._recognise(opened, listing)
        return recorded

    def _recognise(self, opened: OpenMailbox, listing: ListingSession) -> None:
        known = recognise(opened, listing, self._context.ledger)
        if known:
            name = "/".join(listing.scope.mailbox.path)
            self._context.note(f"{name}: {count(known, 'message')} known by header and size, and not fetched again")

    def _distrust(self, seen: Survey, listing: ListingSession) -> None:
        """Freeze removals from a mailbox that looks wrong; begin a new epoch where its messages have new ids."""
        found, scope = seen.found, listing.scope
        if found is not None:
            name = "/".join(scope.mailbox.path)
            self._context.note(f"{name}: {found.reason}; removals from it are frozen, copying goes on")
        if seen.validity is not None:
            listing.bump_epoch(found and found.why, found.reason if found else "", to=seen.validity)
        elif found is not None and found.why is Freeze.RENAMED:
            listing.bump_epoch(found.why, found.reason)
        elif found is not None:
            self._context.ledger.mailboxes.freeze(scope, found.why, found.reason)

    def note(self, mailboxes: Sequence[KnownMailbox]) -> bool:
        """Have archives record the mailboxes of which no message is known, before the ledger has them as listed.

        Otherwise an empty one would never be. All at once, because each time costs an fsync. Where the list of
        mailboxes does not say how much is in them, only those that turn out empty; the others are recorded with their
        messages. Returns whether all archives have recorded these.
        """
        new = [_scope(known) for known in mailboxes if not known.present]
        return self._outlook is not None or not new or self.inlet.note(new)

    def begin(self, phase: str) -> None:
        """Tell of a phase, once in a session: with many mailboxes listing and fetching take turns."""
        if phase not in self.seen.phases:
            self.seen.phases.add(phase)
            self._context.begin(phase)

    def tell_plan(self, messages: int = 0, octets: int = 0, mailbox: Mailbox | None = None) -> None:
        """Tell what lies ahead: so many messages of the mailbox that is open, beside what was handed over before."""
        self.inlet.flush()
        messages, octets = messages + self._ahead[0], octets + self._ahead[1]
        self.seen.ahead[id(self)] = self.inlet.messages + messages, self.inlet.octets + octets
        self._context.tell(self.seen.planned(self._context.job.name, mailbox))


def _scope(known: KnownMailbox) -> MailboxScope:
    """Returns the mailbox in the epoch that it has at its source."""
    scope = known.scope
    return scope if scope.mailbox.validity is None else replace(scope, epoch=scope.mailbox.validity)
