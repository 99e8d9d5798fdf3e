"""An application's connection to a daemon: one background thread for control, events and lanes.

The thread owns every socket; other threads hand it work and wait for futures. It greets again
after every reconnect and asks again what was not answered, so that a daemon which is killed and
started anew goes unnoticed; one that stays away is `NoDaemon` after a moment.
"""

import collections
import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

import zmq

from protocol import failpoints
from protocol.arena import Arena
from protocol.caller import LATE_S, Caller
from protocol.errors import (
    NoDaemon,
    RemoteProtocolError,
    ServiceUnavailable,
    SpiralHostError,
    from_wire,
)
from protocol.eventbus import EventBus
from protocol.gathering import release_gathered
from protocol.line import Line, line_of
from protocol.link import DaemonLink
from protocol.messages import (
    FROM_CLIENT,
    TO_CLIENT,
    Answer,
    ClientDetails,
    ClientQuestion,
    ClientWelcome,
    Deadlock,
    FromClient,
    FromEndpoint,
    Greeted,
    LaneClosed,
    LaneOpened,
    Refusal,
    Refused,
    Resolve,
    ToEndpoint,
    Withdraw,
)
from protocol.names import Topic
from protocol.peer import BusPeer
from protocol.reactor import Reactor, Timer, hear
from protocol.session import greeting
from protocol.stub import Options
from protocol.subscriptions import CONFIRM_S, EventCallback, Past, Subscription
from protocol.waits import DOOMED
from spiral_host.attendant import Attendant
from spiral_host.client_bus import ClientBus
from spiral_host.config import check_run_dir
from spiral_host.node_side import NodeSide
from spiral_host.rundir import CONTROL, EVENTS_IN, EVENTS_OUT

GRACE_S: Final = 3.0
"""How long a daemon may be away before what was asked of it fails; adoption takes 2, seconds."""

AGAIN_S: Final = 0.05
"""How soon a daemon that does not read is told again, seconds."""

FLUSH_S: Final = 1.0
"""How long a closing connection waits until what it published has reached everybody, seconds."""

_LONGEST_S: Final = 3600.0
"""How long a wait sleeps at once, seconds; poll(2) knows no more than 24 days."""


