from collections.abc import Iterator

import pytest

from plugin_worker.node import interest as interest_module
from plugin_worker.node.interest import NodeInterest
from protocol.feed import Interest
from protocol.interest import InterestReader
from protocol.names import Topic
from protocol.wanted import LINGER_S
from tests.clock import Clock, HandReactor

LOSS, STEP = Topic("Loss"), Topic("Step")


class Page:
    """A node's page, and one of its workers who reads it."""

    def __init__(self, clock: Clock) -> None:
        self.reactor = HandReactor(clock)
        self.interest = NodeInterest(self.reactor)
        self.reader = InterestReader(self.interest.fd)

    def told(
        self, generation: int, *added: Topic, removed: tuple[Topic, ...] = (), full: bool = False
    ) -> None:
        self.interest.told(Interest(generation, added, removed, full))

    @property
    def says(self) -> str:
        """Which of two types are wanted, by their initials."""
        return "".join(topic[0] for topic in (LOSS, STEP) if self.reader.wants(topic))


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    clock = Clock()
    monkeypatch.setattr(interest_module, "time", clock)
    page = Page(clock)
    yield page
    page.interest.close()


class TestNodeInterest:
    def test_until_something_is_told_everything_is_wanted(self, page: Page) -> None:
        """
        A worker that publishes before the daemon has said anything loses nothing.
        """
        assert page.says == "LS"

    def test_what_is_told_stands_there_at_once(self, page: Page) -> None:
        """
        When it is confirmed to the hub, every worker goes by it.
        """
        page.told(1, LOSS, full=True)
        assert page.says == "L"
        page.told(2, STEP, removed=(LOSS,))
        assert page.says == "S"

    def test_what_is_wanted_here_is_written_once_for_many(self, page: Page) -> None:
        """
        After this turn of the loop, which is before the hub can have confirmed it.
        """
        page.told(1, full=True)
        generation = page.reader._words[0]
        wanted: dict[Topic, None] = {}
        for topic in (LOSS, STEP):
            wanted[topic] = None
            page.interest.own(wanted.keys())
        page.reactor.pass_time(0.0)
        assert page.says == "LS"
        assert page.reader._words[0] == generation + 2

        del wanted[LOSS]
        page.interest.own(wanted.keys())
        page.reactor.pass_time(0.0)

        assert page.says == "S"

    def test_a_new_hub_drops_nothing_before_its_time(self, page: Page) -> None:
        """
        Clients come back to it later; then what nobody came back for goes by itself.
        """
        page.told(1, LOSS, full=True)
        page.interest.hub_lost()
        page.told(1, STEP, full=True)
        assert page.says == "LS"
        page.reactor.pass_time(LINGER_S - 1)
        assert page.says == "LS"

        page.reactor.pass_time(1)

        assert page.says == "S"
        assert page.reactor.due == []

    def test_while_there_is_no_hub_time_does_not_pass(self, page: Page) -> None:
        """
        What lingered when the next hub died, too, waits for the one after it.
        """
        page.told(1, LOSS, full=True)
        page.interest.hub_lost()
        page.told(1, STEP, full=True)
        page.interest.hub_lost()
        page.reactor.pass_time(5 * LINGER_S)

        assert page.says == "LS"
