from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import pytest

from protocol.codec import MAX_MESSAGE, pack_value
from protocol.errors import UsageError
from protocol.messages import (
    FindByCapability,
    GetConfig,
    GrantLane,
    LaneFailed,
    ListServices,
    Offer,
    Question,
    Refusal,
    Resolve,
    SetConfig,
)
from protocol.permissions import Permissions
from protocol.plugin import PluginCapability, PluginMetadata
from protocol.reactor import Reactor
from spiral_host.lifecycle import Lifecycle, State
from spiral_host.policy import Policy
from spiral_host.questions import MAX_METHODS, MAX_OFFERS, MAX_PARKED, MAX_SETTING, Questions
from spiral_host.registry import Offered, Plugin, Registry
from tests.unit.spiral_host.parts import Client, FakeNode, FakeOutside, manifest


def resolve(request: str = "1", wait_s: float = 0.0) -> Resolve:
    return Resolve(request=request, service="math", wait_s=wait_s)


class Desk:
    """Questions and everything around them."""

    def __init__(self) -> None:
        self.registry, self.node, self.outside = Registry(), FakeNode(), FakeOutside()
        self.reactor, self.config = Reactor(), {"a.x": "1", "a.y": "2", "b": "3"}
        self.denied: list[tuple[str, str, str]] = []
        self.questions = Questions(
            self.registry,
            self.reactor,
            self.config,
            self.outside.write,
            self.node.tell_node,
            lambda *denied: self.denied.append(denied),
        )

    def offer(self, incarnation: int = 9) -> None:
        self.registry.offer(Offered("math", ("add",), incarnation, "calculator"))


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.reactor.close()


@pytest.fixture
def client() -> Client:
    return Client()


class TestResolve:
    def test_a_lane_is_granted_to_the_provider(self, desk: Desk, client: Client) -> None:
        """
        Who asks for a service that is there gets a lane to it, by the node.
        """
        desk.offer()
        desk.questions.ask(client.asker, resolve("q"))

        (grant,) = desk.node.all_of(GrantLane)
        assert (grant.request, grant.caller, grant.callee) == ("q", 1, 9)
        assert (grant.caller_name, grant.callee_name) == ("app", "calculator")
        assert client.answers == []

    def test_a_later_daemon_s_lanes_have_other_numbers(self, desk: Desk, client: Client) -> None:
        """
        Lanes live longer than the daemon that granted them, so no two have the same number.
        """
        desk.offer()
        for epoch in (1, 2):
            later = Questions(
                desk.registry, desk.reactor, {}, desk.outside.write, desk.node.tell_node, print
            )
            later.epoch = epoch
            later.ask(client.asker, resolve("q"))

        first, second = desk.node.all_of(GrantLane)
        assert first.lane != second.lane

    def test_nobody_is_an_answer(self, desk: Desk, client: Client) -> None:
        """
        Who does not want to wait is told at once that nobody offers it.
        """
        desk.questions.ask(client.asker, resolve())

        assert client.last is None

    def test_who_waits_is_served_when_it_is_there(self, desk: Desk, client: Client) -> None:
        """
        A parked question is taken up when something changes, and only once.
        """
        desk.questions.ask(client.asker, resolve(wait_s=60.0))
        desk.questions.look_again()
        assert (client.answers, desk.node.told) == ([], [])

        desk.offer()
        desk.questions.look_again()
        desk.questions.look_again()

        assert len(desk.node.all_of(GrantLane)) == 1

    def test_who_waits_in_vain_is_told(self, desk: Desk, client: Client) -> None:
        """
        When its time is up, a parked question is answered with nobody.
        """
        desk.questions.ask(client.asker, resolve(wait_s=1e-9))
        desk.reactor.turn()
        desk.questions.look_again()

        assert client.last is None
        assert len(client.answers) == 1

    def test_who_left_is_not_answered(self, desk: Desk, client: Client) -> None:
        """
        Questions of one that is gone are dropped; others' stay.
        """
        other = Client(2)
        desk.questions.ask(client.asker, resolve(wait_s=60.0))
        desk.questions.ask(other.asker, resolve(wait_s=60.0))
        desk.questions.forget(1)
        desk.offer()
        desk.questions.look_again()

        assert [grant.caller for grant in desk.node.all_of(GrantLane)] == [2]

    def test_nobody_waits_for_what_will_not_come(self, desk: Desk, client: Client) -> None:
        """
        A service whose plugin is in quarantine is refused with its reason.
        """
        plugin = Plugin(manifest("calculator"), Lifecycle(Policy()))
        desk.registry.take_in(plugin)
        desk.offer()
        desk.registry.withdraw_all(9)
        plugin.lifecycle.state, plugin.lifecycle.reason = State.QUARANTINED, "crashed"

        desk.questions.ask(client.asker, resolve(wait_s=60.0))

        assert "calculator is quarantined: crashed" in client.refused()

    def test_waiting_questions_are_bounded(self, desk: Desk, client: Client) -> None:
        """
        One process cannot park questions without end.
        """
        for number in range(MAX_PARKED + 1):
            desk.questions.ask(client.asker, resolve(str(number), wait_s=60.0))

        assert client.refused().startswith("Overloaded")
        assert len(client.answers) == 1


