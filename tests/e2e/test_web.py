"""`syncd web` beside `syncd serve`, as real processes: one shows and asks, the other one works."""

from __future__ import annotations

import http.client
import json
import re
import signal
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.fakes.pop3 import PASSWORD, USERNAME, FakePop3
from tests.support import mail
from tests.support.processes import Service, wait_for
from tests.support.processes import run as run_by_hand

CONFIGURATION = """
state_directory = "state"
[service]
listen = "127.0.0.1:0"
log = "json"
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
"""


class Page:
    """A browser for a page at an address."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.cookie = ""

    def ask(self, method: str, path: str, fields: dict[str, str] | None = None) -> tuple[int, str, str]:
        """Returns status, body, and where the answer leads."""
        headers = {"Origin": f"http://{self.address}", "Content-Type": "application/x-www-form-urlencoded"}
        if self.cookie:
            headers["Cookie"] = self.cookie
        with closing(http.client.HTTPConnection(self.address, timeout=60)) as connection:
            connection.request(method, path, urlencode(fields) if fields is not None else None, headers)
            answer = connection.getresponse()
            self.cookie = answer.headers.get("set-cookie", self.cookie).partition(";")[0]
            return answer.status, answer.read().decode(), answer.headers.get("location", "")

    def first_event(self) -> dict[str, Any]:
        """Returns the first event of the stream, and leaves."""
        with closing(http.client.HTTPConnection(self.address, timeout=60)) as connection:
            connection.request("GET", "/events", headers={"Cookie": self.cookie})
            for line in connection.getresponse():
                if line.startswith(b"data: "):
                    found: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
                    return found
        raise AssertionError("the stream ended")


def runs(page: Page) -> list[tuple[str, str]]:
    """The numbers and results of the runs that a page shows."""
    return re.findall(r'<a href="/runs/(\d+)">.*?<span class="badge \w+">(\w+)</span>', page.ask("GET", "/runs")[1])


def test_the_page_of_one_process_has_another_one_work(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "syncd.toml"
    with FakePop3(list(mail.small(3, seed=1))) as server:
        config.write_text(CONFIGURATION.format(port=server.port, user=USERNAME))
        environment = {"PASSWORD": PASSWORD}

        def start(verb: str) -> Service:
            return Service(verb, config=config, log=tmp_path / f"{verb}.log", environment=environment)

        with start("serve") as serve:
            wait_for(lambda: serve.lines("service.listens"))
            with start("web") as web:
                page = Page(wait_for(lambda: web.lines("service.listens"))[0]["address"])
                token = web.lines("page.set_up")[0]["token"]
                told = f"To make the first user of the page, open http://{page.address}/set-up?token={token} "
                assert told in capfd.readouterr().err
                assert page.ask("GET", "/healthz")[0] == 200
                fields = {"token": token, "name": "ann", "password": "correct horse battery"}
                assert page.ask("POST", "/set-up", fields)[::2] == (303, "/")
                status, text, _ = page.ask("GET", "/jobs/road")
                assert status == 200
                key = text.partition('name="csrf" value="')[2].partition('"')[0]
                dry = page.ask("POST", "/jobs/road/dry-run", {"csrf": key})[2]
                wait_for(lambda: "it took" in page.ask("GET", dry)[1])
                assert "fetch 3 messages" in page.ask("GET", dry)[1]
                _, _, run = page.ask("POST", "/jobs/road/run", {"csrf": key})
                wait_for(lambda: ">done<" in page.ask("GET", run)[1])
                assert "<dt>fetched</dt><dd>3</dd>" in page.ask("GET", run)[1]
                check = page.ask("POST", "/archives/home/check", {"csrf": key})[2]
                wait_for(lambda: "The archive is sound." in page.ask("GET", check)[1])
                other = Page(serve.lines("service.listens")[0]["address"])
                signed_in = other.ask("POST", "/sign-in", {"name": "ann", "password": fields["password"]})
                assert signed_in[::2] == (303, "/")
                assert "The archive is sound." in other.ask("GET", check)[1]  # that the other process did
                by_hand = run_by_hand(config, "run", "road", environment=environment)
                assert by_hand.returncode == 0, by_hand.stderr
                proof = page.ask("POST", "/jobs/road/verify", {"csrf": key, "read": "yes"})[2]
                wait_for(lambda: "No difference." in other.ask("GET", proof)[1])
                assert runs(page) == runs(other) == [("2", "done"), ("1", "done")]
                digest = page.ask("GET", "/jobs/road")[1].partition("<code>")[2].partition("</code>")[0]
                assert digest in other.ask("GET", f"{proof}/report?form=md")[1]
                find = "/archives/home/search?q=from:example.net+has:attachment"
                assert "No message matches" in page.ask("GET", find)[1]
                find = find.partition("+")[0]
                wait_for(lambda: "/archives/home/messages/" in page.ask("GET", find)[1])  # once `serve` is idle
                message = page.ask("GET", find)[1].partition('href="/archives/home/messages/')[2].partition('"')[0]
                shown = page.ask("GET", f"/archives/home/messages/{message}")[1]
                assert '<a href="/jobs/road">road</a></td><td>home</td><td>delivered</td>' in shown
                assert page.ask("GET", f"/archives/home/messages/{message}/raw")[1].startswith("Return-Path: ")
                assert page.ask("GET", "/archives/home/export")[1].count("\nReturn-Path: ") == 3
                assert page.first_event() == {"runs": [], "open": 0}
                web.send(signal.SIGHUP)
                wait_for(lambda: web.lines("config.applied"))
                with closing(http.client.HTTPConnection(page.address, timeout=60)) as stream:
                    stream.request("GET", "/events", headers={"Cookie": page.cookie})
                    assert stream.getresponse().readline() == b"retry: 3000\n"
                    web.send(signal.SIGTERM)  # with a stream that is open
                    assert web.ended() == 0
            serve.send(signal.SIGTERM)
            assert serve.ended() == 0
        text = (tmp_path / "web.log").read_text() + (tmp_path / "serve.log").read_text()
        assert PASSWORD not in text
        assert "correct horse battery" not in text
