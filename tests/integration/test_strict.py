"""The `strict` profile: what `standard` holds, and a world in which there is nothing else.

Everything a worker does under the other profiles it does here.
"""

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from plugin_worker.sandbox import kernel
from plugin_worker.sandbox.bwrap import TMP_SIZE
from plugin_worker.sandbox.policy import LAYER_NAMES, STANDARD
from plugin_worker.sandbox.probe import probe
from protocol.limits import DEFAULTS
from spiral_host import (
    CrashReport,
    DeadlineExceeded,
    Host,
    PluginEvent,
    SpiralHostError,
    WorkerLost,
)
from tests.hosts import HANGS, Run, Watch, all_ready, eventually, kill, new_run, plugin, run_out

STRICT_PLUGIN = '''
"""A plugin that asks for more than its host's profile."""
# /// script
# [tool.spiral-host]
# id = "careful"
# version = "1.0.0"
# sandbox = "strict"
# [tool.spiral-host.supervision]
# restart = "temporary"
# ///
import os
from plugin_worker import Plugin

class Service:
    def pid(self):
        return os.getpid()
    def add(self, a, b):
        return a + b

class Careful(Plugin):
    def on_load(self, ctx):
        ctx.register_service("careful", Service())
'''

LIBRARIES = {
    "numpy": "import numpy; answer = int((numpy.eye(42) @ numpy.ones(42)).sum())",
    "sqlite": """
import sqlite3
with sqlite3.connect(ctx.data_dir / "db") as db:
    db.execute("create table if not exists t (n)")
    db.execute("insert into t values (42)")
    answer = db.execute("select n from t").fetchone()[0]
""",
    "threads": """
import threading
got = []
thread = threading.Thread(target=got.append, args=(42,))
thread.start()
thread.join()
answer = got[0]
""",
    "asyncio": "import asyncio; answer = asyncio.run(asyncio.sleep(0, 42))",
}

DAEMONISE = """
import subprocess
answer = subprocess.run(["setsid", "-f", "sleep", "600"]).returncode
"""

TOO_OLD = """#!/bin/sh
case "$*" in
*--version*) echo bubblewrap 0.6.2 ;;
*) echo "bwrap: Unknown option --disable-userns" >&2; exit 1 ;;
esac
"""
NOT_PERMITTED = """#!/bin/sh
case "$*" in
*--version*) echo bubblewrap 0.8.0 ;;
*) echo "bwrap: setting up uid map: Permission denied" >&2; exit 1 ;;
esac
"""
BWRAPS = {
    "missing": ("", "bwrap is not on the PATH", "install bubblewrap >= 0.8"),
    "too old": (TOO_OLD, "bubblewrap 0.6.2 is too old", "install bubblewrap >= 0.8"),
    "not permitted": (NOT_PERMITTED, "bwrap: setting up uid map: Permission denied", "AppArmor"),
}
"""What stands in for bwrap, what is said to be in the way, and what to help."""


@pytest.fixture(scope="session", autouse=True)
def _possible() -> None:
    """Without namespaces there is nothing to test here."""
    missing = [f"{layer}: {why}" for layer, why in probe(LAYER_NAMES).items() if why]
    if missing:
        pytest.skip("this machine says: " + "; ".join(missing))


@pytest.fixture(scope="module")
def strict(_possible: None) -> Iterator[Host]:
    """One host for all tests that leave it as it was."""
    with new_run() as run:
        yield run.embed("snoop", "tensors", "forms", "relay", sandbox="strict", best_effort=False)


@pytest.fixture(scope="module")
def deadly(_possible: None) -> Iterator[Host]:
    """One host for all tests of a death."""
    with new_run() as run:
        yield run.embed("doomed", sandbox="strict", best_effort=False)


@pytest.fixture
def host(deadly: Host) -> Host:
    """A plugin that dies as it is told, in a new life, forgiven."""
    assert deadly.restart("doomed").ok
    return deadly


@pytest.fixture
def careful(tmp_path: Path) -> Path:
    path = tmp_path / "careful.py"
    path.write_text(STRICT_PLUGIN)
    return path


