"""Keeps others out: headers of every answer, cookies, and the proof that a request comes from our own page.

headers    a strict Content-Security-Policy (no inline script or style, no frame, nothing from elsewhere)
cookie     HttpOnly, SameSite=Lax; under https Secure and __Host- (RFC 6265bis §4.1.3.2)
forms      a key that follows from the cookie, and Origin or Sec-Fetch-Site, which browsers send and scripts cannot set
bodies     at most MAX_BODY_OCTETS
"""

from __future__ import annotations

import hmac
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from syncd.services import people
from syncd.web.site import site_of

MAX_BODY_OCTETS: Final = 64 << 10  # forms and documents of ours are far below
MAX_NEXT: Final = 500  # characters of a path to go on to
_COOKIE: Final = "syncd"
_SECURE_COOKIE: Final = "__Host-syncd"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS: Final = (
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)


class Guard:
    """The outermost layer: sets headers that an answer does not set itself, and refuses bodies that are too large."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        left = MAX_BODY_OCTETS

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS:
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        async def counted() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise _TooLarge
            return message

        if _announced(scope) > MAX_BODY_OCTETS:
            await _TOO_LARGE(scope, receive, guarded)
            return
        try:
            await self._app(scope, counted, guarded)
        except _TooLarge:
            await _TOO_LARGE(scope, receive, guarded)


class _TooLarge(BaseException):
    """A body is too large. No handler on the way takes it for its own, as it is no Exception."""


_TOO_LARGE: Final = PlainTextResponse("413 Content Too Large\n", 413)


def _announced(scope: Scope) -> int:
    """Returns the octets that Content-Length tells; 0 where it tells nothing."""
    told = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return int(told) if told.isdigit() else 0


# --- cookies ---------------------------------------------------------------------------------------------


def is_https(request: HTTPConnection) -> bool:
    """Returns whether browsers reach the page by https."""
    return own_origin(request).startswith("https:")


def own_origin(request: HTTPConnection) -> str:
    """Returns the origin of the page (RFC 6454): as the configuration says, else as the request does."""
    base = site_of(request).loaded.settings.service.base_url
    return base or f"{request.url.scheme}://{request.headers.get('host', '').lower()}"


def secret_of(request: HTTPConnection) -> str:
    """Returns what the cookie of a session has; "" where there is none."""
    return request.cookies.get(_SECURE_COOKIE if is_https(request) else _COOKIE, "")


def form_key_of(request: HTTPConnection) -> str:
    """Returns what forms of this session must have in them; "" without a session."""
    secret = secret_of(request)
    return people.form_key(secret) if secret else ""


def set_cookie(request: HTTPConnection, response: Response, secret: str) -> None:
    """Have a browser keep a session."""
    secure = is_https(request)
    response.set_cookie(
        _SECURE_COOKIE if secure else _COOKIE,
        secret,
        max_age=int(people.SESSION.total_seconds()),
        path="/",
        secure=secure,
        httponly=True,
        samesite="lax",
    )


def drop_cookie(request: HTTPConnection, response: Response) -> None:
    """Have a browser forget a session."""
    secure = is_https(request)
    name = _SECURE_COOKIE if secure else _COOKIE
    response.delete_cookie(name, path="/", secure=secure, httponly=True, samesite="lax")


# --- where a request comes from --------------------------------------------------------------------------


def is_from_us(request: HTTPConnection) -> bool:
    """Returns whether a browser says that our own page sent this; every browser of the last years says one of both."""
    origin, fetched = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    if origin is not None:
        return origin.lower() == own_origin(request)
    return fetched == "same-origin"


def has_form_key(request: HTTPConnection, given: str) -> bool:
    """Returns whether a form was made for this session."""
    return bool(given) and hmac.compare_digest(given.encode(), form_key_of(request).encode())


def address_of(request: HTTPConnection) -> str:
    """Returns the address that a request came from: the last one that a trusted proxy tells."""
    return request.client.host if request.client is not None else "unknown"


def local_path(wanted: str) -> str:
    """Returns a path of this page to go on to; "/" where `wanted` would lead elsewhere."""
    parts = urlsplit(wanted) if wanted.isascii() and wanted.isprintable() and len(wanted) <= MAX_NEXT else None
    if parts is None or parts.scheme or parts.netloc or not wanted.startswith("/") or wanted[1:2] in {"/", "\\"}:
        return "/"
    return wanted
