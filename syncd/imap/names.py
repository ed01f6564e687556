"""Names of mailboxes at a server, and their paths for people and for mapping (RFC 3501 §5.1, RFC 2342). Pure.

A server with a personal namespace "INBOX." (Cyrus, Courier, some of Dovecot's) calls the mailbox "Sent" that others
call so "INBOX.Sent". Its path is "Sent" as well: patterns and mappings of a job mean the same on every server (I35).
"""

from __future__ import annotations

from collections.abc import Iterable

from syncd.imap.values import MailboxRow, Namespaces
from syncd.mail import mailbox
from syncd.mail.mailbox import INBOX, INBOX_PATH, Path


def personal_prefix(namespaces: Namespaces) -> bytes:
    """Returns the prefix of the user's own mailboxes, such as "INBOX."; empty where there is none, or none is told."""
    return namespaces.personal[0].prefix if namespaces.personal else b""


def delimiter_of(namespaces: Namespaces, rows: Iterable[MailboxRow]) -> bytes:
    """Returns the delimiter for new names: that of NAMESPACE, else of the first mailbox that has one (I120).

    Empty where names have one level.
    """
    told = (namespace.delimiter for namespace in namespaces.personal)
    return next(filter(None, told), b"") or next((row.delimiter for row in rows if row.delimiter), b"")


def path_of(row: MailboxRow, namespaces: Namespaces, *, utf8: bool = False) -> Path:
    """Returns the path of a mailbox: without the personal prefix, split at its own delimiter, each level decoded.

    INBOX in any case is INBOX (I36, I122). A mailbox whose path would be that of INBOX without the prefix keeps it.
    """
    prefix, delimiter = personal_prefix(namespaces), row.delimiter or None
    if prefix and delimiter and _below(row.name, prefix):
        path = mailbox.path_of(row.name[len(prefix) :], delimiter, utf8=utf8)
        if path != INBOX_PATH:
            return path
    return mailbox.path_of(row.name, delimiter, utf8=utf8)


def _below(name: bytes, prefix: bytes) -> bool:
    """Returns whether a name begins with the prefix, whose "INBOX" may be spelled in any case, and goes on."""
    start = name[: len(prefix)]
    same = start == prefix or (prefix[: len(INBOX)].upper() == INBOX and start.upper() == prefix.upper())
    return same and len(name) > len(prefix)
