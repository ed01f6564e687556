"""`python -m tests.bench.service`: measure the service, print each row, write them into docs/benchmarks.md.

Everything runs on this machine, the mail servers as threads of this process. CPU is that of the process measured alone.
"""

from __future__ import annotations

import argparse
import os
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import starmap
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
from tests.bench import page
from tests.fakes.pop3 import PASSWORD, USERNAME, FakePop3
from tests.servers.certificate import Authority
from tests.servers.postgresql import Postgresql
from tests.servers.redis import Redis
from tests.support import mail
from tests.support.processes import Service, run, wait_for

PAGE: Final = Path(__file__).parents[2] / "docs" / "benchmarks.md"
TITLE: Final = "## The service"
SITE: Final = "here"
LONG_S: Final = 600.0
_ACCOUNT: Final = (
    '[accounts.{name}]\nprotocol = "pop3"\nhost = "127.0.0.1"\nport = {port}\nusername = "{user}"\n'
    'password = "env:PASSWORD"\n{security}\n'
)
_JOB: Final = '[jobs.{name}]\nsource = "{name}"\ndestinations = ["{name}-home"]\nschedule = "{schedule}"\n'
_PLAIN: Final = 'security = "none"\nallow_insecure = true'


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
        security = 'security = "tls"' if tls else _PLAIN
        text = [head]
        for name, port in ports.items():
            text += [_ACCOUNT.format(name=name, port=port, user=f"{USERNAME}", security=security)]
            text += [f'[archives.{name}-home]\npath = "{name}-home"\n{site}', _JOB.format(name=name, schedule=schedule)]
        self.config.write_text("".join(text))

    def call(self, *words: str) -> float:
        """Run a command; the seconds that it took."""
        begun = time.monotonic()
        done = run(self.config, *words, environment=self.environment)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return time.monotonic() - begun

    def start(self, *words: str, log: str = "log") -> Service:
        return Service(*words, config=self.config, log=self.directory / log, environment=self.environment)

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


# --- measures ----------------------------------------------------------------------------------------------------


def latency(name: str) -> Iterator[Row]:
    """From a job's due time to the first octet that its server gets."""
    seen: list[tuple[str, float]] = []
    with ExitStack() as stack:
        at = stack.enter_context(site(name))
        ports = {}
        for number in range(10):
            server = stack.enter_context(FakePop3(list(mail.small(1, seed=number))))
            server.on["CAPA"] = lambda _, job=f"job{number}": seen.append((job, time.time()))  # type: ignore[misc]
            ports[f"job{number}"] = server.port
        at.configure(ports, "every 3 seconds")
        with working(at), at.ledger() as database:
            time.sleep(6)
            begun = time.time()
            time.sleep(30)
            with database.read() as connection:
                found = select(job_rows.c.name, run_rows.c.due_at).join(job_rows, job_rows.c.id == run_rows.c.job_id)
                found = found.where(run_rows.c.due_at > begun * 1e6).order_by(run_rows.c.due_at)
                due = connection.execute(found).all()
    waits = sorted(
        min((at_ - row.due_at / 1e6 for job, at_ in seen if job == row.name and at_ >= row.due_at / 1e6), default=99.0)
        for row in due[:-10]  # the last may not have begun
    )
    middle, most = statistics.median(waits), waits[int(len(waits) * 0.99)]
    kind = "embedded" if name == "sqlite" else "PostgreSQL and Redis"
    yield Row(f"due → first octet, {kind}", "≤ 0.15 s median, ≤ 0.5 s p99", f"{middle:.2f} s, {most:.2f} s")


def polls(name: str, threads: int) -> Iterator[Row]:
    """Polls over TLS with nothing new, for one second of the worker's CPU; what the server needs is not in it."""
    with ExitStack() as stack:
        at = stack.enter_context(site(name))
        authority = Authority(at.directory, "127.0.0.1")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(authority.certificate_file, authority.key_file)
        system = Path(ssl.get_default_verify_paths().openssl_cafile)
        bundle = at.directory / "authorities.pem"
        bundle.write_bytes((system.read_bytes() if system.exists() else b"") + authority.ca_file.read_bytes())
        at.environment["SSL_CERT_FILE"] = str(bundle)
        letters = list(mail.small(20, seed=1))
        servers = [stack.enter_context(FakePop3(letters, tls=context, implicit=True)) for _ in range(2 * threads)]
        at.configure(
            {f"job{it}": server.port for it, server in enumerate(servers)}, "@yearly", tls=True, threads=threads
        )
        with working(at, threads) as worker, at.ledger() as database:
            _round(database)  # all mail is fetched
            process = psutil.Process(worker.process.pid)
            _round(database)
            before, begun, number = _cpu(process), time.monotonic(), 0
            while time.monotonic() - begun < 20:
                number += _round(database)
            used = _cpu(process) - before
            memory = process.memory_info().rss >> 20
    kind = "SQLite" if name == "sqlite" else "PostgreSQL"
    goal = {("sqlite", 16): 75, ("sqlite", 64): 55, ("postgresql", 16): 65, ("postgresql", 64): 50}[name, threads]
    yield Row(
        f"polls with nothing new, TLS, -c {threads}, {kind}",
        f"≥ {goal} a second of CPU",
        f"{number / used:.0f} a second of CPU ({number} polls; {memory} MiB)",
    )


def _round(database: Database) -> int:
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


