"""`syncd archive`: what an archive holds, shown, checked and written out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from syncd.cli.options import BadName, Common, Group, Verb, common
from syncd.cli.render import Output, StatusLine, count, cut, instant, octets, write_octets
from syncd.engine.events import ExitCode
from syncd.errors import ConfigError

if TYPE_CHECKING:
    from syncd.services.shelf import Entry, Shelf
    from syncd.settings.load import Loaded

SHORT_ID: Final = 12  # hexadecimal digits of a SHA-256: two of a million messages share them once in 500 archives
_WIDTHS: Final = (16, 14, 12, SHORT_ID, 7)
_ID = click.argument("message", metavar="ID")
_ARCHIVE = click.argument("archive", metavar="ARCHIVE")


@click.group(
    cls=Group,
    examples=(
        ("syncd archive list home", "date, account, octets, id and subject of every message"),
        ("syncd archive show home 3fa9c1", "one message, exactly as it was received"),
        ("syncd archive check home", "read every octet again"),
        ("syncd archive export home ./out --format eml", "one file a message"),
    ),
)
@common
def archive() -> None:
    """List, show, check and export what an archive holds.

    ARCHIVE is a name of the configuration or a path; a path needs no configuration.
    """


@archive.command(
    "list",
    cls=Verb,
    short_help="Every message: date, account, octets, id, subject.",
    examples=(
        ("syncd archive list home", "everything, in the order in which it came"),
        ("syncd archive list home --since 2026-01-31 --subject invoice", "some of it"),
        ("syncd archive list /backup/mail --account road", "of one account, without a configuration"),
    ),
)
@_ARCHIVE
@click.option("--account", metavar="NAME", help="Only messages of this account (name or UUID).")
@click.option("--since", metavar="DATE", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]), help="Not older.")
@click.option("--subject", metavar="TEXT", help="Only messages with this text in the subject.")
@common
@click.pass_obj
def list_(options: Common, archive: str, account: str | None, since: datetime | None, subject: str | None) -> int:
    """Every message of an archive: date, account, octets, id, subject.

    Exit 8 where some cannot be read; they are listed without a subject, and a line says why.
    """
    from syncd.services.archive import Filter, entries

    output = Output(options)
    with closing(_shelf(options, archive)) as shelf:
        which = Filter(account, since.astimezone() if since else None, subject)
        found = entries(shelf, which)
        lost: Counter[str] = Counter()
        seen = _counted(found, lost)
        if output.json:
            output.documents(_entry_json(entry) for entry in seen)
            return _tell_lost(output, lost)
        number = 0
        for number, entry in enumerate(seen, 1):
            if number == 1:
                output.columns(("DATE", "ACCOUNT", "OCTETS", "ID", "SUBJECT"), _WIDTHS, right=_RIGHT, head=True)
            output.columns(_entry_row(entry), _WIDTHS, right=_RIGHT)
        output.note(count(number, "message"))
        return _tell_lost(output, lost)


def _counted(entries: Iterator[Entry], lost: Counter[str]) -> Iterator[Entry]:
    """The same; those that cannot be read are counted, by the reason."""
    for entry in entries:
        if entry.damage:
            lost[entry.damage] += 1
        yield entry


def _tell_lost(output: Output, lost: Counter[str]) -> int:
    """A line for each place that is damaged, however many messages it costs; the exit code."""
    for reason, number in lost.items():
        output.error(f"syncd: {reason}: {count(number, 'message')} cannot be read; all others are not affected")
    return ExitCode.DIFFERENCES if lost else ExitCode.DONE


_RIGHT: Final = frozenset({2})


def _entry_row(entry: Entry) -> tuple[str, ...]:
    account = cut(", ".join(entry.accounts) or "-", _WIDTHS[1])
    subject = "-" if entry.damage else entry.subject
    return instant(entry.at), account, f"{entry.octets:,}", entry.id[:SHORT_ID], subject


def _entry_json(entry: Entry) -> dict[str, object]:
    mailboxes = [mailbox.decode("utf-8", "backslashreplace") for mailbox in entry.mailboxes]
    return {**entry._asdict(), "mailboxes": mailboxes}


@archive.command(
    cls=Verb,
    short_help="One message, exactly as it was received.",
    examples=(
        ("syncd archive show home 3fa9c1", "to the terminal"),
        ("syncd archive show home 3fa9c1 > message.eml", "into a file, octet by octet"),
        ("syncd archive show home 3fa9c1 --headers", "its header alone"),
    ),
)
@_ARCHIVE
@_ID
@click.option("--headers", is_flag=True, help="The header alone, safe to look at.")
@common
@click.pass_obj
def show(options: Common, archive: str, message: str, *, headers: bool) -> None:
    """One message on standard output, exactly as it was received (from a Maildir: as its file has it).

    ID is the start of the id that `list` shows (4 characters or more); of packs also the unique-id at the server.
    """
    output = Output(options)
    with closing(_shelf(options, archive)) as shelf:
        entry = _one(shelf, message)
        if options.json:
            output.document({**_entry_json(entry), "header": _header(shelf, entry)})
        elif headers:
            for line in _header(shelf, entry):
                output.line(line)
        else:
            write_octets(shelf.chunks(entry))


def _one(shelf: Shelf, what: str) -> Entry:
    found = shelf.find(what)
    if len(found) == 1:
        return found[0]
    if not found:
        raise BadName(f"no message {what!r} in {shelf.path}; see: syncd archive list")
    some = ", ".join(entry.id[:SHORT_ID] for entry in found[:5])
    raise BadName(f"{what!r} means {len(found):,} messages ({some}, …); give more of the id")


def _header(shelf: Shelf, entry: Entry) -> list[str]:
    from syncd.mail.headers import header

    start = next(shelf.chunks(entry), b"")
    return header(start).decode("utf-8", "backslashreplace").expandtabs().splitlines()


@archive.command(
    cls=Verb,
    short_help="Read every octet again; exit 8 where something is wrong.",
    examples=(("syncd archive check home", "every checksum, and the ledger's list of what was delivered here"),),
)
@_ARCHIVE
@common
@click.pass_obj
def check(options: Common, archive: str) -> int:
    """Read every octet again and hold it against its checksum, and the archive against the ledger.

    Exit 8 where something is damaged or missing, with a line for each: file, offset, what is wrong.
    """
    from syncd.services.archive import check as check_shelf

    output = Output(options)
    loaded = _load(options, archive)
    with closing(_open(loaded, archive)) as shelf, StatusLine(output) as status:
        findings = []
        for finding in check_shelf(loaded, shelf, _octets_of(status)):
            findings.append(finding)
            status.erase()
            if not output.json:
                at = f" at offset {finding.offset}" if finding.offset is not None else ""
                output.line(f"{finding.file}{at}: {finding.what}{' (harmless)' if finding.harmless else ''}")
        figures = shelf.figures()
    wrong = sum(not finding.harmless for finding in findings)
    code = ExitCode.DIFFERENCES if wrong else ExitCode.DONE
    if output.json:
        output.document(
            {"findings": [f._asdict() for f in findings], "figures": asdict(figures), "exit_code": int(code)}
        )
    elif not (output.quiet and not wrong):
        sound = f"{count(wrong, 'thing')} wrong" if wrong else "sound"
        output.line(f"{shelf.path}: {sound}; {count(figures.messages, 'message')}, {octets(figures.octets)}")
    return code


@archive.command(
    cls=Verb, short_help="An archive in figures.", examples=(("syncd archive stats home", "messages, octets, files"),)
)
@_ARCHIVE
@common
@click.pass_obj
def stats(options: Common, archive: str) -> None:
    """An archive in figures."""
    output = Output(options)
    with closing(_shelf(options, archive)) as shelf:
        figures, uuid = shelf.figures(), shelf.uuid()
    if output.json:
        output.document({"path": str(shelf.path), "uuid": str(uuid), **asdict(figures)})
        return
    share = f", {figures.stored_octets / figures.octets:.0%} of that on disk" if figures.octets else ""
    output.line(f"{shelf.path}: {figures.format}, {uuid}")
    output.line(f"{count(figures.messages, 'message')}, {octets(figures.octets)}{share}")
    output.line(f"{count(figures.files, 'file')}, {octets(figures.stored_octets)}")
    if figures.places is not None and figures.accounts is not None:
        output.line(f"seen at {count(figures.places, 'place')} of {count(figures.accounts, 'account')}")


@archive.command(
    cls=Verb,
    short_help="Write messages as mbox, Maildir or eml files.",
    examples=(
        ("syncd archive export home ./out --format mbox", "one mbox a mailbox"),
        ("syncd archive export home ./out --format maildir", "Maildirs, with flags"),
        ("syncd archive export home ./out --format eml --account road", "one file a message, of one account"),
    ),
)
@_ARCHIVE
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["mbox", "maildir", "eml"]), required=True, help="What to write.")
@click.option("--account", metavar="NAME", help="Only messages of this account (name or UUID).")
@common
@click.pass_obj
def export(options: Common, archive: str, path: Path, form: str, account: str | None) -> int:
    """Write an archive's messages for other programs, below PATH, which is new or an empty folder.

    Exit 8 where some cannot be read: they are left out, and a line says why.
    """
    from syncd.services.archive import write_out
    from syncd.services.export import ExportFormat

    output = Output(options)
    lost: Counter[str] = Counter()
    with closing(_shelf(options, archive)) as shelf, StatusLine(output) as status:
        done = write_out(
            shelf,
            path,
            ExportFormat(form),
            account,
            lambda so_far: status.show(f"{count(so_far.messages, 'message')}, {octets(so_far.octets)} …"),
            lost=lambda reason: lost.update([reason]),
        )
    if output.json:
        output.document({"path": str(path), **asdict(done), "lost": lost.total()})
    else:
        into = f"{count(done.mailboxes, 'mailbox', 'mailboxes')} in {path}"
        output.line(f"{count(done.messages, 'message')} ({octets(done.octets)}) written as {form}: {into}")
        if done.renamed:
            output.note(
                f"{count(done.renamed, 'message')} of these had the id of another one at their server: all are written"
            )
    return _tell_lost(output, lost)


def _octets_of(status: StatusLine) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        status.show(f"{octets(done)} of {octets(total)} read …" if total else f"{octets(done)} read …")

    return progress


def _shelf(options: Common, archive: str) -> Shelf:
    return _open(_load(options, archive), archive)


def _open(loaded: Loaded | None, archive: str) -> Shelf:
    from syncd.services.archive import open_shelf

    return open_shelf(loaded, archive)


def _load(options: Common, archive: str) -> Loaded | None:
    """The configuration, if there is one; a wrong one does not stand in the way of a path."""
    try:
        return options.load(required=False)
    except ConfigError:
        if options.config is None and Path(archive).expanduser().is_dir():
            return None
        raise
