"""What was sent, what waits and what is suspended, from run to run: whole commands and a scripted server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from syncd.cli.main import call
from syncd.destinations.maildir import MaildirArchive
from tests.fakes.smtp import CHUNKING, FakeSmtp

ME = "me@example.org"


class Desk:
    """A Maildir as the source of jobs, and a server that takes, defers or refuses what they send."""

    def __init__(self, directory: Path, server: FakeSmtp, output: pytest.CaptureFixture[str]) -> None:
        self.server = server
        self._directory = directory
        self._output = output
        self._mail = directory / "mail"
        MaildirArchive(self._mail).create(uuid4())
        server.capabilities = CHUNKING

    def mail(self, *names: str) -> None:
        for name in names:
            (self._mail / "new" / f"{name}.x.h").write_text(f"From: a@b.example\nSubject: {name}\n\nhi\n")

    def configure(self, job: str = "forward", recipient: str = ME, *, to: str = "relay", more: str = "") -> None:
        accounts = "".join(
            f'[accounts.{name}]\nprotocol = "smtp"\nhost = "{host}"\nport = {self.server.port}\n'
            'security = "none"\nallow_insecure = true\n'
            for name, host in (("relay", "127.0.0.1"), ("other", "localhost"))
        )
        (self._directory / "syncd.toml").write_text(
            f'state_directory = "state"\n{accounts}[archives.mail]\npath = "mail"\nformat = "maildir"\n'
            f'[jobs.{job}]\nsource = "mail"\ndestinations = [{{ to = "{to}", recipient = "{recipient}"{more} }}]\n'
        )

    def answer(self, *replies: str) -> None:
        """To the last octets of the next messages; then all is taken again."""
        self.server.replies["LAST"] = [f"{reply}\r\n".encode() for reply in replies]

    def __call__(self, *words: str) -> tuple[int, str]:
        """Exit code and all that was said."""
        self._output.readouterr()
        code = call([*words, "-c", str(self._directory / "syncd.toml")])
        said = self._output.readouterr()
        return code, said.out + said.err

    @property
    def arrived(self) -> int:
        return len(self.server.arrivals)


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Desk]:
    with FakeSmtp() as server:
        yield Desk(tmp_path, server, capsys)


# --- nothing is sent again because something is called otherwise ---------------------------------------------


def test_a_renamed_job_and_a_recipient_in_other_letters_send_nothing_again(desk: Desk):
    desk.mail("a", "b", "c")
    desk.configure("forward")
    assert (desk("run")[0], desk.arrived) == (0, 3)
    desk.configure("onward")
    assert (desk("run", "--dry-run")[1].count("would fetch"), desk("run")[0], desk.arrived) == (0, 0, 3)
    desk.configure("onward", "Me@Example.org")
    desk.mail("d")
    assert (desk("run")[0], desk.arrived) == (0, 4)
    assert desk.server.arrivals[-1].recipients == ("Me@Example.org",)


def test_another_server_to_the_same_recipient_is_for_a_person(desk: Desk):
    desk.mail("a", "b")
    desk.configure()
    desk("run")
    desk.configure(to="other")
    desk.mail("c")
    code, said = desk("run")
    assert (code, desk.arrived) == (3, 3)
    assert "2 deliveries were made before, or may have been, by a destination that is not in use any more" in said
    code, said = desk("errors", "forward")
    assert said.count('held, 1 try, waits for you: it was given to this recipient before, by "relay" for job') == 2
    desk("drop", "forward", "held", "--yes")
    assert (desk("run")[0], desk.arrived) == (0, 3)
