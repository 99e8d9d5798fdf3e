"""Publishing and waiting: what became of an event, in every process that was given it."""

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from protocol.publishing import LATE
from spiral_host import DeadlineExceeded, Host, PluginEvent, PublishReport, UsageError
from tests.actors import Aside, collect, covered, load_actors, rows_of
from tests.hosts import DEADLINE, Run, eventually

PATIENCE_S: Final = 4.0
"""How long a test waits for who does not answer; on a busy machine all others do by then."""


class Cast(NamedTuple):
    """A host with two actors, and the folder in which one of them finds its signs."""

    host: Host
    anna: Any
    bert: Any
    signs: Path


@pytest.fixture
def cast(shared: Host, tmp_path: Path) -> Iterator[Cast]:
    """Two actors that have seen nothing yet."""
    signs = Path(shared.status()["data_dir"]) / "anna"
    shutil.rmtree(signs, ignore_errors=True)
    anna, bert = load_actors(shared, tmp_path, "anna", "bert")
    yield Cast(shared, anna, bert, signs)
    shared.unload("anna")
    shared.unload("bert")


def report(host: Host, event_type: str, timeout: float = DEADLINE) -> PublishReport:
    """Publish an event of an application's, and wait for its report."""
    return host.publish_report(PluginEvent.custom(event_type, 1), timeout)


class TestWait:
    def test_it_returns_when_every_callback_has_run(self, cast: Cast) -> None:
        """In two plugins and the application; not while one of them still runs."""
        seen = collect(cast.host, "All")
        cast.anna.subscribe("All", "hold", "all")
        cast.bert.subscribe("All")
        event = PluginEvent.custom("All", 1)
        waiting = Aside(lambda: cast.host.publish(event, wait=True, timeout=DEADLINE))
        eventually((cast.signs / "all-holds").exists)
        eventually(lambda: seen and cast.bert.count())
        assert not waiting.is_done
        (cast.signs / "all-go").touch()
        assert waiting.outcome() is None
        assert (cast.anna.count(), cast.bert.count(), len(seen)) == (1, 1, 1)

    def test_from_a_plugin_to_all(self, cast: Cast) -> None:
        """Often: what is counted right after it has returned is there."""
        seen = collect(cast.host, "Often")
        cast.anna.subscribe("Often")
        cast.bert.subscribe("Often")
        for number in range(1, 101):
            assert cast.anna.wait("Often", number) == number
            assert (cast.bert.count(), len(seen)) == (number, number)

    def test_what_was_published_before_has_run_too(self, cast: Cast) -> None:
        """One event that is waited for stands at the end of all that went before it."""
        seen = collect(cast.host, "Before")
        cast.bert.subscribe("Before")
        cast.anna.count_to(5000, "Before")
        cast.anna.wait("Before", 5001)
        assert (cast.bert.count(), len(seen)) == (5001, 5001)
        for number in range(5002, 7001):
            cast.host.publish(PluginEvent.custom("Before", number))
        cast.host.publish(PluginEvent.custom("Before", 7001), wait=True)
        assert len(seen) == 7001
        mine = [row for row in rows_of(cast.bert) if row["source"] != "anna"]
        assert covered(mine) == (2000, 0)

    def test_nobody_is_subscribed(self, cast: Cast) -> None:
        """Nothing is waited for."""
        started = time.monotonic()
        assert report(cast.host, "Nobody") == PublishReport("Nobody")
        assert cast.anna.report("Nobody") == {"matched": 0, "delivered": 0, "failures": []}
        cast.host.publish(PluginEvent.custom("Nobody", None), wait=True, timeout=DEADLINE)
        assert time.monotonic() - started < DEADLINE

    @pytest.mark.parametrize("timeout", [0, -1, 601, float("nan"), "1"])
    def test_a_timeout_that_is_none(self, cast: Cast, timeout: Any) -> None:  # noqa: ANN401
        """More than 0 and at most ten minutes."""
        with pytest.raises(UsageError, match="timeout"):
            cast.host.publish(PluginEvent.custom("Never", None), wait=True, timeout=timeout)


