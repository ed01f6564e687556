"""`syncd pause`, `resume`, `cancel`: what people ask of jobs and runs, written into the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from syncd.cli import complete
from syncd.cli.options import BadName, Common, Verb, check_names, common, is_number
from syncd.cli.render import Output
from syncd.services import control

if TYPE_CHECKING:
    from syncd.db.database import Database
    from syncd.settings.loaded import Loaded

_JOBS = click.argument("jobs", metavar="JOB...", nargs=-1, required=True, shell_complete=complete.jobs)


@click.command(cls=Verb, examples=(("syncd pause road-backup", "the schedule starts no run of it any more"),))
@_JOBS
@common
@click.pass_obj
def pause(options: Common, jobs: tuple[str, ...]) -> None:
    """Pause jobs: their schedules start no run, and the run under way ends its slice. syncd run JOB still works."""
    _each(options, jobs, control.pause, "paused", "was paused already")


@click.command(cls=Verb, examples=(("syncd resume road-backup", "run it by its schedule again"),))
@_JOBS
@common
@click.pass_obj
def resume(options: Common, jobs: tuple[str, ...]) -> None:
    """Let paused jobs run by their schedules again, whatever paused them: you, refused sign-ins, dead workers."""
    _each(options, jobs, control.resume, "runs by its schedule again", "was not paused")


@click.command(
    cls=Verb,
    examples=(
        ("syncd cancel road-backup", "end the run that is queued or under way"),
        ("syncd cancel 1234", "one run"),
    ),
)
@click.argument("what", metavar="JOB|RUN", shell_complete=complete.jobs)
@common
@click.pass_obj
def cancel(options: Common, what: str) -> int:
    """End a run that is queued or under way, by its job or its number. What it has done stays done.

    The next time of the schedule starts a new run, which goes on from there.
    """
    from syncd.services.wiring import existing_ledger

    loaded = options.load()
    number = is_number(what) and what not in loaded.settings.jobs
    if not number:
        check_names("job", [what], loaded.settings.jobs)
    with existing_ledger(loaded) as database:
        ended = None if database is None else control.cancel(loaded, database, what)
    output = Output(options)
    if ended is None:
        output.note(f"no run {what} is queued or under way" if number else f"{what} has no open run")
        return 1
    if output.json:
        output.document({"run_id": ended.run_id, "closed": ended.closed})
    elif ended.closed:
        output.line(f"run {ended.run_id} is cancelled; it had not begun")
    else:
        output.line(f"run {ended.run_id} is asked to stop; its worker ends it within some seconds")
    return 0


def _each(options: Common, jobs: tuple[str, ...], act: control.Act, done: str, nothing: str) -> None:
    from syncd.services.wiring import open_ledger

    loaded = options.load()
    check_names("job", jobs, loaded.settings.jobs)
    output = Output(options)
    results = {}
    with open_ledger(loaded) as database:
        for job in dict.fromkeys(jobs):
            results[job] = _one(database, act, loaded, job)
    if output.json:
        output.document([{"job": job, "changed": changed} for job, changed in results.items()])
        return
    for job, changed in results.items():
        output.line(f"{job} {done if changed else nothing}")


def _one(database: Database, act: control.Act, loaded: Loaded, job: str) -> bool:
    changed = act(loaded, database, job)
    if changed is None:
        raise BadName(f"job {job!r} has neither run nor been applied, so there is nothing to change; see: syncd apply")
    return changed
