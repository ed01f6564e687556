"""The meaning of a server's no to an APPEND (pure): by its response code (RFC 5530), then by known words.

full         quota                                    deferred; smaller messages may still fit (I158)
too large    TOOBIG, LIMIT, words                     rejected: this message alone (I88, I107)
contents     CLIENTBUG, words of Cyrus and others     rejected: this message alone (I91, I153)
gone         TRYCREATE, NONEXISTENT, words            the mailbox is made again, once (I92)
closed       NOPERM, READ-ONLY                        deferred, with all others of the mailbox
later        UNAVAILABLE, INUSE, …                    deferred
anything else                                         rejected, with a code: the engine stops if all are refused
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from syncd.imap.values import Status

_QUOTA: Final = re.compile(rb"quota|mailbox (is )?full|no space|disk full", re.IGNORECASE)
_SIZE: Final = re.compile(
    rb"too (large|big|long)|mail size|message size|size limit|exceeds? .{0,30}size", re.IGNORECASE
)
_CONTENTS: Final = re.compile(
    rb"bare (newlines?|lf|cr)|nul characters?|invalid header|rfc.?5?(32|82)2|malformed|empty message"
    rb"|invalid (message|mail)|virus",
    re.IGNORECASE,
)


_GONE: Final = re.compile(rb"no such (mailbox|folder)|(mailbox|folder) (does ?n[o']t exist|not found)", re.IGNORECASE)


class No(Enum):
    """The kind of a refusal."""

    FULL = "full"
    TOO_LARGE = "too large"
    CONTENTS = "contents"
    GONE = "gone"
    CLOSED = "closed"
    LATER = "later"
    OTHER = "other"


_CODES: Final = {
    "OVERQUOTA": No.FULL,
    "TOOBIG": No.TOO_LARGE,
    "LIMIT": No.TOO_LARGE,
    "CLIENTBUG": No.CONTENTS,
    "TRYCREATE": No.GONE,
    "NONEXISTENT": No.GONE,
    "UNAVAILABLE": No.LATER,
    "SERVERBUG": No.LATER,
    "INUSE": No.LATER,
    "CORRUPTION": No.LATER,
    "CONTACTADMIN": No.LATER,
    "NOPERM": No.CLOSED,
    "READ-ONLY": No.CLOSED,
}


def kind(status: Status) -> No:
    """Returns what a tagged NO or BAD says of one message."""
    known = _CODES.get(status.code.name)
    if known is not None and not (known is No.GONE and _CONTENTS.search(status.text)):
        return known
    for words, meaning in (
        (_QUOTA, No.FULL),
        (_SIZE, No.TOO_LARGE),
        (_CONTENTS, No.CONTENTS),
        (_GONE, No.GONE),
    ):
        if words.search(status.text):
            return meaning
    return No.OTHER


def code(status: Status) -> str:
    """Returns the code by which the engine knows refusals that are alike."""
    return f"{status.kind.value} {status.code.name}".strip()
