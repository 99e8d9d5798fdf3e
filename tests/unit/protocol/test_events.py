import copy
import pickle
from dataclasses import replace

import pytest

from protocol.errors import UsageError
from protocol.events import BUILT_IN, CustomEvent, PluginEvent, from_fields


class TestPluginEvent:
    @pytest.mark.parametrize(
        "event",
        [
            PluginEvent.SystemInit(),
            PluginEvent.PluginLoaded("greeter"),
            PluginEvent.TensorOp("matmul", [2, 3], [2, 2]),
            PluginEvent.EpochStart(epoch=1),
            PluginEvent.EpochEnd(epoch=1, loss=0.5),
            PluginEvent.BackendChanged("wgpu"),
            PluginEvent.Telemetry({"loss": 0.5}),
            PluginEvent.custom("Mine", [1, {"a": None}]),
        ],
    )
    def test_what_is_said_builds_the_event_again(self, event: PluginEvent) -> None:
        """
        What an event says, by name, is enough to build it again.
        """
        said = event.data if isinstance(event, CustomEvent) else event.fields()

        assert from_fields(event.type, said) == event

    def test_an_event_in_plain_values(self) -> None:
        """
        `to_dict` names the type, the publisher's words and the stamps that it cannot forge.
        """
        event = PluginEvent.EpochEnd(epoch=2, loss=0.25)
        event.stamp = ("trainer", 7, 12.5)

        assert event.to_dict() == {
            "type": "EpochEnd",
            "epoch": 2,
            "loss": 0.25,
            "source": "trainer",
            "seq": 7,
            "ts": 12.5,
        }

    def test_stamps_cannot_be_claimed(self) -> None:
        """
        No constructor takes a source: it is stamped by who knows it.
        """
        with pytest.raises(TypeError):
            PluginEvent.EpochStart(epoch=1, source="spiral-host")  # type: ignore[call-arg]

    def test_an_event_without_stamps_has_empty_ones(self) -> None:
        """
        Whoever builds one can ask for them; what is no stamp and no field is none.
        """
        event = PluginEvent.EpochStart(1)

        assert (event.source, event.seq, event.ts) == ("", 0, 0.0)
        assert event.to_dict() == {
            "type": "EpochStart",
            "epoch": 1,
            "source": "",
            "seq": 0,
            "ts": 0.0,
        }
        with pytest.raises(AttributeError, match="'EpochStart' object has no attribute 'sources'"):
            event.sources  # type: ignore[attr-defined]  # noqa: B018
        with pytest.raises(AttributeError):
            event.sources = 1  # type: ignore[attr-defined]

    def test_events_are_plain_values(self) -> None:
        """
        They are compared by what they say, and copied and pickled with their stamps.
        """
        event = PluginEvent.EpochEnd(1, 0.5)
        bare = copy.deepcopy(event)
        event.stamp = ("trainer", 7, 12.5)

        assert event == bare != PluginEvent.EpochEnd(1, 0.25)
        assert event != PluginEvent.EpochStart(1)  # type: ignore[comparison-overlap]
        for again in (copy.copy(event), pickle.loads(pickle.dumps(event))):
            assert again.to_dict() == event.to_dict()
        assert replace(event, loss=0.25) == PluginEvent.EpochEnd(1, 0.25)
        assert repr(event) == "EpochEnd(epoch=1, loss=0.5)"

    def test_a_custom_event_has_its_own_type(self) -> None:
        """
        A custom event is subscribed to by the name its publisher gave it.
        """
        event = PluginEvent.custom("Checkpoint", {"path": "x"})

        assert (event.type, event.fields()) == ("Checkpoint", {"data": {"path": "x"}})

    @pytest.mark.parametrize("name", [*BUILT_IN, "", "*", "A.*", "a\nb", 5, []])
    def test_a_custom_type_is_neither_built_in_nor_unspeakable(self, name: str) -> None:
        """
        A custom event cannot pretend to be a built-in one.
        """
        with pytest.raises(UsageError):
            PluginEvent.custom(name, None)

    @pytest.mark.parametrize("said", [None, [], {"epoch": 1}, {"epoch": 1, "loss": 1, "x": 1}])
    def test_a_built_in_event_has_exactly_its_fields(self, said: object) -> None:
        """
        A built-in event with a missing, unknown or unnamed field is none.
        """
        with pytest.raises(UsageError, match="has the fields epoch, loss"):
            from_fields("EpochEnd", said)

    def test_unknown_types_are_custom(self) -> None:
        """
        A type that nobody knows arrives as a custom event with all its data.
        """
        assert from_fields("Strange", 5) == CustomEvent("Strange", 5)
