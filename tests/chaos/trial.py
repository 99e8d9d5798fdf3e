"""Try one failure at one passage of one point: play the scene, look on, judge how it ended.

The failure happens once, whichever process comes by: all of a trial's processes count together. A
daemon that is killed is started again on the same run directory, as an operator would. What is
stopped is continued after a moment: for the others, it was only slow.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from protocol.failpoints import LOG, SPEC
from spiral_host.launch import DaemonProcess
from tests.chaos.scene import Outcome, Scene
from tests.hosts import DEADLINE, Run, Watch, eventually

STOPPED_S: Final = 0.5
"""How long a stopped process is left so."""

STOP_S: Final = 30.0
"""For an orderly stop: what the daemon promises."""

_LOOK_S: Final = 0.01
_NOT_RUN: Final = {"ServiceUnavailable", "Overloaded"}
"""Errors that say that nothing was carried out."""

_STARTING: Final = threading.Lock()
"""The environment is one for all trials of this process."""

_KILLED: Final = -signal.SIGKILL


@dataclass(frozen=True, slots=True)
class Passage:
    """The so manieth passage of a point, by all processes together."""

    where: str
    """KIND/NAME, KIND:PLUGIN/NAME."""
    number: int

    @property
    def name(self) -> str:
        """The point's name."""
        return self.where.rpartition("/")[2]

    def failing(self, action: str) -> str:
        """Say that it fails, in the words of the variable."""
        before = f"{self.number - 1}*off->" if self.number > 1 else ""
        return f"{self.where}={before}1*{action}"


