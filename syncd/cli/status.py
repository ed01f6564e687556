"""`syncd status`, `syncd runs`: what the ledger says has been done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from syncd import clock
from syncd.cli.options import Common, Verb, check_names, common
from syncd.cli.render import Output, ago, count, duration, instant, octets
from syncd.cli.words import queue_lines

if TYPE_CHECKING:
    from syncd.services.overview import JobStatus, RunSummary
    from syncd.settings.schema import Job

_NUMBERS: Final = frozenset({4, 5, 6})


@click.command(cls=Verb, examples=(("syncd status", "every job"), ("syncd status --json", "for a program")))
@click.argument("jobs", metavar="[JOB]...", nargs=-1)
@common
@click.pass_obj
def status(options: Common, jobs: tuple[str, ...]) -> None:
    """Every job, its last run and where its messages stand; connects to nothing."""
    from syncd.services.overview import status as all_jobs

    loaded = options.load()
    check_names("job", jobs, loaded.settings.jobs)
    found = [job for job in all_jobs(loaded) if not jobs or job.job in jobs]
    output = Output(options)
    if output.json:
        output.document([job.as_json() for job in found])
        return
    if not found:
        output.note("no job is configured; add one under [jobs.NAME]")
        return
    heads = ("JOB", "FROM → TO", "LAST RUN", "RESULT", "AT SOURCE", "DONE", "WAITING")
    output.table(heads, [_status_row(job) for job in found], right=_NUMBERS)
    for job in found:
        for line in _remarks(job, loaded.settings.jobs[job.job]):
            output.note(f"{job.job}: {line}")


def _status_row(job: JobStatus) -> Sequence[str]:
    way = f"{job.source} → {', '.join(job.destinations)}"
    if job.known is None:
        return job.job, way, "never", "-" if job.enabled else "disabled", "-", "-", "-"
    known, last = job.known, job.known.last
    when = ago(last.started_at, clock.now()) if last.started_at else "-"
    waiting = known.waiting_time + known.waiting_person + known.to_do
    return job.job, way, when, result(last), f"{known.on_server:,}", f"{known.done:,}", f"{waiting:,}"


def _remarks(job: JobStatus, settings: Job) -> list[str]:
    if job.known is None:
        return []
    known, lines = job.known, []
    if known.last.message:
        lines.append(known.last.message)
    if known.waiting_time or known.waiting_person:
        lines.append(
            f"{count(known.waiting_time, 'message')} tried again later, {known.waiting_person:,} for you to look at;"
            f" see: syncd errors {job.job}"
        )
    if known.in_doubt:
        lines.append(
            f"{count(known.in_doubt, 'delivery', 'deliveries')} of a run that broke off may have arrived:"
            f" uncertain until the next run settles it; see: syncd errors {job.job} uncertain"
        )
    for name, (until, reason) in known.suspended.items():
        lines.append(
            f"{name} is left alone until {instant(until)}: {reason}; not to wait: syncd retry {job.job} suspended"
        )
    lines += queue_lines(settings, known.queued, suspended=bool(known.suspended))
    if known.frozen:
        lines.append(f"removals are frozen: {known.frozen}; to allow them again: syncd run {job.job} --unfreeze")
    return lines


def result(run: RunSummary) -> str:
    """A run's outcome in a word or two."""
    return f"{run.outcome} ({run.exit_code})" if run.exit_code else run.outcome


@click.command(
    cls=Verb,
    examples=(("syncd runs", "the newest runs of all jobs"), ("syncd runs road-backup --limit 5", "of one job")),
)
@click.argument("job", metavar="[JOB]", required=False)
@click.option("--limit", metavar="N", type=click.IntRange(1), default=20, show_default=True, help="So many runs.")
@common
@click.pass_obj
def runs(options: Common, job: str | None, limit: int) -> None:
    """History of runs, the newest first."""
    from syncd.services.overview import history

    loaded = options.load()
    check_names("job", [job] if job else [], loaded.settings.jobs)
    found = history(loaded, job, limit)
    output = Output(options)
    if output.json:
        output.document([run.as_json() for run in found])
    elif found:
        heads = ("STARTED", "JOB", "RESULT", "TOOK", "FETCHED", "OCTETS", "NEW", "")
        output.table(heads, [_run_row(run) for run in found], right=frozenset({4, 5, 6}))
    else:
        output.note("nothing has run yet; run: syncd run")


def _run_row(run: RunSummary) -> Sequence[str]:
    took = "-"
    if run.started_at and run.finished_at:
        took = duration((run.finished_at - run.started_at).total_seconds())
    fetched, size, new = (run.counts.get(name, 0) for name in ("fetched", "fetched_octets", "new"))
    return instant(run.started_at), run.job, result(run), took, f"{fetched:,}", octets(size), f"{new:,}", run.message
