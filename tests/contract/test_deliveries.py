"""Every kind of destination keeps the contract of `destinations.base.Destination`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from syncd.destinations.base import Archive
from syncd.destinations.maildir import MaildirArchive
from syncd.destinations.packs import PacksArchive
from syncd.destinations.smtp.relay import RelayOptions
from syncd.destinations.smtp.route import SmtpDestination, SmtpOptions
from syncd.net.endpoint import Endpoint
from tests.contract.delivery_suite import DeliverySuite, Target, UncertainSuite, mail
from tests.contract.smtp_kit import HELO, patient
from tests.fakes.archive import MemoryArchive
from tests.fakes.smtp import CHUNKING, FakeSmtp
from tests.support.trace import split

EVERYTHING = mail(30)  # the suite delivers some of these messages and no others


def smtp_target(server: FakeSmtp, connections: int) -> Target:
    endpoint = Endpoint(server.host, server.port, "none")
    relay = RelayOptions(endpoint, lmtp=server.lmtp, connections=connections, ehlo_name=HELO, deadlines=patient())
    return Target(
        lambda: SmtpDestination(SmtpOptions(relay, "you@example.org")),
        lambda: Counter(split(arrival.octets)[1] for arrival in server.arrivals),
    )


class TestSmtp(UncertainSuite):
    @pytest.fixture(params=[1, 3], ids=["one connection", "three connections"])
    def target(self, request: pytest.FixtureRequest) -> Iterator[Target]:
        with FakeSmtp() as server:
            yield smtp_target(server, request.param)


class TestLmtp(UncertainSuite):
    """Dovecot's way: several messages in flight."""

    @pytest.fixture(params=[1, 3], ids=["one connection", "three connections"])
    def target(self, request: pytest.FixtureRequest) -> Iterator[Target]:
        with FakeSmtp(lmtp=True) as server:
            server.greeting, server.capabilities = b"220 mx.example Dovecot ready.\r\n", CHUNKING
            yield smtp_target(server, request.param)


class TestMaildir(DeliverySuite):
    @pytest.fixture
    def target(self, tmp_path: Path) -> Target:
        path = tmp_path / "archive"
        MaildirArchive(path, "home").create(uuid4())

        def arrived() -> Counter[bytes]:
            files = (file for file in path.rglob("*.syncd*") if file.parent.name in {"new", "cur"})
            return Counter(file.read_bytes().replace(b"\n", b"\r\n") for file in files)

        return Target(lambda: MaildirArchive(path, "home"), arrived)


def stored(archive: Archive) -> Counter[bytes]:
    """The messages that `places` gives of the suite's account."""
    found = Counter(place.sha256 for place in archive.places(EVERYTHING[0].ref.origin.account))
    return Counter({m.body.data or b"": found[m.body.sha256] for m in EVERYTHING if found[m.body.sha256]})


class TestPacks(DeliverySuite):
    @pytest.fixture
    def target(self, tmp_path: Path) -> Target:
        path = tmp_path / "archive"
        PacksArchive(path, "home").create(uuid4())
        return Target(lambda: PacksArchive(path, "home"), lambda: stored(PacksArchive(path, "home")))


class TestMemory(DeliverySuite):
    @pytest.fixture
    def target(self) -> Target:
        archive = MemoryArchive()
        archive.create(uuid4())
        return Target(lambda: archive, lambda: stored(archive))
