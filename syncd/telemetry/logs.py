"""Logs of service processes: lines for a console, or one JSON object a line, on standard error or in a file.

    log = logs.get(__name__)
    with logs.bound(run=7, job="road-backup"):
        log.info("run.finished", exit_code=0)      # an event has a constant name; what varies is a field

The standard library's loggers (all lower layers, Celery, Kombu, APScheduler, Alembic) go the same way and get the same
bound fields. A field that is bound holds for its thread; `carried` hands what is bound to a thread that is started.

No secret is printed: every text of an event, its tracebacks too, passes `known.KNOWN` before it is laid out.
"""

from __future__ import annotations

import contextvars
import io
import json
import logging
import logging.handlers
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self, TextIO

import structlog
from structlog.typing import EventDict, Processor

from syncd import clock, secret
from syncd.errors import printable, storage_error
from syncd.telemetry.known import KNOWN, Known

CONSOLE: Final = "console"
JSON: Final = "json"
MAX_TEXT: Final = 4_000  # characters of one field; a server's words are cut long before that
MAX_TRACE: Final = 32_000  # characters of a traceback
MAX_DEPTH: Final = 4  # of lists and tables in a field
MAX_ITEMS: Final = 100  # of a list or table in a field

# What other libraries say at INFO is about themselves; a start or an error of theirs is a warning.
_QUIET: Final = (
    "amqp", "apscheduler", "alembic", "asyncio", "celery", "kombu", "redis", "sqlalchemy", "urllib3", "uvicorn",
)  # fmt: skip
_FIRST: Final = ("timestamp", "level", "logger", "event", "worker", "run", "job", "account")  # of a line in JSON
_EXTRA: Final = structlog.stdlib.ExtraAdder(allow=("quirk", "address", "what", "archive", "octets"))  # of lower layers
_TRACE_FIELDS: Final = frozenset({"exception", "stack"})


def get(name: str) -> structlog.stdlib.BoundLogger:
    """Returns a logger for events with fields. `name` is the module's."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def bound(**fields: object) -> AbstractContextManager[None]:
    """Have every event of this thread carry `fields` during a block: run, job, account, worker."""
    return structlog.contextvars.bound_contextvars(**fields)


def carried(function: Callable[[], None]) -> Callable[[], None]:
    """Returns a function for a thread to run: there, what is bound now is bound as well."""
    return partial(contextvars.copy_context().run, function)


class Logs:
    """The log of this process, while it is open. Use `set_up`; `close` puts the standard library's loggers back."""

    def __init__(self, handler: logging.Handler, level: int, known: Known) -> None:
        root = logging.getLogger()
        self._handler = handler
        self._before = (root.handlers[:], root.level, threading.excepthook, sys.excepthook)
        self._levels = {name: logging.getLogger(name).level for name in _QUIET}
        self._unwatch = secret.watch(known.learn)
        root.handlers[:] = [handler]
        root.setLevel(level)
        for name in _QUIET:
            logging.getLogger(name).setLevel(max(level, logging.WARNING))
        logging.captureWarnings(True)
        threading.excepthook = _thread_died
        sys.excepthook = _died

    def reopen(self) -> None:
        """Open the file again, if it was moved away (SIGHUP). Each line looks by itself as well."""
        if isinstance(self._handler, _PrivateFile):
            self._handler.reopenIfNeeded()

    def close(self) -> None:
        """Repeatable."""
        root = logging.getLogger()
        if self._handler not in root.handlers:
            return
        root.handlers[:], level, threading.excepthook, sys.excepthook = self._before
        root.setLevel(level)
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
        logging.captureWarnings(False)
        structlog.reset_defaults()
        self._unwatch()
        self._handler.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def set_up(
    form: str = CONSOLE,
    *,
    file: Path | None = None,
    stream: TextIO | None = None,
    level: int = logging.INFO,
    known: Known = KNOWN,
    fields: Mapping[str, object] = MappingProxyType({}),
) -> Logs:
    """Make the log of this process: `form` is CONSOLE or JSON, on `stream` (standard error), or in `file` instead.

    `fields` stand in every line: which process it is, where the lines of several come together.
    A file is made for its owner alone, and opened again when it was moved away. Raises StorageError where it cannot be.
    """
    to = sys.stderr if stream is None else stream
    handler: logging.Handler = logging.StreamHandler(to) if file is None else _open(file)
    colours = file is None and to.isatty() and not os.environ.get("NO_COLOR")
    first: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        _add_time,
        lambda _logger, _method, event: {**fields, **event},
    ]
    last: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        structlog.processors.StackInfoRenderer(),
        _without_secrets(known),
        _renderer(form, colours=colours),
    ]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=last, foreign_pre_chain=[_EXTRA, *first]))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *first,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # loggers of modules are made before the log is
    )
    return Logs(handler, level, known)


