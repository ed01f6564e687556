"""A private Cyrus IMAP server for tests, unpacked beside Dovecot: the strict one, with OBJECTID, `INBOX.` and `.`.

if reason := missing(): pytest.skip(reason)
with Cyrus() as server:
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
from tests.servers.imap import PASSWORD, Login, quoted, signed_in

PREFIX = "syncd-cyrus-"
ADMIN = "chief"
_RUNS_AS = "nobody"

_IMAPD = """
configdirectory: {base}/conf
proc_path: {base}/conf/proc
mboxname_lockpath: {base}/conf/lock
defaultpartition: default
partition-default: {base}/mail
cyrus_user: nobody
cyrus_group: nogroup
admins: chief
allowplaintext: yes
altnamespace: no
unixhierarchysep: no
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: {base}/sasldb2
sasl_mech_list: PLAIN LOGIN CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256
servername: localhost
munge8bit: no
"""

_MASTER = """
START {{
  recover cmd="{programs}/ctl_cyrusdb -C {base}/imapd.conf -r"
}}
SERVICES {{
  imap cmd="{programs}/imapd -C {base}/imapd.conf -U 30" listen="127.0.0.1:{port}" prefork=0 maxchild=30
}}
EVENTS {{
}}
"""


def missing() -> str:
    """Returns why it cannot run here; "" if it can."""
    return unpacked.missing("cyrus", "usr/lib/cyrus/bin/master", as_root=True)


class Cyrus:
    """The server (`imap.ImapServer`). A context manager: leaves no process and no file behind."""

    host = "127.0.0.1"

    def __init__(self) -> None:
        clear_away(PREFIX)
        self._base = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir="/tmp"))
        [self.port] = free_ports(1)
        self._programs = unpacked.root("cyrus") / "usr" / "lib" / "cyrus" / "bin"
        self._daemon = unpacked.Daemon(self._base / "log")
        self._environment = {"LD_LIBRARY_PATH": unpacked.libraries("cyrus")}

    def __enter__(self) -> Self:
        try:
            self._prepare()
            configuration = ["-C", f"{self._base}/imapd.conf", "-M", f"{self._base}/cyrus.conf"]
            command = [str(self._programs / "master"), *configuration, "-p", f"{self._base}/pid", "-D"]
            self._daemon.start(command, self.port, self._environment)
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._daemon.stop()
        self._clean_up()

    def user(self, name: str) -> Login:
        """A new user with an empty INBOX."""
        self._set_password(name)
        with signed_in(Login(self.host, self.port, ADMIN)) as chief:
            answer = chief.create(quoted(f"user.{name}"))
            assert answer[0] == "OK", answer
        return Login(self.host, self.port, name)

    def _prepare(self) -> None:
        values = {"base": self._base, "programs": self._programs, "port": self.port}
        (self._base / "imapd.conf").write_text(_IMAPD.format(**values))
        (self._base / "cyrus.conf").write_text(_MASTER.format(**values))
        for folder in ("conf", "conf/proc", "conf/lock", "conf/socket", "mail"):
            (self._base / folder).mkdir()
        self._base.chmod(0o755)
        self._set_password(ADMIN)

    def _set_password(self, name: str) -> None:
        program = unpacked.root("cyrus") / "usr" / "sbin" / "saslpasswd2"
        database = ["-f", f"{self._base}/sasldb2", "-u", "localhost"]
        subprocess.run(
            [program, "-p", "-c", *database, name],
            input=PASSWORD.encode(),
            env={**os.environ, **self._environment},
            check=True,
        )
        owner = pwd.getpwnam(_RUNS_AS)
        for path in (self._base, *self._base.rglob("*")):
            if path.owner() != _RUNS_AS:
                os.chown(path, owner.pw_uid, owner.pw_gid)

    def _clean_up(self) -> None:
        shutil.rmtree(self._base, ignore_errors=True)
