"""Takes pictures of the page in Debian's chromium, over a ledger that it makes.

    python -m tests.demo.pages FOLDER [PAGE ...]

Each page is taken at two sizes and in both themes. The browser is signed in by a cookie.
"""

from __future__ import annotations

import json
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

import uvicorn
from sqlalchemy import insert, update

from syncd import clock
from syncd.db import errands, troubles
from syncd.db.catalog import Catalog
from syncd.db.errands import Kind, State, Subject
from syncd.db.holder import Holder
from syncd.db.instants import to_microseconds
from syncd.db.ledger import Ledger, of_account
from syncd.db.models import ABOUT_MESSAGE, days, mailboxes, messages, problems
from syncd.db.models import runs as run_rows
from syncd.db.people import Role
from syncd.db.progress import write_progress
from syncd.db.rows import ProblemKind, Progress, Suspension
from syncd.db.runs import Runs
from syncd.db.states import MessageState, RunState
from syncd.destinations.packs import PacksArchive
from syncd.mail.message import Key
from syncd.services import search
from syncd.services.apply import apply
from syncd.services.archive import open_view
from syncd.services.wiring import open_ledger, owner
from syncd.settings.load import load
from tests.contract.destination_kit import delivered, message
from tests.support.chromium import SIZES, THEMES, chromium, context, missing
from tests.support.mail import samples
from tests.support.web import Desk

PAGES: Final = {
    "overview": "/", "jobs": "/jobs", "job": "/jobs/road-backup", "dry-run": "/jobs/road-backup/dry-run",
    "verify": "/jobs/road-backup/verify", "account-check": "/accounts/road/check",
    "run": "/runs/3", "runs": "/runs", "waiting": "/waiting", "accounts": "/accounts", "archives": "/archives",
    "archive-check": "/archives/road-home/check",
    "search": "/archives/road-home/search", "search-all": "/search?archives=road-home&archives=club-home",
    "message": "/archives/road-home/messages/LETTER?view=html",
    "message-text": "/archives/road-home/messages/LETTER", "people": "/people", "problem": "/none",
}  # fmt: skip
JOB: Final = """
[accounts.{name}]
protocol = "imap"
host = "imap.{name}.example.net"
username = "ann@{name}.example.net"
password = "env:PASSWORD"
[archives.{name}-home]
path = "{name}-home"
[jobs.{name}-backup]
source = "{name}"
destinations = ["{name}-home"]
schedule = "every 15 minutes"
late_after = "6 hours"
"""
NAMES: Final = ("road", "office", "club")


def main(folder: Path, wanted: Sequence[str]) -> None:
    """Make the ledger, serve it, take the pictures."""
    if reason := missing():
        sys.exit(reason)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place, served(Path(place)) as site, chromium() as browser:
        for size in SIZES:
            for theme in THEMES:
                window = context(browser, size, theme)
                window.add_cookies([{"name": "syncd", "value": site.cookie, "url": site.address}])
                page = window.new_page()
                for name in wanted or PAGES:
                    page.goto(site.address + PAGES[name].replace("LETTER", site.letter))
                    picture = folder / f"{name}-{size}-{theme}.png"
                    page.screenshot(path=picture, full_page=True)
                    print(picture)
                window.close()


class Served(NamedTuple):
    """A page that is served: its address, the cookie of an admin who is signed in, and the key of a message."""

    address: str
    cookie: str
    letter: str
    desk: Desk


