"""`syncd serve`, `worker`, `scheduler`, `web`: the processes of the service; `syncd apply`: what they are to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

import click

from syncd.cli.options import Common, Verb, common, common_but_c
from syncd.cli.render import Output, count
from syncd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobs.process import Roles
    from syncd.db.database import Database
    from syncd.db.definitions import Applied
    from syncd.settings.loaded import Loaded, LoadedService
    from syncd.telemetry.health import Health
    from syncd.telemetry.logs import Logs
    from syncd.telemetry.metrics import Metrics
    from syncd.web.server import WebServer

PAGE_THREADS: Final = 5  # connections to the database: `web.app.THREADS` answers at a time, and a look for the streams

_THREADS = click.option(
    "-c", "--concurrency", "threads", metavar="N", type=click.IntRange(1, 256),
    help="Work on N runs at a time [default: workers in [service]].",
)  # fmt: skip
_SITES = click.option(
    "--site", "sites", metavar="NAME", multiple=True,
    help="Work on the jobs whose archives are at this site; may be given several times.",
)  # fmt: skip

_LISTEN = click.option(
    "--listen", metavar="HOST:PORT",
    help='Answer health checks, and browsers, there instead of at listen in [service]; "": nowhere.',
)  # fmt: skip


@click.command(
    cls=Verb,
    examples=(
        ("syncd serve", "run the jobs of ./syncd.toml on their schedules"),
        ("syncd serve --config /etc/syncd/syncd.toml --log-file /var/log/syncd.log", "as a service of the system"),
    ),
)
@_SITES
@_LISTEN
@common
@click.pass_obj
def serve(options: Common, sites: tuple[str, ...], listen: str | None) -> None:
    """Run jobs on their schedules, until it is stopped: scheduler, worker and page in one process.

    SIGTERM and Ctrl-C end it within some seconds, with all state saved. SIGHUP reads the configuration again.
    """
    _end_at_sigterm()
    from jobs.process import Process, Roles
    from syncd.services.apply import apply as write
    from syncd.services.wiring import open_ledger
    from syncd.telemetry.server import Server

    loaded = options.load()
    address = _address(loaded, listen)
    logs = _logs(options, loaded)
    database = open_ledger(loaded, threads=loaded.settings.service.workers + PAGE_THREADS)
    write(loaded, database)
    say = _say(options, loaded)
    page = (
        _Page(loaded, database, lambda *_: None, say) if loaded.settings.service.page and address is not None else None
    )
    roles = Roles(threads=loaded.settings.service.workers, sites=sites)

    def read_again() -> LoadedService:
        logs.reopen()
        again = options.load()
        write(again, database)
        if page is not None:
            page.site.loaded = again
        return again

    make_server = Server if page is None else page.make_server
    Process(loaded, database, roles, address, reload=read_again, make_server=make_server).run()


@click.command(
    cls=Verb,
    examples=(
        ("syncd worker --site host-a", "work on jobs without archives, and on those with archives on this machine"),
        ("syncd worker -c 32", "work on 32 runs at a time"),
    ),
)
@_THREADS
@_SITES
@_LISTEN
@common_but_c
@click.pass_obj
def worker(options: Common, threads: int | None, sites: tuple[str, ...], listen: str | None) -> None:
    """Work on runs that a scheduler or a person queued in the database. Start as many workers as you like.

    It reads the settings of database, broker and service; what the jobs are, it learns from the database (syncd apply).
    """
    from jobs.process import Roles

    loaded = options.load_service()
    _start(
        options, loaded, listen, Roles(scheduler=False, threads=threads or loaded.settings.service.workers, sites=sites)
    )


@click.command(cls=Verb, examples=(("syncd scheduler", "start two of them: one leads, the other stands by"),))
@_LISTEN
@common
@click.pass_obj
def scheduler(options: Common, listen: str | None) -> None:
    """Queue what is due, for workers. One of all schedulers leads; another one takes over where it ends.

    It reads the settings of database, broker and service; what the jobs are, it learns from the database (syncd apply).
    """
    from jobs.process import Roles

    _start(options, options.load_service(), listen, Roles(worker=False))


@click.command(
    cls=Verb,
    examples=(
        ("syncd web", "the page of ./syncd.toml, beside workers and schedulers"),
        ("syncd web --listen 127.0.0.1:8080", "at another address"),
    ),
)
@_LISTEN
@common
@click.pass_obj
def web(options: Common, listen: str | None) -> None:
    """Serve the page and the API, until it is stopped; syncd serve does so by itself.

    It shows the database's rows, and asks for a run by adding one: workers do the work.
    """
    from jobs.process import Process, Roles
    from syncd.cli.run import bell
    from syncd.services.wiring import open_ledger

    loaded = options.load()
    address = _address(loaded, listen)
    if address is None:
        raise ConfigError('listen = "" in [service]: the page needs an address; use --listen, such as 127.0.0.1:8425')
    logs = _logs(options, loaded)
    database = open_ledger(loaded, threads=PAGE_THREADS)
    page = _Page(loaded, database, bell(loaded), _say(options, loaded))

    def read_again() -> LoadedService:
        logs.reopen()
        page.site.loaded = again = options.load()
        return again

    roles = Roles(worker=False, scheduler=False)
    Process(loaded, database, roles, address, reload=read_again, make_server=page.make_server).run()


class _Page:
    """The page of this process; what it stands on is loaded here."""

    def __init__(
        self, loaded: Loaded, database: Database, ring: Callable[[int, str], None], say: Callable[[str], None]
    ) -> None:
        from syncd.web.server import WebServer
        from syncd.web.site import Site

        self.site = Site(database, loaded, ring=ring)
        self._server = WebServer
        self._say = say

    def make_server(self, address: tuple[str, int], health: Health, metrics: Metrics) -> WebServer:
        """Returns the server of the page. Raises ConfigError where it cannot listen."""
        return self._server(address, health, metrics, self.site, self._say)


@click.command(cls=Verb, examples=(("syncd apply", "have the service work by the configuration as it is now"),))
@common
@click.pass_obj
def apply(options: Common) -> None:
    """Write the jobs of the configuration into the database, where schedulers and workers read them.

    Jobs that the configuration does not have any more are disabled, and keep their history. Jobs of configurations with
    another name do not change. syncd serve does all this when it starts, and at SIGHUP.
    """
    from syncd.services.apply import apply as write
    from syncd.services.wiring import open_ledger

    loaded = options.load()
    with open_ledger(loaded) as database:
        applied = write(loaded, database)
    output = Output(options)
    if output.json:
        output.document(applied._asdict())
        return
    for line in _changes(applied):
        output.line(line)


def _changes(applied: Applied) -> list[str]:
    told = (("new", applied.added), ("changed", applied.changed), ("disabled", applied.disabled))
    return [f"{count(len(names), 'job')} {what}: {_some(names)}" for what, names in told if names] or [
        "nothing changed"
    ]


def _some(names: list[str], most: int = 20) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def _start(options: Common, loaded: LoadedService, listen: str | None, roles: Roles) -> NoReturn:
    """Start a process of a cluster, which ends by itself. Raises ConfigError where there is no cluster."""
    _end_at_sigterm()
    from jobs.process import Process
    from syncd.services.wiring import open_ledger

    if not loaded.settings.is_cluster:
        raise ConfigError(
            'broker_url is "memory://", which wakes workers in one process only: use syncd serve, or set broker_url ='
            ' "redis://…" or "amqp://…" and database_url = "postgresql://…"'
        )
    address = _address(loaded, listen)
    logs = _logs(options, loaded)

    def read_again() -> LoadedService:
        logs.reopen()
        return options.load_service()

    Process(loaded, open_ledger(loaded, threads=roles.threads), roles, address, reload=read_again).run()


def _end_at_sigterm() -> None:
    """Have SIGTERM end this process also while it starts; `Process` decides about it afterwards.

    The first process of a container would not get it without a handler, and be killed some ten seconds later.
    """
    import signal
    import sys

    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def _address(loaded: LoadedService, listen: str | None) -> tuple[str, int] | None:
    """Returns where to listen. Raises UsageError."""
    from syncd.settings.urls import parse_listen

    if listen is None:
        return loaded.settings.service.address
    try:
        return parse_listen(listen) if listen else None
    except ValueError as error:
        raise click.UsageError(f"--listen {listen!r} {error}; write HOST:PORT, such as 127.0.0.1:8425") from error


def _say(options: Common, loaded: LoadedService) -> Callable[[str], None]:
    """Returns what tells a person something at the start: a line on standard error, unless that gets JSON."""
    from syncd.settings.service import LogFormat

    if loaded.settings.service.log is LogFormat.JSON and options.log_file is None:
        return lambda _: None
    return Output(options).note


def _logs(options: Common, loaded: LoadedService) -> Logs:
    """Begin the log of a process that stays."""
    import logging
    import os
    import socket

    from syncd.settings.service import LogFormat
    from syncd.telemetry.known import KNOWN
    from syncd.telemetry.logs import set_up

    settings = loaded.settings
    KNOWN.learn_url(settings.database_url)
    for url in (settings.broker_url, settings.notify.webhook, settings.notify.ping_url):
        if url is not None:
            KNOWN.learn_url(url.reveal())
    level = logging.DEBUG if options.verbose else logging.WARNING if options.quiet else logging.INFO
    me = {"worker": f"{socket.gethostname()}.{os.getpid()}"} if settings.service.log is LogFormat.JSON else {}
    return set_up(settings.service.log.value, file=options.log_file, level=level, fields=me)
