"""SIGKILL where mail goes into IMAP mailboxes by odd ways: nothing is lost, doubled, or gone from the source too early.

    aside      the server hangs up at two messages, which are put aside; later it takes them
    silent     a reply is lost, and the mailbox is not opened to be asked; a person ends the waiting
    beside     a job moves mail that another job on the account has to copy first

Each is a sequence of commands. One of them is killed, given again, and the others follow.
"""

from __future__ import annotations

import itertools
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import pytest

from syncd.durable import Moment, Step
from tests.crash.child import Point
from tests.crash.program import Ended, Program
from tests.crash.scenarios import one_of
from tests.e2e.test_imap_migration import MULTI, mail
from tests.fakes.imap import PASSWORD, USERNAME, FakeImap
from tests.fakes.imap_words import Word, flat

pytestmark = pytest.mark.crash

HELD = {"Aaa": [mail(number % 15) for number in range(18)], "Bbb": [mail(number) for number in range(30, 34)]}
POISON = {mail(5), mail(11)}
MOVES = 'mode = "move"\nconfirm_removal = true\n'
Act = Sequence[str] | Callable[["Site"], None]


@dataclass
class Site:
    """Three accounts, a job `move` from the first to the second, and a job `beside` to the third. A context manager."""

    home: Path
    moves: bool = False
    old: FakeImap = field(default_factory=FakeImap)
    new: FakeImap = field(default_factory=FakeImap)
    other: FakeImap = field(default_factory=FakeImap)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        self.home.mkdir()
        peers = {"old": self.old, "new": self.new, "other": self.other}
        for server in peers.values():
            server.inside = MULTI
            self._stack.enter_context(server)
        for name, letters in HELD.items():
            self.old.box(name).add(*letters)
        accounts = "".join(
            f'[accounts.{name}]\nprotocol = "imap"\nhost = "{peer.host}"\nport = {peer.port}\nsecurity = "none"\n'
            f'allow_insecure = true\nusername = "{USERNAME}"\npassword = "file:password"\n'
            for name, peer in peers.items()
        )
        (self.home / "password").write_text(PASSWORD)
        (self.home / "password").chmod(0o600)
        (self.home / "syncd.toml").write_text(
            f'state_directory = "state"\n{accounts}'
            f'[jobs.move]\nsource = "old"\ndestinations = ["new"]\n{MOVES if self.moves else ""}'
            + ('[jobs.beside]\nsource = "old"\ndestinations = ["other"]\n' if self.moves else "")
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def does(self, act: Act, point: Point | None = None) -> Ended | None:
        """Give a command, or change something."""
        if callable(act):
            return act(self)
        arguments = [*act, "--config", str(self.home / "syncd.toml")]
        ended = Program(arguments, self.home / "output", point=point).wait()
        for server in (self.old, self.new, self.other):
            server.settle()
        if self.moves:
            gone = held(HELD, self.old)
            for server in (self.new, self.other):
                assert not gone - Counter(stored(server)), "a message left the source before it was everywhere"
        return ended

    def prove(self, most_uncertain: int) -> None:
        """Each message is there once, and where it belongs; a second copy was recorded as uncertain."""
        everything = Counter((name, octets) for name, letters in HELD.items() for octets in letters)
        with closing(sqlite3.connect(self.home / "state/ledger.sqlite")) as ledger:
            (recorded,) = ledger.execute("SELECT count(*) FROM uncertain_outcomes").fetchone()
            (open_runs,) = ledger.execute("SELECT count(*) FROM runs WHERE finished_at IS NULL").fetchone()
        assert recorded <= most_uncertain
        assert open_runs == 0
        for server in (self.new, self.other) if self.moves else (self.new,):
            there = Counter(stored(server))
            assert not everything - there, "lost"
            assert (there - everything).total() <= recorded, "doubled"
        assert Counter(stored(self.old)) == (Counter() if self.moves else everything)


def stored(server: FakeImap) -> Iterator[tuple[str, bytes]]:
    for name, box in server.boxes.items():
        for one in box.mail:
            yield name.decode(), one.octets


def held(letters: dict[str, list[bytes]], server: FakeImap) -> Counter[tuple[str, bytes]]:
    """Returns those of the letters that the server has no more."""
    return Counter((name, one) for name, some in letters.items() for one in some) - Counter(stored(server))


def lose() -> None:
    raise ConnectionError("lost, as the script says")


# --- what the servers do ---------------------------------------------------------------------------------------------


def poisoned(site: Site) -> None:
    def append(words: list[Word]) -> None:
        if any(isinstance(word, bytes) and word in POISON for word in words):
            lose()

    site.new.on["APPEND"] = append


def silent(site: Site) -> None:
    """The first APPEND to a mailbox is stored and not answered; the mailbox is not opened any more."""
    replies = itertools.count()

    def answered(answer: bytes, words: list[Word]) -> bytes:
        if flat(words[0]) == [b"Aaa"] and next(replies) == 0:
            lose()
        return answer

    site.new.after["APPEND"] = answered
    site.new.on["EXAMINE"] = lambda words: b"<tag> NO [NOPERM] no\r\n" if flat(words[0]) == [b"Aaa"] else None


def mended(site: Site) -> None:
    site.new.on.clear()
    site.new.after.clear()


RUN: Final = ("run", "move", "--quiet")
RETRY: Final = ("retry", "move")
SHORT: Final[dict[Step, Moment]] = {Step.LEDGER_COMMIT: "before"}  # of the others, after the last one


@dataclass(frozen=True)
class Scenario:
    """Commands, and what is changed between them."""

    name: str
    acts: tuple[Act, ...]
    moves: bool = False
    most_uncertain: int = 0

    def __str__(self) -> str:
        return self.name


SCENARIOS = (
    Scenario("aside", (poisoned, RUN, RUN, mended, RETRY, RUN)),
    Scenario("silent", (silent, RUN, RUN, (*RETRY, "1", "2"), RUN, mended, RUN), most_uncertain=2),
    Scenario("beside", (RUN, ("run", "beside", "--quiet"), RUN), moves=True),
)


def kill_at(tmp_path: Path, scenario: Scenario, *, everywhere: bool) -> None:
    with Site(tmp_path / "whole", scenario.moves) as site:
        whole = [site.does(act) for act in scenario.acts]
        site.prove(scenario.most_uncertain)
    for at, ended in enumerate(whole):
        steps = {} if ended is None else ended.steps
        kinds = [kind for kind in steps if everywhere or kind[1] == SHORT.get(kind[0], "after")]
        for step, moment in kinds if everywhere else kinds[at % max(len(kinds), 1) :][:1]:
            last = steps[step, moment]
            for occurrence in range(1, last + 1) if everywhere else [one_of(last, moment)]:
                point = Point(step, moment, occurrence)
                kill(tmp_path / f"{at}-{step.value}-{moment}-{occurrence}", scenario, at, point)


def kill(home: Path, scenario: Scenario, at: int, point: Point) -> None:
    try:
        with Site(home, scenario.moves) as site:
            for number, act in enumerate(scenario.acts):
                if number == at:
                    ended = site.does(act, point)
                    assert ended is not None
                    assert ended.code == -signal.SIGKILL, ended.stderr
                site.does(act)
            ended = site.does(RUN)
            assert ended is not None
            assert ended.code == 0, ended.stderr
            site.prove(scenario.most_uncertain)
            again = site.does(RUN)
            assert again is not None
            assert (again.code, again.stdout, again.stderr) == (0, "", "")
            site.prove(scenario.most_uncertain)
    except AssertionError as error:
        error.add_note(f"command {at} killed {point}; see {home}")
        raise


each_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=str)


@each_scenario
def test_each_command_is_killed_once(tmp_path: Path, scenario: Scenario) -> None:
    kill_at(tmp_path, scenario, everywhere=False)


@pytest.mark.soak
@each_scenario
def test_killed_at_every_step(tmp_path: Path, scenario: Scenario) -> None:
    kill_at(tmp_path, scenario, everywhere=True)
