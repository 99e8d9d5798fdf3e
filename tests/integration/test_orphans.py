"""Nothing that a plugin has started outlives it; strangers are never touched."""

import os
import select
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

import psutil
import pytest

from spiral_host import Host, WorkerLost
from tests.hosts import DEADLINE, Run, eventually, kill


@pytest.fixture
def host(run: Run) -> Host:
    """A host whose plugins can start processes."""
    return run.embed("forker", "polite", sandbox="off")


@pytest.fixture
def mark() -> str:
    """What this test's processes carry in their environment."""
    return token_hex(8)


@pytest.fixture
def stranger(mark: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of this test's own that carries the mark too."""
    with subprocess.Popen(["sleep", "600"], env={"SPIRAL_HOST_TEST_MARK": mark}) as process:
        yield process
        process.kill()


def marked(mark: str) -> list[psutil.Process]:
    """Find every process that carries it."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("SPIRAL_HOST_TEST_MARK") == mark:
                found.append(process)
    return found


def started(mark: str, beside: int = 0) -> psutil.Process:
    """Wait for the one process that carries it; whoever has just been executed carries nothing."""

    def found() -> list[psutil.Process]:
        return [process for process in marked(mark) if process.pid != beside]

    (process,) = eventually(found)
    return process


def is_dead(process: psutil.Process) -> bool:
    """Say whether it has ended and nobody has reaped it."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def end(host: Host) -> None:
    """Kill the plugin's worker."""
    pid = host.get("forker").pid
    assert pid is not None
    kill(pid)


class TestOrphans:
    def test_a_child_ends_with_its_worker(self, host: Host, mark: str) -> None:
        """It lives as long as the plugin that started it."""
        host.get_service("forker").child(mark)
        child = started(mark)
        assert child.ppid() == host.get("forker").pid
        end(host)

        assert eventually(lambda: not marked(mark))

    def test_a_chain_of_fifty_ends_to_the_last(self, host: Host, mark: str) -> None:
        """Each becomes the node's when the one before it ends."""
        host.get_service("forker").chain(mark, 50)
        assert eventually(lambda: len(marked(mark)) == 50)
        end(host)

        assert eventually(lambda: not marked(mark))

    def test_one_that_has_daemonised_ends_with_its_worker(self, host: Host, mark: str) -> None:
        """Neither a session of its own nor a parent that has ended helps it."""
        host.get_service("forker").daemon(mark)
        end(host)

        assert eventually(lambda: not marked(mark))

    def test_one_that_has_daemonised_ends_while_its_worker_lives(
        self, host: Host, mark: str
    ) -> None:
        """Seldom, but without any death the node looks for those whose parent has ended."""
        service = host.get_service("forker")
        service.daemon(mark)

        assert eventually(lambda: not marked(mark))
        assert host.get("forker").restarts == 0

    def test_one_that_goes_on_forking_is_caught(self, host: Host, tmp_path: Path) -> None:
        """It is another process every two milliseconds; the end of its fifo says that none is."""
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        with os.fdopen(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), "rb") as held:
            host.get_service("forker").runaway(str(fifo))
            assert select.select([held], [], [], 0)[0] == []
            end(host)

            assert select.select([held], [], [], DEADLINE)[0]
            assert held.read() == b""

    def test_an_unloaded_plugin_leaves_nothing(self, host: Host, mark: str) -> None:
        """An orderly end is one too."""
        host.get_service("forker").child(mark)
        host.unload("forker")

        assert eventually(lambda: not marked(mark))

    def test_a_node_that_leaves_leaves_nothing(self, run: Run, host: Host, mark: str) -> None:
        """What daemonised in the last moment ends before the node does."""
        host.get_service("forker").chain(mark, 5)
        host.get_service("forker").daemon(mark)
        host.shutdown()

        assert not marked(mark)
        assert not run.processes()

    def test_no_dead_child_is_kept(self, host: Host, mark: str) -> None:
        """The node reaps what it has ended."""
        host.get_service("forker").chain(mark, 5)
        end(host)
        node = psutil.Process(host.status()["node_pid"])

        def dead() -> list[psutil.Process]:
            return [child for child in node.children() if is_dead(child)]

        assert eventually(lambda: not marked(mark) and not dead())

    def test_what_another_living_worker_has_started_is_its_own_business(
        self, host: Host, mark: str, stranger: subprocess.Popen[bytes]
    ) -> None:
        """One worker's death ends nobody else's child, and no stranger, whatever it looks like."""
        host.get_service("forker").child(mark)
        child = started(mark, beside=stranger.pid)
        polite = host.get("polite").pid
        assert polite is not None
        kill(polite)
        host.get_service("forker").daemon(token := mark[::-1])

        assert eventually(lambda: not marked(token))  # it has been looked, more than once
        assert eventually(lambda: host.get("polite").state == "ready")
        assert child.is_running()
        end(host)
        assert eventually(lambda: not child.is_running())
        assert stranger.poll() is None

    def test_workers_that_are_just_being_forked_are_spared(self, host: Host) -> None:
        """Deaths and births at the same time: each plugin dies as often as it was killed."""
        for _ in range(10):
            end(host)
            host.restart("polite")
            host.restart("forker")

        assert host.get("forker").state == host.get("polite").state == "ready"
        assert host.get("polite").restarts == 0

    def test_a_plugin_that_closes_its_umbilical_is_ended(self, host: Host, mark: str) -> None:
        """It is started again, its report says why, and what it had started is gone."""
        host.get_service("forker").child(mark)
        with pytest.raises(WorkerLost):
            host.get_service("forker").hang_up()

        assert eventually(lambda: host.get("forker").restarts == 1)
        assert eventually(lambda: host.get("forker").state == "ready")
        assert eventually(lambda: not marked(mark))
        # Reports are written beside the daemon's loop.
        assert "it closed its umbilical" in str(eventually(lambda: host.report("forker")))

    def test_status_says_what_becomes_of_them(self, host: Host) -> None:
        """By the subreaper where they can be made at all."""
        assert "subreaper" in host.status()["sandbox"]["grandchildren"]
