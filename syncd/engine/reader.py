"""The reader thread: owns a session of the source from sign-in to farewell, and fills the pipe.

It changes nothing that other threads see: what it finds out it tells as events, and it decides from values of its own.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from syncd import clock
from syncd.db.ledger import ListingSession
from syncd.db.rows import Freeze, KnownMailbox, ListingReport, MailboxScope, Suspension
from syncd.destinations.base import Filing
from syncd.engine.budget import Door
from syncd.engine.context import Context
from syncd.engine.events import Planned, SignedIn
from syncd.engine.exit_codes import ExitCode, exit_code
from syncd.engine.fetch import MailboxFetch
from syncd.engine.job import Route
from syncd.engine.losses import Losses
from syncd.engine.mapping import clash_line
from syncd.engine.pipe import Inlet
from syncd.engine.plan import Visit, visit
from syncd.engine.recognition import recognise
from syncd.engine.survey import Survey, survey
from syncd.engine.suspension import Known, begins_behind, connect, source_gives, source_refuses
from syncd.errors import MailboxRefused, NoHeaders, Scope, SyncdError, Throttled
from syncd.mail.listing import Totals
from syncd.mail.mailbox import Mailbox
from syncd.sources.base import OpenMailbox, SourceSession

NOTHING_LISTED = Totals(0, 0)
GIVEN_UP = "session after session broke off here; it is left for the next run, the other mailboxes follow"


class Reader(threading.Thread):
    """Connect, list mailboxes, visit each that may have changed; then QUIT, if everything retrieved is durable.

    Some servers drop or hide what was retrieved once a session ends well (RFC 1939 §8 lets them), so a
    session whose messages are not all stored by a destination is dropped without QUIT.
    """

    def __init__(
        self, context: Context, inlet: Inlet, routes: Sequence[Route], known: Known, *, dry_run: bool = False
    ) -> None:
        """`routes` take deliveries in this run; `known` is from its start. With `dry_run=True` nothing is fetched."""
        super().__init__(name=f"reader {context.job.name}", daemon=True)
        self.cpu_s = 0.0  # of this thread, when it has ended
        self._bound = contextvars.copy_context()  # so that its log lines carry run and job as well
        self._context = context
        self._door = Door(context.room)
        self._inlet = inlet
        self._routes = routes
        self._lately: Known | None = known  # for the first session
        self._usable = sum(route.bit for route in routes)
        self._dry_run = dry_run
        self._ahead = (0, 0)  # messages and octets of the mailboxes that a dry run has listed
        self._with_headers = True  # of suspect lines, alone (P17: a message may end the session there)
        self._seen = _Seen()
        self._losses = Losses()
        self._behind = False  # this session begins behind the messages that the last ones were refused
        self._phases: set[str] = set()  # that were told in this session

    def run(self) -> None:
        """The thread's body; whatever happens reaches the writer through the pipe."""
        error: BaseException | None = None
        try:
            self._bound.run(self._sessions)
        except BaseException as caught:  # noqa: BLE001  handed to the thread that can judge it
            error = caught
        self.cpu_s = time.thread_time()
        self._inlet.end(error)

    def leave(self) -> None:
        """From the writer's thread, when nobody takes what is read any more: wait for no room."""
        self._door.close()

    def _sessions(self) -> None:
        """Runs a session; another at once where that helps (see `losses`), and while pages of mail follow."""
        more = True
        while more:
            try:
                more = self._session()
            except SyncdError as error:
                if not self._losses.may_go_on(error):
                    raise
                self._with_headers = not isinstance(error, NoHeaders)
                self._context.note(str(error))
                self._give_back()

    def _session(self) -> bool:
        """From sign-in to farewell; returns whether another session is likely to show more."""
        context = self._context
        if context.slice.over:
            context.leave_more()
            return False
        left_s = context.pause.left_s
        if not context.slice.waits(left_s) and self._with_headers:  # what headers did to the session would be forgotten
            context.leave_more(clock.now() + timedelta(seconds=left_s))
            return False
        context.pause.wait(context.room)
        self._phases.clear()
        self._begin("connecting")
        (session, known), signed_in = self._connect(), clock.monotonic()
        try:
            context.tell(SignedIn(context.job.name, session.info))
            new = self._lifting(known, session)
            durable = self._dry_run or self._inlet.wait_written()
            if durable:
                session.finish()
            return durable and new > 0 and session.info.pages and not self._dry_run
        finally:
            try:
                context.pause.begin(signed_in, session.info)
            finally:
                session.close()

    def _connect(self) -> tuple[SourceSession, Suspension | None]:
        context, lately, self._lately = self._context, self._lately, None
        return connect(context.job, context.ledger, patient=context.slice.patient, lately=lately)

    def _lifting(self, known: Suspension | None, session: SourceSession) -> int:
        """Visit the mailboxes. A message that comes lifts the suspension `known`, a refusal of all suspends again."""
        job, ledger, before = self._context.job, self._context.ledger, self._inlet.handed_over()
        self._behind = begins_behind(known)
        try:
            new = self._mailboxes(session)
        except Throttled as error:
            came = self._inlet.handed_over() > before
            raise source_refuses(job, ledger, error, None if came else known) from error
        came = self._inlet.handed_over() > before
        if known is not None and not self._dry_run and (came or not self._context.slice.over):
            source_gives(job, ledger)
        return new

    def _mailboxes(self, session: SourceSession) -> int:
        """Visit the mailboxes, one after the other; returns how many messages are new.

        An error of one mailbox is noted, and the next mailbox follows.
        """
        self._begin("listing")
        new = 0
        due = self._due(session)
        for known in due:
            if self._context.slice.over:
                self._seen.changed = True
                self._tell_plan()
                self._context.leave_more()
                break
            self._losses.at = name = known.scope.mailbox.name
            try:
                if self._losses.gives_up(name):
                    raise MailboxRefused(GIVEN_UP)
                new += self._visit(session, known)
            except SyncdError as error:
                if error.scope is not Scope.MAILBOX:
                    raise
                self._give_back()
                self._seen.changed = True
                self._context.note(f"{'/'.join(known.scope.mailbox.path)}: {error}", exit_code(error))
                self._tell_plan()
            self._losses.at = b""
        if not due:
            self._tell_plan()
        return new

    def _due(self, session: SourceSession) -> list[KnownMailbox]:
        """Compare the mailboxes that the job reads with what the ledger knows; returns those to be listed.

        A mailbox that is not there any more is recorded as empty, before the others are visited: a message that moved
        from there is recognised where it turns up.
        """
        ledger, scope, due = self._context.ledger, self._context.scope, []
        chooses = self._context.job.selection.chooses
        self._seen.begin()
        listed: set[int] = set()
        mailboxes: list[Mailbox] = []
        for chunk in session.mailboxes():
            chosen = [mailbox for mailbox in chunk if chooses(mailbox)]
            mailboxes += chosen
            for known in ledger.mailboxes.known(scope, chosen):
                listed.add(known.scope.mailbox_id)
                if visit(known) is Visit.LIST:
                    due.append(known)
                else:
                    self._seen.skip(known)
        for gone in ledger.mailboxes.unlisted(scope, listed):
            if not chooses(gone.mailbox):
                continue
            with ledger.listing(gone) as listing:
                listing.record(NOTHING_LISTED)
            self._seen.changed = True
        self._seen.mailboxes = len(listed)
        refused = self._refused(mailboxes)
        due = [known for known in due if known.scope.mailbox.name not in refused]
        if self._note([known for known in due if known.scope.mailbox.messages is not None]):
            return due
        self._seen.changed = True
        return [known for known in due if known.scope.mailbox.messages != 0 or known.present]

    def _note(self, mailboxes: Sequence[KnownMailbox]) -> bool:
        """Have archives record the mailboxes of which no message is known, before the ledger has them as listed.

        Otherwise an empty one would never be. All at once, because each time costs an fsync. Where the list of
        mailboxes does not say how much is in them, only those that turn out empty; the others are recorded with their
        messages. Returns whether all archives have recorded these.
        """
        new = [_scope(known) for known in mailboxes if not known.present]
        return self._dry_run or not new or self._inlet.note(new)

    def _refused(self, mailboxes: Sequence[Mailbox]) -> set[bytes]:
        """Refuse mailboxes that would become one at a destination; returns their names."""
        refused: set[bytes] = set()
        for route in self._routes:
            if not isinstance(route.destination, Filing):
                continue
            for clash in route.paths.clashes(mailboxes, route.destination.mailbox_key):
                for mailbox in clash.mailboxes:
                    line = f"{'/'.join(mailbox.path)}: {clash_line(clash, mailbox, route.name)}"
                    self._context.note(line, ExitCode.CONFIG_INVALID)
                    refused.add(mailbox.name)
        self._seen.changed |= bool(refused)
        return refused

    def _visit(self, session: SourceSession, known: KnownMailbox) -> int:
        """Open a mailbox, record what is there, fetch what is due; returns how many messages are new."""
        context = self._context
        opened = session.open(known.scope.mailbox)
        with context.ledger.listing(replace(known.scope, mailbox=opened.mailbox)) as listing:
            recorded = self._list(session, opened, listing, known)
            due = (0, 0) if recorded.unchanged else listing.outlook(context.job.message_octets)
            self._tell_plan(*due, mailbox=known.scope.mailbox)
            if self._dry_run:
                self._ahead = (self._ahead[0] + due[0], self._ahead[1] + due[1])
            elif not recorded.unchanged:
                if due[0]:
                    self._begin("fetching")
                    self._take_archives()
                fetch = MailboxFetch(context, self._inlet, self._door, opened, listing, self._usable)
                fetch.run(behind=self._behind)
        return recorded.new

    def _take_archives(self) -> None:
        """Take the leases of the archives, so that nothing is asked for in vain. Raises LeaseHeld."""
        for route in self._routes:
            route.take()

    def _list(
        self, session: SourceSession, opened: OpenMailbox, listing: ListingSession, known: KnownMailbox
    ) -> ListingReport:
        lifted, pages = self._context.job.lifted.get(listing.scope.mailbox_id), session.info.pages
        seen = survey(opened, listing, pages=pages, lifted=lifted, with_headers=self._with_headers)
        if not seen.totals.messages and known.scope.mailbox.messages is None:
            self._note([known._replace(scope=replace(known.scope, mailbox=opened.mailbox))])
        self._distrust(seen, listing)
        recorded = listing.record(seen.totals, suspicious=pages or seen.found is not None)
        self._seen.list(listing.scope.mailbox_id, seen.totals, recorded)
        if seen.validity is not None and recorded.new and self._with_headers and not self._dry_run:
            self._recognise(opened, listing)
        return recorded

    def _recognise(self, opened: OpenMailbox, listing: ListingSession) -> None:
        known = recognise(opened, listing, self._context.ledger)
        if known:
            name = "/".join(listing.scope.mailbox.path)
            self._context.note(f"{name}: {known:,} messages are known by header and size, and not fetched again")

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

    def _give_back(self) -> None:
        """Give back the room of messages that were asked for and did not come."""
        self._inlet.wait_written()
        self._context.room.release()

    def _begin(self, phase: str) -> None:
        """Tell of a phase, once in a session: with many mailboxes listing and fetching take turns."""
        if phase not in self._phases:
            self._phases.add(phase)
            self._context.begin(phase)

    def _tell_plan(self, messages: int = 0, octets: int = 0, mailbox: Mailbox | None = None) -> None:
        """Tell what lies ahead: so many messages of the mailbox that is open, beside what was handed over before."""
        self._inlet.flush()
        messages, octets = messages + self._ahead[0], octets + self._ahead[1]
        messages, octets = self._inlet.messages + messages, self._inlet.octets + octets
        self._context.tell(self._seen.planned(self._context.job.name, messages, octets, mailbox))


