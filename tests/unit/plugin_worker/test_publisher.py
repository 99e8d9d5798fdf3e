from collections.abc import Iterator

import pytest

from plugin_worker import publisher as publisher_module
from plugin_worker.publisher import Publisher
from protocol.errors import LocalProtocolError, UsageError
from protocol.events import PluginEvent
from protocol.feed import unpack_publication
from protocol.messages import FROM_ENDPOINT, Dropped
from protocol.packets import Kind
from protocol.window import WINDOW_EVENTS
from tests.unit.plugin_worker.test_desk import Node


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    """A node for a publisher that does not wait for room."""
    monkeypatch.setattr(publisher_module, "WAIT_S", 0.0)
    node = Node()
    yield node
    node.umbilical.close()
    node.lower.close()


def heard(node: Node) -> list[str | Dropped]:
    """Give the types of the events that came up, and the words that some did not."""
    found: list[str | Dropped] = []
    while (message := node.umbilical.receive()) is not None:
        kind, body, _ = message
        if kind is Kind.EVENTS:
            found.append(unpack_publication(body)[0])
        else:
            dropped = FROM_ENDPOINT.decode(body)
            assert isinstance(dropped, Dropped)
            found.append(dropped)
    return found


class TestPublisher:
    def test_events_go_up_in_order(self, node: Node) -> None:
        """
        What is published leaves at once, in the order of the calls.
        """
        publisher = Publisher(node.desk)
        publisher.publish(PluginEvent.EpochStart(1))
        publisher.publish(PluginEvent.custom("Mine", 5))

        assert heard(node) == ["EpochStart", "Mine"]

    def test_what_cannot_be_published_is_refused(self, node: Node) -> None:
        """
        Reserved types and values without a plain form raise where they are published.
        """
        publisher = Publisher(node.desk)
        with pytest.raises(UsageError):
            publisher.publish(PluginEvent.SystemInit())
        with pytest.raises(LocalProtocolError):
            publisher.publish(PluginEvent.custom("Mine", {1}))

        assert heard(node) == []

    def test_a_full_window_loses_and_says_so(self, node: Node) -> None:
        """
        Events for which there is no room in time are counted, and said before the next one.
        """
        publisher = Publisher(node.desk)
        for epoch in range(WINDOW_EVENTS):
            publisher.publish(PluginEvent.EpochStart(epoch))
            heard(node)
        publisher.publish(PluginEvent.EpochStart(0))
        publisher.publish(PluginEvent.EpochStart(0))
        publisher.publish(PluginEvent.custom("Mine", None))
        assert heard(node) == []

        publisher.taken(1)
        publisher.publish(PluginEvent.custom("Mine", None))

        assert heard(node) == [Dropped("EpochStart", 2), Dropped("Mine", 1), "Mine"]
