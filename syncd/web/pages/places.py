"""Accounts and archives: what is used for what, when it was in contact, how much there is; resume an account."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import RedirectResponse

from syncd.services import places, problems
from syncd.services.selection import Selector
from syncd.web.access import Operator, Reader, TheSite
from syncd.web.pages.jobs import Words
from syncd.web.problems import Problem
from syncd.web.render import page
from syncd.web.site import Site

router = APIRouter()
PAGE: Final = 50
Start = Annotated[int, Query(ge=0, le=10_000_000)]


@router.get("/accounts")
def accounts(request: Request, site: TheSite, who: Reader, start: Start = 0, q: Words = "") -> Response:
    """List accounts: all, or those with some words."""
    names = places.account_names(site.loaded, q)
    found = places.accounts(site.loaded, site.database, names[start : start + PAGE])
    known = len(site.loaded.settings.accounts)
    return page(
        request, "accounts.html", who, accounts=found, start=start, size=PAGE, total=len(names), known=known, q=q
    )


@router.post("/accounts/{name}/resume")
def resume(site: TheSite, _who: Operator, name: str) -> Response:
    """Contact a suspended account again."""
    resumed(site, name)
    return RedirectResponse("/accounts", 303)


def resumed(site: Site, name: str) -> bool:
    """Have the jobs that use an account contact it again; returns whether it was suspended.

    Raises Problem, LeaseHeld.
    """
    check_account(site, name)
    jobs = [
        job for job, it in site.loaded.settings.jobs.items() if name in {it.source, *(to.to for to in it.destinations)}
    ]
    return bool(list(problems.retry(site.loaded, site.database, jobs, Selector(place=name), suspended=True)))


def check_account(site: Site, name: str) -> None:
    """Raise Problem for an account that the configuration does not have."""
    if name not in site.loaded.settings.accounts:
        raise Problem(404, f"the configuration has no account {name[:100]!r}")


@router.get("/archives")
def archives(  # noqa: PLR0917  the fields of its address
    request: Request, site: TheSite, who: Reader, start: Start = 0, count: str = "", q: Words = ""
) -> Response:
    """List archives: all, or those with some words. How much is in one of them is counted when asked for."""
    names = places.archive_names(site.loaded, q)
    found = places.archives(site.loaded, names[start : start + PAGE], count)
    known = len(site.loaded.settings.archives)
    return page(
        request, "archives.html", who, archives=found, start=start, size=PAGE, total=len(names), known=known, q=q
    )


def check_name(site: Site, name: str) -> None:
    """Raise Problem for an archive that the configuration does not have."""
    if name not in site.loaded.settings.archives:
        raise Problem(404, f"the configuration has no archive {name[:100]!r}")
