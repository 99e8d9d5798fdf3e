"""The daemon may be killed at any moment: what runs runs on, and the next one takes it over."""

import json
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from spiral_host import Host, NoDaemon, PluginEvent, WorkerLost
from tests.hosts import DEADLINE, SANDBOX, Run, Watch, all_ready, eventually, kill, plugin

GATED = """
from plugin_worker import Plugin


class Gated(Plugin):
    def on_load(self, ctx):
        ctx.wait_service("load_gate", 20.0)

    def on_unload(self, ctx):
        ctx.wait_service("unload_gate", 20.0)
"""
"""Comes and goes as the application lets it; and asks the daemon while it does."""

GATED_MANIFEST = '[plugin]\nid = "gated"\nversion = "1"\nentry = "gated:Gated"\n'


class Gate:
    """A service whose being there is all that matters."""

    def open(self) -> None:
        """Do nothing."""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients wait for the next daemon as long as a busy machine takes to start it."""
    monkeypatch.setattr("spiral_host.client.GRACE_S", DEADLINE)


@pytest.fixture
def gated(tmp_path: Path) -> str:
    folder = tmp_path / "gated"
    folder.mkdir()
    (folder / "gated.py").write_text(GATED)
    (folder / "plugin.toml").write_text(GATED_MANIFEST)
    return str(folder)


def lives(host: Host) -> list[tuple[str, int | None, int, int]]:
    return [(p.id, p.pid, p.incarnation, p.restarts) for p in host.list_plugins()]


class Order:
    """An order that a client gives in a thread, so that the test can kill meanwhile."""

    def __init__(self, give: Callable[[], object]) -> None:
        self.answers: list[object] = []
        self._give = give
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.answers.append(self._give())
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.answers.append(error)

    def answer(self) -> object:
        """Wait for the one answer."""
        self._thread.join(DEADLINE)
        (answer,) = self.answers
        return answer


class TestMeanwhile:
    def test_calls_go_on(self, run: Run) -> None:
        """Lanes lead straight from caller to callee; no daemon is needed for what is tied."""
        host = run.start("polite", "relay")
        relay, polite = host.get_service("relay"), host.get_service("polite")
        assert relay.call("polite", "add", 1, 2) == {"value": 3}
        pid = polite.pid()
        run.kill_daemon()
        assert relay.call_times("polite", 100) == 100
        assert polite.pid() == pid
        run.start_daemon()
        again = run.connect()
        assert relay.call("polite", "add", 2, 2) == {"value": 4}
        assert again.get_service("polite").pid() == pid

    def test_a_death_is_told_to_callers(self, run: Run) -> None:
        """The node, not the daemon, says how a callee died."""
        host = run.start("crasher", "relay")
        relay = host.get_service("relay")
        crasher = host.get_service("crasher")
        assert crasher.pid() == relay.call("crasher", "pid")["value"]
        run.kill_daemon()
        lost = relay.call("crasher", "segfault")
        assert (lost["error"], lost["fields"]) == ("WorkerLost", ["crasher", "SIGSEGV"])
        run.start_daemon()
        run.connect()

    def test_without_a_daemon_nothing_is_promised(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A client that asks while nobody comes back is told so after a moment."""
        host = run.start("polite")
        monkeypatch.setattr("spiral_host.client.GRACE_S", 0.2)
        run.kill_daemon()
        with pytest.raises(NoDaemon):
            host.list_plugins()
        with pytest.raises(NoDaemon):
            Host.connect(run.run_dir)
        monkeypatch.setattr("spiral_host.client.GRACE_S", DEADLINE)
        run.start_daemon()
        assert run.connect().get_service("polite").add(1, 1) == 2
        eventually(lambda: _answers(host))

    def test_a_question_of_a_worker_is_answered_by_the_next(self, run: Run, gated: str) -> None:
        """A plugin that waits for a service goes on waiting, and gets it from the new daemon."""
        host = run.start()
        order = Order(lambda: host.load(gated))
        eventually(lambda: [p.state for p in host.list_plugins()] == ["starting"])
        run.kill_daemon()
        run.start_daemon()
        other = run.connect()
        other.register_service("load_gate", Gate())
        results = order.answer()
        assert isinstance(results, list)
        assert all_ready(results)
        other.register_service("unload_gate", Gate())


def _answers(host: Host) -> bool:
    try:
        return bool(host.status())
    except NoDaemon:
        return False


