"""The API of errands: dry runs, checks of accounts and archives, verifications.

POST  begins one, and answers at once with its address     GET  tells how the newest stands, and what it found
POST  …/cancel ends it                                     GET  jobs/{name}/verify/report: the last one, as a file
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Body, Response

from syncd.db.errands import Kind
from syncd.services.errands.asking import ErrandState
from syncd.web.access import ApiOperator, ApiReader, TheSite
from syncd.web.api.schemas import Begun, ErrandEnded, VerifyHow
from syncd.web.api.v1 import ERRORS, PREFIX, Name
from syncd.web.pages.errands import ABOUT, MEDIA, Wanted, begin, end, found, report_of
from syncd.web.problems import Problem
from syncd.web.render import Json
from syncd.web.site import Site
from syncd.web.who import Who

router = APIRouter(prefix=PREFIX, responses=ERRORS)


@router.get("/jobs/{name}/dry-run", response_model=ErrandState)
def get_dry_run(site: TheSite, _who: ApiReader, name: Name) -> Response:
    """Returns the newest dry run of a job: what a run would do, as `syncd run --dry-run --json`, and its notes."""
    return _found(site, Kind.DRY_RUN, name)


@router.post("/jobs/{name}/dry-run", status_code=202, response_model=Begun)
def dry_run(site: TheSite, who: ApiOperator, name: Name) -> Response:
    """Begin to sign in, list and compare as a run would; nothing is changed."""
    return _begun(site, who, Kind.DRY_RUN, name)


@router.post("/jobs/{name}/dry-run/cancel", response_model=ErrandEnded)
def cancel_dry_run(site: TheSite, _who: ApiOperator, name: Name) -> Response:
    """Cancel a dry run."""
    return _ended(site, Kind.DRY_RUN, name)


@router.get("/jobs/{name}/verify", response_model=ErrandState)
def get_verification(site: TheSite, _who: ApiReader, name: Name) -> Response:
    """Returns the newest verification: `report` and `sha256` as `syncd verify --json`, with the first entries alone."""
    return _found(site, Kind.VERIFY, name)


@router.post("/jobs/{name}/verify", status_code=202, response_model=Begun)
def verify(site: TheSite, who: ApiOperator, name: Name, how: Annotated[VerifyHow | None, Body()] = None) -> Response:
    """Begin to compare source, ledger and destinations of a job; nothing is changed."""
    return _begun(site, who, Kind.VERIFY, name, read=how is not None and how.read)


@router.post("/jobs/{name}/verify/cancel", response_model=ErrandEnded)
def cancel_verify(site: TheSite, _who: ApiOperator, name: Name) -> Response:
    """Cancel a verification."""
    return _ended(site, Kind.VERIFY, name)


@router.get(
    "/jobs/{name}/verify/report",
    response_class=Response,
    responses={200: {"description": "A file.", "content": {kind.partition(";")[0]: {} for kind in MEDIA.values()}}},
)
def report(site: TheSite, _who: ApiReader, name: Name, form: Wanted = "json") -> Response:
    """Returns the whole report of the last verification that came to its end, as `syncd verify --report` writes it."""
    return report_of(site, name, form)


@router.get("/accounts/{name}/check", response_model=ErrandState)
def get_account_check(site: TheSite, _who: ApiReader, name: Name) -> Response:
    """Returns the newest check of an account: what its server says, as `syncd check --json`."""
    return _found(site, Kind.ACCOUNT, name)


@router.post("/accounts/{name}/check", status_code=202, response_model=Begun)
def check_account(site: TheSite, who: ApiOperator, name: Name) -> Response:
    """Begin to sign in to an account."""
    return _begun(site, who, Kind.ACCOUNT, name)


@router.post("/accounts/{name}/check/cancel", response_model=ErrandEnded)
def cancel_account_check(site: TheSite, _who: ApiOperator, name: Name) -> Response:
    """Cancel a check of an account."""
    return _ended(site, Kind.ACCOUNT, name)


@router.get("/archives/{name}/check", response_model=ErrandState)
def get_archive_check(site: TheSite, _who: ApiReader, name: Name) -> Response:
    """Returns the newest check of an archive."""
    return _found(site, Kind.ARCHIVE, name)


@router.post("/archives/{name}/check", status_code=202, response_model=Begun)
def check_archive(site: TheSite, who: ApiOperator, name: Name) -> Response:
    """Begin to read every octet of an archive again."""
    return _begun(site, who, Kind.ARCHIVE, name)


@router.post("/archives/{name}/check/cancel", response_model=ErrandEnded)
def cancel_archive_check(site: TheSite, _who: ApiOperator, name: Name) -> Response:
    """Cancel a check of an archive."""
    return _ended(site, Kind.ARCHIVE, name)


def _found(site: Site, kind: Kind, name: str) -> Response:
    errand = found(site, kind, name)
    if errand is None:
        raise Problem(404, f"nobody has asked for this of {name!r} yet, or it was forgotten")
    return Json(errand.as_json())


def _begun(site: Site, who: Who, kind: Kind, name: str, *, read: bool = False) -> Response:
    begin(site, who, kind, name, read=read)
    at = PREFIX + ABOUT[kind].at.format(name)
    return Json({"at": at}, 202, {"Location": quote(at)})


def _ended(site: Site, kind: Kind, name: str) -> Response:
    return Json({"cancelled": end(site, kind, name)})
