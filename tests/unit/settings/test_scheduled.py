"""Settings of the service that do not fit together: each case is a file, and the mistakes it must give."""

from pathlib import Path

import pytest

from syncd.errors import ConfigError
from syncd.settings.load import load
from syncd.settings.scheduled import is_here

START = """
[accounts.road]
protocol = "pop3"
host = "pop.example.net"
username = "me"
password = "env:P"

[accounts.near]
protocol = "pop3"
host = "127.0.0.1"
username = "me"
password = "env:P"

[accounts.new]
protocol = "smtp"
host = "smtp.example.org"
"""
ARCHIVES = """
[archives.home]
path = "home"
site = "host-a"

[archives.other]
path = "other"
site = "host-b"
"""
POSTGRES = 'database_url = "postgresql://db/syncd"\n'
BROKER = 'broker_url = "redis://me:hunter2@broker:6379/1"\n'


def mistakes(directory: Path, text: str) -> list[str]:
    file = directory / "syncd.toml"
    file.write_text(text)
    try:
        load(file, environment={})
    except ConfigError as error:
        return [line.removeprefix(f"{file}: ") for line in error.lines]
    return []


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        ('schedule = "at 02:00"\njitter = "10 minutes"\nquiet_hours = "22:00-06:00"\nlate_after = "6 hours"', []),
        ('late_after = "6 hours"', []),
        ('jitter = "1 minute"', ["jitter: has no meaning without a schedule; leave it out"]),
        ('quiet_hours = "22:00-06:00"', ["quiet_hours: has no meaning without a schedule; leave it out"]),
        ('schedule = "every minute"', []),
        (
            'schedule = "every 59 seconds"',
            [
                (
                    'schedule: "every 59 seconds" is more frequent than every minute, which is only for servers on '
                    'this machine, not for "pop.example.net"; accepted: "every minute", or a longer time'
                )
            ],
        ),
        ('source = "near"\nschedule = "every 5 seconds"', []),
        (
            'source = "near"\nschedule = "every 5 seconds"\ndestinations = [{ to = "new", recipient = "a@b.example" }]',
            ['schedule: "every 5 seconds" is more frequent than every minute, which is only for servers on this'],
        ),
        ('schedule = "at 2"', ["schedule: \"at 2\" has '2', which is not a time between 00:00 and 23:59; for example"]),
        ('schedule = "@daily"\njitter = "2 days"', ['jitter: "2 days" is longer than a day; for example "10 minutes"']),
        ('quiet_hours = "22-6"', ['quiet_hours: "22-6" is not a time of the day from HH:MM to HH:MM; for example']),
        ('quiet_hours = "6:00-06:00"', ['quiet_hours: "6:00-06:00" begins and ends at the same time; to switch a']),
    ],
)
def test_schedules(tmp_path: Path, job: str, expected: list[str]) -> None:
    lines = {"source": '"road"', "destinations": '["home"]'}
    lines |= dict(line.split(" = ", 1) for line in job.split("\n"))
    text = "\n".join(f"{key} = {value}" for key, value in lines.items())
    found = mistakes(tmp_path, f"{START}{ARCHIVES}[jobs.a]\n{text}")
    assert len(found) == len(expected), found
    assert all(line.startswith(f"jobs.a.{start}") for line, start in zip(found, expected, strict=True)), found


