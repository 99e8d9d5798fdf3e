"""Start the zygote and have it fork: the node's end of the pipe that zygote.py serves.

A zygote that dies takes nothing with it: its workers live on, and the next spawn starts another.

When nobody has wanted a worker for a moment it is asked for a spare: the next worker, forked in
advance. A spare is the node's child as all workers are, and is reaped here if it never becomes one.
"""

import errno
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any, Final

import msgpack

from plugin_worker.confine import scrubbed_environment
from plugin_worker.node.launcher import Order, Started, program_frame
from plugin_worker.sandbox.confinement import Confinement
from plugin_worker.zygote import BOOT, MAX_PACKET
from protocol import failpoints
from protocol.reactor import Reactor, Timer
from protocol.version import VERSION

_SPARE: Final = msgpack.packb({"kind": "spare"})

_PACKAGES: Final = ("protocol", "plugin_worker", "msgpack")

CALM_S: Final = 0.05
"""How long nobody wants a worker before a spare is made, seconds: a hundred plugins that start one
after the other are not held up by it."""

_DEAD: Final = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN)
"""What sending fails with when nobody is there to receive; anything else is not the zygote's."""


class ZygoteLink:
    """The node's zygote; lives as long as the node, through as many processes as it takes."""

    def __init__(self, reactor: Reactor, lib: Path, tmp: Path) -> None:
        self._reactor = reactor
        self._lib = lib
        self._told: set[frozenset[str]] = set()
        """The permissions whose filters the living zygote has."""
        self._tmp = tmp
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._orders: deque[Order] = deque()
        self._asked: dict[int, Order] = {}
        self._has_served = False
        """Whether the living zygote was there when it was sent an order."""
        self._calm = Timer(0.0, None)
        self._is_sparing = False
        """Whether it has been asked for a spare and has not answered."""
        self._spares: dict[int, int] = {}
        """Those that live, or have died while they may just become a worker: pidfds by pid."""

    @property
    def is_forking(self) -> bool:
        """Whether there may be a child whose pid nobody knows yet."""
        return bool(self._asked) or self._is_sparing

    @property
    def pids(self) -> set[int]:
        """The process that forks, and what it has forked that is no worker: the node's children."""
        return {*self._spares} if self._process is None else {self._process.pid, *self._spares}

    def launch(self, order: Order) -> None:
        """Have a worker forked, starting a zygote first if there is none."""
        self._calm.cancel()
        self._orders.append(order)
        if self._socket is None:
            self._start()
        self._send_waiting()

    def close(self) -> None:
        """Hang up; the zygote leaves."""
        self._calm.cancel()
        self._is_sparing = False
        if self._socket is not None:
            self._reactor.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None
        if self._process is not None:
            # One that was stopped would not hear us hang up. It is ours to reap, so nobody else has
            # its number; and it holds nothing: a worker that nobody has heard of is an orphan.
            self._process.kill()
            self._process.wait()
            self._process = None
        for pid in tuple(self._spares):
            signal.pidfd_send_signal(self._spares[pid], signal.SIGKILL)
            self._bury(pid)

    def _start(self) -> None:
        try:
            self._socket = self._launch()
            self._told.clear()
            self._has_served = False
            self._reactor.watch(self._socket.fileno(), self._read)
        except OSError as error:
            self._refuse(f"no zygote could be started: {error}")

    def _launch(self) -> socket.socket:
        """Start a zygote; give our end of the pipe that it serves."""
        make_lib(self._lib)
        self._tmp.mkdir(mode=0o700, exist_ok=True)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Start-up by the main thread: the zygote ends with the thread that forked it.
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and text
                    [sys.executable, "-I", "-S", "-c", BOOT, str(self._lib), str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    env=scrubbed_environment(str(self._tmp), str(self._tmp))
                    | failpoints.handed_on(),
                )
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        return ours

    def _send_waiting(self) -> None:
        while (sending := self._socket) is not None and self._orders:
            order = self._orders[0]
            try:
                self._send_program(sending, order.confinement)
                socket.send_fds(sending, [order.frame], order.descriptors)
            except BlockingIOError:
                self._reactor.watch_writable(sending.fileno(), self._send_waiting)
                return
            except OSError as error:
                if error.errno in _DEAD:
                    self._ended()
                    return
                self._orders.popleft()
                order.failed(f"the zygote could not be sent the order: {error}")
                continue
            self._has_served = True
            self._orders.popleft()
            self._asked[order.incarnation] = order
            order.taken()
            if failpoints.ARMED:
                failpoints.hit("spawn.asked")
        if sending is not None:
            self._reactor.forget_writable(sending.fileno())

    def _send_program(self, sending: socket.socket, confinement: Confinement) -> None:
        """Give the zygote the filter that the next worker needs, if it does not have it yet."""
        if "seccomp" in confinement.layers and confinement.variant not in self._told:
            sending.send(program_frame(confinement))
            self._told.add(confinement.variant)

    def _read(self) -> None:
        while self._socket is not None:
            try:
                packet = self._socket.recv(MAX_PACKET)
            except BlockingIOError:
                return
            except ConnectionError:
                packet = b""
            if not packet:
                self._ended()
                return
            self._answered(msgpack.unpackb(packet))

    def _answered(self, answer: dict[str, Any]) -> None:
        if "ready" in answer and answer.get("protocol") != VERSION:
            # The package was replaced under a running node.
            theirs = answer.get("protocol")
            self._refuse(
                f"the zygote speaks protocol {theirs}, the node {VERSION}; restart the host"
            )
            return
        if "spare" in answer:
            self._is_sparing = False
            self._keep(answer["spare"])
            return
        order = self._asked.pop(answer.get("incarnation", -1), None)
        if order is None:
            return
        if "error" in answer:
            order.failed(answer["error"])
        else:
            self._let_go(answer["pid"])
            order.started(Started(pid=answer["pid"]))
        if not self._asked:
            for pid in self._spares:  # those that have died were not any worker
                self._watch(pid)
            if not self._orders:
                self._calm = self._reactor.call_later(CALM_S, self._ask_spare)

    # --- the spare --------------------------------------------------------------------------------

    def _ask_spare(self) -> None:
        if self._socket is None or self._spares:
            return
        try:
            self._socket.send(_SPARE)
        except OSError:  # it is gone, which reading tells; or it has much to do
            return
        self._is_sparing = True

    def _keep(self, pid: int) -> None:
        """Hold a spare by what can only be it; 0 is none."""
        if not pid:
            return
        try:
            self._spares[pid] = os.pidfd_open(pid)
        except OSError:  # no descriptor left
            # It is our child, and not reaped: nobody else has its number.
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED)
            return
        self._watch(pid)

    def _watch(self, pid: int) -> None:
        self._reactor.watch(self._spares[pid], lambda: self._spare_ended(pid))

    def _let_go(self, pid: int) -> None:
        """It is a worker now, if it was a spare, and reaped by who holds that."""
        pidfd = self._spares.pop(pid, -1)
        if pidfd >= 0:
            self._reactor.forget(pidfd)
            os.close(pidfd)

    def _spare_ended(self, pid: int) -> None:
        if self._asked:  # it may have died as a worker, whose end is told elsewhere
            self._reactor.forget(self._spares[pid])  # or we would be told that all the time
        else:
            self._bury(pid)

    def _bury(self, pid: int) -> None:
        os.waitid(os.P_PIDFD, self._spares[pid], os.WEXITED)
        self._let_go(pid)

    def _refuse(self, why: str) -> None:
        self.close()
        waiting = [*self._asked.values(), *self._orders]
        self._asked.clear()
        self._orders.clear()
        for order in waiting:
            order.failed(why)

    def _ended(self) -> None:
        if not self._has_served:  # the next one would fare no better
            self._refuse("the zygote died as soon as it was started")
            return
        self.close()
        lost, self._asked = self._asked, {}
        for order in lost.values():
            order.failed("the zygote died while it forked")
        if self._orders:
            self._start()
            self._send_waiting()


def make_lib(lib: Path) -> None:
    """Make the folder that zygotes import from: links to our packages and msgpack, nothing else."""
    lib.mkdir(mode=0o700, exist_ok=True)
    for name in _PACKAGES:
        module = sys.modules[name]
        target = Path(str(module.__file__)).parent
        link = lib / name
        if link.is_symlink() and Path(os.readlink(link)) != target:  # noqa: PTH115
            link.unlink()
        if not link.is_symlink():
            link.symlink_to(target)