# --- inside --------------------------------------------------------------------------------------------


class _PrivateFile(logging.handlers.WatchedFileHandler):
    """A file for its owner alone: log lines have names and addresses of people in them."""

    def _open(self) -> io.TextIOWrapper:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self.baseFilename, flags, 0o600)
        return io.TextIOWrapper(io.FileIO(descriptor, "ab"), "utf-8", errors="backslashreplace", line_buffering=True)


def _open(file: Path) -> logging.Handler:
    try:
        return _PrivateFile(file)
    except OSError as error:
        raise storage_error(error, f"cannot write the log file {file}") from error


def _add_time(_logger: Any, _method: str, event: EventDict) -> EventDict:  # Any: structlog's signature
    event["timestamp"] = clock.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return event


def _renderer(form: str, *, colours: bool) -> Processor:
    if form == JSON:
        return _as_json
    return structlog.dev.ConsoleRenderer(
        colors=colours, exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
    )


def _as_json(_logger: Any, _method: str, event: EventDict) -> str:  # Any: structlog's signature
    first = {name: event.pop(name) for name in _FIRST if name in event}
    return json.dumps({**first, **event}, ensure_ascii=False)


def _without_secrets(known: Known) -> Processor:
    """Returns the step that makes plain values of an event, without secrets and control characters."""

    def step(_logger: Any, _method: str, event: EventDict) -> MutableMapping[str, Any]:  # Any: structlog's signature
        return {_text(known, str(name)): _plain(known, name, value) for name, value in event.items()}

    return step


def _plain(known: Known, name: str, value: object) -> object:
    if name in _TRACE_FIELDS and isinstance(value, str):
        lines = known.blank(value)[-MAX_TRACE:].split("\n")
        return "\n".join(printable(line, MAX_TEXT) for line in lines)
    return _value(known, value, MAX_DEPTH)


def _value(known: Known, value: object, depth: int) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth and isinstance(value, Mapping):
        some = list(value.items())[:MAX_ITEMS]
        return {_text(known, str(name)): _value(known, each, depth - 1) for name, each in some}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_value(known, each, depth - 1) for each in list(value)[:MAX_ITEMS]]
    return _text(known, value if isinstance(value, str) else _shown(value))


def _shown(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 (a log line must not end what it tells of)
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"


def _text(known: Known, text: str) -> str:
    return printable(known.blank(text), MAX_TEXT)


def _thread_died(arguments: threading.ExceptHookArgs) -> None:
    """Log an exception that ended a thread."""
    if arguments.exc_type is SystemExit:
        return
    error, thread = arguments.exc_value, arguments.thread
    get(__name__).critical("thread.died", thread=thread.name if thread is not None else "", exc_info=error)


def _died(kind: type[BaseException], error: BaseException, trace: Any) -> None:  # Any: the interpreter's traceback
    """Log an exception that ends the process."""
    get(__name__).critical("process.died", exc_info=(kind, error, trace))


@contextmanager
def caught(event: str, logger: structlog.stdlib.BoundLogger) -> Iterator[None]:
    """Log an exception of a block under the name `event`, and go on: for threads that must outlive it."""
    try:
        yield
    except Exception:
        logger.exception(event)