class TestLaneFailed:
    def test_a_callee_that_has_just_gone_may_have_a_successor(
        self, desk: Desk, client: Client
    ) -> None:
        """
        A lane that failed because its callee went is asked for again.
        """
        desk.offer()
        desk.questions.ask(client.asker, resolve())
        desk.registry.withdraw_all(9)
        desk.offer(10)
        desk.questions.lane_failed(LaneFailed(1, "its process is leaving", gone=True))
        desk.reactor.turn()

        assert [grant.callee for grant in desk.node.all_of(GrantLane)] == [9, 10]

    def test_too_many_lanes_are_told(self, desk: Desk, client: Client) -> None:
        """
        A lane that cannot be made for another reason is refused with it, once.
        """
        desk.offer()
        desk.questions.ask(client.asker, resolve())
        for _ in range(2):
            desk.questions.lane_failed(LaneFailed(1, "the caller has 512 lanes", gone=False))

        assert client.refused() == "ServiceUnavailable: math the caller has 512 lanes"
        assert len(client.answers) == 1

    def test_a_name_that_nothing_can_have_is_not_waited_for(
        self, desk: Desk, client: Client
    ) -> None:
        """
        Questions that wait are kept; what they ask for is short.
        """
        long = Resolve(request="1", service="s" * 100_000, wait_s=60.0)
        desk.questions.ask(client.asker, long)

        assert client.refused().startswith("ServiceUnavailable")


class TestOffer:
    def test_a_caller_is_told_what_it_may_call_again(self, desk: Desk, client: Client) -> None:
        """
        What a service says of its methods reaches whoever is given a lane to it.
        """
        offer = Offer(service="math", methods=("add", "sub"), idempotent=("sub",))
        desk.questions.offer(client.asker, offer)
        desk.questions.ask(client.asker, resolve())

        (grant,) = desk.node.all_of(GrantLane)
        assert (grant.service, grant.idempotent) == ("math", ("sub",))

    @pytest.mark.parametrize(
        "offer",
        [
            Offer(service="a b", methods=("add",), idempotent=()),
            Offer(service="math", methods=("add", "_hidden"), idempotent=()),
            Offer(service="math", methods=("add",), idempotent=("a b",)),
            Offer(service="math", methods=("a",) * (MAX_METHODS + 1), idempotent=()),
            Offer(service="math", methods=("a",), idempotent=("a",) * (MAX_METHODS + 1)),
        ],
        ids=["service", "method", "idempotent", "methods", "too many idempotent"],
    )
    def test_names_are_checked(self, desk: Desk, client: Client, offer: Offer) -> None:
        """
        A worker cannot offer what could not be called.
        """
        with pytest.raises(UsageError):
            desk.questions.offer(client.asker, offer)

    def test_a_plugin_is_told_that_anothers_offer_is_called(
        self, desk: Desk, client: Client
    ) -> None:
        """
        Whoever it belongs to; an application, that covers it, needs no word.
        """
        desk.offer()
        offer = Offer(service="math", methods=("add",), idempotent=())
        late = plugin()
        desk.questions.offer(late.asker, offer)
        assert "math is offered by calculator" in late.refused()

        desk.questions.offer(client.asker, offer)
        assert client.answers == []
        assert len(late.answers) == 1

    def test_offers_are_bounded(self, desk: Desk, client: Client) -> None:
        """
        One process offers so many services and not one more.
        """
        for number in range(MAX_OFFERS):
            desk.questions.offer(
                client.asker, Offer(service=f"s{number}", methods=("a",), idempotent=())
            )

        with pytest.raises(UsageError, match="offers more than"):
            desk.questions.offer(client.asker, Offer(service="more", methods=("a",), idempotent=()))

    def test_an_offer_may_be_made_anew(self, desk: Desk, client: Client) -> None:
        """
        What it says now takes the place of what it said before, and no more room.
        """
        methods = tuple(f"m{number:0126}" for number in range(400))
        for _ in range(5):
            desk.questions.offer(
                client.asker, Offer(service="math", methods=methods, idempotent=())
            )

        with pytest.raises(UsageError, match="characters of names"):
            desk.questions.offer(
                client.asker, Offer(service="more", methods=methods, idempotent=())
            )


