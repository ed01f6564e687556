import logging
import subprocess
import sys
from pathlib import Path

import keyring
import keyring.backend
import pytest
from keyring.errors import KeyringLocked

from syncd.auth import credentials
from syncd.auth.credentials import SecretKind, SecretReference, parse_reference, read_secret
from syncd.errors import Scope, SecretUnavailable


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
    file.write_bytes(b" s3cret \n")
    file.chmod(0o600)
    return file


def test_a_reference_shows_where_and_never_what() -> None:
    reference = parse_reference("keyring:mail server/me@example.net")
    assert reference == SecretReference(SecretKind.KEYRING, "mail server/me@example.net")
    assert str(reference) == "keyring:mail server/me@example.net"


@pytest.mark.parametrize("text", ["hunter2", "", "hunter2:more", "ENV:X", "env", "pass:word"])
def test_a_literal_password_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="must say where the password is, not be one") as caught:
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
    [(b"a", "a"), (b"a\n", "a"), (b"a\r\n", "a"), (b"a\n\n", "a\n"), (b" a ", " a "), ("pä".encode(), "pä")],
)
def test_a_file_loses_one_final_newline_and_nothing_else(password_file: Path, octets: bytes, expected: str) -> None:
    password_file.write_bytes(octets)
    assert read(f"file:{password_file}") == expected


def test_a_file_below_the_home_directory(password_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(password_file.parent))
    assert read("file:~/password") == " s3cret "


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(password_file: Path, mode: int) -> None:
    password_file.chmod(mode)
    assert "others may write" in failure(f"file:{password_file}")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_that_others_may_read_is_used_with_a_warning(
    password_file: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    password_file.chmod(mode)
    with caplog.at_level(logging.WARNING):
        assert read(f"file:{password_file}") == " s3cret "
    assert f"chmod 600 {password_file}" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_private_file_gives_no_warning(password_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    read(f"file:{password_file}")
    assert caplog.text == ""


def test_files_that_give_nothing(tmp_path: Path, password_file: Path) -> None:
    assert "No such file" in failure(f"file:{tmp_path}/absent")
    assert "Is a directory" in failure(f"file:{tmp_path}")
    assert "more than 64 KiB" in failure("file:/dev/zero")
    password_file.write_bytes(b"\xff\xfe")
    assert "not UTF-8" in failure(f"file:{password_file}")
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


def test_a_command_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = []

    def run(*_: object, timeout: float, **__: object) -> None:
        limits.append(timeout)
        raise subprocess.TimeoutExpired("sleep", timeout)

    monkeypatch.setattr(subprocess, "run", run)
    assert "sleep did not end within 60 s" in failure("command:sleep 1000")
    assert limits == [60]


class _Ring(keyring.backend.KeyringBackend):
    priority = 1  # type: ignore[assignment]

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
