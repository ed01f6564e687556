import logging
import os
import sys
import threading
from pathlib import Path

import keyring
import keyring.backend
import pytest
from keyring.errors import KeyringLocked

from syncd import clock
from syncd.auth import credentials, private
from syncd.auth.credentials import (
    TOKEN_AGE_S,
    SecretKind,
    SecretReference,
    Secrets,
    parse_reference,
    read_secret,
)
from syncd.errors import Cancelled, Scope, SecretUnavailable


def read(text: str, environment: dict[str, str] | None = None) -> str:
    return read_secret(parse_reference(text), environment or {}).reveal()


def failure(text: str, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(SecretUnavailable) as caught:
        read(text, environment)
    assert caught.value.scope is Scope.ACCOUNT
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_bytes(b"s3cret\n")
    file.chmod(0o600)
    return file


def test_a_reference_shows_where_and_never_what() -> None:
    reference = parse_reference("keyring:mail server/me@example.net")
    assert reference == SecretReference(SecretKind.KEYRING, "mail server/me@example.net")
    assert str(reference) == "keyring:mail server/me@example.net"


@pytest.mark.parametrize("text", ["hunter2", "", "hunter2:more", "ENV:X", "env", "pass:word"])
def test_a_literal_password_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="must say where the password is, not be the password") as caught:
        parse_reference(text)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["env:", "file: ", "command:", "keyring:service", "keyring:/user", "file:a\0b"])
def test_an_incomplete_reference_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not complete"):
        parse_reference(text)


def test_a_command_that_cannot_be_split_is_refused_early() -> None:
    with pytest.raises(ValueError, match="no closing quotation"):
        parse_reference("command:pass 'show")


def test_environment() -> None:
    assert read("env:ROAD", {"ROAD": "p$w d"}) == "p$w d"
    assert "the environment variable ROAD is not set" in failure("env:ROAD")
    assert "gives an empty password" in failure("env:ROAD", {"ROAD": ""})


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"a", "a"),
        (b"a\n", "a"),
        (b"a\r\n", "a"),
        (b"a\n\n", "a"),
        (b"a\r\n\r\n", "a"),
        (b"one two#\\n\"'", "one two#\\n\"'"),
        ("pä".encode(), "pä"),
    ],
)
def test_a_file_loses_the_line_ends_behind_it_and_nothing_else(
    password_file: Path, octets: bytes, expected: str
) -> None:
    password_file.write_bytes(octets)
    assert read(f"file:{password_file}") == expected


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"\xef\xbb\xbfs3cret\r\n", "begins with a byte order mark (UTF-8)"),
        ("s3cret\n".encode("utf-16"), "begins with a byte order mark (UTF-16)"),
        (b"\xfe\xff" + "s3cret\n".encode("utf-16-be"), "begins with a byte order mark (UTF-16)"),
        (b"s3cret\nuser: me\n", "has a second line"),
        (b"s3cret\r\n\r\nmore", "has a second line"),
        (b"\ns3cret\n", "has a second line"),
        (b"s3cret\rmore\n", "has a carriage return (CR) inside"),
        (b"s3\0cret\n", "has an octet 0 inside"),
        (b"s3cret \n", "ends with a blank (space)"),
        (b"s3cret\t\r\n", "ends with a blank (a control character)"),
        (b" s3cret\n", "begins with a blank (space)"),
        ("s3cret\u00a0\n".encode(), "ends with a blank (no-break space)"),
        ("\u200bs3cret\n".encode(), "begins with a blank (zero width space)"),
    ],
)
def test_what_nobody_sees_in_a_file_is_named_and_not_sent(password_file: Path, octets: bytes, reason: str) -> None:
    password_file.write_bytes(octets)
    said = failure(f"file:{password_file}")
    assert f"the password file {password_file} {reason}" in said
    assert "s3cret" not in said


@pytest.mark.parametrize("value", ["\ufeffs3cret", "s3cret\r", "s3cret\nmore", "s3cret\n"])
def test_what_no_password_has_is_named_wherever_it_comes_from(value: str) -> None:
    assert "the environment variable ROAD " in failure("env:ROAD", {"ROAD": value})


