"""Errors as answers: RFC 9457 for programs, a page for people. No answer has a trace, a path or a secret in it."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse

from syncd.errors import LeaseHeld, Locked, SyncdError, UsageError, printable
from syncd.telemetry import logs
from syncd.web.render import Json, page

PROBLEM: Final = "application/problem+json"
API: Final = "/api/"

log = logs.get(__name__)


class Problem(Exception):
    """An answer other than the one that was asked for."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


class NeedsSignIn(Problem):
    """Nobody is signed in. A page leads to the form that signs in."""

    def __init__(self) -> None:
        super().__init__(401, "sign in, or send a token: Authorization: Bearer syncd_…", {"WWW-Authenticate": "Bearer"})


def answer(request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Returns an error as an answer."""
    title = HTTPStatus(status).phrase
    if request.url.path.startswith(API):
        body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
        return Json(body, status, headers, media_type=PROBLEM)
    return page(request, "problem.html", None, status=status, headers=headers, title=title, detail=detail)


def install(app: FastAPI) -> None:
    """Have every error answered."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(SyncdError, _expected)
    app.add_exception_handler(Exception, _unexpected)


def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    if isinstance(error, NeedsSignIn) and not request.url.path.startswith(API):
        return RedirectResponse(f"/sign-in?next={quote(_place(request), safe='')}", 303)
    return answer(request, error.status, error.detail, error.headers)


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = _DETAILS.get(error.status_code, HTTPStatus(error.status_code).phrase)
    return answer(request, error.status_code, detail, error.headers)


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = [f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors()[:10]]
    return answer(request, 422, printable("; ".join(wrong), 1000))


def _expected(request: Request, error: Exception) -> Response:
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 503)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("page.failed", path=request.url.path, error=str(error))
    return answer(request, status, printable(str(error), 1000))


def _unexpected(request: Request, error: Exception) -> Response:
    log.error("page.failed", path=request.url.path, exc_info=error)
    return answer(request, 500, "something went wrong; the log of the service has more")


def _place(request: Request) -> str:
    """Returns where to go on after signing in; a form that was not taken is lost."""
    return request.url.path if request.method == "GET" else "/"


_STATUSES: Final = ((UsageError, 400), (LeaseHeld, 409), (Locked, 503))
_DETAILS: Final = {404: "there is nothing here", 405: "this method does not work here"}
