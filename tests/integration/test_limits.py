"""What a plugin uses beyond its limits ends it, or its own call, with the limit's name.

Every appetite here ends by itself too: a limit that fails fails a test, not the machine.
"""

import errno
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil
import pytest

from plugin_worker.node.trees import find_trees
from spiral_host import CrashReport, Host, WorkerLost
from tests.hosts import SANDBOX, Run, Watch, eventually, kill, new_run, plugin

MiB: Final = 1 << 20
LONG_S: Final = 60.0


def glutton(run: Run, *, sandbox: str = SANDBOX, **limits: object) -> Host:
    """Start a host whose operator caps what anybody gets, with the plugin that wants more."""
    run.config_dir.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{word} = {value}\n" for word, value in limits.items())
    (run.config_dir / "spiral.toml").write_text(f"[limits]\n{lines}")
    return run.embed("glutton", sandbox=sandbox)


def ask(host: Host, method: str, *arguments: object) -> object:
    """Call it."""
    return getattr(host.get_service("glutton"), method)(*arguments, timeout=LONG_S)


def scatter(host: Host, folder: str = "") -> None:
    """Have it write too much; it may be ended in the middle."""
    with suppress(WorkerLost):
        ask(host, "scatter", 16 * MiB, folder)


def death(host: Host) -> CrashReport:
    """Wait until its first death is told."""
    found = eventually(lambda: host.report("glutton"), LONG_S)
    assert found is not None
    return found


class TestTheKernelSaysNo:
    def test_memory(self, run: Run) -> None:
        """MemoryError in the plugin and at its caller, with the limit's name; it lives on."""
        host = glutton(run, memory='"300 MiB"')
        with pytest.raises(MemoryError, match=r"limit memory = 300 MiB \(\[limits\]"):
            ask(host, "eat", 400 * MiB)

        assert ask(host, "eat", 1) == 1

    def test_files(self, run: Run) -> None:
        """So does the number of open descriptors."""
        host = glutton(run, files=128)
        with pytest.raises(OSError, match="Too many open files.*; limit files = 128"):
            ask(host, "open", 1000)

    def test_file_size(self, run: Run) -> None:
        """And the size of a file; no signal ends it."""
        host = glutton(run, file_size='"4 MiB"')
        with pytest.raises(OSError, match="File too large; limit file_size = 4 MiB"):
            ask(host, "fill", 8 * MiB)

        assert host.get("glutton").restarts == 0


class TestTheNodeEndsIt:
    def test_a_full_disk(self, run: Run) -> None:
        """Within seconds; the report names limit, folder and cure, and it counts as a crash."""
        host = glutton(run, disk='"2 MiB"')
        scatter(host)
        report = death(host)

        assert report.kind == "limit"
        assert report.signal == "SIGKILL"
        assert report.rule.startswith("limit disk: more than the 2 MiB allowed in /")
        assert "glutton and its private folder; remove some, or raise disk" in report.rule
        eventually(lambda: host.get("glutton").restarts)

    def test_a_plugin_that_stays_too_large_is_given_up(self, run: Run) -> None:
        """It comes back as large as it went: soon it is in quarantine, and the reason says why."""
        host = glutton(run, disk='"2 MiB"')
        scatter(host)
        eventually(lambda: host.get("glutton").state == "quarantined", LONG_S)

        assert "limit disk: more than the 2 MiB allowed in" in host.get("glutton").reason

    def test_its_private_folder_counts_too(self, run: Run) -> None:
        """What it keeps there is gone with it, so it starts anew and goes on."""
        host = glutton(run, disk='"2 MiB"')
        scatter(host, str(ask(host, "tmp")))

        assert death(host).rule.startswith("limit disk: ")
        eventually(lambda: host.get("glutton").state == "ready")

    def test_what_it_hides_is_found(self, run: Run) -> None:
        """In a folder that even its owner may not list."""
        host = glutton(run, disk='"2 MiB"')
        scatter(host, str(ask(host, "hide")))

        assert death(host).rule.startswith("limit disk: ")


