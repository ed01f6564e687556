"""SIGKILL at every kind of durable step while a destination that cannot be asked counts what it takes.

The engine alone, without sockets: a maildrop in memory, a real ledger and archive, a relay that writes each copy to a
file as a server would keep it. Copies ≤ 1 + recorded uncertain outcomes; nothing lost; at most as many new uncertain
outcomes for a kill as messages may be in flight.
"""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from syncd import durable
from syncd.db.database import Database
from syncd.destinations.base import Destination
from syncd.destinations.packs import PacksArchive
from syncd.durable import Moment, Step
from syncd.engine.exit_codes import ExitCode
from tests.crash.child import Point, _Observer
from tests.crash.program import PATIENCE_S, _context
from tests.crash.scenarios import one_of
from tests.fakes.relay import Relay, taken
from tests.fakes.source import MemorySource
from tests.support.engine import Engine, mail

pytestmark = pytest.mark.crash

MESSAGES = 6
MOMENTS: tuple[Moment, ...] = ("before", "after")


@dataclass(frozen=True)
class Scenario:
    """What the job delivers to: a relay with so many messages in flight, and perhaps an archive beside it."""

    name: str
    window: int
    archived: bool = False
    hold: bool = False

    def __str__(self) -> str:
        return self.name

    def engine(self, home: Path, database: Database) -> Engine:
        destinations: dict[str, Destination] = {}
        if self.archived:
            destinations["home"] = PacksArchive(home / "packs")
        destinations["new"] = Relay(window=self.window, file=home / "copies")
        hold = frozenset({"new"} if self.hold else ())
        return Engine(database, MemorySource(mail(MESSAGES)), destinations, hold)


ONE = Scenario("one", 1)
FOUR = Scenario("four", 4)
ARCHIVED = Scenario("archived", 2, archived=True)
HELD = Scenario("held", 2, hold=True)
SCENARIOS = (ONE, FOUR, ARCHIVED, HELD)
STEPS = (Step.LEDGER_COMMIT, Step.MESSAGE_END)
OF_PACKS = (
    Step.ARCHIVE_IDENTITY,
    Step.DIRECTORY_SYNC,
    Step.PACK_CREATE,
    Step.PACK_SYNC,
    Step.INDEX_SYNC,
    Step.INDEX_COMMIT,
)


def run(scenario: Scenario, home: Path, point: Point | None) -> None:
    """The process: one run, and the number of its steps."""
    durable.observer = observer = _Observer(point)
    with Database.open(None, home / "state") as database:
        report = scenario.engine(home, database).run()
    steps = [(step.value, moment, number) for (step, moment), number in observer.seen.items()]
    (home / "report.json").write_text(
        json.dumps({"code": report.exit_code, "errors": report.errors, "uncertain": report.uncertain, "steps": steps})
    )


@dataclass
class Place:
    """The directory of one case."""

    scenario: Scenario
    home: Path

    def run(self, point: Point | None = None) -> int:
        """The exit code of the process."""
        self.home.mkdir(exist_ok=True)
        process = _context.Process(target=run, args=(self.scenario, self.home, point))
        process.start()
        process.join(PATIENCE_S)
        assert process.exitcode is not None, "it does not end"
        return process.exitcode

    def report(self) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.home / "report.json").read_text())
        return found

    def steps(self) -> dict[tuple[Step, Moment], int]:
        rows = json.loads((self.home / "report.json").read_text())["steps"]
        return {(Step(step), moment): number for step, moment, number in rows}

    def look(self) -> tuple[dict[str, list[bytes]], Counter[bytes]]:
        """States of the deliveries, and recorded uncertain outcomes."""
        with Database.open(None, self.home / "state") as database:
            engine = self.scenario.engine(self.home, database)
            return engine.states("new"), engine.uncertain("new")

    def retry(self) -> None:
        """A person has everything that is held sent again."""
        with Database.open(None, self.home / "state") as database:
            engine = self.scenario.engine(self.home, database)
            engine.ledger.decisions.retry([(row.key, row.route_id) for row in engine.ledger.problems(engine.row.id)])


Count = Callable[[Scenario], dict[tuple[Step, Moment], int]]