class Trial:
    """One run directory, its daemons and its application.

    Attributes:
        passed: Every passage, in order.
        has_failed: Whether the failure was come by at all.
    """

    def __init__(self, spec: str, *, adopts: bool = False) -> None:
        self.outcomes: list[Outcome] = []
        self._spec = spec
        self._adopts = adopts
        self._run = Run()
        self._log = self._run._base / "failpoints.log"
        self._log.touch()
        self._environment = {LOG: str(self._log)} | ({SPEC: spec} if spec else {})
        self._kept = ""
        self._continued = 0
        self._stops = threading.Event()
        self._is_over = False
        self._starting = threading.Lock()
        self._complaints: list[str] = []
        self._keeper = threading.Thread(target=self._keep, name="keeper")

    @property
    def passed(self) -> list[str]:
        """Give `WHO/NAME` of every passage, in order."""
        return [words[1] for words in self._lines() if words[0] == "passed"]

    @property
    def has_failed(self) -> bool:
        """Say whether the failure was come by at all."""
        return any(words[0] != "passed" for words in self._lines())

    def run(self) -> None:
        """Try it; raise an AssertionError that tells all if it does not end as promised."""
        try:
            self._start_daemon()
            self._keeper.start()
            try:
                self._play()
                self._end()
            finally:
                self._is_over = True
                self._keeper.join()
            self._judge()
        except Exception as error:
            raise AssertionError(self._story(error)) from error
        finally:
            self._clear_away()

    def _lines(self) -> list[list[str]]:
        text = self._kept or self._log.read_text()
        return [line.split() for line in text.splitlines()]

    # --- what happens -----------------------------------------------------------------------------

    def _play(self) -> None:
        if self._spec.startswith("client/"):
            self._play_outside()
            return
        kill = self._run.kill_daemon if self._adopts else None
        scene = Scene(self._run.run_dir, kill, self._stop_looking)
        try:
            scene.play()
        finally:
            self.outcomes = scene.outcomes

    def _play_outside(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "tests.chaos.scene", str(self._run.run_dir)],
            cwd=Path(__file__).parents[2],
            env=os.environ | self._environment,
            capture_output=True,
            text=True,
            timeout=4 * DEADLINE,
            check=False,
        )
        assert done.returncode in {0, _KILLED}, done.stderr
        if done.returncode == 0:
            self.outcomes = [Outcome(**fields) for fields in json.loads(done.stdout)]

    def _end(self) -> None:
        """The application has asked for the end; one that is killed cannot, and we do."""
        if not self._stops.is_set():
            self._stop_looking()
            eventually(self._serves_or_ends)
            self._run.daemon.terminate()
        until = time.monotonic() + STOP_S
        while (status := self._run.daemon.wait_ended(until - time.monotonic())) == _KILLED:
            self._start_daemon()
            eventually(self._serves_or_ends)
            self._run.daemon.terminate()
        assert status is not None, f"the daemon does not end within {STOP_S:g} s"
        # A second word comes too late for one whose interpreter is just leaving.
        assert status in {0, -signal.SIGTERM}, f"the daemon ended with {status}"
        eventually(lambda: not self._run.processes())

    def _stop_looking(self) -> None:
        """From here on a daemon that is killed is not started again at once."""
        with self._starting:
            self._stops.set()

    def _serves_or_ends(self) -> bool:
        daemon = self._run.daemon
        return daemon.poll() is not None or any("serving" in line for line in daemon.words())

    def _start_daemon(self) -> None:
        with _STARTING, _environment(self._environment):
            self._run.start_daemon()

    # --- who looks after it -----------------------------------------------------------------------

    def _keep(self) -> None:
        """Start the daemon again when it is killed, and continue what is stopped."""
        waiting: list[tuple[float, Watch]] = []
        while not self._is_over or waiting:
            for words in self._new_stops():
                with suppress(ProcessLookupError):
                    waiting.append((time.monotonic() + STOPPED_S, Watch(int(words[2]))))
            while waiting and waiting[0][0] < time.monotonic():
                with suppress(ProcessLookupError):
                    waiting.pop(0)[1].kill(signal.SIGCONT)
            with self._starting:
                if not self._stops.is_set():
                    self._start_again(self._run.daemon)
            time.sleep(_LOOK_S)

    def _new_stops(self) -> list[list[str]]:
        stops = [words for words in self._lines() if words[0] == "stop"]
        new, self._continued = stops[self._continued :], len(stops)
        return new

    def _start_again(self, daemon: DaemonProcess) -> None:
        status = daemon.poll()
        if status == _KILLED:
            self._start_daemon()
        elif status not in {None, 0, _KILLED}:
            self._complaints.append(f"a daemon ended with {status}: {daemon.last_words()}")
            self._is_over = True

    # --- how it ended -----------------------------------------------------------------------------

    def _judge(self) -> None:
        assert not self._complaints, self._complaints
        left = self._run.files()
        assert not left, f"left behind: {left}"
        done = self._done()
        twice = [number for number, times in Counter(done).items() if times > 1]
        assert not twice, f"carried out more than once: {twice}"
        for outcome in self.outcomes:
            if outcome.what.startswith("call"):
                self._judge_call(outcome, done)

    @staticmethod
    def _judge_call(outcome: Outcome, done: Sequence[int]) -> None:
        number = {"call 1": 1, "call 2": 2}.get(outcome.what) or int(outcome.what.split()[1])
        kind = outcome.said[0] if outcome.kind == "value" else outcome.kind
        if kind == "value":
            assert number in done, f"acknowledged and not carried out: {outcome}"
        if kind in _NOT_RUN:
            assert number not in done, f"carried out, and said that it was not: {outcome}"

    def _done(self) -> list[int]:
        path = self._run.data_dir / "back" / "done"
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []

    def _story(self, error: Exception) -> str:
        words = [line for daemon in self._run._daemons for line in daemon.words()]
        node = self._run.run_dir / "logs" / "node.log"
        return "\n".join(
            (
                f"{self._spec or 'no failure'}: {error!r}",
                *(f"    outcome {outcome}" for outcome in self.outcomes[-10:]),
                *(f"    {' '.join(line)}" for line in self._lines()[-15:]),
                *(f"    daemon: {line}" for line in words[-20:]),
                f"    node: {node.read_text()[-2000:] if node.exists() else 'no log'}",
                f"    processes left: {self._run.processes()}, files left: {self._run.files()}",
            )
        )

    def _clear_away(self) -> None:
        for daemon in self._run._daemons:
            daemon.kill()
            daemon.wait(DEADLINE)
        self._kept = self._log.read_text()
        self._run._clear_away()


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]


def numbered(passed: Sequence[str]) -> list[Passage]:
    """Give every passage its number among those of its point, as all processes count."""
    counts: Counter[str] = Counter()
    passages = []
    for where in passed:
        counts[where] += 1
        passages.append(Passage(where, counts[where]))
    return passages
