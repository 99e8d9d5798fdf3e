"""An application's connection to the node of its machine: lanes, deaths and shared memory.

To a client it is what the umbilical is to a worker. The connection's background thread owns it;
other threads ask through `ask_node` and wait.
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from itertools import count
from typing import Any, Final, Protocol

from protocol.arena import Arena
from protocol.deaths import UNASKED_S, Deaths
from protocol.errors import NoDaemon, ProtocolError, from_wire
from protocol.gathering import release_gathered
from protocol.messages import (
    FROM_ENDPOINT,
    TO_ENDPOINT,
    Allocated,
    ClientTicket,
    ClientWelcome,
    Down,
    Explain,
    FromEndpoint,
    LaneOpened,
    Ready,
    Refusal,
    Release,
    Shared,
    ToEndpoint,
    Unexplained,
    Unshared,
)
from protocol.packets import Kind
from protocol.reactor import Reactor
from protocol.session import greeting
from protocol.umbilical import Umbilical

NEWS_S: Final = 0.002
"""How long one look for news takes; what came just before it is seen by the next, seconds."""


class Thread(Protocol):
    """The background thread that owns the socket."""

    def do(self, job: Callable[[], None]) -> None:
        """Run something in it; raises `NoDaemon` when it has ended."""

    def do_soon(self, job: Callable[[], None]) -> None:
        """The same without waiting for any lock, for finalizers; harmless once it has ended."""


class NodeSide:
    """The connection; closed while the node is being started again.

    Args:
        other: Called in the background thread with what nobody here waits for.
    """

    def __init__(
        self,
        reactor: Reactor,
        thread: Thread,
        run_dir: str,
        other: Callable[[ToEndpoint, list[int]], None],
    ) -> None:
        self.arena = Arena(self)
        """The application's shared memory."""
        self._reactor = reactor
        self._thread = thread
        self._run_dir = run_dir
        self._other = other
        self._node: Umbilical | None = None
        self._numbers = count(1)
        self._asked: dict[str, Future[Any]] = {}
        self._news = threading.Condition()
        self._deaths = Deaths()
        self._unexplained: set[str] = set()
        """Questions how a peer ended that the node has not answered yet."""

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._node is not None

    # --- in the background thread -----------------------------------------------------------------

    def open(self, welcome: ClientWelcome) -> None:
        """Connect with the ticket that the daemon gave."""
        end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        hello = greeting("client", FROM_ENDPOINT, ClientTicket(welcome.ticket))
        try:
            end.connect(welcome.node_socket)
            node = Umbilical(end, takes_descriptors=True)
            node.send(Kind.NODE, hello)
        except OSError:
            end.close()
            return  # the node is being started again; then the daemon welcomes us once more
        self._node = node
        self._reactor.watch(node.fd, lambda: self._read(node))

    def look(self) -> None:
        """Take in what has come, and be it its end."""
        if self._node is not None:
            self._read(self._node)

    def close(self) -> None:
        """Let go of it; whoever waits for an answer is told."""
        node, self._node = self._node, None
        if node is None:
            return
        self._reactor.forget(node.fd)
        node.close()
        asked, self._asked = self._asked, {}
        for future in asked.values():
            future.set_exception(NoDaemon(self._run_dir, "its node has gone"))
        with self._news:
            self._unexplained.clear()  # the next node knows nothing of them
            self._news.notify_all()

    def send(self, message: FromEndpoint) -> None:
        """Send a message; a node that has gone needs to be told nothing."""
        node = self._node
        if node is None:
            return
        try:
            if not node.send(Kind.NODE, FROM_ENDPOINT.encode(message)):
                self._reactor.watch_writable(node.fd, lambda: self._flush(node))
        except (OSError, ProtocolError):
            self.close()

    def _flush(self, node: Umbilical) -> None:
        try:
            if node.flush():
                self._reactor.forget_writable(node.fd)
        except OSError:
            self.close()

    def _read(self, node: Umbilical) -> None:
        try:
            while (message := node.receive()) is not None:
                self._said(TO_ENDPOINT.decode(message[1]), message[2])
        except (EOFError, OSError, ProtocolError):
            self.close()

    def _said(self, message: ToEndpoint, descriptors: list[int]) -> None:
        if not isinstance(message, LaneOpened | Allocated | Shared):
            while descriptors:
                os.close(descriptors.pop())
        if isinstance(message, Allocated | Ready | Refusal):
            self._answered(message, descriptors)
            return
        with self._news:
            if isinstance(message, Down):
                self._deaths.note(message.incarnation, message.cause)
            elif isinstance(message, Unexplained):
                self._unexplained.discard(message.request)
            elif isinstance(message, Shared | Unshared):
                self.arena.told(message, descriptors)
            else:
                self._other(message, descriptors)
            self._news.notify_all()

    def _answered(self, answer: Allocated | Ready | Refusal, descriptors: list[int]) -> None:
        future = self._asked.pop(answer.request, None)
        if future is None:
            if isinstance(answer, Allocated):
                os.close(descriptors[0])
                self.send(Release(answer.segment))
        elif isinstance(answer, Refusal):
            future.set_exception(from_wire(answer.kind, answer.fields))
        elif isinstance(answer, Allocated):
            future.set_result((answer.segment, descriptors[0]))
        else:
            future.set_result(None)

    # --- from any other thread --------------------------------------------------------------------

    def ask_node(self, build: Callable[[str], FromEndpoint], timeout: float) -> Any:  # noqa: ANN401 - as the node answers
        """Ask the node and wait for its answer.

        Raises:
            NoDaemon: It is gone, or silent for `timeout` seconds.
            SpiralHostError: It refused, with its reason.
        """
        name = str(next(self._numbers))
        message, future = build(name), Future[Any]()

        def send() -> None:
            if self._node is None:
                future.set_exception(NoDaemon(self._run_dir, "its node has gone"))
                return
            self._asked[name] = future
            self.send(message)

        release_gathered()
        self._thread.do(send)
        try:
            return future.result(timeout)
        except FutureTimeout:
            self._asked.pop(name, None)
            raise NoDaemon(self._run_dir, f"its node said nothing in {timeout:g} s") from None

    def tell_node_soon(self, message: FromEndpoint) -> None:
        """Tell the node, without waiting for any lock: a finalizer may be the one that tells."""
        self._thread.do_soon(lambda: self.send(message))

    def wait_for_news(self, deadline: float) -> bool:
        """Wait until the node may have sent something; False when the time is up."""
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        with self._news:
            self._news.wait(min(left, NEWS_S))
        return True

    def cause_of_death(self, incarnation: int, deadline: float) -> str:
        """Say how a peer ended; the node is asked, if there is one, and its answer waited for."""
        name = str(next(self._numbers))
        with self._news:
            if incarnation not in self._deaths:
                self._unexplained.add(name)  # before the look: its end may come at any moment
                unasked = min(deadline, time.monotonic() + UNASKED_S)
                if self._node is not None and not self._is_explained(incarnation, name, unasked):
                    self.tell_node_soon(Explain(name, incarnation))
                    self._is_explained(incarnation, name, deadline)
                self._unexplained.discard(name)
            return str(self._deaths.cause(incarnation))

    def _is_explained(self, incarnation: int, name: str, deadline: float) -> bool:
        """Wait until then for the node's word on a peer's end."""

        def is_answered() -> bool:
            return incarnation in self._deaths or name not in self._unexplained

        left = min(deadline - time.monotonic(), threading.TIMEOUT_MAX)
        return self._news.wait_for(is_answered, left)
