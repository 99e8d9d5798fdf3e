"""A disk that takes nothing more stops nobody: supervision goes on, and `status` says so."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.hosts import Run, all_ready, eventually, kill, plugin

SIZE: Final = 1 << 20
"""Bytes: more than the pages of memory that a node makes for a worker, which count as files."""


@contextmanager
def full_disk(pid: int, size: int = 0) -> Iterator[None]:
    """Let no file that this process writes grow beyond that size."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


class TestFullDisk:
    def test_the_daemon_goes_on_and_remembers_once_there_is_room(self, run: Run) -> None:
        """Loads and restarts are done; a daemon that comes after knows of them."""
        host = run.start("polite")
        with full_disk(run.daemon.pid):
            assert all_ready(host.load([plugin("relay")]))
            host.set_config("colour", "blue")
            pid = host.get("polite").pid
            assert pid is not None
            kill(pid)

            assert eventually(lambda: host.get("polite").restarts == 1)
            assert eventually(lambda: host.get("polite").state == "ready")
            eventually(lambda: "the store cannot be written" in " ".join(host.status()["alarms"]))
            eventually(lambda: "changes wait for it" in " ".join(host.status()["alarms"]))

        assert eventually(lambda: "the store" not in " ".join(host.status()["alarms"]))
        run.kill_daemon()
        run.start_daemon()
        host = run.connect()
        assert [info.id for info in host.list_plugins()] == ["polite", "relay"]
        assert host.get("polite").restarts == 1

    def test_the_node_goes_on(self, run: Run) -> None:
        """Workers start, print and die; what they print is lost."""
        host = run.start("polite", "flooder")
        with full_disk(host.status()["node_pid"], SIZE):
            host.get_service("flooder").say(4 << 20)
            pid = host.get("polite").pid
            assert pid is not None
            kill(pid)
            assert eventually(lambda: host.get("polite").restarts == 1)
            assert eventually(lambda: host.get("polite").state == "ready")
            assert host.get_service("polite").add(1, 2) == 3
        host.get_service("flooder").say(1)
        host.unload("flooder")

        log = (run.run_dir / "logs" / "flooder.log").read_text()
        assert f"the disk had no room for {(4 << 20) - SIZE} bytes of output" in log
