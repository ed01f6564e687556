"""`python -m tests.bench`: measure everything, print it as it comes, write docs/benchmarks.md."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from pathlib import Path

from tests.bench import before, report, service
from tests.bench.imap import IMAP
from tests.bench.measure import RunFailed, compiled
from tests.bench.migration import MIGRATION
from tests.bench.redelivery import REDELIVERY
from tests.bench.rows import EXTRA, PULLING, Result, Row
from tests.bench.stage import Stage, check_directory, sync_rate

ROOT = Path(__file__).parents[2]
ROWS = PULLING | IMAP | MIGRATION | REDELIVERY
PAGE = ROOT / "docs" / "benchmarks.md"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        epilog=f"rows: {', '.join(ROWS)}; and {', '.join(EXTRA)}; with --before: {', '.join(before.KEYS)}",
    )
    parser.add_argument(
        "--only", nargs="+", metavar="ROW", choices=[*ROWS, *EXTRA, *before.KEYS], help="these rows, in this order"
    )
    parser.add_argument("--before", type=Path, metavar="SYNCD", help="compare with another syncd (its program) instead")
    parser.add_argument("--pairs", type=int, default=5, help="pairs, or repetitions (default: 5)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the messages, for a quick look (default: 1)")
    parser.add_argument(
        "--directory", type=Path, default=ROOT / "build" / "bench", help="on a disk (default: build/bench)"
    )
    parser.add_argument(
        "--output", type=Path, help="the page to write (default: docs/benchmarks.md, if all is measured)"
    )
    parser.add_argument("--impatient", action="store_true", help="do not wait after recent deletions")
    return parser.parse_args()


def take(row: Row, stage: Stage, pairs: int) -> Result:
    """Measure one row; a failure is a result as well, and the rows after it are measured."""
    start = time.monotonic()
    try:
        result = row.take(stage, pairs)
    except (RunFailed, FileNotFoundError) as error:
        result = Result(f"failed: {error}", met=False)
    print(f"{row.key:18} {row.target:10} {result.reached}   [{time.monotonic() - start:.0f} s]", flush=True)
    for runs in result.runs:
        walls = ", ".join(f"{usage.wall:.2f}" for usage in runs.usages)
        print(f"  {runs.name:20} {walls} s; peak {max(usage.rss for usage in runs.usages) >> 20} MiB", flush=True)
    return result


def main() -> int:
    """Measure; 1 when a target was missed."""
    options = arguments()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that nothing is left running
    known = ROWS | EXTRA if options.before is None else before.rows(options.before.absolute())
    chosen = [known[key] for key in options.only or (ROWS if options.before is None else known)]
    compiled()
    check_directory(options.directory, patient=not options.impatient)
    with Stage(options.directory.resolve(), options.scale) as stage:
        rates = [sync_rate(stage.fresh() / "files")]
        print(f"the disk makes {rates[0]:,.0f} synced files a second", flush=True)
        results = [(row, take(row, stage, options.pairs)) for row in chosen]
        rates.append(sync_rate(stage.fresh() / "files"))
        text = report.page(
            results,
            command=shlex.join(["python", "-m", "tests.bench", *sys.argv[1:]]),
            pairs=options.pairs,
            scale=options.scale,
            directory=options.directory,
            sync_rates=rates,
        )
    complete = not options.only and options.before is None and options.scale == 1
    output = options.output or (PAGE if complete else None)
    if output is not None:
        output.parent.mkdir(exist_ok=True)
        output.write_text(text + service.kept(PAGE))
    return 1 if any(result.met is False for _, result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
