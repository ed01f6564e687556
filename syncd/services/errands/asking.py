"""Asks for errands, and tells how they stand, for pages and API."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from syncd import clock
from syncd.db import definitions, workers
from syncd.db import errands as rows
from syncd.db.errands import Errand, Kind, State, Subject, Wanted
from syncd.errors import UsageError
from syncd.services.errands.work import unpacked
from syncd.services.wiring import owner

if TYPE_CHECKING:
    from syncd.db.database import Database
    from syncd.settings.load import Loaded


@dataclass(frozen=True, slots=True)
class ErrandState:
    """The state of an errand.

    `state`: queued, running, cancelling, done, failed (`error` says why) or cancelled. `read`: a verification that
    reads every octet. `site`: a worker of this site does it; null: a process that serves the page. `progress` has
    `octets` and `of_octets`, or `mailbox`, `number` and `of`. `result` is null until there is one.
    """

    state: str
    read: bool
    asked_by: str
    asked_at: datetime
    began_at: datetime | None
    ended_at: datetime | None
    site: str | None
    progress: Mapping[str, Any]
    error: str
    result: Mapping[str, Any] | None

    @property
    def is_open(self) -> bool:
        """Returns whether it has not ended."""
        return self.state in {"queued", "running", "cancelling"}

    def as_json(self) -> dict[str, object]:
        """Returns plain values but for the instants."""
        return {name: getattr(self, name) for name in self.__slots__}


def ask(loaded: Loaded, database: Database, kind: Kind, name: str, by: str, *, read: bool = False) -> bool:
    """Ask for an errand. Returns False where one of this kind is open for this name.

    Raises UsageError where it can only be done at a site that no worker serves.
    """
    site, document = _elsewhere(loaded, database, kind, name)
    return rows.ask(database, Wanted(_subject(loaded, kind, name), by, read, site, document), clock.now())


def cancel(loaded: Loaded, database: Database, kind: Kind, name: str) -> bool:
    """Cancel what is open. Returns False where nothing is."""
    return rows.cancel(database, _subject(loaded, kind, name), clock.now())


def newest(loaded: Loaded, database: Database, kind: Kind, name: str) -> ErrandState | None:
    """Returns the newest errand, however it stands."""
    return _shown(rows.newest(database, _subject(loaded, kind, name)))


def newest_done(loaded: Loaded, database: Database, kind: Kind, name: str) -> ErrandState | None:
    """Returns the newest errand that has a result."""
    return _shown(rows.newest_done(database, _subject(loaded, kind, name)))


def report(loaded: Loaded, database: Database, job: str, form: str) -> Iterator[bytes] | None:
    """Returns the report of the last verification in a form: "md", "json" or "html"; None where none was kept."""
    found = rows.newest_done(database, _subject(loaded, Kind.VERIFY, job))
    content = None if found is None else rows.report(database, found.id, form)
    return None if content is None else unpacked(content)


def _subject(loaded: Loaded, kind: Kind, name: str) -> Subject:
    return Subject(owner(loaded).name, kind, name)


def _shown(row: Errand | None) -> ErrandState | None:
    if row is None:
        return None
    return ErrandState(
        state="cancelling" if row.state is State.RUNNING and row.cancelled else row.state.name.lower(),
        read=row.read,
        asked_by=row.asked_by,
        asked_at=row.asked_at,
        began_at=row.began_at,
        ended_at=row.ended_at,
        site=row.site,
        progress=json.loads(row.progress),
        error=row.error,
        result=None if row.result is None else json.loads(row.result),
    )


def _elsewhere(loaded: Loaded, database: Database, kind: Kind, name: str) -> tuple[str | None, str | None]:
    """Returns the site whose worker is to do it, with the settings that it needs; None, None: this process does it."""
    job = _job(loaded, kind, name) if loaded.settings.is_cluster else None
    if job is None:
        return None, None
    settings = loaded.settings
    site = settings.site_of(settings.jobs[job]) if kind is not Kind.ACCOUNT else ""
    digest = definitions.digests(database, owner(loaded)).get(job)
    document = None if digest is None else definitions.document(database, digest)
    if document is not None and workers.serving(database, site) is not None:
        return site, document
    away = next((it for it in _archives(loaded, kind, name) if not settings.archives[it].path.is_dir()), None)
    if site and away is not None:
        raise UsageError(
            f'archive "{away}" is at the site "{site}", and no worker that knows it serves this site: start one there'
            f" (syncd worker --site {site})"
        )
    return None, None


def _archives(loaded: Loaded, kind: Kind, name: str) -> list[str]:
    """Returns the archives that an errand reads."""
    if kind is Kind.ARCHIVE:
        return [name]
    if kind is Kind.ACCOUNT:
        return []
    job = loaded.settings.jobs[name]
    return [it for it in (job.source, *(to.to for to in job.destinations)) if it in loaded.settings.archives]


def _job(loaded: Loaded, kind: Kind, name: str) -> str | None:
    """Returns an enabled job whose definition has the settings that an errand needs."""
    jobs = loaded.settings.jobs
    if kind in {Kind.DRY_RUN, Kind.VERIFY}:
        return name if jobs[name].enabled else None
    used = (job for job, it in jobs.items() if it.enabled and name in {it.source, *(to.to for to in it.destinations)})
    return next(used, None)
