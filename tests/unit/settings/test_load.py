import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from syncd.auth.credentials import read_secret
from syncd.errors import ConfigError
from syncd.settings.load import annotated_example, json_schema, load
from syncd.settings.schema import Service
from syncd.settings.urls import without_password

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


def failure(file: Path | None, environment: dict[str, str], **more: Any) -> list[str]:
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
        'SYNCD_LIMITS__MESSAGE_OCTETS: limits.message_octets: "much" is not a size; for example "2 GiB"',
        "SYNCD_LIMITS__MEMORY: limits.memory: is not a setting; accepted: message_octets, hosts",
        'SYNCD_ACCOUNTS__NEW__HOST: accounts.new.host: is missing; for example "pop.example.net"',
        'SYNCD_JOBS__ROAD_BACKUP__DESTINATIONS: jobs.road-backup.destinations: "home" is not a list; for example ["h',
        f'{there}SYNCD_JOBS__ROAD_BACKUP__MODE: jobs.road-backup.mode: "mvoe" is not known; accepted: "copy", "move"',
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
    assert failure(file, {}) == [f"{dotenv}: cannot be read: is not UTF-8 text; save the file as UTF-8"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("ROAD=s3cret #1", "ROAD is cut before \" #\"; put the password in single quotes: ROAD='…'"),
        ("ROAD=s3cret\t# comment", 'ROAD is cut before " #"'),
        ("ROAD= # s3cret", 'ROAD is cut before " #"'),
        ("export ROAD=s3cret  ", "ROAD loses the blanks at its end"),
        ('ROAD="s3\\cret\\n"', "ROAD has a backslash inside quotes, which begins an escape there"),
        ("ROAD='s3\\'cret'", "ROAD has a backslash inside quotes"),
        ("ROAD='s3\\\\cret' # it's", "ROAD has a backslash inside quotes"),
    ],
)
def test_a_password_that_dotenv_changes_is_named_with_its_line(file: Path, line: str, reason: str) -> None:
    dotenv = file.parent / ".env"
    dotenv.write_text(f"# secrets\n\n{line}\n")
    (found,) = failure(file, {})
    assert found.startswith(f"{dotenv}:3: {reason}"), found
    assert "s3cret" not in found
    load(file, environment={"ROAD": "given"})  # overrides it
    file.write_text(FILE.replace("env:ROAD", "env:OTHER"))
    load(file, environment={})  # it is not a password


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("ROAD=s3#cret", "s3#cret"),
        ("ROAD=#s3cret", "#s3cret"),
        ("ROAD = s3 cret", "s3 cret"),
        (r"ROAD=s3\ncret\"", r"s3\ncret\""),
        ("ROAD='s3cret #1 '  # it's mine", "s3cret #1 "),
        ('ROAD="s3\'cret"', "s3'cret"),
        (r"ROAD='s3\cret'", r"s3\cret"),
        ("ROAD=s3cret\r", "s3cret"),
        ("ROAD=first #1\nROAD=second", "second"),
    ],
)
def test_a_password_that_dotenv_leaves_as_it_is(file: Path, line: str, value: str) -> None:
    (file.parent / ".env").write_bytes(line.encode() + b"\n")
    assert load(file, environment={}).environment["ROAD"] == value


def test_dotenv_is_judged_as_a_file_with_a_secret_is(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    dotenv = file.parent / ".env"
    dotenv.write_text("ROAD=s3cret\n")
    dotenv.chmod(0o600)
    load(file, environment={})
    assert caplog.text == ""
    dotenv.chmod(0o644)
    load(file, environment={"ROAD": "x"})
    assert f"other users can read the file {dotenv}; run: chmod 600 {dotenv}" in caplog.text
    caplog.clear()
    dotenv.write_text("SYNCD_TIMEZONE=UTC\n")
    load(file, environment={})
    assert caplog.text == ""
    dotenv.chmod(0o660)
    assert "other users can write" in failure(file, {})[0]
    dotenv.unlink()
    os.mkfifo(dotenv, 0o600)
    load(file, environment={})  # does not wait for somebody who writes into it


def test_a_working_directory_that_is_gone(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert load(file, environment={}).settings.jobs
    (line,) = failure(None, {}, required=False)
    assert line.startswith("the working directory cannot be found (No such file or directory): change to another one")


def test_without_a_home_directory(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert load(file, environment={"SYNCD_HOME": "/state"}).settings.jobs
    file.write_text(FILE.replace('path = "mail', 'path = "~/mail'))
    found = failure(file, {})
    there = "needs a home directory, and this process has none; set HOME, or write the whole path; for example "
    assert found == [
        f'{file}: state_directory: {there}"~/.local/state/syncd" or "/var/lib/syncd"',
        f'{file}: archives.home.path: "~/mail/home" {there}"~/mail/home"',
    ]


def test_a_configuration_has_a_name(file: Path) -> None:
    assert load(file, environment={}).name == str(file)
    assert load(file, environment={"SYNCD_NAME": "mine"}).name == "mine"
    assert load(required=False, directory=file.parent / "nowhere", environment={}).name == ""


def test_secrets_belong_to_what_was_loaded(file: Path) -> None:
    loaded = load(file, environment={"ROAD": "s3cret"})
    reference = loaded.settings.accounts["road"].password
    assert reference is not None
    assert loaded.secrets.read(reference).reveal() == "s3cret"


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
    service = schema["$defs"]["Service"]["properties"]
    defaults = {key: value["default"] for key, value in service.items()}
    assert Service.model_validate(defaults) == Service()
    assert defaults["keep_history"] == "90 days"


def test_loading_imports_neither_sqlalchemy_nor_rich_nor_the_network(tmp_path: Path) -> None:
    """Most of the start of a command is imports: pydantic-settings' own 0.15 s are all that is spent here."""
    program = (
        "import sys; from syncd.settings.load import load; load(required=False, environment={}); "
        "print(*sorted({'sqlalchemy', 'rich', 'email_validator', 'keyring', 'http', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,  # not the checkout, where somebody may have a syncd.toml
        env={"HOME": "/", "PYTHONPATH": str(Path(__file__).parents[3]), **os.environ},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == ""


def test_the_annotated_example_is_the_one_of_the_project() -> None:
    assert annotated_example() == (Path(__file__).parents[3] / "config" / "syncd.toml").read_text()
