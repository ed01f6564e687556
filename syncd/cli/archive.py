"""`syncd archive`: what an archive holds, shown, checked and written out."""

from __future__ import annotations

import codecs
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from syncd.cli.archive_open import ARCHIVE, load_for, opened, view_of
from syncd.cli.archive_search import reindex, search
from syncd.cli.archive_tables import SHORT_ID, MessageTable, entry_json, list_mailboxes, show_places
from syncd.cli.options import BadName, Common, Group, Verb, common
from syncd.cli.render import Output, StatusLine, count, octets, write_octets
from syncd.engine.exit_codes import ExitCode
from syncd.errors import UsageError, printable

if TYPE_CHECKING:
    from syncd.formats.view import ArchiveView, Entry
    from syncd.services.export import Exported

_ID = click.argument("message", metavar="ID")
_FORMAT = click.Choice(["mbox", "maildir", "eml"])
_ACCOUNT = click.option("--account", metavar="NAME", help="Only messages of this account (name or UUID).")
_MAILBOX = click.option("--mailbox", metavar="PATH", help="Only messages of this mailbox, such as Lists/2019.")


class _Instant(click.ParamType[datetime]):
    """A day, or a day and time, in local time. With `ends`, the instant at which the day or second is over."""

    name = "date"

    def __init__(self, *, ends: bool = False) -> None:
        self._ends = ends

    def convert(self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Returns an instant. Fails with a usage error."""
        if isinstance(value, datetime):
            return value
        span = timedelta(days=1) if len(value) == len("2026-01-31") else timedelta(seconds=1)
        try:
            return (datetime.fromisoformat(value) + (span if self._ends else timedelta())).astimezone()
        except (ValueError, OverflowError, OSError):
            return self.fail(f"{value!r} is no date; write 2026-01-31 or 2026-01-31T09:30:00", param, ctx)


@click.group(
    cls=Group,
    examples=(
        ("syncd archive list home", "date, account, octets, id, sender and subject of every message"),
        ("syncd archive show home 3fa9c1", "one message, exactly as it was received"),
        ("syncd archive search home 'from:ann invoice'", "messages with these words, the newest first"),
        ("syncd archive check home", "read every octet and compare it with its checksum"),
        ("syncd archive export home ./out --format eml", "one file for each message"),
    ),
)
@common
def archive() -> None:
    """List, search, show, check and export what an archive holds.

    ARCHIVE is a name of the configuration or a path; a path needs no configuration.
    """


archive.add_command(search)
archive.add_command(reindex)


@archive.command(
    "list",
    cls=Verb,
    short_help="List messages: date, account, octets, id, sender, subject.",
    examples=(
        ("syncd archive list home", "all messages, in the order in which they are stored"),
        (
            "syncd archive list home --since 2026-01-31 --subject invoice",
            "invoices since that day",
        ),
        ("syncd archive list home --since 2026-01-01 --until 2026-01-31", "the messages of a month"),
        ("syncd archive list home --mailboxes", "the mailboxes, and how much is in each"),
        ("syncd archive list home --mailbox Lists/2019", "the messages of one mailbox"),
        ("syncd archive list /backup/mail --account road", "messages of one account; a path needs no configuration"),
    ),
)
@ARCHIVE
@_ACCOUNT
@_MAILBOX
@click.option("--since", metavar="DATE", type=_Instant(), help="Only messages from this date on.")
@click.option("--until", metavar="DATE", type=_Instant(ends=True), help="Only messages up to this date, that day too.")
@click.option("--subject", metavar="TEXT", help="Only messages with this text in the subject.")
@click.option("--mailboxes", is_flag=True, help="List mailboxes instead of messages, with how much is in each.")
@common
@click.pass_obj
def list_(
    options: Common,
    *,
    archive: str,
    account: str | None,
    mailbox: str | None,
    since: datetime | None,
    until: datetime | None,
    subject: str | None,
    mailboxes: bool,
) -> int:
    """List the messages of an archive: date, account, octets, id, sender, subject.

    The date is that of the message's Date field, or of its top Received field. Messages that cannot be read are listed
    without sender and subject, and a line says why; the exit code is then 8.
    """
    from syncd.services.archive import Filter, entries, held

    output = Output(options)
    if mailboxes and (since, until, subject) != (None, None, None):
        raise UsageError("--mailboxes lists mailboxes, which have no date and no subject; leave one of the two out")
    with closing(view_of(options, archive)) as view:
        if mailboxes:
            list_mailboxes(output, held(view, account, mailbox))
            return _tell_lost(output, view, Counter())
        found = entries(view, Filter(account, mailbox, since, until, subject))
        lost: Counter[str] = Counter()
        seen = _counted(found, lost)
        if output.json:
            output.documents(entry_json(entry) for entry in seen)
            return _tell_lost(output, view, lost)
        table = MessageTable(output)
        for entry in seen:
            table.add(entry)
        output.note(count(table.rows, "message"))
        return _tell_lost(output, view, lost)


def _counted(entries: Iterator[Entry], lost: Counter[str]) -> Iterator[Entry]:
    """Yields the same entries and counts those that cannot be read, by the reason."""
    for entry in entries:
        if entry.damage:
            lost[entry.damage] += 1
        yield entry


def _tell_lost(output: Output, view: ArchiveView, lost: Counter[str]) -> int:
    """Print a line for each damaged spot, however many messages it costs; return the exit code."""
    costs: list[tuple[str, str]] = [(reason, count(number, "message")) for reason, number in lost.items()]
    costs += [
        (why, "what was there" if number is None else count(number, "message")) for why, number in view.left_out()
    ]
    for reason, cost in costs:
        output.error(f"syncd: {reason}: {cost} cannot be read; all others are not affected")
    return ExitCode.DIFFERENCES if costs else ExitCode.DONE


@archive.command(
    cls=Verb,
    short_help="Print one message, exactly as it was received.",
    examples=(
        ("syncd archive show home 3fa9c1", "print it"),
        ("syncd archive show home 3fa9c1 > message.eml", "write it to a file"),
        ("syncd archive show home 3fa9c1 --headers", "print its header only"),
        ("syncd archive show home 3fa9c1 --places", "where it was seen: mailbox, flags, date"),
    ),
)
@ARCHIVE
@_ID
@click.option("--headers", is_flag=True, help="Print only the header, without control characters.")
@click.option("--places", is_flag=True, help="Print where the message was seen, with flags and date.")
@click.option("--raw", is_flag=True, help="Print the octets as they are, on a terminal too.")
@common
@click.pass_obj
def show(options: Common, archive: str, message: str, *, headers: bool, places: bool, raw: bool) -> None:
    """Print one message exactly as it was received (from a Maildir: as it is in its file).

    On a terminal, control characters are shown as escapes, so that a message cannot act on the terminal.

    ID is the beginning of an id that `list` shows, at least 4 characters. For an archive of packs it may also be the
    message's id at its server.
    """
    output = Output(options)
    with closing(view_of(options, archive)) as view:
        entry = _one(view, message)
        if options.json:
            output.document({**entry_json(entry), "header": _header(view, entry)})
        elif places:
            show_places(output, entry)
        elif headers:
            for line in _header(view, entry):
                output.line(line)
        elif raw or not sys.stdout.isatty():
            write_octets(view.chunks(entry))
        else:
            write_octets(_shown(view.chunks(entry)))


def _shown(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a message for a terminal: everything that the terminal could act on is an escape."""
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    cr = ends = ""  # a CR at the end of a piece is perhaps half a line end
    for chunk in chunks:
        text = cr + decoder.decode(chunk)
        cr = "\r" if text.endswith("\r") else ""
        ends = text[-1:]
        yield _escaped(text[: len(text) - len(cr)])
    yield _escaped(cr + decoder.decode(b"", final=True)) + (b"" if ends == "\n" else b"\n")


def _escaped(text: str) -> bytes:
    lines = (line.expandtabs() for line in text.replace("\r\n", "\n").split("\n"))
    return "\n".join(printable(line, len(line)) for line in lines).encode(sys.stdout.encoding, "backslashreplace")


def _one(view: ArchiveView, what: str) -> Entry:
    found = view.find(what)
    if len(found) == 1:
        return found[0]
    if not found:
        raise BadName(f"no message {what!r} in {view.path}; see: syncd archive list")
    some = ", ".join(entry.id[:SHORT_ID] for entry in found[:5])
    raise BadName(f"{what!r} means {len(found):,} messages ({some}, …); give more of the id")


def _header(view: ArchiveView, entry: Entry) -> list[str]:
    from syncd.mail.headers import header

    start = next(view.chunks(entry), b"")
    return header(start).decode("utf-8", "backslashreplace").expandtabs().splitlines()


@archive.command(
    cls=Verb,
    short_help="Read every octet again; exit code 8 if something is wrong.",
    examples=(("syncd archive check home", "checksums, and whether every delivered message is there"),),
)
@ARCHIVE
@common
@click.pass_obj
def check(options: Common, archive: str) -> int:
    """Read every octet again and compare it with its checksum, and the archive with the ledger.

    Each damaged or missing item gets a line: file, offset, what is wrong. The exit code is then 8.
    """
    from syncd.services.archive import check as check_view

    output = Output(options)
    loaded = load_for(options, archive)
    with closing(opened(loaded, archive)) as view, StatusLine(output) as status:
        findings = []
        for finding in check_view(loaded, view, _octets_of(status)):
            findings.append(finding)
            status.erase()
            if not output.json:
                at = f" at offset {finding.offset}" if finding.offset is not None else ""
                output.line(f"{finding.file}{at}: {finding.what}{' (harmless)' if finding.harmless else ''}")
        figures = view.figures()
    wrong = sum(not finding.harmless for finding in findings)
    code = ExitCode.DIFFERENCES if wrong else ExitCode.DONE
    if output.json:
        output.document(
            {"findings": [f._asdict() for f in findings], "figures": asdict(figures), "exit_code": int(code)}
        )
    elif not (output.quiet and not wrong):
        sound = f"{count(wrong, 'thing')} wrong" if wrong else "sound"
        output.line(f"{view.path}: {sound}; {count(figures.messages, 'message')}, {octets(figures.octets)}")
    return code


@archive.command(
    cls=Verb,
    short_help="Show an archive in figures.",
    examples=(("syncd archive stats home", "messages, octets, files"),),
)
@ARCHIVE
@common
@click.pass_obj
def stats(options: Common, archive: str) -> None:
    """Show an archive in figures: messages, octets, files."""
    output = Output(options)
    with closing(view_of(options, archive)) as view:
        figures, uuid = view.figures(), view.uuid
    if output.json:
        output.document({"path": str(view.path), "uuid": str(uuid), **asdict(figures)})
        return
    share = f", {figures.stored_octets / figures.octets:.0%} of that on disk" if figures.octets else ""
    output.line(f"{view.path}: {figures.format}, {uuid}")
    output.line(f"{count(figures.messages, 'message')}, {octets(figures.octets)}{share}")
    output.line(f"{count(figures.files, 'file')}, {octets(figures.stored_octets)}")
    if figures.places is not None and figures.accounts is not None:
        output.line(f"seen at {count(figures.places, 'place')} of {count(figures.accounts, 'account')}")


@archive.command(
    cls=Verb,
    short_help="Write messages as mbox, Maildir or eml files.",
    examples=(
        ("syncd archive export home ./out --format mbox", "one mbox for each mailbox"),
        ("syncd archive export home ./out --format maildir", "a Maildir for each account, with flags"),
        ("syncd archive export home ./out --format eml --account road", "one file for each message of one account"),
    ),
)
@ARCHIVE
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path))
@click.option("--format", "form", type=_FORMAT, required=True, help="Format of the files.")
@_ACCOUNT
@_MAILBOX
@click.option("--status", is_flag=True, help="mbox: put flags before each message, in Status and X-Status fields.")
@common
@click.pass_obj
def export(
    options: Common, *, archive: str, path: Path, form: str, account: str | None, mailbox: str | None, status: bool
) -> int:
    """Write an archive's messages for other programs into PATH, a new or empty folder.

    Each account has a folder with its mailboxes, also those without messages. A Maildir has flags in its files' names,
    and eml files have them in messages.jsonl. Octets are written as they are; only --status puts something before them.

    Until all is on disk, it is in PATH/syncd-export.unfinished. An export that was stopped begins again when the
    command is repeated, and removes that folder first.

    Messages that cannot be read are left out, and a line says why; the exit code is then 8.
    """
    from syncd.services.archive import places, write_out
    from syncd.services.export import ExportFormat

    output = Output(options)
    lost: Counter[str] = Counter()
    if status and form != "mbox":
        raise UsageError(f"--status is for --format mbox; {form} has flags anyway")
    with closing(view_of(options, archive)) as view, StatusLine(output) as line:
        done = write_out(
            view,
            path,
            ExportFormat(form),
            places(view, account, mailbox),
            lambda so_far: line.show(f"{count(so_far.messages, 'message')}, {octets(so_far.octets)} …"),
            lost=lambda reason: lost.update([reason]),
            status=status,
        )
        line.erase()
        if output.json:
            left_out = [damage._asdict() for damage in view.left_out()]
            output.document({"path": str(path), **asdict(done), "lost": lost.total(), "left_out": left_out})
        else:
            _tell_written(output, done, form, path, status=status)
        return _tell_lost(output, view, lost)


def _tell_written(output: Output, done: Exported, form: str, path: Path, *, status: bool) -> None:
    into = f"{count(done.mailboxes, 'mailbox', 'mailboxes')} in {path}"
    output.line(f"{count(done.messages, 'message')} ({octets(done.octets)}) written as {form}: {into}")
    if done.unflagged:
        lost = "keywords are not written" if status else "flags and keywords are not written; --status writes the flags"
        output.note(f"{count(done.unflagged, 'message')}: {lost}")
    if done.renamed:
        output.note(
            f"{count(done.renamed, 'message')} of these had the id of another message at the server; all are there"
        )


def _octets_of(status: StatusLine) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        status.show(f"{octets(done)} of {octets(total)} read …" if total else f"{octets(done)} read …")

    return progress
