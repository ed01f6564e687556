"""`syncd serve` as a real process: schedules, signals, what people ask of it, and what is left when it is killed."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from syncd.db.runs import RunRow, Runs
from syncd.db.states import RunState
from syncd.services.wiring import open_ledger
from syncd.settings.load import load
from tests.fakes.pop3 import PASSWORD, USERNAME, FakePop3
from tests.support import mail
from tests.support.processes import Service, letters, once_each, run, wait_for

ENVIRONMENT = {"PASSWORD": PASSWORD}
JOB = """
[accounts.{name}]
protocol = "pop3"
host = "127.0.0.1"
port = {port}
security = "none"
allow_insecure = true
username = "{user}"
password = "env:PASSWORD"
[archives.{name}-home]
path = "{name}-home"
format = "maildir"
[jobs.{name}]
source = "{name}"
destinations = ["{name}-home"]
{more}
"""
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
SLEEPS_OTHERWISE = (  # libfaketime refuses the call that Python sleeps by
    "import threading, time; time.sleep = lambda seconds: threading.Event().wait(seconds);"
    "from syncd.cli.main import main; main()"
)
OFTEN = 'schedule = "every 1 second"'


class Site:
    """A configuration with one fake server and one archive for each job."""

    def __init__(self, directory: Path, messages: int = 3) -> None:
        self.directory = directory
        self.config = directory / "syncd.toml"
        self.server = FakePop3(list(mail.small(messages, seed=1)))

    def configure(self, **jobs: str) -> None:
        head = 'state_directory = "state"\n[service]\nlisten = ""\nlog = "json"\nworkers = 3\n'
        tables = (JOB.format(name=name, port=self.server.port, user=USERNAME, more=more) for name, more in jobs.items())
        self.config.write_text(head + "".join(tables))

    def serve(self, *, log: str = "log") -> Service:
        return Service("serve", config=self.config, log=self.directory / log, environment=ENVIRONMENT)

    def serve_by_another_clock(self) -> Service:
        """Its clock differs by the seconds that the file `offset` says at any time."""
        environment = {
            **ENVIRONMENT,
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self.directory / "offset"),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        program = [sys.executable, "-c", SLEEPS_OTHERWISE]
        log = self.directory / "log"
        return Service("serve", config=self.config, log=log, environment=environment, program=program)

    def call(self, *words: str) -> CompletedProcess[str]:
        return run(self.config, *words, environment=ENVIRONMENT)

    def rows(self, state: RunState | None = None) -> list[RunRow]:
        """Runs, the oldest first."""
        loaded = load(self.config, environment=ENVIRONMENT)
        with open_ledger(loaded) as database:
            return [row for row in Runs(database).history()[::-1] if state is None or row.state is state]

    def all_there(self, job: str = "road") -> bool:
        """Whether each message of the server is in the archive, and none of them twice."""
        found = letters(self.directory / f"{job}-home")
        assert max(found.values(), default=1) == 1
        return found == once_each(self.server.messages)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    with made.server:
        yield made


def arrives(server: FakePop3, number: int) -> None:
    """More mail, with ids that were never there."""
    for message in mail.small(number, seed=100 + len(server.messages)):
        server.messages.append(message)
        server.uids.append(f"uid-{len(server.messages)}".encode())


def test_jobs_run_by_their_schedules_and_a_wrong_file_changes_nothing(site: Site) -> None:
    site.configure(road=OFTEN)
    with site.serve() as service:
        wait_for(site.all_there)
        arrives(site.server, 2)
        wait_for(site.all_there)

        right = site.config.read_text()
        site.config.write_text(right.replace("every 1 second", "every now and then") + "unheard = 1\n")
        service.send(signal.SIGHUP)
        service.has("config.kept")
        refused = " ".join(str(line) for line in service.lines("config.refused"))
        assert "every now and then" in refused
        assert "unheard" in refused
        arrives(site.server, 1)
        wait_for(site.all_there)

        site.configure(road="", other=OFTEN)  # road is run by hand alone from now on
        service.send(signal.SIGHUP)
        service.has("config.applied")
        wait_for(lambda: site.all_there("other"))
        wait_for(lambda: not [row for row in site.rows() if row.finished_at is None and row.job == "road"])
        before = len([row for row in site.rows() if row.job == "road"])
        arrives(site.server, 1)
        wait_for(lambda: site.all_there("other"))
        assert len([row for row in site.rows() if row.job == "road"]) == before
        service.send(signal.SIGTERM)
        assert service.ended() == 0
    assert all(row.state is not RunState.RUNNING for row in site.rows())
    due = [(row.job, row.due_at) for row in site.rows() if row.due_at is not None]
    assert len(due) == len(set(due))


def test_run_asks_the_service_and_works_here_where_it_is_told_to(site: Site) -> None:
    site.configure(road="")
    with site.serve() as service:
        service.has("service.started")
        done = site.call("run", "road", "--json")
        assert done.returncode == 0, done.stderr
        events = [json.loads(line) for line in done.stdout.splitlines()]
        assert {event["event"] for event in events} >= {"started", "finished"}, events
        (row,) = site.rows()
        assert (row.trigger, row.counts["fetched"], row.exit_code) == ("hand", 3, 0)
        assert [line["run"] for line in service.lines("run.finished")] == [row.id]
        assert site.all_there()

        arrives(site.server, 1)
        here = site.call("run", "road", "--here")
        assert here.returncode == 0, here.stderr
        assert "1 message fetched" in here.stdout
        ours = {line["run"] for line in service.lines("run.finished")}
        assert site.rows()[-1].id not in ours
        assert site.all_there()

        site.server.replies["PASS"] = site.server.replies["AUTH"] = b"-ERR [AUTH] no\r\n"
        refused = site.call("run", "road")
        assert refused.returncode == 4
        assert "refuses to sign" in refused.stderr


def test_pause_resume_and_cancel(site: Site) -> None:
    site.configure(road=OFTEN, held="")
    with site.serve() as service:
        wait_for(site.all_there)
        assert site.call("pause", "road").returncode == 0
        wait_for(lambda: not [row for row in site.rows() if row.state is RunState.RUNNING])
        arrives(site.server, 1)
        time.sleep(2.5)  # in which it would have run twice
        assert not site.all_there()
        assert site.call("run", "road").returncode == 0  # a pause keeps no person back
        assert site.all_there()
        arrives(site.server, 1)
        assert site.call("resume", "road").returncode == 0
        wait_for(site.all_there)
        assert site.call("pause", "road").returncode == 0

        site.server.hangs_on = {"RETR 2"}
        asked: list[CompletedProcess[str]] = []
        thread = threading.Thread(target=lambda: asked.append(site.call("run", "held")))
        thread.start()
        wait_for(site.server.hanging.is_set)
        begun = time.monotonic()
        assert site.call("cancel", "held").returncode == 0
        thread.join(60)
        assert time.monotonic() - begun < 20
        assert [it.returncode for it in asked] == [130]
        row = site.rows()[-1]
        assert (row.job, row.state, row.exit_code) == ("held", RunState.STOPPED, 130)
        assert service.process.poll() is None
        site.server.hangs_on = set()
        assert site.call("run", "held").returncode == 0
        assert site.all_there("held")


def test_sigterm_cuts_a_transfer_that_takes_too_long_and_nothing_is_lost(site: Site) -> None:
    site.configure(road=OFTEN)
    site.server.drips_on, site.server.drip_s = "RETR 3", 0.05
    with site.serve() as service:
        wait_for(lambda: site.server.dripped > 10)
        begun = time.monotonic()
        service.send(signal.SIGTERM)
        assert service.ended() == 0
        assert time.monotonic() - begun < 20
        assert service.lines("service.stopped")
        assert not service.lines("service.hung")
    (row,) = site.rows()
    assert (row.state, row.exit_code, row.holder) == (RunState.QUEUED, None, None)
    site.server.drips_on, site.server.drip_s = None, None
    with site.serve():
        wait_for(site.all_there)
    assert site.rows()[0].slices == 2


def test_a_second_signal_ends_it_at_once(site: Site) -> None:
    site.configure(road=OFTEN)
    site.server.hangs_on = {"RETR 2"}
    with site.serve() as service:
        wait_for(site.server.hanging.is_set)
        service.send(signal.SIGTERM)
        service.has("service.stopping")
        begun = time.monotonic()
        service.send(signal.SIGINT)
        assert service.ended() == 130
        assert time.monotonic() - begun < 5


@pytest.mark.crash
def test_killed_in_a_transfer_it_goes_on_where_it_was(site: Site) -> None:
    site.configure(road=OFTEN)
    site.server.hangs_on = {"RETR 3"}
    with site.serve() as service:
        wait_for(site.server.hanging.is_set)
        service.kill()
    (row,) = site.rows(RunState.RUNNING)
    site.server.hangs_on = set()
    arrives(site.server, 1)
    with site.serve():
        wait_for(site.all_there)
        wait_for(lambda: site.rows()[0].state is RunState.DONE)
    assert (site.rows()[0].id, site.rows()[0].slices) == (row.id, 2)


@pytest.mark.crash
def test_of_two_services_on_one_ledger_one_leads(site: Site) -> None:
    site.configure(road=OFTEN)
    with site.serve(log="first") as first:
        first.has("scheduler.leads")
        with site.serve(log="second") as second:
            second.has("service.started")
            arrives(site.server, 1)
            wait_for(site.all_there)
            assert second.lines("scheduler.leads") == []
            first.kill()
            second.has("scheduler.leads")
            arrives(site.server, 1)
            wait_for(site.all_there)
    due = [row.due_at for row in site.rows()]
    assert len(due) == len(set(due))


@pytest.mark.servers
@pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed (tests/servers/install)")
@pytest.mark.parametrize("ahead_s", [7200, -7200], ids=["ahead, then right", "behind, then right"])
def test_a_clock_that_is_set_while_it_runs(site: Site, ahead_s: int) -> None:
    """What it noted with the wrong clock does not keep it from running jobs in time."""
    site.configure(road=OFTEN)
    (site.directory / "offset").write_text(f"{ahead_s:+d}")
    with site.serve_by_another_clock() as service:
        wait_for(site.all_there)
        (site.directory / "offset").write_text("+0")
        service.has("clock.set")
        for _ in range(2):
            arrives(site.server, 1)
            wait_for(site.all_there)
    due = [row.due_at for row in site.rows()]
    assert len(due) == len(set(due))
