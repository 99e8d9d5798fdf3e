"""Deadlines of the supervisor, on a clock that the test moves; and who waits for whom."""

from protocol.messages import Broken, Cause, Described, EndWorker, ExitSeen, SpawnWorker
from protocol.messages import PluginSource as Source
from spiral_host.describing import DESCRIBE_S
from spiral_host.lifecycle import State
from spiral_host.policy import Policy
from spiral_host.registry import Offered
from spiral_host.supervision import OnLoss, Supervision
from tests.unit.spiral_host.fakes import LAYERS, SEGV, House, manifest

POLICY = Policy()
BASE = manifest("base")
USER = manifest("user", {"base": ">=1.0"})


class TestTime:
    def test_a_plugin_that_does_not_load_in_time_is_killed(self, house: House) -> None:
        """
        The order is repeated until the worker is gone, and then it is a crash like any other.
        """
        house.add(BASE)
        house.confine("base")
        life = house.incarnation("base")

        house.reactor.pass_time(POLICY.start + POLICY.terminate)
        assert (
            house.node.take(EndWorker) == [EndWorker(life, "start timeout", True, stacks=True)] * 2
        )

        house.end("base", Cause(kind="signal", code=9, rule="start timeout"))
        assert house.plugin("base").lifecycle.reason == "SIGKILL (start timeout)"

    def test_a_worker_that_does_not_leave_is_terminated_then_killed(self, house: House) -> None:
        """
        Asked, SIGTERM, SIGKILL: each after its own time, and not earlier.
        """
        house.add_ready(BASE)
        house.supervisor.stop("base")
        house.reactor.pass_time(POLICY.drain - 0.1)
        assert house.node.take(EndWorker) == []

        house.reactor.pass_time(0.2)
        assert [end.force for end in house.node.take(EndWorker)] == [False]
        house.reactor.pass_time(POLICY.terminate)
        assert [end.force for end in house.node.take(EndWorker)] == [True]

    def test_one_timer_serves_every_deadline(self, house: House) -> None:
        """
        However many plugins start, the soonest deadline alone is armed.
        """
        house.add(BASE, manifest("b"), manifest("c"))

        assert len(house.reactor.due) == 1

    def test_a_fallen_plugin_whose_restart_waits_for_others_keeps_nobody_awake(
        self, house: House
    ) -> None:
        """
        It has fallen, a person restarts it, and one that is restarted with it takes its time.
        """
        follower = Supervision(providers={"base": OnLoss.RESTART})
        house.add_ready(BASE, manifest("user", {"base": "*"}, supervision=follower))
        house.end("base")
        house.supervisor.restart("base")
        house.reactor.pass_time(0)

        assert house.states() == {"base": State.DECLARED, "user": State.DRAINING}
        assert all(when > house.clock.now for when in house.reactor.due)

    def test_a_worker_that_has_said_its_metadata_and_stays_is_ended(self, house: House) -> None:
        """
        Nobody wants it any more; that its plugin's code keeps it from leaving does not keep it.
        """
        answers: list[Described | Broken] = []
        house.supervisor.describe(Source(root="/p", entry="x.py"), answers.append)
        (spawn,) = house.node.take(SpawnWorker)
        house.supervisor.described(spawn.incarnation, Described({"id": "x"}))
        assert len(answers) == 1
        house.reactor.pass_time(DESCRIBE_S)

        (end,) = house.node.take(EndWorker)
        assert (end.incarnation, end.force) == (spawn.incarnation, True)

    def test_nothing_is_due_when_everything_is_settled(self, house: House) -> None:
        """
        A daemon whose plugins are all ready, or wait for something, sleeps.
        """
        house.add_ready(BASE)
        house.add(manifest("lonely", {"nobody": "*"}))

        assert house.reactor.due == []

    def test_a_question_for_metadata_has_a_deadline(self, house: House) -> None:
        """
        An import that hangs is ended.
        """
        house.supervisor.describe(Source(root="/p", entry="a.py"), lambda _: None)
        (spawn,) = house.node.take(SpawnWorker)

        house.reactor.pass_time(DESCRIBE_S)

        ended = EndWorker(spawn.incarnation, "describe timeout", True)
        assert house.node.take(EndWorker) == [ended]


