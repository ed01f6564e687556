"""The configurations that the project ships: they load, and the annotated one shows every setting and its default."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from syncd.services.check_schedules import odd_schedules
from syncd.settings.delivery import JobDestination
from syncd.settings.load import load, load_service
from syncd.settings.mistakes import ENTRIES, SECTIONS
from syncd.settings.schema import Settings

CONFIG = Path(__file__).parents[3] / "config"
NOTHING = "none"  # how the annotated file writes a setting that is not set unless someone sets it


def uncommented() -> str:
    """The annotated file with every # before a setting taken away."""
    text = re.sub(r"^#(\w+ = )", r"\1", (CONFIG / "syncd.toml").read_text(), flags=re.MULTILINE)
    return re.sub(rf"^(\w+ = ){NOTHING}\b", rf'\1"{NOTHING}"', text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", sorted(file.relative_to(CONFIG).as_posix() for file in CONFIG.rglob("*.toml")))
def test_it_loads(name: str) -> None:
    settings = load(CONFIG / name, environment={}).settings
    assert settings.jobs
    assert all(not job.removes or job.confirm_removal for job in settings.jobs.values())


def test_five_accounts_go_into_one_archive() -> None:
    settings = load(CONFIG / "examples/consolidate.toml", environment={}).settings
    assert len(settings.accounts) == len(settings.jobs) == 5
    assert {d.to for job in settings.jobs.values() for d in job.destinations} == set(settings.archives)
    assert {job.source for job in settings.jobs.values()} == set(settings.accounts)


def test_the_road_backup_leaves_everything_on_the_server() -> None:
    (job,) = load(CONFIG / "examples/road-mail.toml", environment={}).settings.jobs.values()
    assert job.leave_on_server is True


def test_the_cluster_has_a_site_for_each_job_with_an_archive() -> None:
    loaded = load(CONFIG / "examples/cluster.toml", environment={})
    settings = loaded.settings
    assert settings.is_cluster
    sites = {name: settings.site_of(job) for name, job in settings.jobs.items()}
    assert sites == {"sales": "host-a", "support": "host-b", "support-forward": "host-b"}
    assert loaded.name == "mail"
    assert load_service(CONFIG / "examples/cluster.toml", environment={}).settings.service == settings.service


@pytest.mark.parametrize("name", sorted(file.relative_to(CONFIG).as_posix() for file in CONFIG.rglob("*.toml")))
def test_its_schedules_do_what_they_seem_to(name: str) -> None:
    assert list(odd_schedules(load(CONFIG / name, environment={}).settings)) == []


def test_every_example_is_in_the_documentation() -> None:
    text = (CONFIG.parent / "docs/configuration.md").read_text()
    assert set(re.findall(r"^\| `([a-z-]+\.toml)` \|", text, re.MULTILINE)) == {
        file.name for file in (CONFIG / "examples").glob("*.toml")
    }


def test_every_setting_appears_in_the_annotated_file() -> None:
    data = tomllib.loads(uncommented())
    assert set(data) == set(Settings.model_fields)
    for section, model in SECTIONS.items():
        assert set(data[section]) == set(model.model_fields), section
    for entries, model in ENTRIES.items():
        (entry,) = data[entries].values()
        assert set(entry) == set(model.model_fields), entries


def test_the_annotated_file_names_every_option_of_a_destination() -> None:
    text = (CONFIG / "syncd.toml").read_text()
    named = dict(re.findall(r"^#   (\w+) += (\S+) +# \S", text, re.MULTILINE))
    assert set(named) == set(JobDestination.model_fields) - {"to"}
    data = {
        "to": "new",
        **{key: tomllib.loads(f"x = {value}")["x"] for key, value in named.items() if value != NOTHING},
    }
    assert set(JobDestination.model_validate(data).options) == {key for key, value in named.items() if value != NOTHING}


def test_the_pop_fetchers_replacement_fetches_first_and_forwards_from_the_archive() -> None:
    settings = load(CONFIG / "examples/forward.toml", environment={}).settings
    fetch, forward = settings.jobs.values()
    assert forward.source in {to.to for to in fetch.destinations} & set(settings.archives)
    assert [(to.recipient, to.sender) for to in forward.destinations] == [(("me@example.org",), "account")]
    assert fetch.leave_on_server is True


def test_every_line_of_the_annotated_file_has_a_comment() -> None:
    settings = re.findall(r"^#?\w+ = .*$", (CONFIG / "syncd.toml").read_text(), re.MULTILINE)
    assert len(settings) > 25
    assert [line for line in settings if not re.search(r"  # \S", line)] == []


def test_what_is_commented_out_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taking every # away changes nothing."""
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    file = tmp_path / "syncd.toml"
    file.write_text(re.sub(rf'^\w+ = "{NOTHING}".*$', "", uncommented(), flags=re.MULTILINE))
    assert load(file, environment={}).settings == load(CONFIG / "syncd.toml", environment={}).settings


def test_what_is_not_set_by_default_says_so() -> None:
    for entries, model in ENTRIES.items():
        ((_, entry),) = tomllib.loads(uncommented())[entries].items()
        unset = {
            name
            for name, field in model.model_fields.items()
            if not field.is_required() and field.get_default() is None
        }
        unset -= {"port", "mode"}  # follow from others
        assert {key for key, value in entry.items() if value == NOTHING} == unset - {"username", "password"}


def migration(tmp_path: Path, listed: bytes | None, *options: str) -> subprocess.CompletedProcess[str]:
    """Make tmp_path/move from a list of users."""
    if listed is not None:
        (tmp_path / "users.csv").write_bytes(listed)
    hosts = [] if "imap.old.example" in " ".join(options) else ["imap.old.example", "imap.new.example"]
    command = [sys.executable, str(CONFIG / "examples/migration.py"), *hosts, *options, "users.csv", "move"]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)


