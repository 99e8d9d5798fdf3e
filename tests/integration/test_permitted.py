"""What the kernel lets a worker do by permission, and no more; tried from inside real workers.

The workers of the first classes run what each test sends them; the test process is their node. In
the last class a real node starts them.
"""

import errno
import os
import platform
import select
import socket
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plugin_worker.sandbox import landlock, seccomp
from plugin_worker.sandbox.errors import EXIT_UNCONFINED
from plugin_worker.sandbox.policy import CHANGES, LANDLOCK_PORTS, LAYER_NAMES
from plugin_worker.sandbox.probe import probe
from protocol.messages import Exited, SpawnFailed
from protocol.permissions import NOTHING, Permissions
from tests.hosts import DEADLINE, Run, eventually
from tests.nodes import NodeRun, new_node
from tests.zygote_pair import Worker, ZygotePair

UNPRIVILEGED = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EAFNOSUPPORT}


@pytest.fixture(scope="session", autouse=True)
def layers() -> tuple[str, ...]:
    """Every layer of the profile; without one of them there is nothing to test here."""
    missing = [f"{layer}: {why}" for layer, why in probe().items() if why]
    if missing:
        pytest.skip("this machine says: " + "; ".join(missing))
    return LAYER_NAMES


@pytest.fixture(scope="module")
def pair(layers: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZygotePair]:
    with ZygotePair(tmp_path_factory.mktemp("zygote")) as pair:
        pair.send_program()
        for permission in CHANGES:
            pair.send_program(permission)
        yield pair


def attempt(worker: Worker, code: str) -> Any:  # noqa: ANN401 - as the code answers
    """Run code there; give its answer, or the class, number and text of what it raised."""
    guarded = f"""
try:
{textwrap.indent(textwrap.dedent(code), "    ")}
except OSError as error:
    answer = [type(error).__name__, error.errno, str(error)]
"""
    return worker.ask(guarded)


def number(outcome: object) -> int:
    """Give the errno that an attempt came to; 0 if it worked."""
    return int(outcome[1]) if isinstance(outcome, list) else 0


def without_our_names(code: str) -> str:
    """Go around Python's events, as native code does: calls of the C library itself."""
    head = "import ctypes; libc = ctypes.CDLL(None, use_errno=True)\n"
    return f"{head}answer = [libc.{code}, ctypes.get_errno()]"


