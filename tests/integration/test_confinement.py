"""What a worker cannot do, tried from inside real workers that a real zygote forked.

The workers run what each test sends them; the test process is their node.
"""

import errno
import os
import platform
import select
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from plugin_worker.confine import in_force, scrubbed_environment
from plugin_worker.sandbox.errors import EXIT_UNCONFINED
from plugin_worker.sandbox.policy import NICE, OOM_SCORE_ADJ, RLIMITS, STANDARD
from plugin_worker.sandbox.probe import probe
from protocol.version import VERSION
from tests.zygote_pair import DEADLINE, ROOT, Worker, ZygotePair

SITE_PACKAGES = str(Path(np.__file__).parents[1])


@pytest.fixture(scope="session")
def layers() -> tuple[str, ...]:
    """Every layer of the profile; without one of them there is nothing to test here."""
    missing = [f"{layer}: {why}" for layer, why in probe().items() if why]
    if missing:
        pytest.skip("this machine says: " + "; ".join(missing))
    return STANDARD


@pytest.fixture(scope="module")
def pair(layers: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZygotePair]:
    with ZygotePair(tmp_path_factory.mktemp("zygote")) as pair:
        pair.send_program()
        yield pair


@pytest.fixture(scope="module")
def worker(pair: ZygotePair) -> Worker:
    """One confined worker for all tests that leave it as it was."""
    worker = pair.spawn(read=(SITE_PACKAGES,))
    assert worker.hello() == "confined"
    return worker


def refused(raised: object, number: int = errno.EPERM) -> bool:
    return isinstance(raised, dict) and raised["errno"] == number


class TestFiles:
    @pytest.mark.parametrize("path", ["/etc/passwd", "/etc/shadow", "/root", "/proc/self/environ"])
    def test_what_was_not_granted_cannot_be_opened(self, worker: Worker, path: str) -> None:
        """
        Not even by a worker of root's: the layers refuse, not the file's mode.
        """
        assert refused(worker.ask(f"import os; os.open({path!r}, os.O_RDONLY)"), errno.EACCES)

    def test_the_root_folder_cannot_be_listed(self, worker: Worker) -> None:
        """
        A worker cannot look for what is there.
        """
        assert refused(worker.ask("import os; os.listdir('/')"), errno.EACCES)

    def test_writable_folders_are_its_data_and_its_tmp_and_no_other(self, worker: Worker) -> None:
        """
        Its two folders can be written, renamed between, and cleared; the one above cannot.
        """
        code = """
            import os, tempfile
            with tempfile.NamedTemporaryFile("w", delete=False) as file:
                file.write("kept")
            os.rename(file.name, os.environ["HOME"] + "/kept")
            answer = open(os.environ["HOME"] + "/kept").read()
        """
        assert worker.ask(textwrap.dedent(code)) == "kept"
        assert (worker.data / "kept").read_text() == "kept"
        above = str(worker.tmp.parent / "x")
        assert refused(worker.ask(f"open({above!r}, 'w')"), errno.EACCES)

    def test_code_that_it_may_read_it_cannot_change(self, worker: Worker) -> None:
        """
        Nothing that another process imports can be replaced, cut short or linked away.
        """
        target = str(ROOT / "protocol" / "version.py")
        assert worker.ask(f"answer = open({target!r}).read(1)") == '"'
        assert refused(worker.ask(f"open({target!r}, 'a')"), errno.EACCES)
        assert refused(worker.ask(f"import os; os.truncate({target!r}, 0)"), errno.EACCES)
        link = worker.ask(f"import os; os.link({target!r}, 'x')")
        assert link["errno"] in {errno.EXDEV, errno.EPERM}  # Landlock's, or protected_hardlinks'

    def test_modes_and_times_of_files_cannot_be_changed(self, worker: Worker) -> None:
        """
        Landlock does not cover these; the filter does, in its own folders too.
        """
        worker.ask("open('own', 'w')")
        assert refused(worker.ask("import os; os.chmod('own', 0o777)"))
        assert refused(worker.ask("import os; os.utime('own', (0, 0))"))
        assert refused(worker.ask("import os; os.mkfifo('fifo')"))


