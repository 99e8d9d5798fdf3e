"""Listening: queues with bounds, loops, recordings; on a real bus."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spiral_host import (
    BrokenRecording,
    Host,
    JsonLines,
    Listener,
    NoDaemon,
    PluginEvent,
    Ring,
    SequenceDiagram,
    UsageError,
    read_recording,
)
from tests.hosts import DEADLINE, Run, all_ready, eventually, new_run, plugin

SOURCES = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bus(shared: Host) -> Host:
    assert all_ready(shared.load(plugin("publisher")))
    return shared


def count(host: Host, event_type: str, last: int) -> None:
    """Have the publisher plugin count to a number."""
    host.get_service("publisher").count(event_type, 1, last)


def said(events: list[PluginEvent]) -> list[object]:
    """Give what custom events carry."""
    return [event.to_dict()["data"] for event in events]


def in_thread(job: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Start a job; give its thread and the list that its result or error will be in."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(job())
        except NoDaemon as error:
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, results


class TestListener:
    def test_every_event_in_order(self, bus: Host) -> None:
        """Whoever waits is given each event once, with its stamps."""
        with bus.listen("Counted", maxlen=5000) as listener:
            count(bus, "Counted", 3000)
            events = [next(listener) for _ in range(3000)]
            assert said(events) == list(range(1, 3001))
            assert [event.seq for event in events] == list(range(1, 3001))
            assert {event.source for event in events} == {"publisher"}
            assert (listener.dropped, len(listener), listener.poll()) == (0, 0, None)

    def test_a_slow_one_counts_what_it_dropped(self, bus: Host) -> None:
        """It holds the newest events; together with those it dropped they are all."""
        every = bus.listen("Slow", maxlen=5000)
        with every, bus.listen("Slow", maxlen=10) as listener:
            count(bus, "Slow", 2000)
            eventually(lambda: len(every) == 2000)
            eventually(lambda: listener.dropped == 1990)
            assert said(listener.drain()) == list(range(1991, 2001))

    def test_several_patterns(self, bus: Host) -> None:
        """Each event comes once, however many of the patterns match it."""
        with bus.listen("Trainer.epoch", "Trainer.*", "Other") as listener:
            for event_type in ("Trainer.epoch", "Trainer", "Other", "Trainer.a.b", "Otherwise"):
                bus.publish(PluginEvent.custom(event_type, event_type))
            bus.publish(PluginEvent.custom("Other", "last"))
            events = said([next(listener) for _ in range(4)])
        assert events == ["Trainer.epoch", "Other", "Trainer.a.b", "last"]

    def test_a_coroutine_listens(self, bus: Host) -> None:
        """`async for` in a loop, beside others, without a thread for each."""

        async def take(listener: Listener) -> list[object]:
            events = []
            async for event in listener:
                events.append(event)
                if len(events) == 500:
                    break
            return said(events)

        async def job() -> list[list[object]]:
            with bus.listen("Async") as one, bus.listen("Async") as other:
                before = threading.active_count()
                tasks = [asyncio.ensure_future(take(listener)) for listener in (one, other)]
                await asyncio.sleep(0)
                assert threading.active_count() <= before  # one of another test's may end
                for number in range(500):
                    bus.publish(PluginEvent.custom("Async", number))
                async with asyncio.timeout(DEADLINE):
                    return await asyncio.gather(*tasks)

        assert asyncio.run(job()) == [list(range(500))] * 2

    def test_after_close_nothing_comes(self, bus: Host) -> None:
        """The subscription is gone; what had come can be taken."""
        listener = bus.listen("Closed")
        bus.publish(PluginEvent.custom("Closed", 1))
        eventually(lambda: len(listener))
        listener.close()
        with bus.listen("Closed") as other:
            bus.publish(PluginEvent.custom("Closed", 2))
            assert said([next(other)]) == [2]
        assert said(list(listener)) == [1]

    def test_what_cannot_be_meant(self, bus: Host) -> None:
        """A bad pattern or no room is refused."""
        with pytest.raises(UsageError):
            bus.listen("a\nb")
        with pytest.raises(UsageError):
            bus.listen("*", maxlen=0)

    def test_it_ends_with_its_host(self, run: Run) -> None:
        """Whoever waits in another thread goes on, with what had come and without an error."""
        host = run.embed()
        listener = host.listen("*")
        thread, results = in_thread(lambda: [event.type for event in listener])
        # Waited for: else the daemon may hear of the end before it hears of the event.
        host.publish(PluginEvent.custom("Last", None), wait=True, timeout=DEADLINE)
        host.shutdown()
        thread.join(DEADLINE)
        (types,) = results
        assert isinstance(types, list)
        assert types[0] == "Last"
        assert listener.is_closed

    def test_a_daemon_that_has_gone_for_good(self, run: Run) -> None:
        """Whoever waits is told so within seconds."""
        host = run.start()
        listener = host.listen("*")
        thread, results = in_thread(lambda: next(listener))
        run.kill_daemon()
        thread.join(DEADLINE)
        assert isinstance(results[0], NoDaemon)
        run.start_daemon()
        run.connect()


def command(run: Run, *words: str) -> "subprocess.Popen[str]":
    """Run a command of the operator's against this run's daemon."""
    return subprocess.Popen(
        [sys.executable, "-m", "spiral_host", *words],
        cwd=SOURCES,
        env={**os.environ, "SPIRAL_HOST_RUN_DIR": str(run.run_dir)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Wait for a command; give its status and what it printed."""
    with process:
        try:
            out, err = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()  # else a command that does not end is waited for without end
    return process.returncode, out, err


