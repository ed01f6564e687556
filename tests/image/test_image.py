"""The image: what it says of itself, and its commands as its own user on a read-only root (`make image-test`)."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest

from tests.fakes.pop3 import PASSWORD, USERNAME, FakePop3
from tests.image.workshop import Container, Workshop, missing
from tests.support import mail

pytestmark = pytest.mark.image

MAIL = list(mail.small(20, seed=11))
USER = 10001
PATIENCE_S = 60.0
STOP_TIMEOUT_S = 30.0  # stop_grace_period of the compose files


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    if reason := missing():
        pytest.skip(reason)
    with Workshop() as workshop:
        workshop.build()
        yield workshop


@pytest.fixture(scope="module")
def root(workshop: Workshop) -> Iterator[Path]:
    with workshop.root() as root:
        yield root


@pytest.fixture
def container(workshop: Workshop, root: Path, tmp_path: Path) -> Container:
    return Container(root, tmp_path, workshop.configuration())


def test_what_the_image_says_of_itself(workshop: Workshop) -> None:
    said = workshop.configuration()
    assert said["User"] == f"{USER}:{USER}"
    assert (said["Entrypoint"], said["Cmd"], said["StopSignal"]) == (["syncd"], ["serve"], "SIGTERM")
    assert said["Healthcheck"]["Test"][:2] == ["CMD", "python3"]
    assert list(said["ExposedPorts"]) == ["8425/tcp"]
    assert not [name for name in said["Env"] if re.search(r"PASS|SECRET|TOKEN", name)]


def test_it_is_this_version(container: Container) -> None:
    done = container.run("syncd", "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert metadata.version("syncd") in done.stdout


def test_everything_it_runs_on_can_be_imported(container: Container) -> None:
    done = container.run("python3", "-W", "error", "-c", "import celery, redis, psycopg, apscheduler, structlog, jobs")
    assert (done.returncode, done.stderr) == (0, "")


def test_its_user_may_write_its_state_and_nothing_else(container: Container) -> None:
    code = "import os, sys; print(os.getuid(), os.getgid(), os.getgroups()); open(sys.argv[1] + '/new', 'w')"
    for folder in ("/var/lib/syncd", "/archives", "/tmp"):
        done = container.run("python3", "-c", code, folder)
        assert (done.returncode, done.stdout) == (0, f"{USER} {USER} []\n"), done.stderr
    for folder in ("/", "/opt/syncd", "/etc/syncd", "/usr/local"):
        assert "Read-only file system" in container.run("python3", "-c", code, folder).stderr


def test_nothing_in_it_installs_packages(container: Container) -> None:
    code = (
        "import importlib.util as u; print([n for n in ('pip', 'setuptools', 'hatchling', 'pytest') if u.find_spec(n)])"
    )
    assert container.run("python3", "-c", code).stdout == "[]\n"
    assert not (container.root / "src").exists() or not list((container.root / "src").iterdir())


def configure(container: Container, server: FakePop3, schedule: str) -> None:
    (container.mounts / "etc" / "syncd.toml").write_text(
        f'[accounts.road]\nprotocol = "pop3"\nhost = "{server.host}"\nport = {server.port}\n'
        f'security = "none"\nallow_insecure = true\nusername = "{USERNAME}"\npassword = "env:PASSWORD"\n'
        '[archives.home]\npath = "/archives/home"\n[jobs.backup]\nsource = "road"\ndestinations = ["home"]\n'
        f'schedule = "{schedule}"\n'
    )


def stored(container: Container) -> int:
    listed = container.run("syncd", "--json", "archive", "list", "home")
    return len(json.loads(listed.stdout)) if listed.returncode == 0 else 0


def test_a_backup(container: Container) -> None:
    with FakePop3(MAIL) as server:
        configure(container, server, "every 15 minutes")
        done = container.run("syncd", "run", environment={"PASSWORD": PASSWORD})
        assert done.returncode == 0, done.stderr
    assert stored(container) == len(MAIL)
    checked = container.run("syncd", "archive", "check", "home")
    assert checked.returncode == 0, checked.stderr
    packs = list((container.mounts / "archives" / "home" / "packs").iterdir())
    assert packs
    assert all(pack.stat().st_uid == USER for pack in packs)


def test_the_service_is_healthy_and_stops_in_time(container: Container) -> None:
    health: list[str] = container.configuration["Healthcheck"]["Test"][1:]
    assert container.run(*health).returncode == 1  # nobody is there yet
    with FakePop3(MAIL) as server:
        configure(container, server, "every 2 seconds")
        service = container.start(
            *container.configuration["Entrypoint"],
            *container.configuration["Cmd"],
            environment={"PASSWORD": PASSWORD},
        )
        try:
            wait(lambda: container.run(*health).returncode == 0 and stored(container) == len(MAIL))
            container.first_process(service).send_signal(signal.SIGTERM)
            assert service.wait(STOP_TIMEOUT_S) == 0
        finally:
            service.kill()
            output, _ = service.communicate()
    assert "Traceback" not in output


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.2)
