"""The contract of search indexes, wherever it is: a file beside the archive (`index`), or tables of a database."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import ClassVar, Final, NamedTuple, Protocol
from uuid import UUID

from syncd.formats.search.question import Question
from syncd.mail.mailbox import Path as MailboxPath
from syncd.mail.message import Origin

SHOWN: Final = 120  # characters of a sender or subject


class Document(NamedTuple):
    """A message as it goes into the index: `words` as of `words.indexed`, `order` as of `order.packed`, or b""."""

    key: bytes
    at: datetime | None
    octets: int
    attachments: int
    sender: str
    subject: str
    words: str
    order: bytes
    origins: tuple[Origin, ...]


class Hit(NamedTuple):
    """A message that was found. `id` is its place in the order: the next part begins below it."""

    id: int
    key: bytes
    at: datetime
    octets: int
    attachments: int
    sender: str
    subject: str
    accounts: tuple[str, ...]
    mailboxes: tuple[MailboxPath, ...]


class Box(NamedTuple):
    """A mailbox: its account, the account's name ("" where the archive keeps none), and its path."""

    account: UUID
    name: str
    path: MailboxPath


def storable(shown: str) -> str:
    """Returns a text without what databases keep in no text: NUL, and halves of characters."""
    return shown.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


class Index(Protocol):
    """An open index of one archive. For one thread. Raises DiskFull, Locked, StorageError, LedgerError.

    With `elsewhere` another process does the work of writing, and this one only waits for it. With `keeps_order` the
    index knows the words of a message in their order, so a phrase is found without the archive.
    """

    elsewhere: ClassVar[bool]
    keeps_order: ClassVar[bool]

    @property
    def mark(self) -> str:
        """Returns how far the archive was read, in its own words; "" at the beginning."""
        ...

    @property
    def messages(self) -> int:
        """Returns how many messages are in the index."""
        ...

    def lacking(self, keys: Sequence[bytes]) -> set[bytes]:
        """Returns those of some messages that are not in the index."""
        ...

    def keys(self, start: bytes = b"") -> Iterator[bytes]:
        """Every key that begins so, in pages; what is removed meanwhile may be missing."""
        ...

    def writing(self) -> AbstractContextManager[None]:
        """One transaction."""
        ...

    def add(self, documents: Sequence[Document]) -> int:
        """Add messages, in a transaction; returns how many were new."""
        ...

    def place(self, key: bytes, origins: Iterable[Origin]) -> None:
        """Note that a message was seen in mailboxes, in a transaction."""
        ...

    def forget(self, key: bytes) -> None:
        """Remove a message, in a transaction."""
        ...

    def set_mark(self, mark: str) -> None:
        """Note how far the archive was read, in a transaction."""
        ...

    def tidy(self) -> None:
        """Do what makes searches faster after much was written. Takes time."""
        ...

    def mailboxes(self) -> dict[int, Box]:
        """Returns every mailbox by its number."""
        ...

    def find(
        self,
        question: Question,
        limit: int,
        below: int | None = None,
        within: Collection[int] | None = None,
        without: Collection[int] = (),
    ) -> list[Hit]:
        """Returns messages that answer a question, the newest first; with `below`, those after this place.

        `within` are the numbers of mailboxes to look in (None: all), and no message may be in one of `without`.
        Words one after another are taken for words anywhere; what a question excludes so is not looked at.
        """
        ...

    def texts(self, messages: Sequence[int]) -> dict[int, list[list[str]]]:
        """Returns the texts of messages by their ids, each as words in their order, if `keeps_order`."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...
