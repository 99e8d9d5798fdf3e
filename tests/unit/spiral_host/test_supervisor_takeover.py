"""What the supervisor does when its node, or the daemon before it, is gone."""

import pytest

from protocol.events import PluginLoaded, ServiceDown, ServiceUp
from protocol.messages import (
    Broken,
    Cause,
    Described,
    DescribePlugin,
    EndWorker,
    Exited,
    ExitSeen,
    LoadPlugin,
    Permitted,
    PluginSource,
    SpawnWorker,
    StopPlugin,
)
from protocol.permissions import EVERYONE, NOTHING, Permissions, parse_permissions
from spiral_host import store
from spiral_host.lifecycle import State
from spiral_host.policy import Memory, Policy
from spiral_host.registry import Offered
from spiral_host.store import Wanted
from spiral_host.supervision import OnLoss, Supervision
from spiral_host.takeover import Restarting
from tests.unit.spiral_host.fakes import EPOCH, LAYERS, SEGV, House, manifest

BASE = manifest("base")
USER = manifest("user", {"base": ">=1.0"})
LEFT = Cause(kind="exit")
EARLIER = (EPOCH - 1) << 32 | 5
POLICY = Policy()
SOURCE = PluginSource(root="/plugins", entry="single.py")


def remember(house: House, memory: Memory = Memory(), *, leaving: bool = False) -> None:
    house.supervisor.remember(Wanted(BASE, memory, 0, leaving))


def greet(house: House, *living: int, confined: bool = True) -> None:
    """The node greets: these workers of the base plugin live."""
    reports = [house.report("base", life, confined=confined) for life in living]
    kept = house.supervisor.adopt(reports)
    house.supervisor.resume(kept)


def services(house: House) -> list[ServiceUp | ServiceDown]:
    """Give what was said of services."""
    return [event for event in house.outside.events if isinstance(event, ServiceUp | ServiceDown)]


class TestNodeLost:
    def test_every_worker_is_lost_and_starts_again(self, house: House) -> None:
        """
        Each plugin counts a crash and begins another life.
        """
        house.add_ready(BASE, manifest("other"))
        house.node.spawned()

        house.supervisor.node_lost()
        house.reactor.pass_time(0)

        assert house.node.spawned() == ["base", "other"]
        assert {p.lifecycle.restarts for p in house.registry.plugins.values()} == {1}

    def test_everybody_is_looked_at_once_for_all_of_them(self, house: House) -> None:
        """
        A thousand workers that are lost together are one thing that has happened.
        """
        house.add_ready(*(manifest(f"p{number}") for number in range(20)))
        looks: list[int] = []
        house.outside.look_again.append(lambda: looks.append(1))
        house.supervisor.node_lost()

        assert len(looks) == 1

    def test_settled_plugins_do_not_notice(self, house: House) -> None:
        """
        What had no worker has lost none.
        """
        house.add(USER)
        house.supervisor.node_lost()

        assert house.states() == {"user": State.BLOCKED}

    def test_a_leaving_plugin_has_left(self, house: House) -> None:
        """
        A plugin that was draining is gone with the node, and forgotten.
        """
        house.add_ready(BASE)
        house.supervisor.stop("base")

        house.supervisor.node_lost()

        assert house.registry.plugins == {}

    def test_who_left_with_the_node_is_not_asked_to_leave_again(self, house: House) -> None:
        """
        A plugin that was leaving when its node died is forgotten when the next one comes.
        """
        house.add_ready(BASE, manifest("other"))
        house.supervisor.stop("base")

        greet(house)

        assert house.states() == {"other": State.BACKOFF}

    def test_the_time_to_start_begins_with_the_order_that_is_heard(self, house: House) -> None:
        """
        However long there was no node: a plugin is not ended for that.
        """
        house.node.deaf = True
        house.add(BASE)
        house.reactor.pass_time(POLICY.start - 1.0)
        house.node.deaf = False
        greet(house)

        house.reactor.pass_time(POLICY.start - 1.0)
        assert house.node.take(EndWorker) == []
        house.reactor.pass_time(1.0)
        assert len(house.node.take(EndWorker)) == 1

    def test_orders_that_nobody_heard_are_given_again(self, house: House) -> None:
        """
        A spawn told while no node was there is told again, for the same life, when one comes.
        """
        house.node.deaf = True
        house.add(BASE)
        life = house.incarnation("base")
        house.node.deaf = False

        greet(house)

        assert [spawn.incarnation for spawn in house.node.take(SpawnWorker)] == [life]
        assert house.plugin("base").lifecycle.restarts == 0


