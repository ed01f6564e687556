"""Every address that there is: who may not ask for it, and that no answer has a header that the asker wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from sqlalchemy import select
from starlette.routing import Route

from syncd.db.models import users
from syncd.db.people import Role, known_users
from syncd.db.runs import Runs
from syncd.services import people
from tests.support.web import PASSWORD, Browser, Desk
from tests.unit.web.test_api import Program
from tests.unit.web.test_pages import job_id

OPEN = {"/sign-in", "/set-up", "/api/v1/openapi.json"}  # to everybody
OWN = {"/sign-out"}  # to whoever is signed in
NAMES = {
    "jobs": "road-backup",
    "accounts": "road",
    "archives": "home",
    "runs": "1",
    "users": "admin",
    "tokens": "robot",
    "messages": "ab",
    "parts": "0",
}
EVIL = "a\r\nSet-Cookie: syncd=planted"


def addresses(desk: Desk, value: str = "") -> Iterator[tuple[str, str]]:
    """Every method and path, with names that there are, or with `value` in their places."""
    for route in _routes(desk.app):
        path = re.sub(r"/(\w+)/{\w+}", lambda found: f"/{found[1]}/{value or NAMES[found[1]]}", route.path)
        assert "{" not in path, "give this parameter a value in NAMES"
        for method in sorted(route.methods or ()):
            yield method, path


def _routes(app: object) -> Iterator[Route]:
    for route in getattr(app, "routes", ()):
        if isinstance(route, Route):
            yield route
        else:
            yield from _routes(getattr(route, "original_router", route))


def test_the_addresses_are_known(desk: Desk) -> None:
    found = set(addresses(desk))
    assert {("POST", "/people/tokens"), ("DELETE", "/api/v1/users/admin"), ("GET", "/events")} <= found
    assert len(found) > 60


def test_nobody_who_is_not_signed_in_gets_anything(desk: Desk) -> None:
    desk.browser(Role.ADMIN)
    for method, path in addresses(desk):
        if path not in OPEN:
            reply = Browser(desk.app).ask(method, path)
            leads = reply.header("location").startswith("/sign-in")
            assert reply.status in {401, 403, 422} or leads, (method, path, reply.status)
    assert [it.name for it in known_users(desk.database)] == ["admin"]


@pytest.mark.parametrize(("role", "may"), [(Role.READER, ()), (Role.OPERATOR, ("/people", "/users", "/tokens"))])
def test_each_role_may_change_only_its_own(desk: Desk, role: Role, may: tuple[str, ...]) -> None:
    desk.browser(Role.ADMIN)
    Runs(desk.database).enqueue(job_id(desk), "hand")
    browser, program = desk.browser(role), Program(desk, desk.token(role, "robot"))
    fields = {"name": "admin", "password": "correct horse battery", "role": "admin", "days": "90", "act": "drop"}
    asked = 0
    for method, path in addresses(desk):
        refused = not may or any(part in path for part in may)
        if method in {"GET", "HEAD"} or path in OPEN | OWN or not refused:
            continue
        api = path.removeprefix("/api/v1")
        reply = program.ask(method, api, b"{}") if api != path else browser.post(path, fields)
        assert reply.status in {403, 422} if api != path else reply.status == 403, (method, path, reply.status)
        asked += 1
    assert asked >= 10
    assert len(known_users(desk.database)) == 2


def test_no_address_puts_a_header_of_the_asker_into_an_answer(desk: Desk) -> None:
    browser = desk.browser(Role.ADMIN)
    paths = [path for method, path in addresses(desk, quote(EVIL, safe="")) if method == "GET" and "events" not in path]
    paths += [f"{path}?{name}={quote(EVIL)}" for path in ("/sign-in", "/waiting", "/runs") for name in ("next", "job")]
    for path in paths:
        for asker in (browser, Browser(desk.app)):
            before = dict(asker.cookies)
            reply = asker.get(path)
            assert not [value for _, value in reply.headers if "\r" in value or "\n" in value], path
            assert asker.cookies == before, path
            assert reply.status < 500


def test_no_answer_has_a_secret(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTHING_THAT_IS_SET", "swordfish")
    browser, token = desk.browser(Role.ADMIN), desk.token(Role.ADMIN)
    (cookie,) = browser.cookies.values()
    with desk.database.read() as connection:
        hashes = connection.execute(select(users.c.password)).scalars().all()
    secrets = ["swordfish", PASSWORD, token, cookie, people.digest(cookie).hex(), people.digest(token).hex(), *hashes]
    asked = [path for method, path in addresses(desk) if method == "GET" and not path.endswith("/events")]
    assert len(asked) > 30
    for path in asked:
        reply = browser.get(path)
        shown = reply.text + "".join(value for _, value in reply.headers)
        assert [it for it in secrets if it in shown] == [], path
