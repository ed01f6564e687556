"""Measures of the service where something is wrong, or goes on for long: a dead worker, no broker, many polls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Final

import psutil  # type: ignore[import-untyped]

from syncd.db.database import Database
from syncd.db.runs import RunRow, Runs
from tests.bench.service_site import LONG_S, SITE, Row, poll_once, site, working
from tests.fakes.pop3 import FakePop3
from tests.servers.redis import Redis
from tests.support import mail
from tests.support.processes import wait_for

ELSEWHERE: Final = ("unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$@"', "sh")  # needs root
WORKER: Final = ("worker", "-c", "4", "--site", SITE, "--listen", "")
BROKER_AWAY_S: Final = 30.0
POLLS: Final = 5_000


def takeover(*, elsewhere: bool) -> Iterator[Row]:
    """From the death of a worker amid a run until another one has the run."""
    with ExitStack() as stack:
        at = stack.enter_context(site("postgresql"))
        server = stack.enter_context(FakePop3(list(mail.small(3, seed=1))))
        server.hangs_on = {"RETR 2"}
        at.configure({"job0": server.port}, "@yearly")
        at.call("apply")
        database = stack.enter_context(at.ledger())
        dies = stack.enter_context(at.start(*WORKER, log="log0", around=ELSEWHERE if elsewhere else ()))
        dies.has("service.started")
        Runs(database).enqueue(1, "hand")
        wait_for(server.hanging.is_set)
        stack.enter_context(at.start(*WORKER, log="log1")).has("service.started")
        time.sleep(3)  # its first look at the queue is over
        server.hangs_on = set()
        dies.kill()
        died = time.monotonic()
        wait_for(lambda: _run(database).generation > 1, LONG_S)
        took = time.monotonic() - died
        wait_for(lambda: _run(database).finished_at is not None)
    where, goal = ("another host", 75) if elsewhere else ("the same host", 10)
    yield Row(f"takeover of a worker that died, {where}", f"≤ {goal} s", f"{took:.1f} s")


def broker_away() -> Iterator[Row]:
    """From a job's due time to the start of its run while there is no broker."""
    with ExitStack() as stack:
        at = stack.enter_context(site("postgresql"))
        broker = stack.enter_context(Redis())
        at.broker = broker.url
        servers = [stack.enter_context(FakePop3(list(mail.small(1, seed=it)))) for it in range(10)]
        at.configure({f"job{it}": server.port for it, server in enumerate(servers)}, "every 10 seconds")
        with working(at), at.ledger() as database:
            broker.kill()
            begun = time.time()
            time.sleep(BROKER_AWAY_S)
            rows = Runs(database).history(limit=1_000)
    due = [row for row in rows if row.due_at is not None and row.due_at.timestamp() > begun]
    waits = [(row.started_at - row.due_at).total_seconds() for row in due if row.started_at and row.due_at]
    reached = f"{max(waits):.1f} s, {len(waits)} runs in {BROKER_AWAY_S:.0f} s"
    yield Row("due → start, the broker away", "≤ 10 s (5 minutes)", reached)


def change() -> Iterator[Row]:
    """From `apply` of another schedule until the scheduler queues by it, less the time until the job is due."""
    late = []
    with ExitStack() as stack:
        at = stack.enter_context(site("postgresql"))
        server = stack.enter_context(FakePop3(list(mail.small(1, seed=1))))
        at.configure({"job0": server.port}, "@yearly")
        at.call("apply")
        database = stack.enter_context(at.ledger())
        stack.enter_context(at.start("scheduler", "--listen", "")).has("scheduler.leads")
        stack.enter_context(at.start(*WORKER, log="log0")).has("service.started")
        for seconds in (2, 3, 4, 5, 6):
            before = len(Runs(database).history())
            at.configure({"job0": server.port}, f"every {seconds} seconds")
            at.call("apply")
            applied = time.time()
            wait_for(lambda before=before: len(Runs(database).history()) > before)  # type: ignore[misc]
            row = min(Runs(database).history(), key=lambda row: row.id if row.id > before else 1 << 60)
            assert row.due_at is not None
            late.append(row.queued_at.timestamp() - max(row.due_at.timestamp(), applied))
    yield Row("a change of a schedule, seen by the scheduler", "≤ 2 s", f"{max(late):.1f} s")


def memory() -> Iterator[Row]:
    """Memory of a worker over thousands of polls with nothing new."""
    with ExitStack() as stack:
        at = stack.enter_context(site("sqlite"))
        servers = [stack.enter_context(FakePop3(list(mail.small(20, seed=1)))) for _ in range(100)]
        at.configure({f"job{it}": server.port for it, server in enumerate(servers)}, "@yearly")
        with working(at) as worker, at.ledger() as database:
            process = psutil.Process(worker.process.pid)
            seen: list[int] = []
            for _ in range(POLLS // len(servers)):
                poll_once(database)
                seen.append(process.memory_info().rss >> 20)
                for server in servers:
                    server.commands.clear()
    reached = f"{seen[len(seen) // 5]} MiB after a fifth of {POLLS:,}, {seen[-1]} MiB at the end"
    yield Row("memory of a worker over polls with nothing new, -c 8", "≤ 150 MiB, flat", reached)


def _run(database: Database) -> RunRow:
    (row,) = Runs(database).history()
    return row


FAULTS: Final[dict[str, Callable[[], Iterator[Row]]]] = {
    "takeover": lambda: takeover(elsewhere=False),
    "takeover-elsewhere": lambda: takeover(elsewhere=True),
    "broker-away": broker_away,
    "change": change,
    "memory": memory,
}
