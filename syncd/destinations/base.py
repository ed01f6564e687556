"""The Destination contract: deliver a batch, yield an outcome for each message as soon as it is known.

A destination never sees the ledger. One thread uses it. Its class of repeat (`mail.outcome.Repeat`) tells the engine
what must be committed before the act, and what a crash leaves uncertain.

What only some destinations can do, as protocols of their own that the engine looks for:

    Archive     can be read back                    packs, Maildir
    Growing     nothing is ever taken from it       packs
    Filing      each message goes into a mailbox    Maildir, IMAP
    Spelling    tells how a path is spelt there     IMAP
    Recording   mailboxes without messages, too     packs, Maildir, IMAP
    Asked       can be asked after a crash          IMAP
    Following   takes more while it waits          IMAP
    Recognising may have a message already          IMAP
    Noting      tells what it left out              IMAP
    Stoppable   `deliver` may take long             SMTP, LMTP, IMAP
    Endable     … and can end between two messages  SMTP, LMTP; IMAP between two batches
    Guarded     has us ask before each end of mail  IMAP
    Insistent   rejects what goes round in a loop   SMTP, LMTP
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable
from uuid import UUID

from syncd.mail.mailbox import Path
from syncd.mail.message import Key, Message, MessageRef, Origin, Receipt, StoredMessage
from syncd.mail.outcome import Intended, Outcome, Place, Repeat, Sought


class Destination(Protocol):
    """A destination of mail. Errors that are raised (rather than yielded) concern the destination as a whole."""

    repeat: Repeat

    def open(self) -> None:
        """Make ready: check that it is the one we know, take up what a crash left. Raises SyncdError."""
        ...

    def deliver(self, batch: Sequence[Message], upcoming: Sequence[Message] = ()) -> Iterator[Sequence[Outcome]]:
        """Deliver; yield exactly one final outcome for each message, when its durability is known, in any order.

        Outcomes come in groups. Asking for the next group says that the ledger has made this group durable; until
        then no message but those that are SENDING may have become uncertain. A destination of class UNCERTAIN yields
        SENDING for a message (beside outcomes of other messages) and sends what ends that message only when it is
        asked to go on; where the iterator is dropped instead, it never does. One of class ASKED yields SENDING with an
        intent for all that it is going to send, and then sends it. Archives yield one group, at the end.

        `upcoming` is what will probably be delivered next, if that is known: a destination may begin with what costs
        time and leaves no trace.

        If it raises, messages without an outcome count as not delivered: a repeat-safe
        destination takes them again. Those that were SENDING count as UNCERTAIN.
        """
        ...

    def close(self) -> None:
        """Let go of locks, files and threads. Repeatable; after an error it must not raise."""
        ...


@runtime_checkable
class Stoppable(Protocol):
    """A destination whose `deliver` may take long: those of class UNCERTAIN are."""

    def stop(self) -> None:
        """From any thread: begin no further message. Repeatable, and for good.

        `deliver` then ends within a moment: it yields what becomes of the messages that are SENDING, where that
        is known within a second or so, and nothing for those that were not begun.
        """
        ...


@runtime_checkable
class Endable(Protocol):
    """A destination that looks before each message whether it should begin another one."""

    def end_when(self, over: Callable[[], bool], patience_s: float = math.inf) -> None:
        """From the next `deliver` or `ask` on: begin no further message once `over` returns True.

        Any thread may call `over`. `deliver` then ends without an error, and yields nothing for messages that were not
        begun. It waits no longer than `patience_s` for a limit of its own; for longer it raises Throttled.
        """
        ...


@runtime_checkable
class Asked(Protocol):
    """A destination of class ASKED: it can tell what became of messages that it was about to take."""

    def ask(
        self, intended: Callable[[], Sequence[Intended]], taken: Callable[[Collection[str]], Collection[str]]
    ) -> Iterator[Sequence[Outcome]]:
        """Yields DELIVERED, NOT_SENT or UNCERTAIN for each message, together; SENDING where it cannot be told now.

        `intended` is called when no connection to the account delivers anything: what another one has left is among
        them, or was asked for by now.

        It may wait for messages that are late. `stop` and `end_when` end that wait.

        Commit them before you go on: until then nobody else asks, who might take the same message for his.
        `taken` tells which of some hints are receipts of deliveries to the same account: these are other messages.
        Raises SyncdError where it cannot be asked now; then nothing is known.
        """
        ...


@runtime_checkable
class Following(Protocol):
    """A destination of class ASKED that takes more while it waits for answers.

    Where `deliver` yields an empty group, messages of the same mailbox may be added before it is asked to go on. Then
    it yields SENDING for them next, beside outcomes that are known, and sends them.
    """

    def add(self, messages: Sequence[Message]) -> None:
        """Add messages to those that are being delivered."""
        ...


@runtime_checkable
class Sharing(Protocol):
    """A destination whose connections may put messages into one mailbox at the same time."""

    def shares_mailboxes(self) -> bool:
        """Returns whether they may with this server, as far as is known by now. From any thread."""
        ...


@runtime_checkable
class Recognising(Protocol):
    """A destination that other programs may have put messages into before."""

    def recognise(
        self, messages: Sequence[Message], taken: Callable[[Collection[str]], Collection[str]]
    ) -> Iterator[Sequence[Outcome]]:
        """Yields DELIVERED for those of `messages` that are there already, DEFERRED where that cannot be told.

        `taken` as for `Asked`.

        Until the iterator goes on, and so is the group committed, nobody else is told that these messages are theirs.
        """
        ...


class Probe(Protocol):
    """The account of a recipient, where messages are looked for that may have arrived."""

    def find(self, sought: Sequence[Sought]) -> dict[Key, str]:
        """Returns a hint for each message that is there: where it is.

        Raises SyncdError where the account cannot be searched as a whole now: then absence says nothing.
        """
        ...

    def stop(self) -> None:
        """From any thread: end `find` by Cancelled. Repeatable."""
        ...


@runtime_checkable
class Noting(Protocol):
    """A destination that has something to tell a person of a run, such as what it left out."""

    def notes(self) -> list[str]:
        """Returns lines, each one once: when it was opened, and when a run has no more messages."""
        ...


@runtime_checkable
class Guarded(Protocol):
    """A destination that sends much between two groups of outcomes: long enough to lose the right to."""

    def guard(self, check: Callable[[], None]) -> None:
        """Call `check` before the last octets of each message, or of messages that are sent together, leave.

        What it raises ends `deliver`. To be called before that.
        """
        ...


@runtime_checkable
class Insistent(Protocol):
    """A destination that rejects what goes round in a loop, unless a person knows better."""

    def insist(self, keys: Collection[Key]) -> None:
        """Deliver these messages even if they look like a loop. To be called before `deliver`."""
        ...


@runtime_checkable
class Filing(Protocol):
    """A destination with mailboxes of its own: `Message.path` says which one a message goes into."""

    def mailbox_key(self, path: Path) -> str:
        """Returns a text that is equal for paths that are one mailbox here."""
        ...


@runtime_checkable
class Spelling(Protocol):
    """A destination whose mailboxes may be spelt in another way than their paths, because it takes fewer letters."""

    def path_there(self, path: Path) -> Path:
        """Returns the path that a mailbox has here, or will have when it is made."""
        ...

    def is_there(self, path: Path) -> bool:
        """Returns whether the mailbox of a path was here when the destination was opened, or was made since."""
        ...


@runtime_checkable
class Recording(Protocol):
    """A destination that records mailboxes, also such as have no messages."""

    def note_mailboxes(self, origins: Iterable[Origin]) -> None:
        """Make mailboxes durable; those that are known just so are not written again. Raises as `deliver`.

        For a destination that is also `Filing`, `path` is the path that the mailbox has here.
        """
        ...


class Archive(Destination, Protocol):
    """A local destination that can be read back."""

    def identity(self) -> UUID:
        """The UUID in the archive's own file. Raises ArchiveMissing when there is none."""
        ...

    def recognise(self) -> None:
        """See that it is there and is the one that we know, without `open`.

        Raises ArchiveMissing, FormatDamaged, StorageError.
        """
        ...

    def create(self, uuid: UUID) -> None:
        """Make an empty archive with this identity where there is none. Raises StorageError."""
        ...

    def read(self, receipt: Receipt, ref: MessageRef | None = None) -> StoredMessage:
        """Returns a stored message: its octets, checked against `receipt.sha256`, with flags and INTERNALDATE.

        `ref` is the place whose flags and date are wanted, where the same octets were seen at several places; None
        takes any. Raises FormatDamaged when the octets differ or are not there.
        """
        ...

    def places(self, account: UUID) -> Iterator[Place]:
        """Everything this archive holds of an account, streamed."""
        ...


@runtime_checkable
class Growing(Protocol):
    """An archive that nothing is ever taken from. Packs are one; from a Maildir, mail readers delete."""

    def extent(self) -> int:
        """Octets of what is durably stored, which never become less: an archive that has fewer is an older copy.

        Without `open`, the octets of its files, where an append may be unfinished. Raises ArchiveMissing,
        StorageError.
        """
        ...
