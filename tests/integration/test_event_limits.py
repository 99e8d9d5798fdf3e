"""Events and their limits: slow subscribers, wrong payloads, very many subscriptions."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pytest

from spiral_host import Host, LocalProtocolError, PluginEvent, PluginInfo, UsageError
from tests.actors import Row, collect, covered, load_actors, newest, numbers, rows_of, wait_sent
from tests.hosts import DEADLINE, eventually

MANY_S: Final = 50.0
"""For callbacks for as many events as one may be behind, on a machine that is busy; else 2 s."""


FEW: Final = 50
"""Large events that a publisher's ring has room for several times: on a machine that is busy the
next ones wait for these, and none is given up because it had to wait for long."""


class Cast(NamedTuple):
    """A host with two actors, and the folder in which one of them finds its signs."""

    host: Host
    anna: Any
    bert: Any
    signs: Path


@pytest.fixture(scope="module")
def cast(shared: Host, tmp_path_factory: pytest.TempPathFactory) -> Cast:
    folder = tmp_path_factory.mktemp("actors")
    signs = Path(shared.status()["data_dir"]) / "anna"
    anna, bert = load_actors(shared, folder, "anna", "bert")
    return Cast(shared, anna, bert, signs)


@pytest.fixture
def anna(cast: Cast) -> Iterator[Any]:
    """One of the actors, in a life of its own."""
    assert cast.host.restart("anna").ok
    yield cast.anna
    assert cast.host.restart("anna").ok


@pytest.fixture
def other(cast: Cast) -> Iterator[Host]:
    """Another application on the same daemon."""
    with Host.connect(cast.host.status()["run_dir"]) as host:
        yield host


def health(host: Host, plugin_id: str) -> PluginInfo:
    """Give how a plugin is now."""
    return next(info for info in host.health() if info.id == plugin_id)


def _has(rows: Sequence[object], count: int) -> bool:
    return len(rows) >= count


def _say_many(cast: Cast, event_type: str, values: list[str], seen: Sequence[object]) -> None:
    """Have bert publish behind a first event, no faster than somebody is seen to keep up."""
    for number, value in enumerate(values, 2):
        cast.bert.say(event_type, value)
        if not number % FEW:
            eventually(partial(_has, seen, number))


def _settled(host: Host, events: int) -> PluginInfo:
    """Give how anna is when it is behind with, or has missed, so many events; one of them runs."""

    def figures() -> PluginInfo | None:
        found = health(host, "anna")
        return found if found.lag + found.missed == events else None

    found = eventually(figures)
    assert found is not None
    return found


class TestSlow:
    def test_a_plugin_whose_callback_blocks(self, cast: Cast, anna: Any) -> None:  # noqa: ANN401
        """Others and the publisher go on; it is told what it missed, and the figures say so."""
        seen = collect(cast.host, "Large")
        anna.subscribe("Large", "hold", "large")
        payload = "x" * 20_000
        cast.host.publish(PluginEvent.custom("Large", payload))
        eventually((cast.signs / "large-holds").exists)
        for number in range(2, 501):
            cast.host.publish(PluginEvent.custom("Large", payload))
            if not number % FEW:
                wait_sent(cast.host)
        eventually(lambda: len(seen) == 500)
        figures = _settled(cast.host, 500)
        assert 0 < figures.lag < 500
        assert (health(cast.host, "bert").lag, health(cast.host, "bert").missed) == (0, 0)
        (cast.signs / "large-go").touch()
        eventually(lambda: health(cast.host, "anna").lag == 0)
        told = cast.host.publish_report(PluginEvent.custom("Large", "last"), DEADLINE)
        assert (told.delivered, told.failures) == (2, ())
        rows = [row for at in range(anna.count()) for row in anna.seen(at, at + 1)]
        last, missing = covered(rows)
        assert (last, missing) == (501, figures.missed)
        assert health(cast.host, "anna").missed == figures.missed

    def test_many_small_events(self, cast: Cast, anna: Any) -> None:  # noqa: ANN401
        """A flood is bounded in events; each publisher's gap has its own numbers."""
        go = cast.signs / "small-go"
        go.unlink(missing_ok=True)
        seen: list[int] = []
        cast.host.subscribe("Small", lambda event: seen.append(event.seq))
        anna.subscribe("Small", "hold", "small")
        cast.bert.say("Small", 0)
        eventually((cast.signs / "small-holds").exists)
        for last in range(25_001, 100_002, 25_000):
            cast.bert.count_to(25_000, "Small")  # no more than its ring has room for twice
            eventually(partial(_has, seen, last), MANY_S)
        for number in range(60_000):
            cast.host.publish(PluginEvent.custom("Small", number))
        eventually(lambda: len(seen) == 160_001, MANY_S)
        figures = _settled(cast.host, 160_001)
        assert figures.missed > 0
        go.touch()
        eventually(lambda: health(cast.host, "anna").lag == 0, MANY_S)
        assert cast.host.publish_report(PluginEvent.custom("Small", None), DEADLINE).failures == ()
        rows = rows_of(anna)
        of_app = [row for row in rows if row["source"].startswith("app:")]
        of_bert = [row for row in rows if row["source"] == "bert"]
        (last_app, missing_app), (last_bert, missing_bert) = covered(of_app), covered(of_bert)
        assert (last_app, last_bert) == (60_001, 100_001)
        assert missing_app + missing_bert == figures.missed

    def test_an_applications_callback_that_blocks(self, cast: Cast, other: Host) -> None:
        """The same for an application; another one is given everything meanwhile."""
        every = collect(other, "Blocked")
        go, holds = threading.Event(), threading.Event()
        seen: list[Row] = []

        def hold(event: PluginEvent) -> None:
            holds.set()
            assert go.wait(MANY_S)
            seen.append(event.to_dict())

        cast.host.subscribe("Blocked", hold)
        payload = "x" * 40_000
        cast.bert.say("Blocked", payload)
        assert holds.wait(DEADLINE)
        _say_many(cast, "Blocked", [payload] * 499, every)
        eventually(lambda: len(every) == 500)
        assert covered(every) == (500, 0)
        go.set()
        eventually(lambda: seen and seen[-1].get("last", seen[-1]["seq"]) == 500)
        assert cast.bert.report("Blocked")["failures"] == []
        last, missing = covered(seen)
        assert last == 501
        assert 0 < missing < 500

    def test_a_sticky_value_is_not_missed(self, cast: Cast, anna: Any) -> None:  # noqa: ANN401
        """It comes late: behind the gap, the last one, without another event."""
        go = cast.signs / "state-go"
        go.unlink(missing_ok=True)
        seen = collect(cast.host, "State")
        cast.bert.make_sticky("State")
        anna.subscribe("State", "hold", "state")
        payload = "x" * 20_000
        cast.bert.say("State", payload)
        eventually((cast.signs / "state-holds").exists)
        _say_many(cast, "State", [f"{number}{payload}" for number in range(2, 400)], seen)
        cast.bert.say("State", "the last one")
        eventually(lambda: len(seen) == 400)
        go.touch()
        eventually(lambda: newest(anna).get("data") == "the last one")
        rows = [row for at in range(anna.count()) for row in anna.seen(at, at + 1)]
        last, missing = covered(rows)
        assert last == 400
        assert missing > 0

    def test_the_end_is_said_without_another_event(
        self,
        cast: Cast,
        anna: Any,  # noqa: ANN401
    ) -> None:
        """Who misses the last ones hears of it when it has caught up."""
        go = cast.signs / "end-go"
        go.unlink(missing_ok=True)
        seen = collect(cast.host, "End")
        anna.subscribe("End", "hold", "end")
        payload = "x" * 20_000
        cast.bert.say("End", payload)
        eventually((cast.signs / "end-holds").exists)
        _say_many(cast, "End", [payload] * 299, seen)
        eventually(lambda: len(seen) == 300)
        go.touch()
        eventually(lambda: newest(anna).get("last") == 300)


