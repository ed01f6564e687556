"""The one place that removes mail at a source, and only against committed receipts.

A session of its own, mailbox by mailbox: list, verify that the id still names the message we have (the hash of its
header; where the server does not give it, its octets) and that all of it came, commit `removing`, remove. Over POP3
that is DELE, and at the end QUIT, then commit `removed`; over IMAP messages go at once, and `removed` is committed page
by page. A listing that looks wrong freezes removals from its mailbox and is not recorded: that is for the next listing
to find. If the answer or the farewell is lost, nothing is believed: the next listing shows what went.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from syncd import clock
from syncd.db.ledger import ListingSession
from syncd.db.ledger.removal import LEAP, Apart
from syncd.db.rows import MailboxScope, RemovalRow
from syncd.engine.context import Context
from syncd.engine.events import Advanced
from syncd.engine.exit_codes import exit_code
from syncd.engine.fetch import PAGE_ROWS
from syncd.engine.job import RemovalPolicy
from syncd.engine.mapping import ALL
from syncd.engine.progress import Recorder
from syncd.engine.survey import survey
from syncd.engine.suspension import MAX_PAUSE_S
from syncd.errors import Cancelled, ConfirmationNeeded, RemovalsFrozen, Scope, SyncdError, count
from syncd.mail.body import header_hash
from syncd.mail.listing import LineNumber, Wanted
from syncd.mail.message import Key
from syncd.sources.base import OpenMailbox, SourceSession

# Servers are a little off where they count line ends otherwise or guess (RFC 1939 §11); a part left out is more (P33).
SHORT_OCTETS = 1024
SHORT_PERCENT = 5


def remove_at_source(
    context: Context, recorder: Recorder, policy: RemovalPolicy, check_lease: Callable[[], None]
) -> None:
    """Remove what is due. Raises RemovalsFrozen, ConfirmationNeeded, or what the session raises.

    Mailboxes whose removals are frozen are passed over; RemovalsFrozen names them when the others are done.
    """
    ledger, scope, report = context.ledger, context.scope, context.report
    apart = _apart(context, policy)
    delivered_before = _delivered_before(context, policy.after, apart)
    due = ledger.removals.due(scope, delivered_before, apart)
    report.to_remove = sum(due.values())
    for name, number in ledger.removals.waits(scope, delivered_before, apart).items():
        context.note(f"{count(number, 'message')} not removed before job {name} is done with the same mail")
    if not due or report.dry_run:
        return
    if context.slice.over:
        context.leave_more()
        return
    frozen = {it.mailbox_id: it.reason for it in ledger.mailboxes.frozen(scope.account_id) if it.mailbox_id in due}
    scopes = ledger.mailboxes.find(scope)
    removal = _Removal(context, recorder, policy, delivered_before, apart, scopes, check_lease, frozen)
    free = {mailbox_id: number for mailbox_id, number in due.items() if mailbox_id not in frozen}
    if free:
        _confirm(context, policy, sum(free.values()))
        if _may_sign_in(context, sum(free.values())):
            context.begin("removing")
            removal.run(list(free))
    if frozen and not context.slice.over:
        raise removal.stopped(due)


def _apart(context: Context, policy: RemovalPolicy) -> Apart:
    r"""Returns the mailboxes that other jobs on the account do not read: those do not wait for them.

    A mailbox with \All shows what is in the others, too, and what is removed from it goes there as well: every job on
    the account is waited for.
    """
    if not policy.beside:
        return {}
    whole, mailboxes = replace(context.scope, left_out=()), context.ledger.mailboxes
    views = {mailbox_id for mailbox_id, it in mailboxes.find(whole).items() if it.mailbox.use == ALL}
    found = {job_id: mailboxes.narrowed(whole, reads).left_out for job_id, reads in policy.beside.items()}
    return {job_id: frozenset(left_out) - views for job_id, left_out in found.items()}


def _delivered_before(context: Context, age: timedelta, apart: Apart) -> datetime | None:
    """Returns the instant that decides by age; None where none is asked for.

    Time that a clock leapt over does not count.
    """
    if not age:
        return None
    removals, scope, by_clock = context.ledger.removals, context.scope, clock.now() - age
    sure = removals.old_enough(scope, age)
    if by_clock - sure >= LEAP:
        kept = sum(removals.due(scope, by_clock, apart).values()) - sum(removals.due(scope, sure, apart).values())
        line = f"between two runs the clock went ahead by more than {LEAP.days} days, which do not count as age"
        context.note(f"{line}: {count(kept, 'message')} kept for {age.days} days more")
    return sure


def _confirm(context: Context, policy: RemovalPolicy, number: int) -> None:
    job = context.job
    if not policy.confirmed and not (policy.confirm is not None and policy.confirm(number)):
        raise ConfirmationNeeded(
            f"{count(number, 'message')} would be removed from {job.account.name}; nothing was removed,"
            f" set confirm_removal = true in [jobs.{job.name}] to allow it"
        )


def _may_sign_in(context: Context, number: int) -> bool:
    """Wait until the server lets us sign in again; False where that is too long.

    A worker's run leaves the removal to its next slice, which begins with it: a session before it would have the server
    ask for the same pause again.
    """
    left_s = context.pause.left_s
    if not context.slice.waits(left_s):
        context.report.removals_put_off = number
        context.leave_more(clock.now() + timedelta(seconds=left_s))
        return False
    if left_s > MAX_PAUSE_S:
        what = f"{count(number, 'message')} not removed"
        context.note(f"{what}: the server wants {left_s:,.0f} s until the next sign-in")
        return False
    if left_s:
        context.note(
            f"the server wants {left_s:,.0f} s until the next sign-in (LOGIN-DELAY),"
            f" then the removal of {count(number, 'message')} goes on"
        )
        context.pause.wait(context.room)
    return True


@dataclass(slots=True)
class _Removal:
    """One session that removes. `frozen`: mailbox id → why its removals are frozen, added to on the way."""

    context: Context
    recorder: Recorder
    policy: RemovalPolicy
    delivered_before: datetime | None
    apart: Apart
    scopes: Mapping[int, MailboxScope]
    check_lease: Callable[[], None]
    frozen: dict[int, str] = field(default_factory=dict)
    marked: list[Key] = field(default_factory=list)

    def run(self, mailbox_ids: list[int]) -> None:
        """Remove from these mailboxes. What was only marked is final with the farewell."""
        context = self.context
        session = context.job.source.connect()
        try:
            for mailbox_id in mailbox_ids:
                if context.slice.over:
                    context.leave_more()
                    break
                self._mailbox(session, self.scopes[mailbox_id])
            self.check_lease()
            context.report.removal_unknown = len(self.marked)
            session.finish()
            self._gone(self.marked)
            context.report.removal_unknown = 0
        finally:
            session.close()

    def stopped(self, due: Mapping[int, int]) -> RemovalsFrozen:
        """Returns the error that names what is frozen, of the messages that were `due` by mailbox."""
        job = self.context.job
        number = sum(due[mailbox_id] for mailbox_id in self.frozen)
        where = "; ".join(f"{_name(self.scopes[mailbox_id])}: {why}" for mailbox_id, why in self.frozen.items())
        return RemovalsFrozen(
            f"{count(number, 'message')} due for removal, but removals at {job.account.name} are frozen"
            f" ({where}); look at the account, then run `syncd run {job.name} --unfreeze`"
        )

    def _mailbox(self, session: SourceSession, scope: MailboxScope) -> None:
        """Remove what may go from one mailbox. An error of this mailbox alone is noted."""
        context = self.context
        try:
            opened = session.open(scope.mailbox, removes=True)
            with context.ledger.listing(replace(scope, mailbox=opened.mailbox)) as listing:
                if self._record(opened, listing, pages=session.info.pages):
                    self._mark(opened, listing)
        except SyncdError as error:
            if error.scope is not Scope.MAILBOX:
                raise
            context.note(f"{_name(scope)}: {error}", exit_code(error))

    def _record(self, opened: OpenMailbox, listing: ListingSession, *, pages: bool) -> bool:
        """List the mailbox; returns False, with removals frozen, where the listing looks wrong."""
        scope, job = listing.scope, self.context.job
        totals, found, _ = survey(opened, listing, pages=pages, lifted=job.lifted.get(scope.mailbox_id))
        if found is not None:
            self.context.ledger.mailboxes.freeze(scope, found.why, found.reason)
            self.frozen[scope.mailbox_id] = found.reason
            return False
        listing.record(totals, suspicious=pages)
        return True

    def _mark(self, opened: OpenMailbox, listing: ListingSession) -> None:
        """Verify, commit the intent and remove, page by page."""
        context = self.context
        after = LineNumber(0)
        while page := listing.removable(after, PAGE_ROWS, self.delivered_before, self.apart):
            if context.room.cancelled:
                raise Cancelled("cancelled while messages were removed; what was not removed yet stays")
            if context.slice.over:
                context.leave_more()
                return
            self.recorder.idle()
            verified = list(self._verified(opened, page))
            context.ledger.removals.mark_removing(listing.scope, [row.key for row in verified])
            self.check_lease()  # next the server may remove them
            self._remove(opened, verified)
            done = len(self.marked) + context.report.removed
            context.listen(Advanced(context.job.name, "removing", done, context.report.to_remove))
            after = page[-1].number

    def _remove(self, opened: OpenMailbox, verified: list[RemovalRow]) -> None:
        """Have messages removed; commits which are gone, also where an error ends it."""
        gone: list[Key] = []
        try:
            for answer in opened.remove(map(_wanted, verified)):
                if answer.error is not None:
                    self._keep(answer.key, f"not removed: {answer.error}; --unfreeze tries again")
                else:
                    (gone if answer.is_final else self.marked).append(answer.key)
        finally:
            self._gone(gone)

    def _gone(self, keys: list[Key]) -> None:
        if keys:
            self.context.ledger.removals.mark_removed(keys)
            self.context.report.removed += len(keys)

    def _verified(self, opened: OpenMailbox, page: list[RemovalRow]) -> Iterator[RemovalRow]:
        """Yield the messages whose id still names what we fetched, whole. A message that came short is frozen.

        Another message under a known id is for the next listing, which finds it to be new.
        """
        others, silent = _compared(opened, page)
        unproven: set[Key] = set()
        if silent:
            unproven = self._unproven(opened, [row for row in page if row.key in silent], others)
        if others:
            self.context.ledger.removals.mark_missing(sorted(others))
            line = f"the server now shows another message under {len(others):,} known ids"
            self.context.note(f"{line}: they are fetched by the next run")
        for row in page:
            if row.key in others or row.key in unproven:
                continue
            short = None if self.policy.lifted else _shortage(row)
            if short is None:
                yield row
            else:
                self._keep(row.key, short)

    def _unproven(self, opened: OpenMailbox, rows: list[RemovalRow], others: set[Key]) -> set[Key]:
        """Compare messages of which the server gives no header alone; returns those that it does not give at all.

        A message that this run fetched is the one that is listed. Any other may have come into the ledger from an
        archive, under another address of its account, or before the server used its id again: it is fetched once more,
        and added to `others` unless its octets are those that we have. When the slice is over no more are fetched, and
        the rest are returned as well.
        """
        known = {row.key: row for row in rows if row.key not in self.recorder.fetched}
        unproven: set[Key] = set()
        unasked = set(known)

        def wanted() -> Iterator[Wanted]:
            for row in known.values():
                if self.context.slice.over:
                    self.context.leave_more()
                    return
                unasked.discard(row.key)
                yield _wanted(row)

        for answer in opened.fetch(wanted(), self.context.room):
            self.recorder.idle()
            if answer is None:
                continue
            row = known[answer.key]
            self.context.room.give(self.context.room.taken_by(row.octets, answer.body), 1)
            if answer.body is None:
                unproven.add(answer.key)
                continue
            if answer.body.sha256 != bytes(row.sha256):
                others.add(answer.key)
            answer.body.close()
        if unproven:
            what = f"{count(len(unproven), 'message')} not removed"
            self.context.note(f"{what}: the server does not show the same mail as we have")
        return unproven | unasked

    def _keep(self, key: Key, why: str) -> None:
        """Do not remove a message until a person says so; it counts as waiting, and `syncd errors` shows why."""
        self.context.ledger.removals.mark_frozen(self.context.scope, [key], why)
        self.context.note(why)


def _compared(opened: OpenMailbox, page: list[RemovalRow]) -> tuple[set[Key], set[Key]]:
    """Returns the messages under whose ids the server now shows another header, and those of which it shows none."""
    known = {row.key: bytes(row.header_hash) for row in page}
    others: set[Key] = set()
    silent = set(known)
    for key, start in opened.headers(map(_wanted, page)):
        if start is not None:
            silent.discard(key)
            if header_hash(start) != known[key]:
                others.add(key)
    return others, silent


def _wanted(row: RemovalRow) -> Wanted:
    return Wanted(row.key, row.number, row.uid, row.octets)


def _name(scope: MailboxScope) -> str:
    return "/".join(scope.mailbox.path)


def _shortage(row: RemovalRow) -> str | None:
    """Returns why a message is not to be removed that came shorter than it is listed."""
    short = row.octets - row.received
    if short > max(SHORT_OCTETS, row.octets * SHORT_PERCENT // 100):
        return (
            f"the server lists {row.octets:,} octets and gave {row.received:,}: parts of this message may be missing"
            " here, so it is not removed; compare the two, then --unfreeze removes it"
        )
    return None
