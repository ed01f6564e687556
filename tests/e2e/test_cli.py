"""The command as people use it: real processes, a real server, a real terminal."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.servers.dovecot import Dovecot
from tests.servers.maildrop import presented
from tests.support import mail
from tests.support.proxy import Act, Fault, Proxy, Way

pytestmark = pytest.mark.servers

PROMPT_END_S = 5.0  # it promises a second; a busy machine may take longer, a server that hangs takes a minute
PATIENCE_S = 60.0
MANY = 1000  # half a second's work at least, so that a run is under way when something comes in between


@functools.cache
def many() -> list[bytes]:
    """60 MiB."""
    return list(mail.realistic(MANY, seed=2))


class Commands:
    """`syncd` in a directory with a configuration for one user."""

    def __init__(self, directory: Path, server: Dovecot, user: str) -> None:
        self.directory = directory
        self.server = server
        self.user = user
        self.environment: dict[str, str] = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "PASSWORD": "secret",
            "TERM": "xterm",
        }
        self.configure()

    def configure(self, job: str = "", account: str = "") -> None:
        (self.directory / "syncd.toml").write_text(
            f'state_directory = "state"\n'
            f'[accounts.road]\nprotocol = "pop3"\nhost = "localhost"\nport = {self.server.pop3s_port}\n'
            f'ca_file = "{self.server.ca_file}"\nusername = "{self.user}"\npassword = "env:PASSWORD"\n{account}\n'
            f'[archives.home]\npath = "home"\n[archives.files]\npath = "files"\nformat = "maildir"\n'
            f'[jobs.backup]\nsource = "road"\ndestinations = ["home", "files"]\n{job}\n'
        )

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "syncd", *arguments]

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.directory,
            env={**self.environment, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @contextlib.contextmanager
    def terminal(self, *arguments: str) -> Iterator[Terminal]:
        """Run it in a terminal of its own."""
        process, descriptor = pty.fork()
        if process == 0:
            os.chdir(self.directory)
            os.execve(sys.executable, self.command(*arguments), self.environment)
        try:
            yield Terminal(process, descriptor)
        finally:
            os.close(descriptor)


class Terminal:
    """The other side of a process's terminal."""

    def __init__(self, process: int, descriptor: int) -> None:
        self.process = process
        self.shown = b""
        self._descriptor = descriptor

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while text.encode() not in self.shown and time.monotonic() < deadline:
            if not self._read():
                break
        assert text.encode() in self.shown, self.shown

    def end(self) -> int:
        """Read to the end; the exit code."""
        while self._read():
            continue
        _, status = os.waitpid(self.process, 0)
        return os.waitstatus_to_exitcode(status)

    def _read(self) -> bytes:
        select.select([self._descriptor], [], [], PATIENCE_S)
        try:
            octets = os.read(self._descriptor, 65536)
        except OSError:  # Linux says EIO when the last process has closed the other side
            return b""
        self.shown += octets
        return octets


@pytest.fixture
def syncd(tmp_path: Path, dovecot: Dovecot, user: str) -> Commands:
    return Commands(tmp_path, dovecot, user)


