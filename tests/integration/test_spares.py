"""A process that was forked in advance becomes the next worker, and no other than it would be."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from plugin_worker.confine import in_force
from plugin_worker.sandbox.policy import STANDARD
from plugin_worker.sandbox.probe import probe
from spiral_host import Host
from tests.hosts import Run, Watch, all_ready, eventually, kill, plugin, zygote_of
from tests.zygote_pair import DEADLINE, ZygotePair


@pytest.fixture(scope="session")
def layers() -> tuple[str, ...]:
    missing = [f"{layer}: {why}" for layer, why in probe().items() if why]
    if missing:
        pytest.skip("this machine says: " + "; ".join(missing))
    return STANDARD


@pytest.fixture
def pair(layers: tuple[str, ...], tmp_path: Path) -> Iterator[ZygotePair]:
    with ZygotePair(tmp_path) as pair:
        pair.send_program()
        yield pair


class TestZygote:
    def test_the_next_worker_is_the_spare(self, pair: ZygotePair) -> None:
        """
        It is confined as others are, seen from outside and from inside; the one after is forked.
        """
        spare = pair.spare()
        worker, next_ = pair.spawn(), pair.spawn()
        assert worker.pid == spare
        for one in (worker, next_):
            assert one.hello() == "confined"
            assert set(in_force(one.pid)) >= {"seccomp", "no-new-privs", "capabilities"}
            assert one.ask("import os; answer = os.getppid()") == os.getpid()
            assert one.ask("import os; os.open('/etc/passwd', os.O_RDONLY)")["errno"]
            assert one.ask("import os; answer = os.environ['HOME']") == str(one.data)

    def test_it_holds_nothing_of_the_zygotes(self, pair: ZygotePair) -> None:
        """
        No more descriptors are open in it than in a worker that was forked when it was wanted.
        """
        pair.spare()
        code = "import os; answer = [fd for fd in range(64) if _is_open(fd)]"
        look = """
            import os
            def _is_open(fd):
                try:
                    os.fstat(fd)
                except OSError:
                    return False
                return True
            """
        opens = []
        for worker in (pair.spawn(), pair.spawn()):
            worker.hello()
            lines = [line.removeprefix(" " * 12) for line in look.splitlines()]
            opens.append(len(worker.ask("\n".join([*lines, code]))))
        assert opens[0] == opens[1]

    def test_filters_that_come_after_it(self, pair: ZygotePair) -> None:
        """
        It is told of them, too.
        """
        spare = pair.spare()
        pair.send_program("subprocess")
        worker = pair.spawn(subprocess=True)
        assert (worker.pid, worker.hello()) == (spare, "confined")

    def test_one_that_has_died(self, pair: ZygotePair) -> None:
        """
        Another worker is forked, and the order is not lost.
        """
        spare = pair.spare()
        os.kill(spare, signal.SIGKILL)
        os.waitpid(spare, 0)
        worker = pair.spawn()
        assert worker.pid != spare
        assert worker.hello() == "confined"

    def test_one_is_enough(self, pair: ZygotePair) -> None:
        """
        The one before leaves when there is another.
        """
        first = pair.spare()
        second = pair.spare()
        assert os.waitpid(first, 0)[0] == first
        assert pair.spawn().pid == second

    def test_it_leaves_with_its_zygote(self, pair: ZygotePair) -> None:
        """
        It would never be told anything.
        """
        spare = pair.spare()
        pair.process.kill()
        pair.process.wait(DEADLINE)
        assert os.waitpid(spare, 0)[0] == spare

    def test_no_room_for_one(self, pair: ZygotePair) -> None:
        """
        The zygote says so, and forks on.
        """
        zygote = psutil.Process(pair.process.pid)
        room = zygote.rlimit(psutil.RLIMIT_NOFILE)
        zygote.rlimit(psutil.RLIMIT_NOFILE, (zygote.num_fds(), room[1]))
        assert pair.spare() == 0
        zygote.rlimit(psutil.RLIMIT_NOFILE, room)
        assert pair.spawn().hello() == "confined"


class TestHost:
    def test_the_next_plugin_is_in_it(self, run: Run) -> None:
        """
        It is there a moment after the last plugin; killed or used, there is another.
        """
        host = run.embed("polite")
        spare = spare_at(host)
        assert all_ready(host.load(plugin("relay")))
        assert host.get("relay").pid == spare
        killed = spare_at(host)
        kill(killed)
        assert all_ready(host.load(plugin("crasher")))
        assert host.get("crasher").pid != killed
        assert host.get_service("relay").call("polite", "add", 1, 2) == {"value": 3}

    def test_it_ends_with_the_host(self, run: Run) -> None:
        """
        And with a zygote that is killed; it is reaped.
        """
        host = run.embed("polite")
        node = psutil.Process(host.status()["node_pid"])
        first = Watch(spare_at(host))
        kill(zygote_of(host))
        assert first.has_ended()
        eventually(lambda: [child.pid for child in node.children()] == [host.get("polite").pid])
        assert host.restart("polite").ok
        last = Watch(spare_at(host))
        host.shutdown()
        assert last.has_ended()

    def test_it_ends_with_the_node(self, run: Run) -> None:
        """
        Even one that is stopped, and does not see that its zygote is gone. It waits by then, so
        it has asked the kernel to be killed.
        """
        host = run.embed("polite")
        spare = spare_at(host)
        last = Watch(spare)
        eventually(lambda: psutil.Process(spare).status() == psutil.STATUS_SLEEPING)
        os.kill(spare, signal.SIGSTOP)
        eventually(lambda: psutil.Process(spare).status() == psutil.STATUS_STOPPED)
        kill(host.status()["node_pid"])
        assert last.has_ended()


def spare_at(host: Host) -> int:
    """Wait for the child of the node that is neither a worker nor the zygote."""
    node = psutil.Process(host.status()["node_pid"])

    def spares() -> set[int]:
        workers = {info.pid for info in host.list_plugins()}
        return {child.pid for child in node.children()} - workers - {zygote_of(host)}

    (spare,) = eventually(spares)
    return spare