def attempt(host: Host, code: str) -> object:
    return host.get_service("snoop").attempt(code)


def refused(outcome: object, *numbers: int) -> bool:
    return isinstance(outcome, dict) and outcome.get("errno") in (numbers or (errno.EPERM,))


def pid_of(host: Host, name: str) -> int:
    pid = host.get(name).pid
    assert pid is not None
    return pid


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def guard_of(host: Host, name: str) -> psutil.Process:
    """Give the bubblewrap process above a plugin's worker."""
    init = psutil.Process(pid_of(host, name)).parent()
    guard = init.parent() if init is not None else None
    assert guard is not None
    assert guard.ppid() == host.status()["node_pid"]
    return guard


def report_of(host: Host, incarnation: int) -> CrashReport | None:
    """Give the report of the death of this life."""
    report = host.report("doomed")
    return report if report is not None and report.incarnation == incarnation else None


def with_table(folder: Path, name: str, table: str) -> Path:
    """Copy one of the tests' plugins, and add a table to its manifest."""
    shutil.copytree(plugin(name), folder / name)
    with (folder / name / "plugin.toml").open("a") as manifest:
        manifest.write(table)
    return folder / name


def left_behind(host: Host) -> list[int]:
    """Give what the snoop has started and is not the parent of any more."""
    worker = pid_of(host, "snoop")
    (init,) = guard_of(host, "snoop").children()
    return [child.pid for child in init.children() if child.pid != worker]


def with_programs(run: Run) -> Host:
    """Give a host whose snoop may start programs."""
    run.config_dir.mkdir()
    everyone = '[everyone]\nservices = ["*"]\nsubprocess = true\n'
    (run.config_dir / "spiral.toml").write_text(everyone)
    return run.embed("snoop", sandbox="strict", best_effort=False)


def processes_of(host: Host) -> list[psutil.Process]:
    """Give the node and everything below it."""
    node = psutil.Process(host.status()["node_pid"])
    return [node, *node.children(recursive=True)]


