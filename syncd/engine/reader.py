"""The reader thread: owns the source's session from sign-in to farewell, and fills the pipe."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from syncd import clock
from syncd.db.ledger import Ledger, ListingSession, Scope, WorkRow
from syncd.engine.anomaly import Anomaly
from syncd.engine.budget import Door, RunRoom
from syncd.engine.events import Listener, Noted, PhaseBegan, Planned, RunReport, SignedIn
from syncd.engine.job import Job, Route
from syncd.engine.pause import Pause
from syncd.engine.pipe import Pipe
from syncd.engine.plan import Action, Rules, plan
from syncd.engine.survey import survey
from syncd.engine.suspension import connect
from syncd.errors import MessageTooLarge, NoHeaders, Retry, SyncdError
from syncd.mail.message import INBOX, Message, MessageRef, Origin
from syncd.sources.base import SourceSession, Wanted

PAGE_ROWS = 1000  # work is read from the ledger in pages: memory stays flat, transactions short


@dataclass(frozen=True, slots=True)
class Context:
    """What reader and writer of one run share."""

    job: Job
    ledger: Ledger
    room: RunRoom
    listen: Listener
    report: RunReport
    pause: Pause = field(default_factory=Pause)


class Reader(threading.Thread):
    """Connect, list, compare, fetch; then QUIT, if and only if everything retrieved is durable.

    Some servers drop or hide what was retrieved once a session ends well (RFC 1939 §8 lets them), so a
    session whose messages are not all held by a destination is dropped without QUIT.
    """

    def __init__(self, context: Context, scope: Scope, pipe: Pipe, routes: Sequence[Route]) -> None:
        """`routes` are those that take deliveries in this run."""
        super().__init__(name=f"reader {context.job.name}", daemon=True)
        self._job = context.job
        self._ledger = context.ledger
        self._room = context.room
        self._door = Door(context.room)
        self._listen = context.listen
        self._report = context.report
        self._pause = context.pause
        self._pipe = pipe
        self._usable = sum(route.bit for route in routes)
        self._with_headers = True  # asked for alone, of what is in doubt (P17: a message may end the session there)
        self.scope = scope  # of a new epoch, when the listing shows that the server renamed everything

    def run(self) -> None:
        """The thread's body; whatever happens reaches the writer through the pipe."""
        error: BaseException | None = None
        try:
            self._sessions()
        except BaseException as caught:  # noqa: BLE001  handed to the thread that can judge it
            error = caught
        self._report.reader_cpu_s = time.thread_time()
        self._pipe.end(error)

    def leave(self) -> None:
        """From the writer's thread, when nobody takes what is read any more: wait for no room."""
        self._door.close()

    def _sessions(self) -> None:
        """One session; another at once where the source says that this helps, and while pages of mail follow."""
        try:
            more = self._session()
        except SyncdError as error:
            if error.retry is not Retry.NOW:
                raise
            self._with_headers = not isinstance(error, NoHeaders)
            self._listen(Noted(self._job.name, str(error)))
            self._pipe.wait_settled()
            self._room.release()  # what was asked for and did not come
            more = self._session()
        while more:
            more = self._session()

    def _session(self) -> bool:
        """From sign-in to farewell; whether another is likely to show more."""
        self._pause.keep(self._room)
        self._listen(PhaseBegan(self._job.name, "connecting"))
        session, signed_in = connect(self._job, self._ledger), clock.monotonic()
        try:
            self._listen(SignedIn(self._job.name, session.info))
            with self._ledger.listing(self.scope) as listing:
                new = self._list(session, listing)
                durable = self._report.dry_run or self._fetch(session, listing)
            if durable:
                session.finish()
            return durable and new > 0 and session.info.pages and not self._report.dry_run
        finally:
            self._pause.begin(signed_in, session.info)
            session.close()

    def _list(self, session: SourceSession, listing: ListingSession) -> int:
        """Record what is there; how many messages are new."""
        self._listen(PhaseBegan(self._job.name, "listing"))
        report = self._report
        totals, found = survey(session, listing, self._job.lifted, with_headers=self._with_headers)
        if found is not None:
            self._distrust(found, listing)
        recorded = listing.record(totals, suspicious=session.info.pages or found is not None)
        if recorded.new or not report.listed:
            report.listed_octets += totals.octets
        report.listed = report.listed + recorded.new if report.listed else totals.messages
        report.new, report.unchanged = report.new + recorded.new, recorded.unchanged
        if not recorded.unchanged:
            messages, octets = listing.outlook(self._job.message_octets)
            report.to_fetch, report.to_fetch_octets = report.fetched + messages, report.fetched_octets + octets
        self._listen(Planned(self._job.name, report.listed, report.new, report.to_fetch, report.to_fetch_octets))
        return recorded.new

    def _distrust(self, found: Anomaly, listing: ListingSession) -> None:
        self._listen(Noted(self._job.name, f"{found.value}; removals at this account are frozen, copying goes on"))
        if found is Anomaly.RENAMED:
            self.scope = listing.bump_epoch(found.value)
        else:
            self._ledger.freeze(self.scope.account_id, found.value)

    def _fetch(self, session: SourceSession, listing: ListingSession) -> bool:
        """Stream what is wanted into the pipe; whether all of it is durable in the end.

        What failed before comes last, each in a stream of its own, what failed least often first: a message at which
        the server breaks off takes nothing with it, and the other suspects get their turn in the next run.
        """
        if self._report.unchanged:
            return True
        if self._report.to_fetch:
            self._listen(PhaseBegan(self._job.name, "fetching"))
        asked: deque[WorkRow] = deque()
        last: list[WorkRow] = []
        self._stream(session, self._wanted(listing, asked, last), asked)
        for row in sorted(last, key=lambda row: (row.attempts, row.number)):
            self._stream(session, iter([_wanted(row)]), deque([row]), alone=True)
        return self._pipe.wait_settled()

    def _stream(
        self, session: SourceSession, wanted: Iterator[Wanted], asked: deque[WorkRow], *, alone: bool = False
    ) -> None:
        """Into the pipe with each answer; `asked` has the rows of what was asked for, in order."""
        account = self._job.account
        origin = Origin(account.uuid, account.name, INBOX, self.scope.epoch)
        for answer in session.fetch(wanted, self._door, alone=alone):
            if answer is None:  # no room left: the writer can only make some with what we hold
                self._pipe.flush()
                continue
            row = asked.popleft()
            if answer.body is not None:
                ref = MessageRef(origin, row.uid, row.occurrence)
                message = Message(row.key, ref, answer.body, answer.flags, answer.internal_date)
                self._pipe.add(message, row.pending_mask & self._usable, row.octets)
            elif answer.error is not None:
                self._room.give([row.octets])
                self._pipe.fail(row.key, answer.error)

    def _wanted(self, listing: ListingSession, asked: deque[WorkRow], last: list[WorkRow]) -> Iterator[Wanted]:
        """What to fetch now, noted in `asked` as it is taken; what is better fetched alone goes to `last`."""
        routes = self._job.routes
        rules = Rules(
            now=clock.now(),
            message_octets=self._job.message_octets,
            archive_mask=sum(route.bit for route in routes if route.archive is not None),
            usable_mask=self._usable,
        )
        after = 0
        while page := listing.work(after, PAGE_ROWS):
            for action, row in plan(page, rules):
                if action is Action.FETCH:
                    asked.append(row)
                    yield _wanted(row)
                elif action is Action.FETCH_LAST:
                    last.append(row)
                elif action is Action.TOO_LARGE:
                    self._pipe.fail(row.key, too_large(row.octets, rules.message_octets))
            after = page[-1].number


def _wanted(row: WorkRow) -> Wanted:
    return Wanted(row.key, row.number, row.uid, row.octets)


def too_large(octets: int, limit: int) -> MessageTooLarge:
    """Why a message is not fetched at all."""
    return MessageTooLarge(
        f"has {octets:,} octets, more than limits.message_octets = {limit:,}; raise the limit to fetch it",
    )
