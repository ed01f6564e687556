"""The reader thread: owns a session of the source from sign-in to farewell, and fills the pipe.

It changes nothing that other threads see: what it finds out it tells as events, and it decides from values of its own.
Where the source takes several sessions, others help with the mailboxes that are due (`helpers.py`).
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Sequence
from datetime import timedelta

from syncd import clock
from syncd.db.rows import KnownMailbox, Suspension
from syncd.destinations.base import Filing
from syncd.engine.context import Context
from syncd.engine.events import Mapped, SignedIn
from syncd.engine.exit_codes import ExitCode
from syncd.engine.helpers import Helpers, MailboxQueue
from syncd.engine.job import Route
from syncd.engine.losses import Losses
from syncd.engine.mapping import clash_line
from syncd.engine.outlook import Outlook
from syncd.engine.pipe import Pipe
from syncd.engine.plan import Visit, visit
from syncd.engine.seen import Seen
from syncd.engine.suspension import Known, begins_behind, connect, source_gives, source_refuses
from syncd.engine.unmatched import nothing_chosen, unmatched
from syncd.engine.visits import Visits
from syncd.errors import MailboxRefused, NoHeaders, SyncdError, Throttled
from syncd.mail.listing import Totals
from syncd.mail.mailbox import Mailbox, Unread
from syncd.sources.base import Hides, LeavesOut, SourceSession

NOTHING_LISTED = Totals(0, 0)
GIVEN_UP = "session after session broke off here; it is left for the next run, the other mailboxes follow"


class Reader(threading.Thread):
    """Connect, list mailboxes, visit each that may have changed; then QUIT, if everything retrieved is durable.

    Some servers drop or hide what was retrieved once a session ends well (RFC 1939 §8 lets them), so a
    session whose messages are not all stored by a destination is dropped without QUIT.
    """

    def __init__(
        self, context: Context, pipe: Pipe, routes: Sequence[Route], known: Known, *, dry_run: bool = False
    ) -> None:
        """`routes` take deliveries in this run; `known` is from its start. With `dry_run=True` nothing is fetched."""
        super().__init__(name=f"reader {context.job.name}", daemon=True)
        self.cpu_s = 0.0  # of this thread, when it has ended
        self.waits = False  # for destinations that are being opened: nothing is fetched for one that fails
        self._bound = contextvars.copy_context()  # so that its log lines carry run and job as well
        self._context = context
        self._inlet = pipe.inlet(context.room)
        self._routes = routes
        self._lately: Known | None = known  # for the first session
        self._told_unmatched = False
        self._dry_run = dry_run
        self._seen = Seen()
        self._losses = Losses()
        self._outlook = Outlook(routes) if dry_run else None
        self._visits = Visits(context, self._inlet, context.room, routes, self._seen, outlook=self._outlook)
        self._helpers = Helpers(context, pipe, routes, self._seen)

    def run(self) -> None:
        """The thread's body; whatever happens reaches the writer through the pipe."""
        error: BaseException | None = None
        try:
            self._bound.run(self._sessions)
        except BaseException as caught:  # noqa: BLE001  handed to the thread that can judge it
            error = caught
        self.cpu_s = time.thread_time() + self._helpers.cpu_s
        self._inlet.end(error)

    def leave(self) -> None:
        """From the writer's thread, when nobody takes what is read any more: wait for no room."""
        self._visits.door.close()
        self._helpers.leave()

    def _sessions(self) -> None:
        """Runs a session; another at once where that helps (see `losses`), and while pages of mail follow."""
        more = True
        while more:
            try:
                more = self._session()
            except SyncdError as error:
                if not self._losses.may_go_on(error):
                    raise
                self._visits.with_headers = not isinstance(error, NoHeaders)
                self._context.note(str(error))
                self._visits.give_back()

    def _session(self) -> bool:
        """From sign-in to farewell; returns whether another session is likely to show more."""
        context = self._context
        if context.slice.over:
            context.leave_more()
            return False
        left_s = context.pause.left_s
        if not context.slice.waits(left_s) and self._visits.with_headers:  # what headers did would be forgotten
            context.leave_more(clock.now() + timedelta(seconds=left_s))
            return False
        context.pause.wait(context.room)
        self._seen.phases.clear()
        self._visits.begin("connecting")
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
        patient = context.slice.patient
        return connect(context.job, context.ledger, patient=patient, dry_run=self._dry_run, lately=lately)

    def _lifting(self, known: Suspension | None, session: SourceSession) -> int:
        """Visit the mailboxes. A message that comes lifts the suspension `known`, a refusal of all suspends again."""
        job, ledger, before = self._context.job, self._context.ledger, self._inlet.handed_over()
        self._visits.behind = begins_behind(known)
        try:
            new = self._mailboxes(session, helped=known is None and not self._dry_run)
        except Throttled as error:
            came = self._inlet.handed_over() > before
            raise source_refuses(job, ledger, error, None if came else known) from error
        came = self._inlet.handed_over() > before
        if known is not None and not self._dry_run and (came or not self._context.slice.over):
            source_gives(job, ledger)
        return new

    def _mailboxes(self, session: SourceSession, *, helped: bool) -> int:
        """Visit the mailboxes, one after the other; returns how many messages are new.

        An error of one mailbox is noted, and the next mailbox follows. With `helped=True` other sessions visit some.
        """
        self._visits.begin("listing")
        before, due = self._seen.new, MailboxQueue(self._due(session))
        if helped:
            self._helpers.begin(due)
        try:
            self._visit_all(session, due)
        finally:
            due.close()
            self._helpers.join()
        if self._outlook is not None:
            self._context.told.put(Mapped(self._context.job.name, self._outlook.plans))
        return self._seen.new - before

    def _visit_all(self, session: SourceSession, due: MailboxQueue) -> None:
        if not due and self._seen.mailboxes:
            self._visits.tell_plan()
        while (known := due.take(wait=True)) is not None:
            if self._context.slice.over:
                self._seen.changed = True
                self._visits.tell_plan()
                self._context.leave_more()
                break
            self._losses.at = name = known.scope.mailbox.name
            if self._losses.gives_up(name):
                self._visits.refuse(known, MailboxRefused(GIVEN_UP))
            else:
                alone = not (self._helpers or self._losses)  # nobody else takes the next one, no session was lost
                self._visits.visit(session, known, due.following if alone else None)
            self._losses.at = b""
            due.done()

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
        others: list[Mailbox] = []
        for chunk in session.mailboxes():
            chosen = [mailbox for mailbox in chunk if chooses(mailbox)]
            mailboxes += chosen
            others += [mailbox for mailbox in chunk if not chooses(mailbox)]
            if self._outlook is not None:
                for mailbox in chunk:
                    self._outlook.leave_out(mailbox)
            for known in ledger.mailboxes.known(scope, chosen):
                listed.add(known.scope.mailbox_id)
                if self._outlook is not None:
                    self._outlook.take(known)
                if visit(known) is Visit.LIST:
                    due.append(known)
                else:
                    self._seen.skip(known)
        unread = self._tell_unread(session)
        others += [Mailbox(part.name, part.path) for part in unread if part.path]
        for gone in ledger.mailboxes.unlisted(scope, listed):
            if not chooses(gone.mailbox) or any(part.may_hold(gone.mailbox.name) for part in unread):
                continue
            with ledger.listing(gone) as listing:
                listing.record(NOTHING_LISTED)
            self._seen.changed = True
        others += session.left_out if isinstance(session, LeavesOut) else ()
        self._tell_unmatched([*mailboxes, *others], changed=bool(due) or self._outlook is not None)
        self._seen.mailboxes = len(listed)
        refused = self._refused(mailboxes, due)
        if self._outlook is not None:
            self._outlook.refuse(refused)
        due = [known for known in due if known.scope.mailbox.name not in refused]
        if self._visits.note([known for known in due if known.scope.mailbox.messages is not None]):
            return due
        self._seen.changed = True
        return [known for known in due if known.scope.mailbox.messages != 0 or known.present]

    def _tell_unread(self, session: SourceSession) -> Sequence[Unread]:
        """Note what could not be read, unless the job leaves it out; returns all of it."""
        unread = session.unread if isinstance(session, Hides) else ()
        for part in unread:
            if part.path and self._context.job.selection.excludes(Mailbox(part.name, part.path)):
                continue
            self._seen.changed = True
            if part.anywhere:  # damage does not mend itself
                self._context.note(f"{part.why}; all else is not affected", ExitCode.WAITING)
                continue
            line = f"{part.why}; all else is not affected (`exclude` of the job's `mailboxes` can leave it out)"
            self._context.note(line, ExitCode.TEMPORARY)
        return unread

    def _tell_unmatched(self, mailboxes: Sequence[Mailbox], *, changed: bool) -> None:
        """Note, once in a run, what the job says of mailboxes that are not there; a poll with nothing new is short."""
        if self._told_unmatched:
            return
        self._told_unmatched = True
        job = self._context.job
        if nothing := nothing_chosen(job.selection, mailboxes, job.account.name):
            self._context.note(nothing, ExitCode.CONFIG_INVALID)
            return
        if not changed and any(map(job.selection.chooses, mailboxes)):
            return
        maps = {route.name: route.paths for route in job.routes}
        for line in unmatched(job.selection, maps, mailboxes, job.account.name):
            self._context.note(line)

    def _refused(self, mailboxes: Sequence[Mailbox], due: Sequence[KnownMailbox]) -> set[bytes]:
        """Refuse mailboxes that would become one at a destination; returns their names.

        A server is signed in to for that (a special use decides on a path) where there are two mailboxes, and one is
        due; those that were refused before are.
        """
        refused: set[bytes] = set()
        opened = self._dry_run
        if due and (self.waits or len(mailboxes) > 1) and not opened:
            self._inlet.open_destinations(due[0].scope)
            opened = True
        for route in tuple(self._routes):
            if not isinstance(route.destination, Filing) or (route.archive is None and not opened):
                continue
            route.paths.give_way(mailboxes, route.destination.mailbox_key)
            for clash in route.paths.clashes(mailboxes, route.destination.mailbox_key):
                self._context.note(clash_line(clash, route.name), ExitCode.CONFIG_INVALID)
                refused.update(mailbox.name for mailbox in clash.mailboxes)
        self._seen.changed |= bool(refused)
        return refused
