"""Sign in, look, and say what a run would do; nothing is fetched, written or removed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from syncd.engine.events import Event, Listener, RunReport, SignedIn
from syncd.engine.exit_codes import exit_code
from syncd.errors import Cancelled, SyncdError
from syncd.mail.listing import Totals
from syncd.services.advice import advice, imap_advice, is_read
from syncd.services.check_archive import ArchiveCheck, look
from syncd.services.check_mailboxes import MailboxCheck, outlook
from syncd.services.runs import RunsByHand
from syncd.services.signin import try_out, try_out_relay
from syncd.services.slices import RunOptions
from syncd.services.wiring import make_relay, open_source
from syncd.settings.checks import DESTINATIONS
from syncd.settings.schema import Protocol
from syncd.sources.base import QuotaUse, SourceInfo

if TYPE_CHECKING:
    from syncd.net.transport import Transport
    from syncd.settings.load import Loaded
    from syncd.sources.base import Source


@dataclass(frozen=True, slots=True)
class AccountCheck:
    """The result of signing in to an account; `error` is None when it went well.

    `mailboxes` and `totals` are None for an account that takes mail, `totals` also where counting would take long.
    `table` has the mailboxes of an IMAP account.
    """

    account: str
    info: SourceInfo | None = None
    mailboxes: int | None = None
    totals: Totals | None = None
    table: tuple[MailboxCheck, ...] = ()
    error: SyncdError | None = None
    quotas: tuple[QuotaUse, ...] = ()

    def as_json(self) -> dict[str, object]:
        """Returns plain values."""
        return {
            "account": self.account,
            "info": asdict(self.info) if self.info else None,
            "mailboxes": self.mailboxes,
            "totals": asdict(self.totals) if self.totals else None,
            "table": [row.as_json() for row in self.table],
            "quotas": [asdict(quota) for quota in self.quotas],
            "error": str(self.error) if self.error else None,
            "exit_code": int(exit_code(self.error)) if self.error else 0,
        }


class Check:
    """Checks accounts, archives and jobs by name.

    `execute` blocks, `cancel` comes from anywhere, as with RunsByHand.

    A job is checked by one session, which tells about its account too: some servers refuse a second sign-in
    within minutes (RFC 2449 §6.5, LOGIN-DELAY). The mail servers that it delivers to are signed in to as well, and
    its archives are looked at.
    Without names it checks every enabled job, and the accounts that no enabled job reads.
    """

    def __init__(self, loaded: Loaded, names: Sequence[str], listen: Listener) -> None:
        settings = loaded.settings
        self._loaded = loaded
        self._listen = listen
        self._cancelled = threading.Event()
        self._current: Source | Transport | None = None
        enabled = [name for name, job in settings.jobs.items() if job.enabled]
        read = {settings.jobs[name].source for name in enabled}
        self._jobs = [name for name in names if name in settings.jobs] if names else enabled
        known = [name for name in settings.accounts if name not in read]
        destinations = [to.to for job in self._jobs for to in settings.jobs[job].destinations]
        self._names = list(dict.fromkeys([*(names or known), *destinations]))
        options = RunOptions(dry_run=True, by_hand=True)  # the password may be right by now: it is always tried
        self._runner = RunsByHand(loaded, self._jobs, options, self._hear) if self._jobs else None
        self.accounts: list[AccountCheck] = []
        self.archives: list[ArchiveCheck] = []
        self.infos: dict[str, SourceInfo] = {}  # by job

    def execute(self) -> list[RunReport]:
        """Check all of it; returns the reports of the jobs. Then `accounts`, `archives` and `infos` are filled."""
        self.accounts = [self.account(name) for name in self._names if name in self._loaded.settings.accounts]
        self.archives = [look(self._loaded, name) for name in self._names if name in self._loaded.settings.archives]
        return self._runner.execute() if self._runner is not None else []

    def cancel(self) -> None:
        """Stop within a moment. Repeatable."""
        self._cancelled.set()
        self._loaded.secrets.cancel()
        if self._current is not None:
            self._current.cancel()
        if self._runner is not None:
            self._runner.cancel()

    def _hear(self, event: Event) -> None:
        if isinstance(event, SignedIn):
            self.infos[event.job] = event.info
        self._listen(event)

    def account(self, name: str) -> AccountCheck:
        """Sign in to one account, whatever the names are that this was made for. `cancel` ends it."""
        try:
            return self._signed_in(name)
        except SyncdError as error:
            return AccountCheck(name, error=error)

    def _signed_in(self, name: str) -> AccountCheck:
        protocol = _protocol(self._loaded, name)
        if protocol in DESTINATIONS:
            info = try_out_relay(make_relay(self._loaded, name).options, self._adopt)
            return AccountCheck(name, replace(info, notes=advice(self._loaded, name, info.capabilities)))
        source = open_source(self._loaded, name, sizes=True)
        self._adopt(source)
        info, mailboxes, totals, quotas = try_out(source)
        settings = self._loaded.settings
        notes = (*(info.notes if is_read(settings, name) else ()), *imap_advice(settings, name, info.server))
        table = outlook(self._loaded, name, mailboxes) if protocol is Protocol.IMAP else ()
        return AccountCheck(name, replace(info, notes=notes), len(mailboxes), totals, tuple(table), quotas=quotas)

    def _adopt(self, current: Source | Transport) -> None:
        """Let `cancel` end what is about to wait."""
        self._current = current
        if self._cancelled.is_set():
            raise Cancelled("cancelled before signing in")


def _protocol(loaded: Loaded, name: str) -> Protocol:
    return loaded.settings.accounts[name].protocol
