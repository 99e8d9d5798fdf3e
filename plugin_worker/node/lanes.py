"""Tie callers to callees on the daemon's word, and know who has lanes with whom."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from protocol.messages import GrantLane, LaneFailed, LaneOpened, ToEndpoint

MAX_LANES: Final = 768
"""To one callee. A lane costs each side a descriptor, of which a worker has 1024."""

MAX_SHARED: Final = 256
"""Between one caller and one callee: one for each thread of the caller's."""

Send = Callable[[int, ToEndpoint, tuple[int, ...]], bool]
"""Sends a message with descriptors to an endpoint; False when there is no such endpoint."""


@dataclass(frozen=True, slots=True)
class _Lane:
    caller: int
    callee: int


class Lanes:
    """Every lane of this machine; lives as long as the node."""

    def __init__(self, send: Send, failed: Callable[[LaneFailed], None]) -> None:
        self._send = send
        self._failed = failed
        self._lanes: dict[int, _Lane] = {}

    def grant(self, grant: GrantLane) -> None:
        """Make a socket pair and give one end to each side; the callee first."""
        why = self._hindrance(grant)
        if why:
            self._failed(LaneFailed(grant.lane, why, gone=False))
            return
        try:
            caller_end, callee_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            self._failed(LaneFailed(grant.lane, f"the node has no room: {error}", gone=False))
            return
        with caller_end, callee_end:
            to_callee = LaneOpened(
                lane=grant.lane, request="", peer=grant.caller, peer_name=grant.caller_name
            )
            to_caller = LaneOpened(
                lane=grant.lane,
                request=grant.request,
                peer=grant.callee,
                peer_name=grant.callee_name,
            )
            if not self._send(grant.callee, to_callee, (callee_end.fileno(),)):
                self._failed(LaneFailed(grant.lane, "its process is leaving", gone=True))
                return
            self._lanes[grant.lane] = _Lane(grant.caller, grant.callee)
            self._send(grant.caller, to_caller, (caller_end.fileno(),))

    def _hindrance(self, grant: GrantLane) -> str:
        # Only the callee says that a lane has ended: a liar must not use up its callers' places.
        to_callee = [lane for lane in self._lanes.values() if lane.callee == grant.callee]
        if len(to_callee) >= MAX_LANES:
            return f"{grant.callee_name} has {MAX_LANES} lanes already"
        if sum(lane.caller == grant.caller for lane in to_callee) >= MAX_SHARED:
            return f"{grant.caller_name} has {MAX_SHARED} lanes to {grant.callee_name} already"
        return ""

    def closed(self, lane: int, callee: int) -> None:
        """Forget a lane, on its callee's word."""
        known = self._lanes.get(lane)
        if known is not None and known.callee == callee:
            del self._lanes[lane]

    def forget(self, incarnation: int) -> set[int]:
        """Forget the lanes of an endpoint that is gone; give those at their other ends."""
        mine = {
            number: lane
            for number, lane in self._lanes.items()
            if incarnation in (lane.caller, lane.callee)
        }
        for number in mine:
            del self._lanes[number]
        others = {side for lane in mine.values() for side in (lane.caller, lane.callee)}
        return others - {incarnation}
