"""A worker's death: told apart, told at once, followed by a new life; a loop of them ends."""

import signal
import threading
import time
from collections.abc import Callable

import pytest

from spiral_host import DeadlineExceeded, Host, PluginEvent, ServiceUnavailable, WorkerLost
from tests.hosts import DEADLINE, Run, Watch, all_ready, eventually, kill, plugin

AT_ONCE_S = 8.0
"""Far less than a call's own time, far more than a loaded machine needs to tell."""

DEATHS = [
    ("segfault", (), "SIGSEGV"),
    ("leave", (3,), "exit status 3"),
    ("leave", (0,), "exit status 0"),
    ("signal", (signal.SIGKILL,), "SIGKILL"),
    ("signal", (signal.SIGABRT,), "SIGABRT"),
    ("signal", (signal.SIGTERM,), "SIGTERM"),
]


@pytest.fixture(scope="module")
def deadly(shared: Host) -> Host:
    """A host with the crasher and with the relay that calls it from another worker."""
    assert all_ready(shared.load([plugin("crasher"), plugin("relay")]))
    return shared


@pytest.fixture
def crasher(deadly: Host) -> Host:
    """The crasher alive and forgiven."""
    assert deadly.restart("crasher").ok
    return deadly


@pytest.mark.parametrize(("method", "arguments", "cause"), DEATHS)
def test_an_application_learns_the_cause(
    crasher: Host, method: str, arguments: tuple[int, ...], cause: str
) -> None:
    """The call under way ends at once with WorkerLost, which tells signals and exits apart."""
    stub = crasher.get_service("crasher")
    pid, started = stub.pid(), time.monotonic()
    with pytest.raises(WorkerLost) as caught:
        getattr(stub, method)(*arguments)
    assert time.monotonic() - started < AT_ONCE_S
    assert (caught.value.plugin_id, caught.value.cause) == ("crasher", cause)
    assert stub.pid() != pid


@pytest.mark.parametrize(("method", "arguments", "cause"), DEATHS)
def test_another_worker_learns_the_cause(
    crasher: Host, method: str, arguments: tuple[int, ...], cause: str
) -> None:
    """A plugin that called another one hears the same, and its stub leads to the next life."""
    relay = crasher.get_service("relay")
    pid = relay.call("crasher", "pid")["value"]
    lost = relay.call("crasher", method, *arguments)
    assert (lost["error"], lost["fields"]) == ("WorkerLost", ["crasher", cause])
    assert lost["after_s"] < AT_ONCE_S
    assert relay.call("crasher", "pid")["value"] not in {None, pid}


def test_every_call_under_way_has_its_outcome(crasher: Host) -> None:
    """Killed from outside while it serves, a worker leaves no caller without an answer."""
    holding: list[PluginEvent] = []
    crasher.subscribe("Holding", holding.append)
    outcomes: list[object] = []

    def call(make: Callable[[], object]) -> None:
        try:
            outcomes.append(make())
        except WorkerLost as error:
            outcomes.append({"error": "WorkerLost", "fields": [error.plugin_id, error.cause]})

    relay, stub = crasher.get_service("relay"), crasher.get_service("crasher")
    assert stub.pid() == relay.call("crasher", "pid")["value"]
    thread = threading.Thread(target=call, args=(lambda: relay.call("crasher", "hold"),))
    thread.start()
    assert eventually(lambda: holding)
    waiting = stub.hold.submit()  # it has left when this returns
    kill(crasher.get("crasher").pid or 0)
    call(waiting.result)
    thread.join(DEADLINE)
    # The one that was served is lost; the other one, still waiting in its lane, is lost as well.
    assert len(outcomes) == 2
    for outcome in outcomes:
        assert isinstance(outcome, dict)
        assert (outcome["error"], outcome["fields"]) == ("WorkerLost", ["crasher", "SIGKILL"])


