"""`syncd doctor`: looks at everything that a service stands on, and says what is wrong and what to do.

    versions   this program, Python and libraries; workers of another version
    database   reachable, its schema, integrity, room, clock
    broker     reachable
    disk       the state directory and the archives of this machine
    service    a scheduler leads, each site has a worker, nothing was left behind
    jobs       paused, late, in trouble; the last run failed

It changes nothing. A check that cannot be made says why; the others are made nevertheless. Values only: `cli.doctor`
shows them.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Collection, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

from syncd import clock
from syncd.engine.exit_codes import exit_code
from syncd.errors import SyncdError
from syncd.services import doctor_machine
from syncd.services.findings import Check, Finding
from syncd.services.notify import lines_of
from syncd.settings.quiet import late_since

if TYPE_CHECKING:
    from syncd.db.database import Database
    from syncd.db.soundness import Looked
    from syncd.db.workers import Worker
    from syncd.settings.load import Loaded

LIBRARIES: Final = ("sqlalchemy", "celery", "kombu", "apscheduler", "redis", "psycopg", "alembic", "pydantic")
CLOCK_S: Final = 5.0  # by which clocks may differ; a lease lasts 60 s
WAL_OCTETS: Final = 256 << 20  # it is cut to 64 MiB; a reader that never ends lets it grow
SHOWN: Final = 50  # jobs, runs or leases with a line of their own


def examine(loaded: Loaded, sites: Collection[str] = ()) -> Iterator[Check]:
    """Yields the checks as they are made. `sites`: those whose archives are on this machine."""
    yield _guarded("versions", _versions)
    database: Database | None = None
    try:
        check, database = _database(loaded)
        yield check
        readable = database is not None or not check.findings  # opening another one might change its schema
        yield _guarded("broker", lambda it: doctor_machine.broker(it, loaded.settings.broker_url))
        yield _guarded("disk", lambda it: doctor_machine.disk(it, loaded, sites, ledger=readable))
        if database is not None:
            usable = database
            yield _guarded("service", lambda it: _service(it, usable))
            yield _guarded("jobs", lambda it: _jobs(it, loaded, usable))
    finally:
        if database is not None:
            database.close()


def _guarded(name: str, make: Callable[[Check], None]) -> Check:
    check = Check(name)
    try:
        make(check)
    except SyncdError as error:
        check.findings.append(_of_error(error))
    return check


def _of_error(error: SyncdError) -> Finding:
    return Finding(str(error), code=exit_code(error))


def _versions(check: Check) -> None:
    python = ".".join(map(str, sys.version_info[:3]))
    check.facts.append(f"syncd {version('syncd')}, Python {python}, SQLite {sqlite3.sqlite_version}")
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # an extra that is not installed
            continue
    check.facts.append(", ".join(found))


# --- the database --------------------------------------------------------------------------------------


def _database(loaded: Loaded) -> tuple[Check, Database | None]:
    """Returns the check, and the database if more can be asked of it."""
    from syncd.db.database import Database
    from syncd.db.soundness import SCHEMA, look

    check = Check("database")
    settings = loaded.settings
    database = None
    try:
        database = Database.peek(settings.database_url, settings.state_directory)
        if database is None:
            check.facts.append("there is no ledger yet; the first run makes it")
            return check, None
        looked = look(database)
    except SyncdError as error:
        check.findings.append(_of_error(error))
        if database is not None:
            database.close()
        return check, None
    check.facts.append(f"{database.place}: {looked.engine}, schema {looked.schema or 'none'}{_sizes(looked)}")
    check.findings.extend(_database_findings(looked, database.place, SCHEMA))
    if looked.schema == SCHEMA and not looked.damage:
        return check, database
    database.close()
    return check, None


def _sizes(looked: Looked) -> str:
    return "" if looked.octets is None else f", {doctor_machine.size(looked.octets)}"


def _database_findings(looked: Looked, place: str, known: str) -> Iterator[Finding]:
    if looked.damage:
        yield Finding(
            f"the ledger {place} is damaged: {looked.damage}",
            "stop the service and put a backup back; syncd then asks what has changed since",
        )
    if looked.schema > known:
        yield Finding(f"the ledger {place} was written by a newer syncd", "use the newer program on every machine")
    elif looked.schema < known:
        text = f"the ledger {place} has the schema {looked.schema or 'of no version'}; this program has {known}"
        yield Finding(text, "the next run or start of the service brings it up to date", wrong=False)
    if abs(looked.clock_ahead_s) > CLOCK_S:
        side = "behind" if looked.clock_ahead_s > 0 else "ahead of"
        text = f"this machine's clock is {abs(looked.clock_ahead_s):.0f} s {side} the database's"
        yield Finding(text, "have both set by NTP; schedules and waits go by the clock")
    if looked.wal_octets is not None and looked.wal_octets > WAL_OCTETS:
        text = f"the ledger's log {place}-wal has grown to {doctor_machine.size(looked.wal_octets)}"
        yield Finding(text, "a program has it open and never ends its reading: end that program")
    if looked.free_octets is not None and looked.free_octets < doctor_machine.LITTLE_OCTETS:
        yield Finding(f"only {doctor_machine.size(looked.free_octets)} are free beside the ledger", "free some space")


# --- the service ---------------------------------------------------------------------------------------


def _service(check: Check, database: Database) -> None:
    from syncd.db import figures, soundness, workers

    found = figures.figures(database, late_since)
    with database.read() as connection:
        known = workers.known_in(connection)
        sites, dead = soundness.sites(connection), soundness.dead_leases(connection)
        left = soundness.left_behind(connection)
    check.facts.extend(_processes(known))
    if not found.jobs:
        check.facts.append("no job was applied: nothing runs by a schedule; syncd serve does that")
    elif sites:
        check.findings.extend(_unserved(sites, known, leads=found.leads))
    check.findings.extend(_of_other_versions(known))
    if found.overdue_s > doctor_machine.LATE_S:
        text = f"a job was due {found.overdue_s:.0f} s ago and is not queued"
        check.findings.append(Finding(text, "look at the scheduler's log"))
    served = {site for worker in workers.living(known, "worker") for site in worker.sites}
    for run in left[:SHOWN]:
        text = f'run {run.run_id} of job "{run.job}" was left behind by {run.who}'
        advice = "a worker takes it over within a minute" if run.site in served else "the next run goes on with it"
        check.findings.append(Finding(text, advice, wrong=False))
    for resource, who in dead[:SHOWN]:
        text = f"the lease {resource} is still with {who}, which has ended"
        check.findings.append(Finding(text, "whoever needs it takes it", wrong=False))


def _processes(known: Collection[Worker]) -> Iterator[str]:
    for worker in known:
        if worker.lives:
            where = f"{worker.role} {worker.version}, process {worker.holder.pid} on {worker.holder.host}"
            threads = f", {worker.threads} threads, sites: {_named(worker.sites)}" if worker.role == "worker" else ""
            yield f"{where}{threads}, heard of {worker.age_s:.0f} s ago"


def _named(sites: Collection[str]) -> str:
    return ", ".join(site or "(any)" for site in sites) or "none"


def _unserved(sites: Collection[str], known: Collection[Worker], *, leads: bool) -> Iterator[Finding]:
    from syncd.db.workers import living

    if not leads:
        yield Finding("no scheduler leads: no job runs by its schedule", "start syncd serve, or syncd scheduler")
    served = {site for worker in living(list(known), "worker") for site in worker.sites}
    for site in sites:
        if site not in served:
            whose = f'of the site "{site}"' if site else "that run anywhere"
            start = f"syncd worker --site {site} on that machine" if site else "syncd serve, or syncd worker"
            yield Finding(f"no worker lives for the jobs {whose}", f"start {start}")


def _of_other_versions(known: Collection[Worker]) -> Iterator[Finding]:
    ours = version("syncd")
    for worker in known:
        if worker.lives and worker.version != ours:
            text = f"the {worker.role} on {worker.holder.host} is syncd {worker.version}, this is {ours}"
            yield Finding(text, "install one version everywhere")
        elif not worker.lives and worker.holder.is_dead():
            text = f"the {worker.role} with the process id {worker.holder.pid} ended without saying so"
            yield Finding(text, "look at its log, and at the system's for lack of memory", wrong=False)


# --- jobs ----------------------------------------------------------------------------------------------


def _jobs(check: Check, loaded: Loaded, database: Database) -> None:
    from syncd.db import notices
    from syncd.db.rows import Paused
    from syncd.services.failures import failed, passes

    conditions = notices.conditions(database, clock.now(), late_since)
    wrong = [(it, line) for it in conditions for line in lines_of(it)]
    for condition, line in wrong[:SHOWN]:
        check.findings.append(Finding(f'job "{condition.job}" {line}'))
    if len(wrong) > SHOWN:
        check.findings.append(Finding(f"{len(wrong) - SHOWN} more findings about jobs", "syncd status"))
    for condition in conditions:
        if condition.paused is Paused.PERSON:
            text = f'job "{condition.job}" is paused by a person since {condition.paused_since:%Y-%m-%d %H:%M} UTC'
            check.findings.append(Finding(text, f"to go on: syncd resume {condition.job}", wrong=False))
    told = {condition.job_id for condition, _ in wrong}
    runs = [run for name, run in failed(loaded, database).items() if loaded.settings.jobs[name].enabled]
    runs = [run for run in runs if run.job_id not in told]
    for run in runs[:SHOWN]:
        text = f'the last run of job "{run.job}" failed with exit code {run.exit_code}'
        check.findings.append(Finding(text, f"see: syncd status {run.job}", wrong=not passes(run)))
    if len(runs) > SHOWN:
        text = f"the last runs of {len(runs) - SHOWN} more jobs failed"
        check.findings.append(Finding(text, "see: syncd status", wrong=not all(map(passes, runs[SHOWN:]))))
    if not wrong and not runs:
        check.facts.append("no job is late, in trouble, or paused by the service")
