"""`syncd verify`: prove that what jobs were to copy is there; print the results, and write reports."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from syncd.cli import complete
from syncd.cli.options import Common, Verb, check_names, common
from syncd.cli.render import Output, StatusLine, count
from syncd.engine.exit_codes import ExitCode, exit_code, gravest
from syncd.errors import SyncdError, UsageError, printable, storage_error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from syncd.services.verify.report import Report
    from syncd.services.verify.values import Entry
    from syncd.settings.load import Loaded

MOST_SHOWN: Final = 20  # entries on the screen: the report has all
MOST_PATH: Final = 60  # characters of a mailbox's path
SUFFIXES: Final = (".md", ".json", ".html")


@click.command(
    cls=Verb,
    examples=(
        ("syncd verify migrate", "compare every message by id, octets, flags and date"),
        ("syncd verify migrate --read", "also read and hash every octet at both ends"),
        ("syncd verify migrate --report proof.html", "write the whole report into a file: .md, .json or .html"),
        ("syncd verify --report proof", "all enabled jobs; a report of each in the folder proof"),
    ),
)
@click.argument("jobs", metavar="[JOB]...", nargs=-1, shell_complete=complete.jobs)
@click.option("--read", is_flag=True, help="Read every message at both ends and compare its SHA-256.")
@click.option(
    "--report",
    "place",
    metavar="FILE|FOLDER",
    type=click.Path(path_type=Path),
    help="Write the report into FILE, as its name ends: .md, .json or .html; into FOLDER, one named after each job.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice([suffix.removeprefix(".") for suffix in SUFFIXES]),
    help="Format of the reports in FOLDER  [default: md].",
)
@common
@click.pass_obj
def verify(options: Common, jobs: tuple[str, ...], *, read: bool, place: Path | None, form: str | None) -> int:
    """Compare source, ledger and destinations of jobs message by message; change nothing.

    Without JOB, all enabled jobs are verified, one after the other. One that cannot be verified does not stop the
    others. Unless one JOB alone is named, each has one line, and --report wants a folder.

    Every message is accounted for, and each one that is not there or not equal is named with its reason. The exit code
    is 8 if something differs. Recorded alterations, messages that the source does not have any more and messages that
    the job leaves out are named too, and are no difference.

    Mail that was handed to an SMTP or LMTP server cannot be compared: its receipts are counted.
    """
    from syncd.services.runs import chosen_jobs

    alone = len(set(jobs)) == 1
    if place is not None:
        _check_place(place, form, alone=alone)
    loaded = options.load()
    check_names("job", jobs, loaded.settings.jobs)
    chosen = chosen_jobs(loaded, jobs)
    output = Output(options)
    files = {job: _file(place, form or "md", job) for job in chosen} if place is not None else {}
    if alone:
        return _verify(loaded, chosen[0], files.get(chosen[0]), output, read=read)
    return _verify_all(loaded, chosen, files, output, read=read)


def _check_place(place: Path, form: str | None, *, alone: bool) -> None:
    """Raise UsageError where reports cannot be written, before the work that they would tell of."""
    if place.is_dir():
        return
    if not alone:
        raise UsageError(
            f"{place} is no folder: reports of several jobs are written into a folder, which must be there"
        )
    if form is not None:
        raise UsageError(
            f"--format is for reports in a folder, and {place} is none: the ending of a file says its format"
        )
    if place.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"{place} must end in one of {', '.join(SUFFIXES)}: the ending chooses the format of the report"
        )
    if not place.parent.is_dir():
        raise UsageError(f"the report cannot be written to {place}: there is no folder {place.parent}; make it first")


def _file(place: Path, form: str, job: str) -> Path:
    return place / f"{job}.{form}" if place.is_dir() else place


@contextmanager
def _verified(
    loaded: Loaded, job: str, file: Path | None, output: Output, *, read: bool
) -> Iterator[tuple[Report, str]]:
    """Verify a job and write its report; yields the report with its digest. Raises SyncdError."""
    from syncd.services.verify.service import Verification

    with StatusLine(output) as status:

        def show(mailbox: str, number: int, of: int) -> None:
            status.show(f"{job}: mailbox {number:,} of {of:,}: {mailbox} …")

        with Verification(loaded, job, read=read, progress=show) as verification:
            report = verification.execute()
            status.erase()
            digest = report.digest()
            if file is not None:
                _write(report, digest, file)
            yield report, digest


def _code(report: Report) -> ExitCode:
    return ExitCode.DIFFERENCES if report.differences else ExitCode.DONE


def _verify(loaded: Loaded, job: str, file: Path | None, output: Output, *, read: bool) -> ExitCode:
    """Verify one job and tell everything."""
    from syncd.services.verify.formats import as_json

    with _verified(loaded, job, file, output, read=read) as (report, digest):
        if output.json:
            output.text(as_json(report, digest))
        else:
            _tell(report, digest, file, output)
        return _code(report)


def _verify_all(
    loaded: Loaded, jobs: Sequence[str], files: Mapping[str, Path], output: Output, *, read: bool
) -> ExitCode:
    """Verify jobs, one after the other, with a line for each. Returns the gravest exit code."""
    from syncd.services.verify.formats import as_json

    codes = []
    for number, job in enumerate(jobs):
        if output.json:
            output.text([",\n" if number else "[\n"])
        try:
            with _verified(loaded, job, files.get(job), output, read=read) as (report, digest):
                codes.append(_code(report))
                if output.json:
                    output.text(as_json(report, digest))
                else:
                    output.line(_one_line(report, digest, files.get(job)))
        except SyncdError as error:
            codes.append(exit_code(error))
            lines = str(error).splitlines()
            if output.json:
                output.text([json.dumps({"job": job, "errors": lines, "exit_code": codes[-1]})])
            for line in lines:
                output.error(f"{job}: {line}")
    if output.json:
        output.text(["]\n"])
    else:
        output.line(_summary(codes))
    return gravest(codes)


def _one_line(report: Report, digest: str, file: Path | None) -> str:
    verdict = count(report.differences, "difference") if report.differences else "no difference"
    where = "" if file is None else f"; the report is in {file}"
    return f"{report.job}: {verdict}; {count(report.messages, 'message')}; SHA-256 of the report {digest}{where}"


def _summary(codes: Sequence[ExitCode]) -> str:
    equal, differ = codes.count(ExitCode.DONE), codes.count(ExitCode.DIFFERENCES)
    parts = [f"{equal:,} without a difference", f"{differ:,} with differences"]
    if failed := len(codes) - equal - differ:
        parts.append(f"{failed:,} could not be verified")
    return f"{count(len(codes), 'job')}: {', '.join(parts)}"


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
