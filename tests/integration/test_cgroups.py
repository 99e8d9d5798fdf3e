"""Where this node may make groups of its own: real groups with real processes in them.

Whatever is made here lies in this process's own group, and is gone afterwards.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from plugin_worker.node.cgroups import Cgroups, Member
from plugin_worker.node.trees import find_trees, members
from protocol.limits import Limits
from protocol.messages import Cause
from tests.asides import AtOnce, Later
from tests.clock import Clock, HandReactor
from tests.hosts import DEADLINE, Watch, eventually

MiB: Final = 1 << 20
LIMITS: Final = Limits(memory=128 * MiB, cpu=0.5, threads=8, processes=4)
EATS: Final = "x = bytearray(200 << 20)"
"""Bounded by itself too."""


@pytest.fixture
def groups() -> Iterator[Cgroups]:
    found = Cgroups.of_this_machine()
    if not found.available:
        pytest.skip(str(found))
    yield found
    found.close()


def child(code: str) -> "subprocess.Popen[bytes]":
    """Start a process that waits for a line, then runs this."""
    whole = f"import os, sys; sys.stdin.readline(); {code}"
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", whole], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def join(groups: Cgroups, pid: int, *, may_fork: bool = False) -> list[Path]:
    """Put it in a group; give that, in every tree."""
    told: list[str] = []
    member = Member("1", pid, LIMITS, may_fork=may_fork)
    groups.join(AtOnce(), 1, member, told.append)
    assert told == [""]
    return groups_of(pid)


def groups_of(pid: int) -> list[Path]:
    mounts = Path("/proc/self/mountinfo").read_text()
    trees = find_trees(mounts, Path(f"/proc/{pid}/cgroup").read_text())
    return [tree.own for tree in trees if "spiral-host" in tree.own.parts]


class TestOneWorker:
    def test_it_is_in_a_group_that_holds_its_limits(self, groups: Cgroups) -> None:
        """Alone; afterwards the group is gone, and so is the node's folder once that has left."""
        process = child("")
        with process:
            found = join(groups, process.pid)
            assert found
            assert all(members(group) == {process.pid} for group in found)
            values = {
                file: (group / file).read_text().strip()
                for group in found
                for file in ("memory.limit_in_bytes", "memory.max", "pids.max", "cpu.cfs_quota_us")
                if (group / file).exists()
            }
            wanted = {"pids": "8"} if "pids" in groups.available else {}
            assert values.get("pids.max") == wanted.get("pids")
            if "memory.limit_in_bytes" in values:
                assert int(values["memory.limit_in_bytes"]) == LIMITS.memory
            if "cpu.cfs_quota_us" in values:
                assert values["cpu.cfs_quota_us"] == "50000"
            process.kill()
            process.wait(DEADLINE)
            groups.ended(HandReactor(Clock()), 1, lambda: None)
            groups.leave(AtOnce(), 1)
        assert not any(group.exists() for group in found)
        groups.close()
        assert not any(group.parent.exists() for group in found)

    def test_what_it_leaves_behind_ends_with_it(self, groups: Cgroups) -> None:
        """Also what has left its session and its parent."""
        process = child(
            "p = os.fork(); p or os.setsid(); print(os.getpid(), flush=True) if p == 0 "
            "else None; sys.stdin.readline() if p else __import__('time').sleep(60)"
        )
        assert process.stdin is not None
        assert process.stdout is not None
        with process:
            found = join(groups, process.pid, may_fork=True)
            process.stdin.write(b"\n")
            process.stdin.flush()
            left = Watch(int(process.stdout.readline()))
            process.kill()
            process.wait(DEADLINE)
            groups.leave(AtOnce(), 1)
            assert left.has_ended()
        assert not any(group.exists() for group in found)

    def test_memory_beyond_its_limit_ends_it_with_that_cause(self, groups: Cgroups) -> None:
        """It, and nobody else; an ordinary kill is not taken for it."""
        if "memory" not in groups.available:
            pytest.skip(str(groups))
        killed = Cause(kind="signal", code=signal.SIGKILL)
        with child(EATS) as process:
            join(groups, process.pid)
            assert groups.explain(1, killed) == killed
            process.communicate(b"\n", DEADLINE)
            assert process.returncode == -signal.SIGKILL
            explained = groups.explain(1, killed)
            groups.leave(AtOnce(), 1)
        assert explained is not None
        assert explained.rule == "limit memory: 128 MiB used up, all in its group"

    def test_a_process_that_has_ended_is_not_put_anywhere(self, groups: Cgroups) -> None:
        """Its number may be another's by then."""
        told: list[str] = []
        later = Later()
        with child("") as process:
            member = Member("1", process.pid, LIMITS, may_fork=False)
            groups.join(later, 1, member, told.append)
            groups.ended(HandReactor(Clock()), 1, lambda: None)
            later.kept[0]()
            assert groups_of(process.pid) == []
            process.kill()
        assert told == ["it has ended"]


class TestNodes:
    def test_what_a_killed_node_has_left_the_next_one_removes(self, groups: Cgroups) -> None:
        """With all that still runs in there; what belongs to a living node stays."""
        make = (
            "from plugin_worker.node.cgroups import Cgroups, Member; import subprocess, sys;"
            "from protocol.limits import DEFAULTS;"
            "g = Cgroups.of_this_machine();"
            "p = subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL);"
            "print(g._put(Member('7', p.pid, DEFAULTS, may_fork=False)), p.pid, flush=True);"
            "sys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", make], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as node:
            assert node.stdout is not None
            left = Watch(int(node.stdout.readline().split()[-1]))
            found = groups_of(left.pid)
            node.kill()  # from here on any node of this machine may remove it
        assert found
        with child("") as process:
            mine = join(groups, process.pid)
            Cgroups.of_this_machine().close()
            assert left.has_ended()
            assert all(group.exists() for group in mine)
            process.kill()
            process.wait()
            groups.leave(AtOnce(), 1)

        def is_gone() -> bool:
            Cgroups.of_this_machine().close()  # harmless where another node is just removing it
            return not any(group.exists() for group in found)

        assert eventually(is_gone)
