"""Reads the compose files of docker/ as docker compose does, with anchors and merges resolved."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

DOCKER = Path(__file__).parents[2] / "docker"


def compose(name: str) -> dict[str, Any]:
    """The whole of a file."""
    loaded: dict[str, Any] = YAML(typ="safe").load(DOCKER / name)
    return loaded


def ours(name: str, over: str = "") -> dict[str, dict[str, Any]]:
    """The services that run our image, by name; with the environment that the file `over` gives them, as by `-f`."""
    services = {key: service for key, service in compose(name)["services"].items() if service.get("image") == "syncd"}
    if not over:
        return services
    more = compose(over)["services"]
    return {
        key: service | {"environment": service["environment"] | more[key]["environment"]}
        for key, service in services.items()
    }


def healthcheck(port: int) -> list[str]:
    """The command of the image's HEALTHCHECK, for another port."""
    found = re.search(r"^HEALTHCHECK .*\\\n +CMD (\[.*\])$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    assert found is not None
    command: list[str] = json.loads(found[1].replace("8425", str(port)))
    return command
