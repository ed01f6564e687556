"""Configurations of very many jobs: twice the jobs are twice the work, also where every job is wrong."""

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from syncd.errors import ConfigError
from syncd.settings.checks import MAX_COMPARED, MAX_NAMED
from syncd.settings.load import load

COMMON = """
[accounts.new]
protocol = "smtp"
host = "smtp.example.org"
username = "me@example.org"
password = "env:P"
[archives.all]
path = "all"
"""
EACH = """
[accounts.u{n}]
protocol = "pop3"
host = "pop.example.net"
username = "u{n}@example.net"
password = "env:P"
[archives.a{n}]
path = "mail/a{n}"
[jobs.in-{n}]
source = "u{n}"
destinations = ["a{n}", {{ to = "new", recipient = "u{n}@example.com" }}]
schedule = "every 15 minutes"
[jobs.out-{n}]
source = "a{n}"
destinations = ["all", {{ to = "new", recipient = "v{n}@example.com" }}]
"""
WRONG = '[jobs.wrong-{n}]\nsource = "zz"\ndestinations = ["z{n}"]\nmode = "mvoe"\n'


def written(directory: Path, count: int, each: str) -> Path:
    file = directory / f"{count}.toml"
    file.write_text(COMMON + "".join(each.format(n=n) for n in range(count)))
    return file


def lines_of(file: Path) -> int:
    """Returns how many lines of our code are gone through while a file is loaded, each turn of a loop counted."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if event == "line":
            count += 1
        elif "/syncd/" not in frame.f_code.co_filename:
            return None
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        load(file, environment={})
    except ConfigError:
        pass  # is a case
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("each", [EACH, EACH + WRONG])
def test_loading_is_linear(tmp_path: Path, each: str) -> None:
    lines_of(written(tmp_path, 5, each))  # what is done once
    small, large = (lines_of(written(tmp_path, count, each)) for count in (40, 120))
    assert large < 3.1 * small


def test_wrong_names_beside_very_many_right_ones(tmp_path: Path) -> None:
    """A few are compared with all names; the lines of the others name some."""
    each = EACH + '[jobs.w{n}]\nsource = "u{n}"\ndestinations = ["a{n}-x"]\n'
    with pytest.raises(ConfigError) as raised:
        load(written(tmp_path, MAX_COMPARED + 2, each), environment={})
    lines = [line for line in raised.value.lines if "jobs.w" in line]
    assert ["did you mean" in line for line in lines] == [True] * MAX_COMPARED + [False] * 2
    assert lines[-1].endswith(f", and {2 * (MAX_COMPARED + 2) + 1 - MAX_NAMED} more")  # but the source
