r"""Values of IMAP: commands, replies, what mailboxes and messages are said to be.

Tuples where one is made for every message or mailbox. Texts of the server stay octets: names of mailboxes, dates and
the text of a status mean what the server wrote. Numbers are at most 63 bits wide (I113, I118).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, NewType

from syncd.errors import printable
from syncd.mail.flags import Flags

Uid = NewType("Uid", int)  # RFC 3501 §2.3.1.1; 0: the server did not tell
SeqNum = NewType("SeqNum", int)  # RFC 3501 §2.3.1.2; a hint (I136)
UidValidity = NewType("UidValidity", int)  # compared for equality, nothing else (I118)
ModSeq = NewType("ModSeq", int)  # RFC 7162 §3.1


MAX_NUMBER = (1 << 63) - 1  # RFC 7162 §7; UIDs have 32 bits, and UIDVALIDITY may have more than it should (I118)
MAX_DIGITS = 20  # int() of a million digits is an attack


class Verb(Enum):
    """A command. The value is its name on the wire."""

    GREETING = "greeting"  # what a new connection waits for
    CAPABILITY = "CAPABILITY"
    ID = "ID"
    ENABLE = "ENABLE"
    STARTTLS = "STARTTLS"
    AUTHENTICATE = "AUTHENTICATE"
    LOGIN = "LOGIN"
    NAMESPACE = "NAMESPACE"
    LIST = "LIST"
    LSUB = "LSUB"
    STATUS = "STATUS"
    SELECT = "SELECT"
    EXAMINE = "EXAMINE"
    UNSELECT = "UNSELECT"
    CLOSE = "CLOSE"
    CREATE = "CREATE"
    SUBSCRIBE = "SUBSCRIBE"
    APPEND = "APPEND"
    UID_FETCH = "UID FETCH"
    UID_SEARCH = "UID SEARCH"
    UID_STORE = "UID STORE"
    UID_EXPUNGE = "UID EXPUNGE"
    EXPUNGE = "EXPUNGE"
    UID_MOVE = "UID MOVE"
    GETQUOTAROOT = "GETQUOTAROOT"
    NOOP = "NOOP"
    LOGOUT = "LOGOUT"


class Kind(Enum):
    """The five words of a status (RFC 3501 §7.1)."""

    OK = "OK"
    NO = "NO"
    BAD = "BAD"
    PREAUTH = "PREAUTH"
    BYE = "BYE"


class Code(NamedTuple):
    """A response code (RFC 3501 §7.1, RFC 5530). `name` in capitals, empty if there is none."""

    name: str = ""
    arguments: bytes = b""

    def number(self) -> int | None:
        """Returns the first argument as a number, such as that of UIDNEXT; None if it is not one."""
        words = self.arguments.split(None, 1)
        return number(words[0]) if words else None


def number(word: bytes, most: int = MAX_NUMBER) -> int | None:
    """Returns a number in decimal digits; None for anything else, and for more than `most`."""
    if not word.isdigit() or len(word) > MAX_DIGITS:
        return None
    found = int(word)
    return found if found <= most else None


class Status(NamedTuple):
    """A status, tagged or untagged. `text` is without the code, for people only."""

    kind: Kind
    code: Code = Code()
    text: bytes = b""

    @property
    def ok(self) -> bool:
        """Returns whether this is OK or PREAUTH."""
        return self.kind is Kind.OK or self.kind is Kind.PREAUTH

    def __str__(self) -> str:
        code = (
            f" [{' '.join(filter(None, (self.code.name, printable(self.code.arguments))))}]" if self.code.name else ""
        )
        text = printable(self.text)
        return f"{self.kind.value}{code}{' ' if text else ''}{text}"


# --- what a server says of itself ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The list of capabilities in force (RFC 3501 §7.2.1), in capitals and in the server's order.

    Each list replaces the one before (I101). `known` is False as long as the server has not told any.
    """

    names: tuple[str, ...] = ()
    known: bool = False

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def values(self, name: str) -> tuple[str, ...]:
        """Returns what stands behind "=" wherever `name` is announced, such as ("35651584",) of APPENDLIMIT."""
        return tuple(one.partition("=")[2] for one in self.names if one.startswith(f"{name}="))

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """Returns the SASL mechanisms."""
        return self.values("AUTH")

    @property
    def literal_octets(self) -> int:
        """Returns how long a literal may be that is sent without being asked for (RFC 7888; I21, I106); -1: none."""
        if "LITERAL+" in self.names:
            return (1 << 63) - 1
        return 4096 if "LITERAL-" in self.names or "IMAP4REV2" in self.names else -1

    @property
    def has_list_extended(self) -> bool:
        """Returns whether LIST takes RETURN options (RFC 5258, RFC 9051 §6.3.9)."""
        return "LIST-EXTENDED" in self.names or "IMAP4REV2" in self.names

    @property
    def has_list_status(self) -> bool:
        """Returns whether LIST may give the STATUS of each mailbox (RFC 5819)."""
        return "LIST-STATUS" in self.names or "IMAP4REV2" in self.names


