"""Signing in and out, and the page on which the first user is made."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Request, Response
from starlette.responses import RedirectResponse

from syncd import clock
from syncd.db.people import any_user
from syncd.errors import UsageError
from syncd.services import people
from syncd.services.words import duration
from syncd.web import security
from syncd.web.access import AnyForm, TheSite, session_of
from syncd.web.problems import Problem
from syncd.web.render import page

router = APIRouter()

_Text = Annotated[str, Form(max_length=4000)]


@router.get("/sign-in")
def form(request: Request, site: TheSite, next: str = "/") -> Response:  # noqa: A002  the name in the address
    """Show the form; the first user is made on another one."""
    onward = security.local_path(next)
    if not any_user(site.database):
        return RedirectResponse("/set-up", 303)
    if session_of(request) is not None:
        return RedirectResponse(onward, 303)
    return page(request, "sign-in.html", None, onward=onward, error="", name="")


@router.post("/sign-in")
def sign_in(
    request: Request,
    site: TheSite,
    name: _Text = "",
    password: _Text = "",
    next: _Text = "/",  # noqa: A002
) -> Response:
    """Sign in. A session that the browser had ends: what somebody planted there is worth nothing."""
    _check_origin(request)
    onward = security.local_path(next)
    result = people.sign_in(site.database, name, password, security.address_of(request))
    if isinstance(result, people.Refused):
        error = _refusal(result, "name or password is wrong")
        return page(request, "sign-in.html", None, status=_status(result), onward=onward, error=error, name=name)
    return _begun(request, site, result, onward)


@router.get("/set-up")
def set_up_form(request: Request, site: TheSite, token: str = "") -> Response:
    """Show the form for the first user, while there is none."""
    if any_user(site.database):
        return RedirectResponse("/", 303)
    return page(request, "set-up.html", None, token=token, error="", name="")


@router.post("/set-up")
def set_up(request: Request, site: TheSite, token: _Text = "", name: _Text = "", password: _Text = "") -> Response:
    """Make the first user."""
    _check_origin(request)
    try:
        result = people.set_up(site.database, token.strip(), name, password, security.address_of(request))
    except UsageError as error:
        return page(request, "set-up.html", None, status=400, token=token, error=str(error), name=name)
    if isinstance(result, people.Refused):
        reason = _refusal(result, "this token is not valid any more; the service prints a new one when it is started")
        return page(request, "set-up.html", None, status=_status(result), token="", error=reason, name=name)
    return _begun(request, site, result, "/")


@router.post("/sign-out")
def sign_out(request: Request, site: TheSite, _who: AnyForm) -> Response:
    """End the session."""
    people.sign_out(site.database, security.secret_of(request))
    response = RedirectResponse("/sign-in", 303)
    security.drop_cookie(request, response)
    return response


def _check_origin(request: Request) -> None:
    if not security.is_from_us(request):
        raise Problem(403, f"this form was sent by another site than {security.own_origin(request)}")


def _begun(request: Request, site: TheSite, session: people.Session, onward: str) -> Response:
    before = security.secret_of(request)
    if before:
        people.sign_out(site.database, before)
    response = RedirectResponse(quote(onward, safe="/?=&%-._~:@!$'()*+,;"), 303)
    security.set_cookie(request, response, session.secret)
    return response


def _refusal(refused: people.Refused, reason: str) -> str:
    if refused.again_at is None:
        return reason
    left = max(1.0, (refused.again_at - clock.now()).total_seconds())
    return f"too many attempts; try again in {duration(left)}"


def _status(refused: people.Refused) -> int:
    return 403 if refused.again_at is None else 429
