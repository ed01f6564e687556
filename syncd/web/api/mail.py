"""The API for mail of archives: search, one message, its octets, and results as a file.

GET   archives/{name}/search · archives/{name}/messages/{key} · archives/{name}/messages/{key}/raw
archives/{name}/messages/{key}/parts/{number} · archives/{name}/export
"""

from __future__ import annotations

from contextlib import closing
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse

from syncd.formats.search.question import parse
from syncd.services import reading, search
from syncd.web.access import ApiReader, TheSite
from syncd.web.api.schemas import Rows
from syncd.web.api.v1 import ERRORS, PREFIX, Limit, Name
from syncd.web.pages import mail
from syncd.web.pages.mail import Asked, Below, Form, Key, Number
from syncd.web.render import Json


def _file(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """Returns the description of an answer that is a file."""
    return {200: {"description": "A file.", "content": {kind: {} for kind in kinds}}}


router = APIRouter(prefix=f"{PREFIX}/archives/{{name}}", responses=ERRORS, tags=["mail"])


class Found(Rows):
    """A part of a result, the newest message first."""

    not_searched: int | None = Field(description="messages that are not in the search index; null: not known")


class Message(BaseModel):
    """A message, its text and parts, where it came from, and where it was delivered."""

    key: str
    id: str
    octets: int
    at: str | None
    sender: str
    subject: str
    header: list[str]
    text: str
    has_html: bool
    parts: list[dict[str, Any]]
    is_cut: bool
    places: list[dict[str, Any]]
    deliveries: list[dict[str, Any]]


@router.get("/search", response_model=Found)
def find(
    site: TheSite, _who: ApiReader, name: Name, *, q: Asked = "", limit: Limit = 50, below: Below = None
) -> Response:
    """Messages that answer a question, as `syncd archive search --json`; `key` is their address here."""
    with closing(mail.opened(site, name)) as view:
        missing = search.unindexed(view)
        hits, more = search.find(view, parse(q, mail.zone(site)), limit, below)
        items = [search.hit_json(view, hit) for hit in hits]
    query = urlencode({"q": q, "limit": limit, "below": more})
    onwards = None if more is None else f"{PREFIX}/archives/{quote(name, safe='')}/search?{query}"
    return Json({"items": items, "next": onwards, "not_searched": missing})


@router.get("/messages/{key}", response_model=Message)
def message(site: TheSite, _who: ApiReader, name: Name, key: Key) -> Response:
    """Returns a message. `text` has at most 256 Ki characters; HTML is made text."""
    with closing(mail.opened(site, name)) as view:
        found = mail.letter(view, key)
        document = found.as_json()
    rows = reading.deliveries(site.loaded, site.database, found)
    return Json({**document, "deliveries": [{**row._asdict(), "state": row.state.name.lower()} for row in rows]})


@router.get("/messages/{key}/raw", response_class=StreamingResponse, responses=_file("message/rfc822"))
def raw(site: TheSite, _who: ApiReader, name: Name, key: Key) -> Response:
    """Returns the octets of a message."""
    return mail.raw_of(site, name, key)


@router.get("/messages/{key}/parts/{number}", response_class=StreamingResponse, responses=_file(mail.DOWNLOAD))
def part(site: TheSite, _who: ApiReader, name: Name, key: Key, number: Number) -> Response:
    """Returns a part of a message, its transfer encoding undone."""
    return mail.part_of(site, name, key, number)


@router.get("/export", response_class=StreamingResponse, responses=_file("application/mbox", "application/zip"))
def export(site: TheSite, _who: ApiReader, name: Name, q: Asked = "", form: Form = "mbox") -> Response:
    """Returns all messages that answer a question as one file; without a question, the archive."""
    return mail.export_of(site, name, q, form)
