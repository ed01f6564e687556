"""The whole API called with what its description permits, and with what it does not: nothing above 499, every answer
as the description says. Schemathesis makes the requests; they are answered in this process.

`make soak` asks longer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth, negative_data_rejection, positive_data_acceptance

from syncd import clock
from syncd.db import errands as rows
from syncd.db.errands import Kind, State, Subject
from syncd.db.holder import Holder
from syncd.db.people import Role
from syncd.db.runs import Runs
from syncd.db.states import RunState
from syncd.engine.events import RunReport
from syncd.formats.zstd import compress, compressor
from syncd.services import people
from syncd.services.apply import apply
from syncd.services.check import AccountCheck
from syncd.services.errands import work
from syncd.services.wiring import open_ledger, owner
from syncd.settings.load import load
from tests.support.mail import samples
from tests.support.web import Browser, Desk
from tests.unit.web.conftest import CONFIG
from tests.unit.web.conftest import _cheap_hashes as cheap_hashes  # noqa: F401  a fixture
from tests.unit.web.test_mail import Shelf
from tests.unit.web.test_pages import begin

ADDRESS: Final = "http://localhost:8425"
REAL: Final[Mapping[str, tuple[object, ...]]] = {  # values of parameters that lead somewhere
    "/jobs/": ("road-backup", "forward"),
    "/runs/": (1, 2),
    "/accounts/": ("road", "new"),
    "/archives/": ("home",),
    "/users/": ("ann", "bob"),
    "/tokens/": ("grafana",),
}
MAIL: Final = samples()["attachment.eml"]
WITHIN: Final = {"key": sha256(MAIL).hexdigest(), "number": 2}  # a message of an archive, and a part of it
EXCLUDED: Final = [
    ignored_auth,  # it would ask again by itself; other tests ask without a token
    positive_data_acceptance,  # a name may be taken, a run over, a password too short
    negative_data_rejection,  # it takes our token out, and parameters that nobody knows are left alone
]
SHORT: Final = 2  # requests for each way of asking for each operation
LONG: Final = 60


class _Runner:
    """In place of a dry run, which would sign in."""

    def __init__(self, _loaded: object, names: list[str], *_: object) -> None:
        self._names = names

    def execute(self) -> list[RunReport]:
        return [RunReport(name, dry_run=True) for name in self._names]

    def cancel(self) -> None:
        """Nothing waits."""


class _Check:
    """In place of a check of an account, which would sign in."""

    def __init__(self, *_: object) -> None:
        pass

    def account(self, name: str) -> AccountCheck:
        return AccountCheck(name)

    def cancel(self) -> None:
        """Nothing waits."""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(work, "RunsByHand", _Runner)
    monkeypatch.setattr(work, "Check", _Check)
    file = tmp_path / "syncd.toml"
    file.write_text(f'state_directory = "{tmp_path / "state"}"\n{CONFIG}')
    loaded = load(file)
    with open_ledger(loaded) as database:
        apply(loaded, database)
        desk = Desk(file, database)
        Runs(database).finish(begin(desk), RunState.FAILED, 1, {"fetched": 3}, "no")
        assert Runs(database).claim(2, Holder.me("test")) is None
        people.add_user(database, "ann", Role.READER, "correct horse battery")
        Shelf(desk).put(MAIL)
        _have_verified(desk)
        yield desk
        desk.site.errands.stop()


def _have_verified(desk: Desk) -> None:
    """Have a report of the first job."""
    subject = Subject(owner(desk.site.loaded).name, Kind.VERIFY, "road-backup")
    rows.ask(desk.database, rows.Wanted(subject, "ann"), clock.now())
    taken = rows.take(desk.database, [Kind.VERIFY], subject.configuration, Holder.me("test"), clock.now())
    assert taken is not None
    packed = {form: compress(compressor(), b"text") for form in ("md", "json", "html")}
    rows.end(desk.database, taken, State.DONE, clock.now(), result='{"report":{}}', reports=packed)


def ask(desk: Desk, browser: Browser, token: str, case: Any) -> None:
    """Send one request, and compare its answer with the description."""
    wanted = case.as_transport_kwargs(base_url=ADDRESS)
    fields = {name: wanted[name] for name in ("method", "url", "params", "headers", "json", "data") if name in wanted}
    sent: Any = requests.Request(**fields).prepare()
    sent.headers["authorization"] = f"Bearer {token}"
    body = sent.body.encode() if isinstance(sent.body, str) else sent.body or b""
    headers = {name.lower(): value for name, value in sent.headers.items()}
    reply = browser.ask(sent.method or "", sent.path_url, body, headers)
    assert reply.status < 500, (sent.method, sent.url, sent.body, reply.text)
    found: dict[str, list[str]] = {}
    for name, value in reply.headers:
        found.setdefault(name, []).append(value)
    case.validate_response(
        schemathesis.Response(reply.status, found, reply.body, sent, 0.0, True), excluded_checks=EXCLUDED
    )


def describe(desk: Desk) -> list[Any]:
    """The operations of the API; a stream never ends."""
    schema = schemathesis.openapi.from_dict(desk.app.openapi())
    operations: list[Any] = list(schema.get_all_operations())
    return [it for it in (found.ok() for found in operations) if not it.path.endswith("/events")]


def check(desk: Desk, many: int) -> None:
    token, browser = desk.token(Role.ADMIN), Browser(desk.app)
    operations = describe(desk)
    assert len(operations) > 20
    for operation in operations:
        real = next((values for part, values in REAL.items() if part in operation.path), ())
        inside = WITHIN if "/messages/" in operation.path else {}
        places = [{it.name: inside.get(it.name, value) for it in operation.path_parameters} for value in real]
        for mode in GenerationMode:
            if mode is GenerationMode.POSITIVE or operation.path_parameters or operation.query or operation.body:
                send(desk, browser, token, operation.as_strategy(generation_mode=mode), many)
            if mode is GenerationMode.POSITIVE or operation.query or operation.body:
                for place in places:
                    cases = operation.as_strategy(generation_mode=mode, path_parameters=place)
                    send(desk, browser, token, cases, many)


def send(desk: Desk, browser: Browser, token: str, cases: Any, many: int) -> None:
    """Send some requests."""

    def one(case: Any) -> None:
        ask(desk, browser, token, case)

    bounded = settings(max_examples=many, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    with suppress(Unsatisfiable):  # there is nothing about it that can be wrong
        bounded(given(case=cases)(one))()


def test_every_answer_is_as_described_and_none_is_above_499(desk: Desk) -> None:
    check(desk, SHORT)


@pytest.mark.soak
def test_that_for_longer(desk: Desk) -> None:
    check(desk, LONG)
