from plugin_worker.node.cgroups import Cgroups, Member
from protocol.limits import DEFAULTS
from tests.asides import Later
from tests.clock import Clock, HandReactor


class TestEnded:
    def test_one_that_is_being_put_in_its_group_is_reaped_afterwards(self) -> None:
        """
        The loop goes on meanwhile; and who is put there late is not put there at all.
        """
        reactor, reaped = HandReactor(Clock()), list[bool]()
        groups = Cgroups("", "")
        member = Member("1", 1, DEFAULTS, may_fork=False)
        groups.join(Later(), 1, member, lambda _: None)

        with member.lock:
            groups.ended(reactor, 1, lambda: reaped.append(member.is_over))
            reactor.pass_time(0.02)
            assert reaped == []
        reactor.pass_time(0.02)
        assert reaped == [True]
        assert groups._put(member) == "it has ended"

    def test_one_without_a_group_is_reaped_at_once(self) -> None:
        """
        As is one that has joined.
        """
        reactor, reaped = HandReactor(Clock()), list[int]()
        groups = Cgroups("", "")
        groups.ended(reactor, 7, lambda: reaped.append(7))
        groups.join(Later(), 8, Member("8", 8, DEFAULTS, may_fork=False), lambda _: None)
        groups.ended(reactor, 8, lambda: reaped.append(8))
        assert reaped == [7, 8]
        assert reactor.due == []
