"""The judgement of a configuration besides its own settings, and that a run says the same."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

import pytest

from syncd.db.catalog import Catalog
from syncd.db.models import MAX_SLOT
from syncd.db.routing import DestinationSpec
from syncd.destinations.maildir import MaildirArchive
from syncd.destinations.packs import PacksArchive
from syncd.engine.exit_codes import ExitCode
from syncd.services.check_configuration import Findings, judge
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions
from syncd.services.wiring import open_ledger
from syncd.settings.load import Loaded, load

ACCOUNT = """
[accounts.road]
protocol = "pop3"
host = "127.0.0.1"
port = 1
security = "none"
allow_insecure = true
username = "me"
password = "env:P"
"""
HOME = '[archives.home]\npath = "home"\n'
JOB = '[jobs.a]\nsource = "road"\ndestinations = ["home"]\n'


def loaded(directory: Path, text: str, **environment: str) -> Loaded:
    file = directory / "syncd.toml"
    file.write_text(f'state_directory = "state"\n{text}')
    return load(file, environment={"P": "secret", "PATH": os.environ["PATH"], **environment})


def found(directory: Path, text: str, **environment: str) -> Findings:
    lines = judge(loaded(directory, text, **environment))
    start = f"{directory}/syncd.toml: "
    return Findings(
        [line.removeprefix(start) for line in lines.mistakes], [line.removeprefix(start) for line in lines.warnings]
    )


def refused(loaded: Loaded) -> str:
    """The words of a run that ends with an invalid configuration."""
    (report,) = RunsByHand(loaded, ["a"], RunOptions(), lambda _: None).execute()
    assert report.exit_code is ExitCode.CONFIG_INVALID
    return report.errors[0]


def test_nothing_is_wrong_and_nothing_is_made(tmp_path: Path) -> None:
    assert found(tmp_path, ACCOUNT + HOME + JOB) == Findings()
    assert [path.name for path in tmp_path.iterdir()] == ["syncd.toml"]


def test_no_enabled_job(tmp_path: Path) -> None:
    text = "jobs: there is no enabled job, so `syncd run` has nothing to do; add one under [jobs.NAME]"
    assert found(tmp_path, ACCOUNT + HOME).mistakes == [text]
    assert found(tmp_path, ACCOUNT + HOME + JOB + "enabled = false").mistakes == [text]


def test_ports_are_warnings(tmp_path: Path) -> None:
    lines = found(tmp_path, ACCOUNT.replace("port = 1\n", "port = 993\n") + HOME + JOB)
    assert lines.mistakes == []
    assert lines.warnings == ['accounts.road.port: 993 is the port of imap; pop3 with security = "none" uses 110']


@pytest.mark.parametrize("key", ["ca_file", "certificate"])
def test_files_for_tls(tmp_path: Path, key: str) -> None:
    text = ACCOUNT.replace('security = "none"\nallow_insecure = true', f'{key} = "x.pem"') + HOME + JOB
    (line,) = found(tmp_path, text).mistakes
    assert line == f"accounts.road: 127.0.0.1: {key} {tmp_path}/x.pem cannot be used: No such file or directory"
    (tmp_path / "x.pem").write_text("no certificate")
    (line,) = found(tmp_path, text).mistakes
    assert f"{key} {tmp_path}/x.pem cannot be used" in line


@pytest.mark.parametrize(
    ("password", "mistake"),
    [
        ("file:absent", "cannot read the password file {0}/absent: No such file or directory"),
        ("file:two", "the password file {0}/two has a second line; leave only the password in it"),
        ("file:open", "other users can write the password file {0}/open; run: chmod 600 {0}/open"),
        ("command:no-such-program x", "cannot run the password command no-such-program: there is no such program"),
        ("env:BAD", "the environment variable BAD has a carriage return (CR) inside"),
        ("env:EMPTY", "env:EMPTY gives an empty password; put the password there"),
    ],
)
def test_secrets_that_cannot_be_used(tmp_path: Path, password: str, mistake: str) -> None:
    for name, mode in (("two", 0o600), ("open", 0o666)):
        (tmp_path / name).write_text("one\ntwo\n")
        (tmp_path / name).chmod(mode)
    lines = found(tmp_path, ACCOUNT.replace("env:P", password) + HOME + JOB, BAD="x\r", EMPTY="")
    assert lines.warnings == []
    (line,) = lines.mistakes
    assert line.startswith(f"accounts.road.password: {mistake.format(tmp_path)}"), line


@pytest.mark.parametrize("password", ["env:LATER", "file:/run/secrets/absent-here", "file:/credentials/absent"])
def test_secrets_that_may_be_there_when_the_job_runs(tmp_path: Path, password: str) -> None:
    text = ACCOUNT.replace("env:P", password) + HOME + JOB
    lines = found(tmp_path, text, CREDENTIALS_DIRECTORY="/credentials")
    assert lines.mistakes == []
    assert lines.warnings[0].startswith("accounts.road.password: ")


def test_no_program_is_run_and_no_pipe_is_emptied(tmp_path: Path) -> None:
    assert found(tmp_path, ACCOUNT.replace("env:P", f"command:touch {tmp_path}/ran") + HOME + JOB) == Findings()
    assert not (tmp_path / "ran").exists()
    reading, writing = os.pipe()
    os.write(writing, b"s3cret")
    assert found(tmp_path, ACCOUNT.replace("env:P", f"file:/dev/fd/{reading}") + HOME + JOB) == Findings()
    assert os.read(reading, 10) == b"s3cret"
    os.close(reading)
    os.close(writing)


def test_the_folder_around_an_archive(tmp_path: Path) -> None:
    lines = found(tmp_path, ACCOUNT + HOME.replace('"home"', '"disk/home"') + JOB)
    assert lines.mistakes == []
    assert lines.warnings[0].startswith(f"archives.home.path: {tmp_path}/disk is not there; mount its disk if it has")


def test_archives_that_are_copies_of_each_other(tmp_path: Path) -> None:
    uuid = uuid4()
    for name in ("home", "copy"):
        PacksArchive(tmp_path / name, name).create(uuid)
    text = ACCOUNT + HOME + '[archives.copy]\npath = "copy"\n' + JOB.replace('"home"', '"home", "copy"')
    (line,) = found(tmp_path, text).mistakes
    assert line.startswith(f'jobs.a: archives "home" and "copy" are one and the same ({uuid})')
    assert 'archives "home" and "copy" are one and the same' in refused(loaded(tmp_path, text))


def test_a_maildir_with_other_options(tmp_path: Path) -> None:
    MaildirArchive(tmp_path / "home", "home", verbatim=True).create(uuid4())
    text = ACCOUNT + HOME + 'format = "maildir"\n' + JOB
    (line,) = found(tmp_path, text).mistakes
    assert 'has line_ends = "verbatim": set that, or make another one' in line
    assert line.removeprefix("jobs.a: ") == refused(loaded(tmp_path, text))


def test_a_job_that_has_had_all_the_destinations_it_can_have(tmp_path: Path) -> None:
    text = ACCOUNT + HOME + JOB
    config = loaded(tmp_path, text)
    with open_ledger(config) as database:
        catalog = Catalog(database)
        account = catalog.account("road", "pop3", "127.0.0.1:1", "me")
        other = catalog.account("new", "smtp", "smtp.example.org", "")
        specs = [DestinationSpec("account", other.id, f"r{number}@example.org") for number in range(MAX_SLOT + 1)]
        catalog.job("a", account.id, specs, removes=False)
    (line,) = found(tmp_path, text).mistakes
    assert line.startswith('jobs.a: job "a" has had 31 destinations, and more are not kept apart')
    assert line.removeprefix("jobs.a: ") == refused(config)


def test_what_would_stop_a_run_is_a_warning(tmp_path: Path) -> None:
    """It is for a person to decide, and no mistake in the file."""
    config = loaded(tmp_path, ACCOUNT + HOME + JOB)
    with open_ledger(config) as database:
        Catalog(database).archive("home", str(tmp_path / "home"), "packs", uuid4())
    lines = found(tmp_path, ACCOUNT + HOME + JOB)
    assert lines.mistakes == []
    assert lines.warnings[0].startswith('jobs.a: a run would stop: archive "home"')


def test_a_damaged_ledger_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/ledger.sqlite").write_bytes(b"no database" * 1000)
    lines = found(tmp_path, ACCOUNT + HOME + JOB)
    assert lines.mistakes == []
    assert lines.warnings[0].startswith("a run would fail: the ledger ")


def test_an_archive_that_another_job_is_to_fill(tmp_path: Path) -> None:
    more = '[archives.second]\npath = "second"\n[jobs.b]\nsource = "home"\ndestinations = ["second"]\n'
    assert found(tmp_path, ACCOUNT + HOME + more + JOB) == Findings()


def test_a_ledger_on_another_machine_is_not_asked(tmp_path: Path) -> None:
    text = 'database_url = "postgresql://no-such-host.invalid/syncd"\n' + ACCOUNT + HOME + JOB
    assert found(tmp_path, text) == Findings()


@pytest.mark.parametrize("broker", ["", 'broker_url = "redis://b"\ndatabase_url = "postgresql://db/syncd"\n'])
def test_a_folder_that_may_be_on_another_machine(tmp_path: Path, broker: str) -> None:
    archive = '[archives.home]\npath = "not/there"\nsite = "host-b"\n'
    lines = found(tmp_path, broker + ACCOUNT + archive + JOB)
    assert lines.mistakes == []
    assert ["is not there" in line for line in lines.warnings] == ([] if broker else [True])


@pytest.mark.parametrize(
    ("schedule", "more", "key"),
    [
        ("every 15 minutes", 'late_after = "1 hour"', ""),
        ("every 15 minutes", 'late_after = "15 minutes"', "late_after"),
        ("every 15 minutes", 'late_after = "1 hour"\nquiet_hours = "22:00-06:00"', ""),
        ("at 03:00", 'late_after = "6 hours"', "late_after"),
        ("at 03:00", 'late_after = "26 hours"', ""),
        ("at 08:00", 'late_after = "17 hours"\nquiet_hours = "22:00-06:00"', ""),  # 16 hours are not quiet
        ("0 3 * * mon-fri", 'late_after = "26 hours"', "late_after"),
        ("0 3 * * mon-fri", 'late_after = "73 hours"', ""),
        ("@monthly", 'late_after = "30 days"', "late_after"),
        ("@yearly", 'late_after = "364 days"', "late_after"),
        ("at 02:00, 05:59", 'quiet_hours = "22:00-06:00"', "quiet_hours"),
        ("at 02:00, 06:00", 'quiet_hours = "22:00-06:00"', ""),
    ],
)
def test_schedules_that_do_not_do_what_they_seem_to(tmp_path: Path, schedule: str, more: str, key: str) -> None:
    lines = found(tmp_path, f'{ACCOUNT}{HOME}{JOB}schedule = "{schedule}"\n{more}')
    assert lines.mistakes == []
    assert [line.partition(": ")[0] for line in lines.warnings] == ([f"jobs.a.{key}"] if key else [])
    assert all(f'"{schedule}"' in line for line in lines.warnings)


def test_limits_and_notifications_that_are_hardly_meant(tmp_path: Path) -> None:
    text = '[limits.hosts."127.0.0.1"]\nconnections = 1\n[limits.hosts."pop.exmaple.net"]\nconnections = 1\n'
    text += '[notify]\nwebhook = "http://localhost:1/secret"\nping_url = "http://hc.example.org/secret"\n'
    lines = found(tmp_path, text + ACCOUNT + HOME + JOB)
    assert lines == Findings(
        [],
        [
            'limits.hosts."pop.exmaple.net": limits no account: none has this host',
            "notify.ping_url: is called without TLS, so others on the way can read it; accepted: https://…",
        ],
    )