class TestLookUp:
    def test_services_are_listed(self, desk: Desk, client: Client) -> None:
        """
        Every service is listed with its owner and methods.
        """
        desk.offer()
        desk.questions.ask(client.asker, ListServices("1"))

        assert client.last == [["math", "calculator", ["add"]]]

    def test_those_who_offer_much_do_not_hide_the_others(self, desk: Desk, client: Client) -> None:
        """
        The list fits in a message, and the services of others stand in it with their methods.
        """
        desk.offer()
        for liar in range(100, 140):
            for number in range(4):
                methods = tuple(f"m{at:0126}" for at in range(120))
                offered = Offered(f"s{liar}.{number}", methods, liar, "liar", length=128 * 120)
                desk.registry.offer(offered)
        desk.questions.ask(client.asker, ListServices("1"))

        assert len(pack_value(client.last)) < MAX_MESSAGE
        listed = cast("list[object]", client.last)
        assert ["math", "calculator", ["add"]] in listed
        assert len(listed) == 1 + 40 * 4

    @pytest.mark.parametrize("text", ["Custom(a)", "custom:a"])
    def test_capabilities_are_found(self, desk: Desk, client: Client, text: str) -> None:
        """
        However a capability is written, the ready plugins that have it are named.
        """
        plugin = Plugin(manifest("a"), Lifecycle(Policy()))
        plugin.lifecycle.state = State.READY
        desk.registry.take_in(plugin)
        desk.questions.ask(client.asker, FindByCapability("1", text))

        assert client.last == ["a"]

    def test_a_wrong_question_is_refused(self, desk: Desk, client: Client) -> None:
        """
        What is no capability is the asker's mistake.
        """
        desk.questions.ask(client.asker, FindByCapability("1", ""))

        assert client.refused().startswith("UsageError")


class TestConfig:
    def test_all_of_it_fits_in_an_answer(self, desk: Desk, client: Client) -> None:
        """
        Whatever its characters are: it is counted in bytes.
        """
        for number in range(40):
            desk.questions.ask(client.asker, SetConfig("1", f"k{number}", "\U0001f600" * 16_000))
        desk.questions.ask(client.asker, GetConfig("1", ""))

        assert len(pack_value(client.last)) < MAX_MESSAGE

    def test_values_are_found_by_prefix(self, desk: Desk, client: Client) -> None:
        """
        All keys that begin alike come in order.
        """
        desk.questions.ask(client.asker, GetConfig("1", "a."))

        assert client.last == {"a.x": "1", "a.y": "2"}

    def test_a_value_is_set_and_taken_away(self, desk: Desk, client: Client) -> None:
        """
        A change holds once it is on disk; None takes a value away, twice too.
        """
        desk.questions.ask(client.asker, SetConfig("1", "c", "4"))
        assert desk.config["c"] == "4"
        desk.questions.ask(client.asker, SetConfig("2", "c", None))
        desk.questions.ask(client.asker, SetConfig("3", "c", None))

        assert "c" not in desk.config
        assert [answer.request for answer in client.answers] == ["1", "2", "3"]
        assert len(desk.outside.written) == 3

    @pytest.mark.parametrize(
        ("key", "value"),
        [("", "x"), ("k" * 201, "x"), ("a\nb", "x"), ("k", "x" * (MAX_SETTING + 1))],
    )
    def test_what_is_no_setting_is_refused(
        self, desk: Desk, client: Client, key: str, value: str
    ) -> None:
        """
        Keys and values have limits, and nothing is written beyond them.
        """
        desk.questions.ask(client.asker, SetConfig("1", key, value))

        assert isinstance(client.last, Refusal)
        assert desk.outside.written == []


def plugin(**words: tuple[str, ...]) -> Client:
    """Give somebody who is held to permissions."""
    return Client(5, "trainer", Permissions(**words))  # type: ignore[arg-type]


def asked(desk: Desk, client: Client, question: Question) -> object:
    """Ask, and give the value of the answer."""
    desk.questions.ask(client.asker, question)
    return client.last


