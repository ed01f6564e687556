"""Looking into archives: list, show, check, count, export. By name or by path; a path needs no configuration."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from syncd.errors import ArchiveMissing, ConfigError, UsageError, printable, storage_error
from syncd.formats.eml import folder as eml
from syncd.formats.identity import format_of
from syncd.formats.maildir import home as maildir
from syncd.formats.maildir.home import IDENTITY_FILE
from syncd.formats.maildir.layout import Layout
from syncd.formats.mbox import home as mbox
from syncd.formats.view import ArchiveView, Delivered, Entry, Finding, Lost, Places, Progress
from syncd.mail.mailbox import INBOX_PATH
from syncd.mail.mailbox import Path as MailboxPath
from syncd.mail.message import Origin
from syncd.services.export import Exported, ExportFormat, export
from syncd.services.export_place import files_of
from syncd.services.wiring import existing_ledger, listed, read_only

if TYPE_CHECKING:
    from syncd.settings.load import Loaded

PACKS_IDENTITY_FILE = "archive.json"
SOME = 20  # names in an error line


@dataclass(frozen=True, slots=True)
class Filter:
    """A choice of messages: of an account (name or UUID) or mailbox, from a date on, before a date, by subject."""

    account: str | None = None
    mailbox: str | None = None
    since: datetime | None = None
    before: datetime | None = None
    subject: str | None = None

    def takes(self, entry: Entry) -> bool:
        """Tells whether a message passes; its account and mailbox were compared where it was read."""
        if self.since is not None and (entry.at is None or entry.at < self.since):
            return False
        if self.before is not None and (entry.at is None or entry.at >= self.before):
            return False
        return self.subject is None or self.subject.casefold() in entry.subject.casefold()


def open_view(loaded: Loaded | None, name_or_path: str) -> ArchiveView:
    """Open an archive of the configuration by its name, or any by its path. Raises ConfigError, StorageError."""
    archives = loaded.settings.archives if loaded is not None else {}
    known = archives.get(name_or_path)
    path = known.path if known is not None else Path(name_or_path).expanduser().absolute()
    found = _identity_file(path)
    if found == IDENTITY_FILE:
        return _view_of(path, format_of(path / IDENTITY_FILE))
    if found is None and known is not None:
        return _view_of(path, known.format, known.layout)
    if found is None and path.is_file():
        return _view_of(path, mbox.FORMAT)
    if found is None and not path.is_dir():
        names = f"; archives of the configuration: {listed(archives)}" if loaded is not None else ""
        raise ConfigError(f"{name_or_path!r} is neither a folder nor the name of an archive{names}")
    if found is None:
        return _of_others(path)
    return _view_of(path, "packs")


def _view_of(path: Path, form: str, layout: Layout = Layout.PLUS_PLUS) -> ArchiveView:
    made = _class_of(form)
    view: ArchiveView = made(path, layout) if form == maildir.FORMAT else made(path)
    return view


def id_of(form: str, key: bytes) -> str:
    """Returns the id for people of a message by its key, in an archive of this format that need not be here."""
    return str(_class_of(form).id_of(key))


def _class_of(form: str) -> Any:  # their signatures differ
    match form:
        case "packs":
            from syncd.formats.packs.view import PacksView

            return PacksView
        case mbox.FORMAT:
            from syncd.formats.mbox.view import MboxView

            return MboxView
        case eml.FORMAT:
            from syncd.formats.eml.view import EmlView

            return EmlView
        case _:
            from syncd.formats.maildir.view import MaildirView

            return MaildirView


def _of_others(path: Path) -> ArchiveView:
    """Returns a view of a Maildir, mbox or eml files of another program. Raises ConfigError for any other folder."""
    for form in (maildir.FORMAT, eml.FORMAT, mbox.FORMAT):
        with suppress(ArchiveMissing):
            return _view_of(path, form)
    raise ConfigError(
        f"{path} is no archive of syncd: neither {PACKS_IDENTITY_FILE} nor {IDENTITY_FILE} is in it, nor mbox or eml"
        " files; name the folder that holds one of them"
    )


def entries(view: ArchiveView, which: Filter) -> Iterator[Entry]:
    """The messages of an archive that pass a filter; streamed. Raises UsageError as `places`."""
    return filter(which.takes, view.entries(places(view, which.account, which.mailbox)))


class Held(NamedTuple):
    """A mailbox in an archive, and how much is in it. `account` is "" where the archive keeps no accounts."""

    account: str
    mailbox: MailboxPath
    use: str
    subscribed: bool
    messages: int
    octets: int


def held(view: ArchiveView, account: str | None, mailbox: str | None) -> Iterator[Held]:
    """The mailboxes of an archive, also those without messages. Raises UsageError as `places`."""
    which = places(view, account, mailbox)
    names = {origin.account: origin.account_name for origin in view.origins()}
    for box in [box for chunk in view.mailboxes() for box in chunk]:
        owner = box.account or view.uuid
        at_owner = box.name if box.account is None else box.name.partition(b"/")[2]
        opened = view.open(box.name) if which is None or (owner, at_owner) in which else None
        if opened is not None:
            totals = opened.totals()
            yield Held(names.get(owner, ""), box.path, box.use, box.subscribed, totals.messages, totals.octets)


def places(view: ArchiveView, account: str | None, mailbox: str | None) -> Places | None:
    """Returns the places of an account (name or UUID) and a mailbox (its path, with "/"); None: every place.

    Raises UsageError where the archive names no such account or mailbox, and tells which it names.
    """
    if account is None and mailbox is None:
        return None
    known = view.origins()
    if account is not None:
        named = [origin for origin in known if origin.account_name]
        known = [origin for origin in named if account in {origin.account_name, str(origin.account)}]
        _check_found(known, view, "account", account, (origin.account_name for origin in named))
    chosen = [origin for origin in known if mailbox is None or _is_called(origin, mailbox)]
    _check_found(chosen, view, "mailbox", mailbox or "", ("/".join(origin.path) for origin in known))
    return frozenset((origin.account, origin.mailbox) for origin in chosen)


def _is_called(origin: Origin, mailbox: str) -> bool:
    return (
        mailbox in {"/".join(origin.path), printable(origin.mailbox)} or (mailbox.upper(),) == origin.path == INBOX_PATH
    )


def _check_found(found: Collection[Origin], view: ArchiveView, what: str, name: str, there: Iterable[str]) -> None:
    if not found:
        names = [printable(each) for each in dict.fromkeys(there)]
        some = ", ".join(names[:SOME]) + (f" and {len(names) - SOME:,} more" if len(names) > SOME else "")
        has = f"it has {some}" if names else "it tells of none"
        raise UsageError(f"no {what} {printable(name)!r} in {view.path}: {has}")


def check(loaded: Loaded | None, view: ArchiveView, progress: Progress) -> Iterator[Finding]:
    """Read every octet again; then look for each message that the ledger counts as delivered here."""
    yield from view.check(progress)
    if loaded is not None:
        yield from view.missing(_delivered(loaded, view))


def write_out(
    view: ArchiveView,
    path: Path,
    form: ExportFormat,
    which: Places | None,
    progress: Callable[[Exported], None],
    *,
    lost: Lost,
    status: bool = False,
) -> Exported:
    """Write an archive's messages for other programs, at the places `which`; `lost` is told of each unreadable message.

    With `status=True` an mbox has flags. Raises UsageError, StorageError.
    """
    origins = {(it.account, it.mailbox): it for it in view.origins()}  # the last epoch of each mailbox
    chosen = [it for key, it in origins.items() if which is None or key in which]
    named = [it if it.account_name else it._replace(account_name=view.path.name) for it in chosen]
    return export(view.stored(files_of(path), lost, which), path, form, progress, mailboxes=named, status=status)


def _identity_file(path: Path) -> str | None:
    """Returns which identity file lies in the folder, if one does. Raises StorageError where we may not look."""
    for name in (IDENTITY_FILE, PACKS_IDENTITY_FILE):
        try:
            (path / name).lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise storage_error(error, f"cannot look into {path}") from error
        return name
    return None


def _delivered(loaded: Loaded, view: ArchiveView) -> Iterator[Delivered]:
    with existing_ledger(loaded) as database:
        if database is not None:
            yield from (Delivered(*row) for row in read_only(database).archives.contents(view.uuid))
