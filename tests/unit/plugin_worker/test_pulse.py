import math
from dataclasses import replace

import pytest

from plugin_worker.node.pulse import (
    ANSWER_S,
    CENSUS_S,
    LATE_S,
    LOOK_S,
    OVERDUE_S,
    QUIET_S,
    SELDOM_S,
    Pulse,
)
from protocol.flight import FlightPage, Running


def page(*deadlines: float, calls: int = 0, busy: float = 0.0, stream: bool = False) -> FlightPage:
    """Give a page on which these calls run."""
    running = tuple(
        Running(slot=n, caller=7, number=1, deadline=d, label="math.add", is_stream=stream)
        for n, d in enumerate(deadlines)
    )
    return FlightPage(calls=calls, errors=0, busy_until=busy, running=running)


IDLE = page()


class Driver:
    """Looks whenever it is due, as the node does, and notes what came of it."""

    def __init__(self, *, alone: bool = True, answers: bool = True) -> None:
        self.now = 1000.0
        self.pulse = Pulse(alone=alone, now=self.now)
        self.answers = answers
        self.pings: list[float] = []
        self.said: list[tuple[float, str]] = []

    def go_on(self, seconds: float, page: FlightPage = IDLE) -> None:
        until = self.now + seconds
        while self.pulse.due <= until:
            self.now = max(self.now, self.pulse.due)
            self.look(page)
        self.now = until

    def look(self, page: FlightPage = IDLE) -> None:
        found = self.pulse.look(page, self.now)
        if found.has_changed:
            self.said.append((self.now, found.silence))
        if found.ping:
            self.pings.append(self.now)
            if self.answers:
                assert self.pulse.answered(found.ping, 9, self.now)

    @property
    def is_silent(self) -> bool:
        return bool(self.pulse.silence)


class TestAsking:
    def test_an_idle_worker_is_asked_more_and_more_seldom(self) -> None:
        """
        Soon after it was loaded, and in the end six times a minute; it is never silent.
        """
        driver = Driver()
        driver.go_on(300)
        gaps = [b - a for a, b in zip(driver.pings, driver.pings[1:], strict=False)]

        assert driver.pings[0] - 1000 <= QUIET_S + LOOK_S
        assert gaps == sorted(gaps)
        assert SELDOM_S <= gaps[-1] <= SELDOM_S + LOOK_S
        assert driver.said == []

    def test_one_that_counts_is_not_asked_for_its_life(self) -> None:
        """
        What one thread counts shows that it goes on; now and then its descriptors are asked for.
        """
        driver = Driver(answers=False)
        for calls in range(1, 70):
            driver.go_on(1, page(calls=calls))

        assert len(driver.pings) == 69 // CENSUS_S
        assert driver.said == []

    def test_one_of_a_crew_is_asked_though_others_count(self) -> None:
        """
        What a crew counts says nothing of the thread that runs the hooks and callbacks.
        """
        driver = Driver(alone=False, answers=False)
        for calls in range(1, 20):
            driver.go_on(1, page(calls=calls))

        assert driver.is_silent

    def test_there_is_one_ping_at_a_time(self) -> None:
        """
        Who does not read is not sent more and more.
        """
        driver = Driver(answers=False)
        driver.go_on(600)

        assert len(driver.pings) == 1

    def test_descriptors_are_its_own_word(self) -> None:
        """
        Unknown until it has said something; then the last word, within reason.
        """
        driver = Driver(answers=False)
        assert driver.pulse.descriptors is None

        driver.go_on(5)
        driver.pulse.answered(1, 12, driver.now)
        assert driver.pulse.descriptors == 12
        driver.pulse.answered(1, -4, driver.now)
        assert driver.pulse.descriptors == 0
        driver.pulse.answered(1, 1 << 62, driver.now)
        assert driver.pulse.descriptors == 1 << 20


