"""Messages that wait for time or for a person, and what a person decides about them: `errors`, `retry`, `drop`.

Looking changes nothing. A decision takes the job's lease, so it is not made while the job runs. Where an archive has
the message, its sender and subject are shown. Without a ledger (None) nothing waits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from syncd import clock
from syncd.errors import UsageError
from syncd.services import overview
from syncd.services.previews import Preview, Previews
from syncd.services.selection import NOT_IN_USE, Chosen, Selector, Why, in_use, is_done, why_of
from syncd.services.wiring import owner, read_only
from syncd.services.words import instant

if TYPE_CHECKING:
    from syncd.db.database import Database
    from syncd.db.ledger import Ledger
    from syncd.db.rows import JobRow, ProblemRow
    from syncd.mail.message import Key
    from syncd.settings.load import Loaded

EVERYTHING: Final = Selector()
PAGE: Final = 100  # messages looked up in archives, or decided in one transaction


@dataclass(frozen=True, slots=True)
class Problem:
    """One line of `syncd errors`. `preview` is None where no archive that can be read has the message.

    Where no job of the configuration delivers there any more (not `in_use`) it can only be dropped.
    """

    row: ProblemRow
    why: Why
    in_use: bool
    preview: Preview | None

    def as_json(self) -> dict[str, object]:
        """Returns plain values but for the instants. Octets of uid and mailbox that are not ASCII are escaped."""
        row = self.row
        return {
            **row._asdict(),
            "number": row.key,
            "why": self.why.value,
            "kind": row.kind.name.lower() if row.kind is not None else None,
            "mailbox": row.mailbox.decode("ascii", "backslashreplace"),
            "uid": row.uid.decode("ascii", "backslashreplace"),
            "sha256": row.sha256.hex() if row.sha256 is not None else None,
            "message": row.message.name.lower(),
            "delivery": row.delivery.name.lower() if row.delivery is not None else None,
            "in_use": self.in_use,
            "preview": self.preview._asdict() if self.preview is not None else None,
        }

    def next_step(self) -> str:
        """Returns what happens next."""
        row = self.row
        if is_done(row):
            return f"delivered, at most {row.uncertain + 1:,} copies"
        if not self.in_use:
            return f"not tried any more ({NOT_IN_USE})"
        if row.retry_at and row.retry_at > clock.now():
            return f"next try {instant(row.retry_at)}"
        return "tried by the next run" if row.retry_at or self.why in {Why.UNSENT, Why.UNCERTAIN} else "waits for you"


class FrozenHere(NamedTuple):
    """A mailbox of a job's source that is frozen, and why; `mailbox` is its path."""

    job: str
    mailbox: str
    reason: str


def problems(
    loaded: Loaded, database: Database | None, job: str | None, selector: Selector = EVERYTHING, skip: int = 0
) -> Iterator[Problem]:
    """Yields what waits of one job or of all, as selected, the oldest message first, without the first `skip`.

    Deliveries that are made, and perhaps made twice, come last.
    """
    row_of_job = _job(loaded, database, job) if job is not None else None
    if database is None or (job is not None and row_of_job is None):
        return
    ledger = read_only(database)
    found = ledger.problems(row_of_job.id if row_of_job else None)
    rows = islice((row for row in found if selector.takes(row, why_of(row))), skip, None)
    with closing(Previews(loaded.settings.archives)) as previews:
        while page := list(islice(rows, PAGE)):
            having = ledger.archives.having([row.key for row in page])
            for row in page:
                places = having.get(row.key, [])
                if row.account in loaded.settings.archives:  # the job reads an archive
                    places = [*places, (row.account, "")]
                preview = previews.of(row.sha256, row.octets, places) if row.sha256 is not None else None
                yield Problem(row, why_of(row), in_use(loaded.settings.jobs, row), preview)


def unlisted(loaded: Loaded, database: Database | None, job: str | None) -> dict[str, int]:
    """Returns how many messages of each job wait and have no line in `problems`: nothing went wrong with them.

    They are to be fetched or delivered by the next run, or are missing at the source. Jobs without any are left out.
    """
    found: dict[str, int] = {}
    for name in loaded.settings.jobs if job is None else [job] if job in loaded.settings.jobs else []:
        counts = None if database is None else overview.counts(loaded, database, name)
        row = _job(loaded, database, name)
        if database is None or counts is None or row is None or not counts.waiting:
            continue
        rows = read_only(database).problems(row.id)
        listed = {each.key for each in rows if not is_done(each) and in_use(loaded.settings.jobs, each)}
        if counts.waiting > len(listed):
            found[name] = counts.waiting - len(listed)
    return found


