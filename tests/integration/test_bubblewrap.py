"""The start of one worker by bubblewrap, with scripts in its place that fail in every way.

The test is the node; what is not left behind matters as much as what is answered.
"""

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from plugin_worker.node import bubblewrap
from plugin_worker.node.bubblewrap import Bubblewrap
from plugin_worker.node.guard import Guard
from plugin_worker.node.launcher import Order, Started
from plugin_worker.sandbox.bwrap import in_namespaces
from plugin_worker.sandbox.confinement import Confinement
from protocol.reactor import Reactor
from tests.hosts import DEADLINE
from tests.immunity.parts import descriptors

SILENT = "exec sleep 600"
COMPLAINS = "echo 'bwrap: setting up uid map: Permission denied' >&2; exit 1"
HANGS_UP = f"exec {sys.executable} -c 'import os; os.closerange(3, 256); print(\"no\")'"
SAYS_READY = f"""exec {sys.executable} -c '
import socket, sys, time, msgpack
from protocol.version import VERSION
node = socket.socket(fileno=int(sys.argv[-1]))
node.send(msgpack.packb({{"ready": 1, "pid": 1, "protocol": VERSION + OFF}}))
node.recv(1 << 20)
BEHAVE
' "$@" """
DIES = SAYS_READY.replace("OFF", "0").replace("BEHAVE", 'sys.exit("enough")')
REFUSES = SAYS_READY.replace("OFF", "0").replace(
    "BEHAVE", 'node.send(msgpack.packb({"incarnation": 1, "error": "not today"})); time.sleep(600)'
)
SPEAKS_OTHERWISE = SAYS_READY.replace("OFF", "1").replace("BEHAVE", "time.sleep(600)")


class Nest:
    """A node of which there is nothing but the launcher."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reactor = Reactor()
        self.bubblewrap = Bubblewrap(self.reactor, folder / "lib")
        self.started: list[Started] = []
        self.failed: list[str] = []
        self.taken = 0
        self._folder = folder
        self._monkeypatch = monkeypatch

    def put(self, script: str) -> None:
        """Have this run in bubblewrap's place."""
        program = self._folder / "bwrap"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        root = Path(bubblewrap.__file__).parents[2]
        self._monkeypatch.setenv("PATH", f"{self._folder}:{os.environ['PATH']}")
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(root), *sys.path]),
        }

    def launch(self) -> None:
        def taken() -> None:
            self.taken += 1

        confinement = Confinement(
            read=(), write=(), tmp=str(self._folder), node_pid=1, layers=("namespaces",)
        )
        self.bubblewrap.launch(
            Order(
                incarnation=1,
                confinement=in_namespaces(confinement, 8),
                environment=self.environment,
                frame=b"\x80",
                descriptors=(0, 1, 1, 1),
                taken=taken,
                started=self.started.append,
                failed=self.failed.append,
            )
        )

    def turn_until(self, happened: Callable[[], object]) -> None:
        until = time.monotonic() + DEADLINE
        while not happened():
            assert time.monotonic() < until
            self.reactor.turn(0.1)

    def close(self) -> None:
        self.bubblewrap.close()
        self.reactor.close()


@pytest.fixture
def nest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nest]:
    nest = Nest(tmp_path, monkeypatch)
    yield nest
    nest.close()


