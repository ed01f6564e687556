r"""Mailboxes at the destination: what a path is called there, and making those that are missing (I124, I125, I126).

A name is made from a path by rules, so that it is the same in each run:

    octets that were no text            the Latin-1 letters of these octets; names are then canonical modified UTF-7
    the delimiter, controls, * and %    "_" in a level
    spaces at its ends, a "~" first     "_"
    decomposed letters                  composed (NFC)

Where the server refuses that name, a plainer one is tried, with "_" for each of . / \ " & as well: Dovecot's Maildir
takes no dot. Paths that would become one by any of the rules are refused before (`Filing.mailbox_key`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Final, NamedTuple

from syncd.destinations.imap.account import ImapAccount, Target
from syncd.destinations.imap.quotas import NO_LIMIT, Left, append_limit
from syncd.errors import MailboxRefused, Refused, Throttled, printable
from syncd.imap.client import Client, Pending
from syncd.imap.names import personal_prefix
from syncd.imap.quirks import backoff_s
from syncd.imap.refusals import refusal
from syncd.imap.sets import LAST
from syncd.imap.values import Kind, MailboxStatus, Quota, Status, Verb
from syncd.mail.flags import NEW_KEYWORDS, SYSTEM
from syncd.mail.mailbox import INBOX, INBOX_PATH, Path, name_of

THERE: Final = frozenset({"ALREADYEXISTS"})
MOST_LOOKED_AT: Final = 300  # mailboxes that are looked at before a first run
TOGETHER: Final = 100  # mailboxes that are made in one flight
_OTHER_PATH: Final = "name another path for it in `map` of the job's destination, then have it tried: syncd retry JOB"
_LATER: Final = "it is tried again later"
_FEWER: Final = "make room in the account, or join mailboxes by `map` of the job's destination"
_ADVICE: Final = {  # by the response code of a no to CREATE (RFC 5530)
    "INUSE": _LATER,
    "UNAVAILABLE": _LATER,
    "SERVERBUG": _LATER,
    "OVERQUOTA": _FEWER,
    "LIMIT": _FEWER,
}
_KEPT_OCTET: Final = re.compile("[\udc80-\udcff]")
_NEVER: Final = re.compile(r"[\x00-\x1f\x7f*%]|^~|^ +| +$")
_ODD: Final = re.compile(r'[./\\"&]')


class Wanted(NamedTuple):
    """A mailbox that is to be there. `use` is a special use that a new one is given where the server can.

    `twin` is the path of another mailbox of the job that differs in nothing but case; see `twins`.
    """

    path: Path
    use: str
    subscribe: bool
    twin: Path = ()


def plain_key(path: Path) -> str:
    """Returns a text that is equal for paths that may become one mailbox."""
    return "/".join(_ODD.sub("_", _level(level)) for level in path)


def name_for(path: Path, delimiter: bytes, prefix: bytes = b"", *, utf8: bool = False, plain: bool = False) -> bytes:
    """Returns the name of a path. Raises ValueError where the server cannot have one."""
    if path == INBOX_PATH:
        return INBOX
    return prefix + name_of(_spelt(path, delimiter, plain=plain), delimiter or None, utf8=utf8)


def path_there(account: ImapAccount, path: Path) -> Path:
    """Returns the path that a mailbox has here, or is made with unless the server refuses it. Asks nothing."""
    return _there(account, path) or _spelt(path, account.delimiter)


def is_there(account: ImapAccount, path: Path) -> bool:
    """Returns whether a mailbox is here. Asks nothing."""
    return _there(account, path) is not None


def _there(account: ImapAccount, path: Path) -> Path | None:
    """Returns the path of a mailbox as its name is spelt here; None where it is not here."""
    prefix = personal_prefix(account.namespaces)
    for plain in (False, True):
        with suppress(ValueError):
            names = [name_for(path, account.delimiter, prefix, utf8=utf8, plain=plain) for utf8 in (False, True)]
            if not account.names.isdisjoint(names):
                return _spelt(path, account.delimiter, plain=plain)
    return None


def _spelt(path: Path, delimiter: bytes, *, plain: bool = False) -> Path:
    """Returns a path as its name is spelt by the rules."""
    if path == INBOX_PATH:
        return path
    levels = [_level(level) for level in path]
    if plain:
        levels = [_ODD.sub("_", level) for level in levels]
    if delimiter:
        levels = [level.replace(delimiter.decode("latin-1"), "_") for level in levels]
    return tuple(levels)


def _level(level: str) -> str:
    text = _KEPT_OCTET.sub(lambda found: chr(ord(found[0]) & 0xFF), level)
    return _NEVER.sub(lambda found: "_" * len(found[0]), unicodedata.normalize("NFC", text)) or "_"


def target(account: ImapAccount, wanted: Wanted) -> Target:
    """Returns a mailbox; makes it where it is not there. Raises MailboxRefused.

    Subscribes to it where nothing has ever been put there: a subscription may have been lost with a crash.
    """
    name = account.made.get(wanted.path)
    is_first = name is None
    if name is None:
        name = account.made[wanted.path] = _found_or_made(account, account.client(), wanted)
    known = account.targets.get(name)
    if known is None or known.stale:
        client = account.client()
        seen = account.targets[name] = _look(account, client, name)
        if is_first and wanted.subscribe and seen.following == 1:
            client.subscribe(name)  # a no changes nothing of the mail
        if known is not None and known.validity == seen.validity:
            seen.takes, seen.asked, seen.full_at, seen.closed = known.takes, known.asked, known.full_at, known.closed
        return seen
    return known


def make_all(account: ImapAccount, wanted: Iterable[Wanted]) -> None:
    """Make, subscribe to and look at many mailboxes in few flights: CREATE for TOGETHER, then SUBSCRIBE and STATUS.

    Those that the server does not make at once are left to `target`, which tries other names for them, and says why
    not.
    """
    client = account.client()
    todo = iter({one.path: one for one in wanted}.values())
    while chunk := list(islice(todo, TOGETHER)):
        flight = [(one, *_first(account, client, one)) for one in chunk]
        there = [it for it in flight if it[1] and (it[2] is None or _is_there(_answer(account, it[2])))]
        asked: list[tuple[bytes, Pending[MailboxStatus | None], Pending[dict[bytes, Quota]]]] = []
        for one, name, _ in there:
            account.made[one.path] = name
            account.names.add(name)
            if one.subscribe:
                client.subscribe(name)
            if name not in account.targets:
                asked.append((name, client.status(name, limit=True), client.quotas(name)))
        for name, status, quotas in asked:
            with suppress(MailboxRefused):
                account.targets[name] = _seen(account, client, name, status, quotas)


def filled(account: ImapAccount) -> dict[str, int]:
    """Returns the messages in each mailbox that has some, by its path; one flight for MOST_LOOKED_AT mailboxes."""
    client = account.client()
    asked = [(name, client.status(name)) for name in islice(sorted(account.names), MOST_LOOKED_AT)]
    told = [(name, status.wait()) for name, status in asked]
    return {printable(name): status.messages for name, status in told if status is not None and status.messages}


def forget(account: ImapAccount, name: bytes) -> None:
    """Take in that a mailbox is not there any more."""
    account.names.discard(name)
    account.targets.pop(name, None)
    for path in [path for path, known in account.made.items() if known == name]:
        del account.made[path]


def take_flags(account: ImapAccount, known: Target) -> None:
    r"""Learn which flags a mailbox takes: PERMANENTFLAGS is told by SELECT alone. The mailbox is left again.

    A list without any system flag tells nothing of these.
    """
    if known.asked:
        return
    client = account.client()
    try:
        with about_mailbox(client):
            opened = client.select(known.name).wait()
    except MailboxRefused:
        known.asked = True  # it may take mail all the same
        return
    told = opened.permanent_flags
    if told is not None:
        known.takes = SYSTEM.intersection(told) or SYSTEM
        known.takes |= {NEW_KEYWORDS} if opened.new_keywords else frozenset(told)
    known.asked = True
    client.unselect().wait()


@contextmanager
def about_mailbox(client: Client) -> Iterator[None]:
    """Say of a no that it is about a mailbox alone, where it may be: BAD has no code that tells."""
    try:
        yield
    except Refused as error:
        if client.over or isinstance(error, Throttled | MailboxRefused):
            raise
        raise MailboxRefused(str(error), command=error.command, code=error.code, text=error.text) from error


# --- inside ------------------------------------------------------------------------------------------


def _first(account: ImapAccount, client: Client, one: Wanted) -> tuple[bytes, Pending[Status] | None]:
    """Returns the name of a mailbox, and the answer to CREATE where it is not there; an empty name has none."""
    try:
        names = list(_names(account, client, one.path))
    except MailboxRefused:
        return b"", None
    known = next((name for name in names if name in account.names or name == INBOX), None)
    if known is None and one.twin:
        return b"", None
    return (names[0], client.create(names[0], one.use)) if known is None else (known, None)


def _answer(account: ImapAccount, created: Pending[Status]) -> Status:
    """Returns what the server says to CREATE. Raises Throttled where it wants a pause; LIMIT may be about it alone."""
    status = created.wait()
    if status.code.name == "THROTTLED" or (not status.ok and backoff_s(status.text) is not None):
        raise refusal(account.address, "the server does not make a mailbox", Verb.CREATE, status)
    return status


def _is_there(status: Status) -> bool:
    return status.ok or status.code.name in THERE


def _found_or_made(account: ImapAccount, client: Client, wanted: Wanted) -> bytes:
    path = wanted.path
    names = list(_names(account, client, path))
    for name in names:
        if name in account.names or name == INBOX:
            return name
    said = Status(Kind.NO)
    for name in names:
        said = _make(account, client, name, wanted.use)
        if _is_there(said):
            if wanted.twin:
                _tell_apart(account, client, name, wanted)
            account.names.add(name)
            return name
    raise MailboxRefused(
        f"{account.address}: the server does not make a mailbox “{'/'.join(path)}”: {printable(str(said))};"
        f" {_ADVICE.get(said.code.name, _OTHER_PATH)}",
        command="CREATE",
    )


def _tell_apart(account: ImapAccount, client: Client, name: bytes, wanted: Wanted) -> None:
    """Look whether a mailbox is there as its name is spelt. Raises MailboxRefused where it is its twin (I41)."""
    account.names.update(row.name for rows in client.mailboxes(status=False) for row in rows if row.selectable)
    if name not in account.names:
        path, twin = "/".join(wanted.path), "/".join(wanted.twin)
        raise MailboxRefused(
            f"{account.address}: the server has no mailbox “{path}” beside “{twin}”: it does not tell upper from lower"
            f" case, so both would become one mailbox. Name another path for “{path}” in `map` of the job's"
            " destination, or name both there to join them",
            command="CREATE",
        )


def _names(account: ImapAccount, client: Client, path: Path) -> Iterator[bytes]:
    seen = set()
    for plain in (False, True):
        try:
            name = name_for(
                path, account.delimiter, personal_prefix(account.namespaces), utf8=client.session.utf8, plain=plain
            )
        except ValueError as error:
            raise MailboxRefused(
                f"{account.address}: no mailbox “{'/'.join(path)}”: {error}", command="CREATE"
            ) from error
        if name not in seen:
            seen.add(name)
            yield name


def _make(account: ImapAccount, client: Client, name: bytes, use: str) -> Status:
    """CREATE. Returns what the server says to it, OK where the mailbox is there.

    Level by level where the server does not make those above.
    """
    said = _answer(account, client.create(name, use))
    if _is_there(said):
        return said
    levels = name.split(account.delimiter) if account.delimiter else [name]
    above = [account.delimiter.join(levels[:depth]) for depth in range(1, len(levels))]
    missing = [one for one in above if one and one not in account.names]
    for one in missing:
        client.create(one).wait()
    if missing:
        said = _answer(account, client.create(name, use))
        if _is_there(said):
            return said
    return said if client.status(name).wait() is None else Status(Kind.OK)


def _look(account: ImapAccount, client: Client, name: bytes) -> Target:
    """STATUS, before anything is put there (I125). A new user's INBOX may have to be opened once (I126)."""
    return _seen(account, client, name, client.status(name, limit=True), client.quotas(name))


