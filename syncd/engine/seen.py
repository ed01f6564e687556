"""Counts of what the sessions of a run have listed and have ahead, for all of its readers."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from syncd.db.rows import KnownMailbox, ListingReport
from syncd.engine.events import Planned
from syncd.mail.listing import Totals
from syncd.mail.mailbox import Mailbox


@dataclass(slots=True)
class Seen:
    """`messages`: mailbox id → messages; `total` is their sum. Used from any thread.

    `ahead`: reader → messages and octets that it has handed over or is about to.
    """

    messages: dict[int, int] = field(default_factory=dict)
    total: int = 0
    octets: int = 0
    new: int = 0
    changed: bool = False
    mailboxes: int = 0
    opened: int = 0
    ahead: dict[int, tuple[int, int]] = field(default_factory=dict)
    phases: set[str] = field(default_factory=set)  # that were told since the first session began
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        """A session begins, which shows all mailboxes again."""
        self.changed, self.opened = False, 0

    def skip(self, known: KnownMailbox) -> None:
        """Count a mailbox that is as it was."""
        self._count(known.scope.mailbox_id, self.messages.get(known.scope.mailbox_id, known.present))

    def list(self, mailbox_id: int, totals: Totals, recorded: ListingReport) -> None:
        """Count a mailbox that was listed. A server that pages its listing shows other messages in each session."""
        with self._lock:
            before = self.messages.get(mailbox_id)
            if recorded.new or before is None:
                self.octets += totals.octets
            self._count(mailbox_id, totals.messages if before is None else before + recorded.new)
            self.new += recorded.new
            self.changed |= not recorded.unchanged
            self.opened += 1

    def _count(self, mailbox_id: int, messages: int) -> None:
        self.total += messages - self.messages.get(mailbox_id, 0)
        self.messages[mailbox_id] = messages

    def planned(self, job: str, mailbox: Mailbox | None) -> Planned:
        """Returns the event that tells it."""
        with self._lock:
            return Planned(
                job,
                self.total,
                self.new,
                sum(messages for messages, _ in self.ahead.values()),
                sum(octets for _, octets in self.ahead.values()),
                listed_octets=self.octets,
                unchanged=not self.changed,
                mailboxes=self.mailboxes,
                mailboxes_opened=self.opened,
                mailbox="/".join(mailbox.path) if mailbox is not None and self.mailboxes > 1 else "",
            )
