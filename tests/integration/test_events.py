"""Events: in order for each publisher, stamped, once, and with every loss named."""

import threading
from typing import Any

import pytest

from protocol.errors import LocalProtocolError
from spiral_host import Host, PluginEvent, RemoteError, UsageError
from tests import actors
from tests.hosts import DEADLINE, Run, all_ready, eventually, plugin

Row = dict[str, Any]


@pytest.fixture(scope="module")
def bus(shared: Host) -> Host:
    assert all_ready(shared.load([plugin("publisher"), plugin("subscriber")]))
    return shared


@pytest.fixture
def listener(bus: Host) -> Host:
    """The subscriber in a new life, so that it remembers nothing."""
    assert bus.restart("subscriber").ok
    return bus


def collect(host: Host, event_type: str) -> list[Row]:
    """Subscribe an application; give the list that fills."""
    seen: list[Row] = []
    host.subscribe(event_type, lambda event: seen.append(event.to_dict()))
    return seen


def everything(host: Host) -> list[Row]:
    """Give all events that the subscriber plugin has, in order; they come in pages."""
    service = host.get_service("subscriber")
    rows: list[Row] = []
    while page := service.seen(len(rows), len(rows) + 1000):
        rows += page
    return rows


def heard(host: Host, last: int) -> list[Row]:
    """Wait until the subscriber plugin has the event of this number, or a gap that ends with it.

    Its rows come one at a time: together they may be more than fits into an answer.
    """
    service = host.get_service("subscriber")
    rows: list[Row] = []

    def has_come() -> bool:
        for at in range(len(rows), service.count()):
            rows.extend(service.seen(at, at + 1))
        return bool(rows) and rows[-1].get("last", rows[-1]["seq"]) == last

    try:
        eventually(has_come)
    except AssertionError as error:
        (info,) = (info for info in host.health() if info.id == "subscriber")
        ends = [(row["type"], row.get("first"), row.get("last", row["seq"])) for row in rows[-3:]]
        raise AssertionError(f"{error}: {len(rows)} rows, {ends} at the end; {info}") from error
    return rows


def numbers(rows: list[Row]) -> list[object]:
    """Give what the events carry."""
    return [row["data"] for row in rows]


def covered(rows: list[Row], event_type: str) -> int:
    """Check that events and gaps together count from 1 without a hole or a repeat; say how far."""
    expected = 1
    for row in rows:
        if row["type"] == "EventGap":
            assert row["event_type"] == event_type
            assert row["first"] == expected, row
            expected = row["last"] + 1
        else:
            assert (row["seq"], row["data"]) == (expected, expected), row
            expected += 1
    return expected - 1


