"""A private Dovecot for tests, benchmarks and the demo: POP3, POP3S and STLS, and LMTP, on free loopback ports.

    with Dovecot() as server:
        server.add_user("alice", "secret")
        server.deliver("alice", [b"Subject: hi\\r\\n\\r\\nhello\\r\\n"])
        ... server.host, server.pop3_port, server.pop3s_port, server.ca_file ...
        assert server.sessions("alice")[-1].retrieved == 0

Needs `tests/servers/install` to have been run once. Root or not makes no difference: the server runs without
privileges (as root, it is started as Debian's `dovecot` user), and dies with the thread that started it.
LMTP delivers to every user, whatever the domain of the address; `sasl_port` is what `tests.servers.postfix` asks who
may sign in; `relay` (host, port) adds the submission service, which hands on to that SMTP server.
Runs Dovecot 2.3 (Debian 12) and 2.4 (Debian 13); mail is kept as Maildir. What a killed parent leaves in /tmp is
removed the next time.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tests.servers import config, maildrop
from tests.servers.certificate import Authority

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.01
PREFIX = "syncd-dovecot-"  # then the process that made it
ROOT_RUNS_AS = "dovecot"  # made by the Debian package, owns nothing but the server's own run directory


class Session(NamedTuple):
    """The commands of a POP3 session, from the server's own log line at its end."""

    user: str
    top: int  # TOP commands
    retrieved: int  # RETR commands
    retrieved_octets: int
    deleted: int
    messages: int  # in the maildrop when it was opened


_SESSION = re.compile(
    r"pop3\((?P<user>[^)]*)\).*\btop=(\d+)/\d+, retr=(\d+)/(\d+), del=(\d+)/(\d+), size=\d+", re.MULTILINE
)

PORTS = (10_000, 32_000)
_chance = random.SystemRandom()  # many test processes at a time ask
_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Ports that are free on loopback now, each given once by this process.

    They lie below those that the kernel gives to connections, which would otherwise take one before its server does.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = _chance.randrange(*PORTS)
        if port in _given:
            continue
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            _given.add(port)
            ports.append(port)
    return ports


def clear_away(prefix: str, place: str = "/tmp") -> None:
    """Remove what processes that are gone left in a place for all; only files of our own can be removed there."""
    for left in Path(place).glob(f"{prefix}*"):
        if not Path("/proc", left.name.removeprefix(prefix).partition("-")[0]).exists():
            shutil.rmtree(left, ignore_errors=True)


