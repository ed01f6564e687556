"""A browser for the page, and its application called in this process: there is no socket and no server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from fastapi import FastAPI
from starlette.datastructures import State

from syncd.db.database import Database
from syncd.db.people import Role, known_users
from syncd.services import people
from syncd.settings.load import load
from syncd.web.app import make_app
from syncd.web.site import Site
from syncd.web.stream import Watch

PASSWORD = "correct horse battery"


@dataclass
class Reply:
    """An answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str:
        """The value of a header that is there once; "" where it is not."""
        found = [value for key, value in self.headers if key == name]
        assert len(found) < 2, found
        return found[0] if found else ""


@dataclass
class Browser:
    """Asks as a browser does: it keeps cookies, and tells where a form was."""

    app: FastAPI
    host: str = "localhost:8425"
    scheme: str = "http"
    address: str = "127.0.0.1"
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.host}"

    @property
    def key(self) -> str:
        """What the forms of this session have in them."""
        return people.form_key(next(iter(self.cookies.values()), ""))

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, fields: Mapping[str, Any] | None = None, **more: Any) -> Reply:
        """Send a form, with the key of this session unless the fields have another one."""
        fields = {"csrf": self.key, **(fields or {})}
        headers = {"origin": self.origin, **more.pop("headers", {})}
        body = urlencode(fields, doseq=True).encode()
        return self.ask("POST", path, body, {"content-type": "application/x-www-form-urlencoded", **headers})

    def ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        """Send a request as it is; a header with the value "" is left out."""
        parts = urlsplit(path)
        sent = {"host": self.host, "content-length": str(len(body)), **(headers or {})}
        if self.cookies:
            sent.setdefault("cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": self.scheme,
            "path": unquote(parts.path),
            "raw_path": quote(parts.path, safe="/%").encode(),
            "query_string": parts.query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in sent.items() if value],
            "client": (self.address, 4711),
            "server": ("127.0.0.1", 8425),
        }
        reply = asyncio.run(_call(self.app, scope, body))
        self._keep(reply)
        return reply

    def sign_in(self, name: str, password: str = PASSWORD, **fields: str) -> Reply:
        return self.post("/sign-in", {"name": name, "password": password, "csrf": "", **fields})

    def _keep(self, reply: Reply) -> None:
        for name, value in reply.headers:
            if name == "set-cookie":
                for key, morsel in SimpleCookie(value).items():
                    if morsel["max-age"] == "0":
                        self.cookies.pop(key, None)
                    else:
                        self.cookies[key] = morsel.value


async def _call(app: FastAPI, scope: dict[str, Any], body: bytes) -> Reply:
    received: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]
    reply = Reply(0, [], b"")

    async def receive() -> dict[str, Any]:
        if received:
            return received.pop()
        await asyncio.Event().wait()
        raise AssertionError("never")

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            reply.status = message["status"]
            reply.headers = [(name.decode().lower(), value.decode("latin-1")) for name, value in message["headers"]]
        else:
            reply.body += message.get("body", b"")

    await app(scope, receive, send)
    return reply


_made: list[FastAPI] = []


def _app_of(site: Site) -> FastAPI:
    """Returns the application of a site. Its routes are made once in a process, which takes a third of a second."""
    if not _made:
        _made.append(make_app(site))
    app = copy(_made[0])
    app.state = State({"site": site, "watch": Watch(site)})
    return app


class Desk:
    """A configuration with its ledger and page; `browser` is signed in as somebody with a role."""

    def __init__(self, file: Path, database: Database) -> None:
        self.file = file
        self.database = database
        self.site = Site(database, load(file))
        self.app = _app_of(self.site)
        self.rung: list[tuple[int, str]] = []
        self.site.ring = lambda run_id, site: self.rung.append((run_id, site))

    def browser(self, role: Role | None = Role.OPERATOR, **facts: Any) -> Browser:
        """A browser; with a role, somebody who has it is signed in."""
        browser = Browser(self.app, **facts)
        if role is not None:
            name = role.name.lower()
            if name not in {it.name for it in known_users(self.database)}:
                people.add_user(self.database, name, role, PASSWORD)
            assert browser.sign_in(name).status == 303
        return browser

    def token(self, role: Role, name: str = "robot") -> str:
        return people.create_token(self.database, name, role, None)
