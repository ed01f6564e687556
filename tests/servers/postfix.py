"""A private Postfix for tests, benchmarks and the demo: SMTP, submission with STARTTLS and with TLS, on loopback.

    with Dovecot() as dovecot, Postfix(dovecot) as server:
        dovecot.add_user("relay", "secret")          # who may sign in
        ... server.host, server.ports.submissions, server.ca_file ...
        server.received("me@example.org", at_least=1)

Needs `tests/servers/install` to have been run once, and root: Postfix's master starts under no other user. Every
address @example.org has a mailbox, but `refused…@` gets 550 and `later…@` gets 450; mail to anywhere else is taken
from who has signed in, and thrown away. Users and passwords are Dovecot's. Configuration, queue and data lie in a
temporary directory, and the system's own Postfix, if there is one, is not touched. It dies with the thread that
started it; what a killed parent leaves in /tmp is removed the next time.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers import postfix_config
from tests.servers.dovecot import Dovecot, clear_away, free_ports

START_TIMEOUT_S = 20.0
QUEUE_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.01
HEADER_OCTETS = 2000  # more than what Postfix puts on top
PREFIX = "syncd-postfix-"  # then the process that made it
OWNER = "postfix"  # made by the Debian package
SBIN = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
MASTER = Path("/usr/lib/postfix/sbin/master")  # Debian's


def missing() -> str:
    """Why it cannot run here, in one line; empty when it can."""
    if os.getuid() != 0:
        return "Postfix starts as root only, and this is not root"
    if not MASTER.exists():
        return "Postfix is not installed; run tests/servers/install"
    return ""


class Postfix:
    """The server. A context manager: runs inside the block, leaves no process and no file behind.

    `settings` are Postfix's own (`{"message_size_limit": "10000"}`) and win over ours. `directory` is where its
    temporary directory is made (default: /tmp); others must be able to reach it.
    """

    host = "127.0.0.1"

    def __init__(
        self, dovecot: Dovecot, settings: Mapping[str, str] | None = None, directory: Path = Path("/tmp")
    ) -> None:
        if reason := missing():
            raise RuntimeError(reason)
        clear_away(PREFIX)
        self._settings = dict(settings or {})
        self._base = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=directory))
        self._base.chmod(0o755)  # Postfix's daemons run as different users
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        owner = pwd.getpwnam(OWNER)
        self.log_file = self._base / "log"
        self.mail = self._base / "mail"
        for name in ("mail", "data", "queue"):
            (self._base / name).mkdir(mode=0o755)
        for name in ("mail", "data"):
            os.chown(self._base / name, owner.pw_uid, owner.pw_gid)
        self.ca_file = dovecot.ca_file
        self.ports = postfix_config.Ports(*free_ports(4))
        self._place = postfix_config.Place(
            base=self._base,
            mail=self.mail,
            uid=owner.pw_uid,
            gid=owner.pw_gid,
            key=dovecot.authority.key_file,
            certificate=dovecot.authority.certificate_file,
            sasl_port=dovecot.sasl_port,
        )

    # --- life ---------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._clean_up()

    def _clean_up(self) -> None:
        self.stop()
        shutil.rmtree(self._base, ignore_errors=True)

    def start(self) -> None:
        """Start and wait until it answers. Raises RuntimeError with the end of its log when it does not."""
        postfix_config.write(self._place, self.ports, self._settings)
        configuration = str(self._base / "etc")
        checked = subprocess.run(
            [shutil.which("postfix", path=SBIN) or "postfix", "-c", configuration, "check"],
            capture_output=True,
            text=True,
            check=False,
        )
        if checked.returncode:  # it also makes the directories of the queue
            raise RuntimeError(f"Postfix does not like its configuration: {checked.stderr}{self.log()[-2000:]}")
        self._process = subprocess.Popen(
            [str(MASTER), "-c", configuration, "-s"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._watcher = subprocess.Popen(  # its input ends with us, however we end
            ["sh", "-c", 'read -r _; kill "$0"', str(self._process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with socket.create_connection((self.host, self.ports.smtp), timeout=START_TIMEOUT_S) as probe:
                    if probe.recv(512).startswith(b"220"):
                        return
            except ConnectionRefusedError:
                time.sleep(POLL_S)
        self.stop()
        raise RuntimeError(f"Postfix did not start; the end of its log:\n{self.log()[-2000:]}")

    @property
    def process_id(self) -> int:
        """The master process, while it runs."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def stop(self) -> None:
        """Stop; every process of the server is gone afterwards. Repeatable."""
        process, self._process = self._process, None
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.kill()
            watcher.communicate()
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        try:
            os.killpg(process.pid, signal.SIGKILL)  # the session is the server's own
        except ProcessLookupError:
            return

    def restart(self, settings: Mapping[str, str] | None = None) -> None:
        """Stop and start on the same ports with the same queue and mail; `settings` are added."""
        self.stop()
        self._settings.update(settings or {})
        self.start()

    # --- what it did --------------------------------------------------------------------------------

    def log(self) -> str:
        """The log so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def received(self, recipient: str, *, at_least: int = 0) -> list[bytes]:
        """Returns the messages for an address (LF, Postfix's trace headers first), when the queue is empty."""
        return [file.read_bytes() for file in self.files(recipient, at_least=at_least)]

    def files(self, recipient: str, *, at_least: int = 0) -> list[Path]:
        """The same, as the files that it is in."""
        deadline = time.monotonic() + QUEUE_TIMEOUT_S
        while True:
            empty = self._queue_is_empty()
            found = self._delivered_to(recipient) if empty else []
            if empty and len(found) >= at_least:
                return found
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(found)} messages came for {recipient}, not {at_least}:\n{self.log()[-2000:]}")
            time.sleep(POLL_S)

    def _queue_is_empty(self) -> bool:
        """Nothing is on its way; a message moves from `incoming` to `active`, so they are looked at in this order."""
        queues = (self._base / "queue" / name for name in ("incoming", "active", "deferred"))
        return not any(file.is_file() for queue in queues for file in queue.rglob("*"))

    def _delivered_to(self, recipient: str) -> list[Path]:
        folder = self.mail / "all" / "new"
        files = sorted(folder.iterdir()) if folder.exists() else []
        wanted = f"\nDelivered-To: {recipient}\n".encode()
        return [file for file in files if wanted in _start(file)]


def _start(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(HEADER_OCTETS)
