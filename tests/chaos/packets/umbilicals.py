"""Say mutated packets on umbilicals, one after the other, and look after each what became of it.

Behind each packet goes an honest question, to the node or to the daemon. Its answer, or the end of
the connection, shows that the packet was dealt with; neither in time, that somebody hangs.
"""

import select
import time
from dataclasses import dataclass, field
from typing import Final

from protocol.messages import FROM_ENDPOINT, FROM_WORKER, ListServices, Share
from protocol.packets import Kind, cut
from tests.chaos.packets.bare import Bare, BareRun, hello, ready
from tests.chaos.packets.mutations import Mutator

PATIENCE_S: Final = 15.0
"""How long any answer may take, on a busy machine."""

_MARK: Final = b"asked-"


@dataclass(slots=True)
class Tally:
    """What became of the packets of one conversation.

    Attributes:
        ended: Connections that were ended for one.
        hung: Packets that nobody dealt with in time.
        longest_s: The longest time until one was dealt with.
    """

    sent: int = 0
    ended: int = 0
    hung: list[bytes] = field(default_factory=list)
    longest_s: float = 0.0


@dataclass(slots=True)
class _Turn:
    """What one worker waits for."""

    bare: Bare
    mark: bytes = b""
    since: float = 0.0
    packet: bytes = b""


class Umbilicals:
    """Several lives at once, each of which ends when its packet was too bad."""

    def __init__(self, run: BareRun, mutator: Mutator) -> None:
        self.tally = Tally()
        self.last: list[bytes] = []
        """The packets that were sent last, newest last."""
        self._run = run
        self._mutator = mutator
        self._turns: dict[int, _Turn] = {}
        self._poll = select.epoll()
        self._poll.register(run.fd, select.EPOLLIN)

    def attack(self, packets: int) -> None:
        """Send so many."""
        wanted = self.tally.sent + packets
        while self.tally.sent < wanted:
            happened = self._poll.poll(0.5)
            if not happened and not self._turns:
                self._run.revive()
            for fd, _ in happened:
                if fd == self._run.fd:
                    self._begin()
                elif fd in self._turns:
                    self._hear(self._turns[fd])
            self._look_for_silence()

    def close(self) -> None:
        """Let go of all that live."""
        for turn in list(self._turns.values()):
            self._end(turn)
        self._poll.close()

    def _begin(self) -> None:
        for bare in self._run.born():
            turn = _Turn(bare)
            self._turns[bare.end.fileno()] = turn
            self._poll.register(bare.end.fileno(), select.EPOLLIN)
            if self._mutator.rng.random() < 0.1:
                self._send(turn, hello(), is_greeting=True)
            else:
                bare.send(hello(), *ready(bare.name))
                self._next(turn)

    def _hear(self, turn: _Turn) -> None:
        while (packet := turn.bare.receive()) is not None:
            if not packet:
                self._dealt_with(turn)
                self.tally.ended += 1
                self._end(turn)
                return
            if turn.mark and turn.mark in packet[:200]:
                self._dealt_with(turn)
                self._next(turn)

    def _next(self, turn: _Turn) -> None:
        self._send(turn, self._mutator.next())

    def _send(self, turn: _Turn, packet: bytes, *, is_greeting: bool = False) -> None:
        if is_greeting:
            packet = self._mutator.mutated(packet[:5], packet[5:])
        self.tally.sent += 1
        self.last = [*self.last[-49:], packet]
        turn.mark = _MARK + str(self.tally.sent).encode()
        turn.since, turn.packet = time.monotonic(), packet
        turn.bare.send(packet[:65536], _question(packet, turn.mark.decode()))

    def _dealt_with(self, turn: _Turn) -> None:
        if turn.mark:
            self.tally.longest_s = max(self.tally.longest_s, time.monotonic() - turn.since)
        turn.mark = b""

    def _end(self, turn: _Turn) -> None:
        fd = turn.bare.end.fileno()
        self._poll.unregister(fd)
        del self._turns[fd]
        turn.bare.end.close()

    def _look_for_silence(self) -> None:
        now = time.monotonic()
        for turn in list(self._turns.values()):
            if turn.mark and now > turn.since + PATIENCE_S:
                self.tally.hung.append(turn.packet)
                self._end(turn)


def _question(packet: bytes, mark: str) -> bytes:
    """Ask whoever takes this kind of packet something that has an answer at once."""
    if packet[:1] in {Kind.RELAY.value, Kind.FACT.value}:
        return cut(Kind.RELAY, FROM_WORKER.encode(ListServices(mark)))[0]
    return cut(Kind.NODE, FROM_ENDPOINT.encode(Share(mark, 0, 0)))[0]
