"""Failpoints: which are armed, what each passage does, and that table and steps agree."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from protocol import failpoints
from protocol.errors import UsageError
from protocol.failpoints import FAIL, LOG, POINTS, SPEC, FailpointError, hit
from protocol.failures import parse

ROOT = Path(__file__).parents[3]

Arm = Callable[..., None]


@pytest.fixture
def arm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Arm]:
    """Have this process believe that it was started so; it is as before after the test."""

    def start(spec: str, kind: str = "node", plugin: str = "", log: Path | None = None) -> None:
        opened.update(failpoints.descriptors())
        environment = {SPEC: spec} | ({LOG: str(log)} if log else {})
        failpoints.ARMED.clear()
        for name, value in (("_log", -1), ("_failures", [])):
            monkeypatch.setattr(failpoints, name, value)
        monkeypatch.setattr(failpoints, "_environment", environment)
        failpoints.arm(kind, plugin)

    opened: set[int] = set()
    yield start
    failpoints.ARMED.clear()
    for fd in opened | failpoints.descriptors():
        os.close(fd)


def outcome(name: str) -> str:
    try:
        hit(name)
    except FailpointError as error:
        return str(error.strerror)
    return ""


class TestSteps:
    def test_every_step_stands_in_the_table_and_every_point_in_a_step(self) -> None:
        """One place says what there is, and nothing in it is only a word."""
        passed = []
        for package in ("protocol", "plugin_worker", "spiral_host"):
            for path in (ROOT / package).rglob("*.py"):
                if path.name != "failpoints.py":
                    passed += re.findall(r'failpoints\.hit\("([^"]*)"\)', path.read_text())
        assert sorted(passed) == sorted(POINTS)

    def test_no_step_passes_a_point_without_looking_first(self) -> None:
        """What is not armed costs one look."""
        for package in ("protocol", "plugin_worker", "spiral_host"):
            for path in (ROOT / package).rglob("*.py"):
                lines = path.read_text().splitlines()
                for before, line in zip(["", *lines], lines, strict=False):
                    if line.strip().startswith("failpoints.hit("):
                        assert before.strip() in {"if failpoints.ARMED:", "if ARMED:"}, path

    def test_those_that_can_fail_are_points(self) -> None:
        """And not all are."""
        assert set(FAIL) < set(POINTS)

    def test_nothing_is_armed_by_itself(self) -> None:
        """A process without the variables has no point, whatever it is."""
        code = (
            "from protocol import failpoints; failpoints.arm('node'); "
            "import sys; print(failpoints.ARMED, failpoints.handed_on(), "
            "failpoints.descriptors(), 'protocol.failures' in sys.modules)"
        )
        kept = {key: value for key, value in os.environ.items() if key not in {SPEC, LOG}}
        said = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, env=kept, text=True)
        assert said == "[] {} frozenset() False\n"


class TestPassages:
    def test_a_count_picks_a_passage(self, arm: Arm) -> None:
        """Terms follow one another; behind the last nothing happens."""
        arm("spawn.before=2*off->1*error->1*off->2*error")
        seen = [bool(outcome("spawn.before")) for _ in range(7)]
        assert seen == [False, False, True, False, True, True, False]

    def test_without_a_count_it_is_all_of_them(self, arm: Arm) -> None:
        """For good."""
        arm("spawn.before=1*off->error")
        assert [outcome("spawn.before") for _ in range(3)] == ["", *["failpoint spawn.before"] * 2]

    def test_other_points_go_on(self, arm: Arm) -> None:
        """One entry speaks of one point."""
        arm("spawn.before=error; lane.before=error")
        assert outcome("fork.heard") == ""
        assert outcome("lane.before") == "failpoint lane.before"

    @pytest.mark.parametrize("scope", ["", "worker/", "worker:shop/"])
    def test_who_is_meant(self, arm: Arm, scope: str) -> None:
        """A kind of process, or the workers of one plugin."""
        arm(f"{scope}call.before=error", "worker", "shop")
        assert outcome("call.before")

    @pytest.mark.parametrize("scope", ["worker:shopper/", "worker:sho/", "client/"])
    def test_who_is_not(self, arm: Arm, scope: str) -> None:
        """Not even armed, if nothing else is asked for."""
        arm(f"{scope}call.before=error", "worker", "shop")
        assert not failpoints.ARMED

    @pytest.mark.parametrize(
        ("action", "number"), [("kill", signal.SIGKILL), ("stop", signal.SIGSTOP)]
    )
    def test_signals_go_to_itself(
        self, arm: Arm, monkeypatch: pytest.MonkeyPatch, action: str, number: int
    ) -> None:
        """Kill and stop."""
        sent: list[tuple[int, int]] = []
        monkeypatch.setattr(os, "kill", lambda *what: sent.append(what))
        arm(f"spawn.before={action}")
        hit("spawn.before")
        assert sent == [(os.getpid(), number)]

    def test_delay_waits(self, arm: Arm, monkeypatch: pytest.MonkeyPatch) -> None:
        """Milliseconds."""
        slept: list[float] = []
        monkeypatch.setattr("time.sleep", slept.append)
        arm("spawn.before=delay(50)")
        hit("spawn.before")
        assert slept == [0.05]

    def test_an_unknown_point_is_our_bug(self, arm: Arm) -> None:
        """So is one that another process is said to pass."""
        arm("spawn.before=off")
        with pytest.raises(KeyError):
            hit("spawn.sometime")
        with pytest.raises(KeyError, match="node passes store.before"):
            hit("store.before")


class TestTogether:
    def test_passages_are_written_down(self, arm: Arm, tmp_path: Path) -> None:
        """Who passed what, and what was done there."""
        arm("spawn.before=error", log=tmp_path / "log")
        outcome("spawn.before")
        hit("fork.heard")
        words = [line.split()[:3] for line in (tmp_path / "log").read_text().splitlines()]
        pid = str(os.getpid())
        assert words == [
            ["passed", "node/spawn.before", pid],
            ["error", "node/spawn.before", pid],
            ["passed", "node/fork.heard", pid],
        ]

    def test_all_count_together(self, arm: Arm, tmp_path: Path) -> None:
        """A second life goes on where the first was, and only who is meant is counted."""
        log, spec = tmp_path / "log", "worker:a/load.before=2*off->1*error"
        seen = []
        for plugin in ("a", "b", "a", "b", "a", "a"):
            arm(spec, "worker", plugin, log)
            seen.append(bool(outcome("load.before")))
        assert seen == [False, False, False, False, True, False]

    def test_a_file_alone_arms_every_point(self, arm: Arm, tmp_path: Path) -> None:
        """To find out what is passed; and workers keep the file open."""
        arm("", log=tmp_path / "log")
        assert failpoints.ARMED
        assert len(failpoints.descriptors()) == 1

    def test_what_is_handed_on(self, arm: Arm, tmp_path: Path) -> None:
        """Both variables, as they are."""
        arm("spawn.before=off", log=tmp_path / "log")
        assert failpoints.handed_on() == {SPEC: "spawn.before=off", LOG: str(tmp_path / "log")}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("spawn.before", "say NAME=ACTION"),
        ("spawn.sometime=kill", "no point is called 'spawn.sometime'"),
        ("=kill", "no point is called ''"),
        ("spawn.before=", "'' is no action"),
        ("spawn.before=die", "'die' is no action"),
        ("spawn.before=kill(3)", "'kill(3)' is no action"),
        ("spawn.before=delay", "'delay' is no action"),
        ("spawn.before=delay(1.5)", "whole milliseconds"),
        ("spawn.before=delay(50", "whole milliseconds"),
        ("spawn.before=delay(5000000)", "whole milliseconds"),
        ("spawn.before=x*kill", "'x' is no count"),
        ("spawn.before=*kill", "'' is no count"),
        ("spawn.before=-1*kill", "'-1' is no count"),
        ("spawn.before=2*off->", "'' is no action"),
        ("fork.heard=error", "nothing can fail by itself at fork.heard"),
        ("broker/spawn.before=kill", "no process is called 'broker'"),
        ("daemon/spawn.before=kill", "a daemon does not pass spawn.before; this does: node"),
        ("node:a/spawn.before=kill", "'node:a' names no plugin's worker"),
        ("worker:/load.before=kill", "'worker:' names no plugin's worker"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, why: str) -> None:
    """In one line that names the entry and says what is wrong."""
    with pytest.raises(UsageError) as caught:
        parse(f"spawn.before=off; {text}")
    assert str(caught.value).startswith(f"{SPEC}, entry 2, ")
    assert why in str(caught.value)


def test_nothing_is_a_way_to_say_nothing() -> None:
    """An empty text, and empty entries."""
    assert parse("") == parse(" ; ") == []
