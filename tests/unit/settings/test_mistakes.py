"""Every mistake of a file in one go, one line each: file, key, what is wrong, an accepted value."""

import json
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from syncd.errors import ConfigError
from syncd.settings.load import load
from syncd.settings.mistakes import key_text
from syncd.settings.schema import (
    Account,
    Archive,
    ArchiveFormat,
    Job,
    Limits,
    LineEnds,
    Mode,
    Notify,
    Protocol,
    Security,
    Service,
)


def lines(directory: Path, text: str | bytes) -> list[str]:
    file = directory / "syncd.toml"
    file.write_bytes(text if isinstance(text, bytes) else dedent(text).encode())
    with pytest.raises(ConfigError) as caught:
        load(file, environment={})
    assert str(caught.value) == "\n".join(caught.value.lines)
    return [line.removeprefix(str(file)) for line in caught.value.lines]


def test_all_mistakes_in_one_go(tmp_path: Path) -> None:
    """Wrong values do not hide each other, nor what is wrong between the values beside them."""
    found = lines(
        tmp_path,
        """
        timezon = "UTC"
        leave_on_server = true

        [account.x]
        host = "h"

        [accounts.road]
        protocol = "pop"
        host = "pop.example.net:995"
        port = "x"
        password = "hunter2"

        [accounts.second]
        protocol = "pop3"
        security = "none"
        conections = 1

        [archives.home]
        path = "home"
        format = "pack"
        line_ends = "verbatim"

        [archives.Other]
        path = "./home"

        [jobs.backup]
        source = "road"
        destinations = ["hom", { to = "home", recipent = "me" }]
        schedule = "61 * * * *"
        leave_on_server = "30 dayz"
        enabled = 3

        [limits]
        message_octets = "2 GiX"
        """,
    )
    password = '"env:PASSWORD" or "file:/run/secrets/mail" or "command:pass show mail" or "keyring:mail/me"'
    assert found == [
        ': limits.message_octets: "2 GiX" is not a size; for example "2 GiB"',
        ': accounts.road.protocol: "pop" is not known; accepted: "pop3", "imap", "smtp", "lmtp"',
        (
            ': accounts.road.host: "pop.example.net:995" must be the name or address of the server alone; '
            'the port has its own key; for example "pop.example.net"'
        ),
        ': accounts.road.port: "x" is not a whole number; for example 995',
        f": accounts.road.password: must say where the password is, not be the password; for example {password}",
        ': accounts.second.host: is missing; for example "pop.example.net"',
        ": accounts.second.conections: is not a setting; did you mean connections?",
        ': archives.home.format: "pack" is not known; accepted: "packs", "maildir", "mbox", "eml"',
        ': archives.Other: is not a name (small letters, digits, and . _ - inside); for example "road"',
        ": jobs.backup.destinations[1].recipent: is not a setting; did you mean recipient?",
        (
            ": jobs.backup.schedule: \"61 * * * *\" has '61' for the minute, which goes from 0 to 59; "
            'for example "every 15 minutes" or "at 02:00, 14:30" or "0 3 * * *"'
        ),
        ': jobs.backup.leave_on_server: "30 dayz" is not a duration; for example true or false or "30 days"',
        ": jobs.backup.enabled: 3 is neither true nor false; for example true",
        ": timezon: is not a setting; did you mean timezone?",
        ": leave_on_server: is not a setting; it belongs in [jobs.NAME]",
        ": account: is not a setting; did you mean accounts?",
        (
            ': accounts.second.security: "none" sends password and mail in clear; accepted: "tls", "starttls", '
            'or "none" with allow_insecure = true'
        ),
        ': accounts.second.username: is missing; for example "me@example.net"',
        ': accounts.second.password: is missing; for example "env:PASSWORD" or "file:/run/secrets/mail"',
        ': jobs.backup.destinations[0]: "hom" is not the name of an archive or account; did you mean "home"?',
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("accounts = 5", [": accounts: 5 is not a table"]),
        ("accounts.road = 5", [": accounts.road: 5 is not a table"]),
        ("limits = []", [": limits: is not a table"]),
        ("jobs.a = []\n", [": jobs.a: is not a table"]),
        ("state_directory = 5", [': state_directory: 5 is not text in quotes; for example "~/.local/state/syncd"']),
        ('state_directory = ""', [': state_directory: "" is not a path']),
        ('state_directory = "~nobody-here/x"', [': state_directory: "~nobody-here/x" is not a path']),
        ('state_directory = "a\\nb"', [": state_directory: "]),
        (
            'timezone = "Berlin"',
            [': timezone: "Berlin" is not a time zone of the IANA list; for example "Europe/Berlin"'],
        ),
        ("limits.memory = 1", [": limits.memory: is not a setting; accepted: message_octets"]),
        ('archives."a\\nb".path = "x"', [': archives."a\\nb": is not a name']),
        ('database_url = "mysql://u:hunter2@h/d"', [": database_url: is not the address of a database; for example "]),
    ],
)
def test_mistakes_of_kind(tmp_path: Path, text: str, expected: list[str]) -> None:
    found = lines(tmp_path, text)
    assert len(found) == len(expected), found
    assert all(line.startswith(start) for line, start in zip(found, expected, strict=True)), found
    assert "hunter2" not in "".join(found)
    assert not any("\n" in line for line in found)


