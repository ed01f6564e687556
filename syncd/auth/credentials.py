"""Reads secrets from the environment, a file, a command or the keyring.

A configuration never has a password. It has a reference to the place of the password:

    env:NAME                  the environment variable NAME, also from `.env` beside the configuration
    file:/path                the only line of a file; line ends behind it do not count
    command:pass show road    the first line that a program prints; words as in a shell, but run without one
    keyring:service/user      an entry of the desktop's keyring (needs the extra `keyring`)

References are read late, when a session signs in, so that checking the configuration never starts a program or unlocks
a keyring. A password is sent as it is written. Where an editor may have changed it unseen (a byte order mark, a second
line, blanks at an end), it is refused before a sign-in is spent on it, and the message names the place. A file and a
command give octets, which need not be UTF-8.

Nothing in this module prints or logs a secret. `Secrets` keeps what a command gave, because it runs once for a run.
"""

from __future__ import annotations

import logging
import os
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from threading import Event, Lock
from typing import Final

from syncd import clock
from syncd.auth.private import read_private, reason
from syncd.errors import SecretUnavailable
from syncd.secret import Secret

MAX_SECRET_OCTETS: Final = 64 << 10  # a token is a few KiB; a wrong path such as /dev/zero must end
TOKEN_AGE_S: Final = 300.0  # an access token is good for an hour, of which its program may have used a part
ACCEPTED: Final = "env:VARIABLE, file:/path, command:PROGRAM ARGUMENTS, keyring:SERVICE/USER"

_MARKS: Final = {b"\xef\xbb\xbf": "UTF-8", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}  # byte order marks of editors
_BREAKS: Final = {b"\r": "a carriage return (CR)", b"\n": "a line break", b"\0": "an octet 0"}
_INVISIBLE: Final = frozenset({"Zs", "Zl", "Zp", "Cc", "Cf"})  # categories of Unicode
_AS_IT_IS: Final = "if it belongs to the password, use env:NAME and write NAME='…' with single quotes into .env"

_log = logging.getLogger(__name__)


class SecretKind(StrEnum):
    """The places a secret can be in."""

    ENV = "env"
    FILE = "file"
    COMMAND = "command"
    KEYRING = "keyring"


@dataclass(frozen=True, slots=True)
class SecretReference:
    """The place of a secret, not the secret: it may be shown."""

    kind: SecretKind
    target: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.target}"


def parse_reference(text: str) -> SecretReference:
    """Parse a reference. Raises ValueError, which never repeats `text`, because it may be a password."""
    kind, colon, target = text.partition(":")
    if not colon or kind not in set(SecretKind):
        raise ValueError("must say where the password is, not be the password")
    reference = SecretReference(SecretKind(kind), target.strip())
    if not reference.target or "\0" in target or (kind == SecretKind.KEYRING and not all(_keyring_entry(target))):
        raise ValueError(f"is not complete: the part after {kind}: is missing or wrong")
    if kind == SecretKind.COMMAND:
        _words(reference.target)
    return reference


class Secrets:
    """The secrets that a run needs. Used from any thread.

    A command runs once, and all who want its secret wait for it.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        """`environment` has the variables that `env:` names and that commands get."""
        self._environment = environment
        self._commands: dict[str, _Once] = {}
        self._lock = Lock()
        self._stopped = Event()

    def read(self, reference: SecretReference, *, token: bool = False) -> Secret:
        """Returns the secret. An access `token`, which does not last, is asked for again after TOKEN_AGE_S.

        Raises SecretUnavailable, Cancelled; the error names the reference and never shows a secret.
        """
        if reference.kind is not SecretKind.COMMAND:
            return read_secret(reference, self._environment)
        with self._lock:
            once = self._commands.setdefault(reference.target, _Once())
        with once.lock:
            if once.result is None or (token and clock.monotonic() >= once.at + TOKEN_AGE_S):
                try:
                    once.result = read_secret(reference, self._environment, self._stopped)
                except SecretUnavailable as error:
                    once.result = error
                once.at = clock.monotonic()
            if isinstance(once.result, SecretUnavailable):
                raise SecretUnavailable(str(once.result))
            return once.result

    def cancel(self) -> None:
        """End the commands that run, and start none any more. Repeatable; may come from a signal handler."""
        self._stopped.set()


class _Once:
    """The output of a command, or why it gave none; None before it has run."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.result: Secret | SecretUnavailable | None = None
        self.at = 0.0