@dataclass
class Point:
    """What a publisher may send along."""

    x: int
    name: str


class TestPayloads:
    def test_the_limit(self, cast: Cast, anna: Any) -> None:  # noqa: ANN401
        """48 KiB as it travels; more is refused, with what to do instead, and uses no number."""
        seen = collect(cast.host, "Heavy")
        anna.subscribe("Heavy")
        limit = 48 * 1024
        fits = "x" * (limit - 3)
        for value in (fits + "x", np.zeros(limit, "u1"), [fits, fits]):
            with pytest.raises(LocalProtocolError, match="49152: offer large values as a service"):
                cast.host.publish(PluginEvent.custom("Heavy", value))
            with pytest.raises(LocalProtocolError, match="49152"):
                cast.host.publish_report(PluginEvent.custom("Heavy", value), DEADLINE)
        kind, text = cast.bert.refuse("large")
        assert kind == "LocalProtocolError"
        assert "offer large values as a service" in text
        cast.host.publish(PluginEvent.custom("Heavy", fits), wait=True)
        cast.bert.say("Heavy", fits)
        eventually(lambda: len(seen) == 2 and anna.count() == 2)
        assert [row["seq"] for row in seen] == [1, 1]
        assert numbers(seen) == [fits, fits]

    def test_wrong_fields(self, cast: Cast) -> None:
        """The error names the event and the field; the publisher goes on."""
        seen = collect(cast.host, "EpochEnd")
        wrong: list[tuple[PluginEvent, str]] = [
            (PluginEvent.EpochEnd(epoch="one", loss=0.5), "epoch"),  # type: ignore[arg-type]
            (PluginEvent.EpochEnd(epoch=1, loss="low"), "loss"),  # type: ignore[arg-type]
            (PluginEvent.TensorOp("add", [2], 3), "output_shape"),  # type: ignore[arg-type]
            (PluginEvent.Telemetry([2.0]), "data"),  # type: ignore[arg-type]
            (PluginEvent.BackendChanged(None), "backend"),  # type: ignore[arg-type]
        ]
        for event, name in wrong:
            with pytest.raises(UsageError, match=name) as caught:
                cast.host.publish(event)
            assert event.type in str(caught.value)
        cast.host.publish(PluginEvent.EpochEnd(epoch=1, loss=0.5), wait=True)
        assert [row["seq"] for row in seen] == [1]
        kind, text = cast.bert.refuse("field")
        assert kind == "UsageError"
        assert "epoch" in text

    def test_what_is_no_event(self, cast: Cast) -> None:
        """A class of one's own, a dict, a type that is reserved or built in: usage errors."""

        class Mine(PluginEvent):
            pass

        reserved = PluginEvent.custom("Harmless", None)
        reserved.event_type = "SystemShutdown"
        built_in = PluginEvent.custom("Harmless", None)
        built_in.event_type = "EpochEnd"
        nobodys = PluginEvent.custom("Malformed", None)
        for event in (Mine(), nobodys, {"type": "Epoch"}, None, "Epoch", reserved, built_in):
            with pytest.raises(UsageError):
                cast.host.publish(event)  # type: ignore[arg-type]
        for kind in ("class", "reserved", "name"):
            assert cast.bert.refuse(kind)[0] == "UsageError"

    @pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "x" * 10_240, "é" * 101, "", "a.*", "\0"])
    def test_names_that_are_none(self, cast: Cast, name: str) -> None:
        """The error is one short harmless line, whichever way the name comes in."""
        event = PluginEvent.custom("Harmless", None)
        event.event_type = name
        for attempt in (
            lambda: PluginEvent.custom(name, None),
            lambda: cast.host.publish(event),
            lambda: cast.host.event_bus.make_sticky(name),
        ):
            with pytest.raises(UsageError) as caught:
                attempt()
            assert str(caught.value).isprintable()
            assert len(str(caught.value)) < 300

    def test_values_that_travel(self, cast: Cast, anna: Any) -> None:  # noqa: ANN401
        """Plain values, arrays, dataclasses, bytes: each arrives as it was sent."""
        seen: list[Any] = []
        cast.host.subscribe("Values", lambda event: seen.append(event.data))  # type: ignore[attr-defined]
        anna.subscribe("Values", "pass_on", "ValuesBack")
        back: list[Any] = []
        cast.host.subscribe("ValuesBack", lambda event: back.append(event.data))  # type: ignore[attr-defined]
        array = np.arange(12, dtype="f4").reshape(3, 4)
        values: list[Any] = [None, 1, -1.5, "é", b"\0\xff", [1, [2]], {"a": {"b": 1}}, array]
        for value in [*values, Point(1, "here")]:
            cast.host.publish(PluginEvent.custom("Values", value), wait=True)
        eventually(lambda: len(back) == len(values) + 1)
        for got in (seen, back):
            assert got[: len(values) - 1] == values[:-1]
            arrived = got[len(values) - 1]
            assert arrived.dtype == array.dtype
            assert (arrived == array).all()
            assert got[-1] in (Point(1, "here"), {"x": 1, "name": "here"})

    def test_an_event_that_is_changed_afterwards(self, cast: Cast, anna: Any) -> None:  # noqa: ANN401
        """What was published counts."""
        seen = collect(cast.host, "Changed")
        anna.subscribe("Changed")
        cast.bert.publish_and_change("Changed")
        data = [1, 2]
        event = PluginEvent.custom("Changed", data)
        cast.host.publish(event)
        data.clear()
        event.event_type = "Unchanged"
        eventually(lambda: len(seen) == 2 and anna.count() == 2)
        assert {row["source"]: row["data"] for row in seen}["bert"] == {"numbers": [1, 2, 3]}
        assert [1, 2] in numbers(seen)
        assert [1, 2] in numbers(rows_of(anna))

    def test_two_callbacks_share_an_event(self, cast: Cast) -> None:
        """One that sticks a label onto it does not change it for another process."""
        seen = collect(cast.host, "Label")

        def label(event: PluginEvent) -> None:
            event.data = "labelled"  # type: ignore[attr-defined]

        cast.host.subscribe("Label", label)
        cast.bert.subscribe("Label")
        cast.host.publish(PluginEvent.custom("Label", "plain"), wait=True)
        assert numbers(seen) == ["plain"]
        assert numbers(rows_of(cast.bert))[-1] == "plain"
        assert cast.host.restart("bert").ok
