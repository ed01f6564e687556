"""What an error means for the run that met it (pure)."""

from __future__ import annotations

from syncd.engine.events import ExitCode
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

# The first class that fits decides; whatever is not named here goes by its `retry`.
EXIT_CODES: tuple[tuple[type[SyncdError], ExitCode], ...] = (
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
    """The exit code that tells a caller what to do about an error."""
    for kind, code in EXIT_CODES:
        if isinstance(error, kind):
            return code
    return ExitCode.FAILED if error.retry is Retry.NEVER else ExitCode.TEMPORARY
