"""Questions that wait, on a clock that the test moves: how long, how many, and for what."""

import pytest

from protocol.messages import GrantLane, LaneFailed, Offer, Resolve
from spiral_host.questions import AGAIN_S, MAX_OFFERS, MAX_PARKED, REMEMBERED
from tests.unit.spiral_host.fakes import Desk, House, manifest

CALLER = 9
CALLEE = 10


@pytest.fixture
def caller() -> Desk:
    return Desk(CALLER, "app:caller")


@pytest.fixture
def callee() -> Desk:
    return Desk(CALLEE, "app:callee")


def offer(house: House, desk: Desk, service: str = "math") -> None:
    house.questions.offer(desk.asker, Offer(service=service, methods=("add",), idempotent=()))
    house.questions.look_again()


def resolve(house: House, desk: Desk, wait_s: float = 0.0, request: str = "q") -> None:
    house.questions.ask(desk.asker, Resolve(request=request, service="math", wait_s=wait_s))


def granted(house: House) -> GrantLane:
    (grant,) = house.node.take(GrantLane)
    return grant


class TestPatience:
    def test_what_has_nothing_to_do_with_it_does_not_touch_it(
        self, house: House, caller: Desk, callee: Desk
    ) -> None:
        """
        A plugin may offer again and again: a question for another service is not even looked at.
        """
        resolve(house, caller, wait_s=5.0)
        due = house.reactor.due
        for _ in range(100):
            offer(house, callee, "other")
            house.questions.look_again("other")

        assert house.reactor.due == due
        assert len(house.reactor._timers) == len(due)
        offer(house, callee)
        assert granted(house).request == "q"

    def test_those_of_one_that_is_gone_are_nobodys(
        self, house: House, caller: Desk, callee: Desk
    ) -> None:
        """
        Others that wait for the same service still do.
        """
        resolve(house, caller, wait_s=5.0)
        other = Desk(CALLER + 5, "app:other")
        resolve(house, other, wait_s=5.0, request="theirs")
        house.questions.forget(CALLER)

        offer(house, callee)
        assert granted(house).request == "theirs"

    def test_it_is_what_was_asked_for(self, house: House, caller: Desk) -> None:
        """
        However often something else moved meanwhile, a question gives up in its own time.
        """
        resolve(house, caller, wait_s=5.0)
        for _ in range(4):
            house.reactor.pass_time(1.0)
            house.questions.look_again()
        assert caller.replies == []

        house.reactor.pass_time(1.0)

        assert caller.value() is None

    def test_a_question_that_was_given_up_is_answered_once(
        self, house: House, caller: Desk, callee: Desk
    ) -> None:
        """
        A service that comes too late makes no lane for nobody.
        """
        resolve(house, caller, wait_s=1.0)
        house.reactor.pass_time(1.0)
        offer(house, callee)

        assert caller.value() is None
        assert house.node.take(GrantLane) == []

    @pytest.mark.parametrize("wait_s", [float("nan"), -1.0, float("-inf")])
    def test_what_is_no_time_is_no_patience(
        self, house: House, caller: Desk, wait_s: float
    ) -> None:
        """
        A hostile worker cannot set a timer that never comes and holds up all others.
        """
        resolve(house, caller, wait_s=wait_s)

        assert caller.value() is None
        assert house.reactor.due == []

    @pytest.mark.parametrize("wait_s", [float("inf"), 1e300])
    def test_it_has_an_end(self, house: House, caller: Desk, wait_s: float) -> None:
        """
        A question for ever is a question for an hour.
        """
        resolve(house, caller, wait_s=wait_s)

        assert house.reactor.due == [house.clock.now + 3600]

    def test_it_outlasts_a_lane_that_failed(self, house: House, caller: Desk, callee: Desk) -> None:
        """
        Asked again, a question waits for what is left of its time and no longer.
        """
        offer(house, callee)
        resolve(house, caller, wait_s=5.0)
        house.reactor.pass_time(4.0)
        house.registry.withdraw_all(CALLEE)
        house.questions.lane_failed(LaneFailed(granted(house).lane, "gone", gone=True))
        house.reactor.pass_time(0.5)
        assert caller.replies == []

        house.reactor.pass_time(0.5 + AGAIN_S)

        assert caller.value() is None


