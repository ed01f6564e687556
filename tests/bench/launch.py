"""Runs one command and measures it; a small process of its own, started as a script.

`ru_maxrss` of a child is at least what its parent had in memory when it was forked, so the benchmark, which
holds whole mailboxes, must not be that parent. Arguments: result, standard output and standard error (files to
write), then the command. The result is one JSON object; times in seconds, `rss` in octets (wait4(2)).
"""

import json
import os
import sys
import time

result, output, errors, *command = sys.argv[1:]
FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
actions = [
    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
    (os.POSIX_SPAWN_OPEN, 1, output, FLAGS, 0o600),
    (os.POSIX_SPAWN_OPEN, 2, errors, FLAGS, 0o600),
]
start = time.monotonic()
pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
_, status, usage = os.wait4(pid, 0)
wall = time.monotonic() - start
measured = {
    "wall": wall,
    "user": usage.ru_utime,
    "system": usage.ru_stime,
    "rss": usage.ru_maxrss * 1024,
    "code": os.waitstatus_to_exitcode(status),
}
with open(result, "w") as file:  # noqa: PTH123  # pathlib costs this process time and memory
    json.dump(measured, file)
