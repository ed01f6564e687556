"""Accounts and archives: what is used for what, when it was in contact, and how much there is."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response

from syncd.services import places
from syncd.web.access import Reader, TheSite
from syncd.web.render import page

router = APIRouter()
PAGE: Final = 50
Start = Annotated[int, Query(ge=0, le=10_000_000)]


@router.get("/accounts")
def accounts(request: Request, site: TheSite, who: Reader, start: Start = 0) -> Response:
    """List accounts."""
    found = places.accounts(site.loaded, site.database, start, PAGE)
    total = len(site.loaded.settings.accounts)
    return page(request, "accounts.html", who, accounts=found, start=start, size=PAGE, total=total)


@router.get("/archives")
def archives(request: Request, site: TheSite, who: Reader, start: Start = 0, count: str = "") -> Response:
    """List archives. How much is in one of them is counted when asked for."""
    found = places.archives(site.loaded, start, PAGE, count)
    total = len(site.loaded.settings.archives)
    return page(request, "archives.html", who, archives=found, start=start, size=PAGE, total=total)
