"""Who may sign in: users and tokens, for admins. A token is shown once, in the answer to the form that made it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Form, Request, Response
from starlette.responses import RedirectResponse

from syncd.db.people import Role, known_tokens, known_users
from syncd.errors import UsageError
from syncd.services import people
from syncd.web.access import Admin, AdminForm, TheSite
from syncd.web.problems import Problem
from syncd.web.render import page
from syncd.web.site import Site
from syncd.web.who import Who

router = APIRouter(prefix="/people")
SPANS: Final = (7, 30, 90, 365)  # days that a token lasts; 0: until it is revoked

_Text = Annotated[str, Form(max_length=4000)]


@router.get("")
def everybody(request: Request, site: TheSite, who: Admin) -> Response:
    """List users and tokens."""
    return _page(request, site, who)


@router.post("/users")
def add_user(  # noqa: PLR0917  the fields of the form
    request: Request, site: TheSite, who: AdminForm, name: _Text, password: _Text, role: _Text
) -> Response:
    """Add a user."""
    return _done(request, site, who, lambda: people.add_user(site.database, name, role_of(role), password))


@router.post("/users/password")
def set_password(request: Request, site: TheSite, who: AdminForm, name: _Text, password: _Text) -> Response:
    """Set a new password, which ends the sessions of that user."""
    return _done(request, site, who, lambda: people.set_password(site.database, name, password))


@router.post("/users/remove")
def remove_user(request: Request, site: TheSite, who: AdminForm, name: _Text) -> Response:
    """Remove a user."""
    return _done(request, site, who, lambda: removed(site, who, name))


@router.post("/tokens")
def create_token(  # noqa: PLR0917  the fields of the form
    request: Request, site: TheSite, who: AdminForm, name: _Text, role: _Text, days: _Text
) -> Response:
    """Make a token, and show it."""
    if not days.isdecimal() or int(days) not in {0, *SPANS}:
        raise Problem(400, "a token lasts for one of the times that the form offers")
    lasts = timedelta(int(days)) if int(days) else None
    try:
        token = people.create_token(site.database, name, role_of(role), lasts)
    except UsageError as error:
        return _page(request, site, who, error=str(error))
    return _page(request, site, who, token=token)


@router.post("/tokens/revoke")
def revoke_token(request: Request, site: TheSite, who: AdminForm, name: _Text) -> Response:
    """End a token."""
    return _done(request, site, who, lambda: people.revoke_token(site.database, name))


def role_of(word: str) -> Role:
    """Returns a role by its name. Raises UsageError."""
    try:
        return Role[word.upper()]
    except KeyError:
        raise UsageError("a role is reader, operator or admin") from None


def removed(site: Site, who: Who, name: str) -> None:
    """Remove a user. Raises UsageError; nobody removes themselves, so that an admin is left."""
    if name.strip().lower() == who.name:
        raise UsageError("nobody removes themselves here; another admin can, or: syncd user rm")
    people.remove_user(site.database, name)


def _done(request: Request, site: Site, who: Who, act: Callable[[], object]) -> Response:
    try:
        act()
    except UsageError as error:
        return _page(request, site, who, error=str(error))
    return RedirectResponse("/people", 303)


def _page(request: Request, site: Site, who: Who, *, error: str = "", token: str = "") -> Response:
    return page(
        request,
        "people.html",
        who,
        status=400 if error else 200,
        users=known_users(site.database),
        tokens=known_tokens(site.database),
        roles=[it.name.lower() for it in Role],
        spans=SPANS,
        error=error,
        token=token,
    )
