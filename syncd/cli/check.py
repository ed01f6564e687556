"""`syncd check`: sign in, look at archives, show what a run would do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from syncd.cli import complete
from syncd.cli.conduct import Conductor
from syncd.cli.options import Common, Verb, check_names, common
from syncd.cli.progress import Notes, screen, signed_in_line
from syncd.cli.render import Output, count, octets
from syncd.cli.run import tell
from syncd.cli.words import places
from syncd.engine.exit_codes import exit_code, gravest
from syncd.errors import printable
from syncd.mail.mailbox import INBOX_PATH
from syncd.services.words import quota

if TYPE_CHECKING:
    from syncd.errors import SyncdError
    from syncd.services.check import AccountCheck
    from syncd.services.check_archive import ArchiveCheck
    from syncd.services.check_mailboxes import MailboxCheck
    from syncd.settings.schema import Settings
    from syncd.sources.base import SourceInfo

IMAP: Final = "imap"
FROM_IMAP: Final = ("LIST-STATUS", "CONDSTORE", "SPECIAL-USE", "STATUS=SIZE")  # extensions that matter for a source
INTO_IMAP: Final = ("MULTIAPPEND", "UIDPLUS", "LITERAL+", "APPENDLIMIT", "QUOTA", "SPECIAL-USE")
MOST_PATH: Final = 100  # characters of a mailbox's path


@click.command(
    cls=Verb,
    examples=(
        ("syncd check", "every enabled job, and every account that no job reads"),
        ("syncd check road", "sign in to one account"),
        ("syncd check home", "look at one archive"),
        ("syncd check road-backup", "show what a run of this job would do"),
    ),
)
@click.argument("names", metavar="[ACCOUNT|ARCHIVE|JOB]...", nargs=-1, shell_complete=complete.everything)
@common
@click.pass_obj
def check(options: Common, names: tuple[str, ...]) -> int:
    """Sign in, show what the servers can do and how much mail there is, and what a run would do. Changes nothing."""
    from syncd.services.check import Check

    loaded = options.load()
    settings = loaded.settings
    check_names("account, archive or job", names, [*settings.accounts, *settings.archives, *settings.jobs])
    output = Output(options)
    conductor = Conductor(Notes(output) if options.json else screen(output, places(settings)), output.note)
    checking = Check(loaded, names, conductor.listen)
    reports = conductor.conduct(checking)
    if output.json:
        accounts = [account.as_json() for account in checking.accounts]
        archives = [archive.as_json() for archive in checking.archives]
        output.document({"accounts": accounts, "archives": archives, "jobs": [report.as_json() for report in reports]})
    else:
        for account in checking.accounts:
            _tell_account(account, settings, output)
        for archive in checking.archives:
            _tell_archive(archive, output)
        for report in reports:
            if info := checking.infos.get(report.job):
                _tell_server(settings.jobs[report.job].source, info, settings, output)
            tell(report, settings, output)
    errors = [*(account.error for account in checking.accounts), *(archive.error for archive in checking.archives)]
    return gravest([*(report.exit_code for report in reports), *(exit_code(error) for error in errors if error)])


def _tell_account(account: AccountCheck, settings: Settings, output: Output) -> None:
    _tell_error(account.account, account.error, output)
    if account.info is not None and account.mailboxes is None:
        _tell_relay(account.account, account.info, output)
    elif account.info is not None:
        _tell_server(account.account, account.info, settings, output)
    for use in account.quotas:
        output.line(f"{account.account}: quota{f' {use.name}' if use.name else ''}: {quota(use)} used")
    if account.table:
        _tell_mailboxes(account.table, output)
    if account.totals is not None:
        amount = f"{count(account.totals.messages, 'message')} on the server ({octets(account.totals.octets)})"
        output.line(f"{account.account}: {amount}")
    elif account.mailboxes is not None:
        output.line(f"{account.account}: {count(account.mailboxes, 'mailbox', 'mailboxes')} on the server")


def _tell_mailboxes(table: Sequence[MailboxCheck], output: Output) -> None:
    """Show the mailboxes of an account, and what each job would do with them."""
    jobs = [job for job, _ in table[0].jobs]
    heads = ["MAILBOX", "USE", "MESSAGES", "OCTETS", *(f"JOB {job} WOULD" for job in jobs)]
    rows = [
        [
            printable("/".join(row.path), MOST_PATH),
            row.use.removeprefix("\\") or "-",
            "-" if row.messages is None else f"{row.messages:,}",
            "-" if row.octets is None else octets(row.octets),
            *(would.value for _, would in row.jobs),
        ]
        for row in sorted(table, key=lambda row: (row.path != INBOX_PATH, row.path))
    ]
    output.table(heads, rows, right=frozenset({2, 3}))


def _tell_archive(archive: ArchiveCheck, output: Output) -> None:
    _tell_error(archive.archive, archive.error, output)
    if archive.figures is not None:
        figures = archive.figures
        amount = f"{count(figures.messages, 'message')} in it ({octets(figures.octets)})"
        output.line(f"{archive.archive}: {archive.path}: {figures.format}, {archive.uuid}")
        output.line(f"{archive.archive}: {amount}; {'writable' if archive.writable else 'not writable'}")
    elif archive.error is None:
        output.line(f"{archive.archive}: not there yet; the first run that delivers to it creates {archive.path}")
    for note in archive.notes:
        output.line(f"{archive.archive}: {note}")


def _tell_error(name: str, error: SyncdError | None, output: Output) -> None:
    for line in str(error or "").splitlines():
        output.error(f"{name}: {line}")


def _tell_server(name: str, info: SourceInfo, settings: Settings, output: Output) -> None:
    output.line(f"{name}: {signed_in_line(info)}")
    if name in settings.accounts and settings.accounts[name].protocol == IMAP:
        from syncd.services.advice import is_read, takes_mail

        into = takes_mail(settings, name)
        matters = dict.fromkeys((*(FROM_IMAP if is_read(settings, name) else ()), *(INTO_IMAP if into else ())))
        announced = {one: _announced(one, info.capabilities) for one in matters}
        has, lacks = list(filter(None, announced.values())), [one for one, found in announced.items() if not found]
        text = f"the server has {', '.join(has) or 'no extension'}"
        output.line(f"{name}: {text} and lacks {', '.join(lacks)}" if lacks else f"{name}: {text}")
    elif info.mechanism:
        output.line(f"{name}: the server offers {', '.join(info.capabilities) or 'only what POP3 requires'}")
    for note in info.notes:
        output.line(f"{name}: {note}")


def _announced(extension: str, capabilities: Sequence[str]) -> str:
    """Returns an extension as the server announces it, with its value; empty where it does not."""
    alike = (extension, "LITERAL-") if extension == "LITERAL+" else (extension,)
    return next((it for it in capabilities if it in alike or it.partition("=")[0] in alike), "")


def _tell_relay(name: str, info: SourceInfo, output: Output) -> None:
    how = signed_in_line(info) if info.mechanism else f"connected to {info.address}, {_tls(info)}, without signing in"
    output.line(f"{name}: {how}")
    output.line(f"{name}: the server announces {', '.join(info.capabilities) or 'no extension'}")
    for note in info.notes:
        output.line(f"{name}: {note}")


def _tls(info: SourceInfo) -> str:
    return info.tls if info.tls != "none" else "not encrypted"