def frozen(loaded: Loaded, database: Database | None, job: str | None) -> Iterator[FrozenHere]:
    """Yields the mailboxes from which no message is removed, of the source of one job or of each."""
    for name in loaded.settings.jobs if job is None else [job] if job in loaded.settings.jobs else []:
        row = _job(loaded, database, name)
        if database is not None and row is not None:
            for it in read_only(database).mailboxes.frozen(row.account_id):
                yield FrozenHere(name, "/".join(it.path), it.reason)


def refused(loaded: Loaded, database: Database | None, job: str | None) -> dict[str, str]:
    """Returns why a run refused mailboxes, so that nothing is known of their messages, by job; others are left out."""
    found: dict[str, str] = {}
    for name in loaded.settings.jobs if job is None else [job] if job in loaded.settings.jobs else []:
        counts = None if database is None else overview.counts(loaded, database, name)
        if counts is not None and counts.refused:
            found[name] = counts.refused
    return found


def known(loaded: Loaded, database: Database | None) -> dict[str, set[str]]:
    """Returns every job with the names and recipients of its destinations, former ones of the ledger among them."""
    found = {
        name: {word for to in job.destinations for word in (to.to, *(to.recipient or ()))}
        for name, job in loaded.settings.jobs.items()
    }
    if database is not None:
        from syncd.db.catalog import Catalog

        for name, words in Catalog(database, owner(loaded)).destinations().items():
            found.setdefault(name, set()).update(words)
    return found


# --- which messages a decision is about --------------------------------------------------------------


def chosen(
    loaded: Loaded, database: Database | None, jobs: Iterable[str], selector: Selector, *, drop: bool
) -> dict[str, list[Chosen]]:
    """Returns what a decision is about, by job; a job that only the ledger knows is left out if it has nothing.

    A delivery that is made is not tried again, but can be dropped from the list. A message that is kept at its source
    is never among them: `syncd run JOB --unfreeze` is for those. Raises UsageError for a number that selects nothing.
    """
    others = dict.fromkeys(selector.numbers, "")
    found: dict[str, list[Chosen]] = {}
    for name in jobs if database is not None else ():
        rows = _selected(loaded, database, name, selector, others)
        mine = [row for row in rows if drop or not row.done]
        if mine or name in loaded.settings.jobs:
            found[name] = mine
    _check_numbers(others, {row.key for rows in found.values() for row in rows})
    return found


def _selected(
    loaded: Loaded, database: Database | None, job: str, selector: Selector, others: dict[int, str]
) -> Iterator[Chosen]:
    """Yields what a selector takes of a job. Why a message waits that has one of its numbers is noted in `others`."""
    row_of_job = _job(loaded, database, job)
    if database is None or row_of_job is None:
        return
    for row in read_only(database).problems(row_of_job.id):
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
        f"message {number} is {word}" if word else f"no message {number} is waiting"
        for number, word in sorted(others.items())
        if number not in found
    ]
    if wrong:
        raise UsageError(
            f"a number selects nothing: {', '.join(wrong)}. Nothing was changed; `syncd errors` lists what waits"
        )


# --- decisions ---------------------------------------------------------------------------------------


class Retried(NamedTuple):
    """The result of `retry` for a job: names of sources and destinations, numbers of messages."""

    resumed: list[str]  # they were suspended, and are contacted again
    again: list[Key] | None = None  # tried again by the next run; None: it was not about messages
    changed: int = 0  # messages that a run changed after they were chosen, and that are left as they are
    not_in_use: tuple[Key, ...] = ()  # no job delivers there any more
    loops: tuple[Key, ...] = ()  # they look like a mail loop, and were not named as such


def retry(
    loaded: Loaded, database: Database | None, jobs: Sequence[str], selector: Selector, *, suspended: bool = False
) -> Iterator[tuple[str, Retried]]:
    """Have the next run try again what is selected; yields what was done, job by job.

    A message that looks like a mail loop is tried only where the selector names it. A selector that names no messages
    takes all, and suspended sources and destinations with them. With `suspended=True` these were named: then messages
    are taken only if they were named, too. Raises UsageError, and changes nothing, for a number that selects nothing;
    LeaseHeld.
    """
    about_messages = selector.names_messages or not suspended
    found = chosen(loaded, database, jobs, selector, drop=False) if about_messages else {}
    for job in jobs:
        resumed: list[str] = []
        if suspended or not selector.names_messages:
            resumed = _resume(loaded, database, job, selector)
        if job in found:
            yield job, retry_chosen(loaded, database, job, found[job], selector)._replace(resumed=resumed)
        elif resumed:
            yield job, Retried(resumed)


