r"""From rows of LIST and STATUS to mailboxes: which of them are read, and the token that stands for their contents.

The token has UIDVALIDITY, UIDNEXT and MESSAGES, and HIGHESTMODSEQ where the server has it. A mailbox that was deleted
and made again may have all of the first three as before (I116). So where neither HIGHESTMODSEQ nor MAILBOXID would
show that, the token also has the day, and the mailbox is listed in full once a day.

Gmail (X-GM-EXT-1) shows a message in the mailbox of each of its labels, and once in All Mail (`\All`). There, All Mail
alone is read, with the labels of each message. Spam and Trash are not part of it; they are read if the job names them.
A job that does not read All Mail reads the mailboxes that it names, as on any other server.

With a mailbox for each label (`labels = "each"`), the mailboxes of the labels are read as on any other server, and of
All Mail the messages that are in none of them: those without a label, or whose labels are not shown in IMAP.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from syncd import clock
from syncd.imap.names import path_of
from syncd.imap.values import MailboxRow, MailboxStatus, Namespaces
from syncd.mail.mailbox import INBOX, Epoch, Mailbox, ModSeq
from syncd.mail.patterns import Selection

GMAIL: Final = "X-GM-EXT-1"
_ID: Final = re.compile("[A-Za-z0-9_-]{1,255}")  # RFC 8474 §7, objectid
_DAY_S: Final = 86_400
ALL_MAIL: Final = "\\All"
_BESIDE_ALL_MAIL: Final = frozenset({"\\Junk", "\\Trash"})
_VIEWS: Final = frozenset({"\\Flagged", "\\Important"})  # no label: they show messages that are elsewhere, too
_LABELS: Final = {"\\Sent": ("\\sent",), "\\Drafts": ("\\draft", "\\drafts")}  # special use → system labels


def mailbox(row: MailboxRow, namespaces: Namespaces, *, utf8: bool = False) -> Mailbox:
    """Returns a mailbox as LIST and STATUS tell of it."""
    status = row.status or MailboxStatus()
    return Mailbox(
        name=row.name,
        path=path_of(row, namespaces, utf8=utf8),
        use=row.use,
        subscribed=row.subscribed is not False,
        validity=None if status.uid_validity is None else Epoch(status.uid_validity),
        contents=token(status),
        messages=status.messages,
        modseq=None if status.modseq is None else ModSeq(status.modseq),
        octets=status.size,
        uid_next=status.uid_next,
    )


def token(status: MailboxStatus) -> bytes:
    """Returns what stands for the contents of a mailbox; empty where the server does not tell enough (I57)."""
    numbers = (status.uid_validity, status.uid_next, status.messages)
    if None in numbers:
        return b""
    words = [str(number) for number in numbers]
    words += [f"m{status.modseq}"] if status.modseq is not None else []
    mailbox_id = status.mailbox_id if _ID.fullmatch(status.mailbox_id) else ""
    words += [f"i{mailbox_id}"] if mailbox_id else []
    if status.modseq is None and not mailbox_id:
        words.append(f"d{int(clock.now().timestamp()) // _DAY_S}")
    return " ".join(words).encode()


def of_gmail(found: Sequence[Mailbox], selection: Selection, *, each: bool = False) -> list[Mailbox]:
    """Returns the mailboxes of a Gmail account that are read; see above. With `each=True` each label's is."""
    if not any(one.use == ALL_MAIL and selection.chooses(one) for one in found):
        return list(found)
    if each:
        return [one for one in found if one.use not in _BESIDE_ALL_MAIL | _VIEWS or selection.names(one)]
    return [one for one in found if one.use == ALL_MAIL or (one.use in _BESIDE_ALL_MAIL and selection.names(one))]


def labels_of(found: Iterable[Mailbox]) -> frozenset[str]:
    """Returns the labels of a Gmail account that have a mailbox, as `label_key` writes them."""
    labels = {"\\inbox"}
    for one in found:
        if one.use not in _VIEWS | _BESIDE_ALL_MAIL | {ALL_MAIL}:
            labels.update(_names(one))
    return frozenset(labels)


def other_labels(labels: frozenset[str], mailbox: Mailbox) -> frozenset[str]:
    """Returns the labels, of `labels`, in whose mailboxes a message of this one may be as well."""
    if mailbox.use in _BESIDE_ALL_MAIL | {ALL_MAIL}:
        return frozenset()
    return labels.difference(("\\inbox",) if mailbox.name == INBOX else _names(mailbox))


def _names(mailbox: Mailbox) -> tuple[str, ...]:
    return _LABELS.get(mailbox.use, (label_key("/".join(mailbox.path)),))


def label_key(label: str) -> str:
    """Returns a text that is equal for spellings of one label: system labels are in any case."""
    return label.lower() if label.startswith("\\") else label


def selectable(rows: Iterable[MailboxRow], namespaces: Namespaces, *, utf8: bool = False) -> list[Mailbox]:
    r"""Returns the mailboxes that can hold messages: not those that are \Noselect or \NonExistent (I37)."""
    return [mailbox(row, namespaces, utf8=utf8) for row in rows if row.selectable]
