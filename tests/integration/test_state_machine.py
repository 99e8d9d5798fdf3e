"""Any order of load, unload, kill, stop, call, publish and the daemon's death keeps its promises.

Hypothesis chooses the steps, real processes take them, and a model says what must hold after each.
A failure prints its steps as a program. `--machine-runs` and `--machine-steps` make it longer.
"""

import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from spiral_host import (
    Cancelled,
    DeadlineExceeded,
    NoDaemon,
    PluginEvent,
    UsageError,
)
from tests.hosts import DEADLINE, Run, Watch, eventually, new_run

IDS: Final = ("one", "two", "three")
NEEDS: Final = {"two": "one"}
FORGIVEN: Final = 4
"""Deaths within a minute of which no plugin is quarantined."""

SHORT_S: Final = 0.2

CODE: Final = """
import asyncio
import os

from plugin_worker import Plugin


class Service:
    def add(self, first, second):
        return first + second

    def pid(self):
        return os.getpid()

    async def wait(self):
        await asyncio.sleep(60)


class Main(Plugin):
    def on_load(self, ctx):
        ctx.register_service("{id}", Service())
"""

MANIFEST: Final = """
[plugin]
id = "{id}"
version = "1.0.0"
entry = "{id}:Main"
[plugin.dependencies]
{needs}
"""


@dataclass
class Living:
    """What is known of a plugin that is loaded and ready."""

    pid: int
    restarts: int
    deaths: int = 0
    stopped: float = 0.0
    """Since when it is held by SIGSTOP, or 0."""
    process: Watch = field(init=False)
    """The process itself; it may have been replaced if it was held for too long."""

    def __post_init__(self) -> None:
        self.process = Watch(self.pid)

    def signal(self, number: int) -> None:
        """Signal it, if it is still there."""
        with suppress(ProcessLookupError):
            self.process.kill(number)


