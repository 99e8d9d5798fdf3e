"""Fork workers on the node's word, from a warm interpreter. Imports no plugin, opens no socket.

The node starts one zygote per Python environment as `[python, "-I", "-S", "-c", BOOT, LIB, FD]`,
from its main thread, and gives it `scrubbed_environment`: the text of the environment that a
process is started with stays in its memory, and in that of every worker forked from it.

    node --> {"kind": "program", "variant": [...], "program": bytes}
             a seccomp filter, kept for workers with these permissions (sandbox/policy.CHANGES)
    node --> {"kind": "spawn", "incarnation", "confinement", "environment", "spec"}
             with four descriptors: umbilical, where output goes, flight page, interest page
    node --> {"kind": "spare"}
             fork in advance what is to be the next worker (spare.py)
         <-- {"ready": 1, "pid", "protocol"}                    once
         <-- {"incarnation", "pid"} or {"incarnation", "error"} for each spawn
         <-- {"spare": pid}, or 0 if there can be none          for each spare
         <-- {"error"}, with "incarnation" where there was one, for a frame that is none of these

The node, not the zygote, is the parent of the workers: they outlive it, and end with the node.

Started with BOOT_ALONE, in namespaces, it forks nobody: told to spawn, it becomes that worker.
"""

import gc
import io
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, NoReturn, TypeAlias, TypeVar

import msgpack

from plugin_worker.clone import clone_sibling
from plugin_worker.confine import Confinement, confine
from plugin_worker.refusals import REFUSALS
from plugin_worker.sandbox import kernel
from plugin_worker.sandbox.errors import EXIT_UNCONFINED, ConfinementError
from plugin_worker.sandbox.policy import CHANGES
from plugin_worker.spare import Spare
from protocol import failpoints
from protocol.version import VERSION

T = TypeVar("T")
Run: TypeAlias = Callable[[dict[str, object], socket.socket, int, int], int]
"""What a worker does once it is confined: (spec, umbilical, flight page, interest page) -> exit
status."""

BOOT: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from plugin_worker.zygote import main; main(sys.argv[1], int(sys.argv[2]))"
)
BOOT_ALONE: Final = BOOT.replace("int(sys.argv[2])", "int(sys.argv[2]), is_alone=True")
MAX_PACKET: Final = 128 * 1024
"""Bytes in one frame from the node; what fits in a socket's buffer by default."""
EXIT_RAISED: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spawn:
    """One worker to be forked; the descriptors are ours to close."""

    incarnation: int
    confinement: Confinement
    environment: dict[str, str]
    spec: dict[str, object]
    umbilical: int
    output: int
    flight: int
    interest: int


def main(lib: str, fd: int, run: Run | None = None, *, is_alone: bool = False) -> None:
    """Serve the node until it hangs up.

    Args:
        lib: The folder that this process imports from; workers may read it and what it links to.
        fd: This end of a SOCK_SEQPACKET pair whose other end the node holds.
        run: What a worker does; None is `plugin_worker.runtime.run`.
        is_alone: Whether this process is to be the one worker itself.
    """
    if "site" in sys.modules or not sys.flags.isolated:
        sys.exit("start the zygote with -I -S: what a site package runs here would be unconfined")
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    _forget_inherited_signals()
    _prepare_standard_streams()
    sys.dont_write_bytecode = True
    failpoints.arm("zygote")
    node = socket.socket(fileno=fd)
    zygote = _Zygote(node, run, folders(lib), is_alone=is_alone)
    gc.collect()
    gc.freeze()
    with suppress(ConnectionError):
        zygote.ready()
        zygote.serve()


