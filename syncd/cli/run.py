"""`syncd run`: run jobs in this process, show how it goes, say what came of it."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

import click

from syncd.cli.conduct import Conductor
from syncd.cli.options import Common, Verb, check_names, common
from syncd.cli.progress import screen
from syncd.cli.render import Output, count, duration, octets
from syncd.cli.words import places, queue_lines
from syncd.engine.events import ExitCode, RunReport, gravest

if TYPE_CHECKING:
    from syncd.settings.load import Loaded
    from syncd.settings.schema import Settings


@click.command(
    cls=Verb,
    examples=(
        ("syncd run", "all enabled jobs"),
        ("syncd run road-backup", "one job"),
        ("syncd run --dry-run", "show what would be done, change nothing"),
        ("syncd run --parallel 4 --json", "four jobs at a time, for a program"),
    ),
)
@click.argument("jobs", metavar="[JOB]...", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Sign in, list and compare; fetch, write and remove nothing.")
@click.option("--parallel", metavar="N", type=click.IntRange(1, 64), default=1, help="So many jobs at a time.")
@click.option("--refill", is_flag=True, help="Fill packs with what they lack; begin an archive anew that is missing.")
@click.option("--rebind", is_flag=True, help="An account's new server or user holds the same mailbox.")
@click.option("--unfreeze", is_flag=True, help="Allow removals again that were stopped after something odd.")
@click.option("--no-brake", is_flag=True, help="Go on where a destination refuses everything: reject each message.")
@common
@click.pass_obj
def run(
    options: Common,
    jobs: tuple[str, ...],
    *,
    dry_run: bool,
    parallel: int,
    refill: bool,
    rebind: bool,
    unfreeze: bool,
    no_brake: bool,
) -> int:
    """Run jobs now: fetch what is new, deliver it, remove at the source where the job says so.

    Ctrl-C stops within a second; the next run goes on where this one stopped.
    """
    from syncd.services.runs import JobRunner, RunOptions

    loaded = options.load()
    check_names("job", jobs, loaded.settings.jobs)
    output = Output(options)
    conductor = Conductor(screen(output, places(loaded.settings)), output.note)
    can_ask = not options.json and sys.stdin.isatty() and sys.stderr.isatty()
    how = RunOptions(
        dry_run=dry_run,
        parallel=parallel,
        refill=refill,
        rebind=rebind,
        unfreeze=unfreeze,
        by_hand=sys.stdin.isatty() and sys.stderr.isatty(),
        brake=not no_brake,
        confirm=partial(_confirm, conductor, loaded) if can_ask else None,
    )
    reports = conductor.conduct(JobRunner(loaded, jobs, how, conductor.listen))
    if not options.json:
        for report in reports:
            tell(report, loaded.settings, output)
    code = gravest([report.exit_code for report in reports])
    return ExitCode.INTERRUPTED if conductor.interrupted and code is not ExitCode.DONE else code


def _confirm(conductor: Conductor, loaded: Loaded, job: str, messages: int) -> bool:
    source = loaded.settings.jobs[job].source
    account = loaded.settings.accounts[source]
    return conductor.ask(
        f"{job}: {count(messages, 'message')} delivered to every destination would be removed from {account.host}"
        f" (account {source}, user {account.username}).\nRemove them, now and in later runs of this job?"
    )


def tell(report: RunReport, settings: Settings, output: Output) -> None:
    """Say what came of one run: results on standard output, what went wrong on standard error."""
    for error in report.errors:
        for line in error.splitlines():
            output.error(f"{report.job}: {line.removeprefix(f'{report.job}: ')}")
    if not (output.quiet and report.exit_code is ExitCode.DONE) or report.dry_run:
        for line in summary(report, settings):
            output.line(f"{report.job}: {line}")


def summary(report: RunReport, settings: Settings) -> list[str]:
    """One run in a few lines; none where it ended before it knew anything."""
    place = places(settings)[report.job]
    if report.dry_run:
        return [] if report.errors else [_would(report, place)]
    lines = []
    waiting = report.waiting_time + report.waiting_person
    if report.uncertain:
        lines.append(
            f"{count(report.uncertain, 'delivery', 'deliveries')} may have arrived or not, recorded as uncertain;"
            f" see: syncd errors {report.job}"
        )
    if report.fetched or report.from_archive or report.removed or report.recognised:
        lines.append(_done(report, place))
    elif not report.errors and not waiting:
        lines.append(f"nothing new ({count(report.listed, 'message')} {place})")
    if waiting:
        verb = "waits" if waiting == 1 else "wait"
        lines.append(f"{count(waiting, 'message')} {verb}{_what_for(report)}; see: syncd errors {report.job}")
    return [*lines, *queue_lines(settings.jobs[report.job], report.queued, suspended=bool(report.suspended))]


def _what_for(report: RunReport) -> str:
    """What messages wait for."""
    if not report.waiting_person:
        return " for another try"
    return f", {report.waiting_person:,} of them for you" if report.waiting_time else " for you"


def _would(report: RunReport, place: str) -> str:
    """What a run would do."""
    acts = []
    if report.to_fetch:
        acts.append(f"fetch {count(report.to_fetch, 'message')} ({octets(report.to_fetch_octets)})")
    if report.to_pass_on:
        acts.append(f"pass on {count(report.to_pass_on, 'message')} from an archive")
    if report.to_remove:
        acts.append(f"remove {count(report.to_remove, 'message')} from the server")
    parts = [
        f"would {' and '.join(acts) or 'do nothing'}",
        f"{count(report.listed, 'message')} {place}, {report.new:,} new",
        *(f"archive {name} will be made" for name in report.to_make),
        "nothing was changed",
    ]
    return "; ".join(parts)


def _done(report: RunReport, place: str) -> str:
    """What a run has done."""
    parts = []
    if report.fetched:
        parts.append(f"{count(report.fetched, 'message')} fetched ({octets(report.fetched_octets)})")
    if report.from_archive:
        parts.append(f"{count(report.from_archive, 'delivery', 'deliveries')} passed on from an archive")
    parts += [f"{number:,} into {name}" for name, number in report.delivered.items()]
    if report.recognised:
        parts.append(f"{report.recognised:,} recognised under new ids")
    if report.removed:
        removed = f"{report.removed:,}" if parts else count(report.removed, "message")
        parts.append(f"{removed} removed from the server")
    else:
        parts.append(f"all left {place}")
    return f"{', '.join(parts)}; took {duration(report.seconds)}"
