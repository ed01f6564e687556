"""Builds the image of docker/Dockerfile without Docker or a registry, and runs its commands as a container would.

    with Workshop() as workshop:
        workshop.build()                       # 1 to 2 minutes, and up to 2 GB in /var/tmp while it lasts
        with workshop.root() as root:
            Container(root, folder, workshop.configuration()).run("syncd", "--version")

Needs root, and `tests/servers/install image` to have been run once (buildah, mmdebstrap). In place of the official
Python image stands a small Debian made by mmdebstrap. Packages come as wheels that this machine's pip has fetched,
checked against the same hashes. Nothing needs user namespaces or cgroups: buildah isolates with chroot, and a container
is a chroot with mounts and process ids of its own, a read-only root, the image's user and no capabilities.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
PROGRAMS = ("buildah", "mmdebstrap", "unshare", "setpriv")
SUITE = "bookworm"  # of the stand-in; its Python is 3.11
PYTHON = "3.11"
INCLUDE = "python3,python3-venv,ca-certificates"
BASE = "localhost/base"
IMAGE = "localhost/syncd"
STEP_TIMEOUT_S = 900.0
PIP_CONFIGURATION = "[global]\nno-index = true\nfind-links = /wheels\n"

# $1 is the root, $2 the folder with what is mounted into it; then the user, and the command with its environment.
ENTER = """
set -eu
root=$1 mounts=$2 user=$3; shift 3
mount --bind "$root" "$root"
mount -t tmpfs -o mode=1777,size=64m tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --bind "$mounts/state" "$root/var/lib/syncd"
mount --bind "$mounts/archives" "$root/archives"
mount --bind "$mounts/etc" "$root/etc/syncd"
mount -o remount,bind,ro "$root/etc/syncd"
mount -o remount,bind,ro "$root"
exec chroot --userspec="$user" --groups= "$root" /usr/bin/setpriv --no-new-privs --bounding-set=-all -- \
    /usr/bin/env -i "$@"
"""


def missing() -> str:
    """Why no image can be built here, in one line; empty when it can."""
    if os.getuid() != 0:
        return "building the image without Docker takes root, and this is not root"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"{', '.join(absent)} not installed; run tests/servers/install image" if absent else ""


class Workshop:
    """A folder with everything that building leaves. A context manager: leaves no file, mount or process behind."""

    def __init__(self) -> None:
        if reason := missing():
            raise RuntimeError(reason)
        self.directory = Path(tempfile.mkdtemp(prefix="syncd-image-", dir="/var/tmp"))
        self._driver = "overlay" if self._has_overlay() else "vfs"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._buildah("umount", "--all")
        self._buildah("rm", "--all")
        shutil.rmtree(self.directory)

    def build(self) -> None:
        """Make the stand-in, fetch the wheels, build the image."""
        self._make_base()
        self._fetch_wheels()
        (self.directory / "pip.conf").write_text(PIP_CONFIGURATION)
        self._buildah(
            "build", "--format=docker", "--isolation=chroot", "--network=host", "--pull-never", "--layers=false",
            f"--volume={self.directory}/wheels:/wheels:ro", f"--volume={self.directory}/pip.conf:/etc/pip.conf:ro",
            f"--build-arg=BASE={BASE}", f"--tag={IMAGE}", f"--file={ROOT}/docker/Dockerfile", str(ROOT),
        )  # fmt: skip

    def configuration(self) -> dict[str, Any]:
        """What the image says of itself: User, Entrypoint, Env, Healthcheck …"""
        found: dict[str, Any] = json.loads(self._buildah("inspect", "--type=image", IMAGE))["Docker"]["config"]
        return found

    @contextmanager
    def root(self) -> Iterator[Path]:
        """The files of the image, as a folder. Containers may share it: for them it is read-only."""
        name = self._buildah("from", "--pull-never", IMAGE).strip()
        try:
            yield Path(self._buildah("mount", name).strip())
        finally:
            self._buildah("umount", name)
            self._buildah("rm", name)

    def _make_base(self) -> None:
        tar = self.directory / "base.tar"
        _run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={INCLUDE}", SUITE, str(tar))
        name = self._buildah("from", "scratch").strip()
        self._buildah("add", "--quiet", name, str(tar), "/")
        self._buildah("commit", "--quiet", name, BASE)
        self._buildah("rm", name)
        tar.unlink()

    def _fetch_wheels(self) -> None:
        """Fetches every package of both locks. pip would judge their markers by this Python, so they are left out."""
        wanted = self.directory / "wanted.txt"
        locks = ((ROOT / "docker" / name).read_text() for name in ("runtime.lock", "build.lock"))
        wanted.write_text("".join(re.sub(r" ; [^\\\n]*", " ", lock) for lock in locks))
        options = ["--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:", f"--python-version={PYTHON}"]
        wheels = str(self.directory / "wheels")
        _run(sys.executable, "-m", "pip", "download", *options, "--requirement", str(wanted), "--dest", wheels)

    def _buildah(self, command: str, *arguments: str) -> str:
        return _run("buildah", *self._places(self._driver), command, *arguments)

    def _has_overlay(self) -> bool:
        """Whether layers can share files here. Without it, as in many containers, each layer is a whole copy."""
        command = ["buildah", *self._places("overlay"), "info"]
        done = subprocess.run(command, capture_output=True, check=False, timeout=STEP_TIMEOUT_S)
        shutil.rmtree(self.directory / "storage", ignore_errors=True)
        return done.returncode == 0

    def _places(self, driver: str) -> tuple[str, ...]:
        return (f"--root={self.directory}/storage", f"--runroot={self.directory}/run", f"--storage-driver={driver}")


class Container:
    """Runs commands in the image. Its volumes are the folders `state`, `archives` and `etc` (read-only) in `mounts`."""

    def __init__(self, root: Path, mounts: Path, configuration: Mapping[str, Any]) -> None:
        self.root = root
        self.mounts = mounts
        self.configuration = configuration
        uid, _, gid = configuration["User"].partition(":")
        for name in ("state", "archives"):
            (mounts / name).mkdir(mode=0o700, exist_ok=True)
            os.chown(mounts / name, int(uid), int(gid))
        (mounts / "etc").mkdir(mode=0o755, exist_ok=True)

    def run(self, *command: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self._line(command, environment or {}), capture_output=True, text=True, check=False, timeout=STEP_TIMEOUT_S
        )

    def start(self, *command: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command; `first_process` is what gets its signals."""
        return subprocess.Popen(
            self._line(command, environment or {}), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    @staticmethod
    def first_process(started: subprocess.Popen[str]) -> psutil.Process:
        """Process 1 of the container; `docker stop` signals it."""
        return psutil.Process(started.pid).children()[0]

    def _line(self, command: tuple[str, ...], environment: Mapping[str, str]) -> list[str]:
        variables = [*self.configuration["Env"], *(f"{name}={value}" for name, value in environment.items())]
        return [
            "unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation=private",
            "sh", "-c", ENTER, "enter", str(self.root), str(self.mounts), self.configuration["User"],
            *variables, *command,
        ]  # fmt: skip


def _run(*command: str) -> str:
    """Returns what it prints. Raises RuntimeError with the end of what it complains about.

    When this is interrupted the command is asked to end, and may clean up: mmdebstrap has mounted things.
    """
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            output, complaints = process.communicate(timeout=STEP_TIMEOUT_S)
        except BaseException:
            process.terminate()
            process.wait(STEP_TIMEOUT_S)
            raise
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[:6])}: exit {process.returncode}\n{(output + complaints)[-4000:]}")
    return output
