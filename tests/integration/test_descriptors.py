"""A node or a daemon that reaches its limit of descriptors refuses, says so, and goes on."""

import os
import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil
import pytest

from protocol.process import HEADROOM
from spiral_host import Host, NoDaemon
from tests.actors import Aside
from tests.hosts import DEADLINE, Run, all_ready, eventually, kill, plugin

A_WORKER: Final = 16
"""More descriptors than a worker that dies gives back."""


@contextmanager
def limited(pid: int, spare: int) -> Iterator[int]:
    """Let this process open so many descriptors more and no further; gives its limit."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    limit = psutil.Process(pid).num_fds() + spare
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield limit
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def held_by(pid: int) -> set[str]:
    """Name the processes that a node holds: its workers, and the spare."""
    found = set()
    for file in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(FileNotFoundError):  # it has just closed that one
            found |= {line for line in file.read_text().splitlines() if line.startswith("Pid:")}
    return found


class TestApplication:
    def test_a_connection_that_is_closed_wakes_nothing_that_it_has_closed(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Its thread may see that all is over before it is woken; it leaves when it has been.
        """
        host = run.start()
        (thread,) = (it for it in threading.enumerate() if it.name == "spiral-host")
        wake = os.eventfd_write

        def wake_early(fd: int, value: int) -> None:
            wake(fd, value)
            if sys._getframe(1).f_code.co_name == "close":
                thread.join(0.2)  # it would be through with leaving
                wake(fd, value)

        monkeypatch.setattr(os, "eventfd_write", wake_early)
        host.close()
        assert not thread.is_alive()

    def test_a_connection_whose_thread_has_ended_keeps_nobody_waiting(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        It would be a bug of ours; whoever asks, or has asked before, is told.
        """
        died: list[type[BaseException] | None] = []
        monkeypatch.setattr(threading, "excepthook", lambda hook: died.append(hook.exc_type))
        host = run.start()
        (thread,) = (it for it in threading.enumerate() if it.name == "spiral-host")

        def fail(_: int) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr("spiral_host.client.hear", fail)
        for _ in range(2):
            with pytest.raises(NoDaemon, match="thread has ended|was closed"):
                host.status()
        thread.join(DEADLINE)
        assert died == [ZeroDivisionError]
        monkeypatch.undo()
        host.close()


class TestNode:
    def test_a_start_that_finds_no_room_is_refused_and_tried_again(self, run: Run) -> None:
        """The reason names the limit; what runs goes on; once there is room the plugin starts."""
        host = run.start("polite", "relay")
        node = host.status()["node_pid"]
        calls = host.get_service("polite")
        assert calls.add(1, 2) == 3
        with limited(node, HEADROOM - A_WORKER) as limit:
            pid = host.get("relay").pid
            assert pid is not None
            kill(pid)

            why = f"the limit of {limit} descriptors is reached"
            assert eventually(lambda: why in host.get("relay").reason)
            assert calls.add(1, 2) == 3
        assert eventually(lambda: host.get("relay").state == "ready")
        assert host.status()["node_pid"] == node

    def test_no_room_at_all_ends_nobody(self, run: Run) -> None:
        """Not one descriptor is left: deaths are noticed, and what was called is answered."""
        host = run.start("polite", "relay")
        node = host.status()["node_pid"]
        calls = host.get_service("polite")
        assert calls.add(1, 2) == 3
        with limited(node, 0):
            host.health()  # whoever is measured is not seen, and nobody ends of that
            pid = host.get("relay").pid
            assert pid is not None
            kill(pid)
            assert eventually(lambda: host.get("relay").reason)
            assert calls.add(1, 2) == 3
        assert eventually(lambda: host.get("relay").state == "ready")
        assert host.status()["node_pid"] == node

    def test_nothing_is_kept_of_starts_that_failed(self, run: Run) -> None:
        """The node has as many descriptors as before, however often it was tried."""
        host = run.start("polite")
        node = psutil.Process(host.status()["node_pid"])
        eventually(lambda: len(held_by(node.pid)) == 2)  # the plugin, and the spare since a moment
        before = node.num_fds()
        with limited(node.pid, HEADROOM - 1):
            loaded = Aside(lambda: host.load([plugin("relay")]))
            assert eventually(lambda: host.list_plugins()[1:] and host.get("relay").reason)
            # One that it looks into /proc with, or makes another attempt with, is closed soon.
            assert eventually(lambda: node.num_fds() <= before)
        assert all_ready(loaded.outcome())


class TestDaemon:
    def test_nobody_new_is_let_in_when_it_is_crowded(self, run: Run) -> None:
        """Those who are there stay, the alarm says why; with room again, newcomers come in."""
        host = run.start("polite")
        used = psutil.Process(run.daemon.pid).num_fds()
        with limited(run.daemon.pid, used // 8):
            said = "descriptors are in use, so nobody new is let in"
            eventually(lambda: [alarm for alarm in host.status()["alarms"] if said in alarm])

            with pytest.raises(NoDaemon):
                Host.connect(run.run_dir, 0.5)
            assert host.get_service("polite").add(1, 2) == 3
        assert eventually(lambda: not host.status()["alarms"])
        assert run.connect().get("polite").state == "ready"
        assert run.daemon.poll() is None

    def test_a_crowd_does_not_end_it(self, run: Run) -> None:
        """One application after the other comes, until there is no room: the daemon lives."""
        host = run.start("polite")
        crowd: list[Host] = []
        with limited(run.daemon.pid, 120):
            with suppress(NoDaemon):
                while len(crowd) < 60:
                    # Those for whom there is room are waited for; it ends with one who waits less.
                    patience_s = 2.0 if len(crowd) > 5 else DEADLINE
                    crowd.append(Host.connect(run.run_dir, patience_s))
            assert 5 < len(crowd) < 60
            assert host.get_service("polite").add(1, 2) == 3
            for one in crowd:
                one.close()
            assert eventually(lambda: not host.status()["alarms"])
            assert run.connect().get("polite").state == "ready"
        assert run.daemon.poll() is None
