"""A crash report for every death that nobody asked for: the right cause, whole, in time, for ever.

Read from disk: by the application, by the command line without a daemon.
"""

import json
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from plugin_worker.node.health import TOGETHER_S
from plugin_worker.node.vitals import OFTEN_S
from spiral_host import CrashReport, DeadlineExceeded, Host, PluginEvent, WorkerLost
from tests.hosts import DEADLINE, HANGS, Run, all_ready, eventually, kill, plugin, run_out

SOON_S = 5.0
"""Far more than a report takes: a few milliseconds on a machine that is free."""

HOPELESS = '[supervision]\nrestart = "temporary"\nstart_s = 0.5\n'
"""A plugin that has half a second to start, and one try."""


def die(host: Host, method: str, *arguments: object) -> CrashReport:
    """Have the plugin die in a call; give the report of that death."""
    before = host.get("doomed")
    with pytest.raises(WorkerLost):
        getattr(host.get_service("doomed"), method)(*arguments)
    return report_of(host, before.incarnation)


def report_of(host: Host, incarnation: int) -> CrashReport:
    """Wait until the death of this life is told."""

    def told() -> CrashReport | None:
        report = host.report("doomed")
        return report if report is not None and report.incarnation == incarnation else None

    found = eventually(told)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def house(shared: Host) -> Host:
    assert all_ready(shared.load(plugin("doomed")))
    return shared


@pytest.fixture
def host(house: Host) -> Host:
    """A host with a doomed plugin in a new life, forgiven."""
    assert house.restart("doomed").ok
    return house


DEATHS: list[tuple[str, tuple[object, ...], dict[str, object]]] = [
    ("leave", (3,), {"kind": "exit", "exit_status": 3, "signal": None, "cause": "exit status 3"}),
    ("leave", (0,), {"kind": "exit", "exit_status": 0}),
    ("segfault", (), {"kind": "signal", "signal": "SIGSEGV", "exit_status": None}),
    ("abort", (), {"kind": "signal", "signal": "SIGABRT"}),
    ("signal", (signal.SIGBUS,), {"kind": "signal", "signal": "SIGBUS"}),
    ("signal", (signal.SIGKILL,), {"kind": "signal", "signal": "SIGKILL", "rule": ""}),
    ("signal", (signal.SIGTERM,), {"kind": "signal", "signal": "SIGTERM", "rule": ""}),
    ("violate", (), {"kind": "protocol-violation", "signal": "SIGKILL"}),
    ("hang_up", (), {"kind": "rule", "rule": "it closed its umbilical"}),
]


