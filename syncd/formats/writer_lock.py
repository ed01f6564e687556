"""The lock of an archive's writer: flock(2) on a file of ours, for each batch."""

from __future__ import annotations

import fcntl
from typing import Final

from syncd import clock
from syncd.errors import Locked

LOCK_FILE: Final = ".syncd-lock"
LOCK_WAIT_S: Final = 10.0  # a batch takes a second or two; whoever keeps the lock longer is stopped or hangs
_POLL_S: Final = 0.05


def take(descriptor: int, title: str) -> None:
    """Take the lock, waiting for another writer's batch. Raises Locked."""
    until = clock.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if clock.monotonic() >= until:
                raise Locked(f"another program has kept {title} locked for {LOCK_WAIT_S:.0f} s; try again") from None
            clock.sleep(_POLL_S)
        else:
            return
