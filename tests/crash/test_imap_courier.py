"""SIGKILL while a fresh account of Courier is filled: each message is there once.

Courier gives an INBOX that was never opened another UIDVALIDITY each second, and takes one message with each APPEND.
"""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from syncd.db.states import DeliveryState
from syncd.durable import Step
from tests.crash.child import Point
from tests.crash.program import Ended, Program
from tests.fakes.imap import PASSWORD, USERNAME, FakeImap
from tests.servers import courier
from tests.servers.courier import Courier
from tests.servers.imap import Login, shown
from tests.support import mail

pytestmark = [pytest.mark.crash, pytest.mark.servers]

POINTS = [  # soon after the first APPEND is where an INBOX that nobody opened would be lost sight of
    Point(Step.MESSAGE_END, "before", 2),
    pytest.param(Point(Step.MESSAGE_END, "after", 1), marks=pytest.mark.soak),
    pytest.param(Point(Step.MESSAGE_END, "after", 17), marks=pytest.mark.soak),
]
NEXT_SECOND_S = 1.1  # a UIDVALIDITY that is not settled has changed by then
RUNS = 4  # more than that many are never needed after one fault


@pytest.fixture(scope="module")
def server() -> Iterator[Courier]:
    if reason := courier.missing():
        pytest.skip(reason)
    with Courier(users=len(POINTS)) as server:
        yield server


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_killed_while_an_inbox_is_filled_that_was_never_opened(tmp_path: Path, server: Courier, point: Point) -> None:
    messages = list(mail.small(12, seed=9))
    new = server.user("new")
    with FakeImap() as old:
        old.box("INBOX").add(*messages)
        old.box("Sent").add(*messages[:6], flags=[b"\\Seen"])
        config = configured(tmp_path, old, new)
        ended = run(config, point)
        assert ended.code == -signal.SIGKILL, ended.stderr
        time.sleep(NEXT_SECOND_S)
        codes = [run(config).code]
        while codes[-1] != 0 and len(codes) < RUNS:
            codes.append(run(config).code)
    assert codes[-1] == 0, codes
    found = {name: sorted(one.octets for one in here) for name, here in shown(new).items()}
    assert found == {"INBOX": sorted(messages), "INBOX.Sent": sorted(messages[:6])}
    with closing(sqlite3.connect(tmp_path / "state/ledger.sqlite")) as ledger:
        states = ledger.execute("SELECT state, count(*) FROM deliveries GROUP BY state").fetchall()
        uncertain = ledger.execute("SELECT count(*) FROM uncertain_outcomes").fetchall()
    assert (states, uncertain) == ([(DeliveryState.DELIVERED, 18)], [(0,)])


def configured(home: Path, old: FakeImap, new: Login) -> Path:
    (home / "password").write_text(f"{PASSWORD}\n")
    (home / "password").chmod(0o600)
    accounts = "".join(
        f'[accounts.{name}]\nprotocol = "imap"\nhost = "{host}"\nport = {port}\nsecurity = "none"\n'
        f'allow_insecure = true\nusername = "{user}"\npassword = "file:password"\n'
        for name, host, port, user in (
            ("old", old.host, old.port, USERNAME),
            ("new", new.host, new.port, new.username),
        )
    )
    config = home / "syncd.toml"
    config.write_text(f'state_directory = "state"\n{accounts}[jobs.move]\nsource = "old"\ndestinations = ["new"]\n')
    return config


def run(config: Path, point: Point | None = None) -> Ended:
    arguments = ["run", "move", "--config", str(config), "--quiet"]
    return Program(arguments, config.parent / "output", point=point).wait()