class TestCause:
    @pytest.mark.parametrize(
        ("method", "arguments", "expected"),
        DEATHS,
        ids=[f"{method}{arguments}" for method, arguments, _ in DEATHS],
    )
    def test_of_a_plugin_that_was_ready(
        self, host: Host, method: str, arguments: tuple[object, ...], expected: dict[str, object]
    ) -> None:
        """
        Each way to die has its own word and facts; the plugin is started again.
        """
        before = host.get("doomed")

        report = die(host, method, *arguments)

        said = report.to_dict()
        assert {name: said[name] for name in expected} == expected
        assert (report.pid, report.state) == (before.pid, "ready")
        assert (report.version, report.path) == ("1.0.0", before.path)
        assert report.next == "restart"
        assert report.next_in_s is not None
        assert report.next_at is not None
        assert report.lived_s is not None
        assert 0 < report.lived_s < DEADLINE
        assert "spiral-host" in report.versions

    def test_killed_from_outside(self, host: Host) -> None:
        """
        Nobody has to call for its death to be told.
        """
        before = host.get("doomed")

        kill(before.pid or 0)

        report = report_of(host, before.incarnation)
        assert (report.kind, report.signal, report.rule) == ("signal", "SIGKILL", "")

    def test_its_own_code_raised(self, run: Run) -> None:
        """
        `on_load` that raises is told with its author's traceback, and that it waits for a person.
        """
        (run.data_dir / "doomed").mkdir(parents=True)
        (run.data_dir / "doomed" / "how").write_text("raise")
        host = run.embed("polite")

        (result,) = host.load(plugin("doomed"))

        report = eventually(lambda: host.report("doomed"))
        assert report is not None
        assert result.state == report.next == "quarantined"
        assert (report.kind, report.state) == ("raised", "starting")
        assert 'raise ValueError("no\\x1b[2J today")' in report.traceback
        assert report.traceback.endswith("ValueError: no\x1b[2J today\n")
        assert report.summary.startswith("on_load raised ValueError")
        assert (report.next_in_s, report.next_at) == (None, None)

    def test_a_loop_of_deaths_ends_in_quarantine(self, run: Run) -> None:
        """
        Each death of a loop has its report, with those before it and what comes next.
        """
        (run.data_dir / "doomed").mkdir(parents=True)
        (run.data_dir / "doomed" / "how").write_text("exit")
        host = run.embed("polite")

        host.load(plugin("doomed"))

        restarts = host.get("doomed").restarts
        report = eventually(
            lambda: (last := host.report("doomed")) and last.next == "quarantined" and last
        )
        assert report
        reports = [json.loads(path.read_text()) for path in files(run.run_dir)]
        assert [each["restarts"] for each in reports] == list(range(restarts + 1))
        assert [each["next"] for each in reports] == ["restart"] * restarts + ["quarantined"]
        assert {each["cause"] for each in reports} == {"exit status 5"}
        assert [len(each["past"]) for each in reports] == list(range(restarts + 1))
        assert report.past[-1].cause == "exit status 5"

    def test_a_start_that_takes_too_long(self, run: Run, tmp_path: Path) -> None:
        """
        A plugin that does not get ready is ended, and its report says by which rule.
        """
        (run.data_dir / "doomed").mkdir(parents=True)
        (run.data_dir / "doomed" / "how").write_text("sleep")
        host = run.embed("polite")

        host.load(changed(tmp_path, HOPELESS))

        report = eventually(lambda: host.report("doomed"))
        assert report is not None
        assert (report.kind, report.rule) == ("start-timeout", "start timeout")
        assert report.state == "starting"

    def test_a_hang(self, run: Run, tmp_path: Path) -> None:
        """
        A plugin that is ended because it answers nobody says so, and shows where it stood.
        """
        host = run.embed("polite")
        assert all_ready(host.load(changed(tmp_path, f"[supervision]\n{HANGS}\n")))
        holding: list[PluginEvent] = []
        host.subscribe("Holding", holding.append)

        def hold(timeout: float) -> None:
            with suppress(DeadlineExceeded, WorkerLost):
                host.get_service("doomed", timeout=timeout).hold()

        run_out(hold, lambda: holding, 0.5)

        report = eventually(lambda: host.report("doomed"))
        assert report is not None
        assert report.kind == "hang"
        assert report.rule.startswith("hang: ")
        assert report.state == "suspect"
        assert "in hold" in report.stacks

    def test_a_lost_node(self, run: Run) -> None:
        """
        What died with its node is told as such, with what the daemon knows by itself.
        """
        host = run.start("doomed")
        before = host.get("doomed")

        kill(host.status()["node_pid"])

        report = report_of(host, before.incarnation)
        assert (report.kind, report.pid) == ("node-lost", before.pid)
        assert report.next == "restart"
        host.wait_service("doomed", DEADLINE)


class TestRemains:
    def test_what_it_did_when_it_died(self, host: Host) -> None:
        """
        Its calls under way, its last events and lines, what it used and where each thread stood.
        """
        host.get_service("doomed").say("last \x1b[31mwords")
        host.publish(PluginEvent.custom("Tick", 1), wait=True)

        report = die(host, "segfault")

        (flight,) = report.in_flight
        assert flight.service.startswith("doomed")
        assert flight.left_s > 0
        assert any("Tick" in event for event in report.events)
        assert any("last \x1b[31mwords" in line for line in report.log)
        assert "Segmentation fault" in report.stacks
        assert "in segfault" in report.stacks
        assert report.calls is not None
        assert report.calls >= 1

    def test_what_it_used(self, run: Run) -> None:
        """
        Memory and processor time over its life, oldest first.
        """
        host = run.embed("doomed")
        first_s = 1.0 + host.get("doomed").incarnation % int(OFTEN_S)  # when it is measured first
        eventually(lambda: (host.get("doomed").uptime_s or 0.0) > first_s + TOGETHER_S)
        for _ in range(2):
            host.health()  # between these the node has done what was due

        report = die(host, "leave", 1)

        assert report.vitals
        ages = [vital.ago_s for vital in report.vitals]
        assert ages == sorted(ages, reverse=True)
        assert all(vital.memory > 1_000_000 for vital in report.vitals)


