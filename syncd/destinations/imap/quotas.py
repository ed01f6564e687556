"""Limits of a mailbox and its quotas, by the server: APPENDLIMIT (RFC 7889) and STORAGE, MESSAGE (RFC 9208)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from syncd.imap.values import Capabilities, Quota

UNIT: Final = 1024  # octets: of STORAGE (RFC 9208 §5.1)
SMALL_OCTETS: Final = 4096  # a message under this size that does not fit: the account is full (I158)
NO_LIMIT: Final = (1 << 63) - 1


@dataclass(slots=True)
class Left:
    """What a quota root has left; None: no limit."""

    octets: int | None
    messages: int | None

    @classmethod
    def of(cls, quota: Quota) -> Left:
        """Returns what is left, STORAGE rounded up: the server has the last word."""
        storage, messages = quota.storage, quota.messages
        return cls(
            None if storage is None or not storage[1] else max(0, (storage[1] - storage[0]) * UNIT + UNIT - 1),
            None if messages is None or not messages[1] else max(0, messages[1] - messages[0]),
        )

    def fits(self, octets: int) -> bool:
        """Returns whether one more message fits."""
        return (self.octets is None or octets <= self.octets) and self.messages != 0

    def take(self, octets: int) -> None:
        """Count a message that is sent."""
        if self.octets is not None:
            self.octets -= octets
        if self.messages is not None:
            self.messages -= 1

    @property
    def is_full(self) -> bool:
        """Returns whether hardly a message fits."""
        return not self.fits(SMALL_OCTETS)

    def __str__(self) -> str:
        return f"{self.octets:,} octets" if self.messages != 0 else "no more messages"


def append_limit(capabilities: Capabilities) -> int:
    """Returns how many octets a message may have by the server's APPENDLIMIT."""
    for value in capabilities.values("APPENDLIMIT"):
        if value.isdigit() and 0 < len(value) <= 19 and int(value):
            return int(value)
    return NO_LIMIT
