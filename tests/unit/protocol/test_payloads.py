import enum
import math
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import payloads
from protocol.codec import pack_value
from protocol.errors import LocalProtocolError, UsageError
from protocol.events import BUILT_IN, RESERVED, CustomEvent, PluginEvent
from protocol.names import Topic
from protocol.payloads import decode_run, encode_event, gap_event, topic_of
from protocol.runs import MAX_PAYLOAD, Head, Missing, Run, pack_body, pack_run

LOSS, EPOCH_END = Topic("Loss"), Topic("EpochEnd")
INT = st.integers(-(1 << 63), (1 << 64) - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
FLOAT = st.floats()
SAID = {
    int: INT,
    str: TEXT,
    float: FLOAT | INT,
    list[int]: st.lists(INT, max_size=4),
    dict[str, float]: st.dictionaries(TEXT, FLOAT, max_size=4),
}
DATA = st.recursive(
    st.none() | st.booleans() | INT | FLOAT | TEXT | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | INT, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def built_in(draw: st.DrawFn) -> PluginEvent:
    kind = draw(st.sampled_from(list(BUILT_IN.values())))
    return kind(*(draw(SAID[kind.__annotations__[name]]) for name in kind.said))


EVENTS = built_in() | st.builds(CustomEvent, st.just("Loss"), DATA)


def run_of(topic: str, said: list[bytes], first: int = 5) -> Run:
    return garbled(topic, pack_body(said), len(said), first)


def garbled(topic: str, body: bytes, events: int, first: int = 5) -> Run:
    return pack_run(Head(1, "trainer", 3, Topic(topic), first, events, 1.5), body)


def travel(*events: PluginEvent) -> list[PluginEvent]:
    return list(decode_run(run_of(events[0].type, [encode_event(event) for event in events])))


def told(event: PluginEvent) -> str:
    """What an event says, NaN included."""
    return repr((type(event), event.type, event.fields(), event.seq))


class Color(str, enum.Enum):  # noqa: UP042 - as plugins write it, and it prints as Color.RED
    RED = "red"


@dataclass
class Point:
    x: int
    y: float


class TestRoundTrip:
    @given(EVENTS)
    def test_an_event_arrives_as_it_was_published(self, event: PluginEvent) -> None:
        """
        Every built-in type with whatever its fields may hold, and custom data.
        """
        (arrived,) = travel(event)

        event.stamp = arrived.stamp
        assert told(arrived) == told(event)

    @given(st.lists(st.floats(), min_size=1, max_size=5))
    def test_events_are_stamped_on_arrival(self, losses: list[float]) -> None:
        """
        Source, number and time come from the run, not from the publisher's words.
        """
        events = travel(*(PluginEvent.EpochEnd(1, loss) for loss in losses))

        assert [event.seq for event in events] == [5 + n for n in range(len(losses))]
        assert {(event.source, event.ts) for event in events} == {("trainer", 1.5)}

    def test_arrays_and_records_travel_as_data(self) -> None:
        """
        A numpy array arrives as one, a dataclass as the map of its fields.
        """
        (event,) = travel(PluginEvent.custom("Loss", {"w": np.arange(6.0), "at": Point(1, 0.5)}))

        assert isinstance(event, CustomEvent)
        assert isinstance(event.data, dict)
        assert event.data["at"] == {"x": 1, "y": 0.5}
        assert np.array_equal(event.data["w"], np.arange(6.0))

    def test_fields_take_what_is_nearly_right(self) -> None:
        """
        What stands for a number, text, list or map becomes one; nothing else may arrive.
        """
        events = [
            PluginEvent.EpochEnd(np.int64(3), np.float32(0.5)),  # type: ignore[arg-type]
            PluginEvent.TensorOp(Color.RED, (2, np.int32(3)), range(2)),  # type: ignore[arg-type]
            PluginEvent.Telemetry(OrderedDict(loss=np.float64(0.5))),
            PluginEvent.EpochStart(True),
            PluginEvent.Telemetry({"nan": math.nan}),
        ]

        assert [told(travel(event)[0]) for event in events[:4]] == [
            f"({PluginEvent.EpochEnd!r}, 'EpochEnd', {{'epoch': 3, 'loss': 0.5}}, 5)",
            (
                f"({PluginEvent.TensorOp!r}, 'TensorOp', {{'op_name': 'red', "
                "'input_shape': [2, 3], 'output_shape': [0, 1]}, 5)"
            ),
            f"({PluginEvent.Telemetry!r}, 'Telemetry', {{'data': {{'loss': 0.5}}}}, 5)",
            f"({PluginEvent.EpochStart!r}, 'EpochStart', {{'epoch': 1}}, 5)",
        ]
        assert "nan" in told(travel(events[4])[0])

    @pytest.mark.parametrize(
        ("event", "why"),
        [
            (PluginEvent.EpochStart("one"), "EpochStart.epoch is an integer"),  # type: ignore[arg-type]
            (PluginEvent.EpochStart(1.0), "EpochStart.epoch is an integer"),  # type: ignore[arg-type]
            (PluginEvent.EpochEnd(1, None), "EpochEnd.loss is a number"),  # type: ignore[arg-type]
            (PluginEvent.BackendChanged(5), "BackendChanged.backend is text"),  # type: ignore[arg-type]
            (PluginEvent.TensorOp("x", [], ("a",)), "a list of integers"),  # type: ignore[arg-type]
            (PluginEvent.Telemetry([1]), "figures by name"),  # type: ignore[arg-type]
            (PluginEvent.Telemetry({1: 2}.items()), "figures by name"),  # type: ignore[arg-type]
        ],
        ids=lambda part: repr(part)[:40],
    )
    def test_a_wrong_field_is_its_publishers_error(self, event: PluginEvent, why: str) -> None:
        """
        A built-in event that says something else than its type does not leave, and says why.
        """
        with pytest.raises(UsageError, match=why):
            encode_event(event)

    @pytest.mark.parametrize("data", [{1, 2}, bytes(MAX_PAYLOAD), 2**70, "\udcff", object()])
    def test_what_cannot_travel_stays_here(self, data: object) -> None:
        """
        An event that is too large or has no plain form is refused by its publisher.
        """
        with pytest.raises(LocalProtocolError, match="event Loss"):
            encode_event(CustomEvent("Loss", data))

    def test_the_largest_event_travels(self) -> None:
        """
        The bound is on what it says, packed.
        """
        data = bytes(MAX_PAYLOAD - 3)

        assert travel(CustomEvent("Loss", data)) == [CustomEvent("Loss", data)]

    def test_a_refusal_harms_no_later_event(self) -> None:
        """
        Nothing of what could not be packed stays behind.
        """
        with pytest.raises(LocalProtocolError):
            encode_event(CustomEvent("Loss", [1, 2, {3}]))

        assert travel(CustomEvent("Loss", 5)) == [CustomEvent("Loss", 5)]

    def test_a_number_too_large_harms_no_later_event(self) -> None:
        """
        Events of numbers alone share one packer, which refuses in the same words.
        """
        fine = PluginEvent.EpochEnd(1, 0.5)
        assert travel(fine) == [fine]
        with pytest.raises(LocalProtocolError, match="event EpochEnd cannot travel.*64 bits"):
            encode_event(PluginEvent.EpochEnd(2**64, 0.5))

        assert travel(fine) == [fine]

    def test_an_event_may_be_packed_while_another_is(self) -> None:
        """
        A value that publishes while it is asked what it is spoils nobody's bytes.
        """

        class Nested(np.ndarray[tuple[int], np.dtype[np.float64]]):
            __module__ = "numpy"

            def tobytes(self, order: object = None) -> bytes:
                assert travel(CustomEvent("Loss", "inner")) == [CustomEvent("Loss", "inner")]
                return super().tobytes()

        (event,) = travel(CustomEvent("Loss", ["a", np.zeros(2).view(Nested), "b"]))

        assert isinstance(event, CustomEvent)
        assert isinstance(event.data, list)
        assert event.data[::2] == ["a", "b"]

    def test_a_packer_taken_by_another_thread_is_not_missed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Two threads that publish at once each have one.
        """

        class Contended(list[object]):
            def __bool__(self) -> bool:
                return True  # it was there a moment ago

        monkeypatch.setattr(payloads, "_PACKERS", Contended())

        assert travel(CustomEvent("Loss", 5)) == [CustomEvent("Loss", 5)]


class TestTopicOf:
    def test_an_event_is_published_under_its_type(self) -> None:
        """
        A built-in one under its class's name, a custom one under the name it was given.
        """
        assert topic_of(PluginEvent.EpochStart(1)) == "EpochStart"
        assert topic_of(CustomEvent("Loss", 5)) == "Loss"

    @pytest.mark.parametrize("name", sorted(RESERVED))
    def test_reserved_types_are_the_daemons(self, name: str) -> None:
        """
        Nobody else publishes its events, by class or by name.
        """
        kind = BUILT_IN.get(name)
        events = [CustomEvent(name)] if kind is None else [CustomEvent(name), kind(*kind.said)]

        for event in events:
            with pytest.raises(UsageError, match="only the daemon"):
                topic_of(event)

    @pytest.mark.parametrize("name", ["", "*", "A.*", "a\nb", "EpochStart", 5])
    def test_a_name_that_is_none_is_refused(self, name: str) -> None:
        """
        However it came into the event.
        """
        with pytest.raises(UsageError):
            topic_of(CustomEvent(name))

    def test_a_class_of_ones_own_is_refused_with_the_cure(self) -> None:
        """
        Also when there are custom events under the same name.
        """

        class Mine(PluginEvent):
            """An event class that nobody else has."""

        class EpochStart(PluginEvent):
            """Not the real one."""

        for event in (Mine(), EpochStart(), "Loss", None):
            with pytest.raises(UsageError, match=r"PluginEvent\.custom"):
                topic_of(event)  # type: ignore[arg-type]
        topic_of(CustomEvent("Mine"))
        with pytest.raises(UsageError, match=r"PluginEvent\.custom"):
            topic_of(Mine())

    def test_names_are_remembered_within_bounds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A publisher that makes up a new type for every event does not grow.
        """
        monkeypatch.setattr(payloads, "_MAX_KNOWN", 4)
        for number in range(9):
            topic_of(CustomEvent(f"T{number}"))

        assert len(payloads._known) <= 4


class TestGarbled:
    @pytest.mark.parametrize(
        "said",
        [
            pack_value(said)
            for said in (None, {"epoch": "x"}, [], [1], [1, 2, 3], ["1", 2.0], [1, "2"], [True, 1])
        ],
        ids=repr,
    )
    def test_a_garbled_event_arrives_as_such(self, said: bytes) -> None:
        """
        It keeps its number and says that it was malformed; its neighbours arrive unharmed.
        """
        good = encode_event(PluginEvent.EpochEnd(1, 0.5))
        events = list(decode_run(run_of("EpochEnd", [good, said, good])))

        assert [event.seq for event in events] == [5, 6, 7]
        assert events[1].type == "Malformed"
        assert events[0] == events[2] == PluginEvent.EpochEnd(1, 0.5)

    def test_a_type_without_fields_says_nothing(self) -> None:
        """
        An event with more fields than its type is as malformed as one with less.
        """
        events = list(decode_run(run_of("SystemInit", [pack_value([]), pack_value([1])])))

        assert [event.type for event in events] == ["SystemInit", "Malformed"]

    @given(
        topic=st.sampled_from([*BUILT_IN, "Loss"]),
        noise=st.binary(max_size=60),
        events=st.integers(1, 6),
        claimed=st.none() | st.integers(0, 65_535),
    )
    def test_every_number_arrives_whatever_the_body_says(
        self, topic: str, noise: bytes, events: int, claimed: int | None
    ) -> None:
        """
        As many events as the head counts, each of the type or malformed, and never an error.
        """
        count = events if claimed is None else claimed
        run = garbled(topic, b"\xdc" + count.to_bytes(2, "big") + noise, events)

        self._check(run, topic)

    @given(
        topic=st.sampled_from([*BUILT_IN, "Loss"]),
        said=st.lists(DATA | st.lists(DATA, max_size=3), min_size=1, max_size=4),
        tail=st.binary(max_size=3),
    )
    def test_whatever_is_said_arrives_as_such(
        self, topic: str, said: list[object], tail: bytes
    ) -> None:
        """
        Values that are no fields, miscounted fields, bytes behind the last value.
        """
        body = pack_body([pack_value(one) for one in said]) + tail

        self._check(garbled(topic, body, len(said)), topic)

    @given(
        said=st.lists(st.builds(pack_value, DATA) | st.just(b"\xc1"), min_size=1, max_size=5),
        tail=st.binary(max_size=2),
        cut=st.integers(0, 4),
    )
    def test_cutting_and_reading_go_in_any_order(
        self, said: list[bytes], tail: bytes, cut: int
    ) -> None:
        """
        A run without its first events reads as the rest of the whole run, garbled or not.
        """
        run = garbled("Loss", pack_body(said) + tail, len(said))
        whole = [told_of(event) for event in decode_run(run)]

        rest = run.without(run.head.first + min(cut, len(said)) - 1)

        assert [told_of(event) for event in decode_run(rest)] == whole[cut:]

    @staticmethod
    def _check(run: Run, topic: str) -> None:
        events = list(decode_run(run))

        assert [event.seq for event in events] == [5 + n for n in range(run.head.events)]
        assert {event.type for event in events} <= {topic, "Malformed"}
        assert {event.source for event in events} == {"trainer"}
        for event in events:
            for name, value in event.fields().items():
                kind = type(event).__annotations__.get(name, object)
                assert isinstance(value, _plain(kind)), (event, name)


def told_of(event: PluginEvent) -> str:
    """What can be told of it: why an event is malformed depends on how it was read."""
    return f"Malformed {event.seq}" if event.type == "Malformed" else told(event)


def _plain(kind: object) -> tuple[type, ...]:
    wanted: dict[object, tuple[type, ...]] = {float: (float, int), list[int]: (list,)}
    wanted |= {dict[str, float]: (dict,), int: (int,), str: (str,)}
    return wanted.get(kind, (object,))


class TestGaps:
    def test_a_gap_names_its_numbers(self) -> None:
        """
        Missing events show as one event that says which.
        """
        gap = gap_event(Missing("trainer", 3, LOSS, 5, 7))

        assert gap == PluginEvent.EventGap("Loss", 5, 7)
        assert gap.source == "trainer"
