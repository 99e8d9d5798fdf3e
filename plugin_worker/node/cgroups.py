"""Hold each worker to its limits by a group of the kernel's own, where this node may make some.

    started -> (beside the loop) made, limited, joined -> died -> (beside) emptied, removed

Joining takes the kernel up to 20 ms, so nobody waits for it but a plugin that may fork: what that
has started before would stay outside. Any other is one process, which joins with all its threads.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from plugin_worker.node.aside import Aside
from plugin_worker.node.trees import CONTROLLERS, Nest, end_members, find_trees, write
from protocol.limits import DEFAULTS, Limits, size_text
from protocol.messages import Cause
from protocol.reactor import Reactor

_PERIOD_US: Final = 100_000
_LEAVE_S: Final = 1.0
_LEAVE_STEP_S: Final = 0.005
"""How long a group's last processes may take to go, seconds, and how often it is looked."""

_JOIN_LOOK_S: Final = 0.005
"""How often it is looked whether one that has ended is still being put in its group, seconds."""

_FILES: Final = {
    1: {"memory": "memory.limit_in_bytes", "pids": "pids.max", "cpu": "cpu.cfs_quota_us"},
    2: {"memory": "memory.max", "pids": "pids.max", "cpu": "cpu.max"},
}
_KILLS: Final = {1: "memory.oom_control", 2: "memory.events"}
"""Where the kernel counts whom it has ended for want of memory."""

_NEAR: Final = 1 << 20
"""Bytes by which a group may miss its limit when nothing more fits in."""

_HOLDS: Final = {"memory": ("memory",), "pids": ("threads",), "cpu": ("cpu",)}


@dataclass(slots=True)
class Member:
    """One worker's group."""

    name: str
    pid: int
    limits: Limits
    may_fork: bool
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while it is put in its group; the node's loop does not wait for it."""
    is_over: bool = False
    """Whether its process has ended: its number may soon be another's."""
    has_joined: bool = False


