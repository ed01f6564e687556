"""Collects what untagged data says of the selected mailbox (RFC 3501 §7). Pure."""

from __future__ import annotations

import re
from typing import Final

from syncd.imap.events import (
    Event,
    Exists,
    Expunge,
    FlagsTold,
    Recent,
    Vanished,
)
from syncd.imap.values import (
    ModSeq,
    Selected,
    Status,
    UidValidity,
)
from syncd.mail.flags import from_octets

_ID: Final = re.compile(rb"\(?([^\s()]{1,255})\)?")


def note(selected: Selected, event: Event) -> bool:
    """Take up what an event says of the mailbox. Returns whether it says anything of it."""
    if isinstance(event, Exists):
        selected.exists = event.messages
    elif isinstance(event, Recent):
        selected.recent = event.messages
    elif isinstance(event, Expunge):
        selected.expunged += 1
        selected.exists = max(selected.exists - 1, 0) if selected.exists is not None else None
    elif isinstance(event, Vanished):
        if not event.earlier:
            gone = sum(last - first + 1 for first, last in event.ranges)
            selected.expunged += gone
            selected.exists = max(selected.exists - gone, 0) if selected.exists is not None else None
    elif isinstance(event, FlagsTold):
        selected.flags = event.flags
    elif isinstance(event, Status):
        return _note_code(selected, event)
    else:
        return False
    return True


def _note_code(selected: Selected, status: Status) -> bool:
    """Take up a response code of SELECT or EXAMINE (RFC 3501 §7.1, RFC 4315 §2, RFC 7162 §3.1.2, RFC 8474 §4.2)."""
    code = status.code
    number = code.number()
    match code.name:
        case "UIDVALIDITY":
            selected.uid_validity = UidValidity(number) if number is not None else None
        case "UIDNEXT":
            selected.uid_next = number
        case "HIGHESTMODSEQ":
            selected.modseq = ModSeq(number) if number else None  # I69, I113
        case "NOMODSEQ":
            selected.modseq = None
        case "PERMANENTFLAGS":
            words = code.arguments.strip(b"()").split()
            selected.permanent_flags = from_octets(words)
            selected.new_keywords = b"\\*" in words
        case "READ-ONLY":
            selected.read_only = True
        case "READ-WRITE":
            selected.read_only = False
        case "UIDNOTSTICKY":
            selected.uid_not_sticky = True
        case "MAILBOXID" if (found := _ID.match(code.arguments)) is not None:
            selected.mailbox_id = found[1].decode("ascii", "backslashreplace")
        case _:
            return False
    return True
