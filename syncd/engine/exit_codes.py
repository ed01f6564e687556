"""Exit codes: which there are, which is gravest, and which an error means (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Final

from syncd.errors import (
    AuthRefused,
    Cancelled,
    ConfigError,
    LeaseHeld,
    LeaseLost,
    Retry,
    SafetyStop,
    SecretUnavailable,
    SyncdError,
    UsageError,
)


class ExitCode(IntEnum):
    """The end of a run, as the process tells it."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    WAITING = 3  # done, but some messages wait for a person
    SIGN_IN_REFUSED = 4
    TEMPORARY = 5
    CONFIG_INVALID = 6
    STOPPED = 7  # by the brake of removals, or for a confirmation
    DIFFERENCES = 8
    HELD = 10  # another run has the lease of the job
    INTERRUPTED = 130


GRAVITY: Final = (
    ExitCode.INTERRUPTED,
    ExitCode.CONFIG_INVALID,
    ExitCode.USAGE,
    ExitCode.SIGN_IN_REFUSED,
    ExitCode.STOPPED,
    ExitCode.FAILED,
    ExitCode.DIFFERENCES,
    ExitCode.HELD,
    ExitCode.TEMPORARY,
    ExitCode.WAITING,
    ExitCode.DONE,
)

# The first class that fits decides; an error that is not named here goes by its `retry`.
EXIT_CODES: Final[tuple[tuple[type[SyncdError], ExitCode], ...]] = (
    (Cancelled, ExitCode.INTERRUPTED),
    (ConfigError, ExitCode.CONFIG_INVALID),
    (UsageError, ExitCode.USAGE),
    (SecretUnavailable, ExitCode.CONFIG_INVALID),
    (AuthRefused, ExitCode.SIGN_IN_REFUSED),
    (SafetyStop, ExitCode.STOPPED),
    (LeaseHeld, ExitCode.HELD),
    (LeaseLost, ExitCode.HELD),
)


def exit_code(error: SyncdError) -> ExitCode:
    """Returns the exit code that tells a caller what to do about an error."""
    for kind, code in EXIT_CODES:
        if isinstance(error, kind):
            return code
    return ExitCode.FAILED if error.retry is Retry.NEVER else ExitCode.TEMPORARY


def gravest(codes: Iterable[ExitCode]) -> ExitCode:
    """Returns the exit code that speaks for all of them; DONE where there is none."""
    return min(codes, key=GRAVITY.index, default=ExitCode.DONE)
