import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from syncd.auth.credentials import read_secret
from syncd.errors import ConfigError
from syncd.settings.load import annotated_example, json_schema, load, without_password

FILE = """
timezone = "Europe/Berlin"

[accounts.road]
protocol = "pop3"
host = "pop.example.net"
username = "me"
password = "env:ROAD"

[archives.home]
path = "mail/home"

[jobs.road-backup]
source = "road"
destinations = ["home"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "syncd.toml"
    path.write_text(FILE)
    return path


def failure(file: Path | None, environment: dict[str, str], **more: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(file, environment=environment, **more)
    return list(caught.value.lines)


def test_environment_over_dotenv_over_file_over_defaults(file: Path) -> None:
    (file.parent / ".env").write_text("SYNCD_TIMEZONE=Asia/Tokyo\nSYNCD_LIMITS__MESSAGE_OCTETS='1 MiB'\n")
    loaded = load(file, environment={"SYNCD_TIMEZONE": "America/Lima"})
    assert loaded.settings.timezone == "America/Lima"
    assert loaded.settings.limits.message_octets == 1 << 20
    assert loaded.settings.accounts["road"].host == "pop.example.net"
    assert loaded.settings.accounts["road"].port == 995
    assert loaded.origin(("timezone",)) == "SYNCD_TIMEZONE"
    assert loaded.origin(("limits", "message_octets")) == f"{file.parent}/.env: SYNCD_LIMITS__MESSAGE_OCTETS"
    assert loaded.origin(("accounts", "road", "host")) == str(file)
    assert loaded.origin(("accounts", "road", "port")) == "default"
    assert load(file, environment={}).settings.timezone == "Asia/Tokyo"


def test_single_keys_of_an_entry_come_from_the_environment(file: Path) -> None:
    loaded = load(
        file,
        environment={
            "SYNCD_ACCOUNTS__ROAD__HOST": "pop.example.org",
            "SYNCD_JOBS__ROAD_BACKUP__LEAVE_ON_SERVER": "30 days",
            "SYNCD_JOBS__ROAD_BACKUP__ENABLED": "false",
            "syncd_archives__home__format": "maildir",
            "SYNCD_ARCHIVES__HOME__LINE_ENDS": "",
        },
    )
    job = loaded.settings.jobs["road-backup"]
    assert (job.enabled, job.removes, job.kept_for.days, job.source) == (False, True, 30, "road")
    assert loaded.settings.accounts["road"].host == "pop.example.org"
    assert loaded.settings.archives["home"].format == "maildir"
    assert loaded.origin(("jobs", "road-backup", "enabled")) == "SYNCD_JOBS__ROAD_BACKUP__ENABLED"
    assert loaded.origin(("archives", "home", "format")) == "syncd_archives__home__format"
    assert loaded.origin(("archives", "home", "line_ends")) == "default"


def test_everything_from_the_environment(tmp_path: Path) -> None:
    loaded = load(
        directory=tmp_path,
        required=False,
        environment={
            "SYNCD_ACCOUNTS": '{"road": {"protocol": "pop3", "host": "h", "username": "me"}}',
            "SYNCD_ACCOUNTS__ROAD__PASSWORD": "env:P",
            "SYNCD_ARCHIVES__HOME__PATH": "home",
            "SYNCD_JOBS__A__SOURCE": "road",
            "SYNCD_JOBS__A__DESTINATIONS": '["home"]',
        },
    )
    assert loaded.file is None
    assert loaded.settings.archives["home"].path == tmp_path / "home"
    assert loaded.settings.jobs["a"].destinations[0].to == "home"
    assert loaded.origin(("accounts", "road", "host")) == "SYNCD_ACCOUNTS"


def test_mistakes_in_variables_name_the_variable(file: Path) -> None:
    (file.parent / ".env").write_text("SYNCD_TIMEZON=UTC\nSYNCD_JOBS__ROAD_BACKUP__MODE=mvoe\n")
    environment = {
        "SYNCD_LIMITS__MESSAGE_OCTETS": "much",
        "SYNCD_LIMITS__MEMORY": "1",
        "SYNCD_JOBS__ROAD_BACKUP__DESTINATIONS": "home",
        "SYNCD_LIMIT__MESSAGE_OCTETS": "1 MiB",
        "SYNCD_ACCOUNTS__NEW__PROTOCOL": "pop3",
    }
    there = f"{file.parent}/.env: "
    expected = [
        "SYNCD_LIMIT__MESSAGE_OCTETS: is not a setting; did you mean SYNCD_LIMITS?",
        f"{there}SYNCD_TIMEZON: is not a setting; did you mean SYNCD_TIMEZONE?",
        'SYNCD_ACCOUNTS__NEW__HOST: accounts.new.host: is missing; for example "pop.example.net"',
        'SYNCD_JOBS__ROAD_BACKUP__DESTINATIONS: jobs.road-backup.destinations: "home" is not a list; for example ["h',
        f'{there}SYNCD_JOBS__ROAD_BACKUP__MODE: jobs.road-backup.mode: "mvoe" is not known; accepted: "copy", "move"',
        'SYNCD_LIMITS__MESSAGE_OCTETS: limits.message_octets: "much" is not a size; for example "2 GiB"',
        "SYNCD_LIMITS__MEMORY: limits.memory: is not a setting; accepted: message_octets",
        'SYNCD_ACCOUNTS__NEW__USERNAME: accounts.new.username: is missing; for example "me@example.net"',
        'SYNCD_ACCOUNTS__NEW__PASSWORD: accounts.new.password: is missing; for example "env:PASSWORD"',
    ]
    found = failure(file, environment)
    assert len(found) == len(expected), found
    assert all(line.startswith(start) for line, start in zip(found, expected, strict=True)), found


def test_other_peoples_variables_are_left_alone(file: Path) -> None:
    load(file, environment={"SYNCD_CONFIG": "x", "SYNCD_CORPUS": "y", "SYNCD_BUILD_NUMBER": "7", "SYNC": "1"})


def test_dotenv_is_taken_as_written_and_its_bad_lines_are_named(file: Path) -> None:
    dotenv = file.parent / ".env"
    dotenv.write_text("# secrets\nexport ROAD='pa$$w${HOME} rd'\nEMPTY\n\nX=1\n")
    loaded = load(file, environment={"X": "2"})
    assert loaded.environment["ROAD"] == "pa$$w${HOME} rd"
    assert loaded.environment["X"] == "2"
    reference = loaded.settings.accounts["road"].password
    assert reference is not None
    assert read_secret(reference, loaded.environment).reveal() == "pa$$w${HOME} rd"
    assert "pa$$w" not in repr(loaded)
    dotenv.write_text("A=1\n'B=2\nnot an assignment at all\n")
    assert failure(file, {})[0] == f"{dotenv}:2: is not an assignment; for example NAME=value"
    dotenv.write_bytes(b"A=\xff")
    assert failure(file, {}) == [f"{dotenv}: cannot be read: is not UTF-8 text"]


def test_a_file_that_is_no_toml_hides_only_what_it_lacks(file: Path) -> None:
    file.write_text("= 1")
    found = failure(file, {"SYNCD_TIMEZON": "UTC", "SYNCD_JOBS__A__SOURCE": "road"})
    assert [line.split(":")[0] for line in found] == ["SYNCD_TIMEZON", str(file)]


def test_paths_start_at_the_folder_of_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir("/")
    file.write_text(
        FILE.replace("env:ROAD", "file:secrets/road").replace('host = "p', 'ca_file = "~/ca.pem"\nhost = "p')
        + '[archives.absolute]\npath = "/srv/mail/"\n[archives.tilde]\npath = "~/mail/../post"\n'
    )
    settings = load(file, environment={"SYNCD_DATABASE_URL": "sqlite:///ledger"}).settings
    assert settings.database_url == f"sqlite:///{file.parent}/ledger"
    assert settings.archives["home"].path == file.parent / "mail/home"
    assert settings.archives["absolute"].path == Path("/srv/mail")
    assert settings.archives["tilde"].path == Path("/home/me/post")
    assert settings.accounts["road"].ca_file == Path("/home/me/ca.pem")
    assert str(settings.accounts["road"].password) == f"file:{file.parent}/secrets/road"


@pytest.mark.parametrize(
    ("environment", "expected", "origin"),
    [
        ({"SYNCD_HOME": "/state"}, "/state", "SYNCD_HOME"),
        ({"SYNCD_STATE_DIRECTORY": "/a", "SYNCD_HOME": "/b"}, "/a", "SYNCD_STATE_DIRECTORY"),
        ({}, "/xdg/syncd", "default"),
    ],
)
def test_the_state_directory(
    file: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str, origin: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/xdg")
    loaded = load(file, environment=environment)
    assert loaded.settings.state_directory == Path(expected)
    assert loaded.settings.database_url == f"sqlite:///{expected}/ledger.sqlite"
    assert loaded.origin(("state_directory",)) == origin


def test_the_file_that_is_used_when_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (line,) = failure(None, {})
    assert line == f"no configuration: neither syncd.toml nor {tmp_path}/xdg/syncd/syncd.toml exists; run: syncd init"
    assert load(environment={}, required=False).settings.accounts == {}
    (tmp_path / "xdg/syncd").mkdir(parents=True)
    (tmp_path / "xdg/syncd/syncd.toml").write_text(FILE)
    assert load(environment={}).file == tmp_path / "xdg/syncd/syncd.toml"
    (tmp_path / "here/syncd.toml").write_text(FILE)
    assert load(environment={}).file == Path("syncd.toml")


def test_rows_show_every_setting_and_no_secret(file: Path) -> None:
    database = "postgresql://syncd:hunter2@db.example/syncd"
    loaded = load(file, environment={"SYNCD_DATABASE_URL": database, "ROAD": "s3cret"})
    assert loaded.settings.database_url == database
    rows = {row.key: (row.value, row.origin) for row in loaded.rows()}
    assert rows["database_url"] == ("postgresql://syncd:…@db.example/syncd", "SYNCD_DATABASE_URL")
    assert rows["accounts.road.password"] == ("env:ROAD", str(file))
    assert rows["accounts.road.security"] == ("tls", "default")
    assert rows["jobs.road-backup.mode"] == ("copy", "default")
    assert rows["jobs.road-backup.destinations"] == (["home"], str(file))
    assert rows["limits.message_octets"] == ("2 GiB", "default")
    shown = json.dumps([row._asdict() for row in loaded.rows()])
    assert "hunter2" not in shown
    assert "s3cret" not in shown


def test_only_the_password_of_an_address_is_blanked() -> None:
    assert without_password("postgresql://db/db?password=x") == "postgresql://db/db?password=…"
    assert without_password("postgresql://u:p@/x@h:5432/d") == "postgresql://u:…@h:5432/d"
    assert without_password("sqlite:////a/b:c@d.sqlite") == "sqlite:////a/b:c@d.sqlite"


def test_the_schema_describes_what_is_accepted() -> None:
    schema = json_schema()
    json.dumps(schema)
    assert set(schema["properties"]) >= {"accounts", "archives", "jobs", "limits", "timezone", "database_url"}
    assert schema["additionalProperties"] is False
    job = schema["$defs"]["Job"]
    assert job["required"] == ["source", "destinations"]
    assert [kind["type"] for kind in job["properties"]["leave_on_server"]["anyOf"]] == ["boolean", "string"]
    assert schema["$defs"]["JobDestination"]["anyOf"][0]["type"] == "string"
    assert schema["$defs"]["Account"]["required"] == ["protocol", "host"]


def test_loading_imports_neither_sqlalchemy_nor_rich_nor_the_network() -> None:
    """Most of the start of a command is imports: pydantic-settings' own 0.15 s are all that is spent here."""
    program = (
        "import sys; from syncd.settings.load import load; load(required=False, environment={}); "
        "print(*sorted({'sqlalchemy', 'rich', 'email_validator', 'keyring', 'http', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"HOME": "/", **os.environ}
    )
    assert done.stdout.strip() == ""


def test_the_annotated_example_is_the_one_of_the_project() -> None:
    assert annotated_example() == (Path(__file__).parents[3] / "config" / "syncd.toml").read_text()