def test_blanks_that_were_quoted_on_purpose_are_sent() -> None:
    assert read("env:ROAD", {"ROAD": " s3cret "}) == " s3cret "


def test_a_password_that_is_not_utf_8(password_file: Path) -> None:
    password_file.write_bytes(b"p\xe4ss\n")
    for text in (f"file:{password_file}", f"command:cat {password_file}"):
        secret = read_secret(parse_reference(text), os.environ)
        assert secret.octets() == b"p\xe4ss"
        assert not secret.is_text
    (password_file.parent / "in").write_bytes(b"p\xe4ss")
    value = os.fsdecode((password_file.parent / "in").read_bytes())
    assert read_secret(parse_reference("env:ROAD"), {"ROAD": value}).octets() == b"p\xe4ss"


def test_a_file_below_the_home_directory(password_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(password_file.parent))
    assert read("file:~/password") == "s3cret"


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(password_file: Path, mode: int) -> None:
    password_file.chmod(mode)
    assert "other users can write" in failure(f"file:{password_file}")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_that_others_may_read_is_used_with_a_warning(
    password_file: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    password_file.chmod(mode)
    with caplog.at_level(logging.WARNING):
        assert read(f"file:{password_file}") == "s3cret"
    assert f"chmod 600 {password_file}" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_private_file_gives_no_warning(password_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    read(f"file:{password_file}")
    assert caplog.text == ""


def test_a_file_of_another_user_is_refused_and_root_is_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    status = os.stat_result((0o100600, 1, 1, 1, 1001, 0, 6, 0, 0, 0))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SecretUnavailable, match=r"/p belongs to another user \(number 1001\), who can change it"):
        private.judge("/p", status, "the password file")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "who can change it; run as that user" in private.judge("/p", status, "the password file")


def test_a_pipe_gives_a_secret_and_one_that_nobody_writes_to_is_not_waited_for(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"s3cret\n")
    os.close(writing)
    assert read(f"file:/dev/fd/{reading}") == "s3cret"
    os.close(reading)
    os.mkfifo(tmp_path / "fifo", 0o600)
    assert "empty password" in failure(f"file:{tmp_path}/fifo")


def test_a_pipe_that_gives_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private, "PIPE_TIMEOUT_S", 0.0)
    reading, writing = os.pipe()
    try:
        assert "gives nothing within 0 s" in failure(f"file:/dev/fd/{reading}")
    finally:
        os.close(reading)
        os.close(writing)


def test_files_that_give_nothing(tmp_path: Path, password_file: Path) -> None:
    assert "No such file" in failure(f"file:{tmp_path}/absent")
    assert "Is a directory" in failure(f"file:{tmp_path}")
    assert "more than 64 KiB" in failure("file:/dev/zero")
    password_file.write_bytes(b"\n")
    assert "empty password" in failure(f"file:{password_file}")


def test_a_command_gives_its_first_line() -> None:
    assert read(r"command:printf 'one two\nuser: me\n'") == "one two"
    assert read(r"command:printf 'one\r\n'") == "one"


def test_a_command_runs_without_a_shell_and_with_the_environment() -> None:
    assert read("command:echo $HOME;ls", {"PATH": "/usr/bin:/bin"}) == "$HOME;ls"
    assert read("command:printenv ROAD", {"PATH": "/usr/bin:/bin", "ROAD": "from .env"}) == "from .env"


def test_commands_that_give_nothing(tmp_path: Path) -> None:
    assert "cannot run the password command no-such-program-here" in failure("command:no-such-program-here show")
    assert "exit status 1" in failure("command:false")
    assert "empty password" in failure("command:true")
    assert "Permission denied" in failure(f"command:{tmp_path}")


def test_a_command_without_end_is_ended() -> None:
    assert "the password command yes gives more than 64 KiB" in failure("command:yes", dict(os.environ))


def test_a_second_line_of_a_command_does_not_count_but_blanks_do() -> None:
    assert "the password command printf ends with a blank (space)" in failure(r"command:printf 's3cret \nmore'")
    assert "begins with a byte order mark" in failure(r"command:printf '\357\273\277s3cret'")