class Connection:
    """One connection; lives until `close`. Safe to use from any thread.

    Raises:
        NoDaemon: Nobody serves the run directory, or not within `timeout` seconds.
        UsageError: Its path is too long for a socket.
    """

    def __init__(self, run_dir: Path, name: str, timeout: float) -> None:
        failpoints.arm("client")
        check_run_dir(run_dir)
        _knock(run_dir)
        self.run_dir = run_dir
        self.epoch = 0
        self._name = name
        self._incarnation = 0
        self._id = token_hex(6)
        self._asked = 0
        self._pending: dict[str, tuple[bytes, Future[Any]]] = {}
        self._soon: collections.deque[Callable[[], None]] = collections.deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._reactor = Reactor()
        self._node = NodeSide(self._reactor, self, str(run_dir), self._node_said)
        self._grace: Timer | None = None
        self._ready: Future[None] = Future()
        self._gone = ""
        self._greeted = False
        self._is_over = False
        self._has_left = False
        self._waking = threading.Lock()
        self.caller = Caller(self)
        self.attendant = Attendant(self, self._lane_closed)
        self.bus = ClientBus(self, self.attendant, name)
        self.event_bus = EventBus(self.bus, self)
        """The bus, as applications see it."""
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="spiral-host", daemon=True)
        self._thread.start()
        self._wait_ready(timeout)

    def _wait_ready(self, timeout: float) -> None:
        try:
            self._ready.result(timeout)
        except FutureTimeout:
            self.close()
            raise NoDaemon(str(self.run_dir), f"no answer within {timeout:g} s") from None
        except SpiralHostError:
            self.close()
            raise

    # --- the background thread --------------------------------------------------------------------

    def _run(self) -> None:
        self._open()
        try:
            while not self._is_over:
                self._reactor.turn()
        except BaseException as error:
            # A bug of ours: whoever waits is told, and is not left to wait for ever.
            self._gone = f"the connection's own thread has ended: {error!r}"
            raise
        finally:
            self._leave()

    def _open(self) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._reactor.watch(self._wake, self._woken)
        addresses = (self._address(EVENTS_IN), self._address(EVENTS_OUT))
        self._peer = self.bus.peer = BusPeer(self._reactor, self._context, addresses, self.bus)
        self._link = DaemonLink(
            self._reactor,
            self._context,
            self._address(CONTROL),
            connected=self._greet,
            disconnected=self._lost,
            received=self._received,
        )

    def _address(self, name: str) -> str:
        return f"ipc://{self.run_dir / name}"

    def do(self, job: Callable[[], None]) -> None:
        """Run something in the background thread.

        Raises:
            NoDaemon: The connection was closed.
        """
        with self._waking:
            if self._has_left:
                raise NoDaemon(str(self.run_dir), "the connection was closed")
            self._soon.append(job)
            os.eventfd_write(self._wake, 1)

    def do_soon(self, job: Callable[[], None]) -> None:
        """Run something in the background thread, without waiting for any lock."""
        self._soon.append(job)
        # Whoever has the lock is about to wake the thread itself.
        if self._waking.acquire(blocking=False):
            try:
                if not self._has_left:
                    os.eventfd_write(self._wake, 1)
            finally:
                self._waking.release()

    def _woken(self) -> None:
        hear(self._wake)
        while self._soon:
            self._soon.popleft()()

    def _leave(self) -> None:
        with self._waking:
            self._has_left = True  # nobody wakes a descriptor that is closed, or another's by now
        while self._soon:
            self._soon.popleft()()
        lost = NoDaemon(str(self.run_dir), self._gone or "the connection was closed")
        if not self._ready.done():
            self._ready.set_exception(lost)
        self._fail(lost)
        self._node.close()
        self._peer.close()
        self._link.close()
        self._reactor.close()
        self._context.destroy(linger=0)
        os.close(self._wake)

    def close(self) -> None:
        """Close the connection, once what was published has reached everybody."""
        if self._is_over or os.getpid() != self._pid:
            return
        self._flush()
        self.caller.close()
        with self._waking:  # the thread may see that it is over before it is woken, and leave
            self._is_over = True
            if not self._has_left:
                os.eventfd_write(self._wake, 1)
        if self._thread is not threading.current_thread():
            self._thread.join()
        self.attendant.close()

    def _flush(self) -> None:
        done: Future[None] = Future()
        deadline = time.monotonic() + FLUSH_S

        def look() -> None:
            if not self.bus.has_unsent or time.monotonic() > deadline or self._gone:
                done.set_result(None)
            else:
                self._reactor.call_later(0.001, look)

        if self._thread.is_alive() and self._ready.done():
            self.do(look)
            done.result(FLUSH_S + 1.0)

    # --- the daemon -------------------------------------------------------------------------------

    def _greet(self) -> None:
        offers = self.attendant.servant.offers
        details = ClientDetails(
            name=self._name, pid=os.getpid(), incarnation=self._incarnation, offers=offers
        )
        self._greeted = self._link.send(greeting("client", FROM_CLIENT, details))

    def _lost(self) -> None:
        self._peer.lost()
        self.bus.room()
        if not self._ready.done():
            self._ready.set_exception(NoDaemon(str(self.run_dir), "it ended before it answered"))
        if self._grace is None:
            self._grace = self._reactor.call_later(GRACE_S, self._give_up)

    def _give_up(self) -> None:
        self._grace = None
        self._gone = "it has gone away"
        self._fail(NoDaemon(str(self.run_dir), self._gone))

    def _fail(self, error: SpiralHostError) -> None:
        pending, self._pending = self._pending, {}
        for _, future in pending.values():
            future.set_exception(error)

    def _received(self, body: bytes) -> None:
        message = TO_CLIENT.decode(body)
        if isinstance(message, Answer):
            self._finish(message.request, message.value)
        elif isinstance(message, Refusal):
            self._finish(message.request, from_wire(message.kind, message.fields))
        elif isinstance(message, ClientWelcome):
            self._welcomed(message)
        elif isinstance(message, Refused):
            error = RemoteProtocolError(message.reason)
            if not self._ready.done():
                self._ready.set_exception(error)
            self._fail(error)

    def _welcomed(self, welcome: ClientWelcome) -> None:
        self._incarnation, self._gone = welcome.incarnation, ""
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        if self._greeted:
            # A new connection: what was on its way to the last daemon may never have arrived.
            self._greeted, self.epoch = False, welcome.epoch
            self.bus.joined(self._incarnation)
            self._peer.join(f"client:{self._incarnation}")
            self._ask_again()
        self._node.look()  # another node may welcome us before we have seen the last one's end
        if not self._node.is_open:
            self._node.open(welcome)

    def _ask_again(self) -> None:
        for name in tuple(self._pending):
            self._send(name)

    def _finish(self, request: str, value: object) -> bool:
        _, future = self._pending.pop(request, (b"", None))
        if future is None:
            return False
        if isinstance(value, SpiralHostError):
            future.set_exception(value)
        else:
            future.set_result(value)
        return True

    # --- the node ---------------------------------------------------------------------------------

    def _node_said(self, message: ToEndpoint, descriptors: list[int]) -> None:
        if isinstance(message, LaneOpened):
            if not message.request:
                self.attendant.serve(message, descriptors[0])
            elif not self._finish(message.request, (message, descriptors[0])):
                os.close(descriptors[0])
        elif isinstance(message, Deadlock):
            DOOMED[message.number] = message.circle
            self.attendant.wake()
        elif not self._ready.done():
            self._ready.set_result(None)
        elif isinstance(message, Greeted):
            # By another node: a lane that we wait for may have died with the last.
            self._ask_again()

    def _lane_closed(self, number: int) -> None:
        with contextlib.suppress(NoDaemon):
            self.do(lambda: self._node.send(LaneClosed(number)))

    # --- what applications do ---------------------------------------------------------------------

    def ask(self, build: Callable[[str], ClientQuestion], timeout: float | None = None) -> Any:  # noqa: ANN401 - as the daemon answers
        """Ask the daemon and wait for its answer.

        Raises:
            NoDaemon: It is gone and has not come back.
            SpiralHostError: It refused, with its reason.
        """
        self._asked += 1
        name = f"{self._id}:{self._asked}"
        frame = FROM_CLIENT.encode(build(name))
        future: Future[Any] = Future()

        def send() -> None:
            if self._gone:
                future.set_exception(NoDaemon(str(self.run_dir), self._gone))
                return
            self._pending[name] = (frame, future)
            self._send(name)

        if self._is_over:
            raise NoDaemon(str(self.run_dir), "the connection was closed")
        release_gathered()
        self.do(send)
        try:
            return future.result(timeout)
        except FutureTimeout:
            self._pending.pop(name, None)
            raise NoDaemon(str(self.run_dir), f"no answer within {timeout:g} s") from None

    def _send(self, name: str) -> None:
        frame, _ = self._pending.get(name, (b"", None))
        if frame and self._link.is_connected and not self._link.send(frame):
            self._reactor.call_later(AGAIN_S, lambda: self._send(name))

    def tell(self, message: FromClient) -> None:
        """Tell the daemon."""
        frame = FROM_CLIENT.encode(message)
        self.do(lambda: self._tell(frame))

    def _tell(self, frame: bytes) -> None:
        self._link.send(frame)

    def offer(self, name: str, service: object, kind: Callable[..., Any] | None) -> None:
        """Offer a service of the application's."""
        self.tell(self.attendant.servant.offer(name, service, kind))

    def withdraw(self, name: str) -> bool:
        """Offer it no more."""
        found = self.attendant.servant.withdraw(name)
        if found:
            self.tell(Withdraw(name))
        return found

    def find_service(self, name: str, wait_s: float, options: Options) -> Any:  # noqa: ANN401 - a stub
        """Give a stub, the object itself if it is the application's own, or None."""
        own = self.attendant.servant.object_of(name)
        if own is not None:
            return own
        longest_s = wait_s + GRACE_S
        return self.caller.find(name, options, lambda: self._resolve(name, wait_s, longest_s))

    def subscribe(self, pattern: Topic, callback: EventCallback, past: Past) -> Subscription:
        """Have a callback called for past events and those to come; holds when this returns.

        Raises:
            NoDaemon: There is none that could confirm it.
        """
        subscription, holds = self.bus.add(pattern, callback, past)
        try:
            frames = holds.result(CONFIRM_S)
        except BaseException as error:
            self.bus.remove(subscription)
            if isinstance(error, FutureTimeout):
                raise NoDaemon(str(self.run_dir), "a subscription was not confirmed") from None
            raise
        self.bus.begin(subscription, past, frames)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> bool:
        """End a subscription."""
        return self.bus.remove(subscription)

    # --- what stubs need --------------------------------------------------------------------------

    def own(self) -> int:
        """Give this connection's incarnation."""
        return self._incarnation

    def tell_node(self, message: FromEndpoint) -> None:
        """Tell the node; one that has gone needs to be told nothing."""
        with contextlib.suppress(NoDaemon):
            self.do(lambda: self._node.send(message))

    def open_line(self, service: str, deadline: float, *, wait: bool) -> Line:
        """Open a line for the calling thread."""
        left = max(0.0, deadline - time.monotonic())
        wait_s = left if wait else 0.0
        try:
            opened = self._resolve(service, wait_s, min(wait_s + GRACE_S, left + LATE_S))
        except NoDaemon:
            if self._gone or self._is_over or time.monotonic() < deadline:
                raise
            # Nothing is known of a daemon but that it had no time to answer.
            raise ServiceUnavailable(service, "nobody has said in time who offers it") from None
        if opened is None:
            raise ServiceUnavailable(service, "nobody offers it; see: spiral-host services")
        return opened

    def _resolve(self, service: str, wait_s: float, timeout: float) -> Line | None:
        answer = self.ask(
            lambda name: Resolve(request=name, service=service, wait_s=wait_s), timeout
        )
        if answer is None:
            return None
        opened, fd = answer
        return line_of(opened, fd, _waiter(fd), self)

    @property
    def arena(self) -> Arena:
        """The application's shared memory."""
        return self._node.arena

    def cause_of_death(self, incarnation: int, deadline: float) -> str:
        """Say how a peer ended."""
        return self._node.cause_of_death(incarnation, deadline)


def _waiter(fd: int) -> Callable[[float], bool]:
    """Wait for a lane, and nothing else: that is the background thread's business."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)

    def wait(deadline: float) -> bool:
        while (left := deadline - time.monotonic()) > 0:
            if poll.poll(min(left, _LONGEST_S) * 1000 + 1):
                return True
        return False

    return wait


def _knock(run_dir: Path) -> None:
    """Find out at once whether anybody listens; ZeroMQ would only go on trying."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
        try:
            knock.connect(str(run_dir / CONTROL))
        except OSError:
            raise NoDaemon(str(run_dir)) from None
