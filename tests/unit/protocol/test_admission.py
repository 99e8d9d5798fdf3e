from math import inf

import pytest

from protocol import admission as admission_module
from protocol.admission import MAX_CALLERS, MAX_KNOWN, Admission, Admissions, CallRate
from protocol.calls import Call
from protocol.errors import Overloaded, PermissionDenied
from protocol.messages import LaneOpened
from tests.clock import Clock


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(admission_module, "monotonic", clock.monotonic)
    return clock


def opened(*services: str, rate: float = inf, peer: int = 7) -> LaneOpened:
    return LaneOpened(
        lane=1, request="", peer=peer, peer_name="trainer", services=services, call_rate=rate
    )


def held(lane: LaneOpened, admissions: Admissions | None = None) -> Admission:
    admission = (admissions or Admissions()).of(lane)
    assert admission is not None
    return admission


def call(service: str = "math") -> Call:
    return [1, service, "add", [], None, 0.0, None]


class TestCallRate:
    def test_calls_beyond_the_rate_are_refused_by_name(self, clock: Clock) -> None:
        """
        With the limit, how much it is, and when to try again.
        """
        rate = CallRate(2.0)
        rate.take("math.add")
        rate.take("math.add")
        with pytest.raises(Overloaded, match=r"2 calls a second \(call_rate\)") as caught:
            rate.take("math.add")
        assert caught.value.retry_after == 0.5

        clock.now += 0.5
        rate.take("math.add")


class TestAdmissions:
    def test_who_is_not_limited_costs_nothing(self) -> None:
        """
        An application, or a plugin that may call everything, is not looked at.
        """
        assert Admissions().of(opened("*")) is None

    def test_only_services_that_may_be_called_are(self) -> None:
        """
        A lane was granted for one service, and would serve all that its callee offers.
        """
        admission = held(opened("math", "shop.*"))

        assert admission.refusal(call("math")) is None
        assert admission.refusal(call("shop.cart")) is None
        error = admission.refusal(call("admin"))
        assert isinstance(error, PermissionDenied)
        assert (error.permission, error.plugin_id) == ("services", "trainer")

    def test_functions_that_came_as_arguments_are_nobodys_service(self) -> None:
        """
        Whoever was given one may call it, and as often as its call lasts.
        """
        admission = held(opened(rate=1.0))

        assert [admission.refusal(call("")) for _ in range(100)] == [None] * 100

    def test_services_without_end_are_not_all_remembered(self) -> None:
        """
        A caller may make up names within a family.
        """
        admission = held(opened("a.*"))
        for number in range(2 * MAX_KNOWN):
            assert admission.refusal(call(f"a.{number}")) is None
        assert len(admission._known) == MAX_KNOWN

    def test_the_callee_allows_twice_the_rate(self) -> None:
        """
        What was held up on the way and comes at once is not refused.
        """
        admission = held(opened("*", rate=5.0))
        refused = [admission.refusal(call()) for _ in range(11)]

        assert refused[:10] == [None] * 10
        assert isinstance(refused[10], Overloaded)
        assert "5 calls a second (call_rate)" in str(refused[10])

    def test_all_lanes_of_a_caller_share_its_rate(self) -> None:
        """
        Neither another lane nor one that is opened again is a way around it.
        """
        admissions = Admissions()
        first = held(opened("*", rate=5.0), admissions)
        assert not any(first.refusal(call()) for _ in range(10))

        again = held(opened("*", rate=5.0), admissions)
        other = held(opened("*", rate=5.0, peer=8), admissions)
        assert again.refusal(call()) is not None
        assert other.refusal(call()) is None

    def test_callers_are_bounded(self) -> None:
        """
        Those that came longest ago are forgotten.
        """
        admissions = Admissions()
        for peer in range(3 * MAX_CALLERS):
            held(opened("*", rate=1.0, peer=peer), admissions)

        assert len(admissions._buckets) == MAX_CALLERS
