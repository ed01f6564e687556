"""The programs that are compared: how each is told to pull a maildrop, and where the mail is afterwards.

Each keeps its own default durability (mpop and getmail fsync every message), leaves the mail on the server and
adds nothing to a message, so that what arrives can be compared octet by octet.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.measure import Command
from tests.bench.verify import maildir_messages, pack_messages

UNPRIVILEGED = "nobody"
SYNCD = Path(sys.executable).with_name("syncd")


@dataclass(frozen=True)
class Access:
    """Where a maildrop is. `ca_file` is given when the port speaks TLS."""

    host: str
    port: int
    user: str
    password: str
    ca_file: Path | None = None


@dataclass(frozen=True)
class Program:
    """`prepare` writes a configuration into a fresh directory; `messages` reads back what the run left there.

    A program that is known to fail now and then, for reasons of its own, gets more than one of `attempts`.
    """

    name: str
    prepare: Callable[[Access, Path], Command]
    messages: Callable[[Path], Iterator[bytes]]
    attempts: int = 1


def executable(name: str) -> str:
    """Its path. Raises FileNotFoundError."""
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed; run tests/servers/install bench")
    return found


def _maildir(directory: Path) -> Path:
    for part in ("cur", "new", "tmp"):
        (directory / "Maildir" / part).mkdir(parents=True)
    return directory / "Maildir"


def private(file: Path, text: str) -> Path:
    """Write a file that nobody else may read."""
    file.touch(mode=0o600)
    file.write_text(text)
    return file


def _mpop(access: Access, directory: Path) -> Command:
    tls = f"tls on\ntls_starttls off\ntls_trust_file {access.ca_file}\n" if access.ca_file else "tls off\n"
    text = (
        f"account bench\nhost {access.host}\nport {access.port}\n{tls}auth user\nuser {access.user}\n"
        f"password {access.password}\nkeep on\nreceived_header off\nuidls_file {directory}/uidls\n"
        f"delivery maildir {_maildir(directory)}\n"
    )
    file = private(directory / "mpoprc", text)
    return Command([executable("mpop"), "--quiet", f"--file={file}", "bench"])


def getmail(access: Access, directory: Path, protocol: str = "POP3") -> Command:
    """getmail over "POP3" or "IMAP"."""
    kind = f"Simple{protocol}SSLRetriever" if access.ca_file else f"Simple{protocol}Retriever"
    ca = f"ca_certs = {access.ca_file}\n" if access.ca_file else ""
    maildir = _maildir(directory)
    user = f"user = {UNPRIVILEGED}\n" if os.getuid() == 0 else ""  # getmail does not deliver as root
    if user:
        for path in (maildir, *maildir.iterdir()):
            shutil.chown(path, UNPRIVILEGED)
    text = (
        f"[retriever]\ntype = {kind}\nserver = {access.host}\nport = {access.port}\n{ca}timeout = 20\n"
        f"username = {access.user}\npassword = {access.password}\n"
        f"[destination]\ntype = Maildir\npath = {maildir}/\n{user}"
        "[options]\nverbose = 0\nread_all = false\ndelete = false\nreceived = false\ndelivered_to = false\n"
    )
    file = private(directory / "getmailrc", text)
    return Command([executable("getmail"), "--quiet", f"--getmaildir={directory}", f"--rcfile={file}"])


def syncd_configuration(access: Access, directory: Path, form: str) -> Path:
    """A configuration with one job, `bench`, into the archive `store` in `directory`."""
    security = f'"tls"\nca_file = "{access.ca_file}"' if access.ca_file else '"none"\nallow_insecure = true'
    private(directory / "password", access.password)
    text = (
        f'state_directory = "{directory}/state"\n'
        f'[accounts.bench]\nprotocol = "pop3"\nhost = "{access.host}"\nport = {access.port}\nsecurity = {security}\n'
        f'username = "{access.user}"\npassword = "file:{directory}/password"\n'
        f'[archives.store]\npath = "{directory}/store"\nformat = "{form}"\n'
        '[jobs.bench]\nsource = "bench"\ndestinations = ["store"]\n'
    )
    return private(directory / "syncd.toml", text)


def syncd_command(file: Path, *options: str) -> Command:
    """`syncd run` on that configuration."""
    return Command([str(SYNCD), "run", *options, "--config", str(file)], {"SYNCD_HOME": str(file.parent / "state")})


def _syncd(form: str) -> Callable[[Access, Path], Command]:
    def prepare(access: Access, directory: Path) -> Command:
        return syncd_command(syncd_configuration(access, directory, form), "--quiet")

    return prepare


MPOP = Program("mpop → Maildir", _mpop, lambda directory: maildir_messages(directory / "Maildir"))
# getmail 6.18 misses the end of a delivery process that ends before it waits for it ("waiting child pid … timed out").
GETMAIL = Program("getmail → Maildir", getmail, lambda directory: maildir_messages(directory / "Maildir"), attempts=4)
PACKS = Program("syncd → packs", _syncd("packs"), lambda directory: pack_messages(directory / "store"))
MAILDIR = Program("syncd → Maildir", _syncd("maildir"), lambda directory: maildir_messages(directory / "store"))
