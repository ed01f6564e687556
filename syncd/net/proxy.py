"""A proxy on the way to a server: SOCKS5 (RFC 1928, RFC 1929) or CONNECT of HTTP (RFC 9110 §9.3.6).

python-socks speaks both. It gets our own connection to the proxy (its argument `forward`), so that the deadline, happy
eyeballs and a cancel work as without a proxy. The proxy looks up the server's name. Not an octet is read beyond the
proxy's answer, because the octets behind it are the server's greeting.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import unquote, urlsplit

from syncd.errors import ConfigError, ConnectFailed, SyncdError, printable
from syncd.net.deadline import Deadline
from syncd.secret import Secret

if TYPE_CHECKING:
    from python_socks.sync import Proxy as Through

SCHEMES: Final = ("socks5", "http")
ACCEPTED: Final = "socks5://[USER:PASSWORD@]HOST:PORT or http://[USER:PASSWORD@]HOST:PORT"
MAX_ANSWER_OCTETS: Final = 16 << 10  # of an HTTP proxy; real answers are under 1 KiB

# answers that no waiting mends: SOCKS5 "not allowed by ruleset" (2), "command not supported" (7); HTTP 4xx below
_FOR_GOOD: Final = frozenset({2, 7})
_HTTP_PASSING: Final = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy: `scheme` is one of SCHEMES. `username` is empty where nobody signs in. Its text shows no password."""

    scheme: str
    host: str
    port: int
    username: str = ""
    password: Secret = field(default_factory=lambda: Secret(""))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_proxy(text: str) -> Proxy:
    """Returns the proxy that `text` names, see ACCEPTED. Raises ValueError; its words never show `text`, a secret.

    Special characters in user and password are written as in any URL ("%40" for "@").
    """
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ValueError(f"is not the address of a proxy; accepted: {ACCEPTED}") from error
    if parts.scheme not in SCHEMES or not host or not port or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"is not the address of a proxy; accepted: {ACCEPTED}")
    username, password = unquote(parts.username or ""), unquote(parts.password or "")
    if parts.scheme == "http" and ":" in username:
        raise ValueError("has a colon in the user name, which an HTTP proxy cannot be told (RFC 7617 §2)")
    if parts.scheme == "http" and not _is_latin(username + password):
        raise ValueError("has a user name or password with characters that an HTTP proxy cannot be told (Latin-1 only)")
    if parts.scheme == "socks5" and max(len(username.encode()), len(password.encode())) > 255:
        raise ValueError("has a user name or password over 255 octets, which SOCKS5 cannot carry (RFC 1929 §2)")
    return Proxy(parts.scheme, host, port, username, Secret(password))


def _is_latin(text: str) -> bool:
    return all(character <= "\xff" for character in text)


def tunnel(  # noqa: PLR0917  the socket and where it is to lead
    proxy: Proxy, sock: socket.socket, host: str, port: int, deadline: Deadline, check: Callable[[], None]
) -> None:
    """Make the proxy at the other end of `sock` connect to `host` and `port`.

    Raises ConfigError (it refuses user, password or destination, or is no such proxy), ConnectFailed (it cannot reach
    the server), TimedOut, and what `check` raises.
    """
    from python_socks import ProxyConnectionError, ProxyError, ProxyTimeoutError

    near = _Near(sock, deadline, check, f"{proxy}: the proxy", whole_header=proxy.scheme == "http")
    try:
        _through(proxy, near).connect(_literal(host), port)
    except ProxyError as error:
        raise _refused(proxy, host, port, error.error_code, str(error)) from error
    except (ProxyTimeoutError, ProxyConnectionError) as error:
        raise ConnectFailed(f"{proxy}: the proxy failed: {printable(str(error)).lower()}; try again later") from error
    except SyncdError:
        raise
    except Exception as error:  # the library asserts what a proxy should answer
        raise _no_proxy(proxy, near.seen) from error
    sock.settimeout(None)


def _through(proxy: Proxy, near: _Near) -> Through:
    from python_socks import ProxyType
    from python_socks.sync import Proxy as Through

    class Forward(Through):
        """Stands for the way to the proxy, which we have gone already."""

        def __init__(self) -> None:
            """Needs no address."""

        def connect(self, *_: object, **__: object) -> socket.socket:
            """Returns the connection that is there."""
            return cast("socket.socket", near)

    kind = ProxyType.HTTP if proxy.scheme == "http" else ProxyType.SOCKS5
    user, password = proxy.username or None, proxy.password.reveal() if proxy.username else None
    return Through(kind, proxy.host, proxy.port, user, password, rdns=True, forward=Forward())


def _refused(proxy: Proxy, host: str, port: int, code: int | None, said: str) -> SyncdError:
    """Returns the error for an answer of the proxy; no code means that the two do not speak alike, or the password."""
    shown = printable(said).lower()
    if proxy.scheme == "http":
        passing = code is not None and (code >= 500 or code in _HTTP_PASSING)
    else:
        passing = code is not None and code not in _FOR_GOOD
    if passing:
        return ConnectFailed(f"{host}:{port}: no connection through {proxy}: {shown}; check host and port")
    return ConfigError(f"{proxy}: the proxy refuses to connect to {host}:{port}: {shown}; check proxy")


def _no_proxy(proxy: Proxy, seen: bytes) -> ConfigError:
    return ConfigError(f"{proxy}: what answers here is no {proxy.scheme} proxy: “{printable(seen, 80)}”; check proxy")


def _literal(host: str) -> str:
    """Returns the host as proxies take it: names in ASCII (RFC 5891), addresses as they are."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        try:
            return host.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise ConfigError(f"{printable(host)}: this cannot be the name of a host; correct host") from error


class _Near:
    """The part of a socket that python-socks uses, with our deadline for each wait. `seen` is what the proxy said."""

    def __init__(
        self, sock: socket.socket, deadline: Deadline, check: Callable[[], None], who: str, *, whole_header: bool
    ) -> None:
        self._sock = sock
        self._deadline = deadline
        self._check = check
        self._who = who
        self._whole_header = whole_header
        self.seen = b""

    def sendall(self, octets: bytes) -> None:
        """Send all of `octets`."""
        with self._waiting():
            self._sock.sendall(octets)

    def recv(self, most: int) -> bytes:
        """Returns what the proxy says: of SOCKS5 at most `most` octets, of HTTP its answer up to the empty line."""
        if not self._whole_header:
            return self._receive(most)
        while not self.seen.endswith((b"\r\n\r\n", b"\n\n")) and len(self.seen) < MAX_ANSWER_OCTETS:
            self._receive(1)  # one connection has one such answer, so its time does not matter
        return self.seen

    def close(self) -> None:
        """Do nothing: the transport owns the socket."""

    def _receive(self, most: int) -> bytes:
        with self._waiting():
            octets = self._sock.recv(most)
        if not octets:
            raise ConnectFailed(f"{self._who} closed the connection; check proxy, or try again later")
        self.seen += octets
        return octets

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        self._check()
        self._sock.settimeout(self._deadline.remaining())
        try:
            yield
        except TimeoutError as error:
            raise self._deadline.passed() from error
        except OSError as error:
            self._check()
            reason = printable(error.strerror or str(error)).lower()
            raise ConnectFailed(f"{self._who} broke the connection: {reason}; try again later") from error
        self._check()