class Namespace(NamedTuple):
    """A namespace (RFC 2342). `delimiter` is empty for NIL."""

    prefix: bytes
    delimiter: bytes


class Namespaces(NamedTuple):
    """The answer to NAMESPACE; nothing of it is sure to be there (I121)."""

    personal: tuple[Namespace, ...] = ()
    others: tuple[Namespace, ...] = ()
    shared: tuple[Namespace, ...] = ()


# --- mailboxes -------------------------------------------------------------------------------------


class MailboxStatus(NamedTuple):
    """The answer to STATUS (RFC 3501 §7.2.4). None: not asked for, or not told (I140)."""

    messages: int | None = None
    uid_next: int | None = None
    uid_validity: UidValidity | None = None
    modseq: ModSeq | None = None  # HIGHESTMODSEQ; the 0 of an empty mailbox is None as well (I113)
    unseen: int | None = None
    recent: int | None = None
    size: int | None = None  # RFC 8438
    mailbox_id: str = ""  # RFC 8474
    append_limit: int | None = None  # RFC 7889


class Quota(NamedTuple):
    """A quota: used and limit, in units of 1,024 octets and in messages (RFC 9208 §5.1, §5.2). None: no such limit."""

    storage: tuple[int, int] | None = None
    messages: tuple[int, int] | None = None


_NOT_SELECTABLE = frozenset({"\\noselect", "\\nonexistent"})
# attribute → special use, spelled as RFC 6154 §2 and RFC 8457 spell it; the last two are XLIST's
_USES = {
    "\\all": "\\All",
    "\\archive": "\\Archive",
    "\\drafts": "\\Drafts",
    "\\flagged": "\\Flagged",
    "\\important": "\\Important",
    "\\junk": "\\Junk",
    "\\sent": "\\Sent",
    "\\trash": "\\Trash",
    "\\allmail": "\\All",
    "\\spam": "\\Junk",
}


class MailboxRow(NamedTuple):
    """A row of LIST or LSUB (RFC 3501 §7.2.2). `attributes` are in small letters; `delimiter` is empty for NIL.

    `subscribed` is None where nobody has asked. `status` is None where it was not asked for or is refused.
    """

    name: bytes
    delimiter: bytes
    attributes: frozenset[str]
    subscribed: bool | None = None
    status: MailboxStatus | None = None

    @property
    def selectable(self) -> bool:
        """Returns whether the mailbox can hold messages (I37)."""
        return not self.attributes & _NOT_SELECTABLE

    @property
    def use(self) -> str:
        r"""Returns the special use, such as "\Sent", or an empty text. Of several the first by name."""
        return next((_USES[one] for one in sorted(self.attributes) if one in _USES), "")


@dataclass(slots=True)
class Selected:
    """The mailbox that is selected. Every item but the name is optional (I139): None is "not told".

    The value lives with the session: untagged data changes it. `expunged` counts the messages that are told to be gone,
    which proves nothing of them (I119).
    """

    name: bytes
    exists: int | None = None  # I66: the last one counts
    recent: int | None = None
    uid_validity: UidValidity | None = None
    uid_next: int | None = None
    modseq: ModSeq | None = None  # HIGHESTMODSEQ; None for NOMODSEQ and 0 as well (I69, I113)
    flags: Flags = ()
    permanent_flags: Flags | None = None
    new_keywords: bool = False  # PERMANENTFLAGS has "\\*": keywords may be invented
    read_only: bool = False
    uid_not_sticky: bool = False
    mailbox_id: str = ""
    expunged: int = 0


# --- messages --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FetchItems:
    r"""The items to ask of messages by UID FETCH; the UID is always among it.

    `header` asks for BODY.PEEK[HEADER] and `body` for BODY.PEEK[]: neither sets \Seen. RFC822 and HEADER.FIELDS are
    never asked for (I75, I144), nor are ENVELOPE and BODYSTRUCTURE (I86).
    """

    flags: bool = False
    internal_date: bool = False
    size: bool = False
    modseq: bool = False  # RFC 7162
    email_id: bool = False  # RFC 8474
    gmail_id: bool = False  # X-GM-MSGID, of X-GM-EXT-1
    gmail_labels: bool = False  # X-GM-LABELS
    header: bool = False
    body: bool = False


class FetchRow(NamedTuple):
    """The contents of a FETCH response for one message (RFC 3501 §7.4.2). None: not in this response.

    `internal_date` is the text as it came (I143). `header` and `body` are their octets. NIL is None, too: see `texts`.
    """

    seq: SeqNum
    uid: Uid = Uid(0)
    flags: Flags | None = None
    internal_date: bytes | None = None
    size: int | None = None
    modseq: ModSeq | None = None
    email_id: str = ""
    gmail_id: int | None = None
    labels: tuple[bytes, ...] | None = None
    header: bytes | None = None
    body: bytes | None = None
    texts: int = 0  # HEADER and BODY, for those that are in the response, even as NIL, or as octets given by Text


HEADER, BODY = 1, 2