def _scope(known: KnownMailbox) -> MailboxScope:
    """Returns the mailbox in the epoch that it has at its source."""
    scope = known.scope
    return scope if scope.mailbox.validity is None else replace(scope, epoch=scope.mailbox.validity)


@dataclass(slots=True)
class _Seen:
    """Counts of what the sessions of this run have listed. `messages`: mailbox id → messages; `total` is their sum."""

    messages: dict[int, int] = field(default_factory=dict)
    total: int = 0
    octets: int = 0
    new: int = 0
    changed: bool = False
    mailboxes: int = 0
    opened: int = 0

    def begin(self) -> None:
        """A session begins, which shows all mailboxes again."""
        self.changed, self.opened = False, 0

    def skip(self, known: KnownMailbox) -> None:
        """Count a mailbox that is as it was."""
        self._count(known.scope.mailbox_id, self.messages.get(known.scope.mailbox_id, known.present))

    def list(self, mailbox_id: int, totals: Totals, recorded: ListingReport) -> None:
        """Count a mailbox that was listed. A server that pages its listing shows other messages in each session."""
        before = self.messages.get(mailbox_id)
        if recorded.new or before is None:
            self.octets += totals.octets
        self._count(mailbox_id, totals.messages if before is None else before + recorded.new)
        self.new += recorded.new
        self.changed |= not recorded.unchanged
        self.opened += 1

    def _count(self, mailbox_id: int, messages: int) -> None:
        self.total += messages - self.messages.get(mailbox_id, 0)
        self.messages[mailbox_id] = messages

    def planned(self, job: str, messages: int, octets: int, mailbox: Mailbox | None) -> Planned:
        """Returns the event that tells it."""
        return Planned(
            job,
            self.total,
            self.new,
            messages,
            octets,
            listed_octets=self.octets,
            unchanged=not self.changed,
            mailboxes=self.mailboxes,
            mailboxes_opened=self.opened,
            mailbox="/".join(mailbox.path) if mailbox is not None and self.mailboxes > 1 else "",
        )