class _Zygote:
    """The loop, and what it keeps between two frames: the filter programs."""

    def __init__(
        self, node: socket.socket, run: Run | None, lib: tuple[str, ...], *, is_alone: bool
    ) -> None:
        self._node = node
        self._run = run or _runtime()
        self._rehearses = run is None
        self._lib = lib
        self._obey: Callable[[_Spawn, bytes], object] = self._become if is_alone else self._start
        self._programs: dict[frozenset[str], bytes] = {}
        self._spare: Spare | None = None

    def serve(self) -> None:
        """Obey frames until end of file; a worker leaves from inside and never returns here."""
        while True:
            packet, descriptors, flags, _ = socket.recv_fds(
                self._node, MAX_PACKET, 8, socket.MSG_CMSG_CLOEXEC
            )
            if not packet:
                return
            try:
                self._handle(packet, descriptors, whole=not flags & _CUT_SHORT)
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)

    def ready(self) -> None:
        """Say that it can be told what to do."""
        self._answer({"ready": 1, "pid": os.getpid(), "protocol": VERSION})

    def _handle(self, packet: bytes, descriptors: list[int], *, whole: bool) -> None:
        frame: dict[str, object] = {}
        try:
            frame = _frame(packet, whole=whole)
            if frame["kind"] == "spare":
                self._make_spare()
            elif frame["kind"] == "program":
                self._programs[_variant(frame)] = _typed(frame, "program", bytes)
                if self._spare is not None:
                    self._spare.hear(packet)
            else:
                self._obey(_spawn(frame, descriptors), packet)
        except ValueError as error:
            whose = {name: frame[name] for name in ("incarnation",) if name in frame}
            self._answer({**whose, "error": str(error)})

    # --- what becomes of an order -----------------------------------------------------------------

    def _become(self, spawn: _Spawn, _: bytes) -> NoReturn:
        """Be that worker, as what was started for it alone."""
        self._answer({"incarnation": spawn.incarnation, "pid": os.getpid()})
        self._become_worker(spawn)

    def _start(self, spawn: _Spawn, packet: bytes) -> None:
        """Have the spare be that worker, or a process that is forked now."""
        try:
            if failpoints.ARMED:
                failpoints.hit("fork.before")
            pid = self._hand_over(spawn, packet) or clone_sibling()
        except OSError as error:
            self._answer({"incarnation": spawn.incarnation, "error": f"clone: {error}"})
            return
        if pid == 0:
            self._become_worker(spawn)
        if failpoints.ARMED:
            failpoints.hit("fork.after")
        self._answer({"incarnation": spawn.incarnation, "pid": pid})

    def _hand_over(self, spawn: _Spawn, packet: bytes) -> int:
        """Give the order to the spare; give its pid, or 0 if there is none, or none any more."""
        spare, self._spare = self._spare, None
        if spare is None:
            return 0
        pages = (spawn.flight, spawn.interest)
        has_heard = spare.hear(packet, (spawn.umbilical, spawn.output, *pages))
        spare.close()
        return spare.pid if has_heard else 0

    def _become_worker(self, spawn: _Spawn, _: bytes = b"") -> NoReturn:
        program = self._programs.get(spawn.confinement.variant, b"")
        _become_worker(spawn, program, self._lib, self._run)

    # --- the spare --------------------------------------------------------------------------------

    def _make_spare(self) -> None:
        """Fork what is to be the next worker, in place of the one that is there, if any."""
        if self._spare is not None:
            self._spare.close()
        self._spare = None
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                with theirs:
                    pid = clone_sibling()
                    if pid == 0:
                        ours.close()
                        self._be_spare(theirs)
            except OSError:
                ours.close()
                raise
            self._spare = Spare(pid, ours)
        except OSError:  # too many processes, or descriptors: a worker may find more
            self._answer({"spare": 0})
        else:
            self._answer({"spare": pid})

    def _be_spare(self, ears: socket.socket) -> NoReturn:
        """Runs in the fork, until it becomes a worker or the zygote is gone."""
        try:
            kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)  # stopped, it would hear nothing
            self._node.close()
            self._node, self._obey = ears, self._become_worker
            if self._rehearses:
                _rehearse()
            with suppress(ConnectionError):
                self.serve()
        except BaseException:  # noqa: BLE001 - whatever it was, this process must not serve the node
            traceback.print_exc()
        finally:
            os._exit(EXIT_RAISED)

    def _answer(self, answer: dict[str, object]) -> None:
        self._node.send(msgpack.packb(answer))


