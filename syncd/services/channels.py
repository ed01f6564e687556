"""Ways to tell people: mail through an account of the configuration, a web hook, a dead man's switch.

Each `send` blocks for TOTAL_S at most, and raises a SyncdError whose line shows neither passwords nor the path of a
hook's address, which often is the secret. The web is asked with one request each: no redirect is followed, for it may
lead to another host, and what comes back is read up to a limit and thrown away.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

from syncd import clock
from syncd.errors import ConnectFailed, Refused, SyncdError, TimedOut, printable
from syncd.mail.addresses import is_address

if TYPE_CHECKING:
    from syncd.destinations.smtp.relay import RelayOptions
    from syncd.net.transport import Transport
    from syncd.services.notify import Message
    from syncd.settings.urls import HiddenUrl
    from syncd.smtp.session import Deadlines
    from syncd.smtp.values import Reply

WAIT_S: Final = 10.0  # for each answer of a server
TOTAL_S: Final = 60.0  # for a message; servers that drip octets must not hold the thread
MAX_ANSWER_OCTETS: Final = 64 << 10
MAX_NAME: Final = 200  # characters of a server's reason

FAIL: Final = "/fail"  # behind the path of a ping, as healthchecks.io and its like take it


class Channel(Protocol):
    """A way to tell people. `name` is what `notices` calls it."""

    @property
    def name(self) -> str:
        """Returns a constant name."""
        ...

    def send(self, message: Message) -> None:
        """Tell it. Raises SyncdError."""
        ...


class Mail:
    """Plain text by the SMTP or LMTP account of `options`, to `recipients`."""

    name = "email"

    def __init__(self, options: RelayOptions, recipients: Sequence[str]) -> None:
        self._options = options
        self._recipients = tuple(recipients)
        username = options.endpoint.username
        self.sender = username if is_address(username) else self._recipients[0]

    def send(self, message: Message) -> None:
        """Send it. A message that only some of the recipients were refused is sent."""
        from syncd.destinations.smtp.relay import connect
        from syncd.mail.body import Body
        from syncd.smtp.content import Content
        from syncd.smtp.quirks import Quirks
        from syncd.smtp.values import Envelope

        octets = self.octets(message)
        adopted: list[Transport] = []

        def cut() -> None:
            for transport in adopted:
                transport.cancel()

        with _within(cut, "the notice by mail"):
            client = connect(self._options, adopted.append, Quirks()).client
            try:
                envelope = Envelope(self.sender, self._recipients, len(octets))
                replies = client.begin(envelope, Content(b"", Body.of(octets)))
                if not replies:
                    client.end()
                    replies = client.replies()
                _check(client.address, replies)
                with suppress(SyncdError):  # the message is taken; nothing depends on QUIT
                    client.quit()
            finally:
                client.close()

    def octets(self, message: Message) -> bytes:
        """Returns the message as it is sent: ASCII, with CRLF line ends."""
        mail = EmailMessage(policy=SMTP)
        mail["From"] = f"syncd <{self.sender}>"
        mail["To"] = ", ".join(self._recipients)
        mail["Subject"] = message.title
        mail["Date"] = format_datetime(clock.now())
        mail["Message-ID"] = f"<{uuid4().hex}@{self.sender.rpartition('@')[2].strip('[]')}>"
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834 §5: nobody's holiday reply comes back
        mail.set_content(message.text + "\n", cte="quoted-printable")
        return mail.as_bytes()


class Webhook:
    """A JSON document by POST."""

    name = "webhook"

    def __init__(self, url: HiddenUrl) -> None:
        self._url = url

    def send(self, message: Message) -> None:
        """Send it."""
        body = json.dumps(message.document, ensure_ascii=False).encode()
        _request("POST", self._url, self._url.reveal(), body)


class Ping:
    """A dead man's switch: it is called while all is well, and told where it is not."""

    def __init__(self, url: HiddenUrl) -> None:
        self._url = url

    def send(self, *, well: bool) -> None:
        """Call it. Raises SyncdError."""
        parts = urlsplit(self._url.reveal())
        path = parts.path if well else parts.path.rstrip("/") + FAIL
        _request("GET", self._url, urlunsplit(parts._replace(path=path)))


def _check(address: str, replies: Sequence[Reply]) -> None:
    """Raise Refused where no recipient was taken."""
    if not any(reply.ok for reply in replies):
        said = printable(b" ".join(replies[0].text), MAX_NAME)
        raise Refused(f"{address}: the notice by mail was refused: {replies[0].code} {said}", code=str(replies[0].code))


def short_waits() -> Deadlines:
    """Returns deadlines for a message that may as well be sent some minutes later."""
    from syncd.smtp.session import Deadlines

    wait = WAIT_S
    return Deadlines(
        connect=wait, tls=wait, greeting=2 * wait, reply=wait, data=wait, block=wait, final=3 * wait, quit=1
    )


# --- the web -------------------------------------------------------------------------------------------


def _request(method: str, shown: HiddenUrl, url: str, body: bytes | None = None) -> None:
    """Send one request. Raises Refused for any answer but 2xx, ConnectFailed, TimedOut."""
    parts = urlsplit(url)
    make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = make(parts.hostname or "", parts.port, timeout=WAIT_S)
    headers: Mapping[str, str] = {
        "User-Agent": "syncd",
        "Connection": "close",
        **({"Content-Type": "application/json"} if body is not None else {}),
        **_authorization(parts.username, parts.password),
    }
    target = urlunsplit(("", "", parts.path or "/", parts.query, ""))
    try:
        with _within(lambda: _cut(connection), str(shown)):
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            answer.read(MAX_ANSWER_OCTETS)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _named(error, shown) from None  # the chain of causes may show the address
    finally:
        connection.close()
    if not 200 <= answer.status < 300:
        what = "it leads elsewhere, which is not followed" if 300 <= answer.status < 400 else "it refuses"
        reason = printable(answer.reason or "", MAX_NAME)
        raise Refused(f"{shown}: {what}: {answer.status} {reason}".rstrip(), code=str(answer.status))


def _named(error: Exception, shown: HiddenUrl) -> SyncdError:
    if isinstance(error, TimeoutError):
        return TimedOut(f"{shown}: no answer within {WAIT_S:g} s")
    if isinstance(error, ssl.SSLError):
        return ConnectFailed(f"{shown}: TLS failed: {printable(error.reason or type(error).__name__, MAX_NAME)}")
    if isinstance(error, OSError):
        return ConnectFailed(f"{shown}: {printable(error.strerror or type(error).__name__, MAX_NAME)}")
    return ConnectFailed(f"{shown}: no answer that HTTP allows ({type(error).__name__})")


def _authorization(username: str | None, password: str | None) -> dict[str, str]:
    from base64 import b64encode
    from urllib.parse import unquote

    if username is None:
        return {}
    octets = f"{unquote(username)}:{unquote(password or '')}".encode()
    return {"Authorization": f"Basic {b64encode(octets).decode()}"}


def _cut(connection: http.client.HTTPConnection) -> None:
    sock = connection.sock
    if sock is not None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


@contextmanager
def _within(cut: Callable[[], object], what: str) -> Iterator[None]:
    """Call `cut` when the block takes longer than TOTAL_S; then TimedOut is raised instead of what came of it."""
    too_long = threading.Event()

    def end() -> None:
        too_long.set()
        cut()

    timer = threading.Timer(TOTAL_S, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception:
        if too_long.is_set():
            raise TimedOut(f"{what}: it was not sent within {TOTAL_S:g} s") from None
        raise
    finally:
        timer.cancel()
