"""Look after the health of this machine's workers, all with one timer. It decides nothing.

When to ask and who is silent is pulse.py's word, when to measure that of vitals.py; what is to be
done about a silent worker is the daemon's. Who uses too much is watch.py's word: that one is ended.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from plugin_worker.node.aside import Aside
from plugin_worker.node.oom import MemoryKills, counting_files
from plugin_worker.node.pulse import Pulse
from plugin_worker.node.vitals import Vitals
from plugin_worker.node.watch import Breach, Watch, Weight
from plugin_worker.node.weighing import weigh
from plugin_worker.node.worker import WorkerProcess
from protocol.flight import DUMP, read_flight, stacks_size
from protocol.messages import Cause, FromNode, Heard, Ping, Pong, Silent
from protocol.process import is_stopped
from protocol.reactor import Reactor, Timer

TOGETHER_S: Final = 0.25
"""What is due within this time is done at once: the node wakes four times a second at most."""

_DUMP_LOOK_S: Final = 0.015
"""How often it is looked whether a worker goes on writing its stacks down, seconds."""

DUMP_LOOKS: Final = 17
"""After so many looks without any stacks the worker is ended, in 0.25 s; it takes 1 ms to write
them where a core is free. Looks, not seconds: where everything stood still, it did so too."""

_MEMORY_LOOK_S: Final = 10.0


class Health:
    """Asks, looks and measures; lives as long as the node.

    Args:
        living: The workers.
        ping: Sends a worker a ping.
        tell: Tells the daemon.
        aside: Where folders are weighed.
    """

    def __init__(
        self,
        reactor: Reactor,
        living: Mapping[int, WorkerProcess],
        ping: Callable[[WorkerProcess, Ping], None],
        tell: Callable[[FromNode], None],
        aside: Aside,
    ) -> None:
        self._reactor = reactor
        self._living = living
        self._ping = ping
        self._tell = tell
        self._aside = aside
        self._timer: Timer | None = None
        self._memory = MemoryKills(counting_files(), time.monotonic())
        self._memory_due = 0.0

    def born(self, worker: WorkerProcess) -> None:
        """A worker has been forked: measure it from now on."""
        worker.born = time.monotonic()
        worker.vitals = Vitals(worker.incarnation, worker.born)
        worker.watch = Watch(worker.limits, worker.data_dir, worker.born)
        self._plan(worker.born)

    def loaded(self, worker: WorkerProcess) -> None:
        """A worker's plugin is loaded: from now on its loop has to turn."""
        if worker.pulse is None:
            now = time.monotonic()
            worker.pulse = Pulse(alone=worker.concurrency == 1, now=now)
            self._plan(now)

    def answered(self, worker: WorkerProcess, pong: Pong) -> None:
        """Take in a worker's answer; one that nobody has asked for is harmless."""
        pulse, now = worker.pulse, time.monotonic()
        if pulse is None or not pulse.answered(pong.number, pong.descriptors, now):
            return
        if pulse.silence:
            self._look(worker, pulse, now)

    def explain(self, cause: Cause) -> Cause:
        """Say of a death whether memory had run out, if that may be."""
        if not cause.is_unasked_kill or not self._memory.look(time.monotonic()):
            return cause
        return replace(cause, rule="out of memory")

    # --- the timer --------------------------------------------------------------------------------

    def _plan(self, now: float) -> None:
        """Set the timer for what is due next, never later than it was set before."""
        if not self._living:
            return
        when = max(min(map(_due, self._living.values())), now + TOGETHER_S)
        if self._timer is not None:
            if self._timer.when <= when:
                return
            self._timer.cancel()
        self._timer = self._reactor.call_at(when, self._turn)

    def _turn(self) -> None:
        self._timer = None
        now = time.monotonic()
        if now >= self._memory_due:
            self._memory_due = now + _MEMORY_LOOK_S
            self._memory.look(now)
        for worker in tuple(self._living.values()):
            self._look_after(worker, now)
        self._plan(now)

    def _look_after(self, worker: WorkerProcess, now: float) -> None:
        if worker.pulse is not None and worker.pulse.due <= now and worker.is_open:
            self._look(worker, worker.pulse, now)
        if worker.vitals is not None and worker.watch is not None:
            self._measure(worker, worker.vitals, worker.watch, now)
            if worker.watch.weigh_due <= now:
                self._weigh(worker, worker.watch)

    def _measure(self, worker: WorkerProcess, vitals: Vitals, watch: Watch, now: float) -> None:
        if now < min(vitals.due, watch.due):
            return
        measured = worker.measure()
        if vitals.due <= now:
            vitals.take(measured, now)
        if measured is not None:
            self._judge(worker, watch.take(measured, now))

    def _weigh(self, worker: WorkerProcess, watch: Watch) -> None:
        watch.weighing()
        folders, most = tuple({worker.data_dir, str(worker.tmp)}), worker.limits.disk

        def work() -> tuple[Weight, float]:
            began = time.monotonic()
            return weigh(folders, most), time.monotonic() - began

        def weighed(result: tuple[Weight, float]) -> None:
            now = time.monotonic()
            self._judge(worker, watch.weighed(*result, now))
            self._plan(now)

        def failed(_: Exception) -> None:
            now = time.monotonic()
            watch.not_weighed(now)
            self._plan(now)

        self._aside.do(work, weighed, failed)

    def _judge(self, worker: WorkerProcess, breach: Breach | None) -> None:
        if breach is None or worker.rule or worker.incarnation not in self._living:
            return
        worker.rule = str(breach)
        self.write_stacks(worker, lambda: worker.kill(worker.rule))

    def _look(self, worker: WorkerProcess, pulse: Pulse, now: float) -> None:
        found = pulse.look(read_flight(worker.flight_fd), now)
        if found.ping:
            self._ping(worker, Ping(found.ping))
        if found.has_changed:
            number, why = worker.incarnation, found.silence
            self._tell(Silent(number, why) if why else Heard(number))

    # --- stacks -----------------------------------------------------------------------------------

    def write_stacks(self, worker: WorkerProcess, then: Callable[[], None]) -> None:
        """Have a worker write its stacks down if it can, then go on; at once if it cannot."""
        if not worker.said_hello or worker.has_dumped or is_stopped(worker.pid):
            then()
            return
        worker.has_dumped = True
        worker.signal(DUMP)
        before = seen = stacks_size(worker.flight_fd)
        looks = 0

        def look() -> None:
            nonlocal seen, looks
            if worker.flight_fd < 0:
                return  # it has died of something else meanwhile
            size, looks = stacks_size(worker.flight_fd), looks + 1
            if before < size == seen or looks >= DUMP_LOOKS:
                then()
                return
            seen = size
            self._reactor.call_later(_DUMP_LOOK_S, look)

        self._reactor.call_later(_DUMP_LOOK_S, look)


def _due(worker: WorkerProcess) -> float:
    pulse, vitals, watch = worker.pulse, worker.vitals, worker.watch
    return min(
        pulse.due if pulse is not None and worker.is_open else float("inf"),
        vitals.due if vitals is not None else float("inf"),
        min(watch.due, watch.weigh_due) if watch is not None else float("inf"),
    )
