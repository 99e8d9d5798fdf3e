"""Subscribing: from when it holds, what it covers, and what it is given of the past."""

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from protocol.link import MAX_RUNS
from spiral_host import Host, PluginEvent, Subscription, UsageError
from tests.actors import Row, collect, covered, load_actors, numbers, of_actors, rows_of
from tests.hosts import DEADLINE, Run, all_ready, eventually

SOME: Final = 100
"""Events of a flood that are looked at."""


class Cast(NamedTuple):
    """A host with three actors; of these, bert remembers nothing when a test begins."""

    host: Host
    anna: Any
    bert: Any
    carl: Any


@pytest.fixture(scope="module")
def actors(shared: Host, tmp_path_factory: pytest.TempPathFactory) -> Cast:
    folder = tmp_path_factory.mktemp("actors")
    return Cast(shared, *load_actors(shared, folder, "anna", "bert", "carl"))


@pytest.fixture
def cast(actors: Cast) -> Cast:
    """The host and its actors; the one that listens is in a new life."""
    assert actors.host.restart("bert").ok
    return actors


@pytest.fixture
def other(cast: Cast) -> Iterator[Host]:
    """Another application on the same daemon."""
    with Host.connect(cast.host.status()["run_dir"]) as host:
        yield host


@pytest.fixture
def flooded(cast: Cast, request: pytest.FixtureRequest) -> Iterator[str]:
    """A type of which a plugin publishes numbers all the time."""
    event_type = f"Flood.{request.node.name}"
    assert cast.host.restart("anna").ok
    # As many as daemon and application keep up with: a gap would be nobody's fault but theirs.
    cast.anna.flood(event_type, 50)
    yield event_type
    cast.anna.stop()


def follow_each_other(rows: list[Row], published: int) -> None:
    """Check that nothing is missing of what was published since a moment.

    What was published before that may be: while nobody wanted it, it was not sent.

    Args:
        published: The number that was being published at that moment.
    """
    since = [row for row in rows if row.get("data", published + 1) > published]
    assert "EventGap" not in {row["type"] for row in rows}, _gaps(rows)
    assert numbers(since) == list(range(published + 1, published + 1 + len(since)))
    assert covered(since, since[0]["seq"])[1] == 0
    assert len(since) > SOME


def _gaps(rows: list[Row]) -> list[tuple[Row, Row, Row]]:
    """Give each gap with its neighbours."""
    around = zip(rows, rows[1:], rows[2:], strict=False)
    return [three for three in around if three[1]["type"] == "EventGap"]


def _has(rows: list[Row], count: int) -> bool:
    return len(rows) == count


class Window:
    """What an application is given from when it subscribes until it ends that."""

    def __init__(self, host: Host, pattern: str, replay: int = 0) -> None:
        self.rows: list[Row] = []
        self._host = host
        take = lambda event: self.rows.append(event.to_dict())  # noqa: E731
        self._subscription = host.subscribe(pattern, take, replay=replay)

    def highest(self) -> int:
        """Give the number that the newest event carries."""
        return int(self.rows[-1].get("data", 0)) if self.rows else 0

    def close(self) -> list[Row]:
        """End it; give the events."""
        assert self._host.unsubscribe(self._subscription)
        return self.rows


def reach(highest: Callable[[], int], published: int) -> None:
    """Wait until some events have come that were published since a moment."""
    eventually(lambda: highest() > published + SOME)


