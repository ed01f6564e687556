"""A download from the page whose server is killed: no browser takes it for whole, and nothing is left on the server."""

from __future__ import annotations

import http.client
import os
import signal
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.test_web import CONFIGURATION, Page
from tests.fakes.pop3 import PASSWORD, USERNAME, FakePop3
from tests.support.processes import Service, wait_for
from tests.support.processes import run as run_by_hand

LARGE = 4 << 20  # octets of a message; what sockets hold is less than all of them
FIRST = 1 << 16  # octets that a browser has when the server dies


def test_a_download_that_is_cut_off_is_not_whole(tmp_path: Path) -> None:
    config, environment = tmp_path / "syncd.toml", {"PASSWORD": PASSWORD}
    letters = [b"Subject: %d\r\n\r\n" % number + os.urandom(LARGE // 2).hex().encode() + b"\r\n" for number in range(6)]
    with FakePop3(letters) as server:
        config.write_text(CONFIGURATION.format(port=server.port, user=USERNAME))
        ended = run_by_hand(config, "run", "road", environment=environment)
        assert ended.returncode == 0, ended.stderr
    cookie = ""
    for form in ("mbox", "zip"):
        with Service("web", config=config, log=tmp_path / "web.log", environment=environment) as web:
            page = Page(wait_for(lambda: web.lines("service.listens"))[0]["address"])
            if not cookie:
                token = web.lines("page.set_up")[0]["token"]
                fields = {"token": token, "name": "ann", "password": "correct horse battery"}
                assert page.ask("POST", "/set-up", fields)[0] == 303
                cookie = page.cookie
            before = files(tmp_path)
            with closing(http.client.HTTPConnection(page.address, timeout=60)) as connection:
                connection.request("GET", f"/archives/home/export?form={form}", headers={"Cookie": cookie})
                answer = connection.getresponse()
                assert answer.status == 200
                assert len(answer.read(FIRST)) == FIRST
                web.send(signal.SIGKILL)
                with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
                    answer.read()
            assert web.ended() == -signal.SIGKILL
        assert files(tmp_path) == before


def files(folder: Path) -> set[Path]:
    """Returns all files, without logs and without the files that SQLite keeps beside its own."""
    return {path for path in folder.rglob("*") if path.is_file() and path.suffix != ".log" and "-" not in path.name}