class TestReport:
    def test_figures_across_processes(self, cast: Cast) -> None:
        """Callbacks, not processes, are counted; one that raises keeps nobody from the event."""
        seen = collect(cast.host, "Figures")
        raised = threading.Event()

        def bad(_: PluginEvent) -> None:
            raised.set()
            raise RuntimeError("of the application")

        cast.host.subscribe("Figures", bad)
        cast.anna.subscribe("Figures", "raise", "anna's")
        cast.anna.subscribe("*")
        cast.bert.subscribe("Figures")
        told = report(cast.host, "Figures")
        assert (told.event_type, told.matched, told.delivered) == ("Figures", 5, 3)
        failures = {failure.subscriber: failure.error for failure in told.failures}
        assert failures.pop("anna") == "ValueError: anna's Figures"
        (mine,) = failures.items()
        assert mine[0].startswith("app:")
        assert mine[1] == "RuntimeError: of the application"
        assert raised.is_set()
        assert (cast.anna.count(), cast.bert.count(), len(seen)) == (1, 1, 1)
        said = cast.bert.report("Figures")
        assert (said["matched"], said["delivered"], len(said["failures"])) == (5, 3, 2)

    def test_what_raises_is_counted_in_health(self, cast: Cast) -> None:
        """As an error of the plugin, also where nobody waits."""
        before = cast.host.get("anna").errors
        cast.anna.subscribe("Risky", "raise")
        for number in range(5):
            cast.host.publish(PluginEvent.custom("Risky", number))
        assert report(cast.host, "Risky").delivered == 0
        health = {info.id: info for info in cast.host.health()}
        assert health["anna"].errors == before + 6
        assert health["bert"].errors == 0

    def test_a_callback_that_dies(self, cast: Cast) -> None:
        """Its plugin is among the failures, as soon as it is gone; others have their event."""
        seen = collect(cast.host, "Deadly")
        cast.anna.subscribe("Deadly", "die")
        cast.bert.subscribe("Deadly")
        started = time.monotonic()
        told = report(cast.host, "Deadly")
        assert time.monotonic() - started < DEADLINE / 2
        assert (told.matched, told.delivered) == (3, 2)
        ((who, why),) = [(failure.subscriber, failure.error) for failure in told.failures]
        assert (who, why) == ("anna", "it has gone")
        assert (cast.bert.count(), len(seen)) == (1, 1)

    def test_a_callback_that_never_returns(self, cast: Cast) -> None:
        """The deadline bounds the wait; the report names who is late, `wait` raises."""
        cast.anna.subscribe("Stuck", "hold", "stuck")
        cast.bert.subscribe("Stuck")
        event = PluginEvent.custom("Stuck", None)
        reported = Aside(lambda: report(cast.host, "Stuck", PATIENCE_S))
        by_bert = Aside(lambda: cast.bert.report("Stuck", 2, PATIENCE_S))
        waited = Aside(lambda: cast.host.publish(event, wait=True, timeout=PATIENCE_S))
        told = reported.outcome()
        assert (told.matched, told.delivered) == (2, 1)
        assert [(each.subscriber, each.error) for each in told.failures] == [("anna", LATE)]
        assert by_bert.outcome()["failures"] == [["anna", LATE]]
        assert isinstance(waited.outcome(), DeadlineExceeded)
        assert "Stuck at anna" in str(waited.outcome())
        assert cast.bert.count() == 3
        (cast.signs / "stuck-go").touch()
        eventually(lambda: cast.anna.count() == 3)
        assert report(cast.host, "Stuck").delivered == 2

    def test_an_application_that_never_returns(self, cast: Cast) -> None:
        """The same for a callback of the application."""
        go = threading.Event()
        cast.host.subscribe("StuckHere", lambda _: go.wait(DEADLINE))
        ((who, why),) = cast.anna.report("StuckHere", 1, PATIENCE_S)["failures"]
        assert who.startswith("app:")
        assert why == LATE
        go.set()
        assert cast.anna.report("StuckHere")["delivered"] == 1

    def test_who_has_left_is_not_waited_for(self, cast: Cast) -> None:
        """Neither a plugin that is unloaded nor a subscription that was ended."""
        cast.anna.subscribe("Leaving")
        cast.bert.subscribe("Leaving")
        assert report(cast.host, "Leaving").matched == 2
        assert cast.bert.unsubscribe()
        assert report(cast.host, "Leaving").matched == 1
        assert report(cast.host, "Leaving").failures == ()
        assert cast.host.restart("anna").ok
        assert report(cast.host, "Leaving") == PublishReport("Leaving")

    def test_many_failures(self, cast: Cast) -> None:
        """All are counted, the first 16 are told."""
        for _ in range(40):
            cast.anna.subscribe("Bad", "raise")
        told = report(cast.host, "Bad")
        assert (told.matched, told.delivered, len(told.failures)) == (40, 0, 16)

    def test_many_reports_at_once(self, cast: Cast) -> None:
        """Each publisher hears of its own event."""
        cast.anna.subscribe("Many")
        cast.bert.subscribe("Many", "raise")
        asides = [Aside(lambda: report(cast.host, "Many")) for _ in range(20)]
        mixed = [Aside(lambda: cast.anna.report("Many")) for _ in range(20)]
        told = [aside.outcome() for aside in asides]
        assert {(each.matched, each.delivered) for each in told} == {(2, 1)}
        assert {aside.outcome()["delivered"] for aside in mixed} == {1}
        assert cast.anna.count() == 40


