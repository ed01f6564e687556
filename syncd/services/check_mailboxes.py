"""The mailboxes of an account one by one, and what the next run of each job that reads it would do with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from syncd.engine.plan import Would, would, would_at_first
from syncd.mail.mailbox import INBOX_PATH, Mailbox, Path
from syncd.services.wiring import copied_ledger, owner
from syncd.settings.schema import Protocol

if TYPE_CHECKING:
    from syncd.db.database import Database
    from syncd.settings.load import Loaded


@dataclass(frozen=True, slots=True)
class MailboxCheck:
    """A mailbox as the server lists it; None where it does not tell. `jobs` are what each job would do with it."""

    path: Path
    use: str
    messages: int | None
    octets: int | None
    jobs: tuple[tuple[str, Would], ...]

    def as_json(self) -> dict[str, object]:
        """Returns plain values."""
        return {
            "path": list(self.path),
            "use": self.use,
            "messages": self.messages,
            "octets": self.octets,
            "jobs": {job: would.name.lower() for job, would in self.jobs},
        }


def outlook(loaded: Loaded, account: str, mailboxes: Sequence[Mailbox]) -> Iterator[MailboxCheck]:
    """Yields each mailbox with what the enabled jobs on the account would do. Raises LedgerError, StorageError."""
    jobs = [name for name, job in loaded.settings.jobs.items() if job.enabled and job.source == account]
    plans: list[tuple[str, list[Would]]] = []
    if jobs:
        with copied_ledger(loaded, jobs) as copy:
            plans = [(job, _plan(loaded, copy, job, mailboxes)) for job in jobs]
    for number, it in enumerate(mailboxes):
        plan = tuple((job, rows[number]) for job, rows in plans)
        yield MailboxCheck(it.path, it.use, it.messages, it.octets, plan)


def _plan(loaded: Loaded, copy: Database, name: str, mailboxes: Sequence[Mailbox]) -> list[Would]:
    """Returns what a run of a job would do with each mailbox, by a copy of the ledger that is thrown away."""
    from syncd.db.catalog import Catalog
    from syncd.db.ledger import Ledger
    from syncd.db.rows import RunScope

    chooses = loaded.settings.jobs[name].selection.chooses
    chosen = [it for it in mailboxes if chooses(it)]
    job = Catalog(copy, owner(loaded)).find_job(name)
    accounts = [loaded.settings.accounts.get(to.to) for to in loaded.settings.jobs[name].destinations]
    to_account = any(account is not None and account.protocol is Protocol.IMAP for account in accounts)
    makes = {it.name: to_account and it.path != INBOX_PATH for it in chosen}
    found = {it.name: would_at_first(it, makes=makes[it.name]) for it in chosen}
    if job is not None:
        scope = RunScope(0, 0, job.id, job.account_id, job.routes)
        for known in Ledger(copy, lambda _: None).mailboxes.known(scope, chosen):
            mailbox = known.scope.mailbox.name
            found[mailbox] = would(known, makes=makes[mailbox])
    return [found.get(it.name, Would.LEFT_OUT) for it in mailboxes]
