"""The first page: whether everything is all right, what runs, what comes next, what waits for a person."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from syncd.services.panel import panel
from syncd.web.access import Reader, TheSite
from syncd.web.plots import plots
from syncd.web.render import page

router = APIRouter()


@router.get("/")
def overview(request: Request, site: TheSite, who: Reader) -> Response:
    """Show the overview."""
    found = panel(site.loaded, site.database, site.paces)
    return page(
        request, "overview.html", who, panel=found, plots=plots(found.days), configured=bool(site.loaded.settings.jobs)
    )
