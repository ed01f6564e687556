"""Accounts and archives as the page shows them. No server is connected; an archive is opened if asked for."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from syncd import clock
from syncd.db import board
from syncd.db.bulk import IN_LIST
from syncd.db.runs import Runs
from syncd.db.standings import standings
from syncd.errors import SyncdError
from syncd.formats.view import Figures
from syncd.services.archive import open_view
from syncd.services.wiring import owner
from syncd.services.words import has_words
from syncd.settings.quiet import late_since

if TYPE_CHECKING:
    from syncd.db.database import Database
    from syncd.settings.loaded import Loaded

NOT_HERE: Final = "it is not on this machine, or not made yet"


@dataclass(frozen=True, slots=True)
class AccountLine:
    """An account of the configuration. `contact`: when a job that reads or fills it began last."""

    account: str
    protocol: str
    host: str
    port: int | None
    username: str
    reads: tuple[str, ...]  # jobs that read it
    fills: tuple[str, ...]  # jobs that deliver to it
    contact: datetime | None
    suspended_until: datetime | None
    suspended_why: str

    def as_json(self) -> dict[str, object]:
        """Returns plain values but for the instants."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ArchiveLine:
    """An archive of the configuration. `figures` is None where they were not asked for, or where `error` says why."""

    archive: str
    path: str
    format: str
    site: str
    jobs: tuple[str, ...]
    figures: Figures | None
    error: str

    def as_json(self) -> dict[str, object]:
        """Returns plain values."""
        return asdict(self)


def account_names(loaded: Loaded, words: str = "") -> list[str]:
    """Returns accounts in the order of the configuration: those that have all `words` in name, host or username."""
    found = loaded.settings.accounts.items()
    return [name for name, it in found if has_words(words, name, it.host, it.username or "")]


def archive_names(loaded: Loaded, words: str = "") -> list[str]:
    """Returns archives in the order of the configuration: those that have all `words` in name or path."""
    return [name for name, it in loaded.settings.archives.items() if has_words(words, name, str(it.path))]


def accounts(loaded: Loaded, database: Database, names: Sequence[str]) -> list[AccountLine]:
    """Returns these accounts of the configuration."""
    settings = loaded.settings
    held = {it.name: it for it in board.suspended(database, owner(loaded).name, clock.now())}
    reading, filling = _users(loaded, names)
    began = _began(loaded, database, {job for users in (reading, filling) for jobs in users.values() for job in jobs})
    lines = []
    for name in names:
        account, reads, fills = settings.accounts[name], tuple(reading[name]), tuple(filling[name])
        lines.append(
            AccountLine(
                account=name,
                protocol=account.protocol.value,
                host=account.host,
                port=account.port,
                username=account.username or "",
                reads=reads,
                fills=fills,
                contact=max((began[job] for job in (*reads, *fills) if job in began), default=None),
                suspended_until=held[name].until if name in held else None,
                suspended_why=held[name].reason if name in held else "",
            )
        )
    return lines


def archives(loaded: Loaded, names: Sequence[str], counted: str = "") -> list[ArchiveLine]:
    """Returns these archives of the configuration; with figures of the one named `counted`, if it is here."""
    settings = loaded.settings
    reading, filling = _users(loaded, names)
    lines = []
    for name in names:
        archive = settings.archives[name]
        figures, error = _figures(loaded, name, archive.path) if name == counted else (None, "")
        used = tuple(dict.fromkeys([*reading[name], *filling[name]]))
        lines.append(
            ArchiveLine(name, str(archive.path), archive.format.value, archive.site or "", used, figures, error)
        )
    return lines


def _users(loaded: Loaded, names: Collection[str]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Returns the jobs that read each of these accounts or archives, and those that deliver to it."""
    reading: dict[str, list[str]] = {name: [] for name in names}
    filling: dict[str, list[str]] = {name: [] for name in names}
    for job, it in loaded.settings.jobs.items():
        if it.source in reading:
            reading[it.source].append(job)
        for name in {to.to for to in it.destinations} & filling.keys():
            filling[name].append(job)
    return reading, filling


def _began(loaded: Loaded, database: Database, jobs: Collection[str]) -> dict[str, datetime]:
    """Returns when the newest run of each of these jobs began, where it has begun."""
    asked = jobs if len(jobs) <= IN_LIST else None  # of more, all are read: databases limit what a statement names
    ids = [it.job_id for it in standings(database, owner(loaded), clock.now(), late_since, asked).values()]
    return {run.job: run.started_at for run in Runs(database).latest(ids).values() if run.started_at is not None}


def _figures(loaded: Loaded, name: str, path: Path) -> tuple[Figures | None, str]:
    if not path.is_dir():
        return None, NOT_HERE
    try:
        with closing(open_view(loaded, name)) as view:
            return view.figures(), ""
    except SyncdError as error:
        return None, str(error)
