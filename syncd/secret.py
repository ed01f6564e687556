"""Secret: a value that never prints itself. `watch` tells of each that is made, so that logs can blank them."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

_OCTETS = "surrogateescape"  # PEP 383: octets that are not UTF-8 are lone surrogates in the text
_watchers: tuple[Callable[[Secret], None], ...] = ()


@final
class Secret:
    """Holds a password or token; `reveal()` and `octets()` are the only ways out, so that a search finds every use.

    A password that is not UTF-8 is given as octets, and is sent as the same octets.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str | bytes) -> None:
        self._value = value if isinstance(value, str) else value.decode("utf-8", _OCTETS)
        for watcher in _watchers:
            watcher(self)

    def reveal(self) -> str:
        """Returns the value, for the one line that sends it. Octets that are not UTF-8 are lone surrogates in it."""
        return self._value

    def octets(self) -> bytes:
        """Returns the value in UTF-8, or the octets that were given."""
        return self._value.encode("utf-8", _OCTETS)

    @property
    def is_text(self) -> bool:
        """Returns whether the value is text, as mechanisms need it that prepare a password (RFC 4013)."""
        return not any("\ud800" <= character <= "\udfff" for character in self._value)

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled")


def watch(watcher: Callable[[Secret], None]) -> Callable[[], None]:
    """Have `watcher` called with each secret that is made from now on, in any thread. Returns what ends it."""
    global _watchers  # noqa: PLW0603 (a tuple is replaced as a whole: threads that make secrets need no lock)
    _watchers = (*_watchers, watcher)

    def unwatch() -> None:
        global _watchers  # noqa: PLW0603 (the same)
        _watchers = tuple(it for it in _watchers if it is not watcher)

    return unwatch