class TestWays:
    def test_from_a_worker_to_an_application(self, bus: Host) -> None:
        """In the order of publishing, numbered without a hole, with who said it and when."""
        seen = collect(bus, "ToApp")
        bus.get_service("publisher").count("ToApp", 1, 2000)
        eventually(lambda: len(seen) >= 2000)
        assert numbers(seen) == list(range(1, 2001))
        assert [row["seq"] for row in seen] == list(range(1, 2001))
        assert {row["source"] for row in seen} == {"publisher"}
        stamps = [row["ts"] for row in seen]
        assert stamps == sorted(stamps)

    def test_from_an_application_to_a_worker(self, listener: Host) -> None:
        """The same the other way; the source is the application's name with app: before it."""
        service = listener.get_service("subscriber")
        service.subscribe("ToWorker")
        for number in range(1, 2001):
            listener.publish(PluginEvent.custom("ToWorker", number))
        eventually(lambda: service.count() >= 2000)
        rows = everything(listener)
        assert numbers(rows) == list(range(1, 2001))
        assert covered(rows, "ToWorker") == 2000
        (source,) = {row["source"] for row in rows}
        assert source.startswith("app:")

    def test_from_worker_to_worker(self, listener: Host) -> None:
        """The whole way, and an application sees the same."""
        service = listener.get_service("subscriber")
        service.subscribe("Across")
        seen = collect(listener, "Across")
        listener.get_service("publisher").count("Across", 1, 3000)
        eventually(lambda: service.count() >= 3000 and len(seen) >= 3000)
        assert everything(listener) == seen
        assert covered(seen, "Across") == 3000

    def test_built_in_events(self, listener: Host) -> None:
        """Fields by name arrive as they were published, in order."""
        listener.get_service("subscriber").subscribe("*")
        events = [
            PluginEvent.EpochStart(epoch=1),
            PluginEvent.TensorOp(op_name="add", input_shape=[2, 3], output_shape=[2]),
            PluginEvent.Telemetry(data={"loss": 0.25}),
            PluginEvent.EpochEnd(epoch=1, loss=0.5),
            PluginEvent.BackendChanged(backend="cpu"),
        ]
        for event in events:
            listener.publish(event)
        eventually(lambda: len(actors.of_actors(everything(listener))) >= len(events))
        rows = actors.of_actors(everything(listener))
        assert [row["type"] for row in rows] == [event.type for event in events]
        for row, event in zip(rows, events, strict=True):
            assert {key: row[key] for key in event.fields()} == event.fields()

    def test_events_of_several_publishers(self, bus: Host) -> None:
        """Each one's order holds; sources cannot be confused."""
        seen = collect(bus, "Both")
        publisher = bus.get_service("publisher")
        thread = threading.Thread(target=publisher.count, args=("Both", 1, 500))
        thread.start()
        for number in range(1, 501):
            bus.publish(PluginEvent.custom("Both", number))
        thread.join(DEADLINE)
        eventually(lambda: len(seen) >= 1000)
        for source in {row["source"] for row in seen}:
            mine = [row for row in seen if row["source"] == source]
            assert covered(mine, "Both") == 500


