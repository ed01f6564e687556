"""What every kind of test may ask for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.servers.dovecot import Dovecot
from tests.servers.postfix import Postfix, missing

_users = itertools.count(1)


@pytest.fixture(scope="session")
def dovecot() -> Iterator[Dovecot]:
    """A private Dovecot, one for each xdist worker; tests share it and take a `user` each."""
    with Dovecot() as server:
        yield server


@pytest.fixture
def user(dovecot: Dovecot) -> str:
    """The name of a fresh user of `dovecot` with an empty maildrop; the password is "secret"."""
    name = f"user{next(_users)}"
    dovecot.add_user(name)
    return name


@pytest.fixture(scope="session")
def postfix(dovecot: Dovecot) -> Iterator[Postfix]:
    """A private Postfix whose users are those of `dovecot`, one for each xdist worker; skips where it cannot run."""
    if reason := missing():
        pytest.skip(reason)
    with Postfix(dovecot) as server:
        yield server