class TestAdoption:
    def test_everything_is_taken_over(self, run: Run) -> None:
        """The same processes, counts and services; nothing is started again."""
        host = run.start("polite", "relay", "crasher", "eager")
        with pytest.raises(WorkerLost):
            host.get_service("crasher").leave(1)
        host.wait_service("crasher", DEADLINE)
        eventually(lambda: all(p.state == "ready" for p in host.list_plugins()))
        host.set_config("kept", "yes")
        before, node, services = lives(host), host.status()["node_pid"], host.list_services()
        run.kill_daemon()
        run.start_daemon()
        again = run.connect()
        eventually(lambda: all(p.state == "ready" for p in again.list_plugins()))
        assert lives(again) == before
        assert [p.restarts for p in again.list_plugins() if p.id == "crasher"] == [1]
        assert again.status()["node_pid"] == node
        assert again.list_services() == services
        assert again.get_config("kept") == "yes"
        assert again.get_service("relay").call("eager", "found")["value"]["sum"] == 42
        # The client of before lives on, and so do its stubs.
        assert lives(host) == before
        assert all_ready(host.load(plugin("publisher")))

    def test_several_daemons_in_a_row(self, run: Run) -> None:
        """Each takes over from the one before; the workers never notice."""
        host = run.start("polite", "relay")
        before = lives(host)
        for _ in range(3):
            run.kill_daemon()
            run.start_daemon()
            assert lives(run.connect()) == before
        assert host.get_service("relay").call("polite", "add", 1, 2) == {"value": 3}

    def test_a_node_that_takes_its_time_is_waited_for(self, run: Run) -> None:
        """Its workers would end with it: it is not given up as soon as a machine is busy."""
        host = run.start("polite")
        pid, node = host.get("polite").pid, Watch(host.status()["node_pid"])
        node.kill(signal.SIGSTOP)
        run.kill_daemon()
        run.start_daemon()
        has_ended = node.has_ended(4.0)
        node.kill(signal.SIGCONT)
        assert not has_ended
        assert run.connect().get("polite").pid == pid

    def test_a_death_while_no_daemon_was_there(self, run: Run) -> None:
        """The next daemon learns of it, counts it, and starts the plugin again."""
        host = run.start("polite", "crasher")
        before = host.get("crasher")
        run.kill_daemon()
        kill(before.pid or 0)
        run.start_daemon()
        again = run.connect()
        eventually(lambda: again.get("crasher").pid not in {None, before.pid})
        assert again.wait_service("crasher", DEADLINE).pid() == again.get("crasher").pid
        assert again.get("crasher").restarts == before.restarts + 1
        assert again.get("polite").restarts == 0

    def test_a_node_that_died_with_its_daemon(self, run: Run) -> None:
        """What is wanted is on disk: a new daemon starts a new node and every plugin."""
        host = run.start("polite", "eager")
        node = host.status()["node_pid"]
        before = {p.id: p.pid for p in host.list_plugins()}
        run.kill_daemon()
        kill(node)
        run.start_daemon()
        again = run.connect()
        eventually(lambda: all(p.state == "ready" for p in again.list_plugins()))
        after = {p.id: p.pid for p in again.list_plugins()}
        assert list(after) == list(before)
        assert not set(after.values()) & set(before.values())
        assert again.get_service("eager").found()["sum"] == 42