class TestOtherProcesses:
    def test_no_socket_of_any_kind(self, worker: Worker) -> None:
        """
        Neither a network nor a name to connect to; a stream pair of its own is all.
        """
        assert refused(worker.ask("import socket; socket.socket()"))
        assert refused(worker.ask("import socket; socket.socket(socket.AF_UNIX)"))
        datagrams = "import socket; socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)"
        assert worker.ask(datagrams)["errno"] in {errno.EPERM, errno.ENOSYS}
        assert worker.ask("import socket; a, b = socket.socketpair(); answer = a.send(b'x')") == 1

    def test_no_child_processes(self, worker: Worker) -> None:
        """
        fork, posix_spawn and subprocess fail as a missing permission does; threads work.
        """
        assert refused(worker.ask("import os; os.fork()"))
        assert refused(worker.ask("import subprocess; subprocess.run(['/bin/true'])"))
        assert refused(worker.ask("import os; os.execv('/bin/true', ['true'])"))
        thread = "import threading; t = threading.Thread(target=int); t.start(); t.join()"
        assert worker.ask(f"{thread}; answer = 1") == 1

    @pytest.mark.parametrize("target", ["os.getppid()", "1", "-1", "0"])
    def test_no_signal_to_anybody_else(self, worker: Worker, target: str) -> None:
        """
        Neither to its node nor to all; the test process would end here.
        """
        assert refused(worker.ask(f"import os; os.kill({target}, 9)"))

    def test_signal_to_itself(self, worker: Worker) -> None:
        """
        Its own pid was patched into the filter, and only that.
        """
        assert worker.ask("import os; answer = os.kill(os.getpid(), 0)") is None

    @pytest.mark.parametrize(
        ("command", "value"), [("F_SETOWN", "os.getppid()"), ("F_SETSIG", "9"), ("F_NOTIFY", "1")]
    )
    def test_no_signal_by_way_of_a_descriptor(
        self, worker: Worker, command: str, value: str
    ) -> None:
        """
        A descriptor's owner is signalled by the kernel: a kill that no filter of kill sees.
        """
        assert refused(worker.ask(f"import fcntl, os; fcntl.fcntl(0, fcntl.{command}, {value})"))

    def test_the_node_cannot_be_slowed_or_limited(self, worker: Worker) -> None:
        """
        Its processors, priority and limits are its own.
        """
        for attempt in (
            "os.sched_setaffinity(os.getppid(), {0})",
            "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
            "resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
        ):
            assert refused(worker.ask(f"import os, resource; {attempt}")), attempt


class TestWhatIsLeft:
    def test_environment_is_scrubbed(self, worker: Worker) -> None:
        """
        It holds what the node gave it, nothing of the node's own.
        """
        given = scrubbed_environment(str(worker.tmp), str(worker.data))
        assert worker.ask("import os; answer = dict(os.environ)") == given
        libc = "import ctypes; libc = ctypes.CDLL(None); libc.getenv.restype = ctypes.c_char_p\n"
        assert worker.ask(libc + "answer = libc.getenv(b'PYTEST_CURRENT_TEST')") is None
        assert worker.ask(libc + "answer = libc.getenv(b'USER')") == b"plugin"

    def test_only_the_expected_descriptors_are_open(self, worker: Worker) -> None:
        """
        Standard streams, umbilical and two pages: six, whatever the zygote held.
        """
        code = """
            import os, stat
            answer = []
            for number in range(1024):
                try:
                    answer.append(stat.S_IFMT(os.fstat(number).st_mode))
                except OSError:
                    pass
        """
        kinds = sorted(worker.ask(textwrap.dedent(code)))
        expected = [stat.S_IFCHR, stat.S_IFIFO, stat.S_IFIFO, stat.S_IFSOCK]
        assert kinds == sorted([*expected, stat.S_IFREG, stat.S_IFREG])

    def test_the_kernel_confirms_the_layers(self, worker: Worker) -> None:
        """
        Seen from outside: no capability, a filter, no new privileges, lower limits.
        """
        seen = set(in_force(worker.pid))
        assert set(STANDARD) - seen <= {"landlock", "not-dumpable"}
        if os.geteuid() != 0:
            assert "not-dumpable" in seen
        status = Path(f"/proc/{worker.pid}/status").read_text()
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert f"{name}:\t{'0' * 16}\n" in status

    def test_memory_is_limited(self, worker: Worker) -> None:
        """
        Too much is a MemoryError in the plugin and nobody else's trouble.
        """
        assert worker.ask("bytearray(5 << 30)")["raised"] == "MemoryError"

    def test_it_cannot_undo_its_own_confinement(self, worker: Worker) -> None:
        """
        Neither die later than its node, nor be dumped, nor raise a limit.
        """
        for option, value in ((1, 0), (4, 1)):
            code = "import ctypes; libc = ctypes.CDLL(None, use_errno=True)\n"
            code += f"answer = [libc.prctl({option}, {value}), ctypes.get_errno()]"
            assert worker.ask(code) == [-1, errno.EPERM]
        limits = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (9, 9))"
        assert worker.ask(limits)["raised"] == "ValueError"
        limits = "import resource; answer = resource.getrlimit(resource.RLIMIT_NOFILE)"
        assert worker.ask(limits) == [RLIMITS["NOFILE"]] * 2

    def test_numpy_works_where_its_folder_is_granted(self, worker: Worker) -> None:
        """
        The layers are for attackers: ordinary libraries do not notice them.
        """
        code = f"""
            import sys
            sys.path.append({SITE_PACKAGES!r})
            import numpy
            square = numpy.arange(10000.0).reshape(100, 100)
            answer = float((square @ numpy.linalg.inv(square + 1e6 * numpy.eye(100))).trace())
        """
        square = np.arange(10000.0).reshape(100, 100)
        expected = float((square @ np.linalg.inv(square + 1e6 * np.eye(100))).trace())
        assert worker.ask(textwrap.dedent(code)) == pytest.approx(expected)


