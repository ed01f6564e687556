"""What waits for time or a person, of one job or of all, and what a person decides of it.

Looking changes nothing. To decide takes the job's lease: not while the job runs. Where an archive holds the message,
it is shown who sent it and what it is about.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from syncd.errors import UsageError
from syncd.services.overview import never_writes
from syncd.services.previews import Preview, Previews
from syncd.services.selection import Chosen, Selector, Why, in_use, is_done, why_of
from syncd.services.wiring import existing_ledger

if TYPE_CHECKING:
    from syncd.db.database import Database
    from syncd.db.ledger import Ledger
    from syncd.db.rows import JobRow, ProblemRow
    from syncd.settings.load import Loaded

EVERYTHING: Final = Selector()
PAGE: Final = 100  # messages looked up in archives, or settled in one transaction


@dataclass(frozen=True, slots=True)
class Unsettled:
    """One line of `syncd errors`. `preview` is None where no archive that can be read holds the message.

    Where no job of the configuration leads there any more (not `in_use`) it can only be dropped.
    """

    row: ProblemRow
    why: Why
    in_use: bool
    preview: Preview | None


def unsettled(loaded: Loaded, job: str | None, selector: Selector = EVERYTHING) -> Iterator[Unsettled]:
    """What is not settled, as far as it is meant, oldest message first, then what may be there twice; streamed."""
    with existing_ledger(loaded) as database, closing(Previews(loaded.settings.archives)) as previews:
        if database is None:
            return
        from syncd.db.catalog import Catalog
        from syncd.db.ledger import Ledger

        of_job = Catalog(database).find_job(job) if job is not None else None
        if job is not None and of_job is None:
            return
        ledger = Ledger(database, never_writes)
        problems = ledger.problems(of_job.id if of_job else None)
        rows = (row for row in problems if selector.takes(row, why_of(row)))
        while page := list(islice(rows, PAGE)):
            holding = ledger.holding([row.key for row in page])
            for row in page:
                places = holding.get(row.key, [])
                if row.account in loaded.settings.archives:  # the job reads an archive
                    places = [*places, (row.account, "")]
                preview = previews.of(row.sha256, row.octets, places) if row.sha256 is not None else None
                yield Unsettled(row, why_of(row), in_use(loaded.settings.jobs, row), preview)


def chosen(loaded: Loaded, jobs: Iterable[str], selector: Selector, *, drop: bool) -> dict[str, list[Chosen]]:
    """What a decision is about, of each job; of one that only the ledger knows, if there is any.

    Of what is delivered nothing is tried again, but it can be dropped from the list; a note on a removal is neither's:
    `syncd run JOB --unfreeze` is for that. Raises UsageError for a number that selects nothing.
    """
    others = dict.fromkeys(selector.numbers, "")
    found: dict[str, list[Chosen]] = {}
    with existing_ledger(loaded) as database:
        if database is not None:
            for name in jobs:
                rows = _meant(loaded, database, name, selector, others)
                mine = [row for row in rows if drop or not row.done]
                if mine or name in loaded.settings.jobs:
                    found[name] = mine
    _check_numbers(others, {row.key for rows in found.values() for row in rows})
    return found


def _meant(
    loaded: Loaded, database: Database, job: str, selector: Selector, others: dict[int, str]
) -> Iterator[Chosen]:
    """What a selector takes of a job. What waits under its numbers, chosen or not, is noted in `others`."""
    from syncd.db.catalog import Catalog
    from syncd.db.ledger import Ledger

    row_of_job = Catalog(database).find_job(job)
    for row in Ledger(database, never_writes).problems(row_of_job.id) if row_of_job is not None else ():
        why, done = why_of(row), is_done(row)
        if job not in loaded.settings.jobs and row.job != job:
            continue  # about the mail of an account that another job reads
        if row.key in others:
            others[row.key] = "delivered" if done else why
        if why is not Why.KEPT and selector.takes(row, why):
            yield Chosen(row.key, row.route_id, why, in_use(loaded.settings.jobs, row), done)


def _check_numbers(others: Mapping[int, str], found: Collection[int]) -> None:
    """Raise UsageError for numbers that select nothing; `others` says what is known of them."""
    wrong = [
        f"{number} is {word}" if word else f"nothing waits under {number}"
        for number, word in sorted(others.items())
        if number not in found
    ]
    if wrong:
        raise UsageError(f"that selects nothing: {', '.join(wrong)}; nothing was changed. What waits: syncd errors")


def known(loaded: Loaded) -> dict[str, set[str]]:
    """Job → its destinations and their recipients; of the ledger too, where jobs and destinations have a past."""
    found = {
        name: {word for to in job.destinations for word in (to.to, *(to.recipient or ()))}
        for name, job in loaded.settings.jobs.items()
    }
    with existing_ledger(loaded) as database:
        if database is not None:
            from syncd.db.catalog import Catalog

            for name, words in Catalog(database).destinations().items():
                found.setdefault(name, set()).update(words)
    return found


def has_run(loaded: Loaded, job: str) -> bool:
    """Whether the ledger knows the job."""
    with existing_ledger(loaded) as database:
        if database is None:
            return False
        from syncd.db.catalog import Catalog

        return Catalog(database).find_job(job) is not None


def retry(loaded: Loaded, job: str, rows: Sequence[Chosen]) -> list[int]:
    """Have the next run try these again; messages that it did so for. Raises LeaseHeld."""
    done: list[int] = []
    with _deciding(loaded, job) as (ledger, job_id):
        for page in _still(ledger, job_id, rows):
            looping = [(one.key, one.route_id) for one in page if one.why is Why.LOOP]
            ledger.retry([(one.key, one.route_id) for one in page], looping)
            done += [one.key for one in page]
    return done


def resume(loaded: Loaded, job: str, selector: Selector) -> list[str]:
    """Leave the job's source and destinations alone no longer, as far as meant; which were. Raises LeaseHeld."""
    with _deciding(loaded, job) as (ledger, job_id):
        return ledger.resume(job_id, selector.leads_to)


