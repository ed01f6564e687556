"""Signing in to the page, and what keeps others out of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from syncd import clock
from syncd.db.models import tokens, users, web_sessions
from syncd.db.people import FREE, Role, known_users
from syncd.errors import UsageError
from syncd.services import people
from syncd.settings.load import load
from tests.support.web import PASSWORD, Desk

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    at = [START]
    monkeypatch.setattr(clock, "now", lambda: at[0])
    return at


# --- the first user --------------------------------------------------------------------------------------


def test_without_users_every_page_leads_to_the_set_up(desk: Desk) -> None:
    browser = desk.browser(None)
    assert browser.get("/").header("location") == "/sign-in?next=%2F"
    assert browser.get("/sign-in").header("location") == "/set-up"


def test_the_token_that_was_printed_makes_the_first_user_once(desk: Desk) -> None:
    token = people.setup_token(desk.database)
    assert token is not None
    browser = desk.browser(None)
    assert "Set-up token" in browser.get("/set-up").text
    made = browser.post("/set-up", {"token": token, "name": "Ann", "password": PASSWORD})
    assert (made.status, made.header("location")) == (303, "/")
    assert browser.get("/").status == 200
    assert [(it.name, it.role) for it in known_users(desk.database)] == [("ann", Role.ADMIN)]
    again = desk.browser(None).post("/set-up", {"token": token, "name": "eve", "password": PASSWORD})
    assert again.status == 403
    assert people.setup_token(desk.database) is None
    assert desk.browser(None).get("/set-up").header("location") == "/"


def test_a_guessed_or_old_set_up_token_makes_nobody(desk: Desk, now: list[datetime]) -> None:
    token = people.setup_token(desk.database)
    assert token is not None
    browser = desk.browser(None)
    assert browser.post("/set-up", {"token": "guess", "name": "eve", "password": PASSWORD}).status == 403
    now[0] += people.SETUP + timedelta(seconds=1)
    assert browser.post("/set-up", {"token": token, "name": "eve", "password": PASSWORD}).status == 403
    assert known_users(desk.database) == []


@pytest.mark.parametrize(
    ("name", "password"), [("ann", "short"), ("", PASSWORD), ("a b", PASSWORD), ("x" * 65, PASSWORD)]
)
def test_names_and_passwords_that_are_refused(desk: Desk, name: str, password: str) -> None:
    token = people.setup_token(desk.database)
    assert desk.browser(None).post("/set-up", {"token": token, "name": name, "password": password}).status == 400
    with pytest.raises(UsageError):
        people.add_user(desk.database, name, Role.READER, password)


# --- signing in ------------------------------------------------------------------------------------------


def test_a_session_begins_with_the_password_and_ends_when_asked_to(desk: Desk) -> None:
    browser = desk.browser(Role.READER)
    assert browser.get("/").status == 200
    kept = dict(browser.cookies)
    assert browser.post("/sign-out").header("location") == "/sign-in"
    assert browser.cookies == {}
    browser.cookies = kept  # a copy of the cookie is worth nothing any more
    assert browser.get("/").status == 303


@pytest.mark.parametrize(
    ("name", "password"), [("reader", "wrong"), ("nobody", PASSWORD), ("'; --", PASSWORD), ("", "")]
)
def test_a_wrong_name_or_password_signs_nobody_in(desk: Desk, name: str, password: str) -> None:
    desk.browser(Role.READER)
    browser = desk.browser(None)
    reply = browser.sign_in(name, password)
    assert (reply.status, browser.cookies) == (403, {})
    assert "name or password is wrong" in reply.text


def test_a_session_lasts_a_week(desk: Desk, now: list[datetime]) -> None:
    browser = desk.browser(Role.READER)
    now[0] += people.SESSION - timedelta(seconds=1)
    assert browser.get("/").status == 200
    now[0] += timedelta(seconds=1)
    assert browser.get("/").status == 303


def test_a_new_password_and_a_removal_end_sessions_at_once(desk: Desk) -> None:
    first, second = desk.browser(Role.READER), desk.browser(Role.OPERATOR)
    people.set_password(desk.database, "reader", "another password")
    people.remove_user(desk.database, "operator")
    assert (first.get("/").status, second.get("/").status) == (303, 303)
    assert first.sign_in("reader", "another password").status == 303
    with pytest.raises(UsageError):
        people.remove_user(desk.database, "operator")
    with pytest.raises(UsageError):
        people.set_password(desk.database, "operator", PASSWORD)


def test_a_cookie_is_kept_from_scripts_and_other_sites(desk: Desk) -> None:
    desk.browser(Role.READER)
    cookie = desk.browser(None).sign_in("reader").header("set-cookie")
    assert cookie.startswith("syncd=")
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie


@pytest.mark.parametrize("how", ["base_url", "proxy"])
def test_under_https_a_cookie_is_secure(desk: Desk, file: Path, how: str) -> None:
    desk.browser(Role.READER)
    if how == "base_url":
        file.write_text(file.read_text() + '[service]\nbase_url = "https://mail.example.org"\n')
        desk.site.loaded = load(file)
    browser = desk.browser(None, host="mail.example.org", scheme="https")
    cookie = browser.sign_in("reader").header("set-cookie")
    assert cookie.startswith("__Host-syncd=")
    assert "Secure" in cookie
    assert browser.get("/").status == 200


def test_a_planted_session_is_not_taken_over(desk: Desk) -> None:
    """Session fixation: who planted the cookie would be signed in with the victim."""
    attacker = desk.browser(Role.READER)
    planted = dict(attacker.cookies)
    people.add_user(desk.database, "victim", Role.ADMIN, PASSWORD)
    victim = desk.browser(None)
    victim.cookies = dict(planted)
    assert victim.sign_in("victim").status == 303
    assert victim.cookies != planted
    assert attacker.get("/").status == 303  # the planted session has ended as well
    made_up = desk.browser(None)
    made_up.cookies = {"syncd": "made-up"}
    made_up.sign_in("reader")
    assert made_up.cookies["syncd"] != "made-up"


def test_attempts_have_to_wait_by_name_and_by_address(desk: Desk, now: list[datetime]) -> None:
    desk.browser(Role.READER)
    for number in range(FREE):
        assert desk.browser(None, address=f"192.0.2.{number}").sign_in("reader", "guess").status == 403
    far = desk.browser(None, address="198.51.100.1")
    assert far.sign_in("reader").status == 429  # also with the right password, from elsewhere
    now[0] += timedelta(seconds=2)
    assert far.sign_in("reader").status == 303
    for number in range(FREE):
        assert desk.browser(None).sign_in(f"user{number}", "guess").status == 403
    reply = desk.browser(None).sign_in("reader")
    assert (reply.status, "too many attempts; try again in 1.0 s" in reply.text) == (429, True)


def test_the_database_has_no_secret(desk: Desk) -> None:
    browser = desk.browser(Role.READER)
    token = desk.token(Role.READER)
    with desk.database.read() as connection:
        rows = [
            repr(tuple(row)) for table in (users, web_sessions, tokens) for row in connection.execute(select(table))
        ]
    text = "".join(rows)
    assert "argon2id" in text
    assert not [secret for secret in (PASSWORD, token, *browser.cookies.values()) if secret in text]


# --- forms from elsewhere --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "", "sec-fetch-site": "cross-site"},
        {"origin": "http://localhost:8425.evil.example"},
    ],
)
def test_a_form_of_another_site_is_refused(desk: Desk, headers: dict[str, str]) -> None:
    browser = desk.browser()
    assert browser.post("/sign-out", headers=headers).status == 403
    assert browser.get("/").status == 200
    assert (
        desk.browser(None).post("/sign-in", {"name": "operator", "password": PASSWORD}, headers=headers).status == 403
    )


@pytest.mark.parametrize("key", ["", "0" * 64, "é"])
def test_a_form_without_the_key_of_the_session_is_refused(desk: Desk, key: str) -> None:
    browser = desk.browser()
    assert browser.post("/sign-out", {"csrf": key}).status == 403
    assert browser.post("/sign-out", {"csrf": desk.browser(Role.READER).key}).status == 403
    assert browser.get("/").status == 200


def test_an_old_browser_may_tell_where_a_form_was_by_fetch_metadata_alone(desk: Desk) -> None:
    assert desk.browser().post("/sign-out", headers={"origin": "", "sec-fetch-site": "same-origin"}).status == 303


# --- addresses and headers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "onward",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "evil",
        "/a\r\nX: y",
        "/\t/e",
        "/é",
    ],
)
def test_signing_in_leads_nowhere_else(desk: Desk, onward: str) -> None:
    """Open redirect, and header injection by a path to go on to."""
    desk.browser(Role.READER)
    reply = desk.browser(None).sign_in("reader", next=onward)
    assert (reply.status, reply.header("location")) == (303, "/")
    assert not reply.header("x")


def test_signing_in_goes_on_to_the_page_that_was_asked_for(desk: Desk) -> None:
    desk.browser(Role.READER)
    browser = desk.browser(None)
    assert browser.get("/").header("location") == "/sign-in?next=%2F"
    assert 'value="/jobs/road-backup"' in browser.get("/sign-in?next=%2Fjobs%2Froad-backup").text
    assert browser.sign_in("reader", next="/jobs/road-backup").header("location") == "/jobs/road-backup"


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd", "/static/"]
)
def test_files_outside_the_folder_are_not_served(desk: Desk, path: str) -> None:
    reply = desk.browser(None).get(path)
    assert reply.status in {404, 405}
    assert "import" not in reply.text


def test_a_name_in_an_address_is_no_path(desk: Desk) -> None:
    for folder in ("state", "home"):
        (desk.site.loaded.settings.state_directory.parent / folder).mkdir(exist_ok=True)
    browser = desk.browser(Role.READER)
    for name in ("..", "%2e%2e%2fstate", "..%2f..%2fetc%2fpasswd", "%2fetc", "home%00", "home%2f..%2fhome"):
        for path in (
            f"/archives/{name}/search",
            f"/archives/{name}/export",
            f"/api/v1/archives/{name}/check",
            f"/jobs/{name}/verify/report?form=html",
            f"/archives/home/messages/{name}/raw",
        ):
            assert browser.get(path).status in {404, 422}, path


def test_every_answer_has_the_headers_that_keep_a_browser_safe(desk: Desk) -> None:
    browser = desk.browser()
    for path in ("/", "/sign-in", "/nothing", "/static/syncd.css", "/api/v1/openapi.json"):
        reply = browser.get(path)
        assert "script-src 'self'" in reply.header("content-security-policy"), path
        assert "unsafe" not in reply.header("content-security-policy")
        assert reply.header("x-content-type-options") == "nosniff"
        assert ("max-age" if path.startswith("/static") else "no-store") in reply.header("cache-control")


def test_pages_have_no_inline_script_or_style(desk: Desk) -> None:
    text = desk.browser().get("/").text + desk.browser(None).get("/sign-in").text
    assert "<style" not in text
    assert " style=" not in text
    assert "<script>" not in text
    assert "://" not in text  # nothing from elsewhere


def test_a_large_body_is_refused_before_it_is_read(desk: Desk) -> None:
    browser = desk.browser()
    assert browser.post("/sign-out", {"x": "x" * 70_000}).status == 413
    body = b"x=" + b"x" * 70_000
    chunked = {"content-length": "", "origin": browser.origin, "content-type": "application/x-www-form-urlencoded"}
    assert browser.ask("POST", "/sign-in", body, chunked).status == 413


def test_what_is_not_there_is_said_in_the_form_of_the_asker(desk: Desk) -> None:
    browser = desk.browser()
    assert "<h1>Not Found</h1>" in browser.get("/nothing").text
    reply = browser.get("/api/nothing")
    assert reply.header("content-type") == "application/problem+json"
    assert reply.json == {
        "type": "about:blank", "title": "Not Found", "status": 404, "detail": "there is nothing here"
    }  # fmt: skip
