import fcntl
import os
from pathlib import Path

import pytest

from plugin_worker.node import trees
from plugin_worker.node.cgroups import Cgroups
from plugin_worker.node.trees import CONTROLLERS, Nest, Tree, find_trees
from tests.descriptors import count_open

V1_MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/ab /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
37 31 0:34 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
38 31 0:34 / /mnt/again rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
"""
V1_GROUPS = """\
8:pids:/
4:memory:/docker/ab/own
2:cpu,cpuacct:/user.slice
1:name=systemd:/x
0::/
"""
V2_MOUNTS = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


class TestFindTrees:
    def test_version_1_has_a_tree_for_each_controller(self) -> None:
        """
        Below what is mounted, each once, and only those that hold limits of ours.
        """
        assert set(find_trees(V1_MOUNTS, V1_GROUPS)) == {
            Tree(1, ("cpu",), Path("/sys/fs/cgroup/cpu,cpuacct/user.slice")),
            Tree(1, ("memory",), Path("/sys/fs/cgroup/memory/own")),
            Tree(1, ("pids",), Path("/sys/fs/cgroup/pids")),
        }

    def test_version_2_has_one(self) -> None:
        """
        What it has is found out where it is.
        """
        groups = "0::/user.slice/user@1000.service/host\n"
        own = Path("/sys/fs/cgroup/user.slice/user@1000.service/host")
        assert list(find_trees(V2_MOUNTS, groups)) == [Tree(2, CONTROLLERS, own)]

    def test_a_mount_without_a_name_is_no_obstacle(self) -> None:
        """
        Nor a line that is none.
        """
        nameless = "29 23 0:25 / /tmp rw - tmpfs  rw\n28 23\n\n"
        cgroup = V2_MOUNTS.replace("cgroup2 cgroup2", "cgroup2 ")
        (tree,) = find_trees(nameless + cgroup, "0::/own\n")
        assert tree.own == Path("/sys/fs/cgroup/own")

    @pytest.mark.parametrize("groups", ["", "0::/../../other\n", "4:memory:/elsewhere\n"])
    def test_a_group_that_is_not_below_what_is_mounted_is_none(self, groups: str) -> None:
        """
        Nor one outside of our namespace: it is somebody else's.
        """
        mounts = V2_MOUNTS if "::" in groups else V1_MOUNTS
        assert list(find_trees(mounts, groups)) == []


class TestDelegation:
    def test_nothing_is_made_where_nothing_is_handed_down(self, tmp_path: Path) -> None:
        """
        A group of version 2 with processes in it, in one that nobody has marked as ours.
        """
        own = tmp_path / "own"
        own.mkdir()
        (own / "cgroup.controllers").write_text("cpu memory pids\n")
        with pytest.raises(OSError, match="Delegate=yes"):
            Nest(Tree(2, CONTROLLERS, own))
        assert [path.name for path in own.iterdir()] == ["cgroup.controllers"]

    def test_without_controllers_there_is_nothing_to_hold_with(self, tmp_path: Path) -> None:
        """
        As where version 1 has them all.
        """
        (tmp_path / "cgroup.controllers").write_text("hugetlb\n")
        with pytest.raises(OSError, match="has none of memory, pids, cpu"):
            Nest(Tree(2, CONTROLLERS, tmp_path))
        assert not (tmp_path / "spiral-host").exists()


class TestFolders:
    """In folders that are no groups: how nodes get out of each other's way is the same."""

    def test_what_is_dead_is_locked_until_it_is_gone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Else a node could begin to live in it, and be ended.
        """
        dead = tmp_path / "spiral-host" / "1.dead"
        (dead / "7").mkdir(parents=True)
        locked: list[bool] = []

        def end_members(_: Path) -> None:
            descriptor = os.open(dead, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                locked.append(False)
            except BlockingIOError:
                locked.append(True)
            finally:
                os.close(descriptor)

        monkeypatch.setattr(trees, "end_members", end_members)
        Nest(Tree(1, ("pids",), tmp_path)).close()
        assert locked == [True, True]
        assert not dead.exists()

    def test_one_that_another_node_sweeps_is_left_to_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        It was not locked yet: the next try makes another, and keeps nothing of the first.
        """
        before, tries = count_open(), list[int]()
        flock = fcntl.flock

        def swept(descriptor: int, how: int) -> None:
            tries.append(descriptor)
            if len(tries) == 1:
                raise BlockingIOError
            flock(descriptor, how)

        monkeypatch.setattr(fcntl, "flock", swept)
        nest = Nest(Tree(1, ("pids",), tmp_path))
        assert count_open() == before + 1
        nest.close()
        assert count_open() == before
        assert not (tmp_path / "spiral-host").exists()

    def test_where_nothing_can_be_forked_there_are_no_groups(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        And the node starts.
        """

        def fork() -> int:
            raise BlockingIOError(11, "no more processes")

        monkeypatch.setattr(os, "fork", fork)
        before = count_open()
        groups = Cgroups(f"1 0 0:1 / {tmp_path} rw - cgroup cgroup rw,pids\n", "1:pids:/\n")
        assert str(groups) == "no cgroup (no process can be made to try it: no more processes)"
        assert count_open() == before
