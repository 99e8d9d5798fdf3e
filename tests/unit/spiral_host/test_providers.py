"""What becomes of plugins while something that they depend on is away."""

import pytest

from protocol.events import ServiceDown, ServiceUp
from protocol.messages import EndWorker, StopPlugin
from spiral_host.lifecycle import State
from spiral_host.manifest import Manifest
from spiral_host.registry import Offered
from spiral_host.supervision import OnLoss, Supervision
from tests.unit.spiral_host.fakes import House, manifest

BASE = manifest("base")


def user(loss: OnLoss, name: str = "user", needs: str = "base") -> Manifest:
    return manifest(name, {needs: "*"}, supervision=Supervision(providers={needs: loss}))


def house_with(house: House, loss: OnLoss) -> House:
    """A plugin that is ready, one that depends on it, and a service of each."""
    house.add_ready(BASE, user(loss))
    for name in ("base", "user"):
        offer(house, name)
    house.node.told.clear()
    house.outside.events.clear()
    return house


def offer(house: House, name: str) -> None:
    house.registry.offer(Offered(f"{name}.service", (), house.incarnation(name), name))
    house.supervisor.announce()


def services(house: House) -> list[ServiceUp | ServiceDown]:
    """Give what was said of services since the last look."""
    said = [e for e in house.outside.events if isinstance(e, ServiceUp | ServiceDown)]
    house.outside.events.clear()
    return said


class TestTell:
    def test_who_is_only_told_goes_on(self, house: House) -> None:
        """
        Its state and its worker stay; the bus says which service is gone, and when it is back.
        """
        house_with(house, OnLoss.TELL)
        life = house.incarnation("user")
        house.end("base")
        assert services(house) == [ServiceDown("base.service", "base")]
        assert (house.states()["user"], house.incarnation("user")) == (State.READY, life)

        house.reactor.pass_time(0)
        house.load("base")
        offer(house, "base")
        assert services(house) == [ServiceUp("base.service", "base")]


class TestBlock:
    def test_nobody_new_is_sent_to_it_meanwhile(self, house: House) -> None:
        """
        Its worker is kept, its services cannot be had until the provider is back.
        """
        house_with(house, OnLoss.BLOCK)
        life = house.incarnation("user")
        house.end("base")

        assert house.states() == {"base": State.BACKOFF, "user": State.BLOCKED}
        assert "its dependency base is backoff" in house.plugin("user").lifecycle.reason
        assert house.registry.provider("user.service") is None
        assert sorted(event.service for event in services(house)) == [
            "base.service",
            "user.service",
        ]

        house.reactor.pass_time(0)
        house.load("base")
        assert (house.states()["user"], house.incarnation("user")) == (State.READY, life)
        assert services(house) == [ServiceUp("user.service", "user")]

    def test_it_is_said_once(self, house: House) -> None:
        """
        Looking again at what is blocked already changes nothing.
        """
        house_with(house, OnLoss.BLOCK)
        house.end("base")
        services(house)
        house.supervisor.advance()

        assert services(house) == []

    def test_those_behind_it_are_blocked_too(self, house: House) -> None:
        """
        Who is blocked cannot be depended on.
        """
        house_with(house, OnLoss.BLOCK)
        house.add_ready(user(OnLoss.BLOCK, "third", "user"))
        house.end("base")

        assert house.states()["third"] is State.BLOCKED
        house.reactor.pass_time(0)
        house.load("base")
        assert house.states() == dict.fromkeys(["base", "user", "third"], State.READY)


