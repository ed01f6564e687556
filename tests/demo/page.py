"""The last part of the demo, with `make demo KEEP=1`: the page, until somebody ends it."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path
from typing import Final

from tests.demo.terminal import Terminal, wait

NAME: Final = "ann"
PASSWORD: Final = "demo demo demo"
USUAL_PORT: Final = 8425


def keep_open(terminal: Terminal, folder: Path) -> None:
    """Serve the page with all that the demo made, until Ctrl-C. The mail servers are still running."""
    terminal.part("The page")
    user = f"syncd user add {NAME} --role admin --password-stdin"
    terminal.pipe("Somebody who may sign in.", f"echo '{PASSWORD}' | {user}")
    address = f"127.0.0.1:{_free_port()}"
    terminal.announce("The service, with the page.", f"syncd serve --log-file serve.log --listen {address}")
    terminal.say(
        f"Open http://{address} and sign in as {NAME}, with the password: {PASSWORD}\n"
        f"Ctrl-C ends the service and the mail servers; what was made stays in {folder}"
    )
    try:
        wait(terminal.start("syncd", "serve", "--log-file", "serve.log", "--listen", address))
    except KeyboardInterrupt:
        terminal.good("the service has ended in order")


def _free_port() -> int:
    """The usual port, or another one where that is taken."""
    for port in (USUAL_PORT, 0):
        with closing(socket.socket()) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise RuntimeError("no port of loopback is free")
