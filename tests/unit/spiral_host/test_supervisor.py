from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.errors import UsageError
from protocol.messages import (
    Broken,
    Cause,
    Described,
    DescribePlugin,
    EndWorker,
    Exited,
    ExitSeen,
    LoadPlugin,
    PluginSource,
    SpawnFailed,
    SpawnWorker,
    StopPlugin,
    WorkerReport,
)
from protocol.reactor import Reactor
from spiral_host.lifecycle import State
from spiral_host.operator import Operator
from spiral_host.policy import Memory
from spiral_host.registry import Offered, Registry
from spiral_host.store import Wanted
from spiral_host.supervisor import Supervisor, check_request
from spiral_host.worker_orders import WorkerOrders
from tests.unit.spiral_host.parts import FakeNode, FakeOutside, manifest, permits

CRASH = Cause(kind="signal", code=11)


class House:
    """A supervisor and everything around it."""

    def __init__(self) -> None:
        self.registry, self.node, self.outside = Registry(), FakeNode(), FakeOutside()
        self.reactor = Reactor()
        workers = WorkerOrders(self.node.tell_node, Path("/data"), Operator(), "standard")
        self.supervisor = Supervisor(
            self.registry, self.node, self.outside, self.reactor, workers, permits()
        )
        self.supervisor.epoch = 5

    def state(self, name: str) -> State:
        return self.registry.plugins[name].state

    def life(self, name: str) -> int:
        return self.registry.plugins[name].incarnation

    def bring_up(self, *names: str) -> None:
        for name in names:
            self.supervisor.spawned(self.life(name), 1000)
            self.supervisor.confined(self.life(name), ("landlock",))
            self.supervisor.loaded(self.life(name))

    def crash(self, name: str) -> None:
        self.supervisor.exited(Exited(incarnation=self.life(name), plugin_id=name, cause=CRASH))

    def events(self) -> list[str]:
        return [f"{event.type} {event.fields()['plugin_id']}" for event in self.outside.published]


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.reactor.close()


class TestStart:
    def test_a_plugin_is_told_to_load_once_it_is_confined(self, house: House) -> None:
        """
        No plugin code is named to a process before it has said hello from inside its cage.
        """
        house.supervisor.add([manifest("a")])
        (spawn,) = house.node.all_of(SpawnWorker)
        assert (spawn.plugin_id, spawn.data_dir) == ("a", "/data/a")
        assert house.node.relayed() == []

        house.supervisor.confined(spawn.incarnation, ("landlock",))
        (order,) = house.node.relayed()

        assert isinstance(order, LoadPlugin)
        assert order.metadata["id"] == "a"
        assert house.registry.plugins["a"].layers == ("landlock",)

    def test_what_is_ready_is_published_once(self, house: House) -> None:
        """
        A worker that says again that it has loaded is believed once.
        """
        house.supervisor.add([manifest("a")])
        house.bring_up("a")
        house.supervisor.loaded(house.life("a"))

        assert house.events() == ["PluginLoaded a"]

    def test_plugins_start_in_order_of_dependency(self, house: House) -> None:
        """
        A plugin starts when what it needs is ready, and not before.
        """
        house.supervisor.add([manifest("top", "base"), manifest("base")])
        assert [spawn.plugin_id for spawn in house.node.all_of(SpawnWorker)] == ["base"]

        house.bring_up("base")

        assert house.state("top") is State.STARTING

    def test_a_plugin_that_cannot_start_says_why(self, house: House) -> None:
        """
        A missing dependency blocks, and its arrival unblocks.
        """
        house.supervisor.add([manifest("top", "base")])
        assert house.state("top") is State.BLOCKED
        assert "load base first" in house.registry.plugins["top"].lifecycle.reason

        house.supervisor.add([manifest("base")])
        house.bring_up("base")

        assert house.state("top") is State.STARTING

    def test_one_broken_plugin_blocks_only_those_who_need_it(self, house: House) -> None:
        """
        A plugin whose on_load raised is quarantined; what depends on it waits for a person.
        """
        house.supervisor.add([manifest("base"), manifest("top", "base"), manifest("other")])
        broken = Broken(stage="on_load", error="ValueError: no", traceback="Traceback")
        house.supervisor.broken(house.life("base"), broken)
        house.crash("base")
        house.bring_up("other")

        assert house.state("base") is State.QUARANTINED
        assert house.registry.plugins["base"].lifecycle.reason == "on_load raised ValueError: no"
        assert house.state("top") is State.BLOCKED
        assert house.state("other") is State.READY

    def test_a_worker_that_could_not_be_made_is_tried_again(self, house: House) -> None:
        """
        A failed spawn counts as a crash.
        """
        house.supervisor.add([manifest("a")])
        house.supervisor.spawn_failed(SpawnFailed(house.life("a"), "no memory"))

        assert house.state("a") is State.BACKOFF
        assert house.registry.plugins["a"].lifecycle.reason == "could not be started: no memory"

    def test_a_worker_that_cannot_be_made_here_is_not(self, house: House) -> None:
        """
        What the machine does not have it will not have in a second: the reason stays.
        """
        house.supervisor.add([manifest("a")])
        house.supervisor.spawn_failed(SpawnFailed(house.life("a"), "gpu: none", is_final=True))

        assert house.state("a") is State.QUARANTINED
        assert house.registry.plugins["a"].lifecycle.reason == "could not be started: gpu: none"


