"""What an account holds and what an archive gives back, in the same words, to be compared."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from syncd.imap.fetch import instant
from syncd.mail import flags
from syncd.mail.mailbox import Path as MailboxPath
from syncd.mail.mailbox import path_of
from syncd.sources.base import Source
from syncd.sources.maildir import MaildirSource
from syncd.sources.packs import PacksSource
from tests.contract.destination_kit import octets
from tests.contract.pop3_kit import Plenty, listed, wanted
from tests.contract.source_kit import each, opened
from tests.servers.imap import Login, Shown, shown


class Held(NamedTuple):
    """A message as an account or an archive has it, apart from its UID."""

    octets: bytes
    flags: flags.Flags
    instant: datetime | None


Holdings = dict[MailboxPath, Counter[Held]]


def of_account(login: Login, delimiter: str, prefix: str = "") -> Holdings:
    """Everything in an account, as the standard library's client sees it; mailboxes below `prefix` without it."""
    found = shown(login)
    return {
        path_of(name.removeprefix(prefix).encode("latin-1"), delimiter.encode()): Counter(map(held, mail))
        for name, mail in found.items()
    }


def held(message: Shown) -> Held:
    """A message as the standard library shows it, in the words of the rest."""
    return Held(message.octets, flags.canonical(tuple(message.flags)), instant(message.date.encode()))


def of_source(source: Source) -> Holdings:
    """Everything that a source gives, mailbox by mailbox."""
    found: Holdings = {}
    for path, held_there in by_uid(source).items():
        found[path] = Counter(held_there.values())
    return found


def by_uid(source: Source) -> dict[MailboxPath, dict[bytes, Held]]:
    """The same, with the uid of each message."""
    found: dict[MailboxPath, dict[bytes, Held]] = {}
    with opened(source) as session:
        for box in each(session):
            asked = list(wanted(listed(box)))
            uids = {one.key: one.uid for one in asked}
            here = found[box.mailbox.path] = {}
            for answer in box.fetch(asked, Plenty()):
                assert answer
                assert answer.body, answer.error
                here[uids[answer.key]] = Held(octets(answer.body), answer.flags, answer.internal_date)
        session.finish()
    return found


def of_packs(path: Path) -> Holdings:
    """Everything in an archive of packs."""
    return of_source(PacksSource(path, path / "spool"))


def of_maildir(path: Path) -> Holdings:
    """Everything in a Maildir."""
    return of_source(MaildirSource(path, path / "spool"))


def filled(holdings: Holdings) -> Holdings:
    """The mailboxes that hold messages."""
    return {path: held for path, held in holdings.items() if held}