class TestPaths:
    @pytest.fixture
    def outside(self, tmp_path: Path) -> Path:
        """A folder that no worker may touch without a permission, with a file in it."""
        (tmp_path / "note").write_text("secret")
        return tmp_path

    def test_what_may_be_read_may_not_be_written(self, pair: ZygotePair, outside: Path) -> None:
        """
        A granted folder opens for reading, with all that is in it, and for nothing else.
        """
        worker = pair.spawn(granted_read=(str(outside),))
        assert worker.hello() == "confined"
        note = str(outside / "note")
        assert attempt(worker, f"answer = open({note!r}).read()") == "secret"
        assert attempt(worker, f"import os; answer = os.listdir({str(outside)!r})[0]") == "note"
        for code in (f"open({note!r}, 'a')", f"import os; os.remove({note!r})"):
            assert number(attempt(worker, code)) == errno.EACCES, code
        assert (outside / "note").read_text() == "secret"

    def test_what_may_be_written_may_be_read(self, pair: ZygotePair, outside: Path) -> None:
        """
        A granted folder can be changed, read and tidied; what lies beside it cannot be touched.
        """
        (outside / "in").mkdir()
        worker = pair.spawn(granted_write=(str(outside / "in"),))
        assert worker.hello() == "confined"
        code = f"""
            import os
            path = {str(outside / "in" / "new")!r}
            open(path, "w").write("kept")
            os.rename(path, path + "er")
            answer = open(path + "er").read()
        """
        assert attempt(worker, code) == "kept"
        assert (outside / "in" / "newer").read_text() == "kept"
        assert number(attempt(worker, f"open({str(outside / 'note')!r})")) == errno.EACCES

    def test_a_granted_file_is_that_file_alone(self, pair: ZygotePair, outside: Path) -> None:
        """
        Neither its folder nor its neighbour comes with it.
        """
        (outside / "other").write_text("not this")
        worker = pair.spawn(granted_write=(str(outside / "note"),))
        assert worker.hello() == "confined"
        note = str(outside / "note")
        assert attempt(worker, f"open({note!r}, 'w').write('new'); answer = 0") == 0
        assert number(attempt(worker, f"open({str(outside / 'other')!r})")) == errno.EACCES
        assert (outside / "note").read_text() == "new"

    def test_nothing_in_it_can_be_started(self, pair: ZygotePair, outside: Path) -> None:
        """
        Also by a plugin that may start the system's programs.
        """
        (outside / "program").write_bytes(Path("/bin/true").read_bytes())
        (outside / "program").chmod(0o755)
        worker = pair.spawn(granted_write=(str(outside),), subprocess=True)
        assert worker.hello() == "confined"
        code = f"import subprocess; subprocess.run([{str(outside / 'program')!r}])"
        assert number(attempt(worker, code)) == errno.EACCES

    @pytest.mark.parametrize("field", ["granted_read", "granted_write"])
    def test_a_path_that_is_not_there_ends_the_start(self, pair: ZygotePair, field: str) -> None:
        """
        It is named, with the permission and what to do; it is never skipped.
        """
        granted: dict[str, Any] = {field: ("/nowhere/at/all",)}
        worker = pair.spawn(**granted)
        assert worker.hello() == ""
        assert worker.reap() == EXIT_UNCONFINED
        said = worker.written()
        assert f"{field.removeprefix('granted_')}: /nowhere/at/all: it does not exist" in said
        assert "revoke" in said

    @pytest.mark.parametrize("where", ["last", "before"])
    def test_a_link_put_there_later_leads_nowhere(
        self, pair: ZygotePair, outside: Path, where: str
    ) -> None:
        """
        Another plugin may write where the granted folder lies, and put a link in its place.
        """
        (outside / "link").symlink_to("/etc")
        granted = "link" if where == "last" else "link/ssl"
        worker = pair.spawn(granted_read=(str(outside / granted),))
        assert worker.hello() == ""
        assert worker.reap() == EXIT_UNCONFINED
        assert f"read: {outside / granted}: there is a symbolic link in it" in worker.written()

    def test_what_takes_the_place_of_a_granted_path_is_not_taken_for_it(
        self, pair: ZygotePair, outside: Path
    ) -> None:
        """
        What the node has seen there is what the worker opens, or the plugin does not start.
        """
        note, other = str(outside / "note"), str(outside / "other")
        (outside / "other").write_text("another")
        handles = [os.open(path, os.O_PATH) for path in (note, other)]
        right, wrong = map(landlock.identity_of, handles)
        for handle in handles:
            os.close(handle)
        worker = pair.spawn(granted_read=(note,), identities={note: right})
        assert worker.hello() == "confined"
        worker = pair.spawn(granted_read=(note,), identities={note: wrong})
        assert worker.reap() == EXIT_UNCONFINED
        assert f"read: {note}: it was put in place of" in worker.written()

    def test_a_link_inside_leads_no_further(self, pair: ZygotePair, outside: Path) -> None:
        """
        What is opened counts, not the name it was opened by.
        """
        (outside / "link").symlink_to("/etc/passwd")
        worker = pair.spawn(granted_read=(str(outside),))
        assert worker.hello() == "confined"
        assert number(attempt(worker, f"open({str(outside / 'link')!r})")) == errno.EACCES


