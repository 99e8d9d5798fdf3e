from pathlib import Path
from typing import Any

import pytest

from protocol.events import PluginEvent, SystemInit, SystemShutdown
from protocol.messages import (
    Broken,
    Cause,
    Described,
    EndWorker,
    InitializeAll,
    LoadPlugins,
    Place,
    RestartPlugin,
    ShutDown,
    SpawnWorker,
    UnloadPlugin,
)
from spiral_host import store
from spiral_host.lifecycle import State
from spiral_host.orders import Orders
from spiral_host.policy import Memory
from spiral_host.supervisor import STOP_S
from tests.unit.spiral_host.fakes import LAYERS, Desk, House, manifest

BASE = manifest("base")
USER = manifest("user", {"base": "*"})
LEFT = Cause(kind="exit")
MANIFEST = '[plugin]\nid = "{id}"\nversion = "{version}"\nentry = "m:P"\n'


class Office:
    """A house that takes orders."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.desk = Desk()
        self.remembered: dict[str, Any] = {}
        self.left = 0
        self.orders = self.reopened()

    def reopened(self) -> Orders:
        """Take orders anew, with what the store remembers."""
        house = self.house
        orders = Orders(
            house.registry,
            house.supervisor,
            self.remembered,
            house.outside.write,
            house.outside.publish,
            self._leave,
        )
        house.outside.look_again.append(orders.look_again)
        return orders

    def _leave(self) -> None:
        self.left += 1

    def load(self, *paths: Path, request: str = "r1", desk: Desk | None = None) -> None:
        places = tuple(Place(str(path)) for path in paths)
        self.orders.give((desk or self.desk).asker, LoadPlugins(request, places))

    def unload(self, plugin_id: str, request: str = "u1") -> None:
        self.orders.give(self.desk.asker, UnloadPlugin(request, plugin_id))

    def restart(self, plugin_id: str, request: str = "s1") -> None:
        self.orders.give(self.desk.asker, RestartPlugin(request, plugin_id))

    def rows(self) -> list[tuple[str, str]]:
        """Give id and state of the plugins in the one answer."""
        value = self.desk.value()
        assert isinstance(value, list)
        return [(row["id"], row["state"]) for row in value]


@pytest.fixture
def office(house: House) -> Office:
    return Office(house)


def write_plugin(folder: Path, plugin_id: str, version: str = "1.0.0") -> Path:
    place = folder / plugin_id
    place.mkdir(parents=True, exist_ok=True)
    (place / "plugin.toml").write_text(MANIFEST.format(id=plugin_id, version=version))
    return place


def init_events(house: House) -> list[PluginEvent]:
    return [event for event in house.outside.events if isinstance(event, SystemInit)]


class TestLoad:
    def test_it_is_answered_when_every_plugin_is_settled(
        self, office: Office, tmp_path: Path
    ) -> None:
        """
        One plugin that is ready and one that has failed are one answer, at the later moment.
        """
        write_plugin(tmp_path, "a")
        write_plugin(tmp_path, "b")
        office.load(tmp_path)
        office.house.load("a")
        assert office.desk.replies == []

        office.house.break_("b")

        assert office.rows() == [("a", "ready"), ("b", "quarantined")]

    def test_it_is_written_before_anything_is_started(self, office: Office, tmp_path: Path) -> None:
        """
        A daemon killed now would know what was promised, and it has started nothing yet.
        """
        office.house.outside.is_slow = True
        office.load(write_plugin(tmp_path, "a"))
        assert office.house.node.spawned() == []
        assert len(office.house.outside.statements) > 1

        office.house.outside.write_all()

        assert office.house.node.spawned() == ["a"]

    def test_an_order_given_again_is_carried_out_once(self, office: Office, tmp_path: Path) -> None:
        """
        However often a request is asked, one worker starts, and every question has its answer.
        """
        for _ in range(3):
            office.load(write_plugin(tmp_path, "a"))
        assert office.house.node.spawned() == ["a"]

        office.house.load("a")

        answers = office.desk.replies
        assert len(answers) == 3
        assert all(answer == answers[0] for answer in answers)

    def test_one_given_again_before_it_was_written_waits_for_the_same_end(
        self, office: Office, tmp_path: Path
    ) -> None:
        """
        Between finding and starting a plugin, nobody is told that it was unloaded.
        """
        office.house.outside.is_slow = True
        office.load(write_plugin(tmp_path, "a"))
        office.load(write_plugin(tmp_path, "a"))
        office.house.outside.write_all()
        assert office.desk.replies == []

        office.house.load("a")

        assert office.rows() == [("a", "ready")]

    def test_one_that_an_earlier_daemon_carried_out_only_waits(
        self, office: Office, tmp_path: Path
    ) -> None:
        """
        What the store remembers is answered with how its plugins are now.
        """
        office.load(write_plugin(tmp_path, "a"))
        office.house.load("a")
        office.desk.replies.clear()
        office.house.node.spawned()
        office.orders = office.reopened()

        office.load(tmp_path / "a")

        assert office.rows() == [("a", "ready")]
        assert office.house.node.spawned() == []

    def test_two_orders_for_one_plugin_start_it_once(self, office: Office, tmp_path: Path) -> None:
        """
        The second of two clients that load the same folder at the same time is refused.
        """
        other = Desk()
        office.house.outside.is_slow = True
        office.load(write_plugin(tmp_path, "a"))
        office.load(tmp_path / "a", request="r2", desk=other)
        office.house.outside.write_all()
        office.house.load("a")

        assert office.rows() == [("a", "ready")]
        refused = other.value()
        assert isinstance(refused, list)
        assert "plugin a is loaded already" in refused[0]["reason"]
        assert office.house.node.spawned() == ["a"]

    def test_what_is_loaded_already_stays(self, office: Office, tmp_path: Path) -> None:
        """
        A second load is refused with its cure, and the running plugin does not notice.
        """
        office.load(write_plugin(tmp_path, "a"))
        office.house.load("a")
        office.rows()
        life = office.house.incarnation("a")

        office.load(tmp_path / "a", request="r2")

        value = office.desk.value()
        assert isinstance(value, list)
        assert "say: spiral-host restart a" in value[0]["reason"]
        assert office.house.incarnation("a") == life

    def test_one_that_is_no_plugin_hinders_no_other(self, office: Office, tmp_path: Path) -> None:
        """
        What is refused is named with its reason; the rest is loaded.
        """
        office.load(tmp_path / "nothing", write_plugin(tmp_path, "a"))
        office.house.load("a")

        assert office.rows() == [(None, "refused"), ("a", "ready")]

    def test_a_plugin_that_declares_nothing_is_asked(self, office: Office, tmp_path: Path) -> None:
        """
        A worker says its metadata, ends, and then the plugin is started like any other.
        """
        (tmp_path / "single.py").write_text("class P: ...\n")
        office.load(tmp_path / "single.py")
        office.load(tmp_path / "single.py")
        (spawn,) = office.house.node.take(SpawnWorker)
        office.house.supervisor.confined(spawn.incarnation, LAYERS)
        said = Described({"id": "single", "version": "1"})
        office.house.supervisor.described(spawn.incarnation, said)
        assert office.house.node.spawned() == ["single"]

        office.house.load("single")

        assert office.rows() == [("single", "ready")]

    def test_one_that_cannot_say_what_it_is_is_refused(
        self, office: Office, tmp_path: Path
    ) -> None:
        """
        Its author reads the stage, the error and the traceback.
        """
        (tmp_path / "single.py").write_text("1/0\n")
        office.load(tmp_path / "single.py")
        (spawn,) = office.house.node.take(SpawnWorker)
        broken = Broken(stage="import", error="ZeroDivisionError: x", traceback="Traceback")
        office.house.supervisor.broken(spawn.incarnation, broken)

        assert office.desk.value() == [
            {
                "id": None,
                "path": str(tmp_path / "single.py"),
                "state": "refused",
                "reason": "import raised ZeroDivisionError: x",
                "traceback": "Traceback",
            }
        ]

    def test_one_that_is_unloaded_meanwhile_is_said_to_be(
        self, office: Office, tmp_path: Path
    ) -> None:
        """
        Whoever waits for a plugin that somebody else takes away is not left waiting.
        """
        office.load(write_plugin(tmp_path, "a"))
        office.house.supervisor.stop("a")
        office.house.end("a", LEFT)

        value = office.desk.value()
        assert isinstance(value, list)
        assert value[0]["reason"] == "it was unloaded meanwhile"


class TestUnload:
    def test_it_is_answered_when_the_worker_is_gone(self, office: Office) -> None:
        """
        The plugin drains first; the answer means that nothing of it runs.
        """
        office.house.add_ready(BASE)
        office.unload("base")
        assert office.desk.replies == []

        office.house.end("base", LEFT)

        assert office.desk.value() is None
        assert store.let_go("base") in office.house.outside.statements

    @pytest.mark.parametrize("state", [State.READY, State.STARTING, State.BACKOFF])
    def test_one_that_is_needed_is_refused(self, office: Office, state: State) -> None:
        """
        A plugin stays while another that runs, or will run again, depends on it.
        """
        office.house.add_ready(BASE)
        office.house.add(USER)
        if state is not State.STARTING:
            office.house.load("user")
        if state is State.BACKOFF:
            office.house.end("user")
        assert office.house.states()["user"] is state

        office.unload("base")

        assert "base is needed by user; unload user first" in office.desk.refusal()
        assert office.house.states()["base"] is State.READY

    def test_given_again_it_spares_what_was_loaded_since(self, office: Office) -> None:
        """
        Whoever asks again hears that it is gone; what bears its name now was not meant.
        """
        office.remembered["u1"] = {"id": "base"}
        office.house.add_ready(BASE)
        office.house.outside.statements.clear()
        office.unload("base")

        assert office.desk.value() is None
        assert office.house.states() == {"base": State.READY}
        assert office.house.outside.statements == []

    def test_nobody_starts_on_one_that_is_to_go(self, office: Office) -> None:
        """
        Its last user had no worker when it was asked; it gets none while the order is written.
        """
        office.house.add(BASE, USER)
        office.house.outside.is_slow = True
        office.unload("base")
        office.house.load("base")
        assert office.house.states()["user"] is State.DECLARED

        office.house.outside.write_all()
        office.house.end("base", LEFT)
        assert office.house.states() == {"user": State.BLOCKED}

    def test_one_whose_user_has_failed_may_go(self, office: Office) -> None:
        """
        A plugin in quarantine needs nothing.
        """
        office.house.add_ready(BASE)
        office.house.add(USER)
        office.house.confine("user")
        office.house.break_("user")

        office.unload("base")
        office.house.end("base", LEFT)

        assert office.desk.value() is None

    def test_an_unknown_plugin_is_refused(self, office: Office) -> None:
        """
        There is nothing to do, and the caller learns what there is.
        """
        office.unload("ghost")

        assert "no plugin 'ghost' is loaded; loaded: none" in office.desk.refusal()

    def test_given_again_it_waits_for_the_same_end(self, office: Office) -> None:
        """
        The second time it is neither refused as unknown nor carried out on a newer plugin.
        """
        office.house.add_ready(BASE)
        office.unload("base")
        office.unload("base")
        office.house.end("base", LEFT)
        office.unload("base")

        assert [getattr(reply, "value", reply) for reply in office.desk.replies] == [None] * 3


class TestRestart:
    def test_it_is_answered_when_the_plugin_is_back(self, office: Office) -> None:
        """
        The answer says how the plugin is in its new life.
        """
        office.house.add_ready(BASE)
        office.restart("base")
        office.house.end("base", LEFT)
        assert office.desk.replies == []

        office.house.load("base")

        value = office.desk.value()
        assert isinstance(value, dict)
        assert (value["id"], value["state"]) == ("base", "ready")

    def test_given_again_it_is_carried_out_once(self, office: Office) -> None:
        """
        A client that asks again does not restart what has just been restarted.
        """
        office.house.add_ready(BASE)
        office.restart("base")
        office.house.end("base", LEFT)
        office.house.load("base")
        life = office.house.incarnation("base")

        office.restart("base")

        assert len(office.desk.replies) == 2
        assert (office.house.incarnation("base"), office.house.states()["base"]) == (
            life,
            State.READY,
        )

    def test_it_forgives(self, office: Office) -> None:
        """
        A person's restart brings back what was in quarantine.
        """
        office.house.add(BASE)
        office.house.confine("base")
        office.house.break_("base")

        office.restart("base")

        assert office.house.states() == {"base": State.STARTING}

    def test_the_next_daemon_forgives_too(self, office: Office) -> None:
        """
        One that is killed before it can restart what has no worker leaves no quarantine behind.
        """
        office.house.add(BASE)
        office.house.confine("base")
        office.house.break_("base")
        office.house.outside.is_slow = True
        office.restart("base")

        forgiven = Memory(last_crash=office.house.plugin("base").lifecycle.memory.last_crash)
        assert store.keep_memory("base", forgiven) in office.house.outside.statements

    def test_a_blocked_plugin_is_answered_too(self, office: Office) -> None:
        """
        What still cannot start is settled, and its reason is the answer.
        """
        office.house.add(USER)

        office.restart("user")

        value = office.desk.value()
        assert isinstance(value, dict)
        assert value["state"] == "blocked"
        assert "depends on base" in value["reason"]

    def test_it_reads_the_manifest_again(self, office: Office, tmp_path: Path) -> None:
        """
        A new version that lies at the plugin's place is the one that starts.
        """
        office.load(write_plugin(tmp_path, "a"))
        office.house.load("a")
        write_plugin(tmp_path, "a", version="2.0.0")

        office.restart("a")

        changed = office.house.plugin("a").manifest
        assert changed.metadata.version == "2.0.0"
        assert store.want(changed) in office.house.outside.statements

    @pytest.mark.parametrize("text", ["nonsense [", MANIFEST.format(id="other", version="1")])
    def test_a_place_that_is_another_plugin_now_changes_nothing(
        self, office: Office, tmp_path: Path, text: str
    ) -> None:
        """
        What cannot be read, or has another id, is not put in the plugin's place.
        """
        office.load(write_plugin(tmp_path, "a"))
        office.house.load("a")
        (tmp_path / "a" / "plugin.toml").write_text(text)

        office.restart("a")

        assert office.house.plugin("a").manifest.metadata.version == "1.0.0"

    def test_an_unknown_plugin_is_refused(self, office: Office) -> None:
        """
        There is nothing to restart.
        """
        office.restart("ghost")

        assert "no plugin 'ghost'" in office.desk.refusal()


class TestInitialize:
    def test_it_waits_for_everybody_and_says_so_once(self, office: Office) -> None:
        """
        SystemInit is published when the last plugin is settled, once however often it is asked.
        """
        office.house.add(BASE, manifest("other"))
        order = InitializeAll("i1")
        office.orders.give(office.desk.asker, order)
        office.orders.give(office.desk.asker, order)
        office.house.load("base")
        assert init_events(office.house) == []

        office.house.load("other")
        office.orders.give(office.desk.asker, order)

        assert len(init_events(office.house)) == 1
        assert len(office.desk.replies) == 3

    def test_with_no_plugin_it_is_over_at_once(self, office: Office) -> None:
        """
        An empty host is initialized.
        """
        office.orders.give(office.desk.asker, InitializeAll("i1"))

        assert office.desk.value() is None
        assert len(init_events(office.house)) == 1


class TestShutDown:
    def test_plugins_stop_in_reverse_order(self, office: Office) -> None:
        """
        Users leave before what they use, and the daemon leaves last.
        """
        top = manifest("top", {"user": "*"})
        office.house.add_ready(BASE, USER, top)
        office.orders.give(office.desk.asker, ShutDown("d1"))
        assert office.desk.value() is None

        for leaving in ("top", "user", "base"):
            draining = [name for name, s in office.house.states().items() if s is State.DRAINING]
            assert draining == [leaving]
            assert office.left == 0
            office.house.end(leaving, LEFT)

        assert office.left == 1

    def test_those_that_need_each_other_not_stop_together(self, office: Office) -> None:
        """
        Independent plugins drain at the same time.
        """
        office.house.add_ready(BASE, manifest("other"))
        office.orders.shut_down()

        assert set(office.house.states().values()) == {State.DRAINING}

    def test_it_is_announced_before_anything_stops(self, office: Office) -> None:
        """
        SystemShutdown finds every plugin still there, and it is said once.
        """
        office.house.add_ready(BASE)
        office.house.outside.events.clear()
        office.orders.shut_down()
        office.orders.shut_down()

        assert office.house.outside.events == [SystemShutdown()]

    def test_what_does_not_run_is_no_hindrance(self, office: Office) -> None:
        """
        Blocked, broken and waiting plugins are forgotten at once.
        """
        office.house.add(manifest("blocked", {"ghost": "*"}), BASE, manifest("crashed"))
        office.house.confine("base")
        office.house.break_("base")
        office.house.load("crashed")
        office.house.end("crashed")

        office.orders.shut_down()

        assert office.house.registry.plugins == {}
        assert office.left == 1

    def test_it_is_written_that_nobody_is_wanted(self, office: Office) -> None:
        """
        A daemon killed while it stops is followed by one that goes on stopping.
        """
        office.house.add_ready(BASE, USER)
        office.orders.shut_down()

        assert {store.let_go("base"), store.let_go("user")} <= set(office.house.outside.statements)

    def test_nothing_else_is_taken_on(self, office: Office, tmp_path: Path) -> None:
        """
        An order to a daemon that stops is refused; another order to stop is answered.
        """
        office.house.add_ready(BASE)
        office.orders.shut_down()
        office.load(write_plugin(tmp_path, "a"))
        assert "the daemon is stopping" in office.desk.refusal()

        office.orders.give(office.desk.asker, ShutDown("d2"))

        assert office.desk.value() is None

    def test_what_is_found_too_late_is_not_started(self, office: Office, tmp_path: Path) -> None:
        """
        A load that was being written down when the stop came starts nothing, and is answered.
        """
        office.house.add_ready(BASE)
        office.house.outside.is_slow = True
        office.load(write_plugin(tmp_path, "a"))
        office.orders.shut_down()
        office.house.outside.write_all()
        assert office.house.states() == {"base": State.DRAINING}
        assert "the daemon is stopping" in office.desk.refusal()
        assert office.house.outside.statements[-1] == store.forget("a")

        office.house.end("base", LEFT)
        assert office.left == 1

    def test_what_is_described_too_late_is_not_even_wanted(
        self, office: Office, tmp_path: Path
    ) -> None:
        """
        Its metadata comes after the stop was ordered.
        """
        (tmp_path / "a.py").write_text("")
        office.house.add_ready(BASE)
        office.load(tmp_path / "a.py")
        (spawn,) = (s for s in office.house.node.take(SpawnWorker) if s.plugin_id != "base")
        office.orders.shut_down()
        statements = list(office.house.outside.statements)
        described = Described({"id": "a", "version": "1.0.0"})
        office.house.supervisor.described(spawn.incarnation, described)

        assert office.house.outside.statements == statements
        assert "the daemon is stopping" in office.desk.refusal()

    def test_a_circle_does_not_keep_it(self, office: Office, tmp_path: Path) -> None:
        """
        A manifest that changed while its plugin ran may close one; then nobody can be last.
        """
        place = write_plugin(tmp_path, "base")
        user = manifest("user", {"base": "*"})
        office.house.add_ready(manifest("base", path=str(place)), user)
        with (place / "plugin.toml").open("a") as file:
            file.write('[plugin.dependencies]\nuser = "*"\n')
        office.restart("base")
        office.orders.shut_down()
        for name in ("base", "user"):
            office.house.end(name, LEFT)

        assert office.left == 1

    def test_what_takes_too_long_ends_for_good(self, office: Office) -> None:
        """
        Once the time for a stop is over what it ended is not started again.
        """
        office.house.add_ready(BASE, USER)
        office.orders.shut_down()
        office.house.node.take(SpawnWorker)
        office.house.reactor.pass_time(STOP_S)
        base = office.house.incarnation("base")
        assert base in {end.incarnation for end in office.house.node.take(EndWorker)}
        office.house.end("base", Cause(kind="signal", code=9))
        office.house.reactor.pass_time(0)
        office.house.end("user", Cause(kind="signal", code=9))

        assert office.left == 1
        assert office.house.node.take(SpawnWorker) == []

    def test_a_lost_node_does_not_keep_it(self, office: Office) -> None:
        """
        Workers that are gone with their node have stopped.
        """
        office.house.add_ready(BASE, USER)
        office.orders.shut_down()
        office.house.supervisor.node_lost()

        assert office.left == 1


class TestLoadFirst:
    def test_what_is_not_ready_is_said(self, office: Office, tmp_path: Path) -> None:
        """
        The operator reads on the daemon's own output what did not come up, and why.
        """
        said: list[tuple[str, str]] = []
        write_plugin(tmp_path, "good")
        write_plugin(tmp_path, "bad")
        place = Place(str(tmp_path))
        office.orders.load_first("daemon:1", (place,), lambda *words: said.append(words))
        office.house.load("good")
        office.house.confine("bad")
        office.house.break_("bad")

        assert said == [("bad: quarantined: on_load raised ValueError: no", "Traceback ...")]
        assert len(init_events(office.house)) == 1

    def test_what_another_daemon_has_loaded_is_no_failure(
        self, office: Office, tmp_path: Path
    ) -> None:
        """
        A daemon that takes over finds its plugins there already and does not complain.
        """
        office.load(write_plugin(tmp_path, "a"))
        office.house.load("a")
        said: list[tuple[str, str]] = []

        places = (Place(str(tmp_path / "a")),)
        office.orders.load_first("daemon:2", places, lambda *words: said.append(words))

        assert said == []
