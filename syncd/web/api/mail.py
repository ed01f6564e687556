"""The API for mail of archives: search, one message, its octets, and results as a file.

GET   search · export · archives/{name}/search · archives/{name}/messages/{key} · archives/{name}/messages/{key}/raw
archives/{name}/messages/{key}/parts/{number} · archives/{name}/export
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse

from syncd.services import reading
from syncd.services.answers import Answer
from syncd.web.access import ApiReader, TheSite
from syncd.web.api.schemas import Rows
from syncd.web.api.v1 import ERRORS, PREFIX, Limit, Name
from syncd.web.pages import mail
from syncd.web.pages.mail import NO_ARCHIVES, Asked, Form, Key, MaybeBelow, Number
from syncd.web.pages.places import check_name
from syncd.web.render import Json


def _file(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """Returns the description of an answer that is a file."""
    return {200: {"description": "A file.", "content": {kind: {} for kind in kinds}}}


Archives = Annotated[list[str], Query(description="Names of archives; none: all of the configuration.")]
router = APIRouter(prefix=PREFIX, responses=ERRORS, tags=["mail"])


class Searched(BaseModel):
    """An archive that was searched, and what could not be done in it."""

    archive: str
    site: str = Field(description="where its folder is; empty: not known")
    here: bool = Field(description="false: its folder is on another machine, so its messages are found and not read")
    missing: int | None = Field(description="messages that are not in the search index; null: not known")
    error: str = Field(description="why it was not searched")


class Found(Rows):
    """A part of a result, the newest message first."""

    not_searched: int | None = Field(description="messages that are not in the search index; null: not known")
    archives: list[Searched]


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
    text_is_cut: bool
    has_html: bool
    parts: list[dict[str, Any]]
    is_cut: bool
    places: list[dict[str, Any]]
    deliveries: list[dict[str, Any]]


@router.get("/search", response_model=Found)
def find_all(
    site: TheSite,
    _who: ApiReader,
    *,
    q: Asked = "",
    archives: Archives = NO_ARCHIVES,
    limit: Limit = 50,
    below: MaybeBelow = None,
) -> Response:
    """Messages of several archives that answer a question, as `syncd archive search --json`."""
    answer = mail.asked(site, mail.chosen(site, archives), q, limit, below)
    return _found(answer, f"{PREFIX}/search", [("q", q), ("limit", limit), *(("archives", name) for name in archives)])


@router.get("/archives/{name}/search", response_model=Found)
def find(
    site: TheSite, _who: ApiReader, name: Name, *, q: Asked = "", limit: Limit = 50, below: MaybeBelow = None
) -> Response:
    """Messages that answer a question, as `syncd archive search --json`; `key` is their address here."""
    check_name(site, name)
    answer = mail.asked(site, [name], q, limit, below, alone=True)
    return _found(answer, f"{PREFIX}/archives/{quote(name, safe='')}/search", [("q", q), ("limit", limit)])


@router.get("/export", response_class=StreamingResponse, responses=_file("application/mbox", "application/zip"))
def export_all(
    site: TheSite, _who: ApiReader, *, q: Asked = "", archives: Archives = NO_ARCHIVES, form: Form = "mbox"
) -> Response:
    """Returns the messages of several archives that answer a question as one file."""
    return mail.export_found(site, mail.chosen(site, archives), q, form)


def _found(answer: Answer, address: str, query: list[tuple[str, object]]) -> Response:
    onwards = None if answer.below is None else f"{address}?{urlencode([*query, ('below', str(answer.below))])}"
    missing = [it.missing for it in answer.looked]
    return Json(
        {
            "items": [it.as_json() for it in answer.hits],
            "next": onwards,
            "not_searched": None if None in missing else sum(it or 0 for it in missing),
            "archives": [asdict(it) for it in answer.looked],
        }
    )


@router.get("/archives/{name}/messages/{key}", response_model=Message)
def message(site: TheSite, _who: ApiReader, name: Name, key: Key) -> Response:
    """Returns a message. `text` has at most 256 Ki characters; HTML is made text."""
    with closing(mail.opened(site, name)) as view:
        found = mail.letter(view, key)
        document = found.as_json()
        rows = reading.deliveries(site.loaded, site.database, found)
    return Json({**document, "deliveries": [{**row._asdict(), "state": row.state.name.lower()} for row in rows]})


@router.get("/archives/{name}/messages/{key}/raw", response_class=StreamingResponse, responses=_file("message/rfc822"))
def raw(site: TheSite, _who: ApiReader, name: Name, key: Key) -> Response:
    """Returns the octets of a message."""
    return mail.raw_of(site, name, key)


@router.get(
    "/archives/{name}/messages/{key}/parts/{number}", response_class=StreamingResponse, responses=_file(mail.DOWNLOAD)
)
def part(site: TheSite, _who: ApiReader, name: Name, key: Key, number: Number) -> Response:
    """Returns a part of a message, its transfer encoding undone."""
    return mail.part_of(site, name, key, number)


@router.get(
    "/archives/{name}/export", response_class=StreamingResponse, responses=_file("application/mbox", "application/zip")
)
def export(site: TheSite, _who: ApiReader, name: Name, q: Asked = "", form: Form = "mbox") -> Response:
    """Returns all messages that answer a question as one file; without a question, the archive."""
    return mail.export_of(site, name, q, form)
