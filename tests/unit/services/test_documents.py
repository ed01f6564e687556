"""Documents: a job as canonical JSON, and back to equal settings in another process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from syncd.errors import ConfigError
from syncd.services.documents import Documents, canonical, settings_of
from syncd.settings.load import Loaded, load, load_service

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "config"
FILES = sorted(file.relative_to(CONFIG).as_posix() for file in CONFIG.rglob("*.toml"))
BASE = """
name = "home"
state_directory = "state"
[accounts.road]
protocol = "pop3"
host = "pop.example.net"
username = "me"
password = "env:ROAD"
[accounts.same]
protocol = "pop3"
host = "POP.example.net"
port = 110
security = "starttls"
username = "me"
password = "file:/run/secrets/road"
[accounts.far]
protocol = "pop3"
host = "pop.example.org"
username = "me"
password = "command:cat far"
[archives.a]
path = "a"
[archives.b]
path = "b"
site = "host-b"
[jobs.keep]
source = "road"
destinations = ["a"]
[jobs.empty]
source = "same"
destinations = ["b"]
leave_on_server = false
confirm_removal = true
schedule = "every hour"
jitter = "5 minutes"
timezone = "Europe/Berlin"
quiet_hours = "22:00-06:00"
late_after = "6 hours"
[jobs.other]
source = "far"
destinations = ["a"]
[jobs.off]
source = "road"
destinations = ["a"]
enabled = false
"""


def made(directory: Path, text: str = BASE) -> Loaded:
    (directory / "syncd.toml").write_text(text)
    return load(directory / "syncd.toml", environment={})


def texts(loaded: Loaded) -> dict[str, str]:
    return {it.job: it.text for it in Documents(loaded).definitions()}


@pytest.mark.parametrize("name", FILES)
def test_every_shipped_configuration_comes_back_as_it_was(name: str) -> None:
    loaded = load(CONFIG / name, environment={})
    process = load_service(CONFIG / name, environment={})
    jobs = loaded.settings.jobs
    found = texts(loaded)
    assert found.keys() == {job for job in jobs if jobs[job].enabled}
    for job, text in found.items():
        again = settings_of(text, process)
        settings = again.settings
        assert settings.jobs[job] == jobs[job]
        named = {jobs[job].source, *(to.to for to in jobs[job].destinations)}
        for name_ in named:
            for entries in ("accounts", "archives"):
                assert getattr(settings, entries).get(name_) == getattr(loaded.settings, entries).get(name_)
        assert (again.name, settings.timezone) == (loaded.name, loaded.settings.timezone)
        assert settings.limits.message_octets == loaded.settings.limits.message_octets
        assert settings.state_directory == process.settings.state_directory
        assert Documents(again).digest(job) == Documents(loaded).digest(job)


def test_a_document_has_nothing_of_other_jobs(tmp_path: Path) -> None:
    document = json.loads(texts(made(tmp_path))["other"])
    assert (document["accounts"].keys(), document["archives"].keys()) == ({"far"}, {"a"})
    assert document["jobs"].keys() == {"other"}
    assert document["name"] == "home"


def test_the_document_of_a_job_that_removes_has_all_that_read_its_account(tmp_path: Path) -> None:
    """By whatever name: what one of them has not delivered stays. A job that is switched off does not count."""
    document = json.loads(texts(made(tmp_path))["empty"])
    assert document["jobs"].keys() == {"empty", "keep"}
    assert (document["accounts"].keys(), document["archives"].keys()) == ({"road", "same"}, {"a", "b"})
    assert "empty" not in json.loads(texts(made(tmp_path))["keep"])["jobs"]


def test_secrets_are_references_that_are_resolved_where_the_work_is_done(tmp_path: Path) -> None:
    loaded = load(made(tmp_path).file or tmp_path, environment={"ROAD": "swordfish"})
    for text in texts(loaded).values():
        assert "swordfish" not in text
    text = texts(loaded)["keep"]
    assert '"env:ROAD"' in text
    process = load_service(loaded.file, environment={"ROAD": "of the worker"})
    again = settings_of(text, process)
    password = again.settings.accounts["road"].password
    assert password is not None
    assert again.secrets.read(password).reveal() == "of the worker"


def test_paths_are_whole_wherever_the_worker_was_started(tmp_path: Path) -> None:
    document = json.loads(texts(made(tmp_path))["keep"])
    assert document["archives"]["a"]["path"] == str(tmp_path / "a")


def test_the_facts_beside_the_document(tmp_path: Path) -> None:
    by_name = {it.job: it for it in Documents(made(tmp_path)).definitions()}
    it = by_name["empty"]
    assert (it.schedule, it.timezone, it.jitter_s, it.quiet_hours, it.late_after_s) == (
        "every hour", "Europe/Berlin", 300, "22:00-06:00", 21600,
    )  # fmt: skip
    assert (it.removes, it.source, it.identity) == (True, "same", ("pop3", "pop.example.net", "me"))
    assert it.site == ""  # in one process everything is one site
    it = by_name["keep"]
    assert (it.schedule, it.timezone, it.jitter_s, it.quiet_hours, it.late_after_s) == ("", "UTC", 0, "", None)


def test_the_digest_follows_from_what_is_said_and_not_from_its_order(tmp_path: Path) -> None:
    first = Documents(made(tmp_path))
    head, _, rest = BASE.partition("[accounts.road]")
    accounts, _, jobs = ("[accounts.road]" + rest).partition("[jobs.keep]")
    turned = Documents(made(tmp_path, f"{head}[jobs.keep]{jobs}{accounts}"))
    for job in ("keep", "empty", "other"):
        assert first.digest(job) == turned.digest(job)
    changed = Documents(made(tmp_path, BASE.replace('"env:ROAD"', '"env:OTHER"')))
    assert first.digest("keep") != changed.digest("keep")
    assert first.digest("other") == changed.digest("other")
    assert canonical({"b": 1, "a": "ü"}) == '{"a":"ü","b":1}'


def test_the_digest_is_the_same_in_every_process(tmp_path: Path) -> None:
    """Sets and hashes of texts have another order in each process."""
    loaded = made(tmp_path)
    program = (
        "import sys; from pathlib import Path; from syncd.settings.load import load;"
        "from syncd.services.documents import Documents;"
        "print(Documents(load(Path(sys.argv[1]), environment={})).digest('empty').hex())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program, str(loaded.file)],
            check=True, capture_output=True, text=True, cwd=ROOT, env={"PYTHONHASHSEED": seed},
        ).stdout.strip()
        for seed in ("1", "2")
    }  # fmt: skip
    assert found == {Documents(loaded).digest("empty").hex()}


@pytest.mark.parametrize("text", ["{}x", '{"jobs":{"a":{"unheard":1}}}', '{"unheard":1}', '{"jobs":{"a":{}}}'])
def test_a_document_of_another_version_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="syncd apply") as caught:
        settings_of(text, load_service(made(tmp_path).file, environment={}))
    assert "\n" not in str(caught.value)
