"""A private GNU mailutils IMAP server for tests, unpacked beside Dovecot: no keywords, no dates in APPEND, I100, I120.

It drops the first line of a message that begins with `From `, and needs root to become the owner of the mail.

    if reason := missing(): pytest.skip(reason)
    with Mailutils() as server:
        login = server.user("anna")
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers import unpacked
from tests.servers.dovecot import clear_away, free_ports
from tests.servers.imap import PASSWORD, Login

PREFIX = "syncd-mailutils-"
_RUNS_AS = "nobody"
_DOMAIN = "local"

_CONFIGURATION = """mode daemon;
foreground yes;
pidfile {base}/pid;
timeout 1800;
virtdomain {{ passwd-dir {base}/domains; }};
auth {{ authorization clear; authorization virtdomain; authentication clear; authentication generic; }};
mailbox {{ mailbox-type maildir; }};
tcp-wrappers {{ enable no; }};
logging {{ syslog no; }};
server 127.0.0.1:{port} {{ }};
"""


def missing() -> str:
    """Returns why it cannot run here; "" if it can."""
    return unpacked.missing("mailutils", "usr/sbin/imap4d", as_root=True)


class Mailutils:
    """The server (`imap.ImapServer`). A context manager: leaves no process and no file behind."""

    host = "127.0.0.1"

    def __init__(self) -> None:
        clear_away(PREFIX)
        self._base = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir="/tmp"))
        [self.port] = free_ports(1)
        self._daemon = unpacked.Daemon(self._base / "log")
        self._password = subprocess.run(
            ["openssl", "passwd", "-6", PASSWORD], capture_output=True, text=True, check=True
        ).stdout.strip()

    def __enter__(self) -> Self:
        try:
            self._base.chmod(0o755)
            (self._base / "domains").mkdir()
            (self._base / "domains" / _DOMAIN).touch()
            configuration = self._base / "imap4d.conf"
            configuration.write_text(_CONFIGURATION.format(base=self._base, port=self.port))
            program = str(unpacked.root("mailutils") / "usr" / "sbin" / "imap4d")
            self._daemon.start(
                [program, "--no-config", "--config-file", str(configuration)],
                self.port,
                {"LD_LIBRARY_PATH": unpacked.libraries("mailutils")},
            )
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._daemon.stop()
        self._clean_up()

    def user(self, name: str) -> Login:
        """A new user with an empty INBOX, without which APPEND would say TRYCREATE (I126)."""
        home, owner = self._base / name, pwd.getpwnam(_RUNS_AS)
        for folder in ("new", "cur", "tmp"):
            (home / "INBOX" / folder).mkdir(parents=True)
        for path in (home, home / "INBOX", *(home / "INBOX").iterdir()):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        with (self._base / "domains" / _DOMAIN).open("a") as users:
            users.write(f"{name}:{self._password}:{owner.pw_uid}:{owner.pw_gid}:{name}:{home}:/bin/false\n")
        return Login(self.host, self.port, f"{name}@{_DOMAIN}")

    def _clean_up(self) -> None:
        shutil.rmtree(self._base, ignore_errors=True)
