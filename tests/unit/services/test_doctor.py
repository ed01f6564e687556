"""What `syncd doctor` finds, on a ledger of SQLite; databases and brokers behind sockets are in tests/contract."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text, update

from syncd import clock
from syncd.cli.main import call
from syncd.db import soundness, troubles, workers
from syncd.db.database import FILE_NAME, Database
from syncd.db.holder import Holder
from syncd.db.instants import to_microseconds
from syncd.db.leases import LEADER, LeaseSet
from syncd.db.models import jobs, leases
from syncd.db.models import workers as workers_table
from syncd.db.rows import Paused
from syncd.db.runs import Runs
from syncd.engine.exit_codes import ExitCode
from syncd.services import doctor, doctor_machine
from syncd.services.doctor import examine
from syncd.services.findings import Check, Finding, verdict
from syncd.settings.load import Loaded, load
from tests.contract.test_figures import define
from tests.support.ledger import Bench

CONFIGURATION = """
state_directory = "state"
[archives.home]
path = "home"
"""


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    file = tmp_path / "syncd.toml"
    file.write_text(CONFIGURATION)
    (tmp_path / "state").mkdir(mode=0o700)
    return load(file, environment={})


@pytest.fixture
def bench(loaded: Loaded) -> Iterator[Bench]:
    with Database.open(None, loaded.settings.state_directory) as database:
        yield Bench(database)


def check(loaded: Loaded, name: str, sites: Sequence[str] = ()) -> Check:
    return next(it for it in examine(loaded, sites) if it.name == name)


def texts(found: Check, *, wrong: bool = True) -> list[str]:
    return [f"{finding.text}; {finding.advice}" for finding in found.findings if finding.wrong == wrong]


def lives(bench: Bench, role: str, *sites: str, version: str = "0.1.0") -> workers.Worker:
    worker = workers.Worker(Holder.me(role), role, sites, 8, version)
    with bench.database.write() as connection:
        workers.beat(connection, worker)
    return worker


def dead(bench: Bench) -> Holder:
    """A process of this machine that has ended."""
    return replace(Holder.me("run of a test"), pid=2**22 + 1)


def test_before_the_first_run_nothing_is_wrong(loaded: Loaded) -> None:
    loaded.settings.state_directory.rmdir()
    checks = list(examine(loaded))
    assert [it.name for it in checks] == ["versions", "database", "broker", "disk"]
    assert [it.findings for it in checks] == [[], [], [], []]
    assert verdict(checks) is ExitCode.DONE
    assert not loaded.settings.state_directory.exists()


def test_versions_are_told(loaded: Loaded) -> None:
    found = check(loaded, "versions")
    assert found.facts[0].startswith("syncd 0.1.0, Python 3.")
    assert "celery 5." in found.facts[1]
    assert found.is_well


def test_a_ledger_that_is_well(loaded: Loaded, bench: Bench) -> None:
    found = check(loaded, "database")
    assert found.findings == []
    (fact,) = found.facts
    assert f"{loaded.settings.state_directory / FILE_NAME}: SQLite 3." in fact
    assert f", schema {soundness.SCHEMA}, " in fact


def test_another_schema_is_told_and_not_changed(loaded: Loaded, bench: Bench) -> None:
    with bench.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    checks = list(examine(loaded))
    assert [it.name for it in checks] == ["versions", "database", "broker", "disk"]
    assert [finding.wrong for finding in checks[1].findings] == [False]
    assert "has the schema 0001; this program has" in checks[1].findings[0].text
    with bench.database.write() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "0001"
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    found = check(loaded, "database")
    assert texts(found)[0].endswith("was written by a newer syncd; use the newer program on every machine")


def test_a_damaged_ledger(loaded: Loaded) -> None:
    directory = loaded.settings.state_directory
    with Database.open(None, directory) as database, database.write() as connection:
        for number in range(2000):
            connection.execute(text(f"INSERT INTO leases VALUES ('job:{number:0100}', 1, '', 0)"))
    file = directory / FILE_NAME
    octets = bytearray(file.read_bytes())
    octets[-60_000:-20_000] = b"\xff" * 40_000
    file.write_bytes(octets)
    checks = list(examine(loaded))
    (found,) = checks[1].findings
    assert found.wrong
    assert "damaged" in found.text or "malformed" in found.text
    assert verdict(checks) is ExitCode.FAILED
    assert [it.name for it in checks] == ["versions", "database", "broker", "disk"]


def test_room_log_and_clock_of_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = soundness.Looked("PostgreSQL 15", soundness.SCHEMA, -7.0, 1, doctor.WAL_OCTETS + 1, 5 << 20, "")
    found = [finding.text for finding in doctor._database_findings(looked, "/l", soundness.SCHEMA)]
    assert found == [
        "this machine's clock is 7 s ahead of the database's",
        "the ledger's log /l-wal has grown to 256 MiB",
        "only 5.0 MiB are free beside the ledger",
    ]
    behind = looked._replace(clock_ahead_s=7.0, wal_octets=None, free_octets=None)
    assert [finding.text for finding in doctor._database_findings(behind, "/l", soundness.SCHEMA)] == [
        "this machine's clock is 7 s behind the database's"
    ]
    well = behind._replace(clock_ahead_s=1.0)
    assert list(doctor._database_findings(well, "/l", soundness.SCHEMA)) == []


def test_the_state_directory(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = loaded.settings.state_directory
    directory.chmod(0o775)
    assert texts(check(loaded, "disk")) == [
        f"others may write to the state directory {directory} (mode 775); chmod go-w {directory}"
    ]
    directory.chmod(0o700)
    monkeypatch.setattr(os, "access", lambda path, _: path != directory)
    (line,) = texts(check(loaded, "disk"))
    assert line.startswith(f"the state directory {directory} cannot be written to by this user; run as user ")
    monkeypatch.undo()
    directory.rmdir()
    directory.write_text("")
    assert f"the state directory {directory} is not a folder; move it away" in texts(check(loaded, "disk"))


def test_a_disk_that_is_nearly_full(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_machine, "LITTLE_OCTETS", 1 << 80)
    monkeypatch.setattr(doctor_machine, "FEW_FILES", 1 << 80)
    few = texts(check(loaded, "disk"))
    assert few[0].startswith("only ")
    assert few[0].endswith(f" are free at {loaded.settings.state_directory}; free some space")
    assert all("room for only" in line for line in few[1:])


def test_archives_of_this_machine(loaded: Loaded, bench: Bench, tmp_path: Path) -> None:
    assert check(loaded, "disk").facts[-1].endswith("home is not there yet; the first run makes it")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "archive.json").write_text("{")
    (line,) = texts(check(loaded, "disk"))
    assert line.startswith("archive home: ")


SITES = """
database_url = "postgresql://syncd@127.0.0.1:1/syncd"
broker_url = "redis://127.0.0.1:1/0"
[archives.home]
path = "home"
site = "host-a"
[archives.away]
path = "away"
site = "host-b"
"""


def test_archives_of_other_sites_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "syncd.toml"
    file.write_text(SITES)
    cluster = load(file, environment={"SYNCD_HOME": str(tmp_path / "state")})
    found = Check("disk")
    doctor_machine.disk(found, cluster, ["host-a"], ledger=False)
    assert found.facts[-1] == "archives of other sites were not looked at: away (host-b)"
    assert f"archive home: {tmp_path / 'home'} is not there yet; the first run makes it" in found.facts
    (tmp_path / "away").mkdir()
    found = Check("disk")
    doctor_machine.disk(found, cluster, [], ledger=False)
    assert found.facts[-1] == "archives of other sites were not looked at: home (host-a)"
    assert any(fact.startswith("archive away: ") for fact in found.facts)


def test_a_service_that_does_not_run(loaded: Loaded, bench: Bench) -> None:
    assert check(loaded, "service").facts == ["no job was applied: nothing runs by a schedule; syncd serve does that"]
    define(bench)
    assert texts(check(loaded, "service")) == [
        "no scheduler leads: no job runs by its schedule; start syncd serve, or syncd scheduler",
        "no worker lives for the jobs that run anywhere; start syncd serve, or syncd worker",
    ]


def test_a_service_that_runs(loaded: Loaded, bench: Bench) -> None:
    define(bench)
    lives(bench, "worker", "")
    with LeaseSet.acquire(bench.database, [LEADER], "scheduling", renew_s=0):
        found = check(loaded, "service")
    assert found.findings == []
    assert ", 8 threads, sites: (any), heard of " in found.facts[0]


def test_a_site_without_a_worker(loaded: Loaded, bench: Bench) -> None:
    define(bench)
    define(bench, site="host-b")
    lives(bench, "worker", "", "host-a")
    with LeaseSet.acquire(bench.database, [LEADER], "scheduling", renew_s=0):
        assert texts(check(loaded, "service")) == [
            'no worker lives for the jobs of the site "host-b"; start syncd worker --site host-b on that machine'
        ]


def test_a_due_time_that_no_scheduler_saw(loaded: Loaded, bench: Bench) -> None:
    define(bench, due_in=timedelta(minutes=-5))
    assert any("was due 30" in line and "is not queued" in line for line in texts(check(loaded, "service")))


def test_workers_of_other_versions_and_workers_that_died(loaded: Loaded, bench: Bench) -> None:
    lives(bench, "worker", "", version="0.0.9")
    (line,) = texts(check(loaded, "service"))
    assert line.endswith(" is syncd 0.0.9, this is 0.1.0; install one version everywhere")
    with bench.database.write() as connection:
        connection.execute(update(workers_table).values(holder=str(dead(bench))))
    found = check(loaded, "service")
    assert texts(found) == []
    assert texts(found, wrong=False)[0].startswith("the worker with the process id 4194305 ended without saying so")


def test_what_the_dead_left_behind(loaded: Loaded, bench: Bench) -> None:
    job = define(bench, name="road")
    queue = Runs(bench.database)
    run = queue.enqueue(job, "schedule")
    assert run is not None
    queue.claim(run, dead(bench))
    with LeaseSet.acquire(bench.database, ["job:road"], "a test", renew_s=0):
        with bench.database.write() as connection:
            connection.execute(update(leases).values(holder=str(dead(bench))))
        found = texts(check(loaded, "service"), wrong=False)
        lives(bench, "worker", "")
        served = texts(check(loaded, "service"), wrong=False)
    assert found[0].startswith(f'run {run} of job "road" was left behind by process 4194305 on ')
    assert found[0].endswith("; the next run goes on with it")
    assert served[0].endswith("; a worker takes it over within a minute")
    assert found[1].startswith("the lease job:road is still with process 4194305 on ")


def test_jobs_that_need_somebody(loaded: Loaded, bench: Bench) -> None:
    assert check(loaded, "jobs").facts == ["no job is late, in trouble, or paused by the service"]
    refused, person = define(bench, name="road"), define(bench, name="office")
    troubles.note(bench.database, refused, "4 refused", "the password was refused")
    since = to_microseconds(clock.now())
    bench.change(jobs, refused, paused_since=since, paused_why=Paused.SIGN_IN)
    bench.change(jobs, person, paused_since=since, paused_why=Paused.PERSON)
    found = check(loaded, "jobs")
    assert [finding.text for finding in found.findings if finding.wrong] == [
        'job "road" is paused, as its sign-in was refused again and again. Correct it, then: syncd resume road',
        'job "road" ended with exit code 4 (the sign-in was refused): the password was refused',
    ]
    (line,) = texts(found, wrong=False)
    assert line.startswith('job "office" is paused by a person since ')
    assert line.endswith("; to go on: syncd resume office")


def test_many_jobs_are_cut(loaded: Loaded, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SHOWN", 1)
    for _ in range(3):
        define(bench, trouble="1 x")
    assert [finding.text for finding in check(loaded, "jobs").findings][1:] == ["2 more findings about jobs"]


def test_the_gravest_finding_decides() -> None:
    checks = [
        Check("a", findings=[Finding("a note", wrong=False)]),
        Check("b", findings=[Finding("the broker is away", code=ExitCode.TEMPORARY)]),
    ]
    assert verdict(checks) is ExitCode.TEMPORARY
    assert [it.is_well for it in checks] == [True, False]
    assert verdict([*checks, Check("c", findings=[Finding("damaged")])]) is ExitCode.FAILED
    assert verdict(checks[:1]) is ExitCode.DONE


@pytest.mark.parametrize(
    ("octets", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (10 << 20, "10 MiB"),
        (3 << 40, "3.0 TiB"),
        (9 << 50, "9216 TiB"),
    ],
)
def test_sizes_are_for_people(octets: int, shown: str) -> None:
    assert doctor_machine.size(octets) == shown


def test_the_command(
    loaded: Loaded, bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(["doctor"]) == 0
    printed = capsys.readouterr()
    assert printed.err == "all is well\n"
    assert "broker: none is needed" in printed.out
    define(bench, trouble="4 x", name="road")
    assert call(["doctor", "--quiet"]) == 1
    printed = capsys.readouterr()
    assert printed.err == ""
    assert [line.partition(": WRONG: ")[0] for line in printed.out.splitlines()] == ["service", "service", "jobs"]
    assert call(["doctor", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == 1
    assert [it["name"] for it in document["checks"] if not it["ok"]] == ["service", "jobs"]
    assert document["checks"][5]["findings"][0]["wrong"] is True
