"""The private Redis, RabbitMQ and PostgreSQL: each answers, bears being broken, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest
import redis
from amqp import NotFound  # type: ignore[import-untyped]
from kombu.connection import Connection

from tests.servers import process as process_module
from tests.servers import rabbitmq as rabbitmq_module
from tests.servers import redis as redis_module
from tests.servers.postgresql import Postgresql, programs
from tests.servers.process import Breakable, answers, steady_port
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.redis import Redis

pytestmark = pytest.mark.servers


@pytest.fixture
def postgresql() -> Iterator[Postgresql]:
    if programs() is None:
        pytest.skip("PostgreSQL is not installed; run tests/servers/install")
    with Postgresql() as server:
        yield server


def gone(family: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(family, timeout=10)
    return all(process.status() == psutil.STATUS_ZOMBIE for process in alive)


def family_of(server: Breakable) -> list[psutil.Process]:
    first = psutil.Process(server.process_id)
    return [first, *first.children(recursive=True)]


def addresses(server: Breakable) -> set[str]:
    listening = (process.net_connections(kind="inet") for process in family_of(server))
    return {link.laddr.ip for links in listening for link in links if link.status == psutil.CONN_LISTEN}


# --- Redis -----------------------------------------------------------------------------------------------


def client(server: Redis, timeout_s: float = 5) -> redis.Redis:
    return redis.Redis.from_url(server.url, socket_timeout=timeout_s)


def test_redis_answers_on_loopback_alone(redis_server: Redis) -> None:
    with client(redis_server) as connection:
        assert connection.ping()
    assert addresses(redis_server) == {"127.0.0.1"}


def test_redis_keeps_its_data_when_it_is_killed_or_restarted_and_loses_it_when_wiped(redis_server: Redis) -> None:
    with client(redis_server) as connection:
        connection.set("run", "7")
    redis_server.kill()
    with client(redis_server) as connection, pytest.raises(redis.ConnectionError):
        connection.ping()
    redis_server.start()
    redis_server.restart()
    with client(redis_server) as connection:
        assert connection.get("run") == b"7"
    redis_server.wipe()
    with client(redis_server) as connection:
        assert connection.get("run") is None


def test_a_frozen_redis_accepts_and_does_not_answer(redis_server: Redis) -> None:
    redis_server.freeze()
    with client(redis_server, timeout_s=0.1) as connection, pytest.raises(redis.TimeoutError):
        connection.ping()
    redis_server.thaw()
    with client(redis_server) as connection:
        assert connection.ping()


def test_a_frozen_server_stops_all_the_same(redis_server: Redis) -> None:
    family = family_of(redis_server)
    redis_server.freeze()
    redis_server.stop()
    assert gone(family)


# --- RabbitMQ --------------------------------------------------------------------------------------------


def test_rabbitmq_takes_and_gives_messages_on_loopback_alone(rabbitmq: RabbitMQ) -> None:
    with Connection(rabbitmq.url) as connection:
        queue = connection.SimpleQueue("runs")
        queue.put({"run": 7})
        message = queue.get(timeout=10)
        message.ack()
        queue.close()
    assert message.payload == {"run": 7}
    assert addresses(rabbitmq) == {"127.0.0.1"}


def test_rabbitmq_comes_back_on_its_port_after_a_kill_and_loses_its_queues_when_wiped(rabbitmq: RabbitMQ) -> None:
    with Connection(rabbitmq.url) as connection:
        connection.SimpleQueue("kept").close()
    rabbitmq.kill()
    assert not answers(rabbitmq.port, rabbitmq_module.PROTOCOL_HEADER, b"\x01")
    rabbitmq.start()
    with Connection(rabbitmq.url) as connection:
        connection.channel().queue_declare("kept", passive=True)
    rabbitmq.wipe()
    with Connection(rabbitmq.url) as connection, pytest.raises(NotFound):
        connection.channel().queue_declare("kept", passive=True)


# --- PostgreSQL ------------------------------------------------------------------------------------------


def rows(url: str) -> list[tuple[int]]:
    with psycopg.connect(url.replace("+psycopg", ""), connect_timeout=2) as connection:
        return connection.execute("SELECT run FROM runs").fetchall()


def test_postgresql_keeps_what_was_committed_when_it_is_killed_or_restarted(postgresql: Postgresql) -> None:
    url = postgresql.new_database()
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE runs (run integer)")
        connection.execute("INSERT INTO runs VALUES (7)")
    family = family_of(postgresql)
    postgresql.kill()
    assert gone(family)
    postgresql.start()
    assert rows(url) == [(7,)]
    postgresql.restart()
    assert rows(url) == [(7,)]


def test_postgresql_may_want_a_password(tmp_path: Path) -> None:
    if programs() is None:
        pytest.skip("PostgreSQL is not installed; run tests/servers/install")
    file = tmp_path / "pgpass"
    file.write_text("*:*:*:syncd:of the database\n")
    file.chmod(0o600)
    with Postgresql("of the database") as server:
        url = server.new_database().replace("+psycopg", "")
        with pytest.raises(psycopg.OperationalError, match="no password supplied"):
            psycopg.connect(url)
        with psycopg.connect(f"{url}&passfile={file}") as connection:
            assert connection.execute("SELECT 7").fetchone() == (7,)


def test_a_frozen_postgresql_does_not_answer_and_goes_on_when_thawed(postgresql: Postgresql) -> None:
    url = postgresql.new_database()
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE runs (run integer)")
    postgresql.freeze()
    with pytest.raises(psycopg.OperationalError, match="timeout"):
        rows(url)
    postgresql.thaw()
    assert rows(url) == []


# --- all -------------------------------------------------------------------------------------------------


def test_nothing_is_left_after_the_block() -> None:
    if reason := redis_module.missing():
        pytest.skip(reason)
    with Redis() as server:
        family = family_of(server)
    assert gone(family)
    assert not server.directory.exists()


def test_a_killed_parent_takes_its_servers_with_it(redis_server: Redis) -> None:
    script = (
        "import os, tests.servers.redis as r; s = r.Redis(); s.start();"
        "print(s.process_id, flush=True); os.kill(os.getpid(), 9)"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=Path.cwd(), check=False)
    try:
        server = psutil.Process(int(shown.stdout))
    except psutil.NoSuchProcess:
        return
    assert gone([server])


def test_a_server_that_does_not_start_shows_the_end_of_its_log() -> None:
    if reason := redis_module.missing():
        pytest.skip(reason)
    server = Redis()
    server._data.rmdir()
    with pytest.raises(RuntimeError, match=r"(?s)Redis did not start.*No such file or directory"), server:
        pass
    assert not server.directory.exists()


def test_it_says_why_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_module.shutil, "which", lambda _name: None)
    monkeypatch.setattr(rabbitmq_module, "SERVER", Path("/nonexistent"))
    with pytest.raises(RuntimeError, match="Redis is not installed"):
        Redis()
    with pytest.raises(RuntimeError, match="RabbitMQ is not installed"):
        RabbitMQ()


def test_steady_ports_are_never_given_to_clients() -> None:
    lowest = int(process_module.PORT_RANGE.read_text().split()[0])
    assert all(process_module.LOWEST_PORT <= steady_port() < lowest for _ in range(20))
