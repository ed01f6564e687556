"""The connection breaks at many offsets of either direction; the next run goes on from there."""

from __future__ import annotations

import pytest

from tests.crash.scenarios import BOTH, MAILDIR, MOVE, PACKS, MakeSite
from tests.crash.site import Scenario
from tests.support.proxy import Act, Fault, Proxy, Way

pytestmark = [pytest.mark.crash, pytest.mark.servers]

OFFSETS = 3  # of each way of each scenario
OFFSETS_SOAK = 60
GOODBYE_OCTETS = 60  # who has everything does not care how the farewell ends

each_way = pytest.mark.parametrize("way", Way)
each_scenario = pytest.mark.parametrize("scenario", [PACKS, MAILDIR, BOTH, MOVE], ids=str)


@each_way
@each_scenario
def test_cut_at_some_offsets(scenario: Scenario, way: Way, make_site: MakeSite) -> None:
    cut_and_resume(scenario, way, OFFSETS, make_site)


@pytest.mark.soak
@each_way
@each_scenario
def test_cut_at_many_offsets(scenario: Scenario, way: Way, make_site: MakeSite) -> None:
    cut_and_resume(scenario, way, OFFSETS_SOAK, make_site)


def cut_and_resume(scenario: Scenario, way: Way, offsets: int, make_site: MakeSite) -> None:
    total = octets_of_first_session(scenario, way, make_site)
    for number in range(offsets):
        offset = total * number // offsets
        act = (Act.CUT, Act.RESET)[number % 2]
        with Proxy(("127.0.0.1", make_site(PACKS, []).port)) as network:
            site = make_site(scenario, port=network.port)
            network.fault_of = lambda connection, offset=offset, act=act: (
                Fault(way, offset, act) if connection == 1 else None
            )
            try:
                ended = site.run()
                assert len(ended.stderr.splitlines()) == (ended.code != 0), ended.stderr
                went_on = network.connections > 1  # by a second session, where the first loss told that it may help
                assert ended.code == 5 or went_on or offset > total - GOODBYE_OCTETS
                site.resume_and_prove()  # through the same port, where nothing is cut any more
            except AssertionError as error:
                error.add_note(f"{way.name} {act.name} at octet {offset} of {total}; see {site.home}")
                raise


def octets_of_first_session(scenario: Scenario, way: Way, make_site: MakeSite) -> int:
    """What passes in an undisturbed run that only copies."""
    copies = PACKS if scenario.removes else scenario
    site = make_site(copies)
    with Proxy((site.server.host, site.port)) as network:
        site.configure(network.port)
        assert site.run().code == 0
    return network.passed[way]
