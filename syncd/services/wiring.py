"""The one place that turns settings into live sources, archives and the ledger.

Nothing is connected here: a source connects when a run asks it to, an archive opens when a run opens it.
Imports are lazy so that a command loads what it uses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from syncd.auth.credentials import read_secret
from syncd.errors import ArchiveMissing, ConfigError, SyncdError
from syncd.secret import Secret
from syncd.settings.delivery import AsItIs, JobDestination
from syncd.settings.load import Loaded
from syncd.settings.relayed import sender_choice
from syncd.settings.schema import Account, Archive, ArchiveFormat, LineEnds, Mechanism, Protocol

if TYPE_CHECKING:
    from uuid import UUID

    from syncd.db.database import Database
    from syncd.destinations import base
    from syncd.destinations.smtp.pace import Limit
    from syncd.destinations.smtp.relay import Relay, RelayOptions
    from syncd.destinations.smtp.route import SmtpOptions
    from syncd.pop3.quirks import Quirks
    from syncd.sources.base import Source

BODIES = "bodies"  # where large messages in flight lie, inside the state directory


def open_ledger(loaded: Loaded) -> Database:
    """The ledger, its schema up to date. Raises LedgerError, StorageError, ConfigError."""
    from syncd.db.database import Database

    settings = loaded.settings
    return Database.open(settings.database_url, settings.state_directory)


@contextmanager
def existing_ledger(loaded: Loaded) -> Iterator[Database | None]:
    """The ledger; None before the first run, because looking at it must not make one. Raises as `open_ledger`."""
    from syncd.db.database import Database

    settings = loaded.settings
    database = Database.find(settings.database_url, settings.state_directory)
    with database or nullcontext():
        yield database


@contextmanager
def copied_ledger(loaded: Loaded, jobs: Iterable[str]) -> Iterator[Database]:
    """A copy of the ledger to throw away, as far as it concerns these jobs; an empty one before the first run."""
    from syncd.db.catalog import fingerprint
    from syncd.db.rehearsal import rehearsal

    settings = loaded.settings
    sources = {settings.jobs[job].source for job in jobs}
    marks = {}
    for source in sources:
        with suppress(SyncdError):  # an archive that cannot be read: its jobs will say so, the others go on
            marks[source] = fingerprint(*identity(loaded, source))
    with existing_ledger(loaded) as ledger, rehearsal(ledger, settings.state_directory, marks) as copy:
        yield copy


def identity(loaded: Loaded, source: str) -> tuple[str, str, str]:
    """Protocol, host and user name: what tells an account from all others. An archive as a source has its UUID.

    Raises ArchiveMissing, FormatDamaged, StorageError where an archive cannot say who it is.
    """
    archive = loaded.settings.archives.get(source)
    if archive is None:
        account = loaded.settings.accounts[source]
        return account.protocol.value, account.host, account.username or ""
    from syncd.db.changed import ARCHIVE

    try:
        return ARCHIVE, str(make_archive(source, archive).identity()), ""
    except ArchiveMissing as error:
        raise ArchiveMissing(
            f'archive "{source}", which this job reads, is not at {archive.path}: mount its disk or correct its path; '
            "if nothing was ever put there, first run the job that fills it"
        ) from error


def reached(loaded: Loaded) -> dict[str, set[tuple[str, str]]]:
    """Each enabled job → fingerprint and recipient of every mail server that it delivers to."""
    from syncd.db.catalog import fingerprint

    settings = loaded.settings
    return {
        name: {
            (fingerprint(*identity(loaded, to.to)), recipient)
            for to in job.destinations
            for recipient in to.recipient or ()
            if to.to in settings.accounts
        }
        for name, job in settings.jobs.items()
        if job.enabled
    }


def open_source(loaded: Loaded, name: str, known: dict[str, Quirks] | None = None) -> Source:
    """The account or archive `name` as a source. Raises ConfigError where there is none.

    `known`: what servers have shown themselves to do, by the name of the account; kept up to date.
    """
    archive = loaded.settings.archives.get(name)
    if archive is not None:
        return _archive_source(archive, loaded.settings.state_directory / BODIES)
    from syncd.net.tls import TlsPolicy
    from syncd.pop3.quirks import Quirks
    from syncd.sources.pop3.account import Pop3Options, Pop3Source

    settings = loaded.settings
    account = settings.accounts.get(name)
    if account is None:
        raise ConfigError(f"there is no account {name!r}; the configuration has {listed(settings.accounts)}")
    return Pop3Source(
        Pop3Options(
            host=account.host,
            port=account.port,
            security=account.security.value,
            username=account.username or "",
            password=partial(_password, account, name, loaded.environment),
            auth=account.auth.value,
            allow_insecure=account.allow_insecure,
            tls=TlsPolicy(account.ca_file, account.fingerprint, account.certificate, account.key),
            message_octets=settings.limits.message_octets,
            pipelining=account.pipelining,
            spool=settings.state_directory / BODIES,
        ),
        Quirks() if known is None else known.setdefault(name, Quirks()),
    )


def _archive_source(archive: Archive, spool: Path) -> Source:
    if archive.format is ArchiveFormat.MAILDIR:
        from syncd.sources.maildir import MaildirSource

        return MaildirSource(archive.path, spool)
    from syncd.sources.packs import PacksSource

    return PacksSource(archive.path, spool)


def open_archive(loaded: Loaded | None, name_or_path: str) -> base.Archive:
    """An archive by its name in the configuration, or by its path. Raises ConfigError, ArchiveMissing."""
    archives = loaded.settings.archives if loaded is not None else {}
    archive = archives.get(name_or_path)
    if archive is not None:
        return make_archive(name_or_path, archive)
    path = Path(name_or_path).expanduser()
    if not path.is_dir():
        known = f"; the configuration has {listed(archives)}" if loaded is not None else ""
        raise ConfigError(f"{name_or_path!r} is neither a folder nor the name of an archive{known}")
    return make_archive(path.name, Archive(path=path.absolute(), format=_format(path)))


def make_archive(
    name: str, archive: Archive, expected: UUID | None = None, *, spool: Path | None = None
) -> base.Archive:
    """The archive object for one entry of the configuration; `expected`: which archive it has to be.

    `spool`: for large messages that are read back; in the archive's own folder if not given.
    """
    if archive.format is ArchiveFormat.MAILDIR:
        from syncd.destinations.maildir import MaildirArchive

        verbatim = archive.line_ends is LineEnds.VERBATIM
        return MaildirArchive(archive.path, name, spool=spool, expected=expected, verbatim=verbatim)
    from syncd.destinations.packs import PacksArchive

    return PacksArchive(archive.path, name, spool=spool, expected=expected)


def make_relay(loaded: Loaded, name: str) -> Relay:
    """The connections to the SMTP or LMTP account `name`."""
    from syncd.destinations.smtp.relay import Relay, RelayOptions
    from syncd.net.tls import TlsPolicy

    account = loaded.settings.accounts[name]
    return Relay(
        RelayOptions(
            host=account.host,
            port=account.port,
            security=account.security.value,
            username=account.username or "",
            password=partial(_password, account, name, loaded.environment),
            auth=account.auth.value,
            allow_insecure=account.allow_insecure,
            lmtp=account.protocol is Protocol.LMTP,
            connections=account.connections,
            pipeline_messages=account.pipeline_messages,
            tls=TlsPolicy(account.ca_file, account.fingerprint, account.certificate, account.key),
        )
    )


def smtp_options(loaded: Loaded, job: str, to: JobDestination, recipient: str, relay: RelayOptions) -> SmtpOptions:
    """One recipient of a job's destination; what the destination does not say follows from its account."""
    from syncd.destinations.smtp.route import SmtpOptions

    source = loaded.settings.accounts.get(loaded.settings.jobs[job].source)
    account = loaded.settings.accounts[to.to]
    choice = sender_choice(to, account)
    sender = {"empty": "", "account": account.username or ""}.get(choice, choice)
    return SmtpOptions(
        relay=relay,
        recipient=recipient,
        sender=sender,
        trace=to.trace is not False,
        resent=to.resent is True,
        resent_from="" if sender == "original" else sender,
        send_eight_bit=to.eight_bit is AsItIs.SEND or (relay.lmtp and to.eight_bit is None),
        refuse_long_lines=to.long_lines is AsItIs.REFUSE,
        source=source.host if source is not None else "",
        protocol=source.protocol.value.upper() if source is not None else "",
    )


def limits(to: JobDestination) -> list[Limit]:
    """How many messages may leave for a destination in how long."""
    from syncd.destinations.smtp.pace import Limit

    return [Limit(limit.messages, limit.seconds) for limit in to.limits]


def listed(names: Iterable[str]) -> str:
    """Names for an error line."""
    return ", ".join(sorted(names)) or "none"


def _format(path: Path) -> ArchiveFormat:
    return ArchiveFormat.MAILDIR if (path / "cur").is_dir() and (path / "new").is_dir() else ArchiveFormat.PACKS


def _password(account: Account, name: str, environment: Mapping[str, str]) -> Secret:
    if account.auth is Mechanism.EXTERNAL:
        return Secret("")  # the certificate signs in
    if account.password is None:
        raise ConfigError(f'account "{name}" has no password; set password = "env:…", "file:…" or "command:…"')
    return read_secret(account.password, environment)