def _is_unopened(account: ImapAccount, name: bytes, status: MailboxStatus) -> bool:
    """Returns whether an INBOX may not have been opened yet: until then Courier changes its UIDVALIDITY each second."""
    return name == INBOX and status.uid_next == 1 and not account.takes_several


def _seen(
    account: ImapAccount,
    client: Client,
    name: bytes,
    asked: Pending[MailboxStatus | None],
    quotas: Pending[dict[bytes, Quota]],
) -> Target:
    status = asked.wait()
    if status is None or _is_unopened(account, name, status):
        try:
            with about_mailbox(client):
                client.select(name).wait()
        except MailboxRefused as error:
            advice = _ADVICE.get(error.code, _OTHER_PATH)
            text = f"mailbox {printable(name)} at the destination: {error}; {advice}"
            raise MailboxRefused(text, command=error.command, code=error.code, text=error.text) from error
        client.unselect().wait()
        status = client.status(name, limit=True).wait() or MailboxStatus()
    if status.uid_validity is None:
        raise MailboxRefused(
            f"{account.address}: the server tells nothing of its mailbox {printable(name)}, so mail that is put there"
            " could not be found again after a crash",
            command="STATUS",
        )
    found = quotas.wait()
    account.left.update({root: Left.of(quota) for root, quota in found.items()})
    limit = min(append_limit(client.capabilities), status.append_limit or NO_LIMIT)
    return Target(name, status.uid_validity, min(status.uid_next or 1, LAST), append_limit=limit, roots=tuple(found))
