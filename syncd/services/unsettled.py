"""What waits for time or a person, of one job or of all, and what a person decides of it.

Looking changes nothing. To decide takes the job's lease: not while the job runs. Where an archive holds the message,
it is shown who sent it and what it is about.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from syncd.services.overview import never_writes
from syncd.services.previews import Preview, Previews
from syncd.services.selection import Selector, Why, is_done, why_of
from syncd.services.wiring import existing_ledger

if TYPE_CHECKING:
    from syncd.db.ledger import Ledger
    from syncd.db.rows import ProblemRow
    from syncd.settings.load import Loaded

PAGE: Final = 100  # messages looked up in archives, or settled in one transaction


@dataclass(frozen=True, slots=True)
class Unsettled:
    """One line of `syncd errors`. `preview` is None where no archive that can be read holds the message."""

    row: ProblemRow
    why: Why
    preview: Preview | None


def unsettled(loaded: Loaded, job: str | None) -> Iterator[Unsettled]:
    """Everything that is not settled, oldest message first, then what may be there twice; streamed."""
    with existing_ledger(loaded) as database, closing(Previews(loaded.settings.archives)) as previews:
        if database is None:
            return
        from syncd.db.catalog import Catalog
        from syncd.db.ledger import Ledger

        known = Catalog(database).find_job(job) if job is not None else None
        if job is not None and known is None:
            return
        ledger = Ledger(database, never_writes)
        rows = ledger.problems(known.id if known else None)
        while page := list(islice(rows, PAGE)):
            holding = ledger.holding([row.key for row in page])
            for row in page:
                places = holding.get(row.key, [])
                if row.account in loaded.settings.archives:  # the job reads an archive
                    places = [*places, (row.account, "")]
                preview = previews.of(row.sha256, row.octets, places) if row.sha256 is not None else None
                yield Unsettled(row, why_of(row), preview)


def chosen(loaded: Loaded, job: str, selector: Selector, *, drop: bool) -> list[ProblemRow]:
    """What a decision is about. Of what is delivered nothing is tried again, but it can be dropped from the list."""
    with existing_ledger(loaded) as database:
        if database is None:
            return []
        from syncd.db.catalog import Catalog
        from syncd.db.ledger import Ledger

        known = Catalog(database).find_job(job)
        rows = Ledger(database, never_writes).problems(known.id) if known is not None else iter(())
        return [row for row in rows if selector.takes(row) and (drop or not is_done(row))]


def has_run(loaded: Loaded, job: str) -> bool:
    """Whether the ledger knows the job."""
    with existing_ledger(loaded) as database:
        if database is None:
            return False
        from syncd.db.catalog import Catalog

        return Catalog(database).find_job(job) is not None


def retry(loaded: Loaded, job: str, rows: Sequence[ProblemRow], *, resume: bool) -> None:
    """Have the next run try these again; with `resume` also at destinations that are suspended. Raises LeaseHeld."""
    with _deciding(loaded, job) as (ledger, job_id):
        for start in range(0, len(rows), PAGE):
            ledger.retry([(row.key, row.route_id) for row in rows[start : start + PAGE]])
        if resume:
            ledger.resume(job_id)


def drop(loaded: Loaded, job: str, rows: Sequence[ProblemRow]) -> None:
    """Never try these again. Raises LeaseHeld."""
    with _deciding(loaded, job) as (ledger, job_id):
        for start in range(0, len(rows), PAGE):
            ledger.drop([(row.key, row.route_id) for row in rows[start : start + PAGE]], job_id)


@contextmanager
def _deciding(loaded: Loaded, job: str) -> Iterator[tuple[Ledger, int]]:
    """The ledger of a job that has run, to be written while nobody runs the job. Raises UsageError, LeaseHeld."""
    from syncd.db.catalog import Catalog
    from syncd.db.leases import LeaseSet, job_resource
    from syncd.db.ledger import Ledger
    from syncd.errors import UsageError

    with existing_ledger(loaded) as database:
        known = Catalog(database).find_job(job) if database is not None else None
        if database is None or known is None:
            raise UsageError(f'job "{job}" has never run: there is nothing to settle')
        with LeaseSet.acquire(database, [job_resource(job)], f'settling messages of job "{job}"') as lease:
            yield Ledger(database, lease.fence), known.id
