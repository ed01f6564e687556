"""Jobs that read an archive which other jobs fill: their checks, and the order of jobs.

A slow destination is best served in two stages, server → archive and archive → destination. Then the session with the
server never waits for the destination.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet

from syncd.settings.mistakes import KeyPath, Mistake
from syncd.settings.schema import Job, Mode, Settings


def contradictions(at: KeyPath, job: Job, settings: Settings, circles: AbstractSet[str]) -> Iterator[Mistake]:
    """Yields the mistakes of a job (at the key path `at`) whose source is an archive. `circles`: see `in_circles`."""
    if job.mode is Mode.MOVE:
        key, accepted = ("mode", '"copy"') if "mode" in job.model_fields_set else ("leave_on_server", "true")
        text = f'"{job.source}" is an archive, from which nothing is ever removed; accepted: {accepted}'
        yield Mistake((*at, key), text)
    for index, destination in enumerate(job.destinations):
        if destination.to == job.source:
            text = f'"{job.source}" is the source of this job; a job cannot write to the archive that it reads'
            yield Mistake((*at, "destinations", index), text)
        elif {destination.to, job.source} <= circles and (way := _way(destination.to, job.source, settings)):
            text = (
                f"the jobs form a circle, {' → '.join([job.source, *way])}, in which mail would be copied without end"
            )
            yield Mistake((*at, "destinations", index), text)


def stages(jobs: Mapping[str, Job], names: Iterable[str]) -> list[list[str]]:
    """Returns the named jobs in stages: a job that reads an archive comes after the jobs that fill it."""
    names = list(names)
    fillers = defaultdict(set)
    for name in names:
        for destination in jobs[name].destinations:
            fillers[destination.to].add(jobs[name].source)
    depths: dict[str, int] = {}
    found = defaultdict(list)
    for name in names:
        found[_depth(jobs[name].source, fillers, depths)].append(name)
    return [found[depth] for depth in sorted(found)]


def _depth(source: str, fillers: Mapping[str, set[str]], depths: dict[str, int]) -> int:
    """Returns how many jobs mail may pass before it is in `source`."""
    if source not in depths:
        depths[source] = 0  # ends a circle, should there be one
        depths[source] = max((_depth(each, fillers, depths) + 1 for each in fillers.get(source, ())), default=0)
    return depths[source]


def in_circles(settings: Settings) -> set[str]:
    """Returns accounts and archives that may be in a circle of jobs: none if there is no circle.

    A name is taken away when nothing is left that mail comes from or goes to; each name and job is looked at once.
    """
    left = {*settings.filled_from, *settings.read_into}
    for behind, ahead in ((settings.filled_from, settings.read_into), (settings.read_into, settings.filled_from)):
        open_ways = {name: sum(other in left for other in behind.get(name, ())) for name in left}
        ends = [name for name, count in open_ways.items() if not count]
        while ends:
            name = ends.pop()
            left.discard(name)
            for other in ahead.get(name, ()):
                if other in left:
                    open_ways[other] -= 1
                    ends += [] if open_ways[other] else [other]
    return left


def _way(start: str, goal: str, settings: Settings) -> list[str]:
    """Returns the names on a way of mail from `start` to `goal`, including both; empty if there is no way."""
    ways, seen = [[start]], {start}
    while ways:
        way = ways.pop()
        if way[-1] == goal:
            return way
        nexts = set(settings.read_into.get(way[-1], ())) - seen
        seen |= nexts
        ways += [[*way, name] for name in sorted(nexts)]
    return []
