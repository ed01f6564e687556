"""Jobs that read an archive which other jobs fill: what they must not say, and which job comes after which.

A slow destination is best served in two stages, server → archive and archive → destination: the session with the
server then never waits for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from syncd.settings.mistakes import KeyPath, Mistake
from syncd.settings.schema import Job, Mode


def contradictions(at: KeyPath, job: Job, jobs: Mapping[str, Job]) -> Iterator[Mistake]:
    """What is wrong with a job (at the key path `at`) whose source is an archive."""
    if job.mode is Mode.MOVE:
        key, accepted = ("mode", '"copy"') if "mode" in job.model_fields_set else ("leave_on_server", "true")
        text = f'"{job.source}" is an archive, from which nothing is ever removed; accepted: {accepted}'
        yield Mistake((*at, key), text)
    for index, destination in enumerate(job.destinations):
        if destination.to == job.source:
            text = f'"{job.source}" is what this job reads; a job does not write to the archive that it reads'
            yield Mistake((*at, "destinations", index), text)
        elif way := _way(destination.to, job.source, jobs):
            text = f"the jobs fill {' → '.join([job.source, *way])}, where all mail would be copied without end"
            yield Mistake((*at, "destinations", index), text)


def stages(jobs: Mapping[str, Job], names: Iterable[str]) -> list[list[str]]:
    """Those of `jobs` that are named, in stages: a job that reads what others fill comes in a later stage than they."""
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
    """How many jobs mail may go through before it is in `source`."""
    if source not in depths:
        depths[source] = 0  # ends a circle, should there be one
        depths[source] = max((_depth(each, fillers, depths) + 1 for each in fillers.get(source, ())), default=0)
    return depths[source]


def _way(start: str, goal: str, jobs: Mapping[str, Job]) -> list[str]:
    """The names by which mail comes from `start` to `goal`, both among them; none where it does not."""
    ways, seen = [[start]], {start}
    while ways:
        way = ways.pop()
        if way[-1] == goal:
            return way
        nexts = {to.to for job in jobs.values() if job.source == way[-1] for to in job.destinations} - seen
        seen |= nexts
        ways += [[*way, name] for name in sorted(nexts)]
    return []