class TestLaneFailed:
    def test_the_question_goes_to_whoever_offers_then(
        self, house: House, caller: Desk, callee: Desk
    ) -> None:
        """
        A callee that has just gone is not the answer; the next one is.
        """
        offer(house, callee)
        resolve(house, caller, wait_s=5.0)
        lane = granted(house).lane
        house.registry.withdraw_all(CALLEE)
        house.questions.lane_failed(LaneFailed(lane, "its process is leaving", gone=True))
        house.reactor.pass_time(AGAIN_S)

        offer(house, Desk(11, "app:next"))

        assert granted(house).callee == 11
        assert caller.replies == []

    def test_it_is_taken_in_once(self, house: House, caller: Desk, callee: Desk) -> None:
        """
        The second word on a lane, and one on a lane that nobody knows, are no news.
        """
        offer(house, callee)
        resolve(house, caller)
        failed = LaneFailed(granted(house).lane, "too many", gone=False)
        for _ in range(2):
            house.questions.lane_failed(failed)
        house.questions.lane_failed(LaneFailed(4711, "gone", gone=True))

        assert "ServiceUnavailable math too many" in caller.refusal()
        assert house.reactor.due == []

    def test_lanes_that_were_made_are_forgotten_in_the_end(
        self, house: House, caller: Desk, callee: Desk
    ) -> None:
        """
        A daemon that ties lanes for years does not grow.
        """
        offer(house, callee)
        for _ in range(REMEMBERED + 10):
            resolve(house, caller)

        assert len(house.questions._granted) == REMEMBERED


class TestHope:
    def test_a_plugin_in_quarantine_is_not_waited_for(self, house: House, caller: Desk) -> None:
        """
        Who waits for what will not come back is told why, as soon as it is known.
        """
        house.add_ready(manifest("base"))
        offer(house, Desk(house.incarnation("base"), "base"))
        house.end("base")
        resolve(house, caller, wait_s=60.0)
        assert caller.replies == []

        house.reactor.pass_time(0)
        house.confine("base")
        house.break_("base")

        refusal = caller.refusal()
        assert refusal.startswith("ServiceUnavailable math its plugin base is quarantined")
        assert "ValueError: no" in refusal

    def test_a_crash_is_no_reason_to_give_up(self, house: House, caller: Desk) -> None:
        """
        The plugin comes back, offers again, and whoever waited never noticed.
        """
        house.add_ready(manifest("base"))
        offer(house, Desk(house.incarnation("base"), "base"))
        house.end("base")
        resolve(house, caller, wait_s=60.0)
        house.reactor.pass_time(0)
        house.load("base")

        offer(house, Desk(house.incarnation("base"), "base"))

        assert granted(house).callee == house.incarnation("base")
        assert caller.replies == []


class TestShares:
    def test_one_process_fills_its_own_share(self, house: House, caller: Desk) -> None:
        """
        Too many questions of one are refused; another's first one waits.
        """
        for number in range(MAX_PARKED):
            resolve(house, caller, wait_s=5.0, request=str(number))
        resolve(house, caller, wait_s=5.0)
        assert caller.refusal().startswith("Overloaded math")

        other = Desk(11, "app:other")
        resolve(house, other, wait_s=5.0)

        assert other.replies == []

    def test_a_repeated_offer_is_none_more(self, house: House, callee: Desk) -> None:
        """
        Whoever comes back and states its services again is within its limit.
        """
        for number in range(MAX_OFFERS):
            offer(house, callee, f"s{number}")

        offer(house, callee, "s0")

        assert len(house.registry.services_of(CALLEE)) == MAX_OFFERS

    def test_the_newest_offer_is_called(self, house: House, caller: Desk, callee: Desk) -> None:
        """
        Somebody may take a name over; when they leave, the earlier one counts again.
        """
        offer(house, callee)
        offer(house, Desk(11, "app:next"))
        resolve(house, caller)
        assert granted(house).callee == 11

        house.registry.withdraw_all(11)
        resolve(house, caller)

        assert granted(house).callee == CALLEE