def test_it_comes_back_counted(crasher: Host) -> None:
    """A crash starts it again without anybody asking, and `restarts` says how often."""
    before = crasher.get("crasher")
    with pytest.raises(WorkerLost):
        crasher.get_service("crasher").segfault()
    crasher.wait_service("crasher", DEADLINE)
    after = eventually(lambda: (info := crasher.get("crasher")).state == "ready" and info)
    assert after
    assert after.restarts == before.restarts + 1
    assert after.incarnation != before.incarnation


def test_an_idle_worker_s_death_is_noticed(crasher: Host) -> None:
    """Nobody has to call for it to be started again."""
    before = crasher.get("crasher")
    kill(before.pid or 0)
    after = eventually(lambda: crasher.get("crasher").pid not in {None, before.pid})
    assert after


def test_others_never_notice(crasher: Host) -> None:
    """While one plugin dies again and again, calls between others all have their answer."""
    counted: list[int] = []
    over = threading.Event()
    relay = crasher.get_service("relay")

    def call() -> None:
        while not over.is_set():
            counted.append(crasher.get_service("relay").call_times("polite", 20))

    thread = threading.Thread(target=call)
    polite_pid = crasher.get("polite").pid
    thread.start()
    try:
        for _ in range(3):
            with pytest.raises(WorkerLost):
                crasher.wait_service("crasher", DEADLINE).leave(1)
    finally:
        over.set()
        thread.join(DEADLINE)
    assert set(counted) == {20}
    assert crasher.get("polite").pid == polite_pid
    assert relay.call("polite", "add", 1, 1) == {"value": 2}


def test_a_crash_loop_ends_in_quarantine(run: Run) -> None:
    """After some tries the plugin is left alone with its reason; a person's restart frees it."""
    host = run.embed("polite", "relay")
    (result,) = host.load(plugin("looper"))
    assert (result.state, result.ok) == ("quarantined", False)
    assert "crashed" in result.reason
    assert "exit status 7" in result.reason
    info = host.get("looper")
    assert info.pid is None
    assert info.restarts >= 3
    assert host.get_service("relay").call("polite", "add", 1, 1) == {"value": 2}
    assert host.get("polite").restarts == 0
    host.initialize_all()
    (run.data_dir / "looper" / "behave").touch()
    assert host.restart("looper").ok


def test_a_service_of_a_quarantined_plugin(run: Run) -> None:
    """Its callers do not wait for what does not come: they are told why."""
    host = run.embed("crasher", "relay")
    stub = host.get_service("crasher")
    for _ in range(20):
        try:
            stub.leave(4)
        except WorkerLost:
            continue
        except ServiceUnavailable as error:
            refusal = error
            break
    assert "plugin crasher is quarantined" in str(refusal)
    assert "exit status 4" in str(refusal)
    told = host.get_service("relay").call("crasher", "pid")
    assert told["error"] == "ServiceUnavailable"
    assert told["after_s"] < AT_ONCE_S


def test_one_that_hangs_costs_its_caller_a_deadline(run: Run) -> None:
    """The outcome is there by the deadline and 50 ms; others are served meanwhile and after."""
    host = run.embed("hanger", "polite")
    stub, started = host.get_service("hanger", timeout=0.3), time.monotonic()
    with pytest.raises(DeadlineExceeded, match="hanger.hang"):
        stub.hang()
    took = time.monotonic() - started
    assert 0.3 <= took < 0.3 + AT_ONCE_S
    assert host.get_service("polite").add(1, 1) == 2
    kill(host.get("hanger").pid or 0)


def test_a_worker_that_will_not_leave_is_ended(run: Run) -> None:
    """Unloading a plugin that hangs takes its patience and no longer, and then it is gone."""
    host = run.embed("crasher")
    holding: list[PluginEvent] = []
    host.subscribe("Holding", holding.append)
    hanging = host.get_service("crasher").hold.submit()
    eventually(lambda: holding)
    info = host.get("crasher")
    watch = Watch(info.pid or 0)
    host.unload("crasher")
    assert watch.has_ended()
    assert host.list_plugins() == []
    with pytest.raises(WorkerLost):
        hanging.result()
