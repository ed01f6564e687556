"""Measures of the page: the overview of a large ledger, a number on its way to the screen, memory while idle."""

from __future__ import annotations

import http.client
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import psutil  # type: ignore[import-untyped]
from sqlalchemy import text

from syncd import clock
from syncd.db.catalog import Catalog
from syncd.db.database import Database
from syncd.db.holder import Holder
from syncd.db.instants import to_microseconds
from syncd.db.people import Role
from syncd.db.progress import write_progress
from syncd.db.rows import ProblemKind, Progress
from syncd.db.runs import Runs
from syncd.db.states import DeliveryState, MessageState, RunState
from syncd.services.apply import apply
from syncd.services.wiring import open_ledger, owner
from syncd.settings.load import load
from tests.support.chromium import chromium, context, missing
from tests.support.processes import Service
from tests.support.web import Desk

JOBS: Final = 10_000
MESSAGES: Final = 1_000_000
LOOKS: Final = 21
_FILL: Final = f"""
INSERT INTO archives (id, uuid, name, path, format, made) VALUES (1, zeroblob(16), 'h', 'h', 'packs', true);
INSERT INTO routes (id, job_id, slot, kind, archive_id, target, enabled, repeat)
    SELECT id, id, 0, 'archive', 1, '', true, 'safe' FROM jobs;
INSERT INTO mailboxes (id, account_id, name, path, subscribed, epoch)
    SELECT id, account_id, CAST('INBOX' AS BLOB), '["INBOX"]', true, 1 FROM jobs;
INSERT INTO runs (uuid, job_id, state, "trigger", queued_at, started_at, finished_at, exit_code, slices)
    SELECT randomblob(16), id, {RunState.DONE:d}, 'schedule', :now, :now, :now, 0, 1 FROM jobs;
INSERT INTO messages (id, mailbox_id, epoch, uid, occurrence, state, disposal, listed_octets, octets, sha256)
    WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < :each - 1)
    SELECT mailboxes.id * :each + i, mailboxes.id, 1, CAST(i AS BLOB), 1, {MessageState.FETCHED:d}, 0,
        5000, 5000, randomblob(32) FROM mailboxes, n;
INSERT INTO deliveries (message_id, route_id, state, at)
    SELECT id, mailbox_id, {DeliveryState.DELIVERED:d}, :now / 1000000 FROM messages;
INSERT INTO problems (message_id, route_id, kind, code, insisted, reason, attempts, first_at, last_at, retry_at, run_id)
    SELECT id * :each, id, {ProblemKind.DELIVERY:d}, '', false, '550 no', 1, :now, :now,
        CASE id % 2 WHEN 0 THEN :now END, (SELECT min(id) FROM runs) FROM routes;
INSERT INTO suspensions (subject, cause, tries, until, reason, "limit")
    SELECT 'route ' || id, 0, 1, :now + 1000000000, 'busy', '' FROM routes LIMIT 200
"""
_JOB: Final = (
    '[accounts.a{it}]\nprotocol = "imap"\nhost = "imap.example.net"\nusername = "user{it}"\npassword = "env:P"\n'
    '[archives.h{it}]\npath = "h{it}"\n[jobs.j{it}]\nsource = "a{it}"\ndestinations = ["h{it}"]\n'
    'schedule = "every 15 minutes"\nlate_after = "6 hours"\n'
)


def overview() -> Iterator[tuple[str, str, str]]:
    """The overview with many jobs and messages: as the server answers, without a network."""
    with tempfile.TemporaryDirectory(prefix="syncd-bench-") as place:
        file = Path(place) / "syncd.toml"
        parts = "".join(_JOB.format(it=it) for it in range(JOBS))
        file.write_text(f'name = "bench"\nstate_directory = "{place}/state"\n{parts}')
        loaded = load(file, environment={"P": "p"})
        with open_ledger(loaded) as database:
            apply(loaded, database)
            _fill(database)
            desk = Desk(file, database)
            browser = desk.browser(Role.READER)
            taken, worked = [], time.process_time()
            for _ in range(LOOKS):
                began = time.perf_counter()
                reply = browser.get("/")
                taken.append(time.perf_counter() - began)
                assert reply.status == 200
            worked = (time.process_time() - worked) / LOOKS
    times = f"{statistics.median(taken) * 1000:.0f} ms (at most {max(taken) * 1000:.0f}; {worked * 1000:.0f} ms of CPU)"
    reached = f"{times}, {len(reply.body) / 1024:.0f} KiB"
    yield f"overview with {JOBS:,} jobs and {MESSAGES:,} messages", "≤ 100 ms at the server, ≤ 200 KiB", reached


