"""What the contract suite of sources works with: a kit for each kind, and short ways through a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from syncd.mail.listing import Fetched
from syncd.mail.mailbox import INBOX_PATH, Mailbox
from syncd.mail.mailbox import Path as MailboxPath
from syncd.sources.base import OpenMailbox, Room, Source, SourceSession
from tests.contract.destination_kit import octets
from tests.contract.pop3_kit import Plenty, listed, wanted

HEAD = b"Subject: test\r\nFrom: a@example.net\r\n\r\n"


@dataclass(frozen=True)
class Kit:
    """One kind of source, with mail in it that a test puts there."""

    source: Callable[[Path], Source]  # large messages go to that folder
    add: Callable[[Sequence[bytes]], None]  # more mail arrives in INBOX
    spoil: Callable[[bytes], None]  # the message with these octets, one of `add`'s, can no longer be had
    given: Callable[[bytes], bytes] = lambda octets: octets  # what the source gives of a message
    removes: bool = False
    add_to: Callable[[MailboxPath, Sequence[bytes]], None] = lambda path, messages: None  # noqa: ARG005  more mail elsewhere
    several: bool = False  # mailboxes
    make: Callable[[Sequence[MailboxPath]], None] | None = None  # many empty mailboxes at once, where that is quicker
    keeps: str = "is an archive: a job copies from it and never"  # in what it says of removal, where it removes nothing

    def make_mailboxes(self, paths: Sequence[MailboxPath]) -> None:
        """Add empty mailboxes."""
        if self.make:
            self.make(paths)
            return
        for path in paths:
            self.add_to(path, [])


def some(number: int, start: int = 1) -> list[bytes]:
    """Messages that differ, also in their octets."""
    return [HEAD + b"message %d\r\n" % key + b"x\r\n" * key for key in range(start, start + number)]


@contextmanager
def opened(source: Source) -> Iterator[SourceSession]:
    session = source.connect()
    try:
        yield session
    finally:
        session.close()


def mailboxes(session: SourceSession) -> list[Mailbox]:
    return [mailbox for chunk in session.mailboxes() for mailbox in chunk]


def each(session: SourceSession) -> Iterator[OpenMailbox]:
    """Every mailbox, opened one after the other."""
    for mailbox in mailboxes(session):
        yield session.open(mailbox)


def at(session: SourceSession, path: MailboxPath, *, removes: bool = False) -> OpenMailbox:
    """The first mailbox with this path, opened."""
    found = next(mailbox for mailbox in mailboxes(session) if mailbox.path == path)
    return session.open(found, removes=removes)


def inbox(session: SourceSession, *, removes: bool = False) -> OpenMailbox:
    return at(session, INBOX_PATH, removes=removes)


def fetched(box: OpenMailbox, room: Room | None = None) -> dict[int, bytes | Fetched]:
    """Everything that is listed, by its number: octets, or the answer where there are none."""
    got: dict[int, bytes | Fetched] = {}
    for answer in box.fetch(wanted(listed(box)), room or Plenty()):
        assert answer is not None
        assert answer.key not in got
        got[answer.key] = answer if answer.body is None else octets(answer.body)
    return got