class TestCrash:
    def test_a_crashed_plugin_is_started_again_in_a_new_life(self, house: House) -> None:
        """
        The first restart comes at once, is counted on disk, and is a new incarnation.
        """
        house.supervisor.add([manifest("a")])
        house.bring_up("a")
        before = house.life("a")
        house.registry.offer(Offered("math", ("add",), before, "a"))

        house.crash("a")
        assert house.registry.provider("math") is None
        house.reactor.turn()

        assert house.state("a") is State.STARTING
        assert house.life("a") > before
        assert house.registry.plugins["a"].lifecycle.restarts == 1
        assert any("memory" in statement for statement, _ in house.outside.written)

    def test_a_death_is_acknowledged_however_often_it_is_told(self, house: House) -> None:
        """
        The node repeats a death until it is heard; it counts once.
        """
        house.supervisor.add([manifest("a")])
        house.bring_up("a")
        death = Exited(incarnation=house.life("a"), plugin_id="a", cause=CRASH)
        house.supervisor.exited(death)
        house.supervisor.exited(death)

        assert house.node.all_of(ExitSeen) == [ExitSeen(death.incarnation)] * 2
        assert house.state("a") is State.BACKOFF

    def test_the_nodes_end_is_every_workers_end(self, house: House) -> None:
        """
        Without a node there are no workers; each counts as crashed once.
        """
        answers: list[object] = []
        house.supervisor.add([manifest("a"), manifest("b")])
        house.supervisor.describe(PluginSource(root="", entry="m:C"), answers.append)
        house.bring_up("a")

        house.supervisor.node_lost()

        assert {house.state("a"), house.state("b")} == {State.BACKOFF}
        (answer,) = answers
        assert isinstance(answer, Broken)

    def test_who_breaks_the_protocol_is_ended(self, house: House) -> None:
        """
        A worker that lies is killed, with the reason as its cause of death.
        """
        house.supervisor.violated(7, "nonsense")

        assert house.node.told == [EndWorker(7, "protocol violation: nonsense", force=True)]


class TestStop:
    def test_a_stopped_plugin_is_forgotten(self, house: House) -> None:
        """
        Its services go at once, the plugin once its worker is gone; then its end is published.
        """
        house.supervisor.add([manifest("a")])
        house.bring_up("a")
        house.registry.offer(Offered("math", ("add",), house.life("a"), "a"))

        house.supervisor.stop("a")
        assert house.registry.provider("math") is None
        assert isinstance(house.node.relayed()[-1], StopPlugin)
        house.crash("a")

        assert house.registry.plugins == {}
        assert house.events() == ["PluginLoaded a", "PluginUnloaded a"]

    def test_what_was_never_ready_is_not_missed(self, house: House) -> None:
        """
        Nobody is told of the end of a plugin that nobody was told of.
        """
        house.supervisor.add([manifest("a", "missing")])
        house.supervisor.stop("a")

        assert house.registry.plugins == {}
        assert house.events() == []

    def test_a_restart_does_not_bring_back_what_is_to_go(self, house: House) -> None:
        """
        A restart of a plugin that is being unloaded leaves it to its unload.
        """
        house.supervisor.add([manifest("a")])
        house.bring_up("a")
        house.supervisor.stop("a")
        house.supervisor.restart("a")
        house.crash("a")

        assert house.registry.plugins == {}

    def test_a_restart_is_a_new_life(self, house: House) -> None:
        """
        A restarted plugin stops, and starts without anybody's crash.
        """
        house.supervisor.add([manifest("a")])
        house.bring_up("a")
        house.supervisor.restart("a")
        house.crash("a")

        assert house.state("a") is State.STARTING
        assert house.registry.plugins["a"].lifecycle.restarts == 0

    def test_shutdown_goes_from_the_top(self, house: House) -> None:
        """
        Each step of a shutdown stops those whom nobody needs any more.
        """
        house.supervisor.add([manifest("base"), manifest("top", "base")])
        house.bring_up("base")
        house.bring_up("top")

        house.supervisor.stop_unneeded()
        assert (house.state("base"), house.state("top")) == (State.READY, State.DRAINING)
        house.crash("top")
        house.supervisor.stop_unneeded()

        assert house.state("base") is State.DRAINING


