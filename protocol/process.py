"""What Linux says of processes, and lets ours have."""

import resource
from pathlib import Path
from typing import Final

_STOPPED: Final = frozenset("Tt")
"""How a state is spelled there; `t` is stopped by a debugger."""

_START_TIME: Final = 19
"""Where it stands in /proc/PID/stat behind the name, which may itself hold spaces: field 22."""


def start_time_of(pid: int) -> int:
    """Give a process's start, in clock ticks since boot; 0 if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(stat.rpartition(")")[2].split()[_START_TIME])


def is_stopped(pid: int) -> bool:
    """Say whether a process is stopped: it takes no signal but SIGCONT and SIGKILL."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] in _STOPPED


def raise_descriptor_limit() -> None:
    """Raise the soft limit of descriptors to the hard one: libzmq aborts where none is left."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
