"""Waiting messages on the page and in the API: one job with an archive and a mail server, seven messages that wait."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from syncd.db.database import Database
from syncd.db.models import jobs
from syncd.db.people import Role
from syncd.services import problems
from syncd.services.wiring import owner
from syncd.settings.load import load
from tests.support.web import Browser, Desk
from tests.unit.services.test_problems import CONFIG, Past

NUMBER = re.compile(r'name="number" value="(\d+)"')


@pytest.fixture
def config() -> str:
    return CONFIG


@pytest.fixture
def past(file: Path) -> Iterator[Past]:
    loaded = load(file)
    with Database.open(None, loaded.settings.state_directory) as database:
        past = Past(database, loaded)
        with database.write() as connection:  # its jobs are those of this configuration
            connection.execute(update(jobs).values(configuration=owner(loaded).name))
        yield past


@pytest.fixture
def desk(file: Path, past: Past) -> Desk:
    return Desk(file, past.database)


def test_each_message_has_its_reason_and_is_recognised(desk: Desk, past: Past) -> None:
    text = desk.browser(Role.OPERATOR).get("/waiting?job=forward").text
    assert {int(number) for number in NUMBER.findall(text)} == {int(key) for key in past.keys}
    assert "550 5.1.1 no such user" in text
    assert "grüße 1" in text
    assert "Ann &lt;ann@example.net&gt;" in text
    assert "\x1b" not in text
    assert "number" not in "".join(NUMBER.findall(desk.browser(Role.READER).get("/waiting").text))
    assert "Give up for good" not in desk.browser(Role.READER).get("/waiting").text


def test_the_list_is_narrowed_and_has_parts(desk: Desk, past: Past) -> None:
    browser = desk.browser(Role.OPERATOR)
    assert NUMBER.findall(browser.get("/waiting?why=rejected").text) == [str(past.keys[0])]
    everything = NUMBER.findall(browser.get("/waiting").text)
    assert NUMBER.findall(browser.get("/waiting?start=2").text) == everything[2:]
    assert browser.get("/waiting?job=idle&why=rejected").text.count("No message waits") == 1


def test_marked_messages_are_tried_again_or_given_up(desk: Desk, past: Past) -> None:
    browser = desk.browser(Role.OPERATOR)
    one, three = past.keys[0], past.keys[2]
    reply = browser.post("/waiting", {"act": "retry", "job": "forward", "number": [str(one)]})
    assert reply.header("location") == "/waiting?job=forward&done=1"
    assert "Done for 1 message." in browser.get(reply.header("location")).text
    assert past.states()[1] == "PENDING"
    browser.post("/waiting", {"act": "drop", "job": "forward", "number": [str(three)]})
    assert past.states()[3] == "-"


def test_all_that_match_are_given_up_and_nothing_else(desk: Desk, past: Past) -> None:
    before = past.states()
    fields = {"act": "drop", "job": "forward", "why": "rejected", "everything": "yes"}
    assert desk.browser(Role.OPERATOR).post("/waiting", fields).header("location").endswith("done=1")
    assert past.states() == {**before, 1: "-"}


def test_the_overview_counts_them(desk: Desk) -> None:
    text = desk.browser(Role.READER).get("/").text
    assert re.search(r"\d+ messages wait for you", text)
    assert "All is well" not in text


def test_a_program_decides_as_the_command_line_does(desk: Desk, past: Past) -> None:
    headers = {"authorization": f"Bearer {desk.token(Role.OPERATOR)}", "content-type": "application/json"}
    program = Browser(desk.app)
    shown = program.ask("GET", "/api/v1/waiting?job=forward&limit=3", headers=headers).json
    assert [it["number"] for it in shown["items"]] == [
        found.row.key
        for found, _ in zip(problems.problems(past.settings, past.database, "forward"), "123", strict=False)
    ]
    assert shown["next"] == "/api/v1/waiting?job=forward&limit=3&start=3"
    body = json.dumps({"job": "forward", "why": ["rejected"], "to": "me@example.org"}).encode()
    assert program.ask("POST", "/api/v1/waiting/retry", body, headers).json == {"messages": 1}
    assert past.states()[1] == "PENDING"
    elsewhere = json.dumps({"job": "forward", "all": True, "to": "nobody@example.org"}).encode()
    assert program.ask("POST", "/api/v1/waiting/drop", elsewhere, headers).json == {"messages": 0}
