"""Accounts and archives: what is used for what, when it was in contact, how much there is; check an account."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response

from syncd.services import places
from syncd.services.check import AccountCheck, Check
from syncd.web.access import Operator, Reader, TheSite
from syncd.web.problems import Problem
from syncd.web.render import page
from syncd.web.site import Site

router = APIRouter()
PAGE: Final = 50
Start = Annotated[int, Query(ge=0, le=10_000_000)]


@router.get("/accounts")
def accounts(request: Request, site: TheSite, who: Reader, start: Start = 0) -> Response:
    """List accounts."""
    found = places.accounts(site.loaded, site.database, start, PAGE)
    total = len(site.loaded.settings.accounts)
    return page(request, "accounts.html", who, accounts=found, start=start, size=PAGE, total=total)


@router.post("/accounts/{name}/check")
def check(request: Request, site: TheSite, who: Operator, name: str) -> Response:
    """Sign in to an account, and show what its server says."""
    found = checked(site, name)
    return page(request, "account-check.html", who, check=found)


def checked(site: Site, name: str) -> AccountCheck:
    """Sign in to an account of the configuration; one at a time, as each may wait for its server. Raises Problem."""
    loaded = site.loaded
    if name not in loaded.settings.accounts:
        raise Problem(404, f"the configuration has no account {name[:100]!r}")
    if not site.checking.acquire(blocking=False):
        raise Problem(429, "another account is being checked; try again in a moment")
    try:
        return Check(loaded, (), lambda _: None).account(name)
    finally:
        site.checking.release()


@router.get("/archives")
def archives(request: Request, site: TheSite, who: Reader, start: Start = 0, count: str = "") -> Response:
    """List archives. How much is in one of them is counted when asked for."""
    found = places.archives(site.loaded, start, PAGE, count)
    total = len(site.loaded.settings.archives)
    return page(request, "archives.html", who, archives=found, start=start, size=PAGE, total=total)