class TestFailures:
    @pytest.mark.parametrize(
        ("script", "why"),
        [
            (COMPLAINS, "bwrap: setting up uid map: Permission denied; cure: let bwrap make"),
            ("exit 3", "bwrap ended with 3"),
            ("kill -9 $$", "bwrap ended with -9"),
            (HANGS_UP, "no; cure: "),
            (DIES, "enough"),
            (REFUSES, "not today"),
            (SPEAKS_OTHERWISE, "it speaks protocol"),
        ],
        ids=["complains", "fails", "dies", "hangs up", "dies late", "refuses", "speaks otherwise"],
    )
    def test_each_is_answered_once_and_leaves_nothing(
        self, nest: Nest, script: str, why: str
    ) -> None:
        """With its own words, the layer and a cure; no process, no descriptor."""
        nest.put(script)
        gc.collect()  # what earlier tests have left must not go meanwhile
        before = descriptors(os.getpid())
        nest.launch()
        nest.turn_until(lambda: nest.failed and not nest.bubblewrap.pids)
        assert len(nest.failed) == 1
        assert nest.failed[0].startswith("namespaces: ")
        assert why in nest.failed[0]
        assert "cure: " in nest.failed[0]
        assert nest.started == []
        assert nest.taken == 0  # the caller may try otherwise
        assert descriptors(os.getpid()) == before
        assert psutil.Process().children() == []

    def test_one_that_is_silent_is_ended(self, nest: Nest, monkeypatch: pytest.MonkeyPatch) -> None:
        """A start has a deadline; until then the node's loop turns."""
        monkeypatch.setattr(bubblewrap, "START_S", 0.3)
        nest.put(SILENT)
        nest.launch()
        turns: list[None] = []
        nest.reactor.call_later(0.05, lambda: turns.append(None))
        nest.turn_until(lambda: nest.failed and not nest.bubblewrap.pids)
        assert turns
        assert "it was not ready within 0.3 s" in nest.failed[0]

    def test_none_there_is_said_at_once(self, nest: Nest) -> None:
        """No process is made for that."""
        nest.put("")
        nest._monkeypatch.setenv("PATH", "/nowhere")
        nest.launch()
        assert "bwrap is not on the PATH; cure: install bubblewrap" in nest.failed[0]

    def test_a_node_that_leaves_ends_those_on_their_way(self, nest: Nest) -> None:
        """And reaps them."""
        nest.put(SILENT)
        nest.launch()
        (pid,) = nest.bubblewrap.pids
        nest.bubblewrap.close()
        assert not psutil.pid_exists(pid)


class TestGuard:
    @pytest.fixture
    def pair(self, nest: Nest) -> Iterator[tuple[Guard, subprocess.Popen[bytes], int]]:
        """What stands for bubblewrap, what for its worker, and a pidfd of that."""
        above, worker = (subprocess.Popen(["sleep", "600"]) for _ in range(2))
        pidfd = os.pidfd_open(worker.pid)
        guard = Guard(nest.reactor, above, lambda: None)
        yield guard, worker, pidfd
        guard.kill()
        guard.wait()
        worker.kill()
        worker.wait()
        nest.reactor.forget(pidfd)
        os.close(pidfd)

    def test_a_worker_that_has_ended_takes_it_along(
        self, nest: Nest, pair: tuple[Guard, subprocess.Popen[bytes], int]
    ) -> None:
        """Soon, should it not end by itself; the death is told when both have."""
        guard, worker, pidfd = pair
        died: list[None] = []
        guard.follow(pidfd, lambda: died.append(None))
        worker.kill()
        nest.turn_until(lambda: died)
        assert guard.code == -signal.SIGKILL
        assert len(died) == 1

    def test_it_takes_its_worker_along(
        self, nest: Nest, pair: tuple[Guard, subprocess.Popen[bytes], int]
    ) -> None:
        """By signal too, and not only by what the kernel does."""
        guard, worker, pidfd = pair
        died: list[None] = []
        guard.follow(pidfd, lambda: died.append(None))
        guard.kill()
        nest.turn_until(lambda: died)
        assert worker.wait() == -signal.SIGKILL
        assert guard.verdict(pidfd) == ("signal", signal.SIGKILL)

    def test_it_had_ended_before_anybody_followed(
        self, nest: Nest, pair: tuple[Guard, subprocess.Popen[bytes], int]
    ) -> None:
        """Its worker is ended and the death told all the same."""
        guard, worker, pidfd = pair
        guard.kill()
        guard.wait()
        died: list[None] = []
        guard.follow(pidfd, lambda: died.append(None))
        nest.turn_until(lambda: died)
        assert worker.wait() == -signal.SIGKILL
