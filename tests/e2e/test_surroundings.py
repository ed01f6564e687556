"""The command where its surroundings are poor: closed streams, few open files, no home, a password command gone mad."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.pop3 import PASSWORD, USERNAME, FakePop3
from tests.support import mail

MAIL = list(mail.small(3, seed=8))
ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
STOP_S = 10.0  # it promises a second; a busy machine takes longer, a command that is not ended takes a minute


class Place:
    """A configuration in a folder of its own, and the command there."""

    def __init__(self, directory: Path, server: FakePop3) -> None:
        self.directory = directory
        self.server = server
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "PYTHONPATH": str(ROOT),
            "PASSWORD": PASSWORD,
        }
        self.configure()

    def configure(self, password: str = "env:PASSWORD", jobs: int = 1) -> None:
        text = f'state_directory = "{self.directory}/state"\n[archives.home]\npath = "{self.directory}/home"\n'
        for number in range(jobs):
            text += (
                f'[accounts.a{number}]\nprotocol = "pop3"\nhost = "{self.server.host}"\nport = {self.server.port}\n'
                f'security = "none"\nallow_insecure = true\nusername = "{USERNAME}"\npassword = \'{password}\'\n'
                f'[jobs.j{number}]\nsource = "a{number}"\ndestinations = ["home"]\n'
            )
        (self.directory / "syncd.toml").write_text(text)

    def line(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "syncd.cli.main", "-c", str(self.directory / "syncd.toml"), *arguments]

    def run(self, *arguments: str, closed: str = "", files: int = 0, cwd: Path | None = None) -> tuple[int, str]:
        """Exit code and everything that it says."""
        limit = f"ulimit -n {files};" if files else ""
        done = subprocess.run(
            ["sh", "-c", f'{limit} exec "$@" {closed}', "sh", *self.line(*arguments)],
            cwd=cwd or self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert "Traceback" not in done.stdout
        assert "bug in syncd" not in done.stdout
        return done.returncode, done.stdout

    def stored(self) -> str:
        return self.run("archive", "check", "home")[1]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with FakePop3(MAIL) as server:
        yield Place(tmp_path, server)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_run_with_closed_streams_stores_everything(place: Place, closed: str) -> None:
    code, _ = place.run("run", closed=closed)
    assert code == 0
    assert "3 messages" in place.stored()


def test_few_open_files(place: Place) -> None:
    place.configure(jobs=8)
    code, said = place.run("run", "--parallel", "8", files=64)
    assert code == 2
    assert "8 jobs at a time need up to 116 open files, and 64 are allowed" in said
    assert "ulimit -n" in said
    assert not (place.directory / "state").exists()


def test_the_soft_limit_of_open_files_is_raised(place: Place) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert limits[1] == resource.RLIM_INFINITY or limits[1] > 32
    code = subprocess.run(
        ["sh", "-c", 'ulimit -Sn 24; exec "$@"', "sh", *place.line("-q", "run")],
        cwd=place.directory,
        env=place.environment,
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE_S,
        check=False,
    ).returncode
    assert code == 0
    assert "3 messages" in place.stored()


@pytest.mark.parametrize("home", [None, "", "relative"])
def test_without_a_home(place: Place, home: str | None) -> None:
    place.environment.pop("HOME")
    if home is not None:
        place.environment["HOME"] = home
    assert place.run("run")[0] == 0
    assert "3 messages" in place.stored()


@pytest.mark.parametrize("locale", ["C", "POSIX", "xx_YY.UTF-8", "xx_YY.nothing"])
def test_odd_locales(place: Place, locale: str) -> None:
    place.environment["LC_ALL"] = locale
    assert place.run("run")[0] == 0
    assert place.run("status")[0] == 0


def test_a_working_directory_that_is_gone(place: Place) -> None:
    gone = place.directory / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["sh", "-c", 'cd "$0"; rmdir "$0"; exec "$@"', str(gone), *place.line("-q", "run")],
        env=place.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 messages" in place.stored()


def test_a_password_command_without_end(place: Place) -> None:
    place.configure("command:yes")
    code, said = place.run("run")
    assert code == 6
    assert "the password command yes gives more than 64 KiB" in said
    assert place.server.connections <= 1


def test_a_password_command_runs_once_for_a_run(place: Place) -> None:
    ran = place.directory / "ran"
    place.configure(f'command:sh -c "echo x >> {ran}; echo {PASSWORD}"', jobs=3)
    assert place.run("run")[0] == 0
    assert ran.read_text() == "x\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_password_command_that_hears_no_signal_ends_with_the_run(place: Place, number: signal.Signals) -> None:
    file = place.directory / "pid"
    place.configure(f'command:sh -c "trap : INT TERM; echo $$ > {file}; while :; do sleep 1; done"')
    with subprocess.Popen(
        place.line("run"),
        cwd=place.directory,
        env=place.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        until = time.monotonic() + PATIENCE_S
        while not (file.exists() and file.read_text()) and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(number)
        said, _ = process.communicate(timeout=STOP_S)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "bug in syncd" not in said
    command = int(file.read_text())
    while Path(f"/proc/{command}").exists() and ") Z " not in Path(f"/proc/{command}/stat").read_text():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_octets_that_are_no_text_sign_in(place: Place) -> None:
    file = place.directory / "password"
    file.write_bytes(b"p\xe4ss\n")
    file.chmod(0o600)
    place.configure(f"file:{file}")
    place.server.capabilities = ("TOP", "UIDL", "USER")
    place.server.replies["PASS"] = b"+OK\r\n"
    assert place.run("check", "a0")[0] == 0