def missed(house: House, life: int) -> None:
    """The node tells of an end that no daemon has acknowledged."""
    house.supervisor.exited(Exited(incarnation=life, plugin_id="base", cause=SEGV))


class TestRestarting:
    @pytest.mark.parametrize(("counted", "state"), [(7, State.STARTING), (8, State.QUARANTINED)])
    def test_a_restart_of_what_had_no_worker_is_done_once(
        self, house: House, counted: int, state: State
    ) -> None:
        """
        Ordered before the daemon was killed: done, unless the plugin has had another end since.
        """
        remember(house, Memory(quarantine="crashed", counted=counted))
        house.supervisor.restarting = [Restarting("base", 0, 7)]
        greet(house)

        assert house.states() == {"base": state}


class TestMissed:
    def test_an_end_is_counted_once(self, house: House) -> None:
        """
        The daemon that was killed had counted it, and not yet said so to the node.
        """
        remember(house, Memory(restarts=1, crashes=2.0, counted=EARLIER))
        missed(house, EARLIER)
        greet(house)

        assert house.plugin("base").lifecycle.memory.crashes == 2.0
        assert house.node.spawned() == ["base"]

    def test_an_end_behind_which_it_was_started_again_is_counted_too(self, house: House) -> None:
        """
        The daemon that was killed had acted on it, and not yet written it down.
        """
        remember(house, Memory(crashes=2.0, counted=EARLIER - 1))
        kept = house.supervisor.adopt([house.report("base", EARLIER + 1)])
        missed(house, EARLIER)
        missed(house, EARLIER)
        house.supervisor.resume(kept)

        assert house.plugin("base").lifecycle.memory.crashes == 3.0
        assert house.incarnation("base") == EARLIER + 1

    def test_each_of_several_ends_is_counted(self, house: House) -> None:
        """
        The last of them may have been the one too many.
        """
        remember(house, Memory(crashes=3.5))
        missed(house, EARLIER)
        assert house.states() == {"base": State.BACKOFF}
        missed(house, EARLIER + 1)

        assert house.plugin("base").lifecycle.memory.crashes == 5.5
        assert house.states() == {"base": State.QUARANTINED}

    def test_an_end_that_was_planned_is_not_counted(self, house: House) -> None:
        """
        It had been asked to leave; it starts again, and nothing is held against it.
        """
        remember(house, Memory(asked=EARLIER))
        missed(house, EARLIER)
        greet(house)

        assert house.plugin("base").lifecycle.memory.crashes == 0.0
        assert house.node.spawned() == ["base"]
        assert house.outside.deaths == []

    def test_a_life_that_had_come_up_heals(self, house: House) -> None:
        """
        How long it had been up nobody knows better than since the crash before.
        """
        memory = Memory(crashes=4.0, last_crash=house.clock.now - 60.0)
        house.supervisor.remember(Wanted(BASE, memory, EARLIER, leaving=False))
        missed(house, EARLIER)

        assert house.plugin("base").lifecycle.memory.crashes == 3.0
        assert house.outside.deaths[0].state == "ready"


