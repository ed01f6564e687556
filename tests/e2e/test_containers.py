"""The files of docker/: what their schemas say, what they promise, and that they agree with each other."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from syncd.settings.load import load
from tests.support.compose import DOCKER, compose, ours

ROOT = DOCKER.parent
FILES = ["compose.yaml", "compose.cluster.yaml", "compose.rabbitmq.yaml"]
SERVICES = [(name, key) for name in FILES[:2] for key in ours(name)]
USER = "10001:10001"


def check(file: Path) -> subprocess.CompletedProcess[str]:
    """Holds a file against the schema of compose files; needs no network."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def lock() -> ModuleType:
    specification = importlib.util.spec_from_file_location("lock", DOCKER / "lock.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", FILES)
def test_the_compose_files_are_valid(name: str) -> None:
    done = check(DOCKER / name)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_misspelt_key_is_found(tmp_path: Path) -> None:
    text = (DOCKER / "compose.yaml").read_text()
    (tmp_path / "compose.yaml").write_text(
        text.replace("read_only: true\n    cap_drop", "readonly: true\n    cap_drop")
    )
    done = check(tmp_path / "compose.yaml")
    assert done.returncode == 1
    assert "readonly" in done.stdout


@pytest.mark.parametrize(("name", "key"), SERVICES)
def test_our_services_have_no_more_rights_than_they_need(name: str, key: str) -> None:
    service = ours(name)[key]
    assert service["user"] == USER
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["stop_grace_period"] == "30s"
    assert not service.keys() & {"privileged", "cap_add", "network_mode", "pid", "devices"}


@pytest.mark.parametrize("name", FILES)
def test_ports_are_published_for_this_machine_alone(name: str) -> None:
    ports = [port for service in compose(name)["services"].values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert bool(ports) == (name == "compose.yaml")


def test_no_password_stands_in_a_compose_file() -> None:
    for key, service in compose("compose.cluster.yaml")["services"].items():
        for name, value in service.get("environment", {}).items():
            assert "PASSWORD" not in name or name.endswith("_FILE"), key
            assert not re.search(r"://[^@/]*:[^@/]*@", value), key


def test_the_services_mount_the_secrets_that_their_environment_names() -> None:
    whole = compose("compose.cluster.yaml")
    for service in whole["services"].values():
        named = set(re.findall(r"/run/secrets/(\w+)", str(service.get("environment", {}))))
        assert named == set(service.get("secrets", []))
        assert named <= whole["secrets"].keys()


def test_rabbitmq_replaces_redis_for_each_of_our_services() -> None:
    services = compose("compose.rabbitmq.yaml")["services"]
    cluster = ours("compose.cluster.yaml")
    assert {key for key, service in services.items() if "SYNCD_BROKER_URL" in service.get("environment", {})} == set(
        cluster
    )
    assert not any("redis" in service["depends_on"] for service in cluster.values())
    assert services["redis"]["profiles"]


def test_the_cluster_serves_every_site_of_its_example(monkeypatch: pytest.MonkeyPatch) -> None:
    services = ours("compose.cluster.yaml")
    for name, value in services["apply"]["environment"].items():
        monkeypatch.setenv(name, value)
    settings = load(ROOT / "config" / "examples" / "compose.toml").settings
    sites = {settings.site_of(job) for job in settings.jobs.values()}
    command: list[str] = services["worker"]["command"]
    served = {command[at + 1] for at, word in enumerate(command) if word == "--site"}
    assert sites == served
    mounts: list[Any] = services["worker"]["volumes"]
    assert "archives:/archives" in mounts
    assert all(archive.path.is_relative_to("/archives") for archive in settings.archives.values())


def test_the_image_has_what_requirements_lock_says(lock: ModuleType) -> None:
    """If this fails, run `make lock`."""
    for file, text in lock.contents().items():
        assert file.read_text() == text, file.name


def test_the_image_has_no_tools_of_developers(lock: ModuleType) -> None:
    names = set(re.findall(r"^([\w.-]+)==", (DOCKER / "runtime.lock").read_text(), re.MULTILINE))
    assert names >= {"celery", "redis", "psycopg", "psycopg-binary", "sqlalchemy", "backports-zstd"}
    assert not names & {"pytest", "mypy", "ruff", "uv", "check-jsonschema", "keyring", "hypothesis"}


def test_a_package_that_is_not_pinned_is_named(lock: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"not in requirements\.lock: click"):
        lock._part({}, ["click>=8"])
