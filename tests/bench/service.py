"""`python -m tests.bench.service`: measure the service, print each row, write them into docs/benchmarks.md.

Everything runs on this machine, the mail servers as threads of this process. CPU is that of the process measured alone.
"""

from __future__ import annotations

import argparse
import os
import ssl
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import starmap
from pathlib import Path
from typing import Final

import psutil  # type: ignore[import-untyped]
from sqlalchemy import select

from syncd.db.models import jobs as job_rows
from syncd.db.models import runs as run_rows
from syncd.db.runs import Runs
from tests.bench import page, search
from tests.bench.measure import compiled
from tests.bench.service_faults import FAULTS
from tests.bench.service_site import (
    ACCOUNT,
    JOB,
    LONG_S,
    PLAIN,
    SITE,
    Row,
    Site,
    cpu,
    poll_once,
    site,
    working,
)
from tests.fakes.pop3 import FakePop3
from tests.servers.certificate import Authority
from tests.support import mail

PAGE: Final = Path(__file__).parents[2] / "docs" / "benchmarks.md"
TITLE: Final = "## The service"


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
            poll_once(database)  # all mail is fetched
            process = psutil.Process(worker.process.pid)
            poll_once(database)
            before, begun, number = cpu(process), time.monotonic(), 0
            while time.monotonic() - begun < 20:
                number += poll_once(database)
            used = cpu(process) - before
            memory = process.memory_info().rss >> 20
    kind = "SQLite" if name == "sqlite" else "PostgreSQL"
    goal = {("sqlite", 16): 75, ("sqlite", 64): 55, ("postgresql", 16): 65, ("postgresql", 64): 50}[name, threads]
    yield Row(
        f"polls with nothing new, TLS, -c {threads}, {kind}",
        f"≥ {goal} a second of CPU",
        f"{number / used:.0f} a second of CPU ({number} polls; {memory} MiB)",
    )


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
                poll_once(database)
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
                account = ACCOUNT.format(name=name, port=1100, user=name, security=PLAIN)
                archive = f'[archives.{name}-home]\npath = "{name}-home"\nsite = "{SITE}"\n'
                file.write(account + archive + JOB.format(name=name, schedule="every 24 hours"))
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
            before, begun = cpu(process), time.monotonic()
            time.sleep(30)
            share = (cpu(process) - before) / (time.monotonic() - begun)
            memory = process.memory_info().rss >> 20
    yield Row("idle syncd serve with 100 jobs", "≤ 0.6 % of a core, ≤ 110 MiB", f"{share:.2%}, {memory} MiB")


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
    **FAULTS,
    "page": lambda: starmap(Row, page.overview()),
    "page-live": lambda: starmap(Row, page.live()),
    "page-idle": lambda: starmap(Row, page.memory()),
    "search-index": lambda: starmap(Row, search.indexing()),
    "search-index-tables": lambda: starmap(Row, search.indexing_tables()),
    "search": lambda: starmap(Row, search.searching()),
    "search-tables": lambda: starmap(Row, search.searching_tables()),
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
    compiled()
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