def passwords(tmp_path: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in (tmp_path / "move/secrets").iterdir()}


def test_a_list_of_users_becomes_a_configuration(tmp_path: Path) -> None:
    listed = ["# user;password;…", "anna;pa\"ss;anna@new.example;'x #1", "", "Änna;a;b;c", "ANNA;d;e;f", ""]
    assert migration(tmp_path, "\n".join(listed).encode()).returncode == 0
    loaded = load(tmp_path / "move" / "syncd.toml", environment={})
    assert sorted(loaded.settings.jobs) == ["anna", "anna-2", "nna"]
    account = loaded.settings.accounts["nna-old"]
    assert (account.username, account.host, account.port, account.security) == ("Änna", "imap.old.example", 993, "tls")
    found = passwords(tmp_path)
    assert (found["anna-old"], found["anna-new"], len(found)) == ('pa"ss\n', "'x #1\n", 6)


def test_a_list_of_users_has_quotes_as_spreadsheets_write_them(tmp_path: Path) -> None:
    assert migration(tmp_path, b'"q";"p w;x";"r";"""s"""\r\n').returncode == 0
    assert load(tmp_path / "move/syncd.toml", environment={}).settings.accounts["q-new"].username == "r"
    assert passwords(tmp_path) == {"q-old": "p w;x\n", "q-new": '"s"\n'}


def test_a_list_of_users_for_servers_with_ports_and_certificates_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    options = ("imap.old.example:1143", "[2001:db8::1]", "--old-security", "starttls", "--new-ca-file", "ca.pem")
    assert migration(tmp_path, b"anna;a;b;c\n", *options).returncode == 0
    accounts = load(tmp_path / "move/syncd.toml", environment={}).settings.accounts
    old, new = accounts["anna-old"], accounts["anna-new"]
    assert (old.host, old.port, old.security, old.ca_file) == ("imap.old.example", 1143, "starttls", None)
    assert (new.host, new.port, new.ca_file) == ("2001:db8::1", 993, (tmp_path / "ca.pem").resolve())


def test_a_list_of_users_for_a_server_without_encryption(tmp_path: Path) -> None:
    assert migration(tmp_path, b"anna;a;b;c\n", "--old-security", "none").returncode == 0
    accounts = load(tmp_path / "move/syncd.toml", environment={}).settings.accounts
    assert [(it.security, it.allow_insecure) for it in accounts.values()] == [("none", True), ("tls", False)]


@pytest.mark.parametrize(
    ("listed", "line"),
    [
        (None, "users.csv: No such file or directory: name the list of users"),
        (b"", "users.csv: there is no user in it"),
        (b"# nobody\n\n", "users.csv: there is no user in it"),
        ("ännä;a;b;c\n".encode("latin-1"), "users.csv: is not in UTF-8: save the list in UTF-8"),
        (b"anna;secret\n", "users.csv:1: a line has four fields"),
        (b'anna;"pa"ss;c;d\n', "users.csv:1: ';' expected after '\"': a field that begins with a quote"),
        (b'anna;"a;b;c\n', "users.csv:1: unexpected end of data: a field that begins with a quote"),
        (b'anna;"a\nb";c;d\n', "users.csv:2: a field goes over two lines"),
        (b"anna;a;Ann@new.example;c\nbert;a;ann@new.example;c\n", "users.csv:2: ann@new.example at the new server"),
    ],
)
def test_a_list_of_users_that_cannot_be_used(tmp_path: Path, listed: bytes | None, line: str) -> None:
    refused = migration(tmp_path, listed)
    assert (refused.returncode, refused.stderr[: len(line)], refused.stderr.count("\n")) == (1, line, 1)
    assert not (tmp_path / "move").exists()


@pytest.mark.parametrize(
    "options",
    [
        ("imap.old.example:0", "b"),
        ("imap.old.example", "imaps://b"),
        ("imap.old.example", "me@b"),
        ("imap.old.example", "2001:db8::1"),
        ("imap.old.example", "b:imap"),
        ("imap.old.example", "b..c"),
        ("--old-security", "ssl"),
        ("--new-ca-file", "missing.pem"),
    ],
)
def test_options_for_a_list_of_users_that_cannot_be_used(tmp_path: Path, options: tuple[str, ...]) -> None:
    refused = migration(tmp_path, b"anna;a;b;c\n", *options)
    assert (refused.returncode, "migration.py: error: argument" in refused.stderr) == (2, True)
    assert not (tmp_path / "move").exists()


def test_a_list_of_users_does_not_touch_a_folder_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "move").mkdir()
    refused = migration(tmp_path, b"anna;a;b;c\n")
    assert (refused.returncode, refused.stderr) == (
        1,
        "move: is there already: name a new folder, or remove this one; nothing was written\n",
    )
    assert list((tmp_path / "move").iterdir()) == []