class TestFamily:
    def test_the_zygote_is_ready_with_its_pid_and_protocol(self, pair: ZygotePair) -> None:
        """
        The node can tell which process it is and whether they understand each other.
        """
        assert pair.ready == {"ready": 1, "pid": pair.process.pid, "protocol": VERSION}

    def test_exits_and_signals_are_told_apart(self, pair: ZygotePair) -> None:
        """
        The node is the real parent, so it gets the very status.
        """
        ends = {
            "import os; os._exit(3)": 3,
            "import sys; sys.exit(4)": 4,
            "import ctypes; ctypes.string_at(0)": -signal.SIGSEGV,
            "import os; os.abort()": -signal.SIGABRT,
            "import os; os.kill(os.getpid(), 9)": -signal.SIGKILL,
        }
        for code, status in ends.items():
            worker = pair.spawn()
            assert worker.hello() == "confined"
            assert worker.ask("import os; answer = os.getppid()") == os.getpid()
            worker.tell(code)
            assert worker.reap() == status, code

    def test_output_goes_to_the_pipe_of_its_own(self, pair: ZygotePair) -> None:
        """
        Both streams, whole, in order, and also what was not flushed.
        """
        worker = pair.spawn()
        worker.hello()
        worker.ask("import os, sys; print('one é'); sys.stderr.write('two\\n')")
        worker.tell("import sys; sys.stdout.write('three'); sys.exit(0)")
        assert worker.reap() == 0
        assert worker.written() == "one é\ntwo\nthree"

    def test_a_worker_outlives_its_zygote(self, layers: tuple[str, ...], tmp_path: Path) -> None:
        """
        The zygote can be killed and started again; its workers are not its children.
        """
        with ZygotePair(tmp_path) as pair:
            pair.send_program()
            worker = pair.spawn()
            worker.hello()
            pair.process.kill()
            pair.process.wait(DEADLINE)
            assert worker.ask("answer = 1 + 1") == 2

    def test_nobody_outlives_the_node(self, layers: tuple[str, ...], tmp_path: Path) -> None:
        """
        A node killed with SIGKILL takes its workers and its zygote with it.
        """
        code = "import sys; from tests.zygote_pair import serve_as_node; serve_as_node(sys.argv[1])"
        node = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with node:
            assert node.stdout is not None
            pids = [int(word) for word in node.stdout.readline().split()]
            pidfds = [os.pidfd_open(pid) for pid in pids]
            node.kill()
            for pidfd in pidfds:
                assert _ended(pidfd)
                os.close(pidfd)

    def test_an_unconfined_worker_never_starts(self, pair: ZygotePair) -> None:
        """
        A step that fails ends it with its own status and one line that names the step.
        """
        worker = pair.spawn(node_pid=1)
        assert worker.hello() == ""
        assert worker.reap() == EXIT_UNCONFINED
        (line,) = worker.written().splitlines()
        assert "process: the node 1 is not the parent" in line

    def test_a_missing_program_is_named(self, layers: tuple[str, ...], tmp_path: Path) -> None:
        """
        Before the node has sent the filter nothing runs that needs it.
        """
        with ZygotePair(tmp_path) as pair:
            worker = pair.spawn()
            assert worker.reap() == EXIT_UNCONFINED
            (line,) = worker.written().splitlines()
            assert "seccomp: the node sent no filter program" in line

    def test_sandbox_off_still_tidies_up(self, pair: ZygotePair) -> None:
        """
        Without layers a worker has its own session, environment and descriptors all the same.
        """
        worker = pair.spawn(layers=())
        assert worker.hello() == "confined"
        assert in_force(worker.pid) == ()
        assert worker.ask("import os; answer = os.getsid(0)") == worker.pid

    def test_frames_that_are_none_are_answered_and_change_nothing(self, pair: ZygotePair) -> None:
        """
        Each gets one error; the next spawn works, and no descriptor is left behind.
        """
        pair.send({"kind": "dance"}, [])
        pair.receive()  # by now it has let go of what came with the last spawn
        held = len(list(Path(f"/proc/{pair.process.pid}/fd").iterdir()))
        frames: list[tuple[dict[str, object], list[int]]] = [
            ({"kind": "dance"}, []),
            ({"kind": ["spawn"]}, []),
            ({"kind": "program", "variant": [], "program": "text"}, []),
            ({"kind": "program", "variant": ["magic"], "program": b""}, []),
            ({"kind": "program", "variant": [["gpu"]], "program": b""}, []),
            ({"kind": "program", "program": b""}, []),
            ({"kind": "spawn"}, [0, 0, 0]),
            ({"kind": "spawn", "incarnation": 1}, [0]),
            ({"kind": "spawn", "incarnation": 1, "environment": {"a": 1}}, [0, 0, 0]),
        ]
        for frame, descriptors in frames:
            pair.send(frame, descriptors)
            answer = pair.receive()
            assert answer.pop("error")
            assert answer == {k: v for k, v in frame.items() if k == "incarnation"}
        pair.socket.send(b"\xc1")
        assert "msgpack" in pair.receive()["error"]
        assert len(list(Path(f"/proc/{pair.process.pid}/fd").iterdir())) == held
        assert pair.spawn().hello() == "confined"