def texts(done: Iterable[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in done]


def test_from_a_first_look_to_an_export(syncd: Commands, dovecot: Dovecot) -> None:
    sent = list(mail.realistic(60, seed=5))
    dovecot.deliver(syncd.user, sent)
    never = syncd.run("status")
    assert (never.returncode, "never" in never.stdout) == (0, True)

    looked = syncd.run("check")
    assert looked.returncode == 0, looked.stderr
    assert "road: signed in to localhost:" in looked.stdout
    assert "backup: would fetch 60 messages" in looked.stdout
    assert dovecot.sessions(syncd.user, at_least=1)[-1].retrieved == 0

    first = syncd.run("run")
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("backup: 60 messages fetched")
    assert "60 into home, 60 into files, all left on the server" in first.stdout
    again = syncd.run("run", "backup")
    assert (again.returncode, again.stdout) == (0, "backup: nothing new (60 messages on the server)\n")
    assert dovecot.sessions(syncd.user, at_least=3)[-1].retrieved == 0

    status = json.loads(syncd.run("status", "--json").stdout)
    assert (status[0]["known"]["on_server"], status[0]["known"]["done"]) == (60, 60)
    assert len(json.loads(syncd.run("runs", "--json").stdout)) == 2
    assert syncd.run("errors").stderr == "no message waits\n"

    for archive in ("home", "files"):
        assert syncd.run("archive", "check", archive).returncode == 0
    listed = json.loads(syncd.run("archive", "list", "home", "--json").stdout)
    assert len(listed) == 60
    shown = subprocess.run(
        syncd.command("archive", "show", str(syncd.directory / "home"), str(listed[0]["id"])),
        cwd="/", env=syncd.environment, capture_output=True, check=True,
    )  # fmt: skip
    assert shown.stdout in map(presented, sent)
    exported = syncd.run("archive", "export", "home", "out", "--format", "eml")
    assert exported.returncode == 0
    files = sorted((syncd.directory / "out").rglob("*.eml"))
    assert [file.read_bytes() for file in files] == sent


def test_json_of_a_run(syncd: Commands, dovecot: Dovecot) -> None:
    dovecot.deliver(syncd.user, mail.small(5, seed=1))
    done = syncd.run("run", "--json")
    events = texts(done.stdout.splitlines())
    assert [event["event"] for event in events][:1] == ["started"]
    last = events[-1]
    assert (last["event"], last["exit_code"], last["fetched"], last["delivered"]) == (
        "finished",
        0,
        5,
        {"home": 5, "files": 5},
    )
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("account", "environment", "code", "line"),
    [
        ("", {"PASSWORD": "wrong"}, 4, "backup: localhost:"),
        ("", {"PASSWORD": ""}, 6, "backup: env:PASSWORD gives an empty password"),
        ('fingerprint = "' + "0" * 64 + '"', {}, 1, "backup: localhost:"),
        ("connections = 0", {}, 6, "syncd: syncd.toml: accounts.road.connections: 0 is too small"),
    ],
)
def test_what_goes_wrong_is_one_clear_line(
    syncd: Commands, account: str, environment: dict[str, str], code: int, line: str
) -> None:
    syncd.configure(account=account)
    done = syncd.run("run", "--quiet", environment=environment)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


def test_a_server_that_is_not_there(syncd: Commands) -> None:
    config = syncd.directory / "syncd.toml"
    config.write_text(config.read_text().replace(f"port = {syncd.server.pop3s_port}", "port = 1"))
    done = syncd.run("run", "--quiet")
    assert done.returncode == 5
    assert done.stderr.startswith("backup: ")
    assert done.stderr.count("\n") == 1


def test_a_second_run_says_who_holds_the_job(syncd: Commands, dovecot: Dovecot) -> None:
    dovecot.deliver(syncd.user, many(), again=True)
    config = syncd.directory / "syncd.toml"
    with Proxy((dovecot.host, dovecot.pop3s_port)) as network:
        config.write_text(config.read_text().replace(f"port = {dovecot.pop3s_port}", f"port = {network.port}"))
        network.fault = Fault(Way.DOWN, after=10 << 20, act=Act.STALL)
        first = syncd.start("run")
        assert first.stderr is not None
        while "fetching" not in (line := first.stderr.readline()):
            assert line, "the first run ended"
        network.fault = None
        second = syncd.run("run")
        assert second.returncode == 10
        assert f"process {first.pid} " in second.stderr
        first.send_signal(signal.SIGKILL)
        first.communicate()
        (died,) = json.loads(syncd.run("runs", "--json").stdout)
        assert died["outcome"] == "died"
        third = syncd.run("run")
        assert third.returncode == 0, third.stderr
    (taken_over,) = json.loads(syncd.run("runs", "--json").stdout)
    assert (taken_over["run_id"], taken_over["outcome"]) == (died["run_id"], "done")
    assert taken_over["counts"]["fetched"] >= MANY, "of both processes"
    assert json.loads(syncd.run("archive", "stats", "home", "--json").stdout)["messages"] == MANY


