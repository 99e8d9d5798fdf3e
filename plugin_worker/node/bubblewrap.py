"""Start workers as fresh interpreters in namespaces of their own, each under a bubblewrap.

    bubblewrap runs Python -> it says ready, and the kernel says who that is -> it is held by a
    pidfd -> it is told what a zygote is told, and becomes the worker itself

A start goes on while the node's loop turns. What bubblewrap prints is kept to explain a failure;
what is mounted where goes through a descriptor, so that no command line shows it.
"""

import os
import shutil
import socket
import struct
import subprocess
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgpack

from plugin_worker.node.guard import Guard
from plugin_worker.node.launcher import Order, Started, program_frame
from plugin_worker.node.zygote_link import make_lib
from plugin_worker.sandbox import bwrap
from plugin_worker.sandbox.namespaces import interpreter, interpreter_files, system_links
from plugin_worker.zygote import BOOT_ALONE, MAX_PACKET, folders
from protocol import failpoints
from protocol.reactor import Reactor
from protocol.version import VERSION

START_S: Final = 30.0
"""How long one may take until it is told who it is, seconds; a free machine takes 0.3."""

_MOST_WORDS: Final = 4096
_CREDENTIALS: Final = struct.Struct("=3i")
_ROOM: Final = socket.CMSG_SPACE(_CREDENTIALS.size)


class Bubblewrap:
    """Every bubblewrap of the node; lives as long as the node.

    Args:
        lib: Where workers import our own code from.
    """

    def __init__(self, reactor: Reactor, lib: Path) -> None:
        self._reactor = reactor
        self._lib = lib
        self._guards: dict[int, Guard] = {}

    @property
    def pids(self) -> set[int]:
        """Those that have not been reaped: children of the node."""
        return set(self._guards)

    def launch(self, order: Order) -> None:
        """Start a worker; returns at once, but for what it takes to make one process."""
        try:
            guard, talk, words = self._run(order)
        except OSError as error:
            order.failed(_explained(str(error)))
            return
        _Start(self._reactor, order, guard, talk, words)

    def close(self) -> None:
        """End those that are left."""
        for guard in tuple(self._guards.values()):
            guard.kill()
            guard.wait()

    def _forget(self, pid: int) -> None:
        del self._guards[pid]

    def _run(self, order: Order) -> tuple[Guard, socket.socket, int]:
        """Run it; give the process, our end of what it talks by, and where it complains."""
        program = shutil.which(bwrap.PROGRAM)
        if program is None:
            raise FileNotFoundError(f"{bwrap.PROGRAM} is not on the PATH")
        make_lib(self._lib)
        with ExitStack() as undone:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undone.enter_context(ours)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            ours.setblocking(False)
            words = os.memfd_create("bwrap.words", os.MFD_CLOEXEC)
            undone.callback(os.close, words)
            with theirs, os.fdopen(os.memfd_create("bwrap.args", os.MFD_CLOEXEC), "w+b") as told:
                told.write("\0".join(self._arguments(order)).encode())
                told.seek(0)
                # By the main thread: bubblewrap ends with the thread that has forked it.
                process = subprocess.Popen(  # noqa: S603 - our own arguments and interpreter
                    [program, "--args", str(told.fileno()), "--", *self._command(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=words,
                    stderr=words,
                    pass_fds=(told.fileno(), theirs.fileno()),
                    env={**order.environment, **_failpoints()},
                )
            undone.callback(process.wait)
            undone.callback(process.kill)
            guard = Guard(self._reactor, process, partial(self._forget, process.pid))
            undone.pop_all()
        self._guards[guard.pid] = guard
        return guard, ours, words

    def _arguments(self, order: Order) -> tuple[str, ...]:
        needed = (*interpreter_files(), *folders(str(self._lib)))
        confinement = replace(order.confinement, read=(*order.confinement.read, *needed))
        return bwrap.arguments(confinement, system_links())

    def _command(self, fd: int) -> tuple[str, ...]:
        return interpreter(), "-I", "-S", "-c", BOOT_ALONE, str(self._lib), str(fd)


class _Start:
    """One worker on its way, from the process to the worker's first own step."""

    def __init__(
        self,
        reactor: Reactor,
        order: Order,
        guard: Guard,
        talk: socket.socket,
        words: int,
    ) -> None:
        self._reactor = reactor
        self._order = order
        self._guard = guard
        self._talk = talk
        self._words = words
        self._pid = 0
        self._pidfd = -1
        guard.on_end(lambda: self._failed(""))
        reactor.watch(talk.fileno(), self._read)
        self._timer = reactor.call_later(START_S, self._too_late)

    def _read(self) -> None:
        try:
            packet, said, _, _ = self._talk.recvmsg(MAX_PACKET, _ROOM)
        except ConnectionError:
            packet = b""
        if not packet:
            self._reactor.forget(self._talk.fileno())  # its end follows, and says why
        elif self._pid:
            self._started(msgpack.unpackb(packet))
        else:
            try:
                self._ready(msgpack.unpackb(packet), said)
            except OSError as error:
                self._failed(str(error))

    def _ready(self, answer: dict[str, Any], said: list[tuple[int, int, bytes]]) -> None:
        """Take hold of it: it waits for our word, so nobody else has its number."""
        if answer["protocol"] != VERSION:
            self._failed(f"it speaks protocol {answer['protocol']}, the node {VERSION}")
            return
        self._pid = _sender(said)
        self._pidfd = os.pidfd_open(self._pid)
        if "seccomp" in self._order.confinement.layers:
            self._talk.send(program_frame(self._order.confinement))
        socket.send_fds(self._talk, [self._order.frame], self._order.descriptors)

    def _started(self, answer: dict[str, Any]) -> None:
        """It has answered after it was held: what is held is the worker."""
        if "error" in answer:
            self._failed(answer["error"])
            return
        self._close()
        self._order.taken()
        self._order.started(Started(pid=self._pid, pidfd=self._pidfd, guard=self._guard))

    def _too_late(self) -> None:
        self._failed(f"it was not ready within {START_S:g} s")

    def _failed(self, why: str) -> None:
        self._guard.on_end(None)
        self._guard.kill()
        said = os.pread(self._words, _MOST_WORDS, 0).decode("utf-8", "replace")
        code = self._guard.code
        self._close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self._order.failed(_explained(why or bwrap.complaint(said, -1 if code is None else code)))

    def _close(self) -> None:
        self._timer.cancel()
        self._reactor.forget(self._talk.fileno())
        self._talk.close()
        os.close(self._words)


def _sender(said: list[tuple[int, int, bytes]]) -> int:
    """Give the pid of who has sent a packet, as the kernel knows it here."""
    for level, kind, body in said:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            pid: int = _CREDENTIALS.unpack(body)[0]
            return pid
    raise OSError("the kernel does not say who is ready")


def _failpoints() -> dict[str, str]:
    """Give what is armed; the file that passages are counted in is not there in namespaces."""
    return {name: text for name, text in failpoints.handed_on().items() if name != failpoints.LOG}


def _explained(why: str) -> str:
    return f"namespaces: {why}; cure: {bwrap.cure(why)}"
