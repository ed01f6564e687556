"""Tables and documents of `syncd archive`: messages, mailboxes, places."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from syncd.cli.render import Output, count, cut, instant
from syncd.errors import printable

if TYPE_CHECKING:
    from syncd.formats.view import Entry
    from syncd.mail.mailbox import Path as MailboxPath
    from syncd.services.archive import Held

SHORT_ID: Final = 12  # hexadecimal digits of a SHA-256: two of a million messages share them once in 500 archives
NARROW: Final = 100  # columns of a terminal that shows only the columns which tell a message from others
MOST_PATH: Final = 1_000  # characters of a mailbox's path


class MessageTable:
    """The list of messages, printed as they come. A narrow terminal shows fewer columns."""

    _COLUMNS: Final[dict[str, tuple[int, Callable[[Entry], str]]]] = {
        "DATE": (16, lambda entry: instant(entry.at)),
        "ACCOUNT": (12, lambda entry: cut(", ".join(entry.accounts) or "-", 12)),
        "OCTETS": (11, lambda entry: f"{entry.octets:,}"),
        "ID": (SHORT_ID, lambda entry: entry.id[:SHORT_ID]),
        "FROM": (22, lambda entry: cut(printable("-" if entry.damage else entry.sender), 22)),
        "SUBJECT": (7, lambda entry: "-" if entry.damage else entry.subject),
    }
    _SPARE: Final = frozenset({"ACCOUNT", "OCTETS"})

    def __init__(self, output: Output, second: str = "ACCOUNT") -> None:
        """`second` is the head of the second column."""
        self._output = output
        self._second = second
        is_narrow = sys.stdout.isatty() and shutil.get_terminal_size().columns < NARROW
        self._heads = [head for head in self._COLUMNS if not (is_narrow and head in self._SPARE)]
        self._widths = [self._COLUMNS[head][0] for head in self._heads]
        self._right = frozenset(at for at, head in enumerate(self._heads) if head == "OCTETS")
        self.rows = 0

    def add(self, entry: Entry) -> None:
        """Print a message, below the heads if it is the first."""
        if not self.rows:
            heads = [self._second if head == "ACCOUNT" else head for head in self._heads]
            self._output.columns(heads, self._widths, right=self._right, head=True)
        self.rows += 1
        cells = [self._COLUMNS[head][1](entry) for head in self._heads]
        self._output.columns(cells, self._widths, right=self._right)


def list_mailboxes(output: Output, found: Iterable[Held]) -> None:
    """Print mailboxes, with how much is in each."""
    if output.json:
        output.documents({**one._asdict(), "mailbox": "/".join(one.mailbox)} for one in found)
        return
    rows = [
        (
            cut(one.account or "-", 20),
            cut(_path(one.mailbox), 60),
            one.use or "-",
            f"{one.messages:,}",
            f"{one.octets:,}",
        )
        for one in found
    ]
    output.table(["ACCOUNT", "MAILBOX", "USE", "MESSAGES", "OCTETS"], rows, right=frozenset({3, 4}))
    output.note(count(len(rows), "mailbox", "mailboxes"))


def show_places(output: Output, entry: Entry) -> None:
    """Print where a message was seen, and what is known of it there."""
    heads = ["ACCOUNT", "MAILBOX", "ID THERE", "DATE", "FLAGS", "LABELS", "REMOVED"]
    rows = [
        (
            seen.account or "-",
            _path(seen.mailbox),
            printable(seen.uid),
            "-" if seen.date is None else seen.date.isoformat(" "),
            " ".join(seen.flags) or "-",
            ", ".join(seen.labels) or "-",
            instant(seen.removed_at),
        )
        for seen in entry.places
    ]
    shown = [at for at in range(len(heads)) if at < 5 or any(row[at] != "-" for row in rows)]
    output.table([heads[at] for at in shown], [[row[at] for at in shown] for row in rows])


def entry_json(entry: Entry) -> dict[str, object]:
    """Returns a message as a document."""
    return {
        **entry._asdict(),
        "mailboxes": ["/".join(path) for path in entry.mailboxes],
        "places": [
            {**seen._asdict(), "mailbox": "/".join(seen.mailbox), "uid": printable(seen.uid)} for seen in entry.places
        ],
    }


def _path(path: MailboxPath) -> str:
    return printable("/".join(path), MOST_PATH)
