"""Users and tokens on the page and in the API: admins decide, nobody else sees them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import pytest

from syncd.db.people import Role, known_tokens, known_users
from tests.support.web import PASSWORD, Browser, Desk
from tests.unit.web.test_api import Program

FORMS = {
    "users": {"name": "bob", "password": PASSWORD, "role": "reader"},
    "users/password": {"name": "operator", "password": "another password"},
    "users/remove": {"name": "operator"},
    "tokens": {"name": "robot", "role": "admin", "days": "90"},
    "tokens/revoke": {"name": "robot"},
}


@pytest.fixture
def admin(desk: Desk) -> Browser:
    return desk.browser(Role.ADMIN)


@pytest.mark.parametrize("role", [Role.READER, Role.OPERATOR])
def test_only_admins_see_and_decide(desk: Desk, role: Role) -> None:
    desk.browser(Role.ADMIN)
    browser = desk.browser(role)
    assert browser.get("/people").status == 403
    assert "/people" not in browser.get("/").text
    before = known_users(desk.database)
    assert {browser.post(f"/people/{form}", fields).status for form, fields in FORMS.items()} == {403}
    assert known_users(desk.database) == before
    assert known_tokens(desk.database) == []


def test_a_form_of_another_site_decides_nothing(desk: Desk, admin: Browser) -> None:
    for form, fields in FORMS.items():
        assert admin.post(f"/people/{form}", {**fields, "csrf": "guess"}).status == 403
        assert admin.post(f"/people/{form}", fields, headers={"origin": "https://evil.example"}).status == 403
    assert [it.name for it in known_users(desk.database)] == ["admin"]


def test_users_are_added_changed_and_removed(desk: Desk, admin: Browser) -> None:
    assert "data-key" in admin.get("/people").text
    assert admin.post("/people/users", FORMS["users"]).header("location") == "/people"
    bob = Browser(desk.app)
    assert bob.sign_in("bob").status == 303
    assert admin.post("/people/users/password", {"name": "bob", "password": "another password"}).status == 303
    assert bob.get("/").status == 303  # to sign in
    assert bob.sign_in("bob", "another password").status == 303
    assert admin.post("/people/users/remove", {"name": "bob"}).status == 303
    assert bob.get("/").status == 303
    assert [it.name for it in known_users(desk.database)] == ["admin"]


REFUSED: Sequence[tuple[str, dict[str, str], str]] = [
    ("users", {"name": "a b", "password": PASSWORD, "role": "reader"}, "a name has"),
    ("users", {"name": "bob", "password": "short", "role": "reader"}, "a password has"),
    ("users", {"name": "bob", "password": PASSWORD, "role": "king"}, "a role is"),
    ("users", {"name": "admin", "password": PASSWORD, "role": "reader"}, "there is a user admin"),
    ("users/remove", {"name": "admin"}, "nobody removes themselves"),
    ("users/remove", {"name": "<b>"}, "no user"),
    ("tokens/revoke", {"name": "none"}, "no token"),
    ("tokens", {"name": "robot", "role": "reader", "days": "1000"}, "a token lasts"),
]


def test_what_cannot_be_is_said(admin: Browser) -> None:
    for form, fields, told in REFUSED:
        reply = admin.post(f"/people/{form}", fields)
        assert reply.status == 400
        assert told in reply.text
        assert "<b>" not in reply.text
        assert PASSWORD not in reply.text


def test_a_token_is_shown_once(desk: Desk, admin: Browser) -> None:
    found = re.search(r"<code>(syncd_\S+)</code>", admin.post("/people/tokens", FORMS["tokens"]).text)
    assert found is not None
    assert Program(desk, found[1]).get("/users").status == 200
    assert found[1] not in admin.get("/people").text
    assert admin.post("/people/tokens/revoke", {"name": "robot"}).status == 303
    assert Program(desk, found[1]).get("/users").status == 401


def test_the_api_does_the_same(desk: Desk) -> None:
    program = Program(desk, desk.token(Role.ADMIN))
    ann = {"name": "ann", "password": PASSWORD, "role": "operator"}
    assert program.post("/users", ann).json["role"] == "operator"
    assert [it["name"] for it in program.get("/users").json["items"]] == ["ann"]
    password = json.dumps({"password": "another password"}).encode()
    assert program.ask("PUT", "/users/ann/password", password).status == 204
    assert Browser(desk.app).sign_in("ann", "another password").status == 303
    assert program.ask("DELETE", "/users/ann").status == 204
    assert program.ask("DELETE", "/users/ann").status == 404
    assert program.ask("DELETE", "/tokens/ann").status == 404
    assert program.ask("PUT", "/users/ann/password", password).status == 404
    made = program.post("/tokens", {"name": "short", "days": 1})
    assert (made.status, made.json["name"]) == (201, "short")
    listed = {it["name"]: it for it in program.get("/tokens").json["items"]}
    assert listed["short"]["scope"] == "reader"
    assert made.json["token"] not in program.get("/tokens").text
    assert program.ask("DELETE", "/tokens/short").status == 204
    for role in (Role.READER, Role.OPERATOR):
        other = Program(desk, desk.token(role, role.name))
        assert {other.get("/users").status, other.get("/tokens").status, other.post("/users", ann).status} == {403}
        assert other.ask("DELETE", "/tokens/robot").status == 403
