r"""Fields of a message's header in which mail programs keep what they know of it in an mbox (pure).

    Status           R read, O no longer new                          all
    X-Status         A answered, F flagged, D deleted, T draft        mutt, UW-IMAP, Dovecot, mailutils
    X-Keywords       keywords, with spaces between                    UW-IMAP, Dovecot
    X-Mozilla-Status 1 read, 2 answered, 4 flagged, 8 deleted, 1000 forwarded (hexadecimal)      Thunderbird
    X-Mozilla-Keys   keywords
    X-UID, X-IMAP, X-IMAPbase, X-Mozilla-Status2                      told nothing that is kept

    Content-Length   where the message ends, if it does (`scan`): Dovecot, mutt

They are notes about the message and no part of it: they become flags, and the message is given without them.

An archive of syncd puts its own notes before the message, always with a Status field first, so that they come off
exactly. `X-Syncd-Form` follows where the octets would not come back otherwise:

    crlf         the message has fields that look like notes; they are its own, and stay
    raw          line ends are as they were; without it, every LF was CRLF
    … unended    the message did not end in a line end
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from syncd.mail.flags import ANSWERED, DELETED, DRAFT, FLAGGED, FORWARDED, SEEN, Flags, canonical

FORM: Final = b"X-Syncd-Form"
_X_STATUS: Final = {ANSWERED: "A", DELETED: "D", FLAGGED: "F", DRAFT: "T"}
_OF_LETTER: Final = {"R": SEEN, **{letter: flag for flag, letter in _X_STATUS.items()}}
_MOZILLA: Final = {0x1: SEEN, 0x2: ANSWERED, 0x4: FLAGGED, 0x8: DELETED, 0x1000: FORWARDED}
_NOTES: Final = re.compile(
    rb"^(Status|X-Status|X-Keywords|X-UID|X-IMAP|X-IMAPbase|X-Mozilla-Status2?|X-Mozilla-Keys|X-Syncd-Form)[ \t]*:"
    rb"([^\n]*(?:\n[ \t]+[^\s][^\n]*)*)\n?",
    re.IGNORECASE | re.MULTILINE,
)
_OURS: Final = re.compile(
    rb"Status: (R?O)\n(?:X-Status: ([ADFT]+)\n)?(?:X-Keywords: ([^\n]+)\n)?"
    rb"(?:X-Syncd-Form: (crlf|raw)( unended)?\n)?"
)
_LOOKS_OURS: Final = re.compile(
    rb"(?:X-Status|X-Keywords|X-Syncd-Form): "
)  # where a message begins so, FORM ends notes
_EMPTY_LINE: Final = re.compile(rb"\n\r?\n")
CONTENT_LENGTH: Final = re.compile(rb"^Content-Length[ \t]*:[ \t]*(\d{1,12})[ \t]*\r?\n", re.IGNORECASE | re.MULTILINE)
_LENGTH_AND_LINES: Final = re.compile(
    CONTENT_LENGTH.pattern + rb"(?:Lines[ \t]*:[ \t]*\d{1,12}[ \t]*\r?\n)?", re.IGNORECASE | re.MULTILINE
)  # mutt writes both, one behind the other, when it saves a message with other flags
_KEYWORD: Final = re.compile(r"[^\s\x00-\x1f\x7f\\]\S*")
_FOLDER_DATA: Final = re.compile(rb"^Subject:.*FOLDER INTERNAL DATA", re.IGNORECASE | re.MULTILINE)


class Form(NamedTuple):
    """How a message is stored: with its own line ends (`raw`) or LF for CRLF, and whether it ends in a line end."""

    raw: bool = False
    ended: bool = True


class Notes(NamedTuple):
    """The notes before a message of ours: the flags, and the octets that they take.

    With `marked=False` the message had no fields that look like notes: another program has added those that it has.
    """

    flags: Flags
    form: Form
    octets: int
    marked: bool


def written(flags: Flags, form: Form, header: bytes) -> bytes:
    """Returns the notes for a message with this header. Flags that are not one printable word are left out."""
    x_status = "".join(sorted(letter for flag, letter in _X_STATUS.items() if flag in flags))
    keywords = [flag for flag in flags if _KEYWORD.fullmatch(flag)]
    lines = [b"Status: RO" if SEEN in flags else b"Status: O"]
    lines += [b"X-Status: " + x_status.encode()] if x_status else []
    lines += [b"X-Keywords: " + " ".join(keywords).encode("utf-8", "surrogateescape")] if keywords else []
    if form != Form() or _NOTES.search(header):
        lines.append(FORM + (b": raw" if form.raw else b": crlf") + (b"" if form.ended else b" unended"))
    return b"\n".join(lines) + b"\n"


def ours(start: bytes) -> Notes | None:
    """Returns the notes of ours that a stored message begins with; None where another program has written it."""
    found = _OURS.match(start)
    if found is None:
        return None
    letters = (found[1] + (found[2] or b"")).decode("ascii")
    keywords = (found[3] or b"").decode("utf-8", "surrogateescape").split(" ")
    flags = canonical((*(_OF_LETTER[letter] for letter in letters if letter in _OF_LETTER), *keywords))
    return Notes(flags, Form(found[4] == b"raw", not found[5]), found.end(), marked=found[4] is not None)


def split(start: bytes) -> tuple[bytes, bytes]:
    """Returns the header at the start of a message, with the end of its last line, and what follows.

    Where `start` ends before the header does, the header is its whole lines.
    """
    if start.startswith((b"\n", b"\r\n")):
        return b"", start
    end = _EMPTY_LINE.search(start)
    cut = (end.start() if end else start.rfind(b"\n")) + 1
    return start[:cut], start[cut:]


def without_notes(header: bytes) -> bytes:
    """Returns a header without the fields that are notes."""
    return _NOTES.sub(b"", header)


def without_length(header: bytes) -> bytes:
    """Returns a header without Content-Length."""
    return CONTENT_LENGTH.sub(b"", header)


def without_length_and_lines(header: bytes) -> bytes:
    """Returns a header without Content-Length, and without the field Lines behind it."""
    return _LENGTH_AND_LINES.sub(b"", header)


def flags(header: bytes) -> Flags:
    """Returns the flags that the notes in a header tell."""
    found: list[str] = []
    for name, value in ((it[1].lower(), it[2]) for it in _NOTES.finditer(header)):
        text = value.decode("utf-8", "surrogateescape")
        if name in {b"status", b"x-status"}:
            found += [_OF_LETTER[letter] for letter in text if letter in _OF_LETTER]
        elif name in {b"x-keywords", b"x-mozilla-keys"}:
            found += text.split()
        elif name == b"x-mozilla-status":
            found += _mozilla(text)
    return canonical(tuple(found))


def _mozilla(text: str) -> list[str]:
    try:
        bits = int(text, 16)
    except ValueError:
        return []
    return [flag for bit, flag in _MOZILLA.items() if bits & bit]


def is_folder_data(header: bytes) -> bool:
    """Returns whether a message is no mail, but where UW-IMAP and its kin keep an mbox's own data (P38)."""
    return b"X-IMAP" in header and _FOLDER_DATA.search(header) is not None
