"""Settings in force, with the source of each: what `load` gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from syncd.auth.credentials import Secrets
from syncd.errors import printable
from syncd.settings.layers import Layer
from syncd.settings.mistakes import KeyPath, Mistake, key_text
from syncd.settings.schema import ServiceSettings, Settings
from syncd.settings.urls import without_password

MAX_LINE = 1000  # characters; a line that lists every accepted key has about 250


class Row(NamedTuple):
    """A setting in force, to be shown. `value` can be written as JSON and has no secret."""

    key: str
    value: Any
    origin: str


@dataclass(frozen=True)
class LoadedService:
    """The settings in force, with their sources. `environment` has the variables that secret references may name.

    `secrets` reads what the references name, a command once. So it belongs to one run, or to one process.
    """

    settings: ServiceSettings
    file: Path | None
    environment: Mapping[str, str] = field(repr=False)
    layers: Sequence[Layer] = field(repr=False)  # the strongest first
    secrets: Secrets = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "secrets", Secrets(self.environment))  # the class is frozen

    @property
    def name(self) -> str:
        """Returns the name of the configuration in the ledger: as it says, else the path of its file; "" without."""
        return self.settings.name or ("" if self.file is None else str(self.file.resolve()))

    def line(self, mistake: Mistake) -> str:
        """Returns a mistake as one line, with the file or variable that it is in."""
        return line_of(mistake, place_of(mistake.path, self.layers))

    def origin(self, path: KeyPath) -> str:
        """Returns the source of a setting: a variable, a file, or "default"."""
        for layer in self.layers:
            if layer.depth(path) == len(path):
                return layer.spot(path)
        return "default"

    def rows(self) -> Iterator[Row]:
        """Yields every setting in force, in the order of the schema."""
        yield from self._rows((), self.settings.model_dump(mode="json"))

    def _rows(self, path: KeyPath, table: Mapping[str, Any]) -> Iterator[Row]:
        for key, value in table.items():
            here = (*path, key)
            if isinstance(value, dict):
                yield from self._rows(here, value)
            else:
                shown = without_password(value) if here == ("database_url",) else value
                yield Row(key_text(here), shown, self.origin(here))


@dataclass(frozen=True)
class Loaded(LoadedService):
    """The whole configuration: also accounts, archives and jobs."""

    settings: Settings


def place_of(path: KeyPath, layers: Sequence[Layer]) -> str:
    """Returns the place of a mistake: of the value, else of the table that lacks it."""
    deepest = max(reversed(layers), key=lambda layer: layer.depth(path))
    return next((layer for layer in layers if layer.depth(path) == len(path)), deepest).spot(path)


def line_of(mistake: Mistake, place: str) -> str:
    """Returns a mistake as one line."""
    key = f"{key_text(mistake.path)}: " if mistake.path else ""
    return printable(f"{mistake.where or place}: {key}{mistake.text}", MAX_LINE)