@pytest.fixture
def counting(tmp_path: Path) -> tuple[str, Path]:
    """A command that gives "secret" and the file where it notes each of its runs."""
    ran = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"echo x >> {ran}; echo secret; exit $1")
    return f"command:sh {program}", ran


def runs(ran: Path) -> int:
    return len(ran.read_text().splitlines())


def test_a_command_runs_once_for_all_who_want_its_secret(counting: tuple[str, Path]) -> None:
    text, ran = counting
    secrets = Secrets(os.environ)
    given: list[str] = []
    threads = [
        threading.Thread(target=lambda: given.append(secrets.read(parse_reference(f"{text} 0")).reveal()))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert given == ["secret"] * 8
    assert runs(ran) == 1
    Secrets(os.environ).read(parse_reference(f"{text} 0"))
    assert runs(ran) == 2


def test_a_command_that_fails_is_not_run_again(counting: tuple[str, Path]) -> None:
    text, ran = counting
    secrets = Secrets(os.environ)
    for _ in range(3):
        with pytest.raises(SecretUnavailable, match="the password command sh failed with exit status 3"):
            secrets.read(parse_reference(f"{text} 3"))
    assert runs(ran) == 1


def test_an_access_token_is_asked_for_again_after_a_while(
    counting: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    text, ran = counting
    secrets, start = Secrets(os.environ), clock.monotonic()
    for later, expected in ((0.0, 1), (TOKEN_AGE_S - 60, 1), (TOKEN_AGE_S + 1, 2)):
        monkeypatch.setattr(clock, "monotonic", lambda at=start + later: at)
        secrets.read(parse_reference(f"{text} 0"), token=True)
        assert runs(ran) == expected
        secrets.read(parse_reference(f"{text} 0"))
    assert runs(ran) == 2


def test_files_and_variables_are_read_each_time(password_file: Path) -> None:
    secrets = Secrets({})
    assert secrets.read(parse_reference(f"file:{password_file}")).reveal() == "s3cret"
    password_file.write_bytes(b"corrected\n")
    assert secrets.read(parse_reference(f"file:{password_file}")).reveal() == "corrected"


def test_a_command_is_not_begun_after_a_cancel(counting: tuple[str, Path]) -> None:
    text, ran = counting
    secrets = Secrets(os.environ)
    secrets.cancel()
    with pytest.raises(Cancelled):
        secrets.read(parse_reference(f"{text} 0"))
    assert not ran.exists()


class _Ring(keyring.backend.KeyringBackend):
    priority = 1

    def get_password(self, service: str, username: str) -> str | None:
        if service == "locked":
            raise KeyringLocked("the keyring is\nlocked")
        return "s3cret" if (service, username) == ("mail", "me/at/home") else None

    def set_password(self, service: str, username: str, password: str) -> None:  # noqa: ARG002 (the library's)
        raise AssertionError

    def delete_password(self, service: str, username: str) -> None:  # noqa: ARG002 (the library's)
        raise AssertionError


def test_keyring() -> None:
    before = keyring.get_keyring()
    keyring.set_keyring(_Ring())
    try:
        assert read("keyring:mail/me/at/home") == "s3cret"
        assert "has no entry mail/you; run: keyring set mail you" in failure("keyring:mail/you")
        assert "the keyring is locked" in failure("keyring:locked/me")
    finally:
        keyring.set_keyring(before)


def test_keyring_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert "pip install 'syncd[keyring]'" in failure("keyring:mail/me")


def test_no_message_holds_the_secret(password_file: Path) -> None:
    """A value that is found and then refused must not be quoted."""
    password_file.chmod(0o666)
    assert "s3cret" not in failure(f"file:{password_file}")
    assert "s3cret" not in failure("command:sh -c 'echo s3cret; exit 3'")
    assert "s3cret" not in repr(read_secret(parse_reference("env:A"), {"A": "s3cret"}))


def test_every_kind_has_a_reader() -> None:
    assert set(credentials._READERS) == set(SecretKind)