@pytest.mark.parametrize("name", [r"DOMAIN\user", r"CORP\bob", r"CORP\Bob", r"X\tom", r"X\nina", r"X\U12", r"X\robin"])
def test_a_backslash_in_double_quotes_is_explained(tmp_path: Path, name: str) -> None:
    text = f'[accounts.a]\nprotocol = "pop3"\nhost = "h"\npassword = "env:P"\nusername = "{name}"'
    (found,) = lines(tmp_path, text)
    assert "single quotes keep it" in found
    assert r"'DOMAIN\user'" in found
    (tmp_path / "syncd.toml").write_text(text.replace(f'"{name}"', f"'{name}'"))
    assert load(tmp_path / "syncd.toml", environment={}).settings.accounts["a"].username == name


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("$HOME/mail", "has a variable ($…), which a configuration does not expand; write ~ for the home directory"),
        ("${HOME}/mail", "has a variable"),
        ("/srv/$USER", "has a variable"),
        ("~nobody-here/mail", "is not a path: it is empty, or ~ stands before a user that this machine does not know"),
        ("mail/~/home", "has ~ inside, which stands for the home directory only at the beginning"),
        ("file:///srv/mail", "is not a path but a URL"),
        ("", "is not a path: it is empty"),
    ],
)
def test_paths_that_mean_something_else(tmp_path: Path, path: str, reason: str) -> None:
    (found,) = lines(tmp_path, f'archives.a.path = "{path}"')
    assert found.startswith(f": archives.a.path: {json.dumps(path)} {reason}"), found
    assert found.endswith('; for example "~/mail/home"')
    assert reason in lines(tmp_path, f'state_directory = "{path}"')[0]
    if path:
        account = 'protocol = "pop3"\nhost = "h"\nusername = "me"'
        (found,) = lines(tmp_path, f'[accounts.a]\n{account}\npassword = "file:{path}"')
        assert found.startswith(f": accounts.a.password: {reason}")
        assert reason in lines(tmp_path, f'[accounts.a]\n{account}\npassword = "env:P"\nca_file = "{path}"')[0]


def test_a_wrong_proxy_is_not_repeated(tmp_path: Path) -> None:
    text = 'proxy = "http://u:hunter2@proxy"'
    (found,) = lines(tmp_path, f'[accounts.a]\nprotocol = "smtp"\nhost = "h"\n{text}')
    assert found.startswith(": accounts.a.proxy: is not the address of a proxy; accepted: socks5://")
    assert "hunter2" not in found


def test_paths_with_a_dollar_that_is_no_variable(tmp_path: Path) -> None:
    (tmp_path / "syncd.toml").write_text('archives.a.path = "a$1/b~c"')
    assert load(tmp_path / "syncd.toml", environment={}).settings.archives["a"].path == tmp_path / "a$1/b~c"


@pytest.mark.parametrize("path", ["/", "/..", "//"])
def test_the_root_is_no_folder_of_ours(tmp_path: Path, path: str) -> None:
    (found,) = lines(tmp_path, f'archives.a.path = "{path}"')
    assert "is the root of the file system" in found


@pytest.mark.parametrize("host", ["a..b", ".example.net", "pop." + "x" * 64, "pöp..example", "."])
def test_what_cannot_be_looked_up(tmp_path: Path, host: str) -> None:
    (found,) = lines(tmp_path, f'[accounts.a]\nprotocol = "smtp"\nhost = "{host}"')
    assert "cannot be the name of a host" in found


@pytest.mark.parametrize("host", ["pop.example.net.", "pöp.example", "192.0.2.1", "2001:db8::1", "my_host", "x" * 63])
def test_what_can_be_looked_up(tmp_path: Path, host: str) -> None:
    (tmp_path / "syncd.toml").write_text(f'[accounts.a]\nprotocol = "smtp"\nhost = "{host}"')
    assert load(tmp_path / "syncd.toml", environment={}).settings.accounts["a"].host == host