class TestTime:
    def test_it_is_there_at_once(self, host: Host) -> None:
        """
        Its file lies on disk moments after the caller has heard of the death.
        """
        before = host.get("doomed")
        with pytest.raises(WorkerLost):
            host.get_service("doomed").leave(1)
        heard = time.monotonic()

        report = report_of(host, before.incarnation)

        assert time.monotonic() - heard < SOON_S
        assert abs(report.wall - time.time()) < DEADLINE
        assert abs(report.monotonic - time.monotonic()) < DEADLINE


class TestNone:
    def test_of_deaths_that_were_asked_for(self, run: Run) -> None:
        """
        A restart, an unload and a stop leave no report, and no run directory.
        """
        host = run.embed("doomed", "polite")
        assert host.restart("doomed").ok
        host.unload("doomed")
        host.shutdown()

        assert not run.run_dir.exists()


class TestKept:
    def test_after_the_daemon_has_stopped(self, run: Run) -> None:
        """
        `spiral-host report` needs no daemon: what was kept lies in the run directory, alone.
        """
        host = run.start("doomed")
        die(host, "leave", 3)
        host.shutdown()
        assert run.daemon.wait(DEADLINE) == 0
        assert run.files() == []

        page = ask(run.run_dir, "report", "doomed")
        row = json.loads(ask(run.run_dir, "report", "doomed", "--json"))

        assert page.startswith("doomed 1.0.0: exit status 3, while ready")
        assert row["exit_status"] == 3

    def test_from_run_to_run(self, run: Run) -> None:
        """
        A daemon that begins afresh adds to them, and gives no incarnation again.
        """
        for runs, status in enumerate((3, 4), start=1):
            host = run.start("doomed")
            with pytest.raises(WorkerLost):
                host.get_service("doomed").leave(status)
            eventually(lambda runs=runs: len(files(run.run_dir)) == runs)  # type: ignore[misc]
            host.shutdown()
            assert run.daemon.wait(DEADLINE) == 0

        reports = [json.loads(path.read_text()) for path in files(run.run_dir)]
        assert [report["exit_status"] for report in reports] == [3, 4]
        assert len({report["incarnation"] for report in reports}) == 2

    def test_with_a_temporary_run_directory(self) -> None:
        """
        A private directory goes with its application, reports and all.
        """
        with Host([plugin("doomed")], best_effort=True) as host:
            run_dir = Path(host.status()["run_dir"])
            die(host, "leave", 3)
            assert files(run_dir)

        assert not run_dir.exists()

    def test_once_each_when_the_daemon_is_killed(self, run: Run) -> None:
        """
        A death that no daemon saw is told by the next one, and each death has one report.
        """
        host = run.start("doomed")
        die(host, "leave", 3)
        second = eventually(lambda: (info := host.get("doomed")).state == "ready" and info)
        assert second
        run.kill_daemon()
        kill(second.pid or 0)
        run.start_daemon()

        report = report_of(run.connect(), second.incarnation)

        assert report.signal == "SIGKILL"
        assert len(files(run.run_dir)) == 2


class TestDisk:
    def test_one_that_takes_none(self, run: Run) -> None:
        """
        Supervision goes on, an alarm says why, and it goes when there is room again.
        """
        host = run.embed("doomed")
        stands_in_the_way = run.run_dir / "crashes"
        stands_in_the_way.write_text("")

        crash(host)

        said = "crash reports cannot be written"
        (alarm,) = eventually(lambda: [alarm for alarm in alarms(host) if said in alarm])
        assert str(stands_in_the_way) in alarm
        host.wait_service("doomed", DEADLINE)
        stands_in_the_way.unlink()
        die(host, "leave", 1)
        eventually(lambda: not alarms(host))


def crash(host: Host) -> None:
    with pytest.raises(WorkerLost):
        host.get_service("doomed").leave(1)


def alarms(host: Host) -> list[str]:
    found: list[str] = host.status()["alarms"]
    return found


def files(run_dir: Path) -> list[Path]:
    """Find every report of the plugin, oldest first."""
    return sorted((run_dir / "crashes" / "doomed").glob("*.json"))


def changed(folder: Path, table: str) -> str:
    """Make a copy of the plugin with more in its manifest; give its path."""
    copy = folder / "doomed"
    shutil.copytree(plugin("doomed"), copy, ignore=shutil.ignore_patterns("__pycache__"))
    manifest = copy / "plugin.toml"
    manifest.write_text(f"{manifest.read_text()}\n{table}")
    return str(copy)


def ask(run_dir: Path, *words: str) -> str:
    """Type a command that says yes."""
    done = subprocess.run(
        [sys.executable, "-m", "spiral_host", *words, "--run-dir", str(run_dir)],
        capture_output=True,
        check=False,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
