"""`syncd status --watch`: what is under way and what comes next, read from the database each second.

On a terminal it is one table that is drawn again; elsewhere a block of lines every ten seconds; with --json one line
each second. It reads open runs and the standing of jobs, so it costs little however many messages there are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from syncd import clock
from syncd.cli.options import Common, check_names
from syncd.cli.render import Output, count, duration, instant, octets, pad
from syncd.cli.standings import next_run, standing_lines
from syncd.errors import printable
from syncd.services.pace import Pace, Paces

if TYPE_CHECKING:
    from syncd.services.overview import Live, RunSummary

LOOK_S: Final = 1.0
LINES_S: Final = 10.0
MAX_RUNS: Final = 30  # shown at a time, and as many jobs that come next
MAX_REMARKS: Final = 10
_HEADS: Final = ("JOB", "NOW", "MESSAGES", "OCTETS", "RATE", "LEFT", "NEXT RUN")
_RIGHT: Final = frozenset({2, 3, 4, 5})


def watch(options: Common, jobs: Sequence[str]) -> None:
    """Show `jobs`, or all of them, until a signal ends it."""
    from syncd.services.overview import live
    from syncd.services.wiring import existing_ledger

    loaded = options.load()
    check_names("job", jobs, loaded.settings.jobs)
    output, paces = Output(options), Paces()
    drawn = not output.json and sys.stdout.isatty()
    with existing_ledger(loaded) as database, ExitStack() as stack:
        draw = _drawer(stack) if drawn else None
        while True:
            found = live(loaded, database)
            if output.json:
                output.event(_document(found, jobs))
            elif draw is not None:
                draw("\n".join(_lines(found, jobs, paces)))
            else:
                for line in _lines(found, jobs, paces):
                    output.line(line)
            sys.stdout.flush()
            clock.sleep(LOOK_S if drawn or output.json else LINES_S)


def _document(found: Live, jobs: Collection[str]) -> dict[str, object]:
    runs = [run.as_json() for run in found.runs if not jobs or run.job in jobs]
    standings = {name: it for name, it in found.standings.items() if not jobs or name in jobs}
    late = [name for name, it in standings.items() if it.late_since is not None]
    paused = [name for name, it in standings.items() if it.paused]
    due = [it.next_run for it in standings.values() if it.next_run is not None and not it.paused]
    return {"event": "live", "runs": runs, "late": late, "paused": paused, "next_run": min(due, default=None)}


def _lines(found: Live, jobs: Collection[str], paces: Paces) -> Iterator[str]:
    """Yields a headline, the runs that are open, the jobs that come next, and what is to be known of others."""
    standings = {name: it for name, it in found.standings.items() if not jobs or name in jobs}
    runs = [run for run in found.runs if not jobs or run.job in jobs]
    running = [run for run in runs if run.is_running]
    late = sum(it.late_since is not None for it in standings.values())
    paused = sum(bool(it.paused) for it in standings.values())
    yield (
        f"{instant(clock.now())}   {len(running):,} running, {len(runs) - len(running):,} queued,"
        f" {late:,} late, {paused:,} paused; {count(len(standings), 'job')}"
    )
    pace = paces.of(runs)
    rows = [_run_row(run, pace.get(run.run_id), next_run(standings.get(run.job))) for run in runs[:MAX_RUNS]]
    busy = {run.job for run in runs}
    soon = sorted(
        (it.next_run, name) for name, it in standings.items() if it.next_run and not it.paused and name not in busy
    )
    rows += [(name, "-", "", "", "", "", next_run(standings[name])) for _, name in soon[: MAX_RUNS - len(rows)]]
    widths = [max(len(row[column]) for row in (_HEADS, *rows)) for column in range(len(_HEADS))]
    for row in (_HEADS, *rows) if rows else ():
        cells = (pad(cell, width, right=at in _RIGHT) for at, (cell, width) in enumerate(zip(row, widths, strict=True)))
        yield "  ".join(cells).rstrip()
    remarks = [f"{name}: {line}" for name, it in standings.items() for line in standing_lines(name, it)]
    yield from remarks[:MAX_REMARKS]
    if len(remarks) > MAX_REMARKS:
        yield f"… and {len(remarks) - MAX_REMARKS:,} more; see: syncd status"


def _run_row(run: RunSummary, pace: Pace | None, following: str) -> Sequence[str]:
    fetched, planned = run.counts.get("fetched", 0), run.counts.get("to_fetch", 0)
    left = pace.seconds_left if pace is not None else None
    return (
        run.job,
        _now(run),
        f"{fetched:,} of {planned:,}" if planned else "",
        octets(run.counts.get("fetched_octets", 0)) if planned else "",
        f"{octets(pace.octets_per_second)}/s" if pace is not None else "",
        duration(left) if left is not None else "",
        following,
    )


def _now(run: RunSummary) -> str:
    if run.is_running:
        return printable(run.phase or "starting", 60)
    if run.not_before is not None and run.not_before > clock.now():
        return f"waits until {instant(run.not_before)}"
    return run.outcome


def _drawer(stack: ExitStack) -> Callable[[str], None]:
    from rich.live import Live as Display
    from rich.text import Text

    display = stack.enter_context(Display(Text(""), auto_refresh=False, vertical_overflow="crop"))
    return lambda text: display.update(Text(text, no_wrap=True), refresh=True)
