"""A private Courier IMAP server for tests, unpacked beside Dovecot: no LITERAL+, no CONDSTORE, `INBOX.` and `.`.

Its paths are compiled in, so it runs in a mount namespace of its own (needs root): its folders lie over the system's
there, and nowhere else.

    if reason := missing(): pytest.skip(reason)
    with Courier() as server:
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

PREFIX = "syncd-courier-"
_RUNS_AS = "nobody"

_SCRIPT = """#!/bin/sh
set -e
mount --make-rprivate /
mkdir {work}
mount -t tmpfs tmpfs {work}
mkdir {work}/u1 {work}/w1 {work}/u2 {work}/w2
mount -t overlay overlay -o lowerdir={root}/etc:/etc,upperdir={work}/u1,workdir={work}/w1 /etc
mount -t overlay overlay -o lowerdir={root}/usr/lib:/usr/lib,upperdir={work}/u2,workdir={work}/w2 /usr/lib
mount -t tmpfs tmpfs /run
mkdir -p /run/courier/authdaemon
cat >/etc/courier/authdaemonrc <<END
authmodulelist="authuserdb"
authmodulelistorig="authuserdb"
daemons=2
authdaemonvar=/run/courier/authdaemon
DEFAULTOPTIONS=""
LOGGEROPTS=""
END
cp {base}/userdb /etc/courier/userdb
chmod 700 /etc/courier/userdb
export PATH={root}/usr/sbin:{root}/usr/bin:$PATH
export LD_LIBRARY_PATH=/usr/lib/courier-authlib:{libraries}
perl {root}/usr/sbin/makeuserdb
{root}/usr/lib/courier/courier-authlib/authdaemond &
until test -S /run/courier/authdaemon/socket; do sleep 0.02; done  # until then nobody can sign in
set -a
. /etc/courier/imapd
. /etc/courier/imapd-ssl
set +a
export IMAP_STARTTLS=NO IMAP_ENHANCEDIDLE=0 IMAP_USELOCKS=0
exec {root}/usr/sbin/couriertcpd -address=127.0.0.1 -maxprocs=20 -maxperip=20 -nodnslookup -noidentlookup {port} \
/usr/lib/courier/courier/imaplogin {root}/usr/bin/imapd Maildir
"""


def missing() -> str:
    """Returns why it cannot run here; "" if it can."""
    reason = unpacked.missing("courier", "usr/sbin/couriertcpd", as_root=True)
    if reason:
        return reason
    namespace = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    return "" if namespace.returncode == 0 else "courier needs a mount namespace, which this machine does not allow"


class Courier:
    """The server (`imap.ImapServer`). A context manager: leaves no process and no file behind.

    Users are known when it starts: `users` names them.
    """

    host = "127.0.0.1"

    def __init__(self, users: int = 20) -> None:
        clear_away(PREFIX)
        self._base = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir="/tmp"))
        [self.port] = free_ports(1)
        self._daemon = unpacked.Daemon(self._base / "log")
        self._free = [f"user{number}" for number in range(users, 0, -1)]

    def __enter__(self) -> Self:
        try:
            self._prepare()
            self._daemon.start(["unshare", "-m", str(self._base / "start")], self.port)
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._daemon.stop()
        self._clean_up()

    def user(self, name: str) -> Login:
        """A user with an empty INBOX, one of those that the server was started with, whatever `name` is."""
        del name
        return Login(self.host, self.port, self._free.pop())

    def _prepare(self) -> None:
        self._base.chmod(0o755)
        work = self._base / "work"  # an overlay cannot lie on another one, as /tmp of a container may be: a tmpfs can
        owner = pwd.getpwnam(_RUNS_AS)
        password = subprocess.run(
            ["openssl", "passwd", "-1", PASSWORD], capture_output=True, text=True, check=True
        ).stdout.strip()
        lines = []
        for name in self._free:
            home = self._base / name
            for folder in ("new", "cur", "tmp"):
                (home / "Maildir" / folder).mkdir(parents=True)
            for path in (home, home / "Maildir", *(home / "Maildir").iterdir()):
                os.chown(path, owner.pw_uid, owner.pw_gid)
            lines.append(f"{name}\tuid={owner.pw_uid}|gid={owner.pw_gid}|home={home}|imappw={password}\n")
        (self._base / "userdb").write_text("".join(lines))
        values = {"root": unpacked.root("courier"), "libraries": unpacked.libraries("courier"), "port": self.port}
        (self._base / "start").write_text(_SCRIPT.format(base=self._base, work=work, **values))
        (self._base / "start").chmod(0o755)

    def _clean_up(self) -> None:
        shutil.rmtree(self._base, ignore_errors=True)
