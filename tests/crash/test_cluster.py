"""Workers and schedulers on PostgreSQL and a broker, while everything breaks that may: nothing lost or doubled."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash import member
from tests.crash.cluster import Cluster, Faults
from tests.crash.member import EXPIRY_S
from tests.crash.program import _WARM
from tests.servers.postgresql import Postgresql, programs
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.redis import Redis
from tests.support.processes import wait_for

pytestmark = [
    pytest.mark.crash,
    pytest.mark.servers,
    pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed (tests/servers/install)"),
]
EVERY = "every 3 seconds"
member.preload(_WARM)


@pytest.fixture
def postgresql() -> Iterator[Postgresql]:
    """One of the test's own, which it kills."""
    with Postgresql() as server:
        yield server


def test_everything_breaks_once(tmp_path: Path, postgresql: Postgresql, redis_server: Redis) -> None:
    with Cluster(tmp_path, postgresql.new_database(), redis_server.url, 6, "every 5 seconds") as cluster:
        cluster.start()
        wait_for(lambda: len(cluster.missing()) < 3)
        faults = Faults(cluster, postgresql, redis_server, seed=1)
        acts = "kill freeze restart_database kill_broker kill wake wipe_broker freeze_broker kill".split()
        faults.happen(iter(acts), 1.0)
        cluster.settle()
        assert set(cluster.end()) == {0}
        cluster.check_runs()


def test_who_was_frozen_past_its_lease_writes_nothing(
    tmp_path: Path, postgresql: Postgresql, redis_server: Redis
) -> None:
    """The generation of its run is not its own any more: the row, and the archive, are the other worker's."""
    with Cluster(tmp_path, postgresql.new_database(), redis_server.url, 1, EVERY) as cluster:
        server = cluster.servers["job0"]
        server.hangs_on = {"RETR 3"}
        frozen, other, _ = cluster.workers
        frozen.start()
        cluster.schedulers[0].start()
        wait_for(server.hanging.is_set)
        frozen.freeze()
        server.hangs_on = set()
        time.sleep(EXPIRY_S)
        other.start()
        wait_for(lambda: not cluster.missing())
        server.stop.set()  # the hanging connection ends
        frozen.wake()
        wait_for(lambda: frozen.said("of job0: another process took over"))
        assert (frozen.end(), other.end(), cluster.schedulers[0].end()) == (0, 0, 0)
        assert cluster.missing() == []
        cluster.check_runs()


@pytest.mark.soak
@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_everything_breaks_at_random(tmp_path: Path, postgresql: Postgresql, broker: str) -> None:
    seed = random.randrange(10**6)  # in the name of a failure
    with (
        Redis() if broker == "redis" else RabbitMQ() as server,
        Cluster(tmp_path, postgresql.new_database(), server.url, 40, "every 5 seconds") as cluster,
    ):
        cluster.start()
        faults = Faults(cluster, postgresql, server, seed)
        faults.happen(faults.at_random(180), 1.0)
        cluster.settle(300)
        assert set(cluster.end()) == {0}, seed
        cluster.check_runs()