def drop(loaded: Loaded, job: str, rows: Sequence[Chosen]) -> list[int]:
    """Never try these again; messages that it did so for. Raises LeaseHeld."""
    done: list[int] = []
    with _deciding(loaded, job) as (ledger, job_id):
        for page in _still(ledger, job_id, rows):
            ledger.drop([(one.key, one.route_id) for one in page], job_id)
            done += [one.key for one in page]
    return done


def _still(ledger: Ledger, job_id: int, rows: Sequence[Chosen]) -> Iterator[list[Chosen]]:
    """Those that wait for the same as when they were chosen, in pages: a run may have been faster."""
    chosen = {(row.key, row.route_id): row for row in rows}
    found = ((chosen.get((row.key, row.route_id)), row) for row in ledger.problems(job_id))
    same = (one for one, row in found if one and (one.why, one.done) == (why_of(row), is_done(row)))
    while page := list(islice(same, PAGE)):
        yield page


@contextmanager
def _deciding(loaded: Loaded, job: str) -> Iterator[tuple[Ledger, int]]:
    """The ledger of a job that has run, to be written while nobody runs the job. Raises UsageError, LeaseHeld."""
    from syncd.db.catalog import Catalog
    from syncd.db.leases import LeaseSet, job_resource
    from syncd.db.ledger import Ledger

    with existing_ledger(loaded) as database:
        row = Catalog(database).find_job(job) if database is not None else None
        if database is None or row is None:
            raise UsageError(f'job "{job}" has never run: there is nothing to settle')
        with LeaseSet.acquire(database, [job_resource(job)], f'settling messages of job "{job}"') as lease:
            ledger = Ledger(database, lease.fence)
            _record_broken_off(database, ledger, row)
            yield ledger, row.id


def _record_broken_off(database: Database, ledger: Ledger, job: JobRow) -> None:
    """What a run that died left `sending` is uncertain, and recorded, before anybody decides about it."""
    from syncd.db.rows import Scope
    from syncd.db.runs import Runs
    from syncd.engine.uncertain import ENDED

    left = ledger.mail_routes(job_id=job.id)
    (last,) = Runs(database).history(limit=1) or (None,)
    if left and last is not None:
        ledger.doubt(Scope(last.id, job.id, job.account_id, 0, 0, ()), left, ENDED)