class TestRestart:
    def test_it_leaves_and_starts_behind_its_provider(self, house: House) -> None:
        """
        When the provider dies, its follower is asked to leave, and starts when it is back.
        """
        house_with(house, OnLoss.RESTART)
        life = house.incarnation("user")
        house.end("base")
        assert house.node.relayed() == [(life, StopPlugin())]

        house.reactor.pass_time(0)
        house.end("user")
        assert house.states() == {"base": State.STARTING, "user": State.DECLARED}
        house.load("base")
        assert house.states() == {"base": State.READY, "user": State.STARTING}
        assert house.plugin("user").lifecycle.restarts == 0

    def test_a_planned_restart_begins_with_the_followers(self, house: House) -> None:
        """
        Stopped before it, started after it; nobody is settled before that.
        """
        house_with(house, OnLoss.RESTART)
        house.supervisor.restart("base")

        assert house.states() == {"base": State.READY, "user": State.DRAINING}
        assert not house.plugin("base").is_settled
        house.end("user")
        assert house.states() == {"base": State.DRAINING, "user": State.DECLARED}
        house.end("base")
        assert house.states() == {"base": State.STARTING, "user": State.DECLARED}
        house.load("base")
        assert house.states()["user"] is State.STARTING

    def test_followers_of_followers_go_first(self, house: House) -> None:
        """
        Each leaves once those that follow it have left, the plugin itself last.
        """
        house_with(house, OnLoss.RESTART)
        house.add_ready(user(OnLoss.RESTART, "third", "user"))
        house.supervisor.restart("base")
        assert house.states() == {
            "base": State.READY,
            "user": State.READY,
            "third": State.DRAINING,
        }

        house.end("third")
        assert (house.states()["base"], house.states()["user"]) == (State.READY, State.DRAINING)
        house.end("user")
        assert house.states()["base"] is State.DRAINING

    def test_who_was_loaded_first_waits_like_the_others(self, house: House) -> None:
        """
        A follower that has left does not start on a provider that is still to leave.
        """
        house.add(user(OnLoss.RESTART, "third", "user"))
        house_with(house, OnLoss.RESTART)
        house.load("third")
        house.supervisor.restart("base")
        house.end("third")

        assert house.states() == {
            "third": State.DECLARED,
            "base": State.READY,
            "user": State.DRAINING,
        }

    def test_a_follower_that_dies_while_it_waits_follows_all_the_same(self, house: House) -> None:
        """
        It has left, in its own way.
        """
        house_with(house, OnLoss.RESTART)
        house.add_ready(user(OnLoss.RESTART, "third", "user"))
        house.supervisor.restart("base")
        house.end("user")
        house.end("third")
        assert house.states()["base"] is State.DRAINING

        house.end("base")
        house.load("base")
        house.reactor.pass_time(1)
        house.load("user")
        assert house.states() == {
            "base": State.READY,
            "user": State.READY,
            "third": State.STARTING,
        }

    def test_a_provider_that_dies_while_it_waits_is_patient(self, house: House) -> None:
        """
        It starts once its followers have left; until then nothing turns in a circle.
        """
        house_with(house, OnLoss.RESTART)
        house.supervisor.restart("base")
        house.end("base")
        house.reactor.pass_time(1)
        assert house.states() == {"base": State.DECLARED, "user": State.DRAINING}
        assert house.reactor.due == [house.plugin("user").lifecycle.deadline]

        house.end("user")
        assert house.states()["base"] is State.STARTING

    def test_an_unload_ends_the_wait(self, house: House) -> None:
        """
        Who is to be forgotten waits for nobody.
        """
        house_with(house, OnLoss.RESTART)
        house.supervisor.restart("base")
        house.supervisor.stop("base")
        house.end("base")

        assert "base" not in house.states()


class TestExcuse:
    @pytest.mark.parametrize("loss", OnLoss)
    def test_who_breaks_for_want_of_its_provider_is_tried_again(
        self, house: House, loss: OnLoss
    ) -> None:
        """
        `on_load` that raised because the dependency had just died is not quarantined.
        """
        house.add_ready(BASE)
        house.add(user(loss))
        house.confine("user")
        house.end("base")
        house.break_("user")

        assert house.states()["user"] in {State.BACKOFF, State.DECLARED}
        house.reactor.pass_time(1)
        house.load("base")
        assert house.states()["user"] is State.STARTING


class TestStop:
    def test_what_has_not_left_in_time_is_ended(self, house: House) -> None:
        """
        The whole stop has its time, however many levels there are.
        """
        house.add_ready(BASE)
        house.supervisor.stop_in_time()
        house.reactor.pass_time(29)
        assert house.node.take(EndWorker) == []
        house.reactor.pass_time(1)

        (end,) = house.node.take(EndWorker)
        assert (end.force, end.rule) == (True, "the time for a stop is over")
