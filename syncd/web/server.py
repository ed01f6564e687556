"""Serves the page from a thread, in place of the small server for health and metrics: at the same address.

What it stands on (uvicorn, FastAPI, Jinja2) is loaded by whoever imports this module: `syncd serve` and `syncd web`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import uvicorn

from syncd.services import people
from syncd.telemetry import logs
from syncd.telemetry.server import answers, listening
from syncd.web.app import make_app

if TYPE_CHECKING:
    from syncd.telemetry.health import Health
    from syncd.telemetry.metrics import Metrics
    from syncd.web.site import Site

MAX_CONNECTIONS: Final = 200  # streams of browsers among them
MAX_HEAD_OCTETS: Final = 16 << 10
IDLE_S: Final = 15  # a connection that is kept open for a further request
STOP_S: Final = 1  # for answers under way; streams are told to end at once
_LOOPBACK: Final = ("127.", "::1")

log = logs.get(__name__)


class WebServer:
    """Serves from `start` to `stop`, as `telemetry.server.Server` does. The socket is bound at once."""

    def __init__(
        self,
        address: tuple[str, int],
        health: Health,
        metrics: Metrics,
        site: Site,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Listen at `address`, or at the socket that systemd gave. Raises ConfigError where that cannot be.

        `say` tells a person what is to be done at the first start.
        """
        self._say = say
        self._site = site
        self._socket = listening(address)
        site.answers = answers(health, metrics)
        service = site.loaded.settings.service
        self._server = uvicorn.Server(
            uvicorn.Config(
                make_app(site),
                http="h11",
                ws="none",
                loop="asyncio",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=bool(service.trusted_proxies),
                forwarded_allow_ips=list(service.trusted_proxies),
                limit_concurrency=MAX_CONNECTIONS,
                h11_max_incomplete_event_size=MAX_HEAD_OCTETS,
                timeout_keep_alive=IDLE_S,
                timeout_graceful_shutdown=STOP_S,
            )
        )
        self._thread = threading.Thread(target=self._serve, name="page", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Returns host and port, as they are bound."""
        host, port = self._socket.getsockname()[:2]
        return host, port

    def start(self) -> None:
        """Begin. Returns at once. Says how the first user is made, while there is none."""
        token = people.setup_token(self._site.database)
        if token is not None:
            log.warning("page.set_up", address=f"{self._url()}/set-up", token=token)
            self._say(f"To make the first user of the page, open {self._url()}/set-up?token={token} (within 24 hours)")
        if not self.address[0].startswith(_LOOPBACK) and not self._is_https():
            log.warning(
                "page.without_https",
                address="{}:{}".format(*self.address),
                advice="passwords cross the network in clear; put a proxy with https before it, and set base_url",
            )
        self._thread.start()
        self._site.errands.wake()  # what was asked for before it ended last

    def stop(self) -> None:
        """End. Answers under way are cut. Repeatable."""
        self._site.stopping.set()
        self._site.errands.stop()
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(STOP_S + 2)
        self._socket.close()

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])

    def _is_https(self) -> bool:
        return (self._site.loaded.settings.service.base_url or "").startswith("https:")

    def _url(self) -> str:
        host, port = self.address
        return self._site.loaded.settings.service.base_url or (
            f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        )
