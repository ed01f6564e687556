"""Where secrets are read: environment, file, command, keyring.

A configuration never holds a password, it holds a reference that says where one is:

    env:NAME                  the environment variable NAME (`.env` beside the configuration counts as environment)
    file:/path                the contents of a file, without one final newline
    command:pass show road    the first line a program prints; split like a shell would, run without one
    keyring:service/user      an entry of the desktop's keyring (the extra `keyring`)

References are read late, when a session signs in, so that looking at the configuration never starts a
program or unlocks a keyring. Nothing here prints, logs or keeps a value.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO

from syncd.errors import SecretUnavailable
from syncd.secret import Secret

COMMAND_TIMEOUT_S = 60  # time enough to type a passphrase into a password manager's window
MAX_SECRET_OCTETS = 64 << 10  # a token is a few KiB; a wrong path such as /dev/zero must end
ACCEPTED = "env:VARIABLE, file:/path, command:PROGRAM ARGUMENTS, keyring:SERVICE/USER"

_log = logging.getLogger(__name__)


class SecretKind(StrEnum):
    """The places a secret can be in."""

    ENV = "env"
    FILE = "file"
    COMMAND = "command"
    KEYRING = "keyring"


@dataclass(frozen=True, slots=True)
class SecretReference:
    """Says where a secret is; holds none itself, so it may be shown."""

    kind: SecretKind
    target: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.target}"


def parse_reference(text: str) -> SecretReference:
    """Read a reference; a ValueError never repeats `text`, because it may be a password."""
    kind, colon, target = text.partition(":")
    if not colon or kind not in set(SecretKind):
        raise ValueError("must say where the password is, not be one")
    reference = SecretReference(SecretKind(kind), target.strip())
    if not reference.target or "\0" in target or (kind == SecretKind.KEYRING and not all(_keyring_entry(target))):
        raise ValueError(f"the reference after {kind}: is not complete")
    if kind == SecretKind.COMMAND:
        _words(reference.target)
    return reference


def read_secret(reference: SecretReference, environment: Mapping[str, str]) -> Secret:
    """Fetch the secret. Raises SecretUnavailable, whose message names the reference and never a value."""
    value = _READERS[reference.kind](reference.target, environment)
    if not value:
        raise SecretUnavailable(f"{reference} gives an empty password; put the password there")
    return Secret(value)


def _from_environment(name: str, environment: Mapping[str, str]) -> str:
    try:
        return environment[name]
    except KeyError:
        raise SecretUnavailable(f"the environment variable {name} is not set; set it or put it into .env") from None


def _from_file(path: str, _environment: Mapping[str, str]) -> str:
    try:
        with open(os.path.expanduser(path), "rb") as file:  # noqa: PTH111, PTH123 (a Path would drop a final slash)
            _check_permissions(path, file)
            octets = file.read(MAX_SECRET_OCTETS + 1)
    except OSError as error:
        raise SecretUnavailable(f"cannot read the password file {path}: {error.strerror or error}") from error
    return _text(octets.removesuffix(b"\n").removesuffix(b"\r"), f"the password file {path}")


def _check_permissions(path: str, file: BinaryIO) -> None:
    """Refuse a file that others can change; warn when they can read it.

    Not below /run: container platforms and systemd mount their secrets there, readable on purpose.
    """
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        return  # a pipe or a secrets file system has rules of its own
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SecretUnavailable(f"others may write the password file {path}; run: chmod 600 {path}")
    if mode & (stat.S_IRGRP | stat.S_IROTH) and not path.startswith("/run/"):
        _log.warning("others can read the password file %s; run: chmod 600 %s", path, path)


def _words(command: str) -> list[str]:
    import shlex

    try:
        return shlex.split(command)
    except ValueError as error:
        raise ValueError(f"the command cannot be split into words: {str(error).lower()}") from None


def _from_command(command: str, environment: Mapping[str, str]) -> str:
    import subprocess

    words = _words(command)
    name = words[0] if words else command
    try:
        # Its standard error stays ours: that is where a password manager asks for its passphrase.
        done = subprocess.run(
            words, stdout=subprocess.PIPE, env=dict(environment), timeout=COMMAND_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise SecretUnavailable(f"the password command {name} did not end within {COMMAND_TIMEOUT_S} s") from None
    except OSError as error:
        raise SecretUnavailable(f"cannot run the password command {name}: {error.strerror or error}") from error
    if done.returncode:
        raise SecretUnavailable(f"the password command {name} failed with exit status {done.returncode}")
    first, _, _ = done.stdout.partition(b"\n")
    return _text(first.removesuffix(b"\r"), f"the password command {name}")


def _keyring_entry(target: str) -> tuple[str, str]:
    service, _, user = target.partition("/")
    return service.strip(), user.strip()


def _from_keyring(target: str, _environment: Mapping[str, str]) -> str:
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        raise SecretUnavailable(
            f"keyring:{target} needs the extra keyring; run: pip install 'syncd[keyring]'"
        ) from None
    service, user = _keyring_entry(target)
    try:
        value = keyring.get_password(service, user)
    except KeyringError as error:  # its text says what is missing: no backend, locked, denied
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SecretUnavailable(f"the keyring cannot be asked for {target}: {reason}") from error
    if value is None:
        raise SecretUnavailable(f"the keyring has no entry {target}; run: keyring set {service} {user}")
    return value


def _text(octets: bytes, where: str) -> str:
    if len(octets) > MAX_SECRET_OCTETS:
        raise SecretUnavailable(f"{where} gives more than {MAX_SECRET_OCTETS >> 10} KiB: that is no password")
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise SecretUnavailable(f"{where} gives octets that are not UTF-8 text") from None


_READERS: Mapping[SecretKind, Callable[[str, Mapping[str, str]], str]] = {
    SecretKind.ENV: _from_environment,
    SecretKind.FILE: _from_file,
    SecretKind.COMMAND: _from_command,
    SecretKind.KEYRING: _from_keyring,
}
