"""What the measures of the service share: a configuration of many jobs, its processes, and rounds of polls."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil  # type: ignore[import-untyped]
from sqlalchemy import insert, select

from syncd import clock
from syncd.db.database import Database
from syncd.db.instants import to_microseconds
from syncd.db.models import jobs as job_rows
from syncd.db.models import runs as run_rows
from syncd.db.runs import Runs
from syncd.db.states import RunState
from tests.fakes.pop3 import PASSWORD, USERNAME
from tests.servers.postgresql import Postgresql
from tests.servers.redis import Redis
from tests.support.processes import Service, run, wait_for

SITE: Final = "here"
LONG_S: Final = 600.0
ACCOUNT: Final = (
    '[accounts.{name}]\nprotocol = "pop3"\nhost = "127.0.0.1"\nport = {port}\nusername = "{user}"\n'
    'password = "env:PASSWORD"\n{security}\n'
)
JOB: Final = '[jobs.{name}]\nsource = "{name}"\ndestinations = ["{name}-home"]\nschedule = "{schedule}"\n'
PLAIN: Final = 'security = "none"\nallow_insecure = true'


@dataclass(frozen=True)
class Row:
    """A measure, what it is to reach, and what it reached."""

    measure: str
    goal: str
    reached: str


@dataclass
class Site:
    """A configuration in a directory of its own; on SQLite, or with a database and a broker."""

    directory: Path
    database: str = ""
    broker: str = ""
    environment: dict[str, str] = field(default_factory=lambda: {"PASSWORD": PASSWORD})

    @property
    def config(self) -> Path:
        return self.directory / "syncd.toml"

    def configure(self, ports: Mapping[str, int], schedule: str, *, tls: bool = False, threads: int = 8) -> None:
        """One job for each name, with an archive of its own: only one process at a time writes to an archive."""
        head = f'name = "bench"\nstate_directory = "state"\n[service]\nlisten = ""\nlog = "json"\nworkers = {threads}\n'
        if self.database:
            head = f'database_url = "{self.database}"\nbroker_url = "{self.broker}"\n{head}'
        site = f'site = "{SITE}"\n' if self.database else ""
        security = 'security = "tls"' if tls else PLAIN
        text = [head]
        for name, port in ports.items():
            text += [ACCOUNT.format(name=name, port=port, user=f"{USERNAME}", security=security)]
            text += [f'[archives.{name}-home]\npath = "{name}-home"\n{site}', JOB.format(name=name, schedule=schedule)]
        self.config.write_text("".join(text))

    def call(self, *words: str) -> float:
        """Run a command; the seconds that it took."""
        begun = time.monotonic()
        done = run(self.config, *words, environment=self.environment)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return time.monotonic() - begun

    def start(self, *words: str, log: str = "log", around: Sequence[str] = ()) -> Service:
        """Start a process of the service; `around` is a command that runs it."""
        program = (*around, sys.executable, "-m", "syncd")
        file = self.directory / log
        return Service(*words, config=self.config, log=file, environment=self.environment, program=program)

    def ledger(self) -> Database:
        return Database.open(self.database or None, self.directory / "state")


@contextmanager
def site(name: str) -> Iterator[Site]:
    """A site on "sqlite", or on "postgresql" with Redis."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="syncd-bench-")))
        if name == "sqlite":
            yield Site(directory)
            return
        database, broker = stack.enter_context(Postgresql()), stack.enter_context(Redis())
        yield Site(directory, database.new_database(), broker.url)


@contextmanager
def working(at: Site, threads: int = 8) -> Iterator[Service]:
    """The process that works: `serve`, or a worker with a scheduler beside it."""
    with ExitStack() as stack:
        if not at.database:
            worker = stack.enter_context(at.start("serve"))
        else:
            at.call("apply")
            stack.enter_context(at.start("scheduler", "--listen", "", log="scheduler")).has("service.started")
            words = ("worker", "-c", str(threads), "--site", SITE, "--listen", "")
            worker = stack.enter_context(at.start(*words))
        worker.has("service.started")
        yield worker


def poll_once(database: Database) -> int:
    """One run of each job, from the queue to its end; the number of jobs."""
    with database.write() as connection:
        ids = list(connection.execute(select(job_rows.c.id)).scalars())
        at = to_microseconds(clock.now())
        connection.execute(
            insert(run_rows),
            [
                {
                    "uuid": os.urandom(16),
                    "job_id": job,
                    "state": int(RunState.QUEUED),
                    "trigger": "hand",
                    "queued_at": at,
                }
                for job in ids
            ],
        )
    runs = Runs(database)
    wait_for(lambda: all(row.finished_at is not None for row in runs.history(limit=len(ids))), LONG_S)
    failed = {row.message for row in runs.history(limit=len(ids)) if row.exit_code}
    if failed:
        raise RuntimeError(str(failed))
    return len(ids)


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
