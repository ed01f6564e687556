"""The settings of the service: addresses that hide their secrets, and a file read without its jobs."""

from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from syncd.errors import ConfigError
from syncd.settings.layers import service_part
from syncd.settings.load import load, load_service
from syncd.settings.schema import Limits, LogFormat, Service, Settings
from syncd.settings.urls import parse_broker, parse_hook

FILE = """
name = "home"
database_url = "postgresql://syncd:hunter2@db/syncd"
broker_url = "amqps://syncd:hunter2@broker/mail"

[accounts.road]
protocol = "no such protocol"
hosts = [
["service"],
["limits"]
]

[service]
workers = 3

[archives]
home = 5

[limits.hosts."pop.example.net"]
connections = 4

[jobs."a"]
source = this is not TOML
[[jobs.more]]
[ jobs . c ]
["like a table"]

[notify]
ping_url = "https://user:pw@hc.example.org:8443/hunter2"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "syncd.toml"
    file.write_text(FILE)
    return file


def test_by_default_one_process_does_everything() -> None:
    settings = Settings()
    assert str(settings.broker_url) == settings.broker_url.reveal() == "memory://"
    assert not settings.is_cluster
    service = settings.service
    assert (service.address, service.workers, service.log) == (("127.0.0.1", 8425), 8, LogFormat.CONSOLE)
    assert service.keep_history == timedelta(days=90)
    assert Service(listen="").address is None
    assert Service(listen="[::1]:0").address == ("::1", 0)
    assert (settings.notify.email, settings.notify.webhook, settings.notify.ping_url) == (None, None, None)


@pytest.mark.parametrize("listen", ["8425", ":8425", "localhost", "localhost:65536", "::1:80", "h:-1", "a b:1"])
def test_where_nothing_can_listen(listen: str) -> None:
    with pytest.raises(ValidationError):
        Service(listen=listen)


def test_the_limit_of_a_host_has_any_spelling() -> None:
    limits = Limits.model_validate({"hosts": {"POP.example.net": {"connections": 4}}})
    assert (limits.connections_to("pop.EXAMPLE.net."), limits.connections_to("example.net")) == (4, None)


@pytest.mark.parametrize(
    ("url", "shown", "scheme"),
    [
        ("redis://localhost", "redis://localhost", "redis"),
        ("redis://:hunter2@[::1]:6379/0", "redis://:…@[::1]:6379/0", "redis"),
        ("rediss://me:hunter2@broker:6380/0?ssl_cert_reqs=required", "rediss://me:…@broker:6380/0?ssl_cert", "rediss"),
        ("redis://broker/0?password=hunter2&db=1", "redis://broker/0?password=…&db=1", "redis"),
        ("amqp://me:hunter2@broker:5672//", "amqp://me:…@broker:5672//", "amqp"),
        ("amqps://me:hun%40ter2@broker/mail", "amqps://me:…@broker/mail", "amqps"),
    ],
)
def test_the_password_of_a_broker_is_never_shown(url: str, shown: str, scheme: str) -> None:
    broker = parse_broker(url)
    assert broker.reveal() == url
    assert str(broker).startswith(shown)
    assert broker.scheme == scheme
    assert "hunter2" not in f"{broker} {broker!r}"
    assert broker == parse_broker(url) != parse_broker(url + "x")
    assert len({broker, parse_broker(url)}) == 1


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hc-ping.example/hunter2", "https://hc-ping.example/…"),
        ("http://me:hunter2@[::1]:8080/x?key=hunter2", "http://[::1]:8080/…"),
        ("https://example.org?hunter2", "https://example.org/…"),
        ("https://example.org/", "https://example.org/"),
    ],
)
def test_only_the_host_of_a_web_hook_is_shown(url: str, shown: str) -> None:
    hook = parse_hook(url)
    assert (str(hook), hook.reveal()) == (shown, url)
    assert "hunter2" not in repr(hook)


def test_a_worker_reads_neither_accounts_nor_archives_nor_jobs(file: Path) -> None:
    with pytest.raises(ConfigError):
        load(file, environment={})
    loaded = load_service(file, environment={"SYNCD_SERVICE__LOG": "json", "SYNCD_JOBS__A__MODE": "x"})
    assert (loaded.name, loaded.file) == ("home", file)
    settings = loaded.settings
    assert settings.database_url == "postgresql://syncd:hunter2@db/syncd"
    assert settings.broker_url.reveal() == "amqps://syncd:hunter2@broker/mail"
    assert (settings.service.workers, settings.service.log) == (3, LogFormat.JSON)
    assert settings.limits.connections_to("pop.example.net") == 4
    assert settings.is_cluster
    assert loaded.origin(("service", "workers")) == str(file)
    assert loaded.origin(("service", "log")) == "SYNCD_SERVICE__LOG"
    assert "hunter2" not in f"{[*loaded.rows()]}"


def test_secrets_of_a_worker_may_stand_beside_its_file(file: Path) -> None:
    (file.parent / ".env").write_text("P='x'\n")
    (file.parent / ".env").chmod(0o600)
    assert load_service(file, environment={"Q": "y"}).environment == {"P": "x", "Q": "y"}


@pytest.mark.parametrize("name", ["SYNCD_BROKER_URL", "SYNCD_NOTIFY__WEBHOOK"])
def test_an_address_beside_the_file_is_a_secret(file: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    scheme = "https" if "HOOK" in name else "amqps"
    (file.parent / ".env").write_text(f"{name}={scheme}://syncd:hunter2@broker/mail  # a comment\n")
    for mode, count in ((0o600, 0), (0o644, 1)):
        (file.parent / ".env").chmod(mode)
        caplog.clear()
        load_service(file, environment={})
        assert len(caplog.messages) == count
    assert "hunter2" not in caplog.text


def test_a_line_beside_the_file_that_is_no_assignment(file: Path) -> None:
    (file.parent / ".env").write_text("SYNCD_BROKER_URL\nx y\n")
    (file.parent / ".env").chmod(0o600)
    with pytest.raises(ConfigError, match="is not an assignment"):
        load_service(file, environment={})


def test_a_table_in_a_variable_is_json(tmp_path: Path) -> None:
    loaded = load_service(directory=tmp_path, environment={
        "SYNCD_NOTIFY__EMAIL": '{"through": "new", "to": "me@example.org"}',
        "SYNCD_LIMITS__HOSTS": '{"pop.example.net": {"connections": 4}}',
    })  # fmt: skip
    assert loaded.settings.notify.email is not None
    assert loaded.settings.notify.email.to == ("me@example.org",)
    assert loaded.settings.limits.connections_to("pop.example.net") == 4


def test_a_worker_needs_no_file(tmp_path: Path) -> None:
    loaded = load_service(environment={"SYNCD_BROKER_URL": "redis://b", "SYNCD_DATABASE_URL": "postgresql://db/syncd"},
                          directory=tmp_path)  # fmt: skip
    assert (loaded.file, loaded.name, loaded.settings.is_cluster) == (None, "", True)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[jobs.a]\nx = \n[service]\nworkers = "x"', 'service.workers: "x" is not a whole number; for example 8'),
        ("[jobs.a]\nx = \n[service]\nworkers = ", ":4: is not valid TOML at its end: invalid value; a setting is"),
        ('broker_url = "redis://:hunter2@b"', "broker_url: needs a database that other machines can use, too; acce"),
        ("databse_url = 5", "databse_url: is not a setting; did you mean database_url?"),
        ("[srvice]\nx = 1", "srvice: is not a setting; did you mean service?"),
    ],
)
def test_mistakes_that_a_worker_sees(tmp_path: Path, text: str, line: str) -> None:
    file = tmp_path / "syncd.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_service(file, environment={})
    (found,) = raised.value.lines
    assert found.removeprefix(str(file)).removeprefix(": ").startswith(line), found
    assert "hunter2" not in found


def test_of_very_many_jobs_a_worker_parses_nothing() -> None:
    """Empty lines stand for them only where a mistake further down needs the right number."""
    text = 'name = "x"\n{}[service]\n'
    jobs = 1000 * '[jobs.j]\nsource = "road"\n'
    assert service_part(text.format(jobs)) == text.format("")
    assert service_part(text.format(jobs), blank=True) == text.format("\n" * 2000)
