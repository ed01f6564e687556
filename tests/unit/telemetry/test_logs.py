"""The log of a service process: its layouts, what is bound, and that no secret gets into it."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from syncd.errors import StorageError
from syncd.secret import Secret
from syncd.telemetry import logs
from syncd.telemetry.known import Known

WORD = "correct-horse-battery"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def open_log(form: str, stream: io.StringIO) -> Iterator[None]:
    with logs.set_up(form, stream=stream, known=Known()):
        yield


@pytest.fixture(params=[logs.CONSOLE, logs.JSON])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_has_a_name_and_fields():
    stream = io.StringIO()
    with open_log(logs.JSON, stream):
        logs.get("syncd.jobs").info("run.finished", exit_code=0, to=["home"], when=None)
    assert list(lines(stream)[0])[:4] == ["timestamp", "level", "logger", "event"]
    (line,) = lines(stream)
    assert str(line.pop("timestamp")).endswith("Z")
    assert line == {
        "event": "run.finished",
        "exit_code": 0,
        "to": ["home"],
        "when": None,
        "level": "info",
        "logger": "syncd.jobs",
    }


def test_a_console_shows_one_plain_line():
    stream = io.StringIO()
    with open_log(logs.CONSOLE, stream):
        logs.get("syncd.jobs").info("run.finished", exit_code=0)
    assert stream.getvalue().endswith("[info] run.finished [syncd.jobs] exit_code=0\n") or (
        "run.finished" in stream.getvalue() and "\x1b" not in stream.getvalue()
    )
    assert stream.getvalue().count("\n") == 1


def test_fields_of_the_process_stand_in_every_line():
    stream = io.StringIO()
    with logs.set_up(logs.JSON, stream=stream, known=Known(), fields={"worker": "host-a.7"}):
        logs.get("x").info("begun", run=1)
        logging.getLogger("y").info("begun")
    assert [line["worker"] for line in lines(stream)] == ["host-a.7", "host-a.7"]


def test_a_terminal_has_colours_unless_it_wants_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured, plain = Terminal(), Terminal()
    with open_log(logs.CONSOLE, coloured):
        logs.get("x").info("begun")
    monkeypatch.setenv("NO_COLOR", "1")
    with open_log(logs.CONSOLE, plain):
        logs.get("x").info("begun")
    assert "\x1b[" in coloured.getvalue()
    assert "\x1b" not in plain.getvalue()


def test_loggers_of_the_standard_library_go_the_same_way(form: str):
    stream = io.StringIO()
    with open_log(form, stream):
        logging.getLogger("syncd.db.leases").info("renewed %d leases", 3)
        logging.getLogger("celery.worker").warning("lost %s", "the broker")
        logging.getLogger("celery.worker").info("is not interesting")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning("an old call", DeprecationWarning, "x.py", 1)
    text = stream.getvalue()
    assert "renewed 3 leases" in text
    assert "lost the broker" in text
    assert "an old call" in text
    assert "not interesting" not in text


def test_the_facts_of_a_lower_layer_stand_in_its_line():
    """A line said "quirk", and not which one."""
    stream = io.StringIO()
    with open_log(logs.JSON, stream):
        logging.getLogger("syncd.imap.quirks").info("quirk", extra={"quirk": "I30", "address": "host:993", "what": "x"})
    (line,) = lines(stream)
    assert (line["event"], line["quirk"], line["address"], line["what"]) == ("quirk", "I30", "host:993", "x")


def test_what_is_bound_stands_in_every_line_of_its_thread():
    stream = io.StringIO()

    def work(run: int) -> None:
        with logs.bound(run=run, job=f"job{run}"):
            logs.get("x").info("slice.begun")
            logging.getLogger("syncd.pop3").info("listed")
            inner = threading.Thread(target=logs.carried(lambda: logs.get("x").info("reader.begun")))
            inner.start()
            inner.join()

    with open_log(logs.JSON, stream):
        threads = [threading.Thread(target=work, args=(run,)) for run in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        logs.get("x").info("idle")
    by_run: dict[object, list[object]] = {}
    for line in lines(stream):
        by_run.setdefault(line.get("run"), []).append(line["event"])
        assert line.get("job") == (f"job{line['run']}" if "run" in line else None)
    assert by_run == {run: ["slice.begun", "listed", "reader.begun"] for run in (1, 2)} | {None: ["idle"]}


class Stubborn:
    def __str__(self) -> str:
        raise ValueError(WORD)


def fail(secret: Secret) -> None:
    raise RuntimeError(f"PASS {secret.reveal()} was refused")


def test_no_secret_is_printed_in_any_form(form: str):
    stream = io.StringIO()
    with open_log(form, stream):
        secret = Secret(WORD)
        log, name = logs.get(WORD), str.format("event of {}", WORD)
        log.info(name, field=WORD, octets=WORD.encode(), nested={"a": [{WORD: (WORD,)}]}, secret=secret)
        log.info("event", **{WORD: 1}, url=f"https://me:{WORD}-2@example.net/", stubborn=Stubborn())
        logging.getLogger("x").error("PASS %s", WORD, extra={"more": WORD})
        try:
            fail(secret)
        except RuntimeError as error:
            log.exception("run.failed", error=error)
            logging.getLogger("x").exception("again")
        log.info("stack", stack_info=True)
        with logs.bound(account=WORD):
            log.info("bound")
    text = stream.getvalue()
    assert "was refused" in text
    assert "RuntimeError" in text
    assert WORD not in text
    assert WORD[:8] not in text
    if form == logs.JSON:
        assert len(lines(stream)) == 7


def test_no_line_breaks_or_escapes_of_a_server_get_into_a_line(form: str):
    stream = io.StringIO()
    with open_log(form, stream):
        logging.getLogger("x").warning("server said %s", "no\r\n2026-01-01 [info] all is well\x1b[2J\u202e")
        logs.get("x").warning("said", text="no\nreally")
    text = stream.getvalue()
    assert text.count("\n") == 2
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_a_long_field_is_cut(form: str):
    stream = io.StringIO()
    with open_log(form, stream):
        logs.get("x").info("said", text="x" * 100_000, many=list(range(10_000)))
    assert len(stream.getvalue()) < 2 * logs.MAX_TEXT


def test_an_exception_that_ends_a_thread_or_the_process_is_logged():
    stream = io.StringIO()
    with open_log(logs.JSON, stream):
        secret = Secret(WORD)
        thread = threading.Thread(target=fail, args=(secret,), name="sweep")
        thread.start()
        thread.join()
        try:
            fail(secret)
        except RuntimeError as error:
            sys.excepthook(RuntimeError, error, error.__traceback__)
    first, second = lines(stream)
    assert (first["event"], first["thread"], second["event"]) == ("thread.died", "sweep", "process.died")
    assert "was refused" in str(first["exception"])
    assert WORD not in stream.getvalue()


def test_a_block_that_must_go_on_logs_its_exception():
    stream = io.StringIO()
    with open_log(logs.JSON, stream), logs.caught("sweep.failed", logs.get("x")):
        raise ValueError("oops")
    assert lines(stream)[0]["event"] == "sweep.failed"


def test_a_file_is_private_and_opened_again_when_it_was_moved(tmp_path: Path):
    file = tmp_path / "syncd.log"
    with logs.set_up(logs.JSON, file=file, known=Known()) as log:
        logs.get("x").info("one")
        file.rename(tmp_path / "syncd.log.1")
        log.reopen()
        logs.get("x").info("two", secret="é")
        file.rename(tmp_path / "syncd.log.2")
        logs.get("x").info("three")
    assert [json.loads((tmp_path / name).read_text())["event"] for name in ("syncd.log.1", "syncd.log.2")] == [
        "one",
        "two",
    ]
    assert json.loads(file.read_text())["event"] == "three"
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_written_is_one_clear_line(tmp_path: Path):
    with pytest.raises(StorageError, match=r"cannot write the log file .*missing/syncd\.log"):
        logs.set_up(file=tmp_path / "missing" / "syncd.log")


def test_all_is_as_before_when_it_is_closed():
    root = logging.getLogger()
    before = root.handlers[:], root.level, sys.excepthook, threading.excepthook
    made = logs.set_up(stream=io.StringIO(), known=Known())
    assert root.handlers != before[0]
    made.close()
    made.close()
    assert (root.handlers[:], root.level, sys.excepthook, threading.excepthook) == before
