"""Numbers, sizes and times in words, for the command line and the page; and values as JSON has them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from syncd.errors import count, printable

if TYPE_CHECKING:
    from syncd.sources.base import QuotaUse

__all__ = ("MAX_TEXT", "ago", "count", "duration", "has_words", "instant", "octets", "plain", "quota", "roughly")

MAX_TEXT: Final = 4000  # characters of one line of output


def plain(value: object) -> object:
    """Returns values that JSON does not know: instants in ISO 8601, octets and the rest as printable text."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return printable(value if isinstance(value, bytes) else str(value), MAX_TEXT)


def has_words(words: str, *texts: str) -> bool:
    """Returns whether each of the words is part of one of the texts, in upper or lower case."""
    folded = [text.casefold() for text in texts]
    return all(any(word in text for text in folded) for word in words.casefold().split())


def octets(number: float) -> str:
    """Returns a size for people, such as "2.4 MiB"."""
    if number < 1 << 10:
        return f"{number:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        number /= 1 << 10
        if number < 1000:
            return f"{number:.1f} {unit}"
    return f"{number / 1024:.1f} TiB"


_SPANS: Final = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def duration(seconds: float) -> str:
    """Returns a duration, such as "0.8 s", "45 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def roughly(seconds: float) -> str:
    """Returns an estimated duration, such as "90 s", "12 min", "5 h", "3 days"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 2 * 86_400 else f"{seconds / 86_400:.0f} days"


def quota(use: QuotaUse) -> str:
    """Returns how much of a limit is used, such as "1.2 GiB of 5.0 GiB (24 %)"."""
    parts = []
    if use.octets is not None and use.of_octets is not None:
        parts.append(f"{octets(use.octets)} of {octets(use.of_octets)}{_share(use.octets, use.of_octets)}")
    if use.messages is not None and use.of_messages is not None:
        messages = count(use.of_messages, "message")
        parts.append(f"{use.messages:,} of {messages}{_share(use.messages, use.of_messages)}")
    return " and ".join(parts) or "no limit"


def _share(used: int, limit: int) -> str:
    return f" ({100 * used / limit:.0f} %)" if limit else ""


def instant(at: datetime | None) -> str:
    """Returns local time, to the minute."""
    return "-" if at is None else at.astimezone().strftime("%Y-%m-%d %H:%M")


def ago(at: datetime, now: datetime) -> str:
    """Returns how long ago, in the largest unit that fits: "3 minutes ago"."""
    seconds = int((now - at).total_seconds())
    for span, name in _SPANS:
        if seconds >= span:
            return count(seconds // span, name) + " ago"
    return "just now"
