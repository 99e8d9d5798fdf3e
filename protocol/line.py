"""One end of a lane, and the calls under way on it in both directions. Belongs to one thread.

Whoever drives it (a loop, or a thread that waits) has it read; it finds out whose a frame is:

    an outcome or an item  ->  `pending`, whoever waits for it
    a cancel or a credit   ->  `running`, the call that is being served
    a call                 ->  `serve`, which its owner has set
"""

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from protocol.arena import Lie
from protocol.calls import (
    BEGIN,
    CANCEL,
    CREDIT,
    ERROR,
    FREE,
    ITEM,
    STREAM,
    WINDOW,
    Call,
    error_parts,
    head_of,
    is_call,
    is_value,
)
from protocol.carrier import Carrier, no_message, unpack
from protocol.deaths import WORD_S
from protocol.errors import (
    LocalProtocolError,
    RemoteProtocolError,
    ServiceUnavailable,
    WorkerLost,
    to_wire,
)
from protocol.lane import Lane
from protocol.messages import FromEndpoint, LaneOpened
from protocol.places import explain_frame
from protocol.pool import LARGE
from protocol.turn import TURN, Current

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from protocol.aio import Awaited
    from protocol.arena import Arena
    from protocol.callbacks import Callback
    from protocol.future import Made
    from protocol.reactor import Reactor
    from protocol.running import Target

MAX_WORD_S: Final = 1.0
"""How long a peer that reads nothing may hold up a word that nobody waits for, seconds."""


_DEALT_WITH: Final = object()

MAX_LOOKED: Final = 1024
"""Frames that are taken in by one look at what has come: four times the calls of a lane."""

MAX_HELD: Final = 1 << 20
"""Bytes of frames that are held on one lane, before it is read no further."""


class Pending:
    """Whoever waits for what comes of a call that was made on a line."""

    __slots__ = ()

    @property
    def made(self) -> "Made":
        """The call."""
        raise NotImplementedError

    def feed(self, parts: list[Any]) -> bool:
        """Take in a word about it; say whether it was the last."""
        raise NotImplementedError

    def lose(self, error: Any) -> None:  # noqa: ANN401 - an outcome; or `CalleeGone`, to a coroutine
        """Take in that no more words will come."""
        raise NotImplementedError


class Home(Protocol):
    """The process that a line is part of. Called from whichever thread the line belongs to."""

    @property
    def arena(self) -> "Arena | None":
        """The process's shared memory, if it has some."""

    def own(self) -> int:
        """Give the process's incarnation."""

    def cause_of_death(self, incarnation: int, deadline: float) -> str:
        """Say how a peer ended; waits for the node's word until then, `time.monotonic()` s."""

    def tell_node(self, message: FromEndpoint) -> None:
        """Tell the node of this machine."""