def _become_worker(spawn: _Spawn, program: bytes, lib: tuple[str, ...], run: Run) -> NoReturn:
    """Runs in the child, from the fork to its end."""
    status = EXIT_RAISED
    try:
        _take_own_place(spawn)
        failpoints.arm("worker", str(spawn.spec.get("plugin_id")))
        if failpoints.ARMED:
            failpoints.hit("confine.before")
        confinement = replace(spawn.confinement, read=(*spawn.confinement.read, *lib))
        kept = frozenset({spawn.umbilical, spawn.flight, spawn.interest})
        confine(confinement, program, kept | failpoints.descriptors())
        if failpoints.ARMED:
            failpoints.hit("confine.after")
        REFUSALS.watch(confinement, str(spawn.spec.get("plugin_id", "")))
        umbilical = socket.socket(fileno=spawn.umbilical)
        status = run(spawn.spec, umbilical, spawn.flight, spawn.interest)
    except ConfinementError as error:
        sys.stderr.write(f"not confined, not started: {error}\n")
        status = EXIT_UNCONFINED
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else EXIT_RAISED if stop.code else 0
    except BaseException:  # noqa: BLE001 - whatever it was, this process must not serve the node
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(status & 0xFF)


def _take_own_place(spawn: _Spawn) -> None:
    """Leave the zygote's streams, its deafness to Ctrl-C and its environment behind."""
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    for source, target in ((nothing, 0), (spawn.output, 1), (spawn.output, 2)):
        os.dup2(source, target)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for name in os.environ.keys() - spawn.environment.keys():
        del os.environ[name]
    for name, value in spawn.environment.items():
        if os.environ.get(name) != value:  # most are the zygote's own: each change costs 10 us
            os.environ[name] = value


_CUT_SHORT: Final = socket.MSG_TRUNC | socket.MSG_CTRUNC
_DESCRIPTORS: Final = 4


def _frame(packet: bytes, *, whole: bool) -> dict[str, object]:
    if not whole:
        message = f"a frame of more than {MAX_PACKET} bytes or 8 descriptors"
        raise ValueError(message)
    try:
        frame = msgpack.unpackb(packet)
    except Exception as error:
        message = f"a frame that is no msgpack: {error}"
        raise ValueError(message) from error
    if isinstance(frame, dict) and frame.get("kind") in ("program", "spare", "spawn"):
        return frame
    message = "a frame of unknown kind"
    raise ValueError(message)


def _variant(frame: dict[str, object]) -> frozenset[str]:
    words: list[object] = _typed(frame, "variant", list)
    known = frozenset(word for word in CHANGES if word in words)
    if len(known) != len(words):
        message = f"{words} are no permissions that change the filter; those are {list(CHANGES)}"
        raise ValueError(message)
    return known


def _spawn(frame: dict[str, object], descriptors: list[int]) -> _Spawn:
    if len(descriptors) != _DESCRIPTORS:
        message = f"a spawn with {len(descriptors)} descriptors; it takes {_DESCRIPTORS}"
        raise ValueError(message)
    environment = _typed(frame, "environment", dict)
    if not all(isinstance(text, str) for pair in environment.items() for text in pair):
        message = "environment maps texts to texts"
        raise ValueError(message)
    umbilical, output, flight, interest = descriptors
    return _Spawn(
        incarnation=_typed(frame, "incarnation", int),
        confinement=Confinement.from_wire(frame.get("confinement")),
        environment=environment,
        spec=_typed(frame, "spec", dict),
        umbilical=umbilical,
        output=output,
        flight=flight,
        interest=interest,
    )


def _typed(frame: dict[str, object], name: str, kind: type[T]) -> T:
    value = frame.get(name)
    if isinstance(value, kind):
        return value
    message = f"{name} is no {kind.__name__}"
    raise ValueError(message)


def _forget_inherited_signals() -> None:
    """Take every signal as a new process does, for the workers; but leave Ctrl-C to the daemon.

    SIGPIPE and SIGXFSZ stay ignored, as Python has them: they arrive as OSError.
    """
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        ignored = number in {signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ}
        signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _prepare_standard_streams() -> None:
    """Keep what arrives later from getting number 0, 1 or 2; let no worker's line wait or fail."""
    while (descriptor := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) <= 2:
        pass
    os.close(descriptor)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)


def folders(lib: str) -> tuple[str, ...]:
    """Give all that a process which imports from `lib` has to be able to read."""
    return (lib, *(os.path.realpath(entry.path) for entry in os.scandir(lib)))


def _runtime() -> Run:
    from plugin_worker.runtime import run  # noqa: PLC0415 - a test brings its own

    return run


def _rehearse() -> None:
    from plugin_worker.rehearsal import rehearse  # noqa: PLC0415 - nobody else needs it

    rehearse()
