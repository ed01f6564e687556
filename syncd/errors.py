"""The exceptions of syncd: how far each reaches, and whether trying again can help.

    SyncdError                  .scope: message | mailbox | account | run      .retry: now | later | never
    ├─ ConfigError              names file and key, and shows an accepted value
    ├─ UsageError               what was asked for cannot be done like that; the configuration is not to blame
    ├─ SecretUnavailable        a secret reference that cannot be read
    ├─ TransportError           ConnectFailed · TlsFailed · TimedOut · ConnectionLost · SessionLost
    ├─ ProtocolError            LocalProtocolError, StateError (our fault)
    │   └─ RemoteProtocolError  LostStep · NoHeaders · WrongService (the peer's)
    ├─ Refused                  a well-formed no
    │   └─ AuthRefused · Throttled · Unsupported · MailboxRefused
    │       MessageRefused (MessageLost · NotMail · MessageTooLarge)
    ├─ DestinationRefuses       the same no to message after message
    ├─ StorageError             DiskFull · FormatDamaged · Locked · Unusable
    ├─ LedgerError              LedgerUnusable · Conflict · LeaseLost · LeaseHeld
    ├─ SafetyStop               AccountChanged · ArchiveMissing · RemovalsFrozen · BrakeTripped · ConfirmationNeeded
    └─ Cancelled                someone asked us to stop

A message says what, where and what to do, in one line, and is safe to print: octets that came from a
peer are escaped by `printable` before they reach it.
"""

from __future__ import annotations

import errno
from datetime import datetime
from enum import Enum
from typing import ClassVar, Final

MAX_QUOTED_OCTETS = 200  # enough to recognise a reply; a hostile peer must not fill the log


class Scope(Enum):
    """The reach of an error, which decides what goes on."""

    MESSAGE = "message"  # the message fails; the stream goes on
    MAILBOX = "mailbox"  # is noted; the session goes on with the next mailbox
    ACCOUNT = "account"  # a source's session ends; a destination is left out of the run
    RUN = "run"  # the run ends


class Retry(Enum):
    """The time at which trying again can help."""

    NOW = "now"
    LATER = "later"
    NEVER = "never"


def printable(octets: bytes | str, limit: int = MAX_QUOTED_OCTETS) -> str:
    """Escape what a peer sent so that it can be shown: no control, no bidi, no invalid text, at most `limit`."""
    text = octets.decode("utf-8", "backslashreplace") if isinstance(octets, bytes) else octets
    cut = text[:limit]
    if not cut.isprintable():
        cut = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)
    return cut + ("…" if len(text) > limit else "")


def count(number: int, noun: str, nouns: str = "") -> str:
    """Returns a number with its noun, such as "1 message" and "20,000 messages"."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


class SyncdError(Exception):
    """The root: everything syncd raises on purpose."""

    scope: ClassVar[Scope] = Scope.RUN
    retry: ClassVar[Retry] = Retry.NEVER


class ConfigError(SyncdError):
    """The configuration is wrong: each of `lines` names file, key, reason and an accepted value, one a mistake."""

    scope = Scope.ACCOUNT  # within a run: what the account or archive is configured to be cannot be used

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class UsageError(SyncdError):
    """The request cannot be carried out like that; the message says how it can."""


class SecretUnavailable(SyncdError):
    """A secret reference (`env:`, `file:`, `command:`, `keyring:`) gave nothing."""

    scope = Scope.ACCOUNT


# --- transport -------------------------------------------------------------------------------------


class TransportError(SyncdError):
    """The way to the server failed."""

    scope = Scope.ACCOUNT
    retry = Retry.LATER


class ConnectFailed(TransportError):
    """No connection: name unknown, refused, unreachable."""


class TlsFailed(TransportError):
    """TLS could not be set up or the certificate does not verify; never retried in clear."""

    retry = Retry.NEVER


class TimedOut(TransportError):
    """A deadline passed; the message says what was waited for and how long."""


class ConnectionLost(TransportError):
    """The peer or the network ended the connection."""


class SessionLost(TransportError):
    """The session ended while a mailbox was read. What is to blame is noted, so a new session gets further at once."""

    retry = Retry.NOW


# --- protocol --------------------------------------------------------------------------------------


class ProtocolError(SyncdError):
    """Somebody does not keep to the protocol."""

    scope = Scope.ACCOUNT


class LocalProtocolError(ProtocolError):
    """Our fault: a command that must not be sent, such as an argument with CR, LF or NUL."""


class StateError(LocalProtocolError):
    """Our fault: not now, in this state of the session."""


class RemoteProtocolError(ProtocolError):
    """The peer's fault; the message shows the octets around the spot. The session is closed, not reused."""

    retry = Retry.LATER


class LostStep(RemoteProtocolError):
    """The peer mixed up, or dropped, commands in flight. A new session has one at a time, so it helps at once."""

    retry = Retry.NOW


class NoHeaders(RemoteProtocolError):
    """The session broke off where headers alone were asked for. A new one does without, so it helps at once."""

    retry = Retry.NOW


class WrongService(RemoteProtocolError):
    """Another kind of server answers at the port, or one that can never be read: the configuration must change."""

    retry = Retry.NEVER


# --- refusals --------------------------------------------------------------------------------------


class Refused(SyncdError):
    """A well-formed no from the server."""

    scope = Scope.ACCOUNT
    retry = Retry.LATER

    def __init__(self, message: str, *, command: str = "", code: str = "", text: str = "") -> None:
        super().__init__(message)
        self.command = command
        self.code = code
        self.text = text