class TestAdopt:
    def test_a_living_worker_that_is_wanted_is_kept(self, house: House) -> None:
        """
        It goes on with its life, its process and its count of restarts; nothing is started.
        """
        remember(house, Memory(restarts=2))
        kept = house.supervisor.adopt([house.report("base", EARLIER)])
        house.supervisor.loaded(EARLIER)
        house.supervisor.resume(kept)

        base = house.plugin("base")
        assert (base.state, base.incarnation, base.pid) == (State.READY, EARLIER, 77)
        assert base.lifecycle.restarts == 2
        assert house.node.told == []

    @pytest.mark.parametrize(("announced", "news"), [(EARLIER, []), (0, [PluginLoaded("base")])])
    def test_a_life_is_announced_once(
        self, house: House, announced: int, news: list[PluginLoaded]
    ) -> None:
        """
        A daemon that takes a ready plugin over says so only when the last one could not.
        """
        house.supervisor.remember(Wanted(BASE, Memory(), announced, leaving=False))
        house.supervisor.adopt([house.report("base", EARLIER)])
        house.supervisor.loaded(EARLIER)

        assert house.outside.events == news

    def test_it_is_held_to_what_it_was_started_with(self, house: House) -> None:
        """
        Its node says what that is; less than is in force now is no reason to end it.
        """
        remember(house)
        kept = house.supervisor.adopt([house.report("base", EARLIER)])
        house.supervisor.permitted(Permitted(EARLIER, {"services": ["math"]}))
        house.supervisor.loaded(EARLIER)
        house.supervisor.resume(kept)

        assert house.plugin("base").permissions == Permissions(services=("math",))
        assert house.node.told == []

    def test_with_more_than_is_in_force_it_leaves_in_order_and_starts_anew(
        self, house: House
    ) -> None:
        """
        Its grant was narrowed while there was no daemon: not blocked, but with less.
        """
        remember(house)
        kept = house.supervisor.adopt([house.report("base", EARLIER)])
        started_with = {**EVERYONE.to_wire(), "read": ["/srv"]}
        house.supervisor.permitted(Permitted(EARLIER, started_with))
        assert house.plugin("base").permissions == parse_permissions(started_with)
        house.supervisor.loaded(EARLIER)
        house.supervisor.resume(kept)

        assert house.node.relayed() == [(EARLIER, StopPlugin())]
        house.node.told.clear()
        house.end("base", LEFT)
        (spawn,) = house.node.take(SpawnWorker)
        assert spawn.permissions == EVERYONE.to_wire()

    def test_a_life_that_is_over_permits_nothing(self, house: House) -> None:
        """
        The next one is started with what is in force then.
        """
        house.add_ready(BASE)
        assert house.plugin("base").permissions == EVERYONE
        house.end("base")

        assert house.plugin("base").permissions == NOTHING

    def test_of_two_workers_of_one_plugin_one_is_ended(self, house: House) -> None:
        """
        A plugin has one life at a time.
        """
        remember(house)
        greet(house, EARLIER, EARLIER + 1)

        assert house.incarnation("base") == EARLIER
        assert house.node.take(EndWorker) == [EndWorker(EARLIER + 1, "nobody wants it", True)]

    def test_one_that_was_not_told_to_load_is_told(self, house: House) -> None:
        """
        The last daemon may have died between the confinement and its order.
        """
        remember(house)
        greet(house, EARLIER)

        ((incarnation, order),) = house.node.relayed()
        assert incarnation == EARLIER
        assert isinstance(order, LoadPlugin)

    def test_one_that_is_not_confined_yet_is_not_told(self, house: House) -> None:
        """
        Adoption is no way around the confinement.
        """
        remember(house)
        greet(house, EARLIER, confined=False)
        assert house.node.relayed() == []

        house.supervisor.confined(EARLIER, LAYERS)

        assert len(house.node.relayed()) == 1

    def test_what_is_wanted_and_does_not_run_is_started(self, house: House) -> None:
        """
        A plugin without a worker begins its first life under this daemon.
        """
        remember(house)
        greet(house)

        assert house.node.spawned() == ["base"]
        assert house.incarnation("base") >> 32 == EPOCH

    def test_quarantine_outlives_the_daemon(self, house: House) -> None:
        """
        What was given up is not tried again because the daemon was.
        """
        remember(house, Memory(quarantine="crashed 5.2 times lately"))
        greet(house)

        assert house.states() == {"base": State.QUARANTINED}
        assert house.node.spawned() == []

    def test_a_crash_that_no_daemon_saw_is_counted(self, house: House) -> None:
        """
        The node tells of it, and the plugin is restarted as after any crash.
        """
        remember(house, Memory(restarts=2))
        house.supervisor.adopt([])
        house.supervisor.exited(Exited(incarnation=EARLIER, plugin_id="base", cause=SEGV))
        house.supervisor.resume([])
        house.reactor.pass_time(0)

        assert house.plugin("base").lifecycle.restarts == 3
        assert house.node.spawned() == ["base"]
        assert house.node.take(ExitSeen) == [ExitSeen(EARLIER)]

    def test_every_crash_that_no_daemon_saw_is_counted(self, house: House) -> None:
        """
        The news of one death does not start the next plugin before its own is heard.
        """
        for one in (BASE, manifest("other")):
            house.supervisor.remember(Wanted(one, Memory(), 0, leaving=False))
        house.supervisor.adopt([])
        for life, name in enumerate(("base", "other"), EARLIER):
            house.supervisor.exited(Exited(incarnation=life, plugin_id=name, cause=SEGV))
        house.supervisor.resume([])
        house.reactor.pass_time(0)

        assert [death.plugin_id for death in house.outside.deaths] == ["base", "other"]
        assert {p.lifecycle.restarts for p in house.registry.plugins.values()} == {1}

    def test_nothing_is_started_before_it_is_known_what_runs(self, house: House) -> None:
        """
        What the node tells between its greeting and its last word starts no second worker.
        """
        remember(house)
        house.supervisor.adopt([])
        house.supervisor.advance()
        assert house.node.spawned() == []

        house.supervisor.resume([])
        assert house.node.spawned() == ["base"]

    def test_services_that_were_there_are_no_news(self, house: House) -> None:
        """
        An earlier daemon has told of them; that one of them goes now is told.
        """
        remember(house)
        kept = house.supervisor.adopt([house.report("base", EARLIER)])
        house.registry.offer(Offered("base.service", (), EARLIER, "base"))
        house.supervisor.announce()
        house.supervisor.loaded(EARLIER)
        house.supervisor.resume(kept)
        assert services(house) == []

        house.end("base")
        assert services(house) == [ServiceDown("base.service", "base")]

    def test_an_end_that_was_ordered_is_no_crash(self, house: House) -> None:
        """
        The last daemon was told to restart it: its exit is the first half, not a failure.
        """
        remember(house)
        house.supervisor.restarting = [Restarting("base", EARLIER, 0)]
        house.supervisor.adopt([])
        house.supervisor.exited(Exited(incarnation=EARLIER, plugin_id="base", cause=SEGV))
        house.supervisor.resume([])

        assert house.plugin("base").lifecycle.restarts == 0
        assert house.node.spawned() == ["base"]

    def test_a_restart_under_way_is_carried_on(self, house: House) -> None:
        """
        A worker that was to be restarted and still lives is asked to leave again.
        """
        remember(house)
        house.supervisor.restarting = [Restarting("base", EARLIER, 0)]
        kept = house.supervisor.adopt([house.report("base", EARLIER)])
        house.supervisor.loaded(EARLIER)
        house.supervisor.resume(kept)

        assert house.node.relayed() == [(EARLIER, StopPlugin())]
        house.end("base", LEFT)
        assert house.node.spawned() == ["base"]

    def test_each_of_two_restarts_is_carried_on(self, house: House) -> None:
        """
        One that was over and one under way when the daemon was killed, whichever is read last.
        """
        remember(house)
        over, due = Restarting("base", EARLIER - 1, 0), Restarting("base", EARLIER, EARLIER - 1)
        house.supervisor.restarting = [Restarting("other", EARLIER, 0), due, over]
        kept = house.supervisor.adopt([house.report("base", EARLIER)])
        house.supervisor.loaded(EARLIER)
        house.supervisor.resume(kept)

        assert house.node.relayed() == [(EARLIER, StopPlugin())]

    def test_who_is_restarted_with_it_leaves_before_it(self, house: House) -> None:
        """
        A restart that is carried on is the whole of it.
        """
        remember(house)
        follower = Supervision(providers={"base": OnLoss.RESTART})
        user = manifest("user", {"base": "*"}, supervision=follower)
        house.supervisor.remember(Wanted(user, Memory(), 0, leaving=False))
        house.supervisor.restarting = [Restarting("base", EARLIER, 0)]
        reports = [house.report("base", EARLIER), house.report("user", EARLIER + 1)]
        kept = house.supervisor.adopt(reports)
        for life in (EARLIER, EARLIER + 1):
            house.supervisor.loaded(life)
        house.supervisor.resume(kept)
        assert house.node.relayed() == [(EARLIER + 1, StopPlugin())]

        house.end("user", LEFT)
        assert house.node.relayed() == [(EARLIER, StopPlugin())]

    def test_one_that_was_leaving_is_asked_again(self, house: House) -> None:
        """
        An unload that the last daemon had begun is carried on, and the plugin forgotten.
        """
        remember(house, leaving=True)
        kept = house.supervisor.adopt([house.report("base", EARLIER)])
        house.supervisor.loaded(EARLIER)
        house.supervisor.resume(kept)
        assert house.node.relayed() == [(EARLIER, StopPlugin())]

        house.end("base", LEFT)

        assert house.registry.plugins == {}

    def test_one_that_has_left_meanwhile_is_forgotten(self, house: House) -> None:
        """
        Nothing runs any more, so nothing is waited for and nothing is started.
        """
        remember(house, leaving=True)
        greet(house)

        assert house.registry.plugins == {}
        assert house.outside.statements[-1] == store.forget("base")
        assert house.node.spawned() == []