class TestDescribe:
    def test_a_worker_is_asked_for_the_metadata(self, house: House) -> None:
        """
        A plugin that declares nothing is imported by a worker that says what it found.
        """
        answers: list[object] = []
        source = PluginSource(root="/p", entry="m:C")
        house.supervisor.describe(source, answers.append)
        (spawn,) = house.node.all_of(SpawnWorker)
        house.supervisor.confined(spawn.incarnation, ())
        described = Described({"id": "a"})
        house.supervisor.described(spawn.incarnation, described)
        house.supervisor.described(spawn.incarnation, described)

        assert house.node.relayed() == [DescribePlugin(source=source)]
        assert answers == [described]

    @pytest.mark.parametrize("how", ["exited", "spawn_failed", "broken"])
    def test_every_question_has_an_answer(self, house: House, how: str) -> None:
        """
        A worker that dies, cannot be made or raises while it is asked answers all the same.
        """
        answers: list[object] = []
        house.supervisor.describe(PluginSource(root="", entry="m:C"), answers.append)
        life = house.node.all_of(SpawnWorker)[0].incarnation
        if how == "exited":
            house.supervisor.exited(Exited(incarnation=life, plugin_id="x", cause=CRASH))
        elif how == "spawn_failed":
            house.supervisor.spawn_failed(SpawnFailed(life, "no memory"))
        else:
            house.supervisor.broken(life, Broken(stage="import", error="x", traceback=""))

        (answer,) = answers
        assert isinstance(answer, Broken)


def report(name: str, life: int, *, confined: bool = True) -> WorkerReport:
    return WorkerReport(
        incarnation=life,
        plugin_id=name,
        pid=1000,
        start_time=1,
        confined=confined,
        layers=("landlock",) if confined else (),
    )


class TestAdoption:
    def test_a_living_worker_is_taken_over(self, house: House) -> None:
        """
        A worker of an earlier daemon goes on in its life, and is asked to load if it has not.
        """
        house.supervisor.remember(Wanted(manifest("a"), Memory(restarts=2), 0, leaving=False))
        kept = house.supervisor.adopt([report("a", 77)])
        house.supervisor.resume(kept)

        assert [one.incarnation for one in kept] == [77]
        assert (house.life("a"), house.state("a")) == (77, State.STARTING)
        assert house.node.all_of(SpawnWorker) == []
        assert isinstance(house.node.relayed()[0], LoadPlugin)
        assert house.registry.plugins["a"].lifecycle.restarts == 2

    def test_who_is_wanted_by_nobody_is_ended(self, house: House) -> None:
        """
        A worker of a plugin that is unknown, or lives already, does not go on.
        """
        house.supervisor.add([manifest("a")])

        assert house.supervisor.adopt([report("a", 77), report("b", 78)]) == []
        assert [end.incarnation for end in house.node.all_of(EndWorker)] == [77, 78]

    def test_who_is_missing_is_started_again(self, house: House) -> None:
        """
        A plugin without a living worker starts; one that was to leave is gone.
        """
        house.supervisor.remember(Wanted(manifest("a"), Memory(), 0, leaving=False))
        house.supervisor.remember(Wanted(manifest("b"), Memory(), 0, leaving=True))
        house.supervisor.adopt([])
        house.supervisor.resume([])

        assert house.state("a") is State.STARTING
        assert "b" not in house.registry.plugins

    def test_an_order_that_nobody_heard_is_given_again(self, house: House) -> None:
        """
        A worker that was ordered while the node was away is ordered once more, in the same life.
        """
        house.supervisor.add([manifest("a")])
        house.supervisor.resume([])

        first, second = house.node.all_of(SpawnWorker)
        assert first == second

    def test_a_worker_that_was_ready_and_is_missing_has_crashed(self, house: House) -> None:
        """
        A daemon that meets its node again counts who was lost meanwhile.
        """
        house.supervisor.add([manifest("a")])
        house.bring_up("a")
        house.supervisor.resume([])

        assert house.state("a") is State.BACKOFF


class TestCheckRequest:
    def test_an_unknown_plugin_is_told_what_is_loaded(self, house: House) -> None:
        """
        A mistyped id is answered with the ids that there are.
        """
        house.supervisor.add([manifest("a")])

        assert check_request(house.registry, "a").id == "a"
        with pytest.raises(UsageError, match="no plugin 'b' is loaded; loaded: a"):
            check_request(house.registry, "b")
        with pytest.raises(UsageError, match="loaded: none"):
            check_request(Registry(), "b")