class TestMachine:
    def test_foreign_system_call_numbers_end_the_process(self, pair: ZygotePair) -> None:
        """
        The 32-bit numbers of x86-64 would pass a filter that knows only the others.
        """
        if platform.machine() != "x86_64":
            pytest.skip("x32 is an interface of x86-64 only")
        worker = pair.spawn()
        worker.hello()
        worker.tell("import ctypes; ctypes.CDLL(None).syscall(ctypes.c_long(0x40000000 + 39))")
        assert worker.reap() == -signal.SIGSYS

    def test_it_gives_way_to_the_host(self, pair: ZygotePair) -> None:
        """
        It is nice, and when memory runs out the kernel takes it first.
        """
        worker = pair.spawn()
        assert worker.hello() == "confined"
        assert os.getpriority(os.PRIO_PROCESS, worker.pid) == NICE
        score = int(Path(f"/proc/{worker.pid}/oom_score_adj").read_text())
        assert score == OOM_SCORE_ADJ > int(Path("/proc/self/oom_score_adj").read_text())

    def test_its_session_is_as_nice_as_it_is(self, pair: ZygotePair) -> None:
        """
        A kernel that shares its time out by sessions heeds no niceness but theirs.
        """
        worker = pair.spawn()
        assert worker.hello() == "confined"
        group = Path(f"/proc/{worker.pid}/autogroup")
        if not group.exists():
            pytest.skip("this kernel does not share its time out by sessions")
        if os.geteuid():
            pytest.skip("users who are not root may say it only ten times a second, all together")
        assert group.read_text().endswith(f"nice {NICE}\n")

    def test_unknown_calls_do_not_exist(self, worker: Worker) -> None:
        """
        What is newer than the policy is answered as by an older kernel.
        """
        code = "import ctypes; libc = ctypes.CDLL(None, use_errno=True)\n"
        code += "answer = [libc.syscall(ctypes.c_long(463)), ctypes.get_errno()]"
        assert worker.ask(code) == [-1, errno.ENOSYS]


def _ended(pidfd: int) -> bool:
    return bool(select.select([pidfd], [], [], DEADLINE)[0])