class TestGreetedAgain:
    """A node that has missed orders greets the same daemon a second time."""

    def test_a_worker_that_is_not_there_any_more_is_lost(self, house: House) -> None:
        """
        Its exit was not heard; its plugin crashed for an unknown cause.
        """
        house.add_ready(BASE)
        greet(house)

        assert house.plugin("base").lifecycle.reason == "unknown cause"
        assert house.states() == {"base": State.BACKOFF}

    def test_what_it_had_offered_is_said_to_be_gone(self, house: House) -> None:
        """
        A second greeting hides no news: this daemon has told of the service itself.
        """
        house.add_ready(BASE)
        house.registry.offer(Offered("base.service", (), house.incarnation("base"), "base"))
        house.supervisor.announce()
        greet(house)

        assert services(house)[-1] == ServiceDown("base.service", "base")

    def test_what_is_as_it_was_stays_so(self, house: House) -> None:
        """
        A ready plugin is ready, and nobody is told anything twice.
        """
        house.add_ready(BASE)
        house.node.told.clear()

        greet(house, house.incarnation("base"))

        assert house.states() == {"base": State.READY}
        assert house.node.told == []

    def test_its_pid_is_known_though_the_news_was_missed(self, house: House) -> None:
        """
        The greeting says what a lost message would have said.
        """
        house.add(BASE)

        greet(house, house.incarnation("base"), confined=False)

        assert house.plugin("base").pid == 77

    @pytest.mark.parametrize("was_heard", [True, False])
    def test_a_question_for_metadata_is_carried_on(self, house: House, *, was_heard: bool) -> None:
        """
        A worker that was only asked is kept and asked again, or started again; it gets an answer.
        """
        answers: list[Described | Broken] = []
        house.supervisor.describe(SOURCE, answers.append)
        (spawn,) = house.node.take(SpawnWorker)
        reports = [house.report(spawn.plugin_id, spawn.incarnation)] if was_heard else []

        house.supervisor.resume(house.supervisor.adopt(reports))
        if not was_heard:
            assert house.node.take(SpawnWorker) == [spawn]
            house.supervisor.confined(spawn.incarnation, LAYERS)

        assert house.node.relayed() == [(spawn.incarnation, DescribePlugin(source=SOURCE))]
        assert house.node.take(EndWorker) == []
        house.supervisor.described(spawn.incarnation, Described({"id": "single"}))
        assert answers == [Described({"id": "single"})]