def read_secret(reference: SecretReference, environment: Mapping[str, str], stopped: Event | None = None) -> Secret:
    """Returns the secret; `stopped` ends a command.

    Raises SecretUnavailable, Cancelled; the error names the reference and never shows a secret.
    """
    octets, where = _READERS[reference.kind](reference.target, environment, stopped or Event())
    if not octets:
        raise SecretUnavailable(f"{reference} gives an empty password; put the password there")
    return Secret(_checked(octets, where))


def _checked(octets: bytes, where: str) -> bytes:
    """Returns the octets of a password. Raises SecretUnavailable for what no password has."""
    if len(octets) > MAX_SECRET_OCTETS:
        raise SecretUnavailable(
            f"{where} gives more than {MAX_SECRET_OCTETS >> 10} KiB, which cannot be a password; check the reference"
        )
    for mark, name in _MARKS.items():
        if octets.startswith(mark):
            raise SecretUnavailable(f"{where} begins with a byte order mark ({name}); save it as UTF-8 without one")
    for octet, name in _BREAKS.items():
        if octet in octets:
            raise SecretUnavailable(f"{where} has {name} inside, which no password can have; correct it")
    return octets


def _only_line(octets: bytes, where: str) -> bytes:
    """Returns the only line of a file. Raises SecretUnavailable if there is another line, or a blank at an end."""
    line = octets.rstrip(b"\r\n")
    if b"\n" in line and not octets.startswith(tuple(_MARKS)):
        raise SecretUnavailable(f"{where} has a second line; leave only the password in it")
    return _without_blanks(line, where)


def _without_blanks(line: bytes, where: str) -> bytes:
    """Returns a line. Raises SecretUnavailable for a blank or an invisible character at an end, which nobody sees."""
    text = Secret(_checked(line, where)).reveal()
    for character, end in ((text[:1], "begins"), (text[-1:], "ends")):
        if character and unicodedata.category(character) in _INVISIBLE:
            name = unicodedata.name(character, "a control character").lower()
            raise SecretUnavailable(f"{where} {end} with a blank ({name}); remove it, or {_AS_IT_IS}")
    return line


def _from_environment(name: str, environment: Mapping[str, str], _stopped: Event) -> tuple[bytes, str]:
    try:
        value = environment[name]
    except KeyError:
        raise SecretUnavailable(f"the environment variable {name} is not set; set it or put it into .env") from None
    return Secret(value).octets(), f"the environment variable {name}"


def _from_file(path: str, _environment: Mapping[str, str], _stopped: Event) -> tuple[bytes, str]:
    try:
        octets, warning = read_private(os.path.expanduser(path), MAX_SECRET_OCTETS, "the password file")  # noqa: PTH111
    except OSError as error:
        raise SecretUnavailable(f"cannot read the password file {path}: {reason(error)}") from error
    if warning:
        _log.warning("%s", warning)
    where = f"the password file {path}"
    return octets if len(octets) > MAX_SECRET_OCTETS else _only_line(octets, where), where


def _words(command: str) -> list[str]:
    import shlex

    try:
        return shlex.split(command)
    except ValueError as error:
        raise ValueError(f"has a command that cannot be split into words: {str(error).lower()}") from None


def _from_command(command: str, environment: Mapping[str, str], stopped: Event) -> tuple[bytes, str]:
    from syncd.auth.command import run

    words = _words(command)
    name = words[0] if words else command
    where = f"the password command {name}"
    try:
        octets, status = run(words, environment, MAX_SECRET_OCTETS, stopped)
    except SecretUnavailable as error:
        raise SecretUnavailable(f"{where} {error}") from None
    except OSError as error:
        raise SecretUnavailable(f"cannot run {where}: {reason(error)}") from error
    if status:
        ended = f"failed with exit status {status}" if status > 0 else f"was ended by signal {-status}"
        raise SecretUnavailable(f"{where} {ended}")
    if len(octets) > MAX_SECRET_OCTETS:
        return octets, where
    first, _, _ = octets.partition(b"\n")
    return _without_blanks(first.removesuffix(b"\r"), where), where


def _keyring_entry(target: str) -> tuple[str, str]:
    service, _, user = target.partition("/")
    return service.strip(), user.strip()


def _from_keyring(target: str, _environment: Mapping[str, str], _stopped: Event) -> tuple[bytes, str]:
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
    return Secret(value).octets(), f"the keyring's entry {target}"


_READERS: Mapping[SecretKind, Callable[[str, Mapping[str, str], Event], tuple[bytes, str]]] = {
    SecretKind.ENV: _from_environment,
    SecretKind.FILE: _from_file,
    SecretKind.COMMAND: _from_command,
    SecretKind.KEYRING: _from_keyring,
}
