"""`syncd status`, `syncd runs`: what the ledger says has been done, and what is being done now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import click

from syncd import clock
from syncd.cli import complete
from syncd.cli.options import BadName, Common, Verb, check_names, common, is_number
from syncd.cli.render import Output, ago, count, duration, instant, octets
from syncd.cli.standings import next_run, standing_lines
from syncd.cli.words import queue_lines
from syncd.engine.events import DELIVERED_TO

if TYPE_CHECKING:
    from syncd.services.overview import Frozen, JobStatus, RunSummary
    from syncd.settings.loaded import Loaded
    from syncd.settings.schema import Settings

_NUMBERS: Final = frozenset({2, 5, 6})
IMAP: Final = "imap"
_NAMED: Final = 3  # mailboxes named in one line; more are counted


@click.command(
    cls=Verb,
    examples=(
        ("syncd status", "every job"),
        ("syncd status --watch", "what a service does now, live"),
        ("syncd status --json", "for a program"),
    ),
)
@click.argument("jobs", metavar="[JOB]...", nargs=-1, shell_complete=complete.jobs)
@click.option("--watch", is_flag=True, help="Show what is under way and what comes next, until Ctrl-C.")
@common
@click.pass_obj
def status(options: Common, jobs: tuple[str, ...], *, watch: bool) -> None:
    """Show every job, its last run and where its messages stand. A run that is under way shows its progress.

    Connects to no server and changes nothing.
    """
    if watch:
        from syncd.cli.watch import watch as show

        show(options, jobs)
        return
    from syncd.services.overview import status as all_jobs
    from syncd.services.wiring import existing_ledger

    loaded = options.load()
    check_names("job", jobs, loaded.settings.jobs)
    with existing_ledger(loaded) as database:
        found = [job for job in all_jobs(loaded, database) if not jobs or job.job in jobs]
    output = Output(options)
    if output.json:
        output.document([job.as_json() for job in found])
        return
    if not found:
        output.note("no job is configured; add one under [jobs.NAME]")
        return
    heads = ("JOB", "RESULT", "WAITING", "LAST RUN", "NEXT RUN", "AT SOURCE", "DONE", "FROM → TO")
    output.table(heads, [_status_row(job) for job in found], right=_NUMBERS)
    for job in found:
        for line in _remarks(job, loaded.settings):
            output.note(f"{job.job}: {line}")


def _status_row(job: JobStatus) -> Sequence[str]:
    way = f"{job.source} → {', '.join(job.destinations)}"
    if job.known is None:
        return job.job, "-" if job.enabled else "disabled", "-", "never", next_run(job.standing), "-", "-", way
    known, last = job.known, job.known.last
    when, following = ago(last.began_at, clock.now()), next_run(job.standing)
    there = "-" if known.on_server is None else f"{known.on_server:,}"
    return job.job, result(last), f"{known.waiting:,}", when, following, there, f"{known.done:,}", way


def _remarks(job: JobStatus, settings: Settings) -> Iterator[str]:
    yield from standing_lines(job.job, job.standing)
    if job.known is None:
        return
    known = job.known
    for shared in job.shared:
        yield f'{shared.name} is also used by the configuration {shared.configuration}, as "{shared.called}"'
    if known.last.is_running:
        yield progress_line(known.last)
    if known.last.message:
        yield known.last.message
    for note in known.last.notes:
        yield f"note of the last run: {note.text}"
    if known.refused and known.refused != known.last.message:
        yield f"as the last run that listed mailboxes found: {known.refused}"
    if known.removal_unknown:
        number, verb = count(known.removal_unknown, "message"), "was" if known.removal_unknown == 1 else "were"
        yield f"it is not known whether {number} {verb} removed at the source; the next run looks"
    if known.waiting_time or known.waiting_person:
        yield (
            f"{count(known.waiting_time, 'message')} will be tried again later,"
            f" {known.waiting_person:,} {'waits' if known.waiting_person == 1 else 'wait'} for you;"
            f" see: syncd errors {job.job}"
        )
    if known.unrecorded:
        asks = " the next run asks the server;" if _asks(settings, job.job) else ""
        yield (
            f"{count(known.unrecorded, 'delivery', 'deliveries')} of an interrupted run may or may not have arrived;"
            f"{asks} see: syncd errors {job.job} uncertain"
        )
    for each in known.suspended:
        yield (
            f"{each.name} is paused until {instant(each.until)} ({each.reason})."
            f" To try now: syncd retry {job.job} suspended"
        )
    suspended = {each.name: each.until for each in known.suspended}
    yield from queue_lines(settings.jobs[job.job], known.queued, suspended=suspended)
    for frozen in known.frozen:
        yield (
            f"removals from {_mailboxes(frozen)} are frozen: {frozen.reason}."
            f" To allow them again: syncd run {job.job} --unfreeze"
        )


def _asks(settings: Settings, job: str) -> bool:
    """Returns whether the accounts that a job delivers to are asked what has arrived: IMAP is, a mail server is not."""
    accounts = [settings.accounts[it.to] for it in settings.jobs[job].destinations if it.to in settings.accounts]
    return bool(accounts) and all(account.protocol == IMAP for account in accounts)


def _mailboxes(frozen: Frozen) -> str:
    if len(frozen.mailboxes) > _NAMED:
        return count(len(frozen.mailboxes), "mailbox", "mailboxes")
    return ", ".join(frozen.mailboxes)


def progress_line(run: RunSummary) -> str:
    """Returns how far a run is that is under way, in one line."""
    counts = run.counts
    parts = [run.phase or "starting"]
    if counts.get("listed"):
        parts.append(f"{count(counts['listed'], 'message')} listed")
    if counts.get("to_fetch"):
        parts.append(
            f"{counts.get('fetched', 0):,} of {counts['to_fetch']:,} fetched"
            f" ({octets(counts.get('fetched_octets', 0))} of {octets(counts.get('to_fetch_octets', 0))})"
        )
    parts += [f"{number:,} {name}" for name, number in counts.items() if name.startswith(DELIVERED_TO.format(""))]
    if counts.get("removed"):
        parts.append(f"{counts['removed']:,} removed")
    return f"running: {', '.join(parts)}"


def result(run: RunSummary) -> str:
    """Returns the outcome of a run in a word or two."""
    return f"{run.outcome} ({run.exit_code})" if run.exit_code else run.outcome


@click.command(
    cls=Verb,
    examples=(
        ("syncd runs", "the newest runs of all jobs"),
        ("syncd runs road-backup --limit 5", "of one job"),
        ("syncd runs 1234", "everything about one run"),
    ),
)
@click.argument("job", metavar="[JOB|RUN]", required=False, shell_complete=complete.jobs)
@click.option("--limit", metavar="N", type=click.IntRange(1), default=20, show_default=True, help="Show N runs.")
@common
@click.pass_obj
def runs(options: Common, job: str | None, limit: int) -> None:
    """Show the history of runs, the newest first, with the notes that each of them left; or all of one run.

    Runs by a schedule that found nothing to do are shown for an hour; the newest run of a job always is.
    """
    from syncd.services.overview import history
    from syncd.services.wiring import existing_ledger

    loaded = options.load()
    if job is not None and is_number(job) and job not in loaded.settings.jobs:
        _one_run(options, loaded, int(job))
        return
    check_names("job", [job] if job else [], loaded.settings.jobs)
    with existing_ledger(loaded) as database:
        found = history(loaded, database, job, limit)
    output = Output(options)
    if output.json:
        output.document([run.as_json() for run in found])
    elif found:
        _list_runs(output, found)
    else:
        output.note("no job has run yet; to run all of them: syncd run")


def _one_run(options: Common, loaded: Loaded, number: int) -> None:
    from syncd.services.overview import run_of
    from syncd.services.wiring import existing_ledger

    with existing_ledger(loaded) as database:
        run = run_of(loaded, database, number)
    if run is None:
        raise BadName(f"no run {number}; syncd runs --json shows the numbers of runs")
    output = Output(options)
    if output.json:
        output.document(run.as_json())
        return
    for name, value in _facts(run):
        output.line(f"{name:<12}{value}")
    for note in run.notes:
        output.line(f"{'note':<12}{instant(note.at)} {note.text}")


def _facts(run: RunSummary) -> Iterator[tuple[str, str]]:
    """Yields what is known of a run, by name."""
    yield "run", f"{run.run_id} of job {run.job}"
    yield "result", result(run) + (f": {run.message}" if run.message else "")
    yield "asked by", run.asked_by + (f", due {instant(run.due_at)}" if run.due_at else "")
    if run.missed:
        yield "covers", f"{count(run.missed, 'further time')} of the schedule"
    yield "queued", instant(run.queued_at)
    yield "started", instant(run.started_at) if run.started_at else "not yet"
    if run.finished_at:
        yield "finished", instant(run.finished_at)
    elif run.not_before and run.not_before > clock.now():
        yield "goes on", instant(run.not_before)
    yield "slices", f"{run.slices:,}"
    if run.worker:
        yield "worker", run.worker
    if run.is_running:
        yield "phase", run.phase or "starting"
    for name, number in sorted(run.counts.items()):
        if number:
            yield "count", f"{number:>12,} {name.replace('_', ' ')}"


_HEADS: Final = ("STARTED", "JOB", "RESULT", "TOOK", "FETCHED", "OCTETS", "NEW", "")
_RIGHT: Final = frozenset({4, 5, 6})


def _list_runs(output: Output, found: Sequence[RunSummary]) -> None:
    """Print a table of runs, with the notes of each indented below it."""
    rows = [_run_row(run) for run in found]
    widths = output.widths(_HEADS, rows)
    output.columns(_HEADS, widths, right=_RIGHT, head=True)
    for run, row in zip(found, rows, strict=True):
        output.columns(row, widths, right=_RIGHT)
        for note in run.notes:
            output.line(f"    {note.text}")


def _run_row(run: RunSummary) -> Sequence[str]:
    took = "-"
    if run.started_at and run.finished_at:
        took = duration((run.finished_at - run.started_at).total_seconds())
    fetched, size, new = (run.counts.get(name, 0) for name in ("fetched", "fetched_octets", "new"))
    return instant(run.began_at), run.job, result(run), took, f"{fetched:,}", octets(size), f"{new:,}", run.message