class TestWhatIsSaid:
    def test_every_layer_is_named(self, strict: Host) -> None:
        """By status, and for each plugin."""
        sandbox = strict.status()["sandbox"]
        assert (sandbox["profile"], sandbox["missing"]) == ("strict", [])
        for info in strict.list_plugins():
            assert info.sandbox == LAYER_NAMES

    def test_the_kernel_says_the_same(self, strict: Host) -> None:
        """Seen from outside: filtered, without any capability, with a process id of its own."""
        status = status_of(pid_of(strict, "snoop"))
        assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
        assert {int(status[f"Cap{name}"], 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {
            0
        }
        assert status["NSpid"].split()[1:] == ["2"]

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may look at another's namespaces")
    @pytest.mark.parametrize("name", ["user", "pid", "net", "ipc", "uts", "mnt", "cgroup"])
    def test_it_shares_no_namespace(self, strict: Host, name: str) -> None:
        """Neither with the node nor with another plugin."""
        pids = [strict.status()["node_pid"], pid_of(strict, "snoop"), pid_of(strict, "forms")]
        links = [Path(f"/proc/{pid}/ns/{name}").readlink() for pid in pids]
        assert len(set(links)) == 3


class TestWhatItSees:
    @pytest.mark.parametrize(
        "path", ["/etc/passwd", "/etc/hostname", "/var", "/boot", "/sys/kernel"]
    )
    def test_what_was_not_granted_does_not_exist(self, strict: Host, path: str) -> None:
        """Under `standard` its size and times could be found out by guessing its path."""
        assert refused(attempt(strict, f"import os; os.stat({path!r})"), errno.ENOENT)

    def test_no_other_plugin_s_data_and_nothing_of_the_host_s_own(self, strict: Host) -> None:
        """Its own data folder is the only one."""
        status = strict.status()
        for path in (f"{status['run_dir']}/control.sock", f"{status['data_dir']}/forms"):
            assert Path(path).exists()
            assert refused(attempt(strict, f"import os; os.stat({path!r})"), errno.ENOENT)

    @pytest.mark.parametrize(
        "code",
        [
            "open('/x', 'w')",
            "open('/dev/x', 'w')",
            "open('/dev/shm/x', 'w')",
            "import os; os.listdir('/dev/shm')",
            "open('/usr/x', 'w')",
            "open('/proc/sys/kernel/hostname', 'w')",
            "import os; os.open('/proc/1/environ', 0)",
            "import os; os.listdir('/')",
            "import socket; socket.socket()",
            "import os; os.fork()",
            "import os; os.kill(1, 9)",
            "import os; os.setuid(0)",
        ],
    )
    def test_what_standard_refuses_is_refused(self, strict: Host, code: str) -> None:
        """Namespaces are one layer more, and replace none."""
        assert refused(attempt(strict, code), errno.EPERM, errno.EACCES, errno.EROFS)

    def test_its_own_code_cannot_be_written(self, strict: Host) -> None:
        """Nor what it imports."""
        for path in (f"{plugin('snoop')}/snoop.py", f"{plugin('snoop')}/new.py", os.__file__):
            assert refused(attempt(strict, f"open({path!r}, 'a')"), errno.EACCES, errno.EROFS)

    def test_who_and_where_it_is_says_nothing_of_the_machine(self, strict: Host) -> None:
        """Neither a user, nor a name, nor a process of the host's."""
        code = "import os; answer = [os.getuid(), os.getgid(), os.uname().nodename, os.getppid()]"
        assert attempt(strict, code) == [1000, 1000, "plugin", 1]

    def test_no_descriptor_comes_through(self, strict: Host, run: Run) -> None:
        """It has as many as a worker that was forked has."""
        count = """
import os
answer = 0
for number in range(256):
    try:
        os.fstat(number)
    except OSError:
        continue
    answer += 1
"""
        forked = run.embed("snoop")
        assert attempt(strict, count) == attempt(forked, count)

    def test_its_environment(self, strict: Host) -> None:
        """A handful of harmless variables; nothing of the host's, nothing of bubblewrap's."""
        environment = attempt(strict, "import os; answer = dict(os.environ)")
        assert isinstance(environment, dict)
        assert not {"PWD", "PYTHONPATH", "PYTEST_CURRENT_TEST"} & set(environment)
        assert len(environment) < 20

    def test_no_command_line_says_what_is_mounted(self, strict: Host) -> None:
        """Other users of the machine can read those."""
        data = strict.status()["data_dir"]
        for process in processes_of(strict)[1:]:
            assert data not in " ".join(process.cmdline())


class TestWhatItCanDo:
    def test_its_folders(self, strict: Host) -> None:
        """Data is kept over a restart, temporary files are not; both have their usual paths."""
        write = """
import tempfile
(ctx.data_dir / "kept").write_text("yes")
with tempfile.NamedTemporaryFile("w", delete=False) as file:
    file.write("gone")
answer = [str(ctx.data_dir), file.name]
"""
        folders = attempt(strict, write)
        assert isinstance(folders, list)
        assert folders[0] == f"{strict.status()['data_dir']}/snoop"
        assert (Path(folders[0]) / "kept").read_text() == "yes"
        assert not Path(folders[1]).exists()  # it is in its memory only
        assert strict.restart("snoop").ok
        assert attempt(strict, "answer = (ctx.data_dir / 'kept').read_text()") == "yes"
        assert refused(attempt(strict, f"open({folders[1]!r})"), errno.ENOENT)

    def test_memory_that_it_writes_files_to_has_a_size(self, strict: Host) -> None:
        """It ends with an error of that plugin's, and is free again with the file."""
        code = """
import os, tempfile
path = tempfile.gettempdir() + "/big"
try:
    with open(path, "wb", buffering=0) as file:
        while file.write(bytes(8 << 20)) == 8 << 20 and file.tell() < 600 << 20:
            pass
        answer = file.tell()
except OSError as error:
    answer = error.errno
os.unlink(path)
"""
        assert attempt(strict, code) in {errno.ENOSPC, TMP_SIZE}

    @pytest.mark.parametrize("library", LIBRARIES)
    def test_libraries(self, strict: Host, library: str) -> None:
        """Unchanged, as under `standard`."""
        assert attempt(strict, LIBRARIES[library]) == 42

    def test_it_has_a_limit_of_processes_and_threads_of_its_own(self, strict: Host) -> None:
        """Other plugins of the user's, and the user, are not counted."""
        code = "import resource; answer = resource.getrlimit(resource.RLIMIT_NPROC)[1]"
        assert attempt(strict, code) == DEFAULTS.processes + DEFAULTS.threads + 2

    @pytest.mark.skipif(os.geteuid() == 0, reason="the kernel exempts root from this limit")
    def test_threads_end_at_that_limit(self, run: Run, tmp_path: Path) -> None:
        """A bomb harms the plugin that it is in; the one beside it has all of its own."""
        bomb = """
import threading
stop, answer = threading.Event(), 0
try:
    while answer < 200:
        threading.Thread(target=stop.wait).start()
        answer += 1
except RuntimeError:
    pass
stop.set()
"""
        host = run.embed("polite", sandbox="strict")
        small = with_table(tmp_path, "snoop", "[limits]\nprocesses = 1\nthreads = 63\n")
        assert all_ready(host.load(small))
        made = attempt(host, bomb)
        assert isinstance(made, int)
        assert 48 <= made <= 64
        assert host.get_service("polite").add(1, 1) == 2

    def test_calls_streams_callbacks_and_arrays(self, strict: Host) -> None:
        """Over lanes and shared memory, between applications and plugins, and among plugins."""
        forms, tensors = strict.get_service("forms"), strict.get_service("tensors")
        assert forms.add(1, 2) == 3
        assert forms.add_soon(1, 2) == 3
        assert list(forms.count(3)) == [0, 1, 2]
        assert forms.apply(lambda value: value + 1, [1, 2]) == [2, 3]
        assert tensors.total(np.ones(100_000)) == 100_000
        assert float(tensors.give(2.0, 100_000)[-1]) == 2.0
        assert strict.get_service("relay").call("forms", "add", 1, 2) == {"value": 3}

    def test_events_and_settings(self, strict: Host) -> None:
        """Both ways."""
        seen: list[PluginEvent] = []
        strict.subscribe("FromInside", seen.append)
        attempt(
            strict,
            "from plugin_worker import PluginEvent\n"
            "ctx.event_bus.publish(PluginEvent.custom('FromInside', 1))",
        )
        assert eventually(lambda: seen)

    def test_a_call_can_be_cancelled(self, strict: Host) -> None:
        """That its caller has given up reaches a busy handler."""
        wait = """
import time
(ctx.data_dir / "began").touch()
until = time.monotonic() + 20
while not ctx.cancelled() and time.monotonic() < until:
    time.sleep(0.005)
(ctx.data_dir / "cancelled").write_text(str(ctx.cancelled()))
"""
        data = Path(strict.status()["data_dir"]) / "snoop"
        call = strict.get_service("snoop").attempt.submit(wait)
        eventually((data / "began").exists)
        assert call.cancel()
        said = data / "cancelled"
        assert eventually(lambda: said.exists() and said.read_text()) == "True"


class TestDeath:
    @pytest.mark.parametrize(
        ("how", "arguments", "cause"),
        [
            ("leave", (3,), "exit status 3"),
            ("leave", (0,), "exit status 0"),
            ("signal", (signal.SIGKILL,), "SIGKILL"),
            ("signal", (signal.SIGTERM,), "SIGTERM"),
            ("abort", (), "SIGABRT"),
            ("segfault", (), "SIGSEGV"),
        ],
    )
    def test_each_is_told_apart(
        self, host: Host, how: str, arguments: tuple[int, ...], cause: str
    ) -> None:
        """As exactly as if the worker were the node's own child."""
        before = host.get("doomed")
        with pytest.raises(WorkerLost) as caught:
            getattr(host.get_service("doomed"), how)(*arguments)
        assert caught.value.cause == cause
        report = eventually(partial(report_of, host, before.incarnation))
        assert report is not None
        assert cause in report.cause
        assert "doomed.py" in report.stacks or how in {"leave", "signal"}

    def test_an_exit_that_looks_like_a_signal_is_an_exit(self, host: Host) -> None:
        """Where the kernel tells: bubblewrap gives the same word for both."""
        with subprocess.Popen([sys.executable, "-c", ""]) as child:
            pidfd = os.pidfd_open(child.pid)
        tells = kernel.wait_status(pidfd) is not None
        os.close(pidfd)
        with pytest.raises(WorkerLost) as caught:
            host.get_service("doomed").leave(137)
        assert caught.value.cause == ("exit status 137" if tells else "SIGKILL")

    def test_nothing_is_left_of_it(self, host: Host) -> None:
        """Neither bubblewrap nor its init, and no zombie of theirs."""
        before = len(processes_of(host))
        pid = pid_of(host, "doomed")

        def is_as_before() -> bool:
            try:
                states = [process.status() for process in processes_of(host)]
            except psutil.NoSuchProcess:
                return False  # one of them is just leaving
            return len(states) == before and psutil.STATUS_ZOMBIE not in states

        gone = [Watch(pid), Watch(guard_of(host, "doomed").pid)]
        kill(pid)
        assert all(watch.has_ended() for watch in gone)
        assert eventually(lambda: host.get("doomed").pid not in {None, pid})
        assert eventually(is_as_before)

    def test_bubblewrap_is_killed(self, host: Host) -> None:
        """Its worker ends with it, has a cause, and lives again."""
        before, worker = host.get("doomed"), Watch(pid_of(host, "doomed"))
        kill(guard_of(host, "doomed").pid)
        assert worker.has_ended()
        report = eventually(partial(report_of, host, before.incarnation))
        assert report is not None
        assert report.cause == "SIGKILL"
        assert eventually(lambda: host.get("doomed").restarts == before.restarts + 1)
        assert eventually(lambda: host.get("doomed").state == "ready")

    def test_bubblewrap_is_stopped(self, host: Host) -> None:
        """The death of its worker is heard of all the same."""
        guard = guard_of(host, "doomed")
        guard.suspend()
        gone, pid = Watch(guard.pid), pid_of(host, "doomed")
        kill(pid)
        assert eventually(lambda: host.get("doomed").pid not in {None, pid})
        assert gone.has_ended()

    def test_a_hanging_plugin_is_replaced_with_its_stacks(self, run: Run, tmp_path: Path) -> None:
        """It misses its signs of life, and writes its stacks down at the node's signal."""
        host = run.embed(sandbox="strict")
        impatient = with_table(tmp_path, "snoop", f"[supervision]\n{HANGS}\n")
        assert all_ready(host.load(impatient))
        began = run.data_dir / "snoop" / "began"
        code = f"import time; open({str(began)!r}, 'w').close(); time.sleep(60)"

        def hang(timeout: float) -> None:
            with suppress(DeadlineExceeded, WorkerLost):
                host.get_service("snoop").attempt(code, timeout=timeout)

        run_out(hang, began.exists, 0.5)
        report = eventually(lambda: host.report("snoop"))
        assert report is not None
        assert "in attempt" in report.stacks
        assert eventually(lambda: host.get("snoop").state == "ready")

    def test_an_unloaded_plugin_leaves_in_order(self, host: Host) -> None:
        """No report, no process."""
        before = host.get("doomed")
        worker, guard = Watch(pid_of(host, "doomed")), Watch(guard_of(host, "doomed").pid)
        host.unload("doomed")
        assert worker.has_ended()
        assert guard.has_ended()
        assert report_of(host, before.incarnation) is None
        assert all_ready(host.load(plugin("doomed")))


class TestTheOthers:
    def test_a_killed_node_leaves_nobody(self, run: Run) -> None:
        """Nor what a plugin has started that has left its session and its parent."""
        host = run.embed("snoop", "polite", sandbox="strict")
        everybody = [Watch(process.pid) for process in processes_of(host)[1:]]
        assert len(everybody) >= 6  # two of bubblewrap's for each
        kill(host.status()["node_pid"])
        assert all(watch.has_ended() for watch in everybody)

    def test_a_killed_daemon_is_survived(self, run: Run) -> None:
        """The next one takes the worker over, and hears how it ends."""
        run.start_daemon(sandbox="strict")
        before = run.connect()
        run.load(before, "doomed")
        pid = pid_of(before, "doomed")
        run.kill_daemon()
        run.start_daemon(sandbox="strict")
        host = run.connect()
        assert eventually(lambda: host.get("doomed").state == "ready")
        assert pid_of(host, "doomed") == pid
        assert host.get("doomed").sandbox == LAYER_NAMES
        with pytest.raises(WorkerLost) as caught:
            host.get_service("doomed").abort()
        assert caught.value.cause == "SIGABRT"

    def test_data_is_the_same_under_another_profile(self, run: Run, tmp_path: Path) -> None:
        """Whatever it thinks who it is, its files are the host's user's."""
        host = run.embed("snoop", sandbox="strict")
        attempt(host, "(ctx.data_dir / 'a').write_text('strict')")
        file = Path(host.status()["data_dir"]) / "snoop" / "a"
        assert file.stat().st_uid == os.geteuid()
        host.shutdown()
        other = run.embed("snoop", sandbox="standard")
        assert attempt(other, "answer = (ctx.data_dir / 'a').read_text()") == "strict"
        assert attempt(other, "answer = (ctx.data_dir / 'a').write_text('standard')") == 8
        other.shutdown()
        again = run.embed("snoop", sandbox="strict")
        assert attempt(again, "answer = (ctx.data_dir / 'a').read_text()") == "standard"

    def test_what_a_plugin_has_started_counts_as_its_own(self, run: Run) -> None:
        """Also what has left its session and its parent; bubblewrap's own processes do not."""
        host = with_programs(run)
        worker = pid_of(host, "snoop")

        def threads() -> int:
            (snoop,) = host.health()
            return snoop.threads or 0

        alone = psutil.Process(worker).num_threads()
        eventually(lambda: threads() == alone)
        assert attempt(host, DAEMONISE) == 0
        eventually(lambda: left_behind(host))
        eventually(lambda: threads() == alone + 1)

    def test_what_a_plugin_has_started_ends_with_it(self, run: Run) -> None:
        """Also what has left its session and its parent; a killed node leaves none of it either."""
        host = with_programs(run)
        for end in (pid_of(host, "snoop"), host.status()["node_pid"]):
            assert attempt(host, DAEMONISE) == 0
            (child,) = eventually(partial(left_behind, host))
            watch = Watch(child)
            kill(end)
            assert watch.has_ended()
            assert eventually(lambda: host.get("snoop").state == "ready")

    def test_a_granted_port_keeps_the_network_of_the_machine(self, run: Run) -> None:
        """That port and no other; without one there is not even a loopback that others are on."""
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_server(("127.0.0.1", 0)) as other,
        ):
            port, closed = server.getsockname()[1], other.getsockname()[1]
            run.config_dir.mkdir()
            (run.config_dir / "spiral.toml").write_text(
                f'[everyone]\nservices = ["*"]\nnetwork = [{port}]\n'
            )
            host = run.embed("snoop", sandbox="strict", best_effort=False)
            reach = "import socket; socket.create_connection(('127.0.0.1', {})); answer = 1"
            assert attempt(host, reach.format(port)) == 1
            assert refused(attempt(host, reach.format(closed)), errno.EACCES, errno.EPERM)


class TestOneThatAsksForIt:
    def test_it_is_strict_among_others_that_are_not(self, run: Run, careful: Path) -> None:
        """They call each other as always."""
        host = run.embed("relay", best_effort=False)
        assert all_ready(host.load(careful))
        assert host.get("careful").sandbox == LAYER_NAMES
        assert host.get("relay").sandbox == STANDARD
        assert host.get_service("careful").pid() == 2
        assert host.get_service("relay").call("careful", "add", 1, 2) == {"value": 3}

    def test_it_is_refused_where_there_is_no_bubblewrap(
        self, run: Run, careful: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """That plugin and no other; the layer and the cure are named."""
        monkeypatch.setenv("PATH", "/nowhere")
        host = run.embed("polite", best_effort=False)
        (result,) = host.load(careful)
        assert not result.ok
        assert "namespaces: bwrap is not on the PATH; cure: install bubblewrap" in result.reason
        assert host.get_service("polite").add(1, 1) == 2

    @pytest.mark.parametrize("how", ["missing", "not permitted"])
    def test_it_is_not_tried_again_where_the_machine_has_none(
        self, run: Run, careful: Path, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        """Until a person says so: what is in the way will be there in a second, too."""
        folder = careful.parent / "bin"
        folder.mkdir()
        if script := BWRAPS[how][0]:
            (folder / "bwrap").write_text(script)
            (folder / "bwrap").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        host = run.embed("polite", best_effort=False)
        (result,) = host.load(careful)
        assert (result.ok, result.state) == (False, "quarantined")
        assert BWRAPS[how][1] in result.reason
        assert host.get("careful").restarts == 0

    def test_best_effort_starts_it_with_what_there_is(
        self, run: Run, careful: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And says which layers those are."""
        monkeypatch.setenv("PATH", "/nowhere")
        host = run.embed("polite", best_effort=True)
        assert all_ready(host.load(careful))
        assert host.get("careful").sandbox == STANDARD
        assert host.get_service("careful").add(1, 2) == 3

    @pytest.mark.usefixtures("_possible")
    @pytest.mark.parametrize("best_effort", [True, False])
    def test_one_failed_start_is_no_word_on_the_machine(
        self, run: Run, careful: Path, monkeypatch: pytest.MonkeyPatch, *, best_effort: bool
    ) -> None:
        """It is tried whether namespaces work here; they do, and the next start has them."""
        shim = careful.parent / "bin" / "bwrap"
        shim.parent.mkdir()
        shim.write_text(
            f"#!/bin/sh\nif mkdir '{shim.parent}/once'; then exit 1; fi\n"
            f'exec {shutil.which("bwrap")} "$@"\n'
        )
        shim.chmod(0o755)
        monkeypatch.setenv("PATH", str(shim.parent), prepend=":")
        host = run.embed("polite", best_effort=best_effort)
        (result,) = host.load(careful)
        assert not result.ok
        assert "namespaces: " in result.reason
        assert host.restart("careful").ok
        assert host.get("careful").sandbox == LAYER_NAMES


class TestMachinesWithoutIt:
    @pytest.fixture(params=BWRAPS, ids=str)
    def words(
        self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> tuple[str, str]:
        """A machine on which it does not work; give what is in the way, and what helps."""
        script, why, cure = BWRAPS[request.param]
        monkeypatch.setenv("PATH", str(tmp_path))
        if script:
            (tmp_path / "bwrap").write_text(script)
            (tmp_path / "bwrap").chmod(0o755)
        return why, cure

    def test_the_start_is_refused(self, run: Run, words: tuple[str, str]) -> None:
        """The layer, the reason and the cure are named."""
        with pytest.raises(SpiralHostError) as caught:
            run.embed("polite", sandbox="strict", best_effort=False)
        assert "namespaces: " in str(caught.value)
        for part in words:
            assert part in str(caught.value)

    def test_best_effort_starts_and_says_degraded(self, run: Run, words: tuple[str, str]) -> None:
        """With everything else that makes a profile."""
        host = run.embed("snoop", sandbox="strict", best_effort=True)
        sandbox = host.status()["sandbox"]
        assert sandbox["degraded"] == ["namespaces"]
        assert words[0] in str(sandbox["missing"])
        assert host.get("snoop").sandbox == STANDARD
        assert refused(attempt(host, "open('/etc/passwd')"), errno.EACCES)
