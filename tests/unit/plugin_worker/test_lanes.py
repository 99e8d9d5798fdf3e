import os
import socket

from plugin_worker.node.lanes import MAX_LANES, MAX_SHARED, Lanes
from protocol.messages import GrantLane, LaneFailed, LaneOpened, ToEndpoint


class Machine:
    """The endpoints of a machine, and what became of their lanes."""

    def __init__(self, *gone: int) -> None:
        self.ends: dict[int, list[tuple[LaneOpened, socket.socket]]] = {}
        self.failed: list[LaneFailed] = []
        self.lanes = Lanes(self.send, self.failed.append, lambda lane, ends: None, self.held_to)
        self._gone = gone

    def held_to(self, incarnation: int) -> tuple[tuple[str, ...], float]:
        return (f"for.{incarnation}",), 10.0 * incarnation

    def send(self, incarnation: int, message: ToEndpoint, descriptors: tuple[int, ...]) -> bool:
        if incarnation in self._gone:
            return False
        assert isinstance(message, LaneOpened)
        (fd,) = descriptors
        end = socket.socket(fileno=os.dup(fd))
        self.ends.setdefault(incarnation, []).append((message, end))
        return True

    def close(self) -> None:
        for ends in self.ends.values():
            for _, end in ends:
                end.close()


def grant(lane: int, caller: int = 1, callee: int = 2) -> GrantLane:
    return GrantLane(
        lane=lane,
        request="q",
        caller=caller,
        callee=callee,
        caller_name="app",
        callee_name="math",
        service="math",
        idempotent=("add",),
    )


class TestLanes:
    def test_a_lane_ties_a_caller_to_a_callee(self) -> None:
        """
        Each side gets one end and learns who is at the other; only the caller's answers a question.

        It alone is told what it may call again, and the callee alone what the caller may call.
        """
        machine = Machine()
        machine.lanes.grant(grant(5))
        ((to_caller, caller),) = machine.ends[1]
        ((to_callee, callee),) = machine.ends[2]
        caller.send(b"x")

        assert callee.recv(1) == b"x"
        assert to_caller == LaneOpened(
            lane=5,
            request="q",
            peer=2,
            peer_name="math",
            service="math",
            idempotent=("add",),
        )
        assert to_callee == LaneOpened(
            lane=5, request="", peer=1, peer_name="app", services=("for.1",), call_rate=10.0
        )
        machine.close()

    def test_a_callees_callers_are_named(self) -> None:
        """
        For the report of its death; those that it calls itself are none of them.
        """
        machine = Machine()
        machine.lanes.grant(grant(5))
        machine.lanes.grant(grant(6, caller=2, callee=1))

        assert machine.lanes.callers_of(2) == {1: "app"}
        assert machine.lanes.callers_of(9) == {}
        machine.close()

    def test_a_callee_that_is_gone_may_have_a_successor(self) -> None:
        """
        A lane whose callee has just left fails in a way that lets the daemon look again.
        """
        machine = Machine(2)
        machine.lanes.grant(grant(5))

        (failed,) = machine.failed
        assert (failed.lane, failed.gone) == (5, True)
        assert machine.lanes.forget(1) == set()

    def test_a_callee_has_so_many_lanes_and_no_more(self) -> None:
        """
        No callee has more lanes than it has descriptors to spare.
        """
        machine = Machine()
        for lane in range(MAX_LANES):
            machine.lanes.grant(grant(lane, 100 + lane, 2))
            machine.close()
        machine.lanes.grant(grant(MAX_LANES))

        why = f"math has {MAX_LANES} lanes already"
        assert machine.failed == [LaneFailed(MAX_LANES, why, gone=False)]

    def test_a_callee_that_reports_no_end_costs_its_callers_no_other_lane(self) -> None:
        """
        The lanes to one callee are bounded for each caller; those to others do not count.
        """
        machine = Machine()
        for lane in range(MAX_SHARED):
            machine.lanes.grant(grant(lane, 1, 2))
            machine.close()
        machine.lanes.grant(grant(MAX_SHARED, 1, 2))
        (failed,) = machine.failed
        assert f"{MAX_SHARED} lanes to math already" in failed.why

        machine.lanes.grant(grant(MAX_SHARED + 1, 1, 3))
        machine.close()
        assert machine.failed == [failed]

    def test_only_the_callee_closes_a_lane(self) -> None:
        """
        A lane is forgotten on the word of the one who served it, and of nobody else.
        """
        machine = Machine()
        machine.lanes.grant(grant(5))
        machine.lanes.closed(5, callee=1)
        machine.lanes.closed(6, callee=2)
        assert machine.lanes.forget(1) == {2}

        machine.lanes.grant(grant(7))
        machine.lanes.closed(7, callee=2)
        assert machine.lanes.forget(1) == set()
        machine.close()

    def test_who_is_tied_to_whom_is_known_while_a_lane_lasts(self) -> None:
        """
        Two endpoints are tied as long as one lane is left, whichever of them calls on it.
        """
        machine = Machine()
        machine.lanes.grant(grant(5, caller=1, callee=2))
        machine.lanes.grant(grant(6, caller=2, callee=1))
        machine.lanes.grant(grant(7, caller=1, callee=3))
        machine.close()

        machine.lanes.closed(5, callee=2)
        assert machine.lanes.tied(1, 2)
        assert machine.lanes.tied(2, 1)
        machine.lanes.closed(6, callee=1)
        assert not machine.lanes.tied(1, 2)
        assert not machine.lanes.tied(2, 3)
        machine.lanes.forget(3)
        assert not machine.lanes.tied(1, 3)

    def test_a_lane_that_was_not_made_ties_nobody(self) -> None:
        """
        Who never got an end of a lane has none.
        """
        machine = Machine(2)
        machine.lanes.grant(grant(5, caller=1, callee=2))

        assert not machine.lanes.tied(1, 2)

    def test_endpoints_have_the_names_that_the_daemon_gave_them(self) -> None:
        """
        A name is the daemon's word; an endpoint without lanes has only its number.
        """
        machine = Machine()
        machine.lanes.grant(grant(5, caller=1, callee=2))
        machine.close()

        assert machine.lanes.name_of(1) == "app"
        assert machine.lanes.name_of(2) == "math"
        assert machine.lanes.name_of(3) == "process 3"

    def test_who_had_lanes_with_the_dead_is_known(self) -> None:
        """
        An endpoint's end is news to those at the other ends of its lanes.
        """
        machine = Machine()
        machine.lanes.grant(grant(5, caller=1, callee=2))
        machine.lanes.grant(grant(6, caller=3, callee=1))
        machine.lanes.grant(grant(7, caller=3, callee=4))

        assert machine.lanes.forget(1) == {2, 3}
        assert machine.lanes.forget(4) == {3}
        machine.close()