class TestSubscribed:
    def test_in_the_middle_of_a_flood(self, cast: Cast, flooded: str) -> None:
        """From its return on an application is given every event, each time it subscribes."""
        for _ in range(40):
            window = Window(cast.host, flooded)
            published = cast.anna.flooded()
            reach(window.highest, published)
            follow_each_other(window.close(), published)

    def test_a_plugin_in_the_middle_of_a_flood(self, cast: Cast, flooded: str) -> None:
        """The same for a plugin, which goes while the events still come."""
        for _ in range(20):
            assert cast.host.restart("bert").ok
            cast.bert.subscribe(flooded)
            published = cast.anna.flooded()
            reach(cast.bert.highest, published)
            assert cast.bert.unsubscribe()
            follow_each_other(rows_of(cast.bert), published)

    def test_the_next_event_of_anybody(self, cast: Cast, other: Host) -> None:
        """Of a plugin, of another one that says the same already, and of two applications."""
        for number in range(30):
            event_type = f"Next{number}"
            cast.bert.subscribe(event_type)
            cast.anna.say(event_type)
            cast.carl.say(event_type)
            other.publish(PluginEvent.custom(event_type, None))
            cast.host.publish(PluginEvent.custom(event_type, None))
            eventually(lambda: cast.bert.count() == 4)
            rows = rows_of(cast.bert)
            app, *plugins = sorted({row["source"] for row in rows}, key=["anna", "carl"].count)
            assert app.startswith("app:")  # both have the name of this program
            assert sorted(plugins) == ["anna", "carl"]
            assert {row["seq"] for row in rows} == {1}
            assert cast.host.restart("bert").ok

    def test_an_application_and_the_next_event(self, cast: Cast, other: Host) -> None:
        """The same for an application; what others are subscribed to already makes no hole."""
        cast.bert.subscribe("Shared.*")
        for number in range(30):
            seen = collect(cast.host, f"Shared.{number}")
            for actor in (cast.anna, cast.carl):
                actor.say(f"Shared.{number}")
            other.publish(PluginEvent.custom(f"Shared.{number}", None))
            eventually(partial(_has, seen, 3))
            assert {row["seq"] for row in seen} == {1}

    def test_it_costs_nothing_where_nobody_listens(self, cast: Cast) -> None:
        """No number is used for what nobody wants, whatever was wanted before."""
        cast.anna.count_to(1000, "Unwanted")
        seen: list[Row] = []
        subscription = cast.host.subscribe("Unwanted", lambda event: seen.append(event.to_dict()))
        cast.anna.say("Unwanted", "first")
        eventually(lambda: seen)
        assert (seen[0]["seq"], seen[0]["data"]) == (1, "first")
        assert cast.host.unsubscribe(subscription)
        # It may take a moment until it is known that nobody wants it any more.
        eventually(lambda: _used_by(cast, 1000) == 0)


def _used_by(cast: Cast, count: int) -> int:
    """Publish while nobody listens; say how many numbers that has used."""
    before = _next_number(cast)
    cast.anna.count_to(count, "Unwanted")
    return _next_number(cast) - before - 1


def _next_number(cast: Cast) -> int:
    seen: list[int] = []
    subscription = cast.host.subscribe("Unwanted", lambda event: seen.append(event.seq))
    cast.anna.wait("Unwanted")
    assert cast.host.unsubscribe(subscription)
    return seen[-1]


class TestPatterns:
    def test_families(self, cast: Cast) -> None:
        """`Trainer.*` is every type that begins with `Trainer.`, at any depth, and no other."""
        family = collect(cast.host, "Trainer.*")
        deeper = collect(cast.host, "Trainer.a.*")
        every = collect(cast.host, "*")
        cast.bert.subscribe("Trainer.*")
        types = ["Trainer", "Trainer.a", "Trainers.a", "Trainer.a.b", "trainer.a", "Trainer.é"]
        for event_type in types:
            cast.anna.say(event_type)
        cast.anna.wait("End")
        assert [row["type"] for row in family] == ["Trainer.a", "Trainer.a.b", "Trainer.é"]
        assert [row["type"] for row in deeper] == ["Trainer.a.b"]
        assert [row["type"] for row in of_actors(every)] == [*types, "End"]
        eventually(lambda: cast.bert.count() == 3)
        assert [row["type"] for row in rows_of(cast.bert)] == [row["type"] for row in family]

    def test_one_event_for_several_patterns(self, cast: Cast) -> None:
        """Each callback is given it once, each subscription ends by itself."""
        seen: list[str] = []
        patterns = ("Twice.x", "Twice.*", "*", "Twice.x")

        def add(pattern: str) -> Subscription:
            return cast.host.subscribe(pattern, lambda _: seen.append(pattern))

        subscriptions = [add(pattern) for pattern in patterns]
        cast.anna.wait("Twice.x")
        assert sorted(seen) == sorted(patterns)
        for left, subscription in zip((3, 2, 1, 0), subscriptions, strict=True):
            assert cast.host.unsubscribe(subscription)
            seen.clear()
            cast.anna.wait("Twice.x")
            assert len(seen) == left

    @pytest.mark.parametrize("pattern", [".*", "a.*.*", "*.*", "a*.*", "\n", "x" * 10_240])
    def test_patterns_that_are_none(self, cast: Cast, pattern: str) -> None:
        """Neither a type nor a family: refused in one line of harmless length."""
        with pytest.raises(UsageError) as caught:
            cast.host.subscribe(pattern, print)
        assert len(str(caught.value)) < 300
        assert "\n" not in str(caught.value)