class TestSubscriptions:
    def test_the_star_is_every_type(self, bus: Host) -> None:
        """And a name is that type only, not one that begins with it."""
        some, every = collect(bus, "Ab"), collect(bus, "*")
        for event_type in ("A", "Ab", "Abc", "ab"):
            bus.publish(PluginEvent.custom(event_type, event_type))
        eventually(lambda: len(actors.of_actors(every)) >= 4)
        assert numbers(actors.of_actors(every)) == ["A", "Ab", "Abc", "ab"]
        assert numbers(some) == ["Ab"]

    def test_what_is_unsubscribed_does_not_come(self, bus: Host) -> None:
        """Others of the same type go on; a second time there is nothing to end."""
        gone: list[PluginEvent] = []
        subscription = bus.subscribe("Leaving", gone.append)
        stays = collect(bus, "Leaving")
        bus.publish(PluginEvent.custom("Leaving", 1))
        eventually(lambda: gone and stays)
        assert bus.unsubscribe(subscription)
        assert not bus.unsubscribe(subscription)
        bus.publish(PluginEvent.custom("Leaving", 2))
        eventually(lambda: len(stays) == 2)
        assert len(gone) == 1

    def test_a_plugin_unsubscribes_and_comes_back(self, listener: Host) -> None:
        """What was published between is not for it; what comes later is, without a gap."""
        service = listener.get_service("subscriber")
        stays = collect(listener, "Again")
        service.subscribe("Again")
        listener.publish(PluginEvent.custom("Again", 1))
        eventually(lambda: service.count() == 1)
        assert service.unsubscribe("Again")
        listener.publish(PluginEvent.custom("Again", 2))
        eventually(lambda: len(stays) == 2)
        service.subscribe("Again")
        listener.publish(PluginEvent.custom("Again", 3))
        eventually(lambda: service.count() == 2)
        assert numbers(everything(listener)) == [1, 3]

    def test_a_subscription_holds_when_it_returns(self, bus: Host) -> None:
        """The very next event of anybody arrives."""
        publisher = bus.get_service("publisher")
        for number in range(30):
            seen = collect(bus, f"Fresh{number}")
            publisher.say(f"Fresh{number}", number)
            eventually(lambda seen=seen: seen)  # type: ignore[misc]
            assert seen[0]["seq"] == 1

    def test_a_callback_that_raises_stops_nobody(
        self, listener: Host, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """Neither the other callbacks of its process nor those of others."""

        def bad(_: PluginEvent) -> None:
            raise RuntimeError("in a callback")

        listener.subscribe("Risky", bad)
        seen = collect(listener, "Risky")
        service = listener.get_service("subscriber")
        service.subscribe_badly("Risky")
        service.subscribe("Risky")
        for number in range(1, 4):
            listener.publish(PluginEvent.custom("Risky", number))
        eventually(lambda: len(seen) == 3 and service.count() == 3)
        assert "RuntimeError: in a callback" in capfd.readouterr().err
        eventually(lambda: "RuntimeError: Risky" in "\n".join(listener.logs("subscriber")))

    def test_a_callback_may_use_the_host(self, bus: Host) -> None:
        """It calls, publishes and subscribes like any other code."""
        answers: list[object] = []
        echoes = collect(bus, "Echo")

        def answer(event: PluginEvent) -> None:
            answers.append(bus.get_service("polite").add(1, 1))
            answers.append(bus.list_services())
            bus.publish(PluginEvent.custom("Echo", event.seq))

        bus.subscribe("Knock", answer)
        bus.publish(PluginEvent.custom("Knock", None))
        eventually(lambda: echoes)
        assert answers[0] == 2


class TestRefusals:
    def test_reserved_types(self, bus: Host) -> None:
        """Only the daemon says what the daemon says."""
        seen = collect(bus, "*")
        for event in (
            PluginEvent.SystemInit(),
            PluginEvent.SystemShutdown(),
            PluginEvent.PluginLoaded("polite"),
            PluginEvent.PluginUnloaded("polite"),
            PluginEvent.EventGap("Telemetry", 1, 2),
        ):
            with pytest.raises(UsageError, match="only the daemon publishes"):
                bus.publish(event)
        assert bus.get_service("publisher").pretend() == ["UsageError"] * 5
        bus.publish(PluginEvent.custom("After", None))
        eventually(lambda: actors.of_actors(seen))
        assert [row["type"] for row in actors.of_actors(seen)] == ["After"]

    def test_what_is_too_large_or_cannot_travel(self, bus: Host) -> None:
        """The publisher is told; nothing is sent and no number is used."""
        seen = collect(bus, "Heavy")
        for value in ("x" * 49_152, {1}, object()):
            with pytest.raises(LocalProtocolError):
                bus.publish(PluginEvent.custom("Heavy", value))
        with pytest.raises(RemoteError, match="LocalProtocolError"):
            bus.get_service("publisher").say("Heavy", "x" * 49_152)
        bus.publish(PluginEvent.custom("Heavy", "x" * 49_000))
        eventually(lambda: seen)
        assert seen[0]["seq"] == 1

    @pytest.mark.parametrize("event_type", ["", "*", "a\nb", "x" * 201])
    def test_types_that_are_none(self, bus: Host, event_type: str) -> None:
        """Empty, the star, control characters, too long: each is a usage error."""
        with pytest.raises(UsageError):
            PluginEvent.custom(event_type, None)
        if event_type != "*":
            with pytest.raises(UsageError):
                bus.subscribe(event_type, print)


TOTAL = 20_000


class TestLosses:
    def test_a_daemon_killed_in_the_middle(self, run: Run) -> None:
        """Every event arrives once and in order, or a gap says which do not."""
        host = run.start("publisher", "subscriber")
        service, publisher = host.get_service("subscriber"), host.get_service("publisher")
        service.subscribe("Stream")
        service.subscribe("EventGap")
        seen = collect(host, "Stream")
        thread = threading.Thread(target=publisher.count, args=("Stream", 1, TOTAL))
        thread.start()
        eventually(lambda: len(seen) > 2000)
        run.kill_daemon()
        run.start_daemon()
        thread.join(DEADLINE)
        assert not thread.is_alive()
        run.connect()
        publisher.say("Stream", TOTAL + 1)
        eventually(lambda: seen and seen[-1].get("seq") == TOTAL + 1)
        eventually(lambda: everything(host)[-1].get("seq") == TOTAL + 1)
        assert covered(seen, "Stream") == TOTAL + 1
        assert covered(everything(host), "Stream") == TOTAL + 1

    def test_a_short_absence_loses_nothing(self, run: Run) -> None:
        """What fits into the rings while no daemon is there arrives all the same."""
        host = run.start("publisher", "subscriber")
        service, publisher = host.get_service("subscriber"), host.get_service("publisher")
        service.subscribe("Kept")
        seen = collect(host, "Kept")
        publisher.count("Kept", 1, 100)
        run.kill_daemon()
        publisher.count("Kept", 101, 300)
        run.start_daemon()
        run.connect()
        publisher.count("Kept", 301, 400)
        try:
            eventually(lambda: len(seen) >= 400 and service.count() >= 400)
        except AssertionError as error:
            counts = f"application {len(seen)}, worker {service.count()} of 400"
            raise AssertionError(f"{error}: {counts}") from error
        assert numbers(seen) == list(range(1, 401))
        assert numbers(everything(host)) == list(range(1, 401))

    def test_an_application_that_publishes_meanwhile(self, run: Run) -> None:
        """The client keeps what it publishes while there is no daemon, too."""
        host = run.start("subscriber")
        service = host.get_service("subscriber")
        service.subscribe("Mine")
        run.kill_daemon()
        for number in range(1, 201):
            host.publish(PluginEvent.custom("Mine", number))
        run.start_daemon()
        run.connect()
        eventually(lambda: service.count() >= 200)
        assert covered(everything(host), "Mine") == 200

    def test_a_subscriber_that_does_not_read(self, run: Run) -> None:
        """It is told what it missed; nobody waits for it."""
        host = run.embed("publisher", "subscriber", "polite")
        service = host.get_service("subscriber")
        service.subscribe("Big")
        seen = collect(host, "Big")
        go = run.data_dir / "subscriber" / "go"
        holding = threading.Thread(target=service.hold)
        holding.start()
        eventually((run.data_dir / "subscriber" / "holds").exists)
        payload = "x" * 20_000
        for number in range(1, 501):
            host.publish(PluginEvent.custom("Big", payload))
            if not number % 50:  # a publisher's ring has room for these, and for as many again
                actors.wait_sent(host)
        eventually(lambda: seen and seen[-1].get("seq") == 500)
        assert len(seen) == 500
        assert host.get_service("polite").add(1, 1) == 2
        go.touch()
        holding.join(DEADLINE)
        # It reads again, and may still be too far behind for this one: then the gap reaches to it.
        host.publish(PluginEvent.custom("Big", "early"))
        heard(host, 501)
        host.publish(PluginEvent.custom("Big", "last"))
        rows = heard(host, 502)
        assert rows[-1].get("data") == "last"
        last, missing = actors.covered(rows)
        assert last == 502
        assert 0 < missing < 502


class TestFlood:
    def test_a_flooder_takes_nobody_down(self, run: Run) -> None:
        """Calls, events and questions of others go on; their events all arrive."""
        host = run.embed("flooder", "publisher", "subscriber", "polite", "relay")
        pids = {info.id: info.pid for info in host.list_plugins()}
        service = host.get_service("subscriber")
        service.subscribe("Calm")
        seen = collect(host, "Calm")
        host.get_service("flooder").start(1000)
        flood = collect(host, "Flood")
        eventually(lambda: len(flood) > 1000)
        host.get_service("publisher").count("Calm", 1, 500)
        relay = host.get_service("relay")
        for number in range(200):
            assert relay.call("polite", "add", number, 1) == {"value": number + 1}
        assert host.status()["plugins"] == {"ready": 5}
        eventually(lambda: len(seen) >= 500 and service.count() >= 500)
        assert covered(seen, "Calm") == 500
        assert covered(everything(host), "Calm") == 500
        assert {info.id: info.pid for info in host.list_plugins()} == pids
        host.get_service("flooder").stop()

    def test_what_it_prints_is_bounded(self, run: Run) -> None:
        """Output goes to files of a bounded size, whatever its lines are like."""
        host = run.embed("flooder")
        seen = collect(host, "Flood")
        host.get_service("flooder").start(40_000)
        eventually(lambda: len(seen) > 650)  # 25 MiB, of which the last 16 are kept
        host.get_service("flooder").stop()
        host.unload("flooder")  # else a file may be renamed between two looks
        logs = (run.run_dir / "logs").glob("flooder*")
        assert 0 < sum(file.stat().st_size for file in logs) < 17 << 20