class TestAGroupOrTheNode:
    def test_threads(self, run: Run) -> None:
        """In a group the next one cannot be started, and the error says so; else it is ended."""
        host = glutton(run, threads=20)
        if grouped(host):
            with pytest.raises(RuntimeError, match="can't start new thread; limit threads = 20"):
                ask(host, "start", 100)
            assert (host.get("glutton").threads or 0) <= 20
        else:
            with suppress(WorkerLost):  # it may be ended in the middle
                ask(host, "start", 100)
            assert death(host).rule.startswith("limit threads: ")

    def test_processor(self, run: Run) -> None:
        """In a group it gets no more than its share; else it is ended after ten seconds."""
        host = glutton(run, cpu=0.05)  # without a group it has to get more, whoever else is busy
        if grouped(host):
            ask(host, "spin", 3.0)
            assert processor_s(host) < 1.5
        else:
            with pytest.raises(WorkerLost, match="limit cpu: "):
                ask(host, "spin", 55.0)

    def test_memory_without_rlimits(self, run: Run) -> None:
        """Where nothing confines a plugin its group does, or its node sees it."""
        host = glutton(run, sandbox="off", memory='"200 MiB"')
        with suppress(WorkerLost):
            ask(host, "eat", 400 * MiB)
        report = death(host)

        assert report.kind == "limit"
        assert report.rule.startswith("limit memory: ")

    def test_processes_of_its_own_need_a_group(self, run: Run) -> None:
        """They end with it, and there are only so many; without a group it is not started."""
        run.config_dir.mkdir(mode=0o700, parents=True)
        given = "[everyone]\nsubprocess = true\nservices = ['*']\n"
        tables = given + "[limits]\nprocesses = 5\nthreads = 5\n"
        (run.config_dir / "spiral.toml").write_text(tables)
        host = run.embed()
        host.load(plugin("snoop"))
        if not grouped(host):
            assert "--sandbox strict" in host.get("snoop").reason
            return
        snoop = host.get_service("snoop")
        started = "import subprocess; answer = subprocess.Popen(['sleep', '60']).pid"
        left = Watch(snoop.attempt(started))
        bomb = "import subprocess\nfor _ in range(20): subprocess.Popen(['sleep', '60'])"
        assert snoop.attempt(bomb)["errno"] == errno.EAGAIN
        kill(host.get("snoop").pid or 0)
        assert left.has_ended()
        eventually(lambda: host.get("snoop").restarts)

    def test_a_group_is_gone_with_its_worker(self) -> None:
        """Each worker has one of its own; nothing of it is left when the node has ended."""
        with new_run() as run:
            host = glutton(run)
            if not grouped(host):
                pytest.skip(str(host.status()["limits_by"]))
            pid = host.get("glutton").pid
            found = eventually(lambda: groups_of(pid))
            assert all(group.is_dir() for group in found)
        assert not any(group.exists() or group.parent.exists() for group in found)


class TestWhatIsShown:
    def test_every_limit_its_value_and_what_holds_it(self, run: Run) -> None:
        """As the manifest asks and the operator caps, by the word of the node that holds it."""
        host = glutton(run, memory='"300 MiB"', cpu=1.5)
        limits = host.get("glutton").limits
        assert limits["memory"]["limit"] == 300 * MiB
        assert "rlimit" in str(limits["memory"]["by"])
        assert limits["cpu"] == {"limit": 1.5, "by": "cgroup" if grouped(host) else "watch"}
        assert limits["disk"] == {"limit": 4 << 30, "by": "watch"}
        assert limits["call_rate"] == {"limit": None, "by": ""}
        assert str(host.status()["limits_by"]).startswith("rlimit, ")

    def test_so_is_it_after_the_death_of_the_daemon(self, run: Run) -> None:
        """The node tells the next one."""
        host = run.start("glutton")
        before = host.get("glutton").limits
        run.kill_daemon()
        run.start_daemon()
        eventually(lambda: run.connect().get("glutton").limits == before)
        assert before["files"] == {"limit": 1024, "by": "rlimit"}


def grouped(host: Host) -> bool:
    """Say whether this machine lets the node make groups."""
    return "cgroup v" in str(host.status()["limits_by"])


def groups_of(pid: int | None) -> list[Path]:
    """Give the folders of a process's groups that are ours."""
    groups = Path(f"/proc/{pid}/cgroup").read_text()
    trees = find_trees(Path(f"/proc/{pid}/mountinfo").read_text(), groups)
    return [tree.own for tree in trees if "spiral-host" in tree.own.parts]


def processor_s(host: Host) -> float:
    """Give the processor seconds that the plugin has used."""
    return float(psutil.Process(host.get("glutton").pid).cpu_times().user)