class Line:
    """One end of a lane; lives until either end closes it.

    Args:
        number: The node's number for the lane.
        wait: Waits until a deadline for the lane, or for something of the thread's other duties
            to be done; says False when the time is up. None where there is a `reactor`.
    """

    __slots__ = (
        "__weakref__",
        "_wait",
        "abandoned",
        "adopted",
        "awaited",
        "blocked",
        "carrier",
        "early",
        "ended",
        "exported",
        "functions",
        "held",
        "home",
        "idempotent",
        "in_flight",
        "is_calling",
        "is_looking",
        "is_lost",
        "is_sending",
        "lane",
        "loop",
        "lost",
        "number",
        "owner",
        "peer",
        "peer_name",
        "pending",
        "reactor",
        "running",
        "serve",
        "size",
        "told",
        "unread",
        "unwanted",
        "used",
        "waiting",
        "when_flushed",
        "when_room",
    )

    def __init__(
        self,
        lane: Lane,
        number: int,
        peer: int,
        peer_name: str,
        wait: Callable[[float], bool] | None,
        home: "Home",
    ) -> None:
        self.lane, self.number, self.peer, self.peer_name = lane, number, peer, peer_name
        self.reactor: Reactor | None = None
        """The loop that goes on while its thread waits, if it has one."""
        self._wait, self.home = wait, home
        self.belong()
        from protocol.callbacks import LineFunctions  # noqa: PLC0415 - which needs this module

        self.carrier = Carrier(home.arena, number, peer, LineFunctions(self))
        self.serve: Callable[[Line, Call], object] = _refuse
        self.functions: dict[str, Target] = {}
        """What went out as arguments of calls that are under way, by number."""
        self.exported: list[str] = []
        """Those of the call that is being sent."""
        self.blocked: Callable[[Line], object] = _finish_word
        """Called when the peer has no room; whoever drives the line has it flushed later."""
        self.lost: Callable[[Line], object] = _nobody
        """Called once when the line has ended, whoever found out."""
        self.unread: Callable[[Line], object] = _nobody
        """Called when whole frames may be left here, which no poll will announce."""
        self.ended: Callable[[], object] = _nothing
        """Called when an `async def` that was served is over."""
        self.unwanted: Callable[[int], object] = _nobody
        """Called when the peer cancels a call that does not run."""
        self.pending: dict[int, Pending] = {}
        self.in_flight: set[int] = set()
        """The futures of the thread that calls on it, those on its other lines among them."""
        self.early: dict[int, list[Any]] = {}
        """Outcomes that came while a call made later, by the same thread, waited for its own."""
        self.running: dict[int, Current] = {}
        self.held: deque[tuple[int, Call]] = deque()
        """Calls that came while the thread waited, each with its frame's size."""
        self.abandoned: deque[int] = deque()
        """Calls whose answers another thread has found to be unwanted."""
        self.adopted: list[Callback] = []
        """Functions that came with the call that is being taken in."""
        self.loop: AbstractEventLoop | None = None
        """The event loop of the thread that drives it, if it has one."""
        self.awaited: Awaited | None = None
        """What calls that coroutines await have in common, once there are some."""
        self.when_room: list[Callable[[], object]] = []
        """What waits until the peer has given back shared memory."""
        self.when_flushed: list[Callable[[], object]] = []
        """What waits until the peer has room again."""
        self.idempotent: set[tuple[str, str]] = set()
        """Methods, each with its service, that may be called again when a call was lost."""
        self.used, self.size = 0.0, 0
        """When it was called on last; bytes of the frame that is being taken in."""
        self.is_calling = self.is_sending = False
        """Whether what is being sent is a call, whose arguments may be functions; and whether a
        frame is being sent, into the middle of which nothing may be."""
        self.is_looking = self.is_lost = False
        """Whether a handler looks for its own cancel, so that no call may be begun; and whether
        the line has ended."""

    def belong(self) -> None:
        """Belong to this thread from now on."""
        self.owner = threading.get_ident()
        # Found here without asking which thread this is, which takes longer than a look at them.
        self.waiting, self.told = TURN.waiting, TURN.told

    def wait(self, until: float) -> bool:
        """Wait until something has come, or another of the thread's duties is done.

        Returns:
            False when `time.monotonic()` has reached `until`.
        """
        if self.reactor is not None:
            return self.reactor.wait_for(self.lane.fd, until)
        assert self._wait is not None
        return self._wait(until)

    # --- sending ----------------------------------------------------------------------------------

    def send(self, parts: tuple[Any, ...]) -> bool:
        """Send a call or a word; say whether all of it has left.

        Raises:
            LocalProtocolError: It cannot travel; nothing was sent. msgpack's errors mean that too.
            OSError: The peer is gone.
            RemoteProtocolError: The peer reads nothing.
        """
        if self.is_sending:
            raise LocalProtocolError("a value speaks while it is being sent itself")
        if self.abandoned:
            self._cancel_abandoned()
        carrier = self.carrier
        frame = b""
        self.is_sending = True  # packing asks the values themselves, and what they drop may speak
        try:
            try:
                frame = carrier.pack(parts)
            except BrokenPipeError:
                raise
            except OSError as error:  # a value's own: the peer has nothing to do with it
                raise LocalProtocolError(f"a value cannot be read: {error}") from error
            return self._leave(frame)
        except BaseException:
            carrier.unsent(frame)
            raise
        finally:
            self.is_sending = False

    def _leave(self, frame: bytes) -> bool:
        """Send a frame, and before it what the peer can have back."""
        carrier = self.carrier
        if not carrier.freed:
            return self.lane.send(frame)
        return self.lane.send_both(carrier.packer((0, FREE, carrier.take_freed())), frame)

    def send_plain(self, parts: tuple[Any, ...]) -> bool:
        """Send what has nothing in it but `PLAIN` values; as `send`, in fewer steps.

        There is nothing to lend, so nothing to take back; and no value that speaks.
        """
        carrier = self.carrier
        if self.is_sending or self.abandoned:
            return self.send(parts)
        self.is_sending = True  # what is collected just now may speak
        try:
            frame = carrier.packer(parts)
            if len(frame) <= LARGE:
                return self._leave(frame)
        finally:
            self.is_sending = False
        return self.send(parts)

    def say(self, *parts: object) -> None:
        """Send a word that nobody waits for; a peer that is gone has no use for it.

        Raises:
            LocalProtocolError: It cannot travel. msgpack's errors mean that too.
        """
        if self.is_lost:
            return
        try:
            if not self.send(parts):
                self.blocked(self)
        except (OSError, RemoteProtocolError):
            self.lose()

    def give_back(self) -> None:
        """Tell the peer at once what of its shared memory nobody looks at any more."""
        if self.carrier.freed:
            self.say(0, FREE, self.carrier.take_freed())

    def learn(self, service: str, idempotent: set[tuple[str, str]]) -> None:
        """Know anew which of a service's methods may be called again; it may be another by now."""
        others = {known for known in self.idempotent if known[0] != service}
        self.idempotent = others | idempotent

    def flush(self) -> bool:
        """Send what the peer had no room for; say whether all of it has left.

        Raises:
            OSError: The peer is gone.
        """
        self.is_sending = True  # or a finalizer might send the same bytes again
        try:
            has_left = self.lane.flush()
        finally:
            self.is_sending = False
        if not has_left:
            return False
        waiting, self.when_flushed = self.when_flushed, []
        _go_on(waiting)
        return not self.lane.has_unsent

    def release(self) -> None:
        """Send what its lane has gathered; a peer that is gone has no use for it."""
        if self.is_lost:
            return
        try:
            if not self.lane.release():
                self.blocked(self)
        except (OSError, RemoteProtocolError):
            self.lose()

    def forget(self, number: int) -> None:
        """Want a call's answer no longer, and tell the peer."""
        self.pending.pop(number, None)
        self.early.pop(number, None)
        if self.blocked is not _finish_word:
            self.say(number, CANCEL)
        elif not self.is_lost:
            try:
                # Whoever gives up does not wait for room: this leaves with the next word, or call.
                self.send((number, CANCEL))
            except (OSError, RemoteProtocolError):
                self.lose()

    def _cancel_abandoned(self) -> None:
        while self.abandoned:
            self.forget(self.abandoned.popleft())

    # --- receiving --------------------------------------------------------------------------------

    def take(self, frame: bytes) -> None:
        """Do what a frame says.

        Raises:
            RemoteProtocolError: It says nothing that a peer may say.
        """
        self.sort(self.unpack(frame), len(frame))

    def unpack(self, frame: bytes) -> Any:  # noqa: ANN401 - whatever the peer said
        """Read a frame; `_DEALT_WITH` if only its call could be told, and has been ended."""
        try:
            return unpack(frame, ext_hook=self.carrier.extension, strict_map_key=False)
        except Lie:
            raise
        except Exception as error:  # noqa: BLE001 - msgpack has five kinds for bad input
            self._unreadable(frame, no_message(error))
            return _DEALT_WITH

    def sort(self, parts: Any, size: int) -> None:  # noqa: ANN401 - whatever the peer said
        """Do what a frame says that has been read, `size` bytes long.

        Raises:
            RemoteProtocolError: It says nothing that a peer may say.
        """
        if parts is _DEALT_WITH:
            return
        if is_call(parts):
            self.size = size
            if self.adopted:
                parts.append(self.adopted)  # others may come before this call begins
                self.adopted = []
            self.serve(self, parts)
        elif self.adopted:
            self.adopted.clear()
            raise RemoteProtocolError("a function that is no argument of a call")
        else:
            self.hear(parts)

    def _unreadable(self, frame: bytes, error: RemoteProtocolError) -> None:
        """End the one call that cannot be read, if it shows which: its sender may be honest."""
        head = head_of(frame)
        self.adopted.clear()
        if head is None:
            raise error
        number, is_call = head
        why = explain_frame(frame, is_call=is_call) or f"it cannot be read on arrival: {error}"
        if is_call:
            self.say(*error_parts(number, LocalProtocolError(why)))
            return
        kind, fields = to_wire(RemoteProtocolError(why))
        self.hear([number, ERROR, kind, list(fields)])
        self.say(number, CANCEL)  # a stream would go on

    def hear(self, parts: list[Any]) -> None:
        """Take in a word about a call; words about calls that are over are not wanted."""
        number, code = parts[0], parts[1]
        if code <= ITEM:
            pending = self.pending.get(number)
            if pending is None:
                if number in TURN.waiting:
                    self._keep(number, parts)
            elif pending.feed(parts):
                self.pending.pop(number, None)
        elif code == CANCEL:
            self._cancel(number)
        elif code == CREDIT:
            if type(parts[2]) is not int or parts[2] < 1:
                raise RemoteProtocolError("credit that is no number of items")
            if number in self.running:
                self.running[number].more(parts[2])
        else:
            self.carrier.returned(parts[2])
            waiting, self.when_room = self.when_room, []
            _go_on(waiting)

    def _cancel(self, number: int) -> None:
        current = self.running.get(number)
        if current is not None:
            current.cancel()
        else:
            self.held = deque(one for one in self.held if one[1][0] != number)
            self.unwanted(number)

    def _keep(self, number: int, word: list[Any]) -> None:
        """Keep the outcome of a call for when its turn comes; a stream's items behind its begin."""
        # What a liar has said of calls on other lines is not kept for ever.
        for over in [known for known in self.early if known not in TURN.waiting]:
            del self.early[over]
        first = self.early.setdefault(number, word)
        is_item = word[1] == ITEM
        if first is word:
            if is_item:
                raise RemoteProtocolError("an item of what is no stream")
        elif first[1] == STREAM and (len(first) == BEGIN or first[-1][1] == ITEM):
            if is_item and len(first) >= BEGIN + WINDOW:
                raise RemoteProtocolError("a stream with more items than were asked for")
            first.append(word)

    @property
    def is_full(self) -> bool:
        """Whether so much is held that no more calls are to be read."""
        return sum(size for size, _ in self.held) > MAX_HELD

    def take_in(self) -> None:
        """Take in a frame that is here, and those that have come with it; waits for nothing.

        What the socket still holds is for the next time, so that no peer keeps a thread for itself.

        Raises:
            EOFError: The peer is gone.
            RemoteProtocolError: It broke the protocol.
        """
        lane = self.lane
        frame = lane.receive()
        while frame is not None:
            parts = self.unpack(frame)
            one = self.pending.get(parts[0]) if is_value(parts) and not self.adopted else None
            if one is None:
                self.sort(parts, len(frame))
            elif one.feed(parts):
                # The answers to many futures come together, and nearly all of them are values.
                self.pending.pop(parts[0], None)
            frame = None if self.is_lost else lane.next()  # which no poll will announce

    def came(self) -> None:
        """Take in what has come while nobody waits: late answers, items, or the line's end."""
        try:
            self.take_in()
        except (EOFError, RemoteProtocolError):
            self.lose()

    def look(self) -> None:
        """Take in what is here already without waiting; calls are held."""
        if threading.get_ident() != self.owner:
            return
        if self.lane.is_gathering:
            self.release()  # who asks has a reason to: it may be a while
        if self.is_lost:
            return
        self.is_looking = True
        left = MAX_LOOKED  # or a peer that floods would keep this thread, and all others with it
        try:
            while left and not self.is_full and (frame := self.lane.receive()) is not None:
                self.take(frame)
                left -= 1
        except (EOFError, RemoteProtocolError):
            self.lose()
        finally:
            self.is_looking = False

    def leave(self) -> None:
        """Let go of it, in a child that was forked: no thread of this process has it any more."""
        self.owner = 0
        self.lane.close()

    def lose(self) -> None:
        """End the line: what waits on it fails, and what it asked for is cancelled."""
        if self.is_lost:
            return
        self.is_lost = True
        self.lost(self)
        self.lane.close()
        self.carrier.close()
        for current in tuple(self.running.values()):
            current.cancel()
        pending, self.pending = self.pending, {}
        if pending:
            error = self.death(min(one.made.deadline for one in pending.values()))
            for one in pending.values():
                one.lose(error)

    def death(self, deadline: float) -> WorkerLost:
        """Say how the peer has ended; waits until then for the node to say it."""
        until = min(deadline, monotonic() + WORD_S)
        return WorkerLost(self.peer_name, self.home.cause_of_death(self.peer, until))


def line_of(opened: LaneOpened, fd: int, wait: Callable[[float], bool], home: Home) -> Line:
    """Give the caller's end of a lane that the node has made."""
    line = Line(Lane(fd), opened.lane, opened.peer, opened.peer_name, wait, home)
    line.idempotent = {(opened.service, method) for method in opened.idempotent}
    return line


def _refuse(line: Line, call: Call) -> None:
    number, *_ = call
    line.say(*error_parts(number, ServiceUnavailable(call[1], "nothing is offered on this lane")))


def _go_on(waiting: list[Callable[[], object]]) -> None:
    for go_on in waiting:
        go_on()


def _nothing() -> None:
    """Nobody counts."""


def _nobody(_: object) -> None:
    """Nobody wants to know."""


def _finish_word(line: Line) -> None:
    line.lane.finish(monotonic() + MAX_WORD_S)
