"""The API: who may call it, the shapes of its answers, and that nothing makes it fail."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from syncd import clock
from syncd.cli.main import call
from syncd.db.people import Role
from syncd.db.runs import Runs
from syncd.errors import UsageError
from syncd.services import people
from tests.support.web import Browser, Desk, Reply
from tests.unit.web.test_pages import begin, fail, job_id

READS = (
    "/overview", "/jobs", "/jobs/road-backup", "/runs", "/runs/1", "/waiting", "/accounts", "/archives",
    "/archives/home",
)  # fmt: skip
WRITES: Mapping[str, object] = {
    "/jobs/road-backup/run": None,
    "/jobs/road-backup/pause": None,
    "/jobs/road-backup/resume": None,
    "/runs/1/cancel": None,
    "/waiting/retry": {"all": True},
    "/waiting/drop": {"all": True},
}


class Program:
    """Calls the API with a token."""

    def __init__(self, desk: Desk, token: str) -> None:
        self._browser = Browser(desk.app)
        self._token = token

    def get(self, path: str) -> Reply:
        return self.ask("GET", path)

    def post(self, path: str, document: object = None) -> Reply:
        body = b"" if document is None else json.dumps(document).encode()
        return self.ask("POST", path, body)

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
        sent = {"authorization": f"Bearer {self._token}", "content-type": "application/json", **headers}
        return self._browser.ask(method, "/api/v1" + path, body, sent)


@pytest.fixture
def program(desk: Desk) -> Program:
    return Program(desk, desk.token(Role.OPERATOR))


# --- who may ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "syncd_guess", "x"])
def test_without_a_valid_token_nothing_is_told(desk: Desk, token: str) -> None:
    for path in READS:
        reply = Program(desk, token).get(path)
        assert (reply.status, reply.header("content-type")) == (401, "application/problem+json")
        assert reply.header("www-authenticate") == "Bearer"
    assert desk.browser(None).ask("GET", "/api/v1/jobs", headers={"authorization": "Basic YTpi"}).status == 401


def test_a_token_has_a_scope_and_an_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    Runs(desk.database).enqueue(job_id(desk), "hand")
    reader = Program(desk, desk.token(Role.READER, "reader"))
    assert {reader.get(path).status for path in READS} == {200}
    assert {reader.post(path, document).status for path, document in WRITES.items()} == {403}
    short = people.create_token(desk.database, "short", Role.READER, timedelta(days=1))
    assert Program(desk, short).get("/jobs").status == 200
    later = clock.now() + timedelta(days=1, seconds=1)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert Program(desk, short).get("/jobs").status == 401
    assert reader.get("/jobs").status == 200
    people.revoke_token(desk.database, "reader")
    assert reader.get("/jobs").status == 401
    with pytest.raises(UsageError):
        people.revoke_token(desk.database, "reader")
    with pytest.raises(UsageError):
        people.create_token(desk.database, "short", Role.READER, None)


def test_a_set_up_token_is_no_token_of_a_program(desk: Desk) -> None:
    token = people.setup_token(desk.database)
    assert token is not None
    assert Program(desk, token).get("/jobs").status == 401
    assert Program(desk, people.PREFIX + token).get("/jobs").status == 401


def test_a_session_may_use_the_api_and_shows_its_key_to_change_something(desk: Desk) -> None:
    browser = desk.browser(Role.OPERATOR)
    assert browser.get("/api/v1/jobs").status == 200
    path = "/api/v1/jobs/road-backup/pause"
    assert browser.ask("POST", path, headers={"origin": browser.origin}).status == 403
    key = {"x-csrf-token": browser.key}
    assert browser.ask("POST", path, headers={**key, "origin": "https://evil.example"}).status == 403
    assert browser.ask("POST", path, headers={**key, "origin": browser.origin}).status == 200


# --- shapes ----------------------------------------------------------------------------------------------


def test_answers_are_those_of_the_command_line(
    desk: Desk, program: Program, file: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(desk, "the server is away")

    def shown(*arguments: str) -> Any:
        capsys.readouterr()
        assert call(["-c", str(file), "--json", *arguments]) == 0
        return json.loads(capsys.readouterr().out)

    assert [program.get(f"/jobs/{it['job']}").json for it in shown("status")] == shown("status")
    assert program.get("/runs").json == {"items": shown("runs"), "next": None}
    assert program.get("/runs/1").json == shown("runs", "1")
    assert program.get("/waiting").json["items"] == [it for it in shown("errors") if it["number"] is not None]


def test_lists_have_parts(desk: Desk, program: Program) -> None:
    numbers = [fail(desk, f"error {number}") for number in range(5)]
    found, path = [], "/runs?limit=2"
    for _ in range(3):
        part = program.get(path).json
        found += [it["run_id"] for it in part["items"]]
        path = (part["next"] or "").removeprefix("/api/v1")
    assert (found, path) == (numbers[::-1], "")
    first = program.get("/jobs?limit=1").json
    assert [it["job"] for it in first["items"]] == ["road-backup"]
    assert [it["job"] for it in program.get(first["next"].removeprefix("/api/v1")).json["items"]] == ["forward"]


def test_what_the_api_does_is_a_row(desk: Desk, program: Program) -> None:
    asked = program.post("/jobs/road-backup/run")
    assert (asked.status, asked.json) == (202, {"run_id": 1})
    assert program.post("/jobs/road-backup/run").json == {"run_id": 1}
    assert program.get("/overview").json["counts"]["queued"] == 1
    assert program.post("/jobs/road-backup/pause").json == {"job": "road-backup", "changed": True}
    assert program.post("/jobs/road-backup/pause").json == {"job": "road-backup", "changed": False}
    assert program.post("/jobs/road-backup/resume").json == {"job": "road-backup", "changed": True}
    assert program.post("/runs/1/cancel").json == {"run_id": 1, "closed": True}
    assert program.post("/runs/1/cancel").status == 409
    claim = begin(desk, "forward")
    assert program.post(f"/runs/{claim.run_id}/cancel").json == {"run_id": claim.run_id, "closed": False}


def test_a_decision_while_the_job_runs_is_a_conflict(desk: Desk, program: Program) -> None:
    from syncd.db.leases import LeaseSet, job_resource

    assert program.post("/waiting/retry", {"all": True}).json == {"messages": 0}
    with LeaseSet.acquire(desk.database, [job_resource(1)], "a run"):
        assert program.post("/waiting/retry", {"all": True, "job": "road-backup"}).status == 409
    assert program.post("/waiting/retry", {}).status == 400  # nothing named, and not all
    assert program.post("/waiting/drop", {"numbers": [17]}).status == 400


# --- nothing makes it fail -------------------------------------------------------------------------------

ODD = (
    "x", "0", "-1", "9223372036854775807", "9223372036854775808", "1e9", "%00", "%0d%0aX-Y:z", "..%2f..%2fetc%2fpasswd",
    "é".encode().hex(), "%c3%a9", "%ff", "'; DROP TABLE runs; --", "{{7*7}}", "a" * 300, "null", "",
)  # fmt: skip
BODIES = (
    b"", b"{", b"null", b"[]", b'"x"', b"{}", b'{"all": "maybe"}', b'{"numbers": ["x"]}', b'{"numbers": [0]}',
    b'{"numbers": [99999999999999999999]}', b'{"why": ["whatever"]}', b'{"other": 1}',
    b'{"job": "\\u0000", "all": true}',
    b'{"to": "\\ud800", "all": true}', b"\xff", b'{"numbers": ' + b"[" * 5000 + b"]" * 5000 + b"}",
)  # fmt: skip


def test_no_request_is_answered_with_a_failure(desk: Desk, program: Program) -> None:
    fail(desk, "the server is away")
    paths = [
        route.replace("{name}", odd).replace("{number}", odd)
        for route in ("/jobs/{name}", "/runs/{number}", "/archives/{name}", "/{name}")
        for odd in ODD
    ]
    paths += [
        f"/{what}?{key}={odd}"
        for what, keys in (
            ("runs", ("job", "before", "limit")),
            ("waiting", ("job", "why", "start")),
            ("jobs", ("start",)),
        )
        for key in keys
        for odd in ODD
    ]
    for path in paths:
        reply = program.get(path)
        assert reply.status < 500, path
        assert not reply.header("x-y")
        if reply.status >= 400:
            assert reply.json["status"] == reply.status, path
    for path in WRITES:
        for body in BODIES:
            assert program.ask("POST", path, body).status < 500, (path, body)
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"):
        assert program.ask(method, "/jobs").status == 405


def test_openapi_describes_every_answer(desk: Desk, program: Program) -> None:
    document = program.get("/openapi.json").json
    assert {f"/api/v1{path}" for path in (*WRITES, "/overview", "/events")} <= {
        path.replace("{name}", "road-backup").replace("{number}", "1") for path in document["paths"]
    }
    for path, methods in document["paths"].items():
        assert path.startswith("/api/v1/")
        for method in methods.values():
            assert method["summary"]
            assert "401" in method["responses"] or path.endswith("/events")
