"""`syncd verify`: prove that what a job was to copy is there; print the result, and write a report."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from syncd.cli import complete
from syncd.cli.options import Common, Verb, check_names, common
from syncd.cli.render import Output, StatusLine, count
from syncd.engine.exit_codes import ExitCode
from syncd.errors import UsageError, printable, storage_error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from syncd.services.verify.report import Report
    from syncd.services.verify.values import Entry

MOST_SHOWN: Final = 20  # entries on the screen: the report has all
MOST_PATH: Final = 60  # characters of a mailbox's path
SUFFIXES: Final = (".md", ".json", ".html")


@click.command(
    cls=Verb,
    examples=(
        ("syncd verify migrate", "compare every message by id, octets, flags and date"),
        ("syncd verify migrate --read", "also read and hash every octet at both ends"),
        ("syncd verify migrate --report proof.html", "write the whole report into a file: .md, .json or .html"),
    ),
)
@click.argument("job", metavar="JOB", shell_complete=complete.jobs)
@click.option("--read", is_flag=True, help="Read every message at both ends and compare its SHA-256.")
@click.option(
    "--report",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the report into FILE, as its name ends: .md, .json or .html.",
)
@common
@click.pass_obj
def verify(options: Common, job: str, *, read: bool, file: Path | None) -> int:
    """Compare source, ledger and destinations of a job message by message; change nothing.

    Every message is accounted for, and each one that is not there or not equal is named with its reason. The exit code
    is 8 if something differs. Recorded alterations, messages that the source does not have any more and messages that
    the job leaves out are named too, and are no difference.

    Mail that was handed to an SMTP or LMTP server cannot be compared: its receipts are counted.
    """
    from syncd.services.verify.service import Verification

    if file is not None and file.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"{file} must end in one of {', '.join(SUFFIXES)}: the ending chooses the format of the report"
        )
    loaded = options.load()
    check_names("job", [job], loaded.settings.jobs)
    output = Output(options)
    with StatusLine(output) as status:

        def show(mailbox: str, number: int, of: int) -> None:
            status.show(f"{job}: mailbox {number:,} of {of:,}: {mailbox} …")

        with Verification(loaded, job, read=read, progress=show) as verification:
            report = verification.execute()
            status.erase()
            digest = report.digest()
            if file is not None:
                _write(report, digest, file)
            code = ExitCode.DIFFERENCES if report.differences else ExitCode.DONE
            if options.json:
                from syncd.services.verify.formats import as_json

                output.text(as_json(report, digest))
            else:
                _tell(report, digest, file, output)
    return code


def _write(report: Report, digest: str, file: Path) -> None:
    """Write the report beside `file` and put it in its place at the end. Raises StorageError."""
    from syncd.services.verify.formats import FORMATS

    part = file.with_name(f".{file.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as target:
            target.writelines(FORMATS[file.suffix.lower()](report, digest))
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise storage_error(error, f"cannot write the report {file}") from error


def _tell(report: Report, digest: str, file: Path | None, output: Output) -> None:
    """Show counts for each mailbox, some entries, and the result."""
    from syncd.services.verify.formats import HEADS, RIGHT, mailbox_rows, results

    if not output.quiet:
        output.table(HEADS, mailbox_rows(report, MOST_PATH), right=RIGHT)
        for line in _entries(report):
            output.line(line)
    for line in results(report):
        output.line(f"{report.job}: {line}")
    where = "" if file is None else f"; the report is in {file}"
    output.line(f"{report.job}: SHA-256 of the report {digest}{where}")


def _entries(report: Report) -> Iterable[str]:
    """Yields lines about the first differences, then about the first other entries."""
    for differ in (True, False):
        found = (entry for entry in report.entries() if entry.differs is differ)
        for entry in islice(found, MOST_SHOWN):
            yield _line(report, entry)
        if more := sum(1 for _ in found):
            what = "difference" if differ else "note"
            yield f"and {count(more, f'more {what}', f'more {what}s')}: --report FILE has all of them"


def _line(report: Report, entry: Entry) -> str:
    message = f" {entry.uid}" if entry.uid else ""
    nth = f" (copy {entry.occurrence})" if entry.occurrence > 1 else ""
    to = f" → {entry.to}" if len(report.destinations) > 1 else ""
    result = "" if entry.reason.startswith(entry.status.value) else f"{entry.status.value}: "
    return f"{printable('/'.join(entry.mailbox))}{message}{nth}{to}: {result}{entry.reason}"
