"""`syncd run`: run jobs in this process, show their progress and their results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING

import click

from syncd.cli import complete
from syncd.cli.conduct import Conductor, Runner
from syncd.cli.options import Common, Verb, check_names, common
from syncd.cli.progress import screen
from syncd.cli.render import Output, count, duration, instant, octets, roughly
from syncd.cli.words import places, queue_lines
from syncd.engine.events import RunReport
from syncd.engine.exit_codes import ExitCode, gravest

if TYPE_CHECKING:
    from syncd.settings.load import Loaded
    from syncd.settings.schema import Settings


def _pattern(_context: click.Context, _parameter: click.Parameter, pattern: str | None) -> str | None:
    """Check a pattern of mailboxes. Raises BadParameter."""
    from syncd.mail.patterns import check

    if pattern is not None:
        try:
            check(pattern)
        except ValueError as error:
            raise click.BadParameter(f'"{pattern}" {error}') from error
    return pattern


@click.command(
    cls=Verb,
    examples=(
        ("syncd run", "all enabled jobs"),
        ("syncd run road-backup", "one job"),
        ("syncd run --dry-run", "show what a run would do; change nothing"),
        ("syncd run --parallel 4 --json", "four jobs at a time; events as JSON lines, for a program"),
    ),
)
@click.argument("jobs", metavar="[JOB]...", nargs=-1, shell_complete=complete.jobs)
@click.option("--dry-run", is_flag=True, help="Sign in, list and compare; do not fetch, write or remove anything.")
@click.option("--parallel", metavar="N", type=click.IntRange(1, 64), default=1, help="Run N jobs at a time.")
@click.option(
    "--refill", is_flag=True, help="Re-deliver what an archive of packs lacks; recreate an archive that is gone."
)
@click.option("--rebind", is_flag=True, help="Accept the new host, port or username as the same mailbox.")
@click.option(
    "--unfreeze",
    metavar="[MAILBOX]",
    is_flag=False,
    flag_value="*",
    callback=_pattern,
    help="Allow removals again that were frozen after an anomaly: from one mailbox (a path with /, or a pattern), or"
    " from all. To be put behind JOB.",
)
@click.option(
    "--no-brake", is_flag=True, help="Do not stop at a destination that refuses every message; reject each of them."
)
@click.option("--here", is_flag=True, help="Work in this process, also where a service is running.")
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
    unfreeze: str | None,
    no_brake: bool,
    here: bool,
) -> int:
    """Run jobs now: fetch new messages, deliver them, and remove them from the server if the job says so.

    Without JOB, all enabled jobs run. Ctrl-C stops within a second; the next run continues where this one stopped.
    Where syncd serve or a worker is running, it does the work, and this command shows it; an option that changes how a
    job is run has the work done here.
    """
    from syncd.services.slices import RunOptions

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
    changed = dry_run or refill or rebind or unfreeze is not None or no_brake or parallel > 1
    with ExitStack() as stack:
        runner = None if here or changed else _service(loaded, jobs, conductor, stack)
        if runner is None:
            from syncd.services.runs import RunsByHand

            runner = RunsByHand(loaded, jobs, how, conductor.listen)
        reports = conductor.conduct(runner)
    if not options.json:
        for report in reports:
            tell(report, loaded.settings, output)
    code = gravest([report.exit_code for report in reports])
    return ExitCode.INTERRUPTED if conductor.interrupted and code is not ExitCode.DONE else code


def _service(loaded: Loaded, jobs: Sequence[str], conductor: Conductor, stack: ExitStack) -> Runner | None:
    """Returns what asks a running service to do the work; None where there is none for these jobs."""
    from syncd.services.wiring import existing_ledger

    chosen = list(jobs) or [name for name, job in loaded.settings.jobs.items() if job.enabled]
    database = stack.enter_context(existing_ledger(loaded))
    if database is None or not chosen:
        return None
    from syncd.services.asking import RunsByService, served

    if not served(loaded, database, chosen):
        return None
    return RunsByService(loaded, database, chosen, conductor.listen, bell(loaded))


def bell(loaded: Loaded) -> Callable[[int, str], None]:
    """Returns what wakes a worker through the broker; workers look by themselves every two seconds."""
    if not loaded.settings.is_cluster:
        return lambda *_: None
    from jobs.app import make_app, ring
    from jobs.bell import Bell

    app = make_app(loaded.settings.broker_url)

    def try_to_ring(run_id: int, site: str) -> None:
        with suppress(Exception):  # the broker is away: each transport has its own errors
            ring(app, run_id, site)

    return Bell(try_to_ring)  # a broker that never answers does not keep this command


def _confirm(conductor: Conductor, loaded: Loaded, job: str, messages: int) -> bool:
    source = loaded.settings.jobs[job].source
    account = loaded.settings.accounts[source]
    return conductor.ask(
        f"{job}: {count(messages, 'message')} delivered to every destination would be removed from {account.host}"
        f" (account {source}, user {account.username}).\nRemove them, now and in later runs of this job?"
    )


def tell(report: RunReport, settings: Settings, output: Output) -> None:
    """Print what a run did: results on standard output, errors on standard error.

    With --quiet a trouble is told when it begins, changes and ends, and not while it stays the same.
    """
    if output.quiet and report.news == "same":
        return
    if report.news == "ended" and report.trouble_since is not None:
        output.error(f"{report.job}: all went well, for the first time since {instant(report.trouble_since)}")
    for error in report.errors:
        for line in () if f"{report.job}: {error}" in output.noted else error.splitlines():
            output.error(f"{report.job}: {line}")
    if report.mapping and not output.quiet:
        from syncd.cli.outlook import show

        show(report, output)
    if not (output.quiet and report.exit_code is ExitCode.DONE) or report.dry_run:
        for line in summary(report, settings):
            output.line(f"{report.job}: {line}")


def summary(report: RunReport, settings: Settings) -> list[str]:
    """Returns a run in a few lines; none if it ended before it knew anything."""
    place = places(settings)[report.job]
    if report.dry_run:
        return [] if report.errors else [_would(report, place)]
    lines = []
    waiting = report.waiting_time + report.waiting_person
    if report.uncertain:
        lines.append(
            f"{count(report.uncertain, 'delivery', 'deliveries')} may or may not have arrived, recorded as uncertain;"
            f" see: syncd errors {report.job}"
        )
    if report.fetched or report.backfilled or report.removed or report.removal_unknown or report.recognised:
        lines.append(_done(report, place))
    elif not report.errors and not waiting:
        lines.append(f"nothing new ({_there(report, place)})")
    if waiting:
        verb = "waits" if waiting == 1 else "wait"
        lines.append(f"{count(waiting, 'message')} {verb}{_what_for(report)}; see: syncd errors {report.job}")
    return [*lines, *queue_lines(settings.jobs[report.job], report.queued, suspended=report.suspended)]


def _what_for(report: RunReport) -> str:
    """Returns what messages wait for."""
    if not report.waiting_person:
        return " for another try"
    return f", {report.waiting_person:,} of them for you" if report.waiting_time else " for you"


def _would(report: RunReport, place: str) -> str:
    """Returns what a run would do."""
    acts = []
    if report.to_fetch:
        acts.append(f"fetch {count(report.to_fetch, 'message')} ({octets(report.to_fetch_octets)})")
    if report.to_backfill:
        acts.append(f"deliver {count(report.to_backfill, 'message')} from an archive")
    if report.to_remove:
        acts.append(f"remove {count(report.to_remove, 'message')} from the server")
    parts = [
        f"would {' and '.join(acts) or 'do nothing'}{_how_long(report)}",
        _there(report, place),
        *(f"archive {name} would be made" for name in report.to_make),
        "nothing was changed",
    ]
    return "; ".join(parts)


def _there(report: RunReport, place: str) -> str:
    """Returns how many messages there are. A dry run has no plans where it did not come to a list of mailboxes."""
    looked = bool(report.mapping) or not report.dry_run
    if looked and not report.mailboxes and not report.listed:
        return "no mailbox is chosen"
    return f"{count(report.listed, 'message')} {place}"


def _how_long(report: RunReport) -> str:
    """Returns an estimate, where there is something to do."""
    if report.seconds_ahead is None or not (report.to_fetch or report.to_backfill):
        return ""
    return f" (about {roughly(report.seconds_ahead)}, {report.seconds_from.value})"


def _done(report: RunReport, place: str) -> str:
    """Returns what a run has done."""
    parts = []
    if report.fetched:
        parts.append(f"{count(report.fetched, 'message')} fetched ({octets(report.fetched_octets)})")
    if report.backfilled:
        parts.append(f"{count(report.backfilled, 'delivery', 'deliveries')} made from an archive")
    parts += [f"{number:,} into {name}" for name, number in report.delivered.items()]
    if report.recognised:
        parts.append(f"{report.recognised:,} recognised under new ids")
    if report.removed:
        removed = f"{report.removed:,}" if parts else count(report.removed, "message")
        parts.append(f"{removed} removed from the server")
    elif report.removal_unknown:
        parts.append(
            f"not known whether {count(report.removal_unknown, 'message')} left the server: the next run looks"
        )
    else:
        parts.append(f"all left {place}")
    return f"{', '.join(parts)}; took {duration(report.seconds)}"