def retry_chosen(
    loaded: Loaded, database: Database | None, job: str, rows: Sequence[Chosen], selector: Selector
) -> Retried:
    """Have the next run try these again. Raises LeaseHeld."""
    usable = [row for row in rows if row.in_use and (row.why is not Why.LOOP or selector.names_loops)]
    again: list[Key] = []
    if usable:
        with _deciding(loaded, database, job, selector.numbers) as (ledger, job_id):
            for page in _unchanged(ledger, job_id, usable):
                looping = [(row.key, row.route_id) for row in page if row.why is Why.LOOP]
                ledger.decisions.retry([(row.key, row.route_id) for row in page], looping)
                again += [row.key for row in page]
    return Retried(
        [],
        again,
        len(usable) - len(again),
        tuple(row.key for row in rows if not row.in_use),
        tuple(row.key for row in rows if row.in_use and row.why is Why.LOOP and not selector.names_loops),
    )


def _resume(loaded: Loaded, database: Database | None, job: str, selector: Selector) -> list[str]:
    """Contact suspended sources and destinations again, as selected; returns which were suspended."""
    if job not in loaded.settings.jobs or _job(loaded, database, job) is None:
        return []
    with _deciding(loaded, database, job) as (ledger, job_id):
        return ledger.decisions.resume(job_id, selector.leads_to)


def drop(loaded: Loaded, database: Database | None, job: str, rows: Sequence[Chosen]) -> list[Key]:
    """Never try these again; returns the numbers of messages that it did so for. Raises LeaseHeld."""
    done: list[Key] = []
    if rows:
        with _deciding(loaded, database, job, [row.key for row in rows]) as (ledger, job_id):
            for page in _unchanged(ledger, job_id, rows):
                ledger.decisions.drop([(row.key, row.route_id) for row in page], job_id)
                done += [row.key for row in page]
    return done


def _unchanged(ledger: Ledger, job_id: int, rows: Sequence[Chosen]) -> Iterator[list[Chosen]]:
    """Yields the rows that wait for the same as when they were chosen, in pages: a run may have been faster."""
    chosen = {(row.key, row.route_id): row for row in rows}
    found = ((chosen.get((row.key, row.route_id)), row) for row in ledger.problems(job_id))
    same = (one for one, row in found if one and (one.why, one.done) == (why_of(row), is_done(row)))
    while page := list(islice(same, PAGE)):
        yield page


@contextmanager
def _deciding(
    loaded: Loaded, database: Database | None, job: str, named: Collection[int] = ()
) -> Iterator[tuple[Ledger, int]]:
    """The ledger of a job that has run, to be written while nobody runs the job. Raises UsageError, LeaseHeld.

    Messages that were `named` are not asked for any more, where their mailbox has not told what became of them.
    """
    row = _job(loaded, database, job)
    if database is None or row is None:
        raise UsageError(f'job "{job}" has never run: there is nothing to decide')
    from syncd.db.leases import LeaseSet, job_resource
    from syncd.db.ledger import Ledger

    with LeaseSet.acquire(database, [job_resource(row.id)], f'a decision on messages of job "{job}"') as lease:
        ledger = Ledger(database, lease.fence)
        _record_broken_off(database, ledger, row, named)
        yield ledger, row.id


def _record_broken_off(database: Database, ledger: Ledger, job: JobRow, named: Collection[int]) -> None:
    """Record what a run that died left `sending` as uncertain, before anybody decides about it."""
    from syncd.db.rows import RunScope
    from syncd.db.runs import Runs
    from syncd.engine.uncertain import ENDED
    from syncd.mail.message import Key
    from syncd.mail.outcome import Repeat

    left = ledger.uncertain.routes(job_id=job.id)
    (last,) = Runs(database).history(limit=1) or (None,)
    if last is None:
        return
    scope = RunScope(last.id, last.generation, job.id, job.account_id, ())
    if left:
        ledger.uncertain.record(scope, left, ENDED)
    asked = [it.id for it in job.routes if it.repeat is Repeat.ASKED and it.account_id is not None]
    if named and asked:
        ledger.uncertain.record(scope, asked, ENDED, {Key(number) for number in named})


def _job(loaded: Loaded, database: Database | None, name: str) -> JobRow | None:
    """Returns the job as the ledger knows it, None where it has never been registered."""
    if database is None:
        return None
    from syncd.db.catalog import Catalog

    return Catalog(database, owner(loaded)).find_job(name)