SITELESS = '[archives.home]\npath = "home"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (START + ARCHIVES + '[jobs.a]\nsource = "road"\ndestinations = ["home", "other"]', []),  # one process
        (POSTGRES + SITELESS, []),
        (POSTGRES + BROKER + START + ARCHIVES + '[jobs.a]\nsource = "road"\ndestinations = ["home"]', []),
        (BROKER, ["broker_url: needs a database that other machines can use, too; accepted: with"]),
        (POSTGRES + BROKER + SITELESS, ["archives.home.site: is missing: with a broker, each archive names the machi"]),
        (
            POSTGRES + BROKER + START + ARCHIVES + '[jobs.a]\nsource = "road"\ndestinations = ["home", "other"]',
            ['jobs.a.destinations[1]: "other" is at the site "host-b" and "home" at "host-a"; accepted: archi'],
        ),
        (
            POSTGRES + BROKER + ARCHIVES + '[jobs.a]\nsource = "home"\ndestinations = ["other"]',
            ['jobs.a.destinations[0]: "other" is at the site "host-b" and "home" at "host-a"; accepted: archi'],
        ),
        ('broker_url = "kafka://h"', ["broker_url: is not the address of a broker that syncd uses (redis, rediss"]),
        ('broker_url = "redis://u:hunter2@h:x"', ["broker_url: is not the address of a broker; in a password, writ"]),
        ('broker_url = "redis://u:a/hunter2@h"', ["broker_url: is not the address of a broker; in a password, writ"]),
        ('[notify]\nemail = { through = "road", to = "a@b.example" }\n' + START, ['notify.email.through: "road" is n']),
        ('[notify]\nemail = { through = "new", to = "me" }\n' + START, ["notify.email.to: "]),
        ('[notify]\nemail = { through = "new", to = "a@b.example" }\n' + START, []),
        ('[notify]\nemail = { thru = "new" }\n' + START, ["notify.email.through: is", "notify.email.to: is", "noti"]),
        ('[notify]\nwebhook = "hunter2"', ["notify.webhook: is not the address of a web page"]),
        ('[notify]\nping_url = "ftp://h/hunter2"', ["notify.ping_url: is not the address of a web page: it begins n"]),
        ('[service]\nlisten = "8425"', ['service.listen: "8425" is not an address and a port; for example "127.0.0.1']),
        ('[service]\nlisten = ""', []),
        ("[service]\nworkers = 0", ["service.workers: 0 is too small; for example 8"]),
        ('[service]\nlog = "syslog"', ['service.log: "syslog" is not known; accepted: "console", "json"']),
        ('[service]\nkeep_history = "ever"', ['service.keep_history: "ever" is not a duration; for example "90 days"']),
        ('[limits.hosts."pop.example.net"]\nconnections = 0', ['limits.hosts."pop.example.net".connections: 0 is too']),
        ('[limits.hosts."a b"]\nconnections = 1', ['limits.hosts."a b": "a b" is not the name or address of a server']),
        ("[limits.hosts.a]\n", ["limits.hosts.a.connections: is missing; for example 4"]),
        ("connections = 4", ["connections: is not a setting; it belongs in [accounts.NAME]"]),
        ("workers = 4", ["workers: is not a setting; it belongs in [service]"]),
    ],
)  # fmt: skip
def test_the_service(tmp_path: Path, text: str, expected: list[str]) -> None:
    found = mistakes(tmp_path, text)
    assert len(found) == len(expected), found
    assert all(line.startswith(start) for line, start in zip(found, expected, strict=True)), found
    assert "hunter2" not in str(found)


def test_the_site_of_a_job(tmp_path: Path) -> None:
    """With a broker it is that of the job's archives; in one process every job is at the same site."""
    jobs = '[jobs.a]\nsource = "road"\ndestinations = ["home"]\n[jobs.b]\nsource = "road"\n'
    jobs += 'destinations = [{ to = "new", recipient = "a@b.example" }]\n'
    jobs += '[jobs.c]\nsource = "other"\ndestinations = [{ to = "new", recipient = "a@b.example" }]'
    file = tmp_path / "syncd.toml"
    for top, sites in ((POSTGRES + BROKER, ["host-a", "", "host-b"]), (POSTGRES, ["", "", ""])):
        file.write_text(top + START + ARCHIVES + jobs)
        settings = load(file, environment={}).settings
        assert settings.is_cluster == bool(sites[0])
        assert [settings.site_of(job) for job in settings.jobs.values()] == sites


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "127.0.0.1", "127.9.9.9", "::1", "[::1]"])
def test_this_machine(host: str) -> None:
    assert is_here(host)


@pytest.mark.parametrize("host", ["pop.example.net", "192.0.2.1", "localhost.example.net", "0.0.0.0", ""])
def test_other_machines(host: str) -> None:
    assert not is_here(host)
