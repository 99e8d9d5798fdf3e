"""A test in the node's place: a real zygote, and workers that run what the test tells them to.

Everything waits for an event under a deadline; nothing sleeps.
"""

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgpack

from plugin_worker.confine import Confinement, scrubbed_environment
from plugin_worker.sandbox.policy import STANDARD
from plugin_worker.sandbox.seccomp import compile_program
from protocol.interest import InterestWriter

DEADLINE: Final = 20.0
ROOT: Final = Path(__file__).parents[1]

OBEDIENT: Final = '''
"""Says hello, then does what each packet says and answers with the value of `answer`."""
import msgpack

def run(spec, umbilical, flight, interest):
    umbilical.send(msgpack.packb("confined"))
    while code := umbilical.recv(65536):
        scope = {"spec": spec, "umbilical": umbilical, "interest": interest, "answer": None}
        try:
            exec(code, scope)
            answer = scope["answer"]
        except Exception as error:
            answer = {"raised": type(error).__name__, "errno": getattr(error, "errno", None)}
        umbilical.send(msgpack.packb(answer))
    return 0
'''
"""What takes the place of `plugin_worker.runtime` in these workers."""

_BOOT: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); from obedient import run; "
    "from plugin_worker.zygote import main; main(sys.argv[1], int(sys.argv[2]), run)"
)


@dataclass
class Worker:
    """One worker, from its node's side."""

    pid: int
    umbilical: socket.socket
    output: int
    tmp: Path
    data: Path
    pidfd: int = field(init=False)

    def __post_init__(self) -> None:
        self.pidfd = os.pidfd_open(self.pid)

    def hello(self) -> object:
        """Wait until it is confined; "" when it ended before."""
        packet = self.umbilical.recv(65536)
        return msgpack.unpackb(packet) if packet else ""

    def ask(self, code: str) -> Any:  # noqa: ANN401 - what the code answers
        """Run code in the worker and give its `answer`, or how it raised."""
        self.umbilical.send(code.encode())
        return msgpack.unpackb(self.umbilical.recv(65536))

    def tell(self, code: str) -> None:
        """Run code that does not come back."""
        self.umbilical.send(code.encode())

    def wait_ended(self) -> bool:
        """Wait until it has ended, whoever its parent is; False at the deadline."""
        return bool(select.select([self.pidfd], [], [], DEADLINE)[0])

    def reap(self) -> int:
        """Wait until it has ended, as its parent; minus the signal's number, or the status."""
        assert self.wait_ended()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def written(self) -> str:
        """Give all that it wrote to its output; call it when it has ended."""
        with os.fdopen(os.dup(self.output), "rb") as file:
            return file.read().decode()

    def close(self) -> None:
        """Kill it if it lives, and let go of everything."""
        self.umbilical.close()
        try:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        finally:
            os.close(self.pidfd)
            os.close(self.output)


class ZygotePair:
    """A zygote as the node starts it, and the node's end of its socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workers: list[Worker] = []
        self._spares: list[int] = []
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(DEADLINE)
        lib = _lib(folder / "lib")
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _BOOT, str(lib), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=scrubbed_environment(str(folder), str(folder)),
            )
        self.ready = self.receive()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        with ExitStack() as ends:
            for spare in self._spares:  # it leaves with the zygote, unless it became a worker
                ends.callback(_reap, spare)
            ends.callback(self.process.wait, DEADLINE)
            ends.callback(self.socket.close)
            for worker in self.workers:
                ends.callback(worker.close)

    def send(self, frame: dict[str, object], descriptors: list[int]) -> None:
        """Send one frame as the node would."""
        socket.send_fds(self.socket, [msgpack.packb(frame)], descriptors)

    def receive(self) -> dict[str, Any]:
        """Wait for the next answer; {} at end of file."""
        packet = self.socket.recv(65536)
        return msgpack.unpackb(packet) if packet else {}

    def spare(self) -> int:
        """Have the next worker forked in advance; give its number, or 0 if there can be none."""
        self.send({"kind": "spare"}, [])
        pid: int = self.receive()["spare"]
        if pid:
            self._spares.append(pid)
        return pid

    def send_program(self, *variant: str) -> None:
        """Give it the filter for these permissions, compiled for this machine."""
        program = compile_program(frozenset(variant))
        self.send({"kind": "program", "variant": list(variant), "program": program}, [])

    def spawn(
        self,
        *,
        read: tuple[str, ...] = (),
        layers: tuple[str, ...] = STANDARD,
        node_pid: int | None = None,
        **permitted: Any,  # noqa: ANN401 - fields of `Confinement`
    ) -> Worker:
        """Have a worker forked, with a data folder and a tmp of its own."""
        incarnation = len(self.workers) + 1
        home = self.folder / str(incarnation)
        tmp, data = home / "tmp", home / "data"
        tmp.mkdir(parents=True)
        data.mkdir()
        umbilical, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        umbilical.settimeout(DEADLINE)
        output, write_end = os.pipe()
        flight = os.memfd_create("flight")
        interest = InterestWriter()
        confinement = Confinement(
            read=read,
            write=(str(data),),
            tmp=str(tmp),
            node_pid=node_pid or os.getpid(),
            layers=layers,
            **permitted,
        )
        frame: dict[str, object] = {
            "kind": "spawn",
            "incarnation": incarnation,
            "confinement": confinement.to_wire(),
            "environment": scrubbed_environment(str(tmp), str(data)),
            "spec": {"incarnation": incarnation},
        }
        self.send(frame, [theirs.fileno(), write_end, flight, interest.fd])
        theirs.close()
        os.close(write_end)
        os.close(flight)
        interest.close()
        answer = self.receive()
        assert answer["incarnation"] == incarnation, answer
        worker = Worker(answer["pid"], umbilical, output, tmp, data)
        self.workers.append(worker)
        return worker


def serve_as_node(folder: str) -> None:
    """Be a node of one worker in a process of its own, until killed; says who it started."""
    with ZygotePair(Path(folder)) as pair:
        pair.send_program()
        worker = pair.spawn()
        assert worker.hello() == "confined"
        print(worker.pid, pair.process.pid, flush=True)  # noqa: T201 - read by the test
        sys.stdin.read()


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _lib(folder: Path) -> Path:
    """Make the folder that a zygote imports from, as the node does, with our `run` in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for package in ("protocol", "plugin_worker"):
        (folder / package).symlink_to(ROOT / package)
    (folder / "msgpack").symlink_to(Path(msgpack.__file__).parent)
    (folder / "obedient.py").write_text(OBEDIENT, encoding="utf-8")
    return folder