class Dovecot:
    """The server. A context manager: runs inside the block, leaves no process and no file behind.

    `settings` are Dovecot's own (`{"pop3_lock_session": "yes"}`) and win over ours; `blocks` are further lines of its
    configuration, such as namespaces (see `tests.servers.imap` for those of IMAP). `directory` is where mail is kept
    (default: a temporary directory); it must be reachable for an unprivileged user when we are root.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        directory: Path | None = None,
        relay: tuple[str, int] | None = None,
        blocks: str = "",
    ) -> None:
        self._settings = dict(settings or {})
        self._blocks = blocks
        self.relay = relay
        # Not pytest's tmp_path: that is closed to other users, and Unix sockets need a path under 108 octets.
        clear_away(PREFIX)
        self._base = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir="/tmp"))
        self.mail = Path(tempfile.mkdtemp(prefix="mail-", dir=directory or self._base))
        self.log_file = self._base / "log"
        self.pop3_port, self.pop3s_port, self.imap_port, self.imaps_port = free_ports(4)
        self.lmtp_port, self.sasl_port, self.submission_port, self.submissions_port = free_ports(4)
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = pwd.getpwnam(ROOT_RUNS_AS) if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        self.authority = Authority(self._base, "localhost", self.host)
        self.ca_file = self.authority.ca_file
        self._users = self._base / "users"  # a file for each: Dovecot looks at a password file once a second only
        self._users.mkdir()
        self.log_file.touch()
        for path in (self._base, self.mail, *self._base.iterdir()):
            os.chown(path, self._owner.pw_uid, self._owner.pw_gid)

    # --- life ---------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        self._clean_up()

    def _clean_up(self) -> None:
        for path in {self.mail, self._base}:
            shutil.rmtree(path, ignore_errors=True)

    def start(self) -> None:
        """Start and wait until it answers. Raises RuntimeError with the end of its log when it does not."""
        binary = shutil.which("dovecot", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if binary is None:
            raise RuntimeError("dovecot is not installed; run tests/servers/install")
        text = config.render(config.version(binary), self)
        file = self._base / "dovecot.conf"
        file.write_text(text + "".join(f"{key} = {value}\n" for key, value in self._settings.items()) + self._blocks)
        drop = [f"--reuid={ROOT_RUNS_AS}", f"--regid={ROOT_RUNS_AS}", "--clear-groups"] if os.getuid() == 0 else []
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", *drop, "--pdeathsig=TERM", "--", binary, "-F", "-c", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with socket.create_connection((self.host, self.pop3_port), timeout=START_TIMEOUT_S) as probe:
                    if probe.recv(512).startswith(b"+OK"):
                        return
            except ConnectionRefusedError:
                time.sleep(POLL_S)
        self.stop()
        raise RuntimeError(f"Dovecot did not start; the end of its log:\n{self.log()[-2000:]}")

    @property
    def process_id(self) -> int:
        """The master process, while it runs."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def stop(self) -> None:
        """Stop; every process of the server is gone afterwards. Repeatable."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        try:
            os.killpg(
                process.pid, signal.SIGKILL
            )  # a session of its own: every process left in it is a child of the server
        except ProcessLookupError:
            return

    def restart(self, settings: Mapping[str, str] | None = None) -> None:
        """Stop and start on the same ports with the same mail; `settings` are added."""
        self.stop()
        self._settings.update(settings or {})
        self.start()

    # --- users and mail -----------------------------------------------------------------------------

    def add_user(self, user: str, password: str = "secret") -> None:
        """Make an account with an empty maildrop; works while the server runs."""
        (self._users / user).write_text(f"{user}:{{PLAIN}}{password}::::::\n")
        maildrop.create(self.maildir(user), self._owner)

    def maildir(self, user: str) -> Path:
        """The user's Maildir."""
        return self.mail / user / "Maildir"

    def deliver(self, user: str, messages: Iterable[bytes], *, verbatim: bool = False, again: bool = False) -> int:
        """Put messages into the maildrop, in order; returns how many.

        CRLF becomes LF as Maildirs have it, unless `verbatim`. `maildrop.presented` tells what RETR will give.
        `again`: others will get the same messages.
        """
        store = self.mail.parent / "store" if again else None
        if store is not None:
            store.mkdir(exist_ok=True)
        return maildrop.deliver(self.maildir(user), messages, self._owner, verbatim=verbatim, store=store)

    def deliver_stream(self, user: str, chunks: Iterable[bytes]) -> int:
        """Put one message of any size into the maildrop, as given; returns its octets."""
        return maildrop.deliver_stream(self.maildir(user), chunks, self._owner)

    def received(self, user: str) -> list[bytes]:
        """Returns the user's maildrop as stored (LF; messages from LMTP begin with Dovecot's own headers)."""
        return [file.read_bytes() for file in self.files(user)]

    def files(self, user: str) -> list[Path]:
        """The same, as the files that it is in."""
        folders = (self.maildir(user) / part for part in ("cur", "new"))
        return [file for folder in folders for file in sorted(folder.iterdir())]

    # --- what it did --------------------------------------------------------------------------------

    def log(self) -> str:
        """The log so far."""
        return self.log_file.read_text(errors="replace")

    def end_sessions(self, user: str) -> None:
        """End POP3 sessions whose process waits for commands of a client that is gone.

        One that was killed while its connection went from the login process to the session's is now and then not
        noticed; the session would last for ten minutes more.
        """
        log = self.log()
        begun = re.findall(rf"Login: user=<{re.escape(user)}>.*\bmpid=(\d+)", log)
        for process_id in map(int, begun):
            if f"pop3({user})<{process_id}>" not in log:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process_id, signal.SIGTERM)

    def sessions(self, user: str, *, at_least: int = 0) -> list[Session]:
        """The user's finished POP3 sessions in order; waits a moment for `at_least` of them to reach the log."""
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while True:
            found = [Session(m[1], *map(int, m.groups()[1:])) for m in _SESSION.finditer(self.log()) if m[1] == user]
            if len(found) >= at_least:
                return found
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(found)} finished sessions of {user} in the log, not {at_least}")
            time.sleep(POLL_S)
