"""A mailbox as its source lists it (pure values)."""

from __future__ import annotations

from typing import Final, NamedTuple, NewType
from uuid import UUID

from syncd.mail import utf7

Epoch = NewType("Epoch", int)  # UIDVALIDITY (RFC 3501 §2.3.1.1), or the generation of ids that the ledger counts from 1
ModSeq = NewType("ModSeq", int)  # RFC 7162 §3.1

Path = tuple[str, ...]  # a mailbox's name for people and for mapping: decoded, one text a level

INBOX: Final = b"INBOX"  # POP3's single maildrop (RFC 1939), and IMAP's first mailbox (RFC 3501 §5.1)
INBOX_PATH: Final[Path] = ("INBOX",)


class Mailbox(NamedTuple):
    """A mailbox at a source.

    `name` is the handle: the server's octets, never rewritten. `path` is the same for people and for mapping
    (`path_of`); two names may have one path.

    `contents` is a token: equal tokens mean the same set of messages, empty means that the mailbox is always listed.
    `messages` counts them, where the list of mailboxes tells.
    """

    name: bytes
    path: Path
    use: str = ""  # special use (RFC 6154 §2), such as "\\Sent"
    subscribed: bool = True
    validity: Epoch | None = None  # UIDVALIDITY; None: the ledger counts generations (POP3, archives)
    contents: bytes = b""
    messages: int | None = None
    modseq: ModSeq | None = None  # HIGHESTMODSEQ; None: flags are compared by listing
    account: UUID | None = None  # whose it is, in an archive that holds several accounts
    octets: int | None = None  # where the list of mailboxes was asked for sizes, and tells them
    uid_next: int | None = None  # UIDNEXT (RFC 3501 §2.3.1.1), where uids are numbers that only grow


class Unread(NamedTuple):
    """A folder or file of an archive that cannot be read: its name below the archive's root, and why.

    Views add the `path` that a mailbox of this name has. With `anywhere=True` it is a part of a file, and messages of
    every mailbox may be in it.
    """

    name: bytes
    why: str
    path: Path = ()
    anywhere: bool = False

    def may_hold(self, mailbox: bytes) -> bool:
        """Tells whether a mailbox with this name, or messages of it, may be there."""
        return self.anywhere or mailbox == self.name or mailbox.startswith(self.name + b"/")


def path_of(name: bytes, delimiter: bytes | None = None, *, utf8: bool = False) -> Path:
    """Returns the path of a mailbox that a server calls `name`: split at the delimiter, each level decoded (`utf7`).

    `delimiter` is the server's for this name (RFC 3501 §7.2.2), None where its names have one level. With `utf8=True`
    names are UTF-8. Empty levels are kept. INBOX in any case (§5.1) is INBOX, and so is the first level of what is
    below it: servers differ in how they spell it there.
    """
    levels = name.split(delimiter) if delimiter else [name]
    path = tuple(utf7.text_of(level, utf8=utf8) for level in levels)
    return INBOX_PATH + path[1:] if path[0].upper() == INBOX_PATH[0] else path


def name_of(path: Path, delimiter: bytes | None = None, *, utf8: bool = False) -> bytes:
    """Returns the name that a mailbox with this path has at a server: undoes `path_of`, but for the case of INBOX.

    Raises ValueError where the server cannot have such a name: a level has the delimiter in it, or there are several
    levels and no delimiter.
    """
    levels = [utf7.octets_of(level, utf8=utf8) for level in path]
    if len(levels) > 1 and not delimiter:
        raise ValueError("names of this server have one level")
    if delimiter and any(delimiter in level for level in levels):
        raise ValueError(f"a level has the server's delimiter {delimiter!r} in it")
    return (delimiter or b"").join(levels)


MAILDROP: Final = Mailbox(INBOX, INBOX_PATH)  # all that a POP3 account has
