"""The lines on which one thread calls, found by service; one line serves all of a callee's."""

import threading
from time import monotonic
from typing import Final

from protocol.callbacks import serve_callback
from protocol.line import Line
from protocol.turn import TURN

IDLE_S: Final = 60.0
"""A line that was not used for so long is closed when its thread opens another."""


class Lines(threading.local):
    """One thread's; they end with it."""

    def __init__(self) -> None:
        self.by_service: dict[str, Line] = {}
        self._by_peer: dict[int, Line] = {}

    def keep(self, service: str, fresh: Line) -> Line:
        """Give the line for a service: the one just opened, or an older one to the same peer."""
        self._close_idle()
        known = self._by_peer.setdefault(fresh.peer, fresh)
        known.learn(service, fresh.idempotent)
        if known is not fresh:
            fresh.lane.close()
        else:
            self._drive(fresh)
        self.by_service[service] = known
        return known

    def _drive(self, line: Line) -> None:
        line.belong()
        line.serve = serve_callback
        line.lost = self._lost
        line.in_flight = TURN.in_flight
        reactor = TURN.reactor
        if reactor is None:
            return
        # This thread serves calls: while it waits, its loop goes on, and reads what comes early.
        line.reactor = reactor
        reactor.watch(line.lane.fd, line.came)
        if self.close not in TURN.at_end:
            TURN.at_end.append(self.close)

    def _close_idle(self) -> None:
        idle = monotonic() - IDLE_S
        for line in tuple(self._by_peer.values()):
            if 0.0 < line.used < idle and not line.pending and not TURN.waiting:
                line.lose()

    def _lost(self, line: Line) -> None:
        if TURN.reactor is not None:
            TURN.reactor.forget(line.lane.fd)
        self._by_peer.pop(line.peer, None)
        for service in [name for name, known in self.by_service.items() if known is line]:
            del self.by_service[service]

    def leave(self) -> None:
        """Let go of them, in a child that was forked: they are its parent's, who goes on."""
        for line in self._by_peer.values():
            line.leave()

    def close(self) -> None:
        """Close them all."""
        for line in tuple(self._by_peer.values()):
            line.lose()