class TestPermissions:
    def test_a_lane_is_only_for_who_may_call(self, desk: Desk) -> None:
        """
        Whoever may not is refused, and the operator is told which permission that was.
        """
        desk.offer()
        client = plugin(services=("shop.*",))
        desk.questions.ask(client.asker, resolve())

        assert client.refused() == "PermissionDenied: services math trainer"
        assert desk.denied == [("trainer", "services", "math")]
        assert desk.node.all_of(GrantLane) == []

    @pytest.mark.parametrize("pattern", ["*", "math"])
    def test_who_may_call_gets_it(self, desk: Desk, pattern: str) -> None:
        """
        By name, or because everything may be called.
        """
        desk.offer()
        desk.questions.ask(plugin(services=(pattern,)).asker, resolve())

        assert len(desk.node.all_of(GrantLane)) == 1

    def test_nobody_waits_for_what_may_not_be_called(self, desk: Desk) -> None:
        """
        The refusal says nothing of whether it is there: it comes at once, and once.
        """
        client = plugin()
        desk.questions.ask(client.asker, resolve(wait_s=60.0))
        desk.offer()
        desk.questions.look_again()

        assert client.refused().startswith("PermissionDenied")
        assert len(client.answers) == 1
        assert desk.node.all_of(GrantLane) == []

    def test_a_plugins_own_services_are_its_to_call(self, desk: Desk) -> None:
        """
        And to see.
        """
        client = plugin()
        desk.offer(5)
        desk.questions.ask(client.asker, resolve())
        assert len(desk.node.all_of(GrantLane)) == 1

        assert asked(desk, client, ListServices("1")) == [["math", "calculator", ["add"]]]

    def test_only_what_may_be_called_is_listed(self, desk: Desk) -> None:
        """
        Other services are not a plugin's business, nor is who offers them.
        """
        desk.offer()
        desk.registry.offer(Offered("shop.cart", ("add",), 10, "shop"))
        client = plugin(services=("shop.*",))

        assert asked(desk, client, ListServices("1")) == [["shop.cart", "shop", ["add"]]]
        assert desk.denied == []

    def test_only_those_that_may_be_called_are_found(self, desk: Desk) -> None:
        """
        A plugin that may call everything finds all, one that may not those that it may call.
        """
        for number, name in enumerate(("a", "b", "trainer"), 10):
            one = Plugin(manifest(name), Lifecycle(Policy()), incarnation=number)
            one.manifest = replace(one.manifest, metadata=metadata(name))
            one.lifecycle.state = State.READY
            desk.registry.take_in(one)
        desk.registry.offer(Offered("b.service", ("add",), 11, "b"))
        find = FindByCapability("1", "Custom(all)")

        assert asked(desk, plugin(services=("*",)), find) == ["a", "b", "trainer"]
        assert asked(desk, plugin(services=("b.*",)), find) == ["b", "trainer"]
        assert asked(desk, plugin(), find) == ["trainer"]

    def test_settings_are_seen_as_far_as_they_may_be(self, desk: Desk) -> None:
        """
        Those of others do not appear; what is asked for in vain is refused, be it there or not.
        """
        client = plugin(config=("a.*",))
        desk.config["a"] = "0"

        everything = {"a.x": "1", "a.y": "2"}
        assert asked(desk, client, GetConfig("1", "")) == everything
        assert asked(desk, client, GetConfig("1", "a")) == everything
        assert asked(desk, client, GetConfig("1", "a.x")) == {"a.x": "1"}
        for prefix in ("b", "nothing", "ab"):
            asked(desk, client, GetConfig("1", prefix))
            assert client.refused() == f"PermissionDenied: config {prefix} trainer"
        assert [what for _, _, what in desk.denied] == ["b", "nothing", "ab"]

    def test_settings_are_changed_as_far_as_they_may_be(self, desk: Desk) -> None:
        """
        Nothing is written down of a change that is refused.
        """
        client = plugin(config=("a.*",))
        desk.questions.ask(client.asker, SetConfig("1", "b", "mine"))
        assert client.refused() == "PermissionDenied: config b trainer"
        assert (desk.config["b"], desk.outside.written) == ("3", [])

        desk.questions.ask(client.asker, SetConfig("1", "a.x", None))
        assert "a.x" not in desk.config

    def test_what_is_no_name_is_told_in_a_harmless_line(self, desk: Desk) -> None:
        """
        Operators read it, and a plugin has chosen it.
        """
        client = plugin(config=("a",))
        desk.questions.ask(client.asker, GetConfig("1", "\x1b[2J" + "x" * 100_000))

        ((_, _, what),) = desk.denied
        assert what.isprintable()
        assert len(what) < 100

    def test_applications_are_not_limited(self, desk: Desk, client: Client) -> None:
        """
        They are their user's, as the daemon is.
        """
        desk.offer()
        desk.questions.ask(client.asker, resolve())

        assert len(desk.node.all_of(GrantLane)) == 1
        assert asked(desk, client, GetConfig("1", "b")) == {"b": "3"}


def metadata(name: str) -> PluginMetadata:
    return PluginMetadata(name, "1.0.0").with_capability(PluginCapability.Custom("all"))
