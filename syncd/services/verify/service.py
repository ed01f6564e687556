"""`syncd verify` as a use case: a job of the configuration, its ends opened for reading, compared.

with Verification(loaded, "migrate", read=False) as verification:
    report = verification.execute()
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Self

from syncd import clock
from syncd.db.catalog import Catalog
from syncd.db.fingerprints import fingerprint
from syncd.db.rows import AccountRow, JobRow, RouteRow, RunScope
from syncd.destinations.base import Filing
from syncd.destinations.imap.account import FILED_BY_USE
from syncd.errors import AccountChanged, ArchiveMissing, Cancelled, UsageError
from syncd.mail.patterns import EVERYTHING
from syncd.services.archives import make_archive
from syncd.services.verify.copies import Copies, ImapCopies, MaildirCopies, MboxCopies, PacksCopies, imap_rules
from syncd.services.verify.ends import End
from syncd.services.verify.proof import Progress, Proof
from syncd.services.verify.report import Report
from syncd.services.verify.results import Destination, Results
from syncd.services.verify.scratch import Scratch
from syncd.services.verify.values import DestinationProof
from syncd.services.wiring import BODIES, existing_ledger, identity, open_source, owner, paths, read_only
from syncd.settings.schema import ArchiveFormat, DeletedRule, LineEnds, Protocol

if TYPE_CHECKING:
    from syncd.mail.mailbox import Path
    from syncd.settings.delivery import JobDestination
    from syncd.settings.load import Loaded
    from syncd.settings.schema import Job

BOXES: Final = 10_000_000  # numbers for the mailboxes of one destination
RECEIPTS: Final = "a mail server cannot be asked what it has: a receipt says that it accepted the message"
UNREAD: Final = (
    "its files do not tell how many octets a message had: whether these are the same is found out with --read"
)


def _quiet(_mailbox: str, _number: int, _count: int) -> None:
    pass


class Verification:
    """Verifies one job. A context manager: at its end, sessions are ended and the notes of the report thrown away.

    `execute` blocks, `cancel` comes from anywhere.
    """

    def __init__(self, loaded: Loaded, job: str, *, read: bool = False, progress: Progress = _quiet) -> None:
        """With `read=True` every octet at both ends is hashed."""
        self._loaded = loaded
        self._name = job
        self._settings = loaded.settings.jobs[job]
        self._read = read
        self._progress = progress
        self._stack = ExitStack()
        self._ends: list[End] = []
        self._cancelled = threading.Event()
        self._scratch = Scratch()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        self._scratch.close()

    def cancel(self) -> None:
        """Stop within a moment. Repeatable."""
        self._cancelled.set()
        self._loaded.secrets.cancel()
        for end in tuple(self._ends):
            end.cancel()

    def execute(self) -> Report:
        """Compare; raises SyncdError where an end cannot be read. The report can be read until this is left."""
        began = clock.now()
        with existing_ledger(self._loaded) as database:
            if database is None:
                raise self._never_ran()
            catalog = Catalog(database, owner(self._loaded))
            job, account = catalog.find_job(self._name), catalog.find_account(self._settings.source)
            if job is None or account is None or not job.routes:  # `syncd apply` registers a job without routes
                raise self._never_ran()
            self._check(self._settings.source, account, job.account_id)
            shown = self._settings.model_copy(update={"deleted": DeletedRule.COPY})  # the rule is applied here
            source = self._end(self._settings.source, shown)
            results = Results(tuple(self._destinations(catalog, job, account)), self._scratch)
            scope = RunScope(0, 0, job.id, job.account_id, job.routes)
            ledger = read_only(database)
            known = {it.mailbox.name: it for it in ledger.mailboxes.find(scope).values()}
            for one in results.destinations:
                if one.copies is not None:
                    one.copies.remember(ledger.mailboxes.became(job.account_id, one.route.id))
            try:
                skips = self._settings.deleted is DeletedRule.SKIP
                Proof(database, source, results, self._progress, skips=skips).compare(
                    known, self._settings.selection.chooses
                )
            finally:
                for end in self._ends:
                    end.close()
        return Report(
            job=self._name,
            at=began,
            read=self._read,
            source=self._settings.source,
            source_kind=self._kind(self._settings.source),
            destinations=tuple(one.facts for one in results.destinations),
            mailboxes=tuple(one.proof for one in results.mailboxes),
            others=tuple(results.others),
            scratch=self._scratch,
        )

    # --- the ends --------------------------------------------------------------------------------------

    def _never_ran(self) -> UsageError:
        return UsageError(f'job "{self._name}" has never run, so there is nothing to verify: syncd run {self._name}')

    def _check(self, name: str, account: AccountRow | None, account_id: int | None) -> None:
        """Raise AccountChanged where the configuration means another account than the ledger knows for the job."""
        mark = fingerprint(*identity(self._loaded, name))
        if account is None or account.id != account_id or account.fingerprint != mark:
            raise AccountChanged(
                f'"{name}" is another account or archive than the one that the ledger knows for job "{self._name}":'
                f" syncd run {self._name} says what to do"
            )

    def _end(self, name: str, job: Job | None = None) -> End:
        """`job` for its source: what the job leaves out is not there."""
        source = open_source(self._loaded, name, selection=EVERYTHING if job is None else job.selection, job=job)
        account = self._loaded.settings.accounts.get(name)
        lists = account is None or account.protocol is not Protocol.IMAP
        end = End(name, source, self._scratch, read=self._read, lists=lists)
        self._ends.append(end)
        self._stack.callback(end.close)
        if self._cancelled.is_set():
            raise Cancelled("cancelled before signing in")
        return end

    def _destinations(self, catalog: Catalog, job: JobRow, account: AccountRow) -> Iterator[Destination]:
        routes = {route.name for route in job.routes}
        wanted = {to.to: to for to in self._settings.destinations}
        for name in wanted:
            if name not in routes:
                raise UsageError(
                    f'job "{self._name}" has not run since "{name}" is one of its destinations: run it first'
                )
        for number, route in enumerate(job.routes):
            if route.name in wanted:
                yield self._destination(catalog, number, route, wanted[route.name], account)

    def _destination(
        self, catalog: Catalog, number: int, route: RouteRow, to: JobDestination, account: AccountRow
    ) -> Destination:
        kind = self._kind(to.to)
        if kind in {Protocol.SMTP.value, Protocol.LMTP.value}:
            return Destination(route, DestinationProof(f"{to.to} ({route.target})", kind, False, RECEIPTS), None)
        if route.account_id is not None:
            self._check(to.to, catalog.find_account(to.to), route.account_id)
        numbers = range(1 + number * BOXES, 1 + (number + 1) * BOXES)
        copies = self._copies(catalog, kind, to, numbers, account)
        note = "" if copies.rules.tells_octets or self._read else UNREAD
        return Destination(route, DestinationProof(to.to, kind, True, note), copies)

    def _copies(self, catalog: Catalog, kind: str, to: JobDestination, numbers: range, account: AccountRow) -> Copies:
        settings = self._loaded.settings
        if kind == Protocol.IMAP.value:
            uses: dict[str, Path] = {}
            end = self._end(to.to)
            imap = ImapCopies(end, self._scratch, paths(to, uses), numbers)
            for mailbox in imap.listed.values():
                if mailbox.use in FILED_BY_USE:
                    uses.setdefault(mailbox.use, mailbox.path)
            imap.rules = imap_rules(keeps_deleted=self._settings.deleted is DeletedRule.KEEP_FLAG)
            return imap
        row = catalog.find_archive(to.to)
        if row is None:
            raise ArchiveMissing(f'archive "{to.to}" is not known to the ledger: run the job that fills it')
        archive = make_archive(to.to, settings.archives[to.to], row.uuid, spool=settings.state_directory / BODIES)
        self._stack.callback(archive.close)
        archive.recognise()
        end = self._end(to.to)
        if kind == ArchiveFormat.PACKS.value:
            return PacksCopies(end, self._scratch, paths(to), numbers, account)
        copies: Copies
        if kind == ArchiveFormat.MBOX.value:
            copies = MboxCopies(end, self._scratch, paths(to), numbers)
        else:
            verbatim = settings.archives[to.to].line_ends is LineEnds.VERBATIM
            copies = MaildirCopies(end, self._scratch, paths(to), numbers, archive, verbatim=verbatim)
        if isinstance(archive, Filing):
            copies.key = archive.mailbox_key
        return copies

    def _kind(self, name: str) -> str:
        settings = self._loaded.settings
        if name in settings.archives:
            return settings.archives[name].format.value
        return settings.accounts[name].protocol.value