class TestOrders:
    def test_load(self, run: Run, gated: str) -> None:
        """Given to a daemon that is killed, it is answered by the next, and done once."""
        host = run.start()
        loaded: list[PluginEvent] = []
        host.subscribe("PluginLoaded", loaded.append)
        order = Order(lambda: host.load(gated))
        eventually(lambda: [p.state for p in host.list_plugins()] == ["starting"])
        pid = eventually(lambda: host.list_plugins()[0].pid)
        run.kill_daemon()
        run.start_daemon()
        host.register_service("load_gate", Gate())
        results = order.answer()
        assert isinstance(results, list)
        assert all_ready(results)
        assert host.get("gated").pid == pid
        eventually(lambda: loaded)
        assert [event.to_dict()["plugin_id"] for event in loaded] == ["gated"]
        host.register_service("unload_gate", Gate())

    def test_unload(self, run: Run, gated: str) -> None:
        """The plugin leaves once, in its own time, and the client hears of it."""
        host = run.start()
        host.register_service("load_gate", Gate())
        assert all_ready(host.load(gated))
        watch = Watch(host.get("gated").pid or 0)
        order = Order(lambda: host.unload("gated"))
        eventually(lambda: host.get("gated").state == "draining")
        run.kill_daemon()
        run.start_daemon()
        host.register_service("unload_gate", Gate())
        assert order.answer() is None
        assert watch.has_ended()
        assert host.list_plugins() == []

    def test_restart(self, run: Run, gated: str) -> None:
        """One new life, not two and not none; and no crash is counted."""
        host = run.start()
        host.register_service("load_gate", Gate())
        assert all_ready(host.load(gated))
        before = host.get("gated")
        order = Order(lambda: host.restart("gated"))
        eventually(lambda: host.get("gated").state == "draining")
        run.kill_daemon()
        run.start_daemon()
        host.register_service("unload_gate", Gate())
        result = order.answer()
        assert getattr(result, "ok", None), result
        after = host.get("gated")
        assert after.pid not in {None, before.pid}
        assert after.restarts == 0


class TestOneDaemon:
    def test_a_second_daemon_is_refused(self, run: Run) -> None:
        """It ends with one line that names the directory; the first never notices."""
        host = run.start("polite")
        second = run.start_daemon()
        assert second.wait(DEADLINE) == 1
        assert f"a daemon already serves {run.run_dir}" in second.last_words()
        assert host.get_service("polite").add(1, 1) == 2
        assert host.status()["plugins"] == {"ready": 1}

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_signals_stop_everything_in_order(self, run: Run, number: int) -> None:
        """Plugins leave by on_unload, the daemon by 0; no process and no file is left."""
        host = run.start("polite", "eager")
        seen: list[str] = []
        host.subscribe("*", lambda event: seen.append(event.type))
        pids = [p.pid for p in host.list_plugins()]
        watches = [Watch(pid or 0) for pid in (*pids, host.status()["node_pid"])]
        run.daemon.send_signal(number)
        assert run.daemon.wait(DEADLINE) == 0
        assert all(watch.has_ended() for watch in watches)
        assert (run.data_dir / "polite" / "left").exists()
        assert run.files() == []
        assert run.processes() == []
        eventually(lambda: "SystemShutdown" in seen)


OWNER = """
import json, sys
from spiral_host import Host
where = {'run_dir': sys.argv[1], 'data_dir': sys.argv[2]}
host = Host(sys.argv[4:], **where, sandbox=sys.argv[3], best_effort=True)
host.initialize_all()
status = host.status()
pids = [status["pid"], status["node_pid"], *(plugin.pid for plugin in host.list_plugins())]
print(json.dumps(pids), flush=True)
sys.stdin.read()
"""


def own(run: Run) -> "tuple[subprocess.Popen[str], list[Watch]]":
    """Start an application that embeds a host; give it and its host's processes."""
    where = [str(run.run_dir), str(run.data_dir), SANDBOX, plugin("polite"), plugin("relay")]
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER), *where],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    return owner, [Watch(pid) for pid in json.loads(owner.stdout.readline())]


class TestOwner:
    def test_an_embedded_host_ends_with_its_application(self, run: Run) -> None:
        """Killed with SIGKILL it takes daemon, node and workers along, and every file."""
        owner, watches = own(run)
        with owner:
            owner.kill()
            assert all(watch.has_ended() for watch in watches)
        eventually(lambda: not run.files())
        assert (run.data_dir / "polite" / "left").exists()

    def test_even_when_the_daemon_is_killed_just_after(self, run: Run) -> None:
        """The node hears of the application's end while its daemon seems to be there."""
        owner, (daemon, *others) = own(run)
        with owner:
            daemon.kill(signal.SIGSTOP)
            owner.kill()
            owner.wait(DEADLINE)
            daemon.kill()
            assert all(watch.has_ended() for watch in others)
        eventually(lambda: not run.processes())
        run.start().shutdown()

    def test_even_when_the_daemon_was_killed_before(self, run: Run) -> None:
        """The node sees the application's end by itself."""
        owner, (daemon, *others) = own(run)
        with owner:
            daemon.kill()
            assert daemon.has_ended()
            owner.kill()
            assert all(watch.has_ended() for watch in others)
        eventually(lambda: not run.processes())
        # Files of a run that nobody ended lie there until the next one on the directory.
        run.start().shutdown()