class TestOrder:
    def test_types_that_alternate(self, cast: Cast) -> None:
        """A publisher's events keep their order over types and batches, for the star."""
        every = collect(cast.host, "*")
        family = collect(cast.host, "Order.*")
        cast.bert.subscribe("*")
        # Each leaves by itself: as many as ZeroMQ keeps for an application that does not read.
        last = MAX_RUNS
        cast.anna.count_to(last - 1, "Order.a", "Order.b", "Other", "Order.c.d")
        cast.anna.wait("Order.end", last)
        assert numbers(of_actors(every)) == list(range(1, last + 1))
        assert numbers(of_actors(rows_of(cast.bert))) == list(range(1, last + 1))
        assert numbers(family) == [
            number for number in range(1, last + 1) if number == last or number % 4 != 2
        ]

    def test_threads_of_one_plugin(self, cast: Cast) -> None:
        """Each thread's order holds; together they are numbered without a hole."""
        seen = collect(cast.host, "Threads")
        cast.anna.publish_in_threads("Threads", 6, 500)
        eventually(lambda: len(seen) == 3000)
        assert covered(seen) == (3000, 0)
        for thread in range(6):
            mine = [number for who, number in numbers(seen) if who == thread]
            assert mine == list(range(500))

    def test_threads_of_an_application(self, cast: Cast) -> None:
        """The same for an application's threads."""
        cast.bert.subscribe("AppThreads")

        def publish(me: int) -> None:
            for number in range(500):
                cast.host.publish(PluginEvent.custom("AppThreads", [me, number]))

        threads = [threading.Thread(target=publish, args=(me,)) for me in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        eventually(lambda: cast.bert.count() == 2000)
        rows = rows_of(cast.bert)
        assert covered(rows) == (2000, 0)
        for me in range(4):
            assert [number for who, number in numbers(rows) if who == me] == list(range(500))

    @pytest.mark.parametrize("count", [1, 7, 300])
    def test_a_handler_that_publishes_and_computes(self, cast: Cast, count: int) -> None:
        """Its events leave while it is busy, the last ones too."""
        sign = Path(cast.host.status()["data_dir"]) / "anna" / "seen"
        sign.unlink(missing_ok=True)
        event_type = f"Busy{count}"

        def see(event: PluginEvent) -> None:
            if event.to_dict()["data"] == count - 1:
                sign.touch()

        cast.host.subscribe(event_type, see)
        assert cast.anna.publish_and_compute(event_type, count)

    def test_a_callback_publishes(self, cast: Cast) -> None:
        """What it passes on arrives in its order."""
        seen = collect(cast.host, "Passed")
        cast.bert.subscribe("ToPass", "pass_on", "Passed")
        cast.anna.count_to(2000, "ToPass")
        eventually(lambda: len(seen) == 2000)
        assert numbers(seen) == list(range(1, 2001))
        assert {row["source"] for row in seen} == {"bert"}


EARLY = """
# /// script
# [tool.spiral-host]
# id = "early"
# version = "1.0.0"
# ///
from plugin_worker import Plugin, PluginEvent

class Early(Plugin):
    def on_load(self, ctx):
        self.seen = []
        ctx.subscribe("Early", lambda event: self.seen.append(event.data))
        ctx.register_service("early", self)
        for number in range(1, 501):
            ctx.event_bus.publish(PluginEvent.custom("Early", number))
        ctx.wait_service("gate", 20).wait(timeout=50)
        ctx.event_bus.publish(PluginEvent.custom("Early", 501))

    def own(self):
        return self.seen
"""


class TestOnLoad:
    def test_events_of_on_load(self, cast: Cast, tmp_path: Path) -> None:
        """They arrive in order, before the plugin is ready, and at itself."""
        cast.bert.subscribe("Early")
        during: list[tuple[int, str]] = []

        class Gate:
            def wait(self) -> None:
                eventually(lambda: cast.host.get("bert").state == "ready")
                during.append((0, cast.host.get("early").state))
                came = threading.Event()
                until = time.monotonic() + DEADLINE
                while cast.bert.count() < 500 and time.monotonic() < until:
                    came.wait(0.005)
                during.append((cast.bert.count(), cast.host.get("early").state))

        cast.host.register_service("gate", Gate())
        (tmp_path / "early.py").write_text(EARLY)
        assert all_ready(cast.host.load(tmp_path / "early.py"))
        assert during[1][0] == 500
        assert during[1][1] != "ready"
        eventually(lambda: cast.bert.count() == 501)
        rows = rows_of(cast.bert)
        assert numbers(rows) == list(range(1, 502))
        assert covered(rows) == (501, 0)
        early = cast.host.get_service("early")
        eventually(lambda: len(early.own()) == 501)
        assert early.own() == list(range(1, 502))
        cast.host.unload("early")
        cast.host.unregister_service("gate")


class TestPast:
    def test_the_last_so_many(self, cast: Cast, other: Host) -> None:
        """Of those that are kept, in order, then what comes; for applications and plugins."""
        first = collect(cast.host, "Past.*")
        cast.anna.count_to(300, "Past.a", "Past.b")
        cast.anna.wait("Past.a", 301)
        late = collect(other, "Past.*", replay=50)
        cast.bert.subscribe("Past.*", replay=50)
        one = collect(cast.host, "Past.b", replay=10)
        all_of_them = collect(cast.host, "Past.*", replay=100_000)
        cast.anna.wait("Past.b", 302)
        assert numbers(first) == list(range(1, 303))
        assert numbers(late) == list(range(252, 303))
        assert numbers(rows_of(cast.bert)) == list(range(252, 303))
        assert numbers(one) == [*range(281, 301, 2), 302] or len(one) == 11
        assert numbers(all_of_them) == list(range(1, 303))
        assert [row["seq"] for row in late] == [row["seq"] for row in first[-51:]]

    def test_since_a_moment(self, cast: Cast) -> None:
        """Those stamped then or later; a moment to come and one long past are moments too."""
        first = collect(cast.host, "Since")
        for number in range(1, 4):
            cast.anna.wait("Since", number)
        moment = first[1]["ts"]
        assert first[0]["ts"] < moment < first[2]["ts"]
        late = collect(cast.host, "Since", since=moment)
        ever = collect(cast.host, "Since", since=0.0)
        cast.bert.subscribe("Since", since=moment)
        never = collect(cast.host, "Since", since=moment + 3600)
        cast.anna.wait("Since", 4)
        assert numbers(late) == [2, 3, 4]
        assert numbers(ever) == [1, 2, 3, 4]
        assert numbers(never) == [4]
        assert numbers(rows_of(cast.bert)) == [2, 3, 4]

    def test_past_and_present_in_a_stream(self, cast: Cast) -> None:
        """One follows the other without a hole or a repeat, while events come all the time."""
        assert cast.host.restart("anna").ok
        # Somebody listens all the time, and both keep up: a gap would be nobody's fault but theirs.
        cast.host.subscribe("Stream", lambda _: None)
        cast.anna.flood("Stream", 50)
        for number in range(30):
            window = Window(cast.host, "Stream", replay=200)
            published = cast.anna.flooded()
            reach(window.highest, published)
            rows = window.close()
            follow_each_other(rows, published)
            assert covered(rows, rows[0]["seq"])[1] == 0
            if not number % 10:
                assert cast.host.restart("bert").ok
                cast.bert.subscribe("Stream", replay=200)
                published = cast.anna.flooded()
                reach(cast.bert.highest, published)
                assert cast.bert.unsubscribe()
                rows = rows_of(cast.bert)
                follow_each_other(rows, published)
                assert covered(rows, rows[0]["seq"])[1] == 0
        cast.anna.stop()

    def test_replay_reaches_back_behind_the_present(self, cast: Cast) -> None:
        """What was published before it subscribed is really there."""
        collect(cast.host, "Behind")
        cast.anna.wait("Behind", 1)
        late = collect(cast.host, "Behind", replay=1)
        eventually(lambda: late)
        assert numbers(late) == [1]


class TestSticky:
    def test_a_late_joiner_is_given_the_last_value(self, cast: Cast, other: Host) -> None:
        """At once, though nobody was there; of each type of a family, of each pattern."""
        cast.anna.make_sticky("Sticky.a")
        cast.carl.make_sticky("Sticky.b")
        for value in range(3):
            cast.anna.wait("Sticky.a", value)
        cast.carl.wait("Sticky.b", "b")
        for host in (cast.host, other):
            for pattern, wanted in (("Sticky.a", {2}), ("Sticky.*", {2, "b"})):
                seen = collect(host, pattern)
                eventually(partial(_has, seen, len(wanted)))
                assert set(numbers(seen)) == wanted
        cast.bert.subscribe("Sticky.a")
        cast.anna.wait("Sticky.a", 3)
        assert numbers(rows_of(cast.bert)) == [2, 3]

    def test_of_an_application(self, cast: Cast) -> None:
        """An application's types may be sticky, too."""
        cast.host.event_bus.make_sticky("Mine")
        cast.host.publish(PluginEvent.custom("Mine", 1))
        cast.host.publish(PluginEvent.custom("Mine", 2), wait=True)
        cast.bert.subscribe("Mine")
        cast.host.publish(PluginEvent.custom("Mine", 3), wait=True)
        assert numbers(rows_of(cast.bert)) == [2, 3]

    def test_once_with_replay(self, cast: Cast) -> None:
        """Who asks for the past is given the last value once."""
        cast.anna.make_sticky("StickyOnce")
        for value in range(5):
            cast.anna.wait("StickyOnce", value)
        late = collect(cast.host, "StickyOnce", replay=3)
        cast.anna.wait("StickyOnce", 5)
        assert numbers(late) == [2, 3, 4, 5]

    def test_after_the_daemon_was_killed(self, run: Run, tmp_path: Path) -> None:
        """The new daemon has the last values, whoever published them."""
        host = run.start()
        anna, bert = load_actors(host, tmp_path, "anna", "bert")
        anna.make_sticky("State.anna")
        host.event_bus.make_sticky("State.app")
        for value in range(5):
            anna.wait("State.anna", value)
            host.publish(PluginEvent.custom("State.app", value), wait=True, timeout=DEADLINE)
        early = collect(host, "State.*")
        eventually(lambda: numbers(early) == [4, 4])
        run.kill_daemon()
        run.start_daemon()
        second = run.connect()
        # What the old daemon had no time to confirm comes once more, in order.
        seen = collect(second, "State.*")
        eventually(lambda: _last_of(seen) == {"State.anna": 4, "State.app": 4})
        bert.subscribe("State.*")
        eventually(lambda: bert.count() >= 2)
        anna.wait("State.anna", 5)
        rows = rows_of(bert)
        assert [row["data"] for row in rows if row["type"] == "State.anna"] == [4, 5]
        assert [row["data"] for row in rows if row["type"] == "State.app"] == [4]


def _last_of(rows: list[Row]) -> dict[str, object]:
    """Give the last value of each type."""
    return {row["type"]: row["data"] for row in rows}
