import pytest

from plugin_worker.node import notices as notices_module
from plugin_worker.node.notices import MAX_COUNT, Notices
from protocol.errors import RemoteProtocolError
from protocol.messages import Denied, WasDenied
from protocol.tally import EVERY_S, MAX_KINDS, MAX_WHAT
from tests.clock import Clock, HandReactor


class Station:
    """The notices of a node, and what its daemon is told."""

    def __init__(self, clock: Clock) -> None:
        self.told: list[Denied] = []
        self.reactor = HandReactor(clock)
        self.notices = Notices(self.reactor, self.told.append)


@pytest.fixture
def station(monkeypatch: pytest.MonkeyPatch) -> Station:
    clock = Clock()
    monkeypatch.setattr(notices_module, "time", clock)
    return Station(clock)


class TestNotices:
    def test_the_daemon_is_told_at_once(self, station: Station) -> None:
        """
        Of a worker's word, and of what the node refused itself.
        """
        station.notices.said(7, WasDenied("network", "port 25", 3))
        station.notices.note(8, "publish", "Secret")

        assert station.told == [
            Denied(7, "network", "port 25", 3),
            Denied(8, "publish", "Secret", 1),
        ]

    def test_a_flood_costs_a_few_messages(self, station: Station) -> None:
        """
        Of each worker for itself, and in the end the counts are right.
        """
        for number in range(10_000):
            station.notices.said(7, WasDenied("read", f"/{number}", 1))
        station.notices.said(8, WasDenied("read", "/a", 1))
        assert len(station.told) == MAX_KINDS + 2

        station.reactor.pass_time(EVERY_S)
        mine = [denied for denied in station.told if denied.incarnation == 7]
        assert len(mine) == MAX_KINDS + 2
        assert sum(denied.count for denied in mine) == 10_000

    def test_nothing_is_kept_of_what_has_stopped(self, station: Station) -> None:
        """
        Nor is a timer.
        """
        station.notices.note(7, "publish", "Secret")
        station.reactor.pass_time(EVERY_S)

        assert (station.notices._tallies, station.reactor.due) == ({}, [])

    def test_a_worker_that_ends_is_told_of_to_the_end(self, station: Station) -> None:
        """
        What was counted is told before its death is.
        """
        for _ in range(5):
            station.notices.note(7, "publish", "Secret")
        station.notices.forget(7)

        assert [denied.count for denied in station.told] == [1, 4]
        station.reactor.pass_time(EVERY_S)
        assert len(station.told) == 2

    def test_what_was_tried_is_cut(self, station: Station) -> None:
        """
        A worker may say a megabyte.
        """
        station.notices.said(7, WasDenied("read", "x" * 1_000_000, 1))

        assert len(station.told[0].what) == MAX_WHAT

    @pytest.mark.parametrize(
        "lie",
        [
            WasDenied("everything", "x", 1),
            WasDenied("read", "x", 0),
            WasDenied("read", "x", -5),
            WasDenied("read", "x", MAX_COUNT + 1),
        ],
        ids=["word", "none", "less", "more"],
    )
    def test_what_cannot_be_meant_is_a_breach(self, station: Station, lie: WasDenied) -> None:
        """
        There are nine permissions, and nobody counts beyond bounds.
        """
        with pytest.raises(RemoteProtocolError):
            station.notices.said(7, lie)
        assert station.told == []
