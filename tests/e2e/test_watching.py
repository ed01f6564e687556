"""A service as it is seen from outside: pages, log, `syncd doctor`. A real process, against a fake server."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.fakes.pop3 import PASSWORD, USERNAME, FakePop3
from tests.support import mail

LONGEST_S = 60.0  # on a busy machine; usual are three

CONFIGURATION = """
state_directory = "state"
[service]
listen = "127.0.0.1:0"
log = "json"
[notify]
webhook = "https://127.0.0.1:1/services/h00k-token"
[accounts.road]
protocol = "pop3"
host = "127.0.0.1"
port = {port}
security = "none"
allow_insecure = true
username = "{user}"
password = "env:PASSWORD"
[archives.home]
path = "home"
[jobs.road]
source = "road"
destinations = ["home"]
schedule = "every 1 second"
"""


def wait_for(what: Callable[[], Any]) -> Any:
    end = time.monotonic() + LONGEST_S
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come")


def test_a_service_is_seen_by_its_pages_its_log_and_the_doctor(tmp_path: Path) -> None:
    log, config = tmp_path / "log", tmp_path / "syncd.toml"

    def lines(event: str) -> list[dict[str, Any]]:
        text = log.read_text() if log.exists() else ""
        return [it for it in map(json.loads, text.splitlines()) if it["event"] == event]

    with FakePop3(list(mail.small(3, seed=1))) as server:
        config.write_text(CONFIGURATION.format(port=server.port, user=USERNAME))
        command = [sys.executable, "-m", "syncd", "serve", "--config", str(config), "--log-file", str(log)]
        process = subprocess.Popen(command, env={**os.environ, "PASSWORD": PASSWORD})
        try:
            host, _, port = wait_for(lambda: lines("service.listens"))[0]["address"].rpartition(":")

            def ask(path: str) -> tuple[int, str]:
                connection = http.client.HTTPConnection(host, int(port), timeout=LONGEST_S)
                connection.request("GET", path)
                with closing(connection):
                    answer = connection.getresponse()
                    return answer.status, answer.read().decode()

            wait_for(lambda: [it for it in lines("run.finished") if it["fetched"] == 3])
            wait_for(lambda: ask("/readyz")[0] == 200)
            assert ask("/healthz")[0] == 200
            metrics = ask("/metrics")[1]
            assert 'syncd_messages_total{job="road",what="fetched"} 3.0' in metrics
            assert "syncd_scheduler_leads 1.0" in metrics
            log.rename(tmp_path / "log.1")
            process.send_signal(signal.SIGHUP)
            wait_for(lambda: lines("config.applied"))
            doctor = subprocess.run(
                [sys.executable, "-m", "syncd", "doctor", "--config", str(config), "--json"],
                capture_output=True, check=False, text=True,
            )  # fmt: skip
            assert (doctor.returncode, json.loads(doctor.stdout)["exit_code"]) == (0, 0), doctor.stdout
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(LONGEST_S) == 0
    text = (tmp_path / "log.1").read_text() + log.read_text()
    assert PASSWORD not in text
    assert "h00k-token" not in text
    for line in map(json.loads, text.splitlines()):
        assert list(line)[:4] == ["timestamp", "level", "logger", "event"]
        assert line["worker"].endswith(f".{process.pid}")
