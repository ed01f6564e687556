"""Writes docker/runtime.lock and docker/build.lock: the parts of requirements.lock that the image needs.

    .venv/bin/python docker/lock.py            # `make lock` does it

requirements.lock pins everything, the tools of developers included, and does not say what needs what. That is read
from the packages in the environment, for each Python that the image may be built on. What is pinned stays as it is
there, hashes included.
"""

from __future__ import annotations

import itertools
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parents[1]
LOCK: Final = ROOT / "requirements.lock"
EXTRAS: Final = ("postgresql",)  # of ours; a container has no keyring
PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
MACHINES: Final = ("x86_64", "aarch64")
HEADING: Final = "# Made by `make lock` from requirements.lock: what the image {purpose}. Not to be edited.\n"


def contents() -> dict[Path, str]:
    """Returns what each of the two files has to hold. Raises SystemExit for a package that is not pinned."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    runtime = [*project["project"]["dependencies"], *itertools.chain.from_iterable(extras[name] for name in EXTRAS)]
    build = project["build-system"]["requires"]
    pinned = dict(_blocks(LOCK.read_text()))
    return {
        ROOT / "docker" / "runtime.lock": HEADING.format(purpose="runs on") + _part(pinned, runtime),
        ROOT / "docker" / "build.lock": HEADING.format(purpose="is built with") + _part(pinned, build),
    }


def _part(pinned: Mapping[str, str], wanted: list[str]) -> str:
    names = set(itertools.chain.from_iterable(_closure(wanted, environment) for environment in _environments()))
    if missing := names - pinned.keys():
        raise SystemExit(f"not in requirements.lock: {', '.join(sorted(missing))}; run `make lock`")
    return "".join(block for name, block in pinned.items() if name in names)


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """Each package of the lock with its lines."""
    for found in re.finditer(r"^([\w.-]+)==.*(?:\n[ \t].*)*\n", text, re.MULTILINE):
        yield canonicalize_name(found[1]), found[0]


def _environments() -> Iterator[dict[str, str]]:
    for python, machine in itertools.product(PYTHONS, MACHINES):
        yield {
            "implementation_name": "cpython",
            "os_name": "posix",
            "platform_machine": machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{python}.0",
            "python_version": python,
            "sys_platform": "linux",
        }


def _closure(wanted: list[str], environment: dict[str, str]) -> set[str]:
    """The names of everything that is needed there. A package that is not installed here is taken to need nothing."""
    found: set[tuple[str, str]] = set()
    open_: list[tuple[Requirement, str]] = [(Requirement(text), "") for text in wanted]
    while open_:
        requirement, extra = open_.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({**environment, "extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for part in {"", *requirement.extras}:
            if (name, part) not in found:
                found.add((name, part))
                open_.extend((needed, part) for needed in _needs(name))
    return {name for name, _ in found}


def _needs(name: str) -> list[Requirement]:
    try:
        return [Requirement(text) for text in metadata.requires(name) or []]
    except metadata.PackageNotFoundError:
        return []


if __name__ == "__main__":
    for file, text in contents().items():
        file.write_text(text)
        sys.stderr.write(f"{file.relative_to(ROOT)} has {text.count('==')} packages\n")
