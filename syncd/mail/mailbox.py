"""A mailbox as its source lists it (pure values)."""

from __future__ import annotations

from typing import Final, NamedTuple, NewType

Epoch = NewType("Epoch", int)  # UIDVALIDITY (RFC 3501 §2.3.1.1), or the generation of ids that the ledger counts from 1
ModSeq = NewType("ModSeq", int)  # RFC 7162 §3.1

Path = tuple[str, ...]  # a mailbox's name for people and for mapping: decoded, one text a level

INBOX: Final = b"INBOX"  # POP3's single maildrop (RFC 1939), and IMAP's first mailbox (RFC 3501 §5.1)
INBOX_PATH: Final[Path] = ("INBOX",)


class Mailbox(NamedTuple):
    """A mailbox at a source.

    `name` is the handle: the server's octets, never rewritten. `path` is the same for people: decoded, split at the
    delimiter, INBOX in capitals.

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


MAILDROP: Final = Mailbox(INBOX, INBOX_PATH)  # all that a POP3 account has