class Cgroups:
    """The groups of this machine's workers; lives as long as the node.

    Made while the node has one thread: it is tried with a child process.
    """

    def __init__(self, mounts: str, groups: str) -> None:
        self.why = "no tree of groups is mounted"
        """Why there are none, if so."""
        self._nests: list[Nest] = []
        self._members: dict[int, Member] = {}
        self._left: list[str] = []
        """Groups that were not empty in time."""
        for tree in find_trees(mounts, groups):
            try:
                self._nests.append(Nest(tree))
            except OSError as error:
                self.why = error.strerror or str(error)
        if self._nests and (why := self._try()):
            self.close()
            self.why = why

    @classmethod
    def of_this_machine(cls) -> "Cgroups":
        """Find out what this machine lets us do."""
        paths = Path("/proc/self/mountinfo"), Path("/proc/self/cgroup")
        texts = (path.read_text(errors="replace") if path.is_file() else "" for path in paths)
        return cls(*texts)

    @property
    def available(self) -> tuple[str, ...]:
        """The controllers that hold workers: of memory, pids and cpu; empty when no group can."""
        found = {name for nest in self._nests for name in nest.controllers}
        return tuple(name for name in CONTROLLERS if name in found)

    @property
    def holds(self) -> tuple[str, ...]:
        """The limits that are held for a worker which has joined."""
        return tuple(limit for name in self.available for limit in _HOLDS[name])

    def __str__(self) -> str:
        if not self.available:
            return f"no cgroup ({self.why})"
        version = max(nest.version for nest in self._nests if nest.controllers)
        return f"cgroup v{version} ({', '.join(self.available)})"

    # --- one worker -------------------------------------------------------------------------------

    def join(
        self,
        aside: Aside,
        incarnation: int,
        member: Member,
        joined: Callable[[str], None],
    ) -> None:
        """Put a worker in a group of its own; `joined` is told "", or why it is in none."""
        self._members[incarnation] = member

        def done(why: str) -> None:
            if incarnation in self._members:
                member.has_joined = not why
                joined(why)

        aside.do(lambda: self._put(member), done)

    def ended(self, reactor: Reactor, incarnation: int, reap: Callable[[], None]) -> None:
        """Keep out a process that has ended, then have it reaped: its number may be another's then.

        At once, but while it is being put in its group.
        """
        member = self._members.get(incarnation)
        if member is not None:
            if not member.lock.acquire(blocking=False):
                reactor.call_later(_JOIN_LOOK_S, lambda: self.ended(reactor, incarnation, reap))
                return
            member.is_over = True
            member.lock.release()
        reap()

    def leave(self, aside: Aside, incarnation: int) -> None:
        """Empty and remove a worker's group; harmless if it has none."""
        member = self._members.pop(incarnation, None)
        if member is not None:
            aside.do(lambda: self._remove(member.name), lambda _: None)

    def explain(self, incarnation: int, cause: Cause) -> Cause | None:
        """Say of a death whether the group's memory had run out; None where no group would know."""
        member = self._members.get(incarnation)
        nest = next((nest for nest in self._nests if "memory" in nest.controllers), None)
        if nest is None or member is None or not member.has_joined:
            return None
        if not cause.is_unasked_kill:
            return cause
        group = nest.group(member.name)
        if not _number(group / _KILLS[nest.version], "oom_kill"):
            return cause
        if _was_full(nest.version, group, member.limits.memory):
            allowed = size_text(member.limits.memory)
            return replace(cause, rule=f"limit memory: {allowed} used up, all in its group")
        return replace(cause, rule="out of memory")

    def close(self) -> None:
        """Remove everything; to be said when no worker lives and nothing is done aside."""
        for name in tuple(self._left):
            self._remove(name)
        nests, self._nests = self._nests, []
        for nest in nests:
            nest.close()

    # --- beside the loop --------------------------------------------------------------------------

    def _put(self, member: Member) -> str:
        with member.lock:
            if member.is_over:
                return "it has ended"
            try:
                for nest in self._nests:
                    group = nest.group(member.name)
                    group.mkdir(exist_ok=True)
                    _limit(nest, group, member)
                    write(group / "cgroup.procs", str(member.pid))
            except OSError as error:
                return str(error)
        return ""

    def _remove(self, name: str) -> None:
        until = time.monotonic() + _LEAVE_S
        groups = [nest.group(name) for nest in self._nests]
        while not all([_gone(group) for group in groups]):  # noqa: C419 - each is to be tried
            if time.monotonic() > until:
                self._left = [*{*self._left, name}]
                return
            time.sleep(_LEAVE_STEP_S)

    # --- the trial --------------------------------------------------------------------------------

    def _try(self) -> str:
        """Put a child of ours in a group where nobody may fork; say what is wrong, if anything."""
        answers, questions = os.pipe(), os.pipe()
        try:
            pid = os.fork()
        except OSError as error:
            for descriptor in (*answers, *questions):
                os.close(descriptor)
            return f"no process can be made to try it: {error.strerror}"
        if pid == 0:
            os.close(questions[1])
            _try_to_fork(questions[0], answers[1])
        for descriptor in (answers[1], questions[0]):
            os.close(descriptor)
        limits = replace(DEFAULTS, cpu=1.0, threads=1)
        why = self._put(Member("trial", pid, limits, may_fork=False))
        os.close(questions[1])
        with os.fdopen(answers[0], "rb") as reader:
            has_forked = reader.read() == b"forked"
        os.waitpid(pid, 0)
        self._remove("trial")
        if has_forked and "pids" in self.available:
            why = why or "a process could fork in a group that allows one"
        return why


def _try_to_fork(question: int, answer: int) -> None:
    """Runs in the child."""
    try:
        os.read(question, 1)
        if os.fork() == 0:
            os._exit(0)
        os.write(answer, b"forked")
        os.wait()
    finally:
        os._exit(0)


def _limit(nest: Nest, group: Path, member: Member) -> None:
    limits = member.limits
    tasks = limits.threads + (limits.processes if member.may_fork else 0)
    values = {"memory": str(limits.memory), "pids": str(tasks)}
    if limits.cpu != float("inf"):
        quota = int(limits.cpu * _PERIOD_US)
        values["cpu"] = str(quota) if nest.version == 1 else f"{quota} {_PERIOD_US}"
    for name in nest.controllers:
        if name in values:
            write(group / _FILES[nest.version][name], values[name])
    if "memory" in nest.controllers:
        for file, value in _no_swap(nest.version, values["memory"]):
            with suppress(OSError):  # a kernel without swap accounting has no such file
                write(group / file, value)


def _no_swap(version: int, memory: str) -> Iterator[tuple[str, str]]:
    if version == 1:
        yield "memory.memsw.limit_in_bytes", memory
    else:
        yield "memory.swap.max", "0"
        yield "memory.oom.group", "1"


def _was_full(version: int, group: Path, memory: int) -> bool:
    """Say whether a group has reached its limit; if not, the whole machine's memory had run out."""
    if version == 1:  # its count of failures is not kept any more
        return _number(group / "memory.max_usage_in_bytes", "") > memory - _NEAR
    return _number(group / "memory.events", "max") > 0


def _gone(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        end_members(group)
        return False
    return True


def _number(file: Path, name: str) -> int:
    """Read a count: the file's only number, or the one that has this name."""
    try:
        lines = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return 0
    return sum(int(words[-1]) for words in lines if len(words) == 1 or words[0] == name)