def test_status_in_a_second_terminal_shows_how_far_a_run_is(syncd: Commands, dovecot: Dovecot) -> None:
    dovecot.deliver(syncd.user, many(), again=True)
    process = syncd.start("run")
    assert process.stderr is not None
    while "fetching" not in (line := process.stderr.readline()):
        assert line, "the run ended"
    process.send_signal(signal.SIGSTOP)  # as long as somebody looks
    try:
        (job,) = json.loads(syncd.run("status", "--json").stdout)
        last = job["known"]["last"]
        assert (last["outcome"], last["exit_code"]) == ("running", None)
        shown = syncd.run("status")
        assert "running" in shown.stdout
        assert "backup: running: " in shown.stderr
    finally:
        process.send_signal(signal.SIGCONT)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    (job,) = json.loads(syncd.run("status", "--json").stdout)
    assert (job["known"]["last"]["outcome"], job["known"]["done"]) == ("done", MANY)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.soak)])
def test_a_signal_ends_a_run_within_a_second_with_all_state_saved(
    syncd: Commands, dovecot: Dovecot, number: signal.Signals
) -> None:
    dovecot.deliver(syncd.user, many(), again=True)
    process = syncd.start("run")
    assert process.stderr is not None
    while "fetching" not in (line := process.stderr.readline()):
        assert line, "the run ended"
    process.send_signal(number)
    began = time.monotonic()
    _, err = process.communicate(timeout=PATIENCE_S)
    assert time.monotonic() - began < PROMPT_END_S
    assert process.returncode == 130
    assert err.splitlines()[0] == "stopping …"
    assert json.loads(syncd.run("runs", "--json").stdout)[0]["outcome"] in {"stopped", "died"}
    again = syncd.run("run")
    assert again.returncode == 0, again.stderr
    assert json.loads(syncd.run("archive", "stats", "home", "--json").stdout)["messages"] == MANY
    assert syncd.run("archive", "check", "home").returncode == 0


def test_bars_on_a_terminal(syncd: Commands, dovecot: Dovecot) -> None:
    dovecot.deliver(syncd.user, mail.small(30, seed=4))
    with syncd.terminal("run") as terminal:
        assert terminal.end() == 0
    shown = terminal.shown.decode()
    assert "backup: connecting …" in shown
    assert "30/30" in shown
    assert "100%" in shown
    assert "30 messages fetched" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is back


def test_ctrl_c_in_a_terminal(syncd: Commands, dovecot: Dovecot) -> None:
    dovecot.deliver(syncd.user, many(), again=True)
    with syncd.terminal("run") as terminal:
        terminal.wait_for(f"0/{MANY:,}")
        terminal.type("\x03")
        began = time.monotonic()
        assert terminal.end() == 130
    assert time.monotonic() - began < PROMPT_END_S
    assert "stopping …" in terminal.shown.decode()
    assert terminal.shown.rindex(b"\x1b[?25h") > terminal.shown.rindex(b"\x1b[?25l")


@pytest.mark.parametrize(("answer", "code", "left"), [("y\n", 0, 0), ("\n", 7, 5), ("\x03", 130, 5)])
def test_the_one_question_before_a_removal(
    syncd: Commands, dovecot: Dovecot, answer: str, code: int, left: int
) -> None:
    dovecot.deliver(syncd.user, mail.small(5, seed=7))
    syncd.configure(job="leave_on_server = false")
    unasked = syncd.run("run")
    assert unasked.returncode == 7
    assert "confirm_removal = true" in unasked.stderr
    with syncd.terminal("run") as terminal:
        terminal.wait_for("[y/N]")
        terminal.type(answer)
        assert terminal.end() == code
    assert "5 messages delivered to every destination would be removed from localhost" in terminal.shown.decode()
    assert len(list((dovecot.maildir(syncd.user) / "cur").iterdir())) + len(
        list((dovecot.maildir(syncd.user) / "new").iterdir())
    ) == left  # fmt: skip


def test_help_loads_little(syncd: Commands) -> None:
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "syncd.cli.main", "--help"],
        capture_output=True, text=True, check=True, cwd=syncd.directory,
    )  # fmt: skip
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in shown.stderr.splitlines() if "|" in line}
    assert "click" in loaded
    assert not loaded & {"sqlalchemy", "pydantic", "celery", "apscheduler", "rich", "structlog", "ssl", "asyncio"}
