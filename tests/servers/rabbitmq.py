"""A private RabbitMQ for tests: AMQP on a loopback port, with a port mapper (epmd) of its own.

    with RabbitMQ() as server:             # takes 3 to 5 s
        url = server.url                   # "amqp://guest:guest@127.0.0.1:NNNNN//"
        server.kill(); server.start()      # same port, same data
        server.wipe()                      # same port, no queues

Needs `tests/servers/install` to have been run once. As root, it is started as Debian's `rabbitmq` user. It dies with
the thread that started it; what a killed parent leaves in /tmp is removed the next time.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.servers.dovecot import clear_away
from tests.servers.process import Breakable, steady_port

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
PREFIX = "syncd-rabbitmq-"  # then the process that made it
ROOT_RUNS_AS = "rabbitmq"  # made by the Debian package
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # Debian's; the one on the PATH insists on the system's folders
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"  # AMQP 0-9-1 §4.2.2; the server's first frame is a method: 0x01


def missing() -> str:
    """Why it cannot run here, in one line; empty when it can."""
    return "" if SERVER.exists() else "RabbitMQ is not installed; run tests/servers/install"


class RabbitMQ(Breakable):
    """The server. A context manager: runs inside the block, leaves no process and no file behind.

    `settings` are lines of rabbitmq.conf (`{"consumer_timeout": "10000"}`) and win over ours.
    """

    name = "RabbitMQ"

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        super().__init__()
        if reason := missing():
            raise RuntimeError(reason)
        clear_away(PREFIX)
        self.directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir="/tmp"))
        self.port = steady_port()
        self._epmd_port = steady_port()
        self._distribution_port = steady_port()
        self._epmd: subprocess.Popen[bytes] | None = None
        self._log = self.directory / "log"
        self._data = self.directory / "data"
        self._data.mkdir()
        self._write(settings or {})
        if os.getuid() == 0:
            owner = pwd.getpwnam(ROOT_RUNS_AS)
            for place in (self.directory, *self.directory.iterdir()):
                os.chown(place, owner.pw_uid, owner.pw_gid)

    @property
    def url(self) -> str:
        """Where it is, for Kombu and Celery."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> None:
        """Start with the data that is there, and wait until it answers. Raises RuntimeError when it does not."""
        if self._epmd is None:
            self._epmd = self._launch("epmd", "-address", "127.0.0.1", "-port", str(self._epmd_port))
        self._process = self._launch(str(SERVER))
        self._wait_for(self.port, PROTOCOL_HEADER, b"\x01", self._log, START_TIMEOUT_S)

    def stop(self) -> None:
        """Stop; durable queues are kept. Repeatable."""
        self._ask_to_stop(signal.SIGTERM, STOP_TIMEOUT_S)

    def wipe(self) -> None:
        """Kill it, throw its data away, and start it on the same port."""
        self.kill()
        for place in self._data.iterdir():
            shutil.rmtree(place) if place.is_dir() else place.unlink()
        self.start()

    def clean_up(self) -> None:
        """Stop, and remove every file."""
        self.stop()
        epmd, self._epmd = self._epmd, None
        if epmd is not None:
            epmd.kill()
            epmd.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _write(self, settings: Mapping[str, str]) -> None:
        ours = {
            "listeners.tcp.1": f"127.0.0.1:{self.port}",
            "disk_free_limit.absolute": "1MB",
            "log.console": "true",
            "log.console.level": "info",
            "log.file": "false",
        }
        lines = [f"{key} = {value}\n" for key, value in (ours | dict(settings)).items()]
        (self.directory / "rabbitmq.conf").write_text("".join(lines))
        (self.directory / "plugins").write_text("[].\n")

    def _launch(self, *command: str) -> subprocess.Popen[bytes]:
        drop = []
        if os.getuid() == 0:
            drop = [f"--reuid={ROOT_RUNS_AS}", f"--regid={ROOT_RUNS_AS}", "--clear-groups"]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                ["setpriv", *drop, "--pdeathsig=KILL", "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=self._environment(),
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", "") + ":/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(self.directory),  # Erlang's cookie
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_CRASH_DUMP_SECONDS": "0",
            "RABBITMQ_NODENAME": "syncd@localhost",
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_CONF_ENV_FILE": str(self.directory / "none"),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self._data),
            "RABBITMQ_LOG_BASE": str(self.directory),
            "RABBITMQ_PID_FILE": str(self.directory / "pid"),
            # One scheduler thread that does not spin; our own epmd, not one that outlives us.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none -start_epmd false "
            "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_ALLOW_INPUT": "yes",  # the script becomes the server, so its process id is the server's
            "RABBITMQ_SERVER_START_ARGS": "-noinput",
        }