def workers(_: str) -> Iterator[Row]:
    """The time that 1, 2 and 4 workers need for mailboxes on servers that give 1 MiB a second."""
    taken = {}
    for number in (1, 2, 4):
        with ExitStack() as stack:
            at = stack.enter_context(site("postgresql"))
            message = b"Subject: large\r\n\r\n" + (b"x" * 62 + b"\r\n") * (1 << 13)
            takes_s = len(message) / (1 << 20)
            servers = [stack.enter_context(FakePop3([message + b"%d\r\n" % it])) for it in range(24)]
            for server in servers:
                server.on["RETR"] = lambda _, takes_s=takes_s: time.sleep(takes_s)  # type: ignore[misc]
            at.configure({f"job{it}": server.port for it, server in enumerate(servers)}, "@yearly")
            at.call("apply")
            members = [
                stack.enter_context(at.start("worker", "-c", "1", "--site", SITE, "--listen", "", log=f"log{it}"))
                for it in range(number)
            ]
            for member in members:
                member.has("service.started")
            with at.ledger() as database:
                _round(database)
                rows = Runs(database).history(limit=len(servers))
            began = min(row.started_at for row in rows if row.started_at is not None)
            taken[number] = (
                max(row.finished_at for row in rows if row.finished_at is not None) - began
            ).total_seconds()
    for number, goal in ((2, 1.7), (4, 3.0)):
        reached = f"{taken[1] / taken[number]:.1f}× ({taken[1]:.1f} s → {taken[number]:.1f} s)"
        yield Row(f"{number} workers (-c 1) against one", f"≥ {goal}×", reached)


def many(_: str) -> Iterator[Row]:
    """100,000 jobs: apply, and the scheduler that has them."""
    number = 100_000
    with site("postgresql") as at:
        users = {f"job{it}": it for it in range(number)}
        at.configure({}, "")
        with at.config.open("a") as file:
            for name in users:
                account = _ACCOUNT.format(name=name, port=1100, user=name, security=_PLAIN)
                archive = f'[archives.{name}-home]\npath = "{name}-home"\nsite = "{SITE}"\n'
                file.write(account + archive + _JOB.format(name=name, schedule="every 24 hours"))
        begun = time.monotonic()
        done = _long(at, "apply")
        yield Row("apply of 100,000 jobs", "≤ 60 s", f"{time.monotonic() - begun:.0f} s{done}")
        begun = time.monotonic()
        with at.start("scheduler", "--listen", "") as scheduler:
            scheduler.has("scheduler.leads", LONG_S)
            led = time.monotonic() - begun
            time.sleep(15)
            memory = psutil.Process(scheduler.process.pid).memory_info().rss >> 20
        yield Row("scheduler of 100,000 jobs", "≤ 120 MiB, leads within 3 s", f"{memory} MiB, {led:.1f} s")


def _long(at: Site, *words: str) -> str:
    """A command that may take minutes."""
    import subprocess

    command = [sys.executable, "-m", "syncd", *words, "--config", str(at.config)]
    done = subprocess.run(command, env={**os.environ, **at.environment}, check=False, capture_output=True, text=True)
    return "" if done.returncode == 0 else f" (failed: {done.stderr[-200:]})"


def idle(_: str) -> Iterator[Row]:
    """`syncd serve` with 100 jobs, none of them due."""
    with site("sqlite") as at:
        at.configure({f"job{it}": 1100 + it for it in range(100)}, "@yearly")
        with working(at) as service:
            process = psutil.Process(service.process.pid)
            time.sleep(5)
            before, begun = _cpu(process), time.monotonic()
            time.sleep(30)
            share = (_cpu(process) - before) / (time.monotonic() - begun)
            memory = process.memory_info().rss >> 20
    yield Row("idle syncd serve with 100 jobs", "≤ 0.6 % of a core, ≤ 110 MiB", f"{share:.2%}, {memory} MiB")


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


MEASURES: Final[dict[str, Callable[[], Iterator[Row]]]] = {
    "idle": lambda: idle("sqlite"),
    "latency": lambda: latency("sqlite"),
    "latency-redis": lambda: latency("postgresql"),
    "polls-16": lambda: polls("sqlite", 16),
    "polls-64": lambda: polls("sqlite", 64),
    "polls-16-postgresql": lambda: polls("postgresql", 16),
    "polls-64-postgresql": lambda: polls("postgresql", 64),
    "workers": lambda: workers("postgresql"),
    "many": lambda: many("postgresql"),
    "page": lambda: starmap(Row, page.overview()),
    "page-live": lambda: starmap(Row, page.live()),
    "page-idle": lambda: starmap(Row, page.memory()),
}


def section(rows: list[Row], load: float) -> str:
    """The rows as they stand in the page."""
    busy = f"; the machine was busy with other work (load {load:.0f})" if load > 2 else ""
    lines = [TITLE, "", f"Taken on {datetime.now(UTC):%Y-%m-%d} by `python -m tests.bench.service`{busy}.", ""]
    lines += ["| measure | goal | reached |", "| --- | --- | --- |"]
    lines += [f"| {row.measure} | {row.goal} | {row.reached} |" for row in rows]
    return "\n".join(lines) + "\n"


def kept(file: Path) -> str:
    """The section that a page has, to be kept where the rest of it is written anew."""
    text = file.read_text() if file.exists() else ""
    return "\n" + text[text.index(TITLE) :] if TITLE in text else ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.service", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(MEASURES), help="these alone; nothing is written")
    options = parser.parse_args()
    rows: list[Row] = []
    load = os.getloadavg()[1]
    for name in options.only or MEASURES:
        for row in MEASURES[name]():
            print(f"{row.measure}: {row.reached}   (goal: {row.goal})", flush=True)
            rows.append(row)
    if not options.only:
        text = PAGE.read_text().partition(TITLE)[0].rstrip()
        PAGE.write_text(f"{text}\n\n{section(rows, load)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
