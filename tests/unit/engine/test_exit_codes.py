from __future__ import annotations

from datetime import UTC, datetime

import pytest

from syncd.engine.exit_codes import GRAVITY, ExitCode, exit_code, gravest
from syncd.errors import (
    AccountChanged,
    AuthRefused,
    BrakeTripped,
    Cancelled,
    ConfigError,
    Conflict,
    ConnectionLost,
    DestinationRefuses,
    FormatDamaged,
    LeaseHeld,
    LeaseLost,
    LocalProtocolError,
    MailboxRefused,
    RemovalsFrozen,
    SecretUnavailable,
    StorageError,
    SyncdError,
    Throttled,
    UsageError,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Cancelled("x"), ExitCode.INTERRUPTED),
        (ConfigError("x"), ExitCode.CONFIG_INVALID),
        (UsageError("x"), ExitCode.USAGE),
        (SecretUnavailable("x"), ExitCode.CONFIG_INVALID),
        (AuthRefused("x"), ExitCode.SIGN_IN_REFUSED),
        (RemovalsFrozen("x"), ExitCode.STOPPED),
        (BrakeTripped("x"), ExitCode.STOPPED),
        (AccountChanged("x"), ExitCode.STOPPED),
        (DestinationRefuses("x"), ExitCode.TEMPORARY),
        (LeaseHeld("x"), ExitCode.HELD),
        (LeaseLost("x"), ExitCode.HELD),
        (Conflict("x"), ExitCode.TEMPORARY),
        (ConnectionLost("x"), ExitCode.TEMPORARY),
        (Throttled("x", until=datetime(2026, 3, 1, tzinfo=UTC)), ExitCode.TEMPORARY),
        (MailboxRefused("x"), ExitCode.TEMPORARY),
        (StorageError("x"), ExitCode.TEMPORARY),
        (FormatDamaged("x"), ExitCode.FAILED),
        (LocalProtocolError("x"), ExitCode.FAILED),
    ],
    ids=lambda it: type(it).__name__ if isinstance(it, SyncdError) else None,
)
def test_an_error_has_its_exit_code(error: SyncdError, code: ExitCode):
    assert exit_code(error) is code


def test_every_exit_code_has_its_gravity():
    assert set(GRAVITY) == set(ExitCode)


def test_the_gravest_speaks_for_all():
    assert gravest([]) is ExitCode.DONE
    assert gravest([ExitCode.DONE, ExitCode.WAITING]) is ExitCode.WAITING
    assert gravest(iter([ExitCode.TEMPORARY, ExitCode.STOPPED, ExitCode.FAILED])) is ExitCode.STOPPED
