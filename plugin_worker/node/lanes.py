"""Tie callers to callees on the daemon's word, and know who has lanes with whom."""

import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from protocol import failpoints
from protocol.messages import GrantLane, LaneFailed, LaneOpened, ToEndpoint
from protocol.process import check_room

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
    caller_name: str
    callee_name: str


class Lanes:
    """Every lane of this machine; lives as long as the node.

    Args:
        failed: Called when a lane cannot be made.
        over: Called with a lane that is forgotten and its two ends.
        held_to: Says which services an endpoint may call, and how often a second.
    """

    def __init__(
        self,
        send: Send,
        failed: Callable[[LaneFailed], None],
        over: Callable[[int, tuple[int, int]], None],
        held_to: Callable[[int], tuple[tuple[str, ...], float]],
    ) -> None:
        self._send = send
        self._failed = failed
        self._over = over
        self._held_to = held_to
        self._lanes: dict[int, _Lane] = {}
        self._ties: Counter[tuple[int, int]] = Counter()

    def grant(self, grant: GrantLane) -> None:
        """Make a socket pair and give one end to each side; the callee first."""
        why = self._hindrance(grant)
        if why:
            self._failed(LaneFailed(grant.lane, why, gone=False))
            return
        try:
            check_room()
            if failpoints.ARMED:
                failpoints.hit("lane.before")
            caller_end, callee_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            self._failed(LaneFailed(grant.lane, f"the node has no room: {error}", gone=False))
            return
        with caller_end, callee_end:
            services, call_rate = self._held_to(grant.caller)
            to_callee = LaneOpened(
                lane=grant.lane,
                request="",
                peer=grant.caller,
                peer_name=grant.caller_name,
                services=services,
                call_rate=call_rate,
            )
            to_caller = LaneOpened(
                lane=grant.lane,
                request=grant.request,
                peer=grant.callee,
                peer_name=grant.callee_name,
                service=grant.service,
                idempotent=grant.idempotent,
            )
            if not self._send(grant.callee, to_callee, (callee_end.fileno(),)):
                self._failed(LaneFailed(grant.lane, "its process is leaving", gone=True))
                return
            if failpoints.ARMED:
                failpoints.hit("lane.half")
            self._keep(grant)
            self._send(grant.caller, to_caller, (caller_end.fileno(),))

    def _hindrance(self, grant: GrantLane) -> str:
        # Only the callee says that a lane has ended: a liar must not use up its callers' places.
        to_callee = [lane for lane in self._lanes.values() if lane.callee == grant.callee]
        if len(to_callee) >= MAX_LANES:
            return f"{grant.callee_name} has {MAX_LANES} lanes already"
        if sum(lane.caller == grant.caller for lane in to_callee) >= MAX_SHARED:
            return f"{grant.caller_name} has {MAX_SHARED} lanes to {grant.callee_name} already"
        return ""

    def _keep(self, grant: GrantLane) -> None:
        if grant.lane in self._lanes:
            self._drop(grant.lane)
        self._lanes[grant.lane] = _Lane(
            grant.caller, grant.callee, grant.caller_name, grant.callee_name
        )
        self._ties[_pair(grant.caller, grant.callee)] += 1

    def _drop(self, number: int) -> None:
        lane = self._lanes.pop(number)
        pair = _pair(lane.caller, lane.callee)
        self._ties[pair] -= 1
        if not self._ties[pair]:
            del self._ties[pair]
        self._over(number, (lane.caller, lane.callee))

    def other_end(self, number: int, end: int) -> int | None:
        """Give who is at the other end of an endpoint's lane; None if it has no such lane."""
        lane = self._lanes.get(number)
        if lane is None or end not in {lane.caller, lane.callee}:
            return None
        return lane.callee if end == lane.caller else lane.caller

    def tied(self, one: int, other: int) -> bool:
        """Say whether two endpoints have a lane with each other, whichever of them calls."""
        return _pair(one, other) in self._ties

    def name_of(self, incarnation: int) -> str:
        """Give the name of an endpoint that has a lane; of another its number."""
        for lane in self._lanes.values():
            if lane.caller == incarnation:
                return lane.caller_name
            if lane.callee == incarnation:
                return lane.callee_name
        return f"process {incarnation}"

    def callers_of(self, callee: int) -> dict[int, str]:
        """Name those that have lanes to an endpoint."""
        lanes = self._lanes.values()
        return {lane.caller: lane.caller_name for lane in lanes if lane.callee == callee}

    def closed(self, lane: int, callee: int) -> None:
        """Forget a lane, on its callee's word."""
        known = self._lanes.get(lane)
        if known is not None and known.callee == callee:
            self._drop(lane)

    def forget(self, incarnation: int) -> set[int]:
        """Forget the lanes of an endpoint that is gone; give those at their other ends."""
        mine = {
            number: lane
            for number, lane in self._lanes.items()
            if incarnation in (lane.caller, lane.callee)
        }
        for number in mine:
            if number in self._lanes:
                self._drop(number)
        others = {side for lane in mine.values() for side in (lane.caller, lane.callee)}
        return others - {incarnation}


def _pair(one: int, other: int) -> tuple[int, int]:
    return (one, other) if one < other else (other, one)
