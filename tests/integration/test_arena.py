"""Arrays and buffers travel by shared memory, and nothing of it is left behind."""

import gc
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocol.errors import LocalProtocolError, SpiralHostError, WorkerLost
from spiral_host import Host
from tests.hosts import DEADLINE, PLUGINS, Run, all_ready, eventually, new_run

MIB = 1 << 20


def node_segments(host: Host) -> int:
    """Count the descriptors of segments that the node holds."""
    found = 0
    for fd in Path(f"/proc/{host.status()['node_pid']}/fd").iterdir():
        try:
            found += "memfd:segment" in str(fd.readlink())
        except FileNotFoundError:
            continue
    return found


def mapped(host: Host) -> tuple[int, int]:
    """Say what this process has mapped."""
    gc.collect()
    segments, size = host._connection.arena.mapped
    return segments, size


def keep_many(tensors: Any) -> None:  # noqa: ANN401 - a stub
    """Send more than a lane may carry at once to one who keeps it."""
    for _ in range(20):
        tensors.keep(np.zeros(8 * MIB))


class Hosting:
    """A host with two plugins that exchange arrays."""

    def __init__(self, run: Run) -> None:
        self.host = run.embed("tensors", "relay")
        other = run._base / "other"
        other.mkdir()
        source = PLUGINS / "tensors"
        (other / "tensors.py").write_text((source / "tensors.py").read_text())
        manifest = (source / "plugin.toml").read_text()
        (other / "plugin.toml").write_text(manifest.replace('id = "tensors"', 'id = "others"'))
        assert all_ready(self.host.load([str(other)]))
        self.tensors: Any = self.host.get_service("tensors")
        self.others: Any = self.host.get_service("others")


@pytest.fixture
def hosting() -> Iterator[Hosting]:
    with new_run() as run:
        hosting = Hosting(run)
        yield hosting
        for plugin in ("tensors", "others", "relay"):
            hosting.host.unload(plugin)
        eventually(lambda: mapped(hosting.host) == (0, 0))
        eventually(lambda: node_segments(hosting.host) == 0)


