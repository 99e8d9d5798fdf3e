"""What an application does in every trial of a failpoint: one of everything, in a second.

    connect -> load two plugins, one calls the other -> call -> stream -> publish and hear
        -> (the daemon is killed) -> restart one -> call -> all is ready again -> stop

Whatever fails on the way is an outcome, as long as it says so in our words and in time. Run as a
program, it is the application that is killed.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from spiral_host import Host, NoDaemon, ServiceUnavailable, SpiralHostError

HERE: Final = Path(__file__).parent / "plugins"
PLUGINS: Final = ("back", "front")

CALL_S: Final = 10.0
READY_S: Final = 20.0
"""For a plugin to be as it should be again: start, backoff and adoption, on a busy machine."""

STEP_S: Final = 25.0
"""The longest that any one thing may take, said by nobody but this file."""

_SETTLED: Final = {"ready", "quarantined", "stopped"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one thing that the application wanted.

    Attributes:
        kind: `value`, or the name of an error of ours.
    """

    what: str
    kind: str
    said: Any
    seconds: float


class Scene:
    """One application on one run directory.

    Args:
        kill_daemon: Called half way.
        stopping: Called before the end is asked for.
    """

    def __init__(
        self,
        run_dir: Path,
        kill_daemon: Callable[[], None] | None = None,
        stopping: Callable[[], None] | None = None,
    ) -> None:
        self._run_dir = run_dir
        self._kill_daemon = kill_daemon
        self._stopping = stopping
        self.outcomes: list[Outcome] = []

    def play(self) -> None:
        """Do one of everything; what went wrong against our promises raises."""
        places = [place_of(name) for name in PLUGINS]
        with self._connect() as host:
            self._try("load", lambda: [one.state for one in host.load(places)])
            front = self._find(host)
            self._try("call 1", lambda: front.ask(1))
            self._try("stream", lambda: front.count(3))
            self._try("hear", lambda: self._hear(front))
            if self._kill_daemon is not None:
                self._kill_daemon()
            self._try("restart", lambda: host.restart("back").state)
            self._try("call 2", lambda: front.ask(2))
            self._ready_again(host)
            self._answers_again(front)
            if self._stopping is not None:
                self._stopping()
            self._try("stop", host.shutdown)

    def _try(self, what: str, attempt: Callable[[], Any]) -> Outcome:
        began = time.monotonic()
        try:
            kind, said = "value", attempt()
        except SpiralHostError as error:
            kind, said = type(error).__name__, str(error)
        seconds = time.monotonic() - began
        assert seconds < STEP_S, f"{what} took {seconds:.1f} s"
        self.outcomes.append(Outcome(what, kind, said, seconds))
        return self.outcomes[-1]

    def _connect(self) -> Host:
        for _ in _until(READY_S, "no daemon answers"):
            try:
                return Host.connect(self._run_dir, READY_S)
            except NoDaemon:
                continue
        raise AssertionError

    def _find(self, host: Host) -> Any:  # noqa: ANN401 - a stub
        """Get the service, and bring its plugin back if that is out of service."""
        for _ in _until(READY_S, "the service does not come"):
            try:
                return host.wait_service("front", CALL_S)
            except (ServiceUnavailable, NoDaemon):
                self._ready_again(host)
        raise AssertionError

    def _hear(self, front: Any) -> list[int]:  # noqa: ANN401 - a stub
        """Wait for the event of the first call, if that has been made at all."""
        until = time.monotonic() + 1.0
        while not (heard := front.heard()) and time.monotonic() < until:
            time.sleep(0.01)
        assert len(heard) == len(set(heard)), f"heard twice: {heard}"
        return list(heard)

    def _ready_again(self, host: Host) -> None:
        """Wait until every plugin is ready, or out of service with a reason; then bring it back."""
        for _ in _until(READY_S, "the plugins do not settle"):
            try:
                known = {info.id: info for info in host.list_plugins()}
                if known.keys() < set(PLUGINS):
                    host.load([place_of(name) for name in PLUGINS if name not in known])
                    continue
                states = {info.state for info in known.values()}
                if states == {"ready"}:
                    return
                for info in known.values():
                    if info.state in _SETTLED - {"ready"}:
                        assert info.reason, f"{info.id} is {info.state} and does not say why"
                        host.restart(info.id)
            except NoDaemon:
                continue

    def _answers_again(self, front: Any) -> None:  # noqa: ANN401 - a stub
        """After whatever happened a call is answered again."""
        number = 100
        for _ in _until(READY_S, "no call is answered any more"):
            number += 1
            outcome = self._try(f"call {number}", lambda: front.ask(number))  # noqa: B023 - now
            if outcome.kind == "value" and outcome.said[0] == "value":
                return


def place_of(plugin: str) -> str:
    """Give the folder of one of the two."""
    return str(HERE / plugin)


def _until(seconds: float, complaint: str) -> Iterator[None]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield
        time.sleep(0.1)
    raise AssertionError(f"{complaint}, after {seconds:g} s")


def main() -> None:
    """Be the application, as a process of its own."""
    scene = Scene(Path(sys.argv[1]))
    scene.play()
    print(json.dumps([asdict(outcome) for outcome in scene.outcomes]))  # noqa: T201


if __name__ == "__main__":
    main()