class Machine(RuleBasedStateMachine):
    """One run directory; its daemon, node, workers and one application."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._run: Run = self._stack.enter_context(new_run())
        self._plugins = Path(tempfile.mkdtemp(prefix="sh-", dir="/tmp"))
        self._stack.callback(shutil.rmtree, self._plugins)
        self._living: dict[str, Living] = {}
        self._published = 0
        self._seen: list[int] = []

    @initialize()
    def start(self) -> None:
        """Start a daemon, connect, listen, and load everything: most steps need something there."""
        for name in IDS:
            folder = self._plugins / name
            folder.mkdir()
            (folder / f"{name}.py").write_text(CODE.format(id=name))
            needs = f'{NEEDS[name]} = "*"' if name in NEEDS else ""
            (folder / "plugin.toml").write_text(MANIFEST.format(id=name, needs=needs))
        self._run.start_daemon()
        self._host = self._run.connect()
        self._host.subscribe("Number", self._hear)
        for name in IDS:
            self.load(name)

    def _hear(self, event: PluginEvent) -> None:
        self._seen.append(int(str(event.to_dict()["data"])))

    def teardown(self) -> None:
        """Let what is held go on, stop everything; nothing may be left."""
        for living in self._living.values():
            if living.stopped:
                living.signal(signal.SIGCONT)
        self._stack.close()

    # --- what people do ---------------------------------------------------------------------------

    @rule(name=st.sampled_from(IDS))
    def load(self, name: str) -> None:
        """Load a plugin; one that is there stays, one whose dependency is missing is not ready."""
        (result,) = self._host.load(str(self._plugins / name))
        if name in self._living:
            assert result.state == "refused", result
        elif NEEDS.get(name, name) in {name, *self._living}:
            assert result.ok, result
            self._learn(name)
        else:
            assert result.state == "blocked", result
            self._host.unload(name)

    @rule(name=st.sampled_from(IDS))
    def unload(self, name: str) -> None:
        """Unload a plugin; what others need stays."""
        needed = any(need == name and other in self._living for other, need in NEEDS.items())
        if name not in self._living or needed:
            with pytest.raises(UsageError):
                self._host.unload(name)
            return
        self._go_on(name)
        gone = self._living[name].process
        self._host.unload(name)
        assert gone.has_ended(0)
        del self._living[name]

    @precondition(lambda self: self._living)
    @rule(data=st.data())
    def restart(self, data: st.DataObject) -> None:
        """Restart a plugin; it is another process, and forgiven."""
        name = self._pick(data)
        self._go_on(name)
        gone = self._living[name].process
        result = self._host.restart(name)
        assert result.ok, result
        assert gone.has_ended(0)
        self._learn(name)

    # --- what goes wrong --------------------------------------------------------------------------

    @precondition(lambda self: self._mortal())
    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        """Kill a worker; another one comes, counted."""
        name = data.draw(st.sampled_from(self._mortal()))
        self._living[name].signal(signal.SIGKILL)
        self._comes_back(name)

    @precondition(lambda self: self._running())
    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        """Hold a worker; a call to it has its outcome all the same."""
        name = data.draw(st.sampled_from(self._running()))
        stub = self._host.get_service(name)
        assert stub.pid() == self._living[name].pid
        self._living[name].signal(signal.SIGSTOP)
        self._living[name].stopped = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            stub.add(1, 2, timeout=SHORT_S)

    @precondition(lambda self: self._held())
    @rule(data=st.data())
    def let_go_on(self, data: st.DataObject) -> None:
        """Let a worker that is held go on; it answers as if nothing had been."""
        name = data.draw(st.sampled_from(self._held()))
        self._go_on(name)
        assert self._host.get_service(name).add(2, 3, timeout=DEADLINE) == 5

    @rule()
    def replace_daemon(self) -> None:
        """Kill the daemon; calls go on without it, and the next one takes over every process."""
        running = self._running()
        stubs = {name: self._host.get_service(name) for name in running}
        pids = {name: stub.pid() for name, stub in stubs.items()}
        self._run.kill_daemon()
        assert {name: stub.pid() for name, stub in stubs.items()} == pids
        self._run.start_daemon()
        self._run.connect().close()  # on a busy machine its start takes longer than clients wait
        assert eventually(self._names_by_host) == [set(self._living)]

    # --- what plugins are for ---------------------------------------------------------------------

    @precondition(lambda self: self._running())
    @rule(data=st.data(), first=st.integers(-5, 5))
    def call(self, data: st.DataObject, first: int) -> None:
        """Call a plugin; the process that the model knows answers."""
        name = data.draw(st.sampled_from(self._running()))
        stub = self._host.get_service(name)
        assert (stub.add(first, 1), stub.pid()) == (first + 1, self._living[name].pid)

    @precondition(lambda self: self._running())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """Cancel a call; it is over at once, and the next is answered."""
        stub = self._host.get_service(data.draw(st.sampled_from(self._running())))
        future = stub.wait.submit(timeout=DEADLINE)
        assert future.cancel()
        with pytest.raises(Cancelled):
            future.result(DEADLINE)
        assert stub.add(3, 4) == 7

    @rule()
    def publish(self) -> None:
        """Publish an event; everything so far is heard once and in order."""
        self._published += 1
        self._host.publish(PluginEvent.custom("Number", self._published))
        expected = list(range(1, self._published + 1))
        eventually(lambda: len(self._seen) >= self._published)
        assert self._seen == expected

    # --- what holds after each step ---------------------------------------------------------------

    @invariant()
    def everything_is_as_it_should_be(self) -> None:
        """States, processes, counts and services are the model's."""
        if not hasattr(self, "_host"):
            return
        for name in self._held():
            if time.monotonic() - self._living[name].stopped > 5.0:  # it may be taken for hung
                self._go_on(name)
        rows = {one.id: one for one in self._host.list_plugins()}
        assert set(rows) == set(self._living)
        for name in self._running():
            row, living = rows[name], self._living[name]
            known = (living.pid, living.restarts, "ready")
            assert (row.pid, row.restarts, row.state) == known, name
        offered = {service.name for service in self._host.list_services()}
        assert offered == set(self._living)

    def _names_by_host(self) -> list[set[str]]:
        try:
            return [{one.id for one in self._host.list_plugins()}]
        except NoDaemon:
            return []  # it is not connected again yet

    # --- the model --------------------------------------------------------------------------------

    def _learn(self, name: str) -> None:
        row = self._host.get(name)
        assert row.state == "ready", row
        assert row.pid
        self._living[name] = Living(row.pid, row.restarts)

    def _comes_back(self, name: str) -> None:
        before = self._living[name]

        def is_back() -> Any:  # noqa: ANN401
            row = self._host.get(name)
            return row.state == "ready" and row.pid != before.pid and row

        row = eventually(is_back)
        assert row.restarts == before.restarts + 1
        self._living[name] = Living(row.pid, row.restarts, before.deaths + 1)

    def _go_on(self, name: str) -> None:
        """Let it go on if it is held; one that was held for too long has been replaced."""
        living = self._living[name]
        if not living.stopped:
            return
        living.stopped = 0.0
        living.signal(signal.SIGCONT)
        row = eventually(lambda: (row := self._host.get(name)).state == "ready" and row)
        assert row
        if row.pid != living.pid:
            self._living[name] = Living(row.pid or 0, row.restarts, living.deaths + 1)

    def _pick(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self._living)))

    def _names(self, chosen: Callable[[Living], object]) -> list[str]:
        return sorted(name for name, living in self._living.items() if chosen(living))

    def _running(self) -> list[str]:
        return self._names(lambda living: not living.stopped)

    def _held(self) -> list[str]:
        return self._names(lambda living: living.stopped)

    def _mortal(self) -> list[str]:
        return self._names(lambda living: living.deaths < FORGIVEN)


def test_any_order_of_steps(machine_seed: int, machine_steps: int, machine_runs: int) -> None:
    """After every step everything is as the model says, and at the end nothing is left."""
    chosen = settings(
        max_examples=machine_runs,
        stateful_step_count=machine_steps,
        deadline=None,
        derandomize=False,
        database=None,
        phases=[Phase.generate],  # each step costs processes: show the first failure as it is
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    run_state_machine_as_test(seed(machine_seed)(Machine), settings=chosen)
