"""Streams and a home for a process that may lack them when it is started by a service manager, a script or a container.

Repaired once, at the start, so that nothing else has to expect it.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Final, TextIO, cast

_STREAMS: Final = ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w"))


def open_streams() -> None:
    """Open /dev/null in the place of standard streams that are closed.

    Otherwise the ledger could get their numbers, and a message that is meant for a person would be written into it.
    """
    for number, name, mode in _STREAMS:
        with suppress(OSError):  # without /dev/null, as in a bare chroot
            _open_descriptor(number)
        if getattr(sys, name) is None:
            setattr(sys, name, _stream(number, mode))


def _open_descriptor(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        nowhere = os.open(os.devnull, os.O_RDWR)
        if nowhere == number:
            os.set_inheritable(number, True)
        else:
            os.dup2(nowhere, number)
            os.close(nowhere)


def _stream(number: int, mode: str) -> TextIO:
    try:
        return cast("TextIO", open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False))
    except OSError:
        return io.TextIOWrapper(io.BytesIO(), encoding="utf-8")


def forget_bad_home() -> None:
    """Remove HOME if it is no whole path, so that the user's entry in the system's list counts.

    With an empty HOME, ~/mail would be /mail, and with a relative one it would depend on the working directory.
    """
    if not os.environ.get("HOME", "/").startswith("/"):
        del os.environ["HOME"]