class TestCircles:
    def test_a_plugin_that_waits_is_itself_subscribed(self, cast: Cast) -> None:
        """Its own callback runs while its handler waits, in order behind what came before."""
        cast.anna.subscribe("Own")
        cast.anna.count_to(100, "Own")
        assert cast.anna.wait("Own", 101) == 101
        assert [row["data"] for row in rows_of(cast.anna)] == list(range(1, 102))

    def test_a_callback_publishes_and_waits(self, cast: Cast) -> None:
        """A waits for B, whose callback waits for A, whose callback waits for B, and so on."""
        for here, there, height in (("anna", "bert", 3), ("bert", "anna", 2), ("anna", "bert", 1)):
            actor = getattr(cast, here)
            actor.subscribe(f"{there}{height}", "pass_on_and_wait", f"{here}{height - 1}")
        cast.bert.subscribe("anna0")
        assert cast.bert.report("bert3", "round") == {
            "matched": 1,
            "delivered": 1,
            "failures": [],
        }
        assert [row["type"] for row in rows_of(cast.bert)] == ["anna0", "anna2"]
        assert [row["type"] for row in rows_of(cast.anna)] == ["bert1", "bert3"]

    def test_an_applications_callback_publishes_and_waits(self, cast: Cast) -> None:
        """For a plugin whose callback waits for the application's other callback."""
        seen = collect(cast.host, "Third")
        told: list[PublishReport] = []
        cast.host.subscribe("First", lambda _: told.append(report(cast.host, "Second")))
        cast.anna.subscribe("Second", "pass_on_and_wait", "Third")
        assert cast.bert.report("First")["failures"] == []
        assert [each.delivered for each in told] == [1]
        assert len(seen) == 1

    def test_an_application_waits_for_itself(self, cast: Cast) -> None:
        """From any of its threads, and from its own callback."""
        seen = collect(cast.host, "Inner")
        told: list[PublishReport] = []
        cast.host.subscribe("Outer", lambda _: told.append(report(cast.host, "Inner")))
        assert report(cast.host, "Outer").delivered == 1
        assert [each.delivered for each in told] == [1]
        assert len(seen) == 1

    def test_a_callee_waits_for_its_caller(self, cast: Cast) -> None:
        """A plugin waits in a call, and its callee publishes with wait to it."""
        cast.anna.subscribe("Back")
        assert cast.anna.call("bert", "wait", "Back") == 0
        assert cast.anna.count() == 1
        assert cast.anna.call("bert", "report", "Back")["delivered"] == 1

    def test_a_called_application_waits_for_its_caller(self, cast: Cast) -> None:
        """The same where the callee is the application's own service."""

        class Front:
            def ring(self) -> int:
                return report(cast.host, "Ring").delivered

        cast.anna.subscribe("Ring")
        cast.host.register_service("front", Front())
        try:
            assert cast.anna.call("front", "ring") == 1
        finally:
            cast.host.unregister_service("front")

    def test_an_applications_callback_calls_who_waits_for_it(self, cast: Cast) -> None:
        """Its other callback runs while it waits for the call."""
        seen = collect(cast.host, "Answer")
        told: list[Any] = []
        cast.host.subscribe(
            "Question", lambda _: told.append(cast.anna.report("Answer", 1, DEADLINE / 2))
        )
        assert report(cast.host, "Question").delivered == 1
        assert [each["delivered"] for each in told] == [1]
        assert len(seen) == 1

    def test_a_thread_of_a_plugin_waits(self, cast: Cast) -> None:
        """The plugin's loop runs its callbacks meanwhile."""
        cast.anna.subscribe("Threaded")
        cast.bert.subscribe("Threaded")
        cast.anna.wait_in_thread("Threaded")
        assert eventually(cast.anna.waited) == [1]
        assert cast.bert.count() == 1


class TestWithoutDaemon:
    def test_nobody_would_know(self, run: Run, tmp_path: Path) -> None:
        """A report is refused in time; the event itself is kept and arrives."""
        host = run.start()
        anna, bert = load_actors(host, tmp_path, "anna", "bert")
        bert.subscribe("Kept")
        run.kill_daemon()
        assert anna.report("Kept", 1, 0.2) == {"error": "DeadlineExceeded"}
        with pytest.raises(DeadlineExceeded):
            host.publish_report(PluginEvent.custom("Kept", 2), 0.2)
        run.start_daemon()
        run.connect()
        eventually(lambda: bert.count() == 2)
        assert anna.report("Kept", 3)["delivered"] == 1
        assert bert.count() == 3