EVENTS: list[PluginEvent] = [
    PluginEvent.EpochStart(epoch=1),
    PluginEvent.TensorOp(op_name="add", input_shape=[2, 3], output_shape=[2]),
    PluginEvent.custom("Mine", {"bytes": b"\0\xff", "none": None, "text": "a\nλ", "deep": [[1.5]]}),
    PluginEvent.Telemetry(data={"loss": 0.25}),
    PluginEvent.custom("Mine", float("inf")),
    PluginEvent.custom("Family.one", {1: "a key that is no text", "$bytes": "no tag"}),
    PluginEvent.EpochEnd(epoch=1, loss=0.5),
]


class TestRecorders:
    def test_all_of_them_are_callbacks(self, bus: Host, tmp_path: Path) -> None:
        """A file, a ring and a diagram take what a subscription gives."""
        path = tmp_path / "events.jsonl"
        ring, diagram = Ring(10), SequenceDiagram()
        with JsonLines(path) as file:
            subscriptions = [bus.subscribe("Ours", taker) for taker in (file, diagram, ring)]
            count(bus, "Ours", 100)
            eventually(lambda: len(ring) and ring.snapshot()[-1].seq == 100)
            for subscription in subscriptions:
                bus.unsubscribe(subscription)
        assert said(list(read_recording(path))) == list(range(1, 101))
        assert said(ring.snapshot()) == list(range(91, 101))
        assert "p1->>bus: Ours 1 to 100\n" in diagram.draw()

    def test_arrays(self, bus: Host, tmp_path: Path) -> None:
        """What a subscriber was given is what the recording gives, to the bit."""
        path = tmp_path / "events.jsonl"
        array = np.arange(6.0).reshape(2, 3)
        with JsonLines(path) as file, bus.listen("Array") as listener:
            bus.subscribe("Array", file)
            bus.publish(PluginEvent.custom("Array", {"array": array}))
            assert next(listener).type == "Array"
            eventually(lambda: file.recorded)
        (event,) = read_recording(path)
        found: Any = event.to_dict()["data"]
        np.testing.assert_array_equal(found["array"], array)

    def test_a_full_disk_disturbs_nobody(self, bus: Host) -> None:
        """The recorder counts; the others are given every event."""
        with JsonLines("/dev/full") as file, bus.listen("Full") as listener:
            subscription = bus.subscribe("Full", file)
            count(bus, "Full", 200)
            assert said([next(listener) for _ in range(200)]) == list(range(1, 201))
            eventually(lambda: file.dropped == 200)
            assert isinstance(file.error, OSError)
            bus.unsubscribe(subscription)


class TestCommands:
    def test_record_and_replay(self, run: Run, tmp_path: Path) -> None:
        """A fresh host is given the same events in the same order, but the daemon's own."""
        path = tmp_path / "events.jsonl"
        host = run.start()
        recording = command(run, "events", "--record", str(path), "--count", "8", "--json")
        assert recording.stderr is not None
        assert "listening" in recording.stderr.readline()
        host.initialize_all()
        for event in EVENTS:
            host.publish(event)
        status, out, err = finish(recording)
        assert (status, err) == (0, f"{path}: 8 recorded, 0 dropped\n")
        assert len(out.splitlines()) == 8

        with new_run() as other:
            fresh = other.start()
            with fresh.listen("*") as listener:
                status, out, err = finish(command(other, "replay", str(path), "--json"))
                assert (status, err) == (0, "")
                assert json.loads(out) == {"file": str(path), "published": 7, "skipped": 1}
                events = [next(listener) for _ in EVENTS]
        assert events == EVENTS
        assert [event.type for event in events] == [event.type for event in EVENTS]

    def test_a_recording_cut_in_the_middle(self, run: Run, tmp_path: Path) -> None:
        """What is whole is published; then one line names the file, the line and the cure."""
        path = tmp_path / "events.jsonl"
        with JsonLines(path) as file:
            for event in EVENTS:
                file(event)
        path.write_bytes(path.read_bytes()[:-10])
        with pytest.raises(BrokenRecording):
            list(read_recording(path))
        host = run.start()
        with host.listen("*") as listener:
            status, out, err = finish(command(run, "replay", str(path)))
            assert (status, out) == (1, f"{path}: 6 published\n")
            (line,) = err.splitlines()
            assert f"spiral-host: {path}: line 7: it is cut in the middle; " in line
            assert [next(listener) for _ in range(6)] == EVENTS[:6]

    def test_ctrl_c_ends_a_recording(self, run: Run, tmp_path: Path) -> None:
        """With 0, and with what was recorded until then."""
        path = tmp_path / "events.jsonl"
        host = run.start()
        recording = command(run, "events", "Mine", "--quiet", "--record", str(path))
        assert recording.stderr is not None
        recording.stderr.readline()
        host.publish(EVENTS[2])
        eventually(lambda: path.stat().st_size)
        recording.send_signal(signal.SIGINT)
        status, out, err = finish(recording)
        assert (status, out, err) == (0, "", f"{path}: 1 recorded, 0 dropped\n")
        assert list(read_recording(path)) == [EVENTS[2]]