class TestArrays:
    def test_to_a_worker_and_back(self, hosting: Hosting) -> None:
        """64 MB each way, in frames of a few hundred bytes."""
        array = np.arange(8_000_000.0)
        assert hosting.tensors.total(array) == array.sum()
        given = hosting.tensors.give(2.5, 8_000_000)
        assert (given == 2.5).all()
        assert not given.flags.writeable

    def test_from_worker_to_worker(self, hosting: Hosting) -> None:
        """Confined processes map each other's segments, and reuse them call after call."""
        answers = hosting.tensors.call_with("others", "total", MIB, 30)
        assert answers == [float(number) * MIB for number in range(30)]
        assert hosting.tensors.mapped()[0] <= 3
        assert hosting.others.mapped()[0] <= 3

    def test_buffers(self, hosting: Hosting) -> None:
        """Bytes arrive as bytes, others as memoryviews; results too."""
        assert hosting.tensors.kind(b"x" * (5 * MIB)) == ["bytes", 5 * MIB]
        assert hosting.tensors.kind(bytearray(5 * MIB)) == ["memoryview", 5 * MIB]
        sent = os.urandom(5 * MIB)
        arrived = hosting.tensors.pass_on("others", "pass_on", "tensors", "kind", sent)
        assert arrived == ["bytes", 5 * MIB]

    def test_through_several_hands(self, hosting: Hosting) -> None:
        """What arrived can be sent on; each reader has a copy of its own."""
        array = np.arange(100_000.0)
        assert hosting.tensors.pass_on("others", "total", array) == array.sum()

    def test_from_many_threads(self, hosting: Hosting) -> None:
        """Each has a lane and segments of its own, which go when it ends."""
        totals = [0.0] * 6

        def work(me: int) -> None:
            for _ in range(10):
                totals[me] += hosting.tensors.total(np.full(50_000, float(me)))

        threads = [threading.Thread(target=work, args=(me,)) for me in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        assert totals == [500_000.0 * me for me in range(6)]
        del threads, thread
        eventually(lambda: mapped(hosting.host) == (0, 0))
        eventually(lambda: hosting.tensors.mapped() == [0, 0])

    def test_nobody_writes_to_what_arrived(self, hosting: Hosting) -> None:
        """Neither by numpy nor by the kernel: the segment is sealed."""
        said = hosting.tensors.try_to_write(np.zeros(MIB))
        assert said == ["ValueError", "PermissionError"]


class TestOwn:
    def test_of_an_application(self, hosting: Hosting) -> None:
        """It is sent without a copy: its reader sees what is written later."""
        own = hosting.host.empty((1000, 1000), np.float64)
        assert hosting.tensors.keep(own) == hosting.others.keep(own[10:]) == 1
        own[:] = 7
        assert hosting.tensors.look() == hosting.others.look() == [7.0]
        hosting.tensors.drop()
        hosting.others.drop()

    def test_of_a_worker(self, hosting: Hosting) -> None:
        """Each result is the same memory; it goes when nobody looks any more."""
        first = hosting.tensors.own(1.0, 8_000_000)
        second = hosting.tensors.own(2.0, 8_000_000)
        assert first[0] == second[0] == 2.0
        assert mapped(hosting.host)[0] == 1
        hosting.tensors.forget_own()
        assert first[5] == 2.0
        del first, second
        hosting.tensors.look()
        eventually(lambda: mapped(hosting.host) == (0, 0))
        eventually(lambda: hosting.tensors.mapped() == [0, 0])


class TestLimits:
    def test_three_gigabytes(self, hosting: Hosting) -> None:
        """Refused at once, where it was sent; the lane goes on."""
        huge = np.broadcast_to(np.zeros(1), (3 << 27,))
        with pytest.raises(LocalProtocolError, match="3221225472 bytes are more than"):
            hosting.tensors.total(huge)
        assert hosting.tensors.total(np.ones(MIB)) == MIB

    def test_a_reader_that_keeps_everything(self, hosting: Hosting) -> None:
        """Its senders are told what is the matter, and go on when it lets go."""
        with pytest.raises(SpiralHostError, match="the other side still holds"):
            keep_many(hosting.tensors)
        hosting.tensors.drop()
        hosting.tensors.look()
        assert hosting.tensors.keep(np.zeros(8 * MIB)) == 1


class TestDeath:
    def test_what_a_dead_worker_gave_stays_readable(self, hosting: Hosting) -> None:
        """Until nobody looks at it; the memory is the node's and the reader's, not the writer's."""
        given = hosting.tensors.give(3.0, MIB)
        with pytest.raises(WorkerLost):
            hosting.tensors.end()
        assert (given == 3.0).all()
        del given
        eventually(lambda: mapped(hosting.host) == (0, 0))
        assert hosting.host.wait_service("tensors", DEADLINE).total(np.ones(MIB)) == MIB

    def test_what_a_dead_worker_kept_is_free(self, hosting: Hosting) -> None:
        """Its senders' segments go with its lanes."""
        hosting.tensors.keep(np.zeros(8 * MIB))
        with pytest.raises(WorkerLost):
            hosting.tensors.end()
        eventually(lambda: mapped(hosting.host) == (0, 0))


class TestTheEndOfAProcess:
    @pytest.mark.parametrize("end", ["leave", "fork", "cycle"])
    def test_nothing_is_said(self, end: str) -> None:
        """Neither at the interpreter's end nor in a forked child do views complain, or tell."""
        code = f"""
            import gc, os
            import numpy as np
            from tests.arenas import Machine
            machine = Machine()
            writer, reader = machine.carriers()
            own = machine.writer.empty(100_000, "f8")
            kept = reader.unpack(writer.pack((1, 0, [own, np.ones(100_000), b"x" * 100_000])))
            if {end!r} == "fork":
                if os.fork():
                    assert os.wait()[1] == 0
                else:
                    before = len(machine.segments)
                    del own, kept, writer, reader
                    gc.collect()
                    assert len(machine.segments) == before
                    os._exit(0)
            elif {end!r} == "cycle":
                kept.append(kept)
                own = [own]
                own.append(own)
        """
        ended = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            check=False,
            timeout=DEADLINE,
        )
        assert (ended.returncode, ended.stderr) == (0, b"")