class TestSilence:
    def test_who_does_not_answer_is_silent_and_heard_again(self) -> None:
        """
        Once each, however long it lasts; only the answer to the last ping ends it.
        """
        driver = Driver(answers=False)
        driver.go_on(30)
        ((when, why),) = driver.said
        assert driver.pings[0] + ANSWER_S <= when <= driver.pings[0] + ANSWER_S + LOOK_S
        assert "has not answered" in why

        assert not driver.pulse.answered(0, 9, driver.now)
        assert not driver.pulse.answered(2, 9, driver.now)
        driver.look()
        assert driver.is_silent

        assert driver.pulse.answered(1, 9, driver.now)
        driver.look()
        assert driver.said[1:] == [(driver.now, "")]

    def test_busy_inside_a_deadline_is_not_silent(self) -> None:
        """
        A call that takes ten minutes and has as many is none of our business.
        """
        driver = Driver(answers=False)
        driver.go_on(600, page(driver.now + 601))

        assert driver.said == []

    def test_time_to_answer_begins_when_the_call_has_ended(self) -> None:
        """
        A ping that waited behind a long call is not late at its end.
        """
        driver = Driver(answers=False)
        driver.go_on(600, page(driver.now + 700))
        driver.look()
        assert not driver.is_silent

        driver.go_on(ANSWER_S / 2)
        assert not driver.is_silent
        driver.go_on(ANSWER_S + LOOK_S)
        assert driver.is_silent

    def test_a_call_that_outstays_its_deadline_is_silence(self) -> None:
        """
        Whatever the loop answers, and by name; it is heard again when the call has ended.
        """
        driver = Driver()
        deadline = driver.now + 5
        driver.go_on(5 + OVERDUE_S, page(deadline))
        assert driver.said == []

        driver.go_on(LOOK_S, page(deadline))
        ((_, why),) = driver.said
        assert why == "math.add goes on 2 s after its deadline"

        driver.go_on(LOOK_S, page(calls=1))
        assert [silence for _, silence in driver.said] == [why, ""]

    def test_one_thread_that_waits_for_its_own_call_is_not_late(self) -> None:
        """
        A stream's or an outer call's deadline has passed, but not that of the innermost call.
        """
        driver = Driver()
        driver.go_on(60, page(driver.now + 1, driver.now + 90))
        assert driver.said == []

        crew = Driver(alone=False)
        crew.go_on(60, page(crew.now + 1, crew.now + 90))
        assert crew.is_silent

    def test_what_only_awaits_excuses_no_plain_call(self) -> None:
        """
        A plain call that is late has the thread; one that is `async def` may be kept from it.
        """
        plain = Running(slot=0, caller=7, number=1, deadline=1001.0, label="math.add")
        parked = Running(slot=1, caller=7, number=2, deadline=2000.0, is_async=True)

        def run(*running: Running) -> Driver:
            driver = Driver()
            driver.go_on(60, FlightPage(calls=0, errors=0, running=running))
            return driver

        assert "math.add goes on" in run(plain, parked).pulse.silence
        late, computes = replace(plain, is_async=True), replace(parked, is_async=False)
        assert run(late, computes).said == []
        assert run(late, parked).said == []

    def test_a_stream_that_nobody_reads_is_not_late(self) -> None:
        """
        Between two items its thread does other things; it may be closed only when it is free.
        """
        driver = Driver(alone=False)
        driver.go_on(60, page(driver.now + 1, stream=True))
        assert driver.said == []

        hung = Driver(answers=False)
        hung.go_on(60, page(hung.now + 1, stream=True))
        assert "has not answered" in hung.pulse.silence

    def test_the_first_reason_stays(self) -> None:
        """
        While it is silent the reason does not change with each look.
        """
        driver = Driver(answers=False)
        driver.go_on(20)
        first = driver.pulse.silence
        driver.go_on(20, page(driver.now - 100))

        assert driver.said == [(driver.said[0][0], first)]


class TestBusy:
    def test_who_says_so_need_not_answer(self) -> None:
        """
        Not for as long as it has said, and then it has the usual time again.
        """
        driver = Driver(answers=False)
        until = driver.now + 60
        driver.go_on(60, page(busy=until))
        assert driver.said == []
        driver.look(page(busy=until))
        assert driver.said == []

        driver.go_on(ANSWER_S + LOOK_S, page(busy=until))
        assert driver.is_silent

    def test_it_may_outstay_a_deadline(self) -> None:
        """
        Who says that it is busy may finish what nobody waits for any more.
        """
        driver = Driver()
        driver.go_on(60, page(driver.now + 1, busy=driver.now + 90))
        assert driver.said == []

    @pytest.mark.parametrize("lie", [math.inf, 1e9])
    def test_for_ever_is_not_believed(self, lie: float) -> None:
        """
        More than an hour ahead is no lease at all.
        """
        driver = Driver(answers=False)
        driver.go_on(30, page(busy=lie))
        assert driver.is_silent


class TestOurOwnClock:
    def test_a_node_that_stood_still_gives_everybody_time(self) -> None:
        """
        After a stop or a sleep an old ping and an old deadline count from now, once.
        """
        driver = Driver(answers=False)
        driver.go_on(QUIET_S + LOOK_S)
        assert driver.pings

        driver.now += LOOK_S + LATE_S + 3600
        late = page(driver.now - 100)
        driver.look(late)
        assert driver.said == []
        driver.go_on(OVERDUE_S + 2 * LOOK_S, late)
        assert driver.is_silent

    def test_who_was_silent_before_has_time_too(self) -> None:
        """
        It may have been silent because the whole machine was asleep; if not, it is so again.
        """
        driver = Driver(answers=False)
        driver.go_on(30)
        driver.now += 3600
        driver.look()
        assert not driver.is_silent

        driver.go_on(ANSWER_S + LOOK_S)
        assert [bool(silence) for _, silence in driver.said] == [True, False, True]
