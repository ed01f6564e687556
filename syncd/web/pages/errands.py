"""Errands: dry runs, checks of accounts and archives, verifications; begin, look, cancel, download a report.

Each has one address: POST begins it, GET shows the newest, and POST to its `/cancel` ends it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Annotated, Final, Literal, NamedTuple

from fastapi import APIRouter, Form, Query, Request, Response
from starlette.responses import RedirectResponse

from syncd.db.errands import Kind
from syncd.services.errands import asking
from syncd.services.errands.asking import ErrandState
from syncd.services.panel import job as job_line
from syncd.web.access import Operator, Reader, TheSite
from syncd.web.pages.jobs import check_job
from syncd.web.pages.mail import sent
from syncd.web.pages.places import check_account, check_name
from syncd.web.problems import Problem
from syncd.web.render import page
from syncd.web.site import Site
from syncd.web.who import Who

router = APIRouter()
Wanted = Annotated[Literal["md", "json", "html"], Query(description="The form of the report.")]
MEDIA: Final = {"md": "text/markdown; charset=utf-8", "json": "application/json", "html": "text/html; charset=utf-8"}


class About(NamedTuple):
    """The subject of errands of one kind."""

    at: str  # the address
    template: str
    check: Callable[[Site, str], None]  # raises Problem for a name that the configuration does not have


ABOUT: Final = {
    Kind.DRY_RUN: About("/jobs/{}/dry-run", "dry-run.html", check_job),
    Kind.VERIFY: About("/jobs/{}/verify", "verify.html", check_job),
    Kind.ACCOUNT: About("/accounts/{}/check", "account-check.html", check_account),
    Kind.ARCHIVE: About("/archives/{}/check", "archive-check.html", check_name),
}


@router.post("/jobs/{name}/dry-run")
def dry_run(site: TheSite, who: Operator, name: str) -> Response:
    """Begin a dry run, and go to its page."""
    return _begun(site, who, Kind.DRY_RUN, name)


@router.get("/jobs/{name}/dry-run")
def dry_run_of(request: Request, site: TheSite, who: Reader, name: str) -> Response:
    """Show the newest dry run of a job."""
    return _page(request, site, who, Kind.DRY_RUN, name)


@router.post("/jobs/{name}/dry-run/cancel")
def cancel_dry_run(site: TheSite, _who: Operator, name: str) -> Response:
    """Cancel a dry run."""
    return _cancelled(site, Kind.DRY_RUN, name)


@router.post("/jobs/{name}/verify")
def verify(site: TheSite, who: Operator, name: str, read: Annotated[str, Form()] = "") -> Response:
    """Begin a verification, and go to its page."""
    return _begun(site, who, Kind.VERIFY, name, read=bool(read))


@router.get("/jobs/{name}/verify")
def verification(request: Request, site: TheSite, who: Reader, name: str) -> Response:
    """Show the newest verification of a job; while it is under way, also the result of the one before."""
    last = asking.newest_done(site.loaded, site.database, Kind.VERIFY, name)
    return _page(request, site, who, Kind.VERIFY, name, last=last)


@router.post("/jobs/{name}/verify/cancel")
def cancel_verify(site: TheSite, _who: Operator, name: str) -> Response:
    """Cancel a verification."""
    return _cancelled(site, Kind.VERIFY, name)


@router.get("/jobs/{name}/verify/report")
def report(site: TheSite, _who: Reader, name: str, form: Wanted = "html") -> Response:
    """Send the report of the last verification as a file."""
    return report_of(site, name, form)


@router.post("/accounts/{name}/check")
def check_of_account(site: TheSite, who: Operator, name: str) -> Response:
    """Begin to sign in to an account, and go to the page of that."""
    return _begun(site, who, Kind.ACCOUNT, name)


@router.get("/accounts/{name}/check")
def account_check(request: Request, site: TheSite, who: Reader, name: str) -> Response:
    """Show the newest check of an account."""
    return _page(request, site, who, Kind.ACCOUNT, name)


@router.post("/accounts/{name}/check/cancel")
def cancel_account_check(site: TheSite, _who: Operator, name: str) -> Response:
    """Cancel a check of an account."""
    return _cancelled(site, Kind.ACCOUNT, name)


@router.post("/archives/{name}/check")
def check_archive(site: TheSite, who: Operator, name: str) -> Response:
    """Begin to read every octet of an archive again, and go to the page of that."""
    return _begun(site, who, Kind.ARCHIVE, name)


@router.get("/archives/{name}/check")
def archive_check(request: Request, site: TheSite, who: Reader, name: str) -> Response:
    """Show the newest check of an archive."""
    return _page(request, site, who, Kind.ARCHIVE, name)


@router.post("/archives/{name}/check/cancel")
def cancel_archive_check(site: TheSite, _who: Operator, name: str) -> Response:
    """Cancel a check of an archive."""
    return _cancelled(site, Kind.ARCHIVE, name)


# --- shared with the API -----------------------------------------------------------------------------------


def begin(site: Site, who: Who, kind: Kind, name: str, *, read: bool = False) -> None:
    """Ask for an errand. Raises Problem, UsageError."""
    ABOUT[kind].check(site, name)
    if kind is Kind.DRY_RUN:
        line = job_line(site.loaded, site.database, name)
        if line is not None and line.last is not None and line.last.is_running:
            raise Problem(409, f"run {line.last.run_id} of this job is under way: it does what a dry run would tell")
    if not asking.ask(site.loaded, site.database, kind, name, who.name, read=read):
        raise Problem(409, "one is under way already; look at it, or cancel it")
    site.errands.wake()


def found(site: Site, kind: Kind, name: str) -> ErrandState | None:
    """Returns the newest errand of a kind. Raises Problem."""
    ABOUT[kind].check(site, name)
    return asking.newest(site.loaded, site.database, kind, name)


def end(site: Site, kind: Kind, name: str) -> bool:
    """Cancel an errand; returns whether one was open. Raises Problem."""
    ABOUT[kind].check(site, name)
    return asking.cancel(site.loaded, site.database, kind, name)


def report_of(site: Site, name: str, form: str) -> Response:
    """Returns a report as a file. Raises Problem."""
    check_job(site, name)
    pieces = asking.report(site.loaded, site.database, name, form)
    if pieces is None:
        raise Problem(404, "no report is kept of this job: verify it, or where it is too large: syncd verify --report")
    return sent(ExitStack(), pieces, f"verification-of-{name}.{form}", MEDIA[form])


# --- inside ----------------------------------------------------------------------------------------------


def _begun(site: Site, who: Who, kind: Kind, name: str, *, read: bool = False) -> Response:
    begin(site, who, kind, name, read=read)
    return RedirectResponse(ABOUT[kind].at.format(name), 303)


def _cancelled(site: Site, kind: Kind, name: str) -> Response:
    end(site, kind, name)
    return RedirectResponse(ABOUT[kind].at.format(name), 303)


def _page(
    request: Request, site: Site, who: Who, kind: Kind, name: str, *, last: ErrandState | None = None
) -> Response:
    about = ABOUT[kind]
    errand = found(site, kind, name)
    return page(request, about.template, who, name=name, at=about.at.format(name), errand=errand, last=last)
