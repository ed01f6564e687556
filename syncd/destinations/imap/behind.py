"""Flags, dates and messages that a destination account did not keep: told once in a run, for all connections to it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from syncd.errors import count
from syncd.imap.append import Append
from syncd.imap.fetch import instant
from syncd.imap.values import FetchRow
from syncd.mail.flags import from_octets

MOST_NAMED: Final = 3  # mailboxes
NEAR: Final = timedelta(days=1)  # a date that is clamped depends on the clock by so much (I156)


@dataclass(slots=True)
class LeftBehind:
    """Counts messages: by the name of a flag that stayed behind, without octets, by what the server did not keep.

    `unmarked`: marked as deleted at the source, and not here. `unseen`: taken, and then not in the mailbox, or not to
    be found there. `before`: by the mailbox, what was there before this job put anything there; told where it
    `looks_before`.
    """

    flags: Counter[str] = field(default_factory=Counter)
    empty: int = 0
    unmarked: int = 0
    unseen: int = 0
    before: Counter[str] = field(default_factory=Counter)
    looks_before: bool = False
    lost: Counter[str] = field(default_factory=Counter)
    _looked_at: set[str] = field(default_factory=set)  # keys of mailboxes

    def is_first(self, key: str) -> bool:
        """Returns whether a message is the first that is looked at in a mailbox in this run."""
        known = key in self._looked_at
        self._looked_at.add(key)
        return not known

    def see(self, sent: Append, row: FetchRow) -> None:
        """Compare a message that is read back with what was sent (I83, I149). Servers may add flags (I152)."""
        if row.flags is not None and sent.flags:
            kept = {flag.lower() for flag in row.flags}
            self.lost["flags"] += kept.isdisjoint(flag.lower() for flag in from_octets(sent.flags))
        date = None if row.internal_date is None else instant(row.internal_date)
        if date is not None and sent.date is not None:
            self.lost["dates"] += abs(date - sent.date) > NEAR

    def told(self) -> list[str]:
        """Returns lines for a person, each one once."""
        flags, empty, unseen, lost = self.flags, self.empty, self.unseen, +self.lost
        named = ", ".join(f"{flag} ({number:,})" for flag, number in sorted(flags.items()))
        lines = [f"flags that the mailboxes do not take stayed behind, with so many messages: {named}"] if named else []
        if self.before:
            number = sum(self.before.values())
            most = ", ".join(f"{name} ({some:,})" for name, some in self.before.most_common(MOST_NAMED))
            lines.append(
                "the account has mail already, and this job has put none of it there:"
                f" {count(number, 'message')}, in {most}."
                " A message that is there will be there twice; with skip_existing = true in this destination it is"
                " recognised, and false says that you want it so"
            )
        if self.unmarked:
            lines.append(
                f"messages that are marked as deleted at the source: {self.unmarked:,}; they were copied without the"
                ' mark, so that no expunge removes the copy (deleted = "copy")'
            )
        if empty:
            lines.append(f"messages without any octets are left out, as no IMAP server takes them: {empty:,}")
        if lost:
            what = ", ".join(f"{what} ({number:,})" for what, number in sorted(lost.items(), reverse=True))
            lines.append(
                f"the server said OK and did not keep, with so many of the messages that were read back: {what}"
            )
        if unseen:
            lines.append(
                f"messages that the server said to take and then did not show in the mailbox: {unseen:,}; they stay at"
                " the source. A filter or another program may have moved them: look with syncd verify"
            )
        self.flags.clear()
        self.lost.clear()
        self.before.clear()
        self._looked_at.clear()
        self.empty = self.unseen = self.unmarked = 0
        return lines