@pytest.mark.parametrize(
    ("url", "right"),
    [
        ("sqlite:////var/lib/syncd/x.sqlite", True),
        ("postgresql://db/syncd", True),
        ("postgresql+psycopg://me:pass@[::1]:5432/syncd?sslmode=require", True),
        ("postgresql:///syncd", True),
        ("sqlite://", False),
        ("sqlite+pysqlite:////x", False),
        ("postgresql://db", False),
        ("postgresql://db/", False),
        ("postgresql+asyncpg://db/syncd", False),
        ("postgresql://db:port/syncd", False),
        ("sqlite:///$HOME/ledger", False),
    ],
)
def test_the_address_of_the_ledger(tmp_path: Path, url: str, *, right: bool) -> None:
    (tmp_path / "syncd.toml").write_text(f'database_url = "{url}"')
    if right:
        assert load(tmp_path / "syncd.toml", environment={}).settings.database_url == url
    else:
        (found,) = lines(tmp_path, f'database_url = "{url}"')
        assert found.startswith(": database_url: ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 1\nb = ", ":2: is not valid TOML at its end: invalid value"),
        ("[accounts.road\n", ":1: is not valid TOML at column 15"),
        ("a = 1\n\na = 2", ":3: is not valid TOML at its end: cannot overwrite a value"),
        ("host = pop.example.net", ":1: is not valid TOML at column 8: invalid value"),
        (b'a = 1\nb = "\xff"', ":2: is not UTF-8 text; save the file as UTF-8"),
        ("a = " + "[" * 100_000, ": is not a configuration: brackets are nested too deeply"),
        ("port = " + "9" * 5000, ": is not valid TOML: exceeds the limit"),
    ],
    ids=range(7),
)
def test_files_that_are_no_toml_give_the_line(tmp_path: Path, text: str | bytes, expected: str) -> None:
    (found,) = lines(tmp_path, text)
    assert found.startswith(expected), found


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    file = tmp_path / "syncd.toml"
    file.write_bytes(b'\xef\xbb\xbftimezone = "UTC"\r\n')
    assert load(file, environment={}).settings.timezone == "UTC"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, environment={})
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "absent.toml", environment={})


def test_keys_are_written_as_toml_writes_them() -> None:
    assert key_text(("jobs", "a-b", "destinations", 0, "to")) == "jobs.a-b.destinations[0].to"
    assert key_text(("accounts", "old.mail", "host")) == 'accounts."old.mail".host'


LEAVES = st.one_of(
    st.booleans(),
    st.integers(-2, 70_000),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "env:P", "hunter2", "30 days", "every day", "home", "road", "a\nb", "h", "UTC"]),
    st.sampled_from([word.value for kind in (Protocol, Security, Mode, ArchiveFormat, LineEnds) for word in kind]),
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["to", "x", ""]), inner, max_size=2)
    ),
    max_leaves=5,
)
NAMES = st.sampled_from(["home", "road", "Bad name", "a.b"])


def tables(model: type[BaseModel]) -> st.SearchStrategy[object]:
    """Tables with some of a model's keys and whatever values, or no table at all."""
    keys = st.sampled_from([*model.model_fields, "unknown"])
    return st.one_of(st.dictionaries(keys, ANYTHING, min_size=1, max_size=8), ANYTHING)


FILES = st.fixed_dictionaries(
    {},
    optional={
        "accounts": st.dictionaries(NAMES, tables(Account), max_size=3),
        "archives": st.dictionaries(NAMES, tables(Archive), max_size=3),
        "jobs": st.dictionaries(NAMES, tables(Job), max_size=3),
        "limits": tables(Limits),
        "service": tables(Service),
        "notify": tables(Notify),
        "broker_url": ANYTHING,
        "timezone": ANYTHING,
        "database_url": ANYTHING,
        "job": ANYTHING,
    },
)


def toml(value: object) -> str:
    """A value in one line: as JSON, but for tables."""
    match value:
        case dict():
            return "{" + ", ".join(f"{json.dumps(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case _:
            return json.dumps(value)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILES)
def test_whatever_a_file_says_it_loads_or_gives_lines(tmp_path: Path, data: dict[str, object]) -> None:
    """Never another exception, never an empty or a broken line, never the password."""
    file = tmp_path / "syncd.toml"
    file.write_text("\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in data.items()))
    try:
        load(file, environment={})
    except ConfigError as error:
        found = error.lines
    else:
        found = (f"{file}: right",)
    assert found
    assert all(line.startswith(f"{file}: ") and "\n" not in line for line in found)
    secret = ("password: ", "broker_url: ", "webhook: ", "ping_url: ")
    assert not any(key in line and "hunter2" in line for line in found for key in secret)
