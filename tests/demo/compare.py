"""A second opinion: the server is read by these few lines, which share no code with syncd, and mbox by Python's."""

from __future__ import annotations

import mailbox
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path

from tests.demo.terminal import Mismatch
from tests.support.trace import originals

TIMEOUT_S = 20.0
Digests = Counter[bytes]  # SHA-256 → how many messages have it


def on_server(host: str, port: int, user: str, password: str, form: Callable[[bytes], bytes] = bytes) -> Digests:
    """Every message of a POP3 account, fetched one after the other and brought into a form (as it is, usually)."""
    return Counter(sha256(form(message)).digest() for message in _fetch(host, port, user, password))


def canonical(message: bytes) -> bytes:
    """With CRLF at the end of every line, as SMTP's DATA carries it."""
    return re.sub(rb"\r\n|\r|\n", b"\r\n", message)


def as_sent(arrived: Iterable[bytes]) -> Digests:
    """Messages that came by SMTP, without the trace fields on top. Raises Mismatch where there are none."""
    try:
        return originals(map(canonical, arrived))
    except AssertionError as error:
        raise Mismatch(f"not what was sent: {error}") from error


def in_files(folder: Path) -> Digests:
    """Every eml file below a folder."""
    return Counter(sha256(file.read_bytes()).digest() for file in folder.rglob("*.eml"))


def count_mbox(folder: Path) -> int:
    """How many messages Python's `mailbox` module finds in the mboxes below a folder."""
    return sum(map(_messages, filter(Path.is_file, folder.rglob("*"))))


def _messages(file: Path) -> int:
    with closing(mailbox.mbox(file, create=False)) as box:
        return len(box)


def must_equal(found: Digests, expected: Digests, where: str = "on the server") -> None:
    """Raise Mismatch unless both hold the same messages, each as often."""
    missing, more = (expected - found).total(), (found - expected).total()
    if missing or more:
        raise Mismatch(f"of {expected.total():,} messages {where} {missing:,} are missing and {more:,} are too many")


def must_be(what: str, found: int, expected: int) -> None:
    """Raise Mismatch unless the numbers agree."""
    if found != expected:
        raise Mismatch(f"{what}: {found:,}, and it should be {expected:,}")


def _fetch(host: str, port: int, user: str, password: str) -> Iterator[bytes]:
    with socket.create_connection((host, port), TIMEOUT_S) as connection, connection.makefile("rb") as replies:

        def command(text: str) -> bytes:
            connection.sendall(f"{text}\r\n".encode())
            reply = replies.readline()
            if not reply.startswith(b"+OK"):
                raise Mismatch(f"the server answers {reply!r} to {text.split(maxsplit=1)[0]}")
            return reply

        replies.readline()
        command(f"USER {user}")
        command(f"PASS {password}")
        for number in range(1, int(command("STAT").split()[1]) + 1):
            command(f"RETR {number}")
            lines = iter(replies.readline, b".\r\n")
            yield b"".join(line[1:] if line.startswith(b".") else line for line in lines)
        command("QUIT")
