"""What the supervisor reports of deaths that nobody had asked for."""

import pytest

from protocol.messages import Broken, Cause, Remains, SpawnFailed
from tests.unit.spiral_host.fakes import SEGV, House, manifest

BASE = manifest("base")


def remains(incarnation: int) -> Remains:
    return Remains(
        incarnation=incarnation,
        plugin_id="base",
        lived_s=3.5,
        stacks="Thread 1",
        log="last line",
        calls=7,
        errors=1,
        flights=(),
        events=(),
        vitals=(),
    )


class TestDeath:
    def test_a_crash_is_reported_with_what_it_left(self, house: House) -> None:
        """
        The node's remains, the cause, and what happens next are in one report.
        """
        house.add_ready(BASE)
        life = house.incarnation("base")
        house.supervisor.left(remains(life))
        house.end("base", SEGV)

        (death,) = house.outside.deaths
        assert (death.incarnation, death.cause, death.reason) == (life, SEGV, "SIGSEGV")
        assert (death.state, death.lived_s, death.remains) == ("ready", 3.5, remains(life))
        assert (death.next, death.next_in_s, death.past) == ("restart", 0.0, ())

    def test_without_remains_the_daemon_says_how_long_it_lived(self, house: House) -> None:
        """
        A node that could keep nothing still has its death reported.
        """
        house.add_ready(BASE)
        house.reactor.pass_time(4.0)
        house.end("base", SEGV)

        (death,) = house.outside.deaths
        assert (death.remains, death.lived_s) == (None, 4.0)

    def test_a_report_knows_the_deaths_before(self, house: House) -> None:
        """
        Oldest first, and how long ago.
        """
        house.add_ready(BASE)
        house.end("base", SEGV)
        house.reactor.pass_time(1.0)
        house.load("base")
        house.end("base", Cause(kind="exit", code=3))

        past = house.outside.deaths[-1].past
        assert [(one.cause, one.ago_s) for one in past] == [("SIGSEGV", 1.0)]

    def test_who_was_asked_to_leave_is_not_reported(self, house: House) -> None:
        """
        However it ends, an end that was asked for is no crash.
        """
        house.add_ready(BASE)
        house.supervisor.restart("base")
        house.supervisor.left(remains(house.incarnation("base")))
        house.end("base", SEGV)

        assert house.outside.deaths == []

    def test_what_the_plugin_raised_is_its_reason(self, house: House) -> None:
        """
        The author's traceback says more than an exit status.
        """
        house.add(BASE)
        house.confine("base")
        house.break_("base")

        (death,) = house.outside.deaths
        assert death.reason == "on_load raised ValueError: no"
        assert death.traceback == "Traceback ..."
        assert (death.next, death.next_in_s) == ("quarantined", None)

    def test_a_worker_that_could_not_be_made_is_reported(self, house: House) -> None:
        """
        There is nothing of it, and the reason.
        """
        house.add(BASE)
        house.supervisor.spawn_failed(SpawnFailed(house.incarnation("base"), "no memory"))

        (death,) = house.outside.deaths
        assert (death.state, death.reason) == ("starting", "could not be started: no memory")

    def test_the_death_of_a_node_is_reported_for_each(self, house: House) -> None:
        """
        Every plugin that it ran says so.
        """
        house.add_ready(BASE, manifest("other"))
        house.supervisor.node_lost()

        assert [death.reason for death in house.outside.deaths] == ["the node was lost"] * 2


class TestSilence:
    @pytest.mark.parametrize("stage", ["on_unload", "on_load"])
    def test_words_of_a_plugin_that_is_ready_break_nothing(self, house: House, stage: str) -> None:
        """
        What a worker says out of its turn does not end its plugin.
        """
        house.add_ready(BASE)
        life = house.incarnation("base")
        house.supervisor.silent(life, "no pong")
        house.supervisor.broken(life, Broken(stage=stage, error="x", traceback=""))
        house.supervisor.loaded(life)

        assert house.states()["base"].value == "suspect"
        house.supervisor.heard(life)
        assert house.states()["base"].value == "ready"