@pytest.fixture(scope="module")
def granted() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture(scope="module")
def other() -> Iterator[socket.socket]:
    """A port that nobody granted; whoever reaches it waits here."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def port_of(server: socket.socket) -> int:
    port: int = server.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def dialler(pair: ZygotePair, granted: socket.socket) -> Worker:
    """A worker that may connect to one port."""
    if landlock.abi() < LANDLOCK_PORTS:
        pytest.skip("this kernel cannot tell ports apart, and the permission is refused")
    worker = pair.spawn(ports=(port_of(granted),))
    assert worker.hello() == "confined"
    return worker


DETOURS = [
    "socket.create_connection(target)",
    "socket.socket().connect_ex(target)",
    "socket.socket(socket.AF_INET6).connect(('::ffff:127.0.0.1', target[1]))",
    "socket.socket(proto=262).connect(target)",
    "socket.socket(proto=132).connect(target)",
    "socket.socket(type=socket.SOCK_SEQPACKET, proto=132).connect(target)",
    "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', target)",
    "socket.socket().sendto(b'x', socket.MSG_FASTOPEN, target)",
    "socket.socket().sendmsg([b'x'], [], socket.MSG_FASTOPEN, target)",
    "socket.socket().setsockopt(socket.IPPROTO_TCP, 30, 1)",
    "socket.socket().setsockopt(socket.IPPROTO_TCP, 31, b'smc')",
    "socket.socket(43, socket.SOCK_STREAM).connect(target)",
]
RAW = [
    "socket(2, 1, 262)",
    "socket(2, 2, 0)",
    "socket(2, 3, 6)",
    "socket(1, 1, 0)",
    "socket(16, 3, 0)",
    "socket(17, 3, 0)",
    "socket(38, 5, 0)",
    "socket(43, 1, 0)",
    # The kernel looks at the low half of these words only, and so does the filter.
    "syscall(ctypes.c_long(41), ctypes.c_long(1 << 32 | 2), ctypes.c_long(2), ctypes.c_long(0))",
    (
        "syscall(ctypes.c_long(54), ctypes.c_long(libc.socket(2, 1, 0)), ctypes.c_long(1 << 32 | 6)"
        ", ctypes.c_long(30), ctypes.byref(ctypes.c_int(1)), ctypes.c_long(4))"
    ),
]


class TestNetwork:
    def test_a_granted_port_is_reached(self, dialler: Worker, granted: socket.socket) -> None:
        """
        By number and by `localhost`, blocking and in asyncio, with ordinary options.
        """
        port = port_of(granted)
        code = f"""
            import asyncio, socket
            for host in ("127.0.0.1", "localhost"):
                with socket.create_connection((host, {port})) as end:
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            async def main():
                reader, writer = await asyncio.open_connection("127.0.0.1", {port})
                writer.close()
                return "reached"
            answer = asyncio.run(main())
        """
        assert attempt(dialler, code) == "reached"
        for _ in range(3):
            granted.accept()[0].close()

    @pytest.mark.parametrize("detour", DETOURS)
    def test_no_other_port_is(self, dialler: Worker, other: socket.socket, detour: str) -> None:
        """
        Not by another protocol, nor before the connection is there, nor by another kind of socket.
        """
        code = f"import socket; target = ('127.0.0.1', {port_of(other)}); {detour}; answer = 0"
        assert number(attempt(dialler, code)) in UNPRIVILEGED
        assert not select.select([other], [], [], 0)[0]

    @pytest.mark.parametrize("call", RAW)
    def test_nor_by_native_code(self, dialler: Worker, call: str) -> None:
        """
        The kernel refuses what no event of Python's tells of.
        """
        if call.startswith("syscall") and platform.machine() != "x86_64":
            pytest.skip("numbers of x86-64")
        result, code = dialler.ask(without_our_names(call))
        assert result == -1
        assert code in UNPRIVILEGED

    def test_no_pair_is_turned_into_a_connection(self, dialler: Worker, tmp_path: Path) -> None:
        """
        A stream pair is all that there is of unix sockets; its ends stay what they are.
        """
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(tmp_path / "s"))
            server.listen()
            code = f"""
                import socket
                one, other = socket.socketpair()
                other.close()
                one.connect({str(tmp_path / "s")!r})
            """
            assert number(attempt(dialler, code)) in {errno.EISCONN, *UNPRIVILEGED}
            assert not select.select([server], [], [], 0)[0]

    def test_nobody_listens(self, dialler: Worker) -> None:
        """
        A port is granted to connect to; serving on one is not to be had.
        """
        code = "import socket; socket.socket().bind(('127.0.0.1', 0))"
        assert number(attempt(dialler, code)) in UNPRIVILEGED
        fd = "libc.socket(2, 1, 0)"
        assert dialler.ask(without_our_names(f"listen({fd}, 1)")) == [-1, errno.EPERM]

    def test_names_are_not_looked_up(self, dialler: Worker) -> None:
        """
        There is no UDP to ask by: what is not in /etc/hosts has no address here.
        """
        outcome = attempt(dialler, "import socket; socket.getaddrinfo('no.such.example', 1)")
        assert outcome[0] == "gaierror"


@pytest.fixture(scope="module")
def starter(pair: ZygotePair) -> Worker:
    """A worker that may start programs."""
    worker = pair.spawn(subprocess=True)
    assert worker.hello() == "confined"
    return worker


class TestSubprocess:
    def test_programs_of_the_system_run(self, starter: Worker) -> None:
        """
        A shell, Python itself, and a plain fork; their status comes back.
        """
        code = """
            import subprocess, sys
            shell = subprocess.run(["/bin/sh", "-c", "echo $((6 * 7)); exit 3"], stdout=-1)
            python = subprocess.run([sys.executable, "-c", "print(7)"], stdout=-1)
            answer = [shell.stdout, shell.returncode, python.stdout]
        """
        assert attempt(starter, code) == [b"42\n", 3, b"7\n"]

    def test_children_are_confined_as_their_parent_is(self, starter: Worker) -> None:
        """
        Files, sockets and namespaces are refused to them as well.
        """
        programs = (
            "['/bin/cat', '/etc/passwd']",
            "['/bin/ls', '/']",
            "['/bin/chmod', '777', '.']",
            "['/usr/bin/unshare', '--user', '/bin/true']",
            "[sys.executable, '-c', 'import socket; socket.socket()']",
        )
        for program in programs:
            code = (
                f"import subprocess, sys; answer = subprocess.run({program}, stderr=-3).returncode"
            )
            assert attempt(starter, code) > 0, program

    def test_nobody_outside_is_signalled(self, starter: Worker) -> None:
        """
        It may signal what it has started, and nothing else, its node least of all.
        """
        code = """
            import os, signal
            child = os.fork()
            if child == 0:
                signal.pause()
            os.kill(child, 9)
            answer = os.waitpid(child, 0)[1]
        """
        assert attempt(starter, code) == 9
        for target in ("os.getppid()", "1"):
            outcome = attempt(starter, f"import os; os.kill({target}, 0)")
            assert number(outcome) == errno.EPERM

    def test_no_child_becomes_the_nodes_own(self, starter: Worker) -> None:
        """
        A brother would be reaped by nobody, nor be held by what holds the worker.
        """
        if platform.machine() != "x86_64":
            pytest.skip("numbers of x86-64")
        clone_parent = "syscall(ctypes.c_long(56), ctypes.c_long(0x8000 | 17), 0, 0, 0, 0)"
        assert starter.ask(without_our_names(clone_parent))[0] == -1


class TestAccelerators:
    def test_their_drivers_are_talked_to_and_no_others(self, pair: ZygotePair) -> None:
        """
        Of every device file that is there, only those that were given take a driver's commands.

        /dev/null stands for an accelerator: it knows no command and says so, which is its answer.
        """
        worker = pair.spawn(devices=("/dev/null",))
        assert worker.hello() == "confined"
        head = "import fcntl, os; device ="
        for command in (0x4601, 0x6401, 0x4B01, 0x30000001, 27):
            code = (
                f"{head} os.open('/dev/null', os.O_RDWR); fcntl.ioctl(device, {command}, bytes(8))"
            )
            assert number(attempt(worker, code)) == errno.ENOTTY, hex(command)
        code = f"{head} os.open('/dev/zero', os.O_RDWR); fcntl.ioctl(device, 0x4601, bytes(8))"
        assert number(attempt(worker, code)) == errno.EACCES
        code = f"{head} os.open('/dev/null', os.O_RDWR); fcntl.ioctl(device, 0x4701, bytes(8))"
        assert number(attempt(worker, code)) == errno.ENOSYS
        code = f"{head} os.open('/dev/null', os.O_RDWR); fcntl.ioctl(device, 0x5412, bytes(8))"
        assert number(attempt(worker, code)) == errno.ENOTTY


@pytest.fixture(scope="module")
def plain(pair: ZygotePair) -> Worker:
    """A worker without any permission."""
    worker = pair.spawn()
    assert worker.hello() == "confined"
    return worker


class TestRefusals:
    @pytest.mark.parametrize(
        ("code", "said"),
        [
            ("open('/etc/passwd')", "read: /etc/passwd;"),
            ("open('/usr/../etc/passwd')", "read: /etc/passwd;"),
            ("import os; os.open(b'/etc/passwd', os.O_RDONLY)", "read: /etc/passwd;"),
            ("import os; os.chdir('/'); open('etc/passwd')", "read: /etc/passwd;"),
            ("import os; os.listdir('/')", "read: /;"),
            ("import os; next(os.scandir('/etc'))", "read: /etc;"),
            ("open('/etc/passwd', 'a')", "write: /etc/passwd;"),
            ("open('/etc/new', 'w')", "write: /etc/new;"),
            ("import os; os.mkdir('/new')", "write: /new;"),
            ("import os; os.remove('/etc/passwd')", "write: /etc/passwd;"),
            ("import os; os.rmdir('/etc')", "write: /etc;"),
            ("import os; os.rename('/etc/passwd', 'x')", "write: /etc/passwd;"),
            ("open('own', 'w'); import os; os.rename('own', '/etc/new')", "write: /etc/new;"),
            ("open('own', 'w'); import os; os.link('own', '/etc/new')", "write: /etc/new;"),
            (
                "import os; from pathlib import Path; os.chdir(Path('/')); open('etc/new', 'w')",
                "/etc/new;",
            ),
            ("import os; os.symlink('x', '/etc/new')", "write: /etc/new;"),
            ("import os; os.truncate('/etc/passwd', 0)", "write: /etc/passwd;"),
            ("import socket; socket.socket()", "network: a socket;"),
            ("import socket; socket.socket(socket.AF_UNIX)", "network: a socket of family 1"),
            ("import socket; socket.create_connection(('127.0.0.1', 9))", "network: a socket;"),
            ("import socket; socket.getaddrinfo('example.com', 80)", "address of example.com;"),
            ("import os; os.fork()", "subprocess: fork;"),
            ("import os; os.system('ls -l')", "subprocess: ls -l;"),
            ("import os; os.execv('/bin/true', ['true'])", "subprocess: /bin/true;"),
            ("import os; os.posix_spawn('/bin/true', ['x'], {})", "subprocess: /bin/true;"),
            ("import subprocess; subprocess.run(['ls', '-l'])", "subprocess: ls;"),
        ],
    )
    def test_names_permission_subject_and_cure(self, plain: Worker, code: str, said: str) -> None:
        """
        What the kernel would refuse is an exception that says what to ask for.
        """
        kind, errno_, text = attempt(plain, f"import os; os.chdir(os.environ['TMPDIR']); {code}")
        assert kind == "PermissionDenied"
        assert errno_ in {errno.EPERM, errno.EACCES}
        assert said in text
        assert "[permissions]" in text
        assert "spiral-host grant" in text

    def test_a_port_is_named(self, dialler: Worker, other: socket.socket) -> None:
        """
        Whoever may connect somewhere reads which port was not granted.
        """
        target = ("127.0.0.1", port_of(other))
        outcome = attempt(dialler, f"import socket; socket.create_connection({target!r})")
        assert f"network: port {target[1]};" in outcome[2]

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            ("open('/nowhere')", "FileNotFoundError"),
            ("open('/nowhere/new', 'w')", "FileNotFoundError"),
            ("import os; os.mkdir('/etc')", "FileExistsError"),
            ("import os; os.remove('/etc/nowhere')", "FileNotFoundError"),
            ("import os; os.rename('nowhere', '/etc/new')", "FileNotFoundError"),
            ("import os; os.rmdir('nowhere')", "FileNotFoundError"),
            ("import os; os.open('/usr', os.O_RDWR)", "IsADirectoryError"),
        ],
    )
    def test_what_fails_otherwise_fails_as_ever(self, plain: Worker, code: str, kind: str) -> None:
        """
        Nothing is called a refusal that the kernel answers differently.
        """
        assert attempt(plain, code)[0] == kind

    @pytest.mark.parametrize(
        "code",
        [
            "import os; os.makedirs('a/b', exist_ok=True); os.makedirs('a/b', exist_ok=True)",
            "open('x', 'x').close(); import os; os.rename('x', 'y'); os.remove('y')",
            "open('l', 'w'); import os; os.symlink('l', 'm'); open('m').close(); os.remove('m')",
            "import os; os.listdir('/lib'); os.listdir('/usr/lib'); os.listdir('.'); os.listdir()",
            "open('/dev/null', 'w').close(); import random; random.SystemRandom().random()",
            "import socket; a, b = socket.socketpair(); a.dup(); socket.fromfd(b.fileno(), 1, 1)",
            "import asyncio; asyncio.run(asyncio.sleep(0))",
            "import socket; socket.getaddrinfo('127.0.0.1', 80); socket.getaddrinfo('::1', 80)",
            "import tempfile; tempfile.TemporaryFile().write(b'x')",
            "import os; fd = os.open('.', os.O_RDONLY); os.mkdir('d', dir_fd=fd); os.rmdir('d')",
            (
                "import os; fd = os.open('.', os.O_RDONLY); os.mkdir('etc'); os.chdir('/');"
                "os.close(os.open('etc', os.O_RDONLY, dir_fd=fd)); os.rmdir('etc', dir_fd=fd)"
            ),
            (
                "import tempfile; from pathlib import Path; import shutil;"
                "top = Path(tempfile.mkdtemp()); (top / 'a').mkdir(); shutil.rmtree(top)"
            ),
        ],
    )
    def test_what_is_allowed_goes_on(self, plain: Worker, code: str) -> None:
        """
        The names cost nothing but a look: whatever worked without them works with them.
        """
        head = "import os; os.chdir(os.environ['TMPDIR']); "
        assert attempt(plain, f"{head}{code}\nanswer = 'done'") == "done"

    def test_code_that_goes_around_meets_the_kernel(self, plain: Worker) -> None:
        """
        Nothing rests on the names.
        """
        assert plain.ask(without_our_names("fork()")) == [-1, errno.EPERM]
        assert plain.ask(without_our_names("socket(2, 1, 0)")) == [-1, errno.EPERM]
        assert plain.ask(without_our_names("open(b'/etc/passwd', 0)")) == [-1, errno.EACCES]

    def test_each_is_told(self, plain: Worker) -> None:
        """
        Whoever wants to know hears the permission and the subject, before it is raised.
        """
        code = """
            from plugin_worker.refusals import REFUSALS
            before, told = REFUSALS.on_refusal, []
            REFUSALS.on_refusal = lambda permission, what: told.append([permission, what])
            try:
                open("/etc/passwd")
            except PermissionError:
                answer = told
            REFUSALS.on_refusal = before
        """
        assert attempt(plain, code) == [["read", "/etc/passwd"]]


class TestCanary:
    def test_a_filter_that_is_not_its_own_ends_the_worker(
        self, layers: tuple[str, ...], tmp_path: Path
    ) -> None:
        """
        A worker tries what it must not be able to do before it says that it is confined.
        """
        with ZygotePair(tmp_path) as pair:
            wrong = seccomp.compile_program(frozenset({"network"}))
            pair.send({"kind": "program", "variant": [], "program": wrong}, [])
            worker = pair.spawn()
            assert worker.hello() == ""
            assert worker.reap() == EXIT_UNCONFINED
            assert "seccomp: making a socket failed otherwise" in worker.written()

    def test_no_other_programs_filter_is_taken(
        self, layers: tuple[str, ...], tmp_path: Path
    ) -> None:
        """
        Where the node has not sent the filter for its permissions, a worker does not start.
        """
        with ZygotePair(tmp_path) as pair:
            pair.send_program()
            worker = pair.spawn(subprocess=True)
            assert worker.reap() == EXIT_UNCONFINED
            assert "the node sent no filter program" in worker.written()


class TestOrder:
    def test_no_file_of_a_plugin_runs_before_it_is_confined(self, run: Run) -> None:
        """
        Modules by the names of ours, of Python's, and of what Python runs by itself shadow nothing.
        """
        host = run.embed("shadow")
        at_import, ours, ran = host.get_service("shadow").seen()
        assert at_import == "PermissionDenied"
        assert not ours
        assert not ran

    def test_a_call_raises_no_event(self, run: Run) -> None:
        """
        The names cost a plugin nothing while it answers calls: Python tells of none of it.
        """
        host = run.embed("snoop")
        code = """
            import sys
            seen = []
            class Echo:
                def echo(self, value):
                    return value
                def seen(self):
                    return list(seen)
            ctx.register_service("echo", Echo())
            sys.addaudithook(lambda event, arguments: seen.append(event))
        """
        assert host.get_service("snoop").attempt(textwrap.dedent(code)) is None
        echo = eventually(lambda: host.get_service("echo"))
        echo.echo(1)
        before = len(echo.seen())
        calls = 200
        for _ in range(calls):
            assert echo.echo({"a": [1, "b"]}) == {"a": [1, "b"]}
        # Some are raised by what the node asks meanwhile, now and then.
        assert len(echo.seen()) - before < calls


@pytest.fixture(scope="module")
def node() -> Iterator[NodeRun]:
    """A real node, with the test as its daemon."""
    with new_node() as node:
        yield node


class TestNode:
    def attempt(
        self, node: NodeRun, code: str, permissions: Permissions, profile: str = "standard"
    ) -> object:
        """Have a plugin with these permissions run code."""
        worker = node.spawn("snoop", permissions=permissions, profile=profile)
        node.wait_loaded(worker)
        lane = node.lane(worker)
        deadline = time.monotonic() + DEADLINE
        lane.call(1, "attempt", code, service="snoop", deadline=deadline)
        while (parts := lane.hear()) is None:
            assert select.select([lane.lane.fd], [], [], DEADLINE)[0]
        return parts

    def test_permissions_reach_the_plugin(
        self, node: NodeRun, granted: socket.socket, tmp_path: Path
    ) -> None:
        """
        What the daemon says is in force is what the plugin can do; each worker has its own.
        """
        (tmp_path / "note").write_text("a note")
        port = port_of(granted)
        code = f"answer = open({str(tmp_path / 'note')!r}).read()"
        connect = (
            f"import socket; socket.create_connection(('127.0.0.1', {port})); answer = 'there'"
        )
        allowed = Permissions(read=(str(tmp_path),), network=(port,))
        assert "a note" in str(self.attempt(node, code, allowed))
        assert "there" in str(self.attempt(node, connect, allowed))
        for attempt in (code, connect):
            assert "PermissionDenied" in str(self.attempt(node, attempt, NOTHING))

    def test_they_are_the_same_in_namespaces(
        self, node: NodeRun, granted: socket.socket, tmp_path: Path
    ) -> None:
        """
        Paths, ports and programs, those that are refused under `standard` included.
        """
        if why := probe(("namespaces",))["namespaces"]:
            pytest.skip(why)
        (tmp_path / "in").mkdir()
        (tmp_path / "note").write_text("a note")
        permissions = Permissions(
            read=(str(tmp_path / "note"),),
            write=(str(tmp_path / "in"),),
            network=(port_of(granted),),
            subprocess=True,
        )
        code = f"""
            import os, socket, subprocess
            socket.create_connection(("127.0.0.1", {port_of(granted)})).close()
            said = subprocess.run(["/bin/cat", {str(tmp_path / "note")!r}], stdout=-1).stdout
            open({str(tmp_path / "in" / "new")!r}, "wb").write(said)
            shell = subprocess.run("ls /; cat /etc/passwd", shell=True, stderr=-3).returncode
            try:
                os.kill(os.getppid(), 0)
            except OSError as error:
                answer = [shell, error.errno]
        """
        heard = str(self.attempt(node, textwrap.dedent(code), permissions, "strict"))
        assert "[1, 1]" in heard
        assert (tmp_path / "in" / "new").read_text() == "a note"
        other = f"open({str(tmp_path / 'in' / 'new')!r}, 'w').write('mine')"
        nothing = str(self.attempt(node, other, NOTHING, "strict"))
        assert "FileNotFoundError" in nothing
        granted.accept()[0].close()

    def test_what_cannot_be_given_is_said(self, node: NodeRun) -> None:
        """
        The plugin does not start, its daemon hears which permission and why, and the node goes on.
        """
        incarnation = node.order("snoop", Permissions(read=("/nowhere",)))
        failed = node.daemon.first_of(SpawnFailed, incarnation)
        assert "read: /nowhere: it does not exist; make it" in failed.reason
        assert not node.daemon.all_of(Exited, incarnation)

    def test_more_than_can_be_said_is_refused(self, node: NodeRun, tmp_path: Path) -> None:
        """
        Paths that fit in no frame are an error of that start, and the node goes on.
        """
        deep = tmp_path.joinpath(*["d" * 200] * 6)
        leaves = [deep / f"{number:0200d}" for number in range(100)]
        for leaf in leaves:
            leaf.mkdir(parents=True)
        incarnation = node.order("snoop", Permissions(read=tuple(map(str, leaves))))
        failed = node.daemon.first_of(SpawnFailed, incarnation)
        assert "grant the folders that they are in" in failed.reason


def test_what_the_operator_gives_everyone_is_what_plugins_can_do(
    run: Run, granted: socket.socket, tmp_path: Path
) -> None:
    """From the operator's file to the kernel, through the real daemon."""
    (tmp_path / "note").write_text("a note")
    run.config_dir.mkdir(mode=0o700)
    given = f'[everyone]\nread = ["{tmp_path}"]\nnetwork = [{port_of(granted)}]\n'
    (run.config_dir / "spiral.toml").write_text(given)
    snoop = run.embed("snoop").get_service("snoop")
    assert snoop.attempt(f"answer = open({str(tmp_path / 'note')!r}).read()") == "a note"
    connect = f"import socket; socket.create_connection(('127.0.0.1', {port_of(granted)})).close()"
    assert snoop.attempt(connect) is None
    granted.accept()[0].close()
    for code in ("open('/etc/passwd')", "import subprocess; subprocess.run(['/bin/true'])"):
        assert snoop.attempt(code)["raised"] == "PermissionDenied"