@pytest.fixture(scope="session")
def count(tmp_path_factory: pytest.TempPathFactory) -> Count:
    """How often each step comes in an undisturbed run."""
    known: dict[Scenario, dict[tuple[Step, Moment], int]] = {}

    def of(scenario: Scenario) -> dict[tuple[Step, Moment], int]:
        if scenario not in known:
            place = Place(scenario, tmp_path_factory.mktemp("counted"))
            assert place.run() == 0
            assert taken(place.home / "copies") == dict.fromkeys(mail(MESSAGES), 1)
            known[scenario] = place.steps()
        return known[scenario]

    return of


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_every_kind_of_step_is_stopped_at(scenario: Scenario, count: Count) -> None:
    assert {step for step, _ in count(scenario)} == {*STEPS, *(OF_PACKS if scenario.archived else ())}


each_case = pytest.mark.parametrize(
    ("scenario", "step", "moment"),
    [(scenario, step, moment) for scenario in SCENARIOS for step in STEPS for moment in MOMENTS],
    ids=str,
)


@each_case
def test_f37_f38_f50_killed_in_the_middle_and_at_the_end(
    scenario: Scenario, step: Step, moment: Moment, count: Count, tmp_path: Path
) -> None:
    """F37: before the last octets, surely not sent; F38: after them; F50: after the reply, before the commit."""
    occurrence = one_of(count(scenario)[step, moment], moment)
    kill_and_prove(Place(scenario, tmp_path / "site"), Point(step, moment, occurrence))


@pytest.mark.soak
@each_case
def test_f37_f38_f50_killed_at_every_occurrence(
    scenario: Scenario, step: Step, moment: Moment, count: Count, tmp_path: Path
) -> None:
    for occurrence in range(1, count(scenario)[step, moment] + 1):
        kill_and_prove(Place(scenario, tmp_path / str(occurrence)), Point(step, moment, occurrence))


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("step", OF_PACKS, ids=str)
def test_killed_at_the_steps_of_the_archive(step: Step, moment: Moment, count: Count, tmp_path: Path) -> None:
    occurrence = 1 if moment == "before" else count(ARCHIVED)[step, moment]
    kill_and_prove(Place(ARCHIVED, tmp_path / "site"), Point(step, moment, occurrence))


def test_killed_again_and_again(tmp_path: Path) -> None:
    """Each kill adds its own uncertain outcomes, and no more. What is uncertain twice is not sent again at once."""
    place = Place(FOUR, tmp_path / "site")
    for kills in range(1, 4):
        assert place.run(Point(Step.MESSAGE_END, "after", 1)) == -signal.SIGKILL
        assert sum(place.look()[1].values()) < kills + 1  # those of the last kill are not noticed yet
    assert place.run() == 0
    assert place.look()[0]["PENDING"] == [b"uid001"]
    place.retry()
    assert place.run() == 0
    prove(place, kills=3)


def kill_and_prove(place: Place, point: Point) -> None:
    """Kill the first run there, run again, and compare."""
    try:
        assert place.run(point) == -signal.SIGKILL, f"it never came to {point}"
        assert place.run() == 0
        if place.scenario.hold:
            prove_held(place)
        prove(place, kills=1)
    except AssertionError as error:
        error.add_note(f"killed {point}; see {place.home}")
        raise


def prove_held(place: Place) -> None:
    """What is uncertain is held, and not sent a second time; then a person has it sent again."""
    states, uncertain = place.look()
    assert sorted(states.get("HELD", [])) == sorted(uncertain)
    assert max(taken(place.home / "copies").values()) == 1
    assert place.report()["code"] == (ExitCode.WAITING if uncertain else ExitCode.DONE)
    place.retry()
    assert place.run() == 0


def prove(place: Place, kills: int) -> None:
    """Everything is delivered; copies ≤ 1 + recorded uncertain outcomes; a further run does nothing."""
    states, uncertain = place.look()
    copies = taken(place.home / "copies")
    assert set(states) == {"DELIVERED"}
    assert len(states["DELIVERED"]) == MESSAGES == len(copies)
    assert all(number <= 1 + uncertain[uid] for uid, number in copies.items())
    assert sum(uncertain.values()) <= kills * place.scenario.window
    assert place.run() == 0
    assert place.report()["code"] == ExitCode.DONE
    assert taken(place.home / "copies") == copies
