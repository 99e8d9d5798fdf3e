import pytest

from protocol.codec import MAX_MESSAGE
from protocol.messages import (
    FROM_WORKER,
    Answer,
    Broken,
    EndWorker,
    FromWorker,
    GetConfig,
    GrantLane,
    ListServices,
    Loaded,
    Offer,
    Refusal,
    Resolve,
    SetConfig,
    Withdraw,
)
from spiral_host.lifecycle import State
from spiral_host.relayed import WorkerFrames
from spiral_host.supervisor import MAX_TRACEBACK, MAX_WORD
from tests.unit.spiral_host.fakes import House, manifest

BASE = manifest("base")


class Room:
    """A house with one worker that may say what it likes."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.frames = WorkerFrames(
            house.registry, house.supervisor, house.questions, house.node.tell_node
        )
        house.add(BASE)
        house.confine("base")
        self.life = house.incarnation("base")
        house.node.told.clear()

    def say(self, message: FromWorker) -> None:
        self.frames.received(self.life, FROM_WORKER.encode(message))

    def ended(self) -> list[EndWorker]:
        return self.house.node.take(EndWorker)


@pytest.fixture
def room(house: House) -> Room:
    return Room(house)


class TestLifecycle:
    def test_a_plugin_says_that_it_has_loaded(self, room: Room) -> None:
        """
        From then on it is ready.
        """
        room.say(Loaded())

        assert room.house.states() == {"base": State.READY}

    def test_a_plugin_says_that_it_is_broken(self, room: Room) -> None:
        """
        Its reason is kept for when its process ends.
        """
        room.say(Broken(stage="import", error="ImportError: x", traceback="T"))

        assert room.house.plugin("base").lifecycle.reason == "import raised ImportError: x"

    def test_a_ready_plugin_cannot_break_any_more(self, room: Room) -> None:
        """
        A worker that says so all the same changes nothing.
        """
        room.say(Loaded())
        room.say(Broken(stage="import", error="x", traceback=""))

        assert room.house.states() == {"base": State.READY}
        assert room.ended() == []


class TestQuestions:
    def test_an_answer_goes_back_through_the_node(self, room: Room) -> None:
        """
        To the life that asked, and nobody else.
        """
        room.say(GetConfig("q", ""))

        assert room.house.node.relayed() == [(room.life, Answer("q", {}))]

    def test_a_refusal_goes_back_too(self, room: Room) -> None:
        """
        A question that cannot be meant is no reason to end the worker.
        """
        room.say(SetConfig("q", "", "x"))

        ((life, refusal),) = room.house.node.relayed()
        assert life == room.life
        assert isinstance(refusal, Refusal)
        assert room.ended() == []

    def test_an_answer_that_cannot_travel_is_a_refusal(self, room: Room) -> None:
        """
        A worker that asks for more than a message holds is told so.
        """
        for number in range(40):
            room.house.config[f"k{number}"] = "x" * 60_000

        room.say(GetConfig("q", ""))

        ((_, refusal),) = room.house.node.relayed()
        assert isinstance(refusal, Refusal)
        assert "the limit is" in " ".join(refusal.fields)

    def test_a_life_that_has_ended_asks_nothing(self, room: Room) -> None:
        """
        Its last words are nobody's; nothing is offered in its name and nobody is answered.
        """
        room.house.end("base")
        room.house.node.told.clear()
        room.say(Offer(service="math", methods=("add",), idempotent=()))
        room.say(ListServices("q"))

        assert list(room.house.registry.services()) == []
        assert room.house.node.told == []


class TestServices:
    def test_an_offer_serves_those_who_wait(self, room: Room) -> None:
        """
        A question that was parked has its lane at once.
        """
        room.say(Resolve(request="q", service="math", wait_s=5.0))
        assert room.house.node.take(GrantLane) == []

        room.say(Offer(service="math", methods=("add",), idempotent=()))

        assert [grant.callee_name for grant in room.house.node.take(GrantLane)] == ["base"]

    def test_it_can_be_taken_back(self, room: Room) -> None:
        """
        Nobody is sent there any more.
        """
        room.say(Offer(service="math", methods=("add",), idempotent=()))
        room.say(Withdraw("math"))

        assert room.house.registry.provider("math") is None

    def test_nobody_takes_back_what_another_offers(self, room: Room) -> None:
        """
        A worker speaks for itself only.
        """
        room.house.add_ready(manifest("other"))
        room.say(Offer(service="math", methods=("add",), idempotent=()))
        room.life = room.house.incarnation("other")

        room.say(Withdraw("math"))

        assert room.house.registry.provider("math") is not None


class TestHostile:
    @pytest.mark.parametrize(
        "body", [b"", b"\x00", b"\xc1", b"\x91\x63", b"\x92\x02\x01", b"\xff" * 100]
    )
    def test_a_frame_that_is_none_ends_its_worker(self, room: Room, body: bytes) -> None:
        """
        One worker is ended, with the rule in its cause of death; the daemon goes on.
        """
        room.frames.received(room.life, body)

        (end,) = room.ended()
        assert (end.incarnation, end.force) == (room.life, True)
        assert end.rule.startswith("protocol violation: ")

    def test_a_question_with_an_endless_name_ends_its_worker(self, room: Room) -> None:
        """
        Not whoever offers the service later, in whose turn the answer would be found too long.
        """
        room.say(Resolve(request="q" * (MAX_MESSAGE - 50), service="later", wait_s=50.0))
        assert len(room.ended()) == 1
        room.house.add_ready(manifest("other"))
        room.life = room.house.incarnation("other")

        room.say(Offer(service="later", methods=("add",), idempotent=()))

        assert room.ended() == []
        assert room.house.registry.provider("later") is not None

    def test_what_it_says_of_its_failure_is_cut(self, room: Room) -> None:
        """
        It is shown to everybody who asks how things are, in one message.
        """
        room.say(Broken(stage="s" * 300_000, error="e" * 300_000, traceback="t" * 300_000))

        lifecycle = room.house.plugin("base").lifecycle
        assert len(lifecycle.reason) < 3 * MAX_WORD
        assert lifecycle.traceback == "t" * MAX_TRACEBACK

    def test_an_offer_that_cannot_be_meant_ends_its_worker(self, room: Room) -> None:
        """
        Our own side never sends one.
        """
        room.say(Offer(service="no name", methods=(), idempotent=()))

        assert len(room.ended()) == 1
