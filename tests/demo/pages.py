"""Takes pictures of the page in Debian's chromium, over a ledger that it makes.

    python -m tests.demo.pages FOLDER [PAGE ...]

Each page is taken at two sizes and in both themes. The browser is signed in by a cookie that is put into its requests.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import uvicorn
from sqlalchemy import insert

from syncd import clock
from syncd.db.catalog import Catalog
from syncd.db.holder import Holder
from syncd.db.ledger import Ledger, of_account
from syncd.db.models import days
from syncd.db.people import Role
from syncd.db.rows import Suspension
from syncd.db.runs import Runs
from syncd.db.states import RunState
from syncd.services.apply import apply
from syncd.services.wiring import open_ledger, owner
from syncd.settings.load import load
from tests.support.web import Desk

PAGES: Final = {
    "overview": "/", "jobs": "/jobs", "job": "/jobs/road-backup", "run": "/runs/3", "waiting": "/waiting",
    "accounts": "/accounts", "archives": "/archives", "sign-in": "/sign-in",
}  # fmt: skip
SIZES: Final = {"desktop": "1100,760", "phone": "500,900"}
THEMES: Final = {"light": [], "dark": ["--blink-settings=preferredColorScheme=0"]}
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
    browser = shutil.which("chromium")
    if browser is None:
        sys.exit("chromium is not here: apt-get install chromium")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "syncd.toml"
        file.write_text(f'state_directory = "{place}/state"\n' + "".join(JOB.format(name=name) for name in NAMES))
        loaded = load(file)
        with open_ledger(loaded) as database:
            apply(loaded, database)
            desk = Desk(file, database)
            past(desk)
            cookies = desk.browser(Role.OPERATOR).cookies
            listening = socket.create_server(("127.0.0.1", 0))
            server = uvicorn.Server(uvicorn.Config(_signed_in(desk.app, cookies), log_level="error", lifespan="off"))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
            thread.start()
            try:
                take(browser, folder, f"http://127.0.0.1:{listening.getsockname()[1]}", place, wanted or list(PAGES))
            finally:
                desk.site.stopping.set()
                server.should_exit = True
                thread.join()


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
            "messages": messages,
            "octets": messages * 74_000,
        }
        for ago in range(30)
        for messages in [0 if ago % 7 == 5 else 40 + (ago * 37) % 90 + (1210 if ago == 21 else 0)]
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
            runs.requeue(claim, counts=counts)
            runs.claim(claim.run_id, Holder.me("worker"))
        else:
            runs.finish(claim, state, code, counts, text)
    until = clock.now() + timedelta(minutes=20)
    Ledger(database, lambda _: None).suspensions.put(
        of_account(ids["club"].account_id), Suspension(until, "[THROTTLED]")
    )


def take(browser: str, folder: Path, address: str, place: str, wanted: Sequence[str]) -> None:
    """Take a picture of each page."""
    for name in wanted:
        for size, pixels in SIZES.items():
            for theme, options in THEMES.items():
                picture = folder / f"{name}-{size}-{theme}.png"
                command = [
                    browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                    f"--user-data-dir={place}/b", f"--window-size={pixels}",
                    f"--screenshot={picture}",
                    "--timeout=4000", *options, address + PAGES[name],
                ]  # fmt: skip
                began = time.monotonic()
                done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
                if not picture.exists():
                    sys.exit(done.stderr)
                print(f"{picture} ({time.monotonic() - began:.1f} s)")


def _signed_in(app: Any, cookies: dict[str, str]) -> Any:
    """Returns the application as it answers a browser with these cookies."""
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items()).encode()

    async def call(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] != "/sign-in":
            scope = {**scope, "headers": [*scope["headers"], (b"cookie", cookie)]}
        await app(scope, receive, send)

    return call


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
