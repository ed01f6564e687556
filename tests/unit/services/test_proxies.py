"""A job's document has no password of a proxy; the process that works on it has."""

from pathlib import Path

import pytest

from syncd.errors import ConfigError
from syncd.services.check_configuration import judge
from syncd.services.documents import Documents, settings_of
from syncd.settings.load import load, load_service
from syncd.settings.loaded import Loaded, LoadedService

FILE = """
[accounts.road]
protocol = "pop3"
host = "pop.example.net"
username = "me"
password = "env:P"
proxy = "socks5://{0}localhost:1080"
[archives.home]
path = "home"
[jobs.a]
source = "road"
destinations = ["home"]
"""
VARIABLE = "SYNCD_ACCOUNTS__ROAD__PROXY"
WITH = "socks5://me:hunter2@localhost:1080"


def whole(directory: Path, login: str, **environment: str) -> Loaded:
    file = directory / "syncd.toml"
    file.write_text(FILE.format(login))
    return load(file, environment={"P": "x", **environment})


def password(document: str, process: LoadedService) -> str:
    proxy = settings_of(document, process).settings.accounts["road"].proxy
    assert proxy is not None
    assert str(proxy) == "socks5://localhost:1080"
    return proxy.password.reveal()


def test_a_worker_has_it_from_its_environment(tmp_path: Path) -> None:
    (definition,) = Documents(whole(tmp_path, "me:hunter2@")).definitions()
    assert "hunter2" not in definition.text
    file = tmp_path / "syncd.toml"
    assert password(definition.text, load_service(file, environment={VARIABLE: WITH})) == "hunter2"
    assert password(definition.text, load_service(file, environment={})) == ""
    (tmp_path / ".env").write_text(f"{VARIABLE}='{WITH}'\n")
    (tmp_path / ".env").chmod(0o600)
    assert password(definition.text, load_service(file, environment={})) == "hunter2"


def test_one_process_has_it_from_its_file(tmp_path: Path) -> None:
    loaded = whole(tmp_path, "me:hunter2@")
    (definition,) = Documents(loaded).definitions()
    assert password(definition.text, loaded) == "hunter2"


def test_the_proxy_is_that_of_the_document(tmp_path: Path) -> None:
    """A process may have a newer file, or one of another configuration."""
    (definition,) = Documents(whole(tmp_path, "")).definitions()
    process = load_service(tmp_path / "syncd.toml", environment={VARIABLE: WITH.replace("1080", "1081")})
    assert password(definition.text, process) == ""


def test_a_wrong_variable_is_named_without_its_value(tmp_path: Path) -> None:
    (definition,) = Documents(whole(tmp_path, "")).definitions()
    process = load_service(tmp_path / "syncd.toml", environment={VARIABLE: "hunter2"})
    with pytest.raises(ConfigError, match=f"^{VARIABLE}: is not the address of a proxy") as raised:
        settings_of(definition.text, process)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("login", "environment", "warned"),
    [("me:hunter2@", {}, True), ("", {}, False), ("", {VARIABLE: WITH}, False), ("me@", {}, False)],
)
def test_a_password_in_the_file_is_warned_of(
    tmp_path: Path, login: str, environment: dict[str, str], *, warned: bool
) -> None:
    found = judge(whole(tmp_path, login, **environment))
    about = [line for line in found.warnings if "accounts.road.proxy" in line]
    assert bool(about) == warned
    assert all(VARIABLE in line for line in about)
    assert "hunter2" not in str(found)