def _fill(database: Database) -> None:
    """Have messages that were delivered, some that wait, a run of each job, and fifty under way."""
    facts = {"now": to_microseconds(clock.now()), "each": MESSAGES // JOBS}
    with database.write() as connection:
        for statement in _FILL.split(";"):
            connection.execute(text(statement), facts)
        found = list(connection.execute(text("SELECT id FROM jobs ORDER BY id LIMIT 50")).scalars())
    queue = Runs(database)
    for job_id in found:
        queue.claim(queue.enqueue(job_id, "schedule") or 0, Holder.me("worker"))


def live() -> Iterator[tuple[str, str, str]]:
    """From a committed batch to the number on the screen, in chromium."""
    from tests.demo.pages import served

    measure, goal = "a batch committed → its number on the screen", "≤ 1 s"
    if reason := missing():
        yield measure, goal, f"not measured: {reason}"
        return

    taken = []
    with (
        tempfile.TemporaryDirectory(prefix="syncd-bench-") as place,
        served(Path(place)) as (address, cookie, _, desk),
    ):
        job = Catalog(desk.database, owner(desk.site.loaded)).find_job("road-backup")
        assert job is not None
        claim = Runs(desk.database).claim(Runs(desk.database).enqueue(job.id, "hand") or 0, Holder.me("worker"))
        assert claim is not None
        with chromium() as browser:
            window = context(browser, "desktop", "light")
            window.add_cookies([{"name": "syncd", "value": cookie, "url": address}])
            page = window.new_page()
            page.goto(address)
            for number in range(1000, 1000 + LOOKS):
                time.sleep(0.2 + (number % 7) / 10)
                counts = {"fetched": number, "to_fetch": 5000}
                with desk.database.write() as connection:
                    write_progress(connection, claim.run_id, claim.generation, Progress("fetching", counts))
                began = time.perf_counter()
                page.get_by_text(f"{number:,} of 5,000 messages").wait_for()
                taken.append(time.perf_counter() - began)
    yield measure, goal, f"{statistics.median(taken):.2f} s (at most {max(taken):.2f})"


def memory() -> Iterator[tuple[str, str, str]]:
    """`syncd serve` after somebody looked at each page and left."""
    with tempfile.TemporaryDirectory(prefix="syncd-bench-") as place:
        config = Path(place) / "syncd.toml"
        parts = "".join(_JOB.format(it=it).replace("every 15 minutes", "@yearly") for it in range(100))
        config.write_text(f'state_directory = "state"\n[service]\nlisten = "127.0.0.1:0"\nlog = "json"\n{parts}')
        environment = {"P": "p"}
        with Service("serve", config=config, log=Path(place) / "log", environment=environment) as service:
            address = service.has("service.listens")[0]["address"]
            token = service.has("page.set_up")[0]["token"]
            cookie = _ask(address, "POST", "/set-up", "", {"token": token, "name": "ann", "password": "correct horse"})
            for _ in range(5):
                for path in ("/", "/jobs", "/jobs/j1", "/runs", "/waiting", "/accounts", "/archives", "/people"):
                    _ask(address, "GET", path, cookie)
            time.sleep(5)
            reached = psutil.Process(service.process.pid).memory_info().rss >> 20
    yield "syncd serve with 100 jobs, the page idle after it was looked at", "≤ 150 MiB", f"{reached} MiB"


def _ask(address: str, method: str, path: str, cookie: str, fields: Mapping[str, str] | None = None) -> str:
    """Send a request; the cookie that is set."""
    headers = {"Origin": f"http://{address}", "Content-Type": "application/x-www-form-urlencoded", "Cookie": cookie}
    with closing(http.client.HTTPConnection(address, timeout=60)) as connection:
        connection.request(method, path, urlencode(fields) if fields else None, headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status not in {200, 303}:
            raise RuntimeError(f"{path}: {answer.status}")
        return answer.headers.get("set-cookie", "").partition(";")[0]