@contextmanager
def served(place: Path, *mail: bytes, more: str = "") -> Iterator[Served]:
    """A page over a ledger and an archive in a folder; `mail` is in the archive, the last of it is the letter.

    `more` is more of the configuration.
    """
    file = place / "syncd.toml"
    jobs = "".join(JOB.format(name=name) for name in NAMES)
    file.write_text(f'state_directory = "{place}/state"\n{jobs}{more}')
    loaded = load(file)
    with open_ledger(loaded) as database:
        apply(loaded, database)
        desk = Desk(file, database)
        past(desk)
        letter = _archived(desk, mail or sorted(samples().values(), key=lambda it: b"gardener" in it))
        (cookie,) = desk.browser(Role.ADMIN).cookies.values()
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(desk.app, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Served(f"http://127.0.0.1:{listening.getsockname()[1]}", cookie, letter, desk)
        finally:
            desk.site.stopping.set()
            server.should_exit = True
            thread.join()
            listening.close()


def past(desk: Desk) -> None:
    """Have a month of mail, runs that are done, that failed, and one that is under way; and a suspended account."""
    runs, database = Runs(desk.database), desk.database
    today = (clock.now() - datetime(1970, 1, 1, tzinfo=UTC)).days
    rows = [
        {
            "configuration": owner(desk.site.loaded).name,
            "day": today - ago,
            "runs": 30,
            "failures": {3: 2, 4: 9, 17: 1}.get(ago, 0),
            "messages": many,
            "octets": many * 74_000,
        }
        for ago in range(30)
        for many in [0 if ago % 7 == 5 else 40 + (ago * 37) % 90 + (1210 if ago == 21 else 0)]
    ]
    with database.write() as connection:
        connection.execute(insert(days), rows)
    ids = {}
    for name in NAMES:
        row = Catalog(database, owner(desk.site.loaded)).find_job(f"{name}-backup")
        assert row is not None
        ids[name] = row
    for name, state, code, text in (
        ("road", RunState.DONE, 0, ""),
        ("club", RunState.FAILED, 5, "imap.club.example.net: [THROTTLED] too many connections"),
        ("office", RunState.RUNNING, 0, ""),
    ):
        claim = runs.claim(runs.enqueue(ids[name].id, "schedule") or 0, Holder.me("worker"))
        assert claim is not None
        counts = {
            "listed": 48210,
            "to_fetch": 1210,
            "fetched": 780,
            "fetched_octets": 91 << 20,
            "to_fetch_octets": 140 << 20,
        }
        if state is RunState.RUNNING:
            with database.write() as connection:
                write_progress(connection, claim.run_id, claim.generation, Progress("fetching", counts))
                began = to_microseconds(clock.now() - timedelta(seconds=95))
                connection.execute(update(run_rows).where(run_rows.c.id == claim.run_id).values(started_at=began))
        else:
            runs.finish(claim, state, code, counts, text)
        if code:
            troubles.note(database, ids[name].id, f"{code} ", text)
    _have_waiting(desk, ids["road"].account_id)
    _have_asked(desk)
    until = clock.now() + timedelta(minutes=20)
    Ledger(database, lambda _: None).suspensions.put(
        of_account(ids["club"].account_id), Suspension(until, "[THROTTLED] too many connections")
    )


def _have_asked(desk: Desk) -> None:
    """Have the result of a dry run, of checks, and of a verification with two differences."""
    box = {"path": ["Archive", "2025"], "messages": 1210, "octets": 140 << 20}
    tally = {"to": "road-home", "mailboxes": ["Archive/2025"], "messages": 1208, "octets": 139 << 20, "differences": 2}
    entry = {"mailbox": box["path"], "uid": "4711", "occurrence": 1, "to": "road-home", "place": "", "differs": True}
    entries = [
        {**entry, "status": "waiting", "reason": "it came after the last run; the next run copies it"},
        {**entry, "uid": "17", "status": "rejected", "reason": "the server says: NO [SERVERBUG] internal error"},
    ]
    tally["statuses"] = {"equal": 1208, "waiting": 1, "rejected": 1}
    plan = {**box, "would": "look", "to_fetch": 2, "to_fetch_octets": 1 << 20, "places": []}
    dry = {
        "errors": [], "to_fetch": 2, "to_fetch_octets": 1 << 20, "to_backfill": 0, "to_remove": 0, "to_make": [],
        "listed": 1210, "new": 2, "waiting_time": 1, "waiting_person": 2, "seconds_ahead": 4.0,
        "seconds_from": "job", "mapping": [plan] * 2,
    }  # fmt: skip
    info = {"address": "imap.road.example.net:993", "tls": "TLSv1.3", "mechanism": "SCRAM-SHA-256", "notes": []}
    quota = {"name": "", "octets": 3 << 30, "of_octets": 5 << 30, "messages": None, "of_messages": None}
    table = [{**box, "use": "", "jobs": {"road-backup": "look"}}, {**box, "use": "", "jobs": {}}]
    account = {
        "error": None, "mailboxes": 12, "totals": {"messages": 1210, "octets": 140 << 20}, "quotas": [quota],
        "info": {**info, "capabilities": ["IMAP4rev1", "IDLE", "CONDSTORE", "UIDPLUS"]}, "table": table,
    }  # fmt: skip
    figures = {"messages": 1208, "octets": 139 << 20, "stored_octets": 61 << 20, "files": 3}
    proof = {
        "report": {**box, "differences": 2, "mailboxes": [{**box, "destinations": [tally]}], "entries": entries},
        "sha256": "4be1d4c5" * 8, "forms": ["html", "json", "md"],
        "lines": ["road-home: 2 differences; 1,208 equal; 1 waiting for the next run; 1 rejected by the destination"],
    }  # fmt: skip
    found: dict[tuple[Kind, str], dict[str, Any]] = {
        (Kind.DRY_RUN, "road-backup"): {"report": dry, "notes": ["the mailbox Old/Lists would be left out"]},
        (Kind.ACCOUNT, "road"): account,
        (Kind.ARCHIVE, "road-home"): {"figures": figures, "wrong": 0, "findings": []},
        (Kind.VERIFY, "road-backup"): proof,
    }
    for (kind, name), result in found.items():
        subject = Subject(owner(desk.site.loaded).name, kind, name)
        errands.ask(desk.database, errands.Wanted(subject, "ann"), clock.now() - timedelta(minutes=7))
        taken = errands.take(desk.database, [kind], subject.configuration, Holder.me("page"), clock.now())
        assert taken is not None
        text = json.dumps({**result, "left_out": {}})
        errands.end(desk.database, taken, State.DONE, clock.now(), result=text, reports={"json": b""})


def _archived(desk: Desk, mail: Sequence[bytes]) -> str:
    """Have mail in the archive of the first job, and its words; the key of the last message."""
    path = desk.site.loaded.settings.archives["road-home"].path
    with closing(PacksArchive(path)) as archive:
        archive.create(uuid4())
        archive.open()
        receipts = delivered(archive, [message(number, octets) for number, octets in enumerate(mail)])
    with closing(open_view(desk.site.loaded, "road-home")) as view:
        search.update(view)
    return receipts[Key(len(mail) - 1)].sha256.hex()


def _have_waiting(desk: Desk, account_id: int) -> None:
    """Have three messages that cannot be fetched, two of which wait for a person."""
    now = to_microseconds(clock.now())
    box = {"id": 1, "account_id": account_id, "name": b"INBOX", "path": '["INBOX"]', "subscribed": True, "epoch": 1}
    message = {"mailbox_id": 1, "epoch": 1, "occurrence": 1, "disposal": 0, "listed_octets": 7_400}
    problem = {"route_id": ABOUT_MESSAGE, "kind": int(ProblemKind.FETCH), "code": "", "insisted": False, "run_id": 1}
    with desk.database.write() as connection:
        connection.execute(insert(mailboxes), [box])
        for number in (1, 2, 3):
            state = int(MessageState.UNFETCHABLE)
            connection.execute(insert(messages), [{**message, "id": number, "uid": b"%d" % number, "state": state}])
            later = now + 3_600_000_000 if number == 1 else None
            reason = "the server says: NO [SERVERBUG] internal error, see its log"
            times = {"attempts": 5 - number, "first_at": now, "last_at": now, "retry_at": later, "reason": reason}
            connection.execute(insert(problems), [{**problem, **times, "message_id": number}])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