class AuthRefused(Refused):
    """The credentials were refused (not: the account is busy or the server is throttling)."""

    retry = Retry.NEVER


class Throttled(Refused):
    """Enough for now, says the server or our own limit: suspended until `until`, not failed.

    `limit` is the job's own limit that is used up, as its settings write it, such as "2000/day"; "" is the server's.
    `messages` are the keys of messages that a source was refused for this reason: they are not to blame.
    """

    def __init__(
        self,
        message: str,
        *,
        until: datetime,
        limit: str = "",
        messages: tuple[int, ...] = (),
        command: str = "",
        code: str = "",
        text: str = "",
    ) -> None:
        super().__init__(message, command=command, code=code, text=text)
        self.until = until
        self.limit = limit
        self.messages = messages


class Unsupported(Refused):
    """The server does not know what we cannot do without."""

    retry = Retry.NEVER


class MailboxRefused(Refused):
    """The mailbox cannot be opened now (locked, in use)."""

    scope = Scope.MAILBOX


class MessageRefused(Refused):
    """The server does not serve this message; the ones after it are not affected."""

    scope = Scope.MESSAGE


class MessageLost(MessageRefused):
    """The session ended at this message; a network that was cut looks the same, so it is tried once more at once."""

    retry = Retry.NOW


class NotMail(MessageRefused):
    """The server lists its own data as a message: it stays there."""

    retry = Retry.NEVER


class MessageTooLarge(MessageRefused):
    """By its listed size the message is over our limit: it was not asked for."""

    retry = Retry.NEVER


class DestinationRefuses(SyncdError):
    """A destination refused message after message alike: none of them is to blame, and it is suspended."""

    scope = Scope.ACCOUNT
    retry = Retry.LATER


# --- storage ---------------------------------------------------------------------------------------


class StorageError(SyncdError):
    """The local disk or an archive failed."""

    scope = Scope.ACCOUNT
    retry = Retry.LATER


class DiskFull(StorageError):
    """No space, no inodes or no quota left; the message names the path."""


class FormatDamaged(StorageError):
    """Stored octets are not what was written; the message names file and offset."""

    retry = Retry.NEVER


class Locked(StorageError):
    """Somebody else holds the lock of an archive or file."""


class Unusable(StorageError):
    """The file at a path, or its file system, cannot serve, however often it is tried; a person must change it."""

    retry = Retry.NEVER


# Errors of the disk that no waiting mends: what is there, or may be done there, must change.
_PERMANENT: Final = frozenset(
    {
        errno.EACCES,
        errno.EEXIST,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOSYS,
        errno.ENOTDIR,
        errno.EOPNOTSUPP,
        errno.EPERM,
        errno.EROFS,
    }
)
_ADVICE: Final = {
    errno.EACCES: "run as a user who may, or change its owner or mode",
    errno.EPERM: "run as a user who may, or change its owner or attributes",
    errno.EROFS: "mount it writable",
    errno.ELOOP: "move it away, or put the file or folder itself there",
    errno.EIO: "the disk or its connection may be failing: look at the system's log before you go on",
    errno.EMFILE: "allow more open files (ulimit -n)",
}


def storage_error(error: OSError, doing: str) -> StorageError:
    """Name an OSError of the local disk: `doing` says what was attempted and on which path."""
    reason = error.strerror or str(error)
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DiskFull(f"{doing}: {reason}; free some space and run again, nothing was lost")
    advice = _ADVICE.get(error.errno or 0)
    kind = Unusable if error.errno in _PERMANENT else StorageError
    return kind(f"{doing}: {reason}; {advice}" if advice else f"{doing}: {reason}")


def making_error(error: OSError, doing: str) -> StorageError:
    """Name an OSError of making a folder with all above it: none of them is missing then, so ENOENT will stay."""
    if error.errno == errno.ENOENT:
        return Unusable(f"{doing}: {error.strerror}; no folder can be made there: choose another path")
    return storage_error(error, doing)


# --- ledger ----------------------------------------------------------------------------------------


class LedgerError(SyncdError):
    """The ledger cannot be read or written."""

    retry = Retry.LATER


class LedgerUnusable(LedgerError):
    """The ledger is damaged, written by a newer program, or closed to us: waiting does not mend that."""

    retry = Retry.NEVER


class Conflict(LedgerError):
    """Two writers met; the transaction was rolled back."""


class LeaseLost(LedgerError):
    """Our lease was taken over or ran out: nothing more may be written under it."""


class LeaseHeld(LedgerError):
    """Another run holds what we need; the message says who."""


# --- safety stops ----------------------------------------------------------------------------------


class SafetyStop(SyncdError):
    """Stopped on purpose: a person decides before anything that cannot be undone."""


class AccountChanged(SafetyStop):
    """A known account name now points at another server or user."""


class ArchiveMissing(SafetyStop):
    """An archive that the ledger knows is not there, or another one stands in its place."""


class RemovalsFrozen(SafetyStop):
    """Removals from a mailbox are frozen after an anomaly."""


class BrakeTripped(SafetyStop):
    """More would be removed than a run may remove without a person."""


class ConfirmationNeeded(SafetyStop):
    """A job that removes mail at its source waits for its one confirmation."""


class Cancelled(SyncdError):
    """Someone asked us to stop (Ctrl-C, SIGTERM, a deadline); all state is saved."""

    retry = Retry.LATER
