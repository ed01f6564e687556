"""Ends an iterator that was not read to its end, at once: what it keeps (locks, bodies, threads) is given back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def ended(iterator: Iterator[T]) -> Iterator[Iterator[T]]:
    """Close `iterator`, if it is a generator, when the block is left: after an error its traceback keeps it open."""
    try:
        yield iterator
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()
