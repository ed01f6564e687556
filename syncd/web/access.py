"""Who asks, and what they may do: dependencies of the pages and of the API.

pages    a session; what changes something also needs the session's form key
API      a token; or a session, whose key is then in the header X-CSRF-Token where something is changed
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Depends, Form, Header, Request, Security
from fastapi.security import HTTPBearer

from syncd.db.people import Role
from syncd.services import people
from syncd.web import security
from syncd.web.problems import NeedsSignIn, Problem
from syncd.web.site import Site, site_of
from syncd.web.who import Who

_BEARER: Final = HTTPBearer(auto_error=False, scheme_name="token")  # for the description of the API
SAFE: Final = frozenset({"GET", "HEAD"})


TheSite = Annotated[Site, Depends(site_of)]


def session_of(request: Request) -> Who | None:
    """Returns who is signed in with a cookie."""
    secret = security.secret_of(request)
    user = people.signed_in(site_of(request).database, secret) if secret else None
    return None if user is None else Who(user.name, user.role)


def reader(request: Request) -> Who:
    """Returns who looks at a page. Raises NeedsSignIn."""
    request.state.mark = request.app.state.watch.mark  # the page shows what stood then, or something newer
    who = session_of(request)
    if who is None:
        raise NeedsSignIn
    return who


def operator(request: Request, who: Reader, csrf: Annotated[str, Form()] = "") -> Who:
    """Returns who sent a form that changes something. Raises NeedsSignIn, Problem."""
    _check_sent_by_us(request, csrf)
    return _permitted(who, Role.OPERATOR)


def admin(who: Reader) -> Who:
    """Returns who looks at a page that says who may sign in. Raises NeedsSignIn, Problem."""
    return _permitted(who, Role.ADMIN)


def admin_form(request: Request, who: Reader, csrf: Annotated[str, Form()] = "") -> Who:
    """Returns who sent a form that decides who may sign in. Raises NeedsSignIn, Problem."""
    _check_sent_by_us(request, csrf)
    return _permitted(who, Role.ADMIN)


def any_form(request: Request, who: Reader, csrf: Annotated[str, Form()] = "") -> Who:
    """Returns who sent a form that everybody may send. Raises NeedsSignIn, Problem."""
    _check_sent_by_us(request, csrf)
    return who


def api_reader(
    request: Request,
    _described: Annotated[object, Security(_BEARER)],
    authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
    x_csrf_token: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Who:
    """Returns who calls the API. Raises NeedsSignIn, Problem."""
    if authorization is not None:
        scheme, _, token = authorization.partition(" ")
        held = people.holder_of(site_of(request).database, token.strip()) if scheme.lower() == "bearer" else None
        if held is None:
            raise NeedsSignIn
        return Who(f"token {held.name}", held.role)
    who = reader(request)
    if request.method not in SAFE:
        _check_sent_by_us(request, x_csrf_token or "")
    return who


def api_operator(who: ApiReader) -> Who:
    """Returns who changes something by the API. Raises NeedsSignIn, Problem."""
    return _permitted(who, Role.OPERATOR)


def api_admin(who: ApiReader) -> Who:
    """Returns who decides by the API who may sign in. Raises NeedsSignIn, Problem."""
    return _permitted(who, Role.ADMIN)


def _check_sent_by_us(request: Request, key: str) -> None:
    if not security.is_from_us(request) or not security.has_form_key(request, key):
        raise Problem(403, "this was not sent by a page of yours that is up to date; go back, load it again, and retry")


def _permitted(who: Who, role: Role) -> Who:
    if who.role < role:
        raise Problem(403, f"this needs the role {role.name.lower()}, and {who.name} is {who.role.name.lower()}")
    return who


Reader = Annotated[Who, Depends(reader)]
Operator = Annotated[Who, Depends(operator)]
Admin = Annotated[Who, Depends(admin)]
AdminForm = Annotated[Who, Depends(admin_form)]
AnyForm = Annotated[Who, Depends(any_form)]
ApiReader = Annotated[Who, Depends(api_reader)]
ApiOperator = Annotated[Who, Depends(api_operator)]
ApiAdmin = Annotated[Who, Depends(api_admin)]
