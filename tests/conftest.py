"""What every kind of test may ask for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import settings

from syncd.db import renewal
from tests.servers import rabbitmq as rabbitmq_module
from tests.servers import redis as redis_module
from tests.servers.dovecot import Dovecot
from tests.servers.postfix import Postfix, missing
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.redis import Redis
from tests.support.quick import quicken

_users = itertools.count(1)
settings.register_profile("patient", deadline=None)  # a machine with other work to do fails no test
settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def _quick_ledgers() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        quicken(patch)
        yield


@pytest.fixture(autouse=True)
def _leases_end_with_their_test() -> Iterator[None]:
    """Leases that a test leaves behind, as somebody who died would, are not renewed while other tests run."""
    yield
    for renewer in list(renewal._RENEWERS.values()):
        for left in list(renewer._sets):
            renewer.drop(left)


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


@pytest.fixture
def redis_server() -> Iterator[Redis]:
    """A private Redis of the test's own (20 ms), which it may kill, freeze and wipe."""
    if reason := redis_module.missing():
        pytest.skip(reason)
    with Redis() as server:
        yield server


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[RabbitMQ]:
    """A private RabbitMQ, one for each module (4 s); who breaks it starts it again. Skips where it cannot run."""
    if reason := rabbitmq_module.missing():
        pytest.skip(reason)
    server = RabbitMQ()
    try:
        server.start()
    except RuntimeError as error:  # it needs more of a machine than the others do: a host name, epmd, memory
        server.clean_up()
        pytest.skip(str(error))
    yield server
    server.clean_up()