class TestBlocked:
    def test_it_starts_when_the_dependency_comes(self, house: House) -> None:
        """
        Loading what was missing is enough; nobody has to restart the plugin.
        """
        house.add(USER)
        assert house.states() == {"user": State.BLOCKED}
        house.add_ready(BASE)

        assert house.states() == {"user": State.STARTING, "base": State.READY}

    def test_it_starts_when_the_dependency_is_cured(self, house: House) -> None:
        """
        A person restarts what failed, and what waited for it follows.
        """
        house.add(BASE, USER)
        house.confine("base")
        house.break_("base")
        assert "its dependency base is quarantined" in house.plugin("user").lifecycle.reason

        house.supervisor.restart("base")
        house.load("base")

        assert house.states() == {"base": State.READY, "user": State.STARTING}

    def test_restarting_a_blocked_plugin_finds_it_blocked_again(self, house: House) -> None:
        """
        The same hindrance blocks it again, so whoever waits for the outcome gets one.
        """
        house.add(USER)

        house.supervisor.restart("user")

        assert house.states() == {"user": State.BLOCKED}

    def test_a_cycle_blocks_everybody_in_it(self, house: House) -> None:
        """
        Plugins that depend on each other are never started, and say why.
        """
        house.add(manifest("a", {"b": "*"}), manifest("b", {"a": "*"}))

        assert house.states() == {"a": State.BLOCKED, "b": State.BLOCKED}
        assert "depends on itself" in house.plugin("a").lifecycle.reason


class TestLateWords:
    def test_what_a_gone_worker_said_last_changes_nothing(self, house: House) -> None:
        """
        Frames of a life that has ended may still arrive; they are nobody's.
        """
        house.add_ready(BASE)
        life = house.incarnation("base")
        house.end("base")

        house.supervisor.spawned(life, 1)
        house.supervisor.confined(life, LAYERS)
        house.supervisor.loaded(life)
        house.supervisor.broken(life, Broken(stage="on_load", error="x", traceback=""))
        house.supervisor.described(life, Described({}))

        assert house.states() == {"base": State.BACKOFF}

    def test_an_exit_is_acknowledged_after_it_was_written(self, house: House) -> None:
        """
        The node may forget an exit only when a killed daemon would know of it.
        """
        house.add_ready(BASE)
        house.outside.is_slow = True
        life = house.incarnation("base")
        house.end("base", SEGV)
        assert house.node.take(ExitSeen) == []

        house.outside.write_all()

        assert house.node.take(ExitSeen) == [ExitSeen(life)]

    def test_nobody_new_is_sent_to_a_plugin_that_leaves(self, house: House) -> None:
        """
        Its services are withdrawn when it is asked to leave, not when it has left.
        """
        house.add_ready(BASE)
        house.registry.offer(Offered("math", (), house.incarnation("base"), "base"))

        house.supervisor.stop("base")

        assert house.registry.provider("math") is None

    def test_a_crash_while_leaving_is_an_end(self, house: House) -> None:
        """
        A plugin that is to be forgotten is not restarted, however it ends.
        """
        house.add_ready(BASE)
        house.supervisor.stop("base")

        house.end("base", SEGV)

        assert house.registry.plugins == {}

    def test_a_plugin_between_two_lives_still_needs_its_dependency(self, house: House) -> None:
        """
        What waits to be restarted is in the way of unloading what it uses.
        """
        house.add_ready(BASE, USER)
        house.end("user")
        assert house.states()["user"] is State.BACKOFF

        assert [plugin.id for plugin in house.registry.dependents("base")] == ["user"]
