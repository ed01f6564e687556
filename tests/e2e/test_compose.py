"""The cluster of compose.cluster.yaml, without containers: its commands, environment and secrets as plain processes.

A private PostgreSQL that wants the password of the secret, a private Redis or RabbitMQ, a private Dovecot with mail.
"""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.servers.dovecot import Dovecot, free_ports
from tests.servers.postgresql import Postgresql, programs
from tests.support import mail
from tests.support.compose import DOCKER, compose, healthcheck, ours
from tests.support.packs import decompressed

pytestmark = pytest.mark.servers

EXAMPLE = DOCKER.parent / "config" / "examples" / "compose.toml"
PASSWORD = "of the database"
PATIENCE_S = 60.0
*MAIL, LATER = mail.small(13, seed=21)
USERS = ("anna", "ben")


class Cluster:
    """The services of the file as processes; what is a folder or a host there is a folder or a port here."""

    def __init__(self, folder: Path, database: str, redis: str = "", rabbitmq: str = "") -> None:
        self.folder = folder
        self.database = database.replace("+psycopg", "").replace("syncd@", f"syncd:{PASSWORD.replace(' ', '%20')}@")
        self.services = ours("compose.cluster.yaml", over="compose.rabbitmq.yaml" if rabbitmq else "")
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.ports: dict[str, int] = {}  # of health checks
        self._places = {
            "@postgresql/syncd?": f"@/{database.partition('@/')[2]}&",
            "redis://redis:6379/0": redis,
            "amqp://guest:guest@rabbitmq:5672//": rabbitmq,
            "/run/secrets": str(folder / "secrets"),
        }
        (folder / "etc" / "passwords").mkdir(parents=True)
        (folder / "archives").mkdir()
        self._write_secrets()

    def _write_secrets(self) -> None:
        """As the first lines of the file say."""
        texts = {"database": f"{PASSWORD}\n", "pgpass": f"*:*:*:syncd:{PASSWORD}\n"}
        (self.folder / "secrets").mkdir()
        for name in compose("compose.cluster.yaml")["secrets"]:
            file = self.folder / "secrets" / name
            file.write_text(texts[name])
            file.chmod(0o600)

    def configure(self, server: Dovecot) -> None:
        """The example, with accounts on this machine and schedules that do not keep a test waiting."""
        text = EXAMPLE.read_text().replace("/etc/syncd", str(self.folder / "etc"))
        text = text.replace('"/archives/', f'"{self.folder}/archives/').replace("@example.net", "")
        text = text.replace('"pop.example.net"', '"localhost"').replace("every 15 minutes", "every 2 seconds")
        text = text.replace(
            'protocol = "pop3"', f'protocol = "pop3"\nport = {server.pop3s_port}\nca_file = "{server.ca_file}"'
        )
        (self.folder / "etc" / "syncd.toml").write_text(text)
        for user in USERS:
            server.add_user(user)
            server.deliver(user, MAIL)
            (self.folder / "etc" / "passwords" / user).write_text("secret\n")

    def environment(self, service: dict[str, Any], state: Path, port: int) -> dict[str, str]:
        given: dict[str, str] = {
            "PATH": os.environ["PATH"],
            "SYNCD_HOME": str(state),
            "SYNCD_CONFIG": str(self.folder / "etc" / "syncd.toml"),
            "SYNCD_SERVICE__LISTEN": f"127.0.0.1:{port}",
        }
        return given | {name: self._here(value) for name, value in service["environment"].items()}

    def _here(self, text: str) -> str:
        return functools.reduce(lambda so_far, pair: so_far.replace(*pair), self._places.items(), text)

    def start(self, name: str) -> None:
        """All replicas of a service."""
        service = self.services[name]
        for number in range(service.get("deploy", {}).get("replicas", 1)):
            key = f"{name}-{number}"
            self.ports[key] = free_ports(1)[0]
            state = self.folder / key
            state.mkdir(mode=0o700)
            with (state / "output").open("w") as output:
                self.processes[key] = subprocess.Popen(
                    [sys.executable, "-m", "syncd.cli.main", *service["command"]],
                    env={**self.environment(service, state, self.ports[key]), "PYTHONPATH": str(DOCKER.parent)},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    text=True,
                    start_new_session=True,
                )

    def stored(self) -> list[int]:
        """How many messages each user's archive has."""
        found = []
        for user in USERS:
            packs = sorted((self.folder / "archives" / user / "packs").glob("*.mbox.zst"))
            octets = b"".join(decompressed(pack.read_bytes()) for pack in packs)
            found.append(len(re.findall(rb"^From ", octets, re.MULTILINE)))
        return found

    def is_healthy(self, name: str) -> bool:
        """What the image's HEALTHCHECK finds."""
        command = [sys.executable, *healthcheck(self.ports[name])[1:]]
        return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0

    def output(self) -> str:
        """What all of them said, for a test that fails."""
        return "\n".join(f"--- {file.parent.name}\n{file.read_text()[-3000:]}" for file in self.folder.glob("*/output"))

    def wait(self, what: str, until: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not until():
            ended = {name: process.poll() for name, process in self.processes.items() if process.poll()}
            assert not ended, f"{ended}\n{self.output()}"
            assert time.monotonic() < deadline, f"{what}\n{self.output()}"
            time.sleep(0.1)

    def stop(self) -> dict[str, int]:
        """What `docker compose stop` does: SIGTERM to all, SIGKILL after the time that the file allows."""
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        codes = {}
        for name, process in self.processes.items():
            grace = float(self.services[name.rpartition("-")[0]]["stop_grace_period"].removesuffix("s"))
            try:
                codes[name] = process.wait(grace)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = process.wait()
        self.processes.clear()
        return codes


@pytest.fixture
def database() -> Iterator[str]:
    if programs() is None:
        pytest.skip("PostgreSQL is not installed; run tests/servers/install")
    with Postgresql(PASSWORD) as server:
        yield server.new_database()


@pytest.fixture(params=["redis_server", "rabbitmq"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path, database: str) -> Iterator[Cluster]:
    broker = request.getfixturevalue(request.param)
    cluster = Cluster(tmp_path, database, **{request.param.removesuffix("_server"): broker.url})
    yield cluster
    cluster.stop()


@pytest.fixture
def server() -> Iterator[Dovecot]:
    with Dovecot() as server:  # of its own: its users have the names of the example
        yield server


def test_a_due_job_is_done_by_a_worker(cluster: Cluster, server: Dovecot) -> None:
    cluster.configure(server)
    cluster.start("apply")
    assert cluster.processes.pop("apply-0").wait(PATIENCE_S) == 0, cluster.output()
    cluster.start("scheduler")
    cluster.start("worker")
    cluster.wait("the mail of both accounts is in their archives", lambda: cluster.stored() == [len(MAIL)] * 2)
    cluster.wait("all are healthy", lambda: all(map(cluster.is_healthy, cluster.processes)))
    server.deliver(USERS[0], [LATER])
    cluster.wait("mail that came meanwhile is fetched", lambda: cluster.stored() == [len(MAIL) + 1, len(MAIL)])
    assert cluster.stop() == {"scheduler-0": 0, "scheduler-1": 0, "worker-0": 0, "worker-1": 0}, cluster.output()
    with psycopg.connect(cluster.database) as connection:
        rows = connection.execute("SELECT trigger, due_at, job_id FROM runs").fetchall()
    assert len({(job, due) for _, due, job in rows}) == len(rows)
    assert {trigger for trigger, _, _ in rows} == {"schedule"}
