from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from syncd.settings.delivery import JobDestination
from syncd.settings.schema import (
    Account,
    Archive,
    ArchiveFormat,
    EMail,
    HostLimits,
    Job,
    Limits,
    LineEnds,
    Mode,
    Notify,
    Protocol,
    Security,
    Service,
    Settings,
)


def account(**more: Any) -> Account:
    return Account.model_validate({"protocol": "pop3", "host": "pop.example.net", **more})


def job(**more: Any) -> Job:
    return Job.model_validate({"source": "road", "destinations": ["home"], **more})


@pytest.mark.parametrize(
    ("protocol", "security", "port"),
    [
        ("pop3", "tls", 995),
        ("pop3", "starttls", 110),
        ("pop3", "none", 110),
        ("imap", "tls", 993),
        ("imap", "starttls", 143),
        ("smtp", "tls", 465),
        ("smtp", "starttls", 587),
        ("lmtp", "none", 24),
    ],
)
def test_the_port_follows(protocol: str, security: str, port: int) -> None:
    assert account(protocol=protocol, security=security).port == port
    assert account(protocol=protocol, security=security, port=1100).port == 1100


def test_an_account_is_safe_by_default() -> None:
    made = account()
    assert (made.protocol, made.security, made.allow_insecure) == (Protocol.POP3, Security.TLS, False)
    assert (made.ca_file, made.fingerprint, made.connections) == (None, None, 1)


@pytest.mark.parametrize("host", ["pop.example.net", "192.0.2.1", "2001:db8::1", "localhost", "bücher.example"])
def test_hosts(host: str) -> None:
    assert account(host=host).host == host


@pytest.mark.parametrize("host", ["", "a b", "pop.example.net:995", "pop3://a", "me@a", "[::1]", "a\r\nQUIT", "a\0"])
def test_no_hosts(host: str) -> None:
    with pytest.raises(ValidationError):
        account(host=host)


@pytest.mark.parametrize("username", ["", "a\r\nDELE 1", "a\0b", 5])
def test_no_usernames(username: object) -> None:
    with pytest.raises(ValidationError):
        account(username=username)


def test_a_fingerprint_may_be_written_in_three_ways() -> None:
    digits = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
    colons = ":".join(digits[i : i + 2].upper() for i in range(0, 64, 2))
    assert {account(fingerprint=f).fingerprint for f in (digits, f"sha256:{digits}", colons)} == {digits}
    with pytest.raises(ValidationError, match="64 hexadecimal digits"):
        account(fingerprint=digits[:40])


def test_an_archive() -> None:
    made = Archive(path=Path("/mail"))
    assert (made.format, made.line_ends) == (ArchiveFormat.PACKS, LineEnds.LF)
    with pytest.raises(ValidationError, match="is not a path"):
        Archive(path=Path("mail"))


def test_a_job_copies_and_leaves_everything_by_default() -> None:
    made = job()
    assert (made.mode, made.leave_on_server, made.removes, made.enabled) == (Mode.COPY, True, False, True)
    assert (made.schedule, made.timezone, made.confirm_removal) == (None, None, False)


@pytest.mark.parametrize(
    ("written", "leave", "mode", "kept_for"),
    [
        ({"leave_on_server": True}, True, Mode.COPY, 0),
        ({"leave_on_server": False}, False, Mode.MOVE, 0),
        ({"leave_on_server": "30 days"}, timedelta(days=30), Mode.MOVE, 30),
        ({"leave_on_server": "false"}, False, Mode.MOVE, 0),
        ({"mode": "copy"}, True, Mode.COPY, 0),
        ({"mode": "move"}, False, Mode.MOVE, 0),
        ({"mode": "move", "leave_on_server": "2 weeks"}, timedelta(days=14), Mode.MOVE, 14),
    ],
)
def test_mode_and_leave_on_server_follow_from_each_other(
    written: dict[str, Any], leave: object, mode: Mode, kept_for: int
) -> None:
    made = job(**written)
    assert (made.leave_on_server, made.mode) == (leave, mode)
    assert made.removes == (mode is Mode.MOVE)
    assert made.kept_for == timedelta(days=kept_for)


@pytest.mark.parametrize("value", [1, 0, "yes", None, [], "30 dayz", 30])
def test_no_leave_on_server(value: object) -> None:
    with pytest.raises(ValidationError):
        job(leave_on_server=value)


def test_destinations_are_names_or_tables() -> None:
    made = job(destinations=["home", {"to": "new", "recipient": "me@example.org"}])
    assert [(d.to, d.recipient) for d in made.destinations] == [("home", None), ("new", ("me@example.org",))]
    assert made.model_dump(mode="json")["destinations"] == ["home", {"to": "new", "recipient": "me@example.org"}]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "UTC", "America/Argentina/Buenos_Aires"])
def test_time_zones(zone: str) -> None:
    assert job(timezone=zone).timezone == zone


@pytest.mark.parametrize("zone", ["", "Europe/Berln", "../../etc/passwd", "/etc/localtime", "CET+9\n", "Europe"])
def test_no_time_zones(zone: str) -> None:
    with pytest.raises(ValidationError, match="is not a time zone"):
        job(timezone=zone)


def test_nothing_changes_after_reading() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        account().host = "elsewhere"


def test_the_ledger_is_in_the_state_directory() -> None:
    settings = Settings(state_directory=Path("/var/lib/syncd"))
    assert settings.database_url == "sqlite:////var/lib/syncd/ledger.sqlite"


def test_the_state_directory_is_the_one_of_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/xdg/state")
    assert Settings().state_directory == Path("/xdg/state/syncd")


def test_every_field_says_what_it_is_and_shows_a_value() -> None:
    for model in (Settings, Account, Archive, Job, JobDestination, Service, Limits, HostLimits, Notify, EMail):
        for name, field in model.model_fields.items():
            assert field.description, name
            assert field.examples or field.annotation in {Security, *_ENUMS}, name


_ENUMS = {type(f.default) for m in (Account, Archive, Job, Service) for f in m.model_fields.values()} | {Mode, Protocol}


def test_a_proxy_is_shown_without_its_password() -> None:
    made = account(proxy="socks5://me:hunter2@[::1]:1080")
    assert made.proxy is not None
    assert made.proxy.password.reveal() == "hunter2"
    assert made.model_dump(mode="json")["proxy"] == "socks5://[::1]:1080"
    assert "hunter2" not in repr(made)


@pytest.mark.parametrize("proxy", ["proxy:3128", "https://u:hunter2@proxy:3128", "socks5://u:hunter2@proxy", 5, ""])
def test_no_proxies(proxy: object) -> None:
    with pytest.raises(ValidationError):
        account(proxy=proxy)
